"""What a scan is: a volume in Hounsfield units, what there is to say about it, and where it came from.

Nothing here reads or writes; :mod:`.volume_io` does, and the readers of DICOM series in :mod:`.dicom`. Geometry is
SimpleITK's: LPS, millimetres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
import SimpleITK as sitk

from .anatomy.hounsfield import BONE_HU, HALFWAY_HU
from .errors import InputError
from .nifti_geometry import Geometry
from .value_scale import SMALLEST_SHARE, STORED_OFFSET, offset_of, sampled, shares

LARGEST_HU = 100_000
"""In either direction; metal and the values that stand for what was not measured stay below."""

SPACING_MM = (0.05, 20.0)
"""Smallest and largest distance of voxels that can be in mm: micro CT starts below, and nothing is coarser."""

SHEARED = "The axes of the volume are not at right angles (a tilted gantry?); correct the tilt or resample it first."


class Source(str, Enum):
    """Where a scan came from."""

    FILE = "volume file"
    SERIES = "DICOM series"


@dataclass(frozen=True)
class Scan:
    """A CT that was read.

    Attributes
    ----------
    image: SimpleITK.Image
        Scalar 3D volume in Hounsfield units, without header fields other than the geometry.
    notes: tuple of str
        What the reader has to say about it, one sentence each, for the report; nothing of the patient.
    source: Source
        Where it came from.
    left_out: tuple of str
        What else lies in the folder of a series, for a person to read.
    geometry: Geometry or None
        Of a NIfTI file: what its header says of where it lies, for writing it as it was.
    """

    image: sitk.Image
    notes: tuple[str, ...] = ()
    source: Source = Source.FILE
    left_out: tuple[str, ...] = ()
    geometry: Geometry | None = None


def in_hounsfield(image: sitk.Image) -> tuple[sitk.Image, tuple[str, ...]]:
    """Bring a volume that lost its rescale intercept back to Hounsfield units; others stay as they are.

    Returns
    -------
    tuple
        The volume, or 1024 less (signed integers then, where it was of integers), and notes on what was done.

    Raises
    ------
    InputError
        For what is no CT, see :func:`check_ct`.
    """
    check_grid(image)
    low, high = value_range(image)
    if not _checked_offset(image, low, high):
        return image, ()
    if "float" not in image.GetPixelIDTypeAsString():
        image = as_signed(image, low - STORED_OFFSET, high)
    return image - STORED_OFFSET, (
        f"The values look like Hounsfield units with an offset of {STORED_OFFSET} (air at 0, water at "
        f"{STORED_OFFSET}); {STORED_OFFSET} was subtracted.",
    )


def check_ct(image: sitk.Image, modality: str = "") -> None:
    """Refuse a volume that cannot be a CT in Hounsfield units.

    Raises
    ------
    InputError
        When the modality is given and not CT; the volume is not 3D or a single slice, in colour, sheared, or its
        spacing cannot be in mm; a voxel is NaN or infinite; or the values cannot be Hounsfield units: all the same,
        within 0 to 255, shifted, without air (below -500 HU) or without bone (above 250 HU) in a thousandth of the
        voxels.
    """
    check_modality(modality)
    check_grid(image)
    if _checked_offset(image, *value_range(image)):
        raise InputError(
            f"The values look like Hounsfield units with an offset (air at 0, water at {STORED_OFFSET}); "
            f"subtract {STORED_OFFSET} from the volume first."
        )


def check_modality(modality: str) -> None:
    """Refuse another modality than CT, where one is given (InputError)."""
    if modality and modality.upper() != "CT":
        raise InputError(f"The volume says that it is of modality {modality[:16]}, not CT; choose a head CT.")


def check_dimensions(size: tuple[int, ...], components: int) -> None:
    """Refuse sizes (x, y, z, …) and components that are not those of one greyscale 3D volume (InputError)."""
    if components > 1:
        raise InputError("The volume is in colour or of vectors; choose the original CT, not a picture of it.")
    if 0 in size:
        raise InputError("The volume is empty; choose a head CT.")
    if len(size) > 3 and math.prod(size[3:]) > 1:
        raise InputError(f"The file holds {math.prod(size[3:])} volumes; save the one to deface alone.")
    if len(size) < 3 or 1 in size[:3]:
        raise InputError("The image is not 3D but a single slice; choose a volume.")


def check_grid(image: sitk.Image) -> None:
    """Refuse a volume whose axes or spacing cannot be those of a CT (InputError)."""
    check_dimensions(image.GetSize(), image.GetNumberOfComponentsPerPixel())
    if image.GetDimension() != 3:
        raise InputError("The volume has four axes; take the one volume out of it first.")
    axes = np.reshape(image.GetDirection(), (3, 3))
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise InputError(SHEARED)
    smallest, largest = min(image.GetSpacing()), max(image.GetSpacing())
    if not (SPACING_MM[0] <= smallest and largest <= SPACING_MM[1]):
        raise InputError(f"The spacing ({smallest:.3g} to {largest:.3g}) cannot be in mm; correct it in the header.")


def value_range(image: sitk.Image) -> tuple[float, float]:
    """Lowest and highest value; InputError where one is not a number or infinite."""
    values = sitk.GetArrayViewFromImage(image)
    if np.iscomplexobj(values):
        raise InputError("The voxels are complex numbers; choose a CT in Hounsfield units.")
    low, high = values.min().item(), values.max().item()  # either is NaN where any voxel is
    if not np.isfinite([low, high]).all():
        raise InputError("Some voxels are not a number or infinite; replace them (by -1024 outside the scan) first.")
    return low, high


def as_signed(image: sitk.Image, low: float, high: float) -> sitk.Image:
    """Whole numbers from low to high as int16, or int32 where that is too small."""
    return sitk.Cast(image, sitk.sitkInt16 if low >= -(2**15) and high < 2**15 else sitk.sitkInt32)


def _checked_offset(image: sitk.Image, low: float, high: float) -> int:
    """What has to be subtracted for Hounsfield units, 0 or :data:`.value_scale.STORED_OFFSET` (InputError else)."""
    if low == high:
        raise InputError("The volume is empty: all voxels have the same value; choose a head CT.")
    if low >= 0 and high <= 255:
        raise InputError(
            f"The values run from {low:g} to {high:g}, as in a picture of a CT; export the volume in Hounsfield units."
        )
    if max(-low, high) > LARGEST_HU:
        raise InputError(f"The values ({low:g} to {high:g}) cannot be Hounsfield units; choose a CT.")
    values = sampled(image)
    offset = offset_of(values)
    if offset not in (0, STORED_OFFSET):
        raise InputError(
            f"The values look like Hounsfield units shifted by about {offset} (air near {offset - 1000}, soft tissue "
            f"near {offset + 40}), as cone beam scanners store them: subtract {offset} from the volume, or from its "
            "rescale intercept, first."
        )
    air, bone = shares(values - offset)
    if min(air, bone) < SMALLEST_SHARE:
        missing = "air" if air < SMALLEST_SHARE else "bone"
        level = f"below {HALFWAY_HU:g}" if air < SMALLEST_SHARE else f"above {BONE_HU:g}"
        raise InputError(
            f"The values ({low:g} to {high:g}) cannot be Hounsfield units of a head: there is no {missing} ({level}); "
            "choose a CT in Hounsfield units."
        )
    return offset
