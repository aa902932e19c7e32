"""What a batch asks of each of its results: is this person still recognised? See :mod:`CTDefaceLib.audits`."""

from __future__ import annotations

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


def quick(original: sitk.Image, defaced: sitk.Image) -> dict[str, Any]:
    """Ask in nine views, with one model and without attacks, whether a defaced volume is recognised as its original.

    Parameters
    ----------
    original, defaced: SimpleITK.Image
        CTs in Hounsfield units on one grid.

    Returns
    -------
    dict
        ``verdict`` (the word of a :class:`.findings.Level`), ``sentence``, ``models`` and ``views``.

    Raises
    ------
    CTDefaceError
        as :func:`.evaluation.evaluate`
    """
    evaluation = evaluate(original, defaced, QUICK, others=())
    return {
        "verdict": str(evaluation.verdict.level),
        "sentence": evaluation.verdict.sentence,
        "models": list(QUICK.models),
        "views": len(evaluation.grid),
    }
