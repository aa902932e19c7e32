"""Read the structures that must stay: from label maps, DICOM segmentations and structure sets, by name.

A choice is written ``FILE`` or ``FILE:name,name…``. A name is that of a structure, a pattern with ``*`` and ``?``, or
one of the lists in :data:`LISTS`; capitals do not matter.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .dicom.files import is_dicom_file
from .dicom.structures import dicom_structures
from .errors import InputError
from .removal.keep import Structure
from .stored_data import suffix
from .volume_io import IMAGE_IO, read_stored

LISTS = {
    "nodes": ("*node*", "ln", "ln[_ ]*", "*gland*", "*glnd*", "parotid*", "submand*", "sublingual*", "thyroid*"),
    "jaw": ("*mandib*", "*teeth*", "*tooth*", "*jaw*"),
    "orbits": ("*orbit*", "*eye*", "*lens*", "*globe*", "*optic*n*rv*", "*lacrimal*"),
    "targets": ("gtv*", "ctv*", "itv*", "ptv*"),
}
"""Usual lists → what their structures are called: in TG-263, by TotalSegmentator, and in plain words."""

MOST_NAMED = 20
"""How many names a message lists. A choice."""


def read_structures(choice: str | os.PathLike, read: Callable[[Path], sitk.Image] = read_stored) -> list[Structure]:
    """The structures that a choice names; all that a file holds where it names none.

    Parameters
    ----------
    choice: str
        ``FILE`` or ``FILE:name,name…``. The file is a label map (NIfTI, NRRD, MetaImage; names come from a Slicer
        segmentation ``.seg.nrrd``, or from a BIDS table ``.tsv`` with the columns index and name beside it, and are
        the numbers of the labels otherwise), a folder with a mask for each structure, named as it, or a DICOM
        segmentation or structure set.
    read: callable
        What reads a volume file: :func:`.volume_io.read_stored`, or the same with more that it is told.

    Raises
    ------
    InputError
        When there is no such file, it holds no structures, or none of a name.
    """
    path, names = split_choice(os.fspath(choice))
    found = _all_in(path, read)
    if not found:
        raise InputError("The file of what is to be kept holds no structures: all of it is empty.")
    chosen, unknown = _named(found, names)
    if unknown:
        more = ["…"] * (len(found) > MOST_NAMED)
        listed = ", ".join([*(one.name for one in found[:MOST_NAMED]), *more])
        raise InputError(f"There is no structure “{unknown[0]}” to keep; the file has {listed}.")
    return chosen


def find_structures(
    files: Iterable[Path], names: Sequence[str], read: Callable[[Path], sitk.Image] = read_stored
) -> tuple[list[Structure], list[str]]:
    """The structures of these names in some files, and the names that none of them has; see :func:`read_structures`.

    Raises
    ------
    InputError
        When a file cannot be read.
    """
    return _named([one for path in files for one in _all_in(path, read)], names)


def _all_in(path: Path, read: Callable[[Path], sitk.Image]) -> list[Structure]:
    """All structures of a file or folder that are not empty."""
    if is_dicom_file(path):
        found = dicom_structures(path)
    elif path.is_dir():
        found = _masks_in(path, read)
    else:
        found = _labels(path, read)
    return [one for one in found if sitk.GetArrayViewFromImage(one.mask).any()]


def read_all(choices: Iterable[str | os.PathLike], read: Callable[[Path], sitk.Image] = read_stored) -> list[Structure]:
    """As :func:`read_structures`, of several choices."""
    return [structure for choice in choices for structure in read_structures(choice, read)]


def split_choice(choice: str) -> tuple[Path, list[str]]:
    """The file of a choice, and the names in it that it asks for (InputError where there is no such file)."""
    ends = [len(choice), *reversed([match.start() for match in re.finditer(":", choice)])]
    for end in ends:
        path = Path(choice[:end])
        if choice[:end] and path.exists():
            return path, [name.strip() for name in choice[end + 1 :].split(",") if name.strip()]
    raise InputError("There is no file of this name with structures to keep; check its path.")


def _named(found: Sequence[Structure], names: Sequence[str]) -> tuple[list[Structure], list[str]]:
    """Those of some names, patterns or lists, all where there are none of these; and the names that fit none."""
    if not names:
        return list(found), []
    chosen: dict[int, Structure] = {}
    unknown: list[str] = []
    there = {one.name.lower() for one in found}
    for name in names:
        patterns = (name.lower(),) if name.lower() in there else LISTS.get(name.lower(), (name.lower(),))
        fitting = {
            number: one
            for number, one in enumerate(found)
            if any(one.name.lower() == pattern or fnmatchcase(one.name.lower(), pattern) for pattern in patterns)
        }
        unknown += [name] * (not fitting)
        chosen.update(fitting)
    return [chosen[number] for number in sorted(chosen)], unknown


def _masks_in(folder: Path, read: Callable[[Path], sitk.Image]) -> list[Structure]:
    """A mask for each structure, as TotalSegmentator leaves them."""
    files = sorted(path for path in folder.iterdir() if suffix(path) in IMAGE_IO and not path.name.startswith("."))
    if not files:
        raise InputError("The folder holds no masks (.nii.gz, .nrrd, .mha) of what is to be kept.")
    return [
        Structure(path.name[: -len(suffix(path))], _mask(image, np.any(_whole_numbers(image) != 0, axis=0)))
        for path in files
        for image in [_in_3d(read(path))]
    ]


def _labels(path: Path, read: Callable[[Path], sitk.Image]) -> list[Structure]:
    if suffix(path) not in IMAGE_IO:
        raise InputError(
            "What is to be kept is no label map (.nii.gz, .nrrd, .mha), and no DICOM segmentation or structure set."
        )
    image = _in_3d(read(path))
    layers = _whole_numbers(image)
    names = _slicer_names(image) or {(0, label): name for label, name in _table(path).items()}
    found = []
    for layer, values in enumerate(layers):
        for label in np.unique(values[values != 0]).tolist():
            found.append(Structure(names.get((layer, label), str(label)), _mask(image, values == label)))
    return found


def _in_3d(image: sitk.Image) -> sitk.Image:
    if image.GetDimension() != 3:
        raise InputError("The label map of what is to be kept is not 3D.")
    return image


def _whole_numbers(image: sitk.Image) -> np.ndarray:
    """Labels, shape (layers, z, y, x)."""
    values = sitk.GetArrayFromImage(image)
    values = np.moveaxis(values, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else values[None]
    if values.dtype.kind == "f":
        if not np.array_equal(values, np.rint(values)):
            raise InputError("The file of what is to be kept is no label map: its values are not whole numbers.")
        values = values.astype(np.int32)
    return values


def _mask(image: sitk.Image, inside: np.ndarray) -> sitk.Image:
    mask = sitk.GetImageFromArray(inside.astype(np.uint8))
    mask.CopyInformation(image)
    return mask


def _slicer_names(image: sitk.Image) -> dict[tuple[int, int], str]:
    """(Layer, label) → name of the segments of a file that Slicer wrote."""
    names = {}
    for key in image.GetMetaDataKeys():
        if match := re.fullmatch(r"Segment(\d+)_Name", key):
            start = f"Segment{match.group(1)}_"
            value = {end: _number(image, start + end) for end in ("LabelValue", "Layer")}
            names[value["Layer"] or 0, value["LabelValue"] or int(match.group(1)) + 1] = image.GetMetaData(key).strip()
    return names


def _number(image: sitk.Image, key: str) -> int | None:
    text = image.GetMetaData(key).strip() if image.HasMetaDataKey(key) else ""
    return int(text) if text.isdigit() else None


def _table(path: Path) -> dict[int, str]:
    """Label → name of a BIDS table beside a label map."""
    table = path.with_name(path.name[: -len(suffix(path))] + ".tsv")
    if not table.is_file():
        return {}
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        return {int(row["index"]): row["name"].strip() for row in rows}
    except (OSError, ValueError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(
            "The table beside the label map has no columns “index” and “name”, or cannot be read."
        ) from error
