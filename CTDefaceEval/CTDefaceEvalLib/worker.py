"""The background worker of CTDeface with the tasks of the evaluation; see :mod:`CTDefaceLib.worker`.

python -m CTDefaceEvalLib.worker FOLDER
"""

from __future__ import annotations

import os
import pickle

from CTDefaceLib import worker

STANDARD_PIXELS = 300


class EvaluationWorker(worker.Worker):
    """Keeps the face models that it has loaded, and the skin surfaces that it has made last."""

    def __init__(self, send):
        super().__init__(send)
        self._models = {}
        self._surfaces, self._pose, self._renderer = {}, None, None

    def _model(self, name: str, folder: str | None):
        from .face_models import load_model

        if (name, folder) not in self._models:
            self._models[name, folder] = load_model(name, folder)
        return self._models[name, folder]

    def _skin(self, job, progress) -> dict:
        """Skin surfaces of the volume and, where given, of its defaced version; the pose of the head."""
        import numpy as np

        from .attacks import around_head
        from .detection import surface_of
        from .evaluation import check_pair
        from .views import head_pose

        images = {"original": self._volume(job["image"])}
        if job["defaced"]:
            images["defaced"] = worker.read_volume(job["defaced"])
            check_pair(images["original"], images["defaced"])
        progress(0.0, "Finding the head")
        self._pose = head_pose(images["original"])
        self._surfaces, arrays = {}, {}
        for number, (name, image) in enumerate(images.items()):
            progress((1 + number) / (1 + len(images)), "Making the skin surface")
            surface = self._surfaces[name] = surface_of(around_head(image, self._pose))
            arrays.update({f"{name} {part}": array for part, array in surface_arrays(surface).items()})
        np.savez(job["result"], **arrays)
        return {"axes": self._pose.axes.tolist(), "center": list(self._pose.center), "surfaces": list(images)}

    def _score(self, job, progress) -> dict:
        """Look for a face in pictures of "original", "defaced" and "recovered" head that show the same view.

        Each comes as a .npy file with the picture, (n, n, 3) uint8, or with yaw and pitch to take it of the surfaces
        made last. The answer has the faces, in pixels of the pictures, and with ``embed`` how similar the others are
        to the original where that shows a face.
        """
        from .face_models import landmarks_of

        model = self._model(job["model"], job["folder"])
        pictures = {name: self._picture(name, path) for name, path in job["pictures"].items()}
        shown = {name: resized(picture, model.picture_size) for name, picture in pictures.items()}
        faces = {name: next(iter(model.detect(picture)), None) for name, picture in shown.items()}
        found = {}
        for name, face in faces.items():
            zoom = len(pictures[name]) / model.picture_size
            found[name] = face and {
                "box": [edge * zoom for edge in face.box],
                "score": face.score,
                "landmarks": [[x * zoom, y * zoom] for x, y in landmarks_of(model, shown[name], face).tolist()],
            }
        answer = {"faces": found, "sizes": {name: len(picture) for name, picture in pictures.items()}}
        if job["embed"] and model.embeds and len(shown) > 1 and faces["original"]:
            answer["similarities"] = self._similarities(model, shown, faces)
        return answer

    def _picture(self, name: str, path: str):
        import numpy as np
        from CTDefaceLib.errors import InputError
        from CTDefaceLib.render import Renderer

        from .detection import picture_of

        picture = np.load(path)
        os.remove(path)
        if picture.ndim == 3:
            return picture
        if name not in self._surfaces:
            raise InputError("The worker no longer has this surface: show the volumes again.")
        self._renderer = self._renderer or Renderer()
        yaw, pitch = picture.tolist()
        return picture_of(self._renderer, self._surfaces[name], self._pose, yaw, pitch, "top", STANDARD_PIXELS)

    @staticmethod
    def _similarities(model, pictures, faces) -> dict[str, float]:
        """Where no face is found in a picture, what lies in its place is compared."""
        from .face_models import similarity

        original = model.embed(pictures["original"], faces["original"])
        return {
            name: similarity(original, model.embed(picture, faces[name] or faces["original"]))
            for name, picture in pictures.items()
            if name != "original"
        }

    def _scale(self, job, progress) -> dict:
        """What similar means for a scan: the members of ``findings.Scale``."""
        from .similarity_scale import scan_scale

        progress(0.1, "Measuring what similar means")
        scale = scan_scale(self._volume(job["image"]), self._model(job["model"], job["folder"]))
        return {"same_head": scale.same_head, "other_heads": scale.other_heads}

    def _evaluate(self, job, progress) -> dict:
        """A whole evaluation, pickled, and the skin of what gives most of the face back."""
        from .attacks import recoveries
        from .detection import surface_of
        from .evaluation import evaluate
        from .settings import Settings
        from .verdict import worst_first
        from .views import head_pose

        image = self._volume(job["image"])
        defaced = worker.read_volume(job["defaced"]) if job["defaced"] else None
        original, defaced = (None, image) if defaced is None else (image, defaced)
        settings = Settings(tuple(job["models"]), job["folder"], job["views"], tuple(job["attacks"]))
        evaluation = evaluate(original, defaced, settings, memory="seen.json", keep_memory=True, progress=progress)
        result = {"evaluation": evaluation, "recovered": None}
        worst = worst_first(evaluation)
        if worst:
            pose = head_pose(image)
            attempts = recoveries(defaced, pose, (worst[0].kind,))
            attempt = next(attempt for attempt in attempts if attempt.name == worst[0].name)
            result["recovered"] = surface_arrays(surface_of(attempt.image, attempt.iso))
        with open(job["result"], "wb") as file:
            pickle.dump(result, file)
        return {"recovered": worst[0].name if worst else ""}

    def _cohort(self, job, progress) -> dict:
        """A cohort of volume files, pickled."""
        from pathlib import Path

        from .cohort import evaluate_cohort
        from .cohort_table import Row

        rows = [Row(row["patient"], row["scan"], row["method"], Path(row["path"])) for row in job["rows"]]
        cohort = evaluate_cohort(
            rows, job["cache"], model=job["model"], model_folder=job["folder"], views=job["views"], progress=progress
        )
        with open(job["result"], "wb") as file:
            pickle.dump(cohort, file)
        return {}

    def _models_there(self, job, progress) -> dict:
        from .face_models import availability

        return {"models": availability(job["folder"])}

    def _download(self, job, progress) -> dict:
        from .face_models import download_pack

        download_pack()
        return {}


def surface_arrays(surface) -> dict:
    """Points and normals (n, 3) float32 and triangles (m, 3) int64 of a vtkPolyData, the former two in LPS."""
    import numpy as np
    from vtk.util.numpy_support import vtk_to_numpy

    if surface.GetNumberOfPoints() == 0:
        return {"points": np.zeros((0, 3), np.float32), "normals": np.zeros((0, 3), np.float32), "triangles": []}
    return {
        "points": vtk_to_numpy(surface.GetPoints().GetData()),
        "normals": vtk_to_numpy(surface.GetPointData().GetNormals()),
        "triangles": vtk_to_numpy(surface.GetPolys().GetConnectivityArray()).reshape(-1, 3),
    }


def resized(picture, size: int):
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


def give_way() -> None:
    """Leave the processor to the window, which has to draw, wherever both want it."""
    if os.name != "nt":
        os.nice(10)
        return
    import ctypes
    from ctypes import wintypes

    below_normal = 0x4000
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    kernel.SetPriorityClass(wintypes.HANDLE(kernel.GetCurrentProcess()), below_normal)


def main() -> None:
    give_way()
    worker.main(EvaluationWorker)


if __name__ == "__main__":
    main()
