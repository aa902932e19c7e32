"""Render a skin surface from every side and note where face detectors find a face."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.hounsfield import TISSUE_HU
from CTDefaceLib.errors import Cancelled
from CTDefaceLib.progress import IsCancelled, never
from CTDefaceLib.render import Renderer, skin_surface, skin_volume

from .face_models import Face, FaceModel
from .findings import Sighting
from .searching import Found, Picture, Search, search_here
from .views import Pose, View

Skin = Any
"""A vtkPolyData, or a vtkVolume with rendering "volume"; VTK is imported where it draws."""

FIELD_OF_VIEW_MM = 280.0
"""Height and width of the pictures in mm. Between 270 and 300 detectors find faces in renderings of head CTs best."""
GRID_MM = 1.5
"""Grid in mm that the skin surface is made on. Set by judgement; no other value is on record."""


def find_faces(
    renderer: Renderer,
    skin: Skin,
    pose: Pose,
    views: Iterable[View],
    models: Sequence[FaceModel],
    *,
    embedders: Collection[str] = (),
    embed_at: Mapping[View, Face] | None = None,
    perspective: bool = False,
    cancelled: IsCancelled = never,
    search: Search = search_here,
) -> list[Sighting]:
    """Show every view of a skin (:func:`surface_of`, :func:`skin_of`) to every model.

    Parameters
    ----------
    renderer, skin, pose, views
        What is drawn, and from where. An empty skin (nothing above its level) has no faces.
    models: sequence of FaceModel
        Each searches all pictures.
    embedders: collection of str
        Names of models that also describe the face that they find.
    embed_at: mapping or None
        View → where the face should be. With it the embedders describe a face in these views only, and where they find
        none, what lies where there should be one, as somebody could who knows the pose of the head.
    perspective: bool
        A camera at 1 m instead of parallel rays.
    cancelled: callable
        Asked before each view.
    search: callable
        Who looks at the pictures, see :mod:`.searching`.

    Returns
    -------
    list of Sighting
        One for each view and model.

    Raises
    ------
    Cancelled
        When `cancelled()` is true.
    """
    begun: list[tuple[str, View, Callable[[], Found]]] = []
    empty = is_empty(skin)
    for view in views:
        if cancelled():
            raise Cancelled("The evaluation was cancelled.")
        pictures: dict[int, np.ndarray] = {}
        for model in models:
            if empty:
                begun.append((model.name, view, lambda: (None, None)))
                continue
            size = model.picture_size
            if size not in pictures:
                pictures[size] = picture_of(renderer, skin, pose, *view, size, perspective)
            described = model.name in embedders and (embed_at is None or view in embed_at)
            picture = Picture(pictures[size], described, (embed_at or {}).get(view))
            begun.append((model.name, view, search(model, picture)))
    sightings = []
    for name, view, answer in begun:
        if cancelled():
            raise Cancelled("The evaluation was cancelled.")
        sightings.append(Sighting(name, *view, *answer()))
    return sightings


def picture_of(
    renderer: Renderer,
    skin: Skin,
    pose: Pose,
    yaw: float,
    pitch: float,
    light: str,
    size: int,
    perspective: bool = False,
) -> np.ndarray:
    """One picture as the models see it, (size, size, 3) uint8."""
    return renderer.picture(
        skin,
        yaw,
        pitch,
        light=light,
        size=size,
        field_of_view_mm=FIELD_OF_VIEW_MM,
        axes=pose.axes,
        center=pose.center,
        perspective=perspective,
    )


def surface_of(image: sitk.Image, iso: float = TISSUE_HU) -> Skin:
    """The skin surface as all evaluations see it."""
    return skin_surface(image, iso, grid_mm=GRID_MM)


def skin_of(image: sitk.Image, iso: float = TISSUE_HU, rendering: str = "surface") -> Skin:
    """The skin by one of `settings.RENDERINGS`, for :func:`find_faces` and :func:`picture_of`."""
    return surface_of(image, iso) if rendering == "surface" else skin_volume(image, iso)


def is_empty(skin: Skin) -> bool:
    """Whether there is nothing to see of a surface or volume rendering."""
    if skin.IsA("vtkVolume"):
        return skin.GetMapper().GetInput().GetScalarRange()[1] < skin.GetProperty().GetScalarOpacity().GetRange()[0]
    return skin.GetNumberOfPoints() == 0


def views_found(sightings: Iterable[Sighting], model: str) -> int:
    """In how many views a model found a face."""
    return sum(sighting.found for sighting in sightings if sighting.model == model)
