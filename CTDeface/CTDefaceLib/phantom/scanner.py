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


class Scanner:
    """Turns Hounsfield units into what is stored.

    The noise has the spectrum of filtered back projection with a soft kernel: a ramp with a Gaussian roll-off, set so
    that neighbours 1 mm apart correlate by 0.45 and those 2 mm apart not at all, as in clinical head scans.
    """

    def __init__(self, p: PhantomParameters, patient: Patient):
        from scipy import fft

        self.p = p
        (nx, ny), (sx, sy, _) = p.matrix, p.spacing
        f = np.hypot(fft.rfftfreq(nx, sx)[None, :], fft.fftfreq(ny, sy)[:, None])
        response = f**0.4 * np.exp(-((f / 0.35) ** 2))
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
        """Slices as stored: int16, shape of `hu`.

        Args:
            hu: Hounsfield units without noise, shape (z, y, x).
            skin: signed distance to the skin in mm, same shape.
            slices: numbers of the slices, which seed their noise.
            zs: their z in LPS mm.
        """
        from scipy import fft

        p = self.p
        out = np.empty(hu.shape, np.int16)
        for n, number in enumerate(slices):
            white = np.random.default_rng([p.seed, 30, number]).standard_normal(hu.shape[1:], np.float32)
            noise = fft.irfft2(fft.rfft2(white) * self.response, s=white.shape)
            level = np.float32(p.noise) * (np.float32(0.35) + np.float32(0.65) * np.clip(skin[n] / -50, 0, 1))
            one = hu[n] + noise * level
            if p.metal:
                one += self._streaks(float(zs[n]))
            one = np.clip(np.rint(one), p.clip, 3071)
            if p.padding is not None:
                one[self.outside] = p.padding
            out[n] = one
        return out

    def _streaks(self, z: float) -> Array:
        """Fine rays out of each piece of metal, and dark bands between two of them; shape (y, x), HU."""
        out = np.zeros((self.y.size, self.x.size))
        near = [(m, rays) for m, rays in zip(self.metal, self.rays) if abs(m[2] - z) < 9]
        for m, rays in near:
            dx, dy = self.x - m[0], self.y - m[1]
            r = np.hypot(dx, dy)
            direction = (np.arctan2(dy, dx) / (2 * np.pi) * _DIRECTIONS + 9 * z) % _DIRECTIONS
            rays = np.interp(direction, np.arange(_DIRECTIONS + 1), np.append(rays, rays[0]))
            out += 320 * _near(z - m[2]) * rays / (1 + r / 14) * np.exp(-r / 120)
        for number, (a, _) in enumerate(near):
            for b, _ in near[number + 1 :]:
                middle, run = (a + b) / 2, (b - a)[:2] / np.hypot(*(b - a)[:2])
                dx, dy = self.x - middle[0], self.y - middle[1]
                across, along = dx * run[1] - dy * run[0], dx * run[0] + dy * run[1]
                out -= 260 * _near(z - middle[2]) * np.exp(-((across / 4) ** 2) - np.abs(along) / 50)
        return (self.p.metal * out).astype(np.float32)


def _near(distance: float) -> float:
    return float(np.exp(-((distance / 4.5) ** 2)))


def _ray(rng: np.random.Generator) -> Array:
    """Strength of a streak over all directions, mean 0."""
    from scipy.ndimage import gaussian_filter1d

    rays = gaussian_filter1d(rng.standard_normal(_DIRECTIONS), 2.0, mode="wrap")
    rays = np.sign(rays) * np.abs(rays / rays.std()) ** 1.7
    return rays - rays.mean()
