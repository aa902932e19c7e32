"""Whatever appears, appears whole or not at all: written under a temporary name beside its place, and then renamed.

What a file or folder holds is on the disk before it has its name, and its name is on the disk before anything goes on:
neither a process that is killed nor a power cut leaves half of anything under a final name. What can be left of a
killed process is a hidden file or folder whose name ends in ``.part`` and the ending of the file.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import OutputError
from .stored_data import suffix

NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM)
"""What file systems (CIFS, some FUSE) answer that cannot sync folders; anything else is an error of the disk."""

SYNCS_AT_ONCE = 8
"""Files of a folder that are brought to the disk at a time: a journal takes several of them in one go."""

DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
DEVICES |= {f"{port}{n}" for port in ("COM", "LPT") for n in "123456789¹²³"}
"""Names that Windows keeps for devices, whatever their ending."""

NOT_IN_NAMES = re.compile(r'[<>:"|?*\x00-\x1f]')
"""Signs that Windows has in no name. What stands behind a colon becomes a hidden part of the file before it."""

LONGEST_PATH = 259
"""Characters of a path that every Windows takes; more where long paths are switched on."""

LONGEST_PART = 32
"""Characters of the longest name that :func:`new_part` gives."""

TOO_LONG = (
    f"the path is longer than the {LONGEST_PATH} characters that this Windows takes, choose a shorter one or switch on "
    "long paths as docs/installing.md says"
)

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell of a table begins that spreadsheets work out, whatever it does."""

NOT_WRITTEN = "The output could not be written"


def name_bytes(text: str) -> bytes:
    """A text that may be the name of a file as the bytes that the disk holds: UTF-8 where it is that, whatever else."""
    return text.encode("utf-8", sys.getfilesystemencodeerrors())


def name_text(name: bytes) -> str:
    """What :func:`name_bytes` was given: a name that this process can open, whatever the locale takes for letters."""
    text = name.decode("utf-8", sys.getfilesystemencodeerrors())
    try:
        os.fsencode(text)
    except UnicodeEncodeError:  # a locale without these letters, as C without UTF-8
        return os.fsdecode(name)
    return text


def on_one_line(text: str) -> str:
    """A text with names of files in it, for a log or a terminal: what is no letter of a line stands as its number.

    >>> on_one_line("a" + chr(10) + "b")
    'a\\\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def csv_line(values: Iterable[object]) -> str:
    """A line of a table; what a spreadsheet would take for a formula stands as text, behind an apostrophe."""
    line = io.StringIO(newline="")
    csv.writer(line).writerow(
        [f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value for value in values]
    )
    return line.getvalue()


@contextmanager
def output_errors(sentence: str = NOT_WRITTEN) -> Iterator[None]:
    """Raise an OSError of the block as OutputError: this sentence, and what the system says."""
    try:
        yield
    except OSError as error:
        is_too_long = isinstance(error.filename, str) and not _is_taken(error.filename)
        raise OutputError(
            f"{sentence}: {TOO_LONG if is_too_long else error.strerror or type(error).__name__}."
        ) from error


def _is_taken(path: str | os.PathLike) -> bool:
    """Whether this system takes a path as long as this one, and that of a temporary file beside it."""
    path = Path(os.path.abspath(path))
    return len(str(path.with_name("x" * max(len(path.name), LONGEST_PART)))) <= LONGEST_PATH or _takes_long_paths()


def _takes_long_paths() -> bool:
    if sys.platform != "win32":
        return True
    import ctypes

    return bool(ctypes.windll.ntdll.RtlAreLongPathsEnabled())


def folder_bytes(folder: str | os.PathLike) -> int:
    """How much room the files of a folder take, with those of its sub-folders; 0 where there is none."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def sync(path: str | os.PathLike) -> None:
    """See to it that a file, or the list of names in a folder, is on the disk and not only on its way there.

    Windows cannot sync folders, and needs not: NTFS keeps a journal of names.
    """
    is_folder = os.path.isdir(path)
    if os.name == "nt":
        if is_folder:
            return
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))  # Windows syncs only what may be written
    else:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except PermissionError:
            if is_folder:  # one can write into a folder that one cannot list
                return
            raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not is_folder or error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def sync_tree(path: str | os.PathLike) -> None:
    """As :func:`sync`, of a file, or of a folder with everything in it."""
    if not os.path.isdir(path):
        sync(path)
        return
    folders: list[str] = []
    files: list[str] = []
    for folder, _, names in os.walk(os.fspath(path)):
        folders.append(folder)
        files += [os.path.join(folder, name) for name in names]
    with ThreadPoolExecutor(SYNCS_AT_ONCE) as pool:
        list(pool.map(sync, files))
    for folder in reversed(folders):
        sync(folder)


def make_folder(folder: str | os.PathLike, mode: int = 0o777) -> None:
    """Make a folder where there is none, with those above it, and have their names on the disk. Raises OSError.

    Parameters
    ----------
    folder: path
    mode: int
        Permissions of the folder itself where it is made.
    """
    folder = Path(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    for path in missing:
        sync(path.parent)


def put_in_place(part: str | os.PathLike, path: str | os.PathLike) -> None:
    """Give a finished file or folder of the same disk its final name, in place of a file that has it. Raises OSError.

    Everything in it is on the disk before, and its name afterwards.
    """
    sync_tree(part)
    os.replace(part, path)
    sync(Path(path).parent)


def put_new(part: str | os.PathLike, path: str | os.PathLike) -> None:
    """As :func:`put_in_place`, of a file, but never in place of another one, however late that one appeared.

    Raises
    ------
    FileExistsError
        When there is one of this name.
    OSError
        When the disk does not do what it should.
    """
    sync(part)
    if os.name == "nt":
        os.rename(part, path)  # refuses to replace
        return
    try:
        os.link(part, path)  # the only way that refuses to replace
    except FileExistsError:
        raise
    except OSError:  # a disk without links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.replace(part, path)
    else:
        os.unlink(part)
    sync(Path(path).parent)


def new_part(path: str | os.PathLike, private: bool = False) -> Path:
    """An empty file beside a path, of a name that nothing else has; ``private`` ones only their owner can read."""
    path = Path(path)
    part = path.with_name(f".{secrets.token_hex(8)}.part{suffix(path)}")
    os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))
    return part


def remove_parts(folder: Path) -> None:
    """Remove the unfinished files that killed processes left in a folder, where nobody else is at work."""
    for part in folder.glob(".*.part*"):
        part.unlink(missing_ok=True)


@contextmanager
def replaced(path: str | os.PathLike, private: bool = False) -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends well, and is deleted otherwise.

    Parameters
    ----------
    path: path
    private: bool
        Only its owner can read it (POSIX).

    Raises
    ------
    OSError
        When it cannot be written; what was there before is still there then.
    """
    part = new_part(path, private)
    try:
        yield part
        put_in_place(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def replaced_folder(path: str | os.PathLike) -> Iterator[Path]:
    """As :func:`replaced`, of a folder. What was there before is deleted when the new one has its name.

    No system has both names change at once: of a process that is killed between the two renames, the old folder is left
    beside, whole, under a hidden name that ends in ``.old``.
    """
    path = Path(path)
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    old = part.with_suffix(".old")
    part.mkdir()
    try:
        yield part
        sync_tree(part)  # before the old one goes, since this is what can fail
        if path.is_dir():
            os.replace(path, old)
        try:
            put_in_place(part, path)
        except OSError:
            if old.is_dir():
                os.replace(old, path)
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)


def write_whole(path: str | os.PathLike, content: str | bytes, private: bool = False) -> None:
    """Write a small file as :func:`replaced` does; text as UTF-8, its line ends as they are."""
    with replaced(path, private) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def is_portable(name: str) -> bool:
    """Whether every system can have a file or folder of this name: no device of Windows, no dot or space at its end."""
    return name.partition(".")[0].rstrip().upper() not in DEVICES and name == name.rstrip(". ")


def _check_name(path: Path) -> None:
    """Refuse a name that not every system can have, or that is too long for this one (OutputError)."""
    if not is_portable(path.name):
        raise OutputError(
            "The name of the output cannot be used on Windows (CON and the like, or a dot or space at its end); "
            "choose another one."
        )
    if sys.platform == "win32" and NOT_IN_NAMES.search(path.name):
        raise OutputError('Windows has no < > : " | ? * in the names of files; choose another name for the output.')
    if not _is_taken(path):
        raise OutputError(f"The output cannot be written there: {TOO_LONG}.")
    with output_errors("The output cannot be written under this name"):
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(path)


def check_writable(path: str | os.PathLike) -> None:
    """Refuse a path that nothing can be written under, because of its folder or of its length (OutputError).

    Found out with an empty hidden file beside it that has a name as long, since only writing tells.
    """
    path = Path(os.path.abspath(path))
    name = f".{secrets.token_hex(8)}.part"
    with output_errors("Nothing can be written there"):
        for probe in {name, name.ljust(len(path.name), "x")}:
            os.close(os.open(path.with_name(probe), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            path.with_name(probe).unlink()


def check_output(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Refuse an output path whose folder is missing, or that exists while ``overwrite`` is not set (OutputError)."""
    path = Path(path)
    _check_name(path)
    if path.is_dir():
        raise OutputError("The output is a folder; add a file name to it.")
    if not path.parent.is_dir():
        raise OutputError("The folder of the output does not exist; make it or choose another one.")
    if path.exists() and not overwrite:
        raise OutputError("The output exists already; choose another name or allow overwriting.")


def check_folder(output: str | os.PathLike) -> None:
    """Refuse an output folder that holds something, or whose own folder is missing (OutputError)."""
    output = Path(output)
    _check_name(output)
    if output.is_file() or output.is_dir() and any(os.scandir(output)):
        raise OutputError("The output folder exists already and is not empty; choose another name.")
    if not output.absolute().parent.is_dir():
        raise OutputError("The folder of the output does not exist; make it or choose another one.")


@contextmanager
def written_whole(*paths: str | os.PathLike, overwrite: bool = False) -> Iterator[list[Path]]:
    """Temporary files beside ``paths``, renamed in this order when the block ends well and deleted otherwise.

    The last path appears last, so that it tells that all of them are there.

    Raises
    ------
    OutputError
        When one exists and ``overwrite`` is not set, or cannot be written; no new one is left then.
    """
    finals = [Path(path) for path in paths]
    for final in finals:
        check_output(final, overwrite)
    parts: list[Path] = []
    created: list[Path] = []
    try:
        with output_errors():
            for final in finals:
                parts.append(new_part(final))
            yield parts
            for final in finals:
                check_output(final, overwrite)
            for part, final in zip(parts, finals):
                if not final.exists():
                    created.append(final)  # before it is: a signal can end the work at any moment
                try:
                    (put_in_place if overwrite else put_new)(part, final)
                except FileExistsError:  # somebody else's
                    created = [path for path in created if path != final]
                    raise
            created.clear()
    finally:
        for left in parts + created:
            with suppress(OSError):
                left.unlink(missing_ok=True)


@contextmanager
def written_folder(output: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder beside ``output`` that takes its name when the block ends well, and is deleted otherwise.

    Raises
    ------
    OutputError
        When there is a folder of this name that is not empty, or it cannot be written.
    """
    output = Path(os.path.abspath(output))
    check_folder(output)
    with output_errors(), replaced_folder(output) as part:
        yield part
        check_folder(output)
        if output.is_dir():
            output.rmdir()  # not moved away: something may appear in it at this moment
