"""The cohort's arithmetic: the study's figures, known answers, and counting against plain pairs."""

import itertools

import numpy as np
import pytest
from CTDefaceEvalLib import pairs

pytest.importorskip("sklearn")


def drawn(rng, median, q1, q3, number):
    """Similarities of a normal distribution with a median and an interquartile range."""
    return np.clip(rng.normal(median, (q3 - q1) / 1.349, number), -1.0, 1.0)


def logistic(rng, median, q1, q3, number):
    """The same with the heavier tails of a logistic distribution."""
    return np.clip(rng.logistic(median, (q3 - q1) / 2.0 / np.log(3.0), number), -1.0, 1.0)


def bounded(rng, median, q1, q3, number):
    """Between -1 and 1 as cosines are, and askew: beta distributions whose quartiles come nearest to the study's."""
    a, b = {0.65: (7.885, 1.901), 0.50: (19.387, 6.558)}[median]
    return 2.0 * rng.beta(a, b, number) - 1.0


# Quartiles leave the shape open, and the shape moves the area: 0.692 normal, 0.686 logistic, 0.681 beta, but 0.667 to
# 0.672 for skew, split and two half normals, all of which meet the six quartiles to the digit.
@pytest.mark.parametrize("shape", [drawn, logistic, bounded])
def test_the_study_is_reproduced(shape):
    rng = np.random.default_rng(1)
    counts = pairs.count_similarities(shape(rng, 0.65, 0.47, 0.80, 40_000), shape(rng, 0.50, 0.39, 0.62, 400_000))
    result = pairs.separate_at_random(counts)
    assert result.folds == 5
    assert result.auc[0] == pytest.approx(0.69, abs=0.02)
    assert result.accuracy[0] == pytest.approx(0.65, abs=0.02)
    assert (result.genuine["median"], result.impostor["median"]) == pytest.approx((0.65, 0.50), abs=0.01)
    assert result.genuine["q3"] - result.genuine["q1"] == pytest.approx(0.33, abs=0.01)


def test_models_with_a_narrow_range_of_similarity_are_judged_the_same():
    rng = np.random.default_rng(1)
    wide = drawn(rng, 0.65, 0.47, 0.80, 40_000), drawn(rng, 0.50, 0.39, 0.62, 40_000)
    narrow = [0.9 + (values - 0.55) / 12.0 for values in wide]
    results = [pairs.separate_at_random(pairs.count_similarities(*values)) for values in (wide, narrow)]
    assert results[1].auc[0] == pytest.approx(results[0].auc[0], abs=0.01)
    assert results[1].accuracy[0] == pytest.approx(results[0].accuracy[0], abs=0.02)


def cohort(rng, patients, scans, views, spread, dimensions=64):
    """Embeddings around one direction per patient; spread 0 puts all on it, None knows no patients."""
    centers = rng.standard_normal((patients, dimensions))
    patient = np.repeat(np.arange(patients), scans * views)
    scan = np.repeat(np.arange(patients * scans), views)
    noise = rng.standard_normal((len(patient), dimensions))
    return (noise if spread is None else centers[patient] + spread * noise), patient, scan


@pytest.mark.parametrize(("spread", "answer"), [(None, 0.5), (0.05, 1.0)])
def test_known_answers(spread, answer):
    embeddings, patient, scan = cohort(np.random.default_rng(2), 40, 2, 6, spread)
    folds = pairs.patient_folds(patient)
    counts = pairs.count_pairs(embeddings, patient, folds, scans=scan)
    for result in (pairs.separate_by_patient(counts), pairs.separate_at_random(counts.sum(axis=(0, 1)))):
        assert result.folds == 5
        assert result.auc[0] == pytest.approx(answer, abs=0.03)
        assert result.accuracy[0] == pytest.approx(answer, abs=0.03)


def test_patient_folds_keep_a_patient_together_and_drop_pairs_across():
    embeddings, patient, _ = cohort(np.random.default_rng(3), 10, 1, 30, 3.0)
    folds = pairs.patient_folds(patient)
    assert all(len(set(folds[patient == p])) == 1 for p in range(10))
    counts = pairs.count_pairs(embeddings, patient, folds)
    inside = sum(counts[k, k].sum() for k in range(5))
    assert inside == 5 * 60 * 59 / 2 and counts.sum() == 300 * 299 / 2
    tested = pairs.separate_by_patient(counts)
    assert tested.folds == 5 and tested.genuine["n"] == 10 * 30 * 29 / 2


def test_counts_are_those_of_plain_pairs():
    rng = np.random.default_rng(4)
    embeddings, patient, scan = cohort(rng, 5, 2, 3, 1.0)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    genuine, impostor = [], []
    for i, j in itertools.combinations(range(len(unit)), 2):
        if scan[i] != scan[j]:
            (genuine if patient[i] == patient[j] else impostor).append(unit[i] @ unit[j])
    counts = pairs.count_pairs(embeddings, patient, pairs.patient_folds(patient), scans=scan).sum(axis=(0, 1))
    expected = pairs.count_similarities(genuine, impostor)
    assert np.array_equal(counts.sum(axis=1), expected.sum(axis=1))
    assert np.abs(np.cumsum(counts - expected, axis=1)).max() <= 1  # float32 may fall into the next bin
    positive, negative = np.array(genuine)[:, None], np.array(impostor)[None, :]
    auc = (positive > negative).mean()
    assert pairs._auc(counts / counts.sum(axis=1, keepdims=True)) == pytest.approx(auc, abs=1e-3)


def test_against_others_every_pair_counts():
    rng = np.random.default_rng(5)
    embeddings, patient, _ = cohort(rng, 6, 1, 4, 1.0)
    folds = pairs.patient_folds(patient)
    counts = pairs.count_pairs(embeddings, patient, folds, embeddings[:8], patient[:8], folds[:8])
    assert counts.sum() == 24 * 8 and counts[:, :, 1].sum() == 2 * 4 * 4


def test_too_few_patients_give_no_figures():
    embeddings, patient, _ = cohort(np.random.default_rng(6), 1, 2, 4, 1.0)
    result = pairs.separate_by_patient(pairs.count_pairs(embeddings, patient, pairs.patient_folds(patient)))
    assert result.auc is None and result.impostor is None and result.roc is None
    none = pairs.separate_by_patient(pairs.count_pairs(np.zeros((0, 8)), np.zeros(0, int), np.zeros(0, int)))
    assert none.genuine is None and none.folds == 0
