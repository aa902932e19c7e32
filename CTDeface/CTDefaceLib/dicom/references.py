"""Structure sets and segmentations that refer to a defaced series: taken along without what shows the face.

A structure that reaches into the removed region describes what was removed, the outline of the skin above all: it is
left out of a structure set. In a segmentation, voxels of the removed region are cleared.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .defaced_stack import DefacedStack
from .files import SEGMENTATION, STRUCTURE_SET, plane_of, quietly, read_dataset
from .stack import UNDECODED, usual_gap
from .tree import Series, Tree
from .write import EXPLICIT_LITTLE_ENDIAN, elements

if TYPE_CHECKING:
    import pydicom

KINDS = {"structure set": STRUCTURE_SET, "segmentation": SEGMENTATION}
"""Kinds of what can be taken along → SOP classes."""


@quietly()
def referring(tree: Tree, series: Series) -> list[str]:
    """Files of the structure sets and segmentations in a tree that refer to a series."""
    documents = [path for kind, path in tree.others if kind in KINDS]
    return [path for path in documents if _refers(read_dataset(path), series.uids)]


def without_face(dataset: pydicom.Dataset, defaced: list[DefacedStack]) -> str:
    """Remove from a structure set or segmentation, in place, what describes the removed region.

    Returns
    -------
    str
        What was removed, for the report; empty for nothing. ``"all"`` when nothing is left.

    Raises
    ------
    InputError
        When the pixels of a segmentation cannot be decoded.
    """
    remove = _outlines if dataset.SOPClassUID == STRUCTURE_SET else _voxels
    return remove(dataset, defaced)


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


def _refers(dataset: pydicom.Dataset, wanted: Collection[str]) -> bool:
    for element in elements(dataset, "SQ", "UI"):
        if element.VR == "SQ":
            if any(_refers(item, wanted) for item in element.value):
                return True
        elif str(element.value) in wanted:
            return True
    return False


def _outlines(dataset: pydicom.Dataset, defaced: list[DefacedStack]) -> str:
    """Remove the structures of a structure set that are external or reach into the region."""
    drawn = dataset.get("ROIContourSequence") or []
    external = {
        int(item.ReferencedROINumber)
        for item in dataset.get("RTROIObservationsSequence") or []
        if item.get("RTROIInterpretedType") == "EXTERNAL"
    }
    for structure in drawn:
        for contour in structure.get("ContourSequence") or []:
            points = np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)
            if in_region(points, defaced).any():
                external.add(int(structure.ReferencedROINumber))
                break
    for sequence, number in (
        ("ROIContourSequence", "ReferencedROINumber"),
        ("StructureSetROISequence", "ROINumber"),
        ("RTROIObservationsSequence", "ReferencedROINumber"),
    ):
        if sequence in dataset:
            kept = [item for item in dataset[sequence].value if int(item[number].value) not in external]
            setattr(dataset, sequence, kept)
    if not dataset.get("StructureSetROISequence"):
        return "all"
    return f"structures left out of a structure set, since they reach into the region: {len(external)}" * bool(external)


def _voxels(dataset: pydicom.Dataset, defaced: list[DefacedStack]) -> str:
    """Clear the voxels of a segmentation that lie in the region."""
    import pydicom

    try:
        frames = np.array(dataset.pixel_array).reshape(-1, dataset.Rows, dataset.Columns)
        shared = dataset.SharedFunctionalGroupsSequence[0]
        groups = [[group, shared] for group in dataset.PerFrameFunctionalGroupsSequence]
        cleared = 0
        for frame, group in zip(frames, groups):
            row, column = np.nonzero(frame)
            points = _points(group, row, column)
            inside = in_region(points, defaced)
            frame[row[inside], column[inside]] = 0
            cleared += int(inside.sum())
    except Exception as error:  # pydicom meets what it cannot decode with errors of many kinds
        raise InputError(UNDECODED) from error
    packed = np.packbits(frames.ravel(), bitorder="little") if dataset.BitsAllocated == 1 else frames
    pixels = packed.astype(packed.dtype.newbyteorder("<"), copy=False).tobytes()
    dataset[0x7FE00010] = pydicom.DataElement(0x7FE00010, "OB" if packed.itemsize == 1 else "OW",
                                              pixels + b"\0" * (len(pixels) % 2))  # fmt: skip
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(EXPLICIT_LITTLE_ENDIAN)
    if not frames.any():
        return "all"
    return f"voxels of a segmentation cleared, since they lie in the region: {cleared}" if cleared else ""


def _points(groups: list[pydicom.Dataset], row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Places of voxels of a frame, LPS in mm, by its own and the shared functional groups."""
    position, axes, (across, down) = plane_of(groups)
    return position + np.outer(column * across, axes[0]) + np.outer(row * down, axes[1])
