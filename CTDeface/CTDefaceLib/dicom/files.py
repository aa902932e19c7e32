"""Single DICOM files: reading them, what kind each is by its header, whether it is whole, where its slices lie."""

from __future__ import annotations

import os
import re
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    import pydicom

TREE_TAGS = [
    "SOPClassUID", "Modality", "SeriesInstanceUID", "SeriesNumber", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "SamplesPerPixel", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "RescaleSlope",
    "RescaleIntercept", "SOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName",
    "ImageType", "AcquisitionNumber", "TemporalPositionIndex", "InstanceNumber", "BitsStored", "PixelRepresentation",
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

OTHER_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",  # enhanced
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",  # legacy converted enhanced
    "1.2.840.10008.5.1.4.1.1.128": "PT",
    "1.2.840.10008.5.1.4.1.1.130": "PT",  # enhanced
    "1.2.840.10008.5.1.4.1.1.128.1": "PT",  # legacy converted enhanced
}
"""SOP classes of what else of a study shows a face and can take the new skin of a CT, and their modality."""

STRUCTURE_SET, SEGMENTATION = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
DOSE, PLAN, ION_PLAN = (f"1.2.840.10008.5.1.4.1.1.481.{number}" for number in (2, 5, 8))
REGISTRATION = "1.2.840.10008.5.1.4.1.1.66.1"
"""SOP classes of what can be taken along with a defaced series; a label map is a segmentation whose pixels are the
numbers of its segments."""

CAPTURE, CONE_BEAM = MAY_HOLD_CT = ("secondary capture", "X-ray 3D image")
"""Kinds of images that can hold a CT without being one: exports of workstations, and what cone beam scanners make."""

KINDS = {
    STRUCTURE_SET: "structure set",
    SEGMENTATION: "segmentation",
    LABEL_MAP: "segmentation",
    DOSE: "dose",
    PLAN: "plan",
    ION_PLAN: "plan",
    "1.2.840.10008.5.1.4.1.1.88.67": "dose report",
    "1.2.840.10008.5.1.4.1.1.88.59": "key object selection",
    "1.2.840.10008.5.1.4.1.1.88.": "structured report",
    "1.2.840.10008.5.1.4.1.1.7": CAPTURE,
    "1.2.840.10008.5.1.4.1.1.13.1.": CONE_BEAM,
    "1.2.840.10008.5.1.4.1.1.11.": "presentation state",
    "1.2.840.10008.5.1.4.1.1.104.": "document",
    REGISTRATION: "registration",
    "1.2.840.10008.5.1.4.1.1.66.3": "deformable registration",
    "1.2.840.10008.5.1.4.1.1.66.5": "surface segmentation",
    "1.2.840.10008.5.1.4.1.1.66": "raw data",
    "1.2.840.10008.5.1.4.1.1.481.": "radiotherapy object",
}
"""Beginnings of SOP class UIDs, the longest first where one begins with another."""

OTHER_IMAGE = "image of another kind"
"""An image that is no CT by its SOP class."""

MOST_LEVELS = 50
"""Of sequences within sequences; nothing that is used has ten, and a few kB with hundreds take all memory. A choice."""

UNDEFINED = 0xFFFFFFFF
"""Length of what ends by a mark."""

UNREADABLE = "The header of a DICOM file is damaged, or its sequences are nested too deeply; export the series again."

WORDS = (8, 16, 32)
"""Bits that a voxel of a CT can take."""

LARGEST_MATRIX = 8192
"""Rows or columns of a CT image: more is damage, and what is compressed would take all memory before that shows. A
choice, several times what scanners make."""

MOST_INFLATED_BYTES = 1 << 30
"""Of a file that is deflated as a whole; pydicom inflates it at once, and a few MB can become many GB. A choice."""

DEFLATED = b"1.2.840.10008.1.2.1.99"
"""Transfer syntax of such a file, which stands in its first kB."""


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


def is_openable(path: str | os.PathLike) -> bool:
    """Whether a path is that of a regular file, or of nothing, as a link to what is gone: opening that is an error.

    What is neither, such as a pipe, could be waited for for ever.
    """
    return os.path.isfile(path) or not os.path.exists(path)


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
    """Some attributes of a DICOM file, all of which can be read.

    A DICOM file that is no image (a report, a structure set) has no ``Rows``. The dataset is empty for a file that is
    none, and for what is no regular file and could be waited for for ever; None for one that is cut short or damaged.
    """
    import pydicom

    if not is_openable(path):
        return pydicom.Dataset()
    with open(path, "rb") as file, quietly():
        start = file.read(132)  # preamble and magic
        bare = start.startswith((b"\x08\x00", b"\x02\x00\x00\x00UL\x04\x00"))  # a file without preamble
        if start[128:] != b"DICM" and not bare:
            return None if _is_meant_as_dicom(path, start) else pydicom.Dataset()
        try:
            _check_inflated(file)
            file.seek(0)
            header = pydicom.dcmread(file, stop_before_pixels=True, force=bare, specific_tags=tags)
            _check_readable(header)
            if "Rows" not in header and not bare:
                syntax, kind = header.file_meta.TransferSyntaxUID, header.file_meta.MediaStorageSOPClassUID
                if syntax and not kind.name.endswith("Image Storage"):
                    return header
            return header if _has_all_pixels(file, header) else None
        except Exception:  # pydicom meets damaged files with errors of many kinds
            return None


def is_dicom_file(path: str | os.PathLike) -> bool:
    """Whether a path is that of a regular file that begins as DICOM files do."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dataset(path: str, pixels: bool = True) -> pydicom.Dataset:
    """All of a DICOM file, or all before its pixels (InputError where it is damaged or nested too deeply)."""
    import pydicom

    with quietly():
        try:
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=not pixels)
            check_nesting(dataset)
        except OSError as error:
            raise InputError(
                f"A DICOM file can no longer be read ({error.strerror}); copy the series again."
            ) from error
        except Exception as error:  # pydicom meets damaged files with errors of many kinds
            raise InputError(UNREADABLE) from error
    return dataset


def check_nesting(dataset: pydicom.Dataset, level: int = 0) -> None:
    """Refuse sequences in sequences to more than :data:`MOST_LEVELS`, without decoding anything else (ValueError)."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    if level > MOST_LEVELS:
        raise ValueError("sequences are nested too deeply")
    for tag in dataset.keys():
        kind = dataset.get_item(tag).VR
        if kind is None and dictionary_has_tag(tag):
            kind = dictionary_VR(tag)
        if kind == "SQ":
            for item in dataset[tag].value or ():
                check_nesting(item, level + 1)


def _check_readable(header: pydicom.Dataset) -> None:
    """Decode all there is, and raise an error where that cannot be, or where a number is none."""
    check_nesting(header)
    for _ in header.iterall():
        pass
    for name in ("NumberOfFrames", "SamplesPerPixel", "Rows", "Columns", "BitsAllocated", "BitsStored"):
        value = header.get(name, 1)
        if int(1 if value in (None, "") else value) < 1:
            raise ValueError(f"{name} is below 1")
    if is_image(header) and header.get("SOPClassUID") in CT_IMAGES and not _has_words_of_ct(header, WORDS):
        raise ValueError("a voxel has an odd number of bits, or the matrix is far too large")


def _has_words_of_ct(header: pydicom.Dataset, words: tuple[int, ...]) -> bool:
    """Whether a voxel takes one of these numbers of bits, and the matrix is of a size that is scanned."""
    bits = int(header.get("BitsAllocated") or 0)
    fits = bits in words and int(header.get("BitsStored") or bits) <= bits
    return fits and max(int(header.get(name) or 0) for name in ("Rows", "Columns")) <= LARGEST_MATRIX


def _check_inflated(file: BinaryIO) -> None:
    """Refuse a file that is deflated as a whole and inflates to more than :data:`MOST_INFLATED_BYTES` (ValueError)."""
    file.seek(0)
    start = file.read(1024)
    if start[128:132] != b"DICM" or DEFLATED not in start:
        return
    file.seek(144 + int.from_bytes(start[140:144], "little"))  # behind the elements of the file itself
    stream, length = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while not stream.eof and (chunk := file.read(1 << 16)):
        length += len(stream.decompress(chunk))
        if length > MOST_INFLATED_BYTES:
            raise ValueError("it inflates to far too much")


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
    implicit = syntax is None or syntax.is_implicit_VR
    (length,) = struct.unpack(order + "I", file.read(4 if implicit else 8)[-4:])
    if syntax is None or not syntax.is_encapsulated:
        pixels = int(header.Rows) * int(header.Columns) * int(header.get("NumberOfFrames") or 1)
        nbytes = pixels * int(header.get("SamplesPerPixel", 1)) * int(header.BitsAllocated) // 8
        return length != UNDEFINED and min(length, size - file.tell()) >= nbytes
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


def kind_of(header: pydicom.Dataset, others: Collection[str] = ()) -> str:
    """What a file is: ``CT`` for a slice of a CT, and words for a person for anything else.

    One of the SOP classes ``others``, some of :data:`OTHER_IMAGES`, is what that says.
    """
    sop_class = str(header.get("SOPClassUID", ""))
    for start, kind in KINDS.items():
        if f"{sop_class}.".startswith(start.rstrip(".") + "."):
            return kind
    if not is_image(header):
        return "object of another kind"
    kind, modality = OTHER_IMAGES[sop_class] if sop_class in others else CT, str(header.get("Modality") or CT)
    if sop_class not in others and modality != CT:
        return f"image of modality {modality}" if re.fullmatch("[A-Z]{2,16}", modality) else OTHER_IMAGE
    if sop_class not in (*others, *CT_IMAGES):
        return OTHER_IMAGE
    if "LOCALIZER" in [str(value).upper() for value in _values(header.get("ImageType"))]:
        return "scout"
    return kind if _is_grey(header) else "capture in colour" if _is_coloured(header) else "capture"


def can_be_stacked(header: pydicom.Dataset, kind: str) -> bool:
    """Whether images of a kind are slices of a volume, or can be: captures and cone beam images of 16 grey bits."""
    if kind in MAY_HOLD_CT:
        of_ct = kind == CONE_BEAM or str(header.get("Modality") or CT) in (CT, "OT", "SC")
        named = all(header.get(name) for name in UIDS)
        return of_ct and named and is_image(header) and _is_grey(header) and _has_words_of_ct(header, (16,))
    return kind == CT or kind in OTHER_IMAGES.values() and _has_words_of_ct(header, WORDS)


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


def plane_of(groups: list[pydicom.Dataset]) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Where a frame lies by its own and the shared functional groups, in LPS.

    Returns
    -------
    tuple
        Centre of its first voxel in mm, unit vectors along columns' and rows' index (2×3), and spacing (x, y) in mm.
    """

    def value(sequence: str, keyword: str) -> np.ndarray:
        item = next(group[sequence].value[0] for group in groups if sequence in group)
        return np.array([float(number) for number in item[keyword].value])

    position = value("PlanePositionSequence", "ImagePositionPatient")
    axes = value("PlaneOrientationSequence", "ImageOrientationPatient").reshape(2, 3)
    down, across = value("PixelMeasuresSequence", "PixelSpacing")
    return position, axes, (float(across), float(down))
