"""A cohort by the study's protocol: many patients, several scans each, original and defaced by several methods.

Every scan is rendered from all views of a grid, and each face that is found is embedded. All genuine pairs (one
patient) and impostor pairs (two patients) of embeddings are compared, within a method and against the originals, and a
support vector machine is asked to tell them apart (:mod:`.pairs`).

What was found in a scan is remembered (:mod:`.memory`), so that one more scan costs one more. The table:
:mod:`.cohort_table`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.errors import Cancelled, CTDefaceError, InputError
from CTDefaceLib.progress import IsCancelled, Progress, never, silent
from CTDefaceLib.render import Renderer
from CTDefaceLib.volume_io import read_ct

from . import detection
from .cohort_table import Row
from .face_models import FaceModel, load_model
from .findings import ORIGINAL, Cohort, MethodResult, VolumeFaces, quartiles
from .memory import VolumeMemory, file_digest
from .pairs import (
    BY_PATIENT,
    STUDY,
    Separation,
    count_pairs,
    patient_folds,
    separate_at_random,
    separate_by_patient,
)
from .views import Pose, ViewGrid, head_pose, view_grid

PICTURE_PIXELS = 160
"""Rows and columns of the pictures of the report."""
PICTURE_VIEW = (0.0, 15.0, "top")
"""Yaw, pitch and light of these pictures."""
BACKGROUND = 128
"""Grey of the picture of a volume that shows nothing, 0 to 255."""
SCANS_SHOWN = 4
"""So many scans have pictures in the report, the first ones of the table."""


def evaluate_cohort(
    rows: Sequence[Row],
    cache: str | os.PathLike,
    *,
    model: str = "dlib-hog",
    model_folder: str | os.PathLike | None = None,
    views: str = "study",
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: IsCancelled | None = None,
) -> Cohort:
    """Find the faces of every volume, or recall them from `cache`, and compare them all.

    Parameters
    ----------
    rows: sequence of Row
        The table.
    cache: path
        Folder for one file per volume, made when missing; an interrupted run goes on from it.
    model, model_folder: str, path or None
        A face model that embeds, and its folder where it is loaded from one.
    views: str
        Preset of `views.PRESETS`.
    seed: int
        Of the folds.
    progress, cancelled: callable or None
        See :func:`.evaluation.evaluate`.

    Raises
    ------
    InputError
        A volume cannot be read.
    CTDefaceError
        The model does not embed or is missing, or cancelled.
    """
    progress = progress or silent
    cancelled = cancelled or never
    grid = view_grid(views)
    face_model = load_model(model, model_folder)
    if not face_model.embeds:
        raise CTDefaceError(
            f"The face model {model} cannot tell people apart: choose one that embeds, such as dlib-hog."
        )
    finder = _FaceFinder(face_model, grid, cancelled, _memory(Path(cache), face_model, model_folder, grid))
    originals = {(row.patient, row.scan): row.path for row in rows if row.method == ORIGINAL}
    found = []
    for number, row in enumerate(rows):
        if cancelled():
            raise Cancelled("The evaluation was cancelled.")
        progress(0.95 * number / len(rows), f"Volume {number + 1} of {len(rows)}")
        try:
            found.append(finder.faces(row.path, originals.get((row.patient, row.scan), row.path)))
        except InputError as error:
            raise InputError(f"Volume {number + 1} of the table: {error}") from error
    progress(0.95, "Comparing all pairs")
    table = _Table(rows, found)
    described = {"name": face_model.name, "licence": face_model.licence}
    return Cohort(described, views, grid, _methods(table, seed), _listed(table), _pictures(table))


def _memory(folder: Path, model: FaceModel, model_folder: str | os.PathLike | None, grid: ViewGrid) -> VolumeMemory:
    weights = sorted(Path(model_folder).glob("*")) if model_folder else []
    made_with = [model.name, [file_digest(path) for path in weights], asdict(grid), model.picture_size]
    return VolumeMemory(folder, [*made_with, detection.FIELD_OF_VIEW_MM, detection.GRID_MM, detection.TRIANGLES])


class _FaceFinder:
    """Finds the faces of one volume after another, or recalls them."""

    def __init__(self, model: FaceModel, grid: ViewGrid, cancelled: IsCancelled, memory: VolumeMemory) -> None:
        self._model, self._grid, self._cancelled, self._memory = model, grid, cancelled, memory
        self._renderer: Renderer | None = None
        self._pose: tuple[Path, Pose] | None = None

    def faces(self, path: Path, original: Path) -> VolumeFaces:
        """The faces of a volume, in the pose of its original."""
        key = self._memory.key(path, original)
        faces = self._memory.recall(key)
        if faces is None:
            faces = self._find(read_ct(path), self._pose_of(original))
            self._memory.keep(key, faces)
        return faces

    def _pose_of(self, original: Path) -> Pose:
        if self._pose is None or self._pose[0] != original:
            self._pose = original, head_pose(read_ct(original))
        return self._pose[1]

    def _find(self, image: sitk.Image, pose: Pose) -> VolumeFaces:
        self._renderer = renderer = self._renderer or Renderer()
        surface = detection.surface_of(image)
        sightings = detection.find_faces(
            renderer,
            surface,
            pose,
            self._grid,
            [self._model],
            embedders=[self._model.name],
            cancelled=self._cancelled,
        )
        scores = [s.face.score for s in sightings if s.face]
        embeddings = [s.embedding for s in sightings if s.face]
        picture = np.full((PICTURE_PIXELS, PICTURE_PIXELS, 3), BACKGROUND, np.uint8)
        if not detection.is_empty(surface):
            picture = detection.picture_of(renderer, surface, pose, *PICTURE_VIEW, PICTURE_PIXELS)
        return VolumeFaces(
            len(sightings),
            np.array(scores, dtype=np.float32),
            np.array(embeddings, dtype=np.float32).reshape(len(scores), -1 if scores else 1),
            picture,
        )


class _Table:
    """The rows with what was found in them; patients and scans numbered from 0 in the order of the rows."""

    def __init__(self, rows: Sequence[Row], found: Sequence[VolumeFaces]) -> None:
        self.rows = list(zip(rows, found))
        self.patients = {name: number for number, name in enumerate(dict.fromkeys(row.patient for row in rows))}
        pairs = dict.fromkeys((row.patient, row.scan) for row in rows)
        self.scans = {pair: number for number, pair in enumerate(pairs)}
        self.methods = sorted({row.method for row in rows}, key=lambda method: (method != ORIGINAL, method))

    def patient(self, row: Row) -> int:
        return self.patients[row.patient]

    def scan(self, row: Row) -> int:
        return self.scans[row.patient, row.scan]

    def of(self, method: str) -> list[tuple[Row, VolumeFaces]]:
        """The rows of a method."""
        return [(row, faces) for row, faces in self.rows if row.method == method]


def _methods(table: _Table, seed: int) -> list[MethodResult]:
    """The figures of every method, the originals' first."""
    fold_of = patient_folds(np.arange(len(table.patients)), seed=seed)
    several_scans = len(table.scans) > len(table.patients)
    faces = {method: _embeddings(table, method) for method in table.methods}
    results = []
    for method, (embeddings, patient, scan) in faces.items():
        folds = fold_of[patient]
        apart = count_pairs(embeddings, patient, folds, scans=scan if several_scans else None)
        every = count_pairs(embeddings, patient, folds).sum(axis=(0, 1)) if several_scans else apart.sum(axis=(0, 1))
        against = {}
        if method != ORIGINAL and ORIGINAL in faces:
            others, other_patient, _ = faces[ORIGINAL]
            counts = count_pairs(embeddings, patient, folds, others, other_patient, fold_of[other_patient])
            against = _separations(counts, counts.sum(axis=(0, 1)), seed)
        mine = table.of(method)
        results.append(
            MethodResult(
                method=method,
                scans=len(mine),
                patients=len({row.patient for row, _ in mine}),
                faces=len(embeddings),
                found=quartiles([len(one.scores) / one.views for _, one in mine]),
                within=_separations(apart, every, seed),
                against_originals=against,
            )
        )
    return results


def _separations(by_fold: np.ndarray, every: np.ndarray, seed: int) -> dict[str, Separation]:
    """The pairs by either protocol, from counts by fold and from counts of all pairs."""
    return {BY_PATIENT: separate_by_patient(by_fold), STUDY: separate_at_random(every, seed=seed)}


def _embeddings(table: _Table, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of a method's faces, with the numbers of their patients and scans."""
    mine = [(row, one) for row, one in table.of(method) if len(one.scores)]
    if not mine:
        return np.zeros((0, 1), np.float32), np.zeros(0, int), np.zeros(0, int)
    counts = [len(one.scores) for _, one in mine]
    return (
        np.concatenate([one.embeddings for _, one in mine]),
        np.repeat([table.patient(row) for row, _ in mine], counts),
        np.repeat([table.scan(row) for row, _ in mine], counts),
    )


def _listed(table: _Table) -> list[dict[str, Any]]:
    """A line of numbers for each volume."""
    return [
        {
            "patient": table.patient(row) + 1,
            "scan": table.scan(row) + 1,
            "method": row.method,
            "views": one.views,
            "views_found": len(one.scores),
            "best_score": float(one.scores.max()) if len(one.scores) else None,
            "mean_score": float(one.scores.mean()) if len(one.scores) else None,
        }
        for row, one in table.rows
    ]


def _pictures(table: _Table) -> list[tuple[str, str, np.ndarray]]:
    """Scan, method and picture of the volumes of the first scans."""
    return [
        (f"scan {table.scan(row) + 1}", row.method, one.picture)
        for row, one in table.rows
        if table.scan(row) < SCANS_SHOWN
    ]
