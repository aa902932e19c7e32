"""The structure sets, segmentations, doses, plans and the like of the DICOM studies of a batch."""

from __future__ import annotations

import os
from pathlib import Path

from ..dicom.files import kind_of, quietly
from ..dicom.references import KINDS
from ..walk import files_below
from .series import header_of, stamp_of

Found = dict[str, list]
"""Folder below the root → its stamp, and for each file [its name, study instance UID]."""


@quietly()
def find_documents(root: Path, tops: list[str], ignore: tuple[Path, ...], before: Found) -> Found:
    """What lies below some folders of a root; those that have not changed since ``before`` are not read again."""
    found: Found = {}
    for top in tops:
        for folder, names in files_below(root / top, ignore) if (root / top).is_dir() else ():
            place = Path(os.path.relpath(folder, root)).as_posix()
            stamp = stamp_of(Path(folder))
            known = before.get(place)
            found[place] = known if known and known[0] == stamp else [stamp, _documents_in(folder, names)]
    return found


def by_study(root: Path, found: Found) -> dict[str, list[str]]:
    """Study instance UID → paths of its documents."""
    studies: dict[str, list[str]] = {}
    for place, (_, files) in sorted(found.items()):
        for name, study in files:
            studies.setdefault(study, []).append(str(root / place / name))
    return studies


def _documents_in(folder: str, names: list[str]) -> list[list[str]]:
    files = (name for name in names if os.path.isfile(os.path.join(folder, name)))
    headers = ((name, header_of(os.path.join(folder, name))) for name in files)
    return [
        [name, str(header.get("StudyInstanceUID", "") or "")]
        for name, header in headers
        if header is not None and kind_of(header) in KINDS
    ]
