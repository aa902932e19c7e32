"""Whose face is it: a head's template, and how much what is left of a head resembles its original.

A head is described as published attackers do it: the embeddings of its pictures from several sides are made one, which
evens out what the side and the light do to each of them. All heads resemble each other, featureless ones less and
synthetic faces more than others, so that a resemblance counts only as far as it is closer than that to other people: a
gallery of synthetic heads stands for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .face_models import unit
from .findings import Likeness
from .views import View

SAME_PERSON = 0.6
"""Likeness from which on two heads are taken for one person's. Of 26 people one pair of two people in a hundred reaches
it, two scans of one person 0.8 at least (Testing/benchmarks/bench_recognition.py, by dlib). It has to be the upper end
of the interval that stays below: who cannot be told apart for sure is taken for the same."""
DRAWS = 2000
"""Draws of the bootstrap over the views: the ends of its interval then move by less than a tenth of its width."""
LEAST_APART = 0.005
"""Where the cosine of a head and the gallery is nearer to 1 than this, the model cannot tell heads apart."""
GALLERIES = Path(__file__).with_name("galleries")
"""A file for each model whose gallery is known, NAME.npz, by bench_recognition.py: ``templates`` (n, d), and how the
model sees the heads of :data:`.similarity_scale.OTHER_PEOPLE`; see :func:`keep_gallery`."""


def template(embeddings: Mapping[View, np.ndarray]) -> np.ndarray:
    """Mean direction of the embeddings of one head's pictures, (d,), length 1."""
    return unit(unit(np.array(list(embeddings.values()))).mean(axis=0))


def gallery_of(heads: Sequence[Mapping[View, np.ndarray]]) -> np.ndarray:
    """Mean of the templates of heads, (d,); empty without any."""
    templates = [template(head) for head in heads if head]
    return np.mean(templates, axis=0) if templates else np.zeros(0)


def kept_gallery(model: str) -> np.ndarray:
    """The gallery that is kept for a model, (d,); empty where there is none."""
    file = GALLERIES / f"{model}.npz"
    if not file.is_file():
        return np.zeros(0)
    with np.load(file, allow_pickle=False) as kept:
        return kept["templates"].astype(np.float64).mean(axis=0)


def kept_heads(model: str, views: Sequence[View]) -> list[dict[View, np.ndarray]] | None:
    """View → embedding of the synthetic heads, as they are kept for a model; None where one of the views is not.

    A view in which the model finds no face is missing. Pictures as evaluations usually draw them: to draw and describe
    the heads anew takes half a minute, and nothing in it depends on the scan.
    """
    file = GALLERIES / f"{model}.npz"
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as kept:
        sides, lights, heads = kept["sides"].tolist(), kept["lights"].tolist(), kept["heads"]
    place = {(yaw, pitch, light): number for number, ((yaw, pitch), light) in enumerate(zip(sides, lights))}
    if any(view not in place for view in views):
        return None
    return [{view: head[place[view]] for view in views if np.isfinite(head[place[view]]).all()} for head in heads]


def keep_gallery(
    model: str, templates: np.ndarray, views: Sequence[View], heads: Sequence[Mapping[View, np.ndarray]]
) -> None:
    """Write the file of GALLERIES of a model: templates (n, d), and View → embedding of the synthetic heads.

    Those are kept as ``heads`` (heads, views, d), NaN where no face was found, with ``sides`` (views, 2) in degrees and
    ``lights`` (views,).
    """
    nothing = np.full(templates.shape[1], np.nan, np.float32)
    GALLERIES.mkdir(exist_ok=True)
    np.savez_compressed(
        GALLERIES / f"{model}.npz",
        templates=templates,
        sides=np.array([view[:2] for view in views], dtype=np.float32),
        lights=np.array([view[2] for view in views]),
        heads=np.array([[head.get(view, nothing) for view in views] for head in heads], dtype=np.float32),
    )


def likeness(own: Mapping[View, np.ndarray], other: Mapping[View, np.ndarray], gallery: np.ndarray) -> Likeness | None:
    """How much a head resembles an original: 0 as other people do, 1 as the original itself.

    With the template *o* of the original, *p* of the head, both over the views that both have, and the mean *g* of the
    gallery: (p·o − p·g) / (1 − o·g). None without views or gallery, and where the model does not tell the original from
    the gallery. The interval is that of a bootstrap over the views, with fixed seed: it tells how much the choice of
    the sides matters, not how sure the recogniser is.
    """
    views = [view for view in own if view in other]
    if not views or not len(gallery):
        return None
    originals, heads = (unit(np.array([embeddings[view] for view in views])) for embeddings in (own, other))
    drawn = np.random.default_rng(0).multinomial(len(views), [1.0 / len(views)] * len(views), DRAWS)
    weights = np.vstack([np.ones(len(views)), drawn])  # all views first
    originals, heads = unit(weights @ originals), unit(weights @ heads)
    itself = 1.0 - originals @ gallery
    if itself[0] < LEAST_APART:
        return None
    cosine = np.sum(originals * heads, axis=1)
    value = (cosine - heads @ gallery) / np.maximum(itself, LEAST_APART)
    low, high = np.percentile(value[1:], [2.5, 97.5])
    return Likeness(float(value[0]), float(low), float(high), float(cosine[0]), len(views))
