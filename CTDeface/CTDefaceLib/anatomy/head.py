"""Find the head in a CT: its tissue, its skull, the intracranial space and the axes that it is turned by.

Everything is done on a work grid of 3 mm aligned with the patient (LPS), on which a head has under a million voxels.
Arrays have axis order (z, y, x): inferior to superior, anterior to posterior, right to left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, optimize, spatial

from ..errors import NoFaceError

WORK_SPACING_MM = 3.0
AIR_HU = -400.0
TISSUE_HU = -300.0
"""Below this, and above air, lie hair, dressings and foam."""
CAVITY_HU = -150.0
BONE_HU = 220.0
PADDING_HU = -1500.0
"""Below this a value is no measurement: it marks what lies outside the scanner's field of view."""

OUTSIDE_HU = -30000.0
"""Stands for what lies outside the field of view or the volume: no average of it with tissue looks like air."""

GUARD_MM = 6.0
"""What stays around the intracranial space in any case."""
ENCLOSED_DIRECTIONS = 21
BASE_FALL = np.radians(40.0)
LENGTH_FALL = np.radians(6.0)
LARGEST_TURN = np.radians(30.0)
HIDDEN_HU = 200.0
"""What a point whose mirrored one is out of view counts as an asymmetry, and half of that for a head turned by 30°."""
SMALLEST_INTRACRANIAL_MM3 = 100_000.0
SMALLEST_SKULL = 0.75
"""Share of the intracranial space's surroundings with bone next to them; the synthetic craniectomy leaves 0.95."""
FACE_REACH_MM = np.array([170.0, 150.0, 90.0])
SKULL_REACH_MM = np.array([45.0, 50.0, 90.0])
"""How far the head can reach beyond the intracranial space: down, forward, to the right; and up, back, to the left."""

DEEP_CUT = 0.3
"""Share of what surrounds the intracranial space out of view; up to it all heads' axes were found to 15°."""
AXIAL_NEIGHBOURS = ndimage.generate_binary_structure(2, 1)[None]
"""A voxel and its neighbours in its axial plane."""


@dataclass(frozen=True)
class Head:
    """What is known of the head, on the work grid.

    Attributes
    ----------
    volume: SimpleITK.Image
        CT in Hounsfield units on the work grid (float32, axes along LPS, 3 mm).
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
    """

    volume: sitk.Image
    padding: float | None
    solid: np.ndarray
    intracranial: np.ndarray
    axes: np.ndarray
    brow: np.ndarray

    def to_head(self, points: np.ndarray) -> np.ndarray:
        """LPS points in mm, shape (…, 3), as head coordinates (left, posterior, superior) in mm."""
        return (points - self.brow) @ self.axes.T

    def to_lps(self, points: np.ndarray) -> np.ndarray:
        """Head coordinates in mm, shape (…, 3), as LPS points in mm."""
        return points @ self.axes + self.brow

    def grid(self) -> np.ndarray:
        """Head coordinates (left, posterior, superior) in mm of all voxels of the work grid, shape (z, y, x, 3)."""
        x, y, z = (
            origin + WORK_SPACING_MM * np.arange(size)
            for origin, size in zip(self.volume.GetOrigin(), self.volume.GetSize())
        )
        z, y, x = np.meshgrid(z, y, x, indexing="ij", sparse=True)
        points = (x - self.brow[0], y - self.brow[1], z - self.brow[2])
        parts = [sum(np.float32(a) * p.astype(np.float32) for a, p in zip(axis, points)) for axis in self.axes]
        return np.moveaxis(np.stack(parts), 0, -1)  # each part contiguous

    @cached_property
    def unseen(self) -> np.ndarray:
        """What lies outside the scanner's field of view or the volume; bool, work grid."""
        return sitk.GetArrayViewFromImage(self.volume) < PADDING_HU

    @cached_property
    def tissue(self) -> np.ndarray:
        """The head without air, hair and dressings; bool, work grid."""
        return self.solid & (sitk.GetArrayViewFromImage(self.volume) > TISSUE_HU)

    @cached_property
    def intracranial_cut(self) -> float:
        """Share, 0 to 1, of what surrounds the intracranial space on its level that lies outside the field of view."""
        seen = self.intracranial & ~self.unseen
        around = ndimage.binary_dilation(seen, AXIAL_NEIGHBOURS) & ~seen
        return float(self.unseen[around].mean()) if around.any() else 0.0

    @property
    def deeply_cut(self) -> bool:
        """Whether the field of view cuts so deep into the skull that the axes may be off."""
        return self.intracranial_cut > DEEP_CUT

    def intracranial_extent(self, axis: int) -> float:
        """Extent in mm of the intracranial space along one of the ``axes``, without its outermost hundredth."""
        along = (np.argwhere(self.intracranial)[:, ::-1] * WORK_SPACING_MM) @ self.axes[axis]
        return float(np.ptp(np.percentile(along, [0.5, 99.5])))

    @cached_property
    def guard(self) -> np.ndarray:
        """Distance in mm of each voxel of the work grid to the guarded space around the intracranial space.

        Negative within it; float32, shape (z, y, x).
        """
        return distance_to(self.intracranial) - np.float32(GUARD_MM)

    def sample(self, array: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Values of ``array`` (work grid) at ``points`` (head coordinates in mm, shape (…, 3)), linear, 0 outside."""
        index = (self.to_lps(points) - self.volume.GetOrigin()) / WORK_SPACING_MM
        return ndimage.map_coordinates(
            array.astype(np.float32), np.moveaxis(index[..., ::-1], -1, 0), output=np.float32, order=1
        )


def find_head(image: sitk.Image) -> Head:
    """Find the head in a CT volume.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units, LPS geometry, any axis order and obliquity. The patient's orientation in it has to be
        right to about 45°; the head itself may be turned and tilted by 30°.

    Raises
    ------
    NoFaceError
        When there is no skull with an intracranial space in view.
    """
    work, padding = work_volume(image)
    intracranial = _intracranial_space(sitk.GetArrayViewFromImage(work))
    if intracranial is None:
        raise NoFaceError(
            "No head was found in this volume: there is no skull around an intracranial space, by which the face is "
            "found (a volume of the jaw or the neck alone shows none). Nothing was changed."
        )
    work, intracranial = _crop_to_head(work, intracranial)
    axes, brow = _head_axes(work, intracranial)
    intracranial |= _mirrored(work, intracranial, axes[0], brow)
    unseen = sitk.GetArrayViewFromImage(work) < PADDING_HU
    intracranial |= dilated(intracranial, 1.5 * WORK_SPACING_MM) & unseen  # the edge of the view hides a part of it
    return Head(work, padding, _head_solid(work, intracranial), intracranial, axes, brow)


def work_volume(image: sitk.Image) -> tuple[sitk.Image, float | None]:
    """The CT averaged down to the 3 mm work grid along the patient's axes, and the value of its padding.

    That is None where only values below ``PADDING_HU`` mark what lies outside the field of view.

    The grid holds all of the volume. In padding and outside the volume it is below ``PADDING_HU``.
    """
    small, padding = _without_padding(image)
    corners = np.array(
        [
            image.TransformContinuousIndexToPhysicalPoint(
                [(n - 0.5) if bit else -0.5 for n, bit in zip(image.GetSize(), bits)]
            )
            for bits in np.ndindex(2, 2, 2)
        ]
    )
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = np.ceil((high - low) / WORK_SPACING_MM - 1e-6).astype(int)
    origin = (low + high) / 2 - (size - 1) * WORK_SPACING_MM / 2
    work = sitk.Resample(
        sitk.Cast(small, sitk.sitkFloat32),
        size.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        origin.tolist(),
        [WORK_SPACING_MM] * 3,
        np.eye(3).ravel().tolist(),
        OUTSIDE_HU,
        sitk.sitkFloat32,
        True,
    )
    within = sitk.Resample(_one_voxel_as_large_as(image), work, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return sitk.Mask(work, within, OUTSIDE_HU), padding


def _one_voxel_as_large_as(image: sitk.Image) -> sitk.Image:
    voxel = sitk.Image([1, 1, 1], sitk.sitkUInt8) + 1
    voxel.SetDirection(image.GetDirection())
    voxel.SetSpacing([n * spacing for n, spacing in zip(image.GetSize(), image.GetSpacing())])
    voxel.SetOrigin(image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]))
    return voxel


def _without_padding(image: sitk.Image) -> tuple[sitk.Image, float | None]:
    """The CT averaged along its own axes, ``OUTSIDE_HU`` in all that holds padding, and the padding's value if any.

    Values below ``PADDING_HU`` need not be told: that value is None where they are all the padding there is.
    """
    factors = shrink_factors(image)
    small = sitk.BinShrink(image, factors)
    if sitk.GetArrayViewFromImage(small).min() < PADDING_HU:
        clear = sitk.Threshold(image, PADDING_HU, sitk.MinimumMaximum(image)[1], OUTSIDE_HU)
        small = sitk.BinShrink(clear, factors)
    hu = sitk.GetArrayViewFromImage(small)
    for value in _values_in_corners(hu):
        outside = _outside_a_convex_view(hu, value)
        if outside is not None:
            clear = sitk.GetImageFromArray(np.where(outside, np.float32(OUTSIDE_HU), hu))
            clear.CopyInformation(small)
            return clear, float(value)
    return small, None


def _values_in_corners(hu: np.ndarray) -> set[float]:
    """The values above ``PADDING_HU`` that are the only ones in one of the eight corners."""
    ends = [(slice(0, 3), slice(-3, None))] * 3
    corners = [hu[corner] for corner in product(*ends)]
    return {corner.flat[0] for corner in corners if np.ptp(corner) == 0 and corner.flat[0] > PADDING_HU}


def _outside_a_convex_view(hu: np.ndarray, value: float) -> np.ndarray | None:
    """What lies outside a convex field of view: a round one, or the old volume's in one that was resampled.

    ``value`` is padding where it fills all the space around one convex view, and nothing but single voxels in it. Air
    that was set to one value is not: it leaves a head to be seen that has little other air around it, and of which no
    two slices are alike, as those of a view within the head are.

    Returns
    -------
    numpy.ndarray or None
        Bool, (z, y, x), with the voxels at the view's edge, which can be padding in part; None when ``value`` is none.
    """
    padding = hu == value
    view = _convex_hull(~padding)
    other_air = np.count_nonzero((hu < AIR_HU) & ~padding) > 0.25 * np.count_nonzero(~padding)
    if not other_air and not _is_prism(view):
        return None
    outside = ndimage.maximum_filter(~view, 3)
    within = padding & ~outside
    if within.mean() > 0.002:
        within = ndimage.maximum_filter(ndimage.minimum_filter(within, 3), 3)  # without single voxels
    return None if within.mean() > 0.002 else outside


def _is_prism(view: np.ndarray) -> bool:
    """Whether a convex view (bool, three axes) is as large in all slices across one of the axes."""
    areas = [view.sum(axis=others) for others in ((1, 2), (0, 2), (0, 1))]
    return any(area.min() > 0.97 * area.max() for area in areas)


def _convex_hull(mask: np.ndarray) -> np.ndarray:
    """The convex hull of ``mask`` (bool, three axes), all of the array where it has none."""
    filled = mask.any(axis=-1)
    first, last = mask.argmax(axis=-1), mask.shape[-1] - 1 - mask[..., ::-1].argmax(axis=-1)
    ends = [np.column_stack([np.argwhere(filled), end[filled]]) for end in (first, last)]
    try:
        facets = spatial.ConvexHull(np.concatenate(ends)).equations
    except (spatial.QhullError, ValueError):  # too few voxels, or all in one plane
        return np.ones_like(mask)
    rows = np.meshgrid(*(np.arange(size) for size in filled.shape), indexing="ij", sparse=True)
    low, high = np.full(filled.shape, -np.inf), np.full(filled.shape, np.inf)
    for *across, along, offset in facets:
        room = 1e-6 - offset - sum(slope * row for slope, row in zip(across, rows))
        if abs(along) < 1e-9:
            high[np.broadcast_to(room, high.shape) < 0] = -np.inf
        elif along > 0:
            np.minimum(high, room / along, out=high)
        else:
            np.maximum(low, room / along, out=low)
    place = np.arange(mask.shape[-1])
    return (place >= low[..., None]) & (place <= high[..., None])


def shrink_factors(image: sitk.Image) -> list[int]:
    """By how many voxels along each axis an image is averaged on its way to the work grid."""
    factors = (max(1, int(WORK_SPACING_MM / spacing + 0.25)) for spacing in image.GetSpacing())
    return [min(factor, size) for factor, size in zip(factors, image.GetSize())]


def _intracranial_space(hu: np.ndarray) -> np.ndarray | None:
    """The largest soft space from which bone is seen in nearly all directions and that has a skull around it.

    A pelvis at the end of a volume and the space under the ribs can be larger, but have gaps. The edge of the field of
    view is no wall: the space is as wide there as one can tell.
    """
    enclosed = (_enclosure(hu) >= ENCLOSED_DIRECTIONS) & (hu < BONE_HU) & (hu > CAVITY_HU)
    box = box_of(enclosed, 4)
    inside, unseen = enclosed[box], hu[box] < PADDING_HU
    labels, count = ndimage.label(eroded(inside | unseen, 9.0) & inside)
    sizes = np.bincount(labels.ravel(), minlength=2)[1:]
    for label in np.argsort(-sizes)[: min(count, 5)] + 1:
        space = dilated(labels == label, 15.0) & inside
        space = ndimage.binary_fill_holes(eroded(dilated(space, 9.0), 9.0))
        large = space.sum() * WORK_SPACING_MM**3 > SMALLEST_INTRACRANIAL_MM3
        if large and _bone_around(space, hu[box]) > SMALLEST_SKULL:
            enclosed[...] = False
            enclosed[box] = space
            return enclosed
    return None


def _bone_around(space: np.ndarray, hu: np.ndarray) -> float:
    """Share of the surroundings of a space, as far as they are in view, that lie at most 9 mm from bone."""
    box = box_of(space, 4)
    rim = dilated(space[box], 4.5) & ~space[box] & (hu[box] > PADDING_HU)
    return float(dilated(hu[box] > BONE_HU, 9.0)[rim].mean()) if rim.any() else 0.0


def _enclosure(hu: np.ndarray) -> np.ndarray:
    """In how many of 26 directions a ray from each voxel meets bone, or leaves the volume out of tissue (uint8)."""
    bone, tissue, known = hu > BONE_HU, hu > AIR_HU, _well_in_view(hu)
    hits = np.zeros(hu.shape, np.uint8)
    box = box_of(tissue, 1)
    for bits in np.ndindex(3, 3, 3):
        if bits != (1, 1, 1):
            hits[box] += _ray_hits(bone[box], tissue[box], known[box], np.array(bits) - 1)
    return hits


def _well_in_view(hu: np.ndarray) -> np.ndarray:
    """What lies in the field of view, without the voxels at its edge, which hold padding in part; bool."""
    return ndimage.minimum_filter(hu, 3) > PADDING_HU


def _ray_hits(bone: np.ndarray, tissue: np.ndarray, known: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Whether the ray from each voxel along ``step`` meets bone, or leaves the known volume directly out of tissue."""
    axis = int(np.flatnonzero(step)[0])
    bone, tissue, known = (np.moveaxis(part, axis, 0) for part in (bone, tissue, known))
    shift = np.delete(step, axis)
    hits = np.zeros(bone.shape, bool)
    ahead_hits = ahead_known = np.zeros(bone.shape[1:], bool)
    order = range(len(bone))
    for index in reversed(order) if step[axis] > 0 else order:
        hits[index] = _shifted(ahead_hits, shift) | (tissue[index] & ~_shifted(ahead_known, shift))
        ahead_hits = hits[index] | bone[index]
        ahead_known = known[index]
    return np.moveaxis(hits, 0, axis)


def _shifted(plane: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """``plane[i + shift[0], j + shift[1]]``, False beyond the edge."""
    out = np.zeros_like(plane)
    source = tuple(slice(max(step, 0), size + min(step, 0)) for step, size in zip(shift, plane.shape))
    target = tuple(slice(max(-step, 0), size + min(-step, 0)) for step, size in zip(shift, plane.shape))
    out[target] = plane[source]
    return out


def _crop_to_head(work: sitk.Image, intracranial: np.ndarray) -> tuple[sitk.Image, np.ndarray]:
    """The part of the work grid that can hold the head: the intracranial space and what a face adds to it."""
    where = np.argwhere(intracranial)
    low = np.maximum(where.min(axis=0) - (FACE_REACH_MM / WORK_SPACING_MM).astype(int), 0)
    high = np.minimum(where.max(axis=0) + 1 + (SKULL_REACH_MM / WORK_SPACING_MM).astype(int), intracranial.shape)
    box = tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist()))
    return work[box[::-1]], intracranial[box]


def _head_solid(work: sitk.Image, intracranial: np.ndarray) -> np.ndarray:
    """The head with the air inside it: what the air around cannot reach through gaps wider than 15 mm."""
    air = sitk.GetArrayViewFromImage(work) <= AIR_HU
    open_air = eroded(air, 7.5)
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
    outside = dilated(np.isin(labels, edges[edges > 0]), 9.0) & air
    core = eroded(~outside, 8.0)
    labels, _ = ndimage.label(core)
    sizes = np.bincount(labels[intracranial & core], minlength=2)
    return dilated(labels == sizes[1:].argmax() + 1, 9.5) & ~outside


def _mirror_plane(hu: np.ndarray, intracranial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The plane about which the head is most symmetric: a point and its unit normal to the left, as (z, y, x)."""
    around = np.argwhere(dilated(intracranial, 21.0))
    points = around[:: max(1, len(around) // 3000)].astype(float)
    values = ndimage.gaussian_filter(np.clip(hu, -300.0, 900.0), 1.0)
    center = np.argwhere(intracranial).mean(axis=0)
    here = ndimage.map_coordinates(values, points.T, order=1)
    is_hidden, is_seen = 1, 2
    view = np.where(_well_in_view(hu), is_seen, is_hidden).astype(np.uint8)  # 0 beyond the volume

    def asymmetry(parameters: np.ndarray) -> float:
        normal = _normal(*parameters[:2])
        mirrored = points - 2 * ((points - center) @ normal - parameters[2])[:, None] * normal
        there = ndimage.map_coordinates(values, mirrored.T, order=1, mode="nearest")
        in_view = ndimage.map_coordinates(view, np.rint(mirrored).T.astype(int), order=0, mode="constant", cval=0)
        seen = in_view == is_seen
        if seen.mean() <= 0.3:
            return 1e6
        share = np.count_nonzero(in_view == is_hidden) / np.count_nonzero(in_view)
        turn = float(parameters[0] ** 2 + parameters[1] ** 2) / LARGEST_TURN**2
        return float((1.0 - share) * np.abs(there - here)[seen].mean()) + share * HIDDEN_HU * (1.0 + 0.5 * turn)

    tried = [
        (yaw, roll, 0.0) for yaw in np.radians(np.arange(-40, 41, 10)) for roll in np.radians(np.arange(-40, 41, 10))
    ]
    start = min(tried, key=asymmetry)
    best = optimize.minimize(
        asymmetry,
        start,
        method="Nelder-Mead",
        options={
            "initial_simplex": np.array(start) + np.vstack([np.zeros(3), np.diag([0.1, 0.1, 2.0])]),
            "xatol": 1e-3,
            "fatol": 1e-2,
            "maxfev": 150,
        },
    ).x
    normal = _normal(*best[:2])
    return center + best[2] * normal, normal


def _normal(yaw: float, roll: float) -> np.ndarray:
    """Unit vector (z, y, x) to the left, turned by yaw about the vertical and by roll about the sagittal axis."""
    return np.array([np.sin(roll), np.cos(roll) * np.sin(yaw), np.cos(roll) * np.cos(yaw)])


def _head_axes(work: sitk.Image, intracranial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The head's axes (rows left, posterior, superior in LPS) and its brow point in LPS mm.

    Left is normal to the plane of symmetry. The pitch comes from the underside of the intracranial space seen from the
    side: the line that touches the anterior and the posterior fossa from below falls backwards by 40° in a head held
    upright. Where the volume ends above it, the longest line through the space takes its place, which falls by 6°
    where its lower part is cut away. Where the edge of the view cuts that off as well, the head is taken to be upright.
    """
    hu = sitk.GetArrayViewFromImage(work)
    unseen = hu < PADDING_HU
    point, normal = _mirror_plane(hu, intracranial)
    up = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
    up /= np.linalg.norm(up)
    back = np.cross(normal, up)  # in (z, y, x) order
    where = np.argwhere(intracranial)
    offset = (where - point) @ normal * WORK_SPACING_MM
    aside = (np.abs(offset) > 10) & (np.abs(offset) < 45)
    profile = (where[aside] - point) @ np.column_stack([back, up]) * WORK_SPACING_MM
    at_end = (where[aside, 0] == 0) | dilated(unseen, 4.5)[tuple(where[aside].T)]

    hull = spatial.ConvexHull(profile)
    ends, outward = hull.simplices, hull.equations[:, :2]
    length = np.linalg.norm(profile[ends[:, 0]] - profile[ends[:, 1]], axis=1)
    fall = np.arctan2(-outward[:, 0], -outward[:, 1])
    base = (fall > 0) & (fall < np.radians(85)) & (length > 12) & ~at_end[ends].all(axis=1)
    if length[base].sum() > 60:
        angle = np.average(fall[base], weights=length[base] ** 2) - BASE_FALL
    else:
        angle = _fall_of_longest_line(where[np.abs(offset) < 10], back, up, unseen) - LENGTH_FALL
    posterior = np.cos(angle) * back - np.sin(angle) * up
    superior = np.sin(angle) * back + np.cos(angle) * up

    front = profile @ [np.cos(angle), -np.sin(angle)]
    height = profile @ [np.sin(angle), np.cos(angle)]
    frontal = front < np.percentile(front, 1) + 25
    brow = front[frontal].min() * posterior + np.percentile(height[frontal], 5) * superior
    origin = work.TransformContinuousIndexToPhysicalPoint((point + brow / WORK_SPACING_MM)[::-1].tolist())
    return np.stack([normal, posterior, superior])[:, ::-1], np.array(origin)


def _fall_of_longest_line(middle: np.ndarray, back: np.ndarray, up: np.ndarray, unseen: np.ndarray) -> float:
    """By how much the longest line through the intracranial space falls backwards, in radians.

    Parameters
    ----------
    middle: numpy.ndarray
        Voxels (z, y, x) of the space near the plane of symmetry, shape (n, 3).
    back, up: numpy.ndarray
        Unit vectors (z, y, x) in that plane.
    unseen: numpy.ndarray
        What lies outside the field of view; bool, work grid. A steep line that goes on there tells nothing.
    """
    angles = np.radians(np.arange(-70, 71, 2))
    lengths = np.ptp(middle @ (np.outer(back, np.cos(angles)) - np.outer(up, np.sin(angles))), axis=0)
    angle = angles[lengths > 0.985 * lengths.max()].mean()
    if abs(angle - LENGTH_FALL) <= LARGEST_TURN:
        return float(angle)
    line = np.cos(angle) * back - np.sin(angle) * up
    along = middle @ line
    for end, step in (along < along.min() + 2, -3), (along > along.max() - 2, 3):
        beyond = np.rint(middle[end] + step * line).astype(int)
        if ndimage.map_coordinates(unseen, beyond.T, order=0, output=bool).mean() > 0.5:
            return LENGTH_FALL
    return float(angle)


def _mirrored(work: sitk.Image, intracranial: np.ndarray, left: np.ndarray, brow: np.ndarray) -> np.ndarray:
    """The intracranial space of the other side, which stands in where a piece of the skull is missing."""
    mirror = sitk.AffineTransform(
        (np.eye(3) - 2.0 * np.outer(left, left)).ravel().tolist(), (0.0, 0.0, 0.0), brow.tolist()
    )
    space = sitk.GetImageFromArray(intracranial.astype(np.uint8))
    space.CopyInformation(work)
    other = sitk.GetArrayFromImage(sitk.Resample(space, mirror, sitk.sitkNearestNeighbor)) > 0
    return other & (sitk.GetArrayViewFromImage(work) > CAVITY_HU)


def distance_to(mask: np.ndarray) -> np.ndarray:
    """Distance in mm of each voxel of the work grid to the nearest voxel of ``mask`` (float32, 0 inside)."""
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=False)
    return np.maximum(sitk.GetArrayFromImage(distance), 0) * np.float32(WORK_SPACING_MM)


def dilated(mask: np.ndarray, radius_mm: float) -> np.ndarray:
    """``mask`` of the work grid, grown by a ball."""
    out = np.zeros(mask.shape, bool)
    box = box_of(mask, int(radius_mm / WORK_SPACING_MM))
    out[box] = distance_to(mask[box]) <= radius_mm
    return out


def eroded(mask: np.ndarray, radius_mm: float) -> np.ndarray:
    """``mask`` of the work grid, shrunk by a ball; the grid's edge does not shrink it."""
    out = np.zeros(mask.shape, bool)
    box = box_of(mask, 1)
    out[box] = distance_to(~mask[box]) > radius_mm
    return out


def box_of(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """The smallest box that holds all of ``mask``, wider by some voxels where the array goes on; empty when it is."""
    box = [slice(None)] * mask.ndim
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        where = np.flatnonzero(mask[tuple(box)].any(axis=others))
        if len(where) == 0:
            return (slice(0, 0),) * mask.ndim
        box[axis] = slice(int(where[0]), int(where[-1]) + 1)
    return tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
