"""How this scanner's air and tissue look, measured in the scan, and noise that looks the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import fft, special

from ..anatomy.hounsfield import PADDING_HU, PURE_AIR_HU

BLOCKS_WANTED = 48
"""Blocks that are measured; enough for a spectrum of noise, few enough to be found in a moment. Chosen by eye."""

MOST_NOISE = 1.25
"""Times the usual noise: blocks with more hold something else. Chosen by eye."""

CORNERS = (slice(0, 4), slice(-4, None))
"""Rows and columns at the corners of a block: one that is flat there is padding in part. Chosen by eye."""

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Material:
    """What a block of voxels has to be like to hold nothing but one material: size, mean and values in HU."""

    block: int
    mean: tuple[float, float]
    values: tuple[float, float]
    otherwise: tuple[float, float]
    """Mean and standard deviation in HU where none is in view."""


AIR = Material(24, (-1100.0, -900.0), (PADDING_HU, PURE_AIR_HU), (-1000.0, 10.0))
"""Air around a head, which scanners show at -1000 HU, give or take their calibration. Chosen by eye."""

TISSUE = Material(12, (0.0, 90.0), (-250.0, 300.0), (40.0, 8.0))
"""Brain and muscle, without and with contrast medium; smaller blocks, since little of it is even. Chosen by eye."""


@dataclass(frozen=True)
class Texture:
    """How a material looks in a scan.

    Attributes
    ----------
    values: numpy.ndarray
        Sorted sample of its values in HU.
    deviation: float
        Standard deviation of the noise in HU, without what is brighter and darker in other places.
    kernel: numpy.ndarray
        Turns white noise into noise of its texture, in the plane of a slice, shape (rows, columns).
    between_slices: float
        Correlation of neighbouring slices, 0 to 1.
    """

    values: np.ndarray
    deviation: float
    kernel: np.ndarray
    between_slices: float

    def table(self) -> np.ndarray:
        """Values in HU of noise from -5 to 5 standard deviations, 4096 of them."""
        levels = special.ndtri((np.arange(len(self.values)) + 0.5) / len(self.values))
        return np.interp(np.linspace(-5.0, 5.0, 4096), levels, self.values)


def measure(volume: np.ndarray, box: Box, rng: np.random.Generator, material: Material = AIR) -> Texture:
    """Measure a material of a scan in blocks of voxels in neighbouring slices.

    Parameters
    ----------
    volume: numpy.ndarray
        CT in HU, shape (slices, rows, columns).
    box: tuple of slice
        Where to look first, along (columns, rows, slices); blocks are taken from the whole volume where it holds none.
    rng: numpy.random.Generator
        Chooses the blocks.
    material: Material
        What to look for.

    Returns
    -------
    Texture
        White noise as the material has it ``otherwise``, but not below the lowest value of the volume, if there is none
        in view to measure.
    """
    whole = tuple(slice(0, n) for n in volume.shape)
    blocks = _blocks(volume, box[::-1], rng, material) or _blocks(volume, whole, rng, material)
    if not blocks:
        mean, deviation = material.otherwise
        level = max(mean, float(volume.min()))
        values = level + deviation * special.ndtri(np.linspace(0.001, 0.999, 999))
        return Texture(values, deviation, np.ones((1, 1)), 0.0)
    pairs = np.array(blocks, dtype=np.float32)
    noise = pairs - pairs.mean(axis=(2, 3), keepdims=True)
    power = (np.abs(fft.fft2(noise)) ** 2).mean(axis=(0, 1))
    kernel = fft.fftshift(fft.ifft2(np.sqrt(power)).real)
    size = np.linalg.norm(kernel)
    variance = float((noise**2).mean())
    correlation = float((noise[:, 0] * noise[:, -1]).mean()) / variance if variance and pairs.shape[1] > 1 else 0.0
    values = np.sort(pairs, axis=None)[:: max(1, pairs.size // 20000)]
    kernel = kernel / size if size else np.ones((1, 1))
    return Texture(values, variance**0.5, kernel, float(np.clip(correlation, 0.0, 0.95)))


def _blocks(volume: np.ndarray, box: Box, rng: np.random.Generator, material: Material) -> list[np.ndarray]:
    size = np.minimum((2, material.block, material.block), volume.shape)
    low = np.array([side.start for side in box])
    high = np.array([side.stop for side in box]) - size + 1
    if (high <= low).any():
        return []
    lowest, highest = material.values
    noisy, flat = [], []
    for corner in rng.integers(low, high, (4000, 3)):
        block = volume[tuple(slice(a, a + n) for a, n in zip(corner, size))]
        if not lowest < block[0, 0, 0] < highest or block.max() >= highest or block.min() <= lowest:
            continue
        if material.mean[0] < block.mean() < material.mean[1]:
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
    """Those without a streak, a tube or the edge of something else in them."""
    noise = np.array([block.std() for block in blocks])
    return [block for block, std in zip(blocks, noise) if std <= MOST_NOISE * np.median(noise)]


def noise_in_slices(
    textures: Sequence[Texture], here: np.ndarray, rng: np.random.Generator
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Noise of mean 0 and standard deviation 1 with some textures, slice by slice where ``here`` (z, y, x) is true.

    Yields the number of each slice and a plane (y, x) for each texture, so that memory does not follow the volume.
    """
    rows, columns = here.shape[1:]
    shape = [fft.next_fast_len(n + AIR.block, real=True) for n in (rows, columns)]
    transfers = [fft.rfft2(texture.kernel, shape).astype(np.complex64) for texture in textures]
    keep = [np.float32(texture.between_slices) for texture in textures]
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()  # one in a batch that fills all processors
    noise = None
    for index in range(len(here)):
        if not here[index].any():
            noise = None
            continue
        white = fft.rfft2(rng.standard_normal(shape, dtype=np.float32), workers=threads)
        fresh = [fft.irfft2(white * transfer, shape, workers=threads)[:rows, :columns] for transfer in transfers]
        if noise is not None:
            for new, old, k in zip(fresh, noise, keep):
                new *= np.sqrt(1 - k * k)
                new += k * old
        noise = fresh
        yield index, noise
