"""What lies in a DICOM folder and its sub-folders: the CT series, stacked by geometry, and everything else, by kind.

File names mean nothing here. A series can hold several stacks (two acquisitions, a reformat beside the slices), a stack
can be tilted, uneven or have slices at one place; :mod:`.dicom.stack` handles that.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .even_series import TAGS, dicom_header, is_image, quietly, series_number

if TYPE_CHECKING:
    import pydicom

TREE_TAGS = [
    *TAGS, "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "ImageType", "AcquisitionNumber",
    "TemporalPositionIndex", "InstanceNumber", "BitsStored", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "PhotometricInterpretation", "ModalityLUTSequence", "BurnedInAnnotation",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip

CT_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",  # enhanced
    "1.2.840.10008.5.1.4.1.1.2.2",  # legacy converted enhanced
)
STRUCTURE_SET, SEGMENTATION = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.66.4"
#: beginnings of SOP class UIDs, the longest first where one begins with another
KINDS = {
    STRUCTURE_SET: "structure set",
    SEGMENTATION: "segmentation",
    "1.2.840.10008.5.1.4.1.1.88.67": "dose report",
    "1.2.840.10008.5.1.4.1.1.88.59": "key object selection",
    "1.2.840.10008.5.1.4.1.1.88.": "structured report",
    "1.2.840.10008.5.1.4.1.1.7": "secondary capture",
    "1.2.840.10008.5.1.4.1.1.11.": "presentation state",
    "1.2.840.10008.5.1.4.1.1.104.": "document",
    "1.2.840.10008.5.1.4.1.1.66.1": "registration",
    "1.2.840.10008.5.1.4.1.1.66.3": "registration",
    "1.2.840.10008.5.1.4.1.1.66.5": "surface segmentation",
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
    "1.2.840.10008.5.1.4.1.1.481.": "radiotherapy object",
}
UIDS = ("SOPInstanceUID", "SeriesInstanceUID")
DIRECTORY = "1.2.840.10008.1.3.10"
FEWEST_SLICES = 5
SAME = 1e-3  # of spacings in mm and of the cosines of an orientation
OVERLAP_MM = 5.0  # of two acquisitions of one stack


@dataclass(frozen=True)
class Slice:
    """One slice: a file, or a frame of a multi-frame file, and how its values are stored.

    Attributes
    ----------
    path, frame: file, and number of the frame in it from 0
    position: LPS in mm of the centre of the first voxel
    slope, intercept: HU = stored value * slope + intercept
    low, high: range of the stored values
    padding: lowest and highest stored value that mark what was not measured, or None
    acquisition, instance: numbers that the scanner gave
    """

    path: str
    frame: int
    position: tuple[float, float, float]
    slope: float
    intercept: float
    low: int
    high: int
    padding: tuple[int, int] | None
    acquisition: tuple
    instance: int


@dataclass(frozen=True)
class Stack:
    """Parallel slices of one size, in the order of their position along the normal.

    Attributes
    ----------
    slices: list of Slice
    axes: numpy.ndarray
        3×3, rows: unit vectors (LPS) along the columns' index, along the rows' index, and the normal.
    spacing: (x, y) in mm
    size: (columns, rows)
    """

    slices: list[Slice]
    axes: np.ndarray
    spacing: tuple[float, float]
    size: tuple[int, int]

    @property
    def positions(self) -> np.ndarray:
        """Shape (slices, 3), LPS in mm."""
        return np.array([piece.position for piece in self.slices])

    @property
    def along(self) -> np.ndarray:
        """Positions along the normal in mm, ascending."""
        return self.positions @ self.axes[2]


@dataclass
class Series:
    """A CT series.

    Attributes
    ----------
    uid, study, patient: str
        Series and study instance UID, patient ID.
    number: int
        Series number, -1 where there is none.
    files: list of str
        Files of the stacks.
    instances: dict
        File → SOP instance UID.
    burned_in: bool
        An image says that text is burned into its pixels.
    stacks: list of Stack
    """

    uid: str
    study: str
    patient: str
    number: int
    burned_in: bool = False
    stacks: list[Stack] = field(default_factory=list)
    instances: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        paths = dict.fromkeys(piece.path for stack in self.stacks for piece in stack.slices)
        return list(paths)

    @property
    def uids(self) -> set[str]:
        """Series and SOP instance UIDs, which a defaced series has new ones of."""
        return {self.uid, *self.instances.values()}

    @property
    def name(self) -> str:
        """For messages; tells nothing of the patient."""
        slices = sum(len(stack.slices) for stack in self.stacks)
        return (f"series {self.number}" if self.number >= 0 else "a series without number") + f" (CT, {slices} slices)"


@dataclass
class Tree:
    """What :func:`read_tree` finds.

    Attributes
    ----------
    series: list of Series
        CT series with at least one stack.
    others: list of (kind, path)
        Everything else that is DICOM.
    """

    series: list[Series]
    others: list[tuple[str, str]]

    def left_out(self, chosen: Series, taken: Iterable[str] = ()) -> list[str]:
        """What is in the tree besides the chosen series and the files taken along, for a person to read."""
        kinds = Counter(kind for kind, path in self.others if path not in set(taken))
        texts = [f"{kind} ({count})" for kind, count in sorted(kinds.items())]
        return [*(series.name for series in self.series if series is not chosen), *texts]


def read_tree(folder: str | os.PathLike, progress: Callable[[float, str], None] = lambda fraction, text: None) -> Tree:
    """Look at the headers of all DICOM files below a folder. Hidden files and folders are passed over.

    Raises
    ------
    InputError
        when a DICOM file is cut short or damaged, or two different images share one SOP instance UID
    """
    return tree_of(_files_below(Path(folder)), progress)


@quietly()
def tree_of(paths: list[str], progress: Callable[[float, str], None] = lambda fraction, text: None) -> Tree:
    """As :func:`read_tree`, of these files."""
    images: dict[tuple[str, str], list[tuple[str, pydicom.Dataset]]] = {}
    others, seen = [], {}
    for number, path in enumerate(paths, 1):
        if number % 50 == 0:
            progress(number / len(paths), "Looking at the files")
        try:
            header = dicom_header(path, TREE_TAGS)
        except OSError as error:
            raise InputError(
                f"A file cannot be read (number {number} of the {len(paths)} files by name: {error.strerror}); "
                "check that all of the folder is there and may be read."
            ) from error
        kind = kind_of(header) if header else ""
        if header is None or header and not kind and not all(header.get(name) for name in UIDS):
            raise InputError(
                f"A DICOM file is truncated or damaged (number {number} of the {len(paths)} files by name); "
                "copy the series again."
            )
        if not header or header.get("file_meta") and header.file_meta.get("MediaStorageSOPClassUID") == DIRECTORY:
            continue
        uid = str(header.get("SOPInstanceUID", ""))
        if uid and uid in seen:
            _check_copy(seen[uid], path)
            others.append(("copy", path))
        elif kind:
            others.append((kind, path))
        else:
            images.setdefault((str(header.get("StudyInstanceUID", "")), str(header.SeriesInstanceUID)), []).append(
                (path, header)
            )
        seen.setdefault(uid, path)
    series = []
    for members in images.values():
        found, left = _series(members)
        others += left
        series += [found] if found.stacks else []
    return Tree(sorted(series, key=lambda one: (one.number, one.uid)), others)


def choose_series(tree: Tree, which: str = "") -> Series:
    """The one CT series of a tree, or the one with this number or UID.

    Raises
    ------
    InputError
        when there is none, or several and it is not said which
    """
    found = [one for one in tree.series if which in ("", str(one.number), one.uid)]
    if len(found) == 1:
        return found[0]
    if not tree.series:
        raise InputError("The folder holds no CT series with slices that say where they lie; choose another one.")
    names = [one.name for one in tree.series[:10]] + [f"{len(tree.series) - 10} more"] * (len(tree.series) > 10)
    if not found:
        raise InputError(f"The folder holds no such series; it has {', '.join(names)}.")
    by = "number" if len({one.number for one in found}) == len(found) else "series instance UID"
    raise InputError(f"The folder holds {len(found)} CT series: {', '.join(names)}; say which one, by its {by}.")


def _files_below(folder: Path) -> list[str]:
    files = []
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        files += [os.path.join(place, name) for name in sorted(names) if not name.startswith(".")]
    return files


def kind_of(header: pydicom.Dataset) -> str:
    """What a file is when it is no slice of a CT; empty for a slice."""
    sop_class = str(header.get("SOPClassUID", ""))
    for start, kind in KINDS.items():
        if sop_class.startswith(start):
            return kind
    if not is_image(header):
        return "object of another kind"
    if sop_class not in CT_IMAGES or header.get("Modality", "CT") != "CT":
        return "image of another modality"
    if "LOCALIZER" in [str(value).upper() for value in _values(header.get("ImageType"))]:
        return "scout"
    if int(header.get("SamplesPerPixel") or 1) > 1 or header.get("PhotometricInterpretation") != "MONOCHROME2":
        return "capture"
    return ""


def _values(value) -> list:
    """The values of an attribute, whether it has none, one or many."""
    return [] if value is None else [value] if isinstance(value, str | int | float) else list(value)


def _check_copy(first: str, second: str) -> None:
    import pydicom

    if pydicom.dcmread(first) != pydicom.dcmread(second):
        raise InputError(
            "Two files have one SOP instance UID but differ: remove the wrong one, or deface them one after the other."
        )


def _series(members: list[tuple[str, pydicom.Dataset]]) -> tuple[Series, list[tuple[str, str]]]:
    """A series with its stacks, and what does not fit into any."""
    header = members[0][1]
    uids = (str(header.get(name, "") or "") for name in ("SeriesInstanceUID", "StudyInstanceUID", "PatientID"))
    series = Series(*uids, series_number(header))
    groups: list[tuple[tuple, list[Slice]]] = []
    left = []
    for path, header in members:
        try:
            pieces = _slices(path, header)
        except (AttributeError, LookupError, TypeError, ValueError):
            left.append(("picture without a place", path))
            continue
        series.instances[path] = str(header.SOPInstanceUID)
        series.burned_in |= header.get("BurnedInAnnotation") == "YES"
        for geometry, piece in pieces:
            group = next((g for known, g in groups if _same(known, geometry)), None)
            if group is None:
                groups.append((geometry, group := []))
            group.append(piece)
    for (size, spacing, orientation), pieces in groups:
        row, column = orientation[:3], orientation[3:]
        axes = np.array([row, column, np.cross(row, column)])
        for stack in _repeats(_acquisitions(pieces, axes[2]), axes[2]):
            if len({round(float(np.dot(piece.position, axes[2])), 2) for piece in stack}) < FEWEST_SLICES:
                left += [("slice of a stack of too few", path) for path in dict.fromkeys(piece.path for piece in stack)]
            else:
                stack.sort(key=lambda piece: (float(np.dot(piece.position, axes[2])), piece.instance))
                series.stacks.append(Stack(stack, axes, spacing, size))
    kept = set(series.files)
    if any(path in kept for _, path in left):
        raise InputError("A multi-frame image holds frames that belong to no stack; export them as another file.")
    return series, left


def _same(a: tuple, b: tuple) -> bool:
    return a[0] == b[0] and np.abs(np.subtract(a[1], b[1])).max() < SAME and np.abs(a[2] - b[2]).max() < SAME


def _slices(path: str, header: pydicom.Dataset) -> list[tuple[tuple, Slice]]:
    """Each frame of a file with its geometry: size, spacing and orientation."""
    size = int(header.Columns), int(header.Rows)
    bits, signed = int(header.get("BitsStored") or header.BitsAllocated), int(header.get("PixelRepresentation", 0))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    acquisition = tuple(str(header.get(name, "")) for name in ("AcquisitionNumber", "TemporalPositionIndex"))
    if "RescaleSlope" not in header and "ModalityLUTSequence" in header:
        raise ValueError("a look-up table in place of a rescale")
    found = []
    for frame, parts in enumerate(_frames(header)):
        position, orientation, (down, across) = (
            tuple(float(value) for value in parts[name])
            for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        )
        slope, intercept = float(parts.get("RescaleSlope", 1) or 1), float(parts.get("RescaleIntercept", 0) or 0)
        axes = np.reshape(orientation, (2, 3))
        usable = np.isfinite([*position, slope, intercept]).all() and min(down, across) > 0
        if not usable or not np.allclose(axes @ axes.T, np.eye(2), atol=0.01):
            raise ValueError("no place")
        axes[0] /= np.linalg.norm(axes[0])
        axes[1] -= (axes[0] @ axes[1]) * axes[0]
        axes[1] /= np.linalg.norm(axes[1])
        piece = Slice(
            path, frame, position, slope, intercept, low, high, _padding(header),
            (*acquisition, parts.get("TemporalPositionIndex")), _number(header) + frame,
        )  # fmt: skip
        found.append(((size, (across, down), axes.ravel()), piece))
    return found


def _padding(header: pydicom.Dataset) -> tuple[int, int] | None:
    """Stored values that mark what was not measured, read as signed or unsigned as the pixels are."""
    values = [header.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    values = [value for value in values if isinstance(value, int)]
    size = 2 ** int(header.BitsAllocated)
    values = [value % size for value in values]
    if header.get("PixelRepresentation", 0):
        values = [value - size if value >= size // 2 else value for value in values]
    return (min(values), max(values)) if values else None


def _number(header: pydicom.Dataset) -> int:
    try:
        return int(header.InstanceNumber)
    except (AttributeError, TypeError, ValueError):
        return 0


def _frames(header: pydicom.Dataset) -> list[dict]:
    """What places and rescales each frame of a file."""
    names = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
    count = int(header.get("NumberOfFrames") or 1)
    whole = {name: header[name].value for name in names if name in header}
    if "PerFrameFunctionalGroupsSequence" not in header:
        if count > 1:
            raise ValueError("frames without a place")
        return [whole]
    shared = _gathered(header.get("SharedFunctionalGroupsSequence", [None])[0])
    groups = header.PerFrameFunctionalGroupsSequence
    if len(groups) != count:
        raise ValueError("frames without a place")
    return [{**whole, **shared, **_gathered(group)} for group in groups]


def _gathered(group: pydicom.Dataset | None) -> dict:
    """The attributes of one item of the functional groups."""
    found = {}
    for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence",
                 "PixelValueTransformationSequence", "FrameContentSequence"):  # fmt: skip
        if group is not None and name in group and len(group[name].value):
            found.update({element.keyword: element.value for element in group[name].value[0]})
    return found


def _acquisitions(pieces: list[Slice], normal: np.ndarray) -> list[list[Slice]]:
    """An acquisition that covers part of the stretch of another one is a stack of its own."""
    stacks: dict[tuple, list[Slice]] = {}
    for piece in pieces:
        stacks.setdefault(piece.acquisition, []).append(piece)
    if len(stacks) == 1:
        return [pieces]
    ranges = []
    for stack in stacks.values():
        along = sorted(float(np.dot(piece.position, normal)) for piece in stack)
        ranges.append((along[0], along[-1]))
    ranges.sort()
    overlap = any(after[0] < before[1] - OVERLAP_MM or after == before for before, after in zip(ranges, ranges[1:]))
    return list(stacks.values()) if overlap else [pieces]


def _repeats(stacks: list[list[Slice]], normal: np.ndarray) -> list[list[Slice]]:
    """Where every place was scanned the same number of times, each time is a stack of its own."""
    found = []
    for pieces in stacks:
        places: dict[float, list[Slice]] = {}
        for piece in sorted(pieces, key=lambda piece: piece.instance):
            places.setdefault(round(float(np.dot(piece.position, normal)), 2), []).append(piece)
        often = {len(there) for there in places.values()}
        found += [list(once) for once in zip(*places.values())] if len(often) == 1 else [pieces]
    return found
