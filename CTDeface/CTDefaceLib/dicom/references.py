"""Structure sets, segmentations, doses, plans and the like of a defaced series: taken along without the face.

In a structure set the outline of the body is redrawn along the new skin, and what enters the region is cut; what is not
drawn as areas, and reaches into the region, is left out. In a segmentation, bodies end at the new skin, and voxels of
all else in the region are cleared. Of a dose what lies in front of the new skin is 0. Plans, registrations and reports
show nothing of it, but for what reports draw in space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..removal.surface import Surface
from .defaced_stack import DefacedStack
from .files import DOSE, LABEL_MAP, SEGMENTATION, STRUCTURE_SET, quietly, read_dataset
from .places import in_region
from .radiotherapy import clear_dose, is_external, redraw
from .segmentations import cut_segments
from .tree import Series, Tree
from .write import elements

if TYPE_CHECKING:
    import pydicom

KEPT_KINDS = (STRUCTURE_SET, SEGMENTATION, LABEL_MAP)
"""SOP classes of what holds structures."""

KINDS = (
    "structure set", "segmentation", "dose", "plan", "registration", "structured report", "dose report",
    "key object selection",
)  # fmt: skip
"""Kinds of what can be taken along. A deformable registration is none: its field can show the skin."""


@quietly()
def referring(paths: Iterable[str], series: Series, kinds: Collection[str] = ()) -> list[str]:
    """Of some files those that belong to a series: those that refer to it, and doses in its frame of reference.

    Parameters
    ----------
    paths: iterable of str
    series: Series
    kinds: collection of str
        Only those of these SOP classes that refer to the series itself. Without any, also what refers to one that does,
        as a plan to its structure set.
    """
    documents = {path: read_dataset(path) for path in paths}
    found = [
        path
        for path, document in documents.items()
        if (_in_frame(document, series) if document.SOPClassUID == DOSE else _refers(document, series.uids))
    ]
    if kinds:
        return [path for path in found if documents[path].SOPClassUID in kinds]
    left = [path for path in documents if path not in found and documents[path].SOPClassUID != DOSE]
    while left:
        known = {str(documents[path].SOPInstanceUID) for path in found}
        more = [path for path in left if _refers(documents[path], known)]
        if not more:
            break
        found += more
        left = [path for path in left if path not in more]
    return [path for path in documents if path in found]


def documents_in(tree: Tree) -> list[str]:
    """The files of a tree that can be taken along."""
    return [path for kind, path in tree.others if kind in KINDS]


def without_face(dataset: pydicom.Dataset, defaced: list[DefacedStack]) -> str:
    """Remove from what is taken along with a series, in place, what describes the removed region.

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
    if dataset.SOPClassUID == STRUCTURE_SET:
        return _outlines(dataset, defaced)
    if dataset.SOPClassUID in KEPT_KINDS:
        return cut_segments(dataset, defaced, _surfaces(defaced))
    removed = _remove_places(dataset, defaced)
    return f"places of a report in the region removed: {removed}" if removed else ""


def _remove_places(item: pydicom.Dataset, defaced: list[DefacedStack]) -> int:
    """Remove from a report, at any depth, what it draws in space in the region; how many drawings that were."""
    removed = 0
    kept = []
    for content in item.get("ContentSequence") or []:
        if str(content.get("ValueType", "")) == "SCOORD3D":
            points = np.array([float(value) for value in content.get("GraphicData") or []])
            if in_region(points[: len(points) // 3 * 3].reshape(-1, 3), defaced).any():
                removed += 1
                continue
        removed += _remove_places(content, defaced)
        kept.append(content)
    if removed:
        item.ContentSequence = kept
    return removed


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
