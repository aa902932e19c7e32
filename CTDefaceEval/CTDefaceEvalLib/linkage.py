"""Can a scan be linked to another CT of the same person by what no defacing takes away?

Two things stay in any defaced head. The outer surface behind the face, skull, scalp and ears, is laid on that of other
heads and measured in millimetres. The air of the frontal and sphenoid sinuses and the cells between them has a pattern
that is nobody else's; laid over another head by the same fit, it is correlated with the air there. Who has a second CT
of the person, with a name on it, can name the first by either. That is no fault of the defacing and no part of a
verdict, but whoever shares scans should know.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.face_map import Cylinder, head_cylinder
from CTDefaceLib.anatomy.grids import values_at
from CTDefaceLib.anatomy.hounsfield import BONE_HU, TISSUE_HU
from CTDefaceLib.anatomy.map_grid import ANGLES, HEIGHTS
from CTDefaceLib.errors import Cancelled, NoFaceError
from CTDefaceLib.progress import IsCancelled, never
from scipy import ndimage
from scipy.spatial import cKDTree

from .facial_shape import fitted, outermost_above, points_of
from .identification import Identification, Templates, identify

SURFACE, SINUSES = "outer surface", "sinuses"
"""By what scans are linked."""

BESIDE_THE_FACE_MM = 10.0
"""The surface counts from so many mm outside the outline of the face on, where no new skin reaches. Judgement."""
LOWEST_MM = -60.0
"""mm from the brow down to which it counts: the ears are above, the neck, which moves, below. By eye."""
HEADREST_MM = 3.0
"""mm outside the head's own skin from which it is looked for: further out lie headrest and pillow. By eye."""
LEAST_POINTS = 500
"""Of such a surface; with fewer so little of the head is in view that it fits many. A whole head has about 4 000."""
STEP_MM = 2.0
"""Grid of the air, mm; the walls between the sinuses' cells are about as far apart. Not varied."""
AIR_BOX_MM = ((-40.0, 40.0), (-25.0, 75.0), (-35.0, 45.0))
"""From right to left, back and up from the brow: forehead to sphenoid sinus, above most of the nose. By eye."""
ROOM_MM = 16.0
"""Kept around that box, since the heads of two people lie so differently in their own coordinates. By eye."""
BELOW_THE_SKIN_MM = 5.0
"""Air counts from so far below the skin on: nothing outside the skull, the frontal sinus whole. By eye."""
BLUR_MM = 2.0
"""The air is blurred by so much before it is compared, the error of a fit. Not varied."""
NUDGE_STEPS = 1
"""Steps by which the air may lie otherwise than the surface, along each axis: bases of skulls fit worse than crowns."""


@dataclass(frozen=True)
class HeadPrint:
    """What of a head is compared, in its own coordinates from the brow.

    Attributes
    ----------
    surface: np.ndarray
        Points of the skull and of the skin outside the face, (n, 3) mm to the left, back and top.
    air: np.ndarray
        Share of air on a grid of STEP_MM over AIR_BOX_MM with ROOM_MM around it, (left, back, top), 0 to 1.

    key: str
        Names the scan for who remembers comparisons.

    What every comparison needs is made once.
    """

    surface: np.ndarray
    air: np.ndarray
    key: str = ""

    @cached_property
    def tree(self) -> cKDTree:
        """The surface in a tree that finds the nearest point."""
        return cKDTree(self.surface)

    @cached_property
    def nudged(self) -> list[tuple[tuple[slice, ...], float]]:
        """The box of the air, moved by up to NUDGE_STEPS, and the root of the squares of how the air in it varies."""
        boxes = [(nudge, self.air[nudge]) for nudge in _nudges(_grid()[0])]
        return [(nudge, float(np.linalg.norm(air - air.mean()))) for nudge, air in boxes]


def head_print(image: sitk.Image) -> HeadPrint | None:
    """What of the head in a CT in Hounsfield units is compared; None where no head is, or too little of it."""
    try:
        cylinder = head_cylinder(image)
    except NoFaceError:
        return None
    surface = _surface(image, cylinder)
    return HeadPrint(surface, _air(image, cylinder)) if len(surface) >= LEAST_POINTS else None


Compare = Callable[[HeadPrint, HeadPrint], tuple[float, float]]
"""Gives how far two heads' surfaces lie apart, and how alike their air is: :func:`compared`."""


def compared(one: HeadPrint, other: HeadPrint) -> tuple[float, float]:
    """Median distance in mm of two outer surfaces, fitted, and the correlation of the air by that fit.

    The smaller surface is laid on the larger: not all of both heads may be in view, or outside their faces.
    """
    one, other = sorted((one, other), key=lambda head: len(head.surface))
    rotation, shift = fitted(one.surface, other.tree)
    away = float(np.median(other.tree.query(one.surface @ rotation.T + shift)[0]))
    _, corner, places = _grid()
    there = (places @ rotation.T + shift - corner) / STEP_MM
    air = ndimage.map_coordinates(other.air, np.moveaxis(there, -1, 0), order=1, mode="nearest")
    air -= air.mean()
    length = float(np.linalg.norm(air))
    if length == 0.0:
        return away, 0.0
    # What is compared with has no mean left, so that the mean of the other makes no difference.
    alike = [float(np.vdot(one.air[nudge], air)) / (own * length) if own else 0.0 for nudge, own in one.nudged]
    return away, max(alike)


def _nudges(inner: tuple[slice, ...]) -> Iterator[tuple[slice, ...]]:
    """A part of a grid moved by up to NUDGE_STEPS along each axis."""
    for moves in itertools.product(range(-NUDGE_STEPS, NUDGE_STEPS + 1), repeat=3):
        yield tuple(slice(side.start + move, side.stop + move) for side, move in zip(inner, moves))


def linked(
    threat: str,
    gallery: Sequence[tuple[int, int, HeadPrint | None]],
    probes: Sequence[tuple[int, int, HeadPrint | None]],
    cancelled: IsCancelled = never,
    compare: Compare = compared,
) -> list[Identification]:
    """How often a head is put to the right name by the surface, and by the sinuses, of another scan.

    Parameters
    ----------
    threat: str
        What the attacker has, one of :mod:`.identification`'s.
    gallery, probes: sequence of tuple
        Number of the patient, number of the scan, and what is compared of it. Nothing is compared with the same scan.
    cancelled: callable
        Asked before each head.
    compare: callable
        :func:`compared`, or what remembers it.

    Returns
    -------
    list of Identification
        With SURFACE and SINUSES as templates; empty where no patient has another scan in the gallery.

    Raises
    ------
    Cancelled
        When `cancelled()` is true.
    """
    scores = {SURFACE: np.zeros((len(probes), len(gallery))), SINUSES: np.zeros((len(probes), len(gallery)))}
    for row, (_, scan, one) in enumerate(probes):
        if cancelled():
            raise Cancelled("The evaluation was cancelled.")
        for column, (_, other_scan, other) in enumerate(gallery):
            if one is not None and other is not None and scan != other_scan:
                away, alike = compare(one, other)
                scores[SURFACE][row, column], scores[SINUSES][row, column] = -away, alike
    found = [
        identify(threat, by, _templates(gallery), _templates(probes), scores=score) for by, score in scores.items()
    ]
    return [one for one in found if one is not None]


def advice(found: Sequence[Identification]) -> str:
    """What to tell whoever shares the scans; nothing where the right patient does not come first above chance."""
    ways = [(one, one.rank1) for one in found if one.rank1 is not None and one.rank1.value > 1.0 / one.patients]
    if not ways:
        return ""
    by = " and ".join(
        f"its {one.templates} (rank-1 {rank1.value:.0%} of {one.patients} patients)" for one, rank1 in ways
    )
    sure = any(rank1.low > 1.0 / one.patients for one, rank1 in ways)
    return f"This scan {'can' if sure else 'may'} be linked to another CT of the same person, by {by}" + (
        "." if sure else "; these are too few patients to be sure."
    )


def _templates(heads: Sequence[tuple[int, int, HeadPrint | None]]) -> Templates:
    there = np.array([[head is not None] for _, _, head in heads], dtype=np.float32)
    patients, scans = (np.array([head[number] for head in heads], dtype=int) for number in (0, 1))
    return Templates(there.reshape(-1, 1), patients, scans)


def _surface(image: sitk.Image, cylinder: Cylinder) -> np.ndarray:
    where = (cylinder.outline < -BESIDE_THE_FACE_MM) & cylinder.skin_in_view & (HEIGHTS > LOWEST_MM)[:, None]
    maps = [outermost_above(image, cylinder, iso, where, HEADREST_MM) for iso in (TISSUE_HU, BONE_HU)]
    points = [points_of(one, cylinder.depth_mm, eye_height=0.0, finer=1) for one in maps]
    return np.concatenate(points).astype(np.float32)


def _air(image: sitk.Image, cylinder: Cylinder) -> np.ndarray:
    axes = [np.arange(low - ROOM_MM, high + ROOM_MM + 0.1, STEP_MM) for low, high in AIR_BOX_MM]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    air = np.clip(values_at(image, cylinder.head.to_lps(places)) / -1000.0, 0.0, 1.0)
    left, anterior = places[..., 0], cylinder.depth_mm - places[..., 1]
    at = [np.interp(places[..., 2], HEIGHTS, np.arange(len(HEIGHTS)))]
    at.append(np.interp(np.degrees(np.arctan2(left, anterior)), ANGLES, np.arange(len(ANGLES))))
    inside = np.hypot(left, anterior) < ndimage.map_coordinates(cylinder.skin, at, order=1) - BELOW_THE_SKIN_MM
    return ndimage.gaussian_filter(np.where(inside, air, 0.0), BLUR_MM / STEP_MM).astype(np.float32)


@cache
def _grid() -> tuple[tuple[slice, ...], np.ndarray, np.ndarray]:
    """The box without the room around it, as slices; the corner of all in mm; and the places of the box."""
    room = round(ROOM_MM / STEP_MM)
    corner = np.array([low - ROOM_MM for low, _ in AIR_BOX_MM])
    axes = [np.arange(low, high + 0.1, STEP_MM) for low, high in AIR_BOX_MM]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    return tuple(slice(room, room + len(axis)) for axis in axes), corner, places
