"""Locks between processes, which every system takes back when a process ends, however it ends."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

from ..errors import CTDefaceError

HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, getattr(errno, "EDEADLOCK", errno.EDEADLK))
"""What systems answer where another process holds a lock."""


def lock(path: Path, busy: str) -> int:
    """Hold the lock of a file, made where it is missing, until its descriptor is closed.

    Parameters
    ----------
    path: Path
    busy: str
        The sentence for the user when another process holds it.

    Returns
    -------
    int
        The open descriptor.

    Raises
    ------
    CTDefaceError
        With the sentence ``busy`` when another process holds it.
    OSError
        When the file cannot be made, or its disk has no locks.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):  # else who held it before has removed it
                return descriptor
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(descriptor)
            if error.errno in HELD:
                raise CTDefaceError(busy) from error
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
