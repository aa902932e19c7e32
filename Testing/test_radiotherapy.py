"""What goes along with a planning CT: contours redrawn or cut, and no dose in front of the new skin."""

from functools import cache

import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from coarse_phantoms import mask_of, scan, voxels
from CTDefaceLib.anatomy.grids import values_at
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom.files import DOSE, STRUCTURE_SET
from CTDefaceLib.dicom.radiotherapy import clear_dose, is_external, redraw
from CTDefaceLib.phantom import Label
from CTDefaceLib.structures import read_structures
from pydicom.uid import generate_uid
from scipy import ndimage
from test_dicom_references import item
from test_keep import circle
from test_study import face


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


@pytest.mark.slow
def test_a_planning_study(tmp_path):
    """PTV kept, outline redrawn, dose cleared; all of it with new UIDs that fit."""
    s, frame = scan(), generate_uid()
    paths = dicom_files.write_series(tmp_path / "in" / "ct", s.image, FrameOfReferenceUID=frame)
    header = pydicom.dcmread(paths[0])
    inside = s.labelled(Label.BONE)
    lip = s.image.TransformPhysicalPointToIndex(s.phantom.landmarks["upper_lip"])
    inside[lip[2] :] = False
    inside[:, lip[1] + 20 :] = False
    sitk.WriteImage(mask_of(inside, s.image), str(tmp_path / "jaw.nrrd"))
    brain = np.array(s.image.TransformIndexToPhysicalPoint((64, 80, 90)))
    contours = {"BODY": [ring(points) for points in body()], "PTV": [ring(circle(brain, 10.0, np.eye(3)))]}
    reference = item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)
    series = item(SeriesInstanceUID=header.SeriesInstanceUID, ContourImageSequence=[reference])
    dicom_files.write_document(
        tmp_path / "in" / "rs.dcm",
        STRUCTURE_SET,
        Modality="RTSTRUCT",
        StudyInstanceUID=header.StudyInstanceUID,
        ReferencedFrameOfReferenceSequence=[
            item(RTReferencedStudySequence=[item(RTReferencedSeriesSequence=[series])])
        ],
        StructureSetROISequence=[item(ROINumber=n, ROIName=name) for n, name in enumerate(contours, 1)],
        ROIContourSequence=[
            item(ReferencedROINumber=n, ContourSequence=one) for n, one in enumerate(contours.values(), 1)
        ],
    )
    plan = dose(s.image)
    tags = {element.keyword: element.value for element in plan}
    tags = {**tags, "StudyInstanceUID": header.StudyInstanceUID, "FrameOfReferenceUID": frame}
    dicom_files.write_document(tmp_path / "in" / "rd.dcm", tags.pop("SOPClassUID"), **tags)
    command = ["deface", str(tmp_path / "in"), str(tmp_path / "out"), "--take-along", "--seed", "1"]
    assert main([*command, "--keep", str(tmp_path / "jaw.nrrd")]) == 0
    found = {one.Modality: one for one in map(pydicom.dcmread, sorted((tmp_path / "out").rglob("REF*.dcm")))}
    assert set(found) == {"RTSTRUCT", "RTDOSE"}
    after = {str(pydicom.dcmread(path).SOPInstanceUID) for path in (tmp_path / "out").rglob("IM*.dcm")}
    study = found["RTSTRUCT"].ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    image = study.RTReferencedSeriesSequence[0].ContourImageSequence[0]
    assert image.ReferencedSOPInstanceUID in after and header.SOPInstanceUID not in after
    words = np.frombuffer(found["RTDOSE"].PixelData, "<u4")
    assert (words == 0).sum() > 500 and set(np.unique(words)) == {0, 1000}
    (name,) = [path for path in (tmp_path / "out").rglob("REF*.dcm") if pydicom.dcmread(path).Modality == "RTSTRUCT"]
    new, old = ({one.name: one for one in read_structures(path)} for path in (name, tmp_path / "in" / "rs.dcm"))
    assert new["PTV"].ml == old["PTV"].ml and abs(new["BODY"].ml - old["BODY"].ml) > 20.0
    changed = 0
    for path in (tmp_path / "out").rglob("IM*.dcm"):
        slice_ = pydicom.dcmread(path)
        at_z = round((float(slice_.ImagePositionPatient[2]) - s.image.GetOrigin()[2]) / s.image.GetSpacing()[2])
        differs = slice_.pixel_array.astype(int) - 1024 != voxels(s.image)[at_z]
        assert not differs[inside[at_z]].any()
        changed += int(differs.sum())
    assert changed > 10000
