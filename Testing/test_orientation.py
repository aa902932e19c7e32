"""Which way the head lies is found from the head; a face that is left is never left in silence."""

import os
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from coarse_phantoms import case, mask_of, scan, voxels
from CTDefaceLib import pipeline, segmenters
from CTDefaceLib.anatomy import head as head_module
from CTDefaceLib.anatomy.head import find_head
from CTDefaceLib.anatomy.orientation import Orientation, turned_array, turned_volume, turns
from CTDefaceLib.anatomy.sight import directions
from CTDefaceLib.dicom.deface import deface_series, is_checked
from CTDefaceLib.errors import CTDefaceError, InputError
from CTDefaceLib.phantom import Label
from CTDefaceLib.pipeline import DefaceParameters, deface
from CTDefaceLib.removal.check import eyes_and_nose
from dicom_files import write_series
from hypothesis import given, settings
from hypothesis import strategies as st
from phantom_cases import CASES

WRONG = "orientation in the file is wrong"
LEFT = "the face may be left"
ON_ITS_SIDE, OTHER_SIDE = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
PRONE = np.diag([1, -1, -1])
FEET_FIRST = np.diag([-1, -1, 1])
UPRIGHT_AS_AXIAL = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]])
LYING = {
    "right side first": ON_ITS_SIDE,
    "left side first": OTHER_SIDE,
    "prone, or back to front": PRONE,
    "feet first": FEET_FIRST,
    "upright slices stored as axial": UPRIGHT_AS_AXIAL,
}


def lie(image, turn):
    """The same voxels in a file that has them lie otherwise."""
    turned = turned_volume(image, turn)
    turned.SetDirection(np.eye(3).ravel().tolist())
    turned.SetOrigin((0.0, 0.0, 0.0))
    return turned


def flipped(image, *axes):
    """The same geometry, and voxels in wrong order along some axes (0 for slices, 1 for rows, 2 for columns)."""
    other = sitk.GetImageFromArray(np.ascontiguousarray(np.flip(voxels(image), axes)))
    other.CopyInformation(image)
    return other


def face_gone(s, image, result, change):
    """Share of the face's skin that was removed; ``change`` brings the labels to where the image is."""
    skin = voxels(change(mask_of(s.labelled(Label.FACE_SKIN), s.image))) > 0
    return np.mean(voxels(result.region)[skin] > 0)


# ---------------------------------------------------------------------------------------------------------- the means


def test_directions_are_those_of_a_grid_that_can_be_turned():
    assert np.allclose(np.linalg.norm(directions(), axis=1), 1.0)
    for turn in turns():
        distance = np.linalg.norm((directions() @ turn.T)[:, None] - directions(), axis=2)
        assert (distance.min(axis=1) < 1e-9).all()


@pytest.mark.parametrize("number", range(24))
def test_a_turned_volume_stays_where_it_is(number):
    turn = turns()[number]
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32))
    image.SetSpacing((3.0, 3.0, 3.0))
    image.SetOrigin((10.0, -20.0, 30.0))
    turned = turned_volume(image, turn)
    assert np.array_equal(voxels(turned), turned_array(voxels(image), turn))
    point = turned.TransformIndexToPhysicalPoint((1, 2, 3))
    assert image[image.TransformPhysicalPointToIndex(point)] == turned[1, 2, 3]
    direction = np.reshape(turned.GetDirection(), (3, 3))
    assert np.linalg.det(direction) == pytest.approx(1)
    assert np.allclose(direction.T[::-1, ::-1], turn), "rows are top, back and left"


# ------------------------------------------------------------------------------------------- the right way up is right


@pytest.mark.parametrize("name", CASES)
def test_the_right_way_up_is_never_doubted(name):
    orientation = case(name).cylinder.head.orientation
    assert not orientation.turned and orientation.clear
    assert orientation.lead == pytest.approx(sum(orientation.evidence.values()))
    assert "air of nose, sinuses and mastoids" in orientation.evidence


@pytest.mark.parametrize("name", ["frontal", "cut_at_orbits", "no_vertex", "child"])
def test_eyes_and_nose_are_found_without_axes(name):
    s = case(name)
    found = s.cylinder.head.to_head(eyes_and_nose(s.cylinder.head))
    assert len(found) >= 10
    assert (np.abs(found[:, 0]) < 75).all() and np.mean(found[:, 1] < 40) > 0.9, "in the face"
    turned = find_head(lie(s.image, ON_ITS_SIDE))
    assert abs(len(eyes_and_nose(turned)) - len(found)) <= 0.1 * len(found) + 2


# --------------------------------------------------------------------------------------------- otherwise than the file


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frontal", "brain_fov", "cut_at_orbits", "no_vertex", "leaning"])
@pytest.mark.parametrize("lying", LYING)
def test_a_head_that_lies_otherwise_loses_its_face_and_it_is_said(name, lying):
    s, turn = case(name), LYING[lying]
    image = lie(s.image, turn)
    before = sitk.Image(image)
    result = deface(image, DefaceParameters(seed=1))
    assert np.array_equal(voxels(before), voxels(image))
    assert face_gone(s, image, result, lambda mask: lie(mask, turn)) > 0.9
    assert result.report["intracranial_voxels_touched"] == 0
    assert any(WRONG in warning for warning in result.report["warnings"])
    assert not any(LEFT in warning for warning in result.report["warnings"])
    assert not is_checked(result.report)
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(result.image, get)() == getattr(result.mask, get)() == getattr(image, get)()


def test_the_warning_says_how_it_lies():
    (told,) = deface(lie(case("frontal").image, UPRIGHT_AS_AXIAL)).report["warnings"]
    assert "faces what the file calls the" in told
    head = find_head(lie(case("frontal").image, FEET_FIRST))
    assert (head.facing, head.topped) == ("back", "feet")


@pytest.mark.parametrize("axis, said", [(0, True), (1, True), (2, False)])
@pytest.mark.parametrize("name", ["frontal", "near_the_edge"])
def test_a_converter_that_flips_an_axis(name, axis, said):
    """The mirror image of a head is a head: left and right of it cannot be told, front and top can."""
    s = case(name)
    image = flipped(s.image, axis)
    result = deface(image, DefaceParameters(seed=1))
    assert face_gone(s, image, result, lambda mask: flipped(mask, axis)) > 0.9
    assert any(WRONG in warning for warning in result.report["warnings"]) == said


@pytest.mark.slow
@settings(max_examples=int(os.environ.get("CTDEFACE_EXAMPLES", 8)), deadline=None)
@given(
    st.sampled_from(["frontal", "brain_fov", "chin_up", "turned_right", "craniectomy", "thick_slices", "child"]),
    st.integers(0, 23),
    st.booleans(),
    st.tuples(*[st.integers(0, 12)] * 6),
    st.tuples(*[st.sampled_from([1, 2])] * 3),
)
def test_whatever_the_turn_the_crop_and_the_spacing(name, number, mirrored, crop, coarser):
    """The face is gone, or a warning or an error says what is wrong."""
    s, turn = case(name), turns()[number]

    def changed(image):
        size = image.GetSize()
        box = tuple(slice(low, n - high) for low, high, n in zip(crop[:3], crop[3:], size))
        image = lie(image[box][tuple(slice(None, None, step) for step in coarser)], turn)
        return flipped(image, 2) if mirrored else image

    image = changed(s.image)
    try:
        result = deface(image, DefaceParameters(seed=1))
    except CTDefaceError as error:
        assert number > 0, f"refused the right way up: {error}"
        return
    assert face_gone(s, image, result, changed) > 0.85 or result.report["warnings"]
    upright = number == 0
    assert any(WRONG in warning for warning in result.report["warnings"]) != upright or not result.report["warnings"]


def test_a_model_is_given_the_head_the_right_way_up(monkeypatch):
    seen = {}

    def segment(image, cylinder, *others):
        seen.update(axes=cylinder.head.axes, image=image)
        return segmenters.module("builtin").segment(image, cylinder, *others)

    s = case("frontal")
    image = lie(s.image, UPRIGHT_AS_AXIAL)
    others = SimpleNamespace(
        Choice=segmenters.Choice, check_ready=lambda *choice: None, module=lambda name: SimpleNamespace(segment=segment)
    )
    monkeypatch.setattr(pipeline, "segmenters", others)
    mask, _ = pipeline.segment(image)
    assert np.abs(seen["axes"] - s.phantom.axes).max() < 0.3
    nose = np.array(s.phantom.landmarks["nose_tip"]) - s.phantom.landmarks["occiput"]
    assert nose[1] < 0
    assert sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(seen["image"].GetDirection()) != "LPS"
    assert mask.GetDirection() == image.GetDirection()
    expected = voxels(lie(s.face, UPRIGHT_AS_AXIAL)) > 0
    assert np.mean(voxels(mask)[expected] > 0) > 0.95


# ------------------------------------------------------------------------------------------- the check that can fail


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frontal", "brain_fov", "child", "turned_left"])
@pytest.mark.parametrize("lying", LYING)
def test_were_the_file_believed_the_check_would_fail(name, lying, monkeypatch):
    """What is removed and what it is checked by do not rest on the same assumption."""

    def believe_the_file(sight):
        return Orientation(np.eye(3, dtype=int), False, 9.0, {}, 60.0)

    monkeypatch.setattr(head_module, "find_orientation", believe_the_file)
    try:
        report = deface(lie(case(name).image, LYING[lying]), DefaceParameters(seed=1)).report
    except CTDefaceError:
        return
    assert report["warnings"] and not is_checked(report)


def test_a_mask_elsewhere_is_no_mask_of_the_face():
    s = case("frontal")
    back = s.labelled(Label.SKIN) & (np.indices(s.hu.shape)[1] > 0.7 * s.hu.shape[1])
    report = deface(s.image, DefaceParameters(as_is=True), mask=mask_of(back, s.image)).report
    assert report["facial_skin_covered"] < 0.1
    assert any(LEFT in warning for warning in report["warnings"])


def test_a_head_that_cannot_be_checked_is_told(monkeypatch):
    monkeypatch.setattr("CTDefaceLib.removal.check.eyes_and_nose", lambda head: np.empty((0, 3)))
    report = deface(case("frontal").image, DefaceParameters(seed=1)).report
    assert any("could not be found to check" in warning for warning in report["warnings"])
    assert not is_checked(report)


@pytest.mark.slow
def test_a_series_on_its_side_is_not_marked_as_without_a_face(tmp_path):
    for name, image in (("right", case("frontal").image), ("wrong", lie(case("frontal").image, ON_ITS_SIDE))):
        write_series(tmp_path / name, image)
        deface_series(tmp_path / name, tmp_path / f"{name} out", DefaceParameters(seed=1))
        one = pydicom.dcmread(next((tmp_path / f"{name} out").iterdir()))
        assert (one.get("RecognizableVisualFeatures") == "NO") == (name == "right")


# ------------------------------------------------------------------------------------------------- several, and none


def beside(s, other, gap_mm=30.0):
    """Two arrays of HU side by side in one volume of air."""
    gap = np.full((s.hu.shape[0], s.hu.shape[1], round(gap_mm / 2.0)), -1000)
    image = sitk.GetImageFromArray(np.concatenate([s.hu, gap, other], axis=2).astype(np.int16))
    image.SetSpacing(s.image.GetSpacing())
    return image


def shell(shape, radius_mm=92.0):
    """A ball of water in a shell of bone, larger than a head's intracranial space; no face."""
    z, y, x = ((np.arange(n) - n / 2.0) * 2.0 for n in shape)
    r = np.sqrt(x**2 + y[:, None] ** 2 + z[:, None, None] ** 2)
    hu = np.select([r < radius_mm, r < radius_mm + 6.0, r < radius_mm + 10.0], [30.0, 900.0, 40.0], -1000.0)
    return hu + np.random.default_rng(0).normal(0.0, 5.0, shape)


def test_a_shell_of_bone_beside_a_head_is_none():
    s = scan(person=3, holder=False)
    image = beside(s, shell(s.hu.shape))
    head = find_head(image)
    assert np.abs(head.axes - s.cylinder.head.axes).max() < 0.1
    assert head.to_lps(np.zeros(3))[0] < s.hu.shape[2] * 2.0, "the head is on the right"
    skin = np.zeros(image.GetSize()[::-1], bool)
    skin[:, :, : s.hu.shape[2]] = s.labelled(Label.FACE_SKIN)
    assert np.mean(voxels(deface(image, DefaceParameters(seed=1)).region)[skin] > 0) > 0.9


def test_two_heads_with_faces_are_refused():
    with pytest.raises(InputError, match="Two heads with faces are in view.*crop"):
        find_head(beside(scan(holder=False), scan(person=2, holder=False).hu[: len(scan(holder=False).hu)]))


@pytest.mark.parametrize("name", ["frontal", "brain_fov", "child"])
def test_a_head_without_its_face_is_said_to_be_so(name):
    """Where its nose should be in view; orbits alone look the same below a new skin."""
    first = deface(case(name).image, DefaceParameters(seed=1))
    assert not first.report["warnings"]
    (told,) = deface(first.image, DefaceParameters(seed=2)).report["warnings"]
    assert "removed before" in told and "%" not in told
