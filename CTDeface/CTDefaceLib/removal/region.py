"""From the face mask to the region that is removed: margin, intracranial guard, seal.

A region that ends at the skin would keep the face in the file, as its own outline. The sealed region therefore reaches
through the air in front of the face to a cylinder around the head. Its inner boundary follows the head's general shape
at a random depth: no nose, lip or brow leaves a dent in it, the cavities behind the face, which would look out of it
like eyes and a mouth, are cut open, thin walls between them go, and oblique furrows, unlike anything in a face, run
across it.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..anatomy.face_map import Cylinder, innermost, outermost
from ..anatomy.face_outline import BELOW_CHIN_MM, ramp
from ..anatomy.grids import bounding_box, box_around, mask_of, on_image_grid, to_work_grid, union, voxels
from ..anatomy.head import Head
from ..anatomy.hounsfield import AIR_HU, BONE_HU, PADDING_HU, TISSUE_HU
from ..anatomy.map_grid import ANGLES, HEIGHTS, RADII
from ..anatomy.skull import GUARD_MM
from ..anatomy.work_grid import WORK_SPACING_MM, dilated, distance_to, eroded

DEPTH_STEPS = 1.24 * 0.5 ** np.arange(1, 7)
"""Steps of the search for the depth, in parts of the depths that are given in mm."""
FURROW_MM = 60.0
FURROW_THROUGH = (-33.0, 36.0)
"""Height in mm and angle in degrees, on the head's left cheek, of a point in the middle of a furrow.

A ridge there, beside the opened nose and throat, passes for the side of a face with dlib's CNN detector.
"""
CAVITY_MM = 20.0
SLANT_MM = 25.0
WAVE_MM = 12.0
LARGEST_SHARE = 0.18


def removal_region(
    image: sitk.Image,
    mask: sitk.Image,
    cylinder: Cylinder,
    *,
    margin_mm: float = 0.0,
    keep_bone: bool = False,
    sealed: bool = True,
    seed: int | None = None,
) -> sitk.Image:
    """Make the region to remove from a face mask.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units.
    mask: SimpleITK.Image
        Face mask on the grid of ``image``, from any segmenter or painted. All of it is removed, the intracranial space
        and a guard of 6 mm around it excepted.
    cylinder: Cylinder
        Where the head lies, from :func:`CTDefaceLib.anatomy.face_map.head_cylinder`.
    margin_mm: float
        Grows the mask, and with it the region.
    keep_bone: bool
        Leave bone (above 250 HU) in place. The facial skeleton then stays, from which a face can be estimated.
    sealed: bool
        Reach through the air in front of the face and below the mask, see above. Without it the region is the grown
        mask, and whoever finds the filled voxels has the face back.
    seed: int, optional
        Seed of the random depth; drawn anew when None.

    Returns
    -------
    SimpleITK.Image
        Region, uint8, 1 where the volume is to be filled, on the grid of ``image``. Values that mark what lies outside
        the scanner's field of view are not in it.
    """
    head = cylinder.head
    face = to_work_grid(mask, head)
    inside = margin_mm - distance_to(face)
    if sealed and face.any():
        inside = np.maximum(inside, _sealed(cylinder, face, margin_mm, np.random.default_rng(seed)))
    inside[head.guard < -2.0 * WORK_SPACING_MM] = -1.0
    box = union(box_around(inside, head, image), bounding_box(mask))
    if box is None:
        return mask_of(None, None, image)
    part = image[box]
    region = on_image_grid(inside, head, part) & ~_padding(head, part)
    region |= voxels(mask, box) > 0
    region &= ~on_image_grid(-head.guard, head, part)
    if keep_bone:
        below_skin = cylinder.spread(cylinder.skin) - 3.0 - cylinder.radius
        region &= ~on_image_grid(cylinder.on_work_grid(below_skin), head, part, only_above=BONE_HU)
    return mask_of(region, box, image)


def mask_as_region(mask: sitk.Image, cylinder: Cylinder) -> sitk.Image:
    """The mask itself (uint8, its grid), without what of it lies in the intracranial space."""
    box = bounding_box(mask)
    if box is None:
        return mask_of(None, None, mask)
    intracranial = on_image_grid(cylinder.head.intracranial - 0.5, cylinder.head, mask[box])
    return mask_of((voxels(mask, box) > 0) & ~intracranial, box, mask)


def _padding(head: Head, part: sitk.Image) -> np.ndarray:
    """Voxels of ``part`` that mark what lies outside the scanner's field of view; bool.

    Some scanners mark it with the value of the thinnest air. Where no convex outline tells it from air, it counts as a
    mark as long as it keeps 15 mm away from the head; nearer it may be air that somebody has set to one value, and
    its edge the skin.
    """
    hu = sitk.GetArrayViewFromImage(part)
    if head.padding is not None:
        near_unseen = on_image_grid(dilated(head.unseen, 6.0) - 0.5, head, part)
        return (hu <= PADDING_HU) | ((hu == head.padding) & near_unseen)
    work = sitk.GetArrayViewFromImage(head.volume)
    lowest = float(work[~head.unseen].min())
    flat = ndimage.binary_erosion(~head.unseen & (work <= lowest))
    apart = flat.any() and not (flat & (distance_to(head.solid) < 15.0)).any()
    return hu <= (lowest if apart else PADDING_HU)


def _sealed(cylinder: Cylinder, face: np.ndarray, margin_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Function on the work grid, positive in the sealed region of a face (bool, work grid)."""
    along = cylinder.sample(face) > 0.5
    outline = _outline(_slanted(_beyond_the_volume(along.any(axis=-1), cylinder), cylinder)) + margin_mm
    outline += _waves_at_the_temples(rng)
    inner = _inner_radius(cylinder, face, along, outline, rng) - margin_mm
    outer = _outer_radius(cylinder, outline) + margin_mm + rng.uniform(0.0, 12.0)
    between = np.minimum(cylinder.radius - cylinder.spread(inner), outer - cylinder.radius)
    region = cylinder.on_work_grid(np.minimum(between, cylinder.spread(outline)))
    left = region <= 0
    thin = _below_the_chin(cylinder, outline, outer) | _behind_the_middle(cylinder, outline, inner, outer)
    region[thin & left & ~_thick(cylinder, left)] = 1.0
    return region


def _below_the_chin(cylinder: Cylinder, outline: np.ndarray, outer: float) -> np.ndarray:
    """The lower edge of the face, where the skin turns to the neck and rays run along it; bool, work grid."""
    edge = (np.abs(outline) < 20.0) & (HEIGHTS < cylinder.landmarks.chin_height + 25.0)[:, None] & (outline > -10.0)
    return _within(cylinder, edge, cylinder.landmarks.smooth_skin - 30.0, outer)


def _behind_the_middle(cylinder: Cylinder, outline: np.ndarray, inner: np.ndarray, outer: float) -> np.ndarray:
    """The walls of nose and ethmoid cells near the inner boundary; bool, work grid.

    Seen from outside, a comb of thin bone between dark cells passes for eyes and a nose with dlib's CNN detector.
    """
    middle = (HEIGHTS < 6.0)[:, None] & (np.abs(ANGLES) < 32.0) & (outline > 0.0)
    return _within(cylinder, middle, inner - 18.0, outer)


def _within(cylinder: Cylinder, rays: np.ndarray, inner: np.ndarray, outer: float) -> np.ndarray:
    """Voxels on some rays (bool map) from one radius map in mm to a radius in mm; bool, work grid."""
    between = (cylinder.radius > cylinder.spread(inner)) & (cylinder.radius < outer)
    return cylinder.on_work_grid(np.where(between, cylinder.spread(rays.astype(np.float32)) - 0.5, -1.0)) > 0


def _thick(cylinder: Cylinder, left: np.ndarray) -> np.ndarray:
    """What belongs to tissue of more than 9 mm among that which is left (bool, work grid)."""
    tissue = left & (sitk.GetArrayViewFromImage(cylinder.head.volume) > AIR_HU)
    return dilated(eroded(tissue, 4.5), 6.5)


def _outer_radius(cylinder: Cylinder, outline: np.ndarray) -> float:
    """Radius in mm that clears the face; it follows the head's general shape, not the nose, unless that is longer.

    A dressing or a mask on the face is cleared as well: its inside is a cast of the face.
    """
    if not (outline > 0).any():
        return float(RADII[0])
    surface = outermost(cylinder.sample(cylinder.head.solid) > 0.5)
    return float(max(cylinder.landmarks.smooth_skin[outline > 0].max() + 34.0, surface[outline > 0].max() + 4.0))


def _beyond_the_volume(covered: np.ndarray, cylinder: Cylinder) -> np.ndarray:
    """The rays that meet the face, and those that would if the volume did not end below it."""
    nothing = (cylinder.skin == 0) & (HEIGHTS < 0.0)[:, None] & covered.any(axis=0)
    return ndimage.binary_propagation(covered, mask=covered | ndimage.binary_dilation(nothing, iterations=2))


def _slanted(covered: np.ndarray, cylinder: Cylinder) -> np.ndarray:
    """The rays that meet the face, and those below its jaw on the head's left.

    A lower edge that is the same on both sides leaves the line of a jaw: with it dlib's HOG detector found about twice
    as many faces.
    """
    chin, scale = cylinder.landmarks.chin_height, cylinder.scale
    low = (HEIGHTS < chin + 40.0 * scale)[:, None]
    left = (ANGLES > 0.0) & (covered & low).any(axis=0)
    edge = chin - scale * (BELOW_CHIN_MM + SLANT_MM * np.sin(np.radians(ANGLES)))
    return covered | (low & left & (HEIGHTS[:, None] > edge))


def _waves_at_the_temples(rng: np.random.Generator) -> np.ndarray:
    """Map in mm of how much further up than the mask the region reaches at the temples.

    A smooth corner there, of upper and side edge, passes for a face with dlib's HOG detector; waves above the forehead
    pass for a hairline.
    """
    above_the_eyes = np.interp(HEIGHTS, [0.0, 20.0], [0.0, 1.0])[:, None]
    return WAVE_MM * _furrows(rng) * above_the_eyes * np.interp(np.abs(ANGLES), [20.0, 40.0], [0.0, 1.0])


def _outline(covered: np.ndarray) -> np.ndarray:
    """Map of the distance in mm to the smoothed outline of the rays that meet the face, positive inside."""
    closed = ndimage.binary_closing(np.pad(covered, 4), iterations=3)[4:-4, 4:-4]
    smooth = ndimage.gaussian_filter(closed.astype(float), 1.5) > 0.5
    distance = ndimage.distance_transform_edt(smooth) - ndimage.distance_transform_edt(~smooth)
    return ndimage.gaussian_filter(distance, 1.0) * 3.0


def _inner_radius(
    cylinder: Cylinder, face: np.ndarray, along: np.ndarray, outline: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Map of the radius in mm from which on everything is removed.

    It lies as deep as it can, found by halving, for at most a fifth of the head to go. LARGEST_SHARE is a little less,
    since the work grid counts less than the CT's own grid does, and thin remains go as well.
    """
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
    """Map from 0 to 1 of winding oblique furrows with steep sides, 30 to 36 mm apart, with random course and bends.

    One runs through a height in mm and an angle in degrees, or else where chance has it. All fall to the head's left:
    with furrows the other way dlib's HOG detector, whose filters are not symmetric, found about twice as many faces; so
    it did with furrows 22 to 28 mm apart.
    """
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
