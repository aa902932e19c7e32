"""How far the skin of a defaced face lies from the original's, against how far other people's faces lie from it.

Recognisers look at pictures; this looks at the surface itself, in millimetres. A face that was only smoothed, or put
back by half, keeps its shape whatever a recogniser says of it: then the new skin lies nearer to this person's old one
than any other face does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.face_map import Cylinder, head_cylinder
from CTDefaceLib.anatomy.grids import values_at
from CTDefaceLib.anatomy.hounsfield import TISSUE_HU
from CTDefaceLib.anatomy.map_grid import ANGLES, HEIGHTS
from CTDefaceLib.errors import NoFaceError
from scipy import ndimage
from scipy.spatial import cKDTree

OTHER_FACES = Path(__file__).with_name("other_faces.npz")
"""Faces of synthetic people to compare with where no others are given, made by Testing/make_other_faces.py."""
RAY_STEP_MM = 0.5
"""Step in mm along a ray that looks for the skin; the crossing itself is found between two steps."""
ABOVE_THE_SKIN_MM = 25.0
"""How far outside the original's skin, in mm, a new skin is looked for: beyond any nose that is put on."""
BELOW_THE_SKIN_MM = 60.0
"""How far inside of it: below that lies a hole, not a skin."""
FINER = 4
"""Points, for each step of the map along height and angle, of a skin that distances are taken to: about 1 mm apart.
Not critical; those that they are taken from are the map's own, 3 to 4 mm apart."""
FIT_POINTS, FIT_ENOUGH_MM, FIT_STEPS = 500, 0.02, 200
"""A face is fitted to another by about so many of its points, until none of them moves by more than so many mm, or for
so many steps. All points and 400 steps change mean distances of 3 to 8 mm by at most 0.1 mm, and the part that
`SHAPE_LEFT` decides on by 0.03; 300 points or 0.1 mm by 0.04, for half of the time."""
LEAST_COVERED = 0.5
"""Share of the face in which there has to be a skin for its shape to count: a few patches fit anybody. Judgement."""
SHAPE_LEFT = 0.5
"""A new skin that lies less than this part of the distance of other people's faces from the old one keeps its shape.
Two phantoms and two real heads whose faces were blurred by 3 mm have 0.18 to 0.25, by 6 mm 0.35 to 0.58, which is not
told from a new skin: that has 0.54 to 0.91 with any strength and fill, since it goes on from the skin around it."""


@dataclass(frozen=True)
class FacialShape:
    """Distances within the face, in mm.

    Attributes
    ----------
    mean_mm, p95_mm: float
        Mean and 95th percentile of the distance of the defaced skin to the original's, fitted to it as the others are.
    others_mean_mm, others_p95_mm: tuple of float
        The same of the defaced skin to the faces of other people, laid over it and fitted.
    covered: float
        Share of the face in which there is a skin to compare, 0 to 1.
    """

    mean_mm: float
    p95_mm: float
    others_mean_mm: tuple[float, ...]
    others_p95_mm: tuple[float, ...]
    covered: float

    @property
    def part_of_others(self) -> float | None:
        """Mean distance in parts of the median of other people's; None without any."""
        return self.mean_mm / float(np.median(self.others_mean_mm)) if self.others_mean_mm else None

    @property
    def is_left(self) -> bool:
        """Whether the new skin keeps the shape of this face."""
        part = self.part_of_others
        return part is not None and part < SHAPE_LEFT and self.covered >= LEAST_COVERED

    @property
    def sentence(self) -> str:
        """The numbers in words."""
        text = (
            f"Within the face the skin of the defaced scan lies {self.mean_mm:.1f} mm from the original's (95 %: "
            f"{self.p95_mm:.1f} mm)"
        )
        if self.others_mean_mm:
            text += (
                f", and {min(self.others_mean_mm):.1f} to {max(self.others_mean_mm):.1f} mm (95 %: "
                f"{min(self.others_p95_mm):.1f} to {max(self.others_p95_mm):.1f} mm) from those of "
                f"{len(self.others_mean_mm)} other people, each laid over it and fitted"
            )
        return text + (". So the face keeps its shape." if self.is_left else ".")


@dataclass(frozen=True)
class OwnFace:
    """The face of an original, and those of other people that it is compared with.

    Attributes
    ----------
    cylinder: Cylinder
        Where its head lies.
    skin: np.ndarray
        Map of the radius of its skin, see :func:`face_skin`.
    points: cKDTree
        The same as points, (n, 3) mm, in a tree that finds the nearest.
    others: tuple of cKDTree
        Points of other people's faces.
    """

    cylinder: Cylinder
    skin: np.ndarray
    points: cKDTree
    others: tuple[cKDTree, ...]


def own_face(
    original: sitk.Image, others: Iterable[sitk.Image] | None = None, cylinder: Cylinder | None = None
) -> OwnFace | None:
    """What other skins are compared with.

    Parameters
    ----------
    original: sitk.Image
        CT in Hounsfield units.
    others: iterable of sitk.Image or None
        CTs of other people's heads; synthetic ones when None. One without a head is passed over.
    cylinder: Cylinder or None
        Of the original, where it is there already.

    Returns
    -------
    OwnFace or None
        None where no face is in view.
    """
    try:
        cylinder = cylinder or head_cylinder(original)
    except NoFaceError:
        return None
    skin = face_skin(original, cylinder)
    points = points_of(skin, cylinder.depth_mm, cylinder.landmarks.eye_height)
    if len(points) == 0:
        return None
    faces = (face for face in map(_face_of, others or ()) if face is not None)
    return OwnFace(cylinder, skin, tree_of(points), synthetic_faces() if others is None else tuple(faces))


def facial_shape(face: OwnFace, image: sitk.Image, iso: float = TISSUE_HU) -> FacialShape | None:
    """Measure how much of its shape a face has kept in a CT, or in what an attack made of one.

    Parameters
    ----------
    face: OwnFace
        Of the original.
    image: sitk.Image
        CT in Hounsfield units, in the same place, on any grid.
    iso: float
        HU of its skin.

    Returns
    -------
    FacialShape or None
        None where there is no skin left to measure.
    """
    skin = face_skin(image, face.cylinder, iso)
    there = np.isfinite(face.skin) & np.isfinite(skin)
    place = face.cylinder.depth_mm, face.cylinder.landmarks.eye_height
    new = points_of(np.where(there, skin, np.nan), *place, finer=1)
    if len(new) == 0:
        return None
    own = distances(new, face.points)
    away = [distances(new, other) for other in face.others]
    return FacialShape(
        mean_mm=float(own.mean()),
        p95_mm=float(np.percentile(own, 95.0)),
        others_mean_mm=tuple(float(values.mean()) for values in away),
        others_p95_mm=tuple(float(np.percentile(values, 95.0)) for values in away),
        covered=float(there.sum() / np.isfinite(face.skin).sum()),
    )


def face_skin(image: sitk.Image, cylinder: Cylinder, iso: float = TISSUE_HU) -> np.ndarray:
    """Map of the radius in mm of the outermost skin within the outline of a face, NaN elsewhere; (heights, angles)."""
    return outermost_above(image, cylinder, iso, (cylinder.outline > 0.0) & cylinder.skin_in_view)


def outermost_above(
    image: sitk.Image, cylinder: Cylinder, iso: float, where: np.ndarray, above_mm: float = ABOVE_THE_SKIN_MM
) -> np.ndarray:
    """Map of the radius in mm at which a CT, from outside, first rises above `iso` HU; NaN where it does not.

    It is looked for along the rays of the cylinder, where the map `where` (bool) says so, from `above_mm` outside the
    head's skin inwards.
    """
    found_at = np.full(cylinder.skin.shape, np.nan)
    if not where.any():
        return found_at
    offsets = np.arange(above_mm, -BELOW_THE_SKIN_MM, -RAY_STEP_MM)
    radii = np.maximum(cylinder.skin[..., None] + offsets, 0.0)
    values, radii = values_at(image, cylinder.points(radii)[where]), radii[where]
    above = values > iso
    first = above.argmax(axis=1)
    rows = np.flatnonzero(above.any(axis=1) & (first > 0))
    outside, inside = values[rows, first[rows] - 1], values[rows, first[rows]]
    part = np.clip((iso - outside) / np.maximum(inside - outside, 1.0), 0.0, 1.0)
    along = np.full(len(values), np.nan)
    along[rows] = radii[rows, first[rows]] + (1.0 - part) * RAY_STEP_MM
    found_at[where] = along
    return found_at


def points_of(skin: np.ndarray, depth_mm: float, eye_height: float, finer: int = FINER) -> np.ndarray:
    """A map of a face's skin as points, so many to a step, in its head's own coordinates from the eyes; (n, 3) mm.

    `depth_mm` is the distance of the map's axis behind the brow, `eye_height` that of the eyes above it.
    """
    known = np.isfinite(skin)
    if not known.any():
        return np.empty((0, 3))
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    shape = [finer * (n - 1) + 1 for n in skin.shape]
    places = np.meshgrid(*(np.arange(n) / finer for n in shape), indexing="ij")
    inner = ndimage.map_coordinates(known.astype(float), places, order=1) > 1.0 - 1e-6
    radius = ndimage.map_coordinates(skin[tuple(nearest)], places, order=1)[inner]
    height = np.interp(places[0][inner], np.arange(len(HEIGHTS)), HEIGHTS) - eye_height
    angle = np.radians(np.interp(places[1][inner], np.arange(len(ANGLES)), ANGLES))
    return np.stack([radius * np.sin(angle), depth_mm - radius * np.cos(angle), height], axis=-1)


def tree_of(points: np.ndarray) -> cKDTree:
    """A tree that finds the nearest of the points of a skin, (n, 3) mm.

    A simple one with large leaves: of points on a surface, for others far from it, it is four times as quick.
    """
    return cKDTree(points, leafsize=64, balanced_tree=False, compact_nodes=False)


def distances(skin: np.ndarray, other: cKDTree) -> np.ndarray:
    """Distance in mm of each point of a skin to another, after a rigid fit of the latter; (n,)."""
    rotation, shift = fitted(skin, other)
    return other.query(skin @ rotation.T + shift)[0]


def fitted(skin: np.ndarray, other: cKDTree) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and shift that lay a skin on another, its points p at ``rotation @ p + shift`` (Besl 1992)."""
    few = skin[:: max(1, len(skin) // FIT_POINTS)]
    rotation, shift, before = np.eye(3), np.zeros(3), few
    for _ in range(FIT_STEPS):
        # The skin is moved instead of the other, whose tree is made once.
        rotation, shift = _rigid(few, other.data[other.query(before)[1]])
        moved = few @ rotation.T + shift
        if np.abs(moved - before).max() < FIT_ENOUGH_MM:
            break
        before = moved
    return rotation, shift


def _rigid(moving: np.ndarray, fixed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and shift that bring points (n, 3) nearest to their partners (Kabsch 1976)."""
    middle, target = moving.mean(axis=0), fixed.mean(axis=0)
    u, _, vt = np.linalg.svd((moving - middle).T @ (fixed - target))
    mirror = np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
    rotation = vt.T @ mirror @ u.T
    return rotation, target - rotation @ middle


def _face_of(image: sitk.Image) -> cKDTree | None:
    try:
        cylinder = head_cylinder(image)
    except NoFaceError:
        return None
    points = points_of(face_skin(image, cylinder), cylinder.depth_mm, cylinder.landmarks.eye_height)
    return tree_of(points) if len(points) else None


@cache
def synthetic_faces() -> tuple[cKDTree, ...]:
    """The faces of OTHER_FACES as points, made once in a process."""
    with np.load(OTHER_FACES) as kept:
        places = zip(kept["skin"].astype(float), kept["depth_mm"].tolist(), kept["eye_height"].tolist())
        return tuple(tree_of(points_of(*place)) for place in places)
