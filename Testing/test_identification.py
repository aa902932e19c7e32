"""Identification: ranks by hand, error rates against closed forms and scikit-learn, intervals by simulation."""

from functools import partial

import numpy as np
import pytest
from CTDefaceEvalLib import identification as library
from CTDefaceEvalLib.identification import AS_IS, FUSED, NEAREST, PHOTO_TO_CT, UNTOUCHED, Templates, identify
from scipy import stats


def templates(vectors, patients=None, scans=None):
    vectors = np.asarray(vectors, dtype=np.float32)
    patients = np.arange(len(vectors)) if patients is None else np.asarray(patients)
    return Templates(vectors, patients, np.full(len(vectors), -1) if scans is None else np.asarray(scans))


def named(gallery, probes, **options):
    return identify(PHOTO_TO_CT, FUSED, gallery, probes, **{"same_scan": True, "draws": 200, **options})


def people(rng, number, spread, dimensions=32, scans=2):
    """Gallery and probes of people around directions of their own, further from them with `spread`."""
    centers = rng.standard_normal((number, dimensions))
    parts = [centers + spread * rng.standard_normal(centers.shape) for _ in range(scans)]
    return [templates(part) for part in parts]


def test_ranks_by_hand():
    gallery = templates([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    # Right at once; right after one other; last of three; nothing to embed; not in the gallery.
    probes = templates([[9, 1, 0], [2, 1, 0], [3, 2, 1], [0, 0, 0], [1, 0, 0]], patients=[0, 1, 2, 1, 7])
    found = named(gallery, probes)
    assert (found.patients, found.probes, found.missed) == (3, 4, 1)
    assert found.cmc == [0.25, 0.5, 0.75] and found.rank1.value == 0.25 and found.rank5 is None
    similar = gallery.unit @ probes.unit[:3].T
    own, others = np.diag(similar), similar[~np.eye(3, dtype=bool)]
    below = (own[:, None] > others).mean() + (own[:, None] == others).mean() / 2.0
    assert found.auc.value == pytest.approx(below)


def test_each_patient_stands_in_the_gallery_once_however_many_scans_there_are():
    """Chance stays chance: own scans left out, somebody else's second scan gives no second chance."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(40), [1 + i % 3 for i in range(40)])
    ranks, areas = [], []
    for _ in range(30):
        faces = templates(rng.standard_normal((len(patients), 16)), patients, np.arange(len(patients)))
        found = identify(UNTOUCHED, FUSED, faces, faces, draws=10)
        ranks.append(found.rank5.value)
        areas.append(found.auc.value)
    assert np.mean(ranks) == pytest.approx(5 / 40, abs=0.02)
    assert np.mean(areas) == pytest.approx(0.5, abs=0.02)


def test_own_scan_is_left_out_of_the_gallery():
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((20, 64))
    faces = templates(vectors, np.repeat(np.arange(10), 2), np.arange(20))
    assert identify(UNTOUCHED, FUSED, faces, faces, same_scan=True, draws=10).auc.value > 0.7  # half of them itself
    assert identify(UNTOUCHED, FUSED, faces, faces, draws=10).rank1.value < 0.4
    alone = templates(vectors, np.arange(20), np.arange(20))
    assert identify(UNTOUCHED, FUSED, alone, alone, draws=10) is None


@pytest.mark.parametrize("separation", [0.0, 1.0, 2.0, 3.5])
def test_normal_scores_of_known_separation(separation):
    """Closed forms: AUC Φ(d′/√2), EER Φ(−d′/2), and rank-1 as the integral of φ(x − d′) Φ(x)^(n−1)."""
    rng = np.random.default_rng(2)
    number, probes = 20, 2000
    own = rng.integers(0, number, probes)
    scores = rng.standard_normal((probes, number))
    scores[np.arange(probes), own] += separation
    auc, eer, d_prime = library._Pairs(scores, own).values()
    assert d_prime == pytest.approx(separation, abs=0.05)
    assert auc == pytest.approx(stats.norm.cdf(separation / np.sqrt(2.0)), abs=0.015)
    assert eer == pytest.approx(stats.norm.cdf(-separation / 2.0), abs=0.015)

    # The same scores as cosines, to reach the ranks through the front door: gallery of unit vectors, probe of scores.
    found = named(templates(np.eye(number)), templates(scores, own), draws=2)
    x = np.linspace(-8.0, 12.0, 4001)
    density = stats.norm.pdf(x - separation) * (x[1] - x[0])
    for rank, value in enumerate(found.cmc[:5], start=1):
        expected = (density * stats.binom.cdf(rank - 1, number - 1, stats.norm.sf(x))).sum()
        assert value == pytest.approx(expected, abs=0.035)


def test_the_same_as_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    scores = np.round(rng.standard_normal((60, 12)), 1)  # with ties
    own = rng.integers(0, 12, 60)
    scores[np.arange(60), own] += 1.0
    genuine = np.zeros(scores.shape, bool)
    genuine[np.arange(60), own] = True
    auc, eer, _ = library._Pairs(scores, own).values()
    assert auc == pytest.approx(metrics.roc_auc_score(genuine.ravel(), scores.ravel()))
    false, true, _ = metrics.roc_curve(genuine.ravel(), scores.ravel(), drop_intermediate=False)
    fine = np.linspace(0.0, 1.0, 100_001)
    crossing = fine[np.argmin(np.abs(1.0 - np.interp(fine, false, true) - fine))]
    assert eer == pytest.approx(crossing, abs=2e-3)
    top = metrics.top_k_accuracy_score(
        own, scores + 1e-6 * rng.standard_normal(scores.shape), k=3, labels=np.arange(12)
    )
    ranks = named(templates(np.eye(12)), templates(scores, own)).cmc
    assert ranks[2] == pytest.approx(top, abs=0.05)


def test_a_draw_of_everybody_once_gives_the_figures_themselves():
    rng = np.random.default_rng(4)
    scores, own = rng.standard_normal((30, 10)), np.arange(30) % 10
    seen = library._Pairs(scores, own)
    assert seen.drawn(np.ones((10, 1), np.float32))[:, 0] == pytest.approx(seen.values(), abs=1e-5)
    # A patient who is drawn twice counts twice, and one who is not drawn not at all.
    weights = np.array([[2.0]] + [[1.0]] * 8 + [[0.0]], np.float32)
    genuine, impostor, of = [], [], []
    for row, patient in zip(scores, own):
        for other, score in enumerate(row):
            weight = weights[patient, 0] * (weights[other, 0] if other != patient else 1.0)
            (genuine if other == patient else impostor).extend([score] * int(weight))
    of = np.array(genuine)[:, None] > np.array(impostor)[None, :]
    spread = np.sqrt((np.var(genuine) + np.var(impostor)) / 2.0)
    auc, _, d_prime = seen.drawn(weights)[:, 0]
    assert auc == pytest.approx(of.mean()) and d_prime == pytest.approx(
        (np.mean(genuine) - np.mean(impostor)) / spread, abs=1e-5
    )


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """Of 95 % intervals from 30 people, about as many hold what thousands of people give."""
    rng = np.random.default_rng(5)
    truth = {}
    large = [named(*people(rng, 30, 1.6), draws=2) for _ in range(400)]
    for what in ("rank1", "rank5", "auc", "eer", "d_prime"):
        truth[what] = np.mean([getattr(found, what).value for found in large])
    covered = {what: 0 for what in truth}
    for _ in range(200):
        found = named(*people(rng, 30, 1.6), draws=300)
        for what, value in truth.items():
            estimate = getattr(found, what)
            covered[what] += estimate.low <= value <= estimate.high
    print(covered)
    assert all(0.88 * 200 <= count for count in covered.values()), covered


def shown(rng, gallery, probes, *who):
    """Results of an attack: each shows the faces of some people (bool), and anybody's where it does not."""
    anybody = rng.standard_normal((len(who), *probes.vectors.shape))
    return {
        AS_IS: templates(np.zeros_like(probes.vectors)),
        **{f"{n}": templates(np.where(one[:, None], probes.vectors, anybody[n])) for n, one in enumerate(who)},
    }


def test_an_attacker_uses_the_results_that_name_most():
    rng = np.random.default_rng(4)
    gallery, probes = people(rng, 60, 0.3)
    first, none = np.arange(60) < 30, np.zeros(60, bool)
    use = partial(library.identify_results, PHOTO_TO_CT, FUSED, {AS_IS: gallery}, same_scan=True, draws=100)
    # Each result shows half of the people: alone they name half, together all.
    halves = use(shown(rng, gallery, probes, first, ~first))
    assert (halves.by, halves.rank1.value) == (NEAREST, 1.0) and halves.cmc[0] == 1.0
    # One result shows everybody, and forty others look like the people that they are not: that one is used.
    look_alikes = {f"{n}": templates(gallery.vectors[rng.permutation(60)]) for n in range(40)}
    assert use({AS_IS: templates(np.zeros_like(probes.vectors)), **look_alikes, "whole": probes}).by == "whole"
    # No result shows anybody: more tries do not tell people apart, and the best of so many ways is told as it is.
    chance = shown(rng, gallery, probes, none, none, none)
    together = library.nearest({AS_IS: gallery}, chance)
    alone = named(gallery, probes, scores=together)
    assert alone.auc.value == pytest.approx(0.5, abs=0.1) and alone.rank1.value <= 0.1
    assert alone.rank1.value <= use(chance).rank1.value <= 0.15


def test_the_nearest_of_all_results_by_hand():
    gallery = {AS_IS: templates([[1, 0], [0, 0], [0, 1]]), "b": templates([[0, 0], [0, 0], [1, 0]])}
    probes = {AS_IS: templates([[0, 0], [0, 0]]), "b": templates([[3, 4], [0, 0]]), "c": templates([[0, 2], [0, 0]])}
    expected = [[0.6, -np.inf, 1.0], [-np.inf] * 3]
    assert np.allclose(library.nearest(gallery, probes), expected)
    found = library.identify_results(PHOTO_TO_CT, FUSED, gallery, probes, same_scan=True, draws=10)
    assert (found.patients, found.probes, found.missed) == (2, 1, 0)


def test_nobody_named_of_few_is_no_proof():
    apart = named(templates(np.eye(12)), templates(np.roll(np.eye(12), 1, axis=0)))
    assert apart.rank1.value == 0.0 and apart.rank1.high == pytest.approx(stats.beta.ppf(0.975, 1, 12))
    every = named(templates(np.eye(12)), templates(np.eye(12)))
    assert every.rank1.value == 1.0 and every.rank1.low == pytest.approx(stats.beta.ppf(0.025, 12, 1))
    assert every.auc.value == 1.0 and every.eer.value == 0.0


def test_nothing_to_compare():
    empty = templates(np.zeros((3, 4)))
    full = templates(np.eye(4)[:3])
    assert named(empty, full) is None and named(full, templates(np.eye(4)[:1], [8])) is None
    found = named(full, empty)
    assert found.missed == 3 and found.rank1.value == 0.0 and found.auc is None and found.d_prime is None


def test_seeds_are_fixed():
    gallery, probes = people(np.random.default_rng(6), 20, 1.5)
    assert named(gallery, probes) == named(gallery, probes)
    assert named(gallery, probes, seed=1).auc != named(gallery, probes).auc


def test_fused_templates_weigh_all_views_the_same():
    assert library.fused(np.array([[9.0, 0.0], [0.0, 1.0]])) == pytest.approx([0.5, 0.5])
    assert library.fused(np.zeros((0, 3))) == pytest.approx([0, 0, 0])
    assert len(library.evenly(np.zeros((117, 3)))) == library.EVEN_VIEWS


def test_the_median_and_its_interval():
    values = np.random.default_rng(7).normal(10.0, 2.0, 60)
    found = library.estimated_median(values.tolist(), list(range(60)))
    assert found.value == pytest.approx(np.median(values))
    # The usual interval of a median: the values at ranks n/2 ± 0.98 √n.
    ordered = np.sort(values)
    assert ordered[18] <= found.low <= ordered[25] and ordered[34] <= found.high <= ordered[41]
    assert library.estimated_median([], []) is None
    together = library.estimated_median(values.tolist(), [i // 20 for i in range(60)])
    assert together.high - together.low != found.high - found.low
