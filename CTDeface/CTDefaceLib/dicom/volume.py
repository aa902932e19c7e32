"""A DICOM series as one volume, or the sentence why a volume cannot hold it."""

from __future__ import annotations

import SimpleITK as sitk

from ..errors import InputError
from ..progress import Progress, silent
from ..scan import Scan, Source, in_hounsfield
from .files import CT
from .stack import AS_DICOM, check_regular, read_stack
from .tree import Series, Tree, choose_series


def read_volume(tree: Tree, series: str = "", progress: Progress = silent) -> Scan:
    """Read the one CT series of a tree, or the one with this number or UID, as a volume.

    Raises
    ------
    InputError
        When :func:`.tree.choose_series` finds none; when the series holds several volumes, or slices on no regular
        grid; when its pixels cannot be decoded, or are no Hounsfield units.
    """
    chosen = choose_series(tree, series)
    return volume_of(chosen, tuple(tree.left_out(chosen)), progress)


def volume_of(chosen: Series, left_out: tuple[str, ...] = (), progress: Progress = silent) -> Scan:
    """Read a series as a volume: a CT in Hounsfield units, other modalities as they are.

    Raises
    ------
    InputError
        As :func:`read_volume`.
    """
    if chosen.problem:
        raise InputError(chosen.problem)
    if len(chosen.stacks) > 1:
        counts = " and ".join(str(len(stack.slices)) for stack in chosen.stacks)
        raise InputError(
            f"The series holds {len(chosen.stacks)} volumes (phases, or other planes; {counts} slices), and a volume "
            f"file one; {AS_DICOM}."
        )
    stack = chosen.stacks[0]
    check_regular(stack)
    image, notes = as_values(chosen, read_stack(stack, progress))
    return Scan(image, (*chosen.notes, *notes), Source.SERIES, left_out)


def as_values(series: Series, image: sitk.Image) -> tuple[sitk.Image, tuple[str, ...]]:
    """A CT in Hounsfield units, with notes; other modalities as they are."""
    return as_hounsfield(series, image) if series.modality == CT else (image, ())


def as_hounsfield(series: Series, image: sitk.Image) -> tuple[sitk.Image, tuple[str, ...]]:
    """As :func:`.scan.in_hounsfield`; a refusal names the kind of images, where they are no CT images."""
    try:
        return in_hounsfield(image)
    except InputError as error:
        if series.kind == CT:
            raise
        raise InputError(f"The images are no CT images ({series.kind}), and cannot be read as such: {error}") from error
