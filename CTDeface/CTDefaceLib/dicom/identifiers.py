"""Names and numbers that identify a patient, found anywhere in a DICOM header and removed everywhere else in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from .pseudonyms import WELL_KNOWN

if TYPE_CHECKING:
    import pydicom

DATES = ("DA", "TM", "DT")
TEXTS = ("LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE", "PN")
PLAIN = (*DATES, "AE", "AS", "CS", "DS", "IS", "UI")
"""Value representations of dates and times; of free text; and of values that have to be numbers or plain letters."""

NUMBER = re.compile(r"([+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)?")
"""How a number is written (IS, DS)."""

IDENTIFYING = re.compile(
    "^(PatientID|OtherPatientIDs|AccessionNumber|StudyID|PatientBirthDate|DeviceSerialNumber|StationName|AdmissionID|"
    "Institution.*|.*Address|.*TelephoneNumbers?|MedicalRecordLocator|IssuerOfPatientID|RequestedProcedureID|"
    "ScheduledProcedureStepID|PerformedProcedureStepID|.*OrderNumber.*)$"
)
"""Where names and numbers stand that may be repeated in other places."""

GEOMETRY = (0x0020, 0x0028)
"""Groups whose numbers place the image and scale its values."""

SHORTEST_NUMBER = 6
"""Digits; a shorter one of these is no patient's."""

SHORTEST = 4
"""Bytes of UTF-8, two letters of Chinese; a shorter identifier says nothing in another place."""


def remove_unreadable(dataset: pydicom.Dataset) -> None:
    """Remove values that are not what their kind says, so that nobody can tell what stands in them."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
        except Exception:  # pydicom meets odd values with errors of many kinds
            del dataset[tag]
            continue
        if not _is_readable(element):
            del dataset[tag]
        for item in element.value if element.VR == "SQ" else ():
            remove_unreadable(item)


def _is_readable(element: pydicom.DataElement) -> bool:
    """Whether values that have to be numbers or plain letters are such."""
    if element.VR not in PLAIN or element.is_empty:
        return True
    values = strings(element)
    if element.VR in ("IS", "DS"):
        return all(NUMBER.fullmatch(value.strip(" \0")) for value in values)
    return all(value.strip("\0").isascii() and value.strip("\0").isprintable() for value in values)


def identifiers(dataset: pydicom.Dataset, kept: Collection[str] = (), uids: bool = True) -> tuple[set[str], set[str]]:
    """What names the patient, the hospital or the people in a dataset, at any depth, in lower case; and private texts.

    What stands in attributes with keywords in ``kept`` is not looked at; UIDs only if they are wanted.
    """
    found: set[str] = set()
    private: set[str] = set()
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                inner = identifiers(item, kept, uids)
                found |= inner[0]
                private |= inner[1]
            continue
        texts = [text.strip().lower() for text in _texts(element) if element.keyword not in kept]
        if element.VR == "PN":
            found |= {part for text in texts for part in (text, *re.split(r"[\W_]+", text))}
        elif IDENTIFYING.match(element.keyword or "") or uids and element.VR == "UI":
            found |= {text for text in texts if not text.startswith(WELL_KNOWN)}
        elif element.tag.is_private and not element.tag.is_private_creator:
            private |= {text for text in texts if len(text) >= 2 * SHORTEST}
    return {text for text in found if len(text.encode()) >= SHORTEST}, private


def remove_identifiers(dataset: pydicom.Dataset, names: Iterable[str]) -> None:
    """Remove values in which one of these names or numbers stands."""
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value:
                remove_identifiers(item, names)
            continue
        kept = texts = _texts(element)
        if element.VR in TEXTS:
            kept = [text for text in texts if not any(name in text.lower() for name in names)]
        elif element.VR == "CS" and element.keyword != "PhotometricInterpretation":
            kept = [t if not any(_stands_in(name, t.strip().lower()) for name in names) else "REMOVED" for t in texts]
        elif element.VR in ("IS", "DS"):
            shortest = SHORTEST_NUMBER if element.tag.group in GEOMETRY else SHORTEST
            kept = [text for text in texts if len(text) < shortest or text.strip().lower() not in names]
        if kept != texts and element.VM > 1 and element.VR == "CS":
            element.value = kept
        elif kept != texts:
            del dataset[element.tag]


def _stands_in(name: str, text: str) -> bool:
    return name == text or len(name) > SHORTEST and name in text


def _texts(element: pydicom.DataElement) -> list[str]:
    """The values of an element of text, UIDs or written numbers."""
    if element.value is None or element.VR not in (*TEXTS, *DATES, "CS", "UI", "IS", "DS", "AS"):
        if element.VR in ("UN", "OB") and isinstance(element.value, bytes) and len(element.value) <= 1024:
            return [text.decode() for text in re.findall(rb"[ -~]{8,}", element.value)]
        return []
    return strings(element)


def strings(element: pydicom.DataElement) -> list[str]:
    """The values of an element as text, one or several."""
    return [str(value) for value in element.value] if element.VM > 1 else [str(element.value)]
