"""The built-in face segmenter: geometry on Hounsfield units, no model and no network."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import NoFaceError
from .face_map import ANGLES, HEIGHTS, Cylinder, chin_height, eye_height, ramp, smooth_skin
from .grids import box_around, mask_of, on_image_grid
from .head import AIR_HU

ABOVE_EYES_MM = 36.0
BELOW_CHIN_MM = 28.0
SIDE_DEG = 80.0
SHELL_MM = 5.0
SMALLEST_FACE_MM2 = 250.0


def segment_face(image: sitk.Image, cylinder: Cylinder) -> sitk.Image:
    """Segment the face: skin and what lies under it, from above the eyebrows to below the chin, from ear to ear.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units.
    cylinder: Cylinder
        Where the head lies in it, from :func:`CTDefaceLib.anatomy.face_map.head_cylinder`.

    Returns
    -------
    SimpleITK.Image
        Face mask, uint8, 1 in the face, on the grid of ``image``.

    Raises
    ------
    NoFaceError
        When the volume ends above the face, or does so where its orientation says that the face is.
    """
    if facial_skin_mm2(cylinder) < SMALLEST_FACE_MM2:
        raise NoFaceError(
            "No face is in view: the volume holds the head only above the eyes or behind the face, or its orientation "
            "is wrong. Nothing was changed."
        )
    outline = face_outline(cylinder)
    inner = smooth_skin(cylinder) - SHELL_MM * cylinder.scale * ramp(outline, 20.0)
    outer = ndimage.maximum_filter(cylinder.skin, 3) + 4.0
    shell = np.minimum(cylinder.radius - cylinder.spread(inner), cylinder.spread(outer) - cylinder.radius)
    face = cylinder.on_work_grid(np.minimum(shell, cylinder.spread(outline)))
    inside = np.minimum(face, cylinder.head.guard)
    box = box_around(inside, cylinder.head, image)
    here = on_image_grid(inside, cylinder.head, image[box], only_above=AIR_HU) if box else None
    return mask_of(here, box, image)


def face_outline(cylinder: Cylinder) -> np.ndarray:
    """Map of the distance in mm to the outline of the face, positive inside; shape (heights, angles).

    The face ends above the eyebrows (they lie up to 25 mm above the eyes), below the chin and the jaw, and in front of
    the ears, further forward at the angle of the jaw; the same on both sides.
    """
    height, angle = np.meshgrid(HEIGHTS, np.abs(ANGLES), indexing="ij")
    scale = cylinder.scale
    top = min(eye_height(cylinder) + ABOVE_EYES_MM * scale, 0.85 * cylinder.depth_mm)  # the crown stays
    bottom = chin_height(cylinder) - scale * (BELOW_CHIN_MM - 0.6 * angle)
    side = np.interp(height / scale, [-100.0, -60.0, -30.0], [66.0, 72.0, SIDE_DEG])
    return np.minimum.reduce([top - height, height - bottom, np.radians(side - angle) * cylinder.depth_mm])


def facial_skin_mm2(cylinder: Cylinder) -> float:
    """Area in mm² of the skin in view in front, from the brow down; a volume that ends above the eyes shows none.

    A field of view that cuts deep into the skull can hide where the front is, and show a face on one side alone.
    """
    aside = 60.0 if cylinder.head.deeply_cut else 30.0
    front = (HEIGHTS < 6.0)[:, None] & (np.abs(ANGLES) <= aside)
    return float((cylinder.skin * (cylinder.skin_in_view & front)).sum() * np.radians(3.0) * 3.0)
