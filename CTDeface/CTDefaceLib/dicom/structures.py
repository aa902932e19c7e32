"""The structures of a DICOM segmentation or structure set, each as a mask on a grid of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..removal.keep import Structure
from .decoding import UNDECODED, pixels_of
from .files import LABEL_MAP, SEGMENTATION, STRUCTURE_SET, plane_of, quietly, read_dataset

if TYPE_CHECKING:
    import pydicom

AREAS = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Kinds of contours that enclose something; of the others the points themselves count."""

CONTOUR_PIXEL_MM = 0.5
"""Pixels in mm that contours are drawn into; those on a contour count as inside it. Finer than most scans."""

ONE_PLANE_MM = 3.0
"""Thickness in mm of a structure that is drawn in a single plane. A choice."""


@quietly()
def dicom_structures(path: str | os.PathLike) -> list[Structure]:
    """The structures of a DICOM file.

    Raises
    ------
    InputError
        When it is neither a segmentation nor a structure set, or is damaged.
    """
    dataset = read_dataset(os.fspath(path))
    kind = str(dataset.get("SOPClassUID", ""))
    try:
        if kind == STRUCTURE_SET:
            return _drawn(dataset)
        if kind in (SEGMENTATION, LABEL_MAP):
            return _segments(dataset)
    except InputError:
        raise
    except Exception as error:  # pydicom meets what it cannot decode with errors of many kinds
        raise InputError(f"The structures cannot be read. {UNDECODED}") from error
    raise InputError("This DICOM file holds no structures: it is no segmentation and no structure set.")


def _segments(dataset: pydicom.Dataset) -> list[Structure]:
    """The segments of a segmentation; of fractional ones, all that is not 0."""
    names = {int(item.SegmentNumber): str(item.SegmentLabel) for item in dataset.SegmentSequence}
    frames = pixels_of(dataset).reshape(-1, dataset.Rows, dataset.Columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    groups = [[group, shared] for group in dataset.PerFrameFunctionalGroupsSequence]
    planes = [plane_of(group) for group in groups]
    axes, spacing = planes[0][1], planes[0][2]
    normal = np.cross(axes[0], axes[1])
    positions = np.array([position for position, _, _ in planes])
    first, numbers, gap = _evenly(positions @ normal)
    aside = (positions - positions[0]) @ axes.T / spacing
    if np.abs(aside).max() > 0.5:
        raise InputError("The segmentation lies on slices that are shifted against each other; resample it.")
    volumes = {number: np.zeros((numbers.max() + 1, *frames.shape[1:]), np.uint8) for number in names}
    for frame, group, place in zip(frames, groups, numbers):
        if dataset.SOPClassUID == LABEL_MAP:
            for number in np.unique(frame[frame > 0]).tolist():
                volumes[number][place] |= frame == number
        else:
            volumes[_segment_of(group, names)][place] |= frame > 0
    origin = positions[0] + (first - positions[0] @ normal) * normal
    return [
        Structure(names[number], _image(volume, origin, (*spacing, gap), [*axes, normal]))
        for number, volume in volumes.items()
    ]


def _segment_of(groups: list[pydicom.Dataset], names: dict[int, str]) -> int:
    for group in groups:
        if "SegmentIdentificationSequence" in group:
            return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    return next(iter(names))


def _drawn(dataset: pydicom.Dataset) -> list[Structure]:
    """The structures of a structure set."""
    names = {int(item.ROINumber): str(item.get("ROIName", "")) for item in dataset.StructureSetROISequence}
    found = []
    for item in dataset.get("ROIContourSequence") or []:
        contours = [
            (np.array([float(value) for value in one.ContourData]).reshape(-1, 3), str(one.ContourGeometricType))
            for one in item.get("ContourSequence") or []
        ]
        contours = [(points, kind) for points, kind in contours if len(points)]
        number = int(item.ReferencedROINumber)
        if contours:
            found.append(Structure(names.get(number) or str(number), _filled(contours)))
    return found


def _filled(contours: list[tuple[np.ndarray, str]]) -> sitk.Image:
    """A mask of what contours (LPS mm, shape (n, 3), and their kind) in parallel planes enclose or touch."""
    areas = [points for points, kind in contours if kind in AREAS and len(points) > 2]
    axes = axes_along(max(areas, key=len)) if areas else np.eye(3)
    placed = [(points @ axes.T, kind) for points, kind in contours]
    if any(np.ptp(points[:, 2]) > 0.1 for points, kind in placed if kind in AREAS):
        raise InputError("A structure is not drawn in parallel planes; convert it to a segmentation.")
    heights = [points[:, 2].mean() if kind in AREAS else points[:, 2] for points, kind in placed]
    first, _, gap = _evenly(np.concatenate([np.atleast_1d(height) for height in heights]))
    flat = np.concatenate([points[:, :2] for points, _ in placed])
    low = flat.min(axis=0) - CONTOUR_PIXEL_MM
    columns, rows = np.ceil((flat.max(axis=0) - low) / CONTOUR_PIXEL_MM).astype(int) + 2
    last = max(float(np.max(height)) for height in heights)
    volume = np.zeros((round((last - first) / gap) + 1, rows, columns), np.uint8)
    edges = np.zeros_like(volume)
    for (points, kind), height in zip(placed, heights):
        place = (points[:, :2] - low) / CONTOUR_PIXEL_MM
        number = np.rint((height - first) / gap).astype(int)
        if kind in AREAS and len(points) > 2:
            volume[number] ^= inside_of(place, rows, columns)
            place = _along(place)
        column, row = np.rint(place).astype(int).T
        edges[number, row, column] = 1
    origin = np.array([*low, first]) @ axes
    return _image(volume | edges, origin, (CONTOUR_PIXEL_MM, CONTOUR_PIXEL_MM, gap), axes)


def axes_along(points: np.ndarray) -> np.ndarray:
    """Rows: unit vectors in the plane of a contour and across it; LPS itself for the usual axial ones."""
    normal = np.cross(points - points.mean(axis=0), np.roll(points, -1, axis=0) - points.mean(axis=0)).sum(axis=0)
    normal /= np.linalg.norm(normal) or 1.0
    if abs(normal[2]) > 1.0 - 1e-6:
        return np.eye(3)
    across = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
    across /= np.linalg.norm(across)
    return np.array([across, np.cross(normal, across), normal])


def _evenly(heights: np.ndarray) -> tuple[float, np.ndarray, float]:
    """The lowest of some heights in mm, the number of each in even steps from there, and the step."""
    places = np.unique(np.round(heights, 2))
    gap = float(np.median(np.diff(places))) if len(places) > 1 else ONE_PLANE_MM
    return float(places[0]), np.rint((heights - places[0]) / gap).astype(int), gap


def inside_of(polygon: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The pixels (uint8, rows × columns) whose centres lie within a polygon of (column, row)."""
    (x0, y0), (x1, y1) = polygon.T, np.roll(polygon, -1, axis=0).T
    inside = np.zeros((rows, columns), np.uint8)
    for row in range(max(int(y0.min()), 0), min(int(y0.max()) + 2, rows)):
        crossed = (y0 > row) != (y1 > row)
        if crossed.any():
            a, b = (x0[crossed], y0[crossed]), (x1[crossed], y1[crossed])
            at = np.sort(a[0] + (row - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
            inside[row] = np.searchsorted(at, np.arange(columns)) % 2
    return inside


def _along(polygon: np.ndarray) -> np.ndarray:
    """Points on a polygon, at most half a pixel apart."""
    steps = np.roll(polygon, -1, axis=0) - polygon
    counts = np.maximum(np.ceil(2.0 * np.abs(steps).max(axis=1)).astype(int), 1)
    share = np.concatenate([np.arange(n) / n for n in counts])
    return np.repeat(polygon, counts, axis=0) + share[:, None] * np.repeat(steps, counts, axis=0)


def _image(
    volume: np.ndarray, origin: np.ndarray, spacing: tuple[float, ...], axes: np.ndarray | list[np.ndarray]
) -> sitk.Image:
    image = sitk.GetImageFromArray(volume)
    image.SetOrigin(origin.tolist())
    image.SetSpacing([float(value) for value in spacing])
    image.SetDirection(np.array(axes).T.ravel().tolist())
    return image
