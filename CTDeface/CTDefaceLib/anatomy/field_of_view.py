"""What a scan does not show: padding around the field of view, and what the edge of the view hides.

Padding is told from air by its place, not by its value: -1024 HU can be either, and a volume that was resampled is
filled up with anything.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, spatial

from .hounsfield import AIR_HU, OUTSIDE_HU, PADDING_HU
from .work_grid import box_of, with_neighbours

MUCH_AIR = 0.25
"""Part of a convex view (0 to 1) that other air has to fill for what surrounds it to be padding.

Where less is in view, the value around it may be air that was set to it. Chosen by eye; tested on masked heads and on
heads with a rubber band around them.
"""

PRISM_AREA = 0.97
"""Smallest slice of a view in parts of its largest (0 to 1), for a view that is the same in all slices.

Chosen by eye for round views, whose slices differ by some voxels at their edge.
"""

SINGLE_VOXELS = 0.002
"""Part of the volume (0 to 1) that single voxels with the value of padding may fill within the view. Chosen by eye."""

DEEP_CUT = 0.3
"""Part (0 to 1) of what surrounds the intracranial space out of view, above which the head's axes may be off.

Up to it the axes of all synthetic heads in round views were found to 15°. It was 0.2 while ends of the volume counted
as well.
"""

AXIAL_NEIGHBOURS = ndimage.generate_binary_structure(2, 1)[None]
"""A voxel and its neighbours in its axial plane."""


def shrunk_without_padding(image: sitk.Image, factors: list[int]) -> tuple[sitk.Image, float | None]:
    """Average a CT along its own axes, with ``OUTSIDE_HU`` in all that holds padding.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units.
    factors: list of int
        How many voxels along each axis (x, y, z) are averaged.

    Returns
    -------
    tuple
        The smaller CT, and the value of its padding. That is None where there is none, and where values below
        ``PADDING_HU``, which need not be told, are all the padding there is.
    """
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


def unseen(volume: sitk.Image) -> np.ndarray:
    """What lies outside the field of view or the volume; bool, shape (z, y, x) of a work volume."""
    return sitk.GetArrayViewFromImage(volume) < PADDING_HU


def well_in_view(hu: np.ndarray) -> np.ndarray:
    """What lies in the field of view, without the voxels at its edge, which hold padding in part; bool, (z, y, x)."""
    return ~with_neighbours(hu <= PADDING_HU)


def hidden_share(space: np.ndarray, unseen: np.ndarray) -> float:
    """Share, 0 to 1, of what surrounds a space on its level that lies outside the field of view or the volume.

    Ends of the volume above and below do not count: they do not cut the head's sides.

    Parameters
    ----------
    space, unseen: numpy.ndarray
        Bool, shape (z, y, x) of the work grid.
    """
    beyond = ((0, 0), (1, 1), (1, 1))
    space, unseen = np.pad(space, beyond), np.pad(unseen, beyond, constant_values=True)
    box = box_of(space, 1)
    unseen = unseen[box]
    seen = space[box] & ~unseen
    around = ndimage.binary_dilation(seen, AXIAL_NEIGHBOURS) & ~seen
    return float(unseen[around].mean()) if around.any() else 0.0


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
    other_air = np.count_nonzero((hu < AIR_HU) & ~padding) > MUCH_AIR * np.count_nonzero(~padding)
    if not other_air and not _is_prism(view):
        return None
    outside = with_neighbours(~view)
    within = padding & ~outside
    if within.mean() > SINGLE_VOXELS:
        within = ndimage.maximum_filter(ndimage.minimum_filter(within, 3), 3)  # without single voxels
    return None if within.mean() > SINGLE_VOXELS else outside


def _is_prism(view: np.ndarray) -> bool:
    """Whether a convex view (bool, three axes) is as large in all slices across one of the axes."""
    areas = [view.sum(axis=others) for others in ((1, 2), (0, 2), (0, 1))]
    return any(area.min() > PRISM_AREA * area.max() for area in areas)


def _convex_hull(mask: np.ndarray) -> np.ndarray:
    """The convex hull of ``mask`` (bool, three axes), all of the array where it has none."""
    filled = mask.any(axis=-1)
    first, last = mask.argmax(axis=-1), mask.shape[-1] - 1 - mask[..., ::-1].argmax(axis=-1)
    ends = [np.column_stack([np.argwhere(filled), end[filled]]) for end in (first, last)]
    try:
        facets = np.unique(spatial.ConvexHull(np.concatenate(ends)).equations, axis=0)
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
