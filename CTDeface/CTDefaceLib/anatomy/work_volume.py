"""A CT averaged down to the work grid."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .field_of_view import shrunk_without_padding
from .hounsfield import OUTSIDE_HU
from .work_grid import WORK_SPACING_MM


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
