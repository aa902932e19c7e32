"""The sweep of one evaluation: every surface drawn from the same views, searched by the same models, once."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.hounsfield import TISSUE_HU
from CTDefaceLib.progress import IsCancelled
from CTDefaceLib.render import Renderer, png_bytes

from .detection import Skin, find_faces, is_empty, picture_of, skin_of
from .face_models import Face, FaceModel
from .findings import BACK, Subject
from .memory import SubjectMemory
from .searching import Search, search_here
from .settings import Settings
from .views import Pose, View

REPORT_VIEWS = ((0.0, 0.0, "top"), (0.0, 20.0, "top"), (40.0, 10.0, "top"), (90.0, 0.0, "top"))
"""Yaw, pitch and light of the pictures for the report."""
REPORT_PIXELS = 220
"""Rows and columns of these pictures."""


class Sweep:
    """Draws surfaces and searches them, or recalls what was found.

    Parameters
    ----------
    settings, models, pose
        How pictures are made and searched.
    memory: SubjectMemory
        Keeps each subject as soon as it is done.
    cancelled: callable
        Asked between pictures.
    search: callable
        Who looks at the pictures.
    """

    def __init__(
        self,
        settings: Settings,
        models: Sequence[FaceModel],
        pose: Pose,
        memory: SubjectMemory,
        cancelled: IsCancelled,
        search: Search = search_here,
    ) -> None:
        self.search = search
        self.settings, self.models, self.pose, self.memory = settings, models, pose, memory
        self.renderer = Renderer()
        self._cancelled = cancelled
        self._by_shape: dict[bytes, Subject] = {}

    def subject(
        self,
        name: str,
        kind: str,
        image: sitk.Image,
        iso: float = TISSUE_HU,
        region_ml: float = 0.0,
        *,
        embedders: Collection[str] = (),
        embed_at: Mapping[View, Face] | None = None,
        models: Sequence[FaceModel] | None = None,
        views: Iterable[View] | None = None,
    ) -> Subject:
        """Search the skin of a volume.

        Parameters
        ----------
        name, kind, image, iso, region_ml
            As of :class:`.attacks.Recovery`.
        embedders, embed_at
            As of :func:`.detection.find_faces`. With `embed_at`, a surface that was searched before is not searched
            again: what an attack changes often is not part of the head, and then nothing new is to be seen.
        models, views: sequence, iterable or None
            Others than those of the settings.

        Raises
        ------
        Cancelled
            When `cancelled()` is true.
        """
        remembered = self.memory.recall(name)
        if remembered is not None:
            return remembered
        skin = skin_of(image, iso, self.settings.rendering)
        subject = Subject(name, kind, round(region_ml, 1))
        shape = _shape(skin) if embed_at is not None else None
        if shape is not None and shape in self._by_shape:
            same = self._by_shape[shape]
            subject.sightings, subject.pictures = same.sightings, same.pictures
        else:
            subject.sightings = find_faces(
                self.renderer,
                skin,
                self.pose,
                self.settings.grid if views is None else views,
                self.models if models is None else models,
                embedders=embedders,
                embed_at=embed_at,
                perspective=self.settings.perspective,
                cancelled=self._cancelled,
                search=self.search,
            )
            subject.pictures = self._report_pictures(skin) if kind != BACK else []
        if shape is not None:
            self._by_shape[shape] = subject
        self.memory.keep(subject)
        return subject

    def _report_pictures(self, skin: Skin) -> list[bytes]:
        if is_empty(skin):
            return []
        perspective = self.settings.perspective
        return [
            png_bytes(picture_of(self.renderer, skin, self.pose, *view, REPORT_PIXELS, perspective))
            for view in REPORT_VIEWS
        ]


def _shape(skin: Skin) -> bytes | None:
    """The same for the same surface; None for a volume rendering."""
    from vtkmodules.util.numpy_support import vtk_to_numpy

    if skin.IsA("vtkVolume"):
        return None
    digest = hashlib.sha256()
    if skin.GetNumberOfPoints():
        digest.update(np.ascontiguousarray(vtk_to_numpy(skin.GetPoints().GetData())).data)
        digest.update(np.ascontiguousarray(vtk_to_numpy(skin.GetPolys().GetConnectivityArray())).data)
    return digest.digest()
