"""What goes along with a planning CT: contours redrawn or cut, and no dose in front of the new skin."""

import json
from functools import cache

import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from coarse_phantoms import mask_of, scan, voxels
from CTDefaceLib.anatomy.grids import values_at
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom.deface import HeaderWriter, write_documents
from CTDefaceLib.dicom.files import DOSE, PLAN, REGISTRATION, SEGMENTATION, STRUCTURE_SET
from CTDefaceLib.dicom.radiotherapy import clear_dose, is_external, redraw
from CTDefaceLib.phantom import Label
from CTDefaceLib.pipeline import deface
from CTDefaceLib.structures import read_structures
from pydicom.uid import generate_uid
from scipy import ndimage
from test_dicom_references import item
from test_keep import circle
from test_study import face

REPORT = "1.2.840.10008.5.1.4.1.1.88.34"
"""SOP class of a structured report that draws in space."""


def ring(points, kind="CLOSED_PLANAR"):
    data = [f"{value:.3f}" for value in np.ravel(points)]
    return item(ContourGeometricType=kind, NumberOfContourPoints=len(points), ContourData=data)


@cache
def body():
    """The outline of the head in each slice: where rays from its middle leave it, as closed polygons in LPS mm."""
    s = scan()
    inside = ndimage.binary_fill_holes(s.hu > -300)
    inside = ndimage.binary_opening(inside, iterations=2)
    contours = []
    for index, plane in enumerate(inside):
        labels, count = ndimage.label(plane)
        if not count:
            continue
        plane = labels == np.bincount(labels.ravel())[1:].argmax() + 1
        middle = np.array(ndimage.center_of_mass(plane))
        angles, radii = np.radians(np.arange(0.0, 360.0, 3.0)), np.arange(0.0, 70.0, 0.25)
        ray = middle[:, None, None] + np.array([np.sin(angles), np.cos(angles)])[:, :, None] * radii
        along = ndimage.map_coordinates(plane.astype(float), ray, order=1) > 0.5
        last = radii[along.shape[1] - 1 - along[:, ::-1].argmax(axis=1)]
        row, column = middle[:, None] + np.array([np.sin(angles), np.cos(angles)]) * last
        place = np.column_stack([column, row, np.full(len(row), index)]) * s.image.GetSpacing() + s.image.GetOrigin()
        contours.append(place)
    return contours


def points_of(structure):
    return [np.array([float(v) for v in one.ContourData]).reshape(-1, 3) for one in structure.ContourSequence]


def at(function, points):
    """Values of a function on the work grid of the head at points."""
    image = sitk.GetImageFromArray(function)
    image.CopyInformation(face().result.cylinder.head.volume)
    return values_at(image, points)


@pytest.mark.slow
@pytest.mark.parametrize("external", [True, False], ids=["by type", "by geometry"])
def test_the_outline_of_the_body_is_redrawn_along_the_new_skin(external):
    surface = face().result.surface
    structure = item(ReferencedROINumber=1, ContourSequence=[ring(points) for points in body()])
    assert redraw(structure, [surface], external) == "redrawn"
    new = np.concatenate(points_of(structure))
    inside = at(surface.reach, new) > 2.0
    assert inside.sum() > 500
    assert np.percentile(np.abs(at(surface.below, new)[inside]), 95) < 1.0
    before, after = len(body()), {round(float(points[0, 2]), 1) for points in points_of(structure)}
    assert len(after) >= before - 2
    upper = [points for points in body() if points[0, 2] > 60.0]
    kept = [points for points in points_of(structure) if points[0, 2] > 60.0]
    assert len(upper) == len(kept) and all(np.allclose(a, b, atol=1e-2) for a, b in zip(upper, kept))


def test_other_structures_are_cut_where_they_enter_the_region():
    surface = face().result.surface
    lip = np.array(scan().phantom.landmarks["upper_lip"])
    tube = [ring(circle(lip + [0.0, 22.0, height], 20.0, np.eye(3))) for height in np.arange(-9.0, 9.1, 3.0)]
    structure = item(ReferencedROINumber=1, ContourSequence=tube)
    assert redraw(structure, [surface], external=False) == "cut"
    new = np.concatenate(points_of(structure))
    assert at(surface.reach, new).max() < 1.5
    assert new[:, 1].max() == pytest.approx(lip[1] + 42.0, abs=1.0), "its back is where it was"


def test_what_lies_elsewhere_stays_as_it_is():
    brain = np.array(scan().image.TransformIndexToPhysicalPoint((64, 80, 90)))
    structure = item(ReferencedROINumber=1, ContourSequence=[ring(circle(brain, 10.0, np.eye(3)))])
    before = list(structure.ContourSequence[0].ContourData)
    assert redraw(structure, [face().result.surface], external=False) == ""
    assert list(structure.ContourSequence[0].ContourData) == before


def test_structures_within_the_region_are_gone():
    lip = np.array(scan().phantom.landmarks["upper_lip"])
    structure = item(ReferencedROINumber=1, ContourSequence=[ring(circle(lip - [0.0, 8.0, 0.0], 3.0, np.eye(3)))])
    assert redraw(structure, [face().result.surface], external=False) == "gone"
    with pytest.raises(ValueError):
        redraw(item(ContourSequence=[ring([lip], "POINT")]), [face().result.surface], external=False)


def test_the_outline_is_known_by_type_and_name():
    assert is_external("ROI 1", "EXTERNAL") and is_external("Body ", "ORGAN") and is_external("SKIN", "")
    assert not is_external("Skin dose", "ORGAN")


def dose(image, value=1000):
    """A dose on a grid of 4 mm over an image, 32 bits, the same everywhere."""
    size = [int(n * s / 4.0) for n, s in zip(image.GetSize(), image.GetSpacing())]
    words = np.full(size[::-1], value, np.uint32)
    dataset = item(
        SOPClassUID=DOSE, Modality="RTDOSE", Rows=size[1], Columns=size[0], NumberOfFrames=size[2], SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2", BitsAllocated=32, BitsStored=32, HighBit=31, PixelRepresentation=0,
        ImagePositionPatient=list(image.GetOrigin()), ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[4, 4],
        GridFrameOffsetVector=[4.0 * n for n in range(size[2])], DoseGridScaling=1e-4, PixelData=words.tobytes(),
    )  # fmt: skip
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    return dataset


def test_no_dose_is_left_in_front_of_the_new_skin():
    surface, image = face().result.surface, scan().image
    dataset = dose(image)
    cleared = clear_dose(dataset, [surface])
    words = np.frombuffer(dataset.PixelData, "<u4").reshape(dataset.NumberOfFrames, dataset.Rows, dataset.Columns)
    assert set(np.unique(words)) == {0, 1000} and cleared == (words == 0).sum() > 1000
    index = np.stack(np.meshgrid(*(np.arange(n) for n in words.shape), indexing="ij")[::-1], axis=-1)
    points = index * 4.0 + image.GetOrigin()
    reach, below = at(surface.reach, points), at(surface.below, points)
    sure = (np.abs(reach) > 0.05) & (np.abs(below) > 0.05) & (reach > -1000)  # within the work grid
    assert np.array_equal((words == 0)[sure], ((reach > 0) & (below <= 0))[sure])
    assert dataset.DoseGridScaling == 1e-4


def segments(reference, series, image, inside, study):
    """A binary segmentation with a segment for each of two volumes (bool), one after the other."""
    columns, rows, _ = image.GetSpacing()
    frames = [(number, index) for number, _ in enumerate(inside, 1) for index in range(len(inside[0]))]
    places = [list(image.TransformIndexToPhysicalPoint((0, 0, index))) for _, index in frames]
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=[rows, columns])],
    )
    each = [
        item(
            SegmentIdentificationSequence=[item(ReferencedSegmentNumber=number)],
            PlanePositionSequence=[item(ImagePositionPatient=place)],
        )
        for (number, _), place in zip(frames, places)
    ]
    return dict(
        Modality="SEG", StudyInstanceUID=study, Rows=inside[0].shape[1], Columns=inside[0].shape[2],
        NumberOfFrames=len(frames), SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", BitsAllocated=1,
        BitsStored=1, HighBit=0, PixelRepresentation=0, SharedFunctionalGroupsSequence=[shared],
        SegmentSequence=[item(SegmentNumber=n, SegmentLabel=name) for n, name in ((1, "Body"), (2, "Brain"))],
        ReferencedSeriesSequence=[item(SeriesInstanceUID=series, ReferencedInstanceSequence=[reference])],
        PerFrameFunctionalGroupsSequence=each,
        PixelData=np.packbits(np.concatenate(inside).ravel(), bitorder="little").tobytes(),
    )  # fmt: skip


def structures(header):
    """A structure set of body, target and a lymph node beside the face."""
    s = scan()
    target = np.array(s.image.TransformIndexToPhysicalPoint((64, 80, 90)))
    node = np.array(s.phantom.landmarks["upper_lip"]) + [45.0, 60.0, -20.0]
    contours = {"BODY": [ring(points) for points in body()], "PTV": [ring(circle(target, 10.0, np.eye(3)))]}
    contours["Node_L"] = [ring(circle(node + [0.0, 0.0, height], 5.0, np.eye(3))) for height in (-2.0, 0.0, 2.0)]
    series = item(SeriesInstanceUID=header.SeriesInstanceUID, ContourImageSequence=[to(header)])
    study = item(RTReferencedStudySequence=[item(RTReferencedSeriesSequence=[series])])
    numbered = list(enumerate(contours.items(), 1))
    return dict(
        Modality="RTSTRUCT",
        ReferencedFrameOfReferenceSequence=[study],
        StructureSetROISequence=[item(ROINumber=n, ROIName=name) for n, (name, _) in numbered],
        ROIContourSequence=[item(ReferencedROINumber=n, ContourSequence=one) for n, (_, one) in numbered],
    )


def to(header):
    """A reference to an instance."""
    return item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)


@pytest.fixture(scope="module")
def planning(tmp_path_factory):
    """A planning study: CT, structure set, dose, plan, registration, segmentation and report."""
    folder = tmp_path_factory.mktemp("planning")
    s, frame, study = scan(), generate_uid(), generate_uid()
    paths = dicom_files.write_series(folder / "ct", s.image, FrameOfReferenceUID=frame, StudyInstanceUID=study)
    header = pydicom.dcmread(paths[0])

    def write(name, kind, **tags):
        dicom_files.write_document(folder / name, kind, **{**tags, "StudyInstanceUID": study})
        return pydicom.dcmread(folder / name)

    drawn = write("rs.dcm", STRUCTURE_SET, **structures(header))
    plan = write("rp.dcm", PLAN, Modality="RTPLAN", ReferencedStructureSetSequence=[to(drawn)])
    tags = {element.keyword: element.value for element in dose(s.image)}
    tags |= dict(FrameOfReferenceUID=frame, ReferencedRTPlanSequence=[to(plan)])
    write("rd.dcm", tags.pop("SOPClassUID"), **tags)
    moved = item(FrameOfReferenceUID=frame, ReferencedImageSequence=[to(header)])
    write("reg.dcm", REGISTRATION, Modality="REG", RegistrationSequence=[moved])
    inside = ndimage.binary_fill_holes(s.hu > -300), s.labelled(Label.INTRACRANIAL)
    write("seg.dcm", SEGMENTATION, **segments(to(header), header.SeriesInstanceUID, s.image, inside, study))
    lip = np.array(s.phantom.landmarks["upper_lip"])
    brain = s.image.TransformIndexToPhysicalPoint((64, 80, 90))
    places = [
        item(ValueType="SCOORD3D", GraphicType="POINT", GraphicData=[float(value) for value in place])
        for place in (lip - [0.0, 3.0, 0.0], brain)
    ]
    content = [item(ValueType="IMAGE", ReferencedSOPSequence=[to(header)])]
    content += [item(ValueType="CONTAINER", ContentSequence=places)]
    write("sr.dcm", REPORT, Modality="SR", ValueType="CONTAINER", ContentSequence=content)
    return folder


@pytest.mark.slow
def test_a_planning_study(planning, tmp_path, monkeypatch):
    """Kept structures bit-identical, dose elsewhere too, the body along the new skin, and all references fit."""
    s, made = scan(), []

    def watched(*args, **more):
        made.append(deface(*args, **more))
        return made[-1]

    monkeypatch.setattr("CTDefaceLib.pipeline.deface", watched)
    inside = s.labelled(Label.BONE)
    lip = s.image.TransformPhysicalPointToIndex(s.phantom.landmarks["upper_lip"])
    inside[lip[2] :] = False
    inside[:, lip[1] + 20 :] = False
    sitk.WriteImage(mask_of(inside, s.image), str(tmp_path / "jaw.nrrd"))
    command = ["deface", str(planning), str(tmp_path / "out"), "--take-along", "--seed", "1"]
    command += ["--keep", str(tmp_path / "jaw.nrrd"), "--keep", f"{planning / 'rs.dcm'}:targets,nodes"]
    assert main(command) == 0
    report, surface = json.loads((tmp_path / "out.json").read_text()), made[0].surface
    kinds = ("dose", "plan", "registration", "segmentation", "structure set", "structured report")
    assert report["taken_along"] == [f"{kind} (1)" for kind in kinds]
    assert set(report["kept"]) == {"1", "PTV", "Node_L"}
    images = list(map(pydicom.dcmread, (tmp_path / "out").rglob("IM*.dcm")))
    paths = {pydicom.dcmread(path).Modality: path for path in (tmp_path / "out").rglob("REF*.dcm")}
    found = {modality: pydicom.dcmread(path) for modality, path in paths.items()}
    check_references(found, {str(one.SOPInstanceUID) for one in images})
    assert len(found["SR"].ContentSequence[1].ContentSequence) == 1, "what it draws on the lip is gone"
    words = np.frombuffer(found["RTDOSE"].PixelData, "<u4")
    assert (words == 0).sum() > 500 and set(np.unique(words)) == {0, 1000}

    new, old = ({one.name: one for one in read_structures(one)} for one in (paths["RTSTRUCT"], planning / "rs.dcm"))
    for name in ("PTV", "Node_L"):
        assert np.array_equal(voxels(new[name].mask), voxels(old[name].mask)), name
    contour = np.concatenate(points_of(found["RTSTRUCT"].ROIContourSequence[0]))
    within = at(surface.reach, contour) > 2.0
    assert within.sum() > 300 and np.percentile(np.abs(at(surface.below, contour)[within]), 95) < 1.0

    points = np.argwhere(np.ones(s.hu.shape, bool))[:, ::-1] * s.image.GetSpacing() + s.image.GetOrigin()
    reach, below = (at(one, points).reshape(s.hu.shape) for one in (surface.reach, surface.below))
    bodies, brains = np.split(found["SEG"].pixel_array > 0, 2)
    before, brain = np.split(pydicom.dcmread(planning / "seg.dcm").pixel_array > 0, 2)
    outside = (reach < -3.0) & (reach > -1000.0)  # within the work grid
    assert np.array_equal(brains, brain) and np.array_equal(bodies[outside], before[outside])
    in_front = (reach > 2.0) & (below < -1.0)
    assert not (bodies & in_front).any() and (before & in_front).sum() > 500
    assert bodies[(reach > 2.0) & (below > 1.0)].mean() > 0.98

    changed = np.zeros(s.hu.shape, bool)
    for one in images:
        number = round((float(one.ImagePositionPatient[2]) - s.image.GetOrigin()[2]) / s.image.GetSpacing()[2])
        changed[number] = one.pixel_array.astype(int) - 1024 != s.hu[number]
    nearest = sitk.Transform(), sitk.sitkNearestNeighbor
    drawn = [voxels(sitk.Resample(new[name].mask, s.image, *nearest)) > 0 for name in ("PTV", "Node_L")]
    assert changed.sum() > 10000 and not any((changed & one).any() for one in (inside, *drawn))


def check_references(found, images):
    """What goes along refers to what was written."""
    study = found["RTSTRUCT"].ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    to_images = [
        study.RTReferencedSeriesSequence[0].ContourImageSequence[0],
        found["REG"].RegistrationSequence[0].ReferencedImageSequence[0],
        found["SEG"].ReferencedSeriesSequence[0].ReferencedInstanceSequence[0],
        found["SR"].ContentSequence[0].ReferencedSOPSequence[0],
    ]
    assert {one.ReferencedSOPInstanceUID for one in to_images} <= images
    to_structures, to_plan = found["RTPLAN"].ReferencedStructureSetSequence, found["RTDOSE"].ReferencedRTPlanSequence
    assert to_structures[0].ReferencedSOPInstanceUID == found["RTSTRUCT"].SOPInstanceUID
    assert to_plan[0].ReferencedSOPInstanceUID == found["RTPLAN"].SOPInstanceUID


def test_a_report_of_which_cleaning_leaves_nothing_is_left_out(tmp_path):
    pytest.importorskip("dicomanonymizer", reason="pip install ctdeface[dicom]")
    text = item(ValueType="TEXT", TextValue="Jane Doe has a fracture")
    path = tmp_path / "sr.dcm"
    dicom_files.write_document(path, REPORT, Modality="SR", ValueType="CONTAINER", ContentSequence=[text])
    for retain, count in ((None, 1), ([], 0)):
        (tmp_path / str(count)).mkdir()
        prepare = HeaderWriter({"1.2"}, b"s" * 32, True, retain)
        taken, said = write_documents({str(path): (pydicom.dcmread(path), [])}, tmp_path / str(count), prepare)
        assert len(taken) == len(list((tmp_path / str(count)).iterdir())) == count and said == []
