"""Where in space the region and the new skin of a defaced series are: at points, and in planes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ..anatomy.grids import sampled, whole
from ..removal.surface import Surface
from .defaced_stack import DefacedStack
from .stack import usual_gap


def in_region(points: np.ndarray, defaced: list[DefacedStack]) -> np.ndarray:
    """Which points (LPS in mm, shape (n, 3)) lie in the removed region; bool, shape (n,)."""
    inside = np.zeros(len(points), bool)
    for part in defaced:
        stack = part.stack
        along = stack.along
        height = points @ stack.axes[2]
        after = np.clip(np.searchsorted(along, height), 1, len(along) - 1)
        nearest = np.where(height - along[after - 1] < along[after] - height, after - 1, after)
        place = (points - stack.positions[nearest]) @ stack.axes[:2].T / stack.spacing
        column, row = np.rint(place).astype(int).T
        fits = (np.abs(height - along[nearest]) <= usual_gap(stack)) & (column >= 0) & (row >= 0)
        fits &= (column < stack.size[0]) & (row < stack.size[1])
        inside[fits] |= part.region[nearest[fits], row[fits], column[fits]]
    return inside


def grid_of_plane(origin: np.ndarray, axes: object, spacing: tuple[float, float], size: tuple[int, ...]) -> sitk.Image:
    """An empty image of one slice; rows of ``axes``: along columns, rows and across."""
    grid = sitk.Image([*size, 1], sitk.sitkUInt8)
    grid.SetOrigin(origin.tolist())
    grid.SetSpacing([*spacing, 1.0])
    grid.SetDirection(np.array(axes).T.ravel().tolist())
    return grid


def reach_and_below(grid: sitk.Image, surfaces: Sequence[Surface]) -> tuple[np.ndarray, np.ndarray]:
    """Where in a slice what is replaced lies, and what is below the new skin there; bool, shape (rows, columns)."""
    in_region = np.zeros(grid.GetSize()[1::-1], bool)
    below = np.zeros_like(in_region)
    for surface in surfaces:
        head = surface.cylinder.head
        here = sampled(surface.reach, head, grid, whole(grid))[0] > 0
        below |= here & (sampled(surface.below, head, grid, whole(grid))[0] > 0)
        in_region |= here
    return in_region, below
