"""From the numbers of an evaluation to words for somebody who has to decide whether a scan may leave the house."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .face_models import ADVICE_ONLY

if TYPE_CHECKING:
    from .evaluation import Evaluation, Subject

#: share of the grid in which the best detector has to find the original, or its silence proves nothing
EVALUABLE_SHARE = 0.2
#: share of the original's own views from which on a face counts as found; a bare facial skull stays below
FOUND_SHARE = 0.25
#: share of the views compared that have to look like the same head
RECOGNISED_SHARE = 0.5

#: worst first
LEVELS = ("face found", "recognisable", "recoverable", "none of these", "not evaluable")


@dataclass(frozen=True)
class Verdict:
    """Attributes
    ----------
    level: one of LEVELS
    sentence: what that means for this scan
    findings: one sentence each, the evidence
    recovered_by: names of the attacks, or of what lies beside the scan, that bring the face back
    """

    level: str
    sentence: str
    findings: tuple[str, ...] = ()
    recovered_by: tuple[str, ...] = ()


def judge(evaluation: Evaluation) -> Verdict:
    """The verdict on an evaluation.

    A face counts as found when a detector finds one in a quarter of the views in which it finds the original, in at
    least two views of a full grid: one in 70 is a false alarm. It counts as recognisable when in half of the
    views compared what is left is nearer to the original than halfway to another head. Both come with their numbers.
    """
    detectors = [name for name in evaluation.settings.models if name not in ADVICE_ONLY]
    original, defaced = evaluation.subject("original"), evaluation.subject("defaced")
    views = len(evaluation.grid)
    if original is not None:
        best = max((len(original.scores(name)) for name in detectors), default=0)
        if best < EVALUABLE_SHARE * views:
            return Verdict(
                "not evaluable",
                f"Even in the original a face is found in only {best} of {views} views, so that finding none in the "
                "defaced scan proves nothing. Look at the scan yourself, or use another face model.",
            )
    found = {subject.name: _found_by(evaluation, subject, detectors) for subject in evaluation.subjects}
    recovered = [
        subject.name
        for subject in evaluation.subjects
        if subject not in (original, defaced)
        and (found[subject.name] or evaluation.recognised_share(subject) >= RECOGNISED_SHARE)
    ]
    kinds = list(dict.fromkeys(subject.kind for subject in evaluation.subjects if subject.name in recovered))
    if evaluation.pictures_beside:
        kinds.append("picture beside it")
    findings = [_finding(evaluation, subject, detectors) for subject in evaluation.subjects]
    findings += evaluation.pictures_beside
    share = evaluation.recognised_share(defaced)
    if found["defaced"]:
        level, sentence = "face found", "A face detector still finds the face in the defaced scan."
    elif share >= RECOGNISED_SHARE:
        level = "recognisable"
        sentence = (
            f"No detector finds the face, but in {share:.0%} of the views what is left resembles the original more "
            "like pictures of one head than like another head."
        )
    elif kinds:
        level = "recoverable"
        sentence = (
            "The defaced scan shows no face, but what is shared gives it back to anybody who knows how: "
            f"{', '.join(kinds)}."
        )
    elif original is None:
        level = "not evaluable"
        sentence = (
            "No face was found or recovered, but without the original nobody can say whether its face would have been."
        )
    else:
        level = "none of these"
        sentence = (
            "No face was found, recognised or recovered with these models and attacks. That does not prove that nobody "
            "can."
        )
        if evaluation.scale.threshold is None:
            sentence += " Whether what is left resembles the original could not be measured with these models."
    alarms = {name: len(defaced.scores(name)) for name in detectors if defaced.scores(name)}
    if alarms and not found["defaced"]:
        counts = ", ".join(f"{name} in {count} of {views} views" for name, count in alarms.items())
        sentence += f" A detector takes something else for a face now and then ({counts}): look at it yourself."
    if original is None and level != "not evaluable":
        sentence += " Without the original nobody can say how well its face would have been found."
    return Verdict(level, sentence, tuple(findings), tuple(recovered))


def views_needed(evaluation: Evaluation, model: str) -> int:
    """In how many views a model has to find a face for it to count."""
    original = evaluation.subject("original")
    own = len(original.scores(model)) if original else len(evaluation.grid)
    return max(1 if len(evaluation.grid) < 20 else 2, math.ceil(FOUND_SHARE * own))


def worst_first(evaluation: Evaluation) -> list[Subject]:
    """Of every kind of attack the result that gives most away, the worst kind first."""
    attempts = [s for s in evaluation.subjects if s.name not in ("original", "defaced")]

    def harm(subject: Subject) -> tuple:
        found = sum(len(subject.scores(model)) for model in evaluation.settings.models if model not in ADVICE_ONLY)
        return subject.name in evaluation.verdict.recovered_by, found, evaluation.recognised_share(subject)

    best_of_kind = {}
    for subject in sorted(attempts, key=harm, reverse=True):
        best_of_kind.setdefault(subject.kind, subject)
    return list(best_of_kind.values())


def _found_by(evaluation: Evaluation, subject: Subject, detectors: list[str]) -> list[str]:
    return [name for name in detectors if len(subject.scores(name)) >= views_needed(evaluation, name)]


def _finding(evaluation: Evaluation, subject: Subject, detectors: list[str]) -> str:
    counts = ", ".join(f"{name} in {len(subject.scores(name))}" for name in detectors)
    sentence = f"{subject.name}: of {len(evaluation.grid)} views a face is found by {counts}"
    similar = evaluation.similarities(subject)
    if similar and subject.name != "original" and evaluation.scale.threshold is not None:
        sentence += f"; {evaluation.recognised_share(subject):.0%} of {len(similar)} views look like the same head"
    return sentence + "."
