"""Any nnU-Net v2 results folder whose model has a label for the face."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import SimpleITK as sitk

from ..anatomy.face_map import Cylinder
from ..errors import InputError
from . import nnunet_runtime
from .segmenter import Action, Choice, Notes, Progress, State, Status

TITLE = "nnU-Net model"
ABOUT = "A trained nnU-Net v2 model of yours: its results folder, and the label that is the face."
OPTIONS: tuple[str, ...] = ("weights", "label", "device")
EXTRA = "nnunet"

NOT_INSTALLED = f"PyTorch and nnU-Net {'.'.join(map(str, nnunet_runtime.OLDEST))} or newer are not installed."

ORIENTATION = "LAS"
"""Axes to the left, anterior and superior: how dcm2niix stores CT series, and so what such models are used to."""


def state(choice: Choice) -> State:
    """Whether packages, weights and the label are there."""
    return state_with(model, choice, "Choose the results folder of a trained model (Dataset…).")


def model(choice: Choice) -> nnunet_runtime.Model:
    """The model in the chosen folder."""
    return nnunet_runtime.find_model(Path(choice.weights))


def labels(choice: Choice) -> list[str]:
    """Names of its labels, without the background."""
    return list(nnunet_runtime.labels(model(choice)))


def expected_seconds(image: sitk.Image, cylinder: Cylinder, choice: Choice) -> float:
    """About how long it will take."""
    return expected_seconds_with(model(choice), image, cylinder, choice)


def segment(
    image: sitk.Image, cylinder: Cylinder, choice: Choice, progress: Progress, cancelled: Callable[[], bool]
) -> tuple[sitk.Image, Notes]:
    """Find the face, see :class:`.segmenter.Segmenter`."""
    return segment_with(model(choice), image, cylinder, choice, progress, cancelled)


def state_with(find_model: Callable[[Choice], nnunet_runtime.Model], choice: Choice, nothing_chosen: str) -> State:
    """The state of a segmenter whose weights are a folder of the user's.

    Parameters
    ----------
    find_model: callable
        Gives the model of a choice, or raises InputError.
    choice: Choice
        What it is told.
    nothing_chosen: str
        What is said where no folder is chosen.
    """
    if not nnunet_runtime.is_installed():
        return State(Status.NO_PACKAGE, NOT_INSTALLED, (Action.INSTALL,))
    if not choice.weights:
        return State(Status.NO_WEIGHTS, nothing_chosen, (Action.CHOOSE_FOLDER,))
    try:
        nnunet_runtime.face_values(find_model(choice), choice.label)
    except InputError as error:
        return State(Status.NO_WEIGHTS, str(error), (Action.CHOOSE_FOLDER,))
    return State()


def expected_seconds_with(model: nnunet_runtime.Model, image: sitk.Image, cylinder: Cylinder, choice: Choice) -> float:
    """About how long :func:`segment_with` will take."""
    turned = sitk.DICOMOrient(
        image[nnunet_runtime.head_box(image, cylinder)], nnunet_runtime.orientation(model) or ORIENTATION
    )
    return nnunet_runtime.expected_seconds(model, turned.GetSize()[::-1], turned.GetSpacing()[::-1], choice.device)


def segment_with(
    model: nnunet_runtime.Model,
    image: sitk.Image,
    cylinder: Cylinder,
    choice: Choice,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> tuple[sitk.Image, Notes]:
    """Run a model on the head, in the orientation that it expects, and take the face out of what it says."""
    box = nnunet_runtime.head_box(image, cylinder)
    part = image[box]
    turned = sitk.DICOMOrient(part, nnunet_runtime.orientation(model) or ORIENTATION)
    array = sitk.GetArrayViewFromImage(turned)
    labels, notes = nnunet_runtime.predict(model, array, turned.GetSpacing()[::-1], choice.device, progress, cancelled)
    face = nnunet_runtime.face_image(labels, nnunet_runtime.face_values(model, choice.label), turned)
    return nnunet_runtime.put_back(face, part, box, image), notes
