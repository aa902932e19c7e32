"""Names and numbers that identify a patient, found anywhere in a DICOM header and removed everywhere else in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

from .pseudonyms import WELL_KNOWN

if TYPE_CHECKING:
    import pydicom

DATES = ("DA", "TM", "DT")
TEXTS = ("LO", "SH", "ST", "LT", "UT", "UC", "UR", "AE", "PN")
PLAIN = (*DATES, "AE", "AS", "CS", "DS", "IS", "UI")
"""Value representations of dates and times; of free text; and of values that have to be numbers or plain letters."""

NUMBERS = {"IS", "DS"}
COUNTS = {"US", "SS", "UL", "SL", "FL", "FD", "UV", "SV"}
"""Value representations of numbers that are written, and of those that are stored."""

NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
FORMS = {
    "IS": NUMBER, "DS": NUMBER, "AS": r"\d{3}[DWMY]", "DA": r"\d{4}\.?\d\d\.?\d\d", "TM": r"[\d:]{2,8}(\.\d{1,6})?",
    "DT": r"\d{4,14}(\.\d{1,6})?([+-]\d{4})?", "UI": r"[\d.]{1,64}",
}  # fmt: skip
"""How values are written that are no text, by value representation: in nothing else can a name stand."""

IDENTIFYING = re.compile(
    "^(PatientID|OtherPatientIDs|AccessionNumber|StudyID|PatientBirthDate|DeviceSerialNumber|StationName|AdmissionID|"
    "Institution.*|.*Address|.*TelephoneNumbers?|MedicalRecordLocator|IssuerOfPatientID|RequestedProcedureID|"
    "ScheduledProcedureStepID|PerformedProcedureStepID|.*OrderNumber.*)$"
)
"""Where names and numbers stand that may be repeated in other places."""

PERSONAL = re.compile("^(PatientID|OtherPatientIDs|AccessionNumber|StudyID|AdmissionID|MedicalRecordLocator)$")
"""… and which of these numbers are a person's own, so that their pieces say something, too."""

SEPARATED = re.compile(r"[\W_]+")
"""What stands between the pieces of a name or number."""

GEOMETRY = (0x0020, 0x0028)
"""Groups whose numbers place the image and scale its values."""

SHORTEST_NUMBER = 6
"""Digits; a shorter one of these is no patient's."""

SHORTEST = 4
"""Bytes of UTF-8, two letters of Chinese; a shorter identifier says nothing in another place."""

SHORTEST_DATE = 6
"""Digits and letters of a date without separators; a shorter one says nothing in another place."""

MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
          "december")  # fmt: skip


@dataclass(frozen=True)
class Identifiers:
    """What identifies a patient in a header.

    Attributes
    ----------
    names: frozenset of str
        Names, numbers and UIDs, in lower case, and dates in every way to write them.
    private: frozenset of str
        Texts in private elements, in lower case, which can name somebody.
    pieces: frozenset of str
        What stands between the separators of names and numbers of people, however short.
    """

    names: frozenset[str] = frozenset()
    private: frozenset[str] = frozenset()
    pieces: frozenset[str] = frozenset()


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
    """Whether a value is of a kind that its attribute can have, and written as values of that kind are."""
    usual = usual_kind(element)
    groups = (set(TEXTS), NUMBERS, COUNTS)
    if element.VR not in (*usual, "UN") and not any(element.VR in group and group & set(usual) for group in groups):
        return False
    if element.VR not in PLAIN or element.is_empty:
        return True
    values = [value.strip(" \0") for value in strings(element)]
    if element.VR in FORMS:
        return all(not value or re.fullmatch(FORMS[element.VR], value, re.ASCII) for value in values)
    return all(value.isascii() and value.isprintable() for value in values)


def usual_kind(element: pydicom.DataElement) -> list[str]:
    """The value representations that an attribute can have by the standard; what it has where that is not listed."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    return dictionary_VR(element.tag).split(" or ") if dictionary_has_tag(element.tag) else [element.VR]


def identifiers(
    dataset: pydicom.Dataset, kept: Collection[str] = (), uids: bool = True, dates: bool = True
) -> Identifiers:
    """What names the patient, the hospital or the people in a dataset, at any depth.

    What stands in attributes with keywords in ``kept`` is not looked at; UIDs, and other dates than that of birth, only
    if they are wanted.
    """
    names: set[str] = set()
    private: set[str] = set()
    pieces: set[str] = set()
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                inner = identifiers(item, kept, uids, dates)
                names |= inner.names
                private |= inner.private
                pieces |= inner.pieces
            continue
        texts = [text.strip().lower() for text in _texts(element) if element.keyword not in kept]
        is_identifying = bool(IDENTIFYING.match(element.keyword or ""))
        if element.VR in ("DA", "DT") and (dates or is_identifying):
            names |= {written for text in texts for written in ways_to_write(text[:8])}
        if "PN" in usual_kind(element):
            names |= {part for text in texts for part in (text, *SEPARATED.split(text))}
        elif is_identifying or uids and element.VR == "UI":
            names |= {text for text in texts if not text.startswith(WELL_KNOWN)}
        elif element.tag.is_private and not element.tag.is_private_creator:
            private |= {text for text in texts if len(text) >= 2 * SHORTEST}
        if "PN" in usual_kind(element) or PERSONAL.match(element.keyword or ""):
            pieces |= {part for text in texts for part in SEPARATED.split(text) if len(part) > 1}
    return Identifiers(
        frozenset(text for text in names if len(text.encode()) >= SHORTEST), frozenset(private), frozenset(pieces)
    )


@cache
def ways_to_write(date: str) -> frozenset[str]:
    """All ways to write a date (YYYYMMDD), in any order, without separators and in lower case; none of what is no date.

    >>> sorted(ways_to_write("20200304"))[:3]
    ['030420', '03042020', '040320']
    """
    if not re.fullmatch(r"[12]\d{3}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])", date):
        return frozenset()
    years, number, day = (date[:4], date[2:4]), date[4:6], date[6:]
    name = MONTHS[int(number) - 1]
    days, months = {day, str(int(day))}, {number, str(int(number)), name, name[:3]}
    ways = {
        "".join(order)
        for year, month, one in product(years, months, days)
        for order in ((year, month, one), (one, month, year), (month, one, year))
    }
    return frozenset(way for way in ways if len(way) >= SHORTEST_DATE)


def squeezed(text: str) -> str:
    """Letters and digits of a text in lower case, so that different ways to write a name or number are the same."""
    return SEPARATED.sub("", text.lower())


def without(text: str, names: Iterable[str], cut: str) -> str:
    """A text in which these names and numbers are replaced, whatever separators stand in them."""
    for name in names:
        letters = squeezed(name)
        if len(letters.encode()) >= SHORTEST and letters in squeezed(text):
            text = re.sub(r"[\W_]*".join(map(re.escape, letters)), cut, text, flags=re.IGNORECASE)
    return text


def remove_identifiers(dataset: pydicom.Dataset, names: Iterable[str]) -> None:
    """Remove values in which one of these names or numbers stands, whatever separators stand in it."""
    tight = {letters for name in names if len((letters := squeezed(name)).encode()) >= SHORTEST}
    _remove(dataset, frozenset(names), tight)


def _remove(dataset: pydicom.Dataset, names: Collection[str], tight: Collection[str]) -> None:
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value:
                _remove(item, names, tight)
            continue
        kept = texts = _texts(element)
        if element.VR in TEXTS:
            kept = [text for text in texts if not any(name in squeezed(text) for name in tight)]
        elif element.VR == "CS" and element.keyword != "PhotometricInterpretation":
            kept = ["REMOVED" if _stands_in(t, names, tight) else t for t in texts]
        elif element.VR in ("IS", "DS"):
            shortest = SHORTEST_NUMBER if element.tag.group in GEOMETRY else SHORTEST
            kept = [text for text in texts if len(text) < shortest or text.strip().lower() not in names]
        if kept != texts and element.VM > 1 and element.VR == "CS":
            element.value = kept
        elif kept != texts:
            del dataset[element.tag]


def _stands_in(text: str, names: Collection[str], tight: Collection[str]) -> bool:
    """Whether a code string is a name or number, or one of more than four letters stands in it."""
    letters = squeezed(text)
    return text.strip().lower() in names or any(len(name) > SHORTEST and name in letters for name in tight)


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
