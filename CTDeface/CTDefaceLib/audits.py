"""Audits: the seam between a batch and whoever looks for the face in what it has made.

An audit is named ``"module:function"``. The function takes the volume and its defaced version, in Hounsfield units, and
the region as it would be with nothing kept, None where nothing is. It returns a dict with ``verdict``, one of the words
of :class:`Level`, and ``sentence``, which says the same to the user, and what keeping something costs. Its module may
have a function ``check()`` that raises CTDefaceError when something is missing.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from .errors import FaceLeftError, InputError

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


def audited(audit: str, original: sitk.Image, defaced: sitk.Image, bare: sitk.Image | None = None) -> dict[str, Any]:
    """Call the audit ``"module:function"``, with the region as it would be with nothing kept where something is."""
    module, _, function = audit.partition(":")
    return getattr(importlib.import_module(module), function)(original, defaced, bare)


def worst(audits: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of what the audits of several volumes of one scan found, that which decides."""
    return next((one for one in audits if one["verdict"] in FACE_LEFT), audits[0])


def why_held_back(report: dict[str, Any]) -> str:
    """Why a result must not be written, by its report; empty where nothing was found, or nobody looked.

    That nobody could tell becomes a warning of the report.
    """
    audit = report.get("audit")
    if audit is None:
        return ""
    if audit["verdict"] == Level.NOT_EVALUABLE and audit["sentence"] not in report["warnings"]:
        report["warnings"].append(audit["sentence"])
    return audit["sentence"] if audit["verdict"] in FACE_LEFT else ""


def hold_back(report: dict[str, Any]) -> None:
    """Raise FaceLeftError where a result must not be written, see :func:`why_held_back`."""
    if why := why_held_back(report):
        raise FaceLeftError(f"{why} It was not written.")
