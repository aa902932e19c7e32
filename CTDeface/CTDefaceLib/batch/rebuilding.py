"""A damaged record is made anew from what the batch left: the reports beside its results, and the secret.

The results bear pseudonyms, which the secret makes of the inputs again; a report tells which batch made its result, at
which attempt. What is not found so is done again.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ..errors import InputError
from ..pipeline import DefaceParameters
from .choices import Choices
from .folders import SUMMARY
from .job import finished_before
from .planning import Batch
from .record import Record
from .status import Status

NO_SECRET = (
    "The secret that the results got their names with is gone, so that nobody can tell which scans they are of: put "
    "its file back, or begin again with another output folder."
)


def begin_again(record: Record, output: Path, secret: Path, parameters: DefaceParameters, choices: Choices) -> None:
    """Note in an empty record which batch it is of, and with which choices that was begun, as far as results tell it.

    Parameters
    ----------
    record: Record
    output: Path
        Folder with the results.
    secret: Path
        File of the secret.
    parameters: DefaceParameters
    choices: Choices
        Of this run, for what the results do not tell.

    Raises
    ------
    InputError
        When there are results, but no secret.
    CTDefaceError
        When the record cannot be written.
    """
    left = _read(output / SUMMARY) or {}
    run = left.get("run") or next((report["batch"]["run"] for report in map(_read, _reports(output)) if report), "")
    if not run:
        return
    if choices.need_secret and not secret.is_file():
        raise InputError(NO_SECRET)
    record.set("run", run)
    known = {**left.get("parameters", {}), **left.get("choices", {})}
    record.set("choices", json.dumps({**asdict(parameters), **asdict(choices), **known}))


def take_up_results(batch: Batch) -> int:
    """Note as finished the waiting scans of a batch whose results are complete, and return the number of them."""
    found = 0
    for number in batch.record.ids(Status.WAITING):
        job = batch.job(number, start=False)
        outcome = finished_before(job)
        if outcome is not None and outcome.report is not None:
            batch.record.finish(number, outcome, attempts=outcome.report["batch"]["attempt"])
            found += 1
    return found


def _reports(output: Path) -> list[Path]:
    return [path for path in sorted(output.rglob("*.json")) if path.name != SUMMARY]


def _read(path: Path) -> dict | None:
    """A report or summary of a batch; None for anything else."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return report if "run" in report.get("batch", report) else None
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None
