"""The synthetic head CT: grid, tissues, ground truth, pose, field of view, artefacts, and does it pass for a face."""

import dataclasses
from functools import lru_cache

import numpy as np
import phantom_cases
import pytest
import SimpleITK as sitk
from CTDefaceLib import render
from CTDefaceLib.errors import CTDefaceError, InputError
from CTDefaceLib.phantom import FIELDS_OF_VIEW, Label, PhantomParameters, make_phantom
from scipy import ndimage
from stored_phantoms import stored_phantom

COARSE = dict(matrix=(96, 96), spacing=(2.6, 2.6, 3.0))
FINE = dict(matrix=(160, 160), spacing=(1.5, 1.5, 1.5))


@lru_cache(maxsize=12)
def phantom(**changes):
    return stored_phantom(PhantomParameters(**{**COARSE, **changes}))


def voxels(image):
    return sitk.GetArrayViewFromImage(image)


def labelled(head, *labels):
    return np.isin(voxels(head.labels), labels)


def middle(head, *labels):
    """Middle of the labelled voxels in LPS mm."""
    index = np.argwhere(labelled(head, *labels)).mean(0)[::-1]
    return np.array(head.labels.TransformContinuousIndexToPhysicalPoint(index.tolist()))


def value_at(image, point):
    return image[image.TransformPhysicalPointToIndex([float(v) for v in point])]


# ------------------------------------------------------------------------------------------------------------- grid


def test_default_is_a_head_ct_in_hounsfield_units():
    head = phantom(**FINE)
    assert head.image.GetPixelID() == sitk.sitkInt16
    assert head.image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    assert head.image.GetSpacing() == (1.5, 1.5, 1.5)
    assert head.labels.GetPixelID() == sitk.sitkUInt8
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(head.image, get)() == getattr(head.labels, get)()
    assert -1024 <= voxels(head.image).min() < -990
    assert 1500 < voxels(head.image).max() <= 3071


def test_same_parameters_give_the_same_voxels():
    again = make_phantom(PhantomParameters(**COARSE))
    assert np.array_equal(voxels(phantom().image), voxels(again.image))
    assert np.array_equal(voxels(phantom().labels), voxels(again.labels))


def test_another_seed_is_another_scan_of_the_same_head():
    other = phantom(seed=1)
    assert np.array_equal(voxels(phantom().labels), voxels(other.labels))
    difference = voxels(phantom().image).astype(float) - voxels(other.image)
    assert 1 < difference.std() < 20
    assert phantom().landmarks == other.landmarks


def test_another_person_is_another_head():
    tips = np.array([phantom(person=person).landmarks["nose_tip"] for person in range(4)])
    assert (np.linalg.norm(tips[:, None] - tips, axis=-1)[~np.eye(4, dtype=bool)] > 0.5).all()


def test_work_in_slabs_does_not_show(monkeypatch):
    from CTDefaceLib.phantom import scan as module

    monkeypatch.setattr(module, "_VOXELS_AT_ONCE", 5 * 96 * 96)
    slabs = make_phantom(PhantomParameters(**COARSE))
    same = voxels(slabs.image) == voxels(phantom().image)
    assert same.mean() > 0.9999
    assert np.abs(voxels(slabs.image).astype(int) - voxels(phantom().image)).max() <= 1


def test_thick_slices_average_what_thin_slices_show():
    thin = phantom(spacing=(2.6, 2.6, 1.0), noise=0, holder=False)
    thick = phantom(spacing=(2.6, 2.6, 5.0), noise=0, holder=False)
    z = [thick.image.TransformIndexToPhysicalPoint((0, 0, k))[2] for k in range(10, 30)]
    first = [round((v - thin.image.GetOrigin()[2]) - 2) for v in z]
    averages = np.stack([voxels(thin.image)[k : k + 5].mean(0) for k in first])
    difference = averages - voxels(thick.image)[10:30]
    assert np.abs(difference).mean() < 12


@pytest.mark.parametrize(
    "wrong",
    [dict(field_of_view="feet"), dict(matrix=(4, 4)), dict(spacing=(1, 0, 1))],
    ids=lambda wrong: next(iter(wrong)),
)
def test_impossible_parameters_are_refused(wrong):
    with pytest.raises(InputError):
        PhantomParameters(**wrong)


# ---------------------------------------------------------------------------------------------------------- tissues


@pytest.mark.parametrize(
    "label, low, high",
    [
        (Label.AIR, -1005, -995),
        (Label.FAT, -110, -70),
        (Label.SOFT, 30, 70),
        (Label.BONE, 400, 1300),
        (Label.INTRACRANIAL, 25, 42),
        (Label.AIRWAY, -1005, -900),
        (Label.HOLDER, -965, 100),
    ],
    ids=lambda value: value.name if isinstance(value, Label) else "",
)
def test_tissues_have_their_hounsfield_units(label, low, high):
    head = phantom(**FINE)
    inside = ndimage.binary_erosion(labelled(head, label))
    assert inside.any()
    assert low <= np.median(voxels(head.image)[inside]) <= high


def test_skin_covers_the_head():
    head = phantom(**FINE)
    tissue = ndimage.binary_dilation(labelled(head, Label.FAT, Label.SOFT, Label.BONE, Label.INTRACRANIAL))
    skin = labelled(head, Label.SKIN, Label.FACE_SKIN)
    outer = tissue & ndimage.binary_dilation(labelled(head, Label.AIR)) & ~labelled(head, Label.AIR)
    outer[[0, -1]] = False
    assert skin[outer].mean() > 0.97


def test_noise_looks_like_a_reconstruction_kernel():
    head = phantom(matrix=(256, 256), spacing=(1.0, 1.0, 6.0), holder=False)
    corner = voxels(head.image)[5:-5, 8:40, 8:40].astype(float)
    corner -= corner.mean()
    assert 1 < corner.std() < 6
    neighbours = (corner[..., 1:] * corner[..., :-1]).mean() / corner.var()
    next_but_one = (corner[..., 2:] * corner[..., :-2]).mean() / corner.var()
    assert 0.3 < neighbours < 0.6
    assert abs(next_but_one) < 0.15
    brain = ndimage.binary_erosion(labelled(head, Label.INTRACRANIAL), iterations=5)
    assert voxels(head.image)[brain].std() > 2 * corner.std()


# ----------------------------------------------------------------------------------------------------- ground truth


@pytest.mark.parametrize("person, child", [(0, False), (3, False), (8, False), (5, True)])
def test_intracranial_space_is_enclosed_by_bone(person, child):
    head = phantom(person=person, child=child, **FINE)
    inside = labelled(head, Label.INTRACRANIAL)
    millilitres = inside.sum() * 1.5**3 / 1000
    assert (800 if child else 1100) < millilitres < 1900
    assert ndimage.label(inside)[1] == 1
    shell = ndimage.binary_dilation(inside) & ~inside
    assert np.isin(voxels(head.labels)[shell], (Label.BONE, Label.SOFT)).mean() > 0.995
    lowest = np.argwhere(inside)[:, 0].min()
    assert labelled(head, Label.BONE)[lowest + 4 :][shell[lowest + 4 :]].mean() > 0.99, "but for the foramen magnum"
    distance = ndimage.distance_transform_edt(~inside) * 1.5
    assert distance[labelled(head, Label.SKIN, Label.FACE_SKIN)].min() > 6


def test_masks_have_the_grid_of_the_volume():
    head = phantom()
    for mask in (head.intracranial, head.face_skin, head.mask(Label.BONE, Label.SOFT)):
        assert mask.GetPixelID() == sitk.sitkUInt8
        assert mask.GetSize() == head.image.GetSize() and mask.GetOrigin() == head.image.GetOrigin()
        assert set(np.unique(voxels(mask))) == {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize("pose", [dict(), dict(yaw=25, pitch=-15, roll=10)], ids=["straight", "turned"])
@pytest.mark.parametrize("name", ["nasion", "nose_tip", "upper_lip", "chin"])
def test_landmarks_lie_on_the_skin(name, pose):
    head = phantom(**FINE, noise=0.0, **pose)
    point, back = np.array(head.landmarks[name]), head.axes[1]
    assert value_at(head.image, point + 4 * back) > -300
    assert value_at(head.image, point - 5 * back) < -900


def test_landmarks_have_the_proportions_of_a_head():
    marks = {name: np.array(point) for name, point in phantom().landmarks.items()}
    assert 120 < np.linalg.norm(marks["left_tragus"] - marks["right_tragus"]) < 165
    assert 50 < np.linalg.norm(marks["left_eye"] - marks["right_eye"]) < 75
    assert 90 < marks["nasion"][2] - marks["chin"][2] < 135
    assert 165 < marks["occiput"][1] - marks["nasion"][1] < 225
    assert abs(value_at(phantom(**FINE, noise=0.0).image, marks["left_eye"]) - 12) < 30


def test_a_child_has_a_large_cranium_beside_the_face():
    def ratio(head):
        z = {name: point[2] for name, point in head.landmarks.items()}
        return (z["vertex"] - z["nasion"]) / (z["nasion"] - z["chin"])

    for person in (1, 2):
        child, adult = phantom(person=person, child=True), phantom(person=person)
        assert ratio(child) > 1.1 * ratio(adult)
        assert labelled(child, Label.INTRACRANIAL).sum() < labelled(adult, Label.INTRACRANIAL).sum()


# ------------------------------------------------------------------------------------------------------------- pose


@pytest.mark.parametrize(
    "pose, axis, sign",
    [
        (dict(yaw=25), 0, 1),
        (dict(yaw=-25), 0, -1),
        (dict(pitch=25), 2, 1),
        (dict(pitch=-25), 2, -1),
    ],
    ids=["left", "right", "up", "down"],
)
def test_yaw_and_pitch_turn_the_face(pose, axis, sign):
    def towards_face(head):
        return middle(head, Label.FACE_SKIN) - middle(head, Label.INTRACRANIAL)

    moved = (towards_face(phantom(**pose)) - towards_face(phantom()))[axis]
    assert sign * moved > 20


def test_roll_leans_the_head_to_the_left():
    marks = phantom(roll=20).landmarks
    up = np.subtract(marks["vertex"], np.add(marks["left_tragus"], marks["right_tragus"]) / 2)
    assert np.degrees(np.arctan2(up[0], up[2])) == pytest.approx(20, abs=2)


@pytest.mark.parametrize("pose", [dict(yaw=30), dict(pitch=-30), dict(yaw=-20, pitch=15, roll=-25)], ids=str)
def test_axes_belong_to_the_landmarks(pose):
    head = phantom(**pose)
    assert head.axes @ head.axes.T == pytest.approx(np.eye(3), abs=1e-9)
    left = np.subtract(head.landmarks["left_tragus"], head.landmarks["right_tragus"])
    assert head.axes[0] @ left / np.linalg.norm(left) > 0.999
    face = np.subtract(head.landmarks["nasion"], head.landmarks["occiput"])
    assert head.axes[1] @ face / np.linalg.norm(face) < -0.97


@pytest.mark.parametrize("pose", [dict(), dict(yaw=30), dict(pitch=30), dict(pitch=-30), dict(roll=30)], ids=str)
def test_the_whole_head_is_in_view(pose):
    body = labelled(phantom(**pose), *(set(Label) - {Label.AIR, Label.HOLDER}))
    for axis in (1, 2):
        assert not body.take([0, -1], axis=axis).any()
    assert not body[-1].any()


def test_position_moves_the_head_and_its_holder():
    still, moved = phantom(), phantom(position=(20, -10))
    assert middle(moved, Label.INTRACRANIAL) - middle(still, Label.INTRACRANIAL) == pytest.approx([20, -10, 0], abs=1)
    assert middle(moved, Label.HOLDER)[0] > middle(still, Label.HOLDER)[0] + 10


# ----------------------------------------------------------------------------------------------------- field of view


def in_view(head, name):
    z = [head.image.TransformIndexToPhysicalPoint((0, 0, k))[2] for k in (0, head.image.GetSize()[2] - 1)]
    return z[0] < head.landmarks[name][2] < z[1]


@pytest.mark.parametrize(
    "field_of_view, inside, outside",
    [
        ("head", ["vertex", "nasion", "chin"], []),
        ("upper_lip", ["vertex", "nasion", "nose_tip"], ["chin"]),
        ("orbits", ["vertex", "nasion", "left_eye"], ["nose_tip", "chin"]),
        ("no_vertex", ["nasion", "chin"], ["vertex"]),
        ("neck", ["vertex", "chin"], []),
        ("above_orbits", ["vertex"], ["nasion", "left_eye", "chin"]),
    ],
    ids=FIELDS_OF_VIEW,
)
@pytest.mark.parametrize("pitch", [0, 20])
def test_field_of_view_cuts_where_it_says(field_of_view, inside, outside, pitch):
    head = phantom(field_of_view=field_of_view, pitch=pitch)
    assert [name for name in inside if not in_view(head, name)] == []
    assert [name for name in outside if in_view(head, name)] == []
    assert bool(labelled(head, Label.FACE_SKIN).any()) == (field_of_view != "above_orbits")


def test_neck_reaches_the_shoulders():
    bottom = labelled(phantom(field_of_view="neck"), Label.SOFT)[0]
    assert np.ptp(np.argwhere(bottom)[:, 1]) * 2.6 > 200


# -------------------------------------------------------------------------------------------------------- artefacts


def test_padding_fills_the_corners_and_nothing_else():
    head, plain = phantom(padding=-2048), phantom()
    padded = voxels(head.image) == -2048
    assert padded[:, 0, 0].all() and not padded[:, 48, 48].any()
    assert padded.mean() == pytest.approx(1 - np.pi / 4, abs=0.02)
    assert np.array_equal(voxels(head.image)[~padded], voxels(plain.image)[~padded])
    assert not voxels(head.labels)[padded].any()


def test_clipping_is_a_parameter():
    assert voxels(phantom(clip=-1000).image).min() == -1000


def test_holder_can_be_left_out():
    assert labelled(phantom(), Label.HOLDER).any()
    assert not labelled(phantom(holder=False), Label.HOLDER).any()


def test_metal_makes_streaks_at_the_teeth_only():
    head, plain = phantom(metal=1.0), phantom()
    assert voxels(head.image).max() == 3071
    change = np.abs(voxels(head.image).astype(int) - voxels(plain.image)).max((1, 2))
    teeth = np.argwhere(labelled(head, Label.DEVICE))[:, 0]
    assert change[teeth.min()] > 200
    assert change[teeth.max() + 8 :].max() == 0


@pytest.mark.slow
def test_tube_runs_from_outside_into_the_windpipe():
    head = phantom(**{**FINE, "matrix": (176, 176)}, tube=True, jaw_open=8, field_of_view="neck")
    tube = labelled(head, Label.DEVICE)
    z, y, _ = np.argwhere(tube).T
    point = head.image.TransformPhysicalPointToIndex(head.landmarks["upper_lip"])
    assert y.min() < point[1] - 5, "starts in front of the lips"
    assert z.min() < point[2] - 40, "ends below them"
    wall = voxels(head.image)[tube]
    assert wall.min() < -900 and wall.max() > 0


def test_open_mouth_lowers_the_chin():
    assert phantom(jaw_open=12).landmarks["chin"][2] < phantom().landmarks["chin"][2] - 8
    assert phantom(jaw_open=12).landmarks["nose_tip"][2] == pytest.approx(phantom().landmarks["nose_tip"][2], abs=0.1)


def test_craniectomy_leaves_brain_without_bone():
    head, plain = phantom(craniectomy=True), phantom()
    missing = labelled(plain, Label.BONE) & ~labelled(head, Label.BONE)
    assert 15 < missing.sum() * np.prod(head.image.GetSpacing()) / 1000 < 80
    assert np.array_equal(labelled(head, Label.INTRACRANIAL), labelled(plain, Label.INTRACRANIAL))
    shell = ndimage.binary_dilation(labelled(head, Label.INTRACRANIAL)) & missing
    assert shell.any()


def test_contrast_brightens_vessels():
    brain = ndimage.binary_erosion(labelled(phantom(), Label.INTRACRANIAL), iterations=2)
    assert (voxels(phantom(contrast=True).image)[brain] > 150).sum() > 50
    assert (voxels(phantom().image)[brain] > 150).sum() == 0


def test_noise_is_a_parameter():
    brain = ndimage.binary_erosion(labelled(phantom(), Label.INTRACRANIAL), iterations=3)
    clean, noisy = voxels(phantom(noise=0.0).image), voxels(phantom(noise=30.0).image)
    assert (noisy.astype(float) - clean)[brain].std() == pytest.approx(30, rel=0.3)


# ------------------------------------------------------------------------------------------------------------ cases


def test_acceptance_cases_are_twenty_different_heads():
    cases = phantom_cases.CASES.values()
    assert len(cases) >= 20
    assert len({case.person for case in cases}) == len(cases)
    assert {case.field_of_view for case in cases} == set(FIELDS_OF_VIEW) - {"above_orbits"}
    assert min(case.spacing[2] for case in cases) <= 0.4 and max(case.spacing[2] for case in cases) >= 6
    for artefact in ("child", "metal", "jaw_open", "tube", "craniectomy", "contrast", "padding"):
        assert any(getattr(case, artefact) for case in cases), artefact


@pytest.mark.parametrize("name", phantom_cases.CASES)
def test_acceptance_cases_show_a_face(name):
    case = phantom_cases.CASES[name]
    width, height = (n * s for n, s in zip(case.matrix, case.spacing))
    coarse = dict(matrix=(64, 64), spacing=(width / 64, height / 64, max(case.spacing[2], 6.0)), thickness=1.0)
    head = stored_phantom(dataclasses.replace(case, **coarse))
    assert labelled(head, Label.FACE_SKIN).sum() * np.prod(head.image.GetSpacing()) > 3000
    face = labelled(head, Label.FACE_SKIN)
    for axis in (1, 2):
        assert not face.take([0, -1], axis=axis).any(), "the face lies inside the field of view"


# --------------------------------------------------------------------------------------------------- face detectors


@lru_cache(maxsize=1)
def renderer():
    return render.Renderer()


@lru_cache(maxsize=8)
def surface(**changes):
    """Skin of a phantom, its axes and the middle of its face."""
    head = phantom(matrix=(160, 160), spacing=(1.5, 1.5, 1.8), holder=False, **changes)
    ears = np.add(head.landmarks["left_tragus"], head.landmarks["right_tragus"]) / 2
    return render.skin_surface(head.image), head.axes, (ears + head.landmarks["nose_tip"]) / 2


def picture(azimuth, elevation, size, **changes):
    """Picture of a phantom from an angle to its head."""
    skin, axes, center = surface(**changes)
    return renderer().picture(skin, azimuth, elevation, size=size, axes=axes, center=center)


def face_model(name):
    from CTDefaceEvalLib.face_models import load_model

    try:
        return load_model(name)
    except CTDefaceError as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dlib-hog", "dlib-cnn"])
def test_detectors_find_the_face_of_most_phantoms(name):
    model = face_model(name)
    found = [
        bool(model.detect(picture(yaw, pitch, model.picture_size, person=person)))
        for person in range(3)
        for yaw, pitch in ((0, 0), (30, 0), (-30, 0), (0, 15))
    ]
    assert np.mean(found) >= 0.75


@pytest.mark.slow
def test_embeddings_tell_the_people_apart():
    model = face_model("dlib-cnn")

    def embedding(**changes):
        front = picture(0, 0, 300, **changes)
        return model.embed(front, model.detect(front)[0])

    first = [embedding(person=person) for person in range(3)]
    second = [embedding(person=person, seed=1, yaw=5, pitch=-3) for person in range(3)]
    distance = np.linalg.norm(np.array(first)[:, None] - np.array(second), axis=-1)
    same = np.eye(3, dtype=bool)
    assert distance[same].max() < distance[~same].min()
