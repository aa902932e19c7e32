"""The region that is replaced: from a depth under the new skin out through the air in front of the face.

A region that ends at the skin would keep the face in the file, as its own outline.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..anatomy.face_map import Cylinder
from ..anatomy.grids import Box, bounding_box, box_around, mask_of, on_image_grid, voxels
from ..anatomy.head import Head
from ..anatomy.hounsfield import BONE_HU, PADDING_HU
from ..anatomy.work_grid import dilated
from .keep import Kept
from .surface import Surface

RIM_MM = 9.0
"""How far beside the outline of the new skin a mask may lie without a word, in mm: the outline is smoothed. By eye."""


def removal_region(image: sitk.Image, surface: Surface, *, keep_bone: bool = False) -> sitk.Image:
    """Make the region of a CT that takes a new skin.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units.
    surface: Surface
        The new skin, from :func:`CTDefaceLib.removal.surface.face_surface`.
    keep_bone: bool
        Leave bone (above 250 HU) in place. The facial skeleton then stays, from which a face can be estimated.

    Returns
    -------
    SimpleITK.Image
        Region, uint8, 1 where the volume is to be filled, on the grid of ``image``. The intracranial space and a guard
        of 6 mm around it are not in it, nor is what the new skin keeps, nor values that mark what lies outside the
        scanner's field of view.
    """
    cylinder = surface.cylinder
    head = cylinder.head
    box = box_around(surface.reach, head, image)
    if box is None:
        return mask_of(None, None, image)
    region = on_image_grid(surface.reach, head, image, box) & ~_padding(head, image, box)
    if keep_bone:
        below_skin = cylinder.spread(cylinder.skin) - 3.0 - cylinder.radius
        region &= ~on_image_grid(cylinder.on_work_grid(below_skin), head, image, box, BONE_HU)
    if surface.kept:
        region &= ~surface.kept.on(image[box])
    return mask_of(region, box, image)


def unreached_ml(mask: sitk.Image, region: sitk.Image, surface: Surface) -> float:
    """Millilitres of a face mask that lie beside the outline of the new skin and so stay: too thin, or off the head."""
    cylinder = surface.cylinder
    box = bounding_box(mask)
    if box is None:
        return 0.0
    within = on_image_grid(cylinder.on_work_grid(cylinder.spread(surface.outline + RIM_MM)), cylinder.head, mask, box)
    guarded = on_image_grid(-cylinder.head.guard, cylinder.head, mask, box)
    left = (voxels(mask, box) > 0) & (voxels(region, box) == 0) & ~within & ~guarded
    return float(np.count_nonzero(left) * np.prod(mask.GetSpacing()) / 1000.0)


def mask_as_region(mask: sitk.Image, cylinder: Cylinder, kept: Kept | None = None) -> sitk.Image:
    """The mask itself (uint8, its grid), without what of it lies in the intracranial space and in gaps of the skull.

    Nor does it hold what is kept.
    """
    box = bounding_box(mask)
    if box is None:
        return mask_of(None, None, mask)
    inside = cylinder.head.intracranial | cylinder.head.in_gaps
    region = (voxels(mask, box) > 0) & ~on_image_grid(inside - 0.5, cylinder.head, mask, box)
    if kept:
        region &= ~kept.on(mask[box])
    return mask_of(region, box, mask)


def _padding(head: Head, image: sitk.Image, box: Box) -> np.ndarray:
    """Voxels of a part of a CT that mark what lies outside the scanner's field of view; bool.

    Some scanners mark it with the value of the thinnest air. Where no convex outline tells it from air, it counts as a
    mark as long as it keeps 15 mm away from the head; nearer it may be air that somebody has set to one value, and
    its edge the skin.
    """
    hu = voxels(image, box)
    if head.padding is not None:
        near_unseen = on_image_grid(dilated(head.unseen, 6.0) - 0.5, head, image, box)
        return (hu <= PADDING_HU) | ((hu == head.padding) & near_unseen)
    work = sitk.GetArrayViewFromImage(head.volume)
    lowest = float(work[~head.unseen].min())
    flat = ndimage.binary_erosion(~head.unseen & (work <= lowest))
    apart = flat.any() and not (flat & dilated(head.solid, 15.0)).any()
    return hu <= (lowest if apart else PADDING_HU)
