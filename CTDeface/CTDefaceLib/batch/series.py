"""The DICOM series in the folders of a batch: each CT series is one scan, wherever its files lie."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..dicom.files import (
    CT,
    OTHER_IMAGES,
    TREE_TAGS,
    can_be_stacked,
    dicom_header,
    is_image,
    kind_of,
    quietly,
    series_number,
)
from ..dicom.pseudonyms import who
from ..dicom.tree import FEWEST_SLICES
from ..patience import in_time
from .found_scan import FoundScan, joined

if TYPE_CHECKING:
    import pydicom


@dataclass
class Portion:
    """The images of one series in one folder.

    Attributes
    ----------
    folder: str
    patient, study, series: str
        Patient ID, study and series instance UID.
    number: int
        Series number, -1 where there is none.
    person: str
        What tells the patient from others, see :func:`.dicom.pseudonyms.who`.
    sizes: dict
        SOP instance UID → size of its file in bytes.
    frames, others: int
        How many slices of a CT there are, or of what else was asked for, and how many of another kind that can hold
        one.
    modality: str
        As in DICOM, of the former.
    """

    folder: str
    patient: str
    study: str
    series: str
    number: int
    person: str
    sizes: dict[str, int] = field(default_factory=dict)
    frames: int = 0
    others: int = 0
    modality: str = ""


def dicom_scans(
    root: Path,
    folders: list[str],
    known: Callable[[str], list[FoundScan]],
    others: Collection[str] = (),
    not_read: Callable[[str, OSError], None] = lambda folder, error: None,
) -> list[FoundScan]:
    """The scans in folders with DICOM images, those of one folder side by side.

    A series whose files lie in several folders is one scan; where each of them holds all of it, each is a scan, which
    are the same. A folder without a CT series that shares it with others is a scan as a whole, to be read or refused.

    Parameters
    ----------
    root: Path
        That the folders are below.
    folders: list of str
    known: callable
        What an earlier run found at a path; folders that have not changed since are not read again.
    others: collection of str
        SOP classes of images besides those of a CT whose series are scans, too.
    not_read: callable
        Told of folders that could not be read in time, and have no scans for that.
    """
    stamps = {folder: stamp_of(root / folder) for folder in folders}
    unchanged = {folder: scans for folder in folders if (scans := known(folder)) and scans[0].stamp == stamps[folder]}
    portions: dict[str, list[Portion]] = {}
    too_slow = set()

    def read_again(folder: str) -> None:
        try:
            portions[folder] = _portions(root, folder, others)
        except TimeoutError as error:
            not_read(folder, error)
            portions[folder] = []
            too_slow.add(folder)

    for folder in folders:
        if folder not in unchanged:
            read_again(folder)
    read = {portion.series for found in portions.values() for portion in found}
    for folder, scans in unchanged.items() if read else ():  # a series that was whole may go on elsewhere now
        if read & ({scan.series for scan in scans} - {""} or {_first_series(root / folder)}):
            read_again(folder)
    series: dict[tuple, list[Portion]] = {}
    for portion in (portion for found in portions.values() for portion in found):
        series.setdefault((portion.patient, portion.study, portion.series), []).append(portion)
    with_ct = {portion.folder for found in portions.values() for portion in found if portion.frames}
    split = [parts for parts in series.values() if _is_split(parts, with_ct)]
    taken = {(part.folder, part.patient, part.study, part.series) for parts in split for part in parts}
    by_folder: dict[str, list[FoundScan]] = {}
    for folder in folders:
        if folder not in portions or folder in too_slow:
            by_folder[folder] = [] if folder in too_slow else unchanged[folder]
            continue
        own = [p for p in portions[folder] if (folder, p.patient, p.study, p.series) not in taken]
        is_shared = len(own) < len(portions[folder])
        by_folder[folder] = _in_folder(folder, own, _of_all([stamps[folder], ""]) if is_shared else stamps[folder],
                                       is_shared)  # fmt: skip
    places = {scan.place for scans in by_folder.values() for scan in scans}
    for parts, place in zip(split, _common_places(split, places)):
        first, paths = parts[0], [part.folder for part in parts]
        sizes = {uid: size for part in parts for uid, size in part.sizes.items()}
        stamp = _of_all([stamps[path] for path in paths])
        by_folder[paths[0]].append(_scan(place, joined(paths), stamp, first.series, first, sizes))
    return [scan for folder in folders for scan in by_folder[folder]]


def stamp_of(path: Path) -> str:
    """A text that changes when a file, or one in a folder, gets another name, size or time."""
    try:
        stats = in_time(_sizes_and_times, path)
    except OSError:
        return "unreadable"
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:16]


def _sizes_and_times(path: Path) -> list[tuple[str, int, int]]:
    files = sorted(os.scandir(path), key=lambda e: e.name) if path.is_dir() else [path]
    return [(file.name, *_size_and_time(file)) for file in files]


def _size_and_time(file: os.DirEntry | Path) -> tuple[int, int]:
    try:
        stat = file.stat()
    except OSError:  # a link to nothing, or to itself
        stat = os.lstat(file)
    return stat.st_size, stat.st_mtime_ns


def header_of(path: str | os.PathLike) -> pydicom.Dataset | None:
    """As :func:`.dicom.files.dicom_header`, of the tags that tell series apart; None for what cannot be read, too."""
    try:
        return dicom_header(path, TREE_TAGS)
    except OSError:
        return None


def _of_all(stamps: list[str]) -> str:
    return hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]


def _is_split(parts: list[Portion], with_ct: set[str]) -> bool:
    """Whether a series lies in several folders, of which not each holds all of it.

    It is of a CT, or of another kind that can hold one, in a folder that has none.
    """
    frames = sum(part.frames for part in parts)
    if not frames and any(part.folder not in with_ct for part in parts):
        frames = sum(part.others for part in parts)
    return bool(parts[0].series) and frames >= FEWEST_SLICES and len({frozenset(part.sizes) for part in parts}) > 1


def _images(folder: Path) -> list[str]:
    try:
        return sorted(e.path for e in os.scandir(folder) if os.path.isfile(e.path) and not e.name.startswith("."))
    except OSError:
        return []


def _first_series(folder: Path) -> str:
    """UID of the first series that is met in a folder."""
    for path in _images(folder):
        with suppress(TimeoutError):
            header = in_time(header_of, path)
            if header is not None and is_image(header):
                return str(header.get("SeriesInstanceUID") or "")
    return ""


@quietly()
def _portions(root: Path, folder: str, others: Collection[str]) -> list[Portion]:
    """What a folder holds of each series."""
    found: dict[tuple, Portion] = {}
    for path in in_time(_images, root / folder):
        header = in_time(header_of, path)
        if header is None or not is_image(header):
            continue
        try:
            _add(found, folder, header, os.path.getsize(path), others)
        except Exception:  # pydicom meets odd values with errors of many kinds; who reads the scan says so
            continue
    return list(found.values())


def _add(found: dict[tuple, Portion], folder: str, header: pydicom.Dataset, size: int, others: Collection[str]) -> None:
    """Add an image to the portion of its series."""
    names = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    patient, study, series, instance = (str(header.get(name, "") or "") for name in names)
    kind, frames = kind_of(header, others), int(header.get("NumberOfFrames") or 1)
    new = Portion(folder, patient, study, series, series_number(header), who(header))
    portion = found.setdefault((patient, study, series), new)
    portion.sizes[instance] = size
    if kind in (CT, *OTHER_IMAGES.values()):
        portion.frames += frames
        portion.modality = kind
    elif can_be_stacked(header, kind):
        portion.others += frames


def _in_folder(folder: str, portions: list[Portion], stamp: str, is_shared: bool) -> list[FoundScan]:
    """The scans that lie in one folder alone; ``is_shared`` with parts of others."""
    named = [portion for portion in portions if portion.series]
    chosen = [portion for portion in named if portion.frames >= FEWEST_SLICES] or [
        portion for portion in named if portion.others >= FEWEST_SLICES
    ]
    if not is_shared and (len(portions) < 2 or not chosen):
        sizes = {uid: size for portion in portions for uid, size in portion.sizes.items()}
        return [_scan(folder, folder, stamp, "", portions[0] if portions else None, sizes)]
    often = Counter(portion.number for portion in chosen)
    return [
        _scan(folder if len(chosen) == 1 and not is_shared else f"{folder}#{_name(portion, often)}",
              folder, stamp, portion.series, portion, portion.sizes)
        for portion in chosen
    ]  # fmt: skip


def _name(portion: Portion, often: Counter[int]) -> str:
    return str(portion.number) if portion.number >= 0 and often[portion.number] == 1 else portion.series


def _common_places(split: list[list[Portion]], places: set[str]) -> list[str]:
    """The place of each series in several folders: that above all of them, with its number where that is another's."""
    above = [os.path.commonpath([part.folder for part in parts]).replace(os.sep, "/") or "." for parts in split]
    often = {place: Counter(parts[0].number for parts, there in zip(split, above) if there == place) for place in above}
    return [
        place if often[place].total() == 1 and place not in places else f"{place}#{_name(parts[0], often[place])}"
        for parts, place in zip(split, above)
    ]


def _scan(place: str, path: str, stamp: str, series: str, portion: Portion | None, sizes: dict[str, int]) -> FoundScan:
    instances = sorted(sizes.items())
    if portion is None or not instances[0][0]:
        return FoundScan(place, path, stamp, series)
    identity = hashlib.sha256(repr(instances).encode()).hexdigest()
    return FoundScan(place, path, stamp, series, identity, portion.person, portion.study, modality=portion.modality)
