"""What must not be shared: the private folder beside an output, the secret of the pseudonyms, and files like them.

Only their owner can read them (on Windows, whoever may read the folder they are in). The secret is on the disk before
anything is made with it: results under pseudonyms of a secret that a power cut took could never be assigned again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError
from .files import make_folder, new_part, output_errors, put_new, sync

SECRET = "secret.key"
"""Name of the file with the secret in a private folder."""

SECRET_BYTES = 32
"""Length of a new secret: as many as HMAC-SHA-256 makes use of; half of them are accepted."""


def private_folder(output: str | os.PathLike) -> Path:
    """Where the private part of an output lies unless another place is given: beside the output folder."""
    output = Path(output)
    return output.with_name(output.name + "-private")


def make_private_folder(folder: str | os.PathLike) -> None:
    """Make a folder where there is none, and keep it to its owner (OutputError)."""
    with output_errors("A folder for the results cannot be made"):
        make_folder(folder, 0o700)
        if os.name != "nt":
            Path(folder).chmod(0o700)


@contextmanager
def left_with_a_result(folder: str | os.PathLike) -> Iterator[None]:
    """Where the block makes a private folder and ends without a result, the folder goes again, with the secret in it.

    A folder that was there before stays as it is, and so does one with anything else in it.
    """
    folder = Path(folder)
    was_there = folder.exists()
    try:
        yield
    except BaseException:
        if not was_there and folder.is_dir() and set(os.listdir(folder)) <= {SECRET}:
            with suppress(OSError):
                (folder / SECRET).unlink(missing_ok=True)
                folder.rmdir()
        raise


def make_private_file(path: str | os.PathLike) -> None:
    """Make an empty file where there is none, and keep it to its owner. Raises OSError."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    if os.name != "nt":
        Path(path).chmod(0o600)


def append_private(path: str | os.PathLike, text: str) -> None:
    """Add text to a file that only its owner can read, made where it is missing; it is on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
    with open(descriptor, "ab") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(descriptor)
    sync(Path(path).parent)


def make_secret(path: str | os.PathLike) -> bytes:
    """The secret in a file that only its owner can read; drawn at random where there is none.

    Of two processes that make it at the same time, both get the same one.

    Raises
    ------
    InputError
        When the file holds no secret.
    OutputError
        When it cannot be written.
    """
    path = Path(path)
    with output_errors("The file of the secret could not be written"):
        if not path.exists():
            part = new_part(path, private=True)
            try:
                part.write_text(secrets.token_hex(SECRET_BYTES) + "\n", encoding="ascii")
                with suppress(FileExistsError):  # another process was quicker
                    put_new(part, path)
            finally:
                part.unlink(missing_ok=True)
        sync(path)  # also one that somebody else has just made
        sync(path.parent)
    return read_secret(path)


def read_secret(path: str | os.PathLike) -> bytes:
    """The secret in a file; InputError when it holds none."""
    try:
        secret = bytes.fromhex(Path(path).read_text(encoding="ascii").strip())
    except (ValueError, UnicodeDecodeError):
        secret = b""
    if len(secret) < SECRET_BYTES // 2:
        raise InputError("The file of the secret does not hold one: it has to be 64 hexadecimal digits.")
    return secret
