"""What a removal took from a CT, and what looks wrong about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..anatomy.face_map import Cylinder
from ..anatomy.grids import Box, bounding_box, on_image_grid, voxels
from ..anatomy.head import Head
from ..anatomy.hounsfield import TISSUE_HU
from ..anatomy.orientation import FLAT_FACE_MM, ON_THE_WAY_MM
from ..anatomy.sight import FINE_STEPS, directions

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

EYES_AND_NOSE = 0.75
"""Share (0 to 1) of the skin over eyes and nose in the region below which the face counts as left.

At least 0.98 in 20 synthetic and two real heads that were defaced at the face. Of 20 that were defaced where a wrong
file had it, none ended without a warning.
"""

AROUND_THE_NOSE_DEG = 30.0
"""How far apart, in degrees from their middle, nose, sinuses and orbits lie: where most air and fat is seen."""

MUCH_ELSEWHERE = 0.7
"""Air and fat in another direction, in parts of that around the nose, from which on either may be the face.

At most 0.27 in heads whose nose is in view, 0.29 to 0.57 in heads that are cut at the orbits, 0.87 in one of them that
holds its chin down and shows more of its nape.
"""

FEWEST_RAYS = 10
"""Directions in which air or fat and the skin over it are seen, below which the result cannot be checked by them."""

FARTHEST_TILT_DEG = 55.0
"""How far, in degrees, a head's axes may be from the way in which it was found to lie: 36 at most in the phantoms."""

MUCH_BRAIN_ML = 0.05
"""Millilitres of a mask inside the skull from which on there is a warning: what rounds to 0.1. Chosen by eye."""


def check(
    image: sitk.Image, mask: sitk.Image, region: sitk.Image, cylinder: Cylinder, with_face: bool = True
) -> dict[str, Any]:
    """Measure what a region takes from a CT and warn of what looks wrong.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units, before it was filled.
    mask, region: SimpleITK.Image
        Face mask and what is filled, uint8, on the grid of ``image``.
    cylinder: Cylinder
        Where the head lies.
    with_face: bool
        Whether the face is in the volume at all: none of it is left in one without.

    Returns
    -------
    dict
        ``replaced_ml`` and ``replaced_share`` (also by their old names ``removed_ml`` and ``removed_share``),
        ``facial_skin_covered``, ``intracranial_voxels_touched``, ``skull_gaps``, ``warnings`` and what
        :func:`mask_report` gives; see :func:`CTDefaceLib.pipeline.deface`. The skin is looked up twice: where the
        head's axes have the face, and over eyes and nose, which are found without them; if too little of that is in the
        region, its share is ``facial_skin_covered``.
    """
    box = bounding_box(region)
    replaced_ml, touched = 0.0, 0
    if box:
        here = voxels(region, box) > 0
        replaced_ml = float(np.count_nonzero(here & (voxels(image, box) > TISSUE_HU)) * _voxel_ml(image))
        touched = int(np.count_nonzero(here & _intracranial(cylinder, region, box)))
    tissue_ml = cylinder.tissue_mm3 / 1000.0
    facial, over_eyes_and_nose = _facial_skin_covered(region, cylinder), _share_in(region, eyes_and_nose(cylinder.head))
    is_left = over_eyes_and_nose is not None and over_eyes_and_nose < EYES_AND_NOSE
    covered = min(facial, over_eyes_and_nose or 0.0) if is_left else facial
    covered = covered if with_face else 1.0
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
        "warnings": [
            *_oddities(cylinder),
            *_faults(replaced_ml, tissue_ml, touched, masked["mask_intracranial_ml"], cylinder.head.skull_gaps),
            *([] if _has_no_face(cylinder) or not with_face else _what_is_left(facial, over_eyes_and_nose)),
        ],
    }


def eyes_and_nose(head: Head) -> np.ndarray:
    """The skin over eyes and nose, found by the air and fat below it without any axes; LPS in mm, shape (n, 3).

    Rays from the middle of the brain that pass the air of nose and sinuses or the fat of an orbit leave the head there.
    Nothing where too little of it is in view.
    """
    sight, solid = head.sight, ndimage.binary_dilation(head.solid)
    place = np.rint(head.to_index(sight.skin)).astype(int)[:, ::-1]
    within = ((place >= 0) & (place < solid.shape)).all(axis=1)
    of_the_head = np.zeros(len(place), bool)  # and not of what holds it
    of_the_head[within] = solid[tuple(place[within].T)]
    seen = of_the_head & sight.skin_in_view & ~sight.cut & (np.maximum(sight.air, sight.fat) >= ON_THE_WAY_MM)
    if head.orientation.clear:  # and not of foam behind it
        seen &= directions(FINE_STEPS) @ head.orientation.turn[1] < 0.0
    near = directions() @ directions(FINE_STEPS).T > np.cos(np.radians(AROUND_THE_NOSE_DEG))
    much = near @ ((sight.air + sight.fat) * seen)
    here = int(much.argmax())
    elsewhere = directions() @ directions()[here] < np.cos(np.radians(2.0 * AROUND_THE_NOSE_DEG))
    found = seen & near[here]
    clear = np.count_nonzero(found) >= FEWEST_RAYS and much[elsewhere].max() < MUCH_ELSEWHERE * much[here]
    aside = directions(FINE_STEPS)[found] @ head.orientation.turn[2]
    one_sided = head.orientation.clear and (aside > 0.0).all() | (aside < 0.0).all()  # cells of a mastoid, say
    return sight.skin[found] if clear and not one_sided else np.empty((0, 3))


def mask_report(mask: sitk.Image, cylinder: Cylinder) -> dict[str, float]:
    """Millilitres of a face mask: ``mask_ml``, and ``mask_intracranial_ml`` of it inside the skull."""
    box = bounding_box(mask)
    if box is None:
        return {"mask_ml": 0.0, "mask_intracranial_ml": 0.0}
    here = voxels(mask, box) > 0
    inside = here & _intracranial(cylinder, mask, box)
    ml = _voxel_ml(mask)
    return {
        "mask_ml": round(np.count_nonzero(here) * ml, 1),
        "mask_intracranial_ml": round(np.count_nonzero(inside) * ml, 2),
    }


def _oddities(cylinder: Cylinder) -> list[str]:
    """What is odd about how the head lies and what of it is in view."""
    head, warnings = cylinder.head, []
    if head.orientation.turned:
        warnings.append(
            f"The orientation in the file is wrong: the head faces what the file calls the {head.facing} and has its "
            f"top where it says {head.topped}. The face was replaced where the head itself shows it; correct the "
            "file's orientation (no head tells its left from its right), and look at the result before you share it."
        )
    elif not head.orientation.clear or head.tilt_deg > FARTHEST_TILT_DEG:
        warnings.append(
            "It could not be told for sure which way the head lies, as where too little of it is in view; the file was "
            "believed. Look at the result before you share it."
        )
    if head.deeply_cut:
        warnings.append(
            "The field of view cuts deep into the skull, which hides how the head lies: look at the result before you "
            "share it."
        )
    if _has_no_face(cylinder):
        warnings.append(
            "No face stands out from this head: it was removed before, or the field of view cuts it off. Look at the "
            "result before you share it."
        )
    return warnings


def _faults(replaced_ml: float, tissue_ml: float, touched: int, in_skull_ml: float, gaps: int) -> list[str]:
    """What was removed that should not have been, or was spared."""
    warnings = []
    if touched:
        warnings.append(f"{touched} intracranial voxels were touched: do not use this result.")
    if replaced_ml > MUCH_TISSUE * tissue_ml:
        warnings.append(f"{replaced_ml:.0f} mL of tissue were replaced, more than usual: look at the result.")
    if gaps:
        what = "a gap" if gaps == 1 else f"{gaps} gaps"
        warnings.append(f"The skull has {what}: what lies there under the scalp was left in place.")
    if in_skull_ml >= MUCH_BRAIN_ML:
        warnings.append(f"{in_skull_ml:.1f} mL of the face mask lie inside the skull; they were left in place.")
    return warnings


def _what_is_left(facial: float, over_eyes_and_nose: float | None) -> list[str]:
    """What of a face was not removed."""
    warnings = []
    if facial < LITTLE_SKIN:
        warnings.append(f"Only {facial:.0%} of the facial skin is covered: look at the result before you share it.")
    if over_eyes_and_nose is None:
        warnings.append(
            "Eyes and nose could not be found to check the result by them: too little of the face is in view, or it "
            "was removed before. Look at the result before you share it."
        )
    elif over_eyes_and_nose < EYES_AND_NOSE:
        warnings.append(
            f"Only {over_eyes_and_nose:.0%} of the skin over eyes and nose was replaced: the face may be left. Look "
            "at the result before you share it."
        )
    return warnings


def _has_no_face(cylinder: Cylinder) -> bool:
    """Whether nothing stands out where a face should, in view."""
    flat = cylinder.landmarks.nose_mm < FLAT_NOSE_MM * cylinder.scale
    return bool(flat or cylinder.head.orientation.face_mm < FLAT_FACE_MM * cylinder.scale)


def _intracranial(cylinder: Cylinder, image: sitk.Image, box: Box) -> np.ndarray:
    """The intracranial space, and what lies in gaps of the skull, in a part of an image; bool, shape (z, y, x)."""
    return on_image_grid((cylinder.head.intracranial | cylinder.head.in_gaps) - 0.5, cylinder.head, image, box)


def _facial_skin_covered(region: sitk.Image, cylinder: Cylinder) -> float:
    """Share of the facial skin, below the brow and well inside the face's outline, that lies in the region."""
    facial = (cylinder.outline > WELL_INSIDE_MM) & cylinder.skin_in_view
    if not facial.any():
        return 0.0
    return _share_in(region, cylinder.points(cylinder.skin - UNDER_THE_SKIN_MM)[facial]) or 0.0


def _share_in(region: sitk.Image, points: np.ndarray) -> float | None:
    """Share of some points, LPS in mm, that lie in a region; None where none lies in its volume."""
    place = (points - region.GetOrigin()) @ np.reshape(region.GetDirection(), (3, 3)) / region.GetSpacing()
    index = np.floor(place + 0.5).astype(int)
    index = index[((index >= 0) & (index < region.GetSize())).all(axis=1)]
    inside = sitk.GetArrayViewFromImage(region)[tuple(index[:, ::-1].T)] > 0
    return float(inside.mean()) if len(inside) else None


def _voxel_ml(image: sitk.Image) -> float:
    return float(np.prod(image.GetSpacing())) / 1000.0
