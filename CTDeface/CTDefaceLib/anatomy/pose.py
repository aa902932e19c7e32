"""How the head lies: its plane of symmetry, its axes and its brow point."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, optimize, spatial

from .field_of_view import unseen, well_in_view
from .hounsfield import CAVITY_HU
from .work_grid import WORK_SPACING_MM, dilated

LARGEST_TURN = np.radians(30.0)
"""How far a head is taken to be turned, lifted or leaning, in radians: what the library is made for."""

HIDDEN_HU = 200.0
"""What a point whose mirrored one is out of view counts as an asymmetry, in HU; half of that more at LARGEST_TURN.

Until points out of view counted, planes that mirror little onto what is in view fitted by chance: with it, axes off by
more than 20° fell from 71 to 37 of 240 random round views.
"""

MIRRORED_HU = (-300.0, 900.0)
"""Range of HU that is compared with its mirror image: skin and bone, without the differences of air and metal."""

MIRRORED_AROUND_MM = 21.0
"""How far around the intracranial space, in mm, points are mirrored: the skull, not the neck. Chosen by eye."""

MIRRORED_POINTS = 3000
"""About how many points are mirrored: chosen for time, about 200 planes are tried."""

SEEN_TWICE = 0.3
"""Share (0 to 1) of the points whose mirrored ones have to be in view for a plane to be tried at all. By eye."""

TRIED_TURNS = np.radians(np.arange(-40, 41, 10))
"""Yaws and rolls, in radians, of which the best starts the search: beyond LARGEST_TURN by one step."""

BASE_FALL = np.radians(40.0)
"""By how much the line under anterior and posterior fossa falls backwards in a head held upright, in radians.

Chosen by eye on the first synthetic heads; upright ones come out 6° low on average, a child's 16°.
"""

LENGTH_FALL = np.radians(6.0)
"""By how much the longest line through the intracranial space falls where its lower part is cut away, in radians.

Measured on synthetic heads cut at the orbits: with 24°, tried before, the pitch was 23° off on average, with 6° it is
6° (upright) to 13° (lifted by 20°).
"""

BESIDE_THE_MIDDLE_MM = (10.0, 45.0)
"""Distance in mm from the plane of symmetry where the fossae are seen from the side: beside crista galli, falx and
clivus, and not at the temples. Chosen by eye."""

STEEPEST_BASE = np.radians(85.0)
"""Steepest part of the profile, in radians, that still counts as its underside and not as the front or back."""

SHORTEST_BASE_MM = (12.0, 60.0)
"""Shortest piece in mm of a straight underside, and of all its pieces together; less is an end of what was scanned.

Chosen by eye; tested on oblique cuts above the skull base.
"""

FRONTAL_MM = 25.0
"""How far behind the front of the intracranial space, in mm, its floor is the roof of the orbits. Chosen by eye."""

OUTERMOST = (1, 5)
"""Percentiles that stand for the front of the intracranial space and for its floor above the orbits."""

LONGEST = 0.985
"""Lines this long, in parts of the longest (0 to 1), count as the longest, and their mean direction as its own."""


def mirror_plane(hu: np.ndarray, intracranial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The plane about which the head is most symmetric.

    Parameters
    ----------
    hu: numpy.ndarray
        CT in Hounsfield units on the work grid, shape (z, y, x).
    intracranial: numpy.ndarray
        The space inside the skull; bool, same shape.

    Returns
    -------
    tuple
        A point of the plane in voxels and its unit normal to the left, both as (z, y, x).
    """
    around = np.argwhere(dilated(intracranial, MIRRORED_AROUND_MM))
    points = around[:: max(1, len(around) // MIRRORED_POINTS)].astype(float)
    values = ndimage.gaussian_filter(np.clip(hu, *MIRRORED_HU), 1.0)
    center = np.argwhere(intracranial).mean(axis=0)
    here = ndimage.map_coordinates(values, points.T, order=1)
    is_hidden, is_seen = 1, 2
    view = np.where(well_in_view(hu), is_seen, is_hidden).astype(np.uint8)  # 0 beyond the volume

    def asymmetry(parameters: np.ndarray) -> float:
        normal = _normal(*parameters[:2])
        mirrored = points - 2 * ((points - center) @ normal - parameters[2])[:, None] * normal
        there = ndimage.map_coordinates(values, mirrored.T, order=1, mode="nearest")
        in_view = ndimage.map_coordinates(view, np.rint(mirrored).T.astype(int), order=0, mode="constant", cval=0)
        seen = in_view == is_seen
        if seen.mean() <= SEEN_TWICE:
            return 1e6
        share = np.count_nonzero(in_view == is_hidden) / np.count_nonzero(in_view)
        turn = float(parameters[0] ** 2 + parameters[1] ** 2) / LARGEST_TURN**2
        return float((1.0 - share) * np.abs(there - here)[seen].mean()) + share * HIDDEN_HU * (1.0 + 0.5 * turn)

    start = min((np.array([yaw, roll, 0.0]) for yaw in TRIED_TURNS for roll in TRIED_TURNS), key=asymmetry)
    best = optimize.minimize(
        asymmetry,
        start,
        method="Nelder-Mead",
        options={
            "initial_simplex": start + np.vstack([np.zeros(3), np.diag([0.1, 0.1, 2.0])]),
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


def head_axes(work: sitk.Image, intracranial: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the head's axes and its brow point.

    Left is normal to the plane of symmetry. The pitch comes from the underside of the intracranial space seen from the
    side: the line that touches the anterior and the posterior fossa from below falls backwards by 40° in a head held
    upright. Where the volume ends above it, the longest line through the space takes its place, which falls by 6°
    where its lower part is cut away. Where the edge of the view cuts that off as well, the head is taken to be upright.

    Parameters
    ----------
    work: SimpleITK.Image
        CT in Hounsfield units on the work grid.
    intracranial: numpy.ndarray
        The space inside the skull; bool, shape (z, y, x) of ``work``.

    Returns
    -------
    tuple
        Axes, 3×3, rows: unit vectors in LPS to the head's left, posterior, superior; and the brow point in LPS mm.
    """
    hidden = unseen(work)
    point, normal = mirror_plane(sitk.GetArrayViewFromImage(work), intracranial)
    up = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
    up /= np.linalg.norm(up)
    back = np.cross(normal, up)  # in (z, y, x) order
    where = np.argwhere(intracranial)
    offset = (where - point) @ normal * WORK_SPACING_MM
    aside = (np.abs(offset) > BESIDE_THE_MIDDLE_MM[0]) & (np.abs(offset) < BESIDE_THE_MIDDLE_MM[1])
    profile = (where[aside] - point) @ np.column_stack([back, up]) * WORK_SPACING_MM
    at_end = (where[aside, 0] == 0) | dilated(hidden, 1.5 * WORK_SPACING_MM)[tuple(where[aside].T)]

    hull = spatial.ConvexHull(profile)
    ends, outward = hull.simplices, hull.equations[:, :2]
    length = np.linalg.norm(profile[ends[:, 0]] - profile[ends[:, 1]], axis=1)
    fall = np.arctan2(-outward[:, 0], -outward[:, 1])
    base = (fall > 0) & (fall < STEEPEST_BASE) & (length > SHORTEST_BASE_MM[0]) & ~at_end[ends].all(axis=1)
    if length[base].sum() > SHORTEST_BASE_MM[1]:
        angle = np.average(fall[base], weights=length[base] ** 2) - BASE_FALL
    else:
        angle = _fall_of_longest_line(where[np.abs(offset) < BESIDE_THE_MIDDLE_MM[0]], back, up, hidden) - LENGTH_FALL
    posterior = np.cos(angle) * back - np.sin(angle) * up
    superior = np.sin(angle) * back + np.cos(angle) * up

    front = profile @ [np.cos(angle), -np.sin(angle)]
    height = profile @ [np.sin(angle), np.cos(angle)]
    frontal = front < np.percentile(front, OUTERMOST[0]) + FRONTAL_MM
    brow = front[frontal].min() * posterior + np.percentile(height[frontal], OUTERMOST[1]) * superior
    origin = work.TransformContinuousIndexToPhysicalPoint((point + brow / WORK_SPACING_MM)[::-1].tolist())
    axes = np.stack([normal, posterior, superior])[:, ::-1] @ np.reshape(work.GetDirection(), (3, 3)).T
    return axes, np.array(origin)


def _fall_of_longest_line(middle: np.ndarray, back: np.ndarray, up: np.ndarray, hidden: np.ndarray) -> float:
    """By how much the longest line through the intracranial space falls backwards, in radians.

    Parameters
    ----------
    middle: numpy.ndarray
        Voxels (z, y, x) of the space near the plane of symmetry, shape (n, 3).
    back, up: numpy.ndarray
        Unit vectors (z, y, x) in that plane.
    hidden: numpy.ndarray
        What lies outside the field of view; bool, work grid. A steep line that goes on there, or beyond a volume that
        ends in front or behind, tells nothing.
    """
    angles = np.radians(np.arange(-70, 71, 2))
    lengths = np.ptp(middle @ (np.outer(back, np.cos(angles)) - np.outer(up, np.sin(angles))), axis=0)
    angle = angles[lengths > LONGEST * lengths.max()].mean()
    if abs(angle - LENGTH_FALL) <= LARGEST_TURN:
        return float(angle)
    line = np.cos(angle) * back - np.sin(angle) * up
    along = middle @ line
    for end, step in (along < along.min() + 2, -3), (along > along.max() - 2, 3):
        beyond = np.rint(middle[end] + step * line).astype(int)
        off_the_volume = (beyond[:, 1] < 0) | (beyond[:, 1] >= hidden.shape[1])
        if (off_the_volume | ndimage.map_coordinates(hidden, beyond.T, order=0, output=bool)).mean() > 0.5:
            return LENGTH_FALL
    return float(angle)


def mirrored(work: sitk.Image, intracranial: np.ndarray, left: np.ndarray, brow: np.ndarray) -> np.ndarray:
    """The intracranial space of the other side, which stands in where a piece of the skull is missing.

    Parameters
    ----------
    work: SimpleITK.Image
        CT in Hounsfield units on the work grid.
    intracranial: numpy.ndarray
        The space inside the skull; bool, shape (z, y, x) of ``work``.
    left, brow: numpy.ndarray
        Normal of the plane of symmetry and a point in it, LPS, mm.

    Returns
    -------
    numpy.ndarray
        Bool, shape of ``intracranial``.
    """
    mirror = sitk.AffineTransform(
        (np.eye(3) - 2.0 * np.outer(left, left)).ravel().tolist(), (0.0, 0.0, 0.0), brow.tolist()
    )
    space = sitk.GetImageFromArray(intracranial.astype(np.uint8))
    space.CopyInformation(work)
    other = sitk.GetArrayFromImage(sitk.Resample(space, mirror, sitk.sitkNearestNeighbor)) > 0
    return other & (sitk.GetArrayViewFromImage(work) > CAVITY_HU)
