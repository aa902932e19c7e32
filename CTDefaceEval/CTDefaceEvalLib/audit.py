"""The audit that a batch makes of each of its results: is a face still found? See :mod:`CTDefaceLib.audits`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import SimpleITK as sitk

from .evaluation import evaluate
from .face_models import load_model
from .settings import Settings

QUICK = Settings(models=("dlib-hog",), views="quick", attacks=())
"""What a batch can afford: one detector, nine views, and no attacks, which take minutes."""


def check() -> None:
    """Raise CTDefaceError when what the audit needs is not installed."""
    for name in QUICK.models:
        load_model(name)


def quick(original: sitk.Image, defaced: sitk.Image, synthetic_face: bool = False) -> dict[str, Any]:
    """Search for a face in nine views of the original and of the defaced volume, with one detector and without attacks.

    Parameters
    ----------
    original, defaced: SimpleITK.Image
        CTs in Hounsfield units on one grid.
    synthetic_face: bool
        The defaced one shows a synthetic person's face: it is judged by whether it is this person's.

    Returns
    -------
    dict
        ``verdict`` (the word of a :class:`.findings.Level`), ``sentence``, ``models`` and ``views``.

    Raises
    ------
    CTDefaceError
        as :func:`.evaluation.evaluate`
    """
    settings = replace(QUICK, synthetic_face=synthetic_face)
    evaluation = evaluate(original, defaced, settings, others=None if synthetic_face else ())
    return {
        "verdict": str(evaluation.verdict.level),
        "sentence": evaluation.verdict.sentence,
        "models": list(QUICK.models),
        "views": len(evaluation.grid),
    }
