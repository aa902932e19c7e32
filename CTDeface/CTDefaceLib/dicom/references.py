"""Structure sets, segmentations and doses of a defaced series: taken along without what shows the face.

In a structure set the outline of the body is redrawn along the new skin, and what enters the region is cut; what is not
drawn as areas, and reaches into the region, is left out. In a segmentation, voxels of the region are cleared. Of a dose
what lies in front of the new skin is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..removal.surface import Surface
from .defaced_stack import DefacedStack
from .files import DOSE, SEGMENTATION, STRUCTURE_SET, plane_of, quietly, read_dataset
from .radiotherapy import clear_dose, is_external, redraw
from .stack import UNDECODED, usual_gap
from .tree import Series, Tree
from .write import EXPLICIT_LITTLE_ENDIAN, elements

if TYPE_CHECKING:
    import pydicom

KEPT_KINDS = (STRUCTURE_SET, SEGMENTATION)
"""SOP classes of what holds structures."""

KINDS = {"structure set": STRUCTURE_SET, "segmentation": SEGMENTATION, "dose": DOSE}
"""Kinds of what can be taken along → SOP classes."""


@quietly()
def referring(paths: Iterable[str], series: Series, kinds: Collection[str] = tuple(KINDS.values())) -> list[str]:
    """Of some files those of these SOP classes that refer to a series, and doses in its frame."""
    documents = ((path, read_dataset(path)) for path in paths)
    return [
        path
        for path, document in documents
        if document.get("SOPClassUID") in kinds
        and (_in_frame(document, series) if document.SOPClassUID == DOSE else _refers(document, series.uids))
    ]


def documents_in(tree: Tree) -> list[str]:
    """The files of a tree that can be taken along."""
    return [path for kind, path in tree.others if kind in KINDS]


def without_face(dataset: pydicom.Dataset, defaced: list[DefacedStack]) -> str:
    """Remove from a structure set, segmentation or dose, in place, what describes the removed region.

    Returns
    -------
    str
        What was removed, for the report; empty for nothing. ``"all"`` when nothing is left.

    Raises
    ------
    InputError
        When the pixels of a segmentation or a dose cannot be decoded.
    """
    if dataset.SOPClassUID == DOSE:
        cleared = clear_dose(dataset, _surfaces(defaced))
        return f"voxels of a dose in front of the new skin set to 0: {cleared}" if cleared else ""
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


def _in_frame(dataset: pydicom.Dataset, series: Series) -> bool:
    return bool(series.frame) and str(dataset.get("FrameOfReferenceUID", "")) == series.frame


def _surfaces(defaced: list[DefacedStack]) -> list[Surface]:
    """The new skins of some stacks, each once."""
    return list({id(one.surface): one.surface for one in defaced if one.surface is not None}.values())


def _outlines(dataset: pydicom.Dataset, defaced: list[DefacedStack]) -> str:
    """Redraw or cut the structures of a structure set that reach into the region, or leave them out."""
    names = {int(item.ROINumber): str(item.get("ROIName", "")) for item in dataset.get("StructureSetROISequence") or []}
    kinds = {
        int(item.ReferencedROINumber): str(item.get("RTROIInterpretedType", "") or "")
        for item in dataset.get("RTROIObservationsSequence") or []
    }
    left_out: set[int] = set()
    done: Counter[str] = Counter()
    for structure in dataset.get("ROIContourSequence") or []:
        number = int(structure.ReferencedROINumber)
        external = is_external(names.get(number, ""), kinds.get(number, ""))
        surfaces = _surfaces(defaced)
        try:
            change = redraw(structure, surfaces, external) if surfaces else _reaches(structure, defaced, external)
        except (ValueError, TypeError):  # points, lines, what is not flat
            change = _reaches(structure, defaced, external)
        done[change] += bool(change)
        left_out |= {number} if change == "gone" else set()
    for sequence, keyword in (
        ("ROIContourSequence", "ReferencedROINumber"),
        ("StructureSetROISequence", "ROINumber"),
        ("RTROIObservationsSequence", "ReferencedROINumber"),
    ):
        if sequence in dataset:
            kept = [item for item in dataset[sequence].value if int(item[keyword].value) not in left_out]
            setattr(dataset, sequence, kept)
    if not dataset.get("StructureSetROISequence"):
        return "all"
    said = {
        "gone": "structures left out of a structure set, since they reach into the region",
        "redrawn": "outlines of the body redrawn along the new skin",
        "cut": "structures cut where they enter the region",
    }
    return "; ".join(f"{text}: {done[change]}" for change, text in said.items() if done[change])


def _reaches(structure: pydicom.Dataset, defaced: list[DefacedStack], external: bool) -> str:
    """``"gone"`` for the outline of a body and for what has points in the region; empty for others."""
    for contour in structure.get("ContourSequence") or []:
        points = np.array([float(value) for value in contour.ContourData]).reshape(-1, 3)
        if external or in_region(points, defaced).any():
            return "gone"
    return "gone" if external else ""


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
