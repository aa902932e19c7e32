"""Write DICOM series with planted faults, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_series(folder: str | Path, image: sitk.Image, *, tilt_degrees: float = 0.0, **tags) -> list[Path]:
    """Write an int16 volume as one DICOM file per slice, named in an order that is not theirs in space.

    Slices are stored as unsigned values with a rescale intercept of -1024. A tilt shifts every slice along its
    columns. Any other keyword is a DICOM attribute for all slices; one of None is left out.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    voxels = sitk.GetArrayViewFromImage(image)
    axes = np.reshape(image.GetDirection(), (3, 3))
    columns, rows, spacing = image.GetSpacing()
    shear = np.tan(np.radians(tilt_degrees)) * spacing * axes[:, 1]
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
        position = np.array(image.TransformIndexToPhysicalPoint((0, 0, index))) + index * shear
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
