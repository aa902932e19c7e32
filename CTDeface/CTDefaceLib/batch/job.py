"""What a worker needs to know of a scan of a batch, or of all scans of a study, and what it tells of it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from ..private import read_secret
from ..stored_data import suffix
from .status import Mishap, Status

DICOM = ".dicom"
"""Ending of a result that is a folder with a DICOM series."""

WORK_FOLDER = ".ctdeface-unfinished"
"""Folder for unfinished files in the output folder; nothing but a batch makes one of this name."""

NOT_OURS = "A file with the name of the result is there already, not made by this batch: move it away."


@dataclass(frozen=True)
class Job:
    """What a worker needs to know of one scan.

    Attributes
    ----------
    scan, attempt: int
        Number in the record, and of the attempt.
    name: str
        Of the result, below the output folder and without ending.
    path, series, output, work: str
        Input, which is a file, a folder with DICOM files, or several, see :mod:`.found_scan`; its series instance UID
        where the folder holds others, too; volume to write; folder for unfinished files, on the disk of the output.
    run: str
        Tells this batch from others; stands in the report beside the result.
    parameters: dict
        Of :class:`CTDefaceLib.pipeline.DefaceParameters`.
    redone_after: int
        Results of attempts up to this one are replaced.
    pictures: str
        Folder for the pictures of the gallery; empty for none.
    originals: bool
        Pictures of the original, too.
    clean: bool
        Clean the headers of a DICOM series; ``retain`` of them what it names, with commas.
    secret, pseudonyms: str
        File with the secret that new UIDs and all that is random are made with, empty for none; and folder for a table
        of new UIDs for each scan.
    patient: str
        Tells patients apart.
    form, orientation: str
        Of NIfTI files, see :class:`.choices.Choices`.
    audit: str
        ``"module:function"`` that looks for the face in the result, see :mod:`CTDefaceLib.audits`; empty for none.
    no_text: bool
        Refuse a DICOM series with text in its pixels.
    keep: tuple of str
        What must stay, see :mod:`.keeping`.
    documents: tuple of str
        Structure sets, segmentations and the like of the same DICOM study.
    take_along: bool
        Write these as well, without what shows the face.
    bids: bool
        The report is the side-car that BIDS wants.
    study: tuple of Job
        Other scans of the same study, or patient, which get the same new skin.
    known: tuple of Job
        … and those which have their result already: the head is looked for in them, too.
    """

    scan: int
    attempt: int
    name: str
    path: str
    output: str
    work: str
    run: str
    series: str = ""
    parameters: dict = field(default_factory=dict)
    redone_after: int = 0
    pictures: str = ""
    originals: bool = True
    audit: str = ""
    clean: bool = False
    retain: str = ""
    secret: str = ""
    pseudonyms: str = ""
    no_text: bool = False
    patient: str = ""
    form: str = ""
    orientation: str = ""
    keep: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    take_along: bool = False
    bids: bool = False
    study: tuple[Job, ...] = ()
    known: tuple[Job, ...] = ()

    @property
    def whole(self) -> tuple[Job, ...]:
        """Itself and the other scans of its study that are to be done."""
        return (self, *self.study)

    @property
    def key(self) -> bytes | None:
        """The secret; None where there is none."""
        return read_secret(Path(self.secret)) if self.secret else None

    @property
    def report_path(self) -> Path:
        return Path(self.output[: -len(suffix(self.output))] + ".json")


@dataclass(frozen=True)
class Outcome:
    """What became of a scan, and of the others of its job.

    Attributes
    ----------
    status: Status or Mishap
    sentence: str
        Why, for the user; empty where there is nothing to say.
    seconds: float or None
        That it took.
    report: dict or None
        Of the result; None where there is none.
    details: str
        Of an error that nobody expected, for whoever looks for its cause.
    study: tuple of Outcome
        Of the other scans of the job, in its order.
    """

    status: Status | Mishap
    sentence: str = ""
    seconds: float | None = None
    report: dict | None = None
    details: str = ""
    study: tuple[Outcome, ...] = ()

    def of_each(self, job: Job) -> list[tuple[Job, Outcome]]:
        """What became of each scan of a job, itself first; of all the same where nothing is told of the others."""
        others = self.study or (self,) * len(job.study)
        return list(zip(job.whole, (self, *others)))


def finished_before(job: Job) -> Outcome | None:
    """The outcome of an earlier attempt whose result is complete although nobody noted it.

    Returns
    -------
    Outcome or None
        None where the scan is to be done; failed where a file of the result's name is not of this batch.
    """
    if not os.path.lexists(job.output):
        return None
    made = report_of(job)
    if made is None:
        return Outcome(Status.FAILED, NOT_OURS)
    if made["batch"]["attempt"] <= job.redone_after:
        return None
    return finished(made)


def report_of(job: Job) -> dict | None:
    """The report beside the result, if this batch made it of this scan."""
    try:
        report = json.loads(job.report_path.read_text(encoding="utf-8"))
        made = report["batch"]
        return report if (made["run"], made["scan"]) == (job.run, job.name) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def finished(report: dict) -> Outcome:
    """The outcome of a scan with this report: done, with warnings where the report has some."""
    warnings = report["warnings"]
    return Outcome(Status.WARNED if warnings else Status.DONE, " ".join(warnings), report["seconds"], report)
