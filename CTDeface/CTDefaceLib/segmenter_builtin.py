"""The built-in segmenter: geometry on Hounsfield units, see :mod:`.face`."""

from __future__ import annotations

from .face import segment_face
from .segmenters import State

TITLE = "Built-in"
ABOUT = "Geometry on Hounsfield units: no model, nothing to install, a few seconds."
OPTIONS = ()


def state(choice) -> State:
    return State()


def segment(image, cylinder, choice, progress, cancelled):
    return segment_face(image, cylinder), {"warnings": []}
