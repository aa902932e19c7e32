"""The table of a cohort: which volumes there are, of whom, and by which method they were defaced.

A CSV file in one of two forms. With the columns ``patient``, ``scan``, ``method`` and ``path`` it has a row for each
volume, and method ``original`` marks the originals. With ``patient``, ``scan``, ``original``, ``defaced`` and
``method`` it has a row for each defaced volume with its original. In either form method ``photo`` marks a picture of
the patient's face, by which volumes are to be recognised. The first form may have a column ``labels`` with a
segmentation of the volume. Relative paths start at the table.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from CTDefaceLib.batch.inputs import find_scans
from CTDefaceLib.errors import InputError
from CTDefaceLib.volume_io import suffix

from .findings import ORIGINAL, PHOTO

COLUMNS = ("patient", "scan", "method", "path")
"""Of the form with a row for each volume."""
PAIR_COLUMNS = ("patient", "scan", "original", "defaced", "method")
"""Of the form with a row for each defaced volume."""


@dataclass(frozen=True)
class Row:
    """One volume of the cohort, or one picture of a patient's face."""

    patient: str
    scan: str
    method: str
    path: Path
    labels: Path | None = None
    """A segmentation of this volume, for what its defacing costs."""


def read_table(path: str | os.PathLike) -> list[Row]:
    """Read and check a cohort's table of either form. Raises InputError in one sentence."""
    path = Path(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            wanted = ("patient", "original", "defaced") if "original" in columns else ("patient", "method", "path")
            missing = [column for column in wanted if column not in columns]
            if missing:
                raise InputError(
                    f"The table lacks the column “{missing[0]}”: its first line has to name {', '.join(COLUMNS)}, or "
                    f"{', '.join(PAIR_COLUMNS)}."
                )
            lines = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("The cohort's table cannot be read: give a CSV file in UTF-8.") from error
    return check_table(lines, path.parent, first=2)


def check_table(lines: Iterable[Mapping[str, str]], folder: str | os.PathLike = "", first: int = 1) -> list[Row]:
    """The volumes of a table of either form, given as one mapping of column to text for each line.

    `folder` is where relative paths start, `first` the number of the first line. Raises InputError in one sentence.
    """
    rows: dict[tuple[str, str, str], Row] = {}
    for number, line in enumerate(lines, start=first):
        cells = {column: (line.get(column) or "").strip() for column in (*COLUMNS, *PAIR_COLUMNS)}
        if "path" in line:
            volumes = [(cells["method"], cells["path"])]
        else:
            volumes = [(ORIGINAL, cells["original"])] if cells["original"] else []
            if cells["defaced"] or not volumes:
                volumes.append((cells["method"], cells["defaced"]))
        for method, path in volumes:
            if not cells["patient"] or not method or not path:
                raise InputError(f"Line {number} of the table lacks its patient, method or path: fill it in.")
            labels = (line.get("labels") or "").strip() if "path" in line else ""
            labels_path = Path(folder) / labels if labels else None
            row = Row(cells["patient"], cells["scan"] or "1", method, Path(folder) / path, labels_path)
            if labels_path is not None and not labels_path.exists():
                raise InputError(f"Line {number} of the table names labels that do not exist: correct their path.")
            if not row.path.exists():
                raise InputError(f"Line {number} of the table names a volume that does not exist: correct its path.")
            same = rows.setdefault((row.patient, row.scan, row.method), row)
            # Several methods share an original.
            if same is not row and ("path" in line or method != ORIGINAL or same.path != row.path):
                raise InputError(
                    f"Line {number} of the table repeats the patient, scan and method of another: remove one."
                )
    if len({row.patient for row in rows.values() if row.method != PHOTO}) < 2:
        raise InputError("The table has fewer than two patients, so that there are no impostor pairs: add patients.")
    return list(rows.values())


def pairs_of(rows: Iterable[Row]) -> list[dict[str, str]]:
    """The same volumes as lines of a table with PAIR_COLUMNS."""
    rows = list(rows)
    originals = {(row.patient, row.scan): str(row.path) for row in rows if row.method == ORIGINAL}
    defaced = [row for row in rows if row.method != ORIGINAL]
    without = set(originals) - {(row.patient, row.scan) for row in defaced if row.method != PHOTO}
    lines = [
        (
            row.patient,
            row.scan,
            "" if row.method == PHOTO else originals.get((row.patient, row.scan), ""),
            str(row.path),
            row.method,
        )
        for row in defaced
    ]
    lines += [(*key, originals[key], "", "") for key in originals if key in without]
    return [dict(zip(PAIR_COLUMNS, line)) for line in lines]


def pairs_in(originals: str | os.PathLike, defaced: str | os.PathLike, method: str) -> list[dict[str, str]]:
    """The scans of two folders that have the same name in both, as lines of a table with PAIR_COLUMNS.

    The defaced one's name may end in “defaced”, and file formats may differ. Patients are told apart by the DICOM
    header or the ``sub-`` of BIDS names; where neither says, each scan is a patient of its own.
    Raises InputError when there is no such folder, or no name is in both.
    """

    def name(place: str) -> str:
        place = place[: -len(suffix(place))] if suffix(place) else place
        return re.sub(r"[ _-]?defaced$", "", place)

    there = {name(scan.place): Path(defaced, scan.place) for scan in find_scans(defaced)}
    lines = []
    scans: dict[str, int] = {}
    for scan in find_scans(originals):
        if name(scan.place) not in there:
            continue
        patient = scan.patient or name(scan.place)
        scans[patient] = scans.get(patient, 0) + 1
        path = str(Path(originals, scan.place))
        lines.append((patient, str(scans[patient]), path, str(there[name(scan.place)]), method))
    if not lines:
        raise InputError("No scan has the same name in both folders: choose the originals first, then their defaced.")
    return [dict(zip(PAIR_COLUMNS, line)) for line in lines]
