"""The private folder, its secret, and that both are on the disk before anything is made with them."""

import csv
import os
import stat
import subprocess
import sys
import textwrap

import batch_cases
import dicom_files
import pytest
from CTDefaceLib import batch
from CTDefaceLib.batch.record import Record
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom.pseudonyms import Pseudonyms
from CTDefaceLib.errors import InputError, OutputError
from CTDefaceLib.private import (
    SECRET,
    append_private,
    left_with_a_result,
    make_private_file,
    make_private_folder,
    make_secret,
    private_folder,
    read_secret,
)

posix = pytest.mark.skipif(os.name == "nt", reason="permissions are those of POSIX")


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_lies_beside_the_output(tmp_path):
    assert private_folder(tmp_path / "out.d") == tmp_path / "out.d-private"


@posix
def test_only_its_owner_can_read_it(tmp_path):
    folder = tmp_path / "öffentlich" / "private"
    make_private_folder(folder)
    secret = make_secret(folder / SECRET)
    append_private(folder / "table.csv", "a\n")
    assert mode(folder) == 0o700 and mode(folder / SECRET) == mode(folder / "table.csv") == 0o600
    assert len(secret) == 32 and make_secret(folder / SECRET) == read_secret(folder / SECRET) == secret
    assert sorted(os.listdir(folder)) == ["secret.key", "table.csv"]


@posix
def test_a_folder_that_is_open_is_closed(tmp_path):
    (tmp_path / "private").mkdir(mode=0o755)
    make_private_folder(tmp_path / "private")
    assert mode(tmp_path / "private") == 0o700


@pytest.mark.parametrize("content", ["", "no secret", "00" * 4, "ö"])
def test_file_without_a_secret(tmp_path, content):
    (tmp_path / SECRET).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="does not hold one"):
        make_secret(tmp_path / SECRET)
    assert (tmp_path / SECRET).read_text(encoding="utf-8") == content


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(OutputError, match="secret could not be written"):
        make_secret(tmp_path / "no folder" / SECRET)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        make_private_folder(tmp_path / "file" / "private")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to tell what a descriptor is")
def test_secret_and_tables_are_on_the_disk_before_they_are_used(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync

    def noted(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    folder = tmp_path / "private"
    make_private_folder(folder)
    assert synced == [str(tmp_path)]
    make_secret(folder / SECRET)
    assert synced[1].endswith(".part.key") and synced[2:] == [str(folder), str(folder / SECRET), str(folder)]
    synced.clear()
    pseudonyms = Pseudonyms(b"x" * 32)
    pseudonyms.patient("Döe")
    pseudonyms.append_to(folder / "pseudonyms.csv")
    assert synced == [str(folder / "pseudonyms.csv"), str(folder)]
    pseudonyms.append_to(folder / "pseudonyms.csv")
    assert len((folder / "pseudonyms.csv").read_bytes().split(b"\r\n")) == 3  # nothing twice


@posix
def test_killed_while_it_is_made(tmp_path):
    """Either there is no secret, and the next run makes one, or it is whole."""
    script = f"""
        import os, signal
        from CTDefaceLib import private
        private.put_new = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        private.make_secret({str(tmp_path / SECRET)!r})
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, timeout=60)
    assert not (tmp_path / SECRET).exists()
    assert len(make_secret(tmp_path / SECRET)) == 32


def test_two_processes_get_the_same_one(tmp_path, monkeypatch):
    from CTDefaceLib import private

    put_new = private.put_new

    def slower(part, path):
        if not path.exists():
            path.write_text("ab" * 32 + "\n")  # the other process, in the last moment
        put_new(part, path)

    monkeypatch.setattr(private, "put_new", slower)
    assert make_secret(tmp_path / SECRET) == bytes.fromhex("ab" * 32)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, InputError])
def test_without_a_result_no_private_folder_is_left(tmp_path, error):
    folder = tmp_path / "out-private"

    def run():
        with pytest.raises(error), left_with_a_result(folder):
            make_private_folder(folder)
            make_secret(folder / SECRET)
            raise error

    run()
    assert not folder.exists()
    make_private_folder(folder)
    secret = make_secret(folder / SECRET)
    run()
    assert read_secret(folder / SECRET) == secret


@posix
def test_private_files_that_others_can_read_are_closed(tmp_path):
    (tmp_path / "record").touch(mode=0o644)
    make_private_file(tmp_path / "record")
    assert mode(tmp_path / "record") == 0o600


def test_tables_hold_no_formula(tmp_path):
    """A name that begins like a formula stands as text in what people open with a spreadsheet."""
    pseudonyms = Pseudonyms(b"x" * 32)
    for name in ("=cmd|' /C calc'!A0", "@SUM(1)", "Doe, Jane"):
        pseudonyms.patient(name)
    for _ in range(2):
        pseudonyms.append_to(tmp_path / "table.csv")
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert [row[1] for row in rows] == 2 * ["'=cmd|' /C calc'!A0", "'@SUM(1)", "Doe, Jane"] and len(rows) == 6


@pytest.fixture
def order(monkeypatch):
    """What was synced (by its path then) and named, in order: ("sync", path) and ("name", new path)."""
    found = []
    fsync, replace, link = os.fsync, os.replace, os.link

    def synced(descriptor):
        found.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def named(how):
        def name(old, new):
            how(old, new)
            found.append(("name", os.fspath(new)))

        return name

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named(replace))
    monkeypatch.setattr(os, "link", named(link))
    return found


def survives_a_power_cut(order, path, folder, when):
    """Whether a file and its name in a folder were on the disk at a moment of the order."""
    named = max((i for i, event in enumerate(order) if event == ("name", str(path))), default=0)
    parts = [at for kind, at in order[:when] if kind == "sync" and (at == str(path) or at.startswith(f"{folder}/."))]
    return bool(parts) and ("sync", str(folder)) in order[named:when]


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to tell what a descriptor is")
def test_a_power_cut_takes_no_secret_of_a_result(tmp_path, order, monkeypatch):
    """Secret, tables and report are on the disk before the result has its name, and that before the record says so."""
    pytest.importorskip("dicomanonymizer", reason="pip install ctdeface[dicom]")
    dicom_files.write_series(tmp_path / "in" / "series", batch_cases.head())
    private = tmp_path / "out-private"
    command = ["deface", tmp_path / "in" / "series", tmp_path / "out", "--headers", "ps315"]
    assert main([str(arg) for arg in command]) == 0
    when = order.index(("name", str(tmp_path / "out")))
    for name in (SECRET, "pseudonyms.csv"):
        assert survives_a_power_cut(order, private / name, private, when), name
    assert survives_a_power_cut(order, tmp_path / "out.json", tmp_path, len(order))
    images = {path for kind, path in order[:when] if kind == "sync" and path.endswith(".dcm")}
    assert len(images) == len(list((tmp_path / "out").iterdir())) and order[when + 1] == ("sync", str(tmp_path))

    order.clear()
    finish = Record.finish
    monkeypatch.setattr(Record, "finish", lambda *args: order.append(("name", "record")) or finish(*args))
    output, private = tmp_path / "batch", tmp_path / "batch-private"
    batch.run(tmp_path / "in", output, choices=batch.Choices(ending=".dicom", headers="ps315"), gallery=False)
    (result,), (report,) = output.glob("*.dicom"), (p for p in output.glob("*.json") if p.name != batch.SUMMARY)
    when, noted = order.index(("name", str(result))), order.index(("name", "record"))
    assert when < noted and ("sync", str(output)) in order[when:noted]
    assert survives_a_power_cut(order, private / SECRET, private, when)
    (table,) = (private / "pseudonyms").iterdir()
    assert survives_a_power_cut(order, table, table.parent, when) and ("sync", str(private)) in order[:when]
    assert ("name", str(report)) in order[:when] and ("sync", str(output)) in order[
        order.index(("name", str(report))) :
    ]
    assert any(kind == "sync" and at.endswith("/report.json") for kind, at in order[:when])
