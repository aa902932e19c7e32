"""Reports of evaluations: one HTML page that needs nothing else, with every number as CSV and JSON beside it."""

from __future__ import annotations

import base64
import csv
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from CTDefaceLib import __version__
from CTDefaceLib.errors import OutputError
from CTDefaceLib.files import check_output, written_whole
from CTDefaceLib.render import png_bytes

from .attacks import GROWTHS_MM, LOWERED_ISO, PEELS_MM
from .charts import density, line_chart
from .cohort import Cohort
from .detection import FIELD_OF_VIEW_MM, GRID_MM, TRIANGLES
from .evaluation import Evaluation, Subject
from .face_models import ADVICE_ONLY
from .pairs import Separation
from .verdict import EVALUABLE_SHARE, FOUND_SHARE, RECOGNISED_SHARE, views_needed, worst_first

#: attacks whose pictures are shown, the worst first
ATTACKS_SHOWN = 5
COLOUR_OF_LEVEL = {
    "face found": "#b3261e",
    "recognisable": "#b3261e",
    "recoverable": "#c25e00",
    "none of these": "#2e6b34",
    "not evaluable": "#5f5f5f",
}
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .3rem }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; break-after: avoid }
.verdict { border-left: .5rem solid; padding: .6rem 1rem; background: #f5f5f5; margin: 1rem 0 }
.verdict b { display: block; font-size: 1.35rem }
.verdict b::first-letter { text-transform: uppercase }
.notice { border: 1px solid #b3261e; padding: .4rem .8rem }
.small { font-size: .86rem; color: #444 }
table { border-collapse: collapse; font-size: .86rem; margin: .5rem 0 }
td, th { padding: .18rem .5rem; border-bottom: 1px solid #ddd }
th { text-align: left; vertical-align: bottom }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
tr { break-inside: avoid }
tr.bad td { background: #fbe5e3 }
figure { margin: 0; break-inside: avoid }
figcaption { font-size: .86rem }
.maps { display: flex; flex-wrap: wrap; gap: 1rem 1.6rem }
.map td { width: 2rem; text-align: center; border: 1px solid #fff; padding: .15rem }
.map th { border: 0; font-weight: normal; text-align: center }
.row { display: flex; gap: 3px; margin-bottom: 3px; break-inside: avoid; align-items: center }
.row img { max-width: 100%; display: block }
.row > img { min-width: 0; flex: 0 1 220px }
.row span { width: 8.5rem; flex: none; font-size: .86rem }
.charts { display: flex; flex-wrap: wrap; gap: 1rem }
@media print {
  body { margin: 0; max-width: none; font-size: 11px }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact }
}
"""
FEW_FACES = 20
FACE_NOTICE = (
    "This page shows the face of the patient. Keep it as you keep the scan itself, and do not share it with the "
    "defaced data."
)


def report_paths(path: str | os.PathLike) -> tuple[Path, Path, Path]:
    """The CSV, JSON and HTML files of a report named by its page. Raises OutputError for another ending."""
    page = Path(path)
    if page.suffix.lower() not in (".html", ".htm"):
        raise OutputError("The report is a web page: choose a name that ends in .html.")
    return page.with_suffix(".csv"), page.with_suffix(".json"), page


def check_report(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Refuse a report that could not be written later (OutputError)."""
    for file in report_paths(path):
        check_output(file, overwrite)


def write_evaluation(
    evaluation: Evaluation, path: str | os.PathLike, *, pictures: bool = True, overwrite: bool = False
) -> None:
    """Write the report of one scan: the page, and CSV and JSON of the same name. Raises OutputError.

    `pictures` of the head go into the page unless told otherwise; they show the face.
    """
    _write(path, overwrite, evaluation_rows(evaluation), evaluation.as_dict(), evaluation_page(evaluation, pictures))


def write_cohort(cohort: Cohort, path: str | os.PathLike, *, pictures: bool = True, overwrite: bool = False) -> None:
    """Write the report of a cohort, as :func:`write_evaluation`."""
    rows = [list(cohort.scans[0]), *(list(scan.values()) for scan in cohort.scans)]
    _write(path, overwrite, rows, cohort.as_dict(), cohort_page(cohort, pictures))


def _write(path, overwrite: bool, rows: Iterable[Sequence], numbers: dict, page: str) -> None:
    with written_whole(*report_paths(path), overwrite=overwrite) as (table_part, numbers_part, page_part):
        with open(table_part, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
        numbers_part.write_text(json.dumps(numbers, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        page_part.write_text(page, encoding="utf-8")


def evaluation_rows(evaluation: Evaluation) -> list[list]:
    """Every picture that was looked at, below a row with the names of the columns."""
    rows: list[list] = [["subject", "kind", "region_ml", "model", "yaw", "pitch", "light", "score", "similarity"]]
    for subject in evaluation.subjects:
        similar = evaluation.similarities(subject)
        for s in subject.sightings:
            value = similar.get(s.view) if s.model == evaluation.recogniser else None
            score = s.face.score if s.face else None
            rows.append([subject.name, subject.kind, subject.region_ml, s.model, *s.view, score, value])
    return rows


# ------------------------------------------------------------------------------------------------------------- one scan


def evaluation_page(evaluation: Evaluation, pictures: bool = True) -> str:
    """The page of one scan as HTML."""
    verdict = evaluation.verdict
    worst = worst_first(evaluation)
    shown = [s for s in (evaluation.subject("original"), evaluation.subject("defaced")) if s] + worst[:ATTACKS_SHOWN]
    colour = COLOUR_OF_LEVEL[verdict.level]
    parts = [
        f'<div class="verdict" style="border-color:{colour}"><b style="color:{colour}">{escape(verdict.level)}</b>'
        f"{escape(verdict.sentence)}</div>",
        f'<p class="notice">{FACE_NOTICE}</p>' if pictures else "",
        "<h2>What was found</h2>",
        _evaluation_table(evaluation),
    ]
    parts += [f"<p>{escape(sentence)}</p>" for sentence in evaluation.pictures_beside]
    if pictures:
        parts += ["<h2>Original, defaced, recovered</h2>", *(_picture_row(subject) for subject in shown)]
    parts += ["<h2>By view</h2>", _maps_note(evaluation), '<div class="maps">']
    for subject in shown[:3]:
        parts += [_heat_map(evaluation, subject, model) for model in evaluation.settings.models]
    parts.append("</div>")
    if evaluation.scale.threshold is not None:
        parts += ["<h2>Similarity on the scan's own scale</h2>", _similarity_chart(evaluation, shown)]
    parts += ["<h2>How this was measured</h2>", _evaluation_methods(evaluation)]
    return _page("Can the face be found, recognised or recovered?", parts)


def _evaluation_table(evaluation: Evaluation) -> str:
    models, views = evaluation.settings.models, len(evaluation.grid)
    original = evaluation.subject("original")
    head = ["", *(f"{model}: views of {views}" for model in models), "best score", "mean score"]
    head += ["similarity, median (quartiles)", "views like the same head", "region, mL"]
    rows = []
    for subject in evaluation.subjects:
        counts = []
        for model in models:
            count = len(subject.scores(model))
            own = len(original.scores(model)) if original else 0
            counts.append(f"{count} ({count / own:.0%})" if own and subject is not original else str(count))
        scores = [score for score in subject.scores(models[0])]
        similar = evaluation.similarities(subject)
        cells = [
            *counts,
            f"{max(scores):.2f}" if scores else "–",
            f"{sum(scores) / len(scores):.2f}" if scores else "–",
            _spread_text(similar.values()) if similar and subject is not original else "–",
            f"{evaluation.recognised_share(subject):.0%}" if similar and subject is not original else "–",
            f"{subject.region_ml:.0f}" if subject.region_ml else "",
        ]
        bad = subject.name in evaluation.verdict.recovered_by
        bad |= subject.name == "defaced" and evaluation.verdict.level in ("face found", "recognisable")
        rows.append((subject.name, cells, bad))
    note = f'<p class="small">In brackets: relative to the original. Scores are those of {escape(models[0])}.</p>'
    return _table(head, rows) + note


def _spread_text(values: Iterable[float]) -> str:
    from .evaluation import quartiles

    spread = quartiles(list(values))
    return _quartile_text(spread)


def _quartile_text(spread: dict | None) -> str:
    return "–" if spread is None else f"{spread['median']:.3f} ({spread['q1']:.3f}–{spread['q3']:.3f})"


def _picture_row(subject: Subject) -> str:
    images = "".join(_image(picture, f"{subject.name}, view {i + 1}") for i, picture in enumerate(subject.pictures))
    return f'<div class="row"><span>{escape(subject.name)}</span>{images or "nothing to draw"}</div>'


def _image(png: bytes, text: str) -> str:
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


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
    samples = [("this head, other light or side", scale.same_head), ("other heads", scale.other_heads)]
    samples += [
        (f"original against: {subject.name}", list(evaluation.similarities(subject).values()))
        for subject in shown[1:4]
        if subject.name != "original"
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
        marks=[("same head →", scale.threshold)],
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
        f"Views “{evaluation.settings.views}”: yaw {_list(grid.yaws)}°, pitch {_list(grid.pitches)}°, lights "
        f"{', '.join(grid.lights)}; {len(grid)} pictures of each surface.",
        f"A face counts as found from {FOUND_SHARE:.0%} of the original's own views on: {', '.join(needed)}. "
        f"The original has to be found in {EVALUABLE_SHARE:.0%} of the views, or the scan is not evaluable.",
        f"Recognised by {evaluation.recogniser or 'no model'}: cosine of the embeddings in the same view, which counts "
        "as the same head above the value midway between the medians of pairs of this head and of pairs with other "
        f"heads; recognisable from {RECOGNISED_SHARE:.0%} of the views on. Compared in the views in which the original "
        "is found best; where no face is found then, what lies in its place is embedded.",
        f"Attacks, on the defaced volume alone: {', '.join(evaluation.settings.attacks) or 'none'}. Iso levels "
        f"{_list(LOWERED_ISO)} HU, peel {_list(PEELS_MM)} mm, growth {_list(GROWTHS_MM)} mm.",
        *(f"Model {model['name']}. Licence: {model['licence']}." for model in evaluation.models),
        f"Took {evaluation.seconds:.0f} s. {_versions()}",
    ]
    return '<ul class="small">' + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _drawn(evaluation: Evaluation) -> str:
    settings = evaluation.settings
    camera = "a camera at 1 m" if settings.perspective else "parallel rays"
    if settings.rendering == "volume":
        return f"volume rendering of the skin, {camera}"
    return f"skin surface at −300 HU on a grid of {GRID_MM:g} mm, {TRIANGLES} triangles, {camera}"


# ------------------------------------------------------------------------------------------------------------- a cohort


def cohort_page(cohort: Cohort, pictures: bool = True) -> str:
    """The page of a cohort as HTML."""
    patients = max(scan["patient"] for scan in cohort.scans)
    scans = max(scan["scan"] for scan in cohort.scans)
    parts = [
        f"<p>{patients} patients, {scans} scans, {len(cohort.methods)} methods; {len(cohort.grid)} pictures of each "
        f"volume, looked at by {escape(cohort.model['name'])}.</p>",
        f'<p class="notice">{FACE_NOTICE}</p>' if pictures else "",
        "<h2>Faces found</h2>",
        _table(
            ["method", "volumes", "faces", "share of views with a face, median (quartiles) over the volumes"],
            [(m.method, [str(m.scans), str(m.faces), _quartile_text(m.found)], False) for m in cohort.methods],
        ),
        "<h2>Telling patients apart</h2>",
        '<p class="small">Cosine similarity of genuine pairs (one patient) and impostor pairs (two patients), and a '
        "linear support vector machine on it in five-fold cross-validation: mean ± SD over the folds; the accuracy "
        "weighs both kinds of pair the same. 0.5 is chance. “By patient” tests on patients that the machine was not "
        "trained with and leaves out pairs within one scan where patients have several; “study” deals out all pairs at "
        "random, as published, so that it is trained and tested on the same patients and tends to look better.</p>",
    ]
    for title, pick in (
        ("Within each method", lambda m: m.within),
        ("Against the originals", lambda m: m.against_originals),
    ):
        if any(pick(method) for method in cohort.methods):
            parts += [f"<h3>{title}</h3>", _separation_table(cohort, pick), _cohort_charts(cohort, pick)]
    parts.append(_few_faces_text(cohort))
    if pictures and cohort.pictures:
        parts += ["<h2>Some of the volumes</h2>", *_cohort_pictures(cohort)]
    versions = f"Model {cohort.model['name']}. Licence: {cohort.model['licence']}. {_versions()}"
    parts += ["<h2>How this was measured</h2>", f'<p class="small">{escape(versions)}</p>']
    return _page("Cohort: are defaced faces still found and told apart?", parts)


def _few_faces_text(cohort: Cohort) -> str:
    few = [f"{method.method} ({method.faces})" for method in cohort.methods if method.faces < FEW_FACES]
    if not few:
        return ""
    return f"<p>So few faces were found that chance makes these figures: {escape(', '.join(few))}.</p>"


def _separation_table(cohort: Cohort, pick: Callable[[Any], dict[str, Separation]]) -> str:
    head = ["method", "folds", "genuine pairs", "similarity", "impostor pairs", "similarity", "ROC-AUC", "accuracy"]
    rows = []
    for method in cohort.methods:
        for protocol, separation in pick(method).items():
            cells = [
                f"{protocol} ({separation.folds})",
                _number_of(separation.genuine),
                _quartile_text(separation.genuine),
                _number_of(separation.impostor),
                _quartile_text(separation.impostor),
                _mean_sd_text(separation.auc),
                _mean_sd_text(separation.accuracy),
            ]
            rows.append((method.method, cells, False))
    return _table(head, rows)


def _number_of(spread: dict | None) -> str:
    return "0" if spread is None else f"{spread['n']:,}".replace(",", "\u202f")


def _mean_sd_text(pair: tuple[float, float] | None) -> str:
    return "–" if pair is None else f"{pair[0]:.3f} ± {pair[1]:.3f}"


def _cohort_charts(cohort: Cohort, pick: Callable[[Any], dict[str, Separation]]) -> str:
    curves, histograms = [("chance", [0.0, 1.0], [0.0, 1.0])], []
    for method in cohort.methods:
        separation = pick(method).get("by patient")
        if separation is None:
            continue
        if separation.roc is not None:
            curves.append((method.method, *separation.roc))
        for kind, counts in (("genuine", separation.genuine_counts), ("impostor", separation.impostor_counts)):
            if sum(counts):
                histograms.append((f"{method.method}, {kind}", counts))
    charts = line_chart(curves, "impostor pairs taken for genuine", "genuine pairs accepted")
    if histograms:
        width = 2.0 / len(histograms[0][1])
        centers = [-1.0 + width * (i + 0.5) for i in range(len(histograms[0][1]))]
        used = [i for i in range(len(centers)) if any(counts[i] for _, counts in histograms)]
        low, high = max(0, used[0] - 1), min(len(centers), used[-1] + 2)
        lines = [
            (name, centers[low:high], [count / sum(counts) for count in counts[low:high]])
            for name, counts in histograms
        ]
        charts += line_chart(
            lines,
            "cosine similarity",
            "share of pairs",
            x_range=(centers[low], centers[high - 1]),
            y_range=None,
        )
    return f'<div class="charts">{charts}</div>'


def _cohort_pictures(cohort: Cohort) -> list[str]:
    rows: dict[str, str] = {}
    for scan, method, picture in cohort.pictures:
        figure = f"<figure>{_image(png_bytes(picture), method)}<figcaption>{escape(method)}</figcaption></figure>"
        rows[scan] = rows.get(scan, "") + figure
    return [f'<div class="row"><span>{escape(scan)}</span>{images}</div>' for scan, images in rows.items()]


# ----------------------------------------------------------------------------------------------------------------- both


def _table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str], bool]]) -> str:
    """A table of text; each row has a name, cells and whether it is bad news."""
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for name, cells, bad in rows:
        row = f"<td>{escape(name)}</td>" + "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells)
        lines.append(f'<tr class="bad">{row}</tr>' if bad else f"<tr>{row}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _list(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}".replace("-", "−") for value in values)


def _versions() -> str:
    names = {"numpy": "NumPy", "SimpleITK": "SimpleITK", "vtk": "VTK", "dlib-bin": "dlib", "insightface": "insightface"}
    found = []
    for package, name in names.items():
        try:
            found.append(f"{name} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    python = ".".join(str(part) for part in sys.version_info[:3])
    return f"CTDeface {__version__}, Python {python} on {platform.system()}, {', '.join(found)}."


def _page(title: str, parts: Iterable[str]) -> str:
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
