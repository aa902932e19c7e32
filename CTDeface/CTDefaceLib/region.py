"""From the face mask to the region that is removed: margin, intracranial guard, seal.

A region that ends at the skin would keep the face in the file, as its own outline. The sealed region therefore reaches
through the air in front of the face to a cylinder around the head, and its inner boundary is a smooth surface at a
random distance below the skin: neither says where the skin was.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .cylinder import ANGLES, HEIGHTS, Cylinder, innermost
from .head import BONE_HU, PADDING_HU, distance_to
from .work_grid import on_image_grid, to_work_grid

GUARD_MM = 5.0
LEAST_DEPTH_MM = 8.0
RANDOM_DEPTH_MM = 6.0


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
    height, angle, radius = cylinder.coordinates()
    face = to_work_grid(mask, cylinder.head)
    grown = margin_mm + 0.5 - distance_to(face > 0.5)
    inside = grown
    if sealed:
        outline, inner, outer = sealed_surface(cylinder, face, margin_mm, np.random.default_rng(seed))
        block = np.minimum(radius - cylinder.spread(inner, height, angle), outer - radius)
        inside = np.maximum(inside, np.minimum(block, cylinder.spread(outline, height, angle)))
    inside = np.minimum(inside, distance_to(cylinder.head.intracranial) - GUARD_MM)
    region = on_image_grid(inside, cylinder.head, image, only_above=PADDING_HU)
    return region


def sealed_surface(cylinder, face, margin_mm, rng):
    along = cylinder.sample(face) > 0.5
    covered = ndimage.binary_closing(np.pad(along.any(axis=-1), 4), iterations=3)[4:-4, 4:-4]
    smooth = ndimage.gaussian_filter(covered.astype(float), 1.5) > 0.5
    outline = (ndimage.distance_transform_edt(smooth) - ndimage.distance_transform_edt(~smooth)) * 3.0 + margin_mm
    outline = ndimage.gaussian_filter(outline, 1.0)
    inner = np.minimum(innermost(along), np.where(covered, cylinder.skin - LEAST_DEPTH_MM, np.inf))
    nearest = ndimage.distance_transform_edt(np.isinf(inner), return_distances=False, return_indices=True)
    inner = ndimage.gaussian_filter(ndimage.minimum_filter(inner[tuple(nearest)], (3, 3)), 2.0)
    relief = ndimage.gaussian_filter(rng.standard_normal(inner.shape), 5.0)
    relief = (relief - relief.min()) / np.ptp(relief)
    inner -= margin_mm + RANDOM_DEPTH_MM * relief
    outer = cylinder.skin[smooth].max() + rng.uniform(12.0, 20.0)
    return outline, inner, outer
