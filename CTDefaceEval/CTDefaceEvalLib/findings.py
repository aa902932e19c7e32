"""What evaluations find: their result types, from a face in one picture to the verdict on a scan and to a cohort.

They hold numbers and pictures and know nothing of how these come about, so that every other module can import them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from CTDefaceLib.audits import Level
from CTDefaceLib.version import __version__

from .face_models import Face, similarity
from .facial_shape import FacialShape
from .identification import FUSED, Estimate, Identification
from .pairs import Separation
from .preservation import Preservation
from .settings import Settings
from .views import View, ViewGrid

__all__ = [
    "BACK",
    "BOUND",
    "CONTROL",
    "DEFACED",
    "NOTHING_KEPT",
    "ORIGINAL",
    "PHOTO",
    "Cohort",
    "Evaluation",
    "Evidence",
    "Face",
    "Level",
    "Likeness",
    "MethodResult",
    "Scale",
    "Sighting",
    "Subject",
    "Verdict",
    "VolumeFaces",
    "after",
    "quartiles",
]

ORIGINAL, DEFACED = "original", "defaced"
"""Names and kinds of the two subjects that no attack has made; the former is the name of a cohort's method, too."""
BACK, CONTROL, BOUND = "back of the head", "front cut off", "region emptied"
NOTHING_KEPT = "region emptied, nothing kept"
"""Names and kinds of what is compared with (:mod:`.controls`): the original from behind, the original without its
front, the defaced volume with all that was changed emptied, which bounds every attack on the fill, and what that would
be had nothing been kept."""
PHOTO = "photo"
"""The method of those rows of a cohort's table that name a picture of a patient's face, not a volume."""


def quartiles(values: Sequence[float]) -> dict[str, Any] | None:
    """Number, median and quartiles as ``n``, ``median``, ``q1``, ``q3``; None of nothing."""
    if len(values) == 0:
        return None
    q1, median, q3 = np.percentile(values, [25, 50, 75])
    return {"n": len(values), "median": float(median), "q1": float(q1), "q3": float(q3)}


# ------------------------------------------------------------------------------------------------------------- one scan


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
    def view(self) -> View:
        return self.yaw, self.pitch, self.light


@dataclass
class Subject:
    """A surface that was searched: the original's, the defaced volume's, an attack's or that of what lies beside it.

    Attributes
    ----------
    name, kind: str
        ORIGINAL, DEFACED, or those of the attack.
    region_ml: float
        Volume of the region that the attack found.
    sightings: list of Sighting
        Of every model in every view.
    pictures: list of bytes
        PNG files, one for each of `sweep.REPORT_VIEWS`; none of an empty surface.
    """

    name: str
    kind: str
    region_ml: float = 0.0
    sightings: list[Sighting] = field(default_factory=list, repr=False)
    pictures: list[bytes] = field(default_factory=list, repr=False)

    def scores(self, model: str) -> list[float]:
        """Scores of the faces that a model found."""
        return [s.face.score for s in self.sightings if s.model == model and s.face]

    def embeddings(self, model: str) -> dict[View, np.ndarray]:
        """The views in which a model described what it saw, with the description."""
        return {s.view: s.embedding for s in self.sightings if s.model == model and s.embedding is not None}

    def faces(self, model: str) -> dict[View, Sighting]:
        """The views in which a model found a face."""
        return {s.view: s for s in self.sightings if s.model == model and s.face}


@dataclass(frozen=True)
class Likeness:
    """How much a head resembles the person of the original (:func:`.recognition.likeness`).

    Attributes
    ----------
    value, low, high: float
        0 as other people do, 1 as the original itself; and its 95 % interval over the choice of the views.
    cosine: float
        Of both templates.
    views: int
        Number of views that both templates were made of.
    """

    value: float
    low: float
    high: float
    cosine: float
    views: int


@dataclass
class Scale:
    """What similar means for pictures of this scan by this recogniser: cosines of pairs of known answer.

    Attributes
    ----------
    same_head, other_heads: list of float
        Cosines.
    gallery: list of float
        Mean template of other people, see :func:`.recognition.gallery_of`; empty where there is none.
    is_kept: bool
        Whether that is the gallery that is kept for the model, not of a few heads drawn for this scan.
    """

    same_head: list[float] = field(default_factory=list)
    other_heads: list[float] = field(default_factory=list)
    gallery: list[float] = field(default_factory=list, repr=False)
    is_kept: bool = False

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
class Evidence:
    """All that one evaluation saw and measured, before anybody judges it (:func:`.verdict.judge`).

    Attributes
    ----------
    settings: Settings
    grid: ViewGrid
        The views of each subject.
    models: list of dict
        ``name`` and ``licence`` of the face models.
    recogniser: str or None
        The model whose embeddings are compared; None without an original or a model that embeds.
    subjects: list of Subject
        The original and its controls where there is one, the defaced volume, the bound, what it would be with nothing
        kept, and the recoveries.
    scale: Scale
    pictures_beside: list of str
        A sentence for each picture beside the scan that shows a face.
    likeness: dict
        Name of a subject → its likeness to the original; empty where whose face it is could not be measured.
    shapes: dict
        Name of a subject → how much of the shape of the original's face it has; empty without an original.
    """

    settings: Settings
    grid: ViewGrid
    models: list[dict[str, str]]
    recogniser: str | None
    subjects: list[Subject]
    scale: Scale
    pictures_beside: list[str]
    likeness: dict[str, Likeness] = field(default_factory=dict)
    shapes: dict[str, FacialShape] = field(default_factory=dict)

    def subject(self, name: str) -> Subject | None:
        """The subject of a name, ORIGINAL and DEFACED among them."""
        return next((subject for subject in self.subjects if subject.name == name), None)

    @property
    def original(self) -> Subject | None:
        return self.subject(ORIGINAL)

    @property
    def defaced(self) -> Subject:
        return next(subject for subject in self.subjects if subject.name == DEFACED)

    @property
    def recoveries(self) -> list[Subject]:
        """The bound, what attacks have made and what lies beside the scan."""
        others = (ORIGINAL, DEFACED, BACK, CONTROL, NOTHING_KEPT)
        return [subject for subject in self.subjects if subject.name not in others]

    def similarities(self, subject: Subject) -> dict[View, float]:
        """Cosine between the face of the original and what is seen in the same view, in the views compared."""
        if self.original is None or self.recogniser is None:
            return {}
        own = self.original.embeddings(self.recogniser)
        there = subject.embeddings(self.recogniser)
        return {view: similarity(own[view], vector) for view, vector in there.items() if view in own}

    def false_alarms(self, model: str) -> int:
        """In how many views of the back of the original's head a model finds a face, where there is none."""
        back = self.subject(BACK)
        return len(back.scores(model)) if back else 0


@dataclass(frozen=True)
class Verdict:
    """What the evidence means for somebody who has to decide.

    Attributes
    ----------
    level: Level
    sentence: str
        What that means for this scan.
    findings: tuple of str
        One sentence each, the evidence.
    recovered_by: tuple of str
        Names of the attacks, or of what lies beside the scan, that bring the face back.
    """

    level: Level
    sentence: str
    findings: tuple[str, ...] = ()
    recovered_by: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Evaluation(Evidence):
    """The evidence with the verdict on it, how long it took in seconds, and what the defacing cost, where measured."""

    verdict: Verdict
    seconds: float = 0.0
    preservation: Preservation | None = None

    def as_dict(self) -> dict[str, Any]:
        """Every number, ready for JSON; without pictures, paths and names."""
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
                "gallery_is_kept": self.scale.is_kept,
            },
            "subjects": [self._subject_as_dict(subject) for subject in self.subjects],
            "pictures_beside": self.pictures_beside,
            "seconds": round(self.seconds, 1),
            "preservation": self.preservation and asdict(self.preservation),
        }

    def _subject_as_dict(self, subject: Subject) -> dict[str, Any]:
        similar = self.similarities(subject)
        models = {}
        for model in self.settings.models:
            scores = subject.scores(model)
            models[model] = {
                "views_found": len(scores),
                "best_score": max(scores, default=None),
                "mean_score": float(np.mean(scores)) if scores else None,
                "scores": [[*s.view, s.face.score if s.face else None] for s in subject.sightings if s.model == model],
            }
        return {
            "name": subject.name,
            "kind": subject.kind,
            "region_ml": subject.region_ml,
            "models": models,
            "similarity": quartiles(list(similar.values())),
            "similarities": [[*view, value] for view, value in similar.items()],
            "likeness": asdict(self.likeness[subject.name]) if subject.name in self.likeness else None,
            "shape": asdict(self.shapes[subject.name]) if subject.name in self.shapes else None,
        }


# ------------------------------------------------------------------------------------------------------------- a cohort


@dataclass
class VolumeFaces:
    """The faces that one model found in one volume of a cohort.

    Attributes
    ----------
    views: int
        Number of views that were searched.
    scores: np.ndarray
        Of the faces found, (n,) float32.
    embeddings: np.ndarray
        (n, d) float32.
    picture: np.ndarray
        Front view, (rows, columns, 3) uint8.
    found_in: np.ndarray
        Places in the grid of the views in which they were found, (n,) integers.
    boxes, landmarks: np.ndarray
        Of these faces, in pixels: (n, 4) and (n, m, 2) float32, m being 0 for a model that gives no landmarks.
    compared: np.ndarray
        Embeddings (k, d) float32 in the views in which the original shows a face; where none is found in this volume,
        of what lies in its place, as somebody embeds it who knows how a head lies. Those found, without an original.
    """

    views: int
    scores: np.ndarray
    embeddings: np.ndarray
    picture: np.ndarray
    found_in: np.ndarray
    boxes: np.ndarray
    landmarks: np.ndarray
    compared: np.ndarray

    def faces(self, grid: ViewGrid) -> dict[View, Face]:
        """The faces by the view of the grid in which they were found."""
        views = list(grid)
        return {
            views[place]: Face(tuple(box.tolist()), float(score), marks if marks.size else None)
            for place, box, score, marks in zip(self.found_in, self.boxes, self.scores, self.landmarks)
        }


def after(method: str, attack: str) -> str:
    """What a method's volumes are called when an attack has been made on them."""
    return f"{method} after {attack}"


@dataclass
class MethodResult:
    """One method's figures.

    Attributes
    ----------
    found: dict or None
        Quartiles over the scans of the share of views in which a face was found.
    within, against_originals: dict
        Protocol → Separation of the pairs of this method's faces with each other, and with the originals' faces.
        Protocols: "by patient" (folds of whole patients, no pairs within one scan) and "study" (all pairs, dealt out at
        random).
    attack_on: str
        The method whose volumes were attacked, where these are what an attack made of them; else empty.
    identification: list of Identification
        Of its volumes, by every attacker for whom the table has a gallery.
    preservation: dict
        Name of a number of :meth:`.preservation.Preservation.numbers` → its median over the volumes; empty unless asked
        for.
    linkage: list of Identification
        Of its volumes by what no defacing takes away, see :mod:`.linkage`; empty unless asked for.
    linkage_advice: str
        What that means for whoever shares the scans. No part of any verdict.
    """

    method: str
    scans: int
    patients: int
    faces: int
    found: dict[str, Any] | None
    within: dict[str, Separation]
    against_originals: dict[str, Separation]
    attack_on: str = ""
    identification: list[Identification] = field(default_factory=list)
    preservation: dict[str, Estimate | None] = field(default_factory=dict)
    linkage: list[Identification] = field(default_factory=list)
    linkage_advice: str = ""

    def identified(self, threat: str, templates: str = FUSED) -> Identification | None:
        """The identification by one attacker."""
        wanted = (found for found in self.identification if (found.threat, found.templates) == (threat, templates))
        return next(wanted, None)


@dataclass
class Cohort:
    """The figures of all methods, with what they were made with."""

    model: dict[str, str]
    views: str
    grid: ViewGrid
    methods: list[MethodResult]
    scans: list[dict[str, Any]]
    pictures: list[tuple[str, str, np.ndarray]] = field(default_factory=list, repr=False)
    photos: int = 0
    photos_without_face: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Every number, ready for JSON. Patients and scans are numbered, their names stay in the table."""
        numbers = asdict(self)
        del numbers["pictures"]
        return {"ctdeface": __version__, **numbers}
