"""OpenCV's own networks: YuNet, which finds faces, and SFace, which tells people apart."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from CTDefaceLib.errors import CTDefaceError, NotReadyError

from .face_model import Face, best_first, box_of, require

DETECTOR, RECOGNISER = "face_detection_yunet_2023mar.onnx", "face_recognition_sface_2021dec.onnx"
"""The files of OpenCV's model zoo."""


class YuNet:
    """The detector YuNet and, where its weights are there as well, the embedder SFace.

    `folder` holds the weights as OpenCV's model zoo gives them. Nothing is downloaded.
    """

    name = "opencv-yunet"
    licence = "OpenCV and SFace's weights: Apache-2.0; YuNet's weights: MIT"
    needs = "Python package opencv-python-headless 4.11 to 4.x, and a folder with the weights from OpenCV's model zoo"
    # Before 4.11 weights were loaded by the name of their file only, which on Windows had to be ASCII.
    packages: tuple[str, ...] = ("opencv-python-headless>=4.11,<5",)
    picture_size = 320
    advice_only = False
    embeds: bool

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        if folder is None or not (Path(folder) / DETECTOR).is_file():
            raise NotReadyError(
                f"{self.name} needs a folder with {DETECTOR} and, to tell people apart, {RECOGNISER}: get them from "
                "OpenCV's model zoo, and give their folder."
            )
        self._cv2 = require("cv2", self.packages[0], self.name)
        if not hasattr(self._cv2, "FaceDetectorYN"):
            raise NotReadyError(f"This OpenCV has no YuNet: install “{self.packages[0]}” to use {self.name}.")
        size = (self.picture_size, self.picture_size)
        self._detector = _loaded(self._cv2.FaceDetectorYN.create, Path(folder) / DETECTOR, size)
        self._recogniser = None
        self.embeds = (Path(folder) / RECOGNISER).is_file()
        if self.embeds:
            self._recogniser = _loaded(self._cv2.FaceRecognizerSF.create, Path(folder) / RECOGNISER)

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces with five landmarks, the best first."""
        rows, columns = picture.shape[:2]
        self._detector.setInputSize((columns, rows))
        _, found = self._detector.detect(np.ascontiguousarray(picture[:, :, ::-1]))
        return best_first(
            Face(box_of((x, y, x + width, y + height)), float(score), np.reshape(marks, (5, 2)))
            for x, y, width, height, *marks, score in (() if found is None else found)
        )

    def embed(self, picture: np.ndarray, face: Face) -> np.ndarray:
        """Describe a face that has landmarks by 128 numbers (float32)."""
        if self._recogniser is None:
            raise CTDefaceError(f"{self.name} cannot tell people apart without {RECOGNISER}: add it to the folder.")
        left, top, right, bottom = face.box
        landmarks = np.zeros(10) if face.landmarks is None else face.landmarks
        row = np.array([left, top, right - left, bottom - top, *np.ravel(landmarks), face.score], np.float32)
        aligned = self._recogniser.alignCrop(np.ascontiguousarray(picture[:, :, ::-1]), row[None])
        return self._recogniser.feature(aligned)[0].copy()


def _loaded(create: Callable[..., Any], path: Path, *how: Any) -> Any:
    """A network from its file, whose content is passed on, since OpenCV does not open every path of Windows."""
    try:
        return create("onnx", np.fromfile(path, np.uint8), np.zeros(0, np.uint8), *how)
    except Exception as error:  # cv2.error for what is damaged as well as for an OpenCV that is too old
        raise NotReadyError(
            f"{path.name} cannot be loaded by this OpenCV: get it again from OpenCV's model zoo, or update OpenCV."
        ) from error
