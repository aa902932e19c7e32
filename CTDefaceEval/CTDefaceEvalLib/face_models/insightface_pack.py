"""The models of insightface: any pack of .onnx files, and how its own pack is fetched."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from pathlib import Path

import numpy as np
from CTDefaceLib.errors import CTDefaceError, NotReadyError

from .face_model import Face, best_first, box_of, require

PACK, PACK_SIZE = "buffalo_l", "280 MB"
"""The pack that insightface offers first, and how much its download is."""
_PACKS = Path.home() / ".insightface" / "models"


class InsightFace:
    """The detector (SCRFD, RetinaFace) and embedder (ArcFace) of an insightface model pack, any folder of .onnx files.

    `folder` is the pack's; by default `buffalo_l` where insightface itself keeps it. Nothing is downloaded.
    """

    name = "insightface"
    licence = "insightface: MIT; its own model packs: for non-commercial research only"
    needs = "Python package insightface and the folder of a model pack, such as buffalo_l"
    # insightface brings an OpenCV, of which the newest lacks the Haar cascades of opencv-haar
    packages: tuple[str, ...] = ("insightface>=0.7", "onnxruntime>=1.16", "opencv-python>=4.8,<5")
    picture_size = 320
    advice_only = False
    embeds: bool

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        folder = Path(folder) if folder else _PACKS / PACK
        if not folder.is_dir() or not list(folder.glob("*.onnx")):
            raise NotReadyError(
                f"There is no insightface model pack in {folder}: give a folder with the pack's .onnx files."
            )
        app = require("insightface.app", "insightface", self.name)
        self._face = require("insightface.app.common", "insightface", self.name).Face
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._app = app.FaceAnalysis(
                    str(folder.resolve()),
                    allowed_modules=["detection", "recognition"],
                    providers=["CPUExecutionProvider"],
                )
                self._app.prepare(ctx_id=-1, det_size=(self.picture_size, self.picture_size))
        except Exception as error:
            # onnxruntime and insightface raise anything from AssertionError to their own types here.
            raise NotReadyError(
                f"The insightface model pack in {folder} cannot be loaded, so it is incomplete or damaged: "
                "get it again or choose another folder."
            ) from error
        self.embeds = "recognition" in self._app.models

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces with five landmarks, the best first."""
        boxes, landmarks = self._app.det_model.detect(np.ascontiguousarray(picture[:, :, ::-1]))
        return best_first(
            Face(box_of(box[:4]), float(box[4]), None if landmarks is None else landmarks[i])
            for i, box in enumerate(boxes)
        )

    def embed(self, picture: np.ndarray, face: Face) -> np.ndarray:
        """Describe a face that has landmarks by 512 numbers (float32)."""
        found = self._face(bbox=np.array(face.box), kps=face.landmarks, det_score=face.score)
        return self._app.models["recognition"].get(np.ascontiguousarray(picture[:, :, ::-1]), found)


def pack_folder() -> Path | None:
    """Where the pack that :func:`download_pack` fetched lies, or None where there is none."""
    return _PACKS / PACK if (_PACKS / PACK).is_dir() else None


def remove_pack() -> None:
    """Remove what :func:`download_pack` fetched."""
    shutil.rmtree(_PACKS / PACK, ignore_errors=True)


def download_pack() -> None:
    """Download insightface's pack buffalo_l, by its own means and to its own place.

    Raises
    ------
    NotReadyError
        When insightface is not installed.
    CTDefaceError
        When the download fails.
    """
    storage = require("insightface.utils.storage", "insightface", InsightFace.name)
    try:
        storage.download("models", PACK, force=True)
    except Exception as error:
        # requests, zipfile and the package raise anything here; what is incomplete must not look like a pack.
        shutil.rmtree(_PACKS / PACK, ignore_errors=True)
        raise CTDefaceError(
            "The model pack could not be downloaded: check the network connection, or give the folder of a pack that "
            "was downloaded elsewhere."
        ) from error
    finally:
        (_PACKS / f"{PACK}.zip").unlink(missing_ok=True)
