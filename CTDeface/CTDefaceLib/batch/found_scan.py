"""A scan that a batch found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

SEVERAL = "\0"
"""Between the folders of a series that lies in several; no path holds it on any system."""


@dataclass(frozen=True)
class FoundScan:
    """A scan to deface.

    Attributes
    ----------
    place: str
        Tells scans apart: the path, of a DICOM series that shares its folder with others also ``#`` and its number.
    path: str
        Below the folder of the batch, or as the table gives it, with ``/``: a file, or a folder with DICOM files, or
        several of them, see :func:`joined` and :func:`folders_of`.
    series: str
        Series instance UID, where the folder holds other images, too.
    stamp: str
        Changes when the files change: sizes and times.
    identity: str
        The same for the same scan at two places: of SOP instance UIDs and file sizes, or of the content of a file
        where another file has its size. Empty where it is the only one.
    patient: str
        Tells patients apart: of the table, the DICOM header (see :func:`.dicom.pseudonyms.who`) or the ``sub-`` of a
        BIDS name; empty where nothing does.
    study: str
        Study instance UID, or the ``ses-`` of a BIDS name.
    output: str
        Name of the result that the table asks for, with ``/`` and without ending.
    modality: str
        As in DICOM, of a series; empty where only the pixels tell.
    """

    place: str
    path: str
    stamp: str
    series: str = ""
    identity: str = ""
    patient: str = ""
    study: str = ""
    output: str = ""
    modality: str = ""


def joined(folders: Iterable[str]) -> str:
    """The path of a scan that lies in these folders, see :attr:`FoundScan.path`."""
    return SEVERAL.join(folders)


def folders_of(path: str) -> list[str]:
    """The folders of a path made by :func:`joined`; else the one path that it is."""
    return path.split(SEVERAL)
