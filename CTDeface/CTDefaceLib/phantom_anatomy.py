"""Shape of the synthetic head: signed distances, in mm, of skin, skull, brain and airways.

Everything is modelled in *head coordinates*: the origin lies midway between the ear canals, x points to the patient's
left, y to the back, z to the top (the axes of LPS when the patient looks straight ahead), in mm, for a head of average
adult size. A distance is negative inside. Parts are ellipsoids and chains of round cones joined with the polynomial
smooth minimum (I. Quilez, "Smooth minimum", https://iquilezles.org/articles/smin); measures follow the usual
anthropometric surveys (sellion to menton about 120 mm, bizygomatic breadth about 140 mm).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Callable, Iterator

import numpy as np

Array = np.ndarray


# --------------------------------------------------------------------------------------------------------- solids


@dataclass(frozen=True)
class Solid:
    """A body with its signed distance and the box that holds it.

    Attributes:
        distance: takes x, y, z (mm, same shape) and returns the signed distance in mm.
        low, high: corners of a box around the body, shape (3,), mm.
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
    """Points in head coordinates; `find` gives the slices of the points inside a box, or None when there are none."""

    x: Array
    y: Array
    z: Array
    find: Callable[[Array, Array], tuple[slice, ...] | None] | None = None

    def cut(self, low: Array, high: Array) -> tuple[tuple[slice, ...], Space] | None:
        """Slices and points inside the box from `low` to `high` (mm), or None."""
        if self.find is None:
            return (slice(None),) * self.x.ndim, self
        where = self.find(np.asarray(low, float), np.asarray(high, float))
        if where is None:
            return None
        return where, Space(self.x[where], self.y[where], self.z[where])


def ellipsoid(centre, radii, turn: float = 0.0, tilt: float = 0.0) -> Solid:
    """Ellipsoid; `turn` rotates it about z and `tilt` about x (degrees, turn first)."""
    c, r = np.array(centre, np.float32), np.array(radii, np.float32)
    cz, sz = np.float32(np.cos(np.radians(turn))), np.float32(np.sin(np.radians(turn)))
    cx, sx = np.float32(np.cos(np.radians(tilt))), np.float32(np.sin(np.radians(tilt)))

    def distance(x, y, z):
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


def chain(points, radii) -> Solid:
    """Round cones from point to point; `points` (n, 3) in mm, `radii` one number or n."""
    p = np.array(points, np.float32)
    r = np.broadcast_to(np.array(radii, np.float32), (len(p),))

    def distance(x, y, z):
        best = None
        for (ax, ay, az), (bx, by, bz), ra, rb in zip(p[:-1], p[1:], r[:-1], r[1:]):
            ux, uy, uz = bx - ax, by - ay, bz - az
            t = ((x - ax) * ux + (y - ay) * uy + (z - az) * uz) / (ux * ux + uy * uy + uz * uz)
            t = np.clip(t, 0, 1)
            d = np.sqrt((x - ax - t * ux) ** 2 + (y - ay - t * uy) ** 2 + (z - az - t * uz) ** 2) - (ra + t * (rb - ra))
            best = d if best is None else np.minimum(best, d)
        return best

    return Solid(distance, (p - r[:, None]).min(0), (p + r[:, None]).max(0))


def pair(solid: Solid) -> tuple[Solid, Solid]:
    """A body and its mirror image."""
    return solid, solid.mirrored()


def smooth_min(a: Array, b: Array, k: float) -> Array:
    """Minimum of two distances with a fillet of width `k` (mm)."""
    k = np.float32(k)
    h = np.maximum(k - np.abs(a - b), 0)
    return np.minimum(a, b) - h * h * (np.float32(0.25) / k)


def smooth_max(a: Array, b: Array, k: float) -> Array:
    """Maximum of two distances with a fillet of width `k` (mm)."""
    k = np.float32(k)
    h = np.maximum(k - np.abs(a - b), 0)
    return np.maximum(a, b) + h * h * (np.float32(0.25) / k)


def join(d: Array, space: Space, k: float, *solids: Solid, reach: float = 6.0) -> None:
    """Unite bodies with `d` (in place), each blended over `k` mm; right where `d` is less than `reach` mm."""
    for solid in solids:
        found = space.cut(solid.low - k - reach, solid.high + k + reach)
        if found:
            where, part = found
            d[where] = smooth_min(d[where], solid.distance(part.x, part.y, part.z), k)


def carve(d: Array, space: Space, k: float, *solids: Solid) -> None:
    """Take bodies away from `d` (in place), each blended over `k` mm."""
    for solid in solids:
        found = space.cut(solid.low - k - 10, solid.high + k + 10)
        if found:
            where, part = found
            d[where] = smooth_max(d[where], -solid.distance(part.x, part.y, part.z), k)


# ---------------------------------------------------------------------------------------------------------- people


@dataclass(frozen=True)
class Shape:
    """What makes one head differ from another; lengths in mm added to the average adult unless said otherwise."""

    person: int = 0
    size: float = 1.0  # factor on everything
    width: float = 1.0  # factor on x
    length: float = 1.0  # factor on y
    lower: float = 1.0  # factor on the height of everything below the brows
    forehead: float = 0.0  # forward bulge of the forehead
    brow: float = 0.0  # forward brow ridge
    temple: float = 0.0  # width at the temples
    cheek_width: float = 0.0
    cheek_front: float = 0.0
    fullness: float = 0.0  # fat of the lower cheek
    jaw_width: float = 0.0
    jaw_drop: float = 0.0  # lower angle of the jaw
    chin_forward: float = 0.0
    chin_drop: float = 0.0
    chin_width: float = 0.0
    nose_length: float = 0.0
    nose_forward: float = 0.0
    nose_width: float = 0.0
    nose_bridge: float = 0.0  # forward root of the nose
    nose_hump: float = 0.0
    tip_radius: float = 0.0
    eye_spacing: float = 0.0
    eye_depth: float = 0.0
    eye_slant: float = 0.0  # outer corner up
    eye_open: float = 0.0
    eye_size: float = 0.0
    brow_height: float = 0.0
    mouth_width: float = 0.0
    mouth_height: float = 0.0
    lip_upper: float = 0.0
    lip_lower: float = 0.0
    lip_forward: float = 0.0
    ear_size: float = 1.0  # factor
    ear_angle: float = 25.0  # degrees away from the head
    neck: float = 0.0  # radius
    nose_bend: float = 0.0  # sideways
    jaw_shift: float = 0.0  # sideways
    side: float = 0.0  # one half wider than the other, fraction
    jaw_open: float = 0.0  # degrees


_SPREAD = dict(
    size=0.025, width=0.035, length=0.03, lower=0.05, forehead=2.5, brow=2.0, temple=2.0, cheek_width=3.5,
    cheek_front=2.5, fullness=3.5, jaw_width=4.0, jaw_drop=4.0, chin_forward=3.5, chin_drop=4.0, chin_width=3.5,
    nose_length=3.5, nose_forward=3.5, nose_width=2.2, nose_bridge=2.5, nose_hump=1.5, tip_radius=1.0, eye_spacing=2.0,
    eye_depth=2.0, eye_slant=1.5, eye_open=0.8, eye_size=1.0, brow_height=2.0, mouth_width=3.0, mouth_height=2.0,
    lip_upper=1.0, lip_lower=1.2, lip_forward=1.8, ear_size=0.08, ear_angle=8.0, neck=4.0, nose_bend=1.2,
    jaw_shift=1.2, side=0.015,
)  # fmt: skip


def draw_shape(person: int, child: bool = False, jaw_open: float = 0.0) -> Shape:
    """Draw the shape of a person; the same number always gives the same head.

    Adults get one sex-like factor that moves brow, jaw, chin, nose, neck and size together. A child has a smaller head
    with a cranium that is large beside the face, a short nose and jaw, full cheeks and a round forehead.
    """
    rng = np.random.default_rng([person, 20])
    values = {name: spread * float(np.clip(rng.normal(), -1.8, 1.8)) for name, spread in _SPREAD.items()}
    sex = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0))
    for name, step in dict(size=0.02, brow=1.5, jaw_width=2.5, jaw_drop=2.0, chin_drop=1.5, chin_width=2.0, neck=4.0,
                           nose_length=1.0, nose_forward=1.0, nose_width=0.8, forehead=-1.0, lip_upper=-0.4,
                           lip_lower=-0.4, fullness=-0.5).items():  # fmt: skip
        values[name] += step * sex
    for name in ("size", "width", "length", "lower", "ear_size"):
        values[name] += 1.0
    values["ear_angle"] += 25.0
    shape = Shape(person=person, jaw_open=jaw_open, **values)
    if not child:
        return shape
    return replace(
        shape,
        size=shape.size * 0.87,
        lower=shape.lower * 0.86,
        forehead=shape.forehead + 4,
        brow=shape.brow * 0.4 - 2.5,
        fullness=shape.fullness * 0.6 + 4,
        jaw_width=shape.jaw_width * 0.6 - 4,
        chin_forward=shape.chin_forward * 0.6 - 4,
        nose_forward=shape.nose_forward * 0.5 - 4,
        nose_length=shape.nose_length * 0.5 - 3,
        nose_bridge=shape.nose_bridge * 0.5 - 3,
        nose_hump=-1.0,
        eye_size=shape.eye_size + 1,
        neck=shape.neck * 0.5 - 8,
        cheek_width=shape.cheek_width * 0.6 - 2,
    )


_BROW_Z = np.float32(40.0)  # head coordinates above it are not changed by Shape.lower
_SOFT = np.float32(12.0)


def to_head(shape: Shape, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Coordinates of the average head for points (mm) in a person's head."""
    x, y, z = x / (shape.size * shape.width), y / (shape.size * shape.length), z / shape.size
    below = np.float32(0.5) * ((z - _BROW_Z) - np.sqrt((z - _BROW_Z) ** 2 + _SOFT * _SOFT))
    z = z + np.float32(1 / shape.lower - 1) * below
    x = x * (1 + np.float32(shape.side) * np.tanh(x * np.float32(1 / 30)))
    return x, y, z


def from_head(shape: Shape, points: Array) -> Array:
    """Inverse of `to_head` for points of shape (n, 3)."""
    target = np.asarray(points, float)
    guess = target * shape.size
    for _ in range(30):
        guess = guess + (target - np.stack(to_head(shape, *guess.T), -1)) * 0.8
    return guess


def mean_scale(shape: Shape) -> float:
    """Millimetres in the person per millimetre in head coordinates, on average."""
    return shape.size * (shape.width * shape.length * (1 + shape.lower) / 2) ** (1 / 3)


def _jaw(shape: Shape, *points) -> list[tuple[float, float, float]]:
    """Points of the lower jaw: moved by the person's shape and swung open about the jaw joint."""
    swing = np.radians(shape.jaw_open)
    out = []
    for x, y, z in points:
        along = np.clip((-y - 10) / 75, 0, 1)
        x = x + shape.jaw_shift * along
        z = z - shape.chin_drop * along - shape.jaw_drop * (1 - along) * np.clip((-z - 10) / 40, 0, 1)
        y = y - shape.chin_forward * along
        y, z = y + 12, z + 4
        out.append((x, np.cos(swing) * y - np.sin(swing) * z - 12, np.sin(swing) * y + np.cos(swing) * z - 4))
    return out


# ------------------------------------------------------------------------------------------------ skull and brain


def cavity_distance(space: Space, shape: Shape) -> Array:
    """Signed distance of the intracranial space, with the upper end of the spinal canal hanging on it."""
    x, y, z = space.x, space.y, space.z
    f = shape.forehead
    d = ellipsoid((0, 0, 57), (68 + shape.temple * 0.5, 83, 60)).distance(x, y, z)
    d = smooth_max(d, np.float32(37) - z, 12)
    join(d, space, 14, ellipsoid((0, -42 - f, 54), (56, 40, 34)), reach=24)
    join(d, space, 10, *pair(ellipsoid((35, -15, 22), (26, 33, 24))), reach=24)
    join(d, space, 14, ellipsoid((0, 40, 8), (55, 44, 36)), reach=24)
    join(d, space, 6, ellipsoid((0, -50, 36), (8, 26, 9)), reach=24)
    join(d, space, 10, chain([(0, 6, 20), (0, 17, -28), (0, 20, -60)], [16, 13, 9]), reach=24)
    return d


FORAMEN_MAGNUM_Z = -26.0


def orbit(shape: Shape) -> Solid:
    """The left orbit."""
    return ellipsoid((31 + shape.eye_spacing, -56, 20), (19, 31, 18), turn=-20)


def sinuses() -> list[Solid]:
    """Maxillary, frontal and sphenoid sinuses of the left side."""
    return [
        ellipsoid((26, -63, -9), (12, 15, 13)),
        ellipsoid((10, -86.5, 42), (11, 5, 11)),
        ellipsoid((7, -26, 14), (8, 10, 9)),
    ]


def nasal_cavity(shape: Shape) -> Solid:
    """The left half of the nasal cavity, without septum."""
    return ellipsoid((6, -63, 0), (7, 33, 23))


def jaw_bone(shape: Shape) -> list[Solid]:
    """Left half of the mandible."""
    w = shape.jaw_width * 0.7
    return [
        chain(_jaw(shape, (0, -89, -76), (14, -85, -75), (33 + w, -52, -68), (44 + w, -16, -58)), [7, 7, 6, 5.5]),
        chain(_jaw(shape, (0, -89, -62), (13, -85, -61), (27 + w * 0.6, -55, -56), (38 + w, -30, -48)), [5.5, 5.5, 6, 5]),
        chain(_jaw(shape, (44 + w, -16, -58), (46 + w, -13, -30), (49, -11, -7)), [5.5, 5, 5.5]),
        chain(_jaw(shape, (38 + w, -30, -50), (46, -30, -14)), [5, 3]),
    ]


def teeth(shape: Shape) -> list[tuple[Solid, Solid]]:
    """Left halves of the upper and lower row of teeth."""
    upper = chain([(0, -95, -42), (10, -93, -42), (21, -80, -41), (27, -56, -39)], [4, 4, 4.5, 5])
    lower = chain(_jaw(shape, (0, -92, -51), (9, -90, -51), (19, -78, -50), (26, -55, -48)), [3.5, 4, 4.5, 5])
    return [pair(upper), pair(lower)]


def skull_distance(space: Space, shape: Shape, cavity: Array, spine: list[tuple[float, float, float]]) -> Array:
    """Signed distance of bone: calvaria, base, face, mandible and the cervical spine along `spine` (points in mm)."""
    s = shape
    x, y, z = space.x, space.y, space.z
    thickness = np.float32(6.2) + np.float32(0.9) * np.cos(y * np.float32(0.045)) * np.sin(z * np.float32(0.05) + 1)
    d = np.maximum(cavity - thickness, -cavity)
    join(d, space, 4, *pair(chain([(47, -73, 3), (59 + s.cheek_width, -54, 0), (66 + s.cheek_width * 0.5, -26, 0),
                                   (64, -6, 3)], [5, 4, 3, 4])))  # fmt: skip
    join(d, space, 5, *pair(chain([(46, -72, 32), (48.5, -69, 18), (47, -73, 5)], [5, 4, 5])))
    join(d, space, 5, *pair(chain([(8, -88, 36), (28, -89 - s.brow * 0.6, 40), (46, -75, 33)], [6, 5, 5])))
    join(d, space, 4, *pair(chain([(13, -84, 5), (30, -84 - s.cheek_front * 0.5, 0), (47, -73, 3)], [4, 4, 5])))
    join(d, space, 4, *pair(chain([(2, -91, 28), (3, -100 - s.nose_bridge * 0.7, 12), (3, -104, 6)], [4, 3, 2])))
    join(d, space, 4, *pair(chain([(6, -89, 28), (12, -88, 4), (15, -86, -24)], [3.5, 3.5, 5])))
    join(d, space, 4, *pair(chain([(0, -91, -34), (13, -88, -34), (24, -72, -32), (28, -50, -30)], 6.5)))
    join(d, space, 3, ellipsoid((0, -66, -26), (26, 28, 3)))
    join(d, space, 3, *pair(chain([(15, -36, 6), (14, -37, -28)], 3)))
    join(d, space, 4, ellipsoid((0, -18, 14), (17, 20, 15)), chain([(0, -2, 20), (0, 3, -22)], 6))
    join(d, space, 4, *pair(chain([(14, -4, 6), (62, 7, 2)], [7, 9])), *pair(ellipsoid((56, 17, -8), (12, 14, 20))))
    for solid in jaw_bone(s):
        join(d, space, 3, *pair(solid))
    for solid in sinuses():
        for half in pair(solid):
            _wall(d, space, half, 1.6, -200)
    for half in (*pair(orbit(s)), *pair(nasal_cavity(s))):
        _wall(d, space, half, 1.8, -80)
    for number, (a, b) in enumerate(zip(spine[:-1], spine[1:])):
        mid, run = (np.array(a) + b) / 2, (np.array(b) - a)
        back = np.array([0.0, 1.0, -0.25])
        join(d, space, 2, chain([mid - run * 0.2, mid + run * 0.2], 9.5))
        for side in (-1, 1):
            canal = mid + back * 17
            wing = mid + back * 9 + np.array([13.0 * side, 0, 0])
            join(d, space, 2, chain([mid + np.array([9.0 * side, 0, 0]), wing, canal + back * 9], [4, 4, 3]))
        join(d, space, 2, chain([mid + back * 26, mid + back * (34 + 2 * number)], [3, 3.5]))
    return d


def _wall(d: Array, space: Space, solid: Solid, thickness: float, front: float) -> None:
    """Add a thin bony wall around a hollow, open in front of y = `front`."""
    found = space.cut(solid.low - 8, solid.high + 8)
    if found:
        where, part = found
        wall = solid.distance(part.x, part.y, part.z) - np.float32(thickness)
        d[where] = np.minimum(d[where], np.maximum(wall, np.float32(front) - part.y))


# ------------------------------------------------------------------------------------------------------------- skin


def skin_distance(space: Space, shape: Shape, cavity: Array, neck: list[tuple[float, float, float]]) -> Array:
    """Signed distance of the skin of head and neck; `neck` is the neck's axis from skull to chest (points in mm)."""
    s = shape
    d = cavity - np.float32(12.5)
    join(d, space, 26, ellipsoid((0, -34, -14), (59 + s.temple * 0.3, 60, 76)))
    join(d, space, 25, chain(neck, [50 + s.neck, 52 + s.neck, 54 + s.neck, 58 + s.neck]))
    join(d, space, 14, *pair(ellipsoid((43 + s.cheek_width, -60 - s.cheek_front, -2), (19, 21, 17))))
    join(d, space, 16, *pair(ellipsoid((40 + s.fullness * 0.5, -48, -36), (17 + s.fullness, 24 + s.fullness, 24))))
    join(d, space, 14, ellipsoid((0, -78, -36), (29, 25, 25)))
    jaw = _jaw(s, (9 + s.chin_width * 0.6, -83, -76), (30 + s.jaw_width * 0.6, -54, -69), (45 + s.jaw_width, -12, -58))
    join(d, space, 18, *pair(chain(jaw, [13, 12.5, 13])))
    ramus = _jaw(s, (45 + s.jaw_width, -12, -56), (54 + s.jaw_width * 0.4, -16, -14))
    join(d, space, 16, *pair(chain(ramus, [13, 12])))
    (chin,) = _jaw(s, (0, -87, -75))
    join(d, space, 12, ellipsoid(chin, (17 + s.chin_width, 15, 14)))

    join(d, space, 12, *pair(chain([(9, -92 - s.brow, 33 + s.brow_height), (30, -88 - s.brow, 38 + s.brow_height),
                                    (49, -71, 32 + s.brow_height)], [6, 6.5, 6])))  # fmt: skip
    _eyes(d, space, s)
    _nose(d, space, s)
    _mouth(d, space, s)
    _relief(d, space, s)
    for ear in _ears(s):
        ear(d, space)
    return d


def eye_centre(shape: Shape) -> tuple[float, float, float]:
    """Centre of the left eyeball."""
    return (32 + shape.eye_spacing, -71.5 + shape.eye_depth, 20.0)


def _eyes(d: Array, space: Space, s: Shape) -> None:
    x, y, z = eye_centre(s)
    carve(d, space, 12, *pair(ellipsoid((x - 2, y - 22, z - 1), (18, 9, 10.5), turn=12)))
    join(d, space, 4, *pair(ellipsoid((x, y, z), (14.5 + s.eye_size * 0.4, 14.2, 13.2 + s.eye_size * 0.4))))


def _nose(d: Array, space: Space, s: Shape) -> None:
    root = (s.nose_bend * 0.2, -90 - s.nose_bridge, 26)
    middle = (s.nose_bend * 0.6, -102.5 - s.nose_bridge * 0.5 - s.nose_forward * 0.5 - s.nose_hump, 8)
    tip = (s.nose_bend, -113.5 - s.nose_forward, -13 - s.nose_length)
    w, low = 11.5 + s.nose_width, -18 - s.nose_length * 0.9
    join(d, space, 9, chain([root, middle, tip], [6.5, 6.5, 7.5 + s.tip_radius]))
    join(d, space, 8, *pair(chain([(6, -90, 12), (w - 1, -98 - s.nose_forward * 0.3, low + 1)], [4, 6])))
    for side in (-1, 1):
        wing = ellipsoid((side * w + s.nose_bend * 0.7, -102 - s.nose_forward * 0.4, low), (5.5, 9, 6.5), turn=-18 * side)
        join(d, space, 5, wing)
    join(d, space, 6, chain([(s.nose_bend, tip[1] + 2, tip[2] - 4), (0, -99, low - 6)], [3.5, 3]))
    for side in (-1, 1):
        nostril = [
            (side * (w - 5.2) + s.nose_bend * 0.7, -105 - s.nose_forward * 0.6, low - 9),
            (side * (w - 5.0) + s.nose_bend * 0.6, -102 - s.nose_forward * 0.4, low),
            (side * 6, -92, low + 6),
        ]
        carve(d, space, 2, chain(nostril, [3.4, 3.2, 3.0]))


def _mouth(d: Array, space: Space, s: Shape) -> None:
    w, z = 25 + s.mouth_width, -46 + s.mouth_height
    front = -101.5 - s.lip_forward
    upper = 3.6 + s.lip_upper * 0.5
    lower = 4.4 + s.lip_lower * 0.5
    (corner,) = _jaw(replace(s, jaw_open=s.jaw_open * 0.5), (w, -86, z - 1))
    join(d, space, 5, *pair(chain([(0, front, z + upper), (5, front - 0.5, z + upper + 0.8), (14, front + 4, z + upper * 0.8),
                                   corner], [upper, upper, upper * 0.85, 2])))  # fmt: skip
    lip = _jaw(s, (0, front + 1.5, z - lower), (8, front + 2, z - lower), (16, front + 6, z - lower * 0.8))
    join(d, space, 5, *pair(chain([*lip, corner], [lower, lower, lower * 0.85, 2])))
    if s.jaw_open:
        middle = (np.array((0, front, z)) + lip[0] + (0, 0, lower)) / 2
        gap = max((z - lip[0][2] - lower) / 2, 0.5)
        carve(d, space, 2, ellipsoid((0, middle[1] + 18, middle[2]), (w * 0.85, 30, gap)))


def _bump(x, z, cx, cz, sx, sz, turn=0.0):
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    u, v = x - cx, z - cz
    return np.exp(-(((c * u + s * v) / sx) ** 2) - ((c * v - s * u) / sz) ** 2)


_RELIEF_STEP, _RELIEF_X, _RELIEF_Z = 0.5, (-80.0, 80.0), (-115.0, 80.0)


@lru_cache(maxsize=8)
def relief(s: Shape) -> Array:
    """Fine relief of the face seen from the front: mm outwards on a grid over x and z, shape (z, x).

    Lids and their slit, the line of the mouth, philtrum, nasolabial and mentolabial folds, and a smooth random part
    that is this person's own.
    """
    from scipy.ndimage import gaussian_filter

    xs = np.arange(_RELIEF_X[0], _RELIEF_X[1] + 0.1, _RELIEF_STEP)
    zs = np.arange(_RELIEF_Z[0], _RELIEF_Z[1] + 0.1, _RELIEF_STEP)
    z, x = np.meshgrid(zs, xs, indexing="ij")
    out = np.zeros_like(x)
    ax = np.abs(x)

    ex, _, ez = eye_centre(s)
    half = 15 + s.eye_size
    u = (ax - ex) / half  # -1 inner corner, 1 outer corner
    inside = np.clip(1 - u * u, 0, 1)
    middle = ez - 1.5 + s.eye_slant * u
    lift = max(3.6 + s.eye_open, 1.5)
    top, bottom = middle + lift * inside, middle - 2.8 * inside**0.8
    edge = np.clip(np.minimum(top - z, z - bottom) / 0.8, -1, 1) * 0.5 + 0.5
    out -= 2.2 * edge * (np.abs(u) < 1)
    near = np.exp(-(np.abs(u) ** 6))
    out += 1.5 * near * np.exp(-(((z - top - 1.6) / 1.5) ** 2))
    out -= 1.3 * near * np.exp(-(((z - top - 5.0) / 1.4) ** 2))
    out += 0.9 * near * np.exp(-(((z - bottom + 1.6) / 1.4) ** 2))
    out -= 0.8 * near * np.exp(-(((z - bottom + 6.5) / 2.0) ** 2))
    out += 1.0 * np.exp(-(((ax - ex) / 20) ** 4)) * np.exp(-(((z - 37 - s.brow_height - 2 * u) / 3) ** 2))  # eyebrow

    w, mz = 25 + s.mouth_width, -46 + s.mouth_height
    if s.jaw_open < 3:
        line = mz + 0.8 * np.exp(-((ax / 4) ** 2)) * -1 + 0.5 * np.cos(ax / w * np.pi)
        out -= 3.5 * np.exp(-(((z - line) / 1.3) ** 2)) * np.clip((w + 1 - ax) / 4, 0, 1)
    out -= 1.0 * np.exp(-((x / 2.6) ** 2)) * np.exp(-(((z - mz - 14) / 5) ** 4))
    out -= 1.3 * _bump(ax, z, w + 2, mz - 1, 4, 4)
    fold = 19 + s.nose_width + (w - 14) * np.clip((-20 - z) / 28, 0, 1.2)
    out -= 1.2 * np.exp(-(((ax - fold) / 3.0) ** 2)) * np.exp(-(((z + 34) / 15) ** 4))
    out -= 2.0 * _bump(x, z, 0, mz - 15 - s.chin_drop * 0.5, 16, 4.5)
    out += 1.2 * _bump(ax, z, 7, -76 - s.chin_drop, 8, 8) - 0.6 * _bump(x, z, 0, -77 - s.chin_drop, 2, 7)

    rng = np.random.default_rng([s.person, 21])
    for sigma, amplitude in ((9.0, 1.1), (18.0, 1.5)):
        noise = gaussian_filter(rng.standard_normal(out.shape), sigma / _RELIEF_STEP)
        out += amplitude * noise / noise.std()
    return out.astype(np.float32)


def _relief(d: Array, space: Space, s: Shape) -> None:
    from scipy.ndimage import map_coordinates

    found = space.cut(np.array([_RELIEF_X[0], -140, _RELIEF_Z[0]]), np.array([_RELIEF_X[1], -35, _RELIEF_Z[1]]))
    if not found:
        return
    where, part = found
    view = d[where]
    near = np.abs(view) < 8
    x, y, z = part.x[near], part.y[near], part.z[near]
    height = map_coordinates(
        relief(s), [(z - _RELIEF_Z[0]) / _RELIEF_STEP, (x - _RELIEF_X[0]) / _RELIEF_STEP], order=1, mode="nearest"
    )
    border = np.minimum(np.minimum(_RELIEF_X[1] - np.abs(x), z - _RELIEF_Z[0]), _RELIEF_Z[1] - z) / 20
    weight = np.clip((-45 - y) / 20, 0, 1) * np.clip(border, 0, 1) * np.clip((8 - np.abs(view[near])) / 3, 0, 1)
    view[near] -= height * weight
    d[where] = view


def _ears(s: Shape) -> Iterator[Callable[[Array, Space], None]]:
    """Both ears, as functions that add them to a distance: a thin plate, its hollow, and the rim."""
    size, angle = s.ear_size, np.radians(s.ear_angle)
    base = np.array([71.0 + s.temple * 0.5, 2.0, 0.0])
    out, up = np.array([np.sin(angle), np.cos(angle), 0.0]), np.array([0.0, 0.2, 0.98])
    normal = np.cross(up, out)

    def at(a, b, c=0.0):
        return base + (out * a + up * b + normal * c) * size

    plate = [at(6, -24), at(8, -10), at(13, 8), at(15, 20), at(9, 30)]
    rim = [at(0, 12), at(2, 26, 2), at(9, 33, 2), at(19, 32, 2), at(26, 22, 2), at(26, 8, 2), at(21, -6, 2), at(13, -18, 1.5),
           at(7, -28), at(2, -26)]  # fmt: skip
    inner = [at(6, 26, 1.5), at(15, 20, 2), at(17, 6, 2.5), at(13, -6, 2.5), at(7, -13, 2.5), at(3, -12, 2)]
    tragus = [at(-4, -4, 3), at(1, -5, 5)]

    def build(mirror: bool):
        def add(d: Array, space: Space) -> None:
            for k, solid in (
                (6, chain(plate, [5, 5, 6, 6, 5])),
                (2, chain([at(14, 20), at(19, 10), at(14, -4)], [6.5, 6.5, 5.5])),
                (3, chain(rim, [2.5, 2.6, 2.6, 2.6, 2.6, 2.6, 2.6, 3.2, 4, 3])),
                (3, chain(inner, 2.2)),
                (3, chain(tragus, [4, 2.5])),
            ):
                join(d, space, k, solid.mirrored() if mirror else solid)
            concha = ellipsoid(at(7, -1, 7), np.array((7.0, 7.0, 10.0)) * size)
            scapha = chain([at(19, 24, 6), at(20.5, 10, 6.5)], 3.6)
            for solid in (concha, scapha):
                carve(d, space, 2, solid.mirrored() if mirror else solid)

        return add

    yield build(False)
    yield build(True)
