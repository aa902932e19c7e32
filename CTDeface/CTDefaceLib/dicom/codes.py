"""Coded entries: what a public dictionary knows stays, what somebody typed in its place does not.

An item of a code sequence says what it is by a value of a coding scheme, and by a meaning in words. Procedures and
reasons are often of a hospital's own scheme, and in their words, and their values, anything can stand.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from .descriptions import described
from .identifiers import Identifiers

if TYPE_CHECKING:
    import pydicom

VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")
"""Where the value of a coded entry stands, by its length and form."""

FORMS = {
    "SCT": r"\d{6,18}", "SRT": "[A-Z]-[A-F0-9]{5}", "SNM3": "[A-Z]-[A-F0-9]{5}", "LN": r"\d{1,5}-\d",
    "RADLEX": r"RP?ID\d{1,5}", "DCM": r"\d{6}", "FMA": r"\d{4,6}", "UCUM": "[^ ]{1,16}", "MDC": r"\d{1,10}",
    "RXNORM": r"\d{1,8}", "I10": r"[A-Z]\d\d(\.\w{1,4})?", "I10P": "[0-9A-HJ-NP-Z]{7}",
}  # fmt: skip
"""Public coding schemes, and how their values are written: one of that form stays although the dictionary lacks it."""

LOCAL = "L"
"""Designator of a scheme of one's own, in place of its name, which can tell the hospital."""

REMOVED = "REMOVED"
VERSION = re.compile(r"[\w.-]{1,16}")

BODY_PARTS = set(
    "cspine tspine lspine headneck necks wholebody facialbones zygoma clavicle shoulder iac tmj carotid cervicalspine "
    "paranasalsinus".split()
)
"""Terms of the standard for what was examined, beside the words of the trade."""


def is_coded_entry(item: pydicom.Dataset) -> bool:
    """Whether a dataset is an item of a code sequence."""
    return any(keyword in item for keyword in ("CodingSchemeDesignator", "CodeMeaning", *VALUES))


def clean_coded_entry(item: pydicom.Dataset, found: Identifiers) -> None:
    """Leave of an item of a code sequence, in place, what a dictionary knows, or words of the trade.

    Parameters
    ----------
    item: pydicom.Dataset
    found: Identifiers
        What identifies the patient.
    """
    scheme = str(item.get("CodingSchemeDesignator", "") or "").strip()
    value = next((str(item[keyword].value or "").strip() for keyword in VALUES if keyword in item), "")
    known = dictionary().get(scheme, {}).get(value, "")
    if "CodeMeaning" in item:
        item.CodeMeaning = known or described(item.CodeMeaning, found) or REMOVED
    is_public = bool(known) or scheme in FORMS and re.fullmatch(FORMS[scheme], value) is not None
    if not is_public:
        for keyword in VALUES:
            if keyword in item:
                item[keyword].value = described(item[keyword].value, found) or REMOVED
    if "CodingSchemeDesignator" in item and scheme not in FORMS and not known:
        item.CodingSchemeDesignator = LOCAL
    if "CodingSchemeVersion" in item and not (is_public and VERSION.fullmatch(str(item.CodingSchemeVersion or ""))):
        del item.CodingSchemeVersion


def body_part(text: str, found: Identifiers) -> str:
    """What can stay of a body part (a code string, which is typed all the same)."""
    if re.sub(r"[\W_]", "", text.lower()) in BODY_PARTS:
        return text
    return str(described(text, found)).upper()


@cache
def dictionary() -> dict[str, dict[str, str]]:
    """Coding scheme → value → meaning, of those that the standard makes use of; empty where pydicom has it no more."""
    try:
        from pydicom.sr import _concepts_dict
    except ImportError:
        return {}
    schemes: dict[str, dict[str, dict[str, tuple]]] = getattr(_concepts_dict, "concepts", {})
    return {
        scheme: {value: known[0] for entry in entries.values() for value, known in entry.items()}
        for scheme, entries in schemes.items()
    }
