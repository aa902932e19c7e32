"""Find the scans of a batch: volumes and DICOM series in a folder with all its sub-folders, or the rows of a table."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from .errors import InputError
from .volume_io import IMAGE_IO, suffix

DICOM_ENDINGS = (".dcm", ".ima")
DICOM_TAGS = ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID", "Rows"]
CHUNK = 1 << 20


@dataclass(frozen=True)
class FoundScan:
    """A scan to deface.

    Attributes
    ----------
    place: str
        Path below the folder of the batch, or as the table gives it, with ``/``; a file or a folder with one series.
    stamp: str
        Changes when the files change: sizes and times.
    identity: str
        The same for the same scan at two places: of the SOP instance UIDs, or of the content of a file where another
        file has its size. Empty where it is the only one.
    patient: str
        Tells patients apart: of the table, the DICOM header or the ``sub-`` of a BIDS name; empty where nothing does.
    study: str
        Study instance UID, or the ``ses-`` of a BIDS name.
    output: str
        Name of the result that the table asks for, with ``/`` and without ending.
    """

    place: str
    stamp: str
    identity: str = ""
    patient: str = ""
    study: str = ""
    output: str = ""


def find_scans(
    source: str | os.PathLike,
    ignore: tuple[Path, ...] = (),
    known: Callable[[str], tuple[str, str, str, str] | None] = lambda place: None,
) -> list[FoundScan]:
    """All scans below a folder, or of a CSV table, in the order of their places.

    Parameters
    ----------
    source: folder, or CSV file with the column ``input`` and, if wanted, ``patient`` and ``output``; paths in it are
        relative to the table's folder
    ignore: folders that are not searched
    known: stamp, identity, patient and study of a place as found by an earlier run, so that unchanged files need not
        be read again

    Raises
    ------
    InputError
        when there is no such folder or table, or the table is not usable
    """
    source = Path(source)
    if source.is_dir():
        places = [(place, "", "") for place in _places_in_tree(source, tuple(path.resolve() for path in ignore))]
    elif source.is_file() and source.suffix.lower() == ".csv":
        places = _rows_of_table(source)
    else:
        raise InputError("The input is neither a folder nor a CSV table; check its path.")
    root = root_of(source)
    scans = [_look(root, place, patient, output, known(place)) for place, patient, output in places]
    return _identified(root, scans)


def root_of(source: str | os.PathLike) -> Path:
    """The folder that places are relative to."""
    source = Path(source)
    return source if source.is_dir() else source.parent


def _places_in_tree(source: Path, ignore: tuple[Path, ...]) -> Iterator[str]:
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


def _look(root: Path, place: str, patient: str, output: str, known: tuple | None) -> FoundScan:
    path = root / place
    stamp = _stamp(path)
    if known and known[0] == stamp:
        _, identity, found_patient, study = known
    elif path.is_dir():
        identity, found_patient, study = _dicom_identity(path)
    else:
        identity, (found_patient, study) = "", _bids_entities(place)
    return FoundScan(place, stamp, identity, patient or found_patient, study, output)


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
        path = root / scan.place
        return path.stat().st_size if path.is_file() else -1

    sizes = [size(scan) for scan in scans]
    often = Counter(sizes)
    return [
        replace(scan, identity=_content(root / scan.place))
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
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        with open(path, "rb") as file:
            start = file.read(132)
    except OSError:
        return path.suffix.lower() in DICOM_ENDINGS
    if start[128:] != b"DICM" and start[:2] != b"\x08\x00":
        return path.suffix.lower() in DICOM_ENDINGS
    header = _header(path)
    return header is None or "Rows" in header


def _header(path: Path):
    """A few entries of a DICOM header; None when the file is damaged."""
    import pydicom

    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        try:
            return pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=DICOM_TAGS)
        except Exception:  # pydicom meets damaged files with errors of many kinds
            return None


def _dicom_identity(folder: Path) -> tuple[str, str, str]:
    """Hash of the SOP instance UIDs, patient ID and study instance UID of a folder of DICOM files."""
    files = sorted(entry.path for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    headers = [header for header in map(_header, map(Path, files)) if header is not None and "Rows" in header]
    uids = sorted(str(header.get("SOPInstanceUID", "")) for header in headers)
    if not uids or "" in uids:
        return "", "", ""
    digest = hashlib.sha256("\n".join([str(len(files)), *uids]).encode()).hexdigest()
    first = headers[0]
    return digest, str(first.get("PatientID", "") or ""), str(first.get("StudyInstanceUID", "") or "")
