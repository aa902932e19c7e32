"""From the work grid of a head back to the grid of its CT."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .head import Head, shrink_factors


def on_image_grid(inside: np.ndarray, head: Head, image: sitk.Image, only_above: float | None = None) -> sitk.Image:
    """Mask of the voxels of ``image`` where a smooth function on the work grid is positive.

    Parameters
    ----------
    inside: numpy.ndarray
        Function on the work grid of ``head``, shape (z, y, x); positive inside.
    head: Head
        The head whose work grid it is.
    image: SimpleITK.Image
        The CT; the mask gets its grid.
    only_above: float, optional
        Leave out voxels of ``image`` at or below this value.

    Returns
    -------
    SimpleITK.Image
        Mask, uint8, 0 or 1.
    """
    mask = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    mask.CopyInformation(image)
    box = _box(inside, head, image)
    if box is None:
        return mask
    function = sitk.GetImageFromArray(inside.astype(np.float32))
    function.CopyInformation(head.volume)
    part = image[box]
    here = sitk.Resample(function, part, sitk.Transform(), sitk.sitkLinear, -1.0, sitk.sitkFloat32) > 0
    if only_above is not None:
        here &= part > only_above
    return sitk.Paste(mask, here, here.GetSize(), destinationIndex=[side.start for side in box])


def to_work_grid(mask: sitk.Image, head: Head) -> np.ndarray:
    """How much of each voxel of the work grid a mask fills (float32, 0 to 1, shape (z, y, x))."""
    factors = shrink_factors(mask)
    small = sitk.BinShrink(sitk.Cast(mask > 0, sitk.sitkUInt8) * 200, factors)
    return (
        sitk.GetArrayFromImage(
            sitk.Resample(small, head.volume, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32)
        )
        / 200
    )


def _box(inside: np.ndarray, head: Head, image: sitk.Image) -> tuple[slice, ...] | None:
    """The part of ``image`` that holds all that is positive, as slices along (x, y, z)."""
    where = np.argwhere(inside > 0)
    if len(where) == 0:
        return None
    low, high = where.min(axis=0)[::-1] - 1.0, where.max(axis=0)[::-1] + 1.0
    corners = [np.where(bits, high, low).tolist() for bits in np.ndindex(2, 2, 2)]
    points = [head.volume.TransformContinuousIndexToPhysicalPoint(corner) for corner in corners]
    index = np.array([image.TransformPhysicalPointToContinuousIndex(point) for point in points])
    start = np.clip(np.floor(index.min(axis=0)), 0, image.GetSize()).astype(int)
    stop = np.clip(np.ceil(index.max(axis=0)) + 1, 0, image.GetSize()).astype(int)
    if (stop <= start).any():
        return None
    return tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist()))


def bounding_box(mask: sitk.Image) -> tuple[slice, ...] | None:
    """The part of a mask (uint8, 0 or 1) that is not empty, as slices along (x, y, z); None when all of it is."""
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.ComputePerimeterOff()
    statistics.ComputeFeretDiameterOff()
    statistics.Execute(mask > 0)
    if not statistics.HasLabel(1):
        return None
    start_and_size = statistics.GetBoundingBox(1)
    return tuple(slice(a, a + n) for a, n in zip(start_and_size[:3], start_and_size[3:]))
