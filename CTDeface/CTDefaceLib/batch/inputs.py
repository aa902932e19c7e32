"""Find the scans of a batch: volumes and DICOM series in a folder with all its sub-folders, or the rows of a table."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from ..dicom.files import is_image
from ..errors import InputError
from ..files import NOT_IN_NAMES, is_portable
from ..patience import in_time
from ..volume_io import IMAGE_IO, suffix
from ..walk import files_below
from .bids import DESCRIPTION, NOT_RAW, dataset_of, subject_and_session
from .found_scan import FoundScan, folders_of
from .series import dicom_scans, header_of, stamp_of

DICOM_ENDINGS = (".dcm", ".ima")
"""A file whose name ends so counts as DICOM even where its header cannot be read: then that is said of it."""

OTHER_FORMATS = (".img", ".mgz", ".mgh", ".mnc", ".gz", ".zip", ".tar", ".tgz", ".7z", ".rar")
"""Endings of files that can hold scans, but are not read: other formats of volumes, and archives."""

CHUNK = 1 << 20
"""How much of a file is read at once, in bytes."""

PassedOver = Callable[[str, str], None]
"""Takes a path that was not looked into, and why."""


def find_scans(
    source: str | os.PathLike,
    ignore: tuple[Path, ...] = (),
    known: Callable[[str], list[FoundScan]] = lambda path: [],
    passed_over: PassedOver = lambda path, why: None,
    others: Collection[str] = (),
) -> list[FoundScan]:
    """All scans below a folder, or of a CSV table, in the order of their places.

    Links to folders are followed, each real folder once.

    Parameters
    ----------
    source: path
        Folder, or CSV file with the column ``input`` and, if wanted, ``patient``, ``study`` and ``output``; paths in it
        are relative to the table's folder.
    ignore: tuple of Path
        Folders that are not searched.
    known: callable
        Gives what an earlier run found at a path, so that unchanged files need not be read again.
    passed_over: callable
        Is given the path of what can hold scans and was not looked into, and why.
    others: collection of str
        SOP classes of DICOM images besides those of a CT whose series are scans, too.

    Raises
    ------
    InputError
        When there is no such folder or table, or the table is not usable
    """
    source, root = Path(source), root_of(source)
    if source.is_dir():
        found = _scans_below(root, ".", ignore, known, passed_over, others, with_volumes=True)
    else:
        rows = _rows_of_table(source)
        found = [scan for row in rows for scan in _scans_of_row(root, *row, ignore, known, passed_over, others)]
    return _identified(root, found)


def root_of(source: str | os.PathLike) -> Path:
    """The folder that the places of a batch start at: the input itself, or that of a table.

    Raises
    ------
    InputError
        When the input is neither a folder nor a table (``.csv``).
    """
    source = Path(source)
    if source.is_dir():
        return source
    if source.is_file() and source.suffix.lower() == ".csv":
        return source.parent
    raise InputError("The input is neither a folder nor a CSV table; check its path.")


def _scans_below(
    root: Path,
    top: str,
    ignore: Iterable[Path],
    known: Callable[[str], list[FoundScan]],
    passed_over: PassedOver,
    others: Collection[str],
    with_volumes: bool,
) -> list[FoundScan]:
    """The scans below a folder, which is below ``root``: in each folder volumes first."""

    def tell(path: str, error: OSError | None) -> None:
        passed_over(path, error.strerror or type(error).__name__ if error else "a link up to a folder that it lies in")

    def tell_why(path: str, error: OSError) -> None:
        passed_over(str(root / path), error.strerror or type(error).__name__)

    volumes: dict[str, list[FoundScan]] = {}
    with_dicom = []
    if (root / top / DESCRIPTION).is_file():
        not_raw = [root / top / name for name in NOT_RAW if (root / top / name).is_dir()]
        ignore = (*ignore, *not_raw)
        for path in not_raw:
            passed_over(str(path), "it holds no raw data of a BIDS dataset")
    for folder, names in files_below(root / top, ignore, tell):
        name = str(PurePosixPath(top, *Path(folder).relative_to(root / top).parts))
        paths = [str(PurePosixPath(name) / file) for file in names if with_volumes and suffix(file) in IMAGE_IO]
        volumes[name] = [_volume(root, path, known(path)) for path in paths]
        if _has_dicom(folder, [file for file in names if suffix(file) not in IMAGE_IO], passed_over):
            with_dicom.append(name)
    series: dict[str, list[FoundScan]] = {}
    for scan in dicom_scans(root, with_dicom, known, others, tell_why):
        series.setdefault(folders_of(scan.path)[0], []).append(scan)
    return [scan for name in volumes for scan in (*volumes[name], *series.get(name, ()))]


def _has_dicom(folder: str, names: list[str], passed_over: PassedOver) -> bool:
    """Whether there is a DICOM image among these files; tells what else can hold a scan and is not looked into."""
    paths = []
    for name in names:
        if suffix(name) in OTHER_FORMATS:
            passed_over(os.path.join(folder, name), "a format that is not read, or an archive")
        else:
            paths.append(Path(folder, name))
    try:
        if any(in_time(_is_dicom_image, path) for path in paths):
            return True  # what cannot be read beside it, its reader refuses
    except TimeoutError as error:
        passed_over(folder, error.strerror or type(error).__name__)
        return False
    for path in paths:
        if not os.access(path, os.R_OK):
            passed_over(str(path), "it cannot be read, or is a link to nothing")
    return False


def _rows_of_table(table: Path) -> list[tuple[str, str, str, str]]:
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
        raise InputError(
            "The table has no column “input”, or no rows; its columns are input, patient, study and output."
        )
    found = []
    for number, row in enumerate(rows, 1):
        output = row.get("output", "").replace("\\", "/")
        output = output[: -len(suffix(output))] if suffix(output) in IMAGE_IO else output
        if not row["input"]:
            raise InputError(f"Row {number} of the table has no input.")
        if output and not is_safe_name(output):
            raise InputError(f"The output of row {number} of the table is no name below the output folder.")
        found.append((row["input"].replace("\\", "/"), row.get("patient", ""), row.get("study", ""), output))
    for column, values in (("input", [row[0] for row in found]), ("output", [row[3] for row in found if row[3]])):
        name, times = Counter(os.path.normcase(value) for value in values).most_common(1)[0] if values else ("", 0)
        if times > 1:
            raise InputError(f"The table names one {column} {times} times; every row needs its own.")
    return found


def is_safe_name(name: str) -> bool:
    """Whether a relative name with ``/`` stays below its folder and can be a file name on every system."""
    parts = name.split("/")
    return all(part and is_portable(part) and part[0] != "." and not NOT_IN_NAMES.search(part) for part in parts)


def _scans_of_row(
    root: Path,
    path: str,
    patient: str,
    study: str,
    output: str,
    ignore: Iterable[Path],
    known: Callable[[str], list[FoundScan]],
    passed_over: PassedOver,
    others: Collection[str],
) -> list[FoundScan]:
    """The scans at the path of a row: a file, or what DICOM series lie below a folder."""
    scans = []
    if (root / path).is_dir():
        scans = _scans_below(root, path, ignore, known, passed_over, others, with_volumes=False)
    scans = scans or [_volume(root, path, known(path))]
    several = len(scans) > 1
    return [
        replace(
            scan,
            patient=patient or scan.patient,
            study=study or scan.study,
            output=f"{output}-{re.split('[#/]', scan.place)[-1]}" if output and several else output,
        )
        for scan in scans
    ]


def _volume(root: Path, path: str, known: list[FoundScan]) -> FoundScan:
    """A volume file, or what is neither a file nor a folder with DICOM, of which the reader says so."""
    stamp = stamp_of(root / path)
    if known and known[0].stamp == stamp:
        return known[0]
    patient, study = subject_and_session(path)
    if patient and (dataset := dataset_of(root, path)):  # another dataset's subject 01 is another person
        patient = f"{dataset}/{patient}"
    return FoundScan(path, path, stamp, patient=patient, study=study)


def _identified(root: Path, scans: list[FoundScan]) -> list[FoundScan]:
    """Files of one size get the hash of their content."""

    def size(scan: FoundScan) -> int:
        path = root / folders_of(scan.path)[0]
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
            while chunk := in_time(file.read, CHUNK):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()


def _is_dicom_image(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        header = header_of(path)
        if header is None:
            return path.suffix.lower() in DICOM_ENDINGS or (os.access(path, os.R_OK) and path.stat().st_size > 0)
        return is_image(header)
    except OSError:  # it went away, or the disk does
        return path.suffix.lower() in DICOM_ENDINGS
