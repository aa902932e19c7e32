"""The audit that a batch makes of each of its results: is a face still found? See :mod:`CTDefaceLib.audits`."""

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
    """Search for a face in nine views of the original and of the defaced volume, with one detector and without attacks.

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
