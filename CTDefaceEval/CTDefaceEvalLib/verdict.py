"""From the numbers of an evaluation to words for somebody who has to decide whether a scan may leave the house."""

from __future__ import annotations

import math

from .face_models import ADVICE_ONLY
from .facial_shape import FacialShape
from .findings import (
    BOUND,
    CONTROL,
    DEFACED,
    NOTHING_KEPT,
    ORIGINAL,
    Evaluation,
    Evidence,
    Level,
    Likeness,
    Subject,
    Verdict,
)
from .recognition import SAME_PERSON

EVALUABLE_SHARE = 0.2
"""Share of the grid in which the best detector has to find the original, or its silence proves nothing. Set by
judgement; no other value is on record."""
FOUND_SHARE = 0.25
"""Share of the original's own views from which on a face counts as found; a bare facial skull stays below. Fitted with
the evaluation of one head, head_ct_brain_fov.nii.gz, defaced in eight ways; 0.1 and 0.25 were tried."""
LEAST_COST = 0.005
"""Likeness below which keeping something costs nothing: what rounds to 0 %. A choice."""
LEAST_VIEWS, FULL_GRID = 2, 20
"""So many views have to show a face in a grid of at least so many, one in a smaller grid: of 70 views of a defaced
head, or of the back of one, one is a false alarm now and then."""


def judge(evidence: Evidence) -> Verdict:
    """The verdict on what an evaluation saw: whose face is it, if there is any?

    A subject gives the person away when its likeness to the original (:mod:`.recognition`) is that of one person, as
    measured with a cohort, or when its skin has the shape of this face rather than of others (:mod:`.facial_shape`). A
    face that is found and not recognised is told as such. Where no model can tell whose face it is, because there is no
    original or none that embeds, finding one decides: in a quarter of the views in which the original is found, in at
    least two views of a full grid, and in more than the backs of heads.
    """
    best = _best_of_original(evidence)
    if best is not None and best < EVALUABLE_SHARE * len(evidence.grid):
        return Verdict(
            Level.NOT_EVALUABLE,
            f"Even in the original a face is found in only {best} of {len(evidence.grid)} views, so that finding none "
            "in the defaced scan proves nothing. Look at the scan yourself, or use another face model.",
        )
    control = evidence.subject(CONTROL)
    if control and is_recognised(evidence, control):
        return Verdict(
            Level.NOT_EVALUABLE,
            "Even with its whole front cut off this head is taken for the same person by its outline alone, so that "
            "this model cannot tell. Look at the scan yourself, or use another face model.",
        )
    recovered = [subject for subject in evidence.recoveries if _gives_away(evidence, subject)]
    level, sentence = _level(evidence, recovered)
    if level not in (Level.FACE_FOUND, Level.RECOGNISABLE):
        sentence += _faces_of_others(evidence)
    if evidence.original is None and level is not Level.NOT_EVALUABLE:
        sentence += " Without the original nobody can say how well its face would have been found."
    findings = [_finding(evidence, subject) for subject in evidence.subjects] + evidence.pictures_beside
    if evidence.likeness and not evidence.scale.is_kept:
        findings.append(no_gallery_text(evidence))
    return Verdict(level, sentence, tuple(findings), tuple(subject.name for subject in recovered))


def no_gallery_text(evidence: Evidence) -> str:
    """Why a likeness is worth less where the recogniser has no gallery of people."""
    return (
        f"No gallery of people is kept for {evidence.recogniser} and pictures drawn like these: a few heads stand for "
        f"other people, and that two heads count as one person's from {SAME_PERSON:.0%} on was measured with others. "
        "Take the likeness as a hint."
    )


def is_recognised(evidence: Evidence, subject: Subject) -> bool:
    """Whether a subject is taken for the person of the original."""
    likeness = evidence.likeness.get(subject.name)
    return likeness is not None and likeness.high >= SAME_PERSON


def has_its_shape(evidence: Evidence, subject: Subject) -> bool:
    """Whether a subject has kept the shape of the original's face."""
    shape = evidence.shapes.get(subject.name)
    return shape is not None and shape.is_left


def is_this_person(evidence: Evidence, subject: Subject) -> bool:
    """Whether a subject gives the person away: it is recognised, or the face has its shape."""
    return is_recognised(evidence, subject) or has_its_shape(evidence, subject)


def views_needed(evidence: Evidence, model: str) -> int:
    """In how many views a model has to find a face for it to count."""
    own = len(evidence.original.scores(model)) if evidence.original else len(evidence.grid)
    least = 1 if len(evidence.grid) < FULL_GRID else LEAST_VIEWS
    return max(least, math.ceil(FOUND_SHARE * own), evidence.false_alarms(model) + 1)


def worst_first(evaluation: Evaluation) -> list[Subject]:
    """Of every kind of attack the result that gives most away, the worst kind first."""

    def harm(subject: Subject) -> tuple[bool, float, int]:
        likeness = evaluation.likeness.get(subject.name)
        found = sum(len(subject.scores(model)) for model in _detectors(evaluation))
        return subject.name in evaluation.verdict.recovered_by, likeness.high if likeness else 0.0, found

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
    """Whether so many views show a face that it counts as found."""
    return any(len(subject.scores(name)) >= views_needed(evidence, name) for name in _detectors(evidence))


def _gives_away(evidence: Evidence, subject: Subject) -> bool:
    """Whether a recovery is recognised, or shows a face and nobody can tell whose."""
    if is_this_person(evidence, subject):
        return True
    return not evidence.likeness and subject.name != BOUND and _is_found(evidence, subject)


def _level(evidence: Evidence, recovered: list[Subject]) -> tuple[Level, str]:
    kinds = list(dict.fromkeys(subject.kind for subject in recovered))
    if evidence.pictures_beside:
        kinds.append("picture beside it")
    if is_recognised(evidence, evidence.defaced):
        return Level.RECOGNISABLE, (
            f"The defaced scan is recognised as this person: {_measured(evidence, evidence.defaced)}."
        )
    if has_its_shape(evidence, evidence.defaced):
        return Level.RECOGNISABLE, evidence.shapes[DEFACED].sentence
    if not evidence.likeness and _is_found(evidence, evidence.defaced):
        return Level.FACE_FOUND, "A face is found in the defaced scan, and whose it is could not be measured."
    if kinds:
        return Level.RECOVERABLE, _recoverable(evidence, recovered, kinds)
    if evidence.original is None:
        return Level.NOT_EVALUABLE, (
            "No face was found or recovered, but without the original nobody can say whether its face would have been."
        )
    if not evidence.likeness or not evidence.settings.attacks:
        return Level.NOT_ALL_TRIED, _not_all_tried(evidence)
    nearest = max([evidence.defaced, *evidence.recoveries], key=lambda subject: _value(evidence, subject))
    return Level.NOT_RECOGNISABLE, (
        f"Neither the defaced scan nor what the attacks made of it is recognised as this person: at most, by "
        f"{nearest.name}, {_measured(evidence, nearest)}. That holds for these models and attacks; it does not prove "
        "that nobody can."
    )


def _recoverable(evidence: Evidence, recovered: list[Subject], kinds: list[str]) -> str:
    if kinds == [BOUND] and is_recognised(evidence, recovered[0]):
        return (
            "The defaced scan itself is not recognised, but what was left untouched is, once the rest is taken away: "
            f"{_measured(evidence, recovered[0])}. More of the head has to be replaced."
        )
    return (
        f"The defaced scan itself is not recognised, but what is shared gives the face back to anybody who knows how: "
        f"{', '.join(kinds)}."
    )


def cost_of_keeping(evidence: Evidence) -> str:
    """What keeping something costs: the bound with it in the head against the bound without, in one sentence.

    Empty where nothing was kept.
    """
    if evidence.subject(NOTHING_KEPT) is None:
        return ""
    kept, bare = (evidence.likeness.get(name) for name in (BOUND, NOTHING_KEPT))
    if kept is None or bare is None:
        return "What keeping structures costs could not be measured with these models."
    with_it, without = (_interval_text(one) for one in (kept, bare))
    if kept.value - bare.value < LEAST_COST:
        return (
            f"Keeping structures costs nothing that is seen: what was left untouched has likeness {with_it} with them, "
            f"and {without} without them."
        )
    return (
        f"Keeping structures costs {kept.value - bare.value:.0%} of likeness: with them what was left untouched has "
        f"{with_it}, without them {without}, one person from {SAME_PERSON:.0%} on."
    )


def _value(evidence: Evidence, subject: Subject) -> float:
    likeness = evidence.likeness.get(subject.name)
    return likeness.high if likeness else -math.inf


def _measured(evidence: Evidence, subject: Subject) -> str:
    """The likeness of a subject with its interval, and what it has to be for one person."""
    return f"likeness {_interval_text(evidence.likeness[subject.name])}, one person from {SAME_PERSON:.0%} on"


def _interval_text(likeness: Likeness) -> str:
    """A likeness with its interval, in the words of all reports."""
    return f"{likeness.value:.0%} (95 % over the views: {likeness.low:.0%} to {likeness.high:.0%})"


def shape_text(shape: FacialShape | None) -> str:
    """How far a skin lies from the original's and from other people's, for a table."""
    if shape is None or not shape.others_mean_mm:
        return "–"
    others = f"others {min(shape.others_mean_mm):.1f} to {max(shape.others_mean_mm):.1f} mm"
    return f"{shape.mean_mm:.1f} mm, {others}{', kept' if shape.is_left else ''}"


def _not_all_tried(evidence: Evidence) -> str:
    """What was not seen, and what nobody has tried to see: that is never passed."""
    sentences = []
    if not evidence.likeness:
        sentences.append("No face was found in these views.")
        sentences.append("Whether what is left resembles the original could not be measured with these models.")
    else:
        measured = _measured(evidence, evidence.defaced)
        sentences.append(f"The defaced scan is not recognised as this person: {measured}.")
    if not evidence.settings.attacks:
        sentences.append("Whether the face can be recovered was not tried: no attack was made.")
    return " ".join(sentences)


def _faces_of_others(evidence: Evidence) -> str:
    """A sentence on the views of the defaced scan in which a detector finds a face that is not recognised, or none."""
    found = {name: len(evidence.defaced.scores(name)) for name in _detectors(evidence)}
    counts = [f"by {name} in {count} of {len(evidence.grid)} views" for name, count in found.items() if count]
    if not counts:
        return ""
    if _is_found(evidence, evidence.defaced) and evidence.likeness:
        return f" A face is found in it ({', '.join(counts)}), but it is not this person's."
    return f" A detector takes something else for a face now and then ({', '.join(counts)}): look at it yourself."


def _finding(evidence: Evidence, subject: Subject) -> str:
    counts = []
    for name in _detectors(evidence):
        views = sum(sighting.model == name for sighting in subject.sightings)
        if views:
            counts.append(f"{name} finds a face in {len(subject.scores(name))} of {views} views")
    sentence = f"{subject.name}: {', '.join(counts) or 'not searched'}"
    likeness = evidence.likeness.get(subject.name)
    if likeness is not None and subject.name != ORIGINAL:
        word = "recognised" if is_recognised(evidence, subject) else "not recognised"
        sentence += f"; likeness to the original {_interval_text(likeness)}, {word}"
    if has_its_shape(evidence, subject):
        sentence += f"; its skin lies {shape_text(evidence.shapes[subject.name])}"
    return sentence + "."
