"""What must stay: not one bit of it changes, the new skin passes outside it, and it is read from what others make."""

import json
from functools import cache

import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from coarse_phantoms import mask_of, scan, voxels
from CTDefaceLib.anatomy.face_map import moved_image
from CTDefaceLib.audits import Level
from CTDefaceLib.commands.choices import AUDITS
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom.files import SEGMENTATION, STRUCTURE_SET
from CTDefaceLib.errors import InputError
from CTDefaceLib.phantom import Label
from CTDefaceLib.pipeline import DefaceParameters, deface
from CTDefaceLib.removal.keep import Structure, keep
from CTDefaceLib.structures import is_listed, read_structures, split_choice
from CTDefaceLib.study.apply import Face, apply
from CTDefaceLib.study.register import Pose
from scipy import ndimage
from test_dicom import by_place
from test_dicom_references import item

SEED = DefaceParameters(seed=1)


def jaw(s):
    """Bone below the nose and in front; bool."""
    inside = s.labelled(Label.BONE)
    lip = s.image.TransformPhysicalPointToIndex(s.phantom.landmarks["upper_lip"])
    inside[lip[2] :] = False
    inside[:, lip[1] + 20 :] = False
    return inside


@cache
def with_jaw():
    s = scan()
    inside = jaw(s)
    return s, inside, deface(s.image, SEED, kept=[Structure("Mandible", mask_of(inside, s.image))])


# ------------------------------------------------------------------------------------------------------ what it does


@pytest.mark.slow
def test_not_one_bit_of_what_is_kept_changes():
    s, inside, result = with_jaw()
    assert deface(s.image, SEED).report["replaced_ml"] > result.report["replaced_ml"]
    near = ndimage.distance_transform_edt(~inside, sampling=2.0) <= SEED.keep_margin_mm
    assert near.sum() > inside.sum() > 1000
    assert np.array_equal(voxels(result.image)[near], s.hu[near])
    assert not (voxels(result.region) > 0)[near].any()


def test_the_new_skin_passes_outside_what_is_kept():
    s, inside, result = with_jaw()
    below = mask_of(result.surface.below > 0, s.cylinder.head.volume)
    covered = voxels(sitk.Resample(below, s.image, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
    assert covered[inside].mean() > 0.99
    plain = s.surface()
    bare = mask_of(plain.below > 0, s.cylinder.head.volume)
    assert (voxels(sitk.Resample(bare, s.image, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0)[inside].mean() < 0.9


def test_far_from_it_the_new_skin_is_as_it_was():
    s, _, result = with_jaw()
    upper = s.surface().outline > 0
    upper[: upper.shape[0] * 2 // 3] = False
    assert upper.any()
    assert np.abs(result.surface.skin - s.surface().skin)[upper].max() < 3.0


def test_the_report_names_its_volume_and_its_price():
    s, inside, result = with_jaw()
    assert result.report["kept"]["Mandible"]["ml"] == pytest.approx(inside.sum() * 0.008, abs=0.01)
    plain = voxels(s.region()) > 0
    assert result.report["kept"]["Mandible"]["in_region"] == pytest.approx(plain[inside].mean(), abs=0.02)
    assert any("what they show of it stays" in warning for warning in result.report["warnings"])
    assert "kept" not in deface(s.image, SEED).report


def test_what_would_have_gone_is_known_in_every_series():
    """Its bound is what keeping something is measured against, see :mod:`CTDefaceLib.audits`."""
    s, inside, result = with_jaw()
    plain = deface(s.image, SEED)
    assert np.array_equal(voxels(result.bare), voxels(s.region())) and plain.bare is None
    shift = np.array([3.0, -2.0, 4.0])
    moved = apply(Face(s.image, result, SEED), moved_image(s.image, np.eye(3), shift), pose=Pose(np.eye(3), shift))
    assert (voxels(moved.bare) & ~voxels(moved.region) & inside).sum() > 1000
    own = apply(Face(s.image, plain, SEED), s.image, kept=[Structure("x", mask_of(inside, s.image))])
    assert np.array_equal(voxels(own.bare), voxels(s.region())) and (voxels(own.region) < voxels(own.bare)).any()


SEEN = []


def audit(original, defaced, bare):
    """An audit that finds a face wherever something is kept, and remembers what it was shown."""
    SEEN.append((original, defaced, bare))
    level, sentence = (Level.NOT_ALL_TRIED, "Nothing.") if bare is None else (Level.RECOVERABLE, "There it is.")
    return {"verdict": str(level), "sentence": sentence}


@pytest.mark.slow
def test_an_audit_sees_it_and_may_hold_the_result_back(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(AUDITS, "quick", f"{__name__}:audit")
    s = scan(field_of_view="upper_lip")
    source, jaws = tmp_path / "head.nrrd", tmp_path / "jaw.nrrd"
    sitk.WriteImage(s.image, str(source))
    bone = s.labelled(Label.BONE)
    bone[:, 60:] = False
    sitk.WriteImage(mask_of(bone, s.image), str(jaws))
    command = ["deface", str(source), str(tmp_path / "out.nrrd"), "--audit", "quick"]
    assert main([*command, "--keep", str(jaws)]) == 1
    assert "There it is. It was not written." in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.nrrd", "jaw.nrrd"]
    assert voxels(SEEN[-1][2]).any()
    assert main(command) == 0
    assert json.loads((tmp_path / "out.json").read_text())["audit"]["sentence"] == "Nothing."
    assert "audit: Nothing." in capsys.readouterr().err and SEEN[-1][2] is None


def test_what_lies_deep_costs_nothing():
    s = scan()
    inside = ndimage.binary_erosion(s.labelled(Label.INTRACRANIAL), iterations=5)
    result = deface(s.image, SEED, kept=[Structure("GTV", mask_of(inside, s.image))])
    assert result.report["kept"]["GTV"]["in_region"] == 0
    assert not any("kept" in warning for warning in result.report["warnings"])
    assert np.array_equal(voxels(result.region), voxels(deface(s.image, SEED).region))


def test_a_mask_that_is_replaced_as_it_is_spares_it_too():
    s, inside, _ = with_jaw()
    kept = [Structure("Mandible", mask_of(inside, s.image))]
    result = deface(s.image, DefaceParameters(as_is=True, seed=1), mask=s.face, kept=kept)
    assert not (voxels(result.region) > 0)[inside].any()


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [0.7, 5.0])
def test_structures_on_other_grids(spacing):
    """A ball in the cheek, drawn finer or coarser than the CT and turned: all voxels in it stay."""
    s = scan()
    middle = np.array(s.phantom.landmarks["upper_lip"]) + [0.0, 12.0, 0.0]
    turn = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.3, 0.4).GetMatrix()
    size = int(24.0 / spacing) + 3
    grid = sitk.Image([size] * 3, sitk.sitkUInt8)
    grid.SetSpacing([spacing] * 3)
    grid.SetDirection(turn)
    half = np.reshape(turn, (3, 3)) @ np.full(3, (size - 1) / 2 * spacing)
    grid.SetOrigin((middle - half).tolist())
    index = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)
    place = (index - (size - 1) / 2) * spacing
    ball = mask_of(np.linalg.norm(place, axis=-1) < 10.0, grid)
    result = deface(s.image, DefaceParameters(seed=1, keep_margin_mm=0.0), kept=[Structure("GTV", ball)])
    index = np.stack(np.meshgrid(*(np.arange(n) for n in s.hu.shape), indexing="ij")[::-1], axis=-1)
    lps = index * s.image.GetSpacing() + s.image.GetOrigin()
    here = np.linalg.norm(lps - middle, axis=-1) < 10.0 - np.sqrt(3.0) * spacing / 2.0
    assert (voxels(s.region()) > 0)[here].any()
    assert not (voxels(result.region) > 0)[here].any()


def test_what_is_not_of_this_scan_is_refused():
    s = scan()
    mask = mask_of(jaw(s), s.image)
    mask.SetOrigin((900.0, 0.0, 0.0))
    with pytest.raises(InputError, match="lies outside the volume"):
        deface(s.image, SEED, kept=[Structure("GTV", mask)])
    with pytest.raises(InputError, match="is empty"):
        deface(s.image, SEED, kept=[Structure("GTV", mask_of(np.zeros_like(s.hu), s.image))])
    assert keep([], 2.0) is None


# ---------------------------------------------------------------------------------------------------------- label maps


def labels():
    """A label map of two boxes, 4 and 7."""
    values = np.zeros((6, 8, 10), np.uint8)
    values[1:3, 2:5, 2:5], values[3:5, 4:7, 6:9] = 4, 7
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((1.0, 2.0, 3.0))
    return image


def test_label_maps(tmp_path):
    sitk.WriteImage(labels(), str(tmp_path / "labels.nii.gz"))
    found = read_structures(tmp_path / "labels.nii.gz")
    assert [one.name for one in found] == ["4", "7"]
    assert np.array_equal(voxels(found[1].mask), voxels(labels()) == 7)
    (chosen,) = read_structures(f"{tmp_path / 'labels.nii.gz'}:7")
    assert chosen.name == "7" and chosen.ml == pytest.approx(18 * 6 / 1000.0)
    (tmp_path / "labels.tsv").write_text("index\tname\n4\tParotid_L\n7\tPTV 60\n", encoding="utf-8")
    both = ["Parotid_L", "PTV 60"]
    chosen = {"PTV*": both[1:], "parotid_l": both[:1], "nodes": both[:1], "targets,nodes": both, "": both}
    for choice, names in chosen.items():
        assert [one.name for one in read_structures(f"{tmp_path / 'labels.nii.gz'}:{choice}")] == names
    with pytest.raises(InputError, match="no structure “Brain”.* has Parotid_L, PTV 60"):
        read_structures(f"{tmp_path / 'labels.nii.gz'}:Brain")


@pytest.mark.parametrize(
    "listed, names, others",
    [
        (
            "nodes",
            "parotid_gland_left submandibular_gland_right thyroid_gland LN_Neck_IIA_L LNN_Neck_VI_L Glnd_Submand_L "
            "Parotid_R Neck_IV Level_Ib Lymph-Node_4",
            "brain mandible Neck_Muscle vertebrae_C3 LNT Glottis",
        ),
        (
            "jaw",
            "mandible teeth_lower Bone_Mandible Tooth_21 lower_jawbone upper_left_central_incisor_fdi121 "
            "lower_right_first_molar_fdi146",
            "skull hyoid hard_palate",
        ),
        (
            "orbits",
            "eye_left eye_lens_right optic_nerve_left OpticNrv_R Lens_L Glnd_Lacrimal_R Retina_L Orbit "
            "lateral_rectus_muscle_left eyeball_left",
            "OpticChiasm brainstem sinus_frontal",
        ),
        ("targets", "GTVp CTV_High PTV_7000 ITV IGTV PTV!_5400", "Optics Body"),
    ],
)
def test_usual_lists_know_the_names_that_others_give(listed, names, others):
    """TotalSegmentator's, those of TG-263, and plain ones."""
    assert [name for name in names.split() if not is_listed(name, listed)] == []
    assert [name for name in others.split() if is_listed(name, listed)] == []


def test_segmentations_that_slicer_saves(tmp_path):
    image = sitk.Compose(labels(), sitk.Cast(labels() == 4, sitk.sitkUInt8))
    for key, value in {
        "Segment0_Name": "Mandible", "Segment0_LabelValue": "7", "Segment0_Layer": "0",
        "Segment1_Name": "Tongue", "Segment1_LabelValue": "1", "Segment1_Layer": "1",
    }.items():  # fmt: skip
        image.SetMetaData(key, value)
    sitk.WriteImage(image, str(tmp_path / "s.seg.nrrd"), useCompression=True)
    found = {one.name: one for one in read_structures(tmp_path / "s.seg.nrrd")}
    assert set(found) == {"4", "Mandible", "Tongue"}
    assert np.array_equal(voxels(found["Tongue"].mask), voxels(labels()) == 4)
    assert np.array_equal(voxels(found["Mandible"].mask), voxels(labels()) == 7)


def test_folders_with_a_mask_for_each_structure(tmp_path):
    for name, label in {"mandible": 4, "teeth_lower": 7, "empty": 1}.items():
        sitk.WriteImage(labels() == label, str(tmp_path / f"{name}.nii.gz"))
    assert [one.name for one in read_structures(f"{tmp_path}:jaw")] == ["mandible", "teeth_lower"]
    assert [one.name for one in read_structures(tmp_path)] == ["mandible", "teeth_lower"]


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda path: None, "no file of this name"),
        (lambda path: path.write_bytes(b"\x1f\x8b truncated"), "truncated"),
        (lambda path: sitk.WriteImage(sitk.Cast(labels(), sitk.sitkFloat32) + 0.5, str(path)), "whole numbers"),
        (lambda path: sitk.WriteImage(labels() > 9, str(path)), "holds no structures"),
    ],
)
def test_files_without_structures(tmp_path, make, sentence):
    make(tmp_path / "labels.nii.gz")
    with pytest.raises(InputError, match=sentence):
        read_structures(f"{tmp_path / 'labels.nii.gz'}:1")


def test_names_of_files_with_colons(tmp_path):
    path = tmp_path / "a:b.nrrd"
    sitk.WriteImage(labels(), str(path))
    assert split_choice(f"{path}") == (path, [])
    assert split_choice(f"{path}:4, 7") == (path, ["4", "7"])


# --------------------------------------------------------------------------------------------------------------- DICOM


def circle(middle, radius, axes, count=60):
    """Points of a circle, LPS in mm."""
    angle = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    flat = radius * np.stack([np.cos(angle), np.sin(angle), np.zeros(count)], axis=-1)
    return middle + flat @ axes


def drawn(path, structures):
    """A structure set; name → list of (points, kind)."""
    dicom_files.write_document(
        path,
        STRUCTURE_SET,
        Modality="RTSTRUCT",
        StructureSetROISequence=[item(ROINumber=n, ROIName=name) for n, name in enumerate(structures, 1)],
        ROIContourSequence=[
            item(
                ReferencedROINumber=n,
                ContourSequence=[
                    item(
                        ContourGeometricType=kind,
                        NumberOfContourPoints=len(points),
                        ContourData=[f"{value:.3f}" for value in points.ravel()],
                    )
                    for points, kind in contours
                ],
            )
            for n, contours in enumerate(structures.values(), 1)
        ],
    )


@pytest.mark.parametrize("tilt", [0.0, 25.0])
def test_structure_sets(tmp_path, tilt):
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    axes = np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])
    middle = np.array([20.0, -30.0, 40.0])
    tube = [
        (circle(middle + height * axes[2], radius, axes), "CLOSED_PLANAR")
        for height in np.arange(-9.0, 9.1, 3.0)
        for radius in (12.0, 5.0)
    ]
    drawn(tmp_path / "rs.dcm", {"PTV 60": tube, "Iso": [(middle[None], "POINT")], "Nothing": []})
    (found,) = read_structures(f"{tmp_path / 'rs.dcm'}:targets")
    assert found.ml == pytest.approx(np.pi * (12.0**2 - 5.0**2) * 21.0 / 1000.0, rel=0.1)

    def inside(*local):
        place = found.mask.TransformPhysicalPointToIndex((middle + np.array(local) @ axes).tolist())
        return all(0 <= i < n for i, n in zip(place, found.mask.GetSize())) and bool(found.mask[place])

    assert inside(8.0, 0.0, 0.0) and inside(0.0, -11.5, 9.9) and not inside(0.0, 0.0, 0.0)
    assert not inside(13.5, 0.0, 0.0)
    assert {one.name for one in read_structures(tmp_path / "rs.dcm")} == {"PTV 60", "Iso"}


def test_contours_that_are_not_flat_are_refused(tmp_path):
    points = circle(np.zeros(3), 10.0, np.eye(3))
    points[::7, 2] += 5.0
    drawn(tmp_path / "rs.dcm", {"GTV": [(points, "CLOSED_PLANAR")]})
    with pytest.raises(InputError, match="not drawn in parallel planes"):
        read_structures(tmp_path / "rs.dcm")


def test_dicom_segmentations(tmp_path):
    """Two segments, each in the slices that hold it, from the highest to the lowest."""
    first, second = (voxels(labels()) == label for label in (4, 7))
    frames = [(1, index, plane) for index, plane in enumerate(first) if plane.any()]
    frames += [(2, index, plane) for index, plane in enumerate(second) if plane.any()]
    frames = frames[::-1]
    dicom_files.write_document(
        tmp_path / "seg.dcm",
        SEGMENTATION,
        Modality="SEG",
        Rows=8, Columns=10, NumberOfFrames=len(frames), SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=1, BitsStored=1, HighBit=0, PixelRepresentation=0,
        SegmentSequence=[item(SegmentNumber=1, SegmentLabel="Node"), item(SegmentNumber=2, SegmentLabel="Jaw")],
        SharedFunctionalGroupsSequence=[
            item(
                PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
                PixelMeasuresSequence=[item(PixelSpacing=[2.0, 1.0])],
            )
        ],
        PerFrameFunctionalGroupsSequence=[
            item(
                PlanePositionSequence=[item(ImagePositionPatient=[5.0, -6.0, 3.0 * index])],
                SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)],
            )
            for number, index, _ in frames
        ],
        PixelData=np.packbits(np.array([plane for *_, plane in frames]).ravel(), bitorder="little").tobytes(),
    )  # fmt: skip
    found = {one.name: one for one in read_structures(tmp_path / "seg.dcm")}
    assert set(found) == {"Node", "Jaw"}
    for name, wanted in {"Node": first, "Jaw": second}.items():
        mask = found[name].mask
        assert mask.GetSpacing() == (1.0, 2.0, 3.0)
        places = [mask.TransformIndexToPhysicalPoint(tuple(at[::-1].tolist())) for at in np.argwhere(voxels(mask))]
        expected = np.argwhere(wanted)[:, ::-1] * [1.0, 2.0, 3.0] + [5.0, -6.0, 0.0]
        assert np.allclose(sorted(places), sorted(map(tuple, expected)))


@pytest.mark.parametrize("document", ["damaged", "of another kind"])
def test_dicom_files_that_hold_none(tmp_path, document):
    drawn(tmp_path / "rs.dcm", {"GTV": [(circle(np.zeros(3), 10.0, np.eye(3)), "CLOSED_PLANAR")]})
    if document == "damaged":
        dicom_files.change(tmp_path / "rs.dcm", StructureSetROISequence=None)
    else:
        dicom_files.change(tmp_path / "rs.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.481.5")
    with pytest.raises(InputError, match="cannot be read|holds no structures"):
        read_structures(tmp_path / "rs.dcm")


# ------------------------------------------------------------------------------------------------------------- command


@pytest.mark.slow
def test_command(tmp_path, capsys):
    s, inside, _ = with_jaw()
    sitk.WriteImage(s.image, str(tmp_path / "head.nrrd"))
    sitk.WriteImage(mask_of(inside, s.image), str(tmp_path / "jaw.nrrd"))
    command = ["deface", str(tmp_path / "head.nrrd"), str(tmp_path / "out.nrrd"), "--keep"]
    assert main([*command, f"{tmp_path / 'jaw.nrrd'}:9"]) == 1
    assert "no structure “9” in the segmentation" in capsys.readouterr().err
    assert main([*command, f"{tmp_path / 'jaw.nrrd'}:1", "--keep-margin", "4"]) == 0
    report = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert report["parameters"]["keep_margin_mm"] == 4.0 and set(report["kept"]) == {"1"}
    near = ndimage.distance_transform_edt(~inside, sampling=2.0) <= 4.0
    assert np.array_equal(voxels(sitk.ReadImage(str(tmp_path / "out.nrrd")))[near], s.hu[near])


@pytest.mark.slow
def test_series_with_a_tilted_gantry(tmp_path):
    s, inside, _ = with_jaw()
    tilted = dicom_files.sheared(s.image, 12.0)
    paths = dicom_files.write_series(tmp_path / "ct", tilted, tilt_degrees=12.0)
    sitk.WriteImage(mask_of(inside, s.image), str(tmp_path / "jaw.nrrd"))
    assert main(["deface", str(tmp_path / "ct"), str(tmp_path / "out"), "--keep", str(tmp_path / "jaw.nrrd")]) == 0
    changed = touched = 0
    after = by_place(tmp_path / "out")
    for path in paths:
        header = pydicom.dcmread(path)
        new = after[tuple(header.ImagePositionPatient), ""]
        differs = header.pixel_array != new.pixel_array
        row, column = np.nonzero(differs)
        place = np.array([float(v) for v in header.ImagePositionPatient])
        for x, y in zip(column.tolist(), row.tolist()):
            index = s.image.TransformPhysicalPointToIndex((place + [2.0 * x, 2.0 * y, 0.0]).tolist())
            if all(0 <= i < n for i, n in zip(index, s.image.GetSize())):
                touched += bool(inside[index[::-1]])
        changed += len(row)
    assert changed > 1000 and touched == 0
