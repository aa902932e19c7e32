"""One scan and its defaced version: can the face still be found, recognised or recovered?

:func:`evaluate` searches the original, the defaced volume and what each attack makes of it, always in the same
views, and asks whose face it is: the templates of both (:mod:`.recognition`) are compared in the views in which the
original is found best. Controls tell what the outline of the head alone gives away, and how often the back of the head
is taken for a face (:mod:`.controls`). Detectors that do not find the original prove nothing; the verdict then is "not
evaluable".
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.face_map import Cylinder, head_cylinder
from CTDefaceLib.anatomy.hounsfield import TISSUE_HU
from CTDefaceLib.errors import InputError, NoFaceError
from CTDefaceLib.progress import IsCancelled, Progress, never, silent

from . import attacks
from .attacks import Recovery, around_head
from .companions import pictures_beside, volumes_beside
from .controls import emptied, front_blanked, region_emptied
from .face_models import ADVICE_ONLY, Face, FaceModel, load_model
from .facial_shape import FacialShape, OwnFace, facial_shape, own_face
from .findings import (
    BACK,
    BOUND,
    CONTROL,
    DEFACED,
    NOTHING_KEPT,
    ORIGINAL,
    Evaluation,
    Evidence,
    Likeness,
    Scale,
    Subject,
)
from .memory import SubjectMemory
from .recognition import likeness
from .searching import Search, searching
from .settings import Settings
from .similarity_scale import measured_scale
from .sweep import Sweep
from .verdict import is_this_person, judge
from .views import View, head_pose

COMPARED_VIEWS = 16
"""Faces are compared in so many views, those in which the original's is found best: embedding them is what costs most,
77 ms each by dlib. All views were tried before; fitted, with the rule for the same head, on one head."""
SAME_SHARE, SAME_HU = 0.25, 0.5
"""Two volumes show one scan when this share of their tissue differs by at most so many HU. What is not removed stays as
it is, give or take a rounding; a coarse head that is blurred as well keeps no more than a quarter. Half of the tissue
within 2 HU was tried, and refused that."""
SAME_SCAN = 0.9
"""Correlation of the tissue from which on two volumes show one scan all the same, for what was stored with losses. Two
people in the same pose correlate by up to 0.7."""
SAME_GRID_MM = 1e-2
"""Difference of origin and spacing, and of the unit vectors of direction, within which two grids are the same."""
COMPARED_VOXELS = 500_000
"""About so many voxels are compared, evenly spread, which takes milliseconds."""


def evaluate(
    original: sitk.Image | None,
    defaced: sitk.Image,
    settings: Settings | None = None,
    *,
    bare: sitk.Image | None = None,
    others: Iterable[sitk.Image] | None = None,
    beside: str | os.PathLike | None = None,
    ignore: Sequence[str | os.PathLike] = (),
    memory: str | os.PathLike | None = None,
    keep_memory: bool = False,
    answered: Callable[[str, Likeness | None, bool], None] | None = None,
    progress: Progress | None = None,
    cancelled: IsCancelled | None = None,
) -> Evaluation:
    """Evaluate a defaced CT, best against its original.

    Parameters
    ----------
    original, defaced: sitk.Image
        CTs in Hounsfield units on one grid. The original may be None; similarity is then unknown.
    settings: Settings or None
        Models, views and attacks; the defaults when None.
    bare: sitk.Image or None
        Where something was kept, the region as it would be without: its bound is measured too, as
        :data:`.findings.NOTHING_KEPT`.
    others: iterable of sitk.Image or None
        CTs of other heads for the scale of similarity; three synthetic heads when None.
    beside, ignore: path or None, sequence of path
        The defaced volume's, when what lies in its folder is shared with it and shall be searched, too; and what is not
        shared of that folder, such as the original.
    memory, keep_memory: path or None, bool
        A file that keeps what was found, so that an interrupted evaluation goes on; removed at the end unless it is to
        be kept for an evaluation with other attacks.
    answered: callable or None
        Called with the name of the defaced volume and of each recovery as soon as it was searched, its likeness, and
        whether it gives the person away.
    progress, cancelled: callable or None
        Called with a fraction and a short text; asked between pictures.

    Raises
    ------
    InputError
        The two volumes do not lie on one grid or do not show the same scan.
    CTDefaceError
        No head is in view (NoFaceError), a model is missing (NotReadyError), there is no OpenGL, or cancelled.
    """
    start, settings = time.perf_counter(), settings or Settings()
    progress = progress or silent
    with searching(len(settings.grid) * len(settings.models), settings.model_folder) as search:
        sweep = _prepared(original, defaced, settings, memory, progress, cancelled or never, search)
        evidence = _seen(sweep, original, defaced, bare, others, beside, ignore, answered, progress)
    evaluation = Evaluation(**vars(evidence), verdict=judge(evidence), seconds=time.perf_counter() - start)
    if not keep_memory:
        sweep.memory.forget()
    progress(1.0, "Done")
    return evaluation


def _seen(
    sweep: Sweep,
    original: sitk.Image | None,
    defaced: sitk.Image,
    bare: sitk.Image | None,
    others: Iterable[sitk.Image] | None,
    beside: str | os.PathLike | None,
    ignore: Sequence[str | os.PathLike],
    answered: Callable[[str, Likeness | None, bool], None] | None,
    progress: Progress,
) -> Evidence:
    """All that :func:`evaluate` looks at and measures; parameters as there."""
    settings = sweep.settings
    cylinder = head_cylinder(original) if original is not None and sweep.pose.found else None
    reference = _reference(sweep, original, cylinder, others, progress)
    attempts = attacks.recoveries(defaced, sweep.pose, settings.attacks)
    face = own_face(original, cylinder=cylinder) if original is not None and cylinder is not None else None
    shapes: dict[str, FacialShape] = {}
    pictures = []
    if beside is not None:
        attempts = itertools.chain(volumes_beside(beside, defaced, ignore), attempts)
        pictures = pictures_beside(beside, sweep.models, ignore)
    if original is not None and bare is not None:
        free = Recovery(NOTHING_KEPT, NOTHING_KEPT, around_head(emptied(original, bare), sweep.pose))
        attempts = itertools.chain([free], attempts)
    if original is not None and (bound := region_emptied(original, defaced)) is not None:
        attempts = itertools.chain([Recovery(BOUND, BOUND, around_head(bound, sweep.pose))], attempts)
    models = [{"name": model.name, "licence": model.licence} for model in sweep.models]
    name = reference.recogniser.name if reference.recogniser else None
    if face is not None and (shape := facial_shape(face, defaced)) is not None:
        shapes[DEFACED] = shape
    evidence = Evidence(settings, settings.grid, models, name, [], reference.scale, pictures, {}, shapes)
    found = _searched(sweep, defaced, _measured(attempts, face, shapes), reference, progress)
    for subject in itertools.chain(reference.subjects, found):
        evidence.subjects.append(subject)
        alike = reference.likeness_to(subject)
        if alike is not None:
            evidence.likeness[subject.name] = alike
        if answered is not None and subject.kind not in (ORIGINAL, BACK, CONTROL, NOTHING_KEPT):
            answered(subject.name, alike, is_this_person(evidence, subject))
    return evidence


def _prepared(
    original: sitk.Image | None,
    defaced: sitk.Image,
    settings: Settings,
    memory: str | os.PathLike | None,
    progress: Progress,
    cancelled: IsCancelled,
    search: Search,
) -> Sweep:
    """Check what was given, find the head and load the models."""
    settings.check()
    progress(0.0, "Finding the head")
    if original is not None:
        check_pair(original, defaced)
    pose = head_pose(original if original is not None else defaced)
    # Before anything is drawn: PyTorch crashes when Linux's software OpenGL has brought its LLVM first.
    models = [load_model(name, settings.model_folder) for name in settings.models]
    images = [image for image in (original, defaced) if image is not None]
    return Sweep(settings, models, pose, SubjectMemory(memory, images, settings), cancelled, search)


@dataclass
class _Reference:
    """What the other subjects are compared with: nothing where there is no original.

    Attributes
    ----------
    subjects: list of Subject
        The original and its controls, if there is one.
    recogniser: FaceModel or None
        The model that finds it best of those that embed.
    faces: dict
        View → the original's face, in the views compared.
    scale: Scale
    """

    subjects: list[Subject] = field(default_factory=list)
    recogniser: FaceModel | None = None
    faces: dict[View, Face] = field(default_factory=dict)
    scale: Scale = field(default_factory=Scale)

    def likeness_to(self, subject: Subject) -> Likeness | None:
        """How much a subject resembles the original."""
        if not self.faces or self.recogniser is None:
            return None
        own, other = (
            {view: vector for view, vector in one.embeddings(self.recogniser.name).items() if view in self.faces}
            for one in (self.subjects[0], subject)
        )
        return likeness(own, other, np.array(self.scale.gallery))


def _reference(
    sweep: Sweep,
    original: sitk.Image | None,
    cylinder: Cylinder | None,
    others: Iterable[sitk.Image] | None,
    progress: Progress,
) -> _Reference:
    if original is None:
        return _Reference()
    progress(0.03, "Looking at the original")
    able = [model for model in sweep.models if model.embeds and model.name not in ADVICE_ONLY]
    names = [model.name for model in able]
    head = around_head(original, sweep.pose)
    first = sweep.subject(ORIGINAL, ORIGINAL, head, embedders=names)
    if not sweep.pose.found and not any(first.scores(model.name) for model in sweep.models):
        raise NoFaceError("No head was found in the original volume, so there is nothing to evaluate.")
    progress(0.08, "Looking at the back of the head")
    from_behind = [(yaw + 180.0, pitch, light) for yaw, pitch, light in sweep.settings.grid]
    back = sweep.subject(BACK, BACK, head, views=from_behind)
    if not able:
        return _Reference([first, back])
    recogniser = max(able, key=lambda model: len(first.scores(model.name)))
    progress(0.12, "Measuring what similar means")
    found = first.faces(recogniser.name)
    faces = {view: sighting.face for view, sighting in found.items() if sighting.face}
    best = sorted(faces, key=lambda view: -faces[view].score)[:COMPARED_VIEWS]
    scale = sweep.memory.scale if others is None else None
    if scale is None:
        grid = sweep.settings.grid
        scale = measured_scale(sweep.renderer, found, grid, best, recogniser, others, sweep.settings)
    sweep.memory.keep_scale(scale if others is None else None)
    reference = _Reference([first, back], recogniser, {view: faces[view] for view in best}, scale)
    if best and cylinder is not None:
        blank = around_head(front_blanked(original, cylinder), sweep.pose)
        reference.subjects.append(_compared(sweep, reference, Recovery(CONTROL, CONTROL, blank)))
    return reference


def _searched(
    sweep: Sweep, defaced: sitk.Image, attempts: Iterable[Recovery], reference: _Reference, progress: Progress
) -> Iterator[Subject]:
    """The defaced volume and every recovery as subjects."""
    embedders = [reference.recogniser.name] if reference.recogniser else []
    done = 0.2
    progress(done, "Looking at the defaced volume")
    image = around_head(defaced, sweep.pose)
    yield sweep.subject(DEFACED, DEFACED, image, embedders=embedders, embed_at=reference.faces)
    for attempt in attempts:
        done += (0.98 - done) * 0.05
        progress(done, f"Looking at: {attempt.name}")
        yield _compared(sweep, reference, attempt)


def _measured(attempts: Iterable[Recovery], face: OwnFace | None, shapes: dict[str, FacialShape]) -> Iterator[Recovery]:
    """The recoveries, each with the shape of its face added to `shapes` on the way."""
    for attempt in attempts:
        if face is not None and (shape := facial_shape(face, attempt.image, attempt.iso)) is not None:
            shapes[attempt.name] = shape
        yield attempt


def _compared(sweep: Sweep, reference: _Reference, attempt: Recovery) -> Subject:
    """A recovery as a subject: seen by the recogniser in the views compared; by all models in all views without one."""
    search = partial(sweep.subject, attempt.name, attempt.kind, attempt.image, attempt.iso, attempt.region_ml)
    if not reference.faces or reference.recogniser is None:
        return search(embed_at={})
    recogniser = reference.recogniser
    return search(
        embedders=[recogniser.name], embed_at=reference.faces, models=[recogniser], views=list(reference.faces)
    )


def check_pair(original: sitk.Image, defaced: sitk.Image) -> None:
    """Raise InputError unless both lie on one grid and show the same scan."""
    same_grid = original.GetSize() == defaced.GetSize() and all(
        np.allclose(getattr(original, get)(), getattr(defaced, get)(), atol=SAME_GRID_MM)
        for get in ("GetSpacing", "GetOrigin", "GetDirection")
    )
    if not same_grid:
        raise InputError(
            "The two volumes do not lie on the same grid of voxels: give the defaced volume and exactly its original."
        )
    step = max(1, original.GetNumberOfPixels() // COMPARED_VOXELS)
    a, b = (sitk.GetArrayViewFromImage(image).ravel()[::step].astype(float) for image in (original, defaced))
    body = (a > TISSUE_HU) & (b > TISSUE_HU)
    a, b = a[body], b[body]
    same = len(a) > 0 and np.mean(np.abs(a - b) <= SAME_HU) >= SAME_SHARE
    if not same and (len(a) == 0 or a.std() == 0 or b.std() == 0 or np.corrcoef(a, b)[0, 1] < SAME_SCAN):
        raise InputError(
            "The two volumes do not show the same scan, for what is tissue in both differs: give the defaced volume "
            "and exactly its original."
        )
