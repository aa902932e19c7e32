"""What a face model is: the seam between the detectors and recognisers of others and all that use them.

A face model is a class of this package that has the members of :class:`FaceModel`, and a line in the table
:data:`CTDefaceEvalLib.face_models.MODELS`. It imports its packages when it is made, and downloads nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from CTDefaceLib.errors import CTDefaceError, NotReadyError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Face:
    """One face found in a picture.

    Attributes
    ----------
    box: tuple of float
        Left, top, right, bottom in pixels.
    score: float
        The detector's own, larger is surer; scales differ between detectors.
    landmarks: np.ndarray or None
        (n, 2) pixels x, y.
    """

    box: Box
    score: float
    landmarks: np.ndarray | None = None


class FaceModel(Protocol):
    """A face detector, most of which also describe a face by an embedding.

    Attributes
    ----------
    name: str
        What commands, records and reports call it.
    licence, needs: str
        Of code and weights; what has to be installed or given.
    packages: tuple of str
        What pip installs of that.
    picture_size: int
        Rows and columns of the pictures that it is shown.
    embeds: bool
        Whether it can tell people apart, so that ``embed`` may be called.
    advice_only: bool
        Whether it gives too many false alarms to base a verdict on.

    Notes
    -----
    Pictures are (rows, columns, 3) uint8 RGB. A model whose faces come without landmarks may have ``landmarks(picture,
    face)``, which returns them as (n, 2) pixels x, y.
    """

    name: str
    licence: str
    needs: str
    packages: tuple[str, ...]
    picture_size: int
    embeds: bool
    advice_only: bool

    def __init__(self, folder: str | os.PathLike | None = None) -> None:
        """Load the model, from a folder with its weights where it has any.

        Raises
        ------
        NotReadyError
            When a package or the weights are missing or damaged.
        """

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces, the best first."""

    def embed(self, picture: np.ndarray, face: Face) -> np.ndarray:
        """Describe a face by a vector (float32) whose direction tells people apart."""


class DetectorOnly:
    """What models have in common that find faces and cannot tell people apart."""

    name: str
    embeds = False

    def embed(self, picture: np.ndarray, face: Face) -> np.ndarray:
        """Not to be called, since ``embeds`` is false."""
        raise CTDefaceError(f"{self.name} cannot tell people apart: choose a face model that embeds.")


def require(module: str, package: str, model: str) -> ModuleType:
    """Import a module that a face model needs; NotReadyError names the package that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotReadyError(
            f"The face model {model} needs the Python package {package}: install it with “pip install {package}”."
        ) from error


def packaged(package: str, *place: str) -> Path | None:
    """A file that a Python package carries, without importing it; None where either is not there."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder).joinpath(*place)
        if path.is_file():
            return path
    return None


def box_of(edges: Iterable[float]) -> Box:
    """Left, top, right and bottom as plain numbers."""
    left, top, right, bottom = (float(edge) for edge in edges)
    return left, top, right, bottom


def best_first(faces: Iterable[Face]) -> list[Face]:
    """Faces by falling score."""
    return sorted(faces, key=lambda face: -face.score)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (…, d) at length 1; zeros stay as they are."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two embeddings: 1 for the same direction."""
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))


def landmarks_of(model: FaceModel, picture: np.ndarray, face: Face) -> np.ndarray:
    """Landmarks of a face that a model found, (n, 2) pixels x, y; none where the model knows none."""
    if face.landmarks is not None:
        return np.asarray(face.landmarks)
    return model.landmarks(picture, face) if hasattr(model, "landmarks") else np.zeros((0, 2), np.float32)
