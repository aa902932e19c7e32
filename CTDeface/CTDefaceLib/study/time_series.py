"""NIfTI files with a volume for each time, such as perfusions: read and written one after the other.

Of such a file one time point is in memory, whatever their number.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..nifti import EXTENSION, TYPES, geometry_in, header_of, is_whole_shift, new_header, offset_in, place, stored_type
from ..nifti_geometry import Geometry, geometry_of
from ..stored_data import CHUNK, MOST_INFLATED, TRUNCATED, suffix
from ..volume_io import NIFTI

FREE_TEXT = ("unused", "descrip", "aux_file", "intent_name")
"""Fields of a header in which what can name the patient stands."""

UNIT_SECONDS = 8
"""What NIfTI has for seconds."""

COMPRESSION = 4
"""Of 9, of ``.nii.gz``: smaller files take longer, and gain little. A choice."""


@dataclass(frozen=True)
class TimeSeries:
    """A NIfTI file with a volume for each time.

    Attributes
    ----------
    path: Path
    header: numpy.ndarray
        Its fields, see :func:`.nifti.header_of`.
    form, orientation: str
        How it lies, where it does not say or says two things, see :meth:`.nifti_geometry.Geometry.to_ras`.
    """

    path: Path
    header: np.ndarray
    form: str = ""
    orientation: str = ""

    @property
    def count(self) -> int:
        """Of time points."""
        return int(self.header["dim"][4])

    @property
    def geometry(self) -> Geometry:
        """What the header says of where each volume lies."""
        return geometry_in(self.header)

    @property
    def kind(self) -> np.dtype:
        """Of a stored value."""
        return stored_type(self.header)

    @property
    def rescale(self) -> tuple[float, float]:
        """Slope and intercept: value = stored value * slope + intercept."""
        slope, intercept = float(self.header["scl_slope"]), float(self.header["scl_inter"])
        return (slope, intercept) if slope != 0 and np.isfinite([slope, intercept]).all() else (1.0, 0.0)

    @property
    def grid(self) -> sitk.Image:
        """An empty volume in the place of each time point; uint8.

        Raises
        ------
        InputError
            When the file cannot hold all of its time points, or it is not known where they lie.
        """
        nbytes = math.prod(self.geometry.size) * self.count * self.kind.itemsize
        most = self.path.stat().st_size * (1 if suffix(self.path) == ".nii" else MOST_INFLATED)
        if most < offset_in(self.header) + nbytes:
            raise InputError(TRUNCATED)
        grid = sitk.Image(self.geometry.size, sitk.sitkUInt8)
        place(grid, self.geometry.to_ras(self.form, self.orientation))
        return grid

    def values(self, stored: np.ndarray) -> np.ndarray:
        """What stored values mean: whole numbers where both are, else float32."""
        slope, intercept = self.rescale
        if is_whole_shift(slope, intercept, self.kind):
            values = stored.astype(np.int32) + int(intercept)
            small = values.min() >= -(2**15) and values.max() < 2**15
            return values.astype(np.int16) if small else values
        return (stored * slope + intercept).astype(np.float32)

    def stored(self, values: np.ndarray) -> np.ndarray:
        """Values as they are stored."""
        slope, intercept = self.rescale
        stored = (values.astype(np.float64) - intercept) / slope
        if self.kind.kind in "iu":
            limits = np.iinfo(self.kind)
            stored = np.clip(np.rint(stored), limits.min, limits.max)
        return stored.astype(self.kind)


def time_series(path: str | os.PathLike, form: str = "", orientation: str = "") -> TimeSeries | None:
    """A file with several time points; None for every other file.

    Parameters
    ----------
    path: path
    form, orientation: str
        As in :func:`.volume_io.read_scan`.

    Raises
    ------
    InputError
        When it has several, and more axes than time, or values of a kind that no CT has.
    """
    path = Path(path)
    if suffix(path) not in NIFTI or not path.is_file():
        return None
    try:
        header = header_of(path)
    except (ValueError, OSError):
        return None  # whoever reads it as a volume says what is wrong
    axes = int(header["dim"][0])
    size = [int(n) for n in header["dim"][1 : axes + 1]]
    if not 4 <= axes < 8 or max(size[3:]) < 2 or min(size) < 1:
        return None
    if max(size[4:], default=1) > 1 or int(header["datatype"]) not in TYPES:
        raise InputError("The file holds several volumes, but not one for each time; save the one to deface alone.")
    try:
        offset_in(header)
    except (ValueError, OverflowError) as error:
        raise InputError(TRUNCATED) from error
    return TimeSeries(path, header, form, orientation)


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
    header = np.zeros((), series.header.dtype)
    header[...] = series.header
    for name in FREE_TEXT:
        header[name] = b""
    header["vox_offset"] = header["sizeof_hdr"] + len(EXTENSION)
    with _opened(path, writing=True) as file:
        file.write(header.tobytes() + EXTENSION)
        for stored in _stored(series, shape):
            image = sitk.GetImageFromArray(series.values(stored))
            image.CopyInformation(grid)
            here, values = change(image)
            stored[here] = series.stored(values)
            file.write(stored.tobytes())


def join_times(images: Iterable[sitk.Image], count: int, path: Path, seconds: float = 0.0) -> None:
    """Write volumes on one grid as the time points of a new file, one after the other.

    Parameters
    ----------
    images: iterable of SimpleITK.Image
    count: int
        How many there are.
    path: Path
        A ``.nii`` or ``.nii.gz``.
    seconds: float
        From one to the next; 0 where nobody knows.

    Raises
    ------
    InputError
        When the name is none of NIfTI.
    """
    if suffix(path) not in NIFTI:
        raise InputError("Several time points can be written as .nii or .nii.gz: choose one of these endings.")
    with _opened(path, writing=True) as file:
        for number, image in enumerate(images):
            if not number:
                file.write(_header_for(image, count, seconds).tobytes() + EXTENSION)
            file.write(sitk.GetArrayViewFromImage(image).tobytes())


def _header_for(image: sitk.Image, count: int, seconds: float) -> np.ndarray:
    """The header of a file with several time points that lie as a volume does."""
    header = new_header(image, geometry_of(image))
    header["dim"][:5] = [4, *image.GetSize(), count]
    header["pixdim"][4] = seconds
    header["xyzt_units"] = int(header["xyzt_units"]) & 7 | UNIT_SECONDS
    return header


def _stored(series: TimeSeries, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The stored values of each time point, shape (z, y, x); InputError when some are missing or damaged."""
    length = math.prod(shape) * series.kind.itemsize
    try:
        with _opened(series.path) as file:
            file.seek(offset_in(series.header))
            for _ in range(series.count):
                voxels = file.read(length)
                if len(voxels) < length:
                    raise InputError(TRUNCATED)
                yield np.frombuffer(voxels, series.kind).reshape(shape).copy()
            file.read(CHUNK)  # gzip looks at its checksum where it ends; what goes on far beyond is not followed
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(TRUNCATED) from error


@contextmanager
def _opened(path: Path, writing: bool = False) -> Iterator[BinaryIO]:
    """A file, inflated or compressed where its name says so. What it is written by names no file and no time."""
    with open(path, "wb" if writing else "rb") as file:
        if suffix(path) == ".nii":
            yield file
            return
        with gzip.GzipFile("", "wb" if writing else "rb", COMPRESSION, file, mtime=0) as inflated:
            yield inflated  # type: ignore[misc]
