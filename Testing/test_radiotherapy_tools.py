"""What goes along with a defaced series, by the tools of others: no new error, and segments where we say they are."""

import importlib.util

import dicom_files
import numpy as np
import pydicom
import pytest
from coarse_phantoms import scan, voxels
from CTDefaceLib.dicom.deface import HeaderWriter, uids_of, write_documents
from CTDefaceLib.dicom.defaced_stack import deface_stacks
from CTDefaceLib.dicom.files import PLAN, REGISTRATION, STRUCTURE_SET
from CTDefaceLib.dicom.tree import choose_series, read_tree
from CTDefaceLib.phantom import Label
from CTDefaceLib.pipeline import DefaceParameters
from CTDefaceLib.structures import read_structures
from dicom_servers import tool
from pydicom.uid import generate_uid
from scipy import ndimage
from test_dicom_references import item
from test_dicom_tools import complaints
from test_keep import circle
from test_radiotherapy import REPORT, dose, ring, to

pytestmark = pytest.mark.slow

DAY, TIME = "20240102", "030405"
IN_ALL = dict(
    PatientBirthDate="", PatientSex="", StudyDate=DAY, StudyTime=TIME, SeriesDate=DAY, SeriesTime=TIME, StudyID="1",
    AccessionNumber="", ReferringPhysicianName="", Manufacturer="Maker", ManufacturerModelName="TPS", InstanceNumber=1,
    DeviceSerialNumber="1", SoftwareVersions="1", OperatorsName="", PositionReferenceIndicator="", SeriesNumber=9,
    ContentDate=DAY, ContentTime=TIME,
)  # fmt: skip
"""What a standard wants of each of them."""


def code(value, scheme, meaning):
    return item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def structure_set(image, header, frame):
    """The outline of the body and a target."""
    lip = np.array(scan(field_of_view="upper_lip").phantom.landmarks["upper_lip"])
    tube = [circle(lip + [0.0, 80.0, height], 88.0, np.eye(3)) for height in np.arange(4.0, 30.0, 2.0)]
    brain = np.array(image.TransformIndexToPhysicalPoint((64, 80, 60)))
    drawn = [("BODY", "EXTERNAL", tube), ("PTV", "PTV", [circle(brain, 10.0, np.eye(3))])]
    series = item(SeriesInstanceUID=header.SeriesInstanceUID, ContourImageSequence=[to(header)])
    study = item(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1", ReferencedSOPInstanceUID=header.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )  # fmt: skip
    return dict(
        Modality="RTSTRUCT", StructureSetLabel="Set", StructureSetDate=DAY, StructureSetTime=TIME,
        ApprovalStatus="UNAPPROVED",
        ReferencedFrameOfReferenceSequence=[item(FrameOfReferenceUID=frame, RTReferencedStudySequence=[study])],
        StructureSetROISequence=[
            item(ROINumber=n, ROIName=name, ReferencedFrameOfReferenceUID=frame, ROIGenerationAlgorithm="MANUAL")
            for n, (name, _, _) in enumerate(drawn, 1)
        ],
        ROIContourSequence=[
            item(ReferencedROINumber=n, ContourSequence=[ring(points) for points in tube])
            for n, (_, _, tube) in enumerate(drawn, 1)
        ],
        RTROIObservationsSequence=[
            item(ObservationNumber=n, ReferencedROINumber=n, RTROIInterpretedType=kind, ROIInterpreter="")
            for n, (_, kind, _) in enumerate(drawn, 1)
        ],
    )  # fmt: skip


def report(image, header):
    """A report that draws a point on the skin, and one in the brain."""
    places = (
        scan(field_of_view="upper_lip").phantom.landmarks["upper_lip"],
        image.TransformIndexToPhysicalPoint((64, 80, 60)),
    )
    points = [
        item(
            RelationshipType="CONTAINS",
            ValueType="SCOORD3D",
            GraphicType="POINT",
            ReferencedFrameOfReferenceUID=header.FrameOfReferenceUID,
            ConceptNameCodeSequence=[code("111030", "DCM", "Image Region")],
            GraphicData=list(map(float, place)),
        )
        for place in places
    ]
    picture = item(RelationshipType="CONTAINS", ValueType="IMAGE", ReferencedSOPSequence=[to(header)])
    series = item(SeriesInstanceUID=header.SeriesInstanceUID, ReferencedSOPSequence=[to(header)])
    return dict(
        Modality="SR", ValueType="CONTAINER", ContinuityOfContent="SEPARATE", CompletionFlag="COMPLETE",
        VerificationFlag="UNVERIFIED", ReferencedPerformedProcedureStepSequence=[], PerformedProcedureCodeSequence=[],
        ConceptNameCodeSequence=[code("126000", "DCM", "Imaging Measurement Report")],
        ContentSequence=[picture, *points],
        CurrentRequestedProcedureEvidenceSequence=[
            item(StudyInstanceUID=header.StudyInstanceUID, ReferencedSeriesSequence=[series])
        ],
    )  # fmt: skip


def segmentation(images, inside):
    """Body and brain, as highdicom writes them."""
    import highdicom
    from highdicom.sr.coding import CodedConcept

    anatomy = CodedConcept("123037004", "SCT", "Anatomical Structure")
    described = [
        highdicom.seg.SegmentDescription(number, name, anatomy, CodedConcept(*kind), "MANUAL")
        for number, (name, kind) in enumerate(
            {"Body": ("38266002", "SCT", "Body"), "Brain": ("12738006", "SCT", "Brain")}.items(), 1
        )
    ]
    return highdicom.seg.Segmentation(
        images, np.stack(inside, axis=-1).astype(np.uint8), "BINARY", described, generate_uid(), 8, generate_uid(), 1,
        "Maker", "Model", "1", "1",
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Documents by modality, before and after, with headers kept and cleaned; and what took the face's place."""
    folder, s, frame = tmp_path_factory.mktemp("tools"), scan(field_of_view="upper_lip"), generate_uid()
    paths = dicom_files.write_series(
        folder / "in" / "ct", s.image, FrameOfReferenceUID=frame, RescaleType="HU",
        **{**IN_ALL, "InstanceNumber": 1, "SeriesNumber": 2},
    )  # fmt: skip
    header = pydicom.dcmread(paths[0])

    def write(name, kind, **tags):
        tags = {**IN_ALL, "FrameOfReferenceUID": frame, **tags, "StudyInstanceUID": header.StudyInstanceUID}
        dicom_files.write_document(folder / "in" / name, kind, **tags)
        return pydicom.dcmread(folder / "in" / name)

    drawn = write("rs.dcm", STRUCTURE_SET, **structure_set(s.image, header, frame))
    plan = write(
        "rp.dcm", PLAN, Modality="RTPLAN", RTPlanLabel="Plan", RTPlanDate=DAY, RTPlanTime=TIME,
        RTPlanGeometry="PATIENT", ReferencedStructureSetSequence=[to(drawn)], ApprovalStatus="UNAPPROVED",
    )  # fmt: skip
    tags = {element.keyword: element.value for element in dose(s.image)}
    words = np.frombuffer(tags["PixelData"], np.uint32).astype(np.uint16)  # dciodvfy cannot read 32 bits
    tags |= dict(BitsAllocated=16, BitsStored=16, HighBit=15, PixelData=words.tobytes())
    tags |= dict(DoseUnits="GY", DoseType="PHYSICAL", DoseSummationType="PLAN", ReferencedRTPlanSequence=[to(plan)])
    tags |= dict(FrameIncrementPointer=0x3004000C, SliceThickness=4)
    write("rd.dcm", tags.pop("SOPClassUID"), **tags)
    matrix = item(
        FrameOfReferenceTransformationMatrixType="RIGID", FrameOfReferenceTransformationMatrix=list(np.eye(4).ravel())
    )
    moved = item(
        FrameOfReferenceUID=frame, ReferencedImageSequence=[to(header)],
        MatrixRegistrationSequence=[item(MatrixSequence=[matrix], RegistrationTypeCodeSequence=[])],
    )  # fmt: skip
    write(
        "reg.dcm", REGISTRATION, Modality="REG", RegistrationSequence=[moved], ContentLabel="REG",
        ContentDescription="", ContentCreatorName="", ReferencedSeriesSequence=[
            item(SeriesInstanceUID=header.SeriesInstanceUID, ReferencedInstanceSequence=[to(header)])
        ],
    )  # fmt: skip
    write("sr.dcm", REPORT, **report(s.image, header))
    images = sorted(map(pydicom.dcmread, paths), key=lambda one: float(one.ImagePositionPatient[2]))
    inside = ndimage.binary_fill_holes(s.hu > -300), s.labelled(Label.INTRACRANIAL)
    if importlib.util.find_spec("highdicom"):
        segmentation(images, inside).save_as(folder / "in" / "seg.dcm")

    series = choose_series(read_tree(folder / "in"), "")
    defaced, _ = deface_stacks(series, DefaceParameters(seed=1))
    documents = {str(path): pydicom.dcmread(path) for path in sorted((folder / "in").glob("*.dcm"))}
    uids = series.uids | uids_of(documents.values())
    found = {}
    for name, retain in (("kept", None), ("cleaned", [])):
        if retain is not None:
            pytest.importorskip("dicomanonymizer", reason="pip install ctdeface[dicom]")
        (folder / name).mkdir()
        whole = {path: (pydicom.dcmread(path), defaced) for path in documents}
        write_documents(whole, folder / name, HeaderWriter(uids, b"s" * 32, True, retain))
        found[name] = by_modality(folder / name)
    return by_modality(folder / "in"), found, inside, defaced[0]


def by_modality(folder):
    return {pydicom.dcmread(path).Modality: path for path in folder.glob("*.dcm")}


@pytest.mark.parametrize("headers", ["kept", "cleaned"])
def test_dciodvfy_finds_no_new_error(written, headers):
    program = tool("dciodvfy")
    before, found, *_ = written
    after = found[headers]
    assert set(after) == set(before) - ({"SR"} if headers == "cleaned" else set()), "of a report nothing is left"
    for modality, path in after.items():
        said = {line for line in complaints(program, before[modality]) if line.startswith("Error")}
        new = {line for line in complaints(program, path) if line.startswith("Error")} - said
        assert not new, modality


@pytest.mark.parametrize("headers", ["kept", "cleaned"])
def test_highdicom_sees_the_segments_that_we_wrote(written, headers):
    highdicom = pytest.importorskip("highdicom", reason="pip install highdicom")
    before, found, (body, brain), defaced = written
    path = found[headers]["SEG"]
    seen = highdicom.seg.segread(path)
    assert seen.number_of_segments == 2 and seen.segmentation_type.value == "BINARY"
    volume = seen.get_volume()
    upwards = slice(None, None, 1 if volume.get_geometry().unit_vectors()[0][2] > 0 else -1)
    bodies, brains = (volume.array[upwards, ..., number] > 0 for number in (0, 1))
    assert np.array_equal(brains, brain), "it lies outside the region, bit for bit"
    region = defaced.region
    assert np.array_equal(bodies[~region], body[~region]) and (bodies != body)[region].any()
    masks = [voxels(one.mask) > 0 for one in read_structures(path)]
    assert np.array_equal(masks[0], bodies) and np.array_equal(masks[1], brains)
