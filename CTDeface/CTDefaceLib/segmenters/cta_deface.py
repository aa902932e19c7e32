"""CTA-DEFACE, https://doi.org/10.1186/s41747-024-00510-9: an nnU-Net for faces in CT angiographies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk

from ..anatomy.face_map import Cylinder
from . import nnunet, nnunet_runtime
from .segmenter import Choice, Notes, Progress, State

TITLE = "CTA-DEFACE"
ABOUT = "An nnU-Net for faces in CT angiographies (Mahmutoglu et al. 2024). Its weights are a folder of yours."
OPTIONS: tuple[str, ...] = ("weights", "device")
EXTRA = "nnunet"

FOLDER = "Dataset001_DEFACE"
"""What its makers call the folder with the weights."""


def state(choice: Choice) -> State:
    """Whether packages and weights are there."""
    nothing = f"Choose the folder {FOLDER} with the weights, to which github.com/CCI-Bonn/CTA-DEFACE links."
    return nnunet.state_with(model, choice, nothing)


def model(choice: Choice) -> nnunet_runtime.Model:
    """The model in the chosen folder: one fold of all cases, as its makers run it."""
    return nnunet_runtime.find_model(Path(choice.weights), FOLDER, folds=("all",), configuration="3d_fullres")


def expected_seconds(image: sitk.Image, cylinder: Cylinder, choice: Choice) -> float:
    """About how long it will take."""
    return nnunet.expected_seconds_with(model(choice), image, cylinder, choice)


def segment(
    image: sitk.Image, cylinder: Cylinder, choice: Choice, progress: Progress, cancelled: Callable[[], bool]
) -> tuple[sitk.Image, Notes]:
    """Find the face, see :class:`.segmenter.Segmenter`."""
    return nnunet.segment_with(model(choice), image, cylinder, choice, progress, cancelled)
