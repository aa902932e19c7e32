"""Write DICOM series with planted faults, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_series(
    folder: str | Path, image: sitk.Image, *, tilt_degrees: float = 0.0, heights: list[float] | None = None, **tags
) -> list[Path]:
    """Write an int16 volume as one DICOM file per slice, named in an order that is not theirs in space.

    Slices are stored as unsigned values with a rescale intercept of -1024. A tilt shifts every slice along its
    columns; ``heights`` are the places of the slices along the normal, in mm from the first. Any other keyword is a
    DICOM attribute for all slices; one of None is left out.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    voxels = sitk.GetArrayViewFromImage(image)
    axes = np.reshape(image.GetDirection(), (3, 3))
    columns, rows, spacing = image.GetSpacing()
    heights = spacing * np.arange(len(voxels)) if heights is None else np.asarray(heights)
    shear = np.tan(np.radians(tilt_degrees)) * axes[:, 1]
    common = {
        "SOPClassUID": CTImageStorage,
        "Modality": "CT",
        "PatientName": "Doe^Jane",
        "PatientID": "4711",
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "SeriesNumber": 3,
        "SeriesDescription": "Head of Jane Doe",
        "ImageOrientationPatient": [*axes[:, 0], *axes[:, 1]],
        "PixelSpacing": [rows, columns],
        "SliceThickness": spacing,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
    }
    names = np.random.default_rng(0).permutation(len(voxels))
    paths = []
    for index, pixels in enumerate(voxels):
        header = pydicom.Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.Rows, header.Columns = pixels.shape
        header.InstanceNumber = index + 1
        position = np.array(image.GetOrigin()) + heights[index] * (axes[:, 2] + shear)
        header.ImagePositionPatient = [f"{value:.10g}" for value in position]
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        header.PixelData = (pixels.astype(np.int32) + 1024).astype("<u2").tobytes()
        for keyword, value in {**common, **tags}.items():
            if value is not None:
                setattr(header, keyword, value)
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
        header.save_as(folder / f"IM{names[index]:04}.dcm", enforce_file_format=True)
        paths.append(folder / f"IM{names[index]:04}.dcm")
    return paths


def slice_header(**tags):
    """A CT slice of two by two pixels with a full header."""
    header = pydicom.Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    common = dict(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2", SOPInstanceUID=generate_uid(), StudyInstanceUID=generate_uid(),
        SeriesInstanceUID=generate_uid(), FrameOfReferenceUID=generate_uid(), Modality="CT", SeriesNumber=3,
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], PatientName="Doe^Jane", PatientID="4711-0815", PatientSex="F",
        PatientBirthDate="19700203", PatientAge="050Y", PatientWeight=70, StudyDate="20200304", StudyTime="101112",
        AcquisitionDateTime="20200304101113.5", AccessionNumber="ACC12345", ReferringPhysicianName="House^Gregory",
        InstitutionName="Hospital of Otherville", StationName="CTOTHER1", DeviceSerialNumber="SN98765",
        Manufacturer="Maker", SeriesDescription="Head of Jane Doe 2.0 axial", ProtocolName="Head routine",
        ConvolutionKernel="H31s", ImagePositionPatient=[1, 2, 3], ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        PixelSpacing=[1, 1], Rows=2, Columns=2, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=16, BitsStored=16, HighBit=15, PixelRepresentation=0, RescaleSlope=1, RescaleIntercept=-1024,
        RescaleType="HU", PixelData=b"\0" * 8,
    )  # fmt: skip
    for keyword, value in {**common, **tags}.items():
        setattr(header, keyword, value)
    return header


def change(path: str | Path, **tags) -> None:
    """Set DICOM attributes of one file; those of None are removed."""
    header = pydicom.dcmread(path)
    for keyword, value in tags.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.save_as(path)


def change_syntax(path: str | Path, syntax: str) -> None:
    """Write a file anew in another uncompressed transfer syntax; the pixels stay as they are."""
    dataset, fresh = pydicom.dcmread(path), pydicom.Dataset()
    fresh.update({element.tag: element for element in dataset})
    fresh.file_meta = dataset.file_meta
    fresh.file_meta.TransferSyntaxUID = syntax
    fresh.save_as(path, enforce_file_format=True)


def compress(path: str | Path, syntax: str) -> None:
    """Compress the pixels of a file with GDCM, which knows all lossless ways; ``syntax`` as GDCM names it."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def sheared(image: sitk.Image, tilt_degrees: float = 0.0, heights: list[float] | None = None) -> sitk.Image:
    """The slices that a tilted gantry, or one that stops at these heights, would give of what a volume shows."""
    spacing = image.GetSpacing()
    heights = spacing[2] * np.arange(image.GetSize()[2]) if heights is None else heights
    axes = np.reshape(image.GetDirection(), (3, 3))
    slices = []
    for height in heights:
        aside = np.tan(np.radians(tilt_degrees)) * height
        place = sitk.Image([*image.GetSize()[:2], 1], image.GetPixelID())
        place.SetSpacing(spacing)
        place.SetDirection(image.GetDirection())
        place.SetOrigin((np.array(image.GetOrigin()) + axes @ [0.0, aside, height]).tolist())
        slices.append(sitk.GetArrayFromImage(sitk.Resample(image, place, sitk.Transform(), sitk.sitkLinear, -1000))[0])
    out = sitk.GetImageFromArray(np.array(slices))
    out.SetSpacing(spacing)
    out.SetOrigin(image.GetOrigin())
    out.SetDirection(image.GetDirection())
    return out


def write_multi_frame(path: str | Path, image: sitk.Image, **tags) -> None:
    """Write an int16 volume as one enhanced CT image."""
    voxels = sitk.GetArrayViewFromImage(image)
    axes = np.reshape(image.GetDirection(), (3, 3))
    columns, rows, spacing = image.GetSpacing()

    def item(**attributes) -> pydicom.Dataset:
        dataset = pydicom.Dataset()
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        return dataset

    header = item(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", SOPInstanceUID=generate_uid(), Modality="CT", PatientName="Doe^Jane",
        PatientID="4711", StudyInstanceUID=generate_uid(), SeriesInstanceUID=generate_uid(), SeriesNumber=3,
        ImageType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], SamplesPerPixel=1, BitsAllocated=16, BitsStored=16,
        HighBit=15, PixelRepresentation=1, PhotometricInterpretation="MONOCHROME2", NumberOfFrames=len(voxels),
        Rows=voxels.shape[1], Columns=voxels.shape[2], PixelData=voxels.astype("<i2").tobytes(),
    )  # fmt: skip
    header.SharedFunctionalGroupsSequence = [
        item(
            PixelMeasuresSequence=[item(PixelSpacing=[rows, columns], SliceThickness=spacing)],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[*axes[:, 0], *axes[:, 1]])],
            PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=0, RescaleType="HU")],
            CTImageFrameTypeSequence=[item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])],
        )
    ]
    header.PerFrameFunctionalGroupsSequence = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[f"{value:.10g}" for value in place])])
        for place in (image.TransformIndexToPhysicalPoint((0, 0, index)) for index in range(len(voxels)))
    ]
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.save_as(path, enforce_file_format=True)


def write_document(path: str | Path, kind: str, **tags) -> None:
    """Write a DICOM file that is no slice: any SOP class, no pixels unless given."""
    header = pydicom.Dataset()
    header.SOPClassUID, header.SOPInstanceUID = kind, generate_uid()
    header.PatientName, header.PatientID, header.Modality = "Doe^Jane", "4711", "OT"
    header.StudyInstanceUID, header.SeriesInstanceUID = generate_uid(), generate_uid()
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = kind
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    header.save_as(path, enforce_file_format=True)
