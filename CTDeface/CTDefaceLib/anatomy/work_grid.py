"""The work grid: 3 mm along the patient's axes (LPS), on which a head has under a million voxels; and shapes on it.

Arrays have axis order (z, y, x): inferior to superior, anterior to posterior, right to left; as the
file has it at first, and as the head has it once :mod:`.orientation` has found how it lies.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import SimpleITK as sitk

WORK_SPACING_MM = 3.0
"""Voxel size of the work grid in mm.

Coarse enough for seconds, fine enough for a skull of 6 mm. Not varied: many numbers of this package, and those of
filters that count voxels, were chosen on it.
"""


def distance_to(mask: np.ndarray, most_mm: float) -> np.ndarray:
    """Distance in mm of each voxel of the work grid to the nearest voxel of ``mask``; float32, at most ``most_mm``."""
    out = np.full(mask.shape, most_mm, np.float32)
    box = box_of(mask, int(most_mm / WORK_SPACING_MM))
    if mask.any():
        image = sitk.GetImageFromArray(mask[box].astype(np.uint8))
        distance = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=False)
        out[box] = np.clip(sitk.GetArrayFromImage(distance) * np.float32(WORK_SPACING_MM), 0, np.float32(most_mm))
    return out


def dilated(mask: np.ndarray, radius_mm: float) -> np.ndarray:
    """``mask`` of the work grid, grown by a ball."""
    out = np.zeros(mask.shape, bool)
    box = box_of(mask, int(radius_mm / WORK_SPACING_MM))
    out[box] = _within_reach(mask[box], radius_mm)
    return out


def eroded(mask: np.ndarray, radius_mm: float) -> np.ndarray:
    """``mask`` of the work grid, shrunk by a ball; the grid's edge does not shrink it."""
    out = np.zeros(mask.shape, bool)
    box = box_of(mask, 1)
    out[box] = ~_within_reach(~mask[box], radius_mm)
    return out


def with_neighbours(mask: np.ndarray) -> np.ndarray:
    """``mask`` of the work grid, grown by the 26 neighbours of each voxel."""
    return dilated(mask, 1.75 * WORK_SPACING_MM)


def _within_reach(mask: np.ndarray, radius_mm: float) -> np.ndarray:
    """Whether a ball around each voxel of the work grid meets ``mask``; bool, same shape.

    A ball is made of rows along x. With room around it, the mask is one line, along which a shift by a voxel in any
    direction is one by a set number; grown by half the length of a row, it is joined once for each row of that length.
    For balls of a few voxels that takes a tenth of the time of a map of distances.
    """
    reach = radius_mm / WORK_SPACING_MM
    room = int(reach)
    padded = np.pad(mask, room)
    line, out = padded.ravel(), np.zeros(padded.size, bool)
    grown = line.copy()
    rows = [(z, y) for z, y in product(range(-room, room + 1), repeat=2) if z**2 + y**2 <= reach**2]
    for half in range(room + 1):
        _join(grown, line, half)
        _join(grown, line, -half)
        for z, y in rows:
            if int((reach**2 - z**2 - y**2) ** 0.5) == half:
                _join(out, grown, (z * padded.shape[1] + y) * padded.shape[2])
    return out.reshape(padded.shape)[tuple(slice(room, room + size) for size in mask.shape)]


def _join(into: np.ndarray, line: np.ndarray, shift: int) -> None:
    """Make ``into`` true where ``line`` is, that many places further on."""
    if shift >= 0:
        into[shift:] |= line[: len(line) - shift]
    else:
        into[:shift] |= line[-shift:]


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
