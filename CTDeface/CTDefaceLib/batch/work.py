"""A job of a batch, from reading to its results; runs in any process, on any machine.

The face is found in the CT in which it is seen best, and its new skin laid on the other scans of the study. Each of
them is written by itself: one that cannot be done gets its sentence, and the others are done.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..dicom.deface import uids_of
from ..dicom.defaced_stack import look_away
from ..dicom.files import read_dataset
from ..errors import CTDefaceError, InputError
from ..removal.keep import Structure
from ..study.apply import CT
from ..study.follow import Follow, Lead
from ..study.reference import of_most
from ..study.register import Pose
from .job import Job, Outcome, finished_before
from .looks import look_at
from .members import Made, Member, members_of
from .results import guarded, outcome_of, write_result
from .status import FINISHED, Mishap, Status

NO_CT = "It is no CT ({}), and its study has no CT in which a head was found, so that no face can be found in it."


def run_job(job: Job) -> Outcome:
    """Do a job. Results that an earlier attempt left complete are not touched.

    Returns
    -------
    Outcome
        Of its own scan, with those of its study; every error becomes one.
    """
    outcomes = {one.scan: done for one in job.whole if (done := finished_before(one)) is not None}
    left = [one for one in job.whole if one.scan not in outcomes]
    if left:
        made = [one for one in job.whole if one.scan in outcomes and outcomes[one.scan].status in FINISHED]
        try:
            outcomes.update(_Study(left, [*job.known, *made]).run())
        except Exception as error:
            outcomes.update({one.scan: outcome_of(error, one) for one in left})
    first, *others = (outcomes[one.scan] for one in job.whole)
    return replace(first, study=tuple(others))


class _Begun:
    """A CT that the face was found in: what was found, and what is to be written."""

    def __init__(self, member: Member, lead: Lead, made: Made, seconds: float):
        assert lead.face is not None
        self.member, self.face, self.made, self.seconds = member, lead.face, made, seconds
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
            self._outcomes[job.scan] = guarded(
                job,
                lambda work: write_result(begun.member, begun.made, begun.seconds, work),
                begun.seconds,
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
            start = time.perf_counter()
            kept, missing = member.kept()
            lead = Lead(job.key, job.patient, kept)
            look = look_at(job, member.modality) if self._is_left(member) else look_away
            made = member.deface(lead, look, self._uids, self._documents[job.scan])
            made[0]["warnings"] += missing
            found.append(_Begun(member, lead, made, time.perf_counter() - start))
            return Outcome(Status.DONE)

        outcome = guarded(job, find)
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
            start = time.perf_counter()
            if job.scan in begun.strangers:
                raise begun.strangers[job.scan]
            how = _follow(begun, member, member.kept(begun.member)[0])
            made = member.deface(how, look_at(job, member.modality), self._uids, self._documents[job.scan])
            return write_result(member, made, time.perf_counter() - start, work)

        return guarded(job, do)

    def _is_left(self, member: Member) -> bool:
        return member.job.scan in self._left

    def _refuse(self, job: Job, error: Exception) -> None:
        if job.scan in self._left:
            self._outcomes[job.scan] = outcome_of(error, job)


def _follow(begun: _Begun, member: Member, kept: Sequence[Structure] = ()) -> Follow:
    """What lays the new skin of a study on another scan of it."""
    at_rest = member.frame == begun.member.frame and bool(member.frame)
    trusted = member.is_frame_trusted and member.modality != CT
    before = begun.poses.get(member.job.scan)
    return Follow(begun.face, member.modality, at_rest, trusted=trusted, kept=kept, before=before)
