"""Audits: the seam between a batch and whoever looks for the face in what it has made.

An audit is named ``"module:function"``. The function takes the volume and its defaced version, in Hounsfield units. It
returns a dict with ``verdict``, one of the words of :class:`Level`, and ``sentence``, which says the same to the user.
Its module may have a function ``check()`` that raises CTDefaceError when something is missing.
"""

from __future__ import annotations

import importlib
from enum import Enum
from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import SimpleITK as sitk


class Level(str, Enum):
    """What an audit or an evaluation makes of a defaced scan, worst first; the last two pass nobody.

    The question is whose face it is. That some face is found decides only where nobody can tell whose.
    """

    RECOGNISABLE = "recognisable"
    FACE_FOUND = "face found"
    RECOVERABLE = "recoverable"
    NOT_RECOGNISABLE = "not recognisable"
    NOT_ALL_TRIED = "not all tried"
    NOT_EVALUABLE = "not evaluable"

    __str__ = str.__str__


FACE_LEFT = (Level.RECOGNISABLE, Level.FACE_FOUND, Level.RECOVERABLE)
"""Levels that keep a result back."""


def check_audit(audit: str) -> None:
    """Refuse an audit that cannot be made: no such module, or what its function ``check`` says is missing.

    Raises
    ------
    InputError
        When its module is not installed.
    CTDefaceError
        Whatever ``check`` raises.
    """
    module = audit.partition(":")[0]
    try:
        check = getattr(importlib.import_module(module), "check", None)
    except ImportError as error:
        raise InputError(f"The audit needs {module.partition('.')[0]}, which is not installed.") from error
    if check is not None:
        check()


def audited(audit: str, original: sitk.Image, defaced: sitk.Image) -> dict[str, Any]:
    """Call the audit ``"module:function"`` with both volumes; it returns a dict with ``verdict`` and ``sentence``."""
    module, _, function = audit.partition(":")
    return getattr(importlib.import_module(module), function)(original, defaced)
