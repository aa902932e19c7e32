"""The skull: the space inside it, found by the bone that encloses it."""

from __future__ import annotations

from itertools import product

import numpy as np
from scipy import ndimage

from .field_of_view import well_in_view
from .hounsfield import AIR_HU, CAVITY_HU, PADDING_HU, SKULL_HU
from .work_grid import WORK_SPACING_MM, box_of, dilated, eroded

GUARD_MM = 6.0
"""What stays around the intracranial space in any case, in mm.

5 mm before the olfactory groove counted as part of the space; other values are not on record.
"""

VAULT_MM = 15.0
"""Height in mm above the floor of the anterior fossa from which on the skull has no openings of its own. By eye."""

OPEN_MM = 9.0
"""How far from bone, in mm, the edge of the intracranial space is open: half the width of a gap that is found.

In 20 synthetic heads and three scans only the craniectomies have three such voxels or more; with 6 others have 14.
"""

SMALLEST_GAP = 3
"""Voxels of the work grid that have to be so open, side by side."""

BULGE_MM = 24.0
"""How far, in mm, brain and scar are looked for in and before the open part of a gap. Chosen by eye."""

OVER_A_GAP_MM = 4.5
"""How much of what lies there, in mm, is scalp. Chosen by eye."""

ENCLOSED_DIRECTIONS = 21
"""In how many of 26 directions bone has to be seen from a voxel for it to lie inside a skull.

Foramina and a craniectomy leave some open. Chosen by eye; not varied.
"""

SMALLEST_INTRACRANIAL_MM3 = 100_000.0
"""Smallest volume of an intracranial space in mm³; small, since cut heads show little of it. Chosen by eye."""

SMALLEST_SKULL = 0.75
"""Share (0 to 1) of the intracranial space's surroundings with bone next to them.

At least 0.95 in all heads tried, the craniectomy among them; at most 0.70 in pelves that were taken for a head.
"""

LARGEST_GAP_MM = 18.0
"""Openings of the skull up to this width, in mm, do not join the intracranial space to what lies outside it.

Half of it is the radius of the ball that has to pass. Chosen by eye; not varied.
"""

BESIDE_THE_CORE_MM = 15.0
"""How far, in mm, the space goes on beyond where that ball reaches, into fossae and narrow recesses. Chosen by eye."""

NEXT_TO_BONE_MM = 9.0
"""How near bone has to be, in mm, for the surroundings of a space to be skull. Chosen by eye with SMALLEST_SKULL."""

RIM_MM = 4.5
"""Thickness in mm of these surroundings: one and a half voxels of the work grid, the neighbours of the space."""

CANDIDATES = 5
"""How many spaces, the largest first, are tried for a skull around them: a body holds pelvis and chest as well."""

BETWEEN_SKULLS_MM = 30.0
"""How far apart spaces in two skulls are, in mm, at least: two scalps, two walls, and the rim beside both cores."""

SMALLEST_CORE_MM3 = 30_000.0
"""Smallest core of such a space, in mm³, that is tried once one was found: that of a child's head has 200 000."""


def open_places(intracranial: np.ndarray, hu: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, int]:
    """Where the skull's vault has gaps: after a craniectomy, a fracture, or in a child.

    Parameters
    ----------
    intracranial: numpy.ndarray
        The space inside the skull; bool, work grid.
    hu: numpy.ndarray
        CT in Hounsfield units on the work grid.
    height: numpy.ndarray
        Height in mm above the floor of the anterior fossa, work grid.

    Returns
    -------
    tuple
        The middle of each gap at the edge of the space (bool, work grid), and how many gaps there are.
    """
    hidden = dilated(hu < PADDING_HU, OPEN_MM)
    hidden[[0, 1, -2, -1]] = True  # the ends of the volume
    rim = dilated(intracranial, RIM_MM) & ~intracranial & ~hidden & (height > VAULT_MM)
    labels, count = ndimage.label(rim & ~dilated(hu > SKULL_HU, OPEN_MM), np.ones((3, 3, 3)))
    large = np.flatnonzero(np.bincount(labels.ravel(), minlength=1)[1:] >= SMALLEST_GAP) + 1
    return np.isin(labels, large), len(large)


def enclosure_of(hu: np.ndarray) -> np.ndarray:
    """In how many of 26 directions a ray from each voxel meets bone, or leaves the volume out of tissue (uint8)."""
    hits = np.zeros(hu.shape, np.uint8)
    box = box_of(hu > AIR_HU, 1)
    bone, tissue = hu[box] > SKULL_HU, hu[box] > AIR_HU
    unknown = np.pad(~well_in_view(hu)[box], 1, constant_values=True)
    for step in product((-1, 0, 1), repeat=3):
        if any(step):
            hits[box] += _ray_hits(bone, tissue, unknown, step)
    return hits


def intracranial_spaces(hu: np.ndarray, enclosure: np.ndarray) -> list[np.ndarray]:
    """The soft spaces from which bone is seen in nearly all directions and that have a skull around them.

    A pelvis at the end of a volume and the space under the ribs can be larger, but have gaps. The edge of the field of
    view is no wall: the space is as wide there as one can tell.

    Parameters
    ----------
    hu: numpy.ndarray
        CT in Hounsfield units on the work grid, shape (z, y, x).
    enclosure: numpy.ndarray
        What :func:`enclosure_of` it gives.

    Returns
    -------
    list of numpy.ndarray
        Bool, shape of ``hu``, the largest first; none when no skull is in view.
    """
    enclosed = (enclosure >= ENCLOSED_DIRECTIONS) & (hu < SKULL_HU) & (hu > CAVITY_HU)
    box = box_of(enclosed, 4)
    inside, unseen = enclosed[box], hu[box] < PADDING_HU
    labels, count = ndimage.label(eroded(inside | unseen, LARGEST_GAP_MM / 2) & inside)
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    spaces: list[np.ndarray] = []
    for label in np.argsort(-sizes)[: min(count, CANDIDATES)] + 1:
        core = labels == label
        if spaces and (core.sum() * WORK_SPACING_MM**3 < SMALLEST_CORE_MM3 or _beside(core, spaces, box)):
            continue
        space = dilated(core, BESIDE_THE_CORE_MM) & inside
        space = _without_holes(eroded(dilated(space, LARGEST_GAP_MM / 2), LARGEST_GAP_MM / 2))
        large = space.sum() * WORK_SPACING_MM**3 > SMALLEST_INTRACRANIAL_MM3
        if large and _bone_around(space, hu[box]) > SMALLEST_SKULL:
            spaces.append(np.zeros(hu.shape, bool))
            spaces[-1][box] = space
    return spaces


def _without_holes(space: np.ndarray) -> np.ndarray:
    """The space with all that it encloses; it is changed in place."""
    box = box_of(space)
    space[box] = ndimage.binary_fill_holes(space[box])
    return space


def _beside(core: np.ndarray, spaces: list[np.ndarray], box: tuple[slice, ...]) -> bool:
    """Whether one of the spaces is so near that both lie in the same skull."""
    near = dilated(core, BETWEEN_SKULLS_MM)
    return any((space[box] & near).any() for space in spaces)


def _bone_around(space: np.ndarray, hu: np.ndarray) -> float:
    """Share of the surroundings of a space, as far as they are in view, that lie next to bone."""
    box = box_of(space, 4)
    rim = dilated(space[box], RIM_MM) & ~space[box] & (hu[box] > PADDING_HU)
    return float(dilated(hu[box] > SKULL_HU, NEXT_TO_BONE_MM)[rim].mean()) if rim.any() else 0.0


def _ray_hits(bone: np.ndarray, tissue: np.ndarray, unknown: np.ndarray, step: tuple[int, ...]) -> np.ndarray:
    """Whether the ray from each voxel along ``step`` meets bone, or leaves the known volume directly out of tissue.

    ``unknown`` is wider than the others by a voxel on each side. The planes across the ray are gone through from where
    it ends; what the rays through the one before have met is kept with room around it, so that a shift is a view.
    """
    ahead = tuple(slice(1 + along, 1 + along + size) for along, size in zip(step, bone.shape))
    leaving = tissue & unknown[ahead]
    axis = int(np.flatnonzero(step)[0])
    bone, leaving = (np.ascontiguousarray(np.moveaxis(part, axis, 0)) for part in (bone, leaving))
    met = np.zeros(np.add(bone.shape[1:], 2), bool)
    met_ahead = met[ahead[:axis] + ahead[axis + 1 :]]
    hits = np.empty_like(leaving)
    for here, wall, out in list(zip(leaving, bone, hits))[:: -step[axis]]:
        np.logical_or(here, met_ahead, out=out)
        np.logical_or(out, wall, out=met[1:-1, 1:-1])
    return np.moveaxis(hits, 0, axis)
