"""Read structures from label maps, DICOM segmentations and structure sets, by name: what must stay, or is measured.

A choice is written ``FILE`` or ``FILE:name,name…``. A name is that of a structure, a pattern with ``*`` and ``?``, or
one of the lists in :data:`LISTS`; capitals do not matter.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import SimpleITK as sitk

from .dicom.files import is_dicom_file
from .dicom.structures import dicom_structures
from .errors import InputError
from .removal.keep import Structure
from .stored_data import suffix
from .volume_io import IMAGE_IO, read_stored

LISTS = {
    "nodes": (
        "*node*", "*lymph*", "ln", "ln[_ ]*", "lnn[_ ]*", "level[_ ][iv]*", "neck[_ ][iv]*", "*gland*", "*glnd*",
        "parotid*", "submand*", "sublingual*", "thyroid*",
    ),
    "jaw": ("*mandib*", "*teeth*", "*tooth*", "*jaw*", "*incisor*", "*canine*", "*molar*"),
    "orbits": (
        "*orbit*", "*eye*", "*lens*", "*globe*", "*optic*n*rv*", "*lacrimal*", "*retina*", "*cornea*",
        "*rectus_muscle*", "*oblique_muscle*", "levator_palpebrae*",
    ),
    "targets": ("gtv*", "ctv*", "itv*", "ptv*", "igtv*", "ictv*"),
}  # fmt: skip
"""Usual lists → what their structures are called: in TG-263, by TotalSegmentator, and in plain words."""

MOST_NAMED = 20
"""How many names a message lists. A choice."""


Read = Callable[[Path], sitk.Image]
"""What reads a volume file: :func:`.volume_io.read_stored`, or the same with more that it is told."""


class Found(NamedTuple):
    """A structure that a file holds, and what makes its mask: all of a body at once would not fit into memory."""

    name: str
    mask: Callable[[], sitk.Image]


Named = TypeVar("Named", Found, Structure)


def structure_masks(choice: str | os.PathLike, read: Read = read_stored) -> list[Found]:
    """The structures that a choice names; all that a file holds where it names none.

    Parameters
    ----------
    choice: str
        ``FILE`` or ``FILE:name,name…``. The file is a label map (NIfTI, NRRD, MetaImage; names come from a Slicer
        segmentation ``.seg.nrrd``, or from a BIDS table ``.tsv`` with the columns index and name beside it, and are
        the numbers of the labels otherwise), a folder with a mask for each structure, named as it, or a DICOM
        segmentation or structure set.
    read: callable
        See :data:`Read`.

    Returns
    -------
    list of Found
        Masks are uint8, 1 inside, each on a grid of its own in the space of the volume (LPS, mm).

    Raises
    ------
    InputError
        When there is no such file, it holds no structures, or none of a name.
    """
    path, names = split_choice(os.fspath(choice))
    return _chosen(_all_in(path, read), names)


def read_structures(choice: str | os.PathLike, read: Read = read_stored) -> list[Structure]:
    """As :func:`structure_masks`, each with its mask; what is empty counts as not there."""
    return _chosen(_made(structure_masks(choice, read)), split_choice(os.fspath(choice))[1])


def find_structures(
    files: Iterable[Path], names: Sequence[str], read: Read = read_stored
) -> tuple[list[Structure], list[str]]:
    """The structures of these names in some files, and the names that none of them has; see :func:`read_structures`.

    Raises
    ------
    InputError
        When a file cannot be read.
    """
    found, _ = _named([one for path in files for one in _all_in(path, read)], names)
    return _named(_made(found), names)


def _all_in(path: Path, read: Read) -> list[Found]:
    """All structures of a file or folder."""
    if is_dicom_file(path):
        return [Found(one.name, partial(_itself, one.mask)) for one in dicom_structures(path)]
    return _masks_in(path, read) if path.is_dir() else _labels(path, read)


def _made(found: Iterable[Found]) -> list[Structure]:
    """The masks of structures, without empty ones."""
    made = [Structure(one.name, one.mask()) for one in found]
    return [one for one in made if sitk.GetArrayViewFromImage(one.mask).any()]


def _chosen(found: Sequence[Named], names: Sequence[str]) -> list[Named]:
    """Those of some names; InputError where there are none, or none of a name."""
    if not found:
        raise InputError("The segmentation holds no structures: all of it is empty.")
    chosen, unknown = _named(found, names)
    if unknown:
        listed = ", ".join(one.name for one in found[:MOST_NAMED]) + ", …" * (len(found) > MOST_NAMED)
        raise InputError(f"There is no structure “{unknown[0]}” in the segmentation; it has {listed}.")
    return chosen


def read_all(choices: Iterable[str | os.PathLike], read: Read = read_stored) -> list[Structure]:
    """As :func:`read_structures`, of several choices."""
    return [structure for choice in choices for structure in read_structures(choice, read)]


def split_choice(choice: str) -> tuple[Path, list[str]]:
    """The file of a choice, and the names in it that it asks for (InputError where there is no such file)."""
    ends = [len(choice), *reversed([match.start() for match in re.finditer(":", choice)])]
    for end in ends:
        path = Path(choice[:end])
        if choice[:end] and path.exists():
            return path, [name.strip() for name in choice[end + 1 :].split(",") if name.strip()]
    raise InputError("There is no file of this name with structures; check its path.")


def is_listed(name: str, listed: str) -> bool:
    """Whether a structure of some name is in one of the usual lists."""
    return any(fnmatchcase(name.lower(), pattern) for pattern in LISTS[listed])


def _named(found: Sequence[Named], names: Sequence[str]) -> tuple[list[Named], list[str]]:
    """Those of some names, patterns or lists, all where there are none of these; and the names that fit none."""
    if not names:
        return list(found), []
    chosen: dict[int, Named] = {}
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


def _itself(mask: sitk.Image) -> sitk.Image:
    return mask


def _masks_in(folder: Path, read: Read) -> list[Found]:
    """A mask for each structure, as TotalSegmentator leaves them."""
    files = sorted(path for path in folder.iterdir() if suffix(path) in IMAGE_IO and not path.name.startswith("."))
    if not files:
        raise InputError("The folder holds no masks of structures (.nii.gz, .nrrd, .mha).")
    return [Found(path.name[: -len(suffix(path))], partial(_mask_in, path, read)) for path in files]


def _mask_in(path: Path, read: Read) -> sitk.Image:
    image = _in_3d(path, read)
    return _mask(image, np.any(_whole_numbers(image) != 0, axis=0))


def _labels(path: Path, read: Read) -> list[Found]:
    if suffix(path) not in IMAGE_IO:
        raise InputError(
            "The segmentation is no label map (.nii.gz, .nrrd, .mha), no DICOM segmentation or structure set, and no "
            "folder with a mask for each structure."
        )
    image = _in_3d(path, read)
    layers = _whole_numbers(image)
    names = _slicer_names(image) or {(0, label): name for label, name in _table(path).items()}
    found = []
    for layer, values in enumerate(layers):
        for label in np.unique(values[values != 0]).tolist():
            found.append(Found(names.get((layer, label), str(label)), partial(_labelled, image, values, label)))
    return found


def _labelled(image: sitk.Image, values: np.ndarray, label: int) -> sitk.Image:
    return _mask(image, values == label)


def _in_3d(path: Path, read: Read) -> sitk.Image:
    try:
        image = read(path)
    except InputError as error:
        raise InputError(f"The segmentation cannot be read: {error}") from error
    if image.GetDimension() != 3:
        raise InputError("The segmentation has not three dimensions: give a label map of the whole volume.")
    return image


def _whole_numbers(image: sitk.Image) -> np.ndarray:
    """Labels, shape (layers, z, y, x)."""
    values = sitk.GetArrayFromImage(image)
    values = np.moveaxis(values, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else values[None]
    if values.dtype.kind == "f":
        if not np.array_equal(values, np.rint(values)):
            raise InputError("The segmentation is no label map: its values are not whole numbers.")
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
