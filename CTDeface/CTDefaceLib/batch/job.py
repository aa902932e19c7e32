"""One scan of a batch, from reading to the result under its final name; runs in any process, on any machine."""

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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import SimpleITK as sitk

from ..audits import FACE_LEFT, Level, audited
from ..dicom.deface import HeaderWriter, write_series
from ..dicom.defaced_stack import deface_stacks, is_checked
from ..dicom.tree import Tree, choose_series, tree_of
from ..dicom.volume import read_volume
from ..errors import CTDefaceError, InputError, NoFaceError, OutputError, memory_errors
from ..files import make_folder, output_errors, put_in_place
from ..pipeline import DefaceParameters, DefaceResult, deface
from ..private import make_private_folder, read_secret
from ..processes import temporary_files_in
from ..stored_data import suffix
from ..volume_io import read_scan, save_volume
from .found_scan import folders_of
from .status import Mishap, Status

Show = Callable[[sitk.Image, DefaceResult], None]
"""Is given a volume and what its defacing made of it."""

DICOM = ".dicom"
"""Ending of a result that is a folder with a DICOM series."""

WORK_FOLDER = ".ctdeface-unfinished"
"""Folder for unfinished files in the output folder; nothing but a batch makes one of this name."""

FULL = [getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name)]
LOST = ("EROFS", "EIO", "ESTALE", "ENOTCONN", "ENODEV", "ENXIO", "EREMOTEIO", "ESHUTDOWN")
GONE = [getattr(errno, name) for name in LOST if hasattr(errno, name)]
"""What systems say of a disk that is full, and of one that cannot be written to any more."""

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

    @property
    def key(self) -> bytes | None:
        """The secret; None where there is none."""
        return read_secret(Path(self.secret)) if self.secret else None

    @property
    def report_path(self) -> Path:
        return Path(self.output[: -len(suffix(self.output))] + ".json")


@dataclass(frozen=True)
class Outcome:
    """What became of a scan: its status, its sentence, and the report if it is done."""

    status: Status | Mishap
    sentence: str = ""
    seconds: float | None = None
    report: dict | None = None
    details: str = ""


def run_job(job: Job) -> Outcome:
    """Do a job; every error becomes an outcome. A result that an earlier attempt left complete is not touched."""
    start = time.perf_counter()
    outcome = finished_before(job)
    if outcome is not None:
        return outcome
    work = Path(job.work) / secrets.token_hex(4)
    try:
        work.mkdir(parents=True, exist_ok=True)
        with temporary_files_in(work), memory_errors():
            outcome = _deface(job, work)
    except NoFaceError as error:
        outcome = Outcome(Status.NO_FACE, str(error))
    except InputError as error:
        outcome = Outcome(Status.REFUSED, str(error))
    except OutputError as error:
        outcome = Outcome(_of_the_disk(error.__cause__) or Mishap.NOT_WRITTEN, str(error))
    except CTDefaceError as error:
        outcome = Outcome(Status.FAILED, str(error))
    except MemoryError:
        outcome = Outcome(
            Status.FAILED, "There was not enough memory: use fewer workers, or crop the scan to the head."
        )
    except OSError as error:
        sentence = f"A file could not be read or written: {error.strerror or type(error).__name__}."
        is_input = str(error.filename or "").startswith(tuple(folders_of(job.path)))
        outcome = Outcome(not is_input and _of_the_disk(error) or Status.FAILED, sentence)
    except Exception as error:
        sentence = f"An error that this program did not expect stopped it ({type(error).__name__})."
        outcome = Outcome(Status.FAILED, sentence, details=traceback.format_exc())
    finally:
        shutil.rmtree(work, ignore_errors=True)
    seconds = round(time.perf_counter() - start, 2)
    return Outcome(outcome.status, outcome.sentence, seconds, outcome.report, outcome.details)


def _of_the_disk(error: BaseException | None) -> Mishap | None:
    """What is wrong with the disk of the results, where an error of writing tells it; no scan can be blamed for it."""
    number = error.errno if isinstance(error, OSError) else None
    return Mishap.NO_ROOM if number in FULL else Mishap.DISK_GONE if number in GONE else None


def finished_before(job: Job) -> Outcome | None:
    """The outcome of an earlier attempt whose result is complete although nobody noted it."""
    if not os.path.lexists(job.output):
        return None
    made = _report_of(job)
    if made is None:
        return Outcome(Status.FAILED, NOT_OURS)
    if made["batch"]["attempt"] <= job.redone_after:
        return None
    return _finished(made)


def _report_of(job: Job) -> dict | None:
    """The report beside the result, if this batch made it of this scan."""
    try:
        report = json.loads(job.report_path.read_text(encoding="utf-8"))
        made = report["batch"]
        return report if (made["run"], made["scan"]) == (job.run, job.name) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _finished(report: dict) -> Outcome:
    warnings = report["warnings"]
    return Outcome(Status.WARNED if warnings else Status.DONE, " ".join(warnings), report["seconds"], report)


def _deface(job: Job, work: Path) -> Outcome:
    start = time.perf_counter()
    audits: list[dict] = []

    def show(image: sitk.Image, result: DefaceResult) -> None:
        if job.pictures:
            from .gallery_pictures import write_pictures

            write_pictures(image, result, Path(job.pictures), str(job.scan), job.originals)
        if job.audit:
            audits.append(audited(job.audit, image, result.image))

    report, write = (_deface_series if suffix(job.output) == DICOM else _deface_volume)(job, show)
    left = next((audit for audit in audits if audit["verdict"] in FACE_LEFT), None)
    if audits:
        report["audit"] = left or audits[0]
    report["batch"] = {"run": job.run, "scan": job.name, "attempt": job.attempt}
    report["software"] = software()
    if left is not None:
        return Outcome(Status.HELD_BACK, left["sentence"], None, report)
    if audits and audits[0]["verdict"] == Level.NOT_EVALUABLE:
        report["warnings"].append(audits[0]["sentence"])
    part, report_part = work / f"result{suffix(job.output)}", work / "report.json"
    write(part)
    report["seconds"] = round(time.perf_counter() - start, 2)
    report_part.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return _finished(_publish(job, part, report_part) or report)


def _deface_volume(job: Job, show: Show) -> tuple[dict, Callable[[Path], None]]:
    """Deface into a volume: the report, and what writes it."""
    if _is_series(job):
        scan = read_volume(_tree(job), job.series)
    else:
        scan = read_scan(job.path, form=job.form, orientation=job.orientation)
    result = deface(scan.image, DefaceParameters(**job.parameters), secret=job.key, patient=job.patient)
    show(scan.image, result)
    report = {**result.report, "warnings": [*scan.notes, *result.report["warnings"]], "left_out": [*scan.left_out]}
    return report, lambda part: save_volume(result.image, part, scan.geometry)


def _deface_series(job: Job, show: Show) -> tuple[dict, Callable[[Path], None]]:
    """Deface into a DICOM series: the report, and what writes it."""
    if not _is_series(job):
        raise InputError("This scan is no DICOM series, so it cannot become one: choose a volume format for it.")
    tree = _tree(job)
    series = choose_series(tree, job.series)
    how = partial(deface, secret=job.key, patient=job.patient)
    defaced, report = deface_stacks(series, DefaceParameters(**job.parameters), look=show, how=how, no_text=job.no_text)
    retain = [name for name in job.retain.split(",") if name] if job.clean else None
    finish = HeaderWriter(series.uids, job.key, is_checked(report), retain, job.no_text)

    def write(part: Path) -> None:
        part.mkdir()
        write_series(series, defaced, part, finish)
        if job.clean:
            make_private_folder(job.pseudonyms)
            finish.pseudonyms.append_to(Path(job.pseudonyms) / f"{job.scan}.csv")

    report["warnings"] = [*report.pop("notes"), *report["warnings"]]
    report["left_out"] = tree.left_out(series)
    return report, write


def _is_series(job: Job) -> bool:
    return os.path.isdir(folders_of(job.path)[0])


def _tree(job: Job) -> Tree:
    """What lies in the folders of a job; their sub-folders hold scans of their own."""
    entries = (e for folder in folders_of(job.path) for e in os.scandir(folder) if not e.name.startswith("."))
    paths = (e.path for e in entries if os.path.isfile(e.path) or e.is_symlink() and not os.path.exists(e.path))
    return tree_of(sorted(paths))


def _publish(job: Job, part: Path, report_part: Path) -> dict | None:
    """Give the finished files their final names, the volume last: where it is, all is.

    Returns the report of a twin of this job on another worker that was quicker.
    """
    output = Path(job.output)
    with output_errors():
        make_folder(output.parent)
        if os.path.lexists(output) or os.path.lexists(job.report_path):
            made = _report_of(job)
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
    """Versions of what takes part."""
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
