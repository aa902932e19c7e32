"""Face detectors and recognisers behind one small interface. Commands, evaluations and the panel list them from here.

A new one is a class in a module of this package with the members of :class:`.face_model.FaceModel`, and a line in
:data:`MODELS`; commands, reports and the panel's table of models then have it. To be offered for the panel's sweeps
it also needs a member of ``CTDefaceEvalSlicer.parameters.FaceModel``, and to be installed with the command its packages
in the extra ``faces`` of ``pyproject.toml``. Weights are never downloaded but by :func:`download_pack`.
"""

from __future__ import annotations

import os

from CTDefaceLib.errors import CTDefaceError, NotReadyError

from .centerface import CenterFace
from .dlib_models import DlibCnn, DlibHog
from .face_model import Face, FaceModel, landmarks_of, similarity, unit
from .facenet import FaceNet, Mtcnn
from .insightface_pack import PACK_SIZE, InsightFace, download_pack, pack_folder, remove_pack
from .opencv_haar import OpenCvHaar
from .opencv_yunet import YuNet

__all__ = [
    "ADVICE_ONLY",
    "COHORT_PACKAGES",
    "DEFAULT_MODELS",
    "MODELS",
    "PACK_SIZE",
    "CenterFace",
    "DlibCnn",
    "DlibHog",
    "Face",
    "FaceModel",
    "FaceNet",
    "InsightFace",
    "Mtcnn",
    "OpenCvHaar",
    "YuNet",
    "availability",
    "download_pack",
    "landmarks_of",
    "load_model",
    "pack_folder",
    "remove_pack",
    "similarity",
    "unit",
]

MODELS: dict[str, type[FaceModel]] = {
    model.name: model for model in (DlibHog, DlibCnn, InsightFace, FaceNet, OpenCvHaar, YuNet, CenterFace, Mtcnn)
}
"""All face models by name, in the order in which they are offered."""
DEFAULT_MODELS = (DlibHog.name, DlibCnn.name)
"""The ones that work everywhere."""
ADVICE_ONLY = tuple(name for name, model in MODELS.items() if model.advice_only)
"""The ones that give too many false alarms to base a verdict on."""
COHORT_PACKAGES = ("scikit-learn>=1.3",)
"""What pip installs for a cohort beside a model."""


def load_model(name: str, folder: str | os.PathLike | None = None) -> FaceModel:
    """Make a face model by its name, a key of MODELS; `folder` for those that are loaded from one.

    Raises
    ------
    NotReadyError
        When a package or a weight file is missing.
    CTDefaceError
        For an unknown name.
    """
    if name not in MODELS:
        raise CTDefaceError(f"There is no face model called “{name}”; choose one of {', '.join(MODELS)}.")
    return MODELS[name](folder)


def availability(folder: str | os.PathLike | None = None) -> list[dict[str, str | None]]:
    """What every model needs, its licence, and why it is not there.

    Returns
    -------
    list of dict
        ``name``, ``licence``, ``needs``, and ``missing``: None or one sentence.
    """
    rows = []
    for name, model in MODELS.items():
        missing = None
        try:
            load_model(name, folder)
        except NotReadyError as error:
            missing = str(error)
        rows.append({"name": name, "licence": model.licence, "needs": model.needs, "missing": missing})
    return rows
