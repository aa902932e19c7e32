"""The page of one scan's evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from CTDefaceLib.anatomy.hounsfield import TISSUE_HU

from .attacks import GROWTHS_MM, LOWERED_ISO, PEELS_MM
from .charts import density, line_chart
from .detection import FIELD_OF_VIEW_MM, GRID_MM
from .face_models import ADVICE_ONLY
from .findings import BOUND, DEFACED, ORIGINAL, Evaluation, Level, Subject
from .pages import FACE_NOTICE, image, list_of, page, table, versions
from .preservation_page import preservation_parts
from .recognition import DRAWS, SAME_PERSON
from .verdict import (
    EVALUABLE_SHARE,
    FOUND_SHARE,
    is_recognised,
    no_gallery_text,
    shape_text,
    views_needed,
    worst_first,
)

ATTACKS_SHOWN = 5
"""Attacks whose pictures are shown, the worst first."""
COLOUR_OF_LEVEL = {
    Level.FACE_FOUND: "#b3261e",
    Level.RECOGNISABLE: "#b3261e",
    Level.RECOVERABLE: "#c25e00",
    Level.NOT_RECOGNISABLE: "#2e6b34",
    Level.NOT_ALL_TRIED: "#5f5f5f",
    Level.NOT_EVALUABLE: "#5f5f5f",
}


def evaluation_page(evaluation: Evaluation, pictures: bool = True) -> str:
    """The page of one scan as HTML."""
    verdict = evaluation.verdict
    first = (evaluation.original, evaluation.defaced, evaluation.subject(BOUND))
    shown = [subject for subject in first if subject]
    shown += [subject for subject in worst_first(evaluation) if subject not in shown][:ATTACKS_SHOWN]
    colour = COLOUR_OF_LEVEL[verdict.level]
    parts = [
        f'<div class="verdict" style="border-color:{colour}"><b style="color:{colour}">{escape(str(verdict.level))}</b>'
        f"{escape(verdict.sentence)}</div>",
        f'<p class="notice">{FACE_NOTICE}</p>' if pictures else "",
        "<h2>What was found</h2>",
        _evaluation_table(evaluation),
    ]
    parts += [f"<p>{escape(sentence)}</p>" for sentence in evaluation.pictures_beside]
    if pictures:
        parts += ["<h2>Original, defaced, recovered</h2>", *(_picture_row(subject) for subject in shown)]
    parts += ["<h2>By view</h2>", _maps_note(evaluation), '<div class="maps">']
    for subject in filter(None, (evaluation.original, evaluation.defaced)):
        parts += [_heat_map(evaluation, subject, model) for model in evaluation.settings.models]
    parts.append("</div>")
    if evaluation.scale.threshold is not None:
        parts += [
            "<h2>Similarity of single pictures</h2>",
            _similarity_chart(evaluation, shown),
        ]
    shape = evaluation.shapes.get(DEFACED)
    parts += ["<h2>Shape of the face</h2>", f"<p>{escape(shape.sentence)}</p>"] if shape else []
    parts += preservation_parts(evaluation.preservation) if evaluation.preservation else []
    parts += ["<h2>How this was measured</h2>", _evaluation_methods(evaluation)]
    return page("Is this person still recognised?", parts)


def _evaluation_table(evaluation: Evaluation) -> str:
    models = evaluation.settings.models
    head = ["", *(f"{model}: views with a face" for model in models), "best score", "mean score"]
    head += ["likeness to the original (95 % over the views)", "recognised", "shape", "region, mL"]
    rows = []
    for subject in evaluation.subjects:
        counts = []
        for model in models:
            views = sum(sighting.model == model for sighting in subject.sightings)
            counts.append(f"{len(subject.scores(model))} of {views}" if views else "–")
        scores = subject.scores(models[0])
        likeness = evaluation.likeness.get(subject.name) if subject is not evaluation.original else None
        recognised = is_recognised(evaluation, subject)
        cells = [
            *counts,
            f"{max(scores):.2f}" if scores else "–",
            f"{sum(scores) / len(scores):.2f}" if scores else "–",
            f"{likeness.value:.0%} ({likeness.low:.0%} to {likeness.high:.0%})" if likeness else "–",
            ("yes" if recognised else "no") if likeness else "–",
            shape_text(evaluation.shapes.get(subject.name)),
            f"{subject.region_ml:.0f}" if subject.region_ml else "",
        ]
        bad = subject.name in evaluation.verdict.recovered_by
        bad |= subject is evaluation.defaced and evaluation.verdict.level in (Level.RECOGNISABLE, Level.FACE_FOUND)
        rows.append((subject.name, cells, bad))
    note = f'<p class="small">Scores are those of {escape(models[0])}.</p>'
    return table(head, rows) + note


def _picture_row(subject: Subject) -> str:
    images = "".join(image(picture, f"{subject.name}, view {i + 1}") for i, picture in enumerate(subject.pictures))
    return f'<div class="row"><span>{escape(subject.name)}</span>{images or "nothing to draw"}</div>'


def _maps_note(evaluation: Evaluation) -> str:
    lights = " and ".join(evaluation.grid.lights)
    return (
        f'<p class="small">Number of pictures with a face in each view; light: {escape(lights)}. Yaw from '
        "left to right (positive: from the patient's left), pitch from top to bottom (positive: from above).</p>"
    )


def _heat_map(evaluation: Evaluation, subject: Subject, model: str) -> str:
    grid = evaluation.grid
    found: dict[tuple[float, float], int] = {}
    for yaw, pitch, _ in subject.faces(model):
        found[yaw, pitch] = found.get((yaw, pitch), 0) + 1
    rows = ["<tr><th></th>" + "".join(f"<th>{yaw:g}°</th>" for yaw in grid.yaws) + "</tr>"]
    for pitch in reversed(grid.pitches):
        cells = ""
        for yaw in grid.yaws:
            share = found.get((yaw, pitch), 0) / len(grid.lights)
            colour = f"rgb({245 - round(66 * share)},{245 - round(207 * share)},{245 - round(215 * share)})"
            ink = "#fff" if share > 0.4 else "#777"
            cells += f'<td style="background:{colour};color:{ink}">{found.get((yaw, pitch), 0)}</td>'
        rows.append(f"<tr><th>{pitch:g}°</th>{cells}</tr>")
    caption = f"{escape(subject.name)}, {escape(model)}: {len(subject.scores(model))} of {len(grid)}"
    return f'<figure><table class="map">{"".join(rows)}</table><figcaption>{caption}</figcaption></figure>'


def _similarity_chart(evaluation: Evaluation, shown: Sequence[Subject]) -> str:
    scale = evaluation.scale
    marks = [] if scale.threshold is None else [("same head →", scale.threshold)]
    samples = [("this head, other light or side", scale.same_head), ("other heads", scale.other_heads)]
    samples += [
        (f"original against: {subject.name}", list(evaluation.similarities(subject).values()))
        for subject in shown[1:4]
        if subject.name != ORIGINAL
    ]
    samples = [(name, values) for name, values in samples if values]
    low = min(min(values) for _, values in samples)
    lines = [(f"{name}, median {_median(values):.3f}", *density(values, low, 1.0, 24)) for name, values in samples]
    chart = line_chart(
        lines,
        "cosine similarity",
        "share of pairs",
        x_range=(low, 1.0),
        y_range=None,
        marks=marks,
    )
    return f'<div class="charts">{chart}</div>'


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _evaluation_methods(evaluation: Evaluation) -> str:
    grid, needed = evaluation.grid, []
    for model in evaluation.settings.models:
        if model not in ADVICE_ONLY:
            needed.append(f"{views_needed(evaluation, model)} of {len(grid)} for {model}")
    items = [
        f"Pictures: {_drawn(evaluation)}, {FIELD_OF_VIEW_MM:g} mm field of view, around the head's own axes as found "
        "in the original.",
        f"Views “{evaluation.settings.views}”: yaw {list_of(grid.yaws)}°, pitch {list_of(grid.pitches)}°, lights "
        f"{', '.join(grid.lights)}; {len(grid)} pictures of each surface.",
        _recognition_methods(evaluation),
        "Controls: the original from behind, where no face is (what a detector finds counts above that only), and the "
        "original with everything in front of the ears cut off (outline, ears and field of view alone link heads). The "
        "bound: the defaced volume with all that was changed emptied; whatever a fill is attacked with, that is left.",
        f"Where whose face it is cannot be measured, finding one decides: from {FOUND_SHARE:.0%} of the original's own "
        f"views on ({', '.join(needed)}). The original has to be found in {EVALUABLE_SHARE:.0%} of the views, or the "
        "scan is not evaluable.",
        f"Attacks, on the defaced volume alone: {', '.join(evaluation.settings.attacks) or 'none'}. Iso levels "
        f"{list_of(LOWERED_ISO)} HU, peel {list_of(PEELS_MM)} mm, growth {list_of(GROWTHS_MM)} mm.",
        *(f"Model {model['name']}. Licence: {model['licence']}." for model in evaluation.models),
        f"Took {evaluation.seconds:.0f} s. {versions()}",
    ]
    return '<ul class="small">' + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _recognition_methods(evaluation: Evaluation) -> str:
    if not evaluation.likeness:
        return f"Recognised by {evaluation.recogniser or 'no model'}: not measured."
    views = max(likeness.views for likeness in evaluation.likeness.values())
    return (
        f"Recognised by {evaluation.recogniser}: the embeddings in the {views} views in which the original is found "
        "best make a template; where no face is found then, what lies in its place is embedded. Likeness is the cosine "
        "of both templates on a scale from other people (0 %) to the original itself (100 %). From "
        f"{SAME_PERSON:.0%} on two heads are taken for one person's: of a cohort, one pair of two people in a hundred "
        f"reaches that. In brackets: 95 % interval over the choice of the views, bootstrap with {DRAWS} draws."
    ) + ("" if evaluation.scale.is_kept else f" {no_gallery_text(evaluation)}")


def _drawn(evaluation: Evaluation) -> str:
    settings = evaluation.settings
    camera = "a camera at 1 m" if settings.perspective else "parallel rays"
    if settings.rendering == "volume":
        return f"volume rendering of the skin, {camera}"
    return f"skin surface at {list_of([TISSUE_HU])} HU on a grid of {GRID_MM:g} mm, {camera}"
