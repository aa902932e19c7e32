"""How air and soft tissue look in an image: known for a CT, measured for another modality where the CT shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..anatomy.grids import values_at
from ..anatomy.hounsfield import OUTSIDE_HU
from ..anatomy.map_grid import RADII
from ..errors import InputError
from .surface import Surface, slope
from .texture import AIR, TISSUE, Material

SOFT_HU = (-200.0, 150.0)
"""Values of soft tissue, from fat to muscle with contrast medium."""

AIRY_HU = -500.0
"""Below this there is more air than tissue in a voxel."""

SHARPNESS_MM = 0.5
"""Standard deviation of the scanner's point spread at the new skin, in mm; that of the voxels is added.

From the skin of three scans and two phantoms: from -900 to -100 HU it lies as steep, to 0.1 mm.
"""

PET_SHARPNESS_MM = 2.5
"""The same of a PET scanner, in mm: a full width at half maximum of 6 mm. From what makers state."""

DEPTHS_MM = np.arange(1.5, 20.1, 0.5)
"""Where below the skin soft tissue is measured."""

ABOVE_MM = np.arange(10.0, 41.0, 3.0)
"""Where above the skin, in mm, air is looked for in another modality: away from what a shift of the skin blurs."""

FEWEST_VALUES = 200
"""Values of air and of soft tissue that have to be in view for another modality to be filled. A choice."""


@dataclass(frozen=True)
class Contrast:
    """How an image shows air and soft tissue.

    Attributes
    ----------
    air, tissue: Material
        What blocks of voxels are like that hold nothing but air, and nothing but the inside of the skull.
    soft: tuple
        Lowest and highest value of soft tissue below the skin.
    airy: float
        Below this there is more air than tissue in a voxel.
    sharpness_mm: float
        Standard deviation of the point spread in mm.
    """

    air: Material = AIR
    tissue: Material = TISSUE
    soft: tuple[float, float] = SOFT_HU
    airy: float = AIRY_HU
    sharpness_mm: float = SHARPNESS_MM


def contrast_of(image: sitk.Image, surface: Surface, ct: sitk.Image, sharpness_mm: float = SHARPNESS_MM) -> Contrast:
    """Measure how an image of another modality shows air and soft tissue.

    Parameters
    ----------
    image: SimpleITK.Image
        The image.
    surface: Surface
        Where its head lies, and the new skin.
    ct: SimpleITK.Image
        CT of the same head in the same place, which tells soft tissue from bone.
    sharpness_mm: float
        Of the modality.

    Raises
    ------
    InputError
        When too little of both is in view.
    """
    cylinder = surface.cylinder
    beside = cylinder.skin_in_view & (surface.outline < -3.0)
    skin, along = surface.skin[..., None], slope(surface.skin)[..., None]
    below = cylinder.points(np.maximum(skin - along * DEPTHS_MM, RADII[0]))[beside]
    hu, soft = values_at(ct, below), values_at(image, below)
    soft = soft[(hu > SOFT_HU[0]) & (hu < SOFT_HU[1]) & (soft > OUTSIDE_HU)]
    above = values_at(image, cylinder.points(skin + ABOVE_MM)[beside])
    air = above[above > OUTSIDE_HU]
    head = cylinder.head
    inside = np.stack([head.coordinates(axis)[head.intracranial] for axis in range(3)], axis=-1)
    brain = values_at(image, head.to_lps(inside))
    brain = brain[brain > OUTSIDE_HU]
    if min(len(soft), len(air)) < FEWEST_VALUES:
        raise InputError("Too little of the head and of the air around it is in view to see how this image shows them.")
    airy = float(np.median(air) + np.median(soft)) / 2.0
    air = air[air < airy]
    tissue = brain if len(brain) >= FEWEST_VALUES else soft
    return Contrast(
        _material(air, AIR.block), _material(tissue, TISSUE.block), _range(soft, 2.0, 0.0), airy, sharpness_mm
    )


def _material(values: np.ndarray, block: int) -> Material:
    """What blocks of this size look like, by the values of single voxels."""
    usual = float(np.median(values)), float(values.std())
    return Material(block, _range(values, 10.0, 0.1), _range(values, 0.5, 0.5), usual)


def _range(values: np.ndarray, percent: float, wider: float) -> tuple[float, float]:
    """From a percentile to the same from above, wider by a share of itself, and a little in any case."""
    low, high = np.percentile(values, [percent, 100.0 - percent])
    room = wider * (high - low) + 1e-3 * max(abs(low), abs(high), 1e-6)
    return float(low - room), float(high + room)
