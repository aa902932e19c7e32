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
    own, size = cylinder.landmarks, cylinder.depth_mm / float(smooth["depth"])
    heights = donor_heights(own.eye_height, own.chin_height, size, float(smooth["eyes"]), float(smooth["chin"]))
    index = np.meshgrid((heights - HEIGHTS[0]) / HEIGHT_STEP_MM, np.arange(len(ANGLES)), indexing="ij")
    return size * ndimage.map_coordinates(smooth["radius"].astype(float), index, order=1, mode="nearest")


def donor_heights(eyes: float, chin: float, size: float, donor_eyes: float, donor_chin: float) -> np.ndarray:
    """Heights in mm on a donor's head of the heights of the maps: eyes to eyes and chin to chin.

    Above the eyes they go by the size of the head, in parts of the donor's.
    """
    face = (donor_eyes - donor_chin) / (eyes - chin)
    return donor_eyes + (HEIGHTS - eyes) * np.where(HEIGHTS > eyes, 1.0 / size, face)


@cache
def _smooth_head() -> dict[str, np.ndarray]:
    with np.load(SMOOTH) as stored:
        return dict(stored)
