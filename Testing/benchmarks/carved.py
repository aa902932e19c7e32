"""How version 0.1 defaced: the face is carved out, to compare with.

The region reaches from the head's general shape, at a depth for which at most a fifth of the head goes, through the air
in front of the face. Cavities behind it are cut open, thin remains go, and oblique furrows run across what is left,
fitted to two detectors of faces: that is why it is only here. Kept are its choices and their numbers; nothing of the
library calls it. On the same head it takes the voxels that version 0.1 took, but for the course of the furrows,
which chance gives them, and as far as landmarks and space in the skull are found the same today.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.face_map import Cylinder, head_cylinder, innermost, outermost
from CTDefaceLib.anatomy.face_outline import ramp
from CTDefaceLib.anatomy.grids import mask_of, on_image_grid, to_work_grid, whole
from CTDefaceLib.anatomy.head import GUARD_MM
from CTDefaceLib.anatomy.hounsfield import AIR_HU, PADDING_HU, TISSUE_HU
from CTDefaceLib.anatomy.map_grid import ANGLES, HEIGHTS, RADII
from CTDefaceLib.anatomy.work_grid import WORK_SPACING_MM, dilated, eroded
from CTDefaceLib.removal.fill import fill_region
from scipy import ndimage

DEPTH_STEPS = 1.24 * 0.5 ** np.arange(1, 7)
"""Steps of the search for the depth, in parts of the depths that are given in mm."""
FURROW_MM, CAVITY_MM, SLANT_MM, WAVE_MM = 60.0, 20.0, 25.0, 12.0
FURROW_THROUGH = (-33.0, 36.0)
"""Height in mm and angle in degrees of a point in the middle of a furrow."""
LARGEST_SHARE = 0.18
"""Of the head's tissue."""
WIDEST_DEG = 99.0
"""To the sides, where the maps of version 0.1 ended."""
BELOW_CHIN_MM, ABOVE_EYES_MM = 28.0, 36.0


def carved(image: sitk.Image, seed: int | None = None) -> sitk.Image:
    """The face of a CT in Hounsfield units carved out, air in its place; what is random follows from the seed."""
    cylinder = head_cylinder(image)
    mask = face_mask(image, cylinder)
    inside = _sealed(cylinder, to_work_grid(mask, cylinder.head), np.random.default_rng(seed))
    inside[cylinder.head.guard < -2.0 * WORK_SPACING_MM] = -1.0
    region = on_image_grid(inside, cylinder.head, image) & (sitk.GetArrayViewFromImage(image) > PADDING_HU)
    region |= sitk.GetArrayViewFromImage(mask) > 0
    region &= ~on_image_grid(-cylinder.head.guard, cylinder.head, image)
    return fill_region(image, mask_of(region, whole(image), image), fill="air", seed=seed)


def face_mask(image: sitk.Image, cylinder: Cylinder) -> sitk.Image:
    """The face as version 0.1 found it: its edge rises to the temples, and reaches further back on one side."""
    outline = _face_outline(cylinder)
    skin = cylinder.landmarks.smooth_skin - 5.0 * cylinder.scale * ramp(outline, 20.0)
    outer = ndimage.maximum_filter(cylinder.skin, 3) + 4.0
    shell = np.minimum(cylinder.radius - cylinder.spread(skin), cylinder.spread(outer) - cylinder.radius)
    face = cylinder.on_work_grid(np.minimum(shell, cylinder.spread(outline)))
    here = on_image_grid(np.minimum(face, cylinder.head.guard), cylinder.head, image, only_above=AIR_HU)
    return mask_of(here, whole(image), image)


def _face_outline(cylinder: Cylinder) -> np.ndarray:
    """Map of the distance in mm to the outline of the face, positive inside."""
    height, angle = np.meshgrid(HEIGHTS, np.abs(ANGLES), indexing="ij")
    scale, landmarks = cylinder.scale, cylinder.landmarks
    top = landmarks.eye_height + scale * (ABOVE_EYES_MM + np.interp(angle, [10.0, 60.0], [0.0, 70.0]))
    top = np.minimum(top, 0.85 * cylinder.depth_mm)
    bottom = landmarks.chin_height - scale * (BELOW_CHIN_MM - 0.6 * angle)
    side = np.interp(height / scale, [-100.0, -60.0, -30.0, 50.0], [68.0, 76.0, 90.0, 96.0])
    side = np.minimum(side + 8.0 * np.sign(ANGLES) * (height > -30.0 * scale), WIDEST_DEG)
    return np.minimum.reduce([top - height, height - bottom, np.radians(side - angle) * cylinder.depth_mm])


def _sealed(cylinder: Cylinder, face: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Function on the work grid, positive in the region of a face (bool, work grid)."""
    along = cylinder.sample(face) > 0.5
    outline = _outline(_slanted(_beyond_the_volume(along.any(axis=-1), cylinder), cylinder))
    above_the_eyes = np.interp(HEIGHTS, [0.0, 20.0], [0.0, 1.0])[:, None]
    outline += WAVE_MM * _furrows(rng) * above_the_eyes * np.interp(np.abs(ANGLES), [20.0, 40.0], [0.0, 1.0])
    inner = _inner_radius(cylinder, face, along, outline, rng)
    outer = _outer_radius(cylinder, outline) + rng.uniform(0.0, 12.0)
    between = np.minimum(cylinder.radius - cylinder.spread(inner), outer - cylinder.radius)
    region = cylinder.on_work_grid(np.minimum(between, cylinder.spread(outline)))
    left = region <= 0
    region[_thin_places(cylinder, outline, inner, outer) & left & ~_thick(cylinder, left)] = 1.0
    return region


def _thin_places(cylinder: Cylinder, outline: np.ndarray, inner: np.ndarray, outer: float) -> np.ndarray:
    """Where thin remains go: the lower edge of the face, and the walls of nose and ethmoid cells; bool, work grid."""
    chin = cylinder.landmarks.chin_height
    edge = (np.abs(outline) < 20.0) & (HEIGHTS < chin + 25.0)[:, None] & (outline > -10.0)
    middle = (HEIGHTS < 6.0)[:, None] & (np.abs(ANGLES) < 32.0) & (outline > 0.0)
    below = _within(cylinder, edge, cylinder.landmarks.smooth_skin - 30.0, outer)
    return below | _within(cylinder, middle, inner - 18.0, outer)


def _within(cylinder: Cylinder, rays: np.ndarray, inner: np.ndarray, outer: float) -> np.ndarray:
    """Voxels on some rays (bool map) from one radius map in mm to a radius in mm; bool, work grid."""
    between = (cylinder.radius > cylinder.spread(inner)) & (cylinder.radius < outer)
    return cylinder.on_work_grid(np.where(between, cylinder.spread(rays.astype(np.float32)) - 0.5, -1.0)) > 0


def _thick(cylinder: Cylinder, left: np.ndarray) -> np.ndarray:
    """What belongs to tissue of more than 9 mm among that which is left (bool, work grid)."""
    tissue = left & (sitk.GetArrayViewFromImage(cylinder.head.volume) > AIR_HU)
    return dilated(eroded(tissue, 4.5), 6.5)


def _outer_radius(cylinder: Cylinder, outline: np.ndarray) -> float:
    """Radius in mm that clears the face."""
    if not (outline > 0).any():
        return float(RADII[0])
    surface = outermost(cylinder.sample(cylinder.head.solid) > 0.5)
    return float(max(cylinder.landmarks.smooth_skin[outline > 0].max() + 34.0, surface[outline > 0].max() + 4.0))


def _beyond_the_volume(covered: np.ndarray, cylinder: Cylinder) -> np.ndarray:
    """The rays that meet the face, and those that would if the volume did not end below it."""
    nothing = (cylinder.skin == 0) & (HEIGHTS < 0.0)[:, None] & covered.any(axis=0)
    return ndimage.binary_propagation(covered, mask=covered | ndimage.binary_dilation(nothing, iterations=2))


def _slanted(covered: np.ndarray, cylinder: Cylinder) -> np.ndarray:
    """The rays that meet the face, and those below its jaw on the head's left."""
    chin, scale = cylinder.landmarks.chin_height, cylinder.scale
    low = (HEIGHTS < chin + 40.0 * scale)[:, None]
    left = (ANGLES > 0.0) & (covered & low).any(axis=0)
    edge = chin - scale * (BELOW_CHIN_MM + SLANT_MM * np.sin(np.radians(ANGLES)))
    return covered | (low & left & (HEIGHTS[:, None] > edge))


def _outline(covered: np.ndarray) -> np.ndarray:
    """Map of the distance in mm to the smoothed outline of the rays that meet the face, positive inside."""
    closed = ndimage.binary_closing(np.pad(covered, 4), iterations=3)[4:-4, 4:-4]
    smooth = ndimage.gaussian_filter(closed.astype(float), 1.5) > 0.5
    distance = ndimage.distance_transform_edt(smooth) - ndimage.distance_transform_edt(~smooth)
    return ndimage.gaussian_filter(distance, 1.0) * 3.0


def _inner_radius(
    cylinder: Cylinder, face: np.ndarray, along: np.ndarray, outline: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Map of the radius in mm from which on everything goes: as deep as LARGEST_SHARE allows, found by halving."""
    hu = sitk.GetArrayViewFromImage(cylinder.head.volume)
    tissue = hu > TISSUE_HU
    under_mask = innermost(along & (cylinder.sample(tissue) > 0.5))
    air = cylinder.sample(cylinder.head.solid & (hu < AIR_HU)) > 0.4
    intracranial = ndimage.maximum_filter(outermost(cylinder.sample(cylinder.head.intracranial) > 0.5), 3)
    furrows = _furrows(rng, through=FURROW_THROUGH)
    taper = ramp(outline, 20.0)
    skin, full_depth = cylinder.landmarks.smooth_skin, _depth(cylinder)
    guarded = np.where(intracranial > 0, intracranial + GUARD_MM + 1.0, 0.0)
    edge = ndimage.gaussian_filter(cylinder.landmarks.continued_skin, 1.0) + 3.0
    here = tissue[cylinder.near] & (cylinder.spread(outline) > 0)
    radius, masked = cylinder.radius[here], face[cylinder.near][here]
    budget = LARGEST_SHARE * cylinder.tissue_mm3 / WORK_SPACING_MM**3

    def at(depth: float) -> np.ndarray:
        inner = np.minimum(skin - depth * full_depth, under_mask)
        inner = _behind_cavities(inner, air, depth * CAVITY_MM)
        inner = (inner - depth * FURROW_MM * furrows) * taper + edge * (1.0 - taper)
        return ndimage.gaussian_filter(np.maximum(inner, guarded), 1.1)

    depth, deepest = 0.0, at(0.0)
    for step in DEPTH_STEPS:
        inner = at(depth + step)
        if np.count_nonzero(masked | (radius > cylinder.spread(inner, here))) <= budget:
            depth, deepest = depth + step, inner
    return deepest


def _depth(cylinder: Cylinder) -> np.ndarray:
    """Map of the depth in mm under the smooth skin: little over the brow and at the sides, more over nose and jaw."""
    height, angle = np.meshgrid(HEIGHTS / cylinder.scale, np.abs(ANGLES), indexing="ij")
    chin = cylinder.landmarks.chin_height / cylinder.scale
    depth = np.interp(height, [chin - 10.0, chin + 10.0, -45.0, -20.0, 0.0, 36.0], [10.0, 12.0, 12.0, 9.0, 6.0, 3.0])
    return cylinder.scale * depth * np.interp(angle, [15.0, 50.0, 80.0], [1.0, 0.45, 0.3])


def _behind_cavities(inner: np.ndarray, air: np.ndarray, reach_mm: float) -> np.ndarray:
    """``inner`` taken back behind the air that lies at most ``reach_mm`` below it, between orbits and mouth."""
    near = (RADII > inner[..., None] - reach_mm) & (RADII < inner[..., None] + 15.0)
    middle = (HEIGHTS < -10.0)[:, None] & (np.abs(ANGLES) < 50.0)
    behind = np.minimum(inner, innermost(air & near & middle[..., None]) - 3.0)
    return ndimage.gaussian_filter(ndimage.minimum_filter(behind, (5, 3)), 2.0)


def _furrows(rng: np.random.Generator, through: tuple[float, float] | None = None) -> np.ndarray:
    """Map from 0 to 1 of winding oblique furrows with steep sides, 30 to 36 mm apart, with random course and bends."""
    height, along = np.meshgrid(HEIGHTS, np.radians(ANGLES) * 85.0, indexing="ij")
    course = np.radians(rng.uniform(34.0, 46.0))
    bend = ndimage.gaussian_filter(rng.standard_normal(height.shape), 10.0)
    phase = rng.uniform(0.0, 2.0 * np.pi) + 0.9 * bend / bend.std()
    across = along * np.cos(course) + height * np.sin(course)
    phase += 2.0 * np.pi * across / rng.uniform(30.0, 36.0)
    if through is not None:
        here = np.abs(HEIGHTS - through[0]).argmin(), np.abs(ANGLES - through[1]).argmin()
        phase += np.pi / 2.0 - phase[here]
    return 0.5 + 0.5 * np.clip(6.0 * np.sin(phase), -1.0, 1.0)
