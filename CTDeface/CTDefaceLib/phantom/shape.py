"""Shape of the synthetic head: signed distances, in mm, of skin, skull and intracranial space.

Everything is modelled in *head coordinates*: the origin lies midway between the ear canals, x points to the patient's
left, y to the back, z to the top (the axes of LPS when the patient looks straight ahead), in mm, for a head of average
adult size; measures follow the usual anthropometric surveys (sellion to menton about 120 mm, bizygomatic breadth about
140 mm). A person is a :class:`Shape`, drawn by number.

The numbers in the functions below are the model itself: centres, radii and widths of blending in mm, modelled by eye
until renderings passed for faces. ``Testing/test_phantom.py`` shows whether they still do, and whether the ground truth
holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from .solids import Array, Solid, Space, carve, chain, ellipsoid, join, pair, smooth_max, step

# ---------------------------------------------------------------------------------------------------------- people


@dataclass(frozen=True)
class Shape:
    """What makes one head differ from another.

    Attributes
    ----------
    person: int
        Number of the person; seeds what is random on the skin.
    size, width, length: float
        Factors on everything, on x and on y.
    lower: float
        Factor on the height of everything below the brows.
    forehead, brow: float
        Forward bulge of the forehead, forward brow ridge; mm added to the average adult, as all lengths that follow.
    temple: float
        Width at the temples.
    cheek_width, cheek_front, fullness: float
        Cheeks to the side and to the front, fat of the lower cheek.
    jaw_width, jaw_drop: float
        Width and lower angle of the jaw.
    chin_forward, chin_drop, chin_width: float
        The chin.
    nose_length, nose_forward, nose_width: float
        The nose.
    nose_bridge, nose_hump: float
        Forward root of the nose, hump on its ridge.
    nose_tilt, tip_radius: float
        Slope of the underside (tip up, no length), radius of the tip.
    eye_spacing, eye_depth, eye_slant, eye_open, eye_size: float
        The eyes; slant lifts the outer corner.
    brow_height: float
        Height of the eyebrows.
    mouth_width, mouth_height, lip_upper, lip_lower, lip_forward: float
        The mouth.
    ear_size, ear_angle: float
        Factor on the ears, degrees by which they stand away from the head.
    neck: float
        Radius of the neck.
    nose_bend, jaw_shift: float
        Sideways.
    side: float
        By which part (0 to 1) one half is wider than the other.
    jaw_open: float
        Degrees of jaw rotation.
    """

    person: int = 0
    size: float = 1.0
    width: float = 1.0
    length: float = 1.0
    lower: float = 1.0
    forehead: float = 0.0
    brow: float = 0.0
    temple: float = 0.0
    cheek_width: float = 0.0
    cheek_front: float = 0.0
    fullness: float = 0.0
    jaw_width: float = 0.0
    jaw_drop: float = 0.0
    chin_forward: float = 0.0
    chin_drop: float = 0.0
    chin_width: float = 0.0
    nose_length: float = 0.0
    nose_forward: float = 0.0
    nose_width: float = 0.0
    nose_bridge: float = 0.0
    nose_hump: float = 0.0
    nose_tilt: float = 0.0
    tip_radius: float = 0.0
    eye_spacing: float = 0.0
    eye_depth: float = 0.0
    eye_slant: float = 0.0
    eye_open: float = 0.0
    eye_size: float = 0.0
    brow_height: float = 0.0
    mouth_width: float = 0.0
    mouth_height: float = 0.0
    lip_upper: float = 0.0
    lip_lower: float = 0.0
    lip_forward: float = 0.0
    ear_size: float = 1.0
    ear_angle: float = 25.0
    neck: float = 0.0
    nose_bend: float = 0.0
    jaw_shift: float = 0.0
    side: float = 0.0
    jaw_open: float = 0.0


_SPREAD = dict(
    size=0.025, width=0.035, length=0.03, lower=0.05, forehead=2.5, brow=2.0, temple=2.0, cheek_width=3.5,
    cheek_front=2.5, fullness=3.5, jaw_width=3.0, jaw_drop=3.0, chin_forward=2.8, chin_drop=4.0, chin_width=3.5,
    nose_length=3.5, nose_forward=3.5, nose_width=2.2, nose_bridge=2.5, nose_hump=1.5, nose_tilt=0.12, tip_radius=1.0,
    eye_spacing=2.0, eye_depth=2.0, eye_slant=1.5, eye_open=0.8, eye_size=1.0, brow_height=2.0, mouth_width=3.0,
    mouth_height=2.0, lip_upper=1.0, lip_lower=1.2, lip_forward=1.8, ear_size=0.08, ear_angle=8.0, neck=4.0,
    nose_bend=1.2, jaw_shift=1.2, side=0.015,
)  # fmt: skip
"""Standard deviation of each member of :class:`Shape` among adults.

Lengths after the usual anthropometric surveys, where these have them; the rest by eye.
"""

_FURTHEST = 1.8
"""Standard deviations that a person differs from the average at most, so that no head falls apart. Chosen by eye."""

_SEX = dict(
    size=0.02, brow=1.5, jaw_width=1.5, jaw_drop=1.5, chin_drop=1.5, chin_width=2.0, neck=4.0, nose_length=1.0,
    nose_forward=1.0, nose_width=0.8, forehead=-1.0, lip_upper=-0.4, lip_lower=-0.4, fullness=-0.5,
)  # fmt: skip
"""By how much a man's head differs from the average in these members, and a woman's the other way. Chosen by eye."""


def draw_shape(person: int, child: bool = False, jaw_open: float = 0.0) -> Shape:
    """Draw the shape of a person; the same number always gives the same head.

    Adults get one sex-like factor that moves brow, jaw, chin, nose, neck and size together. A child has a smaller head
    with a cranium that is large beside the face, a short nose and jaw, full cheeks and a round forehead.
    """
    rng = np.random.default_rng([person, 20])
    values = {name: spread * float(np.clip(rng.normal(), -_FURTHEST, _FURTHEST)) for name, spread in _SPREAD.items()}
    sex = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0))
    for name, shift in _SEX.items():
        values[name] += shift * sex
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


_BROW_Z = np.float32(40.0)
"""Height of the brows in mm: what lies above is not changed by ``Shape.lower``."""

_SOFT = np.float32(12.0)
"""Height in mm over which that sets in. Chosen by eye."""


def to_head(shape: Shape, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Coordinates of the average head for points (mm) in a person's head."""
    x, y, z = x / (shape.size * shape.width), y / (shape.size * shape.length), z / shape.size
    below = np.float32(0.5) * ((z - _BROW_Z) - np.sqrt((z - _BROW_Z) ** 2 + _SOFT * _SOFT))
    z = z + np.float32(1 / shape.lower - 1) * below
    x = x - np.float32(shape.jaw_shift) * np.clip((z + 20) * np.float32(-1 / 60), 0, 1)
    x = x * (1 + np.float32(shape.side) * np.tanh(x * np.float32(1 / 30)))
    return x, y, z


def from_head(shape: Shape, points: Array) -> Array:
    """Inverse of :func:`to_head` for points of shape (n, 3)."""
    target = np.asarray(points, float)
    guess = target * shape.size
    for _ in range(30):
        guess = guess + (target - np.stack(to_head(shape, *guess.T), -1)) * 0.8
    return guess


def mean_scale(shape: Shape) -> float:
    """Millimetres in the person per millimetre in head coordinates, on average."""
    return shape.size * (shape.width * shape.length * (1 + shape.lower) / 2) ** (1 / 3)


def jaw(shape: Shape, *points: tuple[float, float, float] | Array) -> list[tuple[float, float, float]]:
    """Points of the lower jaw: moved by the person's shape and swung open about the jaw joint."""
    swing = np.radians(shape.jaw_open)
    out = []
    for x, y, z in points:
        along = np.clip((-y - 10) / 75, 0, 1)
        z = z - shape.chin_drop * along - shape.jaw_drop * (1 - along) * np.clip((-z - 10) / 40, 0, 1)
        y = y - shape.chin_forward * along
        y, z = y + 12, z + 4
        out.append((x, np.cos(swing) * y - np.sin(swing) * z - 12, np.sin(swing) * y + np.cos(swing) * z - 4))
    return out


# ------------------------------------------------------------------------------------------------ skull and brain


def cavity_distance(space: Space, shape: Shape) -> Array:
    """Signed distance of the intracranial space, with the upper end of the spinal canal hanging on it."""
    x, y, z = space.x, space.y, space.z
    d = ellipsoid((0, 0, 52), (68 + shape.temple * 0.5, 83, 65)).distance(x, y, z)
    d = smooth_max(d, np.float32(37) - z - np.float32(0.8) * np.maximum(y + 5, 0), 12)
    front = space.cut(np.array([-90, -130, -10]), np.array([90, 10, 130]))
    if front:
        where, part = front
        bulge = np.exp(-((part.x / 48) ** 2) - ((part.z - 58) / 32) ** 2) * np.clip(-part.y / 70, 0, 1)
        d[where] -= np.float32(4 + shape.forehead) * bulge
    join(d, space, 10, *pair(ellipsoid((35, -15, 22), (26, 33, 24))), reach=24)
    join(d, space, 14, ellipsoid((0, 36, 10), (54, 40, 36)), reach=24)
    join(d, space, 6, ellipsoid((0, -50, 36), (8, 26, 9)), reach=24)
    join(d, space, 10, chain([(0, 6, 20), (0, 19, -28), (0, 23, -60)], [16, 13, 8]), reach=24)
    return d


FORAMEN_MAGNUM_Z = -26.0
"""Height of the foramen magnum in mm: the intracranial space ends there, and the spinal canal begins."""


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
        chain(jaw(shape, (0, -89, -76), (14, -85, -75), (33 + w, -52, -68), (44 + w, -16, -58)), [7, 7, 6, 5.5]),
        chain(
            jaw(shape, (0, -89, -62), (13, -85, -61), (27 + w * 0.6, -55, -56), (38 + w, -30, -48)), [5.5, 5.5, 6, 5]
        ),
        chain(jaw(shape, (44 + w, -16, -58), (46 + w, -13, -30), (49, -11, -7)), [5.5, 5, 5.5]),
        chain(jaw(shape, (38 + w, -30, -50), (46, -30, -14)), [5, 3]),
    ]


def teeth(shape: Shape) -> list[tuple[Solid, Solid]]:
    """Left halves of the upper and lower row of teeth."""
    upper = chain([(0, -95, -42), (10, -93, -42), (21, -80, -41), (27, -56, -39)], [4, 4, 4.5, 5])
    lower = chain(jaw(shape, (0, -92, -51), (9, -90, -51), (19, -78, -50), (26, -55, -48)), [3.5, 4, 4.5, 5])
    return [pair(upper), pair(lower)]


def metal_teeth(shape: Shape) -> list[tuple[float, float, float]]:
    """Centres of the teeth that carry metal."""
    return [(25.5, -62, -41), (-26, -58, -40), (17, -85, -42), *jaw(shape, (-24.5, -62, -48))]


def skull_distance(space: Space, shape: Shape, cavity: Array, spine: Array) -> Array:
    """Signed distance of bone: calvaria, base, face, mandible and the cervical spine along ``spine`` (points in mm)."""
    s, z = shape, space.z
    ripple = np.cos(space.y * np.float32(0.045)) * np.sin(z * np.float32(0.05) + 1)
    thickness = np.float32(6.2) + np.float32(0.9) * ripple
    d = np.maximum(np.maximum(cavity - thickness, -cavity), np.float32(FORAMEN_MAGNUM_Z - 5) - z)
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
    """Add a thin bony wall around a hollow, open in front of y = ``front``."""
    found = space.cut(solid.low - 8, solid.high + 8)
    if found:
        where, part = found
        wall = solid.distance(part.x, part.y, part.z) - np.float32(thickness)
        d[where] = np.minimum(d[where], np.maximum(wall, np.float32(front) - part.y))


# ------------------------------------------------------------------------------------------------------------- skin


def skin_distance(space: Space, shape: Shape, cavity: Array, neck: Array) -> Array:
    """Signed distance of the skin of head and neck; ``neck`` is the neck's axis from skull to chest (points in mm)."""
    s = shape
    d = cavity - np.float32(12.5)
    join(d, space, 26, ellipsoid((0, -34, -14), (59 + s.temple * 0.3, 60, 76)))
    join(d, space, 25, chain(neck, [52 + s.neck, 54 + s.neck, 56 + s.neck, 60 + s.neck]))
    join(d, space, 28, *pair(ellipsoid((40 + s.cheek_width, -57 - s.cheek_front, -4), (18, 20, 19))))
    join(d, space, 22, *pair(ellipsoid((38 + s.fullness * 0.5, -48, -34), (17 + s.fullness, 24 + s.fullness, 24))))
    join(d, space, 14, ellipsoid((0, -78, -36), (29, 25, 25)))
    line = jaw(s, (6 + s.chin_width * 0.6, -83, -76), (27 + s.jaw_width * 0.6, -52, -69), (37 + s.jaw_width, -16, -54))
    join(d, space, 26, *pair(chain(line, [12, 12, 12.5])))
    ramus = jaw(s, (37 + s.jaw_width, -16, -52), (51 + s.jaw_width * 0.4, -16, -14))
    join(d, space, 24, *pair(chain(ramus, [12, 12])))
    (chin,) = jaw(s, (0, -85, -75))
    join(d, space, 14, ellipsoid(chin, (15 + s.chin_width, 14, 13)))
    (below_lip,) = jaw(s, (0, -82, -60))
    join(d, space, 16, ellipsoid(below_lip, (23, 17 + s.lip_forward * 0.7, 12)))

    join(d, space, 12, *pair(chain([(8, -90 - s.brow, 33 + s.brow_height), (28, -85 - s.brow, 37 + s.brow_height),
                                    (48, -68, 31 + s.brow_height)], [6, 6.5, 6])))  # fmt: skip
    _emboss(d, space, _surface(s))
    _eyes(d, space, s)
    _nose(d, space, s)
    _mouth(d, space, s)
    _emboss(d, space, _features(s))
    _ears(d, space, s)
    return d


def eye_centre(shape: Shape) -> tuple[float, float, float]:
    """Centre of the left eyeball."""
    return (32 + shape.eye_spacing, -71.5 + shape.eye_depth, 20.0)


def _eyes(d: Array, space: Space, s: Shape) -> None:
    x, y, z = eye_centre(s)
    carve(d, space, 12, *pair(ellipsoid((x - 3, y - 22, z - 1), (17, 8, 10), turn=14)))
    join(d, space, 4, *pair(ellipsoid((x, y, z), (14.5 + s.eye_size * 0.4, 14.2, 13.2 + s.eye_size * 0.4))))


def _nose(d: Array, space: Space, s: Shape) -> None:
    root = (-91.5 - s.nose_bridge, 27.0)
    tip = (-116.5 - s.nose_forward, -14 - s.nose_length)
    w, low = 11.5 + s.nose_width, -19 - s.nose_length * 0.9

    def pyramid(x: Array, y: Array, z: Array) -> Array:
        t = np.clip((root[1] - z) / (root[1] - tip[1]), 0, 1)
        ridge = root[0] + (tip[0] - root[0]) * t - (s.nose_hump + 1) * 4 * t * (1 - t)
        slope = np.float32(0.55) + np.float32(0.12 + 0.025 * s.nose_width) * t
        round_ = np.float32(3.5) + (1 + s.tip_radius) * t
        side = np.sqrt((x - s.nose_bend * t) ** 2 + round_ * round_) - (y - ridge) * slope - round_
        base = low - 4 + (y + 98) * np.float32(0.03 - s.nose_tilt) - z
        side = np.maximum(side / np.sqrt(1 + slope * slope), y + 74)
        return smooth_max(smooth_max(side, base, 5), z - root[1] - 4, 8)

    join(d, space, 10, Solid(pyramid, np.array([-22, tip[0] - 4, low - 8]), np.array([22, -72, root[1] + 8])))
    join(d, space, 10, ellipsoid((s.nose_bend, tip[0] + 7.5, tip[1] + 1), (8.5 + s.tip_radius, 8, 8)))
    for side in (-1, 1):
        x, y = side * (w - 0.5) + s.nose_bend * 0.7, -102 - s.nose_forward * 0.4
        join(d, space, 8, ellipsoid((x, y, low), (5.5, 10, 6.5), turn=-18 * side))
    for side in (-1, 1):
        nostril = [
            (side * (w - 4.5) + s.nose_bend * 0.7, -107 - s.nose_forward * 0.5, low - 4.5),
            (side * (w - 5.0) + s.nose_bend * 0.6, -102 - s.nose_forward * 0.4, low),
            (side * 5.5, -90, low + 7),
        ]
        carve(d, space, 2, chain(nostril, [2.6, 2.9, 2.8]))
    join(d, space, 3, chain([(s.nose_bend, tip[0] + 8, tip[1] - 4), (0, -99, low - 4), (0, -92, low + 4)], [3, 2.4, 2]))


def _mouth(d: Array, space: Space, s: Shape) -> None:
    w, z = 25 + s.mouth_width, -46 + s.mouth_height
    front = -101.5 - s.lip_forward
    upper = 3.6 + s.lip_upper * 0.5
    lower = 4.4 + s.lip_lower * 0.5
    (corner,) = jaw(replace(s, jaw_open=s.jaw_open * 0.5), (w, -86, z - 1))
    lip: list[tuple[float, float, float]] = [
        (0, front, z + upper),
        (5, front - 0.5, z + upper + 0.8),
        (14, front + 4, z + upper * 0.8),
    ]
    join(d, space, 5, *pair(chain([*lip, corner], [upper, upper, upper * 0.85, 2])))
    lip = jaw(s, (0, front + 1.5, z - lower), (8, front + 2, z - lower), (16, front + 6, z - lower * 0.8))
    join(d, space, 5, *pair(chain([*lip, corner], [lower, lower, lower * 0.85, 2])))
    if s.jaw_open:
        middle = (np.array((0, front, z)) + lip[0] + (0, 0, lower)) / 2
        gap = max((z - lip[0][2] - lower) / 2, 0.5)
        carve(d, space, 2, ellipsoid((0, middle[1] + 18, middle[2]), (w * 0.72, 30, gap)))


def _bump(x: Array, z: Array, cx: float, cz: float, sx: float, sz: float, turn: float = 0.0) -> Array:
    """A Gaussian of height 1 about (cx, cz), of widths sx and sz in mm, turned by degrees."""
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    u, v = x - cx, z - cz
    return np.exp(-(((c * u + s * v) / sx) ** 2) - ((c * v - s * u) / sz) ** 2)


_RELIEF_STEP, _RELIEF_X, _RELIEF_Z = 0.5, (-85.0, 85.0), (-125.0, 100.0)
"""Step and extent in mm of the grid of a relief: fine enough for a lid, wide enough for a face."""

_RELIEF_NOISE = ((9.0, 1.0), (18.0, 1.5))
"""Widths in mm and standard deviations in mm of the random part of a person's skin. Chosen by eye."""


def _relief_grid() -> tuple[Array, Array]:
    """x and z of the points of a relief, both of shape (z, x), mm."""
    xs = np.arange(_RELIEF_X[0], _RELIEF_X[1] + 0.1, _RELIEF_STEP)
    zs = np.arange(_RELIEF_Z[0], _RELIEF_Z[1] + 0.1, _RELIEF_STEP)
    z, x = np.meshgrid(zs, xs, indexing="ij")
    return x, z


@lru_cache(maxsize=8)
def _surface(s: Shape) -> Array:
    """Relief of the face without its features: a smooth random part that is this person's own; mm outwards."""
    from scipy.ndimage import gaussian_filter

    x, _ = _relief_grid()
    out = np.zeros_like(x)
    rng = np.random.default_rng([s.person, 21])
    for sigma, amplitude in _RELIEF_NOISE:
        noise = gaussian_filter(rng.standard_normal(out.shape), sigma / _RELIEF_STEP)
        out += amplitude * noise / noise.std()
    return out.astype(np.float32)


@lru_cache(maxsize=8)
def _features(s: Shape) -> Array:
    """Relief of lids and their slit, the line of the mouth, philtrum, nasolabial and mentolabial folds; mm outwards."""
    x, z = _relief_grid()
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
    return out.astype(np.float32)


def _emboss(d: Array, space: Space, relief: Array) -> None:
    """Raise the front of the face by a relief (in place)."""
    from scipy.ndimage import map_coordinates

    found = space.cut(np.array([_RELIEF_X[0], -140, _RELIEF_Z[0]]), np.array([_RELIEF_X[1], -35, _RELIEF_Z[1]]))
    if not found:
        return
    where, part = found
    view = d[where]
    near = (view > -25) & (view < 8)
    x, y, z = part.x[near], part.y[near], part.z[near]
    height = map_coordinates(
        relief, [(z - _RELIEF_Z[0]) / _RELIEF_STEP, (x - _RELIEF_X[0]) / _RELIEF_STEP], order=1, mode="nearest"
    )
    border = np.minimum(z - _RELIEF_Z[0], _RELIEF_Z[1] - z) / 32
    weight = step((-35 - y) / 30) * step(border) * step((8 - view[near]) / 3) * step((view[near] + 25) / 10)
    view[near] -= height * weight
    d[where] = view


def _ears(d: Array, space: Space, s: Shape) -> None:
    angle = np.radians(s.ear_angle)
    base = np.array([70.0 + s.temple * 0.5, 1.0, 2.0])
    out, up = np.array([np.sin(angle), np.cos(angle), 0.0]), np.array([0.0, 0.2, 0.98])
    face = np.cross(out, up)

    def at(a: float, b: float, c: float = 0.0) -> Array:
        """Point ``a`` mm behind the front of the ear, ``b`` above its canal, ``c`` off its plane."""
        return base + (out * a + up * b + face * c) * s.ear_size

    def leaf(centre: ArrayLike, radii: ArrayLike) -> Solid:
        return ellipsoid(centre, np.array(radii) * s.ear_size, turn=-s.ear_angle, tilt=-11.5)

    rim = [at(1, 2, 1), at(1, 16, 2), at(5, 27, 2.5), at(13, 31.5, 2.5), at(22, 28, 2.5), at(27, 19, 2.5), at(27, 8, 2),
           at(23, -4, 1.5), at(17, -13, 1)]  # fmt: skip
    fold = [at(9, 22, 1), at(17, 17, 1.5), at(19, 8, 2), at(17, -2, 2), at(11, -9, 2)]
    join(d, space, 5, *pair(leaf(at(13, 9), (2.7, 14, 21))), *pair(leaf(at(8, -16), (3.2, 8.5, 13))))
    join(d, space, 3, *pair(chain(rim, [2.4, 2.5, 2.6, 2.6, 2.6, 2.6, 2.5, 2.6, 3])), *pair(chain(fold, 2.2)))
    join(d, space, 5, *pair(chain([at(4, -9, -5), at(7, 10, -5)], 5)))
    groove = chain([at(8, 28, 4.5), at(20, 24, 4.5), at(23, 12, 4.5)], 2.2)
    carve(d, space, 2.5, *pair(leaf(at(8, 1, 5.5), (5.5, 7, 9.5))), *pair(groove))
    join(d, space, 6, *pair(chain([at(-5, -1, 1), at(0.5, -2, 4)], [4, 2.4])))
