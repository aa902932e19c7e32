"""The face as a map: radius over height and angle around the head's long axis.

A face is a surface that every ray from the head's axis meets once, near enough; so its skin, the inner boundary of what
is removed and the outline of the face are two-dimensional maps, which can be smoothed, bounded and randomised as such.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .head import WORK_SPACING_MM, Head, find_head

ANGLES = np.arange(-135.0, 136.0, 3.0)
"""Degrees about the long axis; 0 is anterior, positive to the head's left."""
HEIGHTS = np.arange(-180.0, 79.0, 3.0)
"""Millimetres above the brow."""
RADII = np.arange(16.0, 170.0, 2.0)
"""Millimetres from the long axis."""
ADULT_WIDTH_MM = 115.0
"""Width of the narrowest adult intracranial space."""
HIGH_EYES_MM = 16.0
"""Millimetres above the brow; taken for the height of the eyes where they are not in view."""


@dataclass(frozen=True)
class Cylinder:
    """Cylindrical coordinates about the head's long axis. Maps have shape (heights, angles).

    Attributes
    ----------
    head: Head
        The head.
    depth_mm: float
        Distance of the axis behind the brow: half the length of the intracranial space, near the ears.
    skin: numpy.ndarray
        Map of the radius of the skin in mm, under hair and dressings; 0 where a ray meets no head.
    """

    head: Head
    depth_mm: float
    skin: np.ndarray

    @cached_property
    def scale(self) -> float:
        """Size of the head, by the width of the intracranial space: 1 for an adult's, less for a child's."""
        return min(self.head.intracranial_extent(0) / ADULT_WIDTH_MM, 1.0)

    @cached_property
    def skin_in_view(self) -> np.ndarray:
        """Map of where a ray leaves the head through its skin, not through the end of what was scanned (bool)."""
        volume = self.head.volume
        beyond = (self.points(self.skin + 8.0) - volume.GetOrigin()) / WORK_SPACING_MM
        within = ((beyond >= 0) & (beyond <= np.array(volume.GetSize()) - 1)).all(axis=-1)
        nearest = np.moveaxis(np.rint(beyond[..., ::-1]).astype(int), -1, 0)
        unseen = ndimage.map_coordinates(self.head.unseen, nearest, order=0, output=bool)
        return (self.skin > 0) & within & ~unseen

    @cached_property
    def _near(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        left, posterior, height = np.moveaxis(self.head.grid(), -1, 0)
        anterior = self.depth_mm - posterior
        angle = np.degrees(np.arctan2(left, anterior))
        near = (height >= HEIGHTS[0]) & (height <= HEIGHTS[-1]) & (np.abs(angle) <= ANGLES[-1])
        index = np.stack([(height[near] - HEIGHTS[0]) / 3.0, (angle[near] - ANGLES[0]) / 3.0])
        return near, np.hypot(left[near], anterior[near]), index

    @property
    def near(self) -> np.ndarray:
        """Voxels of the work grid at the heights and angles of the maps; bool, shape (z, y, x)."""
        return self._near[0]

    @property
    def radius(self) -> np.ndarray:
        """Radius in mm of each voxel of the work grid that is ``near``, shape (n,)."""
        return self._near[1]

    def spread(self, values: np.ndarray, here: np.ndarray | None = None) -> np.ndarray:
        """Values of a map at the voxels of the work grid that are ``near``, or at some of them, linear, shape (n,)."""
        index = self._near[2] if here is None else self._near[2][:, here]
        return ndimage.map_coordinates(values, index, output=np.float32, order=1, mode="nearest")

    def on_work_grid(self, values: np.ndarray) -> np.ndarray:
        """Function on the work grid, shape (z, y, x), with these values at the voxels ``near`` and -1 elsewhere."""
        function = np.full(self.near.shape, -1.0, np.float32)
        function[self.near] = values
        return function

    def sample(self, array: np.ndarray) -> np.ndarray:
        """Values of ``array`` (work grid) along the rays, shape (heights, angles, radii), 0 outside the volume."""
        height, angle, radius = np.meshgrid(HEIGHTS, np.radians(ANGLES), RADII, indexing="ij", sparse=True)
        points = np.broadcast_arrays(radius * np.sin(angle), self.depth_mm - radius * np.cos(angle), height)
        return self.head.sample(array, np.stack(points, axis=-1))

    def points(self, radius: np.ndarray) -> np.ndarray:
        """LPS points in mm at radii, shape (heights, angles, …, 3) where that of ``radius`` is (heights, angles, …)."""
        height, angle = (
            np.expand_dims(axis, tuple(range(2, radius.ndim)))
            for axis in np.meshgrid(HEIGHTS, np.radians(ANGLES), indexing="ij")
        )
        place = radius * np.sin(angle), self.depth_mm - radius * np.cos(angle), height
        return self.head.to_lps(np.stack(np.broadcast_arrays(*place), axis=-1))


def head_cylinder(image: sitk.Image) -> Cylinder:
    """Find the head in a CT and lay the cylinder around it.

    Raises
    ------
    NoFaceError
        When there is no head in view, see :func:`CTDefaceLib.anatomy.head.find_head`.
    """
    head = find_head(image)
    bare = Cylinder(head, head.intracranial_extent(1) / 2, np.empty(0))
    return replace(bare, skin=outermost(bare.sample(head.tissue) > 0.5))


def chin_height(cylinder: Cylinder) -> float:
    """Height of the chin in mm (negative: below the brow).

    Going down the middle of the face without its nose, it is where the skin draws back by 15 mm within 30 mm; where it
    does not (a short neck, a lifted chin, a volume that ends above it) the proportions of the head stand in.
    """
    lowest = -1.72 * max(cylinder.depth_mm, 70.0 * cylinder.scale)
    middle = ndimage.grey_opening(cylinder.skin, (1, 9))[:, len(ANGLES) // 2]
    for index in np.flatnonzero((HEIGHTS < 0.65 * lowest) & (HEIGHTS > lowest))[::-1]:
        if middle[index] < middle[index : index + 10].max() - 15.0:
            return float(HEIGHTS[index])
    return float(lowest)


def eye_height(cylinder: Cylinder) -> float:
    """Height of the eyes in mm (negative: below the brow).

    Beside the nose, it is where the skin lies deepest between what is 18 mm above and what is 18 mm below it. Where the
    volume shows no such hollow, the height of eyes that lie high stands in.
    """
    beside = (np.abs(ANGLES) >= 12.0) & (np.abs(ANGLES) <= 27.0)
    seen = cylinder.skin_in_view[:, beside].mean(axis=1) > 0.9
    profile = np.where(seen, cylinder.skin[:, beside].mean(axis=1), 0.0)
    weight = ndimage.gaussian_filter1d(seen.astype(float), 1.0, mode="constant")
    profile = ndimage.gaussian_filter1d(profile, 1.0, mode="constant") / np.maximum(weight, 1e-6)
    above, here, below = slice(12, None), slice(6, -6), slice(None, -12)
    hollow = profile[above] + np.where(seen[below], profile[below], profile[here]) - 2.0 * profile[here]
    near = (HEIGHTS[here] >= -21.0) & (HEIGHTS[here] <= 30.0)
    hollow[~(seen[above] & seen[here] & near)] = -np.inf
    return float(HEIGHTS[here][hollow.argmax()]) if hollow.max() > 2.0 else HIGH_EYES_MM


def nose_mm(cylinder: Cylinder) -> float:
    """How far, in mm, a ridge narrower than 50 mm stands out in the middle of the face: its nose, if it is a face.

    Infinite where the volume ends above the nose.
    """
    front = ndimage.minimum_filter1d(cylinder.skin_in_view, 11, axis=1)
    front &= (HEIGHTS < 20.0)[:, None] & (np.abs(ANGLES) <= 18.0)
    if HEIGHTS[front.any(axis=1)].min(initial=0.0) > -27.0 * cylinder.scale:
        return np.inf
    ridge = np.where(front, cylinder.skin - ndimage.grey_opening(cylinder.skin, (1, 11)), 0.0)
    return float(np.sort(ridge.max(axis=1))[-5:].mean())


def seen_skin(cylinder: Cylinder) -> np.ndarray:
    """Map of the radius in mm of the skin, continued where a ray meets no skin."""
    nearest = ndimage.distance_transform_edt(cylinder.skin == 0, return_distances=False, return_indices=True)
    return cylinder.skin[tuple(nearest)]


def smooth_skin(cylinder: Cylinder) -> np.ndarray:
    """Map of the radius in mm of the skin without nose, lips and brows, continued where a ray meets no skin."""
    return ndimage.gaussian_filter(ndimage.grey_opening(seen_skin(cylinder), (15, 13)), (4.0, 3.2))


def ramp(distance_mm: np.ndarray, width_mm: float) -> np.ndarray:
    """Smooth step from 0 at the outline (distance 0 and less) to 1 at ``width_mm`` inside it."""
    t = np.clip(distance_mm / width_mm, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def outermost(inside: np.ndarray) -> np.ndarray:
    """Radius in mm of the last sample of each ray that is inside, 0 where none is; shape (heights, angles)."""
    last = inside.shape[-1] - 1 - inside[..., ::-1].argmax(axis=-1)
    return np.where(inside.any(axis=-1), RADII[last], 0.0)


def innermost(inside: np.ndarray) -> np.ndarray:
    """Radius in mm of the first sample of each ray that is inside, infinite where none is; shape (heights, angles)."""
    return np.where(inside.any(axis=-1), RADII[inside.argmax(axis=-1)], np.inf)
