"""OpenCV's cascade of Haar features."""

from __future__ import annotations

import os

import numpy as np
from CTDefaceLib.errors import NotReadyError

from .face_model import DetectorOnly, Face, best_first, require


class OpenCvHaar(DetectorOnly):
    """Viola and Jones' cascade of Haar features; many false alarms, so its findings are advice only."""

    name = "opencv-haar"
    licence = "Apache-2.0, cascade: Intel License Agreement (BSD-like)"
    needs = "Python package opencv-python-headless older than 5"
    packages: tuple[str, ...] = ("opencv-python-headless>=4.8,<5",)
    picture_size = 300
    advice_only = True

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        self._cv2 = require("cv2", "opencv-python-headless<5", self.name)
        folder = getattr(getattr(self._cv2, "data", None), "haarcascades", "")
        cascade = os.path.join(folder, "haarcascade_frontalface_default.xml")
        if not hasattr(self._cv2, "CascadeClassifier") or not os.path.isfile(cascade):
            raise NotReadyError(
                "This OpenCV has no Haar cascades any more: install “opencv-python-headless<5” to use opencv-haar."
            )
        self._detector = self._cv2.CascadeClassifier(cascade)

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces at least 60 pixels wide, the best first."""
        grey = self._cv2.cvtColor(picture, self._cv2.COLOR_RGB2GRAY)
        boxes, _, weights = self._detector.detectMultiScale3(grey, 1.1, 5, minSize=(60, 60), outputRejectLevels=True)
        return best_first(
            Face((float(x), float(y), float(x + w), float(y + h)), float(score))
            for (x, y, w, h), score in zip(boxes, np.ravel(weights))
        )
