"""The result of a scan of a batch: every error becomes an outcome, and what is made gets its final name at once."""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..audits import why_held_back
from ..dicom.defaced_stack import is_checked
from ..errors import CTDefaceError, InputError, NoFaceError, OutputError, memory_errors
from ..files import make_folder, output_errors, put_in_place
from ..processes import temporary_files_in
from ..stored_data import suffix
from .bids import side_car
from .found_scan import folders_of
from .job import NOT_OURS, Job, Outcome, finished, report_of
from .members import Made, Member
from .status import Mishap, Status

FULL = [getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name)]
LOST = ("EROFS", "EIO", "ESTALE", "ENOTCONN", "ENODEV", "ENXIO", "EREMOTEIO", "ESHUTDOWN")
GONE = [getattr(errno, name) for name in LOST if hasattr(errno, name)]
"""What systems say of a disk that is full, and of one that cannot be written to any more."""


def guarded(job: Job, do: Callable[[Path], Outcome], before: float = 0.0) -> Outcome:
    """Do something for a scan in a folder of its own for unfinished files, which is gone afterwards.

    Parameters
    ----------
    job: Job
    do: callable
        Is given the folder; what it raises becomes an outcome, see :func:`outcome_of`.
    before: float
        Seconds that were spent on the scan already; they count in the outcome.
    """
    start = time.perf_counter()
    work = Path(job.work) / secrets.token_hex(4)
    try:
        work.mkdir(parents=True, exist_ok=True)
        with temporary_files_in(work), memory_errors():
            outcome = do(work)
    except Exception as error:
        outcome = outcome_of(error, job)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return replace(outcome, seconds=round(before + time.perf_counter() - start, 2))


def outcome_of(error: Exception, job: Job) -> Outcome:
    """What an error makes of a scan.

    Returns
    -------
    Outcome
        Refused for an input that is at fault, without a face for a head that shows none, failed for anything else; or
        a :class:`.batch.status.Mishap`, where the disk of the results is at fault and not the scan.
    """
    sentence = str(error)
    if isinstance(error, MemoryError):
        return Outcome(Status.FAILED, "There was not enough memory: use fewer workers, or crop the scan to the head.")
    if isinstance(error, OutputError):
        return Outcome(_of_the_disk(error.__cause__) or Mishap.NOT_WRITTEN, sentence)
    if isinstance(error, CTDefaceError):
        kinds = {NoFaceError: Status.NO_FACE, InputError: Status.REFUSED}
        status = next((status for kind, status in kinds.items() if isinstance(error, kind)), Status.FAILED)
        return Outcome(status, sentence)
    if isinstance(error, OSError):
        sentence = f"A file could not be read or written: {error.strerror or type(error).__name__}."
        is_input = str(error.filename or "").startswith(tuple(folders_of(job.path)))
        return Outcome(not is_input and _of_the_disk(error) or Status.FAILED, sentence)
    sentence = f"An error that this program did not expect stopped it ({type(error).__name__})."
    return Outcome(Status.FAILED, sentence, details="".join(traceback.format_exception(error)))


def _of_the_disk(error: BaseException | None) -> Mishap | None:
    """What is wrong with the disk of the results, where an error of writing tells it; no scan can be blamed for it."""
    number = error.errno if isinstance(error, OSError) else None
    return Mishap.NO_ROOM if number in FULL else Mishap.DISK_GONE if number in GONE else None


def write_result(member: Member, made: Made, seconds: float, work: Path) -> Outcome:
    """Write what was made of a scan, unless an audit still finds the face in it.

    Parameters
    ----------
    member: Member
    made: tuple
        Report, and what writes the result; see :meth:`.members.SeriesMember.deface`.
    seconds: float
        That it took until now.
    work: Path
        Folder for unfinished files, on the disk of the output.

    Raises
    ------
    OutputError
        When it cannot be written, or a file of its name is not of this batch.
    """
    start, job = time.perf_counter(), member.job
    report, write = made
    report["batch"] = {"run": job.run, "scan": job.name, "attempt": job.attempt}
    report["software"] = software()
    if why := why_held_back(report):
        return Outcome(Status.HELD_BACK, why, None, report)
    if job.bids:
        path = Path(folders_of(job.path)[0])
        report = {**side_car(path, member.modality, is_checked(report), member.technique()), **report}
    part, report_part = work / f"result{suffix(job.output)}", work / "report.json"
    write(part)
    report["seconds"] = round(seconds + time.perf_counter() - start, 2)
    report_part.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return finished(_publish(job, part, report_part) or report)


def _publish(job: Job, part: Path, report_part: Path) -> dict | None:
    """Give the finished files their final names, the volume last: where it is, all is.

    Returns the report of a twin of this job on another worker that was quicker.
    """
    output = Path(job.output)
    with output_errors():
        make_folder(output.parent)
        if os.path.lexists(output) or os.path.lexists(job.report_path):
            made = report_of(job)
            if made is None:
                raise OutputError(NOT_OURS)
            if output.exists() and made["batch"]["attempt"] > job.redone_after:
                return made
            if os.path.lexists(output):
                os.replace(output, part.with_name("replaced"))  # at once, and gone with the unfinished files
        put_in_place(report_part, job.report_path)
        put_in_place(part, output)
    return None


def software() -> dict[str, str]:
    """Name → version of what takes part; ``system`` is the name of the operating system."""
    import numpy
    import scipy
    import SimpleITK

    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "SimpleITK": SimpleITK.Version.VersionString(),
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }
