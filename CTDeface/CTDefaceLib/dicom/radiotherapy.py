"""Contours and dose of a defaced head: redrawn along the new skin, cut where they enter the region, 0 in the air."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..removal.surface import Surface
from .dose import dose_grid
from .places import grid_of_plane, reach_and_below
from .segmentations import FILLS_THE_FACE
from .stack import stored_values
from .structures import AREAS, CONTOUR_PIXEL_MM, axes_along, inside_of
from .write import set_pixels

if TYPE_CHECKING:
    import pydicom

BODY = ("body", "external", "skin", "outer contour", "patient", "outline")
"""What the outline of a body is called where its type does not say so, in small letters."""

BESIDE_MM = 40.0
"""How far beside the old outline, in mm, the new one is looked for, which may lie further out. Any large number."""

POINT_STEP = 2
"""Every how many points of a traced contour are written: about a mm apart."""


def redraw(structure: pydicom.Dataset, surfaces: Sequence[Surface], external: bool) -> str:
    """Redraw the contours of a structure, in place, so that they show nothing of the face.

    The outline of the body goes along the new skin; others end where they enter the region.

    Parameters
    ----------
    structure: pydicom.Dataset
        An item of the sequence of contours.
    surfaces: sequence of Surface
        The new skin, where the head lies in each of the stacks.
    external: bool
        Whether it is said to be the outline of the body.

    Returns
    -------
    str
        ``"redrawn"``, ``"cut"``, ``"gone"`` where nothing is left, or empty where it does not meet the region.

    Raises
    ------
    ValueError
        When it is not drawn as areas in planes.
    """
    planes = _planes(structure)
    drawn = [_Plane(contours, surfaces) for contours in planes]
    if not any(plane.in_region.any() for plane in drawn):
        return ""
    tissue = sum(np.count_nonzero(plane.in_region & plane.below) for plane in drawn)
    covered = sum(np.count_nonzero(plane.in_region & plane.below & plane.old) for plane in drawn)
    external = external or bool(covered > FILLS_THE_FACE * tissue > 0)
    items, changed = [], False
    for contours, plane in zip(planes, drawn):
        new = np.where(plane.in_region, plane.below & external, plane.old)
        if np.array_equal(new, plane.old):
            items += contours
            continue
        changed = True
        for loop in _loops(new):
            item = copy.deepcopy(contours[0])
            item.ContourGeometricType = AREAS[0]
            item.NumberOfContourPoints = len(loop)
            item.ContourData = [f"{value:.2f}" for value in plane.points(loop).ravel()]
            items.append(item)
    if not changed:
        return ""
    for number, item in enumerate(items, 1):
        if "ContourNumber" in item:
            item.ContourNumber = number
    structure.ContourSequence = items
    return "gone" if not items else "redrawn" if external else "cut"


def is_external(name: str, kind: str) -> bool:
    """Whether a structure is the outline of the body by its type or its name."""
    return kind == "EXTERNAL" or name.strip().lower() in BODY


def clear_dose(dataset: pydicom.Dataset, surfaces: Sequence[Surface]) -> int:
    """Set the dose in the region in front of the new skin to 0, in place; how many voxels had some.

    Raises
    ------
    InputError
        When its grid or its values cannot be read.
    """
    grid = dose_grid(dataset)
    cleared = 0
    for plane, offset in zip(grid.words, grid.offsets):
        where = grid_of_plane(grid.corner + offset * grid.axes[2], grid.axes, grid.spacing, plane.shape[::-1])
        in_region, below = reach_and_below(where, surfaces)
        here = in_region & ~below & (plane != 0)
        plane[here] = 0
        cleared += int(here.sum())
    set_pixels(dataset, grid.words, stored_values(grid.words, dataset))
    return cleared


class _Plane:
    """The contours in one plane as pixels, and where in it the region and the new skin are.

    Attributes
    ----------
    old, in_region, below: numpy.ndarray
        What the contours enclose, what is replaced, and what lies below the new skin; bool, shape (rows, columns).
    """

    def __init__(self, contours: list[pydicom.Dataset], surfaces: Sequence[Surface]):
        drawn = [_points_of(one) for one in contours]
        self._axes = axes_along(max(drawn, key=len))
        flat = [points @ self._axes.T for points in drawn]
        if any(np.ptp(points[:, 2]) > 0.1 for points in flat):
            raise ValueError("not flat")
        every = np.concatenate(flat)
        self._low = every[:, :2].min(axis=0) - BESIDE_MM
        self._height = float(every[:, 2].mean())
        columns, rows = np.ceil((every[:, :2].max(axis=0) + BESIDE_MM - self._low) / CONTOUR_PIXEL_MM).astype(int) + 1
        self.old = np.zeros((rows, columns), bool)
        for points in flat:
            self.old ^= inside_of((points[:, :2] - self._low) / CONTOUR_PIXEL_MM, rows, columns) > 0
        origin = np.array([*self._low, self._height]) @ self._axes
        grid = grid_of_plane(origin, self._axes, (CONTOUR_PIXEL_MM, CONTOUR_PIXEL_MM), (int(columns), int(rows)))
        self.in_region, self.below = reach_and_below(grid, surfaces)

    def points(self, loop: np.ndarray) -> np.ndarray:
        """LPS in mm of (column, row), shape (n, 3)."""
        flat = np.column_stack([loop * CONTOUR_PIXEL_MM + self._low, np.full(len(loop), self._height)])
        return flat @ self._axes


def _planes(structure: pydicom.Dataset) -> list[list[pydicom.Dataset]]:
    """The contours of a structure by their planes; ValueError where one is no area."""
    planes: dict[tuple, list[pydicom.Dataset]] = {}
    for contour in structure.get("ContourSequence") or []:
        points = _points_of(contour)
        if str(contour.get("ContourGeometricType", "")) not in AREAS or len(points) < 3:
            raise ValueError("no area")
        axes = axes_along(points)
        height = float((points @ axes[2]).mean())
        planes.setdefault((*np.round(axes[2], 3), round(height, 1)), []).append(contour)
    return list(planes.values())


def _points_of(contour: pydicom.Dataset) -> np.ndarray:
    return np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)


def _loops(inside: np.ndarray) -> list[np.ndarray]:
    """The outlines of an area (bool, rows × columns) as closed polygons of (column, row)."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkIdList
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkMarchingSquares, vtkStripper

    padded = np.pad(inside, 1).astype(np.float32)
    image = vtkImageData()
    image.SetDimensions(padded.shape[1], padded.shape[0], 1)
    image.GetPointData().SetScalars(numpy_to_vtk(padded.ravel(), deep=True))
    edges = vtkMarchingSquares()
    edges.SetInputData(image)
    edges.SetValue(0, 0.5)
    loops = vtkStripper()
    loops.SetInputConnection(edges.GetOutputPort())
    loops.SetMaximumLength(1_000_000)
    loops.Update()
    lines, found = loops.GetOutput().GetLines(), []
    if loops.GetOutput().GetNumberOfPoints() == 0:
        return []
    points = vtk_to_numpy(loops.GetOutput().GetPoints().GetData())[:, :2] - 1.0
    numbers = vtkIdList()
    lines.InitTraversal()
    while lines.GetNextCell(numbers):
        loop = points[[numbers.GetId(k) for k in range(numbers.GetNumberOfIds())]][:-1:POINT_STEP]
        if len(loop) > 2:
            found.append(loop)
    return found
