"""A DICOM dose: where its planes lie, and the dose itself as a volume."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from .decoding import UNDECODED
from .files import DOSE, quietly, read_dataset
from .stack import words_of

if TYPE_CHECKING:
    import pydicom

UNEVEN_MM = 0.05
"""By how much, in mm, planes may lie otherwise than evenly: offsets are written with few digits. A choice."""


@dataclass(frozen=True)
class DoseGrid:
    """The stored values of a dose, and where they lie.

    Attributes
    ----------
    words: numpy.ndarray
        Stored values, shape (planes, rows, columns).
    corner: numpy.ndarray
        LPS point in mm of the first voxel of the first plane.
    axes: numpy.ndarray
        3×3, rows: unit vectors in LPS along a row, down a column, and their cross product.
    spacing: tuple of float
        mm along a row and down a column.
    offsets: numpy.ndarray
        mm of each plane from the first along the last axis; may fall.
    """

    words: np.ndarray
    corner: np.ndarray
    axes: np.ndarray
    spacing: tuple[float, float]
    offsets: np.ndarray


def dose_grid(dataset: pydicom.Dataset) -> DoseGrid:
    """The grid of a dose. Raises InputError when it cannot be read, or has other planes than it says."""
    try:
        along, down = np.reshape([float(value) for value in dataset.ImageOrientationPatient], (2, 3))
        corner = np.array([float(value) for value in dataset.ImagePositionPatient])
        step_down, step_along = (float(value) for value in dataset.PixelSpacing)
        offsets = np.array([float(value) for value in np.atleast_1d(dataset.GridFrameOffsetVector)])
        words = words_of(dataset)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"The grid of the dose cannot be read. {UNDECODED}") from error
    if len(offsets) != len(words):
        raise InputError("The dose has another number of planes than its header says: export it again.")
    axes = np.array([along, down, np.cross(along, down)])
    return DoseGrid(words, corner, axes, (step_along, step_down), offsets - offsets[0])


@quietly()
def read_dicom_dose(path: str | os.PathLike) -> sitk.Image:
    """A DICOM dose as volume, float32, in the unit of the file (gray, as a rule), LPS.

    Raises
    ------
    InputError
        When the file is no dose, is damaged, or its planes do not lie evenly.
    """
    dataset = read_dataset(os.fspath(path))
    if str(dataset.get("SOPClassUID", "")) != DOSE:
        raise InputError("This DICOM file is no dose: give an RTDOSE file.")
    grid = dose_grid(dataset)
    try:
        scale = float(dataset.DoseGridScaling)
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError("The dose does not say what its values mean (DoseGridScaling): export it again.") from error
    steps = np.diff(grid.offsets)
    if len(steps) == 0 or not steps.all() or np.abs(steps - steps.mean()).max() > UNEVEN_MM:
        raise InputError("The planes of the dose do not lie evenly, or there is one alone: export it as a volume.")
    image = sitk.GetImageFromArray((grid.words * scale).astype(np.float32))
    image.SetOrigin(grid.corner.tolist())
    image.SetSpacing([*grid.spacing, abs(float(steps.mean()))])
    axes = grid.axes * [[1.0], [1.0], [np.sign(steps.mean())]]
    image.SetDirection(axes.T.ravel().tolist())
    return image
