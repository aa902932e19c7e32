"""Find the head in a CT: its tissue, the intracranial space and the axes that it is turned by.

All of it on the work grid, see :mod:`.work_grid`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..errors import InputError, NoFaceError
from .field_of_view import DEEP_CUT, hidden_share, unseen
from .hounsfield import AIR_HU, SKULL_HU, TISSUE_HU
from .orientation import Orientation, find_orientation, shows_face, side_of, turned_array, turned_volume
from .pose import head_axes, mirrored
from .sight import Sight, look_around
from .skull import BULGE_MM, GUARD_MM, OVER_A_GAP_MM, enclosure_of, intracranial_spaces, open_places
from .work_grid import WORK_SPACING_MM, dilated, distance_to, eroded
from .work_volume import work_volume

FACE_REACH_MM = np.array([170.0, 150.0, 90.0])
"""How far the head can reach beyond the intracranial space in mm: down, forward, to the right.

With room for a chin that hangs and a nose in a head that is turned; the maps of the face end nearer. Chosen by eye.
"""

SKULL_REACH_MM = np.array([45.0, 50.0, 90.0])
"""How far the head can reach beyond the intracranial space in mm: up, back, to the left.

Skull, scalp, hair and an ear. Chosen by eye; back was 90 until time and memory counted.
"""

NARROW_AIR_MM = 15.0
"""Air that is narrower than this, in mm, belongs to the head: nostrils, mouth, ear canals.

Half of it is the radius of the ball that has to pass. Chosen by eye; not varied.
"""

HELD_MM = 16.0
"""What joins the head to a holder or a tube and is narrower than this, in mm, is cut. Chosen by eye; not varied."""

REGROWN_MM = 1.5
"""By how much more, in mm, than it was shrunk a shape is grown back, so that its corners come back as well.

Half a voxel of the work grid.
"""

FAR_MM = 36.0
"""How far from the intracranial space, in mm, its distance no longer matters: the region ends at its edge.

Above the greatest depth with the guard, for time: with no such end the map of distances took four times as long.
"""


@dataclass(frozen=True)
class Head:
    """What is known of the head, on the work grid.

    Attributes
    ----------
    volume: SimpleITK.Image
        CT in Hounsfield units on the work grid (float32, 3 mm), its axes nearly along the head's own, in LPS unless the
        file has the head lie otherwise than it does.
    padding: float or None
        The value above ``PADDING_HU`` that marks, in the CT, what lies outside the field of view, if there is one.
    solid: numpy.ndarray
        Bool, (z, y, x). The head with its inner air (sinuses, mouth), without couch and head holder where air parts
        them.
    intracranial: numpy.ndarray
        Bool, (z, y, x). The space inside the skull.
    axes: numpy.ndarray
        3×3, rows: unit vectors in LPS towards the head's own left, posterior and superior.
    brow: numpy.ndarray
        LPS point in mm: in the plane of symmetry, at the front of the intracranial space, at the level of its floor
        above the orbits. Origin of head coordinates.
    orientation: Orientation
        Which way the head lies, and how sure that is.
    sight: Sight
        What is seen from the middle of the intracranial space, with no regard to axes.
    """

    volume: sitk.Image
    padding: float | None
    solid: np.ndarray
    intracranial: np.ndarray
    axes: np.ndarray
    brow: np.ndarray
    orientation: Orientation
    sight: Sight

    @property
    def direction(self) -> np.ndarray:
        """3×3, columns: unit vectors in LPS along the axes x, y, z of the work grid."""
        return np.reshape(self.volume.GetDirection(), (3, 3))

    def to_head(self, points: np.ndarray) -> np.ndarray:
        """LPS points in mm, shape (…, 3), as head coordinates (left, posterior, superior) in mm."""
        return (points - self.brow) @ self.axes.T

    def to_lps(self, points: np.ndarray) -> np.ndarray:
        """Head coordinates in mm, shape (…, 3), as LPS points in mm."""
        return points @ self.axes + self.brow

    def to_index(self, points: np.ndarray) -> np.ndarray:
        """LPS points in mm, shape (…, 3), as places (x, y, z) on the work grid in voxels."""
        return (points - self.volume.GetOrigin()) @ self.direction / WORK_SPACING_MM

    def coordinates(self, axis: int) -> np.ndarray:
        """Head coordinate (0: left, 1: posterior, 2: superior) in mm of each voxel of the work grid, (z, y, x)."""
        x, y, z = (
            np.float32(towards) * (WORK_SPACING_MM * (np.arange(size) - start)).astype(np.float32)
            for towards, start, size in zip(
                self.axes[axis] @ self.direction, self.to_index(self.brow), self.volume.GetSize()
            )
        )
        return x + y[:, None] + z[:, None, None]

    @property
    def tilt_deg(self) -> float:
        """Angle in degrees between the head's axes and those of its work grid, which lies as the head does, nearly."""
        return float(np.degrees(np.arccos(np.clip((np.trace(self.axes @ self.direction) - 1.0) / 2.0, -1.0, 1.0))))

    @property
    def facing(self) -> str:
        """The side of the file, in words, that the front of the head is nearest to."""
        return side_of(-self.axes[1])

    @property
    def topped(self) -> str:
        """The side of the file, in words, that the top of the head is nearest to."""
        return side_of(self.axes[2])

    @cached_property
    def unseen(self) -> np.ndarray:
        """What lies outside the scanner's field of view or the volume; bool, work grid."""
        return unseen(self.volume)

    @cached_property
    def tissue(self) -> np.ndarray:
        """The head without air, hair and dressings; bool, work grid."""
        return self.solid & (sitk.GetArrayViewFromImage(self.volume) > TISSUE_HU)

    @cached_property
    def intracranial_cut(self) -> float:
        """Share, 0 to 1, of what surrounds the intracranial space on its level that lies outside the field of view."""
        return hidden_share(self.intracranial, self.unseen)

    @property
    def deeply_cut(self) -> bool:
        """Whether the field of view cuts so deep into the skull that the axes may be off."""
        return self.intracranial_cut > DEEP_CUT

    def intracranial_extent(self, axis: int) -> float:
        """Extent in mm of the intracranial space along one of the ``axes``, without its outermost hundredth."""
        along = (np.argwhere(self.intracranial)[:, ::-1] * WORK_SPACING_MM) @ (self.axes[axis] @ self.direction)
        return float(np.ptp(np.percentile(along, [0.5, 99.5])))

    @cached_property
    def _gaps(self) -> tuple[np.ndarray, int]:
        """What lies in gaps of the skull's vault under the scalp, and how many there are."""
        hu = sitk.GetArrayViewFromImage(self.volume)
        middles, count = open_places(self.intracranial, hu, self.coordinates(2))
        if not count:
            return middles, 0
        under_scalp = eroded(self.solid, OVER_A_GAP_MM) & (hu < SKULL_HU)
        return dilated(middles, BULGE_MM) & under_scalp & ~self.intracranial, count

    @property
    def in_gaps(self) -> np.ndarray:
        """What lies in gaps of the skull, under the scalp: brain, scar, fluid; bool, work grid."""
        return self._gaps[0]

    @property
    def skull_gaps(self) -> int:
        """How many gaps the skull's vault has, as far as it is in view."""
        return self._gaps[1]

    @cached_property
    def guard(self) -> np.ndarray:
        """Distance in mm of each voxel of the work grid to the guarded space around the intracranial space.

        What lies in gaps of the skull is guarded as well. Negative within it, and the same from ``FAR_MM`` away on;
        float32, shape (z, y, x).
        """
        guard = distance_to(self.intracranial, FAR_MM) - np.float32(GUARD_MM)
        if self.skull_gaps:
            guard = np.minimum(guard, distance_to(self.in_gaps, FAR_MM) - np.float32(WORK_SPACING_MM))
        return guard

    def sample(self, array: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Values of ``array`` (work grid) at places (x, y, z) on that grid, shape (…, 3), linear, 0 outside."""
        return ndimage.map_coordinates(
            array.astype(np.float32), np.moveaxis(index[..., ::-1], -1, 0), output=np.float32, order=1
        )


def find_head(image: sitk.Image) -> Head:
    """Find the head in a CT volume.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units, LPS geometry, any axis order and obliquity. Where the head shows that it lies otherwise
        than the file says, the head is believed, see :mod:`.orientation`.

    Returns
    -------
    Head
        What is known of it.

    Raises
    ------
    NoFaceError
        When there is no skull with an intracranial space in view.
    InputError
        When two heads with faces are in view.
    """
    work, padding = work_volume(image)
    intracranial, rough, sight = _skull_with_a_face(work)
    orientation = find_orientation(rough)
    if orientation.turned:
        work, intracranial = turned_volume(work, orientation.turn), turned_array(intracranial, orientation.turn)
    work, intracranial = _crop_to_head(work, intracranial)
    axes, brow = head_axes(work, intracranial)
    intracranial |= mirrored(work, intracranial, axes[0], brow)
    hidden = unseen(work)  # the edge of the view hides a part of the space
    intracranial |= dilated(intracranial, 1.5 * WORK_SPACING_MM) & hidden
    solid = _head_solid(work, intracranial)
    return Head(work, padding, solid, intracranial, axes, brow, orientation, sight)


def _skull_with_a_face(work: sitk.Image) -> tuple[np.ndarray, Sight, Sight]:
    """The space inside the skull, on the work grid, and what is seen from its middle, in few and in many directions.

    Where there are several, the one below which there is a face.
    """
    hu = sitk.GetArrayViewFromImage(work)
    enclosure = enclosure_of(hu)
    spaces = intracranial_spaces(hu, enclosure)
    if not spaces:
        raise NoFaceError(
            "No head was found in this volume: there is no skull around an intracranial space, by which the face is "
            "found (a volume of the jaw or the neck alone shows none). Nothing was changed."
        )
    skulls = [(space, *look_around(work, space, enclosure)) for space in spaces]
    if len(skulls) == 1:
        return skulls[0]
    with_face = [skull for skull in skulls if shows_face(skull[1])]
    if len(with_face) > 1:
        raise InputError(
            "Two heads with faces are in view, and one volume can be defaced at one head only: crop it to each head. "
            "Nothing was changed."
        )
    return (with_face or skulls)[0]


def _crop_to_head(work: sitk.Image, intracranial: np.ndarray) -> tuple[sitk.Image, np.ndarray]:
    """The part of the work grid that can hold the head: the intracranial space and what a face adds to it."""
    where = np.argwhere(intracranial)
    low = np.maximum(where.min(axis=0) - (FACE_REACH_MM / WORK_SPACING_MM).astype(int), 0)
    high = np.minimum(where.max(axis=0) + 1 + (SKULL_REACH_MM / WORK_SPACING_MM).astype(int), intracranial.shape)
    box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist()))
    return work[box[::-1]], intracranial[box]


def _head_solid(work: sitk.Image, intracranial: np.ndarray) -> np.ndarray:
    """The head with the air inside it: what the air around cannot reach; bool, shape (z, y, x) of ``work``."""
    air = sitk.GetArrayViewFromImage(work) <= AIR_HU
    open_air = eroded(air, NARROW_AIR_MM / 2)
    labels, _ = ndimage.label(open_air)
    edges = np.concatenate(
        [
            np.ravel(labels[tuple(side)])
            for side in (
                (slice(None), 0),
                (slice(None), -1),
                (slice(None), slice(None), 0),
                (slice(None), slice(None), -1),
                (-1,),
            )
        ]
    )
    outside = dilated(np.isin(labels, edges[edges > 0]), NARROW_AIR_MM / 2 + REGROWN_MM) & air
    core = eroded(~outside, HELD_MM / 2)
    labels, _ = ndimage.label(core)
    sizes = np.bincount(labels[intracranial & core], minlength=2)
    return dilated(labels == sizes[1:].argmax() + 1, HELD_MM / 2 + REGROWN_MM) & ~outside
