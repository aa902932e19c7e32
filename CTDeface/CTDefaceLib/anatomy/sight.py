"""The head seen from the middle of the brain: what lies in each direction, whichever way the head lies.

From there every direction leads through the skull to the skin. How far the skull and the skin are, and what lies
between them, tells a forehead from a face: no axis is needed for it, neither the file's nor the head's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .hounsfield import AIR_HU, FAT_HU, PADDING_HU
from .work_grid import WORK_SPACING_MM, box_of, dilated, eroded

STEPS, FINE_STEPS = 10, 20
"""Directions along an edge of the cube through which they go, to compare with an average head and to find eyes and nose
by: 9° and 4.5° apart, 14 and 7 mm at the skin. With the first, eyes were missed where a view ends at the orbits."""

REACH_MM = 150.0
"""How far, in mm, a ray is followed: beyond a chin, seen from the brain's middle."""

GAP_MM = 10.0
"""Air as wide as this, in mm, that a large body of air is part of, lies outside the head.

Nostrils are narrower, and so is the air between most heads and their holder. Tried: 15, with which the couch counted as
the back of the head in one scan in three.
"""

OPEN_AIR_MM3 = 40_000.0
"""Smallest body of air in mm³ that counts as the air around the head: more than an open mouth holds."""

BEHIND_BONE = 12
"""In how many of 26 directions bone has to be seen from fat for it to be an orbit's: fat under the skin sees less."""

BELOW_SKULL_MM = 80.0
"""How far from the inside of the skull, in mm, air and fat are looked for: nose and orbits, not the windpipe."""

CUT_MM = 9.0
"""A ray that leaves the view this near, in mm, to the intracranial space does not show how far that reaches."""


@cache
def directions(steps: int = STEPS) -> np.ndarray:
    """Unit vectors (z, y, x) through the faces of a cube, (6 steps², 3): a right angle permutes them."""
    angle = (np.arange(steps) + 0.5) / steps * np.pi / 2 - np.pi / 4
    one, other = np.meshgrid(np.tan(angle), np.tan(angle), indexing="ij")
    face = np.stack([np.ones(steps**2), one.ravel(), other.ravel()], axis=-1)
    faces = [sign * np.roll(face, axis, axis=1) for axis in range(3) for sign in (1, -1)]
    return np.concatenate(faces) / np.tile(np.linalg.norm(face, axis=1), 6)[:, None]


@dataclass(frozen=True)
class Sight:
    """What rays from the middle of the intracranial space meet; arrays of one value a direction.

    Attributes
    ----------
    skull: numpy.ndarray
        Distance in mm to the inside of the skull.
    cut: numpy.ndarray
        Whether the view ends before that can be told; bool.
    wall: numpy.ndarray
        From there to the skin, or as far as the view goes, in mm.
    skin_in_view: numpy.ndarray
        Whether the skin is in view; bool.
    air, fat: numpy.ndarray
        Air inside the head, and fat behind bone, on the way, in mm.
    skin: numpy.ndarray
        Where the ray leaves the head, LPS in mm, shape (n, 3).
    """

    skull: np.ndarray
    cut: np.ndarray
    wall: np.ndarray
    skin_in_view: np.ndarray
    air: np.ndarray
    fat: np.ndarray
    skin: np.ndarray


def look_around(work: sitk.Image, intracranial: np.ndarray, enclosure: np.ndarray) -> tuple[Sight, Sight]:
    """Look from the middle of the intracranial space in all :func:`directions`, ``STEPS`` and ``FINE_STEPS`` of them.

    Parameters
    ----------
    work: SimpleITK.Image
        CT in Hounsfield units on the work grid.
    intracranial: numpy.ndarray
        The space inside the skull; bool, shape (z, y, x) of ``work``.
    enclosure: numpy.ndarray
        In how many of 26 directions bone is seen from each voxel, see :func:`.skull.enclosure`.
    """
    box = box_of(intracranial, int(REACH_MM / WORK_SPACING_MM))
    hu = sitk.GetArrayViewFromImage(work)[box]
    parts = hu, intracranial[box], _air_around(hu), enclosure[box] >= BEHIND_BONE
    corner = np.array([side.start for side in box])
    rough, fine = (_look(work, corner, directions(steps), *parts) for steps in (STEPS, FINE_STEPS))
    return rough, fine


def _look(
    work: sitk.Image,
    corner: np.ndarray,
    towards: np.ndarray,
    hu: np.ndarray,
    space: np.ndarray,
    around: np.ndarray,
    behind_bone: np.ndarray,
) -> Sight:
    """Look in some directions; the arrays are a part of the work grid that begins at a corner (z, y, x)."""
    middle = np.argwhere(space).mean(axis=0)
    steps = np.arange(int(REACH_MM / WORK_SPACING_MM))
    index = np.rint(middle + steps[:, None] * towards[:, None]).astype(int)
    within = ((index >= 0) & (index < hu.shape)).all(axis=-1)
    at = tuple(np.moveaxis(np.clip(index, 0, np.array(hu.shape) - 1), -1, 0))
    values = np.where(within, hu[at], PADDING_HU - 1.0)

    known = values >= PADDING_HU
    skull = _last(space[at] & within)
    beyond = steps > skull[:, None]
    end = _first(beyond & ~known)
    surface = _first(beyond & known & around[at])
    head = beyond & known & (steps < np.minimum(end, surface)[:, None])
    skin = np.maximum(_last(head & (values > AIR_HU)), skull)
    between = beyond & (steps <= np.minimum(skin, skull + BELOW_SKULL_MM / WORK_SPACING_MM)[:, None])
    air = between & (values <= AIR_HU)
    fat = between & (values > FAT_HU[0]) & (values < FAT_HU[1]) & behind_bone[at]
    points = (corner + middle + skin[:, None] * towards)[:, ::-1]
    direction = np.reshape(work.GetDirection(), (3, 3))
    return Sight(
        skull=skull * WORK_SPACING_MM,
        cut=end <= skull + CUT_MM / WORK_SPACING_MM,
        wall=(skin - skull) * WORK_SPACING_MM,
        skin_in_view=surface < end,
        air=air.sum(axis=1) * WORK_SPACING_MM,
        fat=fat.sum(axis=1) * WORK_SPACING_MM,
        skin=points * WORK_SPACING_MM @ direction.T + work.GetOrigin(),
    )


def _air_around(hu: np.ndarray) -> np.ndarray:
    """The air around the head, without what only gaps narrower than ``GAP_MM`` join to it; bool."""
    air = hu <= AIR_HU
    wide, _ = ndimage.label(eroded(air, GAP_MM / 2))
    sizes = np.bincount(wide.ravel())
    large = sizes > OPEN_AIR_MM3 / WORK_SPACING_MM**3
    large[0] = False
    return dilated(large[wide], GAP_MM / 2 + 1.0) & air


def _first(here: np.ndarray) -> np.ndarray:
    """Step of each ray (rows) at which it is first here; its length where it never is."""
    return np.where(here.any(axis=1), here.argmax(axis=1), here.shape[1])


def _last(here: np.ndarray) -> np.ndarray:
    """Step of each ray (rows) at which it is last here; 0 where it never is."""
    return np.where(here.any(axis=1), here.shape[1] - 1 - here[:, ::-1].argmax(axis=1), 0)
