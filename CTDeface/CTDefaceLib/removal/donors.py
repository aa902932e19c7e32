"""Heads whose skin takes the place of a face: maps of its radius, eyes to eyes and chin to chin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..anatomy.face_map import Cylinder, outermost
from ..anatomy.grids import values_at
from ..anatomy.hounsfield import HALFWAY_HU, PADDING_HU
from ..anatomy.landmarks import Landmarks
from ..anatomy.map_grid import ANGLES, HEIGHT_STEP_MM, HEIGHTS, RADII, RADIUS_STEP_MM
from ..phantom import Patient, PhantomParameters, paint_part

SMOOTH = Path(__file__).with_name("smooth_head.npz")
"""Made by Testing/make_smooth_head.py."""

PERSONS = 1_000_000
"""How many synthetic persons a face is drawn from."""

CHILD_MM2 = 7900.0
"""Width times half the length, in mm², of the intracranial space below which a child's face is drawn.

Found on some twenty phantoms: adults have 8400 to 10700, children 6700 to 7700 and one 7900 or more; a real adult whose
vertex is out of view has 8100.
"""

BROW = (0.0, -85.0, 22.0)
"""Where :func:`CTDefaceLib.anatomy.head.find_head` finds the brow of synthetic persons, in their head coordinates, mm.

About the mean of seven adults. Its height does not matter, since eyes come to eyes.
"""

HALF_LENGTH_MM = 77.0
"""Half the length in mm of their intracranial space, for one of average size: the mean of twelve."""

PITCH_DEG = {False: 4.0, True: 9.0}
"""By how many degrees an adult's, a child's chin has to be lifted for the axes found to be those of the scanner."""

VOXEL_MM, BLUR_MM = 1.25, 0.8
"""Distance of the voxels of a synthetic face, and the standard deviation of its point spread, in mm.

Chosen by eye: with 2 the lids are gone; with 1.5 and 0.5 the voxels show as ripples on cheeks.
"""

EDGE_WIDTH_MM = float(np.sqrt(12.0 * BLUR_MM**2 + VOXEL_MM**2))
"""Over how many mm a synthetic face turns from air into tissue: its edges are ramps."""

FINE_STEP_MM = 0.25
"""Step in mm with which the place of the skin is looked for: a linear ramp of air and tissue is wider."""

LOW_MM, HIGH_MM = (-92.0, -42.0, -36.0), (92.0, 48.0, 64.0)
"""What is made of a synthetic person, for one of average size: to the left and right of its middle, in front of the
brow and behind the ears, below the chin and above the brow."""


@dataclass(frozen=True)
class Donor:
    """A synthetic head, laid into the coordinates of a patient's.

    Attributes
    ----------
    person: int
        Number of the person.
    child: bool
        Whether it is a child.
    skin: numpy.ndarray
        Map of the radius of its skin in mm, in the frame of the patient's head.
    image: SimpleITK.Image
        Its face in Hounsfield units, axes along those of its head.
    brow: numpy.ndarray
        LPS mm of its brow in that image.
    depth_mm: float
        Distance of its axis behind the brow.
    size: float
        Size of the patient's head in parts of this one.
    heights: numpy.ndarray
        Heights in mm on it of the heights of the maps.
    """

    person: int
    child: bool
    skin: np.ndarray
    image: sitk.Image
    brow: np.ndarray
    depth_mm: float
    size: float
    heights: np.ndarray

    def places(self, cylinder: Cylinder, skin: np.ndarray) -> np.ndarray:
        """Where in the donor what lies below and above a new skin comes from, radially.

        Parameters
        ----------
        cylinder: Cylinder
            Where the patient's head lies.
        skin: numpy.ndarray
            Map of the radius of its new skin in mm.

        Returns
        -------
        numpy.ndarray
            Index into the voxels of :attr:`image`, shape (3, z, y, x) of the work grid; far outside away from the maps.
        """
        radius = (cylinder.radius - cylinder.spread(skin - self.skin)) / self.size
        height, angle = (cylinder.spread(part) for part in np.meshgrid(self.heights, np.radians(ANGLES), indexing="ij"))
        points = height, self.depth_mm - radius * np.cos(angle), radius * np.sin(angle)
        offset = (self.brow - self.image.GetOrigin())[::-1]
        return np.stack([cylinder.on_work_grid((a + b) / VOXEL_MM) for a, b in zip(points, offset)])


def smooth_donor(cylinder: Cylinder) -> np.ndarray:
    """Map of the radius in mm of a head without features, in the frame of the head that it is for."""
    smooth = _smooth_head()
    size = cylinder.depth_mm / float(smooth["depth"])
    heights = _heights(cylinder, size, float(smooth["eyes"]), float(smooth["chin"]))
    return size * _at_heights(smooth["radius"].astype(float), heights)


def face_donor(cylinder: Cylinder, seed: int | None = None) -> Donor:
    """Draw a synthetic person for a head, and make its face.

    Parameters
    ----------
    cylinder: Cylinder
        The head that the face is for; a child's head gets a child's face.
    seed: int, optional
        The same seed draws the same person; drawn anew when None.
    """
    person = int(np.random.default_rng(seed if seed is None else [seed, 40]).integers(PERSONS))
    child = cylinder.head.intracranial_extent(0) * cylinder.depth_mm < CHILD_MM2
    patient = Patient(PhantomParameters(person, child=child, pitch=PITCH_DEG[child]))
    size, length = patient.shape.size, patient.shape.size * patient.shape.length
    brow, depth = patient.from_head(np.array([BROW]))[0], HALF_LENGTH_MM * length
    front, chin = brow[1], patient.landmarks["chin"][2]
    low = np.array([brow[0], min(front, patient.landmarks["nose_tip"][1] + 30.0), chin]) + np.array(LOW_MM) * size
    high = np.array([brow[0], patient.landmarks["left_tragus"][1], brow[2]]) + np.array(HIGH_MM) * size
    image = paint_part(patient, low, high, VOXEL_MM, BLUR_MM)
    skin = _skin(image, brow, depth)
    known = Landmarks(skin, skin > 0, depth, size)
    factor = cylinder.depth_mm / depth
    heights = _heights(cylinder, factor, known.eye_height, known.chin_height)
    own = factor * _at_heights(known.continued_skin, heights)
    return Donor(person, child, own, image, brow, depth, factor, heights)


def donor_heights(eyes: float, chin: float, size: float, donor_eyes: float, donor_chin: float) -> np.ndarray:
    """Heights in mm on a donor's head of the heights of the maps: eyes to eyes and chin to chin.

    Above the eyes they go by the size of the head, in parts of the donor's.
    """
    face = (donor_eyes - donor_chin) / (eyes - chin)
    return donor_eyes + (HEIGHTS - eyes) * np.where(HEIGHTS > eyes, 1.0 / size, face)


def _heights(cylinder: Cylinder, size: float, eyes: float, chin: float) -> np.ndarray:
    own = cylinder.landmarks
    return donor_heights(own.eye_height, own.chin_height, size, eyes, chin)


def _at_heights(values: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """A map at other heights in mm."""
    index = np.meshgrid((heights - HEIGHTS[0]) / HEIGHT_STEP_MM, np.arange(len(ANGLES)), indexing="ij")
    return ndimage.map_coordinates(values, index, order=1, mode="nearest")


def _skin(image: sitk.Image, brow: np.ndarray, depth: float) -> np.ndarray:
    """Map of the radius in mm of the skin of a donor, 0 where a ray meets none in view."""
    height, angle = (part[..., None] for part in np.meshgrid(HEIGHTS, np.radians(ANGLES), indexing="ij"))

    def along(radius: np.ndarray) -> np.ndarray:
        place = radius * np.sin(angle), depth - radius * np.cos(angle), height
        return values_at(image, np.stack(np.broadcast_arrays(*place), axis=-1) + brow)

    tissue = along(RADII) > HALFWAY_HU
    coarse = outermost(tissue)[..., None]
    fine = coarse + np.arange(0.0, RADIUS_STEP_MM + FINE_STEP_MM, FINE_STEP_MM)
    hu = along(fine)
    last = hu.shape[-1] - 2 - (hu[..., -2::-1] > HALFWAY_HU).argmax(axis=-1)[..., None]
    radius, at, beyond = (
        np.take_along_axis(part, k, -1)[..., 0] for part, k in ((fine, last), (hu, last), (hu, last + 1))
    )
    radius = radius + FINE_STEP_MM * np.clip((at - HALFWAY_HU) / np.maximum(at - beyond, 1.0), 0.0, 1.0)
    return np.where(tissue.any(axis=-1) & (hu.min(axis=-1) > PADDING_HU), radius, 0.0)


@cache
def _smooth_head() -> dict[str, np.ndarray]:
    with np.load(SMOOTH) as stored:
        return dict(stored)
