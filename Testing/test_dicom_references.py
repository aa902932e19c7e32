"""Structure sets and segmentations that go along with a defaced series."""

import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from coarse_phantoms import scan, voxels
from CTDefaceLib.dicom.deface import deface_series
from CTDefaceLib.dicom.files import SEGMENTATION, STRUCTURE_SET
from CTDefaceLib.phantom import Label
from CTDefaceLib.pipeline import DefaceParameters
from scipy import ndimage
from test_dicom import by_place

SEED = DefaceParameters(seed=1)


def item(**attributes):
    dataset = pydicom.Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def outline(inside, image):
    """Points on the edge of an area (bool, whole volume) in each slice, as items of a contour sequence."""
    contours = []
    for index, plane in enumerate(inside):
        row, column = np.nonzero(plane & ~ndimage.binary_erosion(plane))
        if len(row) > 2:
            points = [image.TransformIndexToPhysicalPoint((int(c), int(r), index)) for r, c in zip(row, column)]
            data = [f"{value:.3f}" for value in np.ravel(points)]
            contours.append(item(ContourGeometricType="POINT", NumberOfContourPoints=len(row), ContourData=data))
    return contours


def structure_set(path, header, structures, image):
    """A structure set that refers to a series; ``structures`` is name → (interpreted type, bool volume)."""
    reference = item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)
    series = item(SeriesInstanceUID=header.SeriesInstanceUID, ContourImageSequence=[reference])
    study = item(ReferencedSOPInstanceUID=header.StudyInstanceUID, RTReferencedSeriesSequence=[series])
    dicom_files.write_document(
        path,
        STRUCTURE_SET,
        Modality="RTSTRUCT",
        StudyInstanceUID=header.StudyInstanceUID,
        StructureSetLabel="Plan of Jane Doe",
        ReferencedFrameOfReferenceSequence=[item(RTReferencedStudySequence=[study])],
        StructureSetROISequence=[item(ROINumber=n, ROIName=name) for n, name in enumerate(structures, 1)],
        ROIContourSequence=[
            item(ReferencedROINumber=n, ContourSequence=outline(inside, image))
            for n, (_, inside) in enumerate(structures.values(), 1)
        ],
        RTROIObservationsSequence=[
            item(ObservationNumber=n, ReferencedROINumber=n, RTROIInterpretedType=kind, ROIInterpreter="")
            for n, (kind, _) in enumerate(structures.values(), 1)
        ],
    )


def segmentation(path, header, inside, image):
    """A binary segmentation of a series, one frame for each slice."""
    axes = np.reshape(image.GetDirection(), (3, 3))
    columns, rows, _ = image.GetSpacing()
    reference = item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)
    dicom_files.write_document(
        path,
        SEGMENTATION,
        Modality="SEG",
        Rows=inside.shape[1],
        Columns=inside.shape[2],
        NumberOfFrames=len(inside),
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
        PixelRepresentation=0,
        SegmentSequence=[item(SegmentNumber=1, SegmentLabel="Skin of Doe", SegmentAlgorithmType="MANUAL")],
        ReferencedSeriesSequence=[
            item(SeriesInstanceUID=header.SeriesInstanceUID, ReferencedInstanceSequence=[reference])
        ],
        SharedFunctionalGroupsSequence=[
            item(
                PlaneOrientationSequence=[item(ImageOrientationPatient=[*axes[:, 0], *axes[:, 1]])],
                PixelMeasuresSequence=[item(PixelSpacing=[rows, columns])],
            )
        ],
        PerFrameFunctionalGroupsSequence=[
            item(
                PlanePositionSequence=[
                    item(ImagePositionPatient=list(image.TransformIndexToPhysicalPoint((0, 0, index))))
                ]
            )
            for index in range(len(inside))
        ],
        PixelData=np.packbits(inside.ravel(), bitorder="little").tobytes(),
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A series with a structure set, a segmentation, and a structure set of another series."""
    folder = tmp_path_factory.mktemp("study")
    head = scan(field_of_view="upper_lip")
    paths = dicom_files.write_series(folder / "ct", head.image)
    header = pydicom.dcmread(paths[0])
    tissue = ndimage.binary_fill_holes(head.hu > -300)
    brain = ndimage.binary_erosion(head.labelled(Label.INTRACRANIAL), iterations=2)
    behind = np.zeros_like(tissue)
    behind[:, 90:96, 60:70] = tissue[:, 90:96, 60:70]
    structures = {"Brain": ("ORGAN", brain), "Body": ("EXTERNAL", behind), "Haut": ("ORGAN", tissue)}
    structure_set(folder / "rs.dcm", header, structures, head.image)
    segmentation(folder / "seg.dcm", header, tissue, head.image)
    other = item(SOPClassUID="1.2", SOPInstanceUID="1.2.3", SeriesInstanceUID="1.2.4", StudyInstanceUID="1.2.5")
    structure_set(folder / "other.dcm", other, structures, head.image)
    return folder


def documents(folder):
    found = [pydicom.dcmread(path) for path in sorted(folder.glob("REF*.dcm"))]
    return {one.Modality: one for one in found}


@pytest.mark.slow
def test_left_out_by_default(study, tmp_path):
    report = deface_series(study, tmp_path / "out", SEED)
    assert report["left_out"] == ["segmentation (1)", "structure set (2)"]
    assert not documents(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("retain", [None, [], ["descriptors"]])
def test_taken_along_without_the_face(study, tmp_path, retain):
    if retain is not None:
        pytest.importorskip("dicomanonymizer", reason="pip install ctdeface[dicom]")
    report = deface_series(study, tmp_path / "out", SEED, take_along=True, retain=retain)
    assert report["left_out"] == ["structure set (1)"]
    found = documents(tmp_path / "out")
    after = images(tmp_path / "out")
    series = {one.SeriesInstanceUID for one in after.values()}
    instances = {one.SOPInstanceUID for one in after.values()}

    structures, mask = found["RTSTRUCT"], found["SEG"]
    names = [one.get("ROIName") for one in structures.StructureSetROISequence]
    assert len(names) == len(structures.ROIContourSequence) == len(structures.RTROIObservationsSequence) == 1
    if retain is None:
        assert names == ["Brain"]
    reference = structures.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
    reference = reference.RTReferencedSeriesSequence[0]
    assert {reference.SeriesInstanceUID} == series
    assert reference.ContourImageSequence[0].ReferencedSOPInstanceUID in instances
    assert {mask.ReferencedSeriesSequence[0].SeriesInstanceUID} == series
    assert structures.SOPInstanceUID == structures.file_meta.MediaStorageSOPInstanceUID
    assert not {structures.SOPInstanceUID, mask.SOPInstanceUID} & original_uids(study)

    original = pydicom.dcmread(study / "seg.dcm").pixel_array > 0
    kept = mask.pixel_array > 0
    before = images(study / "ct")
    old, new = (np.array([one[height].pixel_array for height in sorted(before)]) for one in (before, after))
    header = next(iter(after.values()))
    tissue = new * float(header.RescaleSlope) + float(header.RescaleIntercept) > -300
    changed = new != old
    assert (kept != original)[~changed].mean() < 1e-3, "some of what was filled has the value that was there"
    assert (kept == tissue)[changed].mean() > 0.95, "the body ends at the new skin"
    assert (original & ~kept).any() and kept.sum() > 0.5 * original.sum()
    assert [note.split(",")[0].partition(":")[0] for note in report["notes"]] == [
        "Structures left out of a structure set", "Segments of a body redrawn along the new skin"
    ]  # fmt: skip
    if retain is not None:
        for path in (tmp_path / "out").iterdir():
            assert b"Doe" not in path.read_bytes() and pydicom.dcmread(path).PatientID != "4711"
        assert mask.SegmentSequence[0].SegmentLabel


def images(folder):
    """Slices of a folder by their height."""
    found = [pydicom.dcmread(path) for path in folder.glob("IM*.dcm")]
    return {float(one.ImagePositionPatient[2]): one for one in found}


def original_uids(folder):
    return {str(pydicom.dcmread(path).SOPInstanceUID) for path in folder.rglob("*.dcm")}


@pytest.mark.slow
def test_outline_of_a_tilted_series(tmp_path):
    """A structure inside the skull stays, one on the skin goes, in the true geometry of the slices."""
    head = scan()
    slices = dicom_files.sheared(head.image, 15.0)
    paths = dicom_files.write_series(tmp_path / "in" / "ct", slices, tilt_degrees=15.0)
    header = pydicom.dcmread(paths[0])
    brain = ndimage.binary_erosion(head.labelled(Label.INTRACRANIAL), iterations=2)
    skin = ndimage.binary_fill_holes(voxels(head.image) > -300)
    structure_set(tmp_path / "in" / "rs.dcm", header, {"a": ("ORGAN", brain), "b": ("ORGAN", skin)}, head.image)
    deface_series(tmp_path / "in", tmp_path / "out", SEED, take_along=True)
    structures = documents(tmp_path / "out")["RTSTRUCT"]
    assert [one.ROIName for one in structures.StructureSetROISequence] == ["a"]


def test_segmentation_that_shows_nothing_else_is_left_out(study, tmp_path):
    head = scan(field_of_view="upper_lip")
    header = pydicom.dcmread(next((study / "ct").iterdir()))
    (tmp_path / "in").mkdir()
    for path in (study / "ct").iterdir():
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    nose = np.zeros(head.hu.shape, bool)
    face = sitk.GetArrayFromImage(head.face) > 0
    index = np.argwhere(face)
    tip = index[index[:, 1].argmin()]
    nose[tuple(tip)] = True
    segmentation(tmp_path / "in" / "seg.dcm", header, nose, head.image)
    report = deface_series(tmp_path / "in", tmp_path / "out", SEED, take_along=True)
    assert report["left_out"] == ["segmentation (1)"] and not documents(tmp_path / "out")
    assert by_place(tmp_path / "out")
