"""What a scanner makes of the synthetic head: noise, streaks from metal, clipping, padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import shape
from .solids import Array

if TYPE_CHECKING:
    from .parameters import PhantomParameters
    from .patient import Patient

_DIRECTIONS = 720
"""Directions of the streaks around a piece of metal: half a degree each, finer than a voxel near it."""

_RAMP_POWER, _ROLL_OFF = 0.4, 0.35
"""Spectrum of the noise over the frequency in 1/mm: this power of it, times a Gaussian of this width.

Set so that neighbours 1 mm apart correlate by 0.45 and those 2 mm apart not at all, as in clinical head scans.
"""

_NOISE_OUTSIDE = 0.35
"""Noise of the air around the head in parts of that in its middle (0 to 1). Chosen by eye."""

_NOISE_FULL_MM = 50.0
"""Depth in mm under the skin at which the noise is that of the middle. Chosen by eye."""

_HIGHEST_HU = 3071
"""Highest value stored, as by scanners with 12 bits."""

_STREAK_HU, _BAND_HU = 320, 260
"""Strength in HU of the rays out of metal, and of the dark bands between two pieces. Chosen by eye."""

_METAL_REACH_MM = 9
"""Slices up to this far, in mm, from a piece of metal show its streaks: two of its Gaussian widths."""

_METAL_WIDTH_MM = 4.5
"""Width in mm, along z, of the streaks of a piece of metal, which is as large. Chosen by eye."""


class Scanner:
    """Turns Hounsfield units into what is stored.

    The noise has the spectrum of filtered back projection with a soft kernel: a ramp with a Gaussian roll-off.
    """

    def __init__(self, p: PhantomParameters, patient: Patient) -> None:
        from scipy import fft

        self.p = p
        (nx, ny), (sx, sy, _) = p.matrix, p.spacing
        f = np.hypot(fft.rfftfreq(nx, sx)[None, :], fft.fftfreq(ny, sy)[:, None])
        response = f**_RAMP_POWER * np.exp(-((f / _ROLL_OFF) ** 2))
        twice = np.full(response.shape[1], 2.0)
        twice[0] = 1
        if nx % 2 == 0:
            twice[-1] = 1
        self.response = (response / np.sqrt((response**2 * twice).sum() / (nx * ny))).astype(np.float32)
        self.x = ((np.arange(nx) - (nx - 1) / 2) * sx)[None, :]
        self.y = ((np.arange(ny) - (ny - 1) / 2) * sy)[:, None]
        self.outside = np.hypot(self.x, self.y) > (min(nx * sx, ny * sy) - sx) / 2
        self.metal = patient.from_head(np.array(shape.metal_teeth(patient.shape))) if p.metal else np.empty((0, 3))
        rng = np.random.default_rng([p.seed, 31])
        self.rays = [_ray(rng) for _ in self.metal]

    def acquire(self, hu: Array, skin: Array, slices: range, zs: Array) -> Array:
        """Slices as stored.

        Parameters
        ----------
        hu: numpy.ndarray
            Hounsfield units without noise, shape (z, y, x).
        skin: numpy.ndarray
            Signed distance to the skin in mm, same shape.
        slices: range
            Numbers of the slices, which seed their noise.
        zs: numpy.ndarray
            Their z in LPS mm.

        Returns
        -------
        numpy.ndarray
            int16, shape of ``hu``.
        """
        from scipy import fft

        p = self.p
        out = np.empty(hu.shape, np.int16)
        for n, number in enumerate(slices):
            white = np.random.default_rng([p.seed, 30, number]).standard_normal(hu.shape[1:], np.float32)
            noise = fft.irfft2(fft.rfft2(white) * self.response, s=white.shape)
            inside = np.clip(skin[n] / -_NOISE_FULL_MM, 0, 1)
            level = np.float32(p.noise) * (np.float32(_NOISE_OUTSIDE) + np.float32(1 - _NOISE_OUTSIDE) * inside)
            one = hu[n] + noise * level
            if p.metal:
                one += self._streaks(float(zs[n]))
            one = np.clip(np.rint(one), p.clip, _HIGHEST_HU)
            if p.padding is not None:
                one[self.outside] = p.padding
            out[n] = one
        return out

    def _streaks(self, z: float) -> Array:
        """Fine rays out of each piece of metal, and dark bands between two of them; shape (y, x), HU."""
        out = np.zeros((self.y.size, self.x.size))
        near = [(m, rays) for m, rays in zip(self.metal, self.rays) if abs(m[2] - z) < _METAL_REACH_MM]
        for m, rays in near:
            dx, dy = self.x - m[0], self.y - m[1]
            r = np.hypot(dx, dy)
            direction = (np.arctan2(dy, dx) / (2 * np.pi) * _DIRECTIONS + 9 * z) % _DIRECTIONS
            rays = np.interp(direction, np.arange(_DIRECTIONS + 1), np.append(rays, rays[0]))
            out += _STREAK_HU * _near(z - m[2]) * rays / (1 + r / 14) * np.exp(-r / 120)
        for number, (a, _) in enumerate(near):
            for b, _ in near[number + 1 :]:
                middle, run = (a + b) / 2, (b - a)[:2] / np.hypot(*(b - a)[:2])
                dx, dy = self.x - middle[0], self.y - middle[1]
                across, along = dx * run[1] - dy * run[0], dx * run[0] + dy * run[1]
                out -= _BAND_HU * _near(z - middle[2]) * np.exp(-((across / 4) ** 2) - np.abs(along) / 50)
        return (self.p.metal * out).astype(np.float32)


def _near(distance: float) -> float:
    """How strong the streaks of a piece of metal are, 0 to 1, at a distance in mm along z."""
    return float(np.exp(-((distance / _METAL_WIDTH_MM) ** 2)))


def _ray(rng: np.random.Generator) -> Array:
    """Strength of a streak over all directions, mean 0."""
    from scipy.ndimage import gaussian_filter1d

    rays = gaussian_filter1d(rng.standard_normal(_DIRECTIONS), 2.0, mode="wrap")
    rays = np.sign(rays) * np.abs(rays / rays.std()) ** 1.7
    return rays - rays.mean()
