"""What a defacing costs: known pieces are counted where they were taken, and the report of the defacing agrees."""

import re

import coarse_phantoms
import numpy as np
import pytest
import SimpleITK as sitk
from CTDefaceEvalLib import preservation as library
from CTDefaceEvalLib.charts import Point, point_chart
from CTDefaceEvalLib.findings import ORIGINAL, Cohort, MethodResult
from CTDefaceEvalLib.identification import FUSED, ORIGINAL_TO_DEFACED, UNTOUCHED, Estimate, Identification
from CTDefaceEvalLib.pages import estimate_text
from CTDefaceEvalLib.preservation import LEVELS, REGIONS, preservation, replaced_voxels
from CTDefaceEvalLib.preservation_page import cohort_preservation_parts, privacy_chart, worst_named
from CTDefaceEvalLib.views import view_grid
from CTDefaceLib.errors import InputError
from CTDefaceLib.phantom import Label
from CTDefaceLib.pipeline import DefaceParameters, deface

VOXEL_ML = 0.008


@pytest.fixture(scope="module")
def head():
    return coarse_phantoms.scan(person=3)


def in_head(head):
    """Head coordinates of all voxels of the scan, (z, y, x, 3) mm: to the left, the back and the top."""
    indices = np.moveaxis(np.indices(head.hu.shape)[::-1], 0, -1)
    direction = np.reshape(head.image.GetDirection(), (3, 3)) * head.image.GetSpacing()
    return head.cylinder.head.to_head(indices @ direction.T + head.image.GetOrigin())


def with_values(head, values):
    image = sitk.GetImageFromArray(values.astype(head.hu.dtype))
    image.CopyInformation(head.image)
    return image


def emptied(head, where):
    return with_values(head, np.where(where, -1000, head.hu))


@pytest.fixture
def quick(monkeypatch):
    """Without what costs seconds and is tested on its own."""
    monkeypatch.setattr(library, "_registration_error", lambda *_: 0.0)
    monkeypatch.setattr(library, "_masks_alike", lambda *_: (None, None))


@pytest.mark.slow
def test_nothing_replaced_costs_nothing(head):
    found = preservation(head.image, head.image, cylinder=head.cylinder)
    assert all(part.share(what) in (0.0, None) for part in found.levels + found.regions for what in ("tissue", "bone"))
    assert found.head.tissue_replaced_ml == 0.0 and found.intracranial_touched == 0
    assert found.head_dice == found.brain_dice == 1.0 and found.histogram_overlap == pytest.approx(1.0)
    assert (
        found.registration_mm == pytest.approx(found.registration_control_mm, abs=0.01) and found.registration_mm < 0.5
    )


@pytest.mark.parametrize(
    ("region", "level", "middle", "radius"),
    [
        ("orbits", "eyes", (30.0, 8.0, 0.0), 9.0),
        ("sinuses", "eyes", (0.0, 22.0, -4.0), 7.0),
        ("jaw", "chin", (0.0, 0.0, -96.0), 9.0),
    ],
)
def test_a_piece_is_counted_where_it_was_taken(head, quick, region, level, middle, radius):
    """Middles are in mm from the brow at the height of the eyes."""
    eyes = head.cylinder.landmarks.eye_height
    ball = np.linalg.norm(in_head(head) - np.add(middle, (0.0, 0.0, eyes)), axis=-1) < radius
    ball &= head.hu > -300  # air replaced by air does not change
    found = preservation(head.image, emptied(head, ball), cylinder=head.cylinder)
    taken = ball.sum() * VOXEL_ML
    assert found.head.tissue_replaced_ml == pytest.approx(taken, rel=0.02)
    assert found.head.bone_replaced_ml == pytest.approx((ball & (head.hu > 250)).sum() * VOXEL_ML, rel=0.02, abs=0.05)
    parts = {part.name: part.tissue_replaced_ml for part in found.levels + found.regions}
    assert parts[region] > 0.9 * taken and max(LEVELS, key=parts.get) == level
    assert sum(parts[name] for name in LEVELS) == pytest.approx(taken, rel=0.02)


def test_airways_lie_in_their_regions(head):
    """Of nose, throat, mouth and sinuses; the ears' cells lie further aside."""
    cylinder = head.cylinder
    left, posterior, height = (cylinder.head.coordinates(axis) for axis in range(3))
    found = library._regions(cylinder, np.abs(left), posterior, height)
    labels = np.zeros(height.shape, np.uint8)
    for number, place in reversed(list(enumerate(found, start=1))):
        labels[place] = number
    here = library._on_grid_of(head.image, labels, cylinder.head)
    airway = head.labelled(Label.AIRWAY) & (np.abs(in_head(head)[..., 0]) < 45.0)
    assert (here[airway] > 0).mean() > 0.95
    inside = np.isin(here, [REGIONS.index("sinuses") + 1, REGIONS.index("airway") + 1])
    assert inside[airway].mean() > 0.85


@pytest.mark.slow
def test_the_report_of_the_defacing_says_the_same(head, quick):
    for strength in ("light", "standard"):
        result = deface(head.image, DefaceParameters(strength=strength, seed=1))
        found = preservation(head.image, result.image, cylinder=head.cylinder)
        assert found.head.tissue_replaced_ml == pytest.approx(result.report["replaced_ml"], rel=0.03)
        assert found.head.share("tissue") == pytest.approx(result.report["replaced_share"], rel=0.03)
        assert found.intracranial_touched == 0 and 0.9 < found.histogram_overlap < 1.0
        assert (found.head.share("bone") < 0.01) == (strength == "light")


def test_brain_that_was_touched_is_counted(head, quick):
    brain = coarse_phantoms.intracranial(head.cylinder.head, head.image)
    places = np.argwhere(brain)
    touched = np.zeros(brain.shape, bool)
    touched[tuple(places[len(places) // 2 :][:40].T)] = True
    found = preservation(head.image, emptied(head, touched), cylinder=head.cylinder)
    assert found.intracranial_touched == 40


def test_a_scan_without_its_front_loses_head_and_brain(head):
    """What downstream software finds: part of the brain gone lowers its Dice, a head gone altogether has none."""
    front = in_head(head)[..., 1] < 30.0
    head_dice, brain_dice = library._masks_alike(head.cylinder.head, emptied(head, front))
    assert head_dice is None or (head_dice < 0.95 and brain_dice < 0.98)
    assert library._masks_alike(head.cylinder.head, emptied(head, np.ones_like(front))) == (None, None)


@pytest.mark.slow
def test_registration_tells_what_misleads_it(head):
    """A scan whose head was moved does not come back to its place; one whose face was replaced does."""
    moved = sitk.Resample(head.image, sitk.TranslationTransform(3, [0.0, 0.0, 3.0]), sitk.sitkLinear, -1000)
    assert library._registration_error(head.image, moved, head.cylinder.head) == pytest.approx(3.0, abs=0.4)
    defaced = deface(head.image, DefaceParameters(seed=1)).image
    assert library._registration_error(head.image, defaced, head.cylinder.head) < 0.5


def test_noise_that_gives_a_voxel_its_old_value_hides_nothing():
    rng = np.random.default_rng(0)
    before = rng.integers(0, 20, (20, 30, 30)).astype(np.int16)
    after = before.copy()
    after[5:15, 5:25, 5:25] = rng.integers(0, 20, (10, 20, 20))
    found = replaced_voxels(before, after)
    assert found[6:14, 6:24, 6:24].mean() > 0.999 and found[5:15, 5:25, 5:25].sum() == found.sum()
    assert not replaced_voxels(before, before).any()
    assert not replaced_voxels(before.astype(np.float32), before + np.float32(0.4)).any()


def test_structures_go_with_it(head, quick):
    labels = with_values(head, head.labelled(Label.INTRACRANIAL))
    left = in_head(head)[..., 0] > 0
    found = preservation(
        head.image, emptied(head, left & (head.hu > 0)), cylinder=head.cylinder, structures={"brain": lambda: labels}
    )
    (brain,) = found.structures
    assert brain.replaced_share == pytest.approx(0.5, abs=0.03)
    assert found.numbers()["brain replaced"] == brain.replaced_share


def test_two_grids_are_refused(head):
    with pytest.raises(InputError, match="same grid"):
        preservation(head.image, head.image[:, :, :-1])


def test_the_chart_of_points_has_every_method_and_its_bars():
    chart = point_chart(
        [Point("a <b>", (0.9, 0.85, 0.95), (0.1, 0.0, 0.3)), Point("c", (0.8, 0.8, 0.8), (1.0, 0.7, 1.0))],
        "stays",
        "rank-1",
        x_range=(0.7, 1.0),
        level=("chance", 0.04),
    )
    assert (
        "a &lt;b&gt;" in chart and ">c</text>" in chart and "chance" in chart and chart.count('stroke-width="1.3"') == 2
    )


def test_every_point_of_many_has_a_mark_of_its_own():
    chart = point_chart(
        [Point(str(n), (0.9, 0.8, 1.0), (0.1, 0.0, 0.3)) for n in range(16)], "x", "y", x_range=(0.0, 1.0)
    )
    marks = re.findall(r'<path d="M57.0 [0-9.]+(m[^"]*)" fill="([^"]*)"', chart)  # those of the legend
    assert len(marks) == len(set(marks)) == 16


def named(method, rank1, threat=ORIGINAL_TO_DEFACED, tissue=None, attack_on=""):
    found = Identification(threat, FUSED, 24, 24, 0, False, rank1=Estimate(rank1, rank1 / 2, (1 + rank1) / 2))
    costs = {} if tissue is None else {"tissue replaced": Estimate(tissue, tissue, tissue)}
    return MethodResult(method, 24, 24, 99, None, {}, {}, attack_on, [found], costs)


def test_a_method_counts_by_the_attack_that_names_most():
    """In the figure a mask that an attack peels off stands high, whatever a look at it as it is says."""
    mask, smooth = named("mask", 0.1, tissue=0.08), named("smooth", 0.05, tissue=0.1)
    tried = [named("mask after growth", 0.2, attack_on="mask"), named("mask after peel", 0.9, attack_on="mask")]
    tried.append(named("smooth after growth", 0.0, attack_on="smooth"))
    methods = [named(ORIGINAL, 1.0, UNTOUCHED), mask, smooth, *tried]
    cohort = Cohort({"name": "m", "licence": ""}, "quick", view_grid("quick"), methods, [])
    worst = [worst_named(cohort, method) for method in methods]
    assert [one and (one[0], one[2].value) for one in worst] == [
        (ORIGINAL, 1.0), ("mask after peel", 0.9), ("smooth", 0.05), None, None, None
    ]  # fmt: skip
    chart = privacy_chart(cohort)
    assert ">mask after peel</text>" in chart and ">smooth</text>" in chart and ">mask</text>" not in chart
    assert chart.count('stroke-width="1.3"') == 3  # and none for what attacks made
    assert privacy_chart(Cohort({}, "quick", cohort.grid, tried, [])) == ""


def test_what_many_methods_cost_fits_the_page():
    methods = [named(ORIGINAL, 1.0, UNTOUCHED), *(named(f"way {n}", 0.0, tissue=n / 10) for n in range(7))]
    text = "".join(cohort_preservation_parts(Cohort({}, "quick", view_grid("quick"), methods, [])))
    assert text.count("<table>") == 2 and text.count("<th>way ") == 7
    assert all(f">{n / 10:.1%} ({n / 10:.1%}–{n / 10:.1%})<" in text for n in range(7))


def test_an_interval_below_zero_is_no_row_of_dashes():
    assert estimate_text(Estimate(-0.5, -0.62, 0.1), "{:.2f}") == "−0.50 (−0.62 to 0.10)"
    assert estimate_text(Estimate(0.5, 0.25, 1.0), "{:.0%}") == "50% (25%–100%)" and estimate_text(None, "") == "–"
