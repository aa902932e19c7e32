"""The synthetic head laid in a scanner: person, pose, landmarks, and how much of it is scanned."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from . import shape
from .solids import Array, Space, chain, join

if TYPE_CHECKING:
    from .parameters import PhantomParameters

Point = tuple[float, float, float]
"""x, y, z in mm."""

_PIVOT = (0.0, -8.0, 25.0)
"""Head coordinates in mm of the point about which the head turns: its middle, so that it stays in the field of view."""

_ABOVE_VERTEX_MM = 8.0
"""What is scanned above the scalp, in mm. Chosen by eye, as the following are."""

_BELOW_CHIN_MM, _BELOW_SCALP_MM = 28.0, 10.0
"""What is scanned below the chin, and below the back of the head where that lies deeper, in mm."""

_BELOW_EYES_MM = 12.0
"""What is scanned below the eyes in a field of view that ends at the orbits, in mm of an average head."""

_OFF_VERTEX_MM, _ABOVE_BROWS_MM = 30.0, 25.0
"""What is missing at the vertex in a field of view without it, and the least that it shows above the brows, in mm."""

_NECK_MM = 190.0
"""How far below the ear canals a scan of the neck goes, in mm of an average head."""


class Patient:
    """A person in a pose.

    The head turns about a point in its middle; the trunk stays, and neck, spine and throat bend between the two. The
    middle between the foremost point of the face and the back of the head then lies at y = ``position``.

    Attributes
    ----------
    shape: Shape
        The person.
    neck, spine, throat: numpy.ndarray
        Points (n, 3) along them, in head coordinates.
    scale: float
        Millimetres in the scanner for one in head coordinates.
    """

    def __init__(self, p: PhantomParameters) -> None:
        self.shape = s = shape.draw_shape(p.person, p.child, p.jaw_open)
        self.field_of_view = p.field_of_view
        yaw, pitch, roll = np.radians([p.yaw, -p.pitch, p.roll])
        cos, sin = np.cos, np.sin
        self.rotation = (
            np.array([[cos(yaw), -sin(yaw), 0], [sin(yaw), cos(yaw), 0], [0, 0, 1]])
            @ np.array([[1, 0, 0], [0, cos(pitch), -sin(pitch)], [0, sin(pitch), cos(pitch)]])
            @ np.array([[cos(roll), 0, sin(roll)], [0, 1, 0], [-sin(roll), 0, cos(roll)]])
        )
        self.pivot = np.array(_PIVOT) * s.size
        self.shift = self.pivot * (0, 0, 1)
        self.scale = shape.mean_scale(s)

        self.spine = self._bend((0, 4, -36), (0, 6, -70), (0, 20, -140), (0, 34, -230))
        self.neck = self._bend((0, 12, -25), (0, 12, -60), (0, 22, -130), (0, 30, -240))[[0, 5, 10, 11]]
        self.throat = self._bend((0, -20, -8), (0, -14, -70), (0, -16, -120), (0, -2, -240))
        self._shoulders = [
            chain(self.from_trunk([(0, 36, -172), (60 * side, 38, -188), (150 * side, 42, -215)]), [44, 42, 55])
            for side in (-1, 1)
        ] + [chain(self.from_trunk([(-75, 34, -250), (75, 34, -250)]), 82)]
        self._table = np.linspace(-400, 200, 601)
        self._heights = shape.to_head(s, np.zeros(601), np.zeros(601), self._table)[2]
        front = self.from_head(np.array(list(self._profile.values())))[:, 1].min()
        self.shift = np.array([*p.position, self.pivot[2]]) - (0, (front + self.scalp[:, 1].max()) / 2, 0)

    def _bend(self, a: Point, b: Point, c: Point, d: Point) -> Array:
        """Points (12, 3) of a Bezier curve from ``a``, ``b`` of the head to ``c``, ``d`` of the trunk."""
        (p, q), (r, s) = np.array([a, b], float), self.from_trunk([c, d])
        t = np.linspace(0, 1, 12)[:, None]
        return (1 - t) ** 3 * p + 3 * t * (1 - t) ** 2 * q + 3 * t * t * (1 - t) * r + t**3 * s

    def to_head(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """Head coordinates of points in LPS mm (float32 arrays that broadcast together)."""
        r = self.rotation.astype(np.float32)
        q, t = self.pivot.astype(np.float32), self.shift.astype(np.float32)
        x, y, z = x - t[0], y - t[1], z - t[2]
        return shape.to_head(
            self.shape,
            r[0, 0] * x + r[1, 0] * y + r[2, 0] * z + q[0],
            r[0, 1] * x + r[1, 1] * y + r[2, 1] * z + q[1],
            r[0, 2] * x + r[1, 2] * y + r[2, 2] * z + q[2],
        )

    def from_head(self, points: Array) -> Array:
        """LPS mm of points (n, 3) in head coordinates."""
        return (shape.from_head(self.shape, points) - self.pivot) @ self.rotation.T + self.shift

    def from_trunk(self, points: ArrayLike) -> Array:
        """Head coordinates of points (n, 3) of the trunk, given as if the head were straight and of average size."""
        points = np.asarray(points, float) * self.shape.size
        x, y, z = ((points - self.pivot) @ self.rotation + self.pivot).T
        return np.stack(shape.to_head(self.shape, x, y, z), -1)

    def box(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Corners of a box in LPS mm that holds a box in head coordinates."""
        s = self.shape
        x = np.array([low[0], high[0]]) * s.size * s.width
        slack = abs(s.side) * np.abs(x).max()
        y = np.array([low[1], high[1]]) * s.size * s.length
        z = np.interp([low[2], high[2]], self._heights, self._table)
        corners = np.array([(a, b, c) for a in (x[0] - slack, x[1] + slack) for b in y for c in z])
        corners = (corners - self.pivot) @ self.rotation.T + self.shift
        return corners.min(0), corners.max(0)

    def distances(self, space: Space) -> tuple[Array, Array]:
        """Signed distances (mm) of the intracranial space and of the skin, shoulders included."""
        cavity = shape.cavity_distance(space, self.shape)
        skin = shape.skin_distance(space, self.shape, cavity, self.neck)
        join(skin, space, 40, *self._shoulders)
        return cavity, skin

    @property
    def landmarks(self) -> dict[str, Array]:
        """Anatomical points in LPS mm."""
        return dict(zip(self._profile, self.from_head(np.array(list(self._profile.values())))))

    @cached_property
    def _profile(self) -> dict[str, Point]:
        """Anatomical points in head coordinates, those in the middle found on the skin's profile."""
        s = self.shape
        zs, ys = np.arange(-130, 140, dtype=np.float32), np.arange(-150, 120, dtype=np.float32)
        z, y = np.meshgrid(zs, ys, indexing="ij")
        inside = self.distances(Space(np.full_like(z, s.nose_bend), y, z))[1] < 0
        front = np.where(inside.any(1), ys[inside.argmax(1)], np.inf)
        back = np.where(inside.any(1), ys[::-1][inside[:, ::-1].argmax(1)], -np.inf)

        def extreme(profile: Array, middle: float, reach: float, pick: Callable[[Array], np.intp]) -> Point:
            rows = np.flatnonzero(np.abs(zs - middle) <= reach)
            row = rows[pick(profile[rows])]
            return s.nose_bend, profile[row], zs[row]

        chin = shape.jaw(s, (0, -100, -76))[0][2]
        points = dict(
            nasion=extreme(front, 25, 11, np.argmax),
            nose_tip=extreme(front, -13 - s.nose_length, 10, np.argmin),
            upper_lip=extreme(front, -41 + s.mouth_height, 3, np.argmin),
            chin=extreme(front, chin, 8, np.argmin),
            occiput=extreme(back, 30, 30, np.argmax),
            vertex=(0.0, 0.0, zs[inside.any(1)][-1]),
        )
        for side, sign in (("left", 1), ("right", -1)):
            eye_x, eye_y, eye_z = shape.eye_centre(s)
            points[f"{side}_eye"] = (sign * eye_x, eye_y, eye_z)
            points[f"{side}_tragus"] = (sign * 73.0, -3.0, -3.0)
        return points

    @property
    def scalp(self) -> Array:
        """Points (n, 3) around the braincase in LPS mm."""
        u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 48), np.linspace(0, np.pi, 24))
        ball = np.stack([np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v)], -1).reshape(-1, 3)
        return self.from_head(np.concatenate([ball * (80, 96, 77.5) + (0, 0, 52), ball * (67, 52.5, 48) + (0, 36, 10)]))

    def extent(self) -> tuple[float, float]:
        """Lowest and highest z of the scan in LPS mm."""
        points, scalp = self.landmarks, self.scalp[:, 2]
        top = scalp.max() + _ABOVE_VERTEX_MM
        brows = self.from_head(np.array([[-45, -85, 58], [0, -98, 60], [45, -85, 58]]))[:, 2].max()
        below = min(points["chin"][2] - _BELOW_CHIN_MM, scalp.min() - _BELOW_SCALP_MM)
        return {
            "head": (below, top),
            "upper_lip": (points["upper_lip"][2], top),
            "orbits": (min(points["left_eye"][2], points["right_eye"][2]) - _BELOW_EYES_MM * self.scale, top),
            "no_vertex": (below, min(top - _OFF_VERTEX_MM, brows + _ABOVE_BROWS_MM)),
            "neck": (-_NECK_MM * self.shape.size, top),
            "above_orbits": (brows, top),
        }[self.field_of_view]
