"""Read a head CT in Hounsfield units, refuse what is not one, and write volumes so that no half of one is left.

Formats: NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) and, for reading, a folder with the slices
of one DICOM series. Geometry is SimpleITK's: LPS, millimetres.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError, OutputError
from .stored_data import StoredData, suffix

IMAGE_IO = {
    ".nii": "NiftiImageIO",
    ".nii.gz": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
#: what can be written: one file each, so that one rename makes it appear
WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha")

AIR_HU = -500  # below: air
BONE_HU = 250  # above: bone, also a child's
LARGEST_HU = 100_000  # in either direction; metal and paddings stay below
SMALLEST_SHARE = 0.001  # of the voxels; every head CT has far more air and more bone than this
STORED_OFFSET = 1024  # HU = stored value - 1024 where a rescale intercept got lost
SPACING_MM = (0.05, 20.0)
SAMPLED_VOXELS = 1_000_000

NIFTI_INTEGERS = ("2", "4", "256", "512")  # uint8, int16, int8, uint16: a float32 holds them all

TRUNCATED = "The file is truncated, damaged or not of the format that its name says; copy or export it again."
SHEARED = "The axes of the volume are not at right angles (a tilted gantry?); correct the tilt or resample it first."


def read_ct(path: str | os.PathLike, series: str = "") -> sitk.Image:
    """Read one head CT volume.

    Parameters
    ----------
    path: a NIfTI, NRRD or MetaImage file, or a folder with one DICOM series
    series: series instance UID, where the folder holds others, too

    Returns
    -------
    Scalar 3D volume in Hounsfield units, of the stored type: int16 stays int16, float stays float. Two kinds of file
    are stored in other units and come as signed integers in Hounsfield units: a NIfTI file of integers whose header
    shifts them by a whole number, and one of any format that lost its rescale intercept, so that air is at 0 and water
    at 1024 (this one with a UserWarning). Header fields other than the geometry are dropped, since free text in them
    can name the patient.

    Raises
    ------
    InputError
        for anything that is not one complete CT volume; see :func:`check_ct` and
        :func:`.dicom.even_series.find_series`
    """
    path = Path(path)
    with _quiet_itk():
        if path.is_dir():
            image = _read_folder(path, series)
        elif path.is_file():
            image = _read_file(path)
        else:
            raise InputError("There is no such file or folder; check the path of the input.")
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    return in_hounsfield(image)


def in_hounsfield(image: sitk.Image) -> sitk.Image:
    """The volume, or 1024 less where it lost its rescale intercept (with a UserWarning).

    Raises
    ------
    InputError
        for what is no CT, see :func:`check_ct`
    """
    _check_grid(image)
    low, high = _value_range(image)
    if _lost_its_intercept(image, low, high):
        warnings.warn(
            f"The values look like Hounsfield units with an offset of {STORED_OFFSET} (air at 0, water at "
            f"{STORED_OFFSET}); {STORED_OFFSET} was subtracted.",
            stacklevel=2,
        )
        if "float" not in image.GetPixelIDTypeAsString():
            image = _as_signed(image, low - STORED_OFFSET, high)
        image = image - STORED_OFFSET
        low, high = low - STORED_OFFSET, high - STORED_OFFSET
    _check_values(image, low, high)
    return image


def check_ct(image: sitk.Image, modality: str = "") -> None:
    """Refuse a volume that cannot be a CT in Hounsfield units.

    Raises
    ------
    InputError
        when the modality is given and not CT; the volume is not 3D or a single slice, in colour, sheared, or its
        spacing cannot be in mm; a voxel is NaN or infinite; or the values cannot be Hounsfield units: all the same,
        within 0 to 255, without air (below -500 HU) or without bone (above 250 HU) in a thousandth of the voxels
    """
    _check_modality(modality)
    _check_grid(image)
    low, high = _value_range(image)
    if _lost_its_intercept(image, low, high):
        raise InputError(
            f"The values look like Hounsfield units with an offset (air at 0, water at {STORED_OFFSET}); "
            f"subtract {STORED_OFFSET} from the volume first."
        )
    _check_values(image, low, high)


def write_volume(image: sitk.Image, path: str | os.PathLike, overwrite: bool = False) -> None:
    """Write a volume or mask under a temporary name in the same folder, check it, and rename it.

    The ending chooses the format; .nii.gz, .nrrd and .mha are compressed, .nii is not. Formats of two files (.nhdr,
    .mhd) cannot appear in one step and are refused.

    Raises
    ------
    OutputError
        when the format is unknown, the file exists and `overwrite` is not set, or it cannot be written, for example
        because the disk is full; nothing is left behind then
    """
    check_volume_name(path)
    with written_whole(path, overwrite=overwrite) as (part,):
        save_volume(image, part)


def check_volume_name(path: str | os.PathLike) -> None:
    """Refuse a file name whose ending is none that :func:`write_volume` writes (OutputError)."""
    if suffix(path) not in WRITABLE:
        raise OutputError(f"A volume can be written as {', '.join(WRITABLE)}; choose one of these endings.")


def check_output(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Refuse an output path whose folder is missing, or that exists while `overwrite` is not set (OutputError)."""
    path = Path(path)
    if path.is_dir():
        raise OutputError("The output is a folder; add a file name to it.")
    if not path.parent.is_dir():
        raise OutputError("The folder of the output does not exist; make it or choose another one.")
    if path.exists() and not overwrite:
        raise OutputError("The output exists already; choose another name or allow overwriting.")


@contextmanager
def written_whole(*paths: str | os.PathLike, overwrite: bool = False) -> Iterator[list[Path]]:
    """Temporary names beside `paths`, renamed in this order when the block ends well and deleted otherwise.

    The last path appears last, so that it tells that all of them are there.
    """
    finals = [Path(path) for path in paths]
    for final in finals:
        check_output(final, overwrite)
    parts = [final.with_name(f".{secrets.token_hex(8)}.part{suffix(final)}") for final in finals]
    created: list[Path] = []
    try:
        yield parts
        for final in finals:
            check_output(final, overwrite)
        for part, final in zip(parts, finals):
            if not final.exists():
                created.append(final)
            os.replace(part, final)
        created.clear()
    except OSError as error:
        raise OutputError(f"The output could not be written: {error.strerror or type(error).__name__}.") from error
    finally:
        for left in parts + created:
            with suppress(OSError):
                left.unlink(missing_ok=True)


def save_volume(image: sitk.Image, path: Path) -> None:
    """Write a volume under this very name and make sure that all of it is on the disk (OutputError otherwise)."""
    compressed = suffix(path) != ".nii"
    nbytes = _voxel_bytes(image)
    free = shutil.disk_usage(path.parent).free
    incomplete = f"The output could not be written completely; make room on its disk ({free / 1e6:.0f} MB were free)."
    if not compressed and free < nbytes:
        raise OutputError(incomplete)
    try:
        with _quiet_itk():
            sitk.WriteImage(image, str(path), useCompression=compressed, imageIO=IMAGE_IO[suffix(path)])
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        data = StoredData(path)
        whole = data.is_long_enough(nbytes) and data.inflates(nbytes)
    except (RuntimeError, OSError, ValueError) as error:
        raise OutputError(incomplete) from error
    if not whole:
        raise OutputError(incomplete)


def _read_folder(folder: Path, uid: str) -> sitk.Image:
    from .dicom.even_series import find_series  # pydicom takes its time to import

    series = find_series(folder, uid)
    _check_modality(series.modality)
    reader = sitk.ImageSeriesReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileNames(series.files)
    if not series.same_rescale:
        reader.SetOutputPixelType(sitk.sitkFloat32)  # else the first slice's rescale sets the type for all
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError("The DICOM pixels cannot be decoded; copy or export the series again.") from error
    if image.GetPixelID() == sitk.sitkInt32:  # 16 unsigned bits and an intercept: more than a CT needs
        image = _as_signed(image, *_value_range(image))
    return image


def _read_file(path: Path) -> sitk.Image:
    if suffix(path) not in IMAGE_IO:
        if _is_dicom(path):
            raise InputError("This is a single DICOM file; choose the folder with all slices of the series.")
        raise InputError(f"The input is neither a folder with a DICOM series nor one of {', '.join(IMAGE_IO)}.")
    reader = sitk.ImageFileReader()
    reader.SetImageIO(IMAGE_IO[suffix(path)])
    reader.SetFileName(str(path))
    try:
        data = StoredData(path)
        reader.ReadImageInformation()
    except (ValueError, RuntimeError) as error:
        raise InputError(SHEARED if "orthonormal" in str(error) else TRUNCATED) from error
    header = {key.lower(): reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}
    _check_modality(_modality(path, header))
    _check_dimensions(reader.GetSize(), reader.GetNumberOfComponents())
    nbytes = int(np.prod(reader.GetSize())) * _stored_bytes(reader, header)
    if not data.is_long_enough(nbytes):
        raise InputError(TRUNCATED)
    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(data.inflates, nbytes)
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise InputError(TRUNCATED) from error
        if not whole.result():
            raise InputError(TRUNCATED)
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]
    if image.GetPixelIDTypeAsString().startswith("vector"):
        image = sitk.VectorIndexSelectionCast(image, 0)
    return _unshifted(image, header)


def _unshifted(image: sitk.Image, header: dict[str, str]) -> sitk.Image:
    """Integers again, where ITK made floats of a NIfTI file's integers to add a whole number to them."""
    whole_numbers = (
        header.get("datatype") in NIFTI_INTEGERS
        and float(header["scl_slope"]) == 1
        and float(header["scl_inter"]).is_integer()
    )
    return _as_signed(image, *_value_range(image)) if whole_numbers else image


@contextmanager
def _quiet_itk() -> Iterator[None]:
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.GlobalWarningDisplayOff()
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


def _is_dicom(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _modality(path: Path, header: dict[str, str]) -> str:
    """What a file says its modality is: NRRD and MetaImage in their header, NIfTI in a BIDS JSON file beside it."""
    for key in ("0008|0060", "modality"):
        name = header.get(key, "").upper().removeprefix("MET_MOD_")
        if name not in ("", "UNKNOWN", "OTHER"):
            return name
    sidecar = path.with_name(path.name[: -len(suffix(path))] + ".json")
    with suppress(OSError, ValueError, AttributeError):
        return str(json.loads(sidecar.read_text(encoding="utf-8")).get("Modality", ""))
    return ""


def _check_modality(modality: str) -> None:
    if modality and modality.upper() != "CT":
        raise InputError(f"The volume says that it is of modality {modality[:16]}, not CT; choose a head CT.")


def _check_dimensions(size: tuple[int, ...], components: int) -> None:
    if components > 1:
        raise InputError("The volume is in colour or of vectors; choose the original CT, not a picture of it.")
    if 0 in size:
        raise InputError("The volume is empty; choose a head CT.")
    if len(size) > 3 and np.prod(size[3:]) > 1:
        raise InputError(f"The file holds {int(np.prod(size[3:]))} volumes; save the one to deface alone.")
    if len(size) < 3 or 1 in size[:3]:
        raise InputError("The image is not 3D but a single slice; choose a volume.")


def _check_grid(image: sitk.Image) -> None:
    _check_dimensions(image.GetSize(), image.GetNumberOfComponentsPerPixel())
    if image.GetDimension() != 3:
        raise InputError("The volume has four axes; take the one volume out of it first.")
    axes = np.reshape(image.GetDirection(), (3, 3))
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        raise InputError(SHEARED)
    smallest, largest = min(image.GetSpacing()), max(image.GetSpacing())
    if not (SPACING_MM[0] <= smallest and largest <= SPACING_MM[1]):
        raise InputError(f"The spacing ({smallest:.3g} to {largest:.3g}) cannot be in mm; correct it in the header.")


def _value_range(image: sitk.Image) -> tuple[float, float]:
    values = sitk.GetArrayViewFromImage(image)
    if np.iscomplexobj(values):
        raise InputError("The voxels are complex numbers; choose a CT in Hounsfield units.")
    low, high = values.min().item(), values.max().item()  # either is NaN where any voxel is
    if not np.isfinite([low, high]).all():
        raise InputError("Some voxels are not a number or infinite; replace them (by -1024 outside the scan) first.")
    return low, high


def _sample(image: sitk.Image) -> np.ndarray:
    values = sitk.GetArrayViewFromImage(image)
    step = max(1, round((values.size / SAMPLED_VOXELS) ** (1 / 3)))
    return values[::step, ::step, ::step].astype(np.float32)


def _shares(hu: np.ndarray) -> tuple[float, float]:
    return float((hu < AIR_HU).mean()), float((hu > BONE_HU).mean())


def _lost_its_intercept(image: sitk.Image, low: float, high: float) -> bool:
    """Whether values that start at 0 or above become a CT by subtracting 1024.

    Air and bone show it, and most of what lies between air and bone within 150 HU of water, where soft tissue is.
    """
    if low < 0 or high >= 2**15:  # above: negative values stored as unsigned ones
        return False
    hu = _sample(image) - STORED_OFFSET
    between = np.abs(hu[(hu > AIR_HU) & (hu < -AIR_HU)])
    return min(_shares(hu)) >= SMALLEST_SHARE and between.size > 0 and float((between < 150).mean()) > 0.5


def _as_signed(image: sitk.Image, low: float, high: float) -> sitk.Image:
    """Whole numbers from low to high as int16, or int32 where that is too small."""
    return sitk.Cast(image, sitk.sitkInt16 if low >= -(2**15) and high < 2**15 else sitk.sitkInt32)


def _check_values(image: sitk.Image, low: float, high: float) -> None:
    if low == high:
        raise InputError("The volume is empty: all voxels have the same value; choose a head CT.")
    if low >= 0 and high <= 255:
        raise InputError(
            f"The values run from {low:g} to {high:g}, as in a picture of a CT; export the volume in Hounsfield units."
        )
    if max(-low, high) > LARGEST_HU:
        raise InputError(f"The values ({low:g} to {high:g}) cannot be Hounsfield units; choose a CT.")
    air, bone = _shares(_sample(image))
    if min(air, bone) < SMALLEST_SHARE:
        missing = "air" if air < SMALLEST_SHARE else "bone"
        level = f"below {AIR_HU}" if air < SMALLEST_SHARE else f"above {BONE_HU}"
        raise InputError(
            f"The values ({low:g} to {high:g}) cannot be Hounsfield units of a head: there is no {missing} ({level}); "
            "choose a CT in Hounsfield units."
        )


def _stored_bytes(reader: sitk.ImageFileReader, header: dict[str, str]) -> int:
    """Bytes per voxel in the file, which for NIfTI are not those of the type that ITK reads it as."""
    if "bitpix" in header:
        return int(header["bitpix"]) // 8
    return sitk.Image((1, 1, 1), reader.GetPixelID()).GetSizeOfPixelComponent()


def _voxel_bytes(image: sitk.Image) -> int:
    return image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent()
