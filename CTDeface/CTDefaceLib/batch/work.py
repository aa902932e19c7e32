"""A job of a batch, from reading to the results under their final names; runs in any process, on any machine.

The face is found in the CT in which it is seen best, and its new skin laid on the other scans of the study. Each of
them is written by itself: one that cannot be done gets its sentence, and the others are done.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..anatomy.grids import values_at
from ..anatomy.hounsfield import OUTSIDE_HU
from ..audits import FACE_LEFT, Level, audited
from ..dicom.deface import uids_of
from ..dicom.defaced_stack import is_checked
from ..dicom.files import read_dataset
from ..errors import CTDefaceError, InputError, NoFaceError, OutputError, memory_errors
from ..files import make_folder, output_errors, put_in_place
from ..pipeline import DefaceResult
from ..processes import temporary_files_in
from ..removal.keep import Structure
from ..removal.surface import Surface
from ..stored_data import suffix
from ..study.apply import CT
from ..study.follow import Follow, Lead
from ..study.reference import of_most
from ..study.register import Pose
from .bids import side_car
from .found_scan import folders_of
from .job import NOT_OURS, Job, Outcome, finished, finished_before, report_of
from .members import Made, Member, members_of
from .status import FINISHED, Mishap, Status

FULL = [getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name)]
LOST = ("EROFS", "EIO", "ESTALE", "ENOTCONN", "ENODEV", "ENXIO", "EREMOTEIO", "ESHUTDOWN")
GONE = [getattr(errno, name) for name in LOST if hasattr(errno, name)]
"""What systems say of a disk that is full, and of one that cannot be written to any more."""

ABOVE_MM, BELOW_MM = 20.0, -5.0
"""Where air and soft tissue are looked up in another modality than CT, in mm from the skin. A choice."""

NO_CT = "It is no CT ({}), and its study has no CT in which a head was found, so that no face can be found in it."


def run_job(job: Job) -> Outcome:
    """Do a job; every error becomes an outcome. Results that an earlier attempt left complete are not touched."""
    outcomes = {one.scan: done for one in job.whole if (done := finished_before(one)) is not None}
    left = [one for one in job.whole if one.scan not in outcomes]
    if left:
        made = [one for one in job.whole if one.scan in outcomes and outcomes[one.scan].status in FINISHED]
        try:
            outcomes.update(_Study(left, [*job.known, *made]).run())
        except Exception as error:
            outcomes.update({one.scan: _outcome_of(error, one) for one in left})
    first, *others = (outcomes[one.scan] for one in job.whole)
    return replace(first, study=tuple(others))


class _Begun:
    """A CT that the face was found in: what was found, and what is to be written."""

    def __init__(self, member: Member, lead: Lead, made: Made, audits: list[dict], seconds: float):
        assert lead.face is not None
        self.member, self.face, self.made, self.audits, self.seconds = member, lead.face, made, audits, seconds
        self.poses: dict[int, Pose | None] = {}
        self.strangers: dict[int, InputError] = {}


class _Study:
    """The scans of a job while they are done."""

    def __init__(self, left: Sequence[Job], known: Sequence[Job]):
        self._outcomes: dict[int, Outcome] = {}
        self._failed: dict[int, Outcome] = {}
        self._left = {one.scan for one in left}
        self._members = members_of([*left, *known], self._refuse)
        self._uids = {uid for member in self._members for uid in member.uids}
        self._documents: dict[int, list[str]] = {}
        taken: set[str] = set()
        for member in sorted(self._members, key=lambda member: member.job.scan):  # each with the first it belongs to
            self._documents[member.job.scan] = own = [path for path in member.documents if path not in taken]
            taken.update(own)
        self._uids |= uids_of(map(read_dataset, taken))

    def run(self) -> dict[int, Outcome]:
        """What becomes of each scan that is left."""
        begun = of_most(self._candidates(), self._begin, self._fits)
        if self._mishap is None and begun is not None and self._is_left(begun.member):
            job = begun.member.job
            self._outcomes[job.scan] = _guarded(
                job, lambda work: _write(begun.member, begun.made, begun.audits, begun.seconds, work), begun.seconds
            )
        for member in self._members:
            job = member.job
            if not self._is_left(member) or job.scan in self._outcomes:
                continue
            if self._mishap is not None:
                self._outcomes[job.scan] = self._mishap
            elif begun is None:
                alone = self._failed.get(job.scan) or Outcome(Status.REFUSED, NO_CT.format(member.modality))
                self._outcomes[job.scan] = alone
            else:
                self._outcomes[job.scan] = self._follow(member, begun)
        return self._outcomes

    @property
    def _mishap(self) -> Outcome | None:
        """What was wrong with the disk: the rest waits then."""
        return next((one for one in self._outcomes.values() if isinstance(one.status, Mishap)), None)

    def _candidates(self) -> list[Member]:
        """The CTs, the one in which the head is likely to be seen best first; what cannot be read is refused."""
        ranked: list[tuple[tuple, int, Member]] = []
        for member in list(self._members):
            try:
                if member.modality == CT:
                    ranked.append((member.rank if len(self._members) > 1 else (), len(ranked), member))
            except Exception as error:
                self._refuse(member.job, error)
                self._members.remove(member)
        return [member for _, _, member in sorted(ranked)]

    def _begin(self, member: Member) -> _Begun | None:
        """Find the face in a CT; None where there is none, or it cannot be read."""
        job, found = member.job, []

        def find(work: Path) -> Outcome:
            start, audits = time.perf_counter(), list[dict]()
            kept, missing = member.kept()
            lead = Lead(job.key, job.patient, kept)
            made = member.deface(lead, _look(job, member, audits), self._uids, self._documents[job.scan])
            made[0]["warnings"] += missing
            found.append(_Begun(member, lead, made, audits, time.perf_counter() - start))
            return Outcome(Status.DONE)

        outcome = _guarded(job, find)
        if found:
            return found[0]
        self._failed[job.scan] = outcome
        if isinstance(outcome.status, Mishap):
            self._outcomes[job.scan] = outcome
        return None

    def _fits(self, begun: _Begun, member: Member) -> bool:
        """Whether another CT shows the same head."""
        how = _follow(begun, member)
        try:
            how.find(member.image())
        except InputError as error:
            begun.strangers[member.job.scan] = error
            return False
        except (CTDefaceError, MemoryError, OSError):
            return False
        begun.poses[member.job.scan] = how.pose
        return True

    def _follow(self, member: Member, begun: _Begun) -> Outcome:
        """Lay the new skin on another scan, and write it."""
        job = member.job

        def do(work: Path) -> Outcome:
            start, audits = time.perf_counter(), list[dict]()
            if job.scan in begun.strangers:
                raise begun.strangers[job.scan]
            how = _follow(begun, member, member.kept(begun.member)[0])
            made = member.deface(how, _look(job, member, audits), self._uids, self._documents[job.scan])
            return _write(member, made, audits, time.perf_counter() - start, work)

        return _guarded(job, do)

    def _is_left(self, member: Member) -> bool:
        return member.job.scan in self._left

    def _refuse(self, job: Job, error: Exception) -> None:
        if job.scan in self._left:
            self._outcomes[job.scan] = _outcome_of(error, job)


def _follow(begun: _Begun, member: Member, kept: Sequence[Structure] = ()) -> Follow:
    """What lays the new skin of a study on another scan of it."""
    at_rest = member.frame == begun.member.frame and bool(member.frame)
    trusted = member.is_frame_trusted and member.modality != CT
    before = begun.poses.get(member.job.scan)
    return Follow(begun.face, member.modality, at_rest, trusted=trusted, kept=kept, before=before)


def _look(job: Job, member: Member, audits: list[dict]) -> Callable[[sitk.Image, DefaceResult], None]:
    """Make the pictures and the audit of what becomes of a scan."""

    def look(image: sitk.Image, result: DefaceResult) -> None:
        if not (job.pictures or job.audit):
            return
        if member.modality != CT:
            image, result = _like_ct(image, result)
        if job.pictures:
            from .gallery_pictures import write_pictures

            write_pictures(image, result, Path(job.pictures), str(job.scan), job.originals)
        if job.audit:
            audits.append(audited(job.audit, image, result.image))

    return look


def _like_ct(image: sitk.Image, result: DefaceResult) -> tuple[sitk.Image, DefaceResult]:
    """Another modality with about the values of a CT, for whoever looks at skin: air at -1000 HU, tissue at 40."""
    air, tissue = (_usual(image, result.surface, mm) for mm in (ABOVE_MM, BELOW_MM))
    slope = 1040.0 / (tissue - air or 1.0)

    def shown(one: sitk.Image) -> sitk.Image:
        hu = (sitk.Cast(one, sitk.sitkFloat32) - air) * slope - 1000.0
        return sitk.Cast(sitk.Clamp(hu, lowerBound=-1024, upperBound=3000), sitk.sitkInt16)

    return shown(image), replace(result, image=shown(result.image))


def _usual(image: sitk.Image, surface: Surface, mm: float) -> float:
    """The usual value so far from the skin beside the face; 0 where that is out of view."""
    beside = surface.cylinder.skin_in_view & (surface.outline < 0.0)
    values = values_at(image, surface.cylinder.points(surface.skin + mm)[beside])
    values = values[values > OUTSIDE_HU]
    return float(np.median(values)) if len(values) else 0.0


def _write(member: Member, made: Made, audits: list[dict], seconds: float, work: Path) -> Outcome:
    """Write what was made of a scan, unless an audit still finds the face in it."""
    start, job = time.perf_counter(), member.job
    report, write = made
    left = next((audit for audit in audits if audit["verdict"] in FACE_LEFT), None)
    if audits:
        report["audit"] = left or audits[0]
    report["batch"] = {"run": job.run, "scan": job.name, "attempt": job.attempt}
    report["software"] = software()
    if left is not None:
        return Outcome(Status.HELD_BACK, left["sentence"], None, report)
    if audits and audits[0]["verdict"] == Level.NOT_EVALUABLE:
        report["warnings"].append(audits[0]["sentence"])
    if job.bids:
        report = {**side_car(Path(folders_of(job.path)[0]), member.modality, is_checked(report)), **report}
    part, report_part = work / f"result{suffix(job.output)}", work / "report.json"
    write(part)
    report["seconds"] = round(seconds + time.perf_counter() - start, 2)
    report_part.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return finished(_publish(job, part, report_part) or report)


def _guarded(job: Job, do: Callable[[Path], Outcome], before: float = 0.0) -> Outcome:
    """Do something for a scan in a folder of its own for unfinished files; every error becomes an outcome.

    ``before`` are the seconds that were spent on it already.
    """
    start = time.perf_counter()
    work = Path(job.work) / secrets.token_hex(4)
    try:
        work.mkdir(parents=True, exist_ok=True)
        with temporary_files_in(work), memory_errors():
            outcome = do(work)
    except Exception as error:
        outcome = _outcome_of(error, job)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return replace(outcome, seconds=round(before + time.perf_counter() - start, 2))


def _outcome_of(error: Exception, job: Job) -> Outcome:
    """What an error makes of a scan."""
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
