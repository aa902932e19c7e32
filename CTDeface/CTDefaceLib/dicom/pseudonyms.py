"""New UIDs and pseudonyms, the same for the same secret, that nobody can trace back without it (HMAC-SHA-256)."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ..files import csv_line
from ..private import append_private

if TYPE_CHECKING:
    import pydicom

TABLE = "pseudonyms.csv"
"""Name of the table of what stands for what, in a private folder."""

WELL_KNOWN = "1.2.840.10008."
"""What SOP classes, transfer syntaxes and what else the standard itself names begin with."""

NOBODY = re.compile(
    r"(anon\w*|unknown|none|n/?a|removed|patient|name|id|[0x\W_]*)([\W_]+(anon\w*|patient|name|id|[0x]+))*[\W_]*", re.I
)
"""An ID or a name that stands for none, as a tool that anonymised before leaves it in the headers of everybody."""


def who(dataset: pydicom.Dataset) -> str:
    """What tells the patient of a header from others: ID or name; the study where both are missing or say nothing.

    Two hospitals can give one ID to two people, and two people can have one name: who gave the ID belongs to it, and
    the day of birth to the name. A backslash stands between, which neither can hold.
    """
    for keyword, more in (("PatientID", "IssuerOfPatientID"), ("PatientName", "PatientBirthDate")):
        text, told = (str(dataset.get(one, "") or "").strip() for one in (keyword, more))
        if not NOBODY.fullmatch(text):
            return "\\".join(filter(None, (text, told)))
    return "study " + next(
        (str(uid) for uid in map(dataset.get, ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")) if uid), ""
    )


class Pseudonyms:
    """What stands for the UIDs and names of a study.

    Parameters
    ----------
    secret: bytes, optional
        Whoever gives the same one gets the same pseudonyms in every run; drawn at random when None.
    only: collection of str, optional
        UIDs that are replaced, those of what is defaced; None replaces all.

    Attributes
    ----------
    used: dict
        What was replaced: (kind, original) → what stands for it.
    """

    def __init__(self, secret: bytes | None = None, only: Collection[str] | None = None):
        self._secret = secret or secrets.token_bytes(32)
        self._only = only
        self.used: dict[tuple[str, str], str] = {}

    def uid(self, original: str) -> str:
        """The UID that stands for another one."""
        original = str(original)
        if not original or original.startswith(WELL_KNOWN) or self._only is not None and original not in self._only:
            return original
        if ("UID", original) not in self.used:
            self.used["UID", original] = self._uid("uid", original)
        return self.used["UID", original]

    def source(self, original: str) -> str:
        """The UID that stands for the undefaced image itself, where the original must not be named."""
        return original if self._only is not None else self._uid("source", original)

    def patient(self, original: str) -> str:
        """The pseudonym of a patient, see :func:`who`."""
        if ("patient", original) not in self.used:
            self.used["patient", original] = "P" + self._digest("patient", original).hex()[:11].upper()
        return self.used["patient", original]

    def days(self, patient: str) -> int:
        """By how many days the dates of a patient are shifted back: 30 to 3679."""
        return 30 + int.from_bytes(self._digest("days", patient)[:8], "big") % 3650

    def append_to(self, table: Path) -> None:
        """Add what was replaced to a private CSV file: kind, original, pseudonym. It is on the disk then."""
        known = "\r\n" + (table.read_bytes().decode("utf-8", "replace") if table.exists() else "")
        rows = [(kind, original, new) for (kind, original), new in sorted(self.used.items())]
        rows += [("days back", original, str(self.days(original))) for kind, original in self.used if kind == "patient"]
        append_private(table, "".join(line for line in map(csv_line, rows) if f"\r\n{line}" not in known))

    def _uid(self, kind: str, original: str) -> str:
        digest = bytearray(self._digest(kind, original)[:16])
        digest[6], digest[8] = digest[6] & 0x0F | 0x80, digest[8] & 0x3F | 0x80  # a UUID of version 8
        return f"2.25.{int.from_bytes(digest, 'big')}"

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.new(self._secret, f"{kind}\0{text}".encode(), "sha256").digest()
