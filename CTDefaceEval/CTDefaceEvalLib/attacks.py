"""What an attacker can win back from a defaced volume alone.

Each attack takes the defaced CT and nothing else and gives volumes to render like a scan (:class:`Recovery`). A
removal leaves its region in the file whenever the filled voxels can be told from the others: by running constant, by
less or more noise than the scanner makes, by noise of another texture or level, by values copied from elsewhere, or by
a rim of half-removed voxels. The region's outer boundary then is the face. A blur can be sharpened again, and tissue
left at an even depth grown back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.hounsfield import BLANK_HU, PADDING_HU, PURE_AIR_HU, TISSUE_HU
from scipy import fft, ndimage

from .views import Pose

# What is marked (*) was set by judgement with the first version of its attack; no other value is on record.

LOWERED_ISO = (-700.0, -900.0, -960.0, -990.0)
"""HU at which the skin surface is searched for as well: partial-volume rims and blurs lie there. (*) In one acceptance
of 23 defaced heads three had views with a face at -960 HU only."""
FILLED_HU = 40.0
"""HU that a region found is filled with, that of muscle, so that its boundary is drawn as skin. Not critical: any value
well above TISSUE_HU gives nearly the same surface."""
PEELS_MM = (0.0, 3.0, 10.0, 20.0, 30.0)
"""mm taken off the outside of a region found: the margin that somebody may have added to the face. (*)"""
GROWTHS_MM = (4.0, 8.0, 14.0)
"""mm that the tissue left is grown by: the depth that somebody may have taken off. (*)"""
DEBLUR_SIGMAS_MM = (3.0, 6.0, 10.0)
"""mm, standard deviations of a blur that somebody may have used. (*)"""
DEBLUR_ISO = (TISSUE_HU, LOWERED_ISO[0])
"""HU of the surfaces of a sharpened volume. (*)"""
DEBLUR_FLOOR = 0.01
"""Added to the squared amplitude that a blur leaves of a frequency, so that noise is not blown up where it leaves next
to nothing: without unit, the amplitude is 1 without a blur. (*)"""
COARSE_MM = 2.0
"""Grid in mm that growth and deblurring are computed on; they move the surface by more than that. (*)"""
SLOPE_HU_PER_MM = 100.0
"""How a grown volume falls off around its surface. Not critical: any slope gives nearly the same surface."""
SMALLEST_REGION_ML = 10.0
"""mL of a region found that have to lie in front for it to count; a face that is removed has some hundred. (*)"""
REGION_TRIES = 2
"""Number of connected pieces of the voxels marked that are tried, the largest first. (*)"""
MOST_OF_THE_AIR = 0.5
"""A piece that takes up more than this share of the air is the air itself, not a fill. (*)"""
FRONT_MM = 30.0
"""What lies less than this behind the pose's center counts as in front, mm; that is 40 mm behind the brow. (*)"""
FIELD_MM = 300.0
"""Side in mm of the box around the pose's center that is attacked: the 280 mm that the camera sees, and a margin."""
QUIET_SHARE = 0.5
"""Voxels with less than this share of the scanner's usual noise count as filled. (*)"""
LOUD_SHARE, LOUD_HU = 2.0, 1.0
"""Air with more than this multiple of its usual noise, and so many HU more, counts as filled. (*)"""
NOISY_HU = 1.0
"""Air with less noise than this in HU is constant and has no texture. (*)"""
OTHER_CORRELATION = 0.25
"""Difference of the correlation with the next voxel from the air's usual from which on a texture is another. (*)"""
OTHER_LEVEL_HU = 15.0
"""Difference of the mean from the air's usual in HU from which on a level is another, if the noise is not more. (*)"""
REPEAT_LENGTH = 6
"""Voxels in each of two rows that have to be the same for a copy: chance makes no twins of twelve noisy values. (*)"""
MOST_TWINS = 20
"""Values that stand in so many places or more are clipped ones, not copies. (*)"""


@dataclass(frozen=True)
class Recovery:
    """A volume made by an attack.

    Attributes
    ----------
    name: str
        "lowered iso -900", "constant region 1, peel 3 mm", …
    kind: str
        The attack without its numbers: "lowered iso", "constant region", …
    image: sitk.Image
        CT in Hounsfield units to take the skin surface of.
    iso: float
        HU of that surface.
    region_ml: float
        Volume of the region that the attack found, 0 where it looks for none.
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
    wanted = [kind for kind in ATTACKS if kinds is None or kind in kinds]
    scan = None
    for kind in wanted:
        if kind == "lowered iso":
            for iso in LOWERED_ISO:
                yield Recovery(f"{kind} {iso:.0f}", kind, image, iso)
        elif kind == "growth":
            yield from _grown(image)
        elif kind == "deblurring":
            yield from _deblurred(image)
        else:
            scan = scan or _Scan(image, pose)
            for number, region in enumerate(_pieces(scan, REGION_FINDERS[kind](scan)), start=1):
                if kind == "constant region":
                    region = _of_one_value(scan, region)
                yield from _peeled(scan, region, kind, number)


def joined(defaced: sitk.Image, series: Sequence[sitk.Image]) -> Iterator[Recovery]:
    """Join a defaced volume with others of the same head in the same place, each defaced as well.

    Where each had another piece removed, the greatest value of all gives back what any of them has left, the least what
    was filled with tissue over air, and the mean lowers whatever was added at random. What a series does not cover is
    left to the others.
    """
    values = [sitk.GetArrayFromImage(defaced).astype(np.float32)]
    for other in series:
        here = sitk.Resample(other, defaced, sitk.Transform(), sitk.sitkLinear, BLANK_HU, sitk.sitkFloat32)
        array = sitk.GetArrayFromImage(here)
        values.append(np.where(array > PADDING_HU, array, values[0]))
    for name, join in (("greatest", np.max), ("least", np.min), ("mean", np.mean)):
        image = sitk.GetImageFromArray(join(values, axis=0).astype(np.float32))
        image.CopyInformation(defaced)
        yield Recovery(f"{UNION}, {name} of {len(values)}", UNION, image)


def around_head(image: sitk.Image, pose: Pose) -> sitk.Image:
    """Cut out what the camera sees: a box around the middle of the head, as far as the volume goes."""
    middle = np.array(image.TransformPhysicalPointToContinuousIndex([float(x) for x in pose.center]))
    half = FIELD_MM / 2.0 / np.array(image.GetSpacing())
    low = np.clip(np.floor(middle - half), 0, np.array(image.GetSize()) - 1).astype(int)
    high = np.clip(np.ceil(middle + half), low + 1, image.GetSize()).astype(int)
    return sitk.RegionOfInterest(image, [int(n) for n in high - low], [int(n) for n in low])


class _Scan:
    """The volume as an array (z, y, x) with the local noise, which several attacks use."""

    def __init__(self, image: sitk.Image, pose: Pose):
        self.image = image
        self.hu = sitk.GetArrayFromImage(image).astype(np.float32)
        self.tissue = self.hu >= TISSUE_HU
        self.spacing = np.array(image.GetSpacing()[::-1])
        self.voxel_ml = float(np.prod(self.spacing)) / 1000.0
        self.front = posterior_of(image, pose) < FRONT_MM
        self.air = self.hu < PURE_AIR_HU
        # Differences to the neighbours' mean cancel gradients, so what is left is noise. In air only air counts, so
        # that the skin does not look like noise.
        difference = self.hu - ndimage.uniform_filter(self.hu, 3)
        self.noise = np.sqrt(np.maximum(ndimage.uniform_filter(difference**2, 3), 0.0))
        self.tissue_noise = float(np.median(self.noise[self.tissue])) if self.tissue.any() else 0.0
        self.difference = np.where(self.air, self.hu - self.air_mean(self.hu, 3), np.float32(0.0))
        self.noise[self.air] = np.sqrt(np.maximum(self.air_mean(self.difference**2, 3), 0.0))[self.air]
        self.air_noise = float(np.median(self.noise[self.air])) if self.air.any() else 0.0

    def air_mean(self, values: np.ndarray, width: int) -> np.ndarray:
        """Mean of the values over the air voxels of a cube around each air voxel."""
        total = ndimage.uniform_filter(np.where(self.air, values, np.float32(0.0)), width)
        share = ndimage.uniform_filter(self.air.astype(np.float32), width)
        return total / np.maximum(share, 1e-3)


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
    usual = np.where(scan.air, scan.air_noise, scan.tissue_noise)
    return (scan.noise < QUIET_SHARE * usual) & ~scan.tissue


def _high_variance(scan: _Scan) -> np.ndarray:
    """Voxels of air with more noise than the air's usual."""
    return (scan.noise > LOUD_SHARE * scan.air_noise + LOUD_HU) & scan.air


def _other_texture(scan: _Scan) -> np.ndarray:
    """Air whose noise runs on to the next voxel more or less than the air's usual."""
    marked = np.zeros(scan.hu.shape, dtype=bool)
    noisy = scan.air & (scan.noise > NOISY_HU)
    if not noisy.any():
        return marked
    power = scan.air_mean(scan.difference**2, 7)
    for axis in range(3):
        shared = scan.air_mean(scan.difference * np.roll(scan.difference, -1, axis), 7)
        correlation = shared / np.maximum(power, 1.0)
        marked |= noisy & (np.abs(correlation - np.median(correlation[noisy])) > OTHER_CORRELATION)
    return marked


def _other_level(scan: _Scan) -> np.ndarray:
    """Air whose mean lies off the air's usual."""
    level = scan.air_mean(scan.hu, 5)
    usual = float(np.median(level[scan.air])) if scan.air.any() else 0.0
    return scan.air & (np.abs(level - usual) > max(OTHER_LEVEL_HU, scan.air_noise))


def _repeats(scan: _Scan) -> np.ndarray:
    """Air that holds the same values as air elsewhere: a fill copied from the scan's own air."""
    values = sitk.GetArrayViewFromImage(scan.image)
    marked = np.zeros(values.shape, dtype=bool)
    candidates = scan.air & (scan.noise > NOISY_HU)
    candidates[:, -1:] = False
    candidates[:, :, -REPEAT_LENGTH:] = False
    where = np.flatnonzero(candidates)
    if len(where) == 0:
        return marked
    flat, row = values.ravel(), values.shape[2]
    prints = np.zeros(len(where), dtype=np.uint64)
    for offset in [*range(REPEAT_LENGTH), *range(row, row + REPEAT_LENGTH)]:
        prints = prints * np.uint64(0x100000001B3) + (flat[where + offset].astype(np.int64) + 4096).astype(np.uint64)
    _, inverse, counts = np.unique(prints, return_inverse=True, return_counts=True)
    marked.ravel()[where[(counts[inverse] > 1) & (counts[inverse] < MOST_TWINS)]] = True
    return marked


REGION_FINDERS: dict[str, Callable[[_Scan], np.ndarray]] = {
    "constant region": _constant,
    "low variance": _low_variance,
    "high variance": _high_variance,
    "texture": _other_texture,
    "level": _other_level,
    "repeats": _repeats,
}
"""Kind of attack → function of the scan that marks the voxels that look filled."""
UNION = "union of series"
"""The kind of what is joined of several defaced series of one head; not one of ATTACKS, which take one volume."""
ATTACKS = (
    "constant region",
    "low variance",
    "lowered iso",
    "deblurring",
    "level",
    "high variance",
    "texture",
    "repeats",
    "growth",
)
"""All kinds, in the order in which they are tried: what most tools leave comes first (a fill of one value, or without
noise; then rims and blurs), so that who asks has an answer early. By judgement."""


def posterior_of(image: sitk.Image, pose: Pose) -> np.ndarray:
    """Position of every voxel along the head's own axis to the back, mm from the pose's center, (z, y, x)."""
    per_index = pose.axes[1] @ (np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing())
    start = float(pose.axes[1] @ (np.array(image.GetOrigin()) - pose.center))
    nx, ny, nz = image.GetSize()
    x, y, z = (step * np.arange(n, dtype=np.float32) for step, n in zip(per_index, (nx, ny, nz)))
    return start + z[:, None, None] + y[None, :, None] + x[None, None, :]


def _pieces(scan: _Scan, marked: np.ndarray) -> Iterator[np.ndarray]:
    """The largest connected pieces of the voxels marked, without thin rims, grown back to their edges.

    What takes up most of the air is the air itself.
    """
    cube = np.ones((3, 3, 3), dtype=bool)
    core = sitk.GetImageFromArray(ndimage.binary_opening(marked, cube).astype(np.uint8))
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(core))
    everywhere = np.bincount(labels.ravel())
    in_front = np.bincount(labels[scan.front], minlength=len(everywhere))
    in_front[everywhere > MOST_OF_THE_AIR * np.count_nonzero(scan.air)] = 0
    in_front[0] = 0
    for label in np.argsort(in_front)[::-1][:REGION_TRIES]:
        if in_front[label] * scan.voxel_ml < SMALLEST_REGION_ML:
            return
        yield ndimage.binary_dilation(labels == label, cube, iterations=2)


def _of_one_value(scan: _Scan, region: np.ndarray) -> np.ndarray:
    """All that hangs together and has the value that most of a region has: its edge to the voxel, thin parts included.

    The region itself where that is the air: then nothing tells them apart.
    """
    values, counts = np.unique(scan.hu[region], return_counts=True)
    same = sitk.GetImageFromArray((scan.hu == values[counts.argmax()]).astype(np.uint8))
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(same))
    within = np.bincount(labels[region])
    within[0] = 0
    found = labels == within.argmax()
    is_air = np.count_nonzero(found) > MOST_OF_THE_AIR * np.count_nonzero(scan.air)
    return region if is_air else found


def _peeled(scan: _Scan, region: np.ndarray, kind: str, number: int) -> Iterator[Recovery]:
    solid = sitk.GetImageFromArray((region | scan.tissue).astype(np.uint8))
    solid.SetSpacing(scan.image.GetSpacing())
    # Outside the field of view lies no air to peel from.
    depth = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(solid, True, False, True))
    region_ml = float(region.sum()) * scan.voxel_ml
    for peel in PEELS_MM:
        kept = region & (depth >= peel) & ~scan.tissue
        if np.count_nonzero(kept & scan.front) * scan.voxel_ml < SMALLEST_REGION_ML:
            return
        values = np.where(kept, np.float32(FILLED_HU), scan.hu)
        image = sitk.GetImageFromArray(values)
        image.CopyInformation(scan.image)
        yield Recovery(f"{kind} {number}, peel {peel:.0f} mm", kind, image, TISSUE_HU, region_ml)


def _grown(image: sitk.Image) -> Iterator[Recovery]:
    """The tissue's outside moved outwards: volumes that fall off evenly there."""
    coarse = _on_grid(image, COARSE_MM)
    outside = sitk.SignedMaurerDistanceMap(
        sitk.SmoothingRecursiveGaussian(coarse, 1.0) >= TISSUE_HU, False, False, True
    )
    for growth in GROWTHS_MM:
        yield Recovery(f"growth {growth:.0f} mm", "growth", (growth - outside) * SLOPE_HU_PER_MM + TISSUE_HU)


def _deblurred(image: sitk.Image) -> Iterator[Recovery]:
    """Undo a Gaussian blur in the frequency domain, held back where the blur left next to nothing."""
    coarse = _on_grid(image, COARSE_MM)
    # The cosine transform takes the volume as mirrored at its faces, so nothing wraps round.
    spectrum = fft.dctn(sitk.GetArrayViewFromImage(coarse), norm="ortho")
    frequencies = [np.pi * np.arange(n, dtype=np.float32) / n / COARSE_MM for n in spectrum.shape]  # radians per mm
    square = sum(f**2 for f in np.meshgrid(*frequencies, indexing="ij", sparse=True))
    for sigma in DEBLUR_SIGMAS_MM:
        blur = np.exp(-0.5 * sigma**2 * square)
        gain = (blur + DEBLUR_FLOOR) / (blur**2 + DEBLUR_FLOOR)
        sharp = fft.idctn(spectrum * gain, norm="ortho").astype(np.float32)
        sharpened = sitk.GetImageFromArray(sharp)
        sharpened.CopyInformation(coarse)
        for iso in DEBLUR_ISO:
            yield Recovery(f"deblurring {sigma:.0f} mm, iso {iso:.0f}", "deblurring", sharpened, iso)


def _on_grid(image: sitk.Image, spacing_mm: float) -> sitk.Image:
    size = [max(2, int((n - 1) * s / spacing_mm) + 1) for n, s in zip(image.GetSize(), image.GetSpacing())]
    return sitk.Resample(
        sitk.Cast(image, sitk.sitkFloat32),
        size,
        sitk.Transform(),
        sitk.sitkLinear,
        image.GetOrigin(),
        [spacing_mm] * 3,
        image.GetDirection(),
    )
