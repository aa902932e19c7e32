"""The built-in segmenter: geometry on Hounsfield units, see :mod:`.anatomy.face_outline`."""

from __future__ import annotations

from ..anatomy.face_outline import segment_face
from .segmenter import State

TITLE = "Built-in"
ABOUT = "Geometry on Hounsfield units: no model, nothing to install, a few seconds."
OPTIONS = ()


def state(choice) -> State:
    return State()


def segment(image, cylinder, choice, progress, cancelled):
    return segment_face(image, cylinder), {"warnings": []}
