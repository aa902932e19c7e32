"""What can stay of free text that describes an image: words of the trade, and numbers that such a word explains."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from .identifiers import SHORTEST, Identifiers, without

VOCABULARY = set(
    "abdomen acquisition admire adult aidr air angio angiography anterior arterial arteries artery asir average ax "
    "axial base baseline bilateral biopsy body bolus bone bones brain brainstem c calvarium cardiac carotid carotids "
    "cbf cbv cerebellum cerebral cerebrum cervical chest child circle complete contrast control cor coronal cranium "
    "ct cta ctp ctv dect delay delayed dental dlir dose dual dynamic ear early emergency energy enhanced eye face "
    "facial fbp filter first follow fossa fracture frontal gtv haemorrhage hd head helical hemorrhage high iac iacs "
    "idose imar infarct iodine iterative iv jaw kernel kv larynx late lateral left lens limited localizer low lower "
    "lumbar ma mandible maps mar mask mastoid mastoids maxilla maxillofacial mean medial mip mips mm monoenergetic "
    "mpr mtt multi multislice nasopharynx native navigation neck nerve non oblique occipital omar orbit orbits organ "
    "parietal parotid pediatric pelvis perfusion petrosal petrous pharynx phase pituitary plain planning polytrauma "
    "post posterior postop pre preop protocol ptv radiotherapy recon reconstruction reformat reformats reformatted "
    "report right routine rt safire sag sagittal salivary scan scout sella sequence series sharp shunt simulation "
    "sinus sinuses sinusitis skull slice smar smooth soft spectral spine spiral standard stereotactic stroke temporal "
    "thick thin thins thoracic thorax thyroid tissue tissues tmax tmj topogram trauma trunk ttp tumor tumour uhr "
    "unilateral up upper vascular vein veins venous ventricle ventricles vertebral vessel vmi vnc volume vrt w window "
    "with without wo zygoma".split()
)
"""What may stay of a description: nothing else in it can be told from a name."""

UNITS = ("mm", "cm", "kvp", "kv", "mas", "ma", "msec", "ms", "sec", "s", "min", "ml", "hu", "deg", "%")
"""Words that explain the number before them, and stay with it; a longer one before one that it begins with."""

QUANTITY = r"(?:0|[1-9]\d{0,2})(?:[.,]\d{1,2})?"
"""How a number is written that measures something; those that name somebody or a day are longer, or in pieces."""

PHRASE = re.compile(
    rf"(?:(?<![^\W_])(?<!\d[.,])|(?<=\dx))(?P<number>{QUANTITY})[ _-]*(?P<unit>{'|'.join(UNITS)})(?![^\W_])|"
    r"(?P<numbered>(?<![^\W_])(?:t[12]|c[1-7]|th?(?:[1-9]|1[0-2])|l[1-5]|w/o)(?![^\W_]))|(?P<word>[^\W\d_]+)",
    re.IGNORECASE,
)
"""A quantity with its unit; a word with a number or stroke in it, of weightings, vertebrae, without; or a word."""

NUMBERS = re.compile(r"[\W_]*\d[\d\W_]*")
"""A number with all others that only separators part from it."""

ALONE = re.compile(rf"(?:[^\w¦]*[^\w¦.,]|_)*(?P<number>{QUANTITY})[\W_]*")
"""One number alone that measures something, with what stands around it; next to it nothing was cut out."""

MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
NAMED_DAY = re.compile(
    rf"(?:\d+[\W_]*{MONTH}[\W_]*)+\d*|(?:{MONTH}[\W_]*\d+[\W_]*)+\d*",
    re.IGNORECASE,
)
"""A date with the name of its month, one of which is a word of the trade."""

CUT = " ¦ "
"""Stands for what was cut out, so that what was on both sides of it is not joined."""


def described(value: Any, found: Identifiers | None = None) -> str | list[str]:
    """What can stay of a description, of one or several values.

    Parameters
    ----------
    value: str, list of str or None
    found: Identifiers, optional
        What identifies the patient: cut out before the text is taken apart, in whatever way it is written.
    """
    found = found or Identifiers()
    if value is None or isinstance(value, str):
        return _described(value or "", found)
    return [_described(str(one), found) for one in value]


def _described(text: str, found: Identifiers) -> str:
    def alone(numbers: re.Match[str]) -> str:
        one = ALONE.fullmatch(numbers[0])
        return numbers[0] if one and one["number"] not in found.pieces else CUT

    text = NUMBERS.sub(alone, NAMED_DAY.sub(CUT, without(text, found.names, CUT)))
    phrases = list(PHRASE.finditer(text))
    spelled = (
        _is_spelled(text, found)
        or max(Counter(phrase["unit"] for phrase in phrases if phrase["unit"]).values(), default=0) > 2
    )
    kept = []
    for phrase in phrases:
        if phrase["number"]:
            kept += [] if spelled else [f"{phrase['number']} {phrase['unit']}"]
        elif phrase[0].lower() not in found.pieces and (phrase["numbered"] or phrase[0].lower() in VOCABULARY):
            kept.append(phrase[0])
    return " ".join(kept)


def _is_spelled(text: str, found: Identifiers) -> bool:
    """Whether the digits of a text, whatever stands between them, are those of a number or date that identifies."""
    left = _digits(text)
    return any(digits in left for digits in map(_digits, found.names) if len(digits) >= SHORTEST)


def _digits(text: str) -> str:
    """All digits of a text."""
    return "".join(filter(str.isdecimal, text))
