"""What was sent back in the gallery is done again."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path

from ..errors import InputError
from ..pipeline import DefaceParameters
from .progress import Report, note
from .record import Record
from .status import Status

SENT_BACK = "send back"
"""The decision that asks for it, as ``gallery.html`` writes it."""


def redo_sent_back(decisions: Path, record: Record, parameters: DefaceParameters, report: Report) -> None:
    """Let what was sent back be done again, unless that was done already, with these parameters.

    Parameters
    ----------
    decisions: Path
        CSV file that the gallery saved.
    record: Record
    parameters: DefaceParameters
    report: callable
        Is given events of :mod:`.batch.progress`.

    Raises
    ------
    InputError
        When the file cannot be read, or is of another batch; then nothing is done again.
    """
    new = asdict(parameters)
    numbers, followed = [], 0
    for name, attempt in _attempts(decisions).items():
        number = record.find(name)
        if number is None:
            raise InputError(f"The decisions are of another batch: it has no scan {name}.")
        scan = record.scan(number)
        if 0 <= attempt <= scan["redone_after"] and json.loads(scan["parameters"]) == new:
            followed += 1
        elif scan["status"] != Status.DOUBLE:
            numbers.append(number)
    for number in numbers:  # not before all of them are known
        record.redo(number, new)
    if followed:
        report(note(f"Done again already with these choices, of those sent back: {followed}."))


def _attempts(decisions: Path) -> dict[str, int]:
    """The attempt that was sent back of each scan, by the name of its result; -1 where it is not told."""
    try:
        with open(decisions, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.DictReader(file) if row["decision"].strip().lower() == SENT_BACK]
        return {row["scan"]: int(row.get("attempt") or -1) for row in rows}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError("The decisions cannot be read: give the CSV file that the gallery saved.") from error
