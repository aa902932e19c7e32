"""Find the one series in a DICOM folder and put its slices in order, from the headers alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .files import TAGS, dicom_header, is_image, series_number

if TYPE_CHECKING:
    import pydicom

PLACE_TOLERANCE_MM = 0.1
"""How far a slice may lie from its place in an even stack: positions are often rounded to a tenth of a millimetre."""

PLACE_TOLERANCE = 0.1
"""… or this share of the spacing: thick slices are placed less exactly."""

TILT_TOLERANCE_DEGREES = 0.25
"""Up to this the slices count as straight: a head of 200 mm is then sheared by less than a millimetre."""


@dataclass(frozen=True)
class Series:
    """One DICOM series that stacks into an even volume.

    Attributes
    ----------
    files: list of str
        One file per slice, in the order of their position along the slice normal.
    modality: str
        (0008,0060), for example ``CT``.
    same_rescale: bool
        Whether all slices share one rescale slope and intercept.
    """

    files: list[str]
    modality: str
    same_rescale: bool


def find_series(folder: str | os.PathLike, uid: str = "") -> Series:
    """Look at the headers of all files in a folder (not in its sub-folders) and order the slices of its series.

    Files that are no DICOM images are passed over, and those of other series than the one with the given ``uid``.

    Raises
    ------
    InputError
        Without exactly one series of single-frame greyscale images; with slices missing, double, unevenly spaced, of
        different size or orientation, sheared by a tilted gantry, or with a truncated file.
        The sentence names no file and no value of the header that could tell who the patient is.
    """
    folder = Path(folder)
    slices = [one for one in _image_headers(folder) if uid in ("", str(one[1].get("SeriesInstanceUID", "")))]
    if not slices:
        inner = any(entry.is_dir() for entry in os.scandir(folder))
        raise InputError(
            "The folder itself holds no DICOM images; choose the sub-folder with the series."
            if inner
            else "The folder holds no DICOM images; choose the folder with the slices of one CT series."
        )
    _check_one_series([header for _, header in slices])
    headers = [header for _, header in slices]
    order = _even_order(*_geometry(headers))
    rescales = {(header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0)) for header in headers}
    return Series([slices[i][0] for i in order], str(headers[0].get("Modality", "")), len(rescales) == 1)


def _image_headers(folder: Path) -> list[tuple[str, pydicom.Dataset]]:
    files = sorted(entry.path for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith("."))
    slices = []
    for number, path in enumerate(files, 1):
        header = _image_header(path)
        if header is None:
            raise InputError(
                f"A DICOM file is truncated or damaged (number {number} of the {len(files)} files in the folder by "
                "name); copy the series again."
            )
        if header:
            slices.append((path, header))
    return slices


def _image_header(path: str) -> pydicom.Dataset | None:
    """The header of a DICOM image; an empty one for a file that is none, None for one that is cut short."""
    import pydicom

    header = dicom_header(path, TAGS)
    return pydicom.Dataset() if header is not None and not is_image(header) else header


def _check_one_series(headers: list[pydicom.Dataset]) -> None:
    series: dict[str, list[pydicom.Dataset]] = {}
    for header in headers:
        series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    if len(series) > 1:
        listed = sorted((series_number(members[0]), _described(members)) for members in series.values())
        texts = [text for _, text in listed[:10]] + [f"{len(listed) - 10} more"] * (len(listed) > 10)
        raise InputError(
            f"The folder holds {len(series)} image series, not one: {', '.join(texts)}; "
            "put the series to deface into a folder of its own."
        )
    if any(int(header.get("NumberOfFrames") or 1) > 1 for header in headers):
        raise InputError(
            "The folder holds a multi-frame DICOM image, which is not supported; "
            "export the series as single slices or convert it to NIfTI."
        )
    if any(int(header.get("SamplesPerPixel", 1)) > 1 for header in headers):
        raise InputError("The DICOM images are in colour; choose the original CT series, not a capture of it.")
    if len(headers) < 2:
        raise InputError("The folder holds a single DICOM slice; choose the folder with all slices of the series.")


def _described(members: list[pydicom.Dataset]) -> str:
    number = series_number(members[0])
    name = f"series {number}" if number >= 0 else "a series without number"
    modality = str(members[0].get("Modality", "")) or "modality unknown"
    return f"{name} ({modality}, {len(members)} slice{'s' * (len(members) > 1)})"


def _geometry(headers: list[pydicom.Dataset]) -> tuple[np.ndarray, np.ndarray]:
    """Positions (slices, 3) in LPS mm and the unit normal (3,) of slices that share size, spacing and orientation."""
    try:
        positions = np.array([[float(v) for v in header.ImagePositionPatient] for header in headers])
        orientations = np.array([[float(v) for v in header.ImageOrientationPatient] for header in headers])
        spacings = np.array([[float(v) for v in header.PixelSpacing] for header in headers])
        sizes = {(int(header.Rows), int(header.Columns)) for header in headers}
        row, column = orientations.mean(axis=0).reshape(2, 3)
        normal = np.cross(row, column)
        normal = normal / max(np.linalg.norm(normal), 1e-9)
        usable = positions.shape[1] == 3 and np.isfinite(positions).all() and normal @ normal > 0.5
    except (AttributeError, TypeError, ValueError):
        usable = False
    if not usable:
        raise InputError(
            "The DICOM slices do not all say where they lie, so they cannot be stacked; "
            "choose the original CT series, not a capture or a scout of it."
        )
    if len(sizes) > 1 or np.ptp(orientations, axis=0).max() > 1e-3 or np.ptp(spacings, axis=0).max() > 1e-3:
        raise InputError(
            "The DICOM slices differ in size, pixel spacing or orientation; "
            "put the slices of one stack into a folder of their own."
        )
    return positions, normal


def _even_order(positions: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Indices of the slices from first to last along the normal; refuses a stack that is not even and straight."""
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    along, positions = along[order], positions[order]
    gaps = np.diff(along)
    if gaps.min() < 0.01:
        doubles = int((gaps < 0.01).sum())
        raise InputError(
            f"{doubles} of the {len(along)} DICOM slices lie at the place of another one; "
            "put the slices of one acquisition into a folder of their own."
        )
    spacing, typical = gaps.mean(), float(np.median(gaps))
    off_place = np.abs(along - along[0] - spacing * np.arange(len(along))).max()
    if off_place > max(PLACE_TOLERANCE_MM, PLACE_TOLERANCE * spacing):
        multiples = gaps / typical
        if np.abs(multiples - multiples.round()).max() < 0.2 and multiples.max() > 1.5:
            after = int(multiples.argmax())
            raise InputError(
                f"DICOM slices are missing: {gaps[after]:.2f} mm lie between slices {after + 1} and {after + 2} of "
                f"{len(along)} where {typical:.2f} mm are usual; add the missing slices."
            )
        raise InputError(
            f"The DICOM slices are unevenly spaced (from {gaps.min():.2f} to {gaps.max():.2f} mm); "
            "write DICOM instead (an output without ending), which keeps the slices as they are."
        )
    shift = positions[-1] - positions[0]
    sideways = np.linalg.norm(shift - (shift @ normal) * normal)
    tilt = np.degrees(np.arctan2(sideways, shift @ normal))
    if tilt > TILT_TOLERANCE_DEGREES:
        raise InputError(
            f"The gantry was tilted by {tilt:.1f} degrees, so that the slices do not stack into a straight volume; "
            "write DICOM instead (an output without ending), which keeps the slices as they are."
        )
    return order
