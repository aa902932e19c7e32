"""What a removal took from a CT, and what looks wrong about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk

from ..anatomy.face_map import Cylinder
from ..anatomy.grids import bounding_box, on_image_grid, voxels
from ..anatomy.hounsfield import TISSUE_HU

LITTLE_SKIN = 0.8
"""Share (0 to 1) of the facial skin in the region below which there is a warning.

Chosen by eye: above 0.9 in all acceptance heads.
"""

WELL_INSIDE_MM = 10.0
"""How far inside the face's outline, in mm, skin has to be covered: a mask made by hand ends elsewhere. By eye."""

UNDER_THE_SKIN_MM = 1.0
"""How far under the skin found, in mm, a voxel is looked up: half a step along a ray, to be in the skin. By eye."""

MUCH_TISSUE = 0.25
"""Share (0 to 1) of the head's tissue above which there is a warning. By eye: strict ones take a fifth at most."""

FLAT_NOSE_MM = 8.0
"""How far an adult's nose has to stand out, in mm, for there not to be a warning.

In synthetic heads at least 16 where the volume goes down to the lip, 9 where it ends at the orbits; less in all but one
of 20 heads upside down and in about half of those back to front.
"""

MUCH_BRAIN_ML = 0.05
"""Millilitres of a mask inside the skull from which on there is a warning: what rounds to 0.1. Chosen by eye."""


def check(image: sitk.Image, mask: sitk.Image, region: sitk.Image, cylinder: Cylinder) -> dict[str, Any]:
    """Measure what a region takes from a CT and warn of what looks wrong.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units, before it was filled.
    mask, region: SimpleITK.Image
        Face mask and what is filled, uint8, on the grid of ``image``.
    cylinder: Cylinder
        Where the head lies.

    Returns
    -------
    dict
        ``replaced_ml`` and ``replaced_share`` (also by their old names ``removed_ml`` and ``removed_share``),
        ``facial_skin_covered``, ``intracranial_voxels_touched``, ``skull_gaps``, ``warnings`` and what
        :func:`mask_report` gives; see :func:`CTDefaceLib.pipeline.deface`.
    """
    box = bounding_box(region)
    replaced_ml, touched = 0.0, 0
    if box:
        here = voxels(region, box) > 0
        replaced_ml = float(np.count_nonzero(here & (voxels(image, box) > TISSUE_HU)) * _voxel_ml(image))
        touched = int(np.count_nonzero(here & _intracranial(cylinder, region[box])))
    tissue_ml = cylinder.tissue_mm3 / 1000.0
    covered = _facial_skin_covered(region, cylinder)
    masked = mask_report(mask, cylinder)
    return {
        "removed_ml": round(replaced_ml, 1),
        "removed_share": round(replaced_ml / tissue_ml, 3),
        "replaced_ml": round(replaced_ml, 1),
        "replaced_share": round(replaced_ml / tissue_ml, 3),
        "facial_skin_covered": round(covered, 3),
        "intracranial_voxels_touched": touched,
        "skull_gaps": cylinder.head.skull_gaps,
        **masked,
        "warnings": _warnings(replaced_ml, tissue_ml, covered, touched, masked["mask_intracranial_ml"], cylinder),
    }


def mask_report(mask: sitk.Image, cylinder: Cylinder) -> dict[str, float]:
    """Millilitres of a face mask: ``mask_ml``, and ``mask_intracranial_ml`` of it inside the skull."""
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


def _warnings(
    replaced_ml: float, tissue_ml: float, covered: float, touched: int, in_skull_ml: float, cylinder: Cylinder
) -> list[str]:
    """One sentence for each thing that looks wrong."""
    warnings = []
    if touched:
        warnings.append(f"{touched} intracranial voxels were touched: do not use this result.")
    if covered < LITTLE_SKIN:
        warnings.append(f"Only {covered:.0%} of the facial skin is covered: look at the result before you share it.")
    if replaced_ml > MUCH_TISSUE * tissue_ml:
        warnings.append(f"{replaced_ml:.0f} mL of tissue were replaced, more than usual: look at the result.")
    if gaps := cylinder.head.skull_gaps:
        what = "a gap" if gaps == 1 else f"{gaps} gaps"
        warnings.append(f"The skull has {what}: what lies there under the scalp was left in place.")
    if cylinder.landmarks.nose_mm < FLAT_NOSE_MM * cylinder.scale:
        warnings.append(
            "No nose stands out where the face should be. The volume's orientation may be wrong (upside down, back to "
            "front): look at the result."
        )
    if cylinder.head.deeply_cut:
        warnings.append(
            "The field of view cuts deep into the skull, which hides how the head lies: look at the result before you "
            "share it."
        )
    if in_skull_ml >= MUCH_BRAIN_ML:
        warnings.append(f"{in_skull_ml:.1f} mL of the face mask lie inside the skull; they were left in place.")
    return warnings


def _intracranial(cylinder: Cylinder, part: sitk.Image) -> np.ndarray:
    """The intracranial space, and what lies in gaps of the skull, on the grid of ``part``; bool, shape (z, y, x)."""
    return on_image_grid((cylinder.head.intracranial | cylinder.head.in_gaps) - 0.5, cylinder.head, part)


def _facial_skin_covered(region: sitk.Image, cylinder: Cylinder) -> float:
    """Share of the facial skin, below the brow and well inside the face's outline, that lies in the region."""
    facial = (cylinder.outline > WELL_INSIDE_MM) & cylinder.skin_in_view
    if not facial.any():
        return 0.0
    points = cylinder.points(cylinder.skin - UNDER_THE_SKIN_MM)[facial]
    index = [region.TransformPhysicalPointToIndex(point) for point in points.tolist()]
    size = region.GetSize()
    inside = [region[i] > 0 for i in index if all(0 <= a < n for a, n in zip(i, size))]
    return float(np.mean(inside)) if inside else 0.0


def _voxel_ml(image: sitk.Image) -> float:
    return float(np.prod(image.GetSpacing())) / 1000.0
