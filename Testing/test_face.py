"""The built-in segmenter: the face from above the eyebrows to below the chin, from ear to ear, and nothing else."""

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import case, intracranial, scan, small_view, voxels
from CTDefaceLib.anatomy.face_map import head_cylinder
from CTDefaceLib.anatomy.landmarks import HIGH_EYES_MM
from CTDefaceLib.anatomy.map_grid import HEIGHTS
from CTDefaceLib.errors import NoFaceError
from CTDefaceLib.phantom import Label
from CTDefaceLib.segmenters.builtin import segment_face
from phantom_cases import CASES
from scipy import ndimage

WHOLE_FACE = [name for name, p in CASES.items() if p.field_of_view in ("head", "neck", "no_vertex")]


def in_head(s, points):
    """Points in LPS mm along the phantom's true axes, from the middle between its ears: left, back, up."""
    middle = np.mean([s.phantom.landmarks[f"{side}_tragus"] for side in ("left", "right")], axis=0)
    return (np.asarray(points) - middle) @ s.phantom.axes.T


def mask_points(s):
    index = np.argwhere(voxels(s.face))[:, ::-1]
    return in_head(s, index * s.image.GetSpacing() + s.image.GetOrigin())


def landmark(s, name):
    return in_head(s, s.phantom.landmarks[name])


@pytest.mark.parametrize("name", CASES)
def test_face_is_found_in_every_case(name):
    s = case(name)
    mask, skin = voxels(s.face) > 0, s.labelled(Label.FACE_SKIN)
    assert s.face.GetPixelID() == sitk.sitkUInt8 and voxels(s.face).max() == 1
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(s.face, get)() == getattr(s.image, get)()
    assert (mask & skin).sum() > 0.8 * skin.sum()
    assert not (mask & s.labelled(Label.INTRACRANIAL)).any()
    assert not (mask & intracranial(s.cylinder.head, s.image)).any()
    assert s.hu[mask].min() > -500, "only tissue"
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    assert np.bincount(pieces.ravel())[1:].max() > 0.95 * mask.sum()


@pytest.mark.parametrize("name", WHOLE_FACE)
def test_from_above_the_brows_to_below_the_chin_and_from_ear_to_ear(name):
    s = case(name)
    points = mask_points(s)
    for feature in ("nose_tip", "upper_lip", "chin", "nasion"):
        assert np.linalg.norm(points - landmark(s, feature), axis=1).min() < 5, feature
    height = points[:, 2]
    front = points[np.abs(points[:, 0]) < 25]
    assert front[:, 2].max() > landmark(s, "nasion")[2] + 12
    assert height.max() < landmark(s, "vertex")[2] - 25
    assert height.min() < landmark(s, "chin")[2] + 2
    assert height.min() > landmark(s, "chin")[2] - 60
    eye = landmark(s, "left_eye")[0]
    assert points[:, 0].max() > 1.5 * eye and points[:, 0].min() < -1.5 * eye
    assert np.percentile(points[:, 1], 99.5) < 25, "nothing behind the ears"
    assert (points[:, 0] > 0).mean() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("name", CASES)
def test_height_of_the_eyes(name):
    s = case(name)
    head = s.cylinder.head
    eyes = [head.to_head(np.array(s.phantom.landmarks[f"{side}_eye"]))[2] for side in ("left", "right")]
    assert s.cylinder.landmarks.eye_height == pytest.approx(np.mean(eyes), abs=6.0)


def test_eyes_out_of_view_count_as_high_ones():
    assert scan(field_of_view="above_orbits").cylinder.landmarks.eye_height == HIGH_EYES_MM


def test_the_end_of_the_volume_is_no_skin():
    cylinder = case("cut_at_orbits").cylinder
    cut = (cylinder.skin > 0) & ~cylinder.skin_in_view
    assert cut.any() and cylinder.skin_in_view.any()
    end = cylinder.points(cylinder.skin)[cut][:, 2] - cylinder.head.volume.GetOrigin()[2]
    assert np.median(end) < 6.0


@pytest.mark.parametrize("padding", [-1024, -2048])
def test_the_edge_of_a_round_field_of_view_is_no_skin(padding):
    s = scan(person=1, padding=padding, position=(40, -36))
    cylinder = s.cylinder
    middle = (np.array(s.image.GetSize()[:2]) - 1) / 2 * s.image.GetSpacing()[:2] + s.image.GetOrigin()[:2]
    within = 128.0 - np.linalg.norm(cylinder.points(cylinder.skin)[..., :2] - middle, axis=-1)
    here = (cylinder.skin > 0) & (HEIGHTS > -60)[:, None]
    assert (here & (within < 7.0)).sum() > 200
    assert cylinder.skin_in_view[here & (within < 7.0)].mean() < 0.02
    assert cylinder.skin_in_view[here & (within > 15.0)].mean() > 0.98


@pytest.mark.parametrize("name", ["frontal", "neck", "near_the_edge", "open_mouth_tube"])
def test_holder_is_no_face(name):
    s = case(name)
    assert not (voxels(s.face) > 0)[s.labelled(Label.HOLDER)].any()


POSES = [dict(), dict(yaw=25), dict(pitch=15), dict(pitch=-20), dict(roll=-20), dict(yaw=-15, roll=10)]


@pytest.mark.slow
@pytest.mark.parametrize("person", [0, 11])
@pytest.mark.parametrize("pose", POSES, ids=str)
def test_no_face_in_view(pose, person):
    s = scan(field_of_view="above_orbits", person=person, **pose)
    with pytest.raises(NoFaceError):
        segment_face(s.image, head_cylinder(s.image))


@pytest.mark.slow
@pytest.mark.parametrize("padding", [-1024, -3024])
@pytest.mark.parametrize("radius_mm, forward_mm", [(40, 0), (60, -40), (75, -30)])
def test_no_face_in_a_small_round_view_of_the_brain(radius_mm, forward_mm, padding):
    image, _ = small_view(scan(person=4), radius_mm, forward_mm, padding)
    cylinder = head_cylinder(image)
    with pytest.raises(NoFaceError, match="behind the face"):
        segment_face(image, cylinder)


@pytest.mark.slow
@pytest.mark.parametrize("person", [0, 11, 22])
@pytest.mark.parametrize("pose", POSES, ids=str)
def test_eyes_at_the_end_of_the_volume_are_a_face(pose, person):
    s = scan(field_of_view="orbits", person=person, **pose)
    skin = s.labelled(Label.FACE_SKIN)
    assert (voxels(s.region()) > 0)[skin].mean() > 0.8


def test_same_face_however_the_grid_is_laid():
    s = case("turned_left")
    image = sitk.Flip(sitk.PermuteAxes(s.image, (2, 0, 1)), (True, False, True))
    other = sitk.Resample(
        segment_face(image, head_cylinder(image)), s.image, sitk.Transform(), sitk.sitkNearestNeighbor
    )
    both = (voxels(other) & voxels(s.face)).sum()
    assert 2 * both > 0.96 * (voxels(other).sum() + voxels(s.face).sum())


@pytest.mark.parametrize("scale", [0.9, 0.8, 0.7])
def test_a_small_head_has_a_small_face(scale):
    s = scan()
    small = sitk.Image(s.image)
    small.SetSpacing([scale * spacing for spacing in s.image.GetSpacing()])
    face = voxels(segment_face(small, head_cylinder(small)))
    both = (face * voxels(s.face)).sum()
    assert 2 * both > 0.8 * (face.sum() + voxels(s.face).sum())


def test_size_does_not_hang_on_the_voxels():
    volumes = []
    for spacing, matrix in (((1.2, 1.2, 5.0), 214), ((2.0, 2.0, 2.0), 128), ((2.5, 2.5, 1.0), 104)):
        s = scan(spacing=spacing, matrix=(matrix, matrix))
        volumes.append(voxels(s.face).sum() * np.prod(spacing))
    assert np.ptp(volumes) < 0.15 * np.mean(volumes)
