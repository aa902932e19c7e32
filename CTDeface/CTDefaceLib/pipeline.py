"""The main job: a head CT goes in, the same CT without its face and a report come out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import SimpleITK as sitk

from . import __version__, segmenters
from .anatomy.face_map import Cylinder, head_cylinder, nose_mm
from .anatomy.face_outline import face_outline
from .anatomy.grids import bounding_box, on_image_grid, voxels
from .anatomy.head import TISSUE_HU
from .errors import Cancelled, InputError
from .removal.fill import FILLS, fill_region
from .removal.region import head_tissue_mm3, mask_as_region, removal_region
from .removal.surface import Surface, face_surface

Progress = Callable[[float, str], None]
UNREPORTED = ("segmenter", "weights", "label", "device", "seed")
"""Parameters that are not in a report's list: they name places, stand elsewhere in it, or would undo the work."""

STRENGTHS = ("light", "standard", "strict")
DEPTH_MM = {"light": 10.0, "standard": 10.0, "strict": 18.0}
"""Depth below the new skin by strength."""

LITTLE_SKIN = 0.8
MUCH_TISSUE = 0.25
FLAT_NOSE_MM = 8.0


@dataclass(frozen=True)
class DefaceParameters:
    """All choices of a defacing.

    Attributes
    ----------
    segmenter: str
        How the face is found: one of :func:`CTDefaceLib.segmenters.names`.
    weights, label, device: str
        What it is told, see :class:`CTDefaceLib.segmenters.Choice`.
    as_is: bool
        Remove the mask itself, but for the intracranial space, at no depth of its own. The outline of what was removed
        is then the face.
    margin_mm: float
        Move the outline of the face mask outwards by this much, in mm.
    strength: str
        How much is replaced: ``"light"`` leaves the facial bones, from which a face can be estimated, ``"standard"``
        goes to a fixed depth, ``"strict"`` deeper, and takes the ears.
    depth_mm: float or None
        Depth below the new skin; None takes that of the strength.
    ears: bool or None
        Replace the ears as well; None takes what the strength does.
    fill: str
        What takes the place of the face: ``"smooth"``, ``"air"``, ``"constant"``, ``"percentile"`` or ``"blur"``, see
        :func:`CTDefaceLib.removal.fill.fill_region`.
    constant, percentile, blur_mm: float
        HU, percentile and mm of those fills.
    seed: int or None
        Seed of all that is random; None draws a new one, which nobody then knows.
    """

    segmenter: str = "builtin"
    weights: str = ""
    label: str = ""
    device: str = "auto"
    as_is: bool = False
    margin_mm: float = 0.0
    strength: str = "standard"
    depth_mm: float | None = None
    ears: bool | None = None
    fill: str = "smooth"
    constant: float = -1000.0
    percentile: float = 10.0
    blur_mm: float = 10.0
    seed: int | None = None

    @property
    def choice(self) -> segmenters.Choice:
        """What the segmenter is told."""
        return segmenters.Choice(self.weights, self.label, self.device)

    @property
    def cut_is_random(self) -> bool:
        """Whether a second defacing with the same choices cuts elsewhere."""
        return False

    @property
    def depth(self) -> float:
        """Depth in mm of what is replaced."""
        return DEPTH_MM[self.strength] if self.depth_mm is None else self.depth_mm

    def check(self) -> None:
        """Raise InputError where a choice is none."""
        if self.strength not in DEPTH_MM:
            raise InputError(f"There is no strength “{self.strength}”: choose {', '.join(DEPTH_MM)}.")
        if self.fill not in FILLS:
            raise InputError(f"There is no fill “{self.fill}”: choose {', '.join(FILLS)}.")


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
    """

    image: sitk.Image
    mask: sitk.Image
    region: sitk.Image
    report: dict
    cylinder: Cylinder
    surface: Surface


def segment(
    image: sitk.Image,
    segmenter: str = "builtin",
    *,
    weights: str = "",
    label: str = "",
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[sitk.Image, dict]:
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
        Face mask (uint8, grid of ``image``) and a dict with ``mask_ml``, ``mask_intracranial_ml``, ``warnings`` and,
        for a trained model, ``model``.

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
    step = _steps(progress, cancelled)
    step(0.0, "Finding the head")
    cylinder = head_cylinder(image)
    mask, notes = _face(image, cylinder, segmenter, choice, step, cancelled, 0.15, 1.0)
    step(1.0, "Face segmented")
    return mask, {**_mask_report(mask, cylinder), **notes}


def _face(image, cylinder, segmenter, choice, step, cancelled, start, end) -> tuple[sitk.Image, dict]:
    """Mask and notes of a segmenter, whose progress goes from ``start`` to ``end``."""
    step(start, "Segmenting the face")
    return segmenters.module(segmenter).segment(
        image,
        cylinder,
        choice,
        lambda fraction, text: step(start + (end - start) * fraction, text),
        cancelled or (lambda: False),
    )


def deface(
    image: sitk.Image,
    parameters: DefaceParameters | None = None,
    *,
    mask: sitk.Image | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> DefaceResult:
    """Remove the face from a CT.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units, see :func:`CTDefaceLib.volume_io.check_ct`; it is not changed.
    parameters: DefaceParameters, optional
        The choices; the defaults are the recommended ones.
    mask: SimpleITK.Image, optional
        Face mask to use instead of segmenting, on the grid of ``image``: from another tool, or corrected by hand.
    progress: callable, optional
        Called with a fraction from 0 to 1 and a short text.
    cancelled: callable, optional
        Asked between the steps; True ends the work.

    Returns
    -------
    DefaceResult
        Its report holds ``removed_ml`` (tissue gone), ``removed_share`` (of the head's tissue),
        ``facial_skin_covered`` (0 to 1), ``intracranial_voxels_touched``, ``mask_ml``, ``mask_intracranial_ml``
        (part of the mask that was spared), ``warnings``, ``seconds``, ``version``, ``method``, ``parameters`` and, for
        a trained model, ``model``.

    Raises
    ------
    NoFaceError
        When no head or no face is in view.
    InputError
        When a parameter or the mask does not fit.
    NotReadyError
        When the segmenter lacks a package, a licence key or weights.
    Cancelled
        When ``cancelled`` said so.
    """
    start = time.perf_counter()
    parameters = parameters or DefaceParameters()
    step = _steps(progress, cancelled)
    parameters.check()
    if mask is not None and mask.GetSize() != image.GetSize():
        raise InputError("The face mask has another grid than the volume: make it on this volume.")
    if mask is None:
        segmenters.check_ready(parameters.segmenter, parameters.choice)
    step(0.0, "Finding the head")
    cylinder = head_cylinder(image)
    notes = {"warnings": []}
    if mask is None:
        mask, notes = _face(image, cylinder, parameters.segmenter, parameters.choice, step, cancelled, 0.2, 0.5)
    step(0.5, "Making the new skin")
    strict, light = parameters.strength == "strict", parameters.strength == "light"
    surface = face_surface(
        image,
        mask,
        cylinder,
        depth_mm=parameters.depth,
        margin_mm=parameters.margin_mm,
        ears=strict if parameters.ears is None else parameters.ears,
        keep_bone=light,
    )
    if parameters.as_is:
        region = mask_as_region(mask, cylinder)
    else:
        region = removal_region(image, surface, keep_bone=light)
    step(0.7, "Filling the region")
    defaced = fill_region(
        image,
        region,
        surface,
        fill=parameters.fill,
        constant=parameters.constant,
        percentile=parameters.percentile,
        blur_mm=parameters.blur_mm,
        seed=parameters.seed,
    )
    step(0.95, "Checking the result")
    report = {
        "version": __version__,
        "method": parameters.segmenter,
        "parameters": {name: value for name, value in asdict(parameters).items() if name not in UNREPORTED},
        **notes,
        **check(image, mask, region, cylinder),
    }
    report["warnings"] = notes["warnings"] + report["warnings"] + _weaknesses(parameters)
    report["seconds"] = round(time.perf_counter() - start, 2)
    step(1.0, "Face removed")
    return DefaceResult(defaced, mask, region, report, cylinder, surface)


def check(image: sitk.Image, mask: sitk.Image, region: sitk.Image, cylinder: Cylinder) -> dict:
    """Measure what a region takes from a CT and warn of what looks wrong; keys as in :func:`deface`."""
    box = bounding_box(region)
    removed_ml = touched = 0
    if box:
        here = voxels(region, box) > 0
        removed_ml = np.count_nonzero(here & (voxels(image, box) > TISSUE_HU)) * _voxel_ml(image)
        touched = int(np.count_nonzero(here & _intracranial(cylinder, region[box])))
    tissue_ml = head_tissue_mm3(cylinder) / 1000.0
    covered = _facial_skin_covered(region, cylinder)
    warnings = []
    if touched:
        warnings.append(f"{touched} intracranial voxels were touched: do not use this result.")
    if covered < LITTLE_SKIN:
        warnings.append(f"Only {covered:.0%} of the facial skin is covered: look at the result before you share it.")
    if removed_ml > MUCH_TISSUE * tissue_ml:
        warnings.append(f"{removed_ml:.0f} mL of tissue were removed, more than usual: look at the result.")
    if nose_mm(cylinder) < FLAT_NOSE_MM * cylinder.scale:
        warnings.append(
            "No nose stands out where the face should be. The volume's orientation may be wrong (upside down, back to "
            "front): look at the result."
        )
    if cylinder.head.deeply_cut:
        warnings.append(
            "The field of view cuts deep into the skull, which hides how the head lies: look at the result before you "
            "share it."
        )
    masked = _mask_report(mask, cylinder)
    if masked["mask_intracranial_ml"] >= 0.05:
        warnings.append(
            f"{masked['mask_intracranial_ml']:.1f} mL of the face mask lie inside the skull; they were left in place."
        )
    return {
        "removed_ml": round(removed_ml, 1),
        "removed_share": round(removed_ml / tissue_ml, 3),
        "facial_skin_covered": round(covered, 3),
        "intracranial_voxels_touched": touched,
        **masked,
        "warnings": warnings,
    }


def _steps(progress: Progress | None, cancelled: Callable[[], bool] | None) -> Progress:
    def step(fraction: float, text: str) -> None:
        if cancelled and cancelled():
            raise Cancelled("The work was cancelled; nothing was changed.")
        if progress:
            progress(fraction, text)

    return step


def _weaknesses(parameters: DefaceParameters) -> list[str]:
    weak = {
        "constant": "A constant fill marks the region for everybody: use the smooth fill to share the volume.",
        "percentile": "A percentile fill is one value and marks the region: use the smooth fill to share the volume.",
        "blur": "A blurred face keeps its rough shape: use the smooth fill to share the volume.",
    }
    warnings = [weak[parameters.fill]] if parameters.fill in weak else []
    if parameters.as_is:
        warnings.append("The face mask was used as it is: the outline of what was removed is the face.")
        return warnings
    if parameters.strength == "light":
        warnings.append("Facial bone was kept: a face can be estimated from it.")
    return warnings


def _intracranial(cylinder: Cylinder, part: sitk.Image) -> np.ndarray:
    return on_image_grid(cylinder.head.intracranial - 0.5, cylinder.head, part)


def _mask_report(mask: sitk.Image, cylinder: Cylinder) -> dict:
    box = bounding_box(mask)
    if box is None:
        return {"mask_ml": 0.0, "mask_intracranial_ml": 0.0}
    here = voxels(mask, box) > 0
    inside = here & _intracranial(cylinder, mask[box])
    ml = _voxel_ml(mask)
    return {
        "mask_ml": round(np.count_nonzero(here) * ml, 1),
        "mask_intracranial_ml": round(np.count_nonzero(inside) * ml, 2),
    }


def _facial_skin_covered(region: sitk.Image, cylinder: Cylinder) -> float:
    """Share of the facial skin, below the brow and inside the face's outline by 10 mm, that lies in the region."""
    facial = (face_outline(cylinder) > 10.0) & cylinder.skin_in_view
    if not facial.any():
        return 0.0
    points = cylinder.points(cylinder.skin - 1.0)[facial]
    index = [region.TransformPhysicalPointToIndex(point) for point in points.tolist()]
    size = region.GetSize()
    inside = [region[i] > 0 for i in index if all(0 <= a < n for a, n in zip(i, size))]
    return float(np.mean(inside)) if inside else 0.0


def _voxel_ml(image: sitk.Image) -> float:
    return float(np.prod(image.GetSpacing())) / 1000.0
