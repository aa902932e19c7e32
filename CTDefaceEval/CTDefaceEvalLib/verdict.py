"""From the numbers of an evaluation to words for somebody who has to decide whether a scan may leave the house."""

from __future__ import annotations

import math

from .face_models import ADVICE_ONLY
from .findings import ORIGINAL, Evaluation, Evidence, Level, Subject, Verdict

EVALUABLE_SHARE = 0.2
"""Share of the grid in which the best detector has to find the original, or its silence proves nothing. Set by
judgement; no other value is on record."""
FOUND_SHARE = 0.25
"""Share of the original's own views from which on a face counts as found; a bare facial skull stays below. Fitted with
the evaluation of one head, head_ct_brain_fov.nii.gz, defaced in eight ways; 0.1 and 0.25 were tried."""
RECOGNISED_SHARE = 0.5
"""Share of the views compared that have to look like the same head: among many attacks, chance reaches a quarter.
Fitted with the same head; 0.25 and 0.5 were tried."""
LEAST_VIEWS, FULL_GRID = 2, 20
"""So many views have to show a face in a grid of at least so many, one in a smaller grid: of 70 views of a defaced
head, or of the back of one, one is a false alarm now and then."""


def judge(evidence: Evidence) -> Verdict:
    """The verdict on what an evaluation saw.

    A face counts as found when a detector finds one in a quarter of the views in which it finds the original, in at
    least two views of a full grid: one in 70 is a false alarm. It counts as recognisable when in half of the
    views compared what is left is nearer to the original than halfway to another head. Both come with their numbers.
    Where the fill is a synthetic person's face, only the latter counts.
    """
    best = _best_of_original(evidence)
    if best is not None and best < EVALUABLE_SHARE * len(evidence.grid):
        return Verdict(
            Level.NOT_EVALUABLE,
            f"Even in the original a face is found in only {best} of {len(evidence.grid)} views, so that finding none "
            "in the defaced scan proves nothing. Look at the scan yourself, or use another face model.",
        )
    recovered = [subject for subject in evidence.recoveries if _is_recovered(evidence, subject)]
    level, sentence = _level(evidence, recovered)
    if level is not Level.FACE_FOUND and not evidence.settings.synthetic_face:
        sentence += _false_alarms(evidence)
    if evidence.original is None and level is not Level.NOT_EVALUABLE:
        sentence += " Without the original nobody can say how well its face would have been found."
    findings = [_finding(evidence, subject) for subject in evidence.subjects] + evidence.pictures_beside
    return Verdict(level, sentence, tuple(findings), tuple(subject.name for subject in recovered))


def views_needed(evidence: Evidence, model: str) -> int:
    """In how many views a model has to find a face for it to count."""
    own = len(evidence.original.scores(model)) if evidence.original else len(evidence.grid)
    return max(1 if len(evidence.grid) < FULL_GRID else LEAST_VIEWS, math.ceil(FOUND_SHARE * own))


def worst_first(evaluation: Evaluation) -> list[Subject]:
    """Of every kind of attack the result that gives most away, the worst kind first."""

    def harm(subject: Subject) -> tuple[bool, int, float]:
        found = sum(len(subject.scores(model)) for model in _detectors(evaluation))
        return subject.name in evaluation.verdict.recovered_by, found, evaluation.recognised_share(subject)

    best_of_kind: dict[str, Subject] = {}
    for subject in sorted(evaluation.recoveries, key=harm, reverse=True):
        best_of_kind.setdefault(subject.kind, subject)
    return list(best_of_kind.values())


def _detectors(evidence: Evidence) -> list[str]:
    return [name for name in evidence.settings.models if name not in ADVICE_ONLY]


def _best_of_original(evidence: Evidence) -> int | None:
    """Views in which the best detector finds the original; None without one."""
    if evidence.original is None:
        return None
    return max((len(evidence.original.scores(name)) for name in _detectors(evidence)), default=0)


def _is_found(evidence: Evidence, subject: Subject) -> bool:
    """Whether a face is found that should not be there."""
    if evidence.settings.synthetic_face and subject.name != ORIGINAL:
        return False
    return any(len(subject.scores(name)) >= views_needed(evidence, name) for name in _detectors(evidence))


def _is_recovered(evidence: Evidence, subject: Subject) -> bool:
    return _is_found(evidence, subject) or evidence.recognised_share(subject) >= RECOGNISED_SHARE


def _level(evidence: Evidence, recovered: list[Subject]) -> tuple[Level, str]:
    kinds = list(dict.fromkeys(subject.kind for subject in recovered))
    if evidence.pictures_beside:
        kinds.append("picture beside it")
    share = evidence.recognised_share(evidence.defaced)
    if _is_found(evidence, evidence.defaced):
        return Level.FACE_FOUND, "A face detector still finds the face in the defaced scan."
    if share >= RECOGNISED_SHARE:
        found = "The face is a synthetic one" if evidence.settings.synthetic_face else "No detector finds the face"
        return Level.RECOGNISABLE, (
            f"{found}, but in {share:.0%} of the views what is left resembles the original more like pictures of one "
            "head than like another head."
        )
    if kinds:
        return Level.RECOVERABLE, (
            "The defaced scan shows no face, but what is shared gives it back to anybody who knows how: "
            f"{', '.join(kinds)}."
        )
    if evidence.original is None:
        return Level.NOT_EVALUABLE, (
            "No face was found or recovered, but without the original nobody can say whether its face would have been."
        )
    if evidence.settings.synthetic_face and evidence.scale.threshold is None:
        return Level.NOT_EVALUABLE, (
            "Whether the synthetic face resembles this person could not be measured with these models. Look at the "
            "scan yourself, or use another face model."
        )
    if evidence.settings.synthetic_face:
        return Level.NONE_OF_THESE, (
            "The face in the defaced scan is not recognised as this person's with these models and attacks. That does "
            "not prove that nobody can."
        )
    sentence = (
        "No face was found, recognised or recovered with these models and attacks. That does not prove that nobody can."
    )
    if evidence.scale.threshold is None:
        sentence += " Whether what is left resembles the original could not be measured with these models."
    return Level.NONE_OF_THESE, sentence


def _false_alarms(evidence: Evidence) -> str:
    """A sentence on the few views of the defaced scan in which a detector fires, empty where there are none."""
    alarms = {name: len(evidence.defaced.scores(name)) for name in _detectors(evidence)}
    counts = [f"{name} in {count} of {len(evidence.grid)} views" for name, count in alarms.items() if count]
    if not counts:
        return ""
    return f" A detector takes something else for a face now and then ({', '.join(counts)}): look at it yourself."


def _finding(evidence: Evidence, subject: Subject) -> str:
    counts = ", ".join(f"{name} in {len(subject.scores(name))}" for name in _detectors(evidence))
    sentence = f"{subject.name}: of {len(evidence.grid)} views a face is found by {counts}"
    similar = evidence.similarities(subject)
    if similar and subject.name != ORIGINAL and evidence.scale.threshold is not None:
        sentence += f"; {evidence.recognised_share(subject):.0%} of {len(similar)} views look like the same head"
    return sentence + "."
