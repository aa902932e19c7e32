"""Which way the head lies, found from the head itself.

The head is looked at from the middle of the brain (:mod:`.sight`) and compared with an average head, held in each of
the 24 ways in which a grid can be laid and tilted in between. What is compared, each of it anatomy:

- the way to the skin: a finger's breadth at vault, back and sides; a hand's breadth through face and neck;
- the shape of the intracranial space: longest from forehead to occiput, shallow above the face, deep behind;
- air inside the head: nose and sinuses in the middle below the forehead, mastoid cells beside and behind;
- fat behind bone: the orbits, left and right of that;
- symmetry of all this about the plane between left and right.

What is out of view counts neither for nor against. A mirror image of a head cannot be told from the head of somebody
who is built the other way round, since nothing of the above has a left and a right: only turns are looked for, and of
a head that a converter mirrored the left is its right.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations, product

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, spatial

from .sight import Sight, directions

SKULL_MM = np.array(
    [
        [66, 66, 64, 64, 65, 65],
        [67, 67, 64, 64, 65, 65],
        [73, 69, 65, 65, 66, 68],
        [81, 73, 66, 66, 68, 70],
        [86, 75, 67, 67, 70, 71],
        [87, 75, 66, 66, 71, 72],
        [76, 69, 65, 66, 70, 73],
        [58, 68, 66, 67, 72, 78],
        [49, 65, 65, 69, 78, 79],
        [46, 57, 58, 72, 81, 82],
        [46, 48, 58, 68, 79, 79],
        [50, 55, 53, 66, 79, 79],
    ]
)
"""How far the inside of the skull is from the brain's middle, in mm.

Rows: from 82.5° above the horizontal to 82.5° below it, columns: from 15° beside the front to 165°, in front of 15°
beside the back. Mean of a real head, a plaster one and a synthetic one; three others differ by less than 10 mm.
"""

WALL_MM = np.array(
    5 * [6 * [13]]
    + [
        [16, 15, 14, 12, 13, 14],
        [28, 20, 14, 13, 13, 15],
        [56, 29, 16, 15, 15, 15],
        [81, 47, 27, 17, 16, 16],
        [98, 70, 45, 23, 19, 20],
        [98, 85, 70, 60, 58, 60],
        [100, 90, 85, 75, 65, 65],
    ]
)
"""How far the skin is from there, in mm; rows, columns and heads as above."""

THICKEST_MM = 60.0
"""Ways to the skin that are longer than this, in mm, are alike: face and neck, or more than is in view."""

SPREAD_SKULL = 0.15
"""Standard deviation of the logarithm of a distance to the skull among heads; more where the view cuts the space."""

SPREAD_WALL = 0.35
"""Standard deviation of the logarithm of a way to the skin among heads, 10 mm added."""

ON_THE_WAY_MM = 6.0
"""Air or fat from this on, in mm, counts: two voxels of the work grid."""

PITCHES = (-45, -30, -15, 0, 15, 30, 45)
"""Pitches in degrees that are tried for each turn: chins are lifted and lowered further than heads are turned."""

TILTS = (-30, -15, 0, 15, 30)
"""Yaws and rolls in degrees that are tried for each turn."""

SAME_WAY_DEG = 50.0
"""Heads up to this far apart, in degrees, lie the same way: the pose is found from either."""

OTHER_WAY_DEG = 65.0
"""Heads from this far apart, in degrees, lie another way."""

CLEAR_LEAD = 1.0
"""By how much a way has to fit better than the file's to be taken instead.

In natural logarithms of likelihood, divided by the square root of the number of directions. Of 23 whole heads the true
way leads by 2.4 at least (a plaster head by 3.0), of 115 cut to the orbits, above the forehead, in front or behind, or
to one side by 0.6, of 23 in round views of 150 mm within the head it does in 18.
"""

SMALL_LEAD = 0.3
"""By how much the way that is taken has to fit better than any other for there not to be a warning. See above."""

FLAT_FACE_MM = 35.0
"""Mean way to the skin of nose and mouth, in mm, below which a skull has no face.

53 and more in 23 whole heads, 6 to 18 in eight whose face was carved out.
"""


@dataclass(frozen=True)
class Orientation:
    """Which way a head lies on its grid.

    Attributes
    ----------
    turn: numpy.ndarray
        3×3 of -1, 0, 1; rows: where the head's top, back and left are found, as (z, y, x) of the grid.
    turned: bool
        Whether that is another way than the grid's own.
    lead: float
        How much better this way fits than the best other one; below ``SMALL_LEAD`` the head cannot tell.
    evidence: dict
        How much of it comes from each kind of evidence; negative where it speaks for the other way.
    face_mm: float
        How far from the skull the skin is where nose and mouth should be, in mm, at most ``THICKEST_MM``; not a number
        where that is not in view.
    """

    turn: np.ndarray
    turned: bool
    lead: float
    evidence: dict[str, float]
    face_mm: float

    @property
    def clear(self) -> bool:
        """Whether the head can tell which way it lies."""
        return self.lead >= SMALL_LEAD


def find_orientation(sight: Sight) -> Orientation:
    """Find which way a head lies; where it cannot tell, the way in which the grid has it."""
    every = _fits(sight)
    fit = sum(every.values()) / np.sqrt(len(directions()))
    ways = _ways()
    as_it_is = _apart(ways, np.eye(3)) <= SAME_WAY_DEG
    file, best = _best(fit, as_it_is), _best(fit, np.ones_like(as_it_is))
    turned = not as_it_is[best] and fit[best] - fit[file] > CLEAR_LEAD
    here = best if turned else file
    other = _best(fit, _apart(ways, ways[here]) >= OTHER_WAY_DEG)
    evidence = {name: float(part[here] - part[other]) / np.sqrt(len(directions())) for name, part in every.items()}
    turn = turns()[here[0]] if turned else np.eye(3, dtype=int)
    return Orientation(turn, turned, float(fit[here] - fit[other]), evidence, _way_to_nose_and_mouth(sight, here))


def shows_face(sight: Sight) -> bool:
    """Whether there is a face below a skull, or what would be its place is not in view."""
    return not find_orientation(sight).face_mm < FLAT_FACE_MM


def _way_to_nose_and_mouth(sight: Sight, way: tuple[int, int]) -> float:
    """Mean way in mm from the skull to the skin there, for a head that lies as said."""
    turn, tilt = way
    order = _seen_from()[turn]
    seen = ~sight.cut & (sight.skin_in_view | (sight.wall >= THICKEST_MM))
    here = _average_head()["face"][tilt] & seen[order]
    return float(np.minimum(sight.wall[order][here], THICKEST_MM).mean()) if here.any() else np.nan


def turned_volume(volume: sitk.Image, turn: np.ndarray) -> sitk.Image:
    """A volume in the same place whose axes run along the head's left, back and top.

    Parameters
    ----------
    volume: SimpleITK.Image
        Any volume.
    turn: numpy.ndarray
        See :class:`Orientation`.
    """
    axis, backwards = np.abs(turn).argmax(axis=1), turn.sum(axis=1) < 0
    turned = sitk.PermuteAxes(volume, (2 - axis[::-1]).tolist())
    return sitk.Flip(turned, backwards[::-1].tolist())


def turned_array(array: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """An array, shape (z, y, x), on the grid of a :func:`turned_volume`."""
    axis, backwards = np.abs(turn).argmax(axis=1), turn.sum(axis=1) < 0
    return np.ascontiguousarray(np.flip(array.transpose(axis), tuple(np.flatnonzero(backwards).tolist())))


def side_of(direction: np.ndarray) -> str:
    """The side of a patient, in words, that a direction in LPS is nearest to."""
    axis = int(np.abs(direction).argmax())
    return (("right", "left"), ("front", "back"), ("feet", "top"))[axis][int(direction[axis] > 0)]


@cache
def turns() -> np.ndarray:
    """The 24 turns of a grid, the unturned one first; shape (24, 3, 3)."""
    signed = [np.diag(signs)[list(order)] for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
    turns = [turn for turn in signed if np.linalg.det(turn) > 0]
    return np.array(sorted(turns, key=np.trace, reverse=True))


@cache
def _tilts() -> np.ndarray:
    """Tilts of a head on its grid, shape (175, 3, 3): rows are where its top, back and left are, (z, y, x)."""
    angles = [(yaw, roll, pitch) for pitch in PITCHES for yaw in TILTS for roll in TILTS]
    return spatial.transform.Rotation.from_euler("xyz", angles, degrees=True).as_matrix()


@cache
def _ways() -> np.ndarray:
    """All ways to lie that are tried, shape (24, 175, 3, 3)."""
    return np.einsum("tij,qjk->qtik", _tilts(), turns())


def _apart(ways: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Angle in degrees between ways to lie, shape (24, 175)."""
    return np.degrees(np.arccos(np.clip((np.einsum("qtij,ij->qt", ways, way) - 1.0) / 2.0, -1.0, 1.0)))


def _best(fit: np.ndarray, among: np.ndarray) -> tuple[int, int]:
    """Index of the best fit among some ways."""
    turn, tilt = np.unravel_index(np.where(among, fit, -np.inf).argmax(), fit.shape)
    return int(turn), int(tilt)


@cache
def _seen_from() -> np.ndarray:
    """For each turn, the number of the direction of the grid where each direction of the turned grid is: (24, 600)."""
    return spatial.cKDTree(directions()).query(directions() @ turns())[1]


@cache
def _mirrors() -> tuple[np.ndarray, np.ndarray]:
    """The planes between left and right of all ways to lie.

    Returns
    -------
    tuple
        For each plane, the number of the direction that mirrors each direction: shape (planes, 600). And the number of
        the plane of each way to lie: shape (24, 175).
    """
    left = _ways()[:, :, 2].round(6).reshape(-1, 3)
    first = np.take_along_axis(left, (np.abs(left) > 1e-3).argmax(axis=1)[:, None], axis=1)
    planes, number = np.unique(left * np.sign(first) + 0.0, axis=0, return_inverse=True)
    mirrored = directions() - 2.0 * (planes @ directions().T)[..., None] * planes[:, None]
    return spatial.cKDTree(directions()).query(mirrored)[1], number.reshape(_ways().shape[:2])


@cache
def _average_head() -> dict[str, np.ndarray]:
    """What an average head shows in each direction of its grid, by tilt; arrays of shape (175, directions)."""
    top, back, left = np.moveaxis(directions() @ np.swapaxes(_tilts(), 1, 2), -1, 0)
    height = np.degrees(np.arcsin(np.clip(top, -1.0, 1.0)))
    aside = np.degrees(np.arctan2(np.abs(left), -back))

    def near(point: tuple[float, float, float], degrees: float) -> np.ndarray:
        """1 in the direction of a point (left, back, up from the brain's middle, mm) or of its mirror image, 0 far."""
        x, y, z = np.array(point) / np.linalg.norm(point)
        angle = np.degrees(np.arccos(np.clip(np.abs(left) * x + back * y + top * z, -1.0, 1.0)))
        return np.exp(-0.5 * (angle / degrees) ** 2)

    def read(table: np.ndarray) -> np.ndarray:
        return ndimage.map_coordinates(
            table.astype(float), [(82.5 - height) / 15.0, (aside - 15.0) / 30.0], order=1, mode="nearest"
        )

    nose = (aside * np.cos(np.radians(height)) / 14.0) ** 2 + ((height + 38.0) / 28.0) ** 2
    return {
        "face": near((0, -77, -62), 1.0) > np.exp(-0.5 * 20.0**2),
        "skull": np.log(read(SKULL_MM)),
        "wall": _logarithm(read(WALL_MM)),
        "air": 0.03 + 0.6 * np.exp(-0.5 * np.maximum(nose - 0.5, 0.0)) + 0.1 * near((56, 16, -50), 12.0),
        "fat": 0.05 + 0.55 * near((32, -77, -28), 12.0),
    }


def _logarithm(wall_mm: np.ndarray) -> np.ndarray:
    return np.log(np.clip(wall_mm, 0.0, THICKEST_MM) + 10.0)


def _fits(sight: Sight) -> dict[str, np.ndarray]:
    """How well a head that lies in each of the ways explains what is seen: logarithms, shape (24, 175)."""
    average = _average_head()
    seen = ~sight.cut
    skin_seen = seen & (sight.skin_in_view | (sight.wall >= THICKEST_MM))
    skull = np.log(np.maximum(sight.skull, 6.0))
    skull -= skull[seen].mean() if seen.any() else 0.0
    wall = _logarithm(sight.wall)
    spread = SPREAD_SKULL / max(float(seen.mean()), 0.1)
    return {
        "way to the skin": _normal_fit(wall, average["wall"], skin_seen, SPREAD_WALL),
        "shape of the intracranial space": _normal_fit(skull, average["skull"], seen, spread, any_size=True),
        "air of nose, sinuses and mastoids": _yes_or_no_fit(sight.air >= ON_THE_WAY_MM, average["air"], skin_seen),
        "fat of the orbits": _yes_or_no_fit(sight.fat >= ON_THE_WAY_MM, average["fat"], skin_seen),
        "symmetry": _symmetry(np.stack([np.minimum(sight.wall, 50.0) / 15.0, skull / 0.2,
                                        np.minimum(sight.air, 12.0) / 8.0]), skin_seen),
    }  # fmt: skip


def _normal_fit(
    values: np.ndarray, mean: np.ndarray, seen: np.ndarray, spread: float, any_size: bool = False
) -> np.ndarray:
    """Log likelihood of values, one a direction, that vary about the average head's; of any size if so said."""
    turned = _seen_from()
    weight, value = seen.astype(float)[turned], np.where(seen, values, 0.0)[turned]
    squares = (value**2).sum(axis=1, keepdims=True) - 2.0 * value @ mean.T + weight @ (mean**2).T
    if any_size:
        squares -= (value.sum(axis=1, keepdims=True) - weight @ mean.T) ** 2 / max(np.count_nonzero(seen), 1)
    return -0.5 / spread**2 * squares


def _yes_or_no_fit(here: np.ndarray, probability: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Log likelihood of something that is there or not in each direction."""
    turned = _seen_from()
    yes, no = (here & seen)[turned].astype(float), (~here & seen)[turned].astype(float)
    return yes @ np.log(probability).T + no @ np.log1p(-probability).T


def _symmetry(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """How little some values, shape (kinds, directions), differ from their mirror images, for all ways.

    Nothing is as good a match as it can be, and as bad a one as two unlike halves.
    """
    mirrored, plane = _mirrors()
    both = seen & seen[mirrored]
    unlike = np.minimum(np.abs(values[:, None] - values[:, mirrored]).sum(axis=0), 3.0)
    compared = both.mean(axis=-1)
    mean = (unlike * both).sum(axis=-1) / np.maximum(both.sum(axis=-1), 1)
    fit = -0.5 * len(directions()) * np.where(compared > 0.1, mean * compared, 0.15)
    return fit[plane]
