"""Signed distances of simple bodies, and how they join: what the synthetic head is made of.

A distance is in mm and negative inside. Bodies are ellipsoids and chains of round cones joined with the cubic smooth
minimum (I. Quilez, "Smooth minimum", https://iquilezles.org/articles/smin).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray

_FILLET = 1.2
"""Width over which the smooth minimum blends, in widths of the fillet that it is asked for. Chosen by eye."""


@dataclass(frozen=True)
class Solid:
    """A body with its signed distance and the box that holds it.

    Attributes
    ----------
    distance: callable
        Takes x, y, z (mm, same shape) and returns the signed distance in mm.
    low, high: numpy.ndarray
        Corners of a box around the body, shape (3,), mm.
    """

    distance: Callable[[Array, Array, Array], Array]
    low: Array
    high: Array

    def mirrored(self) -> Solid:
        """The same body on the other side of the plane x = 0."""
        return Solid(
            lambda x, y, z: self.distance(-x, y, z),
            np.array([-self.high[0], self.low[1], self.low[2]]),
            np.array([-self.low[0], self.high[1], self.high[2]]),
        )


@dataclass(frozen=True)
class Space:
    """Points in head coordinates.

    Attributes
    ----------
    x, y, z: numpy.ndarray
        Coordinates in mm, same shape.
    find: callable or None
        Gives the slices of the points inside a box (low and high corner), or None when there are none.
    """

    x: Array
    y: Array
    z: Array
    find: Callable[[Array, Array], tuple[slice, ...] | None] | None = None

    def cut(self, low: Array, high: Array) -> tuple[tuple[slice, ...], Space] | None:
        """Slices and points inside the box from ``low`` to ``high`` (mm), or None."""
        if self.find is None:
            return (slice(None),) * self.x.ndim, self
        where = self.find(np.asarray(low, float), np.asarray(high, float))
        if where is None:
            return None
        return where, Space(self.x[where], self.y[where], self.z[where])


def ellipsoid(centre: ArrayLike, radii: ArrayLike, turn: float = 0.0, tilt: float = 0.0) -> Solid:
    """Ellipsoid; ``turn`` rotates it about z and ``tilt`` about x (degrees, turn first)."""
    c, r = np.array(centre, np.float32), np.array(radii, np.float32)
    cz, sz = np.float32(np.cos(np.radians(turn))), np.float32(np.sin(np.radians(turn)))
    cx, sx = np.float32(np.cos(np.radians(tilt))), np.float32(np.sin(np.radians(tilt)))

    def distance(x: Array, y: Array, z: Array) -> Array:
        x, y, z = x - c[0], y - c[1], z - c[2]
        if tilt:
            y, z = cx * y + sx * z, cx * z - sx * y
        if turn:
            x, y = cz * x + sz * y, cz * y - sz * x
        x, y, z = x / r[0], y / r[1], z / r[2]
        k0 = np.sqrt(x * x + y * y + z * z)
        x, y, z = x / r[0], y / r[1], z / r[2]
        k1 = np.sqrt(x * x + y * y + z * z)
        return k0 * (k0 - 1) / np.maximum(k1, np.float32(1e-6))

    rotation = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]) @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    reach = np.sqrt((rotation**2) @ (r.astype(float) ** 2))
    return Solid(distance, c - reach, c + reach)


def chain(points: ArrayLike, radii: ArrayLike) -> Solid:
    """Round cones from point to point; ``points`` (n, 3) in mm, ``radii`` one number or n."""
    p = np.array(points, np.float32)
    r = np.broadcast_to(np.array(radii, np.float32), (len(p),))

    def distance(x: Array, y: Array, z: Array) -> Array:
        best: Array | None = None
        for (ax, ay, az), (bx, by, bz), ra, rb in zip(p[:-1], p[1:], r[:-1], r[1:]):
            ux, uy, uz = bx - ax, by - ay, bz - az
            t = ((x - ax) * ux + (y - ay) * uy + (z - az) * uz) / (ux * ux + uy * uy + uz * uz)
            t = np.clip(t, 0, 1)
            d = np.sqrt((x - ax - t * ux) ** 2 + (y - ay - t * uy) ** 2 + (z - az - t * uz) ** 2) - (ra + t * (rb - ra))
            best = d if best is None else np.minimum(best, d)
        assert best is not None
        return best

    return Solid(distance, (p - r[:, None]).min(0), (p + r[:, None]).max(0))


def pair(solid: Solid) -> tuple[Solid, Solid]:
    """A body and its mirror image."""
    return solid, solid.mirrored()


def smooth_min(a: Array, b: Array, k: float) -> Array:
    """Minimum of two distances with a fillet of width ``k`` (mm)."""
    width = np.float32(_FILLET * k)
    h = np.maximum(width - np.abs(a - b), 0)
    return np.minimum(a, b) - h * h * h * (np.float32(1 / 6) / (width * width))


def smooth_max(a: Array, b: Array, k: float) -> Array:
    """Maximum of two distances with a fillet of width ``k`` (mm)."""
    width = np.float32(_FILLET * k)
    h = np.maximum(width - np.abs(a - b), 0)
    return np.maximum(a, b) + h * h * h * (np.float32(1 / 6) / (width * width))


def join(d: Array, space: Space, k: float, *solids: Solid, reach: float = 6.0) -> None:
    """Unite bodies with ``d`` (in place), each blended over ``k`` mm; right where ``d`` is less than ``reach`` mm."""
    for solid in solids:
        found = space.cut(solid.low - _FILLET * k - reach, solid.high + _FILLET * k + reach)
        if found:
            where, part = found
            d[where] = smooth_min(d[where], solid.distance(part.x, part.y, part.z), k)


def carve(d: Array, space: Space, k: float, *solids: Solid) -> None:
    """Take bodies away from ``d`` (in place), each blended over ``k`` mm."""
    for solid in solids:
        found = space.cut(solid.low - k - 10, solid.high + k + 10)
        if found:
            where, part = found
            d[where] = smooth_max(d[where], -solid.distance(part.x, part.y, part.z), k)


def step(t: Array) -> Array:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)
