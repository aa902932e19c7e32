"""NIfTI files, read and written with both transforms that say where their voxels lie.

They are read and written here, not by ITK: that chooses one transform silently, invents one where there is none, writes
its own in place of both, and its library prints to the terminal.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import InputError
from .nifti_geometry import TO_LPS, Geometry, floats, geometry_of, is_rigid
from .scan import SHEARED, check_dimensions
from .stored_data import GZIP_OR_ZLIB, TRUNCATED, inflated, suffix

HEADERS = {
    348: np.dtype([
        ("sizeof_hdr", "i4"), ("unused", "S35"), ("dim_info", "u1"), ("dim", "i2", 8), ("intent_p", "f4", 3),
        ("intent_code", "i2"), ("datatype", "i2"), ("bitpix", "i2"), ("slice_start", "i2"), ("pixdim", "f4", 8),
        ("vox_offset", "f4"), ("scl_slope", "f4"), ("scl_inter", "f4"), ("slice_end", "i2"), ("slice_code", "u1"),
        ("xyzt_units", "u1"), ("cal", "f4", 2), ("slice_duration", "f4"), ("toffset", "f4"), ("gl", "i4", 2),
        ("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "i2"), ("sform_code", "i2"), ("quatern", "f4", 3),
        ("qoffset", "f4", 3), ("srow", "f4", (3, 4)), ("intent_name", "S16"), ("magic", "S4"),
    ]),
    540: np.dtype([
        ("sizeof_hdr", "i4"), ("magic", "S8"), ("datatype", "i2"), ("bitpix", "i2"), ("dim", "i8", 8),
        ("intent_p", "f8", 3), ("pixdim", "f8", 8), ("vox_offset", "i8"), ("scl_slope", "f8"), ("scl_inter", "f8"),
        ("cal", "f8", 2), ("slice_duration", "f8"), ("toffset", "f8"), ("slices", "i8", 2), ("descrip", "S80"),
        ("aux_file", "S24"), ("qform_code", "i4"), ("sform_code", "i4"), ("quatern", "f8", 3), ("qoffset", "f8", 3),
        ("srow", "f8", (3, 4)), ("slice_code", "i4"), ("xyzt_units", "i4"), ("intent_code", "i4"),
        ("intent_name", "S16"), ("dim_info", "u1"), ("unused", "S15"),
    ]),
}  # fmt: skip
"""Size of the header in bytes → its fields: NIfTI-1 and NIfTI-2."""

MAGIC = {348: b"n+1\0", 540: b"n+2\0\r\n\x1a\n"}
"""… → what marks it, in a single file."""

COMPRESSION = 3
"""Level of gzip, 0 to 9: of a noisy CT of 57 MB, 3 makes 33.1 MB in 1.3 s, 6 makes 33.4 MB in 4.3 s."""

EXTENSION = b"\0\0\0\0"
"""After the header: no more of it follows."""

TYPES = {
    2: np.uint8, 4: np.int16, 8: np.int32, 16: np.float32, 64: np.float64, 256: np.int8, 512: np.uint16,
    768: np.uint32, 1024: np.int64, 1280: np.uint64,
}  # fmt: skip
"""Codes of NIfTI for the types of voxels."""

COLOURS, COMPLEX = (128, 2304), (32, 1792, 2048)
"""Codes of what is no grey value."""


@np.errstate(over="ignore", invalid="ignore")
def read_nifti(path: Path, form: str = "", orientation: str = "") -> tuple[sitk.Image, Geometry]:
    """Read a NIfTI file (.nii or .nii.gz, version 1 or 2).

    Integers that the header shifts by a whole number stay integers; scaled otherwise they become float32.

    Parameters
    ----------
    path: path
    form, orientation: str
        As in :meth:`Geometry.to_ras`.

    Raises
    ------
    InputError
        When the file is damaged, or does not hold one grey volume whose place is known.
    """
    try:
        header = header_of(path)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(TRUNCATED) from error
    code, dimensions = int(header["datatype"]), int(header["dim"][0])
    if code in COMPLEX:
        raise InputError("The voxels are complex numbers; choose a CT in Hounsfield units.")
    if not 0 < dimensions < 8 or header["dim"][1 : 1 + dimensions].min() < 0 or code not in (*TYPES, *COLOURS):
        raise InputError(TRUNCATED)
    size = tuple(int(n) for n in header["dim"][1 : 1 + dimensions])
    vectors = len(size) > 4 and size[4] > 1
    check_dimensions((*size[:4], *size[5:]), 3 if code in COLOURS or vectors else 1)
    geometry = geometry_in(header)
    to_ras = geometry.to_ras(form, orientation)
    try:
        voxels = _voxels(path, offset_in(header), stored_type(header), math.prod(geometry.size))
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(TRUNCATED) from error
    image = sitk.GetImageFromArray(_scaled(voxels, header).reshape(geometry.size[::-1]))
    place(image, to_ras)
    return image, geometry


def header_of(path: Path) -> np.ndarray:
    """The fields of a header, in its own byte order; ValueError when it is none."""
    longest = max(HEADERS)
    if suffix(path) == ".nii":
        with open(path, "rb") as file:
            head = file.read(longest)
    else:
        with open(path, "rb") as file:
            try:
                head = zlib.decompressobj(GZIP_OR_ZLIB).decompress(file.read(1 << 16), longest)
            except zlib.error as error:
                raise ValueError("not gzip") from error
    for size, fields in HEADERS.items():
        for ordered in (fields.newbyteorder("<"), fields.newbyteorder(">")):
            header = np.frombuffer(head[:size].ljust(size), ordered, 1)[0]
            if (
                len(head) >= size
                and header["sizeof_hdr"] == size
                and header["magic"].rstrip(b"\0") == (MAGIC[size].rstrip(b"\0"))
            ):
                return header
    raise ValueError("not NIfTI")


def geometry_in(header: np.ndarray) -> Geometry:
    """What a header says of where the first three of its axes lie."""
    return Geometry(
        int(header["sizeof_hdr"]), tuple(int(n) for n in header["dim"][1:4]), floats(header["pixdim"]),
        int(header["xyzt_units"]), (int(header["qform_code"]), int(header["sform_code"])), floats(header["quatern"]),
        floats(header["qoffset"]), tuple(map(floats, header["srow"])),
    )  # fmt: skip


def stored_type(header: np.ndarray) -> np.dtype:
    """Of the voxels as they are stored; KeyError where they are no grey values."""
    return np.dtype(TYPES[int(header["datatype"])]).newbyteorder(header.dtype["dim"].base.byteorder)


def offset_in(header: np.ndarray) -> int:
    """Place of the first voxel in a file, in bytes (ValueError or OverflowError where it is no number)."""
    return max(int(header["sizeof_hdr"]), int(header["vox_offset"]))


def write_nifti(image: sitk.Image, path: Path, geometry: Geometry | None = None) -> None:
    """Write a NIfTI file (.nii or .nii.gz) of a 3D volume.

    Parameters
    ----------
    image: SimpleITK.Image
    path: path
    geometry: Geometry, optional
        Of the file that the volume was read from: qform, sform, their codes and the spacing are written as they were
        there, and the same version of NIfTI. Otherwise both transforms are those of the volume.

    Raises
    ------
    OSError
        When it cannot be written.
    """
    voxels = sitk.GetArrayViewFromImage(image)
    header = new_header(image, geometry or geometry_of(image))
    content = header.tobytes() + EXTENSION, np.ascontiguousarray(voxels, voxels.dtype.newbyteorder("<")).data.cast("B")
    with open(path, "wb") as file:
        if suffix(path) == ".nii":
            file.writelines(content)
        else:
            with gzip.GzipFile(filename="", mode="wb", compresslevel=COMPRESSION, fileobj=file, mtime=0) as zipped:
                for part in content:
                    zipped.write(part)


def new_header(image: sitk.Image, geometry: Geometry) -> np.ndarray:
    """The fields of the header of a file with one 3D volume."""
    voxels = sitk.GetArrayViewFromImage(image)
    header = np.zeros((), HEADERS[geometry.header].newbyteorder("<"))
    header["sizeof_hdr"], header["magic"] = geometry.header, MAGIC[geometry.header]
    header["dim"] = [3, *image.GetSize(), 1, 1, 1, 1]
    header["datatype"] = next(code for code, kind in TYPES.items() if kind == voxels.dtype)
    header["bitpix"], header["scl_slope"] = 8 * voxels.itemsize, 1
    header["vox_offset"] = geometry.header + len(EXTENSION)
    header["pixdim"], header["xyzt_units"] = geometry.pixdim, geometry.units
    header["qform_code"], header["sform_code"] = geometry.codes
    header["quatern"], header["qoffset"], header["srow"] = geometry.quatern, geometry.qoffset, geometry.srow
    return header


def _voxels(path: Path, offset: int, stored: np.dtype, count: int) -> np.ndarray:
    """The stored values in a row, in the byte order of this machine; ValueError when they are not all there."""
    if suffix(path) == ".nii":
        if path.stat().st_size < offset + count * stored.itemsize:
            raise ValueError("truncated")
        voxels = np.fromfile(path, stored, count, offset=offset)
    else:
        voxels = np.frombuffer(inflated(path, offset, count * stored.itemsize), stored)
    return voxels.astype(stored.newbyteorder("="), copy=False)


def _scaled(voxels: np.ndarray, header: np.ndarray) -> np.ndarray:
    """The values that the stored ones stand for."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite([slope, inter]).all() or slope == 0 or (slope, inter) == (1, 0):
        return voxels
    if voxels.dtype.kind == "f":
        return voxels * voxels.dtype.type(slope) + voxels.dtype.type(inter)
    if is_whole_shift(slope, inter, voxels.dtype):
        low, high = int(voxels.min()) + inter, int(voxels.max()) + inter
        whole = np.int16 if -(2**15) <= low and high < 2**15 else np.int32
        return (voxels.astype(np.int32) + int(inter)).astype(whole)
    return voxels.astype(np.float32) * np.float32(slope) + np.float32(inter)


def is_whole_shift(slope: float, inter: float, kind: np.dtype) -> bool:
    """Whether stored whole numbers of a kind stay whole numbers, of 32 bits, when they are rescaled."""
    small = kind.kind in "iu" and kind.itemsize <= 2
    return small and slope == 1 and inter.is_integer() and abs(inter) < 2**31 - 2**16


def place(image: sitk.Image, to_ras: np.ndarray) -> None:
    """Lay a volume where a transform says (InputError where its axes are not at right angles)."""
    if not is_rigid(to_ras) or not np.isfinite(to_ras).all():
        raise InputError(SHEARED)
    spacing = np.linalg.norm(to_ras[:, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((TO_LPS @ to_ras[:, 3]).tolist())
    image.SetDirection((TO_LPS @ (to_ras[:, :3] / spacing)).ravel().tolist())
