"""NIfTI files with a volume for each time, such as perfusions: read and written one after the other.

ITK holds all of such a file in memory. Here one time point is, whatever their number.
"""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..stored_data import GZIP_MAGIC, suffix
from ..volume_io import TRUNCATED

TYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4"}
"""NIfTI's codes of the types of voxels → numpy's."""

FREE_TEXT = {348: ((4, 28), (148, 104), (328, 16)), 540: ((240, 104), (508, 16))}
"""Size of the header → where in it, and how long, what can name the patient stands: old names, description, file."""

COMPRESSION = 4
"""Of 9, of ``.nii.gz``: smaller files take longer, and gain little. A choice."""


@dataclass(frozen=True)
class TimeSeries:
    """A NIfTI file with a volume for each time.

    Attributes
    ----------
    path: Path
    header: bytes
        Its header as it is.
    order: str
        ``<`` or ``>``: of the bytes of a number.
    count: int
        Of time points.
    offset: int
        Of the first voxel, in bytes.
    kind: numpy.dtype
        Of a stored value.
    slope, intercept: float
        Value = stored value * slope + intercept.
    """

    path: Path
    header: bytes
    order: str
    count: int
    offset: int
    kind: np.dtype
    slope: float
    intercept: float

    @property
    def grid(self) -> sitk.Image:
        """An empty volume in the place of each time point; uint8. InputError where the file is damaged."""
        reader = sitk.ImageFileReader()
        reader.SetImageIO("NiftiImageIO")
        reader.SetFileName(str(self.path))
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise InputError(TRUNCATED) from error
        grid = sitk.Image(reader.GetSize()[:3], sitk.sitkUInt8)
        grid.SetSpacing(reader.GetSpacing()[:3])
        grid.SetOrigin(reader.GetOrigin()[:3])
        size = reader.GetDimension()
        grid.SetDirection(np.reshape(reader.GetDirection(), (size, size))[:3, :3].ravel().tolist())
        return grid

    def values(self, stored: np.ndarray) -> np.ndarray:
        """What stored values mean: whole numbers where both are, else float32."""
        if self.slope == 1 and float(self.intercept).is_integer() and self.kind.kind in "iu" and self.kind.itemsize < 4:
            values = stored.astype(np.int32) + int(self.intercept)
            small = values.min() >= -(2**15) and values.max() < 2**15
            return values.astype(np.int16) if small else values
        return (stored * self.slope + self.intercept).astype(np.float32)

    def stored(self, values: np.ndarray) -> np.ndarray:
        """Values as they are stored."""
        stored = (values.astype(np.float64) - self.intercept) / self.slope
        if self.kind.kind in "iu":
            limits = np.iinfo(self.kind)
            stored = np.clip(np.rint(stored), limits.min, limits.max)
        return stored.astype(self.kind)


def time_series(path: str | os.PathLike) -> TimeSeries | None:
    """A file with several time points; None for every other file.

    Raises
    ------
    InputError
        When it has several, and more axes than time, or values of a kind that no CT has.
    """
    path = Path(path)
    if suffix(path) not in (".nii", ".nii.gz") or not path.is_file():
        return None
    try:
        with _opened(path) as file:
            header = file.read(540)
    except (OSError, EOFError, zlib.error):
        return None  # whoever reads it as a volume says what is wrong
    order = next((order for order in "<>" if header[:4] in (_number(order, 348), _number(order, 540))), "")
    if len(header) < 540 or not order:
        return None
    size = struct.unpack_from(order + "i", header)[0]
    if size == 348:
        dimensions = struct.unpack_from(order + "8h", header, 40)
        code, (start, slope, intercept) = (
            struct.unpack_from(order + "h", header, 70)[0],
            struct.unpack_from(order + "3f", header, 108),
        )
    else:
        dimensions = struct.unpack_from(order + "8q", header, 16)
        code, start = struct.unpack_from(order + "h", header, 12)[0], struct.unpack_from(order + "q", header, 168)[0]
        slope, intercept = struct.unpack_from(order + "2d", header, 176)
    if dimensions[0] < 4 or max(dimensions[4 : dimensions[0] + 1]) < 2:
        return None
    if (
        max(dimensions[5 : dimensions[0] + 1], default=1) > 1
        or code not in TYPES
        or header[size - 4 : size - 1] == b"ni1"
    ):
        raise InputError("The file holds several volumes, but not one for each time; save the one to deface alone.")
    usable = slope != 0 and np.isfinite([slope, intercept]).all()
    kind = np.dtype(order + TYPES[code])
    slope, intercept = (float(slope), float(intercept)) if usable else (1.0, 0.0)
    return TimeSeries(path, header[:size], order, int(dimensions[4]), int(start), kind, slope, intercept)


def time_points(series: TimeSeries) -> Iterator[sitk.Image]:
    """The volumes of a file one after the other.

    Raises
    ------
    InputError
        When the file is cut short or damaged.
    """
    grid = series.grid
    shape = grid.GetSize()[::-1]
    for stored in _stored(series, shape):
        image = sitk.GetImageFromArray(series.values(stored))
        image.CopyInformation(grid)
        yield image


def write_time_series(
    series: TimeSeries, path: Path, change: Callable[[sitk.Image], tuple[np.ndarray, np.ndarray]]
) -> None:
    """Write a file anew, one time point after the other; free text of its header is left out.

    Parameters
    ----------
    series: TimeSeries
    path: Path
        Another ``.nii`` or ``.nii.gz``.
    change: callable
        Gives, of each volume, where it changes (bool, shape (z, y, x)) and the new values there.
    """
    grid = series.grid
    shape = grid.GetSize()[::-1]
    header, size = bytearray(series.header), len(series.header)
    for start, length in FREE_TEXT[size]:
        header[start : start + length] = bytes(length)
    struct.pack_into(series.order + ("f" if size == 348 else "q"), header, 108 if size == 348 else 168, size + 4)
    with _opened(path, writing=True) as file:
        file.write(bytes(header) + bytes(4))  # and no extensions
        for stored in _stored(series, shape):
            image = sitk.GetImageFromArray(series.values(stored))
            image.CopyInformation(grid)
            here, values = change(image)
            stored[here] = series.stored(values)
            file.write(stored.tobytes())


def _stored(series: TimeSeries, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The stored values of each time point, shape (z, y, x); InputError when some are missing or damaged."""
    length = int(np.prod(shape)) * series.kind.itemsize
    try:
        with _opened(series.path) as file:
            file.read(series.offset)
            for _ in range(series.count):
                voxels = file.read(length)
                if len(voxels) < length:
                    raise InputError(TRUNCATED)
                yield np.frombuffer(voxels, series.kind).reshape(shape).copy()
            file.read(1)  # gzip looks at its checksum there
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(TRUNCATED) from error


@contextmanager
def _opened(path: Path, writing: bool = False) -> Iterator[BinaryIO]:
    """A file, inflated or compressed where its name says so. What it is written by names no file and no time."""
    with open(path, "wb" if writing else "rb") as file:
        compressed = suffix(path) == ".nii.gz"
        if not writing:
            compressed = file.read(2) == GZIP_MAGIC
            file.seek(0)
        if not compressed:
            yield file
            return
        with gzip.GzipFile("", "wb" if writing else "rb", COMPRESSION, file, mtime=0) as inflated:
            yield inflated  # type: ignore[misc]


def _number(order: str, number: int) -> bytes:
    return struct.pack(order + "i", number)
