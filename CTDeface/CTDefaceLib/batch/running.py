"""Thousands of scans, unattended: :func:`run` plans, does what is left, notes what became of each, and sums up."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from .. import segmenters
from ..audits import check_audit
from ..dicom.burned_in import check_reader
from ..errors import CTDefaceError, InputError, OutputError
from ..files import remove_parts
from ..pipeline import DefaceParameters
from ..private import SECRET, make_secret, private_folder
from .choices import Choices, check_format, keep_choices
from .folders import GALLERY, RECORD, make_folders, unfinished_work
from .found_scan import folders_of
from .gallery import PICTURES
from .inputs import root_of
from .job import Job, Outcome, finished_before
from .planning import MOST_DEATHS, Batch, look_for_scans, take_up
from .progress import Report, ended, note, planned, started
from .rebuilding import begin_again, take_up_results
from .record import Record
from .redo import redo_sent_back
from .runner import Results
from .runners import RUNNERS, choose
from .status import RETRIED, Mishap, Status
from .summary import Summary, write_results

DISK_GONE = (
    "The disk of the results cannot be written to any more: see to it, and start the batch again; "
    "it goes on where it was."
)
LITTLE_ROOM_BYTES = 1_000_000_000
"""With less room than this on a disk, in bytes, a result that could not be written is the disk's fault, not the scan's:
room for several results. A choice."""


def run(
    source: str | os.PathLike,
    output: str | os.PathLike,
    parameters: DefaceParameters | None = None,
    choices: Choices | None = None,
    *,
    private: str | os.PathLike | None = None,
    secret: str | os.PathLike | None = None,
    workers: int | None = 0,
    threads: int | None = None,
    scheduler: str | None = None,
    timeout: float | None = None,
    retry_failed: bool = False,
    redo: str | os.PathLike | None = None,
    rebuild: bool = False,
    gallery: bool = True,
    originals: bool = True,
    report: Report = lambda event: None,
    tell: Report | None = None,
) -> Summary:
    """Deface all scans that are not done yet.

    Interrupted at any moment and called again, it goes on where it was: finished results are not touched, unfinished
    ones never have their final name. An error of one scan is noted and never stops the others.

    Parameters
    ----------
    source: path
        Folder that is searched with its sub-folders, or CSV table, see :func:`.batch.inputs.find_scans`.
    output: path
        Folder for the results, made where it is missing.
    parameters: DefaceParameters or None
        Of the defacing; with a seed, each scan gets its own from it.
    choices: Choices or None
        Names, format and audit.
    private: path or None
        Folder for record, secret and gallery, best on a local disk; :func:`private_folder` when None.
    secret: path or None
        File with the secret of the pseudonyms and of all that is random, made where it is missing; in the private
        folder when None.
    workers: int or None
        Number of processes; 0 works in this one, None takes as many as fit, see
        :func:`.batch.runners.fitting_workers`.
    threads: int or None
        That each of them uses; the processors shared out among them when None.
    scheduler: str or None
        Address of a Dask scheduler whose workers do the scans instead.
    timeout: float or None
        Seconds after which the process that works on a scan is killed; needs workers or a scheduler, for which the
        default is :data:`.batch.runner.LONGEST_SECONDS`; 0 for never.
    retry_failed: bool
        Try failed and timed out scans again.
    redo: path or None
        CSV file with decisions from the gallery; what was sent back is done again, with the present parameters.
    rebuild: bool
        Make a damaged record anew; finished results are taken up from their reports, by the secret.
    gallery, originals: bool
        Make pictures and the page; also of the faces.
    report: callable
        Is given what happens, see :mod:`.batch.progress`.
    tell: callable or None
        What ``report`` was called up to version 0.1.

    Returns
    -------
    Summary
        How many scans have each status now.

    Raises
    ------
    CTDefaceError
        When the batch cannot begin or go on: no scans, other choices than before, running already, disk full.
    """
    start = time.monotonic()
    report = tell or report
    parameters, choices = parameters or DefaceParameters(), choices or Choices()
    source, output = Path(source), Path(output)
    root = root_of(source).resolve()
    private = Path(private) if private else private_folder(output)
    if timeout and workers == 0 and not scheduler:
        raise InputError("Only a worker process can be stopped in time: a timeout needs workers or a scheduler.")
    check_format(choices)
    if not scheduler:  # its workers may have what this machine lacks
        if choices.audit:
            check_audit(choices.audit)
        if choices.no_text:
            check_reader()
        segmenters.check_ready(parameters.segmenter, parameters.choice)
    make_folders(source, output, private)
    key = Path(secret or private / SECRET).resolve()
    with Record(private / RECORD, anew=rebuild) as record:
        if rebuild:
            begin_again(record, output, key, parameters, choices)
        keep_choices(record, parameters, choices, bool(redo))
        if secret:
            make_secret(key)
        batch = Batch(record, root, output.resolve(), private.resolve(), key, choices, gallery, originals)
        remove_parts(private / GALLERY / PICTURES)
        take_up(batch, report)
        passed_over = look_for_scans(batch, source, report)
        if rebuild:
            shutil.rmtree(private / GALLERY / PICTURES, ignore_errors=True)  # they bear the numbers of the old record
            report(note(f"The record was made anew; finished results that were taken up: {take_up_results(batch)}."))
        for number in record.ids(*RETRIED) if retry_failed else ():
            record.retry(number)
        if redo:
            redo_sent_back(Path(redo), record, parameters, report)
        place, resources = choose(parameters, workers, threads, scheduler, timeout)
        runner = partial(RUNNERS[place], started=partial(_started, report), resources=resources)
        with unfinished_work(batch.output, batch.run):
            try:
                _do_all(batch, runner, report)
            except BaseException:
                with suppress(CTDefaceError):
                    _end(batch)
                raise
            _end(batch)
        return Summary(record.counts(), time.monotonic() - start, passed_over)


def _started(report: Report, worker: str, job: Job) -> None:
    for one in job.whole:
        report(started(one.name, one.scan, worker, Path(folders_of(one.path)[0]).name))


def _do_all(batch: Batch, runner: partial[Results], report: Report) -> None:
    record = batch.record
    waiting = record.ids(Status.WAITING)
    report(planned(record.counts(), len(waiting)))
    while waiting:  # again for those whose worker died
        jobs: Iterator[Job] = (batch.job_of(numbers) for numbers in batch.together(waiting))
        with closing(runner(jobs)) as results:
            for whole, outcome in results:
                died = _died_with(whole)
                for job, one in outcome.of_each(whole):
                    final = _final(batch, job, one, job.scan in died)
                    shutil.rmtree(job.work, ignore_errors=True)
                    if final is None:
                        record.wait_again(job.scan, died=job.scan in died)
                    else:
                        record.finish(job.scan, final)
                        report(ended(job.name, job.scan, final.status, final.sentence, final.seconds))
        waiting = record.ids(Status.WAITING)


def _died_with(whole: Job) -> set[int]:
    """Which scans of a job a process that died worked on: those with unfinished files, or all where none has any."""
    begun = {job.scan for job in whole.whole if os.path.isdir(job.work)}
    return begun or {job.scan for job in whole.whole}


def _final(batch: Batch, job: Job, outcome: Outcome, died: bool) -> Outcome | None:
    """What becomes of a scan after all; None when it has to be done again.

    Raises
    ------
    OutputError
        when the disk is full, or cannot be written to any more
    """
    if outcome.status == Mishap.DIED:
        if (done := finished_before(job)) is not None and done.report is not None:
            return done
        if batch.record.scan(job.scan)["deaths"] + died < MOST_DEATHS:
            return None
        return Outcome(Status.FAILED, outcome.sentence)
    if outcome.status == Status.TIMED_OUT:  # unless it ended while it was being stopped
        return finished_before(job) or outcome
    if isinstance(outcome.status, Mishap):
        free = _free_bytes(batch)
        if outcome.status == Mishap.NOT_WRITTEN and free >= LITTLE_ROOM_BYTES:
            return Outcome(Status.FAILED, outcome.sentence, outcome.seconds)
        batch.record.wait_again(job.scan)
        if outcome.status == Mishap.DISK_GONE:
            raise OutputError(f"{DISK_GONE} ({outcome.sentence})")
        raise OutputError(
            f"The disk of the results is nearly full ({free / 1e6:.0f} MB are free): make room and "
            f"start the batch again; it goes on where it was. ({outcome.sentence})"
        )
    return outcome


def _free_bytes(batch: Batch) -> int:
    """Room on the fuller one of the disks that a batch writes to; 0 where one does not answer."""
    try:
        return min(shutil.disk_usage(folder).free for folder in (batch.output, batch.private))
    except OSError:
        return 0


def _end(batch: Batch) -> None:
    for number in batch.record.ids(Status.RUNNING):
        batch.record.wait_again(number)
    write_results(batch)
