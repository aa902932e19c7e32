"""By how much the values of a CT are off Hounsfield units, found by the bulk of its voxels: air, soft tissue, bone.

Values that mark what was not measured (padding) are set aside first: they can lie anywhere.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .anatomy.hounsfield import BONE_HU, HALFWAY_HU

SMALLEST_SHARE = 0.001
"""Of the voxels, that are air and that are bone; every head CT has far more of both."""

STORED_OFFSET = 1024
"""HU = stored value - 1024 where a rescale intercept got lost."""

NEAR_OFFSET = 60
"""An offset found within this of STORED_OFFSET, in HU, is that one: air and soft tissue are not found more exactly."""

SOFT_TISSUE_HU = 150
"""Around water: most of what is neither air nor bone in a head lies within it."""

AIR_PEAK, TISSUE_PEAK = (-1000.0, 75.0), (40.0, 80.0)
"""Where most of the air and of the soft tissue lies, and how far around, in HU."""

SHIFTS = range(-600, 1610, 10)
"""The offsets that are tried, in HU."""

SMALLEST_SHIFT = 100
"""In HU: what is off by less is found, cut and filled all the same, and scanners differ by half of it."""

CLEARLY = 0.3
"""Share (0 to 1) of the best offset's fit that no offset has to have for the values to be Hounsfield units."""

LEAST_PEAK = 0.05
"""Share (0 to 1) of the voxels that air and soft tissue have to be, each, for an offset to be told by them."""

LESS_BONE = 1.5
"""Soft tissue is more than so many times the bone: in every head, and not where bone is taken for it."""

PADDING_SHARE = 0.005
"""Share (0 to 1) of the voxels that have to have a value for it to be padding."""

PADDING_NEAR, PADDING_TIMES = 30, 3
"""… and there are so many times more of them than of all others within so many HU: noise spreads what was measured, and
what is clipped goes on above."""

SAMPLED_VOXELS = 1_000_000
"""About as many are looked at."""


def sampled(image: sitk.Image) -> np.ndarray:
    """Some of the voxels of a volume, evenly spread, in ascending order: float32, shape (n,)."""
    voxels = sitk.GetArrayViewFromImage(image)
    step = max(1, round((voxels.size / SAMPLED_VOXELS) ** (1 / 3)))
    return np.sort(voxels[::step, ::step, ::step].astype(np.float32), axis=None)


def without_padding(values: np.ndarray) -> np.ndarray:
    """Those of :func:`sampled` but for padding: values that many have and that nearly none lies near.

    All of them where nothing else would be left, as in a head without noise.
    """
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1])
    counts = np.diff(np.append(starts, values.size))
    often = counts > PADDING_SHARE * values.size
    at, counts = values[starts[often]], counts[often]
    low, high = np.searchsorted(values, at - PADDING_NEAR), np.searchsorted(values, at + PADDING_NEAR, "right")
    padding = at[counts > PADDING_TIMES * (high - low - counts)]
    kept = values[~np.isin(values, padding)]
    return kept if kept.size else values


def shares(hu: np.ndarray) -> tuple[float, float]:
    """Which share of values, in order, is air, and which is bone."""
    return _share(hu, -np.inf, HALFWAY_HU), _share(hu, BONE_HU, np.inf)


def offset_of(values: np.ndarray) -> int:
    """By how much values exceed Hounsfield units: 0 where nothing speaks against it, 1024 for a lost intercept.

    Parameters
    ----------
    values: numpy.ndarray
        Of :func:`sampled`.
    """
    measured = without_padding(values)
    if shares(measured)[0] < SMALLEST_SHARE and _is_head(measured - STORED_OFFSET):
        return STORED_OFFSET
    for some in (measured, values):  # air that is all of one value looks like padding
        fits = [_fit(some, shift) for shift in SHIFTS]
        shift = SHIFTS[int(np.argmax(fits))]
        if abs(shift) < SMALLEST_SHIFT or _fit(some, 0) > CLEARLY * max(fits):
            return 0
        if min(_peaks(some, shift)) >= LEAST_PEAK and _is_head(some - shift):
            return STORED_OFFSET if abs(shift - STORED_OFFSET) <= NEAR_OFFSET else shift
    return 0


def _share(values: np.ndarray, low: float, high: float) -> float:
    """Which share of values, in order, lies between two."""
    first, last = np.searchsorted(
        values, np.array([low, high], values.dtype)
    )  # of another type, all would be converted
    return float(last - first) / values.size


def _peaks(values: np.ndarray, shift: float) -> list[float]:
    """Which share of the values is air and which soft tissue, where an offset would have them."""
    return [_share(values, shift + at - around, shift + at + around) for at, around in (AIR_PEAK, TISSUE_PEAK)]


def _fit(values: np.ndarray, shift: float) -> float:
    """How much both air and soft tissue lie where an offset would have them: 0 to 1/2."""
    return float(np.sqrt(np.prod(_peaks(values, shift))))


def _is_head(hu: np.ndarray) -> bool:
    """Whether there are air and bone, and between them most is soft tissue, which is more than bone."""
    soft, (air, bone) = _share(hu, -SOFT_TISSUE_HU, SOFT_TISSUE_HU), shares(hu)
    return min(air, bone) >= SMALLEST_SHARE and soft > max(0.5 * _share(hu, HALFWAY_HU, -HALFWAY_HU), LESS_BONE * bone)
