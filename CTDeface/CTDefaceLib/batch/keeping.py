"""What must stay in the scans of a batch: structures in files beside each scan, or in those of its DICOM study.

A choice is written ``WHERE`` or ``WHERE:name,name…``. ``WHERE`` is ``dicom``, for the structure sets and segmentations
of the study that refer to a series, or a path from the folder of the scan, in which ``{name}`` stands for its name
without ending, and ``*`` and ``?`` for any letters. Names are those of :mod:`CTDefaceLib.structures`.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import SimpleITK as sitk

from ..errors import InputError
from ..removal.keep import Structure
from ..stored_data import suffix
from ..structures import find_structures
from ..volume_io import IMAGE_IO
from .found_scan import FoundScan, folders_of

DOCUMENTS = "dicom"
"""What asks for the structure sets and segmentations of a study."""

NOTHING_TO_KEEP = (
    "None of the structures that must stay was found for this scan, so it was left alone: give it its file, or do it "
    "in a batch without --keep."
)


class NothingToKeepError(InputError):
    """Nothing of what must stay was found for a scan."""


def asks_for_documents(choice: str) -> bool:
    """Whether a choice is of the structure sets and segmentations of a DICOM study."""
    return _split(choice)[0] == DOCUMENTS


def kept_structures(
    keep: Sequence[str],
    path: str,
    documents: Sequence[str],
    read: Callable[[Path], sitk.Image],
    besides: str = "",
) -> tuple[list[Structure], list[str]]:
    """The structures that must stay in a scan, and sentences on what was not found for it.

    Parameters
    ----------
    keep: sequence of str
        Choices.
    path: str
        Of the scan, see :mod:`.found_scan`.
    documents: sequence of str
        Structure sets and segmentations that refer to it.
    read: callable
        What reads a volume file, see :func:`CTDefaceLib.structures.read_structures`.
    besides: str
        Path of another scan, whose structures are known.

    Raises
    ------
    InputError
        When a file cannot be read.
    NothingToKeepError
        When nothing at all is found.
    """
    found: list[Structure] = []
    missing: list[str] = []
    for choice in keep:
        where, names = _split(choice)
        files = [Path(one) for one in documents] if where == DOCUMENTS else files_beside(where, path)
        known = files_beside(where, besides) if besides and where != DOCUMENTS else []
        files = [file for file in files if file not in known]
        structures, unknown = find_structures(files, names, read)
        found += structures
        missing += [f"There is no structure “{name}” to keep for this scan." for name in unknown]
        missing += ["There is no file with structures to keep for this scan."] * (not files)
    if keep and not found:
        raise NothingToKeepError(NOTHING_TO_KEEP)
    return found, list(dict.fromkeys(missing))


def files_beside(where: str, path: str) -> list[Path]:
    """The files, or folders with masks, of a choice for one scan.

    Parameters
    ----------
    where: str
        Pattern, from the folder of the scan; ``{name}`` stands for its name without ending.
    path: str
        Of the scan, see :mod:`.found_scan`.

    Returns
    -------
    list of Path
        In the order of their names, without the scan itself.
    """
    scan = Path(folders_of(path)[0])
    name = scan.name[: -len(suffix(scan))] if suffix(scan) in IMAGE_IO else scan.name
    pattern = os.path.join(glob.escape(str(scan.parent)), where.replace("{name}", glob.escape(name)))
    return [Path(one) for one in sorted(glob.glob(os.path.normpath(pattern))) if Path(one) != scan]


def without_kept(root: Path, scans: list[FoundScan], keep: Sequence[str]) -> list[FoundScan]:
    """The scans that are no structures of another one.

    Parameters
    ----------
    root: Path
        Folder that the places start at.
    scans: list of FoundScan
    keep: sequence of str
        Choices.
    """
    patterns = [where for where, _ in map(_split, keep) if where != DOCUMENTS]
    kept = {
        os.path.normcase(os.path.abspath(file))
        for where in patterns
        for scan in scans
        for file in files_beside(where, str(root / folders_of(scan.path)[0]))
    }

    def is_kept(scan: FoundScan) -> bool:
        path = Path(os.path.normcase(os.path.abspath(root / folders_of(scan.path)[0])))
        return any(str(one) in kept for one in (path, path.parent))

    return [scan for scan in scans if not is_kept(scan)] if kept else scans


def _split(choice: str) -> tuple[str, list[str]]:
    """Where, and the names."""
    where, _, names = choice.partition(":")
    return where.strip(), [name.strip() for name in names.split(",") if name.strip()]
