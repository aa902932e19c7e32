"""The quick look that a batch takes at each of its results: is a face still found?"""

from __future__ import annotations

import SimpleITK as sitk

from .evaluation import Settings, evaluate
from .face_models import load_model

QUICK = Settings(models=("dlib-hog",), views="quick", attacks=())


def check() -> None:
    """Raise CTDefaceError when what the audit needs is not installed."""
    for name in QUICK.models:
        load_model(name)


def quick(original: sitk.Image, defaced: sitk.Image) -> dict:
    """Look for a face in nine views of the original and of the defaced volume, with one detector and without attacks.

    Returns
    -------
    dict with ``verdict`` (a level of :data:`.verdict.LEVELS`), ``sentence``, ``models`` and ``views``

    Raises
    ------
    CTDefaceError
        as :func:`.evaluation.evaluate`
    """
    evaluation = evaluate(original, defaced, QUICK, others=())
    return {
        "verdict": evaluation.verdict.level,
        "sentence": evaluation.verdict.sentence,
        "models": list(QUICK.models),
        "views": len(evaluation.grid),
    }
