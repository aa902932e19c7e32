"""Fill the removed region: with air like this scanner's own, or, for comparison, as other tools do."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from scipy import fft, special

from ..anatomy.grids import bounding_box, voxels
from ..anatomy.hounsfield import PADDING_HU
from ..errors import InputError

FILLS = ("air", "constant", "percentile", "blur")
BLOCK = 24
BLOCKS_WANTED = 48
AIR_MEAN_HU = (-1100.0, -900.0)
AIR_PEAK_HU = -700.0
MOST_NOISE = 1.25
"""Times the usual noise: blocks with more hold something else than air."""
CORNERS = (slice(0, 4), slice(-4, None))


@dataclass(frozen=True)
class Air:
    """How this scanner's air looks.

    Attributes
    ----------
    values: numpy.ndarray
        Sorted sample of its values in HU.
    kernel: numpy.ndarray
        Turns white noise into noise of its texture, in the plane of a slice, shape (rows, columns).
    between_slices: float
        Correlation of neighbouring slices, 0 to 1.
    """

    values: np.ndarray
    kernel: np.ndarray
    between_slices: float


def fill_region(
    image: sitk.Image,
    region: sitk.Image,
    *,
    fill: str = "air",
    constant: float = -1000.0,
    percentile: float = 10.0,
    blur_mm: float = 10.0,
    seed: int | None = None,
) -> sitk.Image:
    """Fill a region of a CT.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units; it is not changed.
    region: SimpleITK.Image
        Mask on the same grid; what is not in it stays bit-identical.
    fill: str
        ``"air"``: noise with the values and the texture of the air around this head. ``"constant"`` and
        ``"percentile"`` (what CTA-DEFACE does with p = 10): one value, so that everybody can find the region.
        ``"blur"``: the face smoothed, which keeps its rough shape.
    constant: float
        HU for ``"constant"``, clipped to the range of the volume.
    percentile: float
        Percentile of the whole volume for ``"percentile"``.
    blur_mm: float
        Standard deviation in mm for ``"blur"``.
    seed: int, optional
        Seed of the noise; drawn anew when None. Who knows it can tell the fill from a scan.

    Returns
    -------
    SimpleITK.Image
        Filled copy with the same data type, geometry and range of values.

    Raises
    ------
    InputError
        When ``fill`` is none of these.
    """
    if fill not in FILLS:
        raise InputError(f"There is no fill “{fill}”: choose {', '.join(FILLS)}.")
    box = bounding_box(region)
    if box is None:
        return sitk.Image(image)
    whole = sitk.GetArrayViewFromImage(image)
    here = voxels(region, box) > 0
    values = voxels(image, box).copy()
    if fill == "blur":
        values[here] = _cast(_blurred(image, box, blur_mm)[here], values.dtype)
    elif fill == "air":
        rng = np.random.default_rng(seed)
        air = measure_air(whole, box, rng)
        _fill_with_air(values, here, replace(air, values=np.clip(air.values, whole.min(), whole.max())), rng)
    else:
        value = (
            np.percentile(whole, percentile) if fill == "percentile" else np.clip(constant, whole.min(), whole.max())
        )
        values[here] = _cast(value, values.dtype)
    part = sitk.GetImageFromArray(values)
    del values, here  # the most memory of a defacing is taken here
    return sitk.Paste(image, part, part.GetSize(), destinationIndex=[side.start for side in box])


def measure_air(volume: np.ndarray, box: tuple[slice, ...], rng: np.random.Generator) -> Air:
    """Measure the air of a scan in blocks of 24×24 voxels in neighbouring slices.

    Parameters
    ----------
    volume: numpy.ndarray
        CT in HU, shape (slices, rows, columns).
    box: tuple of slice
        Where to look first, along (columns, rows, slices); blocks are taken from the whole volume where it holds none.
    rng: numpy.random.Generator
        Chooses the blocks.

    Returns
    -------
    Air
        White noise of 10 HU about -1000 HU, or about the lowest value of the volume when that is higher, if there is
        no air in view to measure.
    """
    blocks = _air_blocks(volume, box[::-1], rng) or _air_blocks(volume, tuple(slice(0, n) for n in volume.shape), rng)
    if not blocks:
        level = max(-1000.0, float(volume.min()))
        return Air(level + 10.0 * special.ndtri(np.linspace(0.001, 0.999, 999)), np.ones((1, 1)), 0.0)
    pairs = np.array(blocks, dtype=np.float32)
    noise = pairs - pairs.mean(axis=(2, 3), keepdims=True)
    power = (np.abs(fft.fft2(noise)) ** 2).mean(axis=(0, 1))
    kernel = fft.fftshift(fft.ifft2(np.sqrt(power)).real)
    size = np.linalg.norm(kernel)
    variance = float((noise**2).mean())
    correlation = float((noise[:, 0] * noise[:, -1]).mean()) / variance if variance and pairs.shape[1] > 1 else 0.0
    values = np.sort(pairs, axis=None)[:: max(1, pairs.size // 20000)]
    return Air(values, kernel / size if size else np.ones((1, 1)), float(np.clip(correlation, 0.0, 0.95)))


def _air_blocks(volume: np.ndarray, box: tuple[slice, ...], rng: np.random.Generator) -> list[np.ndarray]:
    size = np.minimum((2, BLOCK, BLOCK), volume.shape)
    low = np.array([side.start for side in box])
    high = np.array([side.stop for side in box]) - size + 1
    if (high <= low).any():
        return []
    noisy, flat = [], []
    for corner in rng.integers(low, high, (4000, 3)):
        block = volume[tuple(slice(a, a + n) for a, n in zip(corner, size))]
        if block[0, 0, 0] >= AIR_PEAK_HU or block.max() >= AIR_PEAK_HU or block.min() <= PADDING_HU:
            continue
        if AIR_MEAN_HU[0] < block.mean() < AIR_MEAN_HU[1]:
            if np.ptp(block) == 0:
                flat.append(block)
            elif all(np.ptp(block[:, rows, columns]) > 0 for rows in CORNERS for columns in CORNERS):
                noisy.append(block)
        if len(noisy) == BLOCKS_WANTED:
            break
    # Flat blocks are padding where the scan has noise, and air that somebody has set to one value where it has none.
    blocks = _evenly_noisy(noisy) if len(noisy) >= 4 else flat
    return blocks if len(blocks) >= 4 else []


def _evenly_noisy(blocks: list[np.ndarray]) -> list[np.ndarray]:
    """Those without a streak, a tube or the edge of a pillow in them."""
    noise = np.array([block.std() for block in blocks])
    return [block for block, std in zip(blocks, noise) if std <= MOST_NOISE * np.median(noise)]


def _fill_with_air(values: np.ndarray, here: np.ndarray, air: Air, rng: np.random.Generator) -> None:
    """Put air into ``values`` where ``here`` is true, slice by slice, so that memory does not follow the volume."""
    levels = special.ndtri((np.arange(len(air.values)) + 0.5) / len(air.values))
    table = np.interp(np.linspace(-5.0, 5.0, 4096), levels, air.values)
    table = _cast(table, values.dtype)
    rows, columns = here.shape[1:]
    shape = [fft.next_fast_len(n + BLOCK, real=True) for n in (rows, columns)]
    transfer = fft.rfft2(air.kernel, shape).astype(np.complex64)
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()  # one in a batch that fills all processors
    keep, renew = np.float32(air.between_slices), np.float32(np.sqrt(1.0 - air.between_slices**2))
    noise = None
    for index in range(len(here)):
        if not here[index].any():
            noise = None
            continue
        white = fft.rfft2(rng.standard_normal(shape, dtype=np.float32), workers=threads)
        fresh = fft.irfft2(white * transfer, shape, workers=threads)[:rows, :columns]
        noise = fresh if noise is None else keep * noise + renew * fresh
        step = np.clip((noise[here[index]] + 5.0) * (4095 / 10.0), 0, 4095).astype(np.int16)
        values[index][here[index]] = table[step]


def _blurred(image: sitk.Image, box: tuple[slice, ...], blur_mm: float) -> np.ndarray:
    around = [int(np.ceil(3.0 * blur_mm / spacing)) for spacing in image.GetSpacing()]
    wide = tuple(slice(max(side.start - n, 0), side.stop + n) for side, n in zip(box, around))
    part = sitk.Cast(
        image[tuple(slice(a.start, min(a.stop, n)) for a, n in zip(wide, image.GetSize()))], sitk.sitkFloat32
    )
    for axis, size in enumerate(part.GetSize()):
        if size >= 4:
            part = sitk.RecursiveGaussian(part, blur_mm, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis)
    offset = [side.start - w.start for side, w in zip(box, wide)]
    inner = tuple(slice(a, a + side.stop - side.start) for a, side in zip(offset, box))
    return sitk.GetArrayFromImage(part[inner])


def _cast(values: np.ndarray | float, dtype: np.dtype) -> np.ndarray:
    """Values in the volume's data type, rounded and clipped to what it can hold."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return np.asarray(values).astype(dtype)
