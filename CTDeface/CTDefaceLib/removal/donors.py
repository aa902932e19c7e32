"""Heads whose skin takes the place of a face: maps of its radius, eyes to eyes and chin to chin."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..anatomy.face_map import Cylinder
from ..anatomy.map_grid import ANGLES, HEIGHT_STEP_MM, HEIGHTS

SMOOTH = Path(__file__).with_name("smooth_head.npz")
"""Made by Testing/make_smooth_head.py."""


def smooth_donor(cylinder: Cylinder) -> np.ndarray:
    """Map of the radius in mm of a head without features, in the frame of the head that it is for."""
    smooth = _smooth_head()
    heights = donor_heights(
        cylinder.landmarks.eye_height, cylinder.landmarks.chin_height, float(smooth["eyes"]), float(smooth["chin"])
    )
    radius = ndimage.map_coordinates(
        smooth["radius"].astype(np.float64),
        np.meshgrid((heights - HEIGHTS[0]) / HEIGHT_STEP_MM, np.arange(len(ANGLES)), indexing="ij"),
        order=1,
        mode="nearest",
    )
    return radius * cylinder.depth_mm / float(smooth["depth"])


def donor_heights(eyes: float, chin: float, donor_eyes: float, donor_chin: float) -> np.ndarray:
    """Heights in mm on a donor's head of the heights of the maps: eyes to eyes, chin to chin, in one scale."""
    scale = (donor_eyes - donor_chin) / (eyes - chin)
    return donor_eyes + (HEIGHTS - eyes) * scale


@cache
def _smooth_head() -> dict[str, np.ndarray]:
    with np.load(SMOOTH) as stored:
        return dict(stored)
