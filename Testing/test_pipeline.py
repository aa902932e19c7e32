"""The main job from a volume to a defaced volume and its report."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import case, mask_of, scan, small_view, voxels
from CTDefaceLib import __version__
from CTDefaceLib.anatomy.head import find_head
from CTDefaceLib.anatomy.hounsfield import TISSUE_HU
from CTDefaceLib.errors import Cancelled, InputError, NoFaceError
from CTDefaceLib.parameters import DEPTH_MM
from CTDefaceLib.phantom import Label
from CTDefaceLib.pipeline import UNREPORTED, DefaceParameters, deface, segment
from CTDefaceLib.volume_io import read_ct

KEYS = {
    "version",
    "method",
    "parameters",
    "removed_ml",
    "removed_share",
    "replaced_ml",
    "replaced_share",
    "fill",
    "strength",
    "depth_mm",
    "skull_gaps",
    "facial_skin_covered",
    "intracranial_voxels_touched",
    "mask_ml",
    "mask_intracranial_ml",
    "warnings",
    "seconds",
}


ML = 0.004
"""Millilitres in a voxel of the frontal case."""


def assert_defaced(image, result):
    """What holds for every result."""
    here = voxels(result.region) > 0
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID"):
        assert getattr(result.image, get)() == getattr(image, get)()
    before, after = voxels(image), voxels(result.image)
    assert np.array_equal(before[~here], after[~here])
    assert result.report["intracranial_voxels_touched"] == 0
    assert result.report["facial_skin_covered"] > 0.9
    assert 0 < result.report["removed_share"] < 0.2
    assert not [warning for warning in result.report["warnings"] if "look at the result" in warning]


@pytest.mark.parametrize("name", ["frontal", "brain_fov", "cut_at_orbits", "near_the_edge", "child"])
def test_a_head_comes_out_without_its_face(name):
    s = case(name)
    before = sitk.Image(s.image)
    result = deface(s.image)
    assert_defaced(s.image, result)
    assert np.array_equal(voxels(before), voxels(s.image)), "the input is not changed"
    here, skin = voxels(result.region) > 0, s.labelled(Label.FACE_SKIN)
    assert (here & skin).sum() > 0.92 * skin.sum()
    before, after = (voxels(image)[here & skin].astype(float) for image in (s.image, result.image))
    assert abs(np.corrcoef(before, after)[0, 1]) < 0.5, "another skin, elsewhere"
    assert voxels(result.image)[here].min() >= s.hu.min() and voxels(result.image)[here].max() <= s.hu.max()
    assert not (here & s.labelled(Label.INTRACRANIAL)).any()


@pytest.mark.parametrize("pitch", [-25, 0, 25])
def test_a_nose_that_is_not_in_view_is_not_missed(pitch):
    s = scan(person=2, field_of_view="orbits", pitch=pitch)
    warnings = deface(s.image, DefaceParameters(seed=1)).report["warnings"]
    assert not warnings if pitch >= 0 else all("Eyes and nose could not be found" in warning for warning in warnings)


@pytest.mark.parametrize("value", [-1024, 0])
def test_a_volume_that_was_resampled_and_filled_up_is_defaced_as_before(value):
    """What it was filled up with is no tissue and no air: it takes nothing from the share, and stays."""
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.0, 0.0, 0.25)
    known, filled_up = (sitk.Resample(case("brain_fov").image, turn, sitk.sitkLinear, v) for v in (-3024, value))
    expected, result = (deface(image, DefaceParameters(seed=1)) for image in (known, filled_up))
    assert_defaced(filled_up, result)
    assert result.report["removed_ml"] == pytest.approx(expected.report["removed_ml"], rel=0.05)
    padding = voxels(known) == -3024
    assert padding.mean() > 0.05
    assert not (voxels(result.region) > 0)[padding].any()


@pytest.mark.parametrize("name", ["head_ct_brain_fov.nii.gz", "head_ct_full_face_lowres.nii.gz"])
def test_real_heads(real_data, name):
    image = read_ct(real_data(name))
    result = deface(image)
    assert_defaced(image, result)
    head = find_head(image)
    assert np.degrees(np.arccos(head.axes[0] @ (1, 0, 0))) < 20, "patients lie nearly straight"
    assert result.report["mask_ml"] > 100 and 150 < result.report["replaced_ml"] < 450


@pytest.mark.slow
def test_real_dicom_phantom_volume(real_data, tmp_path):
    import zipfile

    zipfile.ZipFile(real_data("phantom_ct_dicom.zip")).extractall(tmp_path)
    folders = {path.parent for path in tmp_path.rglob("*") if path.is_file()}
    image = read_ct(max(folders, key=lambda folder: len(list(folder.iterdir()))))
    image = sitk.BinShrink(image, [2, 2, 1])
    assert_defaced(image, deface(image))


# ------------------------------------------------------------------------------------------------------- the report


def test_report_says_what_was_done():
    s = case("frontal")
    result = deface(s.image, DefaceParameters(margin_mm=2.0, seed=1234567))
    report = result.report
    assert set(report) == KEYS
    assert report["version"] == __version__ and report["method"] == "builtin"
    parameters = asdict(DefaceParameters(margin_mm=2.0))
    assert report["parameters"] == {k: v for k, v in parameters.items() if k not in UNREPORTED}
    assert report["warnings"] == [] and report["seconds"] > 0
    here = voxels(result.region) > 0
    assert (report["fill"], report["strength"], report["depth_mm"]) == ("smooth", "standard", DEPTH_MM["standard"])
    assert report["skull_gaps"] == 0 and report["replaced_ml"] == report["removed_ml"]
    assert report["removed_ml"] == pytest.approx((here & (s.hu > TISSUE_HU)).sum() * ML, rel=0.01)
    assert report["mask_ml"] == pytest.approx(voxels(result.mask).sum() * ML, rel=0.01)


def test_report_is_plain_json_without_seed_or_places():
    report = deface(case("frontal").image, DefaceParameters(seed=1234567)).report
    text = json.dumps(report)
    assert json.loads(text) == report
    assert "1234567" not in text and "seed" not in text and "/" not in text and "\\\\" not in text


@pytest.mark.parametrize(
    "choices, words",
    [
        (dict(fill="constant"), "constant fill"),
        (dict(fill="percentile"), "percentile fill"),
        (dict(fill="blur"), "blurred"),
        (dict(strength="light"), "bone was kept"),
        (dict(as_is=True), "used as it is"),
    ],
    ids=str,
)
def test_weak_choices_are_warned_of(choices, words):
    warnings = deface(case("frontal").image, DefaceParameters(**choices)).report["warnings"]
    assert any(words in warning for warning in warnings)


def test_a_mask_over_the_brain_is_warned_of_and_left_in_place():
    s = case("frontal")
    brain = s.labelled(Label.INTRACRANIAL)
    result = deface(s.image, mask=mask_of(brain | (voxels(s.face) > 0), s.image))
    assert result.report["intracranial_voxels_touched"] == 0
    assert not (voxels(result.region) > 0)[brain].any()
    assert result.report["mask_intracranial_ml"] == pytest.approx(brain.sum() * ML, rel=0.05)
    assert any("inside the skull" in warning for warning in result.report["warnings"])


def test_a_mask_that_misses_the_face_is_warned_of():
    s = case("frontal")
    corner = np.zeros(s.hu.shape, bool)
    nose = s.image.TransformPhysicalPointToIndex(s.phantom.landmarks["nose_tip"])[::-1]
    corner[tuple(slice(max(i - 4, 0), i + 5) for i in nose)] = True
    report = deface(s.image, DefaceParameters(as_is=True), mask=mask_of(corner, s.image)).report
    assert report["facial_skin_covered"] < 0.2
    assert any("facial skin" in warning for warning in report["warnings"])


@pytest.mark.parametrize("radius_mm, forward_mm, deep", [(70, 50, True), (95, 0, False)])
def test_a_field_of_view_that_cuts_deep_into_the_skull_is_warned_of(radius_mm, forward_mm, deep):
    image, _ = small_view(case("frontal"), radius_mm, forward_mm, padding=-2000)
    report = deface(image, DefaceParameters(seed=1)).report
    assert deep == any("cuts deep into the skull" in warning for warning in report["warnings"])
    assert report["facial_skin_covered"] > 0.9


@pytest.mark.parametrize("missing, deep", [(0.25, False), (0.5, True)])
def test_a_volume_that_ends_within_the_skull_is_warned_of(missing, deep):
    image = case("frontal").image
    cut = image[round(missing * image.GetWidth()) :, :, :]
    report = deface(cut, DefaceParameters(seed=1)).report
    assert deep == any("cuts deep into the skull" in warning for warning in report["warnings"])


def test_a_mask_that_takes_half_the_head_is_warned_of():
    s = case("frontal")
    report = deface(s.image, DefaceParameters(as_is=True), mask=mask_of(s.hu > -2000, s.image)).report
    assert any("more than usual" in warning for warning in report["warnings"])


# ------------------------------------------------------------------------------------------------------ its own masks


def test_segment_gives_the_mask_that_deface_uses():
    s = case("frontal")
    mask, numbers = segment(s.image)
    assert np.array_equal(voxels(mask), voxels(deface(s.image).mask))
    assert numbers["mask_ml"] == pytest.approx(voxels(mask).sum() * ML, rel=0.01)
    assert numbers["mask_intracranial_ml"] == 0 and numbers["warnings"] == []


def test_a_given_mask_is_used():
    s = case("frontal")
    shifted = mask_of(np.roll(voxels(s.face), 3, axis=0), s.image)
    result = deface(s.image, DefaceParameters(seed=1), mask=shifted)
    assert np.array_equal(voxels(result.mask), voxels(shifted))
    own = deface(s.image, DefaceParameters(seed=1))
    assert not np.array_equal(voxels(result.region), voxels(own.region))


@pytest.mark.slow
def test_the_report_says_where_a_given_mask_comes_from():
    s = case("frontal")
    given = {**asdict(DefaceParameters(seed=1, segmenter="totalsegmentator"))}
    assert (
        deface(s.image, DefaceParameters(**given), mask=s.face).report["method"] == "mask"
    )  # whatever the choices are
    mask, made = segment(s.image)
    assert made["method"] == "builtin"
    assert deface(s.image, DefaceParameters(seed=1), mask=mask, mask_report=made).report["method"] == "builtin"
    told = {"method": "nnunet", "model": {"name": "face"}, "warnings": ["drawn over"], "mask_ml": 1.0, "seed": 3}
    report = deface(s.image, DefaceParameters(seed=1), mask=s.face, mask_report=told).report
    assert (report["method"], report["model"], report["warnings"]) == ("nnunet", {"name": "face"}, ["drawn over"])
    assert set(report) == KEYS | {"model"} and report["mask_ml"] != 1.0
    assert told["warnings"] == ["drawn over"]


@pytest.mark.slow
def test_two_runs_differ_unless_the_seed_is_given():
    s = case("frontal")
    one, two = (voxels(deface(s.image).image) for _ in range(2))
    assert not np.array_equal(one, two)
    one, two = (voxels(deface(s.image, DefaceParameters(seed=5)).image) for _ in range(2))
    assert np.array_equal(one, two)


def test_mask_of_another_grid_is_refused():
    s = case("frontal")
    with pytest.raises(InputError, match="another grid"):
        deface(s.image, mask=s.face[:, :, 1:])


@pytest.mark.parametrize("choices", [dict(segmenter="nobody"), dict(fill="nothing"), dict(strength="weak")], ids=str)
def test_unknown_choices_are_refused(choices):
    with pytest.raises(InputError):
        deface(case("frontal").image, DefaceParameters(**choices))


@pytest.mark.parametrize("work", [deface, segment])
def test_no_face_in_view(work):
    with pytest.raises(NoFaceError):
        work(scan(field_of_view="above_orbits").image)


# ------------------------------------------------------------------------------------------------- progress and cancel


def test_progress_goes_from_nothing_to_all():
    said = []
    deface(case("frontal").image, progress=lambda fraction, text: said.append((fraction, text)))
    fractions = [fraction for fraction, _ in said]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    assert len(said) >= 5 and all(text for _, text in said)


@pytest.mark.parametrize("work", [deface, segment])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_cancelled(work, after):
    s = case("frontal")
    before, asked = sitk.Image(s.image), []

    def cancelled():
        asked.append(True)
        return len(asked) > after

    with pytest.raises(Cancelled):
        work(s.image, cancelled=cancelled)
    assert np.array_equal(voxels(before), voxels(s.image))


@pytest.mark.slow
def test_what_a_mask_covers_far_from_the_face_is_replaced_or_told():
    s = scan()
    far = np.argwhere(s.hu > 0)[-1]
    ball = ((np.indices(s.hu.shape) - far.reshape(3, 1, 1, 1)) ** 2).sum(axis=0) < 36
    result = deface(s.image, mask=mask_of(ball | (voxels(s.face) > 0), s.image))
    changed = (voxels(result.image) != s.hu)[ball].mean()
    assert changed > 0.9 or "were left as they are" in " ".join(result.report["warnings"])
    thin = np.zeros(s.hu.shape, bool)
    thin[::3, s.hu.shape[1] // 2 :: 3, ::3] = True
    thin &= s.hu > 0
    report = deface(s.image, mask=mask_of(thin | (voxels(s.face) > 0), s.image)).report
    assert any("were left as they are" in warning for warning in report["warnings"])
    assert not deface(s.image).report["warnings"]
