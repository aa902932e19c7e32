"""What is measured on the skin of a face: eyes, chin, nose, and the skin without features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from .map_grid import ANGLES, HEIGHTS

HIGH_EYES_MM = 16.0
"""Millimetres above the brow; stands for the height of the eyes where they are not in view.

High, so that a mask that ends a set height above the eyes does not end too low. Chosen by eye.
"""

EYES_DEG = (12.0, 27.0)
"""Degrees to both sides of the middle between which the eyes are looked for: beside the nose. Chosen by eye."""

EYES_MM = (-21.0, 30.0)
"""Heights in mm above the brow between which the eyes are looked for. Chosen by eye.

On all acceptance phantoms the eyes are then found to 6 mm.
"""

BROW_TO_EYE_STEPS = 6
"""Steps of the map (3 mm each) above and below the eye where skin lies further out: brow and cheek. Chosen by eye."""

SHALLOWEST_EYES_MM = 2.0
"""Depth in mm, above and below together, from which on a hollow counts as that of the eyes. Chosen by eye."""

WELL_SEEN = 0.9
"""Share (0 to 1) of a height of the map that has to be in view to count. Chosen by eye."""

CHIN_BELOW_BROW = 1.72
"""Lowest height of a chin below the brow, in half lengths of the intracranial space.

Stands for the chin where the skin shows none. 1.65 in the first version; why it was raised is not on record.
"""

HIGHEST_CHIN = 0.65
"""Highest height of a chin, in parts of the lowest: above it lie mouth and nose. Chosen by eye."""

SHORTEST_HALF_MM = 70.0
"""Half the length in mm of an adult's intracranial space at the least: one found to be shorter is cut. By eye."""

CHIN_DRAWS_BACK_MM = 15.0
"""By how much, in mm, the skin draws back below a chin, within CHIN_STEPS. Chosen by eye."""

CHIN_STEPS = 10
"""Steps of the map (3 mm each) within which it does so. Chosen by eye."""

NOSE_ANGLES = 9
"""Width of a nose in steps of the map (3° each), for the middle of the face without it. Chosen by eye."""

RIDGE_ANGLES = 11
"""Width in steps of the map (3° each) of what counts as a ridge: about 50 mm. Chosen by eye."""

RIDGE_DEG = 18.0
"""Degrees from the middle within which a nose stands out: heads whose axes are a little off as well. By eye."""

RIDGE_BELOW_MM = 20.0
"""Height in mm above the brow up to which a nose is looked for. Chosen by eye."""

LOWEST_ROOT_MM = 27.0
"""How far, in mm below the brow, an adult's skin has to be in view to show whether there is a nose. By eye.
"""

HIGHEST_ROWS = 5
"""Heights of the map over which the nose is averaged: its 15 mm that stand out most. Chosen by eye."""

FEATURES = (15, 13)
"""Heights and angles, in steps of the map, of what is taken off the smooth skin: nose, lips and brows. By eye."""

SMOOTHING = (4.0, 3.2)
"""Standard deviations, in steps of the map, that then smooth the skin. Chosen by eye."""


@dataclass(frozen=True)
class Landmarks:
    """The facts of one face, each found when first asked for and kept.

    Attributes
    ----------
    skin: numpy.ndarray
        Map of the radius of the skin in mm; 0 where a ray meets no head.
    skin_in_view: numpy.ndarray
        Map of where the skin is seen, not the end of what was scanned (bool).
    depth_mm: float
        Distance of the axis behind the brow.
    scale: float
        Size of the head: 1 for an adult's, less for a child's.
    """

    skin: np.ndarray
    skin_in_view: np.ndarray
    depth_mm: float
    scale: float

    @cached_property
    def chin_height(self) -> float:
        """Height of the chin in mm (negative: below the brow).

        Going down the middle of the face without its nose, it is where the skin draws back by 15 mm within 30 mm; where
        it does not (a short neck, a lifted chin, a volume that ends above it) the proportions of the head stand in.
        """
        lowest = -CHIN_BELOW_BROW * max(self.depth_mm, SHORTEST_HALF_MM * self.scale)
        middle = ndimage.grey_opening(self.skin, (1, NOSE_ANGLES))[:, len(ANGLES) // 2]
        seen = self.skin_in_view[:, len(ANGLES) // 2]
        for index in np.flatnonzero((HEIGHTS < HIGHEST_CHIN * lowest) & (HEIGHTS > lowest) & seen)[::-1]:
            if middle[index] < middle[index : index + CHIN_STEPS].max() - CHIN_DRAWS_BACK_MM:
                return float(HEIGHTS[index])
        return float(lowest)

    @cached_property
    def eye_height(self) -> float:
        """Height of the eyes in mm (negative: below the brow).

        Beside the nose, it is where the skin lies deepest between what is 18 mm above and what is 18 mm below it. Where
        the volume shows no such hollow, the height of eyes that lie high stands in.
        """
        beside = (np.abs(ANGLES) >= EYES_DEG[0]) & (np.abs(ANGLES) <= EYES_DEG[1])
        seen = self.skin_in_view[:, beside].mean(axis=1) > WELL_SEEN
        profile = np.where(seen, self.skin[:, beside].mean(axis=1), 0.0)
        weight = ndimage.gaussian_filter1d(seen.astype(float), 1.0, mode="constant")
        profile = ndimage.gaussian_filter1d(profile, 1.0, mode="constant") / np.maximum(weight, 1e-6)
        step = BROW_TO_EYE_STEPS
        above, here, below = slice(2 * step, None), slice(step, -step), slice(None, -2 * step)
        hollow = profile[above] + np.where(seen[below], profile[below], profile[here]) - 2.0 * profile[here]
        near = (HEIGHTS[here] >= EYES_MM[0]) & (HEIGHTS[here] <= EYES_MM[1])
        hollow[~(seen[above] & seen[here] & near)] = -np.inf
        return float(HEIGHTS[here][hollow.argmax()]) if hollow.max() > SHALLOWEST_EYES_MM else HIGH_EYES_MM

    @cached_property
    def nose_mm(self) -> float:
        """How far, in mm, a ridge narrower than 50 mm stands out in the middle of the face: its nose, if it is a face.

        Infinite where the volume ends above the nose.
        """
        front = ndimage.minimum_filter1d(self.skin_in_view, RIDGE_ANGLES, axis=1)
        front &= (HEIGHTS < RIDGE_BELOW_MM)[:, None] & (np.abs(ANGLES) <= RIDGE_DEG)
        if HEIGHTS[front.any(axis=1)].min(initial=0.0) > -LOWEST_ROOT_MM * self.scale:
            return np.inf
        ridge = np.where(front, self.skin - ndimage.grey_opening(self.skin, (1, RIDGE_ANGLES)), 0.0)
        return float(np.sort(ridge.max(axis=1))[-HIGHEST_ROWS:].mean())

    @cached_property
    def continued_skin(self) -> np.ndarray:
        """Map of the radius in mm of the skin, continued where a ray meets no skin."""
        nearest = ndimage.distance_transform_edt(self.skin == 0, return_distances=False, return_indices=True)
        return self.skin[tuple(nearest)]

    @cached_property
    def smooth_skin(self) -> np.ndarray:
        """Map of the radius in mm of the skin without nose, lips and brows, continued where a ray meets no skin."""
        return ndimage.gaussian_filter(ndimage.grey_opening(self.continued_skin, FEATURES), SMOOTHING)
