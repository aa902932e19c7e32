"""How far a new skin lies from the old one: known distances, and faces that were only smoothed."""

import coarse_phantoms
import make_other_faces
import numpy as np
import poor_defacings
import pytest
import SimpleITK as sitk
from CTDefaceEvalLib import facial_shape as library
from CTDefaceEvalLib.facial_shape import FacialShape, distances, face_skin, facial_shape, own_face, points_of
from CTDefaceEvalLib.views import head_pose
from CTDefaceLib.pipeline import DefaceParameters, deface


@pytest.fixture(scope="module")
def head():
    return coarse_phantoms.scan(person=3)


@pytest.fixture(scope="module")
def others():
    return [coarse_phantoms.scan(person=person).image for person in (7, 12)]


def place(head):
    """Where the map of a head's face lies."""
    return head.cylinder.depth_mm, head.cylinder.landmarks.eye_height


def grown(head, by_mm):
    """The head with its skin so much further out, or in."""
    tissue = sitk.BinaryFillhole(sitk.BinaryMorphologicalClosing(head.image > -300, [3, 3, 3]))
    outside = sitk.SignedMaurerDistanceMap(tissue, False, False, True)
    return sitk.Cast(sitk.Clamp((by_mm - outside) * 100.0 - 300.0, sitk.sitkFloat32, -1000.0, 40.0), sitk.sitkInt16)


def test_the_skin_is_found_between_the_voxels(head):
    """A ball has the same radius along each ray, to a fraction of a voxel."""
    cylinder = head.cylinder
    middle = cylinder.head.to_lps(np.array([0.0, cylinder.depth_mm, -40.0]))
    indices = np.moveaxis(np.indices(head.hu.shape)[::-1], 0, -1)
    places = indices @ (np.reshape(head.image.GetDirection(), (3, 3)) * head.image.GetSpacing()).T
    away = np.linalg.norm(places + head.image.GetOrigin() - middle, axis=-1)
    ball = sitk.GetImageFromArray(np.clip(-300.0 + 100.0 * (95.0 - away), -1000, 40).astype(np.float32))
    ball.CopyInformation(head.image)
    points = points_of(face_skin(ball, cylinder), *place(head), finer=1)
    centre = [0.0, cylinder.depth_mm, -40.0 - cylinder.landmarks.eye_height]
    assert len(points) > 500 and np.linalg.norm(points - centre, axis=1) == pytest.approx(95.0, abs=0.4)


def test_a_skin_taken_off_or_put_on_evenly_lies_that_far_away(head):
    before = face_skin(grown(head, 0.0), head.cylinder)
    for by_mm in (-4.0, 6.0):
        after = face_skin(grown(head, by_mm), head.cylinder)
        apart = points_of(after, *place(head), finer=1)
        target = points_of(before, *place(head))
        found = np.median(library.cKDTree(target).query(apart)[0])
        assert found == pytest.approx(abs(by_mm), abs=0.8)


def test_a_fit_takes_out_where_a_head_lies(head):
    points = points_of(face_skin(head.image, head.cylinder), *place(head))
    turn = np.radians(5.0)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0.0], [np.sin(turn), np.cos(turn), 0.0], [0.0, 0.0, 1.0]])
    moved = (points @ rotation.T + [3.0, -2.0, 4.0])[::7]
    tree = library.cKDTree(points)
    assert distances(moved, tree).mean() < 0.3 * tree.query(moved)[0].mean()
    u, shift = library._rigid(points, points @ rotation.T + [3.0, -2.0, 4.0])
    assert u == pytest.approx(rotation, abs=1e-9) and shift == pytest.approx([3.0, -2.0, 4.0], abs=1e-6)


def test_an_untouched_face_keeps_its_shape(head, others):
    found = facial_shape(own_face(head.image, others, head.cylinder), head.image)
    assert found.mean_mm < 0.01 and found.covered == 1.0 and found.is_left and min(found.others_mean_mm) > 1.0
    assert "keeps its shape" in found.sentence


@pytest.mark.slow
@pytest.mark.parametrize("fill", ["smooth", "face"])
def test_another_skin_has_another_shape(head, others, fill):
    face = own_face(head.image, others, head.cylinder)
    found = facial_shape(face, deface(head.image, DefaceParameters(fill=fill, seed=1)).image)
    assert not found.is_left and found.mean_mm > 1.5 and found.p95_mm > 5.0 and "keeps" not in found.sentence


@pytest.mark.slow
def test_a_face_replaced_by_its_own_smoothed_self_is_caught(head, others):
    """No detector need say so: what was taken for a new skin is the old one, blurred."""
    pose = head_pose(head.image)
    for sigma_mm in (2.0, 4.0):
        blurred = poor_defacings.blurred(head.image, pose, sigma_mm)
        assert facial_shape(own_face(head.image, others, head.cylinder), blurred).is_left


def test_where_there_is_nothing_to_measure(head):
    emptied = sitk.Cast(head.image * 0 - 1000, sitk.sitkInt16)
    assert facial_shape(own_face(head.image, [], head.cylinder), emptied) is None
    assert own_face(emptied, []) is None
    alone = facial_shape(own_face(head.image, [emptied], head.cylinder), head.image)
    assert alone.part_of_others is None and not alone.is_left and "other people" not in alone.sentence


@pytest.mark.slow
def test_the_faces_that_come_along_are_those_of_the_script():
    with np.load(library.OTHER_FACES) as kept:
        skin, depth_mm, eye_height = make_other_faces.face_of(make_other_faces.PEOPLE[0])
        assert kept["skin"].shape == (len(make_other_faces.PEOPLE), *skin.shape)
        assert (
            np.nanmax(np.abs(kept["skin"][0] - skin)) < 0.5 and np.isnan(kept["skin"][0]).sum() == np.isnan(skin).sum()
        )
        assert (kept["depth_mm"][0], kept["eye_height"][0]) == pytest.approx((depth_mm, eye_height), abs=0.5)
    assert [face.n > 10_000 for face in library.synthetic_faces()] == [True] * len(make_other_faces.PEOPLE)


def test_the_sentence_tells_ranges():
    found = FacialShape(3.0, 9.5, (2.8, 4.0), (8.0, 12.0), 1.0)
    assert found.part_of_others == pytest.approx(3.0 / 3.4)
    assert "3.0 mm" in found.sentence and "2.8 to 4.0 mm" in found.sentence and "2 other people" in found.sentence
