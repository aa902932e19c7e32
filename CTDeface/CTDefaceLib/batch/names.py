"""Names of the results of a batch: pseudonyms by a keyed hash, in the shape of the input's folders or as BIDS."""

from __future__ import annotations

import base64
import hmac
import re
from pathlib import PurePosixPath

from ..files import name_bytes
from ..stored_data import suffix
from ..volume_io import IMAGE_IO
from .bids import bids_name
from .found_scan import FoundScan

PSEUDONYM_LENGTH = 10
"""Characters of a pseudonym, each one of 32: two of a million patients share one once in 2000 batches."""


def pseudonym(secret: bytes, kind: str, text: str) -> str:
    """Ten lower-case letters and digits that nobody can trace back to a text without the secret (HMAC-SHA-256).

    Parameters
    ----------
    secret: bytes
    kind: str
        The same text of another kind (``"patient"``, ``"study"``, ``"folder"``, …) gets another pseudonym.
    text: str
    """
    digest = hmac.new(secret, name_bytes(f"{kind}\0{text}"), "sha256").digest()
    return base64.b32encode(digest).decode().lower()[:PSEUDONYM_LENGTH]


def output_name(scan: FoundScan, layout: str, names: str, secret: bytes) -> str:
    """Name of a result below the output folder, with ``/`` and without ending; not yet unique.

    Parameters
    ----------
    scan: FoundScan
    layout, names: str
        Of :class:`.choices.Choices`.
    secret: bytes
        For pseudonyms.
    """
    if scan.output:
        return scan.output
    place = PurePosixPath(scan.place.replace(":", ""))
    steps = [part for part in place.parts if part not in ("/", "..", ".")] or ["scan"]
    if suffix(steps[-1]) in IMAGE_IO:
        steps[-1] = steps[-1][: -len(suffix(steps[-1]))]

    def coded(kind: str, text: str) -> str:
        return pseudonym(secret, kind, text) if names == "pseudonym" else re.sub("[^A-Za-z0-9]", "", text) or "x"

    if layout == "bids":
        subject = coded("patient", scan.patient or "/".join(steps))
        session = coded("study", scan.study) if scan.study else ""
        return bids_name(scan.place, scan.modality, subject, session, coded)
    if names == "keep":
        return "/".join(steps)
    return "/".join(pseudonym(secret, "folder", "/".join(steps[: n + 1])) for n in range(len(steps)))
