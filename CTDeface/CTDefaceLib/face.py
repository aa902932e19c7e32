"""The built-in face segmenter: geometry on Hounsfield units, no model and no network."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .cylinder import ANGLES, HEIGHTS, Cylinder
from .errors import NoFaceError
from .head import AIR_HU
from .work_grid import on_image_grid

ABOVE_BROW_MM = 14.0
BELOW_CHIN_MM = 12.0
DEPTH_MM = 9.0
SMALLEST_FACE_MM2 = 3000.0


def segment_face(image: sitk.Image, cylinder: Cylinder) -> sitk.Image:
    """Segment the face: skin, fat, muscle and bone from above the eyebrows to below the chin, from ear to ear.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units.
    cylinder: Cylinder
        Where the head lies in it, from :func:`CTDefaceLib.cylinder.head_cylinder`.

    Returns
    -------
    SimpleITK.Image
        Face mask, uint8, 1 in the face, on the grid of ``image``.

    Raises
    ------
    NoFaceError
        When the volume ends above the face.
    """
    outline = face_outline(cylinder)
    if facial_skin_mm2(cylinder, outline) < SMALLEST_FACE_MM2:
        raise NoFaceError("No face is in view: the volume holds the head only above the eyes. Nothing was changed.")
    height, angle, radius = cylinder.coordinates()
    inner = cylinder.spread(inner_radius(cylinder, outline), height, angle)
    outer = cylinder.spread(ndimage.maximum_filter(cylinder.skin, 3), height, angle) + 4.0
    shell = np.minimum(radius - inner, outer - radius)
    inside = np.minimum(shell, cylinder.spread(outline, height, angle))
    return on_image_grid(inside, cylinder.head, image, only_above=AIR_HU)


def face_outline(cylinder: Cylinder) -> np.ndarray:
    """Map of the distance in mm to the outline of the face, positive inside; shape (heights, angles).

    The face ends above the eyebrows, below the chin and the jaw, and in front of the ears, lower down further back.
    """
    height, angle = np.meshgrid(HEIGHTS, np.abs(ANGLES), indexing="ij")
    side = np.interp(height, [-45.0, ABOVE_BROW_MM], [76.0, 60.0])
    bottom = chin_height(cylinder) - BELOW_CHIN_MM + 32.0 * (angle / 76.0) ** 2
    return np.minimum.reduce([ABOVE_BROW_MM - height, height - bottom, np.radians(side - angle) * cylinder.depth_mm])


def chin_height(cylinder: Cylinder) -> float:
    """Height of the chin in mm (negative: below the brow).

    Going down the middle of the face it is where the skin draws back by 2 cm within 3 cm; where it does not (a short
    neck, a lifted chin, a volume that ends above it) the proportions of the head stand in.
    """
    lowest = -1.65 * max(cylinder.depth_mm, 70.0)
    middle = cylinder.skin[:, np.abs(ANGLES) < 8].max(axis=1)
    for index in np.flatnonzero((HEIGHTS < 0.72 * lowest + 20) & (HEIGHTS > lowest))[::-1]:
        above = middle[index : index + 10].max()
        if middle[index] < above - 20.0:
            return float(HEIGHTS[index])
    return float(lowest)


def facial_skin_mm2(cylinder: Cylinder, outline: np.ndarray) -> float:
    """Area in mm² of the skin inside an outline, below the brow."""
    skin = (cylinder.skin > 0) & (outline > 0) & (HEIGHTS < -6.0)[:, None]
    return float((skin * cylinder.skin).sum() * np.radians(3.0) * 3.0)


def inner_radius(cylinder: Cylinder, outline: np.ndarray) -> np.ndarray:
    """Map of the radius in mm from which on tissue belongs to the face.

    A smooth surface below the deepest skin of its surroundings, so that nose, lips and orbits leave no dent in it.
    """
    skin = np.where((outline > -3.0) & (cylinder.skin > 0), cylinder.skin, np.inf)
    nearest = ndimage.distance_transform_edt(np.isinf(skin), return_distances=False, return_indices=True)
    lowest = ndimage.minimum_filter(skin[tuple(nearest)], (9, 7))
    return ndimage.gaussian_filter(lowest, (5.0, 4.0)) - DEPTH_MM
