"""From the work grid of a head back to the grid of its CT."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .head import Head
from .hounsfield import OUTSIDE_HU
from .work_grid import box_of
from .work_volume import shrink_factors

Box = tuple[slice, ...]
"""A part of an image: slices along (x, y, z)."""


def on_image_grid(
    inside: np.ndarray, head: Head, image: sitk.Image, box: Box | None = None, only_above: float | None = None
) -> np.ndarray:
    """Where a smooth function on the work grid is positive on the grid of a CT, or of a part of it.

    Parameters
    ----------
    inside: numpy.ndarray
        Function on the work grid of ``head``, shape (z, y, x); positive inside.
    head: Head
        The head whose work grid it is.
    image: SimpleITK.Image
        The CT, or another volume on its grid.
    box: Box, optional
        The part of it that is wanted; all of it when None.
    only_above: float, optional
        Leave out voxels of ``image`` at or below this value.

    Returns
    -------
    numpy.ndarray
        Bool, shape (z, y, x) of that part.
    """
    box = box or whole(image)
    here = sampled(inside, head, image, box) > 0
    if only_above is not None:
        here &= voxels(image, box) > only_above
    return here


def sampled(function: np.ndarray, head: Head, image: sitk.Image, box: Box) -> np.ndarray:
    """A function on the work grid of a head, shape (z, y, x), at the voxels of a part of a CT, linear; -1 beyond.

    Where the axes of both grids are parallel, as in most files, it is interpolated along one after the other: that
    takes a third of the time that it takes to look up voxel by voxel.
    """
    work, size = head.volume, [side.stop - side.start for side in box]
    to_work = np.reshape(work.GetDirection(), (3, 3)).T / np.reshape(work.GetSpacing(), (3, 1))
    step = to_work @ np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    if np.count_nonzero(step) > 3:
        values = sitk.GetImageFromArray(function.astype(np.float32, copy=False))
        values.CopyInformation(work)
        grid = size, sitk.Transform(), sitk.sitkLinear, corner_of(image, box), image.GetSpacing(), image.GetDirection()
        return sitk.GetArrayFromImage(sitk.Resample(values, *grid, -1.0))
    corner = to_work @ (np.array(corner_of(image, box)) - work.GetOrigin())
    axes = np.abs(step).argmax(axis=0)  # of the work grid, for each of the image; both (x, y, z)
    places = [corner[axis] + step[axis, own] * np.arange(size[own]) for own, axis in enumerate(axes)]
    return _drawn_out(function.transpose(2 - axes[::-1]).astype(np.float32), *places)


def _drawn_out(values: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Values of an array (z, y, x) on a grid of places along its axes, in voxels; linear, -1 beyond, float32."""

    def neighbours(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        before = np.clip(np.floor(places), 0, size - 1).astype(int)
        return before, np.minimum(before + 1, size - 1), np.clip(places - before, 0.0, 1.0).astype(np.float32)

    planes, (y0, y1, dy), (x0, x1, dx) = (neighbours(p, n) for p, n in zip((z, y, x), values.shape))
    out = np.empty((len(z), len(y), len(x)), np.float32)
    for here, z0, z1, dz in zip(out, *planes):
        plane = values[z0] + (values[z1] - values[z0]) * dz
        plane = plane[y0] + (plane[y1] - plane[y0]) * dy[:, None]
        here[:] = plane[:, x0] + (plane[:, x1] - plane[:, x0]) * dx
    for axis, (places, n) in enumerate(zip((z, y, x), values.shape)):
        np.moveaxis(out, axis, 0)[(places < -0.5) | (places >= n - 0.5)] = -1.0
    return out


def values_at(image: sitk.Image, points: np.ndarray) -> np.ndarray:
    """Values of an image at LPS points in mm, shape (…, 3), linear, ``OUTSIDE_HU`` beyond it; float32, shape (…)."""
    index = (points - image.GetOrigin()) @ np.reshape(image.GetDirection(), (3, 3)) / image.GetSpacing()
    return ndimage.map_coordinates(
        sitk.GetArrayViewFromImage(image),
        np.moveaxis(index[..., ::-1], -1, 0),
        output=np.float32,
        order=1,
        cval=OUTSIDE_HU,
    )


def to_work_grid(mask: sitk.Image, head: Head) -> np.ndarray:
    """Voxels of the work grid that a mask (0 and 1) fills by more than half; bool, shape (z, y, x)."""
    box = bounding_box(mask)
    if box is None:
        return np.zeros(head.solid.shape, bool)
    factors = shrink_factors(mask)
    # A frame as wide as the blocks keeps them apart from the edge of the box.
    part = sitk.ConstantPad(sitk.Cast(mask[box], sitk.sitkFloat32), factors, [2 * factor for factor in factors], 0.0)
    small = sitk.BinShrink(part, factors)
    filled = sitk.Resample(small, head.volume, sitk.Transform(), sitk.sitkLinear, 0.0)
    return sitk.GetArrayFromImage(filled) > 0.5


def box_around(inside: np.ndarray, head: Head, image: sitk.Image) -> Box | None:
    """The part of ``image`` that holds all of the work grid that is positive; None when that is nothing."""
    where = np.argwhere(inside > 0)
    if len(where) == 0:
        return None
    low, high = where.min(axis=0)[::-1] - 1.0, where.max(axis=0)[::-1] + 1.0
    corners = [np.where(bits, high, low).tolist() for bits in np.ndindex(2, 2, 2)]
    points = [head.volume.TransformContinuousIndexToPhysicalPoint(corner) for corner in corners]
    index = np.array([image.TransformPhysicalPointToContinuousIndex(point) for point in points])
    start = np.clip(np.floor(index.min(axis=0)), 0, image.GetSize()).astype(int)
    stop = np.clip(np.ceil(index.max(axis=0)) + 1, 0, image.GetSize()).astype(int)
    return None if (stop <= start).any() else tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist()))


def bounding_box(mask: sitk.Image) -> Box | None:
    """The part of a mask that holds all that is not 0; None when that is nothing."""
    box = box_of(sitk.GetArrayViewFromImage(mask))[::-1]
    return box if box[0].stop else None


def whole(image: sitk.Image) -> Box:
    """The box that holds all of an image."""
    return tuple(slice(0, size) for size in image.GetSize())


def corner_of(image: sitk.Image, box: Box) -> tuple[float, ...]:
    """LPS point in mm of the first voxel of a box."""
    return image.TransformIndexToPhysicalPoint([side.start for side in box])


def voxels(image: sitk.Image, box: Box) -> np.ndarray:
    """View of the voxels of an image in a box, shape (z, y, x)."""
    return sitk.GetArrayViewFromImage(image)[box[::-1]]


def union(first: Box | None, second: Box | None) -> Box | None:
    """The smallest box around two."""
    if first is None or second is None:
        return first or second
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second))


def mask_of(inside: np.ndarray | None, box: Box | None, image: sitk.Image) -> sitk.Image:
    """Mask (uint8, grid of ``image``) that is 1 where ``inside`` (bool, shape (z, y, x) of ``box``) is.

    It is empty where ``box`` is None.
    """
    mask = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    if inside is not None and box is not None:
        mask[box] = sitk.GetImageFromArray(inside.astype(np.uint8))
    mask.CopyInformation(image)
    return mask


def is_same_grid(one: sitk.Image, other: sitk.Image) -> bool:
    """Whether the voxels of one lie on those of the other: a part of it, or all."""
    if not np.allclose(one.GetSpacing(), other.GetSpacing(), rtol=1e-4):
        return False
    if not np.allclose(one.GetDirection(), other.GetDirection(), atol=1e-4):
        return False
    start = np.array(one.TransformPhysicalPointToContinuousIndex(other.GetOrigin()))
    return bool(np.abs(start - np.rint(start)).max() < 0.02)
