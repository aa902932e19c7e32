"""What similar means for one scan: pairs of pictures of this head, and of this head with others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.phantom import PhantomParameters, make_phantom
from CTDefaceLib.render import Renderer

from .attacks import around_head
from .detection import find_faces, skin_of, surface_of
from .face_models import FaceModel, similarity
from .findings import Scale, Sighting
from .recognition import gallery_of, kept_gallery, kept_heads
from .settings import RENDERINGS, Settings
from .views import Pose, View, ViewGrid, head_pose

SCALE_VIEWS = ViewGrid((-15, 0, 15), (-15, 0, 15))
"""Views for a scale without a whole evaluation. Set by judgement; no others are on record."""
OTHER_PEOPLE = tuple(
    PhantomParameters(person=person, spacing=(2.0, 2.0, 2.0), matrix=(110, 130)) for person in (101, 102, 103)
)
"""Persons of the phantom that stand for other heads where none are given."""


def scan_scale(original: sitk.Image, model: FaceModel, others: Iterable[sitk.Image] | None = None) -> Scale:
    """What similar means for a scan and a loaded model that embeds, from a few views."""
    pose, renderer = head_pose(original), Renderer()
    surface = surface_of(around_head(original, pose))
    sightings = find_faces(renderer, surface, pose, SCALE_VIEWS, [model], embedders=[model.name])
    faces = {s.view: s for s in sightings if s.face}
    return measured_scale(renderer, faces, SCALE_VIEWS, faces, model, others, Settings())


def measured_scale(
    renderer: Renderer,
    faces: Mapping[View, Sighting],
    grid: ViewGrid,
    views: Iterable[View],
    model: FaceModel,
    others: Iterable[sitk.Image] | None,
    settings: Settings,
) -> Scale:
    """The scale of the faces found in an original.

    Parameters
    ----------
    faces: mapping
        View → sighting with an embedding by `model`, in any views of `grid`.
    views: iterable
        Those of them in which other heads are compared.
    others: iterable of sitk.Image or None
        CTs of other heads; three synthetic ones when None.
    """
    embeddings = {view: s.embedding for view, s in faces.items() if s.embedding is not None}
    scale = Scale(_same_head(embeddings, grid))
    views = list(views)
    usual = settings.rendering == RENDERINGS[0] and not settings.perspective
    heads = kept_heads(model.name, views) if usual and others is None else None
    if heads is None:
        placed = synthetic_heads() if others is None else ((other, head_pose(other)) for other in others)
        heads = [embeddings_of(renderer, *head, views, model, settings) for head in placed]
    scale.other_heads = [similarity(vector, embeddings[view]) for head in heads for view, vector in head.items()]
    # Other people as this model sees them in these pictures: those that are kept, or the heads that were drawn.
    kept = kept_gallery(model.name) if usual and (others is None or not heads) else np.zeros(0)
    scale.is_kept = len(kept) > 0
    scale.gallery = (kept if scale.is_kept else gallery_of(heads)).tolist()
    return scale


def embeddings_of(
    renderer: Renderer,
    image: sitk.Image,
    pose: Pose,
    views: Iterable[View],
    model: FaceModel,
    settings: Settings,
) -> dict[View, np.ndarray]:
    """View → embedding of the face that a model finds in it."""
    skin = skin_of(image, rendering=settings.rendering)
    names, perspective = [model.name], settings.perspective
    sightings = find_faces(renderer, skin, pose, views, [model], embedders=names, perspective=perspective)
    return {s.view: s.embedding for s in sightings if s.embedding is not None}


def _same_head(embeddings: Mapping[View, np.ndarray], grid: ViewGrid) -> list[float]:
    """Cosines of pairs of pictures of one head: the same view under two lights, and neighbouring views."""
    pairs = [
        ((yaw, pitch, grid.lights[0]), (yaw, pitch, light)) for yaw, pitch, light in grid if light != grid.lights[0]
    ]
    for light in grid.lights:
        pairs += [((a, p, light), (b, p, light)) for p in grid.pitches for a, b in zip(grid.yaws, grid.yaws[1:])]
        pairs += [((y, a, light), (y, b, light)) for y in grid.yaws for a, b in zip(grid.pitches, grid.pitches[1:])]
    return [similarity(embeddings[a], embeddings[b]) for a, b in pairs if a in embeddings and b in embeddings]


@cache
def synthetic_heads() -> list[tuple[sitk.Image, Pose]]:
    """CTs of synthetic people and where their heads lie, made once in a process.

    Pictures of them are kept for some models, see :func:`.recognition.kept_heads`.
    """
    return [(image, head_pose(image)) for image in (make_phantom(person).image for person in OTHER_PEOPLE)]
