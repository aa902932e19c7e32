"""A cohort by the study's protocol: many patients, several scans each, original and defaced by several methods.

Every scan is rendered from all views of a grid, and each face that is found is embedded. All genuine pairs (one
patient) and impostor pairs (two patients) of embeddings are compared, within a method and against the originals, and a
support vector machine is asked to tell them apart (:mod:`.pairs`). Beside that stands how often a face is put to the
right name by three attackers (:mod:`.identification`), and, as advice, whether heads are linked by what no defacing
takes away (:mod:`.linkage`).

What was found in a scan is remembered (:mod:`.memory`), so that one more scan costs one more. The table:
:mod:`.cohort_table`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.face_map import Cylinder, head_cylinder
from CTDefaceLib.anatomy.hounsfield import TISSUE_HU
from CTDefaceLib.errors import Cancelled, CTDefaceError, InputError, NoFaceError
from CTDefaceLib.progress import IsCancelled, Progress, never, silent
from CTDefaceLib.render import Renderer
from CTDefaceLib.volume_io import read_ct, read_stored

from . import detection
from .attacks import recoveries
from .cohort_table import Row
from .companions import read_picture
from .evaluation import check_pair
from .face_models import Face, FaceModel, load_model
from .findings import ORIGINAL, PHOTO, Cohort, MethodResult, Sighting, VolumeFaces, after, quartiles
from .identification import (
    AS_IS,
    DEFACED_TO_DEFACED,
    FUSED,
    ORIGINAL_TO_DEFACED,
    PHOTO_TO_CT,
    SINGLE,
    THREATS,
    UNTOUCHED,
    Estimate,
    Identification,
    Templates,
    estimated_median,
    evenly,
    fused,
    identify_results,
)
from .linkage import HeadPrint, advice, compared, head_print, linked
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
from .preservation import preservation
from .searching import Search, searching
from .settings import Settings
from .structures import read_structures
from .views import Pose, View, ViewGrid, head_pose, view_grid

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
    attacks: Sequence[str] | Mapping[str, Sequence[str]] = (),
    with_preservation: bool = False,
    lying: Mapping[str, str] | None = None,
    with_linkage: bool = False,
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
    attacks: sequence of str, or mapping
        Kinds of attack (`attacks.ATTACKS`) that are made on every defaced volume, or method → those made on its
        volumes. What each leaves is one more method, “smooth after growth”. An attack has several results: whose face
        it is, is told by the use of them that names most (:func:`.identification.identify_results`); what is counted
        and shown otherwise is the result that shows the most faces.
    with_preservation: bool
        Whether it is measured, too, what each defacing costs (:mod:`.preservation`).
    lying: mapping or None
        How volume files lie that do not say it, or say two things: ``form`` and ``orientation`` of
        :func:`CTDefaceLib.volume_io.read_scan`.
    with_linkage: bool
        Whether it is tried, too, to link the scans by what no defacing takes away (:mod:`.linkage`).
    progress, cancelled: callable or None
        See :func:`.evaluation.evaluate`.

    Raises
    ------
    InputError
        A volume cannot be read.
    CTDefaceError
        The model does not embed or is missing, there is no such attack, or cancelled.
    """
    progress = progress or silent
    cancelled = cancelled or never
    by_method = attacks if isinstance(attacks, Mapping) else {row.method: attacks for row in rows}
    Settings(views=views, attacks=tuple(kind for kinds in by_method.values() for kind in kinds)).check()
    grid = view_grid(views)
    face_model = load_model(model, model_folder)
    if not face_model.embeds:
        raise CTDefaceError(
            f"The face model {model} cannot tell people apart: choose one that embeds, such as dlib-hog."
        )
    lying = {name: value for name, value in (lying or {}).items() if value}
    memory = _memory(Path(cache), face_model, model_folder, grid, lying)
    photos = [row for row in rows if row.method == PHOTO]
    rows = [row for row in rows if row.method != PHOTO]
    originals = {(row.patient, row.scan): row.path for row in rows if row.method == ORIGINAL}
    costs = _Costs(Path(cache), rows, lying) if with_preservation else None
    prints = VolumeMemory(Path(cache), ["linkage", *([lying] if lying else [])]) if with_linkage else None
    seen, heads = [], []
    with searching(len(grid), model_folder) as search:
        finder = _FaceFinder(face_model, grid, cancelled, memory, lying, search)
        for number, row in enumerate(rows):
            if cancelled():
                raise Cancelled("The evaluation was cancelled.")
            progress(0.9 * number / len(rows), f"Volume {number + 1} of {len(rows)}")
            try:
                for kind in ("", *(() if row.method == ORIGINAL else by_method.get(row.method, ()))):
                    results = finder.results(row.path, originals.get((row.patient, row.scan), row.path), kind)
                    mine = replace(row, method=after(row.method, kind)) if kind else row
                    seen.append(_Seen(mine, results, costs.numbers(row) if costs and not kind else {}))
                    heads.append(_head_print(row.path, prints, lying) if prints and not kind else None)
            except InputError as error:
                raise InputError(f"Volume {number + 1} of the table: {error}") from error
    table = _Table(seen)
    progress(0.9, "Looking at the photos")
    gallery = _photo_gallery(photos, face_model, table)
    progress(0.92, "Comparing all pairs")
    attacked = {after(method, kind): method for method, kinds in by_method.items() for kind in kinds}
    methods = _methods(table, gallery, attacked, seed)
    if prints:
        progress(0.95, "Laying the heads on each other")
        own = {row.method for row in rows}
        _link([method for method in methods if method.method in own], table, heads, _Comparisons(prints), cancelled)
    described = {"name": face_model.name, "licence": face_model.licence}
    return Cohort(
        described,
        views,
        grid,
        methods,
        _listed(table),
        _pictures(table),
        photos=len(photos),
        photos_without_face=int(np.count_nonzero(~gallery.there)),
    )


def _memory(
    folder: Path, model: FaceModel, model_folder: str | os.PathLike | None, grid: ViewGrid, lying: Mapping[str, str]
) -> VolumeMemory:
    weights = sorted(Path(model_folder).glob("*")) if model_folder else []
    made_with = [model.name, [file_digest(path) for path in weights], asdict(grid), model.picture_size]
    made_with += [lying] if lying else []
    return VolumeMemory(folder, [*made_with, detection.FIELD_OF_VIEW_MM, detection.GRID_MM])


class _FaceFinder:
    """Finds the faces of one volume after another, or recalls them."""

    def __init__(
        self,
        model: FaceModel,
        grid: ViewGrid,
        cancelled: IsCancelled,
        memory: VolumeMemory,
        lying: Mapping[str, str],
        search: Search,
    ) -> None:
        self._search_by = search
        self._model, self._grid, self._cancelled, self._memory = model, grid, cancelled, memory
        self._lying = lying
        self._pose: tuple[Path, Pose] | None = None

    def results(self, path: Path, original: Path, attack: str = "") -> dict[str, VolumeFaces]:
        """The faces of a volume AS_IS, and of all that an attack makes of it, by name, in the pose of its original."""
        return {AS_IS: self._faces(path, original), **(self._attacked(path, original, attack) if attack else {})}

    def _faces(self, path: Path, original: Path) -> VolumeFaces:
        key = self._memory.key(path, original)
        faces = self._memory.recall(key)
        if faces is None:
            image = read_ct(path, **self._lying)
            faces = self._find(image, self._pose_of(original), self._places(path, original))
            self._memory.keep(key, faces)
        return faces

    def _attacked(self, path: Path, original: Path, attack: str) -> dict[str, VolumeFaces]:
        key = self._memory.key(path, original, attack=attack)
        names = (self._memory.recall_numbers(key) or {}).get("results")
        kept = {name: self._memory.recall(f"{key}-{number}") for number, name in enumerate(names or ())}
        results = {name: faces for name, faces in kept.items() if faces is not None}
        if names is None or len(results) < len(names):
            image, pose, places = read_ct(path, **self._lying), self._pose_of(original), self._places(path, original)
            results = {}
            for number, result in enumerate(recoveries(image, pose, (attack,))):
                results[result.name] = self._find(result.image, pose, places, result.iso)
                self._memory.keep(f"{key}-{number}", results[result.name])
            self._memory.keep_numbers(key, {"results": list(results)})
        return results

    def _places(self, path: Path, original: Path) -> dict[View, Face]:
        """The faces of a volume's original, by view; none of an original's own."""
        return {} if path == original else self._faces(original, original).faces(self._grid)

    def _pose_of(self, original: Path) -> Pose:
        if self._pose is None or self._pose[0] != original:
            self._pose = original, head_pose(read_ct(original, **self._lying))
        return self._pose[1]

    def _find(self, image: sitk.Image, pose: Pose, places: Mapping[View, Face], iso: float = TISSUE_HU) -> VolumeFaces:
        """The faces of a volume; `places` are those of its original, by view."""
        surface = detection.surface_of(image, iso)
        search = partial(self._search, surface, pose, embedders=[self._model.name])
        # What is found where the original shows no face is described as well.
        sightings = search(self._grid, embed_at=places or None)
        elsewhere = [s.view for s in sightings if s.face and s.embedding is None]
        described = {s.view: s.embedding for s in [*sightings, *(search(elsewhere) if elsewhere else [])]}
        found = [(place, s, s.face) for place, s in enumerate(sightings) if s.face]
        compared = [described[view] for view in places or [s.view for _, s, _ in found]]
        compared = [embedding for embedding in compared if embedding is not None]
        picture = np.full((PICTURE_PIXELS, PICTURE_PIXELS, 3), BACKGROUND, np.uint8)
        if not detection.is_empty(surface):
            picture = detection.picture_of(self._drawer, surface, pose, *PICTURE_VIEW, PICTURE_PIXELS)
        return VolumeFaces(
            views=len(sightings),
            scores=np.array([face.score for _, _, face in found], dtype=np.float32),
            embeddings=_rows([described[s.view] for _, s, _ in found]),
            picture=picture,
            found_in=np.array([place for place, _, _ in found], dtype=int),
            boxes=np.array([face.box for _, _, face in found], dtype=np.float32).reshape(-1, 4),
            landmarks=np.array(
                [np.zeros((0, 2)) if face.landmarks is None else face.landmarks for _, _, face in found],
                dtype=np.float32,
            ),
            compared=_rows(compared),
        )

    def _search(self, surface: detection.Skin, pose: Pose, views: Iterable[View], **options: Any) -> list[Sighting]:
        return detection.find_faces(
            self._drawer,
            surface,
            pose,
            views,
            [self._model],
            cancelled=self._cancelled,
            search=self._search_by,
            **options,
        )

    @cached_property
    def _drawer(self) -> Renderer:
        """Made when first needed: where all is remembered, nothing is drawn."""
        return Renderer()


def _rows(embeddings: Sequence[np.ndarray | None]) -> np.ndarray:
    """Embeddings as rows, (n, d) float32; (0, 1) of none."""
    return np.array(embeddings, dtype=np.float32).reshape(len(embeddings), -1 if len(embeddings) else 1)


@dataclass
class _Original:
    """What is known of an original from one defacing of it to the next."""

    path: Path
    cylinder: Cylinder
    registration_mm: float | None = None


class _Costs:
    """Measures what one defacing after another costs, or recalls it."""

    def __init__(self, folder: Path, rows: Sequence[Row], lying: Mapping[str, str]) -> None:
        self._memory = VolumeMemory(folder, ["preservation", *([lying] if lying else [])])
        self._lying = lying
        self._originals = {(row.patient, row.scan): row for row in rows if row.method == ORIGINAL}
        self._original: _Original | None = None

    def numbers(self, row: Row) -> dict[str, float | None]:
        """The numbers of a defaced volume; none of an original, without one, and where no head is found in it."""
        original = self._originals.get((row.patient, row.scan), row)
        if original is row:
            return {}
        labels = [path for path in (original.labels, original.labels and row.labels) if path]
        key = self._memory.key(row.path, original.path, *labels)
        numbers = self._memory.recall_numbers(key)
        if numbers is None:
            numbers = self._measured(row, original, labels)
            self._memory.keep_numbers(key, numbers)
        return numbers

    def _measured(self, row: Row, original: Row, labels: Sequence[Path]) -> dict[str, float | None]:
        image, defaced = (read_ct(path, **self._lying) for path in (original.path, row.path))
        check_pair(image, defaced)
        try:
            if self._original is None or self._original.path != original.path:
                self._original = _Original(original.path, head_cylinder(image))
        except NoFaceError:
            return {}
        structures = [read_structures(path, partial(read_stored, **self._lying)) for path in labels]
        found = preservation(
            image,
            defaced,
            cylinder=self._original.cylinder,
            registration_control_mm=self._original.registration_mm,
            structures=structures[0] if structures else None,
            defaced_structures=structures[1] if len(structures) > 1 else None,
        )
        self._original.registration_mm = found.registration_control_mm
        return found.numbers()


class _Seen:
    """What was found in a row of the table, or in what an attack made of it.

    `faces` are those of the result that shows most; `described`, result → FUSED and SINGLE embeddings of it.
    """

    def __init__(self, row: Row, results: Mapping[str, VolumeFaces], numbers: dict[str, float | None]) -> None:
        made = [faces for name, faces in results.items() if name != AS_IS] or [results[AS_IS]]
        self.row, self.numbers = row, numbers
        self.faces = max(made, key=lambda faces: (len(faces.scores), max(faces.scores, default=0.0)))
        self.described = {name: _described(faces.compared) for name, faces in results.items()}


def _described(embeddings: np.ndarray) -> dict[str, np.ndarray]:
    """The embeddings of a volume's views as FUSED (1, d) and SINGLE (n, d) ones; no rows of none."""
    return {FUSED: fused(embeddings)[None][: len(embeddings)], SINGLE: evenly(embeddings)}


class _Table:
    """The rows with what was found in them; patients and scans numbered from 0 in the order of the rows."""

    def __init__(self, seen: Sequence[_Seen]) -> None:
        self.seen = seen
        rows = [one.row for one in seen]
        self.patients = {name: number for number, name in enumerate(dict.fromkeys(row.patient for row in rows))}
        pairs = dict.fromkeys((row.patient, row.scan) for row in rows)
        self.scans = {pair: number for number, pair in enumerate(pairs)}
        self.methods = sorted({row.method for row in rows}, key=lambda method: (method != ORIGINAL, method))
        self.several_scans = len(self.scans) > len(self.patients)

    def patient(self, row: Row) -> int:
        return self.patients[row.patient]

    def scan(self, row: Row) -> int:
        return self.scans[row.patient, row.scan]

    def of(self, method: str) -> list[_Seen]:
        """The rows of a method."""
        return [one for one in self.seen if one.row.method == method]


def _methods(table: _Table, photos: Templates, attacked: Mapping[str, str], seed: int) -> list[MethodResult]:
    """The figures of every method, the originals' first; `attacked` names the method whose volumes were attacked."""
    fold_of = patient_folds(np.arange(len(table.patients)), seed=seed)
    faces = {method: _embeddings(table, method) for method in table.methods}
    results = []
    for method, (embeddings, patient, scan) in faces.items():
        folds = fold_of[patient]
        apart = count_pairs(embeddings, patient, folds, scans=scan if table.several_scans else None)
        every = (
            count_pairs(embeddings, patient, folds).sum(axis=(0, 1)) if table.several_scans else apart.sum(axis=(0, 1))
        )
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
                patients=len({one.row.patient for one in mine}),
                faces=len(embeddings),
                found=quartiles([len(one.faces.scores) / one.faces.views for one in mine]),
                within=_separations(apart, every, seed),
                against_originals=against,
                attack_on=attacked.get(method, ""),
                identification=_identified(table, method, photos),
                preservation=_preserved(table, method),
            )
        )
    return results


def _identified(table: _Table, method: str, photos: Templates) -> list[Identification]:
    """The volumes of a method named by every attacker for whom there is a gallery, by fused and by single views."""
    own = _templates(table, method, FUSED)
    galleries = {PHOTO_TO_CT: {AS_IS: photos}} if len(photos.patients) else {}
    if method == ORIGINAL:
        galleries[UNTOUCHED] = own
    else:
        galleries[DEFACED_TO_DEFACED] = own
        if ORIGINAL in table.methods:
            galleries[ORIGINAL_TO_DEFACED] = _templates(table, ORIGINAL, FUSED)
    found = []
    for threat in THREATS:
        within = threat in (UNTOUCHED, DEFACED_TO_DEFACED)
        if threat not in galleries or (within and not table.several_scans):
            continue
        same_scan = threat == ORIGINAL_TO_DEFACED and not table.several_scans
        leave_none_out = same_scan or threat == PHOTO_TO_CT
        for kind in (FUSED, SINGLE):
            probes = own if kind == FUSED else _templates(table, method, SINGLE)
            found.append(identify_results(threat, kind, galleries[threat], probes, same_scan=leave_none_out))
    return [one for one in found if one is not None]


def _head_print(path: Path, memory: VolumeMemory, lying: Mapping[str, str]) -> HeadPrint | None:
    """What of a volume's head is compared, or recalled; None where there is no head."""
    key, names = memory.key(path), ("surface", "air")
    kept = memory.recall_arrays(key, names)
    if kept is None:
        found = head_print(read_ct(path, **lying))
        kept = {name: getattr(found, name) if found else np.zeros(0, np.float32) for name in names}
        memory.keep_arrays(key, kept)
    return HeadPrint(**kept, key=key) if kept["surface"].size else None


class _Comparisons:
    """Compares each two heads once, and remembers it."""

    def __init__(self, memory: VolumeMemory) -> None:
        self._memory = memory
        self._known: dict[str, dict[str, Any]] = {}
        self._new: set[str] = set()

    def __call__(self, one: HeadPrint, other: HeadPrint) -> tuple[float, float]:
        first, second = sorted((one.key, other.key))
        if first not in self._known:
            self._known[first] = self._memory.recall_numbers(f"{first}-linked") or {}
        known = self._known[first]
        if second not in known:
            known[second] = compared(one, other)
            self._new.add(first)
        away, alike = known[second]
        return away, alike

    def keep(self) -> None:
        """Write what is new."""
        for first in self._new:
            self._memory.keep_numbers(f"{first}-linked", self._known[first])
        self._new.clear()


def _link(
    methods: Sequence[MethodResult],
    table: _Table,
    heads: Sequence[HeadPrint | None],
    comparisons: _Comparisons,
    cancelled: IsCancelled,
) -> None:
    """Add to each method how well its scans are linked to other originals; to each other, where there are none."""
    numbered: dict[str, list[tuple[int, int, HeadPrint | None]]] = {}
    for one, head in zip(table.seen, heads):
        numbered.setdefault(one.row.method, []).append((table.patient(one.row), table.scan(one.row), head))
    for method in methods:
        gallery = numbered.get(ORIGINAL, numbered[method.method])
        threat = UNTOUCHED if method.method == ORIGINAL else ORIGINAL_TO_DEFACED
        if ORIGINAL not in numbered:
            threat = DEFACED_TO_DEFACED
        try:
            method.linkage = linked(threat, gallery, numbered[method.method], cancelled, comparisons)
        finally:
            comparisons.keep()
        method.linkage_advice = advice(method.linkage)


def _preserved(table: _Table, method: str) -> dict[str, Estimate | None]:
    """The median of each number over a method's volumes."""
    mine = [(table.patient(one.row), one.numbers) for one in table.of(method)]
    medians = {}
    for name in dict.fromkeys(name for _, numbers in mine for name in numbers):
        values = [(patient, value) for patient, numbers in mine if (value := numbers.get(name)) is not None]
        medians[name] = estimated_median([value for _, value in values], [patient for patient, _ in values])
    return medians


def _templates(table: _Table, method: str, kind: str) -> dict[str, Templates]:
    """The faces of a method's volumes by result, FUSED or SINGLE; zeros where there is nothing to embed.

    A volume of which an attack makes no such result stands there AS_IS. All results have the same rows.
    """
    mine = table.of(method)
    described = [{name: parts[kind] for name, parts in one.described.items()} for one in mine]
    numbers = max((len(rows.T) for results in described for rows in results.values()), default=1)
    counts = [max(1, *(len(rows) for rows in results.values())) for results in described]
    patients, scans = (np.repeat([number(one.row) for one in mine], counts) for number in (table.patient, table.scan))
    found = {}
    for name in dict.fromkeys(name for results in described for name in results):
        vectors = [np.zeros((count, numbers), np.float32) for count in counts]
        for part, results in zip(vectors, described):
            rows = results.get(name, results[AS_IS])
            if len(rows):
                part[: len(rows)] = rows
        found[name] = Templates(np.concatenate(vectors), patients, scans)
    return found


def _photo_gallery(rows: Sequence[Row], model: FaceModel, table: _Table) -> Templates:
    """The best face of each picture; zeros where the model finds none. People without a scan are numbered on."""
    number_of = dict(table.patients)
    for row in rows:
        number_of.setdefault(row.patient, len(number_of))
    faces = [_photo_face(row, model) for row in rows]
    numbers = max((len(face) for face in faces if face is not None), default=1)
    vectors = [np.zeros(numbers, np.float32) if face is None else face for face in faces]
    patients = np.array([number_of[row.patient] for row in rows], dtype=int)
    # A picture is no scan, so that none is a probe's own.
    return Templates(_rows(vectors), patients, np.full(len(rows), -1))


def _photo_face(row: Row, model: FaceModel) -> np.ndarray | None:
    picture = read_picture(row.path)
    if picture is None:
        raise InputError("A photo of the table cannot be read as a picture: give PNG, JPEG or TIFF files.")
    # Cameras note in the file how they were held, which is not read here.
    for turned in (np.ascontiguousarray(np.rot90(picture, quarter)) for quarter in range(4)):
        face = next(iter(model.detect(turned)), None)
        if face is not None:
            return model.embed(turned, face)
    return None


def _separations(by_fold: np.ndarray, every: np.ndarray, seed: int) -> dict[str, Separation]:
    """The pairs by either protocol, from counts by fold and from counts of all pairs."""
    return {BY_PATIENT: separate_by_patient(by_fold), STUDY: separate_at_random(every, seed=seed)}


def _embeddings(table: _Table, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of a method's faces, with the numbers of their patients and scans."""
    mine = [(one.row, one.faces) for one in table.of(method) if len(one.faces.scores)]
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
    names = list(dict.fromkeys(name for one in table.seen for name in one.numbers))
    return [
        {
            "patient": table.patient(one.row) + 1,
            "scan": table.scan(one.row) + 1,
            "method": one.row.method,
            "views": one.faces.views,
            "views_found": len(one.faces.scores),
            "best_score": float(one.faces.scores.max()) if len(one.faces.scores) else None,
            "mean_score": float(one.faces.scores.mean()) if len(one.faces.scores) else None,
            **{name: one.numbers.get(name) for name in names},
        }
        for one in table.seen
    ]


def _pictures(table: _Table) -> list[tuple[str, str, np.ndarray]]:
    """Scan, method and picture of the volumes of the first scans."""
    return [
        (f"scan {table.scan(one.row) + 1}", one.row.method, one.faces.picture)
        for one in table.seen
        if table.scan(one.row) < SCANS_SHOWN
    ]
