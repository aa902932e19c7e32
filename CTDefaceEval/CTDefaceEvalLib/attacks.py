"""What somebody can win back from a defaced volume alone.

Each attack takes the defaced CT and nothing else and gives volumes to render like a scan (:class:`Recovery`). A
removal leaves its region in the file whenever the filled voxels can be told from the others: by running constant, by
less or more noise than the scanner makes, or by a rim of half-removed voxels. The region's outer boundary then is the
face.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .views import Pose

#: HU below which the skin surface is looked for as well: partial-volume rims and blurs lie there
LOWERED_ISO = (-700.0, -900.0, -960.0, -990.0)
#: mm taken off the outside of a region found: the margin that somebody may have added to the face
PEELS_MM = (0.0, 3.0, 10.0, 20.0, 30.0)
TISSUE_HU = -300.0
SMALLEST_REGION_ML = 5.0
REGION_TRIES = 2
FIELD_MM = 300.0


@dataclass(frozen=True)
class Recovery:
    """A volume made by an attack.

    Attributes
    ----------
    name: "lowered iso -900", "constant region 1, peel 3 mm", …
    kind: the attack without its numbers: "lowered iso", "constant region", …
    image: CT in Hounsfield units to take the skin surface of
    iso: HU of that surface
    region_ml: volume of the region that the attack found, 0 where it looks for none
    """

    name: str
    kind: str
    image: sitk.Image
    iso: float = TISSUE_HU
    region_ml: float = 0.0


def recoveries(defaced: sitk.Image, pose: Pose, kinds: tuple[str, ...] | None = None) -> Iterator[Recovery]:
    """Try all attacks, or those of the `kinds` named, on a defaced CT in Hounsfield units.

    Attacks that find nothing to work with give nothing.
    """
    image = around_head(defaced, pose)
    if kinds is None or "lowered iso" in kinds:
        for iso in LOWERED_ISO:
            yield Recovery(f"lowered iso {iso:.0f}", "lowered iso", image, iso)
    finders = {name: finder for name, finder in REGION_FINDERS.items() if kinds is None or name in kinds}
    if not finders:
        return
    scan = _Scan(image)
    for kind, finder in finders.items():
        for number, region in enumerate(_pieces(scan, finder(scan)), start=1):
            yield from _peeled(scan, region, kind, number)


def around_head(image: sitk.Image, pose: Pose) -> sitk.Image:
    """Cut out what the camera sees: a box of 300 mm around the middle of the head, as far as the volume goes."""
    middle = np.array(image.TransformPhysicalPointToContinuousIndex([float(x) for x in pose.center]))
    half = FIELD_MM / 2.0 / np.array(image.GetSpacing())
    low = np.clip(np.floor(middle - half), 0, np.array(image.GetSize()) - 1).astype(int)
    high = np.clip(np.ceil(middle + half), low + 1, image.GetSize()).astype(int)
    return sitk.RegionOfInterest(image, [int(n) for n in high - low], [int(n) for n in low])


class _Scan:
    """The volume as an array (z, y, x) with the local noise, which several attacks look at."""

    def __init__(self, image: sitk.Image):
        from scipy import ndimage

        self.image = image
        self.hu = sitk.GetArrayFromImage(image).astype(np.float32)
        self.tissue = self.hu >= TISSUE_HU
        self.spacing = np.array(image.GetSpacing()[::-1])
        self.voxel_ml = float(np.prod(self.spacing)) / 1000.0
        # Differences to the neighbours' mean cancel gradients, so what is left is noise.
        self.level = ndimage.uniform_filter(self.hu, 3)
        difference = self.hu - self.level
        self.noise = np.sqrt(np.maximum(ndimage.uniform_filter(difference * difference, 5), 0.0))
        air = self.level < -900.0
        self.air_noise = float(np.median(self.noise[air])) if air.any() else 0.0
        self.tissue_noise = float(np.median(self.noise[self.tissue])) if self.tissue.any() else 0.0


def _constant(scan: _Scan) -> np.ndarray:
    """Voxels equal to all six neighbours."""
    same = np.ones(scan.hu.shape, dtype=bool)
    for axis in range(3):
        values, flags = np.moveaxis(scan.hu, axis, 0), np.moveaxis(same, axis, 0)
        equal = values[1:] == values[:-1]
        flags[1:] &= equal
        flags[:-1] &= equal
    return same


def _low_variance(scan: _Scan) -> np.ndarray:
    """Voxels with less noise than the scanner's in air or in tissue."""
    usual = np.where(scan.level < -700.0, scan.air_noise, scan.tissue_noise)
    return (scan.noise < 0.5 * usual) & ~scan.tissue


def _high_variance(scan: _Scan) -> np.ndarray:
    """Voxels that are no tissue and have more noise than the air."""
    return (scan.noise > 2.0 * scan.air_noise + 1.0) & ~scan.tissue


#: kind of attack → function of the scan that marks the voxels that look filled
REGION_FINDERS = {
    "constant region": _constant,
    "low variance": _low_variance,
    "high variance": _high_variance,
}


def _pieces(scan: _Scan, marked: np.ndarray) -> Iterator[np.ndarray]:
    """The largest connected pieces of the voxels marked, without thin rims, grown back to their edges."""
    from scipy import ndimage

    cube = np.ones((3, 3, 3), dtype=bool)
    core = sitk.GetImageFromArray(ndimage.binary_opening(marked, cube).astype(np.uint8))
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(core))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    for label in np.argsort(sizes)[::-1][:REGION_TRIES]:
        if sizes[label] * scan.voxel_ml < SMALLEST_REGION_ML:
            return
        yield ndimage.binary_dilation(labels == label, cube, iterations=2)


def _peeled(scan: _Scan, region: np.ndarray, kind: str, number: int) -> Iterator[Recovery]:
    solid = sitk.GetImageFromArray((region | scan.tissue).astype(np.uint8))
    solid.SetSpacing(scan.image.GetSpacing())
    # Outside the field of view lies no air to peel from.
    depth = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(solid, True, False, True))
    region_ml = float(region.sum()) * scan.voxel_ml
    for peel in PEELS_MM:
        kept = region & (depth >= peel) & ~scan.tissue
        if kept.sum() * scan.voxel_ml < SMALLEST_REGION_ML:
            return
        values = np.where(kept, np.float32(40.0), scan.hu)
        image = sitk.GetImageFromArray(values)
        image.CopyInformation(scan.image)
        yield Recovery(f"{kind} {number}, peel {peel:.0f} mm", kind, image, TISSUE_HU, region_ml)
