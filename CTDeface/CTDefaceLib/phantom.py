"""A synthetic head CT with its ground truth.

Stands in for a person's scan wherever one is needed and none may be used: `ctdeface demo`, sample data, tests. The head
is modelled by signed distances (`phantom_anatomy`), painted tissue by tissue with partial volume, and then scanned: noise
with the texture of a reconstruction kernel, head holder, clipping, padding, and the artefacts asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property

import numpy as np
import SimpleITK as sitk

from . import phantom_anatomy as anatomy
from .errors import InputError
from .phantom_anatomy import Array, Space, carve, chain, ellipsoid, join, pair

FIELDS_OF_VIEW = ("head", "upper_lip", "orbits", "no_vertex", "neck", "above_orbits")


class Label(IntEnum):
    """Values of `Phantom.labels`."""

    AIR = 0
    SKIN = 1
    FACE_SKIN = 2
    SOFT = 3
    FAT = 4
    BONE = 5
    INTRACRANIAL = 6
    AIRWAY = 7
    HOLDER = 8
    DEVICE = 9


@dataclass(frozen=True)
class PhantomParameters:
    """What to scan and how.

    Attributes:
        person: number of the person; the same number is the same head.
        seed: seed of the scan (noise, streaks), so that two scans of a person differ.
        child: a child's proportions.
        yaw, pitch, roll: pose in degrees; positive turns the face to the patient's left, lifts the chin, leans the top
            of the head to the patient's left. Made for -30 to 30.
        position: where the head lies from the middle of the field of view, (x, y) in mm, LPS.
        field_of_view: one of `FIELDS_OF_VIEW`: "head" vertex to chin; "upper_lip" and "orbits" vertex to there;
            "no_vertex" chin to forehead; "neck" vertex to shoulders; "above_orbits" has no face in view.
        matrix: columns and rows.
        spacing: column, row and slice spacing in mm.
        thickness: slice thickness in mm; the slice spacing when None.
        noise: standard deviation in HU at the middle of the head.
        blur: point spread, standard deviation in mm.
        holder: head holder with foam, and the couch below it.
        clip: lowest value stored, in HU.
        padding: value outside the circular field of view in HU, or None for none.
        jaw_open: mouth opening in degrees of jaw rotation, 0 to 20.
        metal: dental metal with streaks, 0 for none, 1 for strong.
        tube: a tube through the mouth into the windpipe.
        craniectomy: a piece of the calvaria is missing.
        contrast: enhanced vessels.
    """

    person: int = 0
    seed: int = 0
    child: bool = False
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    position: tuple[float, float] = (0.0, 0.0)
    field_of_view: str = "head"
    matrix: tuple[int, int] = (256, 256)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    thickness: float | None = None
    noise: float = 8.0
    blur: float = 0.5
    holder: bool = True
    clip: int = -1024
    padding: int | None = None
    jaw_open: float = 0.0
    metal: float = 0.0
    tube: bool = False
    craniectomy: bool = False
    contrast: bool = False

    def __post_init__(self):
        if self.field_of_view not in FIELDS_OF_VIEW:
            raise InputError(f"field_of_view is {self.field_of_view!r}; choose one of {', '.join(FIELDS_OF_VIEW)}.")
        if min(self.matrix) < 8 or min(self.spacing) <= 0:
            raise InputError("matrix must be at least 8 by 8 and spacing positive.")


@dataclass(frozen=True)
class Phantom:
    """A synthetic scan.

    Attributes:
        image: int16 HU, LPS axes.
        labels: uint8 `Label` on the same grid, by the voxel's centre.
        landmarks: points in LPS mm: nasion, nose_tip, upper_lip, chin, left_tragus, right_tragus, left_eye, right_eye,
            vertex, occiput; also those outside the field of view.
        parameters: what it was made from.
    """

    image: sitk.Image
    labels: sitk.Image
    landmarks: dict[str, tuple[float, float, float]]
    parameters: PhantomParameters = field(default_factory=PhantomParameters)

    def mask(self, *labels: Label) -> sitk.Image:
        """Voxels with any of the labels, uint8 0 or 1."""
        array = np.isin(sitk.GetArrayViewFromImage(self.labels), [int(label) for label in labels])
        out = sitk.GetImageFromArray(array.astype(np.uint8))
        out.CopyInformation(self.labels)
        return out

    @property
    def intracranial(self) -> sitk.Image:
        return self.mask(Label.INTRACRANIAL)

    @property
    def face_skin(self) -> sitk.Image:
        return self.mask(Label.FACE_SKIN)


def make_phantom(parameters: PhantomParameters | None = None) -> Phantom:
    """Make a synthetic head CT; the same parameters always give the same voxels.

    Args:
        parameters: person, pose, field of view, grid, artefacts; a frontal adult head when None.

    Returns:
        The volume and its ground truth.
    """
    p = parameters or PhantomParameters()
    patient = _Patient(p)
    bottom, top = patient.extent()
    (nx, ny), (sx, sy, sz) = p.matrix, p.spacing
    nz = max(2, int(round((top - bottom) / sz)))
    origin = np.array([-(nx - 1) / 2 * sx, -(ny - 1) / 2 * sy, bottom + sz / 2])
    thickness = p.thickness or sz
    subs = int(np.ceil(thickness / 1.25)) // 2 * 2 + 1
    offsets = (np.arange(subs) - subs // 2) * (thickness / subs)

    image = np.empty((nz, ny, nx), np.int16)
    labels = np.empty((nz, ny, nx), np.uint8)
    scanner = _Scanner(p, patient)
    step = max(1, int(1_500_000 // (nx * ny * subs)))
    for first in range(0, nz, step):
        last = min(nz, first + step)
        zs = (origin[2] + np.arange(first, last) * sz)[:, None] + offsets
        slab = _Slab(p, patient, origin, zs.ravel())
        slab.paint()
        shape = (last - first, subs, ny, nx)
        hu = slab.hu.reshape(shape).mean(1) if subs > 1 else slab.hu
        labels[first:last] = slab.labels.reshape(shape)[:, subs // 2]
        image[first:last] = scanner.acquire(hu, slab.skin.reshape(shape)[:, subs // 2], range(first, last), zs.mean(1))

    def to_image(array):
        out = sitk.GetImageFromArray(array)
        out.SetSpacing((float(sx), float(sy), float(sz)))
        out.SetOrigin([float(v) for v in origin])
        return out

    landmarks = {name: tuple(float(v) for v in point) for name, point in patient.landmarks.items()}
    return Phantom(to_image(image), to_image(labels), landmarks, p)


# ---------------------------------------------------------------------------------------------------------- patient


class _Patient:
    """A person in a pose: transforms between the scanner's LPS mm and head coordinates, and fixed points."""

    def __init__(self, p: PhantomParameters):
        self.shape = s = anatomy.draw_shape(p.person, p.child, p.jaw_open)
        self.field_of_view = p.field_of_view
        yaw, pitch, roll = np.radians([p.yaw, -p.pitch, p.roll])
        c, n = np.cos, np.sin
        self.rotation = (
            np.array([[c(yaw), -n(yaw), 0], [n(yaw), c(yaw), 0], [0, 0, 1]])
            @ np.array([[1, 0, 0], [0, c(pitch), -n(pitch)], [0, n(pitch), c(pitch)]])
            @ np.array([[c(roll), 0, n(roll)], [0, 1, 0], [-n(roll), 0, c(roll)]])
        )
        self.pivot = np.array([0.0, -8.0, 25.0]) * s.size
        self.shift = np.array([p.position[0], p.position[1], self.pivot[2]])
        self.scale = anatomy.mean_scale(s)

        def curve(*points):
            (a, b), (c_, d_) = np.array(points[:2]), self.from_body(np.array(points[2:]) * s.size)
            t = np.linspace(0, 1, 12)[:, None]
            return [tuple(v) for v in (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t * t * (1 - t) * c_ + t**3 * d_]

        self.spine = curve((0, 4, -36), (0, 6, -70), (0, 20, -140), (0, 34, -230))
        self.neck = curve((0, 12, -25), (0, 12, -60), (0, 22, -130), (0, 30, -240))[::5] + [
            tuple(self.from_body(np.array([[0, 30, -240]]) * s.size)[0])
        ]
        self.pharynx = curve((0, -20, -8), (0, -14, -70), (0, -16, -120), (0, -2, -240))
        body = self.from_body
        self.shoulders = [
            chain(body(np.array([[0, 34, -200], [60, 36, -212], [150, 40, -240]]) * s.size), [50, 46, 58]),
            chain(body(np.array([[0, 34, -200], [-60, 36, -212], [-150, 40, -240]]) * s.size), [50, 46, 58]),
            chain(body(np.array([[-75, 30, -275], [75, 30, -275]]) * s.size), 85),
        ]
        self._table = np.linspace(-400, 200, 601)
        self._heights = anatomy.to_head(s, np.zeros(601), np.zeros(601), self._table)[2]

    def to_head(self, x, y, z):
        """Head coordinates of points in LPS mm (float32 arrays that broadcast together)."""
        r = self.rotation.astype(np.float32)
        q, t = self.pivot.astype(np.float32), self.shift.astype(np.float32)
        x, y, z = x - t[0], y - t[1], z - t[2]
        return anatomy.to_head(
            self.shape,
            r[0, 0] * x + r[1, 0] * y + r[2, 0] * z + q[0],
            r[0, 1] * x + r[1, 1] * y + r[2, 1] * z + q[1],
            r[0, 2] * x + r[1, 2] * y + r[2, 2] * z + q[2],
        )

    def from_head(self, points: Array) -> Array:
        """LPS mm of points (n, 3) in head coordinates."""
        return (anatomy.from_head(self.shape, points) - self.pivot) @ self.rotation.T + self.shift

    def from_body(self, points: Array) -> Array:
        """Head coordinates of points (n, 3) of the trunk, which stays when the head turns."""
        x, y, z = ((np.asarray(points, float) - self.pivot) @ self.rotation + self.pivot).T
        return np.stack(anatomy.to_head(self.shape, x, y, z), -1)

    def box(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Box in LPS mm that holds a box in head coordinates."""
        s = self.shape
        zl, zh = np.interp([low[2], high[2]], self._heights, self._table)
        sx, sy = s.size * s.width, s.size * s.length
        slack = 1 + abs(s.side)
        xl, xh = low[0] * sx * (slack if low[0] < 0 else 1 / slack), high[0] * sx * (slack if high[0] > 0 else 1 / slack)
        corners = np.array(
            [(a, b, c) for a in (xl, xh) for b in (low[1] * sy, high[1] * sy) for c in (zl, zh)]
        )
        world = (corners - self.pivot) @ self.rotation.T + self.shift
        return world.min(0), world.max(0)

    def distances(self, space: Space) -> tuple[Array, Array]:
        """Signed distances of the intracranial space and of the skin, shoulders included."""
        cavity = anatomy.cavity_distance(space, self.shape)
        skin = anatomy.skin_distance(space, self.shape, cavity, self.neck)
        join(skin, space, 40, *self.shoulders)
        return cavity, skin

    @cached_property
    def landmarks(self) -> dict[str, Array]:
        """Anatomical points in LPS mm."""
        s = self.shape
        zs, ys = np.arange(-120.0, 140.0, 1.0, dtype=np.float32), np.arange(-140.0, 120.0, 0.5, dtype=np.float32)
        z, y = np.meshgrid(zs, ys, indexing="ij")
        _, skin = self.distances(Space(np.full_like(z, s.nose_bend), y, z))
        inside = skin < 0
        front = np.where(inside.any(1), ys[inside.argmax(1)], np.inf)
        back = np.where(inside.any(1), ys[::-1][inside[:, ::-1].argmax(1)], -np.inf)

        def extreme(values, low, high, pick):
            rows = np.flatnonzero((zs >= low) & (zs <= high))
            row = rows[pick(values[rows])]
            return s.nose_bend, values[row], zs[row]

        tip = -13 - s.nose_length
        chin = anatomy._jaw(s, (0, -100, -76))[0][2]
        points = dict(
            nasion=extreme(front, 14, 36, np.argmax),
            nose_tip=extreme(front, tip - 10, tip + 10, np.argmin),
            upper_lip=extreme(front, -44 + s.mouth_height, -38 + s.mouth_height, np.argmin),
            chin=extreme(front, chin - 8, chin + 8, np.argmin),
            occiput=extreme(back, 0, 60, np.argmax),
            left_eye=anatomy.eye_centre(s),
            left_tragus=(73.0, -3.0, -3.0),
            vertex=(0.0, 0.0, zs[np.flatnonzero(inside.any(1))[-1]]),
        )
        for name in ("eye", "tragus"):
            a, b, c = points[f"left_{name}"]
            points[f"right_{name}"] = (-a, b, c)
        world = self.from_head(np.array(list(points.values()), float))
        return dict(zip(points, world))

    @cached_property
    def cranium(self) -> Array:
        """Points (n, 3) on the scalp in LPS mm."""
        u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 48), np.linspace(0, np.pi, 24))
        sphere = np.stack([np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v)], -1).reshape(-1, 3)
        head = np.concatenate([sphere * (80, 96, 77.5) + (0, 0, 52), sphere * (67, 52.5, 48) + (0, 36, 10)])
        return self.from_head(head)

    def extent(self) -> tuple[float, float]:
        """Lowest and highest z of the scan in LPS mm."""
        p = self.landmarks
        top = self.cranium[:, 2].max()
        chin, lip, eyes = p["chin"][2], p["upper_lip"][2], (p["left_eye"][2], p["right_eye"][2])
        front = self.from_head(np.array([[-45, -85, 58], [0, -98, 60], [45, -85, 58]]))[:, 2]
        body = self.shift[2] - self.pivot[2]
        return {
            "head": (min(chin - 28, self.cranium[:, 2].min() - 10), top + 8),
            "upper_lip": (lip, top + 8),
            "orbits": (max(eyes), top + 8),
            "no_vertex": (min(chin - 28, self.cranium[:, 2].min() - 10), min(top - 25, front.max() + 25)),
            "neck": (body - 200 * self.shape.size, top + 8),
            "above_orbits": (front.max(), top + 8),
        }[self.field_of_view]


# ---------------------------------------------------------------------------------------------------------- tissues


class _Slab:
    """Some slices: Hounsfield units and labels of everything in them before noise."""

    def __init__(self, p: PhantomParameters, patient: _Patient, origin: Array, zs: Array):
        self.p, self.patient, self.zs = p, patient, zs
        (nx, ny), (sx, sy, _) = p.matrix, p.spacing
        self.world = (
            (origin[0] + np.arange(nx) * sx).astype(np.float32)[None, None, :],
            (origin[1] + np.arange(ny) * sy).astype(np.float32)[None, :, None],
            zs.astype(np.float32)[:, None, None],
        )
        shape = (len(zs), ny, nx)
        x, y, z = (np.ascontiguousarray(np.broadcast_to(v, shape)) for v in patient.to_head(*self.world))
        self.space = Space(x, y, z, self.find)
        self.hu = np.full(shape, -1000, np.float32)
        self.labels = np.zeros(shape, np.uint8)
        pixel = (sx + sy) / 2
        sigma = np.sqrt(p.blur**2 + pixel**2 / 12)
        self.ramp = np.float32(patient.scale / (sigma * np.sqrt(12)))

    def find(self, low: Array, high: Array) -> tuple[slice, ...] | None:
        low, high = self.patient.box(low, high)
        out = []
        for axis, a, b in zip(self.world[::-1], low[::-1], high[::-1]):
            line = axis.ravel()
            first, last = np.searchsorted(line, a), np.searchsorted(line, b, side="right")
            if first >= last:
                return None
            out.append(slice(int(first), int(last)))
        return tuple(out)

    def put(self, distance: Array, value, label: Label | None, where=(slice(None),) * 3) -> None:
        """Paint a tissue over what is there; `distance` (mm) is negative inside it."""
        cover = np.float32(0.5) - distance * self.ramp
        np.clip(cover, 0, 1, out=cover)
        hu = self.hu[where]
        cover *= np.float32(value) - hu if np.isscalar(value) else value - hu
        hu += cover
        if label is not None:
            self.labels[where][distance < 0] = label

    def put_solids(self, value, label: Label | None, *solids, limit: Array | None = None) -> None:
        """Paint bodies, kept inside `limit` (a distance over the slab) where given."""
        for solid in solids:
            found = self.space.cut(solid.low - 3, solid.high + 3)
            if found:
                where, part = found
                d = solid.distance(part.x, part.y, part.z)
                self.put(d if limit is None else np.maximum(d, limit[where]), value, label, where)

    def paint(self) -> None:
        s, space = self.patient.shape, self.space
        if self.p.holder:
            self._holder()
        cavity, skin = self.patient.distances(space)
        if self.p.craniectomy:
            carve_depth = self._flap().distance
            found = space.cut(self._flap().low, self._flap().high)
            if found:
                where, part = found
                sunk = anatomy.step(-carve_depth(part.x, part.y, part.z) / 16)
                skin[where] += sunk * np.float32(5)
        self.skin = skin
        self._soft(skin)
        self._bone(cavity, skin)
        self._brain(cavity)
        self._orbits(cavity)
        self._airways(cavity, skin)
        if self.p.contrast:
            self._vessels()
        if self.p.metal:
            self.put_solids(9000.0, Label.DEVICE, *(ellipsoid(c, (4.5, 4.5, 4)) for c in metal_teeth(s)))
        if self.p.tube:
            self._tube()

    def _flap(self):
        return ellipsoid((62, -30, 72), (40, 44, 36))

    def _holder(self) -> None:
        x, y, z = self.world
        patient = self.patient
        back = patient.cranium[:, 1].max()
        cx = patient.shift[0]
        radius, width = 116.0, 62.0
        cy = back + 7 - radius
        neck = patient.shift[2] - patient.pivot[2] - 60 * patient.shape.size
        across = np.sqrt((x - cx) ** 2 + (y - cy) ** 2)
        angle = np.degrees(np.arctan2(np.abs(x - cx), y - cy))
        arc = (angle - width) * np.float32(np.pi / 180) * across
        shell = np.maximum(np.abs(across - radius) - 1.4, arc)
        foam = np.maximum(np.maximum(across - radius + 1.5, np.abs(x - cx) - 60), back - 22 - y)
        along = neck - z
        self.put(np.maximum(foam, along) * np.ones_like(self.hu), -955.0, Label.HOLDER)
        self.put(np.maximum(shell, along) * np.ones_like(self.hu), 90.0, Label.HOLDER)
        if self.zs[0] < neck:
            depth = y - (back + 30 - (x * x) * np.float32(1 / 1200))
            couch = np.maximum(np.abs(depth - 10) - 10, z - neck)
            self.put(couch * np.ones_like(self.hu), -930.0, Label.HOLDER)
            skin = np.maximum(np.minimum(np.abs(depth), np.abs(depth - 20)) - 1.2, z - neck)
            self.put(skin * np.ones_like(self.hu), -60.0, Label.HOLDER)

    def _soft(self, skin: Array) -> None:
        s, space = self.patient.shape, self.space
        x, y, z = space.x, space.y, space.z
        self.put(skin, 45.0, Label.SKIN)
        chin = anatomy._jaw(s, (0, -95, -76))[0][2]
        top = np.float32(50 + s.brow_height)
        face = (self.labels == Label.SKIN) & (y < -15) & (z < top) & (z > chin - 14)
        self.labels[face] = Label.FACE_SKIN
        self.put(skin + np.float32(2.0), -95.0, Label.FAT)
        ripple = np.sin(x * np.float32(0.16)) * np.sin(y * np.float32(0.13) + 1) * np.sin(z * np.float32(0.15))
        depth = np.float32(5.5 + 0.4 * s.fullness) + np.float32(1.8) * ripple
        self.put(skin + depth, 55.0, Label.SOFT)
        buccal = ellipsoid((37, -60, -26), (9, 12, 15))
        self.put_solids(-95.0, Label.FAT, *pair(buccal), limit=skin + 4)
        deep = chain([(24, -32, -4), (26, -30, -34)], [6, 5])
        self.put_solids(-80.0, Label.FAT, *pair(deep))
        masseter = ellipsoid((55 + s.jaw_width * 0.6, -24, -36), (7, 15, 25))
        self.put_solids(62.0, Label.SOFT, *pair(masseter), limit=skin + 3)
        cartilage = chain([(0, -96, 4), (0, -107, -10)], 2)
        self.put_solids(90.0, Label.SOFT, cartilage, limit=skin + 2)

    def _bone(self, cavity: Array, skin: Array) -> None:
        s, space = self.patient.shape, self.space
        bone = anatomy.skull_distance(space, s, cavity, self.patient.spine)
        np.maximum(bone, skin + np.float32(4.2), out=bone)
        if self.p.craniectomy:
            carve(bone, space, 1.5, self._flap())
        keep = np.float32(1.3) - cavity
        for half in pair(anatomy.orbit(s)):
            self._hollow(bone, half, keep)
        self.put(bone, 1050.0, Label.BONE)
        x, y, z = space.x, space.y, space.z
        grain = np.sin(x * np.float32(1.1) + y) * np.sin(y * np.float32(1.3) - z) * np.sin(z * np.float32(0.7) + x)
        self.put(bone + np.float32(1.9), 520.0 + 160.0 * grain, Label.BONE)
        for row in anatomy.teeth(s):
            for half in row:
                found = space.cut(half.low - 3, half.high + 3)
                if found:
                    where, part = found
                    d = half.distance(part.x, part.y, part.z)
                    gaps = np.cos((np.abs(part.x) + np.abs(part.y + 95)) * np.float32(2 * np.pi / 9.5))
                    d = np.maximum(d + np.maximum(gaps - np.float32(0.6), 0) * 3, skin[where] + 4)
                    self.put(d, 2100.0, Label.BONE, where)

    @staticmethod
    def _carve_plain(bone, where, d):
        bone[where] = np.maximum(bone[where], -d)

    def _hollow(self, bone: Array, solid, keep: Array) -> None:
        found = self.space.cut(solid.low - 3, solid.high + 3)
        if found:
            where, part = found
            d = np.maximum(solid.distance(part.x, part.y, part.z), keep[where])
            self._carve_plain(bone, where, d)

    def _brain(self, cavity: Array) -> None:
        s, space = self.patient.shape, self.space
        low = np.array([-85, -100, -75])
        found = space.cut(low, np.array([85, 100, 125]))
        if not found:
            return
        where, part = found
        d = cavity[where]
        x, y, z = part.x, part.y, part.z
        self.put(d, 10.0, None, where)
        folds = np.abs(np.sin(x * np.float32(0.33) + np.sin(z * np.float32(0.21)))) + np.abs(
            np.sin(y * np.float32(0.31) + np.sin(x * np.float32(0.18)) + z * np.float32(0.1))
        )
        sulcus = np.float32(1.8) + np.clip(np.float32(0.35) - folds, 0, 1) * np.float32(14)
        self.put(d + sulcus, 38.0, None, where)
        self.put(d + np.float32(4.5) + np.float32(2.6) * folds, 29.0, None, where)
        self.put_solids(38.0, None, *pair(ellipsoid((15, 2, 48), (7, 18, 11))))
        self.put_solids(
            7.0,
            None,
            *pair(chain([(7, -26, 56), (9, -4, 66), (14, 22, 62), (20, 34, 48)], [4, 5, 6, 5])),
            chain([(0, -8, 44), (0, 6, 42)], [2, 2]),
            chain([(0, 26, 12), (0, 30, 0)], [5, 4]),
        )
        falx = np.maximum(np.abs(x) - np.float32(0.8), np.maximum(d + 1, np.float32(62) - z + np.maximum(-y - 40, 0)))
        self.put(falx, 60.0, None, where)
        inside = (d < 0) & (z > anatomy.FORAMEN_MAGNUM_Z)
        self.labels[where][inside] = Label.INTRACRANIAL
        self.labels[where][(d < 0) & ~inside] = Label.SOFT

    def _orbits(self, cavity: Array) -> None:
        s, space = self.patient.shape, self.space
        skin, keep = self.skin, np.float32(1.3) - cavity
        limit = np.maximum(keep, skin + np.float32(3))
        eye = np.array(anatomy.eye_centre(s))
        apex = np.array([17.0, -32.0, 22.0])
        for half in pair(anatomy.orbit(s)):
            self.put_solids(-85.0, Label.FAT, half, limit=limit)
        for a in ((11, 0, 0), (-11, 0, 0), (0, 0, 10), (0, 0, -10)):
            belly = eye + (0, 12, 0) + np.array(a)
            self.put_solids(50.0, Label.SOFT, *pair(chain([eye + np.array(a), belly, apex], [1.2, 2.6, 1.5])), limit=limit)
        self.put_solids(35.0, Label.SOFT, *pair(chain([eye + (0, 12, 0), apex], [2.4, 2.2])), limit=limit)
        globe = np.maximum(keep, skin + np.float32(1.2))
        self.put_solids(48.0, Label.SOFT, *pair(ellipsoid(eye, (12.6, 12.6, 12.2))), limit=globe)
        self.put_solids(12.0, Label.SOFT, *pair(ellipsoid(eye, (11.4, 11.4, 11.0))), limit=globe)
        self.put_solids(85.0, Label.SOFT, *pair(ellipsoid(eye + (0, -8, 0), (4.5, 2.2, 4.5))), limit=globe)

    def _airways(self, cavity: Array, skin: Array) -> None:
        s, space = self.patient.shape, self.space
        keep = np.float32(2.2) - cavity
        inner = np.maximum(keep, skin + np.float32(2))
        for solid in anatomy.sinuses():
            self.put_solids(-995.0, Label.AIRWAY, *pair(solid), limit=np.maximum(keep, skin + 6))
        for half in pair(anatomy.nasal_cavity(s)):
            found = space.cut(half.low - 3, half.high + 3)
            if found:
                where, part = found
                d = half.distance(part.x, part.y, part.z)
                d = np.maximum(np.maximum(d, np.float32(1.1) - np.abs(part.x)), np.maximum(keep, skin + 5)[where])
                self.put(d, -990.0, Label.AIRWAY, where)
        septum = ellipsoid((0, -63, 0), (1.5, 33, 23))
        self.put_solids(120.0, Label.SOFT, septum, limit=inner)
        self.put_solids(50.0, Label.SOFT, *pair(chain([(8, -84, -9), (9, -44, -9)], 3.6)))
        self.put_solids(50.0, Label.SOFT, *pair(chain([(7, -76, 4), (8, -44, 3)], 2.6)))
        low, high = np.array([-15, -86, 10]), np.array([15, -36, 36])
        found = space.cut(low, high)
        if found:
            where, part = found
            cells = ellipsoid((0, -60, 21), (13, 24, 12)).distance(part.x, part.y, part.z)
            walls = np.minimum(
                np.abs(np.sin(part.x * np.float32(np.pi / 6.5))) * 2, np.abs(np.sin(part.y * np.float32(np.pi / 8))) * 2.5
            )
            d = np.maximum(np.maximum(cells, np.float32(0.7) - walls), inner[where])
            self.put(np.maximum(cells, inner[where]), 250.0, Label.BONE, where)
            self.put(d, -990.0, Label.AIRWAY, where)
        self.put_solids(-995.0, Label.AIRWAY, ellipsoid((0, -26, -4), (13, 12, 15)), limit=inner)
        throat = chain(self.patient.pharynx, [10, 9, 8, 7, 6, 6, 7, 8, 8, 8, 8, 8])
        self.put_solids(-995.0, Label.AIRWAY, throat, limit=inner)
        self._mouth(skin, inner)
        canal = chain([(52, 6, 0), (66, 2, 0), (84, 0, 2)], [3, 3, 3.4])
        self.put_solids(-990.0, None, *pair(canal))
        mastoid = pair(ellipsoid((56, 18, -4), (8, 10, 12)))
        for solid in mastoid:
            found = space.cut(solid.low, solid.high)
            if found:
                where, part = found
                d = solid.distance(part.x, part.y, part.z)
                cells = np.abs(np.sin(part.x * 1.1)) + np.abs(np.sin(part.y * 1.0)) + np.abs(np.sin(part.z * 0.9))
                d = np.maximum(np.maximum(d, (np.float32(1.9) - cells) * 2), (skin + 8)[where])
                self.put(d, -800.0, Label.AIRWAY, where)

    def _mouth(self, skin: Array, inner: Array) -> None:
        s = self.patient.shape
        if not s.jaw_open:
            slit = ellipsoid((0, -62, -31), (16, 24, 2.2))
            self.put_solids(-950.0, Label.AIRWAY, slit, limit=inner)
            return
        low = np.array(anatomy._jaw(s, (0, -70, -50))[0])
        middle, half = (np.array([0, -70, -42.0]) + low) / 2, max((-42 - low[2]) / 2, 1.0)
        opening = ellipsoid(middle + (0, 4, 4), (22, 42, half + 6))
        self.put_solids(-990.0, Label.AIRWAY, opening)
        tongue = ellipsoid(low + (0, 22, -6), (19, 32, 15))
        self.put_solids(52.0, Label.SOFT, tongue)

    def _vessels(self) -> None:
        value = 310.0
        runs = [
            chain([(0, -60, 100), (0, 0, 117), (0, 60, 96), (0, 82, 40), (0, 74, 18)], [2, 3.5, 4, 4.5, 4.5]),
            *pair(chain([(0, 76, 18), (40, 60, 12), (50, 30, 2), (46, 20, -14)], [4, 4.5, 4.5, 4])),
            *pair(chain([(25, -2, -60), (24, -4, -20), (18, -8, 10), (12, -20, 28), (12, -26, 34)], [3, 3, 2.8, 2.6, 2.4])),
            *pair(chain([(12, -26, 34), (34, -24, 36), (50, -10, 50), (54, 10, 66)], [2.2, 2, 1.8, 1.5])),
            *pair(chain([(4, -30, 36), (3, -56, 52), (3, -50, 80), (3, -10, 90)], [1.8, 1.6, 1.5, 1.3])),
            chain([(0, 4, -20), (0, -4, 10), (0, -6, 26)], [2.2, 2.2, 2]),
            *pair(chain([(34, 4, -60), (36, 8, -20), (40, 14, -12)], [4.5, 4.5, 4])),
            *pair(chain([(44, -36, -62), (30, -78, -40), (16, -94, -10), (16, -88, 20)], 1.3)),
        ]
        self.put_solids(value, None, *runs)

    def _tube(self) -> None:
        s = self.patient.shape
        lip = np.array(anatomy._jaw(s, (9, -101 - s.lip_forward, -46 + s.mouth_height))[0])
        path = [(24, -135, lip[2] - 14), (16, -116, lip[2]), lip + (0, 0, 3), (3, -60, -38), (0, -28, -36)]
        path += self.patient.pharynx[4:9]
        self.put_solids(230.0, Label.DEVICE, chain(path, 5.0))
        self.put_solids(-995.0, Label.DEVICE, chain(path, 3.4))


def metal_teeth(shape: anatomy.Shape) -> list[tuple[float, float, float]]:
    """Centres of teeth that carry metal, in head coordinates."""
    lower = anatomy._jaw(shape, (-24.5, -62, -48))[0]
    return [(25.5, -62, -41), (-26, -58, -40), tuple(lower), (17, -85, -42)]


# ---------------------------------------------------------------------------------------------------------- scanner


class _Scanner:
    """Turns Hounsfield units into what a scanner would store."""

    def __init__(self, p: PhantomParameters, patient: _Patient):
        from scipy import fft

        self.p = p
        (nx, ny), (sx, sy, _) = p.matrix, p.spacing
        fx, fy = fft.rfftfreq(nx, sx), fft.fftfreq(ny, sy)
        f = np.hypot(fx[None, :], fy[:, None])
        response = np.sqrt(f) * np.exp(-((f / 0.42) ** 2))
        full = np.concatenate([response, response[:, 1 : (nx + 1) // 2]], 1)
        self.response = (response / np.sqrt((full**2).mean())).astype(np.float32)
        x = (np.arange(nx) - (nx - 1) / 2) * sx
        y = (np.arange(ny) - (ny - 1) / 2) * sy
        self.x, self.y = x[None, :], y[:, None]
        self.outside = np.hypot(self.x, self.y) > min(nx * sx, ny * sy) / 2 - 0.5 * sx
        self.metal = patient.from_head(np.array(metal_teeth(patient.shape))) if p.metal else np.empty((0, 3))
        rng = np.random.default_rng([p.seed, 31])
        self.rays = [self._ray(rng) for _ in self.metal]

    @staticmethod
    def _ray(rng: np.random.Generator) -> Array:
        """Strength of a streak over 720 directions, mean 0."""
        from scipy.ndimage import gaussian_filter1d

        rays = gaussian_filter1d(rng.standard_normal(720), 2.0, mode="wrap")
        rays = np.sign(rays) * np.abs(rays / rays.std()) ** 1.7
        return (rays - rays.mean()).astype(np.float32)

    def _streaks(self, z: float) -> Array:
        out = np.zeros((self.y.size, self.x.size), np.float32)
        near = [i for i, m in enumerate(self.metal) if abs(m[2] - z) < 9]
        for i in near:
            mx, my, mz = self.metal[i]
            weight = np.exp(-(((z - mz) / 4.5) ** 2)) * self.p.metal
            dx, dy = self.x - mx, self.y - my
            r = np.hypot(dx, dy)
            angle = (np.arctan2(dy, dx) / (2 * np.pi) * 720 + 9 * z) % 720
            rays = np.interp(angle.ravel(), np.arange(721), np.append(self.rays[i], self.rays[i][0])).reshape(angle.shape)
            out += (weight * 320 * rays / (1 + r / 14) * np.exp(-r / 120)).astype(np.float32)
        for i in near:
            for j in near:
                if i < j:
                    a, b = self.metal[i], self.metal[j]
                    run = (b - a)[:2] / np.hypot(*(b - a)[:2])
                    off = (self.x - a[0]) * run[1] - (self.y - a[1]) * run[0]
                    along = (self.x - (a[0] + b[0]) / 2) * run[0] + (self.y - (a[1] + b[1]) / 2) * run[1]
                    weight = np.exp(-(((z - (a[2] + b[2]) / 2) / 4.5) ** 2)) * self.p.metal
                    out -= (weight * 260 * np.exp(-((off / 4) ** 2)) * np.exp(-np.abs(along) / 50)).astype(np.float32)
        return out

    def acquire(self, hu: Array, skin: Array, slices: range, zs: Array) -> Array:
        """Slices as stored: int16, shape of `hu`. `skin` is the distance to the skin in mm."""
        from scipy import fft

        p = self.p
        out = np.empty(hu.shape, np.int16)
        for n, k in enumerate(slices):
            rng = np.random.default_rng([p.seed, 30, k])
            white = rng.standard_normal(hu.shape[1:], np.float32)
            noise = fft.irfft2(fft.rfft2(white) * self.response, s=white.shape)
            level = np.clip(-skin[n] / 50, 0, 1) * np.float32(0.65) + np.float32(0.35)
            one = hu[n] + noise * level * np.float32(p.noise)
            if p.metal:
                one += self._streaks(float(zs[n]))
            one = np.clip(np.rint(one), p.clip, 3071)
            if p.padding is not None:
                one[self.outside] = p.padding
            out[n] = one
        return out
