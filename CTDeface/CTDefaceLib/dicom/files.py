"""Single DICOM files, from their headers alone: what kind each is, whether it is whole, and where its slices lie."""

from __future__ import annotations

import os
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    import pydicom

TREE_TAGS = [
    "SOPClassUID", "Modality", "SeriesInstanceUID", "SeriesNumber", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "RescaleSlope",
    "RescaleIntercept", "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "ImageType",
    "AcquisitionNumber", "TemporalPositionIndex", "InstanceNumber", "BitsStored", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "PhotometricInterpretation", "ModalityLUTSequence",
    "BurnedInAnnotation", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
"""What a whole tree is sorted and stacked by."""

UIDS = ("SOPInstanceUID", "SeriesInstanceUID")
"""What an image has to have to be placed in a series."""

CT = "CT"
"""The kind of a slice of a CT; see :func:`kind_of`."""

CT_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",  # enhanced
    "1.2.840.10008.5.1.4.1.1.2.2",  # legacy converted enhanced
)
"""SOP classes that are CT images."""

STRUCTURE_SET, SEGMENTATION = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.66.4"
"""SOP classes of what can be taken along with a defaced series."""

CAPTURE, CONE_BEAM = "secondary capture", "X-ray 3D image"
"""Kinds of images that can hold a CT without being one: exports of workstations, and what cone beam scanners make."""

KINDS = {
    STRUCTURE_SET: "structure set",
    SEGMENTATION: "segmentation",
    "1.2.840.10008.5.1.4.1.1.88.67": "dose report",
    "1.2.840.10008.5.1.4.1.1.88.59": "key object selection",
    "1.2.840.10008.5.1.4.1.1.88.": "structured report",
    "1.2.840.10008.5.1.4.1.1.7": CAPTURE,
    "1.2.840.10008.5.1.4.1.1.13.1.": CONE_BEAM,
    "1.2.840.10008.5.1.4.1.1.11.": "presentation state",
    "1.2.840.10008.5.1.4.1.1.104.": "document",
    "1.2.840.10008.5.1.4.1.1.66.1": "registration",
    "1.2.840.10008.5.1.4.1.1.66.3": "registration",
    "1.2.840.10008.5.1.4.1.1.66.5": "surface segmentation",
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
    "1.2.840.10008.5.1.4.1.1.481.": "radiotherapy object",
}
"""Beginnings of SOP class UIDs, the longest first where one begins with another."""

OTHER_IMAGE = "image of another kind"
"""An image that is no CT by its SOP class."""


@dataclass(frozen=True)
class Slice:
    """One slice: a file, or a frame of a multi-frame file, and how its values are stored.

    Attributes
    ----------
    path, frame: str, int
        File, and number of the frame in it from 0.
    position: tuple
        LPS in mm of the centre of the first voxel.
    slope, intercept: float
        HU = stored value * slope + intercept.
    low, high: int
        Range of the stored values.
    padding: tuple or None
        Lowest and highest stored value that mark what was not measured.
    acquisition, instance: tuple, int
        Numbers that the scanner gave.
    """

    path: str
    frame: int
    position: tuple[float, float, float]
    slope: float
    intercept: float
    low: int
    high: int
    padding: tuple[int, int] | None
    acquisition: tuple
    instance: int


def is_image(header: pydicom.Dataset) -> bool:
    """Whether a header of :func:`dicom_header` is that of an image."""
    return "Rows" in header


@contextmanager
def quietly() -> Iterator[None]:
    """Neither validation nor warnings of pydicom: what it says about odd values quotes them.

    Values are decoded when they are first looked at, so this belongs around all that looks at them.
    """
    import pydicom

    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def dicom_header(path: str | os.PathLike, tags: list[str]) -> pydicom.Dataset | None:
    """Some attributes of a DICOM file; an empty dataset for a file that is none, None for one that is cut short.

    A DICOM file that is no image (a report, a structure set) has no ``Rows``.
    """
    import pydicom

    with open(path, "rb") as file, quietly():
        start = file.read(132)  # preamble and magic
        bare = start.startswith((b"\x08\x00", b"\x02\x00\x00\x00UL\x04\x00"))  # a file without preamble
        if start[128:] != b"DICM" and not bare:
            return None if _is_meant_as_dicom(path, start) else pydicom.Dataset()
        file.seek(0)
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, force=bare, specific_tags=tags)
            if "Rows" not in header and not bare:
                syntax, kind = header.file_meta.TransferSyntaxUID, header.file_meta.MediaStorageSOPClassUID
                if syntax and not kind.name.endswith("Image Storage"):
                    return header
            return header if _has_all_pixels(file, header) else None
        except Exception:  # pydicom meets damaged files with errors of many kinds
            return None


def is_dicom_file(path: str | os.PathLike) -> bool:
    """Whether a file begins as DICOM files do."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _is_meant_as_dicom(path: str | os.PathLike, start: bytes) -> bool:
    """Whether a file that does not begin like DICOM should: by its name, or as a copy that failed left only zeros."""
    suffix = Path(path).suffix.lower()
    return suffix in (".dcm", ".ima") or not start.strip(b"\0") and (not suffix or suffix[1:].isdigit())


def _has_all_pixels(file: BinaryIO, header: pydicom.Dataset) -> bool:
    """Whether the pixel data that starts here is complete in length (``file`` stands at its tag)."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_deflated:
        return True  # the header reader has inflated the file and would have noticed
    size = os.fstat(file.fileno()).st_size
    order = ">" if syntax is not None and not syntax.is_little_endian else "<"
    if file.read(4) not in (struct.pack("<HH", 0x7FE0, 0x0010), struct.pack(">HH", 0x7FE0, 0x0010)):
        return False
    file.seek(4 if syntax is None or syntax.is_implicit_VR else 8, os.SEEK_CUR)
    if syntax is None or not syntax.is_encapsulated:
        pixels = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames") or 1)
        return size - file.tell() >= pixels * int(header.get("SamplesPerPixel", 1)) * int(header.BitsAllocated) // 8
    while len(item := file.read(8)) == 8:
        group, element, length = struct.unpack(order + "HHI", item)
        if (group, element) == (0xFFFE, 0xE0DD):
            return True
        file.seek(length, os.SEEK_CUR)
    return False


def series_number(header: pydicom.Dataset) -> int:
    """The number that the scanner gave the series, -1 where there is none."""
    try:
        return int(header.SeriesNumber)
    except (AttributeError, TypeError, ValueError):
        return -1


def kind_of(header: pydicom.Dataset) -> str:
    """What a file is: ``CT`` for a slice of a CT, which can be stacked, and words for a person for anything else."""
    sop_class = str(header.get("SOPClassUID", ""))
    for start, kind in KINDS.items():
        if f"{sop_class}.".startswith(start.rstrip(".") + "."):
            return kind
    if not is_image(header):
        return "object of another kind"
    modality = str(header.get("Modality") or CT)
    if modality != CT:
        return f"image of modality {modality}" if re.fullmatch("[A-Z]{2,16}", modality) else OTHER_IMAGE
    if sop_class not in CT_IMAGES:
        return OTHER_IMAGE
    if "LOCALIZER" in [str(value).upper() for value in _values(header.get("ImageType"))]:
        return "scout"
    return CT if _is_grey(header) else "capture in colour" if _is_coloured(header) else "capture"


def can_be_stacked(header: pydicom.Dataset, kind: str) -> bool:
    """Whether images of a kind are slices of a CT, or can be: those of 16 grey bits that captures or cone beam are."""
    if kind in (CAPTURE, CONE_BEAM):
        of_ct = kind == CONE_BEAM or str(header.get("Modality") or CT) in (CT, "OT", "SC")
        named = all(header.get(name) for name in UIDS)
        return of_ct and named and is_image(header) and _is_grey(header) and header.get("BitsAllocated") == 16
    return kind == CT


def _is_coloured(header: pydicom.Dataset) -> bool:
    return int(header.get("SamplesPerPixel") or 1) > 1


def _is_grey(header: pydicom.Dataset) -> bool:
    return not _is_coloured(header) and header.get("PhotometricInterpretation") == "MONOCHROME2"


def _values(value: Any) -> list:
    """The values of an attribute, whether it has none, one or many."""
    return [] if value is None else [value] if isinstance(value, str | int | float) else list(value)


def slices_of(path: str, header: pydicom.Dataset) -> list[tuple[tuple, Slice]]:
    """Each frame of a file with its geometry.

    Returns
    -------
    list
        For each frame its geometry, which is (columns, rows), spacing (x, y) in mm and the six cosines of the
        orientation, and the slice.

    Raises
    ------
    AttributeError, LookupError, TypeError, ValueError
        When the header does not say where the frames lie, or how their values are meant.
    """
    size = int(header.Columns), int(header.Rows)
    bits, signed = int(header.get("BitsStored") or header.BitsAllocated), int(header.get("PixelRepresentation", 0))
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    acquisition = tuple(str(header.get(name, "")) for name in ("AcquisitionNumber", "TemporalPositionIndex"))
    if "RescaleSlope" not in header and "ModalityLUTSequence" in header:
        raise ValueError("a look-up table in place of a rescale")
    found = []
    for frame, parts in enumerate(_frames(header)):
        position, orientation, (down, across) = (
            tuple(float(value) for value in parts[name])
            for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
        )
        slope, intercept = float(parts.get("RescaleSlope", 1) or 1), float(parts.get("RescaleIntercept", 0) or 0)
        axes = np.reshape(orientation, (2, 3))
        usable = np.isfinite([*position, slope, intercept]).all() and min(down, across) > 0
        if not usable or not np.allclose(axes @ axes.T, np.eye(2), atol=0.01):
            raise ValueError("no place")
        axes[0] /= np.linalg.norm(axes[0])
        axes[1] -= (axes[0] @ axes[1]) * axes[0]
        axes[1] /= np.linalg.norm(axes[1])
        x, y, z = position
        piece = Slice(
            path, frame, (x, y, z), slope, intercept, low, high, _padding(header),
            (*acquisition, parts.get("TemporalPositionIndex")), _number(header) + frame,
        )  # fmt: skip
        found.append(((size, (across, down), axes.ravel()), piece))
    return found


def _padding(header: pydicom.Dataset) -> tuple[int, int] | None:
    """Stored values that mark what was not measured, read as signed or unsigned as the pixels are."""
    values = [header.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    values = [value for value in values if isinstance(value, int)]
    size = 2 ** int(header.BitsAllocated)
    values = [value % size for value in values]
    if header.get("PixelRepresentation", 0):
        values = [value - size if value >= size // 2 else value for value in values]
    return (min(values), max(values)) if values else None


def _number(header: pydicom.Dataset) -> int:
    try:
        return int(header.InstanceNumber)
    except (AttributeError, TypeError, ValueError):
        return 0


def _frames(header: pydicom.Dataset) -> list[dict]:
    """What places and rescales each frame of a file."""
    names = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept")
    count = int(header.get("NumberOfFrames") or 1)
    whole = {name: header[name].value for name in names if name in header}
    if "PerFrameFunctionalGroupsSequence" not in header:
        if count > 1:
            raise ValueError("frames without a place")
        return [whole]
    shared = _gathered(header.get("SharedFunctionalGroupsSequence", [None])[0])
    groups = header.PerFrameFunctionalGroupsSequence
    if len(groups) != count:
        raise ValueError("frames without a place")
    return [{**whole, **shared, **_gathered(group)} for group in groups]


def _gathered(group: pydicom.Dataset | None) -> dict:
    """The attributes of one item of the functional groups."""
    found = {}
    for name in ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence",
                 "PixelValueTransformationSequence", "FrameContentSequence"):  # fmt: skip
        if group is not None and name in group and len(group[name].value):
            found.update({element.keyword: element.value for element in group[name].value[0]})
    return found
