"""Look at a skin surface from every side and note where face detectors find a face."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.errors import Cancelled
from CTDefaceLib.render import Renderer, skin_surface, skin_volume

from .attacks import TISSUE_HU
from .face_models import Face
from .views import Pose

#: what the pictures are made with, for reports and caches
FIELD_OF_VIEW_MM = 280.0
GRID_MM = 1.5
TRIANGLES = 60_000
#: a surface, as here by default, or rays cast through the volume, as Slicer also shows a head
RENDERINGS = ("surface", "volume")


@dataclass
class Sighting:
    """What one model found in one picture; `embedding` only when asked for."""

    model: str
    yaw: float
    pitch: float
    light: str
    face: Face | None
    embedding: np.ndarray | None = field(default=None, repr=False)

    @property
    def found(self) -> bool:
        return self.face is not None

    @property
    def view(self) -> tuple[float, float, str]:
        return self.yaw, self.pitch, self.light


def look(
    renderer: Renderer,
    skin,
    pose: Pose,
    views: Iterable[tuple[float, float, str]],
    models: Sequence,
    *,
    embedders: Collection[str] = (),
    embed_at: Mapping[tuple[float, float, str], Face] | None = None,
    perspective: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Sighting]:
    """Show every view (yaw, pitch, light) of a skin (:func:`surface_of`, :func:`skin_of`) to every model.

    The models named in `embedders` also describe the face that they find. With `embed_at` they do so in its views only,
    and where one finds no face, it describes what lies where there should be one, as somebody could who knows the pose
    of the head.
    An empty one (nothing above its level) has no faces. Raises Cancelled when `cancelled()` says so.
    """
    sightings = []
    empty = is_empty(skin)
    for yaw, pitch, light in views:
        if cancelled():
            raise Cancelled("The evaluation was cancelled.")
        pictures = {}
        for model in models:
            size = model.picture_size
            if size not in pictures and not empty:
                pictures[size] = picture_of(renderer, skin, pose, yaw, pitch, light, size, perspective)
            faces = model.detect(pictures[size]) if pictures else []
            face = faces[0] if faces else None
            embedding = None
            if model.name in embedders and pictures:
                where = (
                    face
                    if embed_at is None
                    else (yaw, pitch, light) in embed_at and (face or embed_at[yaw, pitch, light])
                )
                embedding = model.embed(pictures[size], where) if where else None
            sightings.append(Sighting(model.name, yaw, pitch, light, face, embedding))
    return sightings


def picture_of(renderer: Renderer, skin, pose: Pose, yaw, pitch, light, size, perspective=False) -> np.ndarray:
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


def surface_of(image: sitk.Image, iso: float = TISSUE_HU):
    """The skin surface as all evaluations see it."""
    return skin_surface(image, iso, grid_mm=GRID_MM, triangles=TRIANGLES)


def skin_of(image: sitk.Image, iso: float = TISSUE_HU, rendering: str = "surface"):
    """The skin by one of RENDERINGS, for :func:`look` and :func:`picture_of`."""
    return surface_of(image, iso) if rendering == "surface" else skin_volume(image, iso)


def is_empty(skin) -> bool:
    """Whether there is nothing to see of a surface or volume rendering."""
    if skin.IsA("vtkVolume"):
        return skin.GetMapper().GetInput().GetScalarRange()[1] < skin.GetProperty().GetScalarOpacity().GetRange()[0]
    return skin.GetNumberOfPoints() == 0


def views_found(sightings: Iterable[Sighting], model: str) -> int:
    """In how many views a model found a face."""
    return sum(sighting.found for sighting in sightings if sighting.model == model)
