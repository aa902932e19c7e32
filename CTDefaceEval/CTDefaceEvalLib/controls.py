"""What an evaluation compares with: the least that any fill leaves, and what no defacing is to blame for.

**The bound.** Whatever the region was filled with, an attacker who knows the region exactly is left with the voxels
outside it. So the region is emptied, and what remains is recognised or not: that bounds every attack on the fill. Where
something was kept, the region as it would be without is emptied as well: the difference is what keeping it costs.

**The blank front.** The outline of a head, its ears and the field of view alone link pictures. The original with
everything in front of the ears cut off shows how much of the resemblance is that.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.face_map import Cylinder
from CTDefaceLib.anatomy.grids import on_image_grid
from CTDefaceLib.anatomy.hounsfield import PURE_AIR_HU
from scipy import ndimage

CHANGED_HU = 0.5
"""HU by which a voxel has to differ from the original's to count as changed: more than a rounding."""
MOST_CHANGED = 0.6
"""Where a larger share of the volume has changed there is no region to empty: a file stored with losses, or blurred."""
BEHIND_THE_FRONT_MM = 12.0
"""mm in front of the middle of the head at which the blank front ends, just in front of the ears. Chosen by eye."""


def region_emptied(original: sitk.Image, defaced: sitk.Image) -> sitk.Image | None:
    """The defaced volume with all that has changed set to air; None where nothing, or nearly everything has."""
    before, after = (sitk.GetArrayViewFromImage(image) for image in (original, defaced))
    changed = np.abs(before.astype(np.float32) - after) > CHANGED_HU
    share = np.count_nonzero(changed) / changed.size
    if not 0.0 < share < MOST_CHANGED:
        return None
    # By chance a voxel of noise can keep its value.
    return _with_air(defaced, ndimage.binary_closing(changed, np.ones((3, 3, 3), dtype=bool)) | changed)


def emptied(original: sitk.Image, region: sitk.Image) -> sitk.Image:
    """The original with a region (a mask on its grid) set to air."""
    return _with_air(original, sitk.GetArrayViewFromImage(region) > 0)


def front_blanked(original: sitk.Image, cylinder: Cylinder) -> sitk.Image:
    """The head that a cylinder lies around, with everything in front of the ears set to air, a flat cut."""
    anterior = cylinder.depth_mm - cylinder.head.coordinates(1)
    return _with_air(original, on_image_grid(anterior - BEHIND_THE_FRONT_MM, cylinder.head, original))


def _with_air(image: sitk.Image, where: np.ndarray) -> sitk.Image:
    values = sitk.GetArrayFromImage(image)
    values[where] = max(PURE_AIR_HU, float(values.min()))
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    return result
