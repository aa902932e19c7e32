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
from ..parameters import DefaceParameters
from ..removal.keep import Structure
from ..study.apply import CT
from ..study.follow import Follow, Lead
from ..study.plan import have_one_frame
from ..study.reference import Seen, beginnings
from .job import Job, Outcome, finished_before
from .looks import look_at
from .members import Member, members_of
from .results import guarded, outcome_of, write_result
from .status import FINISHED, Mishap, Status

NO_CT = "It is no CT ({}), and there is no CT with it in which a head was found, so that no face can be found in it."


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
    """A CT that the face was found in: what was found, and where that head lies in others."""

    def __init__(self, member: Member, lead: Lead, seen: Seen[Member] | None):
        assert lead.face is not None
        self.member, self.face = member, lead.face
        self.poses = {member.job.scan: pose for member, pose in seen.poses} if seen else {}


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
        starts = beginnings(self._candidates(), lambda member: member.image(), have_one_frame)
        begun = next(filter(None, (self._begin(*start) for start in starts)), None)
        for member in sorted(self._members, key=lambda member: member.modality == CT):
            job = member.job
            if not self._is_left(member) or job.scan in self._outcomes:
                continue
            if self._mishap is not None:
                self._outcomes[job.scan] = self._mishap
            elif begun is None:
                alone = self._failed.get(job.scan) or Outcome(Status.REFUSED, NO_CT.format(member.modality))
                self._outcomes[job.scan] = alone
            else:
                if member.modality == CT:  # from now on nobody needs the values of the first
                    begun.face = begun.face.for_cts(DefaceParameters(**job.parameters))
                self._outcomes[job.scan] = self._follow(member, begun)
        return self._outcomes

    @property
    def _mishap(self) -> Outcome | None:
        """What was wrong with the disk: the rest waits then."""
        return next((one for one in self._outcomes.values() if isinstance(one.status, Mishap)), None)

    def _candidates(self) -> list[Member]:
        """The CTs, the one in which the head is likely to be seen best first; what cannot be read is refused.

        Of those that show as much of it, those that have their result come first: what is new gets their face.
        """
        ranked: list[tuple[tuple, int, Member]] = []
        for member in list(self._members):
            try:
                if member.modality == CT:
                    several, length, *finer = member.rank if len(self._members) > 1 else (False, 0)
                    rank = several, length, self._is_left(member), *finer
                    ranked.append((rank, len(ranked), member))
            except Exception as error:
                self._refuse(member.job, error)
                self._members.remove(member)
        return [member for _, _, member in sorted(ranked)]

    def _begin(self, member: Member, seen: Seen[Member] | None) -> _Begun | None:
        """Find the face in a CT, and write it; None where there is none, or it cannot be read."""
        if self._mishap is not None:
            return None
        job, is_left, found = member.job, self._is_left(member), []

        def find(work: Path) -> Outcome:
            start = time.perf_counter()
            kept, missing = member.kept()
            lead = Lead(job.key, job.patient, kept, cylinder=seen.cylinder if seen else None)
            look = look_at(job, member.modality) if is_left else look_away
            made = member.deface(lead, look, self._uids, self._documents[job.scan])
            made[0]["warnings"] += missing
            found.append(_Begun(member, lead, seen))
            return write_result(member, made, time.perf_counter() - start, work) if is_left else Outcome(Status.DONE)

        outcome = guarded(job, find)
        if isinstance(outcome.status, Mishap) or found and is_left:
            self._outcomes[job.scan] = outcome
        elif not found:
            self._failed[job.scan] = outcome
        return found[0] if found else None

    def _follow(self, member: Member, begun: _Begun) -> Outcome:
        """Lay the new skin on another scan, and write it."""
        job = member.job

        def do(work: Path) -> Outcome:
            start = time.perf_counter()
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
    return Follow(
        begun.face,
        member.modality,
        have_one_frame(begun.member, member),
        trusted=member.is_frame_trusted and member.modality != CT,
        kept=kept,
        before=begun.poses.get(member.job.scan),
        is_known=member.job.scan in begun.poses,
    )
