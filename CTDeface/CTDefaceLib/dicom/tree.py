"""What lies in a DICOM folder and its sub-folders: the CT series, stacked by geometry, and everything else, by kind.

File names mean nothing here. A series can hold several stacks (two acquisitions, a reformat beside the slices), a stack
can be tilted, uneven or have slices at one place; :mod:`.dicom.stack` handles that.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..progress import Progress, silent
from .files import TREE_TAGS, Slice, dicom_header, is_openable, kind_of, quietly, read_dataset, series_number, slices_of

if TYPE_CHECKING:
    import pydicom

UIDS = ("SOPInstanceUID", "SeriesInstanceUID")
"""What an image has to have to be placed in a series."""

DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR."""

FEWEST_SLICES = 5
"""At different places; a stack of fewer is a scout or a picture, not a head."""

SAME = 1e-3
"""Spacings (mm) and cosines of an orientation that differ by less than this are the same, rounded differently."""

OVERLAP_MM = 5.0
"""Two acquisitions of one stack may overlap by this; by more, each is a stack of its own."""


@dataclass(frozen=True)
class Stack:
    """Parallel slices of one size, in the order of their position along the normal.

    Attributes
    ----------
    slices: list of Slice
    axes: numpy.ndarray
        3×3, rows: unit vectors (LPS) along the columns' index, along the rows' index, and the normal.
    spacing: tuple
        (x, y) in mm.
    size: tuple
        (columns, rows).
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
    """A series of images: of a CT, or of what else was asked for.

    Attributes
    ----------
    uid, study, patient: str
        Series and study instance UID, patient ID.
    number: int
        Series number, -1 where there is none.
    instances: dict
        File → SOP instance UID.
    burned_in: bool
        An image says that text is burned into its pixels.
    stacks: list of Stack
    modality, frame: str
        CT, MR, PT, …, and the UID of the frame of reference.
    """

    uid: str
    study: str
    patient: str
    number: int
    burned_in: bool = False
    stacks: list[Stack] = field(default_factory=list)
    instances: dict[str, str] = field(default_factory=dict)
    modality: str = "CT"
    frame: str = ""

    @property
    def files(self) -> list[str]:
        """Files of the stacks, each once."""
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
        return (
            f"series {self.number}" if self.number >= 0 else "a series without number"
        ) + f" ({self.modality}, {slices} slices)"


@dataclass
class Tree:
    """What :func:`read_tree` finds.

    Attributes
    ----------
    series: list of Series
        CT series with at least one stack, and those of other modalities that were asked for.
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


def read_tree(folder: str | os.PathLike, progress: Progress = silent, others: Collection[str] = ()) -> Tree:
    """Look at the headers of all DICOM files below a folder. Hidden files and folders are passed over.

    Parameters
    ----------
    folder: path
    others: collection of str
        SOP classes of images besides those of a CT that make series, too.

    Raises
    ------
    InputError
        When a DICOM file is cut short or damaged, or two different images share one SOP instance UID.
    """
    return tree_of(_files_below(Path(folder)), progress, others)


@quietly()
def tree_of(paths: list[str], progress: Progress = silent, others: Collection[str] = ()) -> Tree:
    """As :func:`read_tree`, of these files."""
    images: dict[tuple[str, str], list[tuple[str, pydicom.Dataset]]] = {}
    rest: list[tuple[str, str]] = []
    seen: dict[str, str] = {}
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
        kind = kind_of(header, others) if header else ""
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
            rest.append(("copy", path))
        elif kind:
            rest.append((kind, path))
        else:
            images.setdefault((str(header.get("StudyInstanceUID", "")), str(header.SeriesInstanceUID)), []).append(
                (path, header)
            )
        seen.setdefault(uid, path)
    series = []
    for members in images.values():
        found, left = _series(members)
        rest += left
        series += [found] if found.stacks else []
    return Tree(sorted(series, key=lambda one: (one.number, one.uid)), rest)


def choose_series(tree: Tree, which: str = "") -> Series:
    """The one CT series of a tree, or the one with this number or UID.

    Raises
    ------
    InputError
        When there is none, or several and it is not said which.
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
    return [path for path in files if is_openable(path)]


def _check_copy(first: str, second: str) -> None:
    one, other = read_dataset(first), read_dataset(second)
    try:
        same = one == other
    except Exception:  # pydicom meets values that it cannot decode with errors of many kinds
        same = False
    if not same:
        raise InputError(
            "Two files have one SOP instance UID but differ: remove the wrong one, or deface them one after the other."
        )


def _series(members: list[tuple[str, pydicom.Dataset]]) -> tuple[Series, list[tuple[str, str]]]:
    """A series with its stacks, and what does not fit into any."""
    header = members[0][1]
    names = ("SeriesInstanceUID", "StudyInstanceUID", "PatientID", "FrameOfReferenceUID")
    uid, study, patient, frame = (str(header.get(name, "") or "") for name in names)
    series = Series(uid, study, patient, series_number(header), frame=frame)
    series.modality = str(header.get("Modality", "") or "CT")
    groups: list[tuple[tuple, list[Slice]]] = []
    left = []
    for path, header in members:
        try:
            placed = slices_of(path, header)
        except (AttributeError, LookupError, TypeError, ValueError):
            left.append(("picture without a place", path))
            continue
        series.instances[path] = str(header.SOPInstanceUID)
        series.burned_in |= header.get("BurnedInAnnotation") == "YES"
        for geometry, piece in placed:
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
    found: list[list[Slice]] = []
    for pieces in stacks:
        places: dict[float, list[Slice]] = {}
        for piece in sorted(pieces, key=lambda piece: piece.instance):
            places.setdefault(round(float(np.dot(piece.position, normal)), 2), []).append(piece)
        often = {len(there) for there in places.values()}
        found += [list(once) for once in zip(*places.values())] if len(often) == 1 else [pieces]
    return found
