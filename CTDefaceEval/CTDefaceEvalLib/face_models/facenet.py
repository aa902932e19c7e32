"""MTCNN and FaceNet, as the package facenet-pytorch has them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from CTDefaceLib.errors import NotReadyError

from .face_model import DetectorOnly, Face, best_first, box_of, require

CROP_PIXELS = 160
"""Side of the picture of a face that FaceNet was trained on."""


class Mtcnn(DetectorOnly):
    """The detector MTCNN from facenet-pytorch, which carries its weights."""

    name = "mtcnn"
    licence = "facenet-pytorch and the weights of MTCNN in it: MIT"
    needs = "Python packages facenet-pytorch and torch"
    packages: tuple[str, ...] = ()  # facenet-pytorch would replace the PyTorch that is there
    picture_size = 320
    advice_only = False

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        self._facenet = require("facenet_pytorch", "facenet-pytorch", self.name)
        self._torch = require("torch", "torch", self.name)
        self._detector = self._facenet.MTCNN(image_size=CROP_PIXELS, keep_all=True, device="cpu")

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces with five landmarks, the best first."""
        boxes, scores, landmarks = self._detector.detect(np.ascontiguousarray(picture), landmarks=True)
        if boxes is None:
            return []
        return best_first(
            Face(box_of(box), float(score), np.asarray(points, dtype=np.float32))
            for box, score, points in zip(boxes, scores, landmarks)
        )


class FaceNet(Mtcnn):
    """MTCNN and an Inception-ResNet (FaceNet) from facenet-pytorch, the models of the CTA-DEFACE paper.

    `folder` holds the embedder's weights as one .pt file; those of MTCNN come with the package.
    """

    name = "facenet"
    licence = "facenet-pytorch: MIT; weights trained on VGGFace2 or CASIA-WebFace, for research"
    needs = "Python packages facenet-pytorch and torch, and a folder with the embedder's weights (.pt)"
    embeds = True

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        weights = sorted(Path(folder).glob("*.pt")) if folder else []
        if not weights:
            raise NotReadyError(
                "FaceNet needs a folder with its weights, such as 20180402-114759-vggface2.pt: give that folder."
            )
        super().__init__()
        self._extract = require("facenet_pytorch.models.utils.detect_face", "facenet-pytorch", self.name).extract_face
        self._to_image = require("PIL.Image", "pillow", self.name).fromarray
        self._embedder = self._facenet.InceptionResnetV1(pretrained=None).eval()
        try:
            state = self._torch.load(weights[0], map_location="cpu", weights_only=True)
            # The classifier of the training set's people is not part of the embedding.
            state = {key: value for key, value in state.items() if not key.startswith("logits.")}
            self._embedder.load_state_dict(state)
        except Exception as error:
            raise NotReadyError(
                f"{weights[0].name} does not hold FaceNet weights: give the folder of an InceptionResnetV1 state (.pt)."
            ) from error

    def embed(self, picture: np.ndarray, face: Face) -> np.ndarray:
        """Describe a face by 512 numbers (float32)."""
        crop = self._extract(self._to_image(np.ascontiguousarray(picture)), face.box, CROP_PIXELS)
        with self._torch.no_grad():
            return self._embedder(((crop - 127.5) / 128.0)[None].float())[0].numpy()
