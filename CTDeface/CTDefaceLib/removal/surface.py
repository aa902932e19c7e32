"""The new skin: a donor's, drawn to the skin around the face, and nothing of the face itself.

Outside the outline of the face the skin stays the patient's own. Within it the difference of own and donor's skin is
continued from the outline by an elastic sheet, which starts with the slope that it has there and then forgets it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from ..anatomy.face_map import Cylinder, moved_cylinder, outermost
from ..anatomy.face_outline import ears, ramp
from ..anatomy.grids import to_work_grid, values_at
from ..anatomy.hounsfield import HALFWAY_HU, SKULL_HU
from ..anatomy.map_grid import ANGLE_STEP_DEG, HEIGHT_STEP_MM, HEIGHTS, RADII
from ..anatomy.work_grid import WORK_SPACING_MM, distance_to
from .donors import Donor, smooth_donor
from .keep import Kept

STIFF_MM = 40.0
"""How far within the outline the new skin keeps the slope that it has there.

By eye: with 12 a crease runs along the brow, with 30 a faint one; with 80 a chin comes to stand out.
"""

SCALP_MM = 3.0
"""How far the new skin passes outside what has to stay, in mm. By eye: as thick as a scalp."""

EDGE_MM = 14.0
"""How far within the outline, in mm, the full depth is reached, and half of it where the floor is. Chosen by eye."""

FAR_MM = 60.0
"""How far the floor falls away, in mm, towards the outline, where the own skin may lie below it. Any large number."""

STEEPEST = 1.5
"""Most mm that a ray goes for a mm of depth: below chins rays run along the skin, and no depth would reach it."""

SMOOTHING = 2.5
"""Standard deviation, in steps of the map, that smooths what of the own skin lies below the new one, and the floor."""

FEATURES = (11, 9)
"""Heights and angles, in steps of the map, over which hollows in what stays are filled: orbits and cheeks. By eye."""

NOSE_MM = 34.0
"""How far the region reaches out in front of the new skin, in mm: beyond most noses, so that it follows none."""

CAST_MM = 4.0
"""How far, in mm, it reaches beyond what lies on the face: the inside of a mask or a dressing is a cast of it."""

SKIN_SEARCH_MM = np.arange(6.0, -6.1, -0.5)
"""Where along a ray, in mm from the skin on the work grid, its place is looked for in the CT itself."""

NODE_MM = (HEIGHT_STEP_MM, 5.0)
"""Distance in mm of the nodes of a map over heights and over angles, about."""

LEVEL_MM = 60.0
"""How far within the outline, in mm, the difference of both heads is back at its level.

A slope between brow and forehead says nothing of a chin: without it, some noses lie 30 mm too deep. Chosen by eye.
"""

SLACK = 1e-6
"""Pull of the sheet to the usual level: for a part of it that is fixed nowhere."""

EDGE_STEEP = 1.0
"""From how many mm over a mm on, along a ray, skin is an edge (45°): of a chin or an ear, and two never match.

With 2, where a jaw ends beside a narrower one, the skin beside the chin was drawn in by up to 30 mm. By eye.
"""

RIM_MM = 30.0
"""How wide around the outline, in mm, the usual level is taken."""

DENT_MM = 0.05
"""How deep, in mm, the sheet may sink into the floor."""

BUMP_STIFF_MM, BUMP_LEVEL_MM = 4.0, 30.0
"""How far a bump over what is kept keeps its slope, in mm, and within how many mm the new skin is back at its place.

By eye, over a mandible: with 50 for the first the skin stands off by 30 mm, with 0 the bump has edges.
"""

BUMP_ROUNDS = 20
"""How often a bump comes off what is kept until it lies on it: ten are enough for a mandible."""

CROSSED = 0.1
"""Share (0 to 1) of a ray's sample that is kept, from which on the ray meets it: thin structures count. By eye."""


@dataclass(frozen=True)
class Surface:
    """What takes the place of a face, as maps over heights and angles; lengths in mm.

    Attributes
    ----------
    cylinder: Cylinder
        Where the head lies.
    face: numpy.ndarray
        The face mask on the work grid; bool, shape (z, y, x).
    outline: numpy.ndarray
        Map of the distance to the outline of the face, positive inside.
    skin: numpy.ndarray
        Map of the radius of the new skin; outside the outline the own one.
    inner: numpy.ndarray
        Map of the radius from which on everything is replaced.
    outer: float
        Radius up to which the air in front is.
    donor: Donor or None
        Whose skin it is; None for the smooth head's.
    kept: Kept or None
        What must stay besides the intracranial space.
    bare: Surface or None
        The new skin as it would be with nothing kept, where something is.
    """

    cylinder: Cylinder
    face: np.ndarray
    outline: np.ndarray
    skin: np.ndarray
    inner: np.ndarray
    outer: float
    donor: Donor | None = None
    kept: Kept | None = None
    bare: Surface | None = None

    @cached_property
    def reach(self) -> np.ndarray:
        """How far each voxel of the work grid lies within the region, negative outside; float32, shape (z, y, x)."""
        c = self.cylinder
        outline = c.spread(self.outline)
        here = np.flatnonzero(outline > -6.0)
        radius = c.radius[here]
        inside = np.minimum.reduce([radius - c.spread(self.inner, here), self.outer - radius, outline[here]])
        values = np.full(len(outline), -6.0, np.float32)
        values[here] = inside
        reach = c.on_work_grid(values)
        reach[self.face & ~c.near] = WORK_SPACING_MM / 2.0  # painted where the maps do not reach
        if self.kept:
            reach = np.minimum(reach, self.kept.room(c.head))
        return np.minimum(reach, c.head.guard)

    @cached_property
    def below(self) -> np.ndarray:
        """Depth of each voxel of the work grid below the new skin, negative above it; float32, shape (z, y, x)."""
        c = self.cylinder
        return c.on_work_grid((c.spread(self.skin) - c.radius) / c.spread(slope(self.skin)))

    def moved(self, rotation: np.ndarray, shift: np.ndarray) -> Surface:
        """The same on a head elsewhere in space, see :func:`CTDefaceLib.anatomy.face_map.moved_cylinder`."""
        kept = self.kept.moved(rotation, shift) if self.kept else None
        bare = self.bare and self.bare.moved(rotation, shift)
        return self._with(self.reach, cylinder=moved_cylinder(self.cylinder, rotation, shift), kept=kept, bare=bare)

    def wider(self, mm: float) -> Surface:
        """The same new skin over a region that is wider by some mm, for voxels that would reach across its edge.

        It is not nearer to what lies in gaps of the skull; the guard of the intracranial space has room for it.
        """
        head = self.cylinder.head
        reach = self.reach + np.float32(mm) * self.cylinder.near  # far from the maps it tells in or out alone
        if head.skull_gaps:
            reach = np.minimum(reach, distance_to(head.in_gaps, FAR_MM) - np.float32(WORK_SPACING_MM))
        return self._with(reach, bare=self.bare and self.bare.wider(mm))

    def sparing(self, kept: Kept) -> Surface:
        """The same new skin over a region without what must stay besides."""
        both = replace(kept, structures=(*self.kept.structures, *kept.structures)) if self.kept else kept
        return self._with(np.minimum(self.reach, kept.room(self.cylinder.head)), kept=both, bare=self.bare or self)

    def _with(self, reach: np.ndarray, **changes: Any) -> Surface:
        surface = replace(self, **changes)
        surface.__dict__.update(reach=reach, below=self.below)  # what is kept of both
        return surface


def face_surface(
    image: sitk.Image,
    mask: sitk.Image,
    cylinder: Cylinder,
    *,
    depth_mm: float,
    margin_mm: float = 0.0,
    with_ears: bool = False,
    keep_bone: bool = False,
    donor: Donor | None = None,
    kept: Kept | None = None,
) -> Surface:
    """Make the new skin of a head whose face a mask outlines.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units.
    mask: SimpleITK.Image
        Face mask on its grid, from any segmenter or painted: where rays from the head's axis meet it, the skin is new.
    cylinder: Cylinder
        Where the head lies, from :func:`CTDefaceLib.anatomy.face_map.head_cylinder`.
    depth_mm: float
        How deep below the new skin, and below the own one without its features, the head is replaced.
    margin_mm: float
        Moves the outline outwards.
    with_ears: bool
        Whether the ears are replaced as well.
    keep_bone: bool
        Whether facial bone stays: the new skin then passes outside it.
    donor: Donor, optional
        Whose skin it takes, from :func:`CTDefaceLib.removal.donors.face_donor`; the smooth head's when None.
    kept: Kept, optional
        What must stay: the new skin passes outside it.
    """
    head = cylinder.head
    face = to_work_grid(mask, head)
    covered = np.any(cylinder.sample(face) > 0.5, axis=-1)
    if with_ears and face.any():
        covered |= ears(cylinder.landmarks)
    own = own_skin(image, cylinder)
    covered = _beyond_the_volume(covered, cylinder)
    if donor is None:
        covered = _under_the_chin(covered, own)
    outline = outline_of(covered) + margin_mm
    inside = outline > 0
    other = smooth_donor(cylinder) if donor is None else donor.skin
    stays = head.guard < 0
    if keep_bone:
        stays |= head.solid & (sitk.GetArrayViewFromImage(head.volume) > SKULL_HU)
    over = _over(stays, cylinder)
    if donor is None:
        deepest = cylinder.landmarks.smooth_skin - depth_mm * cylinder.scale
        over = np.where(cylinder.skin > 0, np.maximum(over, deepest), over)
    floor = over - other - FAR_MM * (1.0 - ramp(outline, 0.5 * EDGE_MM))
    known = cylinder.skin_in_view & ~inside
    edges = known & (np.maximum(_steepness(own), _steepness(other)) > EDGE_STEEP)
    rim = known & (outline > -RIM_MM)
    level = float(np.median((own - other)[rim])) if rim.any() else None
    sheet = membrane(own - other, known & ~edges, inside | edges, floor, level=level, level_mm=LEVEL_MM)
    if kept:
        over = _over_kept(kept, cylinder) - FAR_MM * (1.0 - ramp(outline, 0.5 * EDGE_MM))
        sheet = sheet + _bump(over - other - sheet, known, inside)
    skin = np.where(inside, other + sheet, own)
    under = skin - ndimage.gaussian_filter(ndimage.maximum_filter(np.maximum(skin - own, 0.0), 3), SMOOTHING)
    inner = under - depth_mm * cylinder.scale * ramp(outline, EDGE_MM) * slope(under)
    inner = np.where(inside, ndimage.gaussian_filter(inner, 1.0), own)
    clear = np.maximum(skin + NOSE_MM, outermost(cylinder.sample(head.solid) > 0.5) + CAST_MM)
    return Surface(cylinder, face, outline, skin, inner, float(clear[inside].max(initial=0.0)), donor, kept)


def own_skin(image: sitk.Image, cylinder: Cylinder) -> np.ndarray:
    """Map of the radius in mm of the skin, finer than that of the work grid, continued where a ray meets no skin."""
    coarse = cylinder.landmarks.continued_skin
    hu = values_at(image, cylinder.points(coarse[..., None] + SKIN_SEARCH_MM))
    first = np.argmax(hu > HALFWAY_HU, axis=-1)[..., None]
    at, before = (np.take_along_axis(hu, np.maximum(first - k, 0), -1)[..., 0] for k in (0, 1))
    step = SKIN_SEARCH_MM[0] - SKIN_SEARCH_MM[1]
    radius = coarse + SKIN_SEARCH_MM[first[..., 0]] + step * (at - HALFWAY_HU) / np.maximum(at - before, 1.0)
    return ndimage.gaussian_filter(np.where(first[..., 0] > 0, radius, coarse), 0.5)


def outline_of(covered: np.ndarray) -> np.ndarray:
    """Map of the distance in mm to the smoothed outline of some rays (bool map), positive inside."""
    closed = ndimage.binary_closing(np.pad(covered, 4), iterations=3)[4:-4, 4:-4]
    smooth = ndimage.gaussian_filter(closed.astype(float), 2.0) > 0.5
    if not smooth.any():
        return np.full(covered.shape, -100.0)
    inside, outside = (ndimage.distance_transform_edt(part, sampling=NODE_MM) for part in (smooth, ~smooth))
    return ndimage.gaussian_filter(inside - outside, 1.0)


def membrane(
    values: np.ndarray,
    known: np.ndarray,
    unknown: np.ndarray,
    floor: np.ndarray,
    stiff_mm: float = STIFF_MM,
    level: float | None = None,
    level_mm: float = np.inf,
    rounds: int = 0,
) -> np.ndarray:
    """Continue a map from where it is known to where it is not, as an elastic sheet that lies on a floor.

    Parameters
    ----------
    values: numpy.ndarray
        Map in mm.
    known, unknown: numpy.ndarray
        Maps, bool. The sheet is free where it meets what is neither, and level where nothing is known.
    floor: numpy.ndarray
        Map in mm that the sheet does not go below.
    stiff_mm: float
        How far it keeps the slope that it has where it is known.
    level: float, optional
        Where in mm it comes back to within ``level_mm``; the median of what is known when None.
    level_mm: float
        Within how many mm.
    rounds: int
        How often it comes off the floor again where that would hold it down, as beside a bump.
    """
    energy = _energy(known | unknown, stiff_mm)
    if level is None:
        level = float(np.median(values[known] if known.any() else values))
    pull = SLACK + NODE_MM[0] * NODE_MM[1] / level_mm**2
    sheet = np.where(known, values, level)
    free = unknown.copy()
    while free.any():
        rows = energy[free.ravel()]
        block = rows[:, free.ravel()] + pull * sparse.identity(int(free.sum()))
        sheet[free] = spsolve(block.tocsc(), pull * level - rows @ np.where(free, 0.0, sheet).ravel())
        under = free & (sheet < floor - DENT_MM)
        upwards = (energy @ sheet.ravel()).reshape(sheet.shape) + pull * (sheet - level)
        held_down = unknown & ~free & (upwards < 0.0) & (rounds > 0)
        if not (under | held_down).any():
            break
        sheet[under] = floor[under]
        free = free & ~under | held_down
        rounds -= 1
    return sheet


def _energy(domain: np.ndarray, stiff_mm: float) -> sparse.csr_matrix:
    """The matrix of slope² + (stiff_mm · curvature)² over the nodes of a domain (bool map), without what leaves it."""
    number = np.arange(domain.size).reshape(domain.shape)
    steps = []
    for axis, weight in enumerate((NODE_MM[1] / NODE_MM[0], NODE_MM[0] / NODE_MM[1])):
        here, there = (np.take(number, range(k, number.shape[axis] - 1 + k), axis).ravel() for k in (0, 1))
        both = np.flatnonzero(domain.ravel()[here] & domain.ravel()[there])
        unit = sparse.identity(domain.size, format="csr") * np.sqrt(weight)
        steps.append(unit[there[both]] - unit[here[both]])
    differences = sparse.vstack(steps)
    tension = (differences.T @ differences).tocsr()
    return (tension + (stiff_mm**2 / (NODE_MM[0] * NODE_MM[1])) * tension @ tension).tocsr()


def slope(radius: np.ndarray) -> np.ndarray:
    """Map of how many mm a ray goes for a mm of depth below a surface given as a radius map, at most STEEPEST."""
    return np.minimum(ndimage.gaussian_filter(np.sqrt(1.0 + _steepness(radius) ** 2), 1.0), STEEPEST)


def _steepness(radius: np.ndarray) -> np.ndarray:
    """Map of how many mm the radius changes over a mm of the surface's heights and angles."""
    up = np.gradient(radius, HEIGHT_STEP_MM, axis=0)
    around = np.gradient(radius, np.radians(ANGLE_STEP_DEG), axis=1) / np.maximum(radius, RADII[0])
    return np.hypot(up, around)


def _over(stays: np.ndarray, cylinder: Cylinder) -> np.ndarray:
    """Map of the radius in mm that a skin has to have to cover what stays (bool, work grid)."""
    reach = ndimage.grey_closing(outermost(cylinder.sample(stays) > 0.3), FEATURES)
    return ndimage.gaussian_filter(ndimage.maximum_filter(reach, 3), SMOOTHING) + SCALP_MM


def _over_kept(kept: Kept, cylinder: Cylinder) -> np.ndarray:
    """The same for what is kept, which may be small; far below all where a ray meets nothing of it."""
    here = kept.room(cylinder.head) < WORK_SPACING_MM / 2.0
    reach = ndimage.maximum_filter(outermost(cylinder.sample(here) > CROSSED), 3)
    share = ndimage.gaussian_filter((reach > 0).astype(float), 1.0)
    smooth = np.maximum(ndimage.gaussian_filter(reach, 1.0) / np.maximum(share, SLACK), reach)
    return np.where(reach > 0, smooth + SCALP_MM, -FAR_MM)


def _bump(floor: np.ndarray, known: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """Map of how far in mm a skin has to rise to lie on a floor (map in mm above it), and to come down around it."""
    if not (unknown & (floor > 0)).any():
        return np.zeros(floor.shape)
    flat = np.zeros(floor.shape)
    return membrane(flat, known, unknown, floor, BUMP_STIFF_MM, 0.0, BUMP_LEVEL_MM, BUMP_ROUNDS)


def _beyond_the_volume(covered: np.ndarray, cylinder: Cylinder) -> np.ndarray:
    """The rays that meet the face, and those that would if the volume did not end below it."""
    nothing = (cylinder.skin == 0) & (HEIGHTS < 0.0)[:, None] & covered.any(axis=0)
    return ndimage.binary_propagation(covered, mask=covered | ndimage.binary_dilation(nothing, iterations=2))


def _under_the_chin(covered: np.ndarray, own: np.ndarray) -> np.ndarray:
    """The rays that meet the face, and those that meet an overhang that it ends in, down to the neck.

    From the edge of a chin a smooth skin would go on as steeply as that edge, as a snout. A face has a chin of its own.
    """
    overhang = (np.gradient(own, HEIGHT_STEP_MM, axis=0) > EDGE_STEEP) & (HEIGHTS < 0.0)[:, None]
    return ndimage.binary_propagation(covered, mask=covered | overhang)
