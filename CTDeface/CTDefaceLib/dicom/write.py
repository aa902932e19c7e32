"""Write the defaced slices: pixels of the region replaced, all else as it was, and the header says what was done."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..version import __version__
from .pseudonyms import Pseudonyms

if TYPE_CHECKING:
    import pydicom

EXPLICIT_LITTLE_ENDIAN, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"
"""Transfer syntaxes."""

METHOD = "CTDeface: face replaced in the pixels"
DERIVATION = f"Face replaced by CTDeface {__version__}; other pixels are unchanged"
"""What the headers say in words: method of de-identification, and derivation."""

SERIES_SUFFIX = " defaced"
"""Of the series description."""

PIXEL_MASK = ("113047", "Pixel by pixel mask")
SOURCE_IMAGE = ("121322", "Source image for image processing operation")
DEIDENTIFYING_EQUIPMENT = ("109104", "De-identifying Equipment")
CLEAN_PIXELS = ("113101", "Clean Pixel Data Option")
CLEAN_VISUAL_FEATURES = ("113102", "Clean Recognizable Visual Features Option")
"""Codes of the DICOM coding scheme and their meanings, for what was done, to what, by what, and with which effect."""

ITEM = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""How a sequence begins, in both byte orders."""

OUTDATED = ("DigitalSignaturesSequence", "MACParametersSequence", "IconImageSequence")
"""Signatures over what has changed, and pictures of what was replaced."""


def code(value: str, meaning: str) -> pydicom.Dataset:
    """An item of a code sequence, of the DICOM coding scheme."""
    import pydicom

    item = pydicom.Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def append(dataset: pydicom.Dataset, keyword: str, item: pydicom.Dataset) -> None:
    """Add an item to a sequence, which is made where it is missing."""
    import pydicom

    items = list(dataset.get(keyword) or [])
    setattr(dataset, keyword, pydicom.Sequence([*items, item]))


def mark_derived(dataset: pydicom.Dataset, source: tuple[str, str, str], checked: bool) -> None:
    """Say in a header what was done to its image.

    Parameters
    ----------
    dataset: pydicom.Dataset
        Its UIDs are new already.
    source: tuple
        SOP class, instance and series UID of the original.
    checked: bool
        The face is gone and the checks found nothing wrong.
    """
    import pydicom

    dataset.ImageType = _derived(dataset.get("ImageType"))
    dataset.SeriesDescription = _with_suffix(str(dataset.get("SeriesDescription", "") or ""), SERIES_SUFFIX, 64)
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID, series = source
    reference.PurposeOfReferenceCodeSequence = [code(*SOURCE_IMAGE)]
    if "SharedFunctionalGroupsSequence" in dataset:
        derivation = pydicom.Dataset()
        _mark_derivation(derivation, reference)
        append(dataset.SharedFunctionalGroupsSequence[0], "DerivationImageSequence", derivation)
        append(dataset, "SourceImageEvidenceSequence", _evidence(str(dataset.StudyInstanceUID), series, reference))
    else:
        _mark_derivation(dataset, reference)
    for sequence in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in dataset.get(sequence) or []:
            for item in group.get("CTImageFrameTypeSequence") or []:
                item.FrameType = _derived(item.get("FrameType"))
    equipment = pydicom.Dataset()
    equipment.Manufacturer = equipment.ManufacturerModelName = "CTDeface"
    equipment.SoftwareVersions = __version__
    equipment.PurposeOfReferenceCodeSequence = [code(*DEIDENTIFYING_EQUIPMENT)]
    append(dataset, "ContributingEquipmentSequence", equipment)
    methods = dataset.get("DeidentificationMethod") or []
    methods = [methods] if isinstance(methods, str) else list(methods)
    if METHOD not in methods:
        dataset.DeidentificationMethod = [*methods, METHOD]
    if checked:  # PS3.15 E.3.2 asks for both or none
        add_method(dataset, *CLEAN_VISUAL_FEATURES)
        dataset.RecognizableVisualFeatures = "NO"


def add_method(dataset: pydicom.Dataset, value: str, meaning: str) -> None:
    """Add a code to the methods of de-identification, once."""
    known = [str(item.get("CodeValue")) for item in dataset.get("DeidentificationMethodCodeSequence") or []]
    if value not in known:
        append(dataset, "DeidentificationMethodCodeSequence", code(value, meaning))


def replace_uids(dataset: pydicom.Dataset, pseudonyms: Pseudonyms) -> None:
    """Replace UIDs at every depth, references included, and remove what is outdated with them."""
    for keyword in OUTDATED:
        if keyword in dataset:
            delattr(dataset, keyword)
    for element in elements(dataset, "SQ", "UI"):
        if element.VR == "SQ":
            for item in element.value:
                replace_uids(item, pseudonyms)
        elif element.value:
            if element.VM > 1:
                element.value = [pseudonyms.uid(uid) for uid in element.value]
            else:
                element.value = pseudonyms.uid(element.value)


def elements(dataset: pydicom.Dataset, *kinds: str) -> list[pydicom.DataElement]:
    """The elements of these value representations; the others are not even decoded, and so written as they were."""
    found = []
    for raw in dataset.elements():
        kind = raw.VR or _usual_kind(raw.tag)
        if kind in kinds or kind == "UN" and _may_be_known(raw.value):
            found.append(raw.tag)
    return [element for element in map(dataset.__getitem__, found) if element.VR in kinds]


def _may_be_known(value: Any) -> bool:
    """Whether the value of an element of unknown kind looks like a sequence or a UID, which pydicom then tells."""
    return not isinstance(value, bytes) or value[:4] in ITEM or value[:1].isdigit()


@cache
def _usual_kind(tag: int) -> str:
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    return dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"


def set_pixels(dataset: pydicom.Dataset, words: np.ndarray, values: np.ndarray) -> None:
    """Store words as pixel data: uncompressed, in the byte order that the file had; ``values`` are what they mean."""
    import pydicom

    meta = dataset.file_meta
    syntax = meta.get("TransferSyntaxUID")
    order: Literal["<", ">"] = "<"
    if syntax is None or syntax.is_encapsulated or syntax == DEFLATED:
        compressed = syntax is not None and syntax.is_encapsulated
        meta.TransferSyntaxUID = pydicom.uid.UID(EXPLICIT_LITTLE_ENDIAN) if compressed else (
            syntax or pydicom.uid.ImplicitVRLittleEndian
        )  # fmt: skip
    elif not syntax.is_little_endian:
        order = ">"
    pixels = words.astype(words.dtype.newbyteorder(order), copy=False).tobytes()
    pixels += b"\0" * (len(pixels) % 2)
    element = pydicom.DataElement(0x7FE00010, "OB" if words.itemsize == 1 else "OW", pixels)
    dataset[element.tag] = element
    for keyword, value in (("SmallestImagePixelValue", np.min), ("LargestImagePixelValue", np.max)):
        if keyword in dataset:
            tag = pydicom.tag.Tag(keyword)
            dataset[tag] = pydicom.DataElement(tag, "SS" if words.dtype.kind == "i" else "US", int(value(values)))
    for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if keyword in dataset:
            delattr(dataset, keyword)


def save(dataset: pydicom.Dataset, path: Path) -> None:
    """Write a file; nothing is left of what stood before its header."""
    import pydicom

    dataset.preamble = b"\0" * 128
    syntax = dataset.file_meta.TransferSyntaxUID
    dataset.file_meta = meta = pydicom.dataset.FileMetaDataset()  # without who sent the file to whom
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    with pydicom.config.disable_value_validation():
        dataset.save_as(path, enforce_file_format=True)


def _evidence(study: str, series: str, reference: pydicom.Dataset) -> pydicom.Dataset:
    """Where a referenced image lies: an item of a sequence of evidence."""
    import pydicom

    image, inner, item = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    image.ReferencedSOPClassUID = reference.ReferencedSOPClassUID
    image.ReferencedSOPInstanceUID = reference.ReferencedSOPInstanceUID
    inner.SeriesInstanceUID, inner.ReferencedSOPSequence = series, [image]
    item.StudyInstanceUID, item.ReferencedSeriesSequence = study, [inner]
    return item


def _mark_derivation(dataset: pydicom.Dataset, reference: pydicom.Dataset) -> None:
    before = str(dataset.get("DerivationDescription", "") or "")
    dataset.DerivationDescription = "; ".join(filter(None, (before, DERIVATION)))[-1024:]
    append(dataset, "DerivationCodeSequence", code(*PIXEL_MASK))
    append(dataset, "SourceImageSequence", reference)


def _derived(image_type: Any) -> list[str]:
    values = [image_type] if isinstance(image_type, str) else list(image_type or [])
    return ["DERIVED", *(values[1:] or ["PRIMARY", "AXIAL"])]


def _with_suffix(text: str, suffix: str, length: int) -> str:
    return (text[: length - len(suffix)].rstrip() + suffix).strip()
