"""The main job: a head CT goes in, the same CT with another skin in place of its face and a report come out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import SimpleITK as sitk

from . import segmenters
from .anatomy.face_map import Cylinder, as_the_head_lies, head_cylinder
from .errors import InputError
from .parameters import UNREPORTED, DefaceParameters, drawn
from .progress import IsCancelled, Progress, never, part, steps
from .removal.check import check
from .removal.check import mask_report as mask_numbers
from .removal.donors import face_donor
from .removal.fill import fill_region
from .removal.keep import Structure, keep
from .removal.region import mask_as_region, removal_region, unreached_ml
from .removal.surface import Surface, face_surface
from .version import __version__

GIVEN = "mask"
"""The ``method`` of a report where a face mask was given and nothing was said of how it was made."""

OF_A_MASK = ("method", "model", "warnings")
"""What the report of a mask has that belongs into the report of the defacing, too."""

LITTLE_MASK_ML = 1.0
"""How much of a face mask, in mL, may stay untold beside the new skin's outline, which is smoothed. Chosen by eye."""

LITTLE_KEPT_ML = 0.05
"""How much of what is kept, in mL, may lie in the region without a word: what rounds to 0.1. A choice."""

KEPT_IN_FACE = (
    "{:.1f} mL of what is kept lie where the face would have been replaced: what they show of it stays; look at the "
    "result before you share it."
)

UNREACHED = (
    "{:.1f} mL of the face mask lie too far from the face, or are too thin, to take a new skin; they were left as they "
    "are: look at the result, and paint larger patches that touch the face."
)


@dataclass(frozen=True)
class DefaceResult:
    """What a defacing gives.

    Attributes
    ----------
    image: SimpleITK.Image
        Defaced CT; data type and geometry of the input.
    mask: SimpleITK.Image
        Face mask, uint8.
    region: SimpleITK.Image
        What was filled, uint8.
    report: dict
        Numbers and warnings, ready for JSON, nothing of the patient; see :func:`deface`.
    cylinder: Cylinder
        Where the head lies.
    surface: Surface
        The new skin, which other series of this patient take as well.
    bare: SimpleITK.Image or None
        What would have been filled with nothing kept, uint8; None where nothing is kept.
    """

    image: sitk.Image
    mask: sitk.Image
    region: sitk.Image
    report: dict[str, Any]
    cylinder: Cylinder
    surface: Surface
    bare: sitk.Image | None = None


def segment(
    image: sitk.Image,
    segmenter: str = "builtin",
    *,
    weights: str = "",
    label: str = "",
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: IsCancelled | None = None,
) -> tuple[sitk.Image, dict[str, Any]]:
    """Segment the face of a CT.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units.
    segmenter: str
        One of :func:`CTDefaceLib.segmenters.names`.
    weights, label, device: str
        See :class:`CTDefaceLib.segmenters.Choice`.

    Returns
    -------
    tuple
        Face mask (uint8, grid of ``image``) and a dict with ``method`` (the segmenter), ``mask_ml``,
        ``mask_intracranial_ml``, ``warnings`` and, for a trained model, ``model``.

    Raises
    ------
    NoFaceError
        When no head or no face is in view.
    NotReadyError
        When the segmenter lacks a package, a licence key or weights.
    InputError
        When there is no such segmenter.
    """
    choice = segmenters.Choice(weights, label, device)
    segmenters.check_ready(segmenter, choice)
    step = steps(progress, cancelled)
    step(0.0, "Finding the head")
    cylinder = head_cylinder(image)
    mask, notes = _face(image, cylinder, segmenter, choice, part(step, 0.15, 1.0), cancelled)
    step(1.0, "Face segmented")
    return mask, {"method": segmenter, **mask_numbers(mask, cylinder), **notes}


def _face(
    image: sitk.Image,
    cylinder: Cylinder,
    segmenter: str,
    choice: segmenters.Choice,
    step: Progress,
    cancelled: IsCancelled | None,
) -> tuple[sitk.Image, dict[str, Any]]:
    """Mask and notes of a segmenter.

    A model knows heads the right way up: it is given the volume as the head lies, not as the file has it.
    """
    step(0.0, "Segmenting the face")
    upright = as_the_head_lies(image, cylinder)
    mask, notes = segmenters.module(segmenter).segment(*upright, choice, step, cancelled or never)
    mask.CopyInformation(image)
    return mask, notes


def deface(
    image: sitk.Image,
    parameters: DefaceParameters | None = None,
    *,
    mask: sitk.Image | None = None,
    mask_report: Mapping[str, Any] | None = None,
    kept: Sequence[Structure] = (),
    secret: bytes | None = None,
    patient: str = "",
    cylinder: Cylinder | None = None,
    progress: Progress | None = None,
    cancelled: IsCancelled | None = None,
) -> DefaceResult:
    """Replace the face in a CT.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units, see :func:`CTDefaceLib.volume_io.check_ct`; it is not changed.
    parameters: DefaceParameters, optional
        The choices; the defaults are the recommended ones.
    mask: SimpleITK.Image, optional
        Face mask to use instead of segmenting, on the grid of ``image``: from another tool, or corrected by hand.
    mask_report: dict, optional
        How that mask was made: the report of :func:`segment`, or any of ``method``, ``model`` and ``warnings``, which
        go into the report of the defacing.
    kept: sequence of Structure, optional
        What must stay, with a margin around it (``parameters.keep_margin_mm``), from
        :func:`CTDefaceLib.structures.read_structures`: not one bit of it changes, and the new skin passes outside it.
    secret: bytes, optional
        What is random is made from it, the patient and the voxels, so that it is the same in every run, and so is
        whose face takes the place in all scans of a patient; drawn anew when None, or as ``parameters.seed`` says.
    patient: str
        Tells patients apart.
    cylinder: Cylinder, optional
        Where the head lies in ``image``, where that was found before.
    progress: callable, optional
        Called with a fraction from 0 to 1 and a short text.
    cancelled: callable, optional
        Asked between the steps; True ends the work.

    Returns
    -------
    DefaceResult
        Its report holds ``replaced_ml`` (tissue) and ``replaced_share`` (of the head's tissue), also by their old names
        ``removed_ml`` and ``removed_share``, ``fill``, ``strength``, ``depth_mm``, ``facial_skin_covered`` (0 to 1),
        ``intracranial_voxels_touched``, ``skull_gaps`` (how many were found and left in place), ``mask_ml``,
        ``mask_intracranial_ml`` (part of the mask that was spared), ``warnings``, ``seconds``, ``version``, ``method``
        (the segmenter; of a mask that was given, what ``mask_report`` says, or ``"mask"``), ``parameters``, for a
        trained model ``model`` and, where something was kept, ``kept``: for each name its ``ml`` and the share of it
        ``in_region``, that is, which would have been replaced.

    Raises
    ------
    NoFaceError
        When no head or no face is in view.
    InputError
        When a parameter, the mask or what must stay does not fit.
    NotReadyError
        When the segmenter lacks a package, a licence key or weights.
    Cancelled
        When ``cancelled`` said so.
    """
    start = time.perf_counter()
    parameters = parameters or DefaceParameters()
    if secret is not None:
        parameters = drawn(parameters, secret, patient, image)
    step = steps(progress, cancelled)
    if mask is not None and mask.GetSize() != image.GetSize():
        raise InputError("The face mask has another grid than the volume: make it on this volume.")
    stays = keep(kept, parameters.keep_margin_mm)
    if stays:
        stays.check_within(image)
    if mask is None:
        segmenters.check_ready(parameters.segmenter, parameters.choice)
    step(0.0, "Finding the head")
    cylinder = cylinder or head_cylinder(image)
    if mask is None:
        within = part(step, 0.2, 0.5)
        mask, notes = _face(image, cylinder, parameters.segmenter, parameters.choice, within, cancelled)
        notes = {"method": parameters.segmenter, **notes}
    else:
        told = mask_report or {}
        notes = {"method": GIVEN, "warnings": [], **{key: told[key] for key in OF_A_MASK if key in told}}
    step(0.5, "Making the new skin")
    new_skin = partial(
        face_surface,
        image,
        mask,
        cylinder,
        depth_mm=parameters.depth,
        margin_mm=parameters.margin_mm,
        with_ears=parameters.takes_ears,
        keep_bone=parameters.keeps_bone,
        donor=face_donor(cylinder, parameters.person) if parameters.fill == "face" else None,
    )
    surface, bare = new_skin(), None
    if stays:
        bare = _region(image, mask, surface, parameters)
        surface = replace(new_skin(kept=stays), bare=surface)
    region = _region(image, mask, surface, parameters)
    if stays and bare is not None:
        found = stays.report(bare)
        notes = {**notes, "kept": found, "warnings": [*notes["warnings"], *_price(found)]}
    if not parameters.as_is:
        unreached = unreached_ml(mask, region, surface)
        if unreached > LITTLE_MASK_ML:
            notes["warnings"] = [*notes["warnings"], UNREACHED.format(unreached)]
    step(0.7, "Filling the region")
    defaced = fill_region(
        image,
        region,
        surface,
        **parameters.of_fill,
    )
    step(0.95, "Checking the result")
    report = {
        "version": __version__,
        "method": notes["method"],
        "parameters": {name: value for name, value in asdict(parameters).items() if name not in UNREPORTED},
        **notes,
        "fill": parameters.fill,
        "strength": parameters.strength,
        "depth_mm": parameters.depth,
        **check(image, mask, region, cylinder),
    }
    report["warnings"] = [*notes["warnings"]] + report["warnings"] + parameters.weaknesses
    report["seconds"] = round(time.perf_counter() - start, 2)
    step(1.0, "Result ready")
    return DefaceResult(defaced, mask, region, report, cylinder, surface, bare)


def _region(image: sitk.Image, mask: sitk.Image, surface: Surface, parameters: DefaceParameters) -> sitk.Image:
    """What is replaced."""
    if parameters.as_is:
        return mask_as_region(mask, surface.cylinder, surface.kept)
    return removal_region(image, surface, keep_bone=parameters.keeps_bone)


def _price(kept: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What keeping structures costs in privacy, from :meth:`.removal.keep.Kept.report`."""
    ml = sum(one["ml"] * one["in_region"] for one in kept.values())
    return [KEPT_IN_FACE.format(ml)] * (ml >= LITTLE_KEPT_ML)
