"""The work grid: 3 mm along the patient's axes (LPS), on which a head has under a million voxels.

Arrays have axis order (z, y, x): inferior to superior, anterior to posterior, right to left; as the
file has it at first, and as the head has it once :mod:`.orientation` has found how it lies.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .field_of_view import shrunk_without_padding
from .hounsfield import OUTSIDE_HU

WORK_SPACING_MM = 3.0
"""Voxel size of the work grid in mm.

Coarse enough for seconds, fine enough for a skull of 6 mm. Not varied: many numbers of this package, and those of
filters that count voxels, were chosen on it.
"""


def work_volume(image: sitk.Image) -> tuple[sitk.Image, float | None]:
    """Average a CT down to the work grid, which holds all of it.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units.

    Returns
    -------
    tuple
        The work volume (float32), below ``PADDING_HU`` in padding and outside the CT; and the value that marks padding
        in the CT, None where only values below ``PADDING_HU`` do.
    """
    small, padding = shrunk_without_padding(image, shrink_factors(image))
    corners = np.array(
        [
            image.TransformContinuousIndexToPhysicalPoint(
                [(n - 0.5) if bit else -0.5 for n, bit in zip(image.GetSize(), bits)]
            )
            for bits in np.ndindex(2, 2, 2)
        ]
    )
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = np.ceil((high - low) / WORK_SPACING_MM - 1e-6).astype(int)
    origin = (low + high) / 2 - (size - 1) * WORK_SPACING_MM / 2
    work = sitk.Resample(
        sitk.Cast(small, sitk.sitkFloat32),
        size.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        origin.tolist(),
        [WORK_SPACING_MM] * 3,
        np.eye(3).ravel().tolist(),
        OUTSIDE_HU,
        sitk.sitkFloat32,
        True,
    )
    within = sitk.Resample(_one_voxel_as_large_as(image), work, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return sitk.Mask(work, within, OUTSIDE_HU), padding


def _one_voxel_as_large_as(image: sitk.Image) -> sitk.Image:
    """An image of one voxel, 1, that takes the place of ``image``."""
    voxel = sitk.Image([1, 1, 1], sitk.sitkUInt8) + 1
    voxel.SetDirection(image.GetDirection())
    voxel.SetSpacing([n * spacing for n, spacing in zip(image.GetSize(), image.GetSpacing())])
    voxel.SetOrigin(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
    return voxel


def shrink_factors(image: sitk.Image) -> list[int]:
    """How many voxels along each axis (x, y, z) are averaged on the way to the work grid."""
    factors = (max(1, int(WORK_SPACING_MM / spacing + 0.25)) for spacing in image.GetSpacing())
    return [min(factor, size) for factor, size in zip(factors, image.GetSize())]


def distance_to(mask: np.ndarray) -> np.ndarray:
    """Distance in mm of each voxel of the work grid to the nearest voxel of ``mask`` (float32, 0 inside)."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=False)
    return np.maximum(sitk.GetArrayFromImage(distance), 0) * np.float32(WORK_SPACING_MM)


def dilated(mask: np.ndarray, radius_mm: float) -> np.ndarray:
    """``mask`` of the work grid, grown by a ball."""
    out = np.zeros(mask.shape, bool)
    box = box_of(mask, int(radius_mm / WORK_SPACING_MM))
    out[box] = distance_to(mask[box]) <= radius_mm
    return out


def eroded(mask: np.ndarray, radius_mm: float) -> np.ndarray:
    """``mask`` of the work grid, shrunk by a ball; the grid's edge does not shrink it."""
    out = np.zeros(mask.shape, bool)
    box = box_of(mask, 1)
    out[box] = distance_to(~mask[box]) > radius_mm
    return out


def box_of(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """The smallest box that holds all of ``mask``, wider by some voxels where the array goes on; empty when it is."""
    box = [slice(None)] * mask.ndim
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        where = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if len(where) == 0:
            return (slice(0, 0),) * mask.ndim
        box[axis] = slice(int(where[0]), int(where[-1]) + 1)
    return tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
