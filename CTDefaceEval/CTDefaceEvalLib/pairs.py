"""Genuine and impostor pairs of face embeddings, and how well a support vector machine tells them apart.

All pairs of thousands of pictures are too many to keep, so that they are counted: a histogram of the cosine similarity
with bins of 1e-4, for genuine pairs (one patient) and impostor pairs (two patients) apart. Medians, ROC curves and
the training of a linear SVM in one dimension need no more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from CTDefaceLib.errors import CTDefaceError

from .face_models import unit

BINS = 20_000
"""Bins of the cosine from -1 to 1: steps of 1e-4, far below what chance makes of any figure."""
CENTERS = (np.arange(BINS) + 0.5) / BINS * 2.0 - 1.0
"""The cosines in the middle of the bins."""
COARSE = 100
"""Bins joined to one, 0.01 wide, for the training of the SVM, whose cost follows the square of their number."""
BY_PATIENT, STUDY = "by patient", "study"
"""The two protocols, as figures and reports call them: :func:`separate_by_patient`, :func:`separate_at_random`."""
FOLDS = 5
"""Folds of the cross-validation, as in the study (doi 10.1016/j.radi.2024.12.018)."""
BLOCK = 1000
"""Rows of the table of all pairs that are computed at a time, which bounds memory."""
SVM_WEIGHT = 500.0
"""Weight of either class in the training of the SVM: large, so that its margin is as narrow as the pairs allow. Set by
judgement with the test on normal scores of known separation; no other value is on record."""


def count_similarities(genuine: Sequence[float], impostor: Sequence[float]) -> np.ndarray:
    """Counts of given cosines, (2, BINS): row 1 of genuine, row 0 of impostor pairs."""
    return np.stack([np.bincount(_bin(np.asarray(values)), minlength=BINS) for values in (impostor, genuine)])


def count_pairs(
    embeddings: np.ndarray,
    patients: np.ndarray,
    folds: np.ndarray,
    others: np.ndarray | None = None,
    other_patients: np.ndarray | None = None,
    other_folds: np.ndarray | None = None,
    scans: np.ndarray | None = None,
) -> np.ndarray:
    """Count the cosines of all pairs, by fold of either partner.

    Parameters
    ----------
    embeddings: np.ndarray
        (n, d)
    patients, folds: np.ndarray
        (n,) integers; a patient's embeddings share one fold.
    others, other_patients, other_folds: np.ndarray or None
        The partners; without them each pair within `embeddings` counts once.
    scans: np.ndarray or None
        (n,) integers; pairs within one scan are left out (only without `others`).

    Returns
    -------
    np.ndarray
        (folds, folds, 2, BINS) int64; of two different folds the pairs lie in either of the two places.
    """
    a = b = unit(np.asarray(embeddings, dtype=np.float32))
    b_patients, b_folds = patients, folds
    within = others is None
    if others is not None and other_patients is not None and other_folds is not None:
        b, b_patients, b_folds = unit(np.asarray(others, dtype=np.float32)), other_patients, other_folds
    number = int(max(folds.max(initial=0), b_folds.max(initial=0))) + 1
    counts = np.zeros((number, number, 2, BINS), dtype=np.int64)
    for i in range(number):
        rows = np.flatnonzero(folds == i)
        for j in range(i, number) if within else range(number):
            columns = np.flatnonzero(b_folds == j)
            for start in range(0, len(rows), BLOCK):
                block = rows[start : start + BLOCK]
                codes = _bin(a[block] @ b[columns].T)
                codes += BINS * (patients[block][:, None] == b_patients[columns][None, :])
                if within:
                    wanted = block[:, None] < columns[None, :] if i == j else np.ones(codes.shape, dtype=bool)
                    if scans is not None:
                        wanted &= scans[block][:, None] != scans[columns][None, :]
                    codes = codes[wanted]
                counts[i, j] += np.bincount(codes.ravel(), minlength=2 * BINS).reshape(2, BINS)
    return counts


def _bin(similarities: np.ndarray) -> np.ndarray:
    return np.clip(((similarities + 1.0) * (BINS / 2.0)).astype(np.int32), 0, BINS - 1)


def patient_folds(patients: np.ndarray, number: int = FOLDS, seed: int = 0) -> np.ndarray:
    """Give each patient a fold at random, at least two patients to each; (n,) integers."""
    unique, inverse = np.unique(patients, return_inverse=True)
    number = max(1, min(number, len(unique) // 2))
    fold_of = np.empty(len(unique), dtype=int)
    fold_of[np.random.default_rng(seed).permutation(len(unique))] = np.arange(len(unique)) % number
    return fold_of[inverse]


@dataclass(frozen=True)
class Separation:
    """How far genuine and impostor pairs lie apart.

    Attributes
    ----------
    genuine, impostor: dict or None
        ``n``, ``median``, ``q1`` and ``q3`` of the cosines, None without pairs.
    auc, accuracy: tuple of float or None
        Mean and standard deviation over the folds of the SVM's area under the ROC curve, and of the mean of its hit
        rates on genuine and on impostor pairs; None where the folds do not allow it.
    folds: int
        Folds that were usable.
    roc: tuple or None
        False and true positive rates of the similarity over all pairs, for plotting.
    genuine_counts, impostor_counts: list of int
        Pairs by similarity, in steps of 0.01 from -1.
    """

    genuine: dict | None
    impostor: dict | None
    auc: tuple[float, float] | None
    accuracy: tuple[float, float] | None
    folds: int
    roc: tuple[list[float], list[float]] | None
    genuine_counts: list[int]
    impostor_counts: list[int]


def separate_at_random(counts: np.ndarray, folds: int = FOLDS, seed: int = 0) -> Separation:
    """The study's exact way: pairs are dealt out to the folds at random, so that a patient's pairs are in all of them.

    `counts` is (2, BINS). The classifier is tested on patients, and even on pictures, that it was trained with.
    """
    rng = np.random.default_rng(seed)
    dealt = np.moveaxis(rng.multinomial(counts.astype(np.int64), [1.0 / folds] * folds), -1, 0)
    return _cross_validated(counts, [(counts - test, test) for test in dealt])


def separate_by_patient(counts: np.ndarray) -> Separation:
    """Patients of a fold are tested with an SVM that has seen none of them; pairs across the border are dropped.

    `counts` is (folds, folds, 2, BINS), from :func:`count_pairs`.
    """
    number = len(counts)
    splits = []
    for k in range(number):
        rest = [i for i in range(number) if i != k]
        splits.append((counts[np.ix_(rest, rest)].sum(axis=(0, 1)), counts[k, k]))
    return _cross_validated(counts.sum(axis=(0, 1)), splits if number > 1 else [])


def _cross_validated(all_pairs: np.ndarray, splits: list[tuple[np.ndarray, np.ndarray]]) -> Separation:
    aucs, accuracies = [], []
    for train, test in splits:
        if train.sum(axis=1).min() == 0 or test.sum(axis=1).min() == 0:
            continue
        slope, intercept = _train_svm(train)
        shares = test / test.sum(axis=1, keepdims=True)
        aucs.append(_auc(shares if slope >= 0 else shares[:, ::-1]))
        called_genuine = slope * CENTERS + intercept > 0
        accuracies.append((shares[1, called_genuine].sum() + shares[0, ~called_genuine].sum()) / 2.0)
    return Separation(
        genuine=_spread(all_pairs[1]),
        impostor=_spread(all_pairs[0]),
        auc=_mean_sd(aucs),
        accuracy=_mean_sd(accuracies),
        folds=len(aucs),
        roc=_roc(all_pairs),
        genuine_counts=_coarse(all_pairs)[1].tolist(),
        impostor_counts=_coarse(all_pairs)[0].tolist(),
    )


def _coarse(counts: np.ndarray) -> np.ndarray:
    return counts.reshape(2, BINS // COARSE, COARSE).sum(axis=2)


def _train_svm(counts: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of a linear SVM on the cosine, either class weighing the same."""
    try:
        from sklearn.svm import SVC
    except ImportError as error:
        raise CTDefaceError(
            "A cohort needs the Python package scikit-learn: install it with “pip install scikit-learn”."
        ) from error
    coarse = _coarse(counts)
    centers = CENTERS.reshape(-1, COARSE).mean(axis=1)
    label, index = np.nonzero(coarse)
    weight = (coarse / coarse.sum(axis=1, keepdims=True))[label, index]
    # The similarities of some models fill a tenth of the scale only, where an SVM would find no slope steep enough.
    middle = np.average(centers[index], weights=weight)
    width = np.sqrt(np.average((centers[index] - middle) ** 2, weights=weight)) + 1e-6
    svm = SVC(kernel="linear").fit((centers[index][:, None] - middle) / width, label, sample_weight=SVM_WEIGHT * weight)
    slope = float(svm.coef_[0, 0]) / width
    return slope, float(svm.intercept_[0]) - slope * middle


def _auc(shares: np.ndarray) -> float:
    impostor_below = np.cumsum(shares[0]) - shares[0] / 2.0
    return float((shares[1] * impostor_below).sum())


def _mean_sd(values: list[float]) -> tuple[float, float] | None:
    return (float(np.mean(values)), float(np.std(values))) if len(values) > 1 else None


def _spread(counts: np.ndarray) -> dict | None:
    total = int(counts.sum())
    if total == 0:
        return None
    q1, median, q3 = CENTERS[np.searchsorted(np.cumsum(counts), np.array([0.25, 0.5, 0.75]) * total)]
    return {"n": total, "median": float(median), "q1": float(q1), "q3": float(q3)}


def _roc(counts: np.ndarray) -> tuple[list[float], list[float]] | None:
    if counts.sum(axis=1).min() == 0:
        return None
    rates = np.cumsum(counts[:, ::-1], axis=1) / counts.sum(axis=1, keepdims=True)
    picked = np.unique(np.concatenate([[0], np.searchsorted(rates[0] + rates[1], np.linspace(0.0, 2.0, 200)[:-1])]))
    return [0.0, *rates[0, picked].tolist(), 1.0], [0.0, *rates[1, picked].tolist(), 1.0]
