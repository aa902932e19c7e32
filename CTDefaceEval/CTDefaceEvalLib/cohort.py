"""A cohort by the study's protocol: many patients, several scans each, original and defaced by several methods.

Every scan is rendered from all views of a grid, and each face that is found is embedded. All genuine pairs (one
patient) and impostor pairs (two patients) of embeddings are compared, within a method and against the originals, and a
support vector machine is asked to tell them apart (:mod:`.pairs`).

What was seen of a scan is cached, so that one more scan costs one more. The table: :mod:`.cohort_table`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from CTDefaceLib import __version__
from CTDefaceLib.errors import Cancelled, CTDefaceError, InputError
from CTDefaceLib.files import replaced
from CTDefaceLib.render import Renderer
from CTDefaceLib.volume_io import read_ct

from . import detection
from .cohort_table import ORIGINAL, Row
from .evaluation import quartiles
from .face_models import load_model
from .pairs import Separation, count_pairs, patient_folds, separate_at_random, separate_by_patient
from .views import Pose, ViewGrid, head_pose, view_grid

PICTURE_PIXELS = 160


@dataclass
class Seen:
    """What was seen of one volume.

    Attributes
    ----------
    views: number of views it was looked at from
    scores: of the faces found
    embeddings: (faces found, d) float32
    picture: front view, (rows, columns, 3) uint8
    """

    views: int
    scores: np.ndarray
    embeddings: np.ndarray
    picture: np.ndarray


@dataclass
class MethodResult:
    """One method's figures.

    Attributes
    ----------
    found: {"n", "median", "q1", "q3"} over the scans, of the share of views in which a face was found
    within, against_originals: protocol → Separation of the pairs of this method's faces with each other, and with the
        originals' faces. Protocols: "by patient" (folds of whole patients, no pairs within one scan) and "study" (all
        pairs, dealt out at random).
    """

    method: str
    scans: int
    patients: int
    faces: int
    found: dict | None
    within: dict[str, Separation]
    against_originals: dict[str, Separation]


@dataclass
class Cohort:
    """The figures of all methods, with what they were made with."""

    model: dict
    views: str
    grid: ViewGrid
    methods: list[MethodResult]
    scans: list[dict]
    pictures: list[tuple[str, str, np.ndarray]] = field(default_factory=list, repr=False)

    def as_dict(self) -> dict:
        """Every number, ready for JSON. Patients and scans are numbered, their names stay in the table."""
        numbers = asdict(self)
        del numbers["pictures"]
        return {"ctdeface": __version__, **numbers}


def evaluate_cohort(
    rows: Sequence[Row],
    cache: str | os.PathLike,
    *,
    model: str = "dlib-hog",
    model_folder: str | os.PathLike | None = None,
    views: str = "study",
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Cohort:
    """Look at every volume, or recall it from `cache`, and compare all faces.

    Parameters
    ----------
    rows: the table
    cache: folder for one file per volume, made when missing; an interrupted run goes on from it
    model: a face model that embeds; `model_folder` where it is loaded from one
    views: preset of `views.PRESETS`
    seed: of the folds
    progress, cancelled: see :func:`.evaluation.evaluate`

    Raises
    ------
    CTDefaceError: the model does not embed or is missing, a volume cannot be read, or cancelled
    """
    progress = progress or (lambda fraction, text: None)
    cancelled = cancelled or (lambda: False)
    grid = view_grid(views)
    face_model = load_model(model, model_folder)
    if not face_model.embeds:
        raise CTDefaceError(
            f"The face model {model} cannot tell people apart: choose one that embeds, such as dlib-hog."
        )
    watcher = _Watcher(Path(cache), face_model, model_folder, grid, cancelled)
    originals = {(row.patient, row.scan): row.path for row in rows if row.method == ORIGINAL}
    seen = []
    for number, row in enumerate(rows):
        if cancelled():
            raise Cancelled("The evaluation was cancelled.")
        progress(0.95 * number / len(rows), f"Volume {number + 1} of {len(rows)}")
        try:
            seen.append(watcher.see(row.path, originals.get((row.patient, row.scan), row.path)))
        except InputError as error:
            raise InputError(f"Volume {number + 1} of the table: {error}") from error
    progress(0.95, "Comparing all pairs")
    return _compared(rows, seen, face_model, views, grid, seed)


class _Watcher:
    """Looks at volumes and keeps what it saw in a folder, by the volume's content and everything that matters."""

    def __init__(self, cache: Path, model, model_folder, grid: ViewGrid, cancelled):
        self.cache, self.model, self.grid, self.cancelled = cache, model, grid, cancelled
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CTDefaceError(f"The folder for the cache cannot be made: {error.strerror}.") from error
        weights = sorted(Path(model_folder).glob("*")) if model_folder else []
        how = [__version__, model.name, [_digest(path) for path in weights], asdict(grid)]
        how += [model.picture_size, detection.FIELD_OF_VIEW_MM, detection.GRID_MM, detection.TRIANGLES]
        self.how = json.dumps(how)
        self._renderer = None
        self._pose: tuple[Path, Pose] | None = None

    def see(self, path: Path, original: Path) -> Seen:
        """Look at a volume in the pose of its original."""
        content = _digest(path), _digest(original)
        key = hashlib.sha256(json.dumps([self.how, content]).encode()).hexdigest()[:32]
        file = self.cache / f"{key}.npz"
        try:
            with np.load(file, allow_pickle=False) as kept:
                return Seen(int(kept["views"]), kept["scores"], kept["embeddings"], kept["picture"])
        except (OSError, ValueError, KeyError, EOFError):
            pass
        seen = self._look(read_ct(path), self._pose_of(original))
        with replaced(file, private=True) as part, open(part, "wb") as stream:
            np.savez_compressed(stream, **vars(seen))
        return seen

    def _pose_of(self, original: Path) -> Pose:
        if self._pose is None or self._pose[0] != original:
            self._pose = original, head_pose(read_ct(original))
        return self._pose[1]

    def _look(self, image: sitk.Image, pose: Pose) -> Seen:
        self._renderer = self._renderer or Renderer()
        surface = detection.surface_of(image)
        sightings = detection.look(
            self._renderer,
            surface,
            pose,
            self.grid,
            [self.model],
            embedders=[self.model.name],
            cancelled=self.cancelled,
        )
        found = [s for s in sightings if s.found]
        picture = np.full((PICTURE_PIXELS, PICTURE_PIXELS, 3), 128, np.uint8)
        if surface.GetNumberOfPoints():
            picture = detection.picture_of(self._renderer, surface, pose, 0.0, 15.0, "top", PICTURE_PIXELS)
        return Seen(
            len(sightings),
            np.array([s.face.score for s in found], dtype=np.float32),
            np.array([s.embedding for s in found], dtype=np.float32).reshape(len(found), -1 if found else 1),
            picture,
        )


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with open(file, "rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _compared(rows, seen, face_model, views: str, grid: ViewGrid, seed: int) -> Cohort:
    patients = {name: number for number, name in enumerate(dict.fromkeys(row.patient for row in rows))}
    scans = {pair: number for number, pair in enumerate(dict.fromkeys((row.patient, row.scan) for row in rows))}
    fold_of = patient_folds(np.arange(len(patients)), seed=seed)
    several_scans = len(scans) > len(patients)
    faces = {
        method: _faces(method, rows, seen, patients, scans)
        for method in sorted({row.method for row in rows}, key=lambda method: (method != ORIGINAL, method))
    }
    results = []
    for method, (embeddings, patient, scan) in faces.items():
        folds = fold_of[patient]
        apart = count_pairs(embeddings, patient, folds, scans=scan if several_scans else None)
        every = count_pairs(embeddings, patient, folds).sum(axis=(0, 1)) if several_scans else apart.sum(axis=(0, 1))
        within = {"by patient": separate_by_patient(apart), "study": separate_at_random(every, seed=seed)}
        against = {}
        if method != ORIGINAL and ORIGINAL in faces:
            others, other_patient, _ = faces[ORIGINAL]
            counts = count_pairs(embeddings, patient, folds, others, other_patient, fold_of[other_patient])
            against = {
                "by patient": separate_by_patient(counts),
                "study": separate_at_random(counts.sum(axis=(0, 1)), seed=seed),
            }
        mine = [(row, one) for row, one in zip(rows, seen) if row.method == method]
        results.append(
            MethodResult(
                method=method,
                scans=len(mine),
                patients=len({row.patient for row, _ in mine}),
                faces=len(embeddings),
                found=quartiles([len(one.scores) / one.views for _, one in mine]),
                within=within,
                against_originals=against,
            )
        )
    listed = [
        {
            "patient": patients[row.patient] + 1,
            "scan": scans[row.patient, row.scan] + 1,
            "method": row.method,
            "views": one.views,
            "views_found": len(one.scores),
            "best_score": float(one.scores.max()) if len(one.scores) else None,
            "mean_score": float(one.scores.mean()) if len(one.scores) else None,
        }
        for row, one in zip(rows, seen)
    ]
    first = list(scans)[:4]
    pictures = [
        (f"scan {scans[row.patient, row.scan] + 1}", row.method, one.picture)
        for row, one in zip(rows, seen)
        if (row.patient, row.scan) in first
    ]
    model = {"name": face_model.name, "licence": face_model.licence}
    return Cohort(model, views, grid, results, listed, pictures)


def _faces(method, rows, seen, patients, scans) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of a method's faces, with the numbers of their patients and scans."""
    mine = [(row, one) for row, one in zip(rows, seen) if row.method == method and len(one.scores)]
    if not mine:
        return np.zeros((0, 1), np.float32), np.zeros(0, int), np.zeros(0, int)
    counts = [len(one.scores) for _, one in mine]
    return (
        np.concatenate([one.embeddings for _, one in mine]),
        np.repeat([patients[row.patient] for row, _ in mine], counts),
        np.repeat([scans[row.patient, row.scan] for row, _ in mine], counts),
    )
