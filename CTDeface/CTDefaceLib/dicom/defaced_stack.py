"""Deface the stacks of a DICOM series in their true geometry: what takes the place of the face in each slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..anatomy.grids import bounding_box, on_image_grid
from ..audits import worst
from ..errors import InputError, NoFaceError
from ..pipeline import DefaceParameters, DefaceResult, deface
from ..progress import IsCancelled, Progress, part, silent
from ..removal.fill import fill_region
from ..removal.surface import Surface
from .burned_in import refuse_text
from .files import CT
from .stack import is_regular, oddities, on_regular_grid, on_slices, read_stack, slice_images, to_slices
from .tree import Series, Stack
from .volume import as_values

Look = Callable[[sitk.Image, DefaceResult], None]
"""Is given a volume and what its defacing made of it, and may add to its report."""


def look_away(image: sitk.Image, result: DefaceResult) -> None:
    """For what nobody looks at."""


@dataclass(frozen=True)
class DefacedStack:
    """What takes the place of the face in one stack.

    Attributes
    ----------
    stack: Stack
    region: numpy.ndarray
        Bool, shape (slices, rows, columns): what is replaced.
    values: list of numpy.ndarray
        HU of what is replaced, one array for each slice in the order of its voxels.
    offset: float
        HU that the values lack against those of the files (a lost rescale intercept).
    surface: Surface or None
        The new skin, where the head lies in this stack.
    """

    stack: Stack
    region: np.ndarray
    values: list[np.ndarray]
    offset: float = 0.0
    surface: Surface | None = None


def deface_stacks(
    series: Series,
    parameters: DefaceParameters,
    progress: Progress = silent,
    cancelled: IsCancelled | None = None,
    look: Look = look_away,
    how: Callable[..., DefaceResult] = deface,
    no_text: bool = False,
) -> tuple[list[DefacedStack], dict]:
    """Deface all stacks of a series.

    Parameters
    ----------
    series: Series
    parameters: DefaceParameters
    progress, cancelled: callable, optional
        See :mod:`.progress`.
    look: callable, optional
        Called with the volume of each stack, on a regular grid, and the result.
    how: callable
        What defaces a volume: :func:`.pipeline.deface`, or the same with more that it is told.
    no_text: bool
        Refuse images with text in their pixels, see :mod:`.burned_in`.

    Returns
    -------
    tuple
        A list with what each stack gets, and the report, which has ``notes`` on what is odd about the series.

    Raises
    ------
    InputError, NoFaceError
        When a stack is no head CT, shows no face, or has text in its pixels, since it would be missing from the output.
    """
    if series.problem:
        raise InputError(series.problem)
    defaced: list[DefacedStack] = []
    reports: list[dict] = []
    for number, stack in enumerate(series.stacks):
        step = part(progress, number / len(series.stacks), (number + 1) / len(series.stacks))
        one, report = _deface_stack(series, stack, parameters, step, cancelled, look, how, no_text)
        defaced.append(one)
        reports.append(report)
    return defaced, _joined(reports)


def _deface_stack(
    series: Series,
    stack: Stack,
    parameters: DefaceParameters,
    progress: Progress,
    cancelled: IsCancelled | None,
    look: Look,
    how: Callable[..., DefaceResult],
    no_text: bool,
) -> tuple[DefacedStack, dict]:
    """What one of the stacks gets, and its report; see :func:`deface_stacks`."""
    notes = [*oddities(stack), *series.notes]
    image = read_stack(stack, part(progress, 0.0, 0.1 if no_text else 0.15))
    if no_text:
        refuse_text(image, series.burned_in, part(progress, 0.1, 0.15), series.modality == CT)
    if is_regular(stack):
        original = image
        image, said = as_values(series, original)
        offset = _offset(original, image)
        del original
        result = how(image, parameters, progress=part(progress, 0.15, 1.0), cancelled=cancelled)
        look(image, result)
        del image  # a copy of the region takes its place in memory
        region = sitk.GetArrayViewFromImage(result.region) > 0
        filled = result.image
    else:
        original = on_regular_grid(stack, image)
        grid, said = as_values(series, original)
        offset = _offset(original, grid)
        del original
        result = how(grid, parameters, progress=part(progress, 0.15, 0.9), cancelled=cancelled)
        look(grid, result)
        del grid
        region, filled = _filled_slices(stack, image + offset if offset else image, result, parameters)
        _count_touched(stack, region, result)
    values = [plane[here] for plane, here in zip(sitk.GetArrayViewFromImage(filled), region)]
    report = {**result.report, "notes": [*notes, *said]}
    return DefacedStack(stack, region, values, offset, result.surface), report


def first_volume(series: Series) -> sitk.Image:
    """The first stack of a series as :func:`deface_stacks` hands it to what defaces it; InputError as there."""
    if series.problem:
        raise InputError(series.problem)
    stack = series.stacks[0]
    image = read_stack(stack)
    return as_values(series, image if is_regular(stack) else on_regular_grid(stack, image))[0]


def _offset(original: sitk.Image, image: sitk.Image) -> float:
    return float(image[0, 0, 0] - original[0, 0, 0])


def _filled_slices(
    stack: Stack, image: sitk.Image, result: DefaceResult, parameters: DefaceParameters
) -> tuple[np.ndarray, sitk.Image]:
    """Region and filled volume on the slices themselves."""
    region = to_slices(result.region, stack)
    if result.surface.kept:
        for here, place in zip(region, slice_images(stack)):
            here &= ~result.surface.kept.on(place)[0]
    mask = sitk.GetImageFromArray(region.astype(np.uint8))
    mask.CopyInformation(image)
    if bounding_box(mask) is None:
        if bounding_box(result.region) is None:  # another series of a study, which shows no face
            return region, image
        raise NoFaceError("The face lies between the slices of this series; nothing was changed.")
    if parameters.fill in ("smooth", "face"):  # it lies in the volume, not in the slices
        values = sitk.GetArrayFromImage(image)
        values[region] = np.rint(on_slices(sitk.Cast(result.image, sitk.sitkFloat32), stack)[region])
        return region, sitk.GetImageFromArray(values)
    filled = fill_region(
        image,
        mask,
        **parameters.of_fill,
    )
    return region, filled


def _count_touched(stack: Stack, region: np.ndarray, result: DefaceResult) -> None:
    """Count intracranial voxels of the slices themselves."""
    head = result.cylinder.head
    touched = sum(
        int(np.count_nonzero(here & on_image_grid(head.intracranial - 0.5, head, place)[0]))
        for here, place in zip(region, slice_images(stack))
        if here.any()
    )
    result.report["intracranial_voxels_touched"] += touched
    if touched:
        result.report["warnings"].append(f"{touched} intracranial voxels were touched: do not use this result.")


def _joined(reports: list[dict]) -> dict:
    """One report of several stacks: the worst numbers, and all that is to be said."""
    joined = dict(max(reports, key=lambda report: len(report["warnings"])))
    for key in ("intracranial_voxels_touched", "seconds"):
        joined[key] = sum(report[key] for report in reports)
    if audits := [report["audit"] for report in reports if "audit" in report]:
        joined["audit"] = worst(audits)
    joined["facial_skin_covered"] = min(report["facial_skin_covered"] for report in reports)
    joined["warnings"] = list(dict.fromkeys(text for report in reports for text in report["warnings"]))
    joined["notes"] = list(dict.fromkeys(text for report in reports for text in report["notes"]))
    return joined


def is_checked(report: dict) -> bool:
    """Whether the checks of a defacing found nothing wrong."""
    return not report["warnings"] and report["intracranial_voxels_touched"] == 0
