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
    """Look for what goes along with the images of DICOM studies.

    Parameters
    ----------
    root: Path
        Folder that the places start at.
    tops: list of str
        Folders below it that are looked into, with all that lies in them; one that is missing holds nothing.
    ignore: tuple of Path
        Folders that are not looked into.
    before: dict
        What was found before: folders that have not changed since are not read again.

    Returns
    -------
    dict
        As :data:`Found`.
    """
    found: Found = {}
    for top in tops:
        for folder, names in files_below(root / top, ignore) if (root / top).is_dir() else ():
            place = Path(os.path.relpath(folder, root)).as_posix()
            stamp = stamp_of(Path(folder))
            known = before.get(place)
            found[place] = known if known and known[0] == stamp else [stamp, _documents_in(folder, names)]
    return found


def by_study(root: Path, found: Found) -> dict[str, list[str]]:
    """Documents by their study.

    Parameters
    ----------
    root: Path
        Folder that the places start at.
    found: dict
        Of :func:`find_documents`.

    Returns
    -------
    dict
        Study instance UID → paths, in the order of the folders.
    """
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
