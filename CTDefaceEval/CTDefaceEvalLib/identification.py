"""Whose face is it? Identification as the literature reports it, with confidence intervals over patients.

An attacker has a gallery, one face of each patient with a name on it, and a probe, a face without a name. Every face is
an embedding, and the gallery is sorted by its similarity to the probe. How often the right patient stands first is
rank-1, among the first five rank-5, and the whole curve the cumulative match characteristic (CMC). Equal error rate,
d′ and the area under the ROC curve tell how far pairs of one patient lie from pairs of two.

What differs from :mod:`.pairs`, the study's protocol: every patient stands in the gallery once, the similarities of a
head's many pictures are not taken for so many independent ones, and the uncertainty is that of drawing other patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .face_models import unit

PHOTO_TO_CT = "photo → CT"
"""The attacker has pictures with names, and looks for the patients of scans: rank-1 of the scans among the pictures."""
ORIGINAL_TO_DEFACED = "original CT → defaced CT"
"""The attacker has undefaced scans with names, another one of each patient where there are several."""
DEFACED_TO_DEFACED = "defaced → defaced"
"""The attacker links defaced scans to each other: another series, another day."""
UNTOUCHED = "original CT → original CT"
"""No attack on a defacing, but what the model achieves where nothing was removed: a gallery and other scans of it."""

THREATS = (PHOTO_TO_CT, ORIGINAL_TO_DEFACED, DEFACED_TO_DEFACED, UNTOUCHED)
"""In the order of the reports: three attackers, and what there is to compare them with."""

FUSED, SINGLE = "fused", "single views"
"""A probe is the mean of a head's unit embeddings over its views, or one view alone; a gallery's faces are fused."""
AS_IS, NEAREST = "as it is", "all results"
"""Of the results of an attack: the defaced volume itself, which the attacker has as well; and all of them together."""
DRAWS = 2000
"""Bootstrap draws of patients for each interval, as the issue of confidence in this field usually asks for."""
CONFIDENCE = 0.95
"""Of the intervals."""
LONGEST_CMC = 100
"""Ranks up to which the CMC is kept."""
MOST_THRESHOLDS = 500
"""Similarities at which error rates are taken in each draw: quantiles of the pairs of one patient. Not critical."""
MOST_COUNTS = 50_000_000
"""Pairs of patients times similarities that are counted at a time, 200 MB; with more patients fewer similarities."""
EVEN_VIEWS = 20
"""Single views of a volume that are probes, evenly picked of those there are: neighbours say the same. Not critical."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Templates:
    """Faces of a gallery or faces to be named, a row each.

    Attributes
    ----------
    vectors: np.ndarray
        Embeddings (n, d) of any length; a row of zeros where there was nothing to embed.
    patients, scans: np.ndarray
        (n,) integers.
    """

    vectors: np.ndarray
    patients: np.ndarray
    scans: np.ndarray

    @property
    def unit(self) -> np.ndarray:
        """The embeddings with length 1, zeros left as they are; (n, d) float32."""
        return unit(np.asarray(self.vectors, dtype=np.float32))

    @property
    def there(self) -> np.ndarray:
        """Whether there is an embedding; (n,) bool."""
        return np.any(self.vectors != 0, axis=1)


@dataclass(frozen=True)
class Identification:
    """How well probes are named by a gallery.

    Attributes
    ----------
    threat: str
        What the attacker has, one of this module's.
    templates: str
        FUSED or SINGLE: what a probe is.
    patients: int
        Of the gallery. By chance rank-1 is one in so many.
    probes: int
        Faces to be named whose patient is in the gallery.
    missed: int
        Those of them in which there was nothing to embed; they are named wrongly.
    same_scan: bool
        Whether a probe's patient stands in the gallery with the very same scan, as where there is one scan of each.
    rank1, rank5, auc, eer, d_prime: Estimate or None
        None where there are too few faces; rank-5 where the gallery has no more than five patients.
    cmc: list of float
        Share of the probes whose patient stands among the first 1, 2, … of the gallery.
    by: str
        The result of an attack that was compared, or NEAREST; empty where nothing was attacked.
    """

    threat: str
    templates: str
    patients: int
    probes: int
    missed: int
    same_scan: bool
    rank1: Estimate | None = None
    rank5: Estimate | None = None
    auc: Estimate | None = None
    eer: Estimate | None = None
    d_prime: Estimate | None = None
    cmc: list[float] = field(default_factory=list)
    by: str = ""


def fused(embeddings: np.ndarray) -> np.ndarray:
    """The mean of unit embeddings (n, d), as (d,); zero where there is none."""
    embeddings = np.asarray(embeddings, dtype=np.float32)
    if len(embeddings) == 0:
        return np.zeros(embeddings.shape[1:], np.float32)
    return unit(embeddings).mean(axis=0)


def evenly(embeddings: np.ndarray) -> np.ndarray:
    """At most EVEN_VIEWS of the rows, evenly picked."""
    if len(embeddings) <= EVEN_VIEWS:
        return embeddings
    return embeddings[np.linspace(0, len(embeddings) - 1, EVEN_VIEWS).round().astype(int)]


def identify(
    threat: str,
    templates: str,
    gallery: Templates,
    probes: Templates,
    *,
    same_scan: bool = False,
    scores: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Identification | None:
    """Name the probes by the gallery.

    Every patient stands in the gallery with one face. Where there are several, each takes its turn, with one of every
    other patient, so that nobody has more chances than another. Similarities of equal height share a rank.

    Parameters
    ----------
    threat, templates
        As in :class:`Identification`.
    gallery, probes: Templates
        Probes of patients who are not in the gallery are left out.
    same_scan: bool
        Whether a face of the probe's own scan may be in the gallery.
    scores: np.ndarray or None
        How similar each probe is to each row of the gallery, (probes, gallery), where that is no cosine of vectors.
    draws, seed: int
        Of the bootstrap over patients.

    Returns
    -------
    Identification or None
        None where the gallery has fewer than two patients or none of the probes' patients.
    """
    trials = _trials(gallery, probes, same_scan, scores)
    if trials is None:
        return None
    number = trials.scores.shape[1]
    there = trials.there
    own = np.take_along_axis(trials.scores, trials.own[:, None], axis=1)
    # The probe's own patient is equal to itself, which is taken off again.
    ranks = 1.0 + (trials.scores > own).sum(axis=1) + ((trials.scores == own).sum(axis=1) - 1) / 2.0
    ranks[~there] = np.inf
    weights = _weights(number, draws, seed)
    seen = _Pairs(trials.scores[there], trials.own[there])
    drawn = seen.drawn(weights)
    values = seen.values()
    return Identification(
        threat,
        templates,
        number,
        len(ranks),
        int(np.count_nonzero(~there)),
        same_scan,
        rank1=_rank_estimate(ranks <= 1, trials.own, weights),
        rank5=_rank_estimate(ranks <= 5, trials.own, weights) if number > 5 else None,
        auc=_estimate(values[0], drawn[0]),
        eer=_estimate(values[1], drawn[1]),
        d_prime=_estimate(values[2], drawn[2]),
        cmc=[float(np.mean(ranks <= rank)) for rank in range(1, min(number, LONGEST_CMC) + 1)],
    )


Results = Mapping[str, Templates]
"""Name of a result of an attack → the same heads' faces in it, row by row; AS_IS at least."""


def identify_results(
    threat: str,
    templates: str,
    gallery: Results,
    probes: Results,
    *,
    same_scan: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> Identification | None:
    """Name what an attack has made several results of, by the use of them that names most.

    An attacker does not know which result shows the face, but has a gallery, and may use the results in two ways: one
    of them, the same for everybody, as one who tried the attack on heads of their own; or all, so that two heads are as
    similar as their most similar results (NEAREST), strangers as well. Which of these names most is looked up in the
    answers. That is the worst case: the safe side, but in favour of the attacker. Where every way names by chance, the
    best of them lies a little above it.

    Parameters
    ----------
    gallery, probes: mapping
        Name of a result → Templates, all of the same heads; AS_IS alone where nothing was attacked.

    Others, and what is returned, as of :func:`identify`.
    """
    ways = {name: (gallery.get(name, gallery[AS_IS]), probes[name], None) for name in probes if name != AS_IS}
    if not ways:
        return identify(threat, templates, gallery[AS_IS], probes[AS_IS], same_scan=same_scan, draws=draws, seed=seed)
    tried = {**ways, NEAREST: (_any(gallery), _any(probes), nearest(gallery, probes))}

    def named(way: str, draws: int) -> Identification | None:
        faces, heads, scores = tried[way]
        return identify(threat, templates, faces, heads, same_scan=same_scan, scores=scores, draws=draws, seed=seed)

    found = {way: one for way in tried if (one := named(way, draws=1)) is not None}
    if not found:
        return None
    best = max(found, key=lambda way: [one.value if one else 0.0 for one in (found[way].rank1, found[way].auc)])
    full = named(best, draws)
    return full and replace(full, by=best)


def nearest(gallery: Results, probes: Results) -> np.ndarray:
    """The greatest similarity of any result of each probe to any of each face of the gallery, (probes, gallery).

    -inf where either has nothing to embed.
    """
    most = np.full((len(_any(probes).vectors), len(_any(gallery).vectors)), -np.inf, np.float32)
    for probe in probes.values():
        for face in gallery.values():
            here = np.ix_(probe.there, face.there)
            if most[here].size:
                most[here] = np.maximum(most[here], probe.unit[probe.there] @ face.unit[face.there].T)
    return most


def _any(results: Results) -> Templates:
    """Whose the results are, and, as the only number of each, whether there is an embedding in any of them."""
    there = np.any([one.there for one in results.values()], axis=0)
    return Templates(there[:, None].astype(np.float32), results[AS_IS].patients, results[AS_IS].scans)


@dataclass(frozen=True)
class _Trials:
    """Each probe against a gallery of one face of each patient: `scores` (trials, patients), `own` column, `there`."""

    scores: np.ndarray
    own: np.ndarray
    there: np.ndarray


def _trials(gallery: Templates, probes: Templates, same_scan: bool, given: np.ndarray | None = None) -> _Trials | None:
    faces, known = gallery.unit, gallery.there
    enrolled = np.unique(gallery.patients[known])
    if len(enrolled) < 2:
        return None
    rows_of = [np.flatnonzero(known & (gallery.patients == patient)) for patient in enrolled]
    chosen = np.isin(probes.patients, enrolled)
    column = np.searchsorted(enrolled, probes.patients[chosen])
    scans, there = probes.scans[chosen], probes.there[chosen]
    # A probe without an embedding has as many numbers as the gallery has, all zero.
    vectors = np.zeros((len(column), faces.shape[1]), np.float32)
    vectors[there] = probes.unit[chosen][there]
    parts = []
    for turn in range(max(len(rows) for rows in rows_of)):
        row = np.array([rows[turn % len(rows)] for rows in rows_of])
        allowed = np.ones(len(column), bool) if same_scan else gallery.scans[row][column] != scans
        scores = vectors[allowed] @ faces[row].T if given is None else given[chosen][allowed][:, row]
        parts.append(_Trials(scores, column[allowed], there[allowed]))
    trials = _Trials(
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.own for part in parts]),
        np.concatenate([part.there for part in parts]),
    )
    return trials if len(trials.own) else None


def _weights(number: int, draws: int, seed: int) -> np.ndarray:
    """How often each patient is in each draw of so many patients, (patients, draws) float32."""
    drawn = np.random.default_rng(seed).multinomial(number, np.full(number, 1.0 / number), draws)
    return drawn.T.astype(np.float32)


class _Pairs:
    """The pairs of one patient and of two, their error rates, and the same of other draws of patients."""

    def __init__(self, scores: np.ndarray, own: np.ndarray) -> None:
        self._number = scores.shape[1]
        self._own = own
        rows = np.arange(len(own))
        self._genuine = scores[rows, own].astype(float)
        others = np.ones(scores.shape, bool)
        others[rows, own] = False
        self._impostor = scores[others].astype(float)
        first, second = np.nonzero(others)
        self._pair = own[first] * self._number + second

    def values(self) -> np.ndarray:
        """AUC, equal error rate and d′ of all pairs, NaN without any."""
        if len(self._genuine) == 0:
            return np.full(3, np.nan)
        places = np.unique(self._genuine)
        counts = [
            np.bincount(_place(values, places), minlength=2 * len(places) + 1)[:, None].astype(float)
            for values in (self._genuine, self._impostor)
        ]
        moments = [
            _moments(np.array([len(v), v.sum(), (v**2).sum()])[:, None]) for v in (self._genuine, self._impostor)
        ]
        return np.array([*_curve_figures(*counts), _d_prime(*moments)])[:, 0]

    def drawn(self, weights: np.ndarray) -> np.ndarray:
        """The same for each draw, (3, draws): a pair counts as often as its patients are in it."""
        if len(self._genuine) == 0:
            return np.full((3, weights.shape[1]), np.nan)
        number = self._number
        most = max(2, min(MOST_THRESHOLDS, MOST_COUNTS // (2 * number**2)))
        places = np.unique(self._genuine)
        if len(places) > most:
            places = np.unique(np.quantile(self._genuine, np.linspace(0.0, 1.0, most)))
        bins = 2 * len(places) + 1
        where = self._own * bins + _place(self._genuine, places)
        genuine = np.bincount(where, minlength=number * bins).reshape(number, bins).astype(np.float32).T @ weights
        where = _place(self._impostor, places) * number**2 + self._pair
        counts = np.bincount(where, minlength=bins * number**2).reshape(bins, number, number)
        impostor = np.stack([_of_pairs(one, weights) for one in counts])
        own = [np.bincount(self._own, self._genuine**power, number) @ weights for power in range(3)]
        others = [
            _of_pairs(np.bincount(self._pair, self._impostor**power, number**2).reshape(number, number), weights)
            for power in range(3)
        ]
        return np.array(
            [*_curve_figures(genuine, impostor), _d_prime(_moments(np.array(own)), _moments(np.array(others)))]
        )


def _of_pairs(table: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum over all pairs of patients, table (patients, patients), weighted by how often both are drawn; (draws,)."""
    return ((table.astype(np.float32) @ weights) * weights).sum(axis=0, dtype=float)


def _place(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Below all places 0, at the first 1, between it and the second 2, …"""
    return np.searchsorted(places, values, "left") + np.searchsorted(places, values, "right")


def _curve_figures(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and equal error rate of counts by similarity, (similarities, draws), for each draw."""
    with np.errstate(invalid="ignore", divide="ignore"):
        below = [
            np.cumsum(counts, axis=0, dtype=float) / counts.sum(axis=0, dtype=float) for counts in (genuine, impostor)
        ]
    missed, passed = (np.concatenate([np.zeros((1, share.shape[1])), share]) for share in below)
    accepted = 1.0 - passed  # pairs of two patients that are taken for one, from the lowest threshold up
    auc = ((accepted[:-1] - accepted[1:]) * (1.0 - (missed[1:] + missed[:-1]) / 2.0)).sum(axis=0)
    after = np.maximum(1, (missed >= accepted).argmax(axis=0))
    columns = np.arange(missed.shape[1])
    low, high = (missed - accepted)[after - 1, columns], (missed - accepted)[after, columns]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = -low / (high - low)
    eer = missed[after - 1, columns] + part * (missed[after, columns] - missed[after - 1, columns])
    return auc, eer


def _moments(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance from number, sum and sum of squares, (3, draws)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, square = sums[1] / sums[0], sums[2] / sums[0]
    return mean, np.maximum(square - mean**2, 0.0)


def _d_prime(genuine: tuple[np.ndarray, np.ndarray], impostor: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Distance of the means in units of the common standard deviation."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return (genuine[0] - impostor[0]) / np.sqrt((genuine[1] + impostor[1]) / 2.0)


def _estimate(value: float, drawn: np.ndarray) -> Estimate | None:
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(drawn) == 0:
        return None
    edge = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(drawn, [edge, 100.0 - edge])
    return Estimate(float(value), float(min(low, value)), float(max(high, value)))


def _rank_estimate(hits: np.ndarray, patients: np.ndarray, weights: np.ndarray) -> Estimate | None:
    """Share of hits; where all or none hit, in any draw, the exact binomial interval for that number of patients."""
    number = len(weights)
    hit, tried = (np.bincount(patients, values, number) for values in (hits, np.ones(len(hits))))
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = (hit @ weights) / (tried @ weights)
    value = float(hit.sum() / tried.sum())
    estimate = _estimate(value, drawn)
    if estimate is None or value not in (0.0, 1.0):
        return estimate
    # No draw of patients who were all named, or none of them, knows of one who would not have been.
    far = float(((1.0 - CONFIDENCE) / 2.0) ** (1.0 / np.count_nonzero(tried)))
    return Estimate(value, far if value == 1.0 else 0.0, 1.0 if value == 1.0 else 1.0 - far)


def estimated_median(
    values: Sequence[float], patients: Sequence[int], draws: int = DRAWS, seed: int = 0
) -> Estimate | None:
    """Median of values, several of a patient, with its interval over draws of patients; None of nothing."""
    if len(values) == 0:
        return None
    unique, of = np.unique(np.asarray(patients), return_inverse=True)
    order = np.argsort(values)
    ordered, owner = np.asarray(values, dtype=float)[order], of[order]
    weights = np.cumsum(_weights(len(unique), draws, seed)[owner], axis=0)
    half = weights[-1] / 2.0
    return _estimate(float(np.median(ordered)), ordered[np.argmax(weights >= half, axis=0)])
