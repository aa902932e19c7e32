"""Read a head CT in Hounsfield units, refuse what is not one, and write volumes so that no half of one is left.

Formats: NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) and, for reading, a folder with a DICOM
series. Geometry is SimpleITK's: LPS, millimetres.
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

from .dicom.tree import is_dicom, read_tree
from .dicom.volume import read_volume
from .errors import InputError, OutputError
from .files import check_output, sync, written_whole
from .nifti import read_nifti, write_nifti
from .nifti_geometry import NO_ORIENTATION, TO_LPS, Geometry, axes_of, told
from .processes import libraries_silenced
from .scan import (
    SHEARED,
    Scan,
    Source,
    check_ct,
    check_dimensions,
    check_modality,
    in_hounsfield,
)
from .stored_data import TRUNCATED, StoredData, suffix

__all__ = [
    "IMAGE_IO",
    "WRITABLE",
    "Scan",
    "Source",
    "check_ct",
    "check_output",
    "check_volume_name",
    "read_ct",
    "read_placed",
    "read_scan",
    "read_stored",
    "save_volume",
    "stated_modality",
    "suffix",
    "write_volume",
    "written_whole",
]

IMAGE_IO = {
    ".nii": "",
    ".nii.gz": "",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
"""What can be read, by ending, and what of ITK reads it; NIfTI is read by :mod:`.nifti`."""

NIFTI = (".nii", ".nii.gz")
"""The endings of NIfTI."""

WRITABLE = (".nii", ".nii.gz", ".nrrd", ".mha")
"""What can be written: one file each, so that one rename makes it appear."""

LARGEST_SIDECAR = 1_000_000
"""Bytes of a JSON file beside a volume that is read; they have a few thousand."""

ODD_NAME = "The name of the file, or of a folder above it, is not in UTF-8, so that it cannot be read: rename it."


def read_ct(path: str | os.PathLike, series: str = "", *, form: str = "", orientation: str = "") -> sitk.Image:
    """Read one head CT volume: the image of :func:`read_scan`, without its notes."""
    return read_scan(path, series, form=form, orientation=orientation).image


def read_scan(path: str | os.PathLike, series: str = "", *, form: str = "", orientation: str = "") -> Scan:
    """Read one head CT, and what there is to say about it.

    Parameters
    ----------
    path: path
        A NIfTI, NRRD or MetaImage file; or a folder with a DICOM series, its DICOMDIR, or a multi-frame DICOM file.
    series: str
        Number or series instance UID, where the folder holds other CT series, too.
    form: str
        Of a NIfTI file with two transforms, which can differ: the one that holds, ``"qform"`` or ``"sform"``.
    orientation: str
        Of a NIfTI file without any, or of an NRRD or MetaImage file that lacks it as well: where its axes lead, such as
        ``"RAS"`` for right, anterior and superior. A note tells that it was told.

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
        For anything that is not one complete CT volume; see :func:`check_ct`, :func:`.dicom.tree.read_tree` and
        :func:`.dicom.volume.read_volume`.
    """
    path = Path(path)
    if not (os.path.isdir(path) or os.path.isfile(path)):  # a pipe could be waited for for ever
        raise InputError("There is no such file or folder; check the path of the input.")
    if path.is_dir() or suffix(path) not in IMAGE_IO and is_dicom(path):
        return read_volume(read_tree(path), series)
    if suffix(path) not in IMAGE_IO:
        raise InputError(f"The input is neither a folder with a DICOM series nor one of {', '.join(IMAGE_IO)}.")
    if suffix(path) in NIFTI:
        check_modality(_modality(path, {}))
        image, geometry = read_nifti(path, form, orientation)
    else:
        with _quiet_itk():
            image, geometry = _read_by_itk(path, orientation), None
    image, notes = in_hounsfield(image)
    by_hand = orientation and not is_oriented(path, geometry)
    return Scan(image, (*notes, *([told(orientation)] if by_hand else ())), geometry=geometry)


def is_oriented(path: str | os.PathLike, geometry: Geometry | None) -> bool:
    """Whether a volume file says which way its axes lead; ``geometry`` is that of a NIfTI file, None for others."""
    return any(geometry.codes) if geometry else StoredData(Path(path)).oriented


def write_volume(
    image: sitk.Image, path: str | os.PathLike, overwrite: bool = False, geometry: Geometry | None = None
) -> None:
    """Write a volume or mask under a temporary name in the same folder, check it, and rename it.

    The ending chooses the format; .nii.gz, .nrrd and .mha are compressed, .nii is not. Formats of two files (.nhdr,
    .mhd) cannot appear in one step and are refused.

    Parameters
    ----------
    image: SimpleITK.Image
    path: path
    overwrite: bool
        Replace a file that exists.
    geometry: Geometry, optional
        Of a scan that was read from NIfTI, for a volume on its grid: in NIfTI both transforms stay as they were.

    Raises
    ------
    OutputError
        When the format is unknown, the file exists and ``overwrite`` is not set, or it cannot be written, for example
        because the disk is full; nothing is left behind then.
    """
    check_volume_name(path)
    with written_whole(path, overwrite=overwrite) as (part,):
        save_volume(image, part, geometry)


def check_volume_name(path: str | os.PathLike) -> None:
    """Refuse a file name whose ending is none that :func:`write_volume` writes (OutputError)."""
    if suffix(path) not in WRITABLE:
        raise OutputError(f"A volume can be written as {', '.join(WRITABLE)}; choose one of these endings.")


def save_volume(image: sitk.Image, path: Path, geometry: Geometry | None = None) -> None:
    """As :func:`write_volume`, under this very name; all of it is on the disk then (OutputError otherwise)."""
    nbytes = _voxel_bytes(image)
    free = shutil.disk_usage(path.parent).free
    incomplete = f"The output could not be written completely; make room on its disk ({free / 1e6:.0f} MB were free)."
    if suffix(path) == ".nii" and free < nbytes:
        raise OutputError(incomplete)
    try:
        _write(image, path, geometry)
        sync(path)
        data = StoredData(path)
        whole = data.is_long_enough(nbytes) and data.inflates(nbytes)
    except (RuntimeError, OSError, ValueError) as error:
        raise OutputError(incomplete) from error
    if not whole:
        raise OutputError(incomplete)


def _write(image: sitk.Image, path: Path, geometry: Geometry | None) -> None:
    if suffix(path) in NIFTI:
        write_nifti(image, path, geometry)
        return
    with _quiet_itk():
        sitk.WriteImage(image, str(path), useCompression=True, imageIO=IMAGE_IO[suffix(path)])


def _read_by_itk(path: Path, orientation: str) -> sitk.Image:
    reader, data = _opened(path)
    header = {key.lower(): reader.GetMetaData(key).strip() for key in reader.GetMetaDataKeys()}
    check_modality(_modality(path, header))
    check_dimensions(reader.GetSize(), reader.GetNumberOfComponents())
    nbytes = _stored_bytes(reader)
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
    _orient(image, data, orientation)
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    return image


def _orient(image: sitk.Image, data: StoredData, orientation: str) -> None:
    """Lay a volume as a person tells, in place, where the file does not (InputError where neither does)."""
    if data.oriented or image.GetDimension() != 3:
        return
    if not orientation:
        raise InputError(NO_ORIENTATION.format("there are no directions in a patient's space in its header"))
    image.SetDirection((TO_LPS @ axes_of(orientation)).ravel().tolist())


def _opened(path: Path) -> tuple[sitk.ImageFileReader, StoredData]:
    """The header of an NRRD or MetaImage file, as ITK reads it, and where the voxels are stored."""
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
    return reader, data


def read_stored(path: str | os.PathLike, *, form: str = "", orientation: str = "") -> sitk.Image:
    """The image of :func:`read_placed`."""
    return read_placed(path, form=form, orientation=orientation)[0]


def read_placed(
    path: str | os.PathLike, *, form: str = "", orientation: str = ""
) -> tuple[sitk.Image, Geometry | None]:
    """Read a volume file as it is stored, with the header where it is no NIfTI: labels, or another modality than CT.

    Parameters
    ----------
    path: path
    form, orientation: str
        As in :func:`read_scan`.

    Returns
    -------
    tuple
        The volume, and of a NIfTI file what its header says of where it lies.

    Raises
    ------
    InputError
        When it is not of a known format, not all of it is there, or it is not known how it lies.
    """
    path = Path(path)
    if not path.is_file() or suffix(path) not in IMAGE_IO:
        raise InputError(f"There is no such file, or it is none of {', '.join(IMAGE_IO)}; check its path.")
    if suffix(path) in NIFTI:
        return read_nifti(path, form, orientation)
    with _quiet_itk():
        reader, data = _opened(path)
        nbytes = _stored_bytes(reader)
        if not (data.is_long_enough(nbytes) and data.inflates(nbytes)):
            raise InputError(TRUNCATED)
        try:
            image = reader.Execute()
            _orient(image, data, orientation)
            return image, None
        except (ValueError, RuntimeError) as error:
            raise InputError(TRUNCATED) from error


@contextmanager
def _quiet_itk() -> Iterator[None]:
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.GlobalWarningDisplayOff()
    try:
        with libraries_silenced():
            yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)


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


def _stored_bytes(reader: sitk.ImageFileReader) -> int:
    """Bytes that the voxels of a file take."""
    component = sitk.Image((1, 1, 1), reader.GetPixelID()).GetSizeOfPixelComponent()
    return math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * component


def _voxel_bytes(image: sitk.Image) -> int:
    return image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent()
