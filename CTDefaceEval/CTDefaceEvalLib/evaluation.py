"""One scan and its defaced version: can the face still be found, recognised or recovered?

:func:`evaluate` looks at the original, at the defaced volume and at what each attack makes of it, always from the same
views, and puts the similarity of the faces on the scan's own scale: pairs of pictures of this head under another light
or from a neighbouring side, and pairs of this head with other heads. Detectors that do not find the original prove
nothing; the verdict then is "not evaluable".
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from CTDefaceLib import __version__
from CTDefaceLib.errors import CTDefaceError, InputError, NoFaceError
from CTDefaceLib.files import write_whole
from CTDefaceLib.render import Renderer, png_bytes

from . import attacks as attack_library
from .attacks import around_head
from .companions import pictures_beside, volumes_beside
from .detection import RENDERINGS, Sighting, is_empty, look, picture_of, skin_of, surface_of
from .face_models import ADVICE_ONLY, DEFAULT_MODELS, Face, load_model, similarity
from .verdict import Verdict, judge
from .views import ViewGrid, head_pose, view_grid

#: pictures for the report: yaw, pitch, light
REPORT_VIEWS = ((0.0, 0.0, "top"), (0.0, 20.0, "top"), (40.0, 10.0, "top"), (90.0, 0.0, "top"))
REPORT_PIXELS = 220
#: views that faces are compared in: those in which the original's is found best
COMPARED_VIEWS = 16
#: two volumes show one scan when this share of the tissue is the same, or when the tissue correlates like this
SAME_SHARE, SAME_SCAN = 0.25, 0.9
#: views for a scale without a whole evaluation
SCALE_VIEWS = ViewGrid((-15, 0, 15), (-15, 0, 15))

View = tuple[float, float, str]


@dataclass(frozen=True)
class Settings:
    """How to look.

    Attributes
    ----------
    models: names of face models, keys of `face_models.MODELS`
    model_folder: folder of the models that are loaded from one
    views: preset of `views.PRESETS`
    attacks: kinds of attack, of `attacks.ATTACKS`
    rendering: of `detection.RENDERINGS`
    perspective: a camera at 1 m instead of parallel rays
    """

    models: tuple[str, ...] = DEFAULT_MODELS
    model_folder: str | None = None
    views: str = "default"
    attacks: tuple[str, ...] = attack_library.ATTACKS
    rendering: str = RENDERINGS[0]
    perspective: bool = False


@dataclass
class Subject:
    """A surface that was looked at: the original, the defaced volume, what an attack made of it or what lies beside it.

    Attributes
    ----------
    name, kind: "original", "defaced", or those of the attack
    region_ml: volume of the region that the attack found
    sightings: of every model in every view
    pictures: PNG files, one for each of REPORT_VIEWS
    """

    name: str
    kind: str
    region_ml: float = 0.0
    sightings: list[Sighting] = field(default_factory=list, repr=False)
    pictures: list[bytes] = field(default_factory=list, repr=False)

    def scores(self, model: str) -> list[float]:
        """Scores of the faces that a model found."""
        return [s.face.score for s in self.sightings if s.model == model and s.face]

    def faces(self, model: str) -> dict[View, Sighting]:
        """Views in which a model found a face."""
        return {s.view: s for s in self.sightings if s.model == model and s.face}


@dataclass
class Scale:
    """What similar means for this scan and this recogniser: cosines of pairs of pictures of known answer."""

    same_head: list[float] = field(default_factory=list)
    other_heads: list[float] = field(default_factory=list)

    @property
    def threshold(self) -> float | None:
        """Above it a pair counts as the same head: midway between what is usual for this head and for other heads.

        None without pairs, and where other heads look as much like this one as itself.
        """
        if not self.same_head or not self.other_heads:
            return None
        same, other = float(np.median(self.same_head)), float(np.median(self.other_heads))
        return (same + other) / 2.0 if same > other else None


@dataclass
class Evaluation:
    """All that one evaluation found; `verdict` says what it means."""

    settings: Settings
    grid: ViewGrid
    models: list[dict]
    recogniser: str | None
    subjects: list[Subject]
    scale: Scale
    pictures_beside: list[str]
    verdict: Verdict | None = None
    seconds: float = 0.0

    def subject(self, name: str) -> Subject | None:
        """The subject of a name, "original" and "defaced" among them."""
        return next((subject for subject in self.subjects if subject.name == name), None)

    def similarities(self, subject: Subject) -> dict[View, float]:
        """Cosine between the face of the original and what is seen in the same view, in the views compared."""
        original = self.subject("original")
        if original is None or self.recogniser is None:
            return {}
        faces = original.faces(self.recogniser)
        return {
            s.view: similarity(faces[s.view].embedding, s.embedding)
            for s in subject.sightings
            if s.model == self.recogniser and s.embedding is not None and s.view in faces
        }

    def recognised_share(self, subject: Subject) -> float:
        """Share of the views compared in which the similarity is that of the same head; 0 where nothing is known."""
        values, threshold = list(self.similarities(subject).values()), self.scale.threshold
        return float(np.mean(np.array(values) > threshold)) if values and threshold is not None else 0.0

    def as_dict(self) -> dict:
        """Every number, ready for JSON; without pictures, paths and names."""
        subjects = []
        for subject in self.subjects:
            similar = self.similarities(subject)
            models = {}
            for model in self.settings.models:
                scores = subject.scores(model)
                models[model] = {
                    "views_found": len(scores),
                    "best_score": max(scores, default=None),
                    "mean_score": float(np.mean(scores)) if scores else None,
                    "scores": [
                        [*s.view, s.face.score if s.face else None] for s in subject.sightings if s.model == model
                    ],
                }
            subjects.append(
                {
                    "name": subject.name,
                    "kind": subject.kind,
                    "region_ml": subject.region_ml,
                    "models": models,
                    "similarity": quartiles(list(similar.values())),
                    "similarities": [[*view, value] for view, value in similar.items()],
                    "recognised_share": self.recognised_share(subject),
                }
            )
        return {
            "ctdeface": __version__,
            "verdict": asdict(self.verdict),
            "views": {"preset": self.settings.views, "number": len(self.grid), **asdict(self.grid)},
            "rendering": self.settings.rendering,
            "perspective": self.settings.perspective,
            "models": self.models,
            "recogniser": self.recogniser,
            "scale": {
                "same_head": quartiles(self.scale.same_head),
                "other_heads": quartiles(self.scale.other_heads),
                "threshold": self.scale.threshold,
            },
            "subjects": subjects,
            "pictures_beside": self.pictures_beside,
            "seconds": round(self.seconds, 1),
        }


def quartiles(values: Sequence[float]) -> dict | None:
    """Median and quartiles, None of nothing."""
    if len(values) == 0:
        return None
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    return {"n": len(values), "median": float(median), "q1": float(q1), "q3": float(q3)}


def evaluate(
    original: sitk.Image | None,
    defaced: sitk.Image,
    settings: Settings | None = None,
    *,
    others: Iterable[sitk.Image] | None = None,
    beside: str | os.PathLike | None = None,
    ignore: Sequence[str | os.PathLike] = (),
    memory: str | os.PathLike | None = None,
    keep_memory: bool = False,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Evaluation:
    """Evaluate a defaced CT, best against its original.

    Parameters
    ----------
    original: CT in Hounsfield units, or None when there is none; similarity is then unknown
    defaced: its defaced version on the same grid
    settings: models, views and attacks; the defaults when None
    others: CTs of other heads for the scale of similarity; three synthetic heads when None
    beside: path of the defaced volume, when what lies in its folder is shared with it and shall be looked at too
    ignore: paths in that folder that are not shared, such as the original
    memory: a file that keeps what was looked at, so that an interrupted evaluation goes on; removed at the end
    keep_memory: leave that file, so that an evaluation with other attacks goes on from it
    progress: called with a fraction and a short text
    cancelled: asked between pictures

    Raises
    ------
    InputError: the two volumes do not lie on one grid or do not show the same scan
    NoFaceError: there is no head in view
    CTDefaceError: a model is missing, there is no OpenGL, or cancelled
    """
    start = time.perf_counter()
    settings = settings or Settings()
    progress = progress or (lambda fraction, text: None)
    grid = view_grid(settings.views)
    unknown = set(settings.attacks) - set(attack_library.ATTACKS)
    if unknown:
        raise CTDefaceError(
            f"There is no attack called “{unknown.pop()}”; choose of {', '.join(attack_library.ATTACKS)}."
        )
    if settings.rendering not in RENDERINGS:
        raise CTDefaceError(
            f"There is no rendering called “{settings.rendering}”; choose one of {', '.join(RENDERINGS)}."
        )
    progress(0.0, "Finding the head")
    if original is not None:
        check_pair(original, defaced)
    pose = head_pose(original if original is not None else defaced)
    # Before anything is drawn: PyTorch crashes when Linux's software OpenGL has brought its LLVM first.
    models = [load_model(name, settings.model_folder) for name in settings.models]
    kept = _Memory(memory, [image for image in (original, defaced) if image is not None], settings)
    evaluation = Evaluation(
        settings, grid, [{"name": m.name, "licence": m.licence} for m in models], None, [], Scale(), []
    )
    renderer = Renderer()
    looked_at: dict[bytes, Subject] = {}

    def picture(skin, *view_and_size):
        return picture_of(renderer, skin, pose, *view_and_size, settings.perspective)

    def watch(name, kind, image, iso=attack_library.TISSUE_HU, region_ml=0.0, embedders=(), embed_at=None):
        subject = kept.recall(name)
        if subject is not None:
            return subject
        skin = skin_of(image, iso, settings.rendering)
        subject = Subject(name, kind, round(region_ml, 1))
        # What an attack changes often is not part of the head, and then nothing new is to be seen.
        shape = _digest(skin) if embed_at is not None else None
        if shape in looked_at:
            subject.sightings, subject.pictures = looked_at[shape].sightings, looked_at[shape].pictures
        else:
            subject.sightings = look(
                renderer,
                skin,
                pose,
                grid,
                models,
                embedders=embedders,
                embed_at=embed_at,
                perspective=settings.perspective,
                cancelled=cancelled or (lambda: False),
            )
            if not is_empty(skin):
                subject.pictures = [png_bytes(picture(skin, *view, REPORT_PIXELS)) for view in REPORT_VIEWS]
        if shape is not None:
            looked_at[shape] = subject
        kept.keep(subject)
        return subject

    faces = {}
    if original is not None:
        progress(0.03, "Looking at the original")
        able = [model.name for model in models if model.embeds and model.name not in ADVICE_ONLY]
        first = watch("original", "original", around_head(original, pose), embedders=able)
        evaluation.subjects.append(first)
        if not pose.found and not any(first.scores(name) for name in settings.models):
            raise NoFaceError("No head was found in the original volume, so there is nothing to evaluate.")
        evaluation.recogniser = max(able, key=lambda name: len(first.scores(name)), default=None)
    if evaluation.recogniser is not None:
        progress(0.12, "Measuring what similar means")
        best = sorted(first.faces(evaluation.recogniser).values(), key=lambda s: -s.face.score)[:COMPARED_VIEWS]
        faces = {s.view: s.face for s in best}
        model = next(model for model in models if model.name == evaluation.recogniser)
        evaluation.scale = kept.scale if others is None else None
        if evaluation.scale is None:
            evaluation.scale = _measured_scale(renderer, first.faces(model.name), grid, faces, model, others, settings)
        kept.keep_scale(evaluation.scale if others is None else None)

    recogniser = [evaluation.recogniser] if evaluation.recogniser else []
    done = 0.2
    progress(done, "Looking at the defaced volume")
    evaluation.subjects.append(
        watch("defaced", "defaced", around_head(defaced, pose), embedders=recogniser, embed_at=faces)
    )
    if beside is not None:
        evaluation.pictures_beside = pictures_beside(beside, models, ignore)
    companions = volumes_beside(beside, defaced, ignore) if beside is not None else ()
    for attempt in itertools.chain(companions, attack_library.recoveries(defaced, pose, settings.attacks)):
        done += (0.98 - done) * 0.05
        progress(done, f"Looking at: {attempt.name}")
        evaluation.subjects.append(
            watch(attempt.name, attempt.kind, attempt.image, attempt.iso, attempt.region_ml, recogniser, faces)
        )
    evaluation.seconds = time.perf_counter() - start
    evaluation.verdict = judge(evaluation)
    if not keep_memory:
        kept.forget()
    progress(1.0, "Done")
    return evaluation


def _digest(surface) -> bytes | None:
    """The same for the same surface; None for a volume rendering."""
    from vtk.util.numpy_support import vtk_to_numpy

    if surface.IsA("vtkVolume"):
        return None
    digest = hashlib.sha256()
    if surface.GetNumberOfPoints():
        digest.update(np.ascontiguousarray(vtk_to_numpy(surface.GetPoints().GetData())).data)
        digest.update(np.ascontiguousarray(vtk_to_numpy(surface.GetPolys().GetConnectivityArray())).data)
    return digest.digest()


def scan_scale(original: sitk.Image, model, others: Iterable[sitk.Image] | None = None) -> Scale:
    """What similar means for a scan and a loaded model that embeds, from a few views; see :func:`evaluate`."""
    pose, renderer = head_pose(original), Renderer()
    surface = surface_of(around_head(original, pose))
    seen = look(renderer, surface, pose, SCALE_VIEWS, [model], embedders=[model.name])
    faces = {s.view: s for s in seen if s.face}
    return _measured_scale(renderer, faces, SCALE_VIEWS, faces, model, others, Settings())


def _measured_scale(renderer, faces: dict[View, Sighting], grid: ViewGrid, views, model, others, settings) -> Scale:
    """The scale of faces seen in an original; other heads are looked at from the `views`."""
    scale = Scale(_same_head(faces, grid))
    for other in _other_heads() if others is None else others:
        skin = skin_of(other, rendering=settings.rendering)
        seen = look(
            renderer,
            skin,
            head_pose(other),
            views,
            [model],
            embedders=[model.name],
            perspective=settings.perspective,
        )
        scale.other_heads += [similarity(s.embedding, faces[s.view].embedding) for s in seen if s.face]
    return scale


def check_pair(original: sitk.Image, defaced: sitk.Image) -> None:
    """Raise InputError unless both lie on one grid and show the same scan."""
    same_grid = original.GetSize() == defaced.GetSize() and all(
        np.allclose(getattr(original, get)(), getattr(defaced, get)(), atol=1e-2)
        for get in ("GetSpacing", "GetOrigin", "GetDirection")
    )
    if not same_grid:
        raise InputError(
            "The two volumes do not lie on the same grid of voxels: give the defaced volume and exactly its original."
        )
    step = max(1, original.GetNumberOfPixels() // 500_000)
    a, b = (sitk.GetArrayViewFromImage(image).ravel()[::step].astype(float) for image in (original, defaced))
    body = (a > -300) & (b > -300)
    a, b = a[body], b[body]
    # Two people in the same pose correlate by up to 0.7. What is not removed stays as it is, give or take a rounding,
    # unless somebody stored it with losses.
    same = len(a) > 0 and np.mean(np.abs(a - b) <= 0.5) >= SAME_SHARE
    if not same and (len(a) == 0 or a.std() == 0 or b.std() == 0 or np.corrcoef(a, b)[0, 1] < SAME_SCAN):
        raise InputError(
            "The two volumes do not show the same scan, for what is tissue in both differs: give the defaced volume "
            "and exactly its original."
        )


def _same_head(faces: dict[View, Sighting], grid: ViewGrid) -> list[float]:
    """Cosines of pairs of pictures of one head: the same view under two lights, and neighbouring views."""
    pairs = [
        ((yaw, pitch, grid.lights[0]), (yaw, pitch, light)) for yaw, pitch, light in grid if light != grid.lights[0]
    ]
    for light in grid.lights:
        pairs += [((a, p, light), (b, p, light)) for p in grid.pitches for a, b in zip(grid.yaws, grid.yaws[1:])]
        pairs += [((y, a, light), (y, b, light)) for y in grid.yaws for a, b in zip(grid.pitches, grid.pitches[1:])]
    return [similarity(faces[a].embedding, faces[b].embedding) for a, b in pairs if a in faces and b in faces]


def _other_heads() -> Iterable[sitk.Image]:
    from CTDefaceLib.phantom import PhantomParameters, make_phantom

    for person in (101, 102, 103):
        yield make_phantom(PhantomParameters(person=person, spacing=(2.0, 2.0, 2.0), matrix=(110, 130))).image


class _Memory:
    """What was looked at already, in a JSON file; of no use for other volumes or settings."""

    def __init__(self, path: str | os.PathLike | None, images: Sequence[sitk.Image], settings: Settings):
        self.path = Path(path) if path else None
        self.subjects = {}
        self.scale = None  # against the synthetic heads
        if self.path is None:
            return
        looked_with = {**asdict(settings), "attacks": None}  # what was seen of one does not depend on the others
        digest = hashlib.sha256(json.dumps([__version__, looked_with]).encode())
        for image in images:
            digest.update(np.ascontiguousarray(sitk.GetArrayViewFromImage(image)).data)
        self.key = digest.hexdigest()
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            if stored["key"] == self.key:
                self.subjects = stored["subjects"]
                self.scale = stored["scale"] and Scale(**stored["scale"])
        except (OSError, ValueError, KeyError, TypeError):
            pass

    def recall(self, name: str) -> Subject | None:
        stored = self.subjects.get(name)
        if stored is None:
            return None
        pictures = [base64.b64decode(picture) for picture in stored["pictures"]]
        sightings = [_sighting(row) for row in stored["sightings"]]
        return Subject(stored["name"], stored["kind"], stored["region_ml"], sightings, pictures)

    def keep(self, subject: Subject) -> None:
        if self.path is None:
            return
        self.subjects[subject.name] = {
            "name": subject.name,
            "kind": subject.kind,
            "region_ml": subject.region_ml,
            "pictures": [base64.b64encode(picture).decode() for picture in subject.pictures],
            "sightings": [_row(sighting) for sighting in subject.sightings],
        }
        self._write()

    def keep_scale(self, scale: Scale | None) -> None:
        self.scale = scale
        if self.path is not None:
            self._write()

    def _write(self) -> None:
        stored = {"key": self.key, "subjects": self.subjects, "scale": self.scale and asdict(self.scale)}
        write_whole(self.path, json.dumps(stored), private=True)

    def forget(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def _row(sighting: Sighting) -> list:
    face = sighting.face
    landmarks = None if face is None or face.landmarks is None else np.asarray(face.landmarks).tolist()
    embedding = None if sighting.embedding is None else sighting.embedding.tolist()
    return [sighting.model, *sighting.view, face and [face.box, face.score, landmarks], embedding]


def _sighting(row: list) -> Sighting:
    model, yaw, pitch, light, face, embedding = row
    if face is not None:
        box, score, landmarks = face
        face = Face(tuple(box), score, None if landmarks is None else np.array(landmarks, dtype=np.float32))
    return Sighting(
        model, yaw, pitch, light, face, None if embedding is None else np.array(embedding, dtype=np.float32)
    )
