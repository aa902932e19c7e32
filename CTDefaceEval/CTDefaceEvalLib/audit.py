"""What a batch asks of each of its results: is this person still recognised? See :mod:`CTDefaceLib.audits`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import SimpleITK as sitk

from .evaluation import evaluate
from .face_models import load_model
from .findings import BOUND, NOTHING_KEPT, Evidence
from .settings import Settings
from .verdict import cost_of_keeping

QUICK = Settings(models=("dlib-hog",), views="quick", attacks=())
"""What a batch can afford: one detector, nine views, and no attacks, which take minutes."""


def check() -> None:
    """Raise CTDefaceError when what the audit needs is not installed."""
    for name in QUICK.models:
        load_model(name)


def quick(original: sitk.Image, defaced: sitk.Image, bare: sitk.Image | None = None) -> dict[str, Any]:
    """Ask in nine views, with one model and without attacks, whether a defaced volume is recognised as its original.

    Parameters
    ----------
    original, defaced: SimpleITK.Image
        CTs in Hounsfield units on one grid.
    bare: SimpleITK.Image, optional
        Where something was kept, the region as it would be without.

    Returns
    -------
    dict
        ``verdict`` (the word of a :class:`.findings.Level`), ``sentence``, ``models``, ``views``, ``bound`` (``value``,
        ``low``, ``high`` of the likeness of what was left untouched; None where it cannot be measured) and, where
        something was kept, ``bound_without_kept`` and ``cost_of_keeping``, the difference of the two; the sentence says
        it, too.

    Raises
    ------
    CTDefaceError
        as :func:`.evaluation.evaluate`
    """
    evaluation = evaluate(original, defaced, QUICK, bare=bare, others=())
    return {
        "verdict": str(evaluation.verdict.level),
        "sentence": " ".join(filter(None, [evaluation.verdict.sentence, cost_of_keeping(evaluation)])),
        "models": list(QUICK.models),
        "views": len(evaluation.grid),
        **_bounds(evaluation, bare is not None),
    }


def _bounds(evidence: Evidence, kept: bool) -> dict[str, Any]:
    """How much what was left untouched resembles the original, and what it would with nothing kept."""
    bound, bare = (
        {key: round(value, 4) for key, value in asdict(one).items()} if (one := evidence.likeness.get(name)) else None
        for name in (BOUND, NOTHING_KEPT)
    )
    if not kept:
        return {"bound": bound}
    cost = round(bound["value"] - bare["value"], 4) if bound and bare else None
    return {"bound": bound, "bound_without_kept": bare, "cost_of_keeping": cost}
