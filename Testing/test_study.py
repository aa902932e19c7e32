"""One face for all series of a patient: the same region and the same new skin, or a sentence."""

import json
from functools import cache

import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from coarse_phantoms import mask_of, scan, voxels
from CTDefaceLib.anatomy.face_map import moved_image
from CTDefaceLib.anatomy.grids import values_at
from CTDefaceLib.anatomy.hounsfield import HALFWAY_HU
from CTDefaceLib.audits import Level
from CTDefaceLib.commands.choices import AUDITS
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom.files import OTHER_IMAGES
from CTDefaceLib.errors import InputError
from CTDefaceLib.phantom import Label
from CTDefaceLib.pipeline import DefaceParameters, deface
from CTDefaceLib.removal.keep import Structure
from CTDefaceLib.study.apply import Face, apply
from CTDefaceLib.study.deface import read_study
from CTDefaceLib.study.follow import Follow, Lead
from CTDefaceLib.study.plan import best_first, patient_of
from CTDefaceLib.study.register import Pose, find_pose, skin_agreement
from pydicom.uid import MRImageStorage, generate_uid
from scipy import ndimage

SEED = DefaceParameters(seed=1)
AT_REST = Pose(np.eye(3), np.zeros(3))
TURN_DEG, SHIFT_MM = (10.0, -4.0, 5.0), (5.0, -8.0, 12.0)

MR_LEVELS = {
    Label.SKIN: 300,
    Label.FACE_SKIN: 300,
    Label.SOFT: 220,
    Label.FAT: 500,
    Label.BONE: 60,
    Label.INTRACRANIAL: 350,
}
"""How bright tissues are in an MR."""


@cache
def face(**choices) -> Face:
    s = scan()
    parameters = DefaceParameters(seed=1, **choices)
    return Face(s.image, deface(s.image, parameters), parameters)


@cache
def mr(person: int = 0, spacing=(1.5, 1.5, 2.5)) -> sitk.Image:
    """A head in an MR, made from the tissues of its phantom, with Rician noise."""
    s = scan(person=person)
    labels = voxels(s.phantom.labels)
    values = np.full(labels.shape, 5.0, np.float32)
    for label, level in MR_LEVELS.items():
        values[labels == label] = level
    values[labels == Label.INTRACRANIAL] += np.where(s.hu[labels == Label.INTRACRANIAL] > 38, 40, -60)
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(s.image)
    image = sitk.SmoothingRecursiveGaussian(image, 1.0)
    size = [int(n * old / new) for n, old, new in zip(image.GetSize(), image.GetSpacing(), spacing)]
    image = sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), spacing, image.GetDirection()
    )
    rng = np.random.default_rng(person)
    noisy = np.hypot(voxels(image) + rng.normal(0, 8, voxels(image).shape), rng.normal(0, 8, voxels(image).shape))
    out = sitk.GetImageFromArray(noisy.astype(np.int16))
    out.CopyInformation(image)
    return out


def turned(image: sitk.Image, deg=TURN_DEG, shift=SHIFT_MM) -> tuple[sitk.Image, Pose]:
    """The same head of another day."""
    rotation = np.reshape(sitk.Euler3DTransform((0, 0, 0), *np.radians(deg)).GetMatrix(), (3, 3))
    return moved_image(image, rotation, np.array(shift)), Pose(rotation, np.array(shift))


def sharp() -> sitk.Image:
    """The head with a sharp kernel."""
    return scan(noise=25.0, blur=0.3).image


def thick() -> sitk.Image:
    return sitk.BinShrink(scan().image, [1, 1, 3])


def farthest(found: Pose | None, true: Pose) -> float:
    """How far, in mm, the skin of the head is from where it should be."""
    cylinder, found = face().result.cylinder, found or AT_REST
    skin = cylinder.points(cylinder.skin)[cylinder.skin_in_view]
    return float(np.linalg.norm(skin @ (found.rotation - true.rotation).T + found.shift - true.shift, axis=-1).max())


def still_shown(region: sitk.Image, pose: Pose = AT_REST) -> float:
    """Share of the tissue that was removed from the CT which another image, with its own region, still shows."""
    one = face()
    removed = (voxels(one.result.region) > 0) & (scan().hu > -300)
    region = moved_image(region, pose.rotation.T, -pose.rotation.T @ pose.shift)
    there = sitk.Image(region.GetSize(), sitk.sitkUInt8) + 1
    there.CopyInformation(region)
    nearest = [
        voxels(sitk.Resample(image, one.ct, sitk.Transform(), sitk.sitkNearestNeighbor, 0)) > 0
        for image in (region, there)
    ]
    return float((removed & nearest[1] & ~nearest[0]).sum() / removed.sum())


def skin_off(image: sitk.Image, pose: Pose = AT_REST, level: float = HALFWAY_HU) -> np.ndarray:
    """How far, in mm, the skin of a result is from the new skin, on rays well inside the face."""
    surface = face().result.surface.moved(pose.rotation, pose.shift)
    steps = np.arange(6.0, -6.1, -0.25)
    along = values_at(image, surface.cylinder.points(surface.skin[..., None] + steps))
    inside = (surface.outline > 6.0) & (along > -2000).all(axis=-1)
    return np.abs(steps[np.argmax(along > level, axis=-1)])[inside]


# ------------------------------------------------------------------------------------------------------------- one face


def test_other_kernels_and_slices_get_the_same_region_and_skin():
    same = apply(face(), sharp())
    assert np.array_equal(voxels(same.region), voxels(face().result.region))
    assert still_shown(same.region) == 0.0 and np.percentile(skin_off(same.image), 95) < 2.0
    outside = voxels(same.region) == 0
    assert np.array_equal(voxels(same.image)[outside], voxels(sharp())[outside])
    coarse = apply(face(), thick())
    assert still_shown(coarse.region) <= 0.005
    assert coarse.report["intracranial_voxels_touched"] == 0
    assert np.percentile(skin_off(coarse.image), 90) < 3.0
    assert coarse.report["replaced_ml"] < 1.3 * face().result.report["replaced_ml"]


def test_what_lies_in_a_gap_of_the_skull_stays_in_thick_slices():
    s = scan(person=15, craniectomy=True)
    begun = Face(s.image, deface(s.image, SEED), SEED)
    assert begun.result.report["skull_gaps"] == 1
    for factors in ([1, 1, 3], [2, 2, 2]):
        assert apply(begun, sitk.BinShrink(s.image, factors)).report["intracranial_voxels_touched"] == 0


def test_its_own_noise_fills_it():
    s = scan()
    air = mask_of(face().result.surface.below < -6.0, s.cylinder.head.volume)
    here = voxels(sitk.Resample(air, s.image, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
    here &= voxels(face().result.region) > 0
    smooth, noisy = voxels(face().result.image)[here].std(), voxels(apply(face(), sharp()).image)[here].std()
    own = ~here & (s.hu < -900) & (voxels(face().result.region) == 0)
    assert noisy > 1.5 * smooth and noisy == pytest.approx(voxels(sharp())[own].std(), rel=0.4)


@pytest.mark.slow
def test_another_day_is_registered():
    image, true = turned(sharp())
    pose = find_pose(face().result.surface, image, "CT", at_rest=True)
    assert pose is not None and farthest(pose, true) < 1.5 and pose.report["turned_deg"] == pytest.approx(11.9, abs=1.0)
    result = apply(face(), image, pose=pose)
    assert still_shown(result.region, pose) <= 0.005
    assert np.percentile(skin_off(result.image, true), 90) < 3.0
    assert result.report["registered"]["agreement"] > 0.9
    assert find_pose(face().result.surface, image, "CT", False, before=pose).agreement == pytest.approx(pose.agreement)


@pytest.mark.slow
def test_an_mr_gets_the_same_face_in_its_own_tissue():
    image, true = turned(mr())
    pose = find_pose(face().result.surface, image, "MR", at_rest=False)
    assert farthest(pose, true) < 1.5
    result = apply(face(), image, "MR", pose)
    assert still_shown(result.region, pose) <= 0.005
    assert np.percentile(skin_off(result.image, true, level=120.0), 90) < 3.0
    region = voxels(result.region) > 0
    filled, own = voxels(result.image)[region], voxels(image)[~region]
    assert np.array_equal(voxels(result.image)[~region], own)
    air = filled[filled < 60]
    assert air.size > 1000 and np.median(air) == pytest.approx(np.median(own[own < 60]), abs=3.0)
    assert np.percentile(filled, 99) < 600 and (filled > 150).mean() > 0.1


def test_nothing_is_registered_where_it_lies_already():
    assert find_pose(face().result.surface, sharp(), "CT", at_rest=True) is None
    assert skin_agreement(face().result.surface, mr(), "MR") > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_another_patient_is_refused(modality):
    image = scan(person=5).image if modality == "CT" else mr(5)
    with pytest.raises(InputError, match="could not be laid on the CT"):
        find_pose(face().result.surface, image, modality, at_rest=False)


def test_what_shows_more_of_the_face_is_refused():
    upper = scan(field_of_view="orbits")
    begun = Face(upper.image, deface(upper.image, SEED), SEED)
    with pytest.raises(InputError, match="shows more of the face"):
        apply(begun, scan().image)


def test_what_shows_no_face_stays_as_it_is():
    brain = scan().image[:, :, -30:]
    result = apply(face(), brain)
    assert np.array_equal(voxels(result.image), voxels(brain))
    assert result.report["replaced_ml"] == 0 and result.report["facial_skin_covered"] == 1.0
    assert not result.report["warnings"]


@pytest.mark.slow
def test_bone_and_structures_stay_in_all_of_them():
    inside = scan().labelled(Label.BONE)
    inside[inside.shape[0] // 4 :] = False
    begun = Face(
        scan().image,
        deface(
            scan().image,
            DefaceParameters(seed=1, strength="light"),
            kept=[Structure("Jaw", mask_of(inside, scan().image))],
        ),
        DefaceParameters(seed=1, strength="light"),
    )
    assert np.array_equal(voxels(apply(begun, sharp()).region), voxels(begun.result.region))
    image, pose = turned(sharp())
    region = voxels(apply(begun, image, pose=pose).region) > 0
    assert region.any() and not region[inside].any()


def test_what_is_kept_for_others_is_enough():
    """As for the whole CT and all that was made of it, bit for bit, though it is less."""
    s = scan()
    wide = Face(sitk.ConstantPad(s.image, [20, 0, 0], [0, 20, 0], -1000), face().result, SEED)
    kept = wide.for_others()
    assert kept.for_cts(DefaceParameters(strength="light")) is kept, "bone that stays is seen in the first CT"
    volumes = (wide.ct, kept.ct, s.image, kept.result.mask, kept.result.region, kept.result.image)
    sizes = [one.GetNumberOfPixels() for one in volumes]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[1] and sizes[-1] == 1
    moved, pose = turned(mr())
    for less, image, modality, where in ((kept.for_cts(SEED), thick(), "CT", None), (kept, moved, "MR", pose)):
        whole, part = (apply(one, image, modality, where) for one in (wide, less))
        assert np.array_equal(voxels(whole.image), voxels(part.image))
        assert {name for name, value in whole.report.items() if part.report[name] != value} <= {"seconds", "mask_ml"}
        assert part.report["mask_ml"] == pytest.approx(whole.report["mask_ml"], rel=0.01), "but for voxels on its edge"


def test_a_head_that_was_found_is_not_looked_for_again(monkeypatch):
    """But in further volumes of its series."""
    monkeypatch.setattr("CTDefaceLib.pipeline.head_cylinder", None)
    lead = Lead(cylinder=scan().cylinder)
    assert np.array_equal(voxels(lead(scan().image, SEED).image), voxels(face().result.image))
    with pytest.raises(TypeError):
        lead(scan().image, SEED)
    searched = []
    monkeypatch.setattr("CTDefaceLib.study.follow.find_pose", lambda *what: searched.append(what[-1]))
    follow = Follow(face(), before=AT_REST, is_known=True)
    follow.find(scan().image)
    assert follow.pose is AT_REST and not searched
    follow.find(scan().image)
    assert searched == [AT_REST]


# ---------------------------------------------------------------------------------------------------------- DICOM study


@pytest.fixture(scope="module")
def stroke(tmp_path_factory):
    """Two kernels, a tilted series, a perfusion of the brain, an MR, another day, and a series of somebody else."""
    folder = tmp_path_factory.mktemp("stroke")
    frame, study = generate_uid(), generate_uid()
    common = dict(FrameOfReferenceUID=frame, StudyInstanceUID=study)
    dicom_files.write_series(folder / "2", scan().image, SeriesNumber=2, **common)
    dicom_files.write_series(folder / "3", sharp(), SeriesNumber=3, **common)
    tilted = dicom_files.sheared(thick(), 12.0)
    dicom_files.write_series(folder / "4", tilted, tilt_degrees=12.0, SeriesNumber=4, **common)
    slab, uid = scan().image[:, :, 60:72], generate_uid()
    for time in (1, 2, 3):
        dicom_files.write_series(
            folder / f"5-{time}",
            slab + 10 * time,
            SeriesNumber=5,
            SeriesInstanceUID=uid,
            AcquisitionNumber=time,
            **common,
        )
    tags = dict(SOPClassUID=MRImageStorage, Modality="MR", RescaleIntercept=None, RescaleSlope=None)
    dicom_files.write_series(
        folder / "6", turned(mr())[0] - 1024, SeriesNumber=6, FrameOfReferenceUID=generate_uid(),
        StudyInstanceUID=study, **tags,
    )  # fmt: skip
    dicom_files.write_series(
        folder / "7",
        turned(thick())[0],
        SeriesNumber=7,
        FrameOfReferenceUID=generate_uid(),
        StudyInstanceUID=generate_uid(),
    )
    dicom_files.write_series(folder / "8", scan(person=5).image[:, :, 20:], SeriesNumber=8, **common)
    dicom_files.write_series(
        folder / "1", scan().image[:, :, :6], SeriesNumber=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **common
    )
    return folder


@pytest.mark.slow
def test_what_belongs_together(stroke):
    tree = read_study(stroke)
    assert [one.number for one in tree.series] == [2, 3, 4, 5, 7, 8, 6], "CT first"
    assert patient_of(tree.series) == "4711"
    order = [one.number for one in best_first(tree.series)]
    assert order[:2] == [2, 3] and order[-1] == 5 and 6 not in order
    tree.series[0].patient = "4712"
    with pytest.raises(InputError, match="scans of 2 patients"):
        patient_of(tree.series)
    for one in tree.series:
        one.patient, one.issuers = "4711", {"A"}
    assert patient_of(tree.series) == "4711"
    tree.series[-1].issuers = {"B"}  # another hospital's number
    with pytest.raises(InputError, match="scans of 2 patients"):
        patient_of(tree.series)


@pytest.mark.slow
def test_a_stroke_study_comes_out_with_one_face(stroke, tmp_path, capsys):
    assert main(["deface", str(stroke), str(tmp_path / "out"), "--seed", "1"]) == 3
    said = capsys.readouterr().err
    assert "refused: series 8 (CT," in said and "could not be laid on the CT" in said
    report = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [one["name"].split()[1] for one in report["series"]] == ["2", "3", "4", "5", "7", "6"]  # MR comes after CT
    assert report["face_from"].startswith("series 2 (CT")
    assert report["intracranial_voxels_touched"] == 0 and "4711" not in json.dumps(report)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"series-{n:03}" for n in range(2, 8)]
    shown = {number: np.zeros(scan().hu.shape, bool) for number in range(2, 8)}
    removed = (voxels(face().result.region) > 0) & (scan().hu > -300)
    frames, studies = {}, {}
    for number in range(2, 8):
        pose = turned(scan().image)[1] if number > 5 else AT_REST
        for path in sorted((tmp_path / "out" / f"series-{number:03}").iterdir()):
            new = pydicom.dcmread(path)
            source = new.SourceImageSequence[0].ReferencedSOPInstanceUID
            old = _originals(stroke)[source]
            assert new.SOPInstanceUID != source and new.PatientID == old.PatientID
            frames.setdefault(old.FrameOfReferenceUID, set()).add(new.FrameOfReferenceUID)
            studies.setdefault(old.StudyInstanceUID, set()).add(new.StudyInstanceUID)
            shown[number] |= _unchanged(old, new, pose)
    assert all(len(new) == 1 for new in (*frames.values(), *studies.values()))
    share = {number: float((removed & there).sum() / removed.sum()) for number, there in shown.items()}
    together = float((removed & np.any(list(shown.values()), axis=0)).sum() / removed.sum())
    assert together - share[2] <= 0.005, share


@cache
def _originals(folder):
    found = [pydicom.dcmread(path) for path in folder.rglob("*.dcm")]
    return {str(one.SOPInstanceUID): one for one in found}


def _unchanged(old: pydicom.Dataset, new: pydicom.Dataset, pose: Pose) -> np.ndarray:
    """The voxels of the first CT that lie in a slice where its pixels are the old ones, side by side; bool."""
    row, column, across = np.reshape([*new.ImageOrientationPatient, 0, 0, 0], (3, 3)).astype(float)
    across = np.cross(row, column)
    same = ndimage.binary_opening(old.pixel_array == new.pixel_array, np.ones((3, 3)))  # single ones are chance
    plane = sitk.GetImageFromArray(same.astype(np.uint8)[None])
    down, along = (float(value) for value in new.PixelSpacing)
    plane.SetSpacing([along, down, float(new.SliceThickness)])
    plane.SetOrigin([float(value) for value in new.ImagePositionPatient])
    plane.SetDirection(np.array([row, column, across]).T.ravel().tolist())
    plane = moved_image(plane, pose.rotation.T, -pose.rotation.T @ pose.shift)
    return voxels(sitk.Resample(plane, scan().image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)) > 0


@pytest.mark.slow
def test_one_series_of_a_study_alone(stroke, tmp_path):
    assert main(["deface", str(stroke), str(tmp_path / "out"), "--series", "3"]) == 0
    assert all(path.name.startswith("IM") for path in (tmp_path / "out").iterdir())


SHOWN = []


def audit(original, defaced, bare):
    """An audit that still finds the face in every second volume that it is shown."""
    SHOWN.append(original)
    level = Level.FACE_FOUND if len(SHOWN) % 2 else Level.NOT_ALL_TRIED
    return {"verdict": str(level), "sentence": f"Volume {len(SHOWN)}."}


@pytest.mark.slow
def test_an_audit_holds_back_single_series_of_a_study(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(AUDITS, "quick", f"{__name__}:audit")
    image = scan(field_of_view="upper_lip").image
    common = dict(FrameOfReferenceUID=generate_uid(), StudyInstanceUID=generate_uid())
    for number in (2, 3):
        dicom_files.write_series(tmp_path / "in" / str(number), image + number, SeriesNumber=number, **common)
    command = ["deface", str(tmp_path / "in"), str(tmp_path / "out"), "--audit", "quick"]
    assert main(command) == 3
    report = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [one["why"] for one in report["refused"]] == ["Volume 1. It was not written."]
    assert report["face_from"].startswith("series 2")
    assert [one["audit"]["sentence"] for one in report["series"]] == ["Volume 2."]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["series-003"]
    capsys.readouterr()
    assert main([*command[:2], str(tmp_path / "one"), *command[3:], "--series", "2"]) == 1
    assert "Volume 3. It was not written." in capsys.readouterr().err and not (tmp_path / "one").exists()


def test_a_study_without_a_ct_is_refused(tmp_path, capsys):
    for number in (1, 2):
        tags = dict(SOPClassUID=MRImageStorage, Modality="MR", RescaleIntercept=None, RescaleSlope=None)
        dicom_files.write_series(tmp_path / "in" / str(number), mr() - 1024, SeriesNumber=number, **tags)
    assert MRImageStorage in OTHER_IMAGES
    assert main(["deface", str(tmp_path / "in"), str(tmp_path / "out")]) == 1
    assert "no CT series in which a head was found" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
