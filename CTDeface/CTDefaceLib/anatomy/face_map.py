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

from .face_outline import face_outline, facial_skin_mm2
from .head import Head, find_head
from .landmarks import Landmarks
from .map_grid import ANGLE_STEP_DEG, ANGLES, HEIGHT_STEP_MM, HEIGHTS, RADII
from .work_grid import WORK_SPACING_MM

ADULT_WIDTH_MM = 115.0
"""Width in mm of the narrowest adult intracranial space: heads below it count as small. Chosen by eye."""

BEYOND_THE_SKIN_MM = 8.0
"""How far outside the skin, in mm, the volume has to go on for it to be seen; over two voxels of the work grid.

What lies nearer to the edge of the view is averaged with padding. Chosen by eye.
"""

NECK_MM = 15.0
"""How far below the chin, in mm, the tissue of a head is counted: as much neck as most scans show. By eye."""

WIDEST_HEAD_MM = 95.0
"""How far from the middle, in mm, tissue is counted: the ears' room, not the shoulders'. Chosen by eye."""

BEHIND_THE_SKULL_MM = 20.0
"""How far behind the intracranial space, in mm, tissue is counted. Chosen by eye."""

MOST_HIDDEN = 0.5
"""Largest share (0 to 1) of the head that counts as hidden by the edge of the view. Chosen by eye."""


@dataclass(frozen=True)
class Cylinder:
    """Cylindrical coordinates about the head's long axis, and what is known of the face in them.

    Maps have shape (heights, angles). What is measured is measured when first asked for and kept.

    Attributes
    ----------
    head: Head
        The head.
    depth_mm: float
        Distance of the axis behind the brow: half the length of the intracranial space, near the ears.
    """

    head: Head
    depth_mm: float

    @cached_property
    def scale(self) -> float:
        """Size of the head, by the width of the intracranial space: 1 for an adult's, less for a child's."""
        return min(self.head.intracranial_extent(0) / ADULT_WIDTH_MM, 1.0)

    @cached_property
    def skin(self) -> np.ndarray:
        """Map of the radius of the skin in mm, under hair and dressings; 0 where a ray meets no head."""
        return outermost(self.sample(self.head.tissue) > 0.5)

    @cached_property
    def skin_in_view(self) -> np.ndarray:
        """Map of where a ray leaves the head through its skin, not through the end of what was scanned (bool)."""
        volume = self.head.volume
        beyond = self.head.to_index(self.points(self.skin + BEYOND_THE_SKIN_MM))
        within = ((beyond >= 0) & (beyond <= np.array(volume.GetSize()) - 1)).all(axis=-1)
        nearest = np.moveaxis(np.rint(beyond[..., ::-1]).astype(int), -1, 0)
        unseen = ndimage.map_coordinates(self.head.unseen, nearest, order=0, output=bool)
        return (self.skin > 0) & within & ~unseen

    @cached_property
    def landmarks(self) -> Landmarks:
        """Eyes, chin and nose of the face, and its smooth skin."""
        return Landmarks(self.skin, self.skin_in_view, self.depth_mm, self.scale)

    @cached_property
    def outline(self) -> np.ndarray:
        """Map of the distance in mm to the outline of the face, positive inside."""
        return face_outline(self.landmarks)

    @cached_property
    def facial_skin_mm2(self) -> float:
        """Area in mm² of the skin in view in front, from the brow down."""
        return facial_skin_mm2(self.landmarks, self.head.deeply_cut)

    @cached_property
    def tissue_mm3(self) -> float:
        """Volume in mm³ of the head's tissue, from the vertex to 15 mm below the chin, as far as the volume reaches.

        Where the edge of the field of view cuts the skull, what it hides is added by the share of the intracranial
        space's surroundings that it hides: a cut that is shallow since little of the head is in view leaves more of a
        face.
        """
        left, posterior, height = (self.head.coordinates(axis) for axis in range(3))
        here = self.head.tissue & (height > self.landmarks.chin_height - NECK_MM)
        here &= (np.abs(left) < WIDEST_HEAD_MM) & (posterior < 2.0 * self.depth_mm + BEHIND_THE_SKULL_MM)
        hidden = min(self.head.intracranial_cut, MOST_HIDDEN)
        return float(here.sum()) * WORK_SPACING_MM**3 / (1.0 - hidden)

    @cached_property
    def _near(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """What is near, and of it the radius, the node of the maps before it and the shares of the way to the next."""
        left, posterior, height = (self.head.coordinates(axis) for axis in range(3))
        anterior = self.depth_mm - posterior
        angle = np.degrees(np.arctan2(left, anterior))
        near = (height >= HEIGHTS[0]) & (height <= HEIGHTS[-1]) & (np.abs(angle) <= ANGLES[-1])
        places = zip((height, angle), (HEIGHTS, ANGLES), (HEIGHT_STEP_MM, ANGLE_STEP_DEG))
        index = np.stack([(along[near] - np.float32(axis[0])) / np.float32(step) for along, axis, step in places])
        node = np.minimum(index.astype(np.int32), [[len(HEIGHTS) - 2], [len(ANGLES) - 2]], dtype=np.int32)
        index -= node
        return near, np.hypot(left[near], anterior[near]), node[0] * len(ANGLES) + node[1], index

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
        node, (up, around) = self._near[2:] if here is None else (self._near[2][here], self._near[3][:, here])
        flat = values.astype(np.float32).ravel()

        def on_row(start: int) -> np.ndarray:
            before = flat[start:].take(node)
            return before + (flat[start + 1 :].take(node) - before) * around

        below = on_row(0)
        return below + (on_row(len(ANGLES)) - below) * up

    def on_work_grid(self, values: np.ndarray) -> np.ndarray:
        """Function on the work grid, shape (z, y, x), with these values at the voxels ``near`` and -1 elsewhere."""
        function = np.full(self.near.shape, -1.0, np.float32)
        function[self.near] = values
        return function

    def sample(self, array: np.ndarray) -> np.ndarray:
        """Values of ``array`` (work grid) along the rays, shape (heights, angles, radii), 0 outside the volume."""
        return self.head.sample(array, self._rays)

    @cached_property
    def _rays(self) -> np.ndarray:
        """Places (x, y, z) on the work grid of the samples along the rays, shape (heights, angles, radii, 3)."""
        ends = self.head.to_index(self.points(np.broadcast_to(RADII[[0, -1]], (len(HEIGHTS), len(ANGLES), 2))))
        first, last = np.moveaxis(ends.astype(np.float32), (2, 3), (0, 1))[..., None]
        rays = first + (last - first) * np.linspace(0.0, 1.0, len(RADII), dtype=np.float32)
        return np.moveaxis(rays, 0, -1)  # one coordinate after the other in memory, as they are looked up

    def points(self, radius: np.ndarray) -> np.ndarray:
        """LPS points in mm at radii, shape (heights, angles, …, 3) where that of ``radius`` is (heights, angles, …)."""
        height, angle = (
            np.expand_dims(axis, tuple(range(2, radius.ndim)))
            for axis in np.meshgrid(HEIGHTS, np.radians(ANGLES), indexing="ij")
        )
        place = radius * np.sin(angle), self.depth_mm - radius * np.cos(angle), height
        return self.head.to_lps(np.stack(np.broadcast_arrays(*place), axis=-1))


def as_the_head_lies(image: sitk.Image, cylinder: Cylinder) -> tuple[sitk.Image, Cylinder]:
    """A CT and its cylinder, turned in space so that the patient's directions are the head's.

    Both are as they were where the file has them so. Voxels stay in their order.
    """
    head = cylinder.head
    if not head.orientation.turned:
        return image, cylinder
    turn = head.direction.T
    return moved_image(image, turn), moved_cylinder(cylinder, turn)


def moved_cylinder(cylinder: Cylinder, rotation: np.ndarray, shift: np.ndarray | None = None) -> Cylinder:
    """A head moved in space: its points p are at ``rotation @ p + shift`` then, in LPS mm."""
    head, shift = cylinder.head, np.zeros(3) if shift is None else shift
    sight = replace(head.sight, skin=head.sight.skin @ rotation.T + shift)
    volume, axes, brow = moved_image(head.volume, rotation, shift), head.axes @ rotation.T, rotation @ head.brow + shift
    return replace(cylinder, head=replace(head, volume=volume, axes=axes, brow=brow, sight=sight))


def moved_image(image: sitk.Image, rotation: np.ndarray, shift: np.ndarray | None = None) -> sitk.Image:
    """The same voxels elsewhere in space, see :func:`moved_cylinder`."""
    moved = sitk.Image(image)
    moved.SetDirection((rotation @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    moved.SetOrigin((rotation @ image.GetOrigin() + (0.0 if shift is None else shift)).tolist())
    return moved


def head_cylinder(image: sitk.Image) -> Cylinder:
    """Find the head in a CT and lay the cylinder around it.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units.

    Returns
    -------
    Cylinder
        The head's own coordinates and skin.

    Raises
    ------
    NoFaceError
        When there is no head in view, see :func:`CTDefaceLib.anatomy.head.find_head`.
    """
    head = find_head(image)
    return Cylinder(head, head.intracranial_extent(1) / 2)


def outermost(inside: np.ndarray) -> np.ndarray:
    """Radius in mm of the last sample of each ray that is inside, 0 where none is; shape (heights, angles)."""
    last = inside.shape[-1] - 1 - inside[..., ::-1].argmax(axis=-1)
    return np.where(inside.any(axis=-1), RADII[last], 0.0)


def innermost(inside: np.ndarray) -> np.ndarray:
    """Radius in mm of the first sample of each ray that is inside, infinite where none is; shape (heights, angles)."""
    return np.where(inside.any(axis=-1), RADII[inside.argmax(axis=-1)], np.inf)
