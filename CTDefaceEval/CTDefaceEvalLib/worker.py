"""The background process of CTDefaceEval; see :mod:`CTDefaceLib.worker`, and for its tasks :mod:`.tasks`.

python -m CTDefaceEvalLib.worker FOLDER
"""

from __future__ import annotations

import contextlib
import os
import pickle
from typing import TYPE_CHECKING, Any

from CTDefaceLib import worker
from CTDefaceLib.processes import give_way
from CTDefaceLib.tasks import read_volume
from CTDefaceLib.worker import Call

from . import tasks

if TYPE_CHECKING:
    import numpy as np
    import vtk
    from CTDefaceLib.render import Renderer

    from .face_models import Face, FaceModel
    from .findings import Likeness
    from .views import Pose

STANDARD_PIXELS = 300
"""Width and height of a picture that the worker takes of its surfaces, in pixels."""


class Kept:
    """What one task leaves for the next: face models that were loaded, and the surfaces made last; and these tasks."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str | None], FaceModel] = {}
        self._surfaces: dict[str, vtk.vtkPolyData] = {}
        self._pose: Pose | None = None
        self._renderer: Renderer | None = None

    def _model(self, name: str, folder: str | None) -> FaceModel:
        from .face_models import load_model

        if (name, folder) not in self._models:
            self._models[name, folder] = load_model(name, folder)
        return self._models[name, folder]

    def make_skin(self, task: tasks.MakeSkin, call: Call) -> dict[str, Any]:
        import numpy as np

        from .attacks import around_head
        from .detection import surface_of
        from .evaluation import check_pair
        from .views import head_pose

        images = {"original": call.volume()}
        if task.defaced:
            images["defaced"] = read_volume(task.defaced)
            check_pair(images["original"], images["defaced"])
        call.progress(0.0, "Finding the head")
        pose = self._pose = head_pose(images["original"])
        self._surfaces, arrays = {}, {}
        for number, (name, image) in enumerate(images.items()):
            call.progress((1 + number) / (1 + len(images)), "Making the skin surface")
            surface = self._surfaces[name] = surface_of(around_head(image, pose))
            arrays.update({f"{name} {part}": array for part, array in surface_arrays(surface).items()})
        np.savez(call.result, **arrays)
        return {"axes": pose.axes.tolist(), "center": list(pose.center), "surfaces": list(images)}

    def score(self, task: tasks.Score, call: Call) -> dict[str, Any]:
        from .face_models import landmarks_of

        model = self._model(task.model, task.folder)
        pictures = {name: self._picture(name, path) for name, path in task.pictures.items()}
        shown = {name: resized(picture, model.picture_size) for name, picture in pictures.items()}
        faces = {name: next(iter(model.detect(picture)), None) for name, picture in shown.items()}
        found: dict[str, Any] = {}
        for name, face in faces.items():
            zoom = len(pictures[name]) / model.picture_size
            found[name] = face and {
                "box": [edge * zoom for edge in face.box],
                "score": face.score,
                "landmarks": [[x * zoom, y * zoom] for x, y in landmarks_of(model, shown[name], face).tolist()],
            }
        answer: dict[str, Any] = {"faces": found, "sizes": {name: len(picture) for name, picture in pictures.items()}}
        original = faces.get("original")
        if task.embed and model.embeds and len(shown) > 1 and original:
            answer["similarities"] = _similarities(model, shown, faces, original)
        return answer

    def _picture(self, name: str, path: str) -> np.ndarray:
        import numpy as np
        from CTDefaceLib.errors import InputError
        from CTDefaceLib.render import Renderer

        from .detection import picture_of

        picture = np.load(path)
        os.remove(path)
        if picture.ndim == 3:
            return picture
        if name not in self._surfaces or self._pose is None:
            raise InputError("The worker no longer has this surface: show the volumes again.")
        self._renderer = self._renderer or Renderer()
        yaw, pitch = picture.tolist()
        return picture_of(self._renderer, self._surfaces[name], self._pose, yaw, pitch, "top", STANDARD_PIXELS)

    def measure_scale(self, task: tasks.MeasureScale, call: Call) -> dict[str, Any]:
        from .similarity_scale import scan_scale

        call.progress(0.1, "Measuring what similar means")
        scale = scan_scale(call.volume(), self._model(task.model, task.folder))
        return {"same_head": scale.same_head, "other_heads": scale.other_heads}


def _similarities(
    model: FaceModel, pictures: dict[str, np.ndarray], faces: dict[str, Face | None], original: Face
) -> dict[str, float]:
    """Where no face is found in a picture, what lies in its place is compared."""
    from .face_models import similarity

    reference = model.embed(pictures["original"], original)
    return {
        name: similarity(reference, model.embed(picture, faces[name] or original))
        for name, picture in pictures.items()
        if name != "original"
    }


def evaluate(task: tasks.Evaluate, call: Call) -> dict[str, Any]:
    from CTDefaceLib.errors import NoFaceError

    from . import evaluation
    from .attacks import recoveries
    from .detection import surface_of
    from .preservation import preservation
    from .settings import Settings
    from .verdict import worst_first
    from .views import head_pose

    image = call.volume()
    defaced = read_volume(task.defaced) if task.defaced else None
    original, defaced = (None, image) if defaced is None else (image, defaced)
    settings = Settings(tuple(task.models), task.folder, task.views, tuple(task.attacks))

    def answered(name: str, alike: Likeness | None, gives_away: bool) -> None:
        call.event({"subject": name, "likeness": alike and alike.value, "gives_away": gives_away})

    found = evaluation.evaluate(
        original,
        defaced,
        settings,
        memory="seen.json",
        keep_memory=True,
        answered=answered,
        progress=call.progress,
    )
    if original is not None:
        with contextlib.suppress(NoFaceError):
            found.preservation = preservation(original, defaced)
    recovered = None
    worst = [subject for subject in worst_first(found) if subject.kind in settings.attacks]
    if worst:
        attempts = recoveries(defaced, head_pose(image), (worst[0].kind,))
        attempt = next(attempt for attempt in attempts if attempt.name == worst[0].name)
        recovered = surface_arrays(surface_of(attempt.image, attempt.iso))
    with open(call.result, "wb") as file:
        pickle.dump({"evaluation": found, "recovered": recovered}, file)
    return {"recovered": worst[0].name if worst else ""}


def evaluate_cohort(task: tasks.EvaluateCohort, call: Call) -> dict[str, Any]:
    from pathlib import Path

    from . import cohort
    from .cohort_table import Row

    rows = [
        Row(
            row["patient"],
            row["scan"],
            row["method"],
            Path(row["path"]),
            Path(row["labels"]) if row["labels"] else None,
        )
        for row in task.rows
    ]
    found = cohort.evaluate_cohort(
        rows,
        task.cache,
        model=task.model,
        model_folder=task.folder,
        views=task.views,
        with_preservation=task.preservation,
        with_linkage=task.linkage,
        progress=call.progress,
    )
    with open(call.result, "wb") as file:
        pickle.dump(found, file)
    return {}


def list_models(task: tasks.ListModels, call: Call) -> dict[str, Any]:
    from .face_models import availability

    return {"models": availability(task.folder)}


def download_models(task: tasks.DownloadModels, call: Call) -> dict[str, Any]:
    from .face_models import download_pack

    download_pack()
    return {}


def surface_arrays(surface: vtk.vtkPolyData) -> dict[str, Any]:
    """Points and normals (n, 3) float32 and triangles (m, 3) int64 of a vtkPolyData, the former two in LPS."""
    import numpy as np
    from vtkmodules.util.numpy_support import vtk_to_numpy

    if surface.GetNumberOfPoints() == 0:
        return {"points": np.zeros((0, 3), np.float32), "normals": np.zeros((0, 3), np.float32), "triangles": []}
    return {
        "points": vtk_to_numpy(surface.GetPoints().GetData()),
        "normals": vtk_to_numpy(surface.GetPointData().GetNormals()),
        "triangles": vtk_to_numpy(surface.GetPolys().GetConnectivityArray()).reshape(-1, 3),
    }


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """A square picture (n, n, 3) in another size, averaged where it shrinks."""
    import numpy as np
    import SimpleITK as sitk

    if len(picture) == size:
        return np.ascontiguousarray(picture)
    image = sitk.GetImageFromArray(picture, isVector=True)
    zoom = len(picture) / size
    if zoom > 1.5:
        image = sitk.SmoothingRecursiveGaussian(image, 0.4 * zoom)
    origin = 0.5 * zoom - 0.5
    small = sitk.Resample(
        image, [size, size], sitk.Transform(), sitk.sitkLinear, [origin] * 2, [zoom] * 2, [1.0, 0.0, 0.0, 1.0]
    )
    return np.ascontiguousarray(sitk.GetArrayFromImage(sitk.Cast(small, sitk.sitkVectorUInt8)))


def main() -> None:
    give_way()
    kept = Kept()
    worker.main(
        {
            tasks.MakeSkin: kept.make_skin,
            tasks.Score: kept.score,
            tasks.MeasureScale: kept.measure_scale,
            tasks.Evaluate: evaluate,
            tasks.EvaluateCohort: evaluate_cohort,
            tasks.ListModels: list_models,
            tasks.DownloadModels: download_models,
        }
    )


if __name__ == "__main__":
    main()
