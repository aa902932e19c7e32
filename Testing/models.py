"""Trained models for tests: tiny ones, which label synthetic heads somewhat like a face."""

from pathlib import Path

MODELS = Path(__file__).parent / "data" / "nnunet"
CTA_DEFACE = MODELS / "Dataset001_DEFACE"
FACE = MODELS / "Dataset303_face_1559subj"


def dice(first, second) -> float:
    """Overlap of two bool arrays, 1 for the same."""
    return 2.0 * (first & second).sum() / (first.sum() + second.sum())
