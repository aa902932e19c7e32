"""What must stay: structures with names, on any grid, and a margin around them that is not touched either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..anatomy.grids import Box, bounding_box, values_at, voxels
from ..anatomy.head import Head
from ..anatomy.hounsfield import OUTSIDE_HU
from ..errors import InputError

AROUND_MM = 12.0
"""How far beyond the margin, in mm, the distance to a structure is known: the widest blend of the fill, and more."""


@dataclass(frozen=True)
class Structure:
    """A structure that must stay.

    Attributes
    ----------
    name: str
        For the report.
    mask: SimpleITK.Image
        uint8, 1 in it, on a grid of its own in the space of the volume (LPS, mm).
    """

    name: str
    mask: sitk.Image

    @property
    def ml(self) -> float:
        """Its volume in mL."""
        return float(np.count_nonzero(sitk.GetArrayViewFromImage(self.mask)) * np.prod(self.mask.GetSpacing()) / 1000.0)

    @cached_property
    def distance(self) -> sitk.Image:
        """Distance in mm to its voxels, 0 or less in them, in a box with ``AROUND_MM`` of room around it; float32."""
        box = bounding_box(self.mask)
        assert box is not None
        room = [int(np.ceil(AROUND_MM / spacing)) for spacing in self.mask.GetSpacing()]
        padded = sitk.ConstantPad(self.mask[box], room, room, 0)
        distance = sitk.SignedMaurerDistanceMap(padded, False, False, True)
        return sitk.Maximum(distance, 0.0)


@dataclass(frozen=True)
class Kept:
    """All that must stay.

    Attributes
    ----------
    structures: tuple of Structure
    margin_mm: float
        What stays around each of them, in mm.
    """

    structures: tuple[Structure, ...]
    margin_mm: float

    def on(self, part: sitk.Image) -> np.ndarray:
        """The voxels of a CT, or of a part of it, that stay; bool, shape (z, y, x).

        A voxel stays when its centre lies in a structure or its margin, and when it can hold a piece of one.
        """
        margin = max(self.margin_mm, float(np.linalg.norm(part.GetSpacing())) / 2.0)
        stays = np.zeros(part.GetSize()[::-1], bool)
        for structure in self.structures:
            distance = structure.distance
            same = _is_same_grid(structure.mask, part)
            box = _box_within(distance, part)
            if box is not None:
                near = sitk.Resample(distance, part[box], sitk.Transform(), sitk.sitkLinear, AROUND_MM)
                within = sitk.Resample(structure.mask, part[box], sitk.Transform(), sitk.sitkNearestNeighbor, 0)
                stays[box[::-1]] |= sitk.GetArrayViewFromImage(near) <= (self.margin_mm if same else margin)
                stays[box[::-1]] |= sitk.GetArrayViewFromImage(within) > 0
        return stays

    def room(self, head: Head) -> np.ndarray:
        """Distance in mm of each voxel of the work grid to what stays, negative in it; float32, shape (z, y, x)."""
        room = np.full(head.solid.shape, AROUND_MM, np.float32)
        for structure in self.structures:
            near = sitk.Resample(structure.distance, head.volume, sitk.Transform(), sitk.sitkLinear, AROUND_MM)
            np.minimum(room, sitk.GetArrayViewFromImage(near), out=room)
        return room - np.float32(self.margin_mm)

    def check_within(self, image: sitk.Image) -> None:
        """Refuse structures that are empty or lie outside a volume (InputError): they were not drawn on this scan."""
        for structure in self.structures:
            if structure.ml == 0.0:
                raise InputError(f"The structure “{structure.name}” that is to be kept is empty; leave it out.")
            if not (_values(structure, image) > OUTSIDE_HU).any():
                raise InputError(
                    f"The structure “{structure.name}” that is to be kept lies outside the volume: take the one that "
                    "was drawn on this scan."
                )

    def report(self, region: sitk.Image) -> dict[str, dict[str, float]]:
        """For each structure its ``ml``, and which share of it, 0 to 1, lies in a region that spares nothing."""
        return {
            one.name: {"ml": round(one.ml, 2), "in_region": round(float((_values(one, region) >= 0.5).mean()), 3)}
            for one in self.structures
        }


def keep(structures: Sequence[Structure], margin_mm: float) -> Kept | None:
    """What must stay; None where that is nothing."""
    return Kept(tuple(structures), margin_mm) if structures else None


def _values(structure: Structure, image: sitk.Image) -> np.ndarray:
    """Values of an image at all voxels of a structure, shape (n,); ``OUTSIDE_HU`` beyond it."""
    box = bounding_box(structure.mask)
    assert box is not None
    place = np.argwhere(voxels(structure.mask, box) > 0)[:, ::-1] + [side.start for side in box]
    axes = np.reshape(structure.mask.GetDirection(), (3, 3)) * structure.mask.GetSpacing()
    return values_at(image, place @ axes.T + structure.mask.GetOrigin())


def _is_same_grid(one: sitk.Image, other: sitk.Image) -> bool:
    """Whether the voxels of one lie on those of the other: a part of it, or all."""
    if not np.allclose(one.GetSpacing(), other.GetSpacing(), rtol=1e-4):
        return False
    if not np.allclose(one.GetDirection(), other.GetDirection(), atol=1e-4):
        return False
    start = np.array(one.TransformPhysicalPointToContinuousIndex(other.GetOrigin()))
    return bool(np.abs(start - np.rint(start)).max() < 0.02)


def _box_within(inner: sitk.Image, image: sitk.Image) -> Box | None:
    """The part of ``image`` that holds all of another one, as far as it reaches; None where they do not meet."""
    ends = [(-0.5, size - 0.5) for size in inner.GetSize()]
    corners = [[end[bit] for end, bit in zip(ends, bits)] for bits in np.ndindex(2, 2, 2)]
    points = [inner.TransformContinuousIndexToPhysicalPoint(corner) for corner in corners]
    index: Any = np.array([image.TransformPhysicalPointToContinuousIndex(point) for point in points])
    start = np.clip(np.floor(index.min(axis=0)), 0, image.GetSize()).astype(int)
    stop = np.clip(np.ceil(index.max(axis=0)) + 1, 0, image.GetSize()).astype(int)
    return None if (stop <= start).any() else tuple(slice(a, b) for a, b in zip(start.tolist(), stop.tolist()))
