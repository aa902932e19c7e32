"""A DICOM dose as volume: values, units and place, however its planes lie."""

import dicom_files
import numpy as np
import pytest
import SimpleITK as sitk
from CTDefaceEvalLib.structures import measured, read_dose
from CTDefaceLib.dicom.files import DOSE, PLAN
from CTDefaceLib.errors import InputError

CORNER, SPACING, GAP, SCALING = np.array([-40.0, 15.0, 30.0]), (2.0, 3.0), 2.5, 2e-4
"""LPS mm; mm along a row and down a column; mm between planes; gray for each stored unit."""
SHAPE = (6, 8, 10)


def axes(tilt_deg):
    """Along a row, down a column, across the planes, of a grid that is tilted about the patient's left."""
    c, s = np.cos(np.radians(tilt_deg)), np.sin(np.radians(tilt_deg))
    return np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])


def stored():
    """Stored values that rise with the place in each direction."""
    return (np.indices(SHAPE) * np.array([400, 30, 5]).reshape(3, 1, 1, 1)).sum(axis=0).astype(np.uint32)


def write_dose(path, *, tilt_deg=0.0, step=GAP, first=0.0, **changes):
    words = stored()
    tags = {
        "Modality": "RTDOSE", "Rows": SHAPE[1], "Columns": SHAPE[2], "NumberOfFrames": SHAPE[0], "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 32, "BitsStored": 32, "HighBit": 31,
        "PixelRepresentation": 0, "ImagePositionPatient": CORNER.tolist(), "PixelSpacing": [SPACING[1], SPACING[0]],
        "ImageOrientationPatient": axes(tilt_deg)[:2].ravel().tolist(), "DoseUnits": "GY", "DoseGridScaling": SCALING,
        "GridFrameOffsetVector": [first + step * n for n in range(SHAPE[0])], "PixelData": words.tobytes(),
    }  # fmt: skip
    tags.update(changes)
    dicom_files.write_document(path, DOSE, **{name: value for name, value in tags.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("tilt_deg", "step", "first"), [(0.0, GAP, 0.0), (0.0, -GAP, 0.0), (25.0, GAP, 0.0), (0.0, GAP, CORNER[2])]
)
def test_each_value_lies_in_its_place(tmp_path, tilt_deg, step, first):
    """Also where planes go down, the grid is tilted, and offsets are the planes' own heights."""
    dose = read_dose(write_dose(tmp_path / "d.dcm", tilt_deg=tilt_deg, step=step, first=first))
    plane, row, column = np.indices(SHAPE)
    along, down, across = axes(tilt_deg)
    points = CORNER + (column * SPACING[0])[..., None] * along + (row * SPACING[1])[..., None] * down
    points = points + (plane * step)[..., None] * across
    found = [dose[dose.TransformPhysicalPointToIndex(point)] for point in points.reshape(-1, 3).tolist()]
    assert found == pytest.approx((stored() * SCALING).ravel().tolist(), abs=1e-5)
    assert dose.GetSpacing() == pytest.approx((*SPACING, GAP)) and dose.GetPixelID() == sitk.sitkFloat32


def test_a_structures_dose_is_that_of_its_voxels(tmp_path):
    dose = read_dose(write_dose(tmp_path / "d.dcm"))
    array = np.zeros(SHAPE, np.uint8)
    array[2:4, 3, 5:7] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(dose)
    (one,) = measured({"target": lambda: mask}, mask * 0, None, dose)
    inside = stored()[array > 0] * SCALING
    assert one.dose == pytest.approx((inside.max(), inside.mean()), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"SOPClassUID": PLAN}, "is no dose"),
        ({"DoseGridScaling": None}, "DoseGridScaling"),
        ({"GridFrameOffsetVector": [0.0, 2.5, 5.0]}, "number of planes"),
        ({"GridFrameOffsetVector": [0.0, 2.5, 5.0, 9.0, 10.0, 12.5]}, "evenly"),
        ({"GridFrameOffsetVector": None}, "grid of the dose"),
        ({"PixelData": bytes(12)}, "decoded"),
    ],
)
def test_a_dose_that_cannot_be_placed_ends_in_one_sentence(tmp_path, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        read_dose(write_dose(tmp_path / "d.dcm", **changes))
