"""The page of a cohort."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from CTDefaceLib.render import png_bytes

from .charts import line_chart
from .findings import Cohort, MethodResult, after
from .identification import (
    DEFACED_TO_DEFACED,
    DRAWS,
    FUSED,
    ORIGINAL_TO_DEFACED,
    PHOTO_TO_CT,
    UNTOUCHED,
    Identification,
)
from .pages import FACE_NOTICE, estimate_text, image, page, quartile_text, table, versions
from .pairs import BY_PATIENT, Separation
from .preservation_page import cohort_preservation_parts

Pick = Callable[[MethodResult], dict[str, Separation]]

THREAT_TEXTS = {
    PHOTO_TO_CT: "Somebody has photographs with names and looks for these people among the scans.",
    ORIGINAL_TO_DEFACED: "Somebody has undefaced scans with names and looks for these people among defaced ones.",
    DEFACED_TO_DEFACED: "Somebody links defaced scans of one person: other series, other days.",
    UNTOUCHED: "For comparison: what this model achieves between scans that nothing was removed from.",
}
"""What each attacker has."""
FEW_FACES = 20
"""With fewer faces than this, chance makes a method's figures, and the page says so: three faces once gave an AUC of
0.84. Set by judgement."""


def cohort_page(cohort: Cohort, pictures: bool = True) -> str:
    """The page of a cohort as HTML."""
    patients = max(scan["patient"] for scan in cohort.scans)
    scans = max(scan["scan"] for scan in cohort.scans)
    parts = [
        f"<p>{patients} patients, {scans} scans, {len(cohort.methods)} methods; {len(cohort.grid)} pictures of each "
        f"volume, looked at by {escape(cohort.model['name'])}.</p>",
        f'<p class="notice">{FACE_NOTICE}</p>' if pictures else "",
        "<h2>Faces found</h2>",
        table(
            ["method", "volumes", "faces", "share of views with a face, median (quartiles) over the volumes"],
            [(m.method, [str(m.scans), str(m.faces), quartile_text(m.found)], False) for m in cohort.methods],
        ),
        *_whose_face(cohort),
        *_linkage(cohort),
        "<h2>Telling pairs of pictures apart: the study's protocol</h2>",
        '<p class="small">Cosine similarity of genuine pairs (one patient) and impostor pairs (two patients), and a '
        "linear support vector machine on it in five-fold cross-validation: mean ± SD over the folds; the accuracy "
        "weighs both kinds of pair the same. 0.5 is chance. “By patient” tests on patients that the machine was not "
        "trained with and leaves out pairs within one scan where patients have several; “study” deals out all pairs at "
        "random, as published, so that it is trained and tested on the same patients and tends to look better.</p>",
    ]
    picks: tuple[tuple[str, Pick], ...] = (
        ("Within each method", lambda method: method.within),
        ("Against the originals", lambda method: method.against_originals),
    )
    for title, pick in picks:
        if any(pick(method) for method in cohort.methods):
            parts += [f"<h3>{title}</h3>", _separation_table(cohort, pick), _cohort_charts(cohort, pick)]
    parts.append(_few_faces_text(cohort))
    parts += cohort_preservation_parts(cohort)
    if pictures and cohort.pictures:
        parts += ["<h2>Some of the volumes</h2>", *_cohort_pictures(cohort)]
    model = f"Model {cohort.model['name']}. Licence: {cohort.model['licence']}. {versions()}"
    parts += ["<h2>How this was measured</h2>", f'<p class="small">{escape(model)}</p>']
    return page("Cohort: are defaced faces still found and told apart?", parts)


def _whose_face(cohort: Cohort) -> list[str]:
    """Identification by every attacker for whom there was a gallery."""
    parts = [
        "<h2>Whose face is it?</h2>",
        '<p class="small">An attacker has a gallery, one face of each patient with a name, and sorts it by its '
        "similarity to a face without a name. Rank-1 is how often the right patient stands first, rank-5 how often "
        "among the first five; by chance that is one in so many patients as the gallery has, and five. ROC-AUC 0.5, "
        "equal error rate 50% and d′ 0 are chance. In brackets: 95% intervals, what other patients would give "
        f"(bootstrap over patients, {DRAWS} draws; exact binomial ones where all or none are named). “Fused”: the mean "
        "of the embeddings of all views of a head; “single views”: one view alone. Compared is what lies where the "
        "original shows its face, whether a face is found there or not. An attack has several results; told is the "
        "use of them that names most, as the answers say: one result, the same for everybody, or all of them, so that "
        "two heads are as similar as their most similar results.</p>",
    ]
    for threat, meaning in THREAT_TEXTS.items():
        found = [(method.method, one) for method in cohort.methods for one in method.identification]
        found = [(name, one) for name, one in found if one.threat == threat]
        if not found:
            continue
        parts += [f"<h3>{escape(threat)}</h3>", f"<p>{escape(meaning)}{_gallery_text(found[0][1], cohort)}</p>"]
        parts += [_identification_table(found), _cmc_chart(found)]
    return parts if len(parts) > 2 else []


def _linkage(cohort: Cohort) -> list[str]:
    """Whether the scans are linked by what no defacing takes away."""
    found = [(method.method, one) for method in cohort.methods for one in method.linkage]
    if not found:
        return []
    advised = [f"<p>{escape(m.method)}: {escape(m.linkage_advice)}</p>" for m in cohort.methods if m.linkage_advice]
    return [
        "<h2>Linkage that no defacing stops</h2>",
        '<p class="small">Skull, scalp and ears are laid on those of other scans and their distance is measured; the '
        "air of the sinuses, laid over theirs by the same fit, is correlated. Who has another CT of the person with a "
        "name on it can do that with any defaced head. This is advice, and no part of any verdict.</p>",
        *advised,
        _identification_table(found),
    ]


def _gallery_text(one: Identification, cohort: Cohort) -> str:
    text = f" The gallery has {one.patients} patients: by chance rank-1 is {1.0 / one.patients:.0%}."
    if one.threat == PHOTO_TO_CT and cohort.photos_without_face:
        text += f" In {cohort.photos_without_face} of {cohort.photos} photos no face was found; they are not in it."
    if one.same_scan and one.threat == ORIGINAL_TO_DEFACED:
        text += " There is one scan of each patient, so that the attacker has the very scan that was defaced."
    return text


def _identification_table(found: list[tuple[str, Identification]]) -> str:
    head = ["method", "faces to be named", "rank-1", "rank-5", "ROC-AUC", "equal error rate", "d′"]
    rows = []
    for name, one in found:
        cells = [
            f"{one.probes}, {one.templates}" + (f" ({one.missed} with nothing to compare)" if one.missed else ""),
            estimate_text(one.rank1, "{:.0%}"),
            estimate_text(one.rank5, "{:.0%}"),
            estimate_text(one.auc, "{:.2f}"),
            estimate_text(one.eer, "{:.0%}"),
            estimate_text(one.d_prime, "{:.2f}"),
        ]
        rows.append((_used(name, one), cells, False))
    return table(head, rows)


def _used(name: str, one: Identification) -> str:
    """A method with the result of an attack that was compared: “smooth after growth 4 mm”."""
    if not one.by:
        return name
    method, _, kind = name.rpartition(after("", ""))
    return after(method, one.by if one.by.startswith(kind) else f"{kind}, {one.by}")


def _cmc_chart(found: list[tuple[str, Identification]]) -> str:
    longest = max(len(one.cmc) for _, one in found)
    ranks = [float(rank) for rank in range(1, longest + 1)]
    lines = [("chance", ranks, [min(1.0, rank / found[0][1].patients) for rank in ranks])]
    lines += [(name, ranks[: len(one.cmc)], one.cmc) for name, one in found if one.templates == FUSED]
    chart = line_chart(
        lines, "rank", "the right patient is among the first", x_range=(1.0, float(max(2, longest))), whole_x=True
    )
    return f'<div class="charts">{chart}</div>'


def _few_faces_text(cohort: Cohort) -> str:
    few = [f"{method.method} ({method.faces})" for method in cohort.methods if method.faces < FEW_FACES]
    if not few:
        return ""
    return f"<p>So few faces were found that chance makes these figures: {escape(', '.join(few))}.</p>"


def _separation_table(cohort: Cohort, pick: Pick) -> str:
    head = ["method", "folds", "genuine pairs", "similarity", "impostor pairs", "similarity", "ROC-AUC", "accuracy"]
    rows = []
    for method in cohort.methods:
        for protocol, separation in pick(method).items():
            cells = [
                f"{protocol} ({separation.folds})",
                _number_of(separation.genuine),
                quartile_text(separation.genuine),
                _number_of(separation.impostor),
                quartile_text(separation.impostor),
                _mean_sd_text(separation.auc),
                _mean_sd_text(separation.accuracy),
            ]
            rows.append((method.method, cells, False))
    return table(head, rows)


def _number_of(spread: dict | None) -> str:
    return "0" if spread is None else f"{spread['n']:,}".replace(",", "\u202f")


def _mean_sd_text(pair: tuple[float, float] | None) -> str:
    return "–" if pair is None else f"{pair[0]:.3f} ± {pair[1]:.3f}"


def _cohort_charts(cohort: Cohort, pick: Pick) -> str:
    curves, histograms = [("chance", [0.0, 1.0], [0.0, 1.0])], []
    for method in cohort.methods:
        separation = pick(method).get(BY_PATIENT)
        if separation is None or method.attack_on:
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
        figure = f"<figure>{image(png_bytes(picture), method)}<figcaption>{escape(method)}</figcaption></figure>"
        rows[scan] = rows.get(scan, "") + figure
    return [
        f'<div class="row"><span>{escape(scan)}</span><div class="pictures">{images}</div></div>'
        for scan, images in rows.items()
    ]
