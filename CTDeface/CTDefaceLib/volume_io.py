"""Read a head CT in Hounsfield units, refuse what is not one, and write volumes so that no half of one is left.

Formats: NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) and, for reading, a folder with the slices
of one DICOM series. Geometry is SimpleITK's: LPS, millimetres.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import SimpleITK as sitk

from .dicom.even_series import find_series
from .dicom.files import read_dataset
from .errors import InputError, OutputError
from .files import check_output, sync, written_whole
from .processes import libraries_silenced
from .scan import (
    SHEARED,
    Scan,
    Source,
    as_signed,
    check_ct,
    check_dimensions,
    check_modality,
    in_hounsfield,
    value_range,
)
from .stored_data import StoredData, suffix

__all__ = [
    "IMAGE_IO",
    "WRITABLE",
    "Scan",
    "Source",
    "check_ct",
    "check_output",
    "check_volume_name",
    "read_ct",
    "read_scan",
    "read_stored",
    "save_volume",
    "stated_modality",
    "suffix",
    "write_volume",
    "written_whole",
]

IMAGE_IO = {
    ".nii": "NiftiImageIO",
    ".nii.gz": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
"""What can be read, by ending, and what ITK reads it with."""

WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha")
"""What can be written: one file each, so that one rename makes it appear."""

NIFTI_INTEGERS = ("2", "4", "256", "512")
"""NIfTI's codes of uint8, int16, int8 and uint16: a float32 holds them all."""

LARGEST_SIDECAR = 1_000_000
"""Bytes of a JSON file beside a volume that is read; they have a few thousand."""

ODD_NAME = "The name of the file, or of a folder above it, is not in UTF-8, so that it cannot be read: rename it."
TRUNCATED = "The file is truncated, damaged or not of the format that its name says; copy or export it again."


def read_ct(path: str | os.PathLike, series: str = "") -> sitk.Image:
    """Read one head CT volume: the image of :func:`read_scan`, without its notes."""
    return read_scan(path, series).image


def read_scan(path: str | os.PathLike, series: str = "") -> Scan:
    """Read one head CT, and what there is to say about it.

    Parameters
    ----------
    path: path
        A NIfTI, NRRD or MetaImage file, or a folder with one DICOM series.
    series: str
        Series instance UID, where the folder holds others, too.

    Returns
    -------
    Scan
        Its image is of the stored type: int16 stays int16, float stays float. Two kinds of file are stored in other
        units and come as signed integers in Hounsfield units: a NIfTI file of integers whose header shifts them by a
        whole number, and one of any format that lost its rescale intercept, so that air is at 0 and water at 1024
        (this one with a note). Header fields other than the geometry are dropped, since free text in them can name
        the patient.

    Raises
    ------
    InputError
        For anything that is not one complete CT volume; see :func:`check_ct` and
        :func:`.dicom.even_series.find_series`.
    """
    path = Path(path)
    with _quiet_itk():
        if path.is_dir():
            image, source = _read_folder(path, series), Source.SERIES
        elif path.is_file():
            image, source = _read_file(path), Source.FILE
        else:
            raise InputError("There is no such file or folder; check the path of the input.")
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    return Scan(*in_hounsfield(image), source)


def write_volume(image: sitk.Image, path: str | os.PathLike, overwrite: bool = False) -> None:
    """Write a volume or mask under a temporary name in the same folder, check it, and rename it.

    The ending chooses the format; .nii.gz, .nrrd and .mha are compressed, .nii is not. Formats of two files (.nhdr,
    .mhd) cannot appear in one step and are refused.

    Raises
    ------
    OutputError
        When the format is unknown, the file exists and ``overwrite`` is not set, or it cannot be written, for example
        because the disk is full; nothing is left behind then.
    """
    check_volume_name(path)
    with written_whole(path, overwrite=overwrite) as (part,):
        save_volume(image, part)


def check_volume_name(path: str | os.PathLike) -> None:
    """Refuse a file name whose ending is none that :func:`write_volume` writes (OutputError)."""
    if suffix(path) not in WRITABLE:
        raise OutputError(f"A volume can be written as {', '.join(WRITABLE)}; choose one of these endings.")


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
        sync(path)
        data = StoredData(path)
        whole = data.is_long_enough(nbytes) and data.inflates(nbytes)
    except (RuntimeError, OSError, ValueError) as error:
        raise OutputError(incomplete) from error
    if not whole:
        raise OutputError(incomplete)


def _read_folder(folder: Path, uid: str) -> sitk.Image:
    series = find_series(folder, uid)
    check_modality(series.modality)
    for file in series.files:
        read_dataset(file, pixels=False)  # GDCM follows nested sequences until its stack ends
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
        image = as_signed(image, *value_range(image))
    return image


def _read_file(path: Path) -> sitk.Image:
    if suffix(path) not in IMAGE_IO:
        if _is_dicom(path):
            raise InputError("This is a single DICOM file; choose the folder with all slices of the series.")
        raise InputError(f"The input is neither a folder with a DICOM series nor one of {', '.join(IMAGE_IO)}.")
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(ODD_NAME) from error
    reader = sitk.ImageFileReader()
    reader.SetImageIO(IMAGE_IO[suffix(path)])
    reader.SetFileName(str(path))
    try:
        data = StoredData(path)
        reader.ReadImageInformation()
    except (ValueError, RuntimeError) as error:
        raise InputError(SHEARED if "orthonormal" in str(error) else TRUNCATED) from error
    if not all(key.isascii() for key in reader.GetMetaDataKeys()):  # SimpleITK cannot ask for it, nor erase it
        raise InputError(TRUNCATED)
    header = {key.lower(): reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}
    check_modality(_modality(path, header))
    check_dimensions(reader.GetSize(), reader.GetNumberOfComponents())
    nbytes = math.prod(reader.GetSize()) * _stored_bytes(reader, header)
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
    return _unshifted(image, path, header)


def _unshifted(image: sitk.Image, path: Path, header: dict[str, str]) -> sitk.Image:
    """Integers again, where ITK made floats of a NIfTI file's integers to add a whole number to them."""
    whole_numbers = (
        suffix(path) in (".nii", ".nii.gz")
        and header.get("datatype") in NIFTI_INTEGERS
        and float(header["scl_slope"]) == 1
        and float(header["scl_inter"]).is_integer()
    )
    return as_signed(image, *value_range(image)) if whole_numbers else image


def read_stored(path: str | os.PathLike) -> sitk.Image:
    """Read a volume file as it is stored, with its header: labels, or another modality than CT.

    Raises
    ------
    InputError
        When it is not of a known format, or not all of it is there.
    """
    path = Path(path)
    if not path.is_file() or suffix(path) not in IMAGE_IO:
        raise InputError(f"There is no such file, or it is none of {', '.join(IMAGE_IO)}; check its path.")
    reader = sitk.ImageFileReader()
    reader.SetImageIO(IMAGE_IO[suffix(path)])
    reader.SetFileName(str(path))
    with _quiet_itk():
        try:
            data = StoredData(path)
            reader.ReadImageInformation()
            voxels = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
            header = {key.lower(): reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}
            nbytes = voxels * _stored_bytes(reader, header)
            if not (data.is_long_enough(nbytes) and data.inflates(nbytes)):
                raise InputError(TRUNCATED)
            return reader.Execute()
        except (ValueError, RuntimeError) as error:
            raise InputError(SHEARED if "orthonormal" in str(error) else TRUNCATED) from error


@contextmanager
def _quiet_itk() -> Iterator[None]:
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.GlobalWarningDisplayOff()
    try:
        with libraries_silenced():
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
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        if sidecar.is_file() and sidecar.stat().st_size <= LARGEST_SIDECAR:
            return str(json.loads(sidecar.read_text(encoding="utf-8")).get("Modality", ""))
    return ""


def stated_modality(path: Path, image: sitk.Image) -> str:
    """What a file that was read by :func:`read_stored` says it is: CT, MR, PT, …; empty where nothing does."""
    header = {key.lower(): image.GetMetaData(key).strip() for key in image.GetMetaDataKeys()}
    return {"PET": "PT"}.get(stated := _modality(path, header).upper(), stated)


def _stored_bytes(reader: sitk.ImageFileReader, header: dict[str, str]) -> int:
    """Bytes per voxel in the file, which for NIfTI are not those of the type that ITK reads it as."""
    if "bitpix" in header:
        return int(header["bitpix"]) // 8
    return sitk.Image((1, 1, 1), reader.GetPixelID()).GetSizeOfPixelComponent()


def _voxel_bytes(image: sitk.Image) -> int:
    return image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent()
