"""What lies in a DICOM folder and its sub-folders: the CT series, stacked by geometry, and everything else, by kind.

File names and folders mean nothing here: a series is one wherever its files lie. It can hold several stacks (two
acquisitions, a reformat beside the slices), a stack can be tilted, uneven or have slices at one place;
:mod:`.dicom.stack` handles that.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..progress import Progress, silent
from ..walk import files_below
from .files import (
    CT,
    MAY_HOLD_CT,
    OTHER_IMAGES,
    TREE_TAGS,
    UIDS,
    Slice,
    can_be_stacked,
    dicom_header,
    is_dicom_file,
    kind_of,
    quietly,
    read_dataset,
    series_number,
    slices_of,
)

if TYPE_CHECKING:
    import pydicom

DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP class of a DICOMDIR."""

FEWEST_SLICES = 5
"""At different places; a stack of fewer is a scout or a picture, not a head."""

SAME = 1e-3
"""Spacings (mm) and cosines of an orientation that differ by less than this are the same, rounded differently."""

NO_CT_IMAGES = "The images are no CT images by their kind ({}), but carry positions and values like those of one."

BURNED_IN = "The images say that text is burned into their pixels: look at them before you share them."

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
    """A series of images: of a CT, of another kind that can hold one, or of what else was asked for.

    Attributes
    ----------
    uid, study, patient: str
        Series and study instance UID, patient ID.
    number: int
        Series number, -1 where there is none.
    kind: str
        ``CT``, or what its images are otherwise, see :func:`.files.can_be_stacked`.
    problem: str
        Why it cannot be read; empty where it can.
    instances: dict
        File → SOP instance UID.
    burned_in: bool
        An image says that text is burned into its pixels.
    stacks: list of Stack
    frame: str
        UID of the frame of reference.
    """

    uid: str
    study: str
    patient: str
    number: int
    kind: str = CT
    problem: str = ""
    burned_in: bool = False
    stacks: list[Stack] = field(default_factory=list)
    instances: dict[str, str] = field(default_factory=dict)
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
        number = f"series {self.number}" if self.number >= 0 else "a series without number"
        return f"{number} ({self.kind}, {slices} slices)"

    @property
    def modality(self) -> str:
        """CT where its values are Hounsfield units, else MR or PT."""
        return self.kind if self.kind in OTHER_IMAGES.values() else CT

    @property
    def notes(self) -> list[str]:
        """What there is to say about it, for the report."""
        return [NO_CT_IMAGES.format(self.kind)] * (self.kind in MAY_HOLD_CT) + [BURNED_IN] * self.burned_in


@dataclass
class Tree:
    """What :func:`read_tree` finds.

    Attributes
    ----------
    series: list of Series
        Those of a CT with at least one stack, then those of other kinds or modalities.
    others: list of (kind, path)
        Everything else that is DICOM.
    """

    series: list[Series]
    others: list[tuple[str, str]]

    def left_out(self, chosen: Series | None, taken: Iterable[str] = ()) -> list[str]:
        """What is in the tree besides the chosen series and the files taken along, for a person to read."""
        left = self.kinds_of({path for _, path in self.others} - set(taken))
        return [*(series.name for series in self.series if series is not chosen), *left]

    def kinds_of(self, paths: Iterable[str]) -> list[str]:
        """What some of its other files are, for a person to read."""
        kinds = Counter(kind for kind, path in self.others if path in set(paths))
        return [f"{kind} ({count})" for kind, count in sorted(kinds.items())]


def read_tree(path: str | os.PathLike, progress: Progress = silent, others: Collection[str] = ()) -> Tree:
    """Look at the headers of all DICOM files below a folder, or beside and below a DICOMDIR; or of one file.

    Links to folders are followed, each real folder once. Hidden files and folders are passed over.

    Parameters
    ----------
    path: path
    others: collection of str
        SOP classes of images besides those of a CT that make series, too.

    Raises
    ------
    InputError
        When a folder cannot be looked into, or a DICOM file is cut short or damaged.
    """
    path = Path(path)
    if path.is_file() and path.name.upper() != "DICOMDIR":
        tree = tree_of([str(path)], progress, others)
        if not tree.series:
            raise InputError("This is a single DICOM file; choose the folder with all slices of the series.")
        return tree
    return tree_of(_files_below(path.parent if path.is_file() else path), progress, others)


def is_dicom(path: Path) -> bool:
    """Whether a path is what :func:`read_tree` reads: a folder, or a file that begins as DICOM files do."""
    return path.is_dir() or is_dicom_file(path)


@quietly()
def tree_of(paths: list[str], progress: Progress = silent, others: Collection[str] = ()) -> Tree:
    """As :func:`read_tree`, of these files."""
    groups: dict[tuple, _Members] = {}
    rest: list[tuple[str, str]] = []
    for number, path, kind, header in _headers(paths, progress, others):
        if not can_be_stacked(header, kind):
            rest.append((kind, path))
            continue
        key = str(header.get("StudyInstanceUID") or ""), str(header.SeriesInstanceUID), kind
        group = groups.setdefault(key, _Members(kind))
        first = group.images.setdefault(str(header.SOPInstanceUID), (number, path, header))
        if first[1] != path:
            rest.append(("copy", path))
            if not group.problem and not _are_copies(first[1], path):
                group.problem = DIFFERING_COPIES.format(first[0], number, len(paths))
    series = []
    for group in groups.values():
        found, left = _series(group)
        rest += left
        series += [found] if found.stacks else []
    return Tree(sorted(series, key=lambda one: (one.kind != CT, one.number, one.uid)), rest)


DIFFERING_COPIES = (
    "Two files of this series have one SOP instance UID but differ (numbers {} and {} of the {} files by name): remove "
    "the wrong one."
)

SEVERAL_PATIENTS = "The images of this series are of several patients by their ID: put those of one into a folder."


@dataclass
class _Members:
    """Images of a series: number, path and header by SOP instance UID, and why the series cannot be read."""

    kind: str
    images: dict[str, tuple[int, str, pydicom.Dataset]] = field(default_factory=dict)
    problem: str = ""


def _headers(
    paths: list[str], progress: Progress, others: Collection[str]
) -> Iterator[tuple[int, str, str, pydicom.Dataset]]:
    """Number, path, kind and header of the files that are DICOM, but no DICOMDIR."""
    import pydicom

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
        placed = header and all(header.get(name) for name in UIDS)
        if header is None or not placed and kind in (CT, *OTHER_IMAGES.values()):
            raise InputError(
                f"A DICOM file is truncated or damaged (number {number} of the {len(paths)} files by name); "
                "copy the series again."
            )
        meta = header.get("file_meta") or pydicom.Dataset()
        if header and meta.get("MediaStorageSOPClassUID") != DIRECTORY:
            yield number, path, kind, header


def choose_series(tree: Tree, which: str = "") -> Series:
    """The one CT series of a tree, or the one with this number or UID.

    Another kind of series that can hold a CT is only chosen where no CT series fits.

    Raises
    ------
    InputError
        When there is none, or several and it is not said which; or it holds two images of one UID that differ.
    """
    found = [one for one in tree.series if which in ("", str(one.number), one.uid)]
    found = [one for one in found if one.kind == CT] or found
    if len(found) == 1:
        if found[0].problem:
            raise InputError(found[0].problem)
        return found[0]
    if not tree.series and not tree.others:
        raise InputError("The folder holds no DICOM images; choose the folder with the slices of a CT series.")
    if not tree.series:
        raise InputError(
            f"The folder holds no CT series with slices that say where they lie, only {_listed(tree.left_out(None))}; "
            "choose another one."
        )
    if not found:
        raise InputError(f"The folder holds no such series; it has {_listed([one.name for one in tree.series])}.")
    by = "number" if len({one.number for one in found}) == len(found) else "series instance UID"
    names = _listed([one.name for one in found])
    raise InputError(
        f"The folder holds {len(found)} {found[0].kind} series: {names}; say which one, by its {by} (--series)."
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10] + [f"{len(names) - 10} more"] * (len(names) > 10))


def _files_below(folder: Path) -> list[str]:
    def refuse(path: str, error: OSError | None) -> None:
        if error is not None:
            raise InputError(
                f"A folder below the input cannot be looked into ({error.strerror}); check that all of it may be read."
            ) from error

    return [os.path.join(place, name) for place, names in files_below(folder, problem=refuse) for name in names]


def _are_copies(first: str, second: str) -> bool:
    try:
        return bool(read_dataset(first) == read_dataset(second))
    except Exception:  # pydicom meets damaged files, and values that it cannot decode, with errors of many kinds
        return False


def _series(members: _Members) -> tuple[Series, list[tuple[str, str]]]:
    """A series with its stacks, and what does not fit into any."""
    images = [(path, header) for _, path, header in members.images.values()]
    header = images[0][1]
    names = ("SeriesInstanceUID", "StudyInstanceUID", "PatientID", "FrameOfReferenceUID")
    uid, study, patient, frame = (str(header.get(name, "") or "") for name in names)
    patients = {str(header.get("PatientID") or "") for _, header in images} - {""}
    problem = members.problem or (SEVERAL_PATIENTS if len(patients) > 1 else "")
    series = Series(uid, study, patient, series_number(header), members.kind, problem, frame=frame)
    groups: list[tuple[tuple, list[Slice]]] = []
    left = []
    for path, header in images:
        try:
            placed = slices_of(path, header)
        except (AttributeError, LookupError, TypeError, ValueError):
            left.append(("picture without a place" if members.kind == CT else members.kind, path))
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
