"""What defacings cost, on the pages of a scan and of a cohort."""

from __future__ import annotations

from html import escape

import numpy as np

from .charts import Point, line_chart, point_chart
from .findings import ORIGINAL, Cohort, MethodResult
from .identification import ORIGINAL_TO_DEFACED, UNTOUCHED, Estimate, Identification
from .pages import estimate_text, table
from .preservation import HISTOGRAM_HU, LEAST_ML, Part, Preservation
from .structures import SURFACE_TOLERANCE_MM, Structure

TISSUE = "tissue replaced"
SHARES = (TISSUE, "bone replaced", "orbits replaced", "sinuses replaced", "airway replaced", "jaw replaced")
"""Numbers of a cohort that are shares of what there was."""
COLUMNS = 5
"""Methods beside each other in a table: more are wider than a sheet of paper."""


def preservation_parts(found: Preservation) -> list[str]:
    """What one defacing costs, for the page of a scan."""
    parts = ["<h2>What it cost</h2>", _parts_table(found), _facts(found), _histogram_chart(found)]
    if found.structures:
        parts += ["<h3>Structures</h3>", _structures_table(found.structures)]
    return parts


def _parts_table(found: Preservation) -> str:
    head = ["", "tissue, mL", "replaced", "share", "bone, mL", "replaced", "share", "air, mL", "replaced", "share"]
    parts = [part for part in (found.head, *found.levels, *found.regions) if part.tissue_ml > LEAST_ML]
    rows = [(part.name, _cells(part), False) for part in parts]
    note = (
        '<p class="small">Levels from the crown down, then regions, which are geometry laid by eyes and chin: they '
        "tell where tissue went, not what somebody would have outlined. Of the airway its air counts.</p>"
    )
    return table(head, rows) + note


def _cells(part: Part) -> list[str]:
    cells = []
    for what in ("tissue", "bone", "air"):
        share = part.share(what)
        cells += [f"{getattr(part, f'{what}_ml'):.1f}", f"{getattr(part, f'{what}_replaced_ml'):.1f}"]
        cells.append("–" if share is None else f"{share:.1%}")
    return cells


def _facts(found: Preservation) -> str:
    masks = "No head is found in the defaced scan any more."
    if found.head_dice is not None and found.brain_dice is not None:
        masks = (
            f"Looked for in the defaced scan, the mask of the head has a Dice of {found.head_dice:.3f} with the "
            f"original's, that of the brain {found.brain_dice:.3f}."
        )
    items = [
        f"Intracranial voxels that changed: {found.intracranial_touched}.",
        f"A rigid registration (mutual information) puts the brain {found.registration_mm:.2f} mm from its place, the "
        f"original on itself {found.registration_control_mm:.2f} mm.",
        masks,
        f"The histograms of the head share {found.histogram_overlap:.1%}.",
    ]
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"


def _histogram_chart(found: Preservation) -> str:
    middles = ((HISTOGRAM_HU[1:] + HISTOGRAM_HU[:-1]) / 2.0).tolist()
    lines = []
    for name, counts in (("original", found.histogram), ("defaced", found.histogram_defaced)):
        share = np.array(counts) / max(1, sum(counts))
        lines.append((name, middles, np.sqrt(share).tolist()))
    limits = float(HISTOGRAM_HU[0]), float(HISTOGRAM_HU[-1])
    label = "square root of the share of voxels"
    chart = line_chart(lines, "Hounsfield units", label, x_range=limits, y_range=None, whole_x=True)
    return f'<div class="charts">{chart}</div>'


def _structures_table(structures: list[Structure]) -> str:
    both = any(one.defaced_ml is not None for one in structures)
    dosed = any(one.dose is not None or one.defaced_dose is not None for one in structures)
    head = ["", "volume, mL", "of it replaced"]
    head += ["volume defaced, mL", "Dice", "HD95, mm", f"surface Dice, {SURFACE_TOLERANCE_MM:g} mm"] if both else []
    head += ["D0.01cc", "mean dose"] if dosed else []
    rows = []
    for one in structures:
        cells = [f"{one.volume_ml:.2f}", _number(one.replaced_share, "{:.1%}")]
        if both:
            cells += [_number(one.defaced_ml, "{:.2f}"), _number(one.dice, "{:.3f}")]
            cells += [_number(one.hd95_mm, "{:.2f}"), _number(one.surface_dice, "{:.3f}")]
        if dosed:
            cells += [_doses(one, 0), _doses(one, 1)]
        rows.append((one.name, cells, False))
    return table(head, rows)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _doses(one: Structure, which: int) -> str:
    """Of the original's structure, and after an arrow of the defaced scan's, where there is one."""
    doses = [f"{dose[which]:.2f}" if dose else "–" for dose in (one.dose, one.defaced_dose)]
    return doses[0] if one.defaced_ml is None else " → ".join(doses)


# ------------------------------------------------------------------------------------------------------------- a cohort


def cohort_preservation_parts(cohort: Cohort) -> list[str]:
    """What each method costs, and the figure of privacy against preservation; nothing where it was not measured."""
    methods = [method for method in cohort.methods if method.preservation]
    if not methods:
        return []
    names = list(dict.fromkeys(name for method in methods for name in method.preservation))
    tables = []
    for start in range(0, len(methods), COLUMNS):
        some = methods[start : start + COLUMNS]
        rows = [
            (name, [estimate_text(method.preservation.get(name), _form(name)) for method in some], False)
            for name in names
        ]
        tables.append(table(["", *(method.method for method in some)], rows))
    parts = [
        "<h2>What it costs</h2>",
        '<p class="small">Medians over the volumes, in brackets 95% intervals (bootstrap over patients). Orbits, '
        "sinuses, airway and jaw are geometry laid by eyes and chin.</p>",
        *tables,
    ]
    chart = privacy_chart(cohort)
    note = (
        '<p class="small">Each method a point with its 95% intervals, after the attack that names most patients, where '
        "it names more than none does. Down is private, right is preserved: the best lies lowest at the right.</p>"
    )
    figure = ["<h3>Privacy against preservation</h3>", f'<div class="charts">{chart}</div>', note]
    return [*parts, *figure] if chart else parts


def _form(name: str) -> str:
    if name in SHARES or name.endswith(" replaced"):
        return "{:.1%}"
    return "{:.0f}" if name == "intracranial voxels" else "{:.3f}"


def privacy_chart(cohort: Cohort) -> str:
    """Rank-1 over the share of tissue that stays, a point with both intervals for each method, as SVG; empty without.

    Of a method and of what attacks made of its volumes the one counts that names most patients.
    """
    points, patients = [], 0
    for method in cohort.methods:
        worst = worst_named(cohort, method)
        kept = Estimate(1.0, 1.0, 1.0) if method.method == ORIGINAL else _rest(method.preservation.get(TISSUE))
        if worst is None or kept is None:
            continue
        name, one, rank1 = worst
        patients = one.patients
        points.append(Point(name, _tuple(kept), _tuple(rank1)))
    if not points:
        return ""
    low = min(point.x[1] for point in points)
    return point_chart(
        points,
        "share of the head's tissue that stays",
        "rank-1, original CT → defaced CT",
        x_range=(max(0.0, low - 0.1 * (1.0 - low) - 0.01), 1.0),
        level=("chance", 1.0 / patients),
    )


def worst_named(cohort: Cohort, method: MethodResult) -> tuple[str, Identification, Estimate] | None:
    """Of a method and the attacks on it the one that names most patients: what it is called, its figures, its rank-1.

    None where nobody has a gallery of originals, and of what an attack made: that goes with its method.
    """
    if method.attack_on:
        return None
    threat = UNTOUCHED if method.method == ORIGINAL else ORIGINAL_TO_DEFACED
    tried = [method, *(one for one in cohort.methods if one.attack_on == method.method)]
    named = [(one.method, found) for one in tried if (found := one.identified(threat)) is not None]
    rated = [(name, found, found.rank1) for name, found in named if found.rank1 is not None]
    return max(rated, key=lambda one: one[2].value, default=None)


def _rest(replaced: Estimate | None) -> Estimate | None:
    return None if replaced is None else Estimate(1.0 - replaced.value, 1.0 - replaced.high, 1.0 - replaced.low)


def _tuple(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high
