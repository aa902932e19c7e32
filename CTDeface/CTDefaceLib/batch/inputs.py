"""Find the scans of a batch: volumes and DICOM series in a folder with all its sub-folders, or the rows of a table."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..dicom.files import CT, TREE_TAGS, dicom_header, is_image, kind_of, series_number
from ..dicom.tree import FEWEST_SLICES
from ..errors import InputError
from ..volume_io import IMAGE_IO, suffix

if TYPE_CHECKING:
    import pydicom

DICOM_ENDINGS = (".dcm", ".ima")
"""A file whose name ends so counts as DICOM even where its header cannot be read: then that is said of it."""

CHUNK = 1 << 20
"""How much of a file is read at once, in bytes."""


@dataclass(frozen=True)
class FoundScan:
    """A scan to deface.

    Attributes
    ----------
    place: str
        Tells scans apart: the path, of a DICOM series that shares its folder with others also ``#`` and its number.
    path: str
        Below the folder of the batch, or as the table gives it, with ``/``: a file or a folder with DICOM files.
    series: str
        Series instance UID, where the folder holds other images, too.
    stamp: str
        Changes when the files change: sizes and times.
    identity: str
        The same for the same scan at two places: of SOP instance UIDs and file sizes, or of the content of a file
        where another file has its size. Empty where it is the only one.
    patient: str
        Tells patients apart: of the table, the DICOM header or the ``sub-`` of a BIDS name; empty where nothing does.
    study: str
        Study instance UID, or the ``ses-`` of a BIDS name.
    output: str
        Name of the result that the table asks for, with ``/`` and without ending.
    """

    place: str
    path: str
    stamp: str
    series: str = ""
    identity: str = ""
    patient: str = ""
    study: str = ""
    output: str = ""


def find_scans(
    source: str | os.PathLike,
    ignore: tuple[Path, ...] = (),
    known: Callable[[str], list[FoundScan]] = lambda path: [],
) -> list[FoundScan]:
    """All scans below a folder, or of a CSV table, in the order of their places.

    Parameters
    ----------
    source: folder, or CSV file with the column ``input`` and, if wanted, ``patient`` and ``output``; paths in it are
        relative to the table's folder
    ignore: folders that are not searched
    known: what an earlier run found at a path, so that unchanged files need not be read again

    Raises
    ------
    InputError
        when there is no such folder or table, or the table is not usable
    """
    source, root = Path(source), root_of(source)
    if source.is_dir():
        paths = [(path, "", "") for path in _paths_in_tree(source, tuple(path.resolve() for path in ignore))]
    else:
        paths = _rows_of_table(source)
    found = [_scans_at(root, path, patient, output, known(path)) for path, patient, output in paths]
    return _identified(root, [scan for scans in found for scan in scans])


def root_of(source: str | os.PathLike) -> Path:
    """The folder that places are relative to; InputError where there is neither a folder nor a table."""
    source = Path(source)
    if source.is_dir():
        return source
    if source.is_file() and source.suffix.lower() == ".csv":
        return source.parent
    raise InputError("The input is neither a folder nor a CSV table; check its path.")


def _paths_in_tree(source: Path, ignore: tuple[Path, ...]) -> Iterator[str]:
    for folder, inner, names in os.walk(source):
        inner[:] = sorted(n for n in inner if not n.startswith(".") and Path(folder, n).resolve() not in ignore)
        names = sorted(name for name in names if not name.startswith("."))
        relative = PurePosixPath(*Path(folder).relative_to(source).parts)
        yield from (str(relative / name) for name in names if suffix(name) in IMAGE_IO)
        others = [Path(folder, name) for name in names if suffix(name) not in IMAGE_IO]
        if any(_is_dicom_image(path) for path in others):
            yield str(relative)


def _rows_of_table(table: Path) -> list[tuple[str, str, str]]:
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            dialect = csv.Sniffer().sniff(file.readline() or "input", delimiters=",;\t")
            file.seek(0)
            rows = [{str(k).strip().lower(): (v or "").strip() for k, v in row.items() if k} for row in
                    csv.DictReader(file, dialect=dialect)]  # fmt: skip
    except csv.Error:  # a single column has no delimiter
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = [{k.strip().lower(): (v or "").strip() for k, v in row.items()} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("The table cannot be read; save it as CSV in UTF-8.") from error
    rows = [row for row in rows if any(row.values())]
    if not rows or "input" not in rows[0]:
        raise InputError("The table has no column “input”, or no rows; its columns are input, patient and output.")
    found = []
    for number, row in enumerate(rows, 1):
        output = row.get("output", "").replace("\\", "/")
        output = output[: -len(suffix(output))] if suffix(output) in IMAGE_IO else output
        if not row["input"]:
            raise InputError(f"Row {number} of the table has no input.")
        if output and not is_safe_name(output):
            raise InputError(f"The output of row {number} of the table is no name below the output folder.")
        found.append((row["input"].replace("\\", "/"), row.get("patient", ""), output))
    for column, values in (("input", [row[0] for row in found]), ("output", [row[2] for row in found if row[2]])):
        name, times = Counter(os.path.normcase(value) for value in values).most_common(1)[0] if values else ("", 0)
        if times > 1:
            raise InputError(f"The table names one {column} {times} times; every row needs its own.")
    return found


def is_safe_name(name: str) -> bool:
    """Whether a relative name with ``/`` stays below its folder and can be a file name on every system."""
    parts = name.split("/")
    return all(part.strip(". ") and not part.startswith(".") and not re.search(r'[<>:"|?*\x00-\x1f]', part)
               for part in parts)  # fmt: skip


def _scans_at(root: Path, path: str, patient: str, output: str, known: list[FoundScan]) -> list[FoundScan]:
    """The scans at a path."""
    stamp = _stamp(root / path)
    if known and known[0].stamp == stamp:
        scans = known
    elif (root / path).is_dir():
        scans = _dicom_scans(root, path, stamp)
    else:
        found, study = _bids_entities(path)
        scans = [FoundScan(path, path, stamp, patient=found, study=study)]
    several = len(scans) > 1
    return [
        replace(
            scan,
            patient=patient or scan.patient,
            output=f"{output}-{scan.place.rpartition('#')[2]}" if output and several else output,
        )
        for scan in scans
    ]


def _stamp(path: Path) -> str:
    try:
        files = sorted(os.scandir(path), key=lambda e: e.name) if path.is_dir() else [path]
        stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError:
        return "unreadable"
    return hashlib.sha256(repr([s for s in stats]).encode()).hexdigest()[:16]


def _identified(root: Path, scans: list[FoundScan]) -> list[FoundScan]:
    """Files of one size get the hash of their content."""

    def size(scan: FoundScan) -> int:
        path = root / scan.path
        return path.stat().st_size if path.is_file() else -1

    sizes = [size(scan) for scan in scans]
    often = Counter(sizes)
    return [
        replace(scan, identity=_content(root / scan.path))
        if number >= 0 and often[number] > 1 and not scan.identity
        else scan
        for scan, number in zip(scans, sizes)
    ]


def _content(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


def _bids_entities(place: str) -> tuple[str, str]:
    def entity(name: str) -> str:
        found = re.findall(rf"(?:^|[/_]){name}-([A-Za-z0-9]+)", place)
        return found[-1] if found else ""

    return entity("sub"), entity("ses")


def _is_dicom_image(path: Path) -> bool:
    header = _header(path)
    if header is None:
        return path.suffix.lower() in DICOM_ENDINGS or (os.access(path, os.R_OK) and path.stat().st_size > 0)
    return is_image(header)


def _header(path: str | Path) -> pydicom.Dataset | None:
    try:
        return dicom_header(path, TREE_TAGS)
    except OSError:
        return None


def _dicom_scans(root: Path, path: str, stamp: str) -> list[FoundScan]:
    """The folder as a scan, or each CT series in it where it holds several series."""
    files = sorted(e.path for e in os.scandir(root / path) if e.is_file() and not e.name.startswith("."))
    series: dict[str, list[tuple[str, pydicom.Dataset]]] = {}
    for file in files:
        header = _header(file)
        if header is not None and is_image(header):
            series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((file, header))
    chosen = {uid: members for uid, members in series.items() if uid and _is_ct(members)}
    if len(series) < 2 or not chosen:
        members = [member for members in series.values() for member in members]
        return [_dicom_scan(path, path, stamp, "", members)]
    numbers = {uid: series_number(members[0][1]) for uid, members in chosen.items()}
    often = Counter(numbers.values())
    scans = []
    for uid, members in chosen.items():
        name = str(numbers[uid]) if numbers[uid] >= 0 and often[numbers[uid]] == 1 else uid
        scans.append(_dicom_scan(path if len(chosen) == 1 else f"{path}#{name}", path, stamp, uid, members))
    return scans


def _is_ct(members: list[tuple[str, pydicom.Dataset]]) -> bool:
    frames = sum(int(header.get("NumberOfFrames") or 1) for _, header in members if kind_of(header) == CT)
    return frames >= FEWEST_SLICES


def _dicom_scan(
    place: str, path: str, stamp: str, series: str, members: list[tuple[str, pydicom.Dataset]]
) -> FoundScan:
    instances = sorted((str(header.get("SOPInstanceUID", "")), os.path.getsize(file)) for file, header in members)
    if not instances or not instances[0][0]:
        return FoundScan(place, path, stamp, series)
    identity = hashlib.sha256(repr(instances).encode()).hexdigest()
    patient, study = (str(members[0][1].get(name, "") or "") for name in ("PatientID", "StudyInstanceUID"))
    return FoundScan(place, path, stamp, series, identity, patient, study)
