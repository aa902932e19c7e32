"""Errors that end in one sentence for the user: what is wrong and what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

NO_MEMORY = ("allocate memory", "not enough memory", "bad_alloc", "bad allocation")
"""What SimpleITK and PyTorch say, on Linux, macOS and Windows."""


class CTDefaceError(Exception):
    """Anything that this library reports to the user; ``str(error)`` is the sentence."""


class InputError(CTDefaceError):
    """The input cannot be read or is not a CT volume that can be defaced."""


class NoFaceError(CTDefaceError):
    """The volume is a CT, but no face is in view."""


class FaceLeftError(CTDefaceError):
    """An audit still finds the face in the result, so nothing was written."""


class OutputError(CTDefaceError):
    """The result could not be written; nothing half-done was left behind."""


class Cancelled(CTDefaceError):
    """The caller's ``cancelled()`` said so; nothing was changed."""


class NotReadyError(CTDefaceError):
    """A segmenter or face model lacks a package, a licence key or its weights; nothing was changed."""


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Raise a library's words for too little memory as MemoryError, as Python itself does."""
    try:
        yield
    except RuntimeError as error:
        if any(words in str(error) for words in NO_MEMORY):
            raise MemoryError from error
        raise
