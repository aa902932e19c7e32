"""Where the face ends on the map of the skin, and how much of it is in view."""

from __future__ import annotations

import numpy as np

from .landmarks import Landmarks
from .map_grid import ANGLE_STEP_DEG, ANGLES, HEIGHT_STEP_MM, HEIGHTS

ABOVE_EYES_MM = 36.0
"""How far above the eyes the face ends, in mm; eyebrows lie up to 25 mm above them. Chosen by eye.

Chosen by eye, with detectors. While it was measured from the brain, the edge had to lie high enough for the person
whose brows lie highest above that.
"""

CROWN = 0.85
"""Highest that the face reaches above the brow, in half lengths of the intracranial space, so that the crown stays.

0.95 before; the crown keeps 25 mm of all acceptance phantoms, the smallest one included.
"""

BELOW_CHIN_MM = 28.0
"""How far below the chin the face ends, in mm, so that no chin is left; 12 and 16 left one to be found."""

ALONG_THE_JAW = 0.4
"""By how much, in mm for each degree from the middle, the lower edge rises along the jaw to the ears. By eye."""

SIDE_HEIGHTS_MM = (-100.0, -60.0, -30.0)
"""Heights in mm above the brow, of an adult, for which SIDE_DEG holds; between them it is interpolated."""

SIDE_DEG = (72.0, 77.0, 83.0)
"""How far the face reaches to the sides, in degrees: in front of the ears, less at the angle of the jaw. By eye."""

EAR_BELOW_EYES_MM = 20.0
"""How far below the eyes the middle of an ear lies, in mm, of an adult. Chosen by eye."""

EAR_MM, EAR_DEG = 48.0, (90.0, 35.0)
"""Half the height in mm that an ear and its surroundings take; middle and half the width in degrees. Chosen by eye."""

SKIN_BELOW_MM = 6.0
"""Height in mm above the brow below which skin in front is counted as a face's. Chosen by eye."""

FRONT_DEG, WIDE_FRONT_DEG = 30.0, 60.0
"""Degrees from the middle within which it is counted: as a rule, and where a deep cut can hide where the front is."""


def face_outline(landmarks: Landmarks) -> np.ndarray:
    """Map of the distance in mm to the outline of the face, positive inside; shape (heights, angles).

    The face ends above the eyebrows, below the chin and the jaw, and in front of the ears, further forward at the angle
    of the jaw; the same on both sides.
    """
    height, angle = np.meshgrid(HEIGHTS, np.abs(ANGLES), indexing="ij")
    scale, depth_mm = landmarks.scale, landmarks.depth_mm
    top = min(landmarks.eye_height + scale * ABOVE_EYES_MM, CROWN * depth_mm)
    bottom = landmarks.chin_height - scale * (BELOW_CHIN_MM - ALONG_THE_JAW * angle)
    side = np.interp(height / scale, SIDE_HEIGHTS_MM, SIDE_DEG)
    return np.minimum.reduce([top - height, height - bottom, np.radians(side - angle) * depth_mm])


def ears(landmarks: Landmarks) -> np.ndarray:
    """Map of the ears and what lies around them and between them and the face; bool, shape (heights, angles)."""
    up = (HEIGHTS - landmarks.eye_height) / landmarks.scale + EAR_BELOW_EYES_MM
    back = (np.abs(ANGLES) - EAR_DEG[0]) / EAR_DEG[1]
    return (up[:, None] / EAR_MM) ** 2 + back**2 < 1.0


def facial_skin_mm2(landmarks: Landmarks, deeply_cut: bool) -> float:
    """Area in mm² of the skin in view in front, from the brow down; a volume that ends above the eyes shows none.

    Parameters
    ----------
    landmarks: Landmarks
        Of the head's map.
    deeply_cut: bool
        Whether the field of view cuts deep into the skull, which can hide where the front is, and show a face on one
        side alone.
    """
    aside = WIDE_FRONT_DEG if deeply_cut else FRONT_DEG
    front = (HEIGHTS < SKIN_BELOW_MM)[:, None] & (np.abs(ANGLES) <= aside)
    area = (landmarks.skin * (landmarks.skin_in_view & front)).sum() * np.radians(ANGLE_STEP_DEG) * HEIGHT_STEP_MM
    return float(area)


def ramp(distance_mm: np.ndarray, width_mm: float) -> np.ndarray:
    """Smooth step from 0 at the outline (distance 0 and less) to 1 at ``width_mm`` inside it."""
    t = np.clip(distance_mm / width_mm, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
