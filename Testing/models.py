"""Trained models for tests: tiny ones, which label synthetic heads somewhat like a face."""

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
MODELS = CHECKOUT / "Testing" / "data" / "nnunet"
CTA_DEFACE = MODELS / "Dataset001_DEFACE"
FACE = MODELS / "Dataset303_face_1559subj"


def dice(first, second) -> float:
    """Overlap of two bool arrays, 1 for the same."""
    return 2.0 * (first & second).sum() / (first.sum() + second.sum())


def torch_python() -> str:
    """A Python with PyTorch and nnU-Net, for background processes; the stand-in for Slicer runs in one without.

    CTDEFACE_TORCH_PYTHON names it; by default it is the environment that test.sh makes.
    """
    found = os.environ.get("CTDEFACE_TORCH_PYTHON") or str(CHECKOUT / ".venv-models" / "bin" / "python")
    if not os.path.exists(found):
        pytest.skip("needs a Python with PyTorch and nnU-Net: set CTDEFACE_TORCH_PYTHON")
    return found
