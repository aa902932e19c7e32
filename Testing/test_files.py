"""Whatever appears, appears whole or not at all, and is on the disk before it has its name."""

import errno
import os
import stat
import subprocess
import sys
import textwrap
import unicodedata
from pathlib import Path

import pytest
from CTDefaceLib import files
from CTDefaceLib.errors import OutputError
from CTDefaceLib.files import (
    make_folder,
    put_new,
    replaced,
    replaced_folder,
    sync,
    sync_tree,
    write_whole,
    written_folder,
    written_whole,
)

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX permissions, signals and limits")
AS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.fixture
def calls(monkeypatch):
    """What is synced and renamed, in this order: kind, and name of the file or folder."""
    seen = []

    def noted(kind, function):
        def call(*arguments):
            what = arguments[-1]
            path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else what
            seen.append((kind, Path(path).name))
            return function(*arguments)

        return call

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to tell what a descriptor is")
    for name in ("fsync", "replace", "link"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    return seen


def in_a_process(script: str) -> int:
    """Exit status of a Python process that runs a script."""
    code = "import os, signal, resource\nfrom CTDefaceLib.files import *\n" + textwrap.dedent(script)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=60).returncode


def visible(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(tmp_path, calls):
    write_whole(tmp_path / "a.json", "{}")
    (part, replace, folder) = calls
    assert part[0] == "fsync" and part[1].startswith(".") and part[1].endswith(".part.json")
    assert replace == ("replace", "a.json") and folder == ("fsync", tmp_path.name)


def test_new_outputs_are_synced_too(tmp_path, calls):
    with written_whole(tmp_path / "a", tmp_path / "b") as parts:
        for part in parts:
            part.write_text("x")
    kinds = [kind for kind, _ in calls]
    assert kinds == ["fsync", "link", "fsync"] * 2
    assert [name for kind, name in calls if kind == "link"] == ["a", "b"]


def test_everything_in_a_folder_is_synced_before_it_has_its_name(tmp_path, calls):
    with written_folder(tmp_path / "out") as part:
        (part / "in").mkdir()
        (part / "in" / "1").write_text("1")
        (part / "2").write_text("2")
    renamed = calls.index(("replace", "out"))
    before, after = ({name for kind, name in some if kind == "fsync"} for some in (calls[:renamed], calls[renamed:]))
    assert {"1", "2", "in"} <= before and any(name.endswith(".part") for name in before)
    assert after == {tmp_path.name}


def test_new_folders_are_known_to_theirs(tmp_path, calls):
    make_folder(tmp_path / "a" / "b")
    assert calls == [("fsync", "a"), ("fsync", tmp_path.name)]
    calls.clear()
    make_folder(tmp_path / "a" / "b")
    assert calls == []


@posix
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("old", [None, "old"])
def test_killed_in_between(tmp_path, when, old):
    """Killed while the part is written, or when it is whole but has no name yet."""
    if old:
        (tmp_path / "a").write_text(old)
    script = f"""
        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)
        if {when!r} == "after":
            os.replace = os.link = die
        with written_whole({str(tmp_path / "a")!r}, overwrite=True) as (part,):
            part.write_text("half")
            if {when!r} == "before":
                die()
    """
    assert in_a_process(script) == -9
    assert visible(tmp_path) == (["a"] if old else [])
    assert not old or (tmp_path / "a").read_text() == old


@posix
def test_folder_killed_in_between(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "1").write_text("old")
    script = """
        with {function}({path!r}) as part:
            (part / "1").write_text("new")
            os.kill(os.getpid(), signal.SIGKILL)
    """
    for function, name in (("written_folder", "new"), ("replaced_folder", "old")):
        assert in_a_process(script.format(function=function, path=str(tmp_path / name))) == -9
    assert visible(tmp_path) == ["old"] and (tmp_path / "old" / "1").read_text() == "old"


@posix
def test_full_disk(tmp_path):
    """Against a real limit: what was there stays, and nothing is left of what did not fit."""
    (tmp_path / "a").write_text("old")
    script = f"""
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            write_whole({str(tmp_path / "a")!r}, "x" * 5000)
        except OSError:
            try:
                with written_folder({str(tmp_path / "f")!r}) as part:
                    (part / "1").write_text("x" * 5000)
            except OutputError as error:
                raise SystemExit(3 if "could not be written" in str(error) else 4)
    """
    assert in_a_process(script) == 3
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


def test_disk_that_fails_only_when_it_is_synced(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        write_whole(tmp_path / "a", "new")
    with pytest.raises(OutputError, match="Input/output"), written_folder(tmp_path / "f") as part:
        (part / "1").write_text("1")
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


@posix
def test_disk_that_cannot_sync_folders_is_used_all_the_same(tmp_path, monkeypatch):
    fsync = os.fsync

    def of_files(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files)
    write_whole(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"


def test_windows_leaves_folders_alone(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("x")
    opened = []
    paths = str(tmp_path), str(tmp_path / "a")
    with monkeypatch.context() as windows:  # in which older Pythons can make no Path
        windows.setattr(files.os, "name", "nt")
        windows.setattr(os, "open", lambda path, flags: opened.append((os.path.basename(path), flags)) or 99)
        windows.setattr(os, "fsync", lambda descriptor: None)
        windows.setattr(os, "close", lambda descriptor: None)
        for path in paths:
            sync(path)
    assert opened == [("a", os.O_RDWR)]


@posix
@pytest.mark.skipif(AS_ROOT, reason="root may write everywhere")
def test_read_only_folder(tmp_path):
    folder = tmp_path / "ro"
    folder.mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        write_whole(folder / "a", "x")
    with pytest.raises(OutputError, match="Permission denied"), written_whole(folder / "a"):
        pytest.fail("the work should not have begun")
    with pytest.raises(OutputError, match="Permission denied"), written_folder(folder / "f"):
        pytest.fail("the work should not have begun")
    assert os.listdir(folder) == []


def test_disk_that_turned_read_only(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(OutputError, match="Read-only file system"), written_whole(tmp_path / "a"):
        pytest.fail("the work should not have begun")


@posix
def test_read_only_files_of_a_copied_folder_are_synced(tmp_path):
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0o400)
    sync_tree(tmp_path)


def test_nothing_takes_the_place_of_what_appeared_meanwhile(tmp_path):
    """Not even in the moment between the last look and the rename."""
    (tmp_path / "part").write_text("mine")
    (tmp_path / "a").write_text("somebody else's")
    with pytest.raises(FileExistsError):
        put_new(tmp_path / "part", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "somebody else's"


@posix
def test_disk_without_links(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    (tmp_path / "part").write_text("mine")
    put_new(tmp_path / "part", tmp_path / "a")
    assert os.listdir(tmp_path) == ["a"]
    (tmp_path / "part").write_text("second")
    with pytest.raises(FileExistsError):
        put_new(tmp_path / "part", tmp_path / "a")
    assert (tmp_path / "a").read_text() == "mine"


def test_a_name_that_is_taken_is_never_used_for_a_part(tmp_path, monkeypatch):
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "same")
    (tmp_path / ".same.part").write_text("of another process")
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "a", "x")
    with pytest.raises(OutputError), written_folder(tmp_path / "f"):
        pytest.fail("the work should not have begun")
    assert os.listdir(tmp_path) == [".same.part"] and (tmp_path / ".same.part").read_text() == "of another process"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_umlauts(tmp_path, form):
    folder = tmp_path / unicodedata.normalize(form, "Köpfe größer")
    make_folder(folder)
    name = folder / unicodedata.normalize(form, "Schädel ß.json")
    write_whole(name, "„süß“\r\n")
    assert name.read_bytes() == "„süß“\r\n".encode()
    with written_folder(folder / unicodedata.normalize(form, "Äußeres")) as part:
        (part / "ö").write_text("x")
    assert len(os.listdir(folder)) == 2


def test_folder_in_place_of_another(tmp_path):
    for text in ("first", "second"):
        with replaced_folder(tmp_path / "a") as part:
            (part / text).write_text(text)
    assert os.listdir(tmp_path) == ["a"] and os.listdir(tmp_path / "a") == ["second"]


def test_old_folder_comes_back_when_the_new_one_cannot_be_renamed(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1").write_text("old")
    replace = os.replace

    def fails_for_parts(source, target):
        if str(source).endswith(".part"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails_for_parts)
    with pytest.raises(OSError), replaced_folder(tmp_path / "a") as part:
        (part / "1").write_text("new")
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a" / "1").read_text() == "old"


def test_folder_that_fills_meanwhile_is_kept(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="not empty"), written_folder(tmp_path / "a") as part:
        (part / "1").write_text("mine")
        (tmp_path / "a" / "2").write_text("somebody else's")
    assert os.listdir(tmp_path) == ["a"] and os.listdir(tmp_path / "a") == ["2"]


@posix
def test_private_files_are_their_owners_from_the_start(tmp_path):
    with replaced(tmp_path / "a", private=True) as part:
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
        part.write_text("x")
    write_whole(tmp_path / "b", "x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) & 0o400


def test_whether_something_can_be_written_is_tried_and_leaves_nothing(tmp_path):
    for name in ("out.nii.gz", "ä" * 120 + ".json", "x" * 250):
        files.check_writable(tmp_path / name)
    assert os.listdir(tmp_path) == []
    with pytest.raises(OutputError, match="Nothing can be written there"):
        files.check_writable(tmp_path / "missing" / "out.nii.gz")


@pytest.mark.parametrize(
    "name", ["con", "Nul.nii.gz", "COM1.json", "lpt9", "aux .nii", "out.", "out ", "out.nii.. ", "COM².nii"]
)
def test_names_that_windows_cannot_have(tmp_path, name):
    assert not files.is_portable(name)
    with pytest.raises(OutputError, match="cannot be used on Windows"):
        files.check_output(tmp_path / name)


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses these names itself")
def test_on_windows_nothing_is_written_into_a_hidden_part_of_a_file(tmp_path, monkeypatch):
    files.check_output(tmp_path / "at 10:30.nii.gz")  # any other system has such names
    monkeypatch.setattr(files.sys, "platform", "win32")
    files.check_output(tmp_path / "fine.nii.gz")
    with pytest.raises(OutputError, match="Windows has no"):
        files.check_output(tmp_path / "at 10:30.nii.gz")


def test_a_path_that_is_too_long_for_windows_is_one_sentence(tmp_path, monkeypatch):
    folder = tmp_path.joinpath(*["a folder with a long name, of which there are some"] * 5)
    folder.mkdir(parents=True)
    for path in (folder / "out.nii.gz", tmp_path / f"{'x' * 200}.nii.gz", folder):
        files.check_writable(path)
    monkeypatch.setattr(files, "_takes_long_paths", lambda: False)
    files.check_output(tmp_path / "out.nii.gz")
    with pytest.raises(OutputError, match="longer than the 259 characters.*long paths"):
        files.check_output(folder / "out.nii.gz")
    with pytest.raises(OutputError, match="not written: the path is longer than"), files.output_errors("not written"):
        raise FileNotFoundError(errno.ENOENT, "The system cannot find the path specified", str(folder / "out.nii.gz"))
    with pytest.raises(OutputError, match="not written: No such file"), files.output_errors("not written"):
        open(tmp_path / "missing" / "out", "rb")


@pytest.mark.parametrize("name", ["cone.nii.gz", "com.json", "com10", "x.con", ".hidden", "größe 1.nii.gz"])
def test_names_that_all_systems_can_have(tmp_path, name):
    assert files.is_portable(name)
    files.check_output(tmp_path / name)
