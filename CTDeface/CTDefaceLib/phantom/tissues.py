"""Paints the tissues of the synthetic head, one over the other, into slices: Hounsfield units and labels."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from . import shape
from .solids import Array, Solid, Space, carve, chain, ellipsoid, pair, step

if TYPE_CHECKING:
    from .parameters import PhantomParameters
    from .patient import Patient

_ALL = (slice(None),) * 3

_FLAP = ellipsoid((62, -30, 72), (40, 44, 36))
"""The piece of calvaria that a craniectomy takes: 8 cm of the left side."""

_HU = {
    "air": -1000,
    "airway": -990,
    "wide airway": -995,
    "mouth": -950,
    "foam": -955,
    "couch foam": -930,
    "couch": -60,
    "holder": 90,
    "skin": 45,
    "fat": -95,
    "deep fat": -80,
    "orbital fat": -85,
    "muscle": 55,
    "masseter": 62,
    "eye muscle": 50,
    "mucosa": 50,
    "tongue": 52,
    "cartilage": 90,
    "septum": 120,
    "optic nerve": 35,
    "sclera": 48,
    "vitreous": 12,
    "lens": 85,
    "cortical bone": 1050,
    "diploe": 520,
    "ethmoid wall": 250,
    "mastoid wall": 700,
    "enamel": 2100,
    "fluid": 10,
    "ventricle": 7,
    "grey matter": 38,
    "white matter": 29,
    "falx": 60,
    "vessel": 310,
    "metal": 9000,
    "tube": 230,
}
"""Hounsfield units of what is painted: usual values at 120 kV, chosen by eye within their ranges."""


class Label(IntEnum):
    """Values of a phantom's labels."""

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


class Slab:
    """Some slices of the scan before noise.

    Attributes
    ----------
    hu: numpy.ndarray
        Hounsfield units, float32, shape (z, y, x).
    labels: numpy.ndarray
        :class:`Label` by the voxel's centre, uint8, same shape.
    skin: numpy.ndarray
        Signed distance to the skin in mm of head coordinates, same shape; made by :meth:`paint`.
    """

    def __init__(self, p: PhantomParameters, patient: Patient, origin: Array, zs: Array) -> None:
        self.p, self.patient = p, patient
        (nx, ny), (sx, sy, _) = p.matrix, p.spacing
        self.world = (
            (origin[0] + np.arange(nx) * sx).astype(np.float32)[None, None, :],
            (origin[1] + np.arange(ny) * sy).astype(np.float32)[None, :, None],
            zs.astype(np.float32)[:, None, None],
        )
        shape = (len(zs), ny, nx)
        x, y, z = (np.broadcast_to(v, shape) for v in patient.to_head(*self.world))
        self.space = Space(x, y, z, self._find)
        self.hu = np.full(shape, _HU["air"], np.float32)
        self.labels = np.zeros(shape, np.uint8)
        # A linear ramp with the variance of point spread and pixel together stands for the partial volume of an edge.
        self.ramp = np.float32(patient.scale / np.sqrt(12 * p.blur**2 + ((sx + sy) / 2) ** 2))

    def _find(self, low: Array, high: Array) -> tuple[slice, ...] | None:
        low, high = self.patient.box(low, high)
        where = []
        for axis, a, b in zip(self.world[::-1], low[::-1], high[::-1]):
            first, last = np.searchsorted(axis.ravel(), [a, b])
            if first >= last:
                return None
            where.append(slice(int(first), int(last)))
        return tuple(where)

    def put(self, distance: Array, value: float | Array, label: Label | None, where: tuple[slice, ...] = _ALL) -> None:
        """Paint a tissue over what is there; ``distance`` (mm) is negative inside it."""
        cover = np.clip(np.float32(0.5) - distance * self.ramp, 0, 1)
        self.hu[where] += cover * (value - self.hu[where])
        if label is not None:
            self.labels[where][distance < 0] = label

    def put_solids(self, value: float, label: Label | None, *solids: Solid, limit: Array | None = None) -> None:
        """Paint bodies, kept inside ``limit`` (a distance over the slab) where given."""
        for solid in solids:
            found = self.space.cut(solid.low - 3, solid.high + 3)
            if found:
                where, part = found
                d = solid.distance(part.x, part.y, part.z)
                self.put(d if limit is None else np.maximum(d, limit[where]), value, label, where)

    def paint(self) -> None:
        """Paint everything, from the outside in."""
        p, space = self.p, self.space
        if p.holder:
            self._holder()
        cavity, skin = self.patient.distances(space)
        flap = space.cut(_FLAP.low, _FLAP.high) if p.craniectomy else None
        if flap:
            where, part = flap
            skin[where] += 5 * step(_FLAP.distance(part.x, part.y, part.z) / -16)
        self.skin = skin
        self._soft(skin)
        self._bone(cavity, skin)
        self._brain(cavity)
        self._orbits(cavity, skin)
        self._airways(cavity, skin)
        if p.contrast:
            self._vessels(skin)
        if p.metal:
            self.put_solids(
                _HU["metal"], Label.DEVICE, *(ellipsoid(c, (4.5, 4.5, 4)) for c in shape.metal_teeth(self.shape))
            )
        if p.tube:
            self._tube()

    @property
    def shape(self) -> shape.Shape:
        """The person."""
        return self.patient.shape

    def _holder(self) -> None:
        """Curved shell with foam under the head; below the neck the couch, a foam core between two skins."""
        x, y, z = self.world
        back, end = float(self.patient.scalp[:, 1].max()), -60 * self.shape.size
        x = x - np.float32(self.patient.shift[0])
        radius = 116.0
        depth = y - (back + 7 - radius)
        across = np.hypot(x, depth)
        rim = (np.arctan2(np.abs(x), depth) - np.float32(np.radians(62))) * across
        beside = end - z
        foam = np.maximum(np.maximum(across - (radius - 1.5), np.abs(x) - 60), back - 22 - y)
        self.put(np.maximum(foam, beside), _HU["foam"], Label.HOLDER)
        self.put(np.maximum(np.maximum(np.abs(across - radius) - 1.4, rim), beside), _HU["holder"], Label.HOLDER)
        if z.min() < end:
            depth = y - (back + 30 - self.world[0] ** 2 / 1200)
            self.put(np.maximum(np.abs(depth - 10) - 10, -beside), _HU["couch foam"], Label.HOLDER)
            plates = np.minimum(np.abs(depth), np.abs(depth - 20)) - 1.2
            self.put(np.maximum(plates, -beside), _HU["couch"], Label.HOLDER)

    def _soft(self, skin: Array) -> None:
        """Skin, the fat below it, muscle."""
        s, x, y, z = self.shape, self.space.x, self.space.y, self.space.z
        self.put(skin, _HU["skin"], Label.SKIN)
        chin = float(shape.jaw(s, (0, -95, -76))[0][2])
        face = (self.labels == Label.SKIN) & (y < -15) & (z < 50 + s.brow_height) & (z > chin - 14)
        self.labels[face] = Label.FACE_SKIN
        self.put(skin + 2, _HU["fat"], Label.FAT)
        ripple = np.sin(x * np.float32(0.16)) * np.sin(y * np.float32(0.13) + 1) * np.sin(z * np.float32(0.15))
        self.put(skin + np.float32(5.5 + 0.4 * s.fullness) + np.float32(1.8) * ripple, _HU["muscle"], Label.SOFT)
        self.put_solids(_HU["fat"], Label.FAT, *pair(ellipsoid((37, -60, -26), (9, 12, 15))), limit=skin + 4)  # buccal
        self.put_solids(
            _HU["deep fat"], Label.FAT, *pair(chain([(24, -32, -4), (26, -30, -34)], [6, 5]))
        )  # beside the pharynx
        masseter = ellipsoid((55 + s.jaw_width * 0.6, -24, -36), (7, 15, 25))
        self.put_solids(_HU["masseter"], Label.SOFT, *pair(masseter), limit=skin + 3)
        cartilage = chain([(0, -96, 4), (0, -107, -10)], 2)
        self.put_solids(_HU["cartilage"], Label.SOFT, cartilage, limit=skin + 2)

    def _bone(self, cavity: Array, skin: Array) -> None:
        """Cortical bone with diploe inside, and teeth."""
        s, space = self.shape, self.space
        bone = shape.skull_distance(space, s, cavity, self.patient.spine)
        np.maximum(bone, skin + np.float32(4.2), out=bone)
        if self.p.craniectomy:
            carve(bone, space, 1.5, _FLAP)
        for half in pair(shape.orbit(s)):
            found = space.cut(half.low - 3, half.high + 3)
            if found:
                where, part = found
                hollow = np.maximum(half.distance(part.x, part.y, part.z), np.float32(1.8) - cavity[where])
                bone[where] = np.maximum(bone[where], -hollow)
        self.put(bone, _HU["cortical bone"], Label.BONE)
        x, y, z = space.x, space.y, space.z
        grain = np.sin(x * np.float32(1.1) + y) * np.sin(y * np.float32(1.3) - z) * np.sin(z * np.float32(0.7) + x)
        self.put(bone + np.float32(1.9), np.float32(_HU["diploe"]) + np.float32(160) * grain, Label.BONE)
        for half in (half for row in shape.teeth(s) for half in row):
            found = space.cut(half.low - 3, half.high + 3)
            if found:
                where, part = found
                gaps = np.cos((np.abs(part.x) + np.abs(part.y + 95)) * np.float32(2 * np.pi / 9.5))
                d = half.distance(part.x, part.y, part.z) + np.maximum(gaps - np.float32(0.6), 0) * 3
                self.put(np.maximum(d, skin[where] + 4), _HU["enamel"], Label.BONE, where)

    def _brain(self, cavity: Array) -> None:
        """Fluid, grey and white matter, ventricles and falx in the intracranial space."""
        found = self.space.cut(np.array([-85, -100, -75]), np.array([85, 100, 125]))
        if not found:
            return
        where, part = found
        x, y, z, d = part.x, part.y, part.z, cavity[where]
        self.put(d, _HU["fluid"], None, where)
        folds = np.abs(np.sin(x * np.float32(0.33) + np.sin(z * np.float32(0.21)))) + np.abs(
            np.sin(y * np.float32(0.31) + np.sin(x * np.float32(0.18)) + z * np.float32(0.1))
        )
        self.put(d + np.float32(1.8) + 14 * np.maximum(np.float32(0.35) - folds, 0), _HU["grey matter"], None, where)
        self.put(d + np.float32(4.5) + np.float32(2.6) * folds, _HU["white matter"], None, where)
        self.put_solids(_HU["grey matter"], None, *pair(ellipsoid((15, 2, 48), (7, 18, 11))))
        lateral = chain([(7, -26, 56), (9, -4, 66), (14, 22, 62), (20, 34, 48)], [4, 5, 6, 5])
        third, fourth = chain([(0, -8, 44), (0, 6, 42)], 2), chain([(0, 26, 12), (0, 30, 0)], [5, 4])
        self.put_solids(_HU["ventricle"], None, *pair(lateral), third, fourth)
        falx = np.maximum(np.abs(x) - np.float32(0.8), np.maximum(d + 1, 62 - z + np.maximum(-y - 40, 0)))
        self.put(falx, _HU["falx"], None, where)
        self.labels[where][d < 0] = Label.SOFT
        self.labels[where][(d < 0) & (z > shape.FORAMEN_MAGNUM_Z)] = Label.INTRACRANIAL

    def _orbits(self, cavity: Array, skin: Array) -> None:
        """Fat, muscles, optic nerve and eyeball."""
        wall = np.float32(1.8) - cavity
        limit = np.maximum(wall, skin + 3)
        eye, apex = np.array(shape.eye_centre(self.shape)), np.array([17.0, -32.0, 22.0])
        self.put_solids(_HU["orbital fat"], Label.FAT, *pair(shape.orbit(self.shape)), limit=limit)
        for side in ((11, 0, 0), (-11, 0, 0), (0, 0, 10), (0, 0, -10)):
            muscle = chain([eye + side, eye + (0, 12, 0) + np.array(side), apex], [1.2, 2.6, 1.5])
            self.put_solids(_HU["eye muscle"], Label.SOFT, *pair(muscle), limit=limit)
        self.put_solids(_HU["optic nerve"], Label.SOFT, *pair(chain([eye + (0, 12, 0), apex], [2.4, 2.2])), limit=limit)
        limit = np.maximum(wall, skin + np.float32(1.2))
        for hu, centre, radii in (
            (_HU["sclera"], eye, (12.6, 12.6, 12.2)),
            (_HU["vitreous"], eye, (11.4, 11.4, 11.0)),
            (_HU["lens"], eye + (0, -8, 0), (4.5, 2.2, 4.5)),
        ):
            self.put_solids(hu, Label.SOFT, *pair(ellipsoid(centre, radii)), limit=limit)

    def _airways(self, cavity: Array, skin: Array) -> None:
        """Sinuses, nose with septum and turbinates, ethmoid and mastoid cells, mouth, throat, ear canals."""
        s = self.shape
        wall = np.float32(2.2) - cavity
        inner = np.maximum(wall, skin + 2)
        deep = np.maximum(wall, skin + 5)
        for solid in shape.sinuses():
            self.put_solids(_HU["wide airway"], Label.AIRWAY, *pair(solid), limit=deep + 1)
        self.put_solids(_HU["airway"], Label.AIRWAY, *pair(shape.nasal_cavity(s)), limit=deep)
        self.put_solids(_HU["septum"], Label.SOFT, ellipsoid((0, -63, 0), (1.5, 33, 23)), limit=inner)
        self.put_solids(_HU["mucosa"], Label.SOFT, *pair(chain([(8, -84, -9), (9, -44, -9)], 3.6)), limit=inner)
        self.put_solids(_HU["mucosa"], Label.SOFT, *pair(chain([(7, -76, 4), (8, -44, 3)], 2.6)), limit=inner)
        self._cells(ellipsoid((0, -60, 21), (13, 24, 12)), _HU["ethmoid wall"], inner)
        for mastoid in pair(ellipsoid((56, 18, -4), (8, 10, 12))):
            self._cells(mastoid, _HU["mastoid wall"], np.maximum(wall, skin + 8))
        self.put_solids(_HU["wide airway"], Label.AIRWAY, ellipsoid((0, -26, -4), (13, 12, 15)), limit=inner)
        throat = chain(self.patient.throat, [10, 9, 8, 7, 6, 6, 7, 8, 8, 8, 8, 8])
        self.put_solids(_HU["wide airway"], Label.AIRWAY, throat, limit=inner)
        self.put_solids(
            _HU["airway"], Label.AIRWAY, *pair(chain([(54, 6, 0), (66, 2, 0), (84, 0, 2)], [3, 3, 3.4])), limit=wall
        )
        if not s.jaw_open:
            self.put_solids(_HU["mouth"], Label.AIRWAY, ellipsoid((0, -62, -31), (16, 24, 2.2)), limit=inner)
            return
        floor = np.array(shape.jaw(s, (0, -70, -50))[0])
        height = max((-42 - floor[2]) / 2, 1.0)
        mouth = ellipsoid((0, (floor[1] - 70) / 2 + 4, (floor[2] - 42) / 2 + 4), (22, 42, height + 6))
        self.put_solids(_HU["airway"], Label.AIRWAY, mouth)
        self.put_solids(_HU["tongue"], Label.SOFT, ellipsoid(floor + (0, 22, -6), (19, 32, 15)))  # tongue

    def _cells(self, solid: Solid, wall_hu: float, limit: Array) -> None:
        """Air cells with thin bony walls between them."""
        found = self.space.cut(solid.low - 3, solid.high + 3)
        if found:
            where, part = found
            d = np.maximum(solid.distance(part.x, part.y, part.z), limit[where])
            self.put(d, wall_hu, Label.BONE, where)
            walls = np.minimum(np.abs(np.sin(part.x * np.float32(0.48))), np.abs(np.sin(part.y * np.float32(0.39))))
            self.put(np.maximum(d, np.float32(0.7) - np.float32(2.2) * walls), _HU["airway"], Label.AIRWAY, where)

    def _vessels(self, skin: Array) -> None:
        """Arteries, veins and sinuses with contrast medium."""
        sinus = chain([(0, -60, 98), (0, 0, 114), (0, 60, 94), (0, 80, 40), (0, 74, 18)], [2, 3.5, 4, 4.5, 4.5])
        basilar = chain([(0, 4, -20), (0, -4, 10), (0, -6, 26)], 2.2)
        sides = (
            chain([(0, 76, 18), (40, 58, 12), (50, 30, 2), (46, 20, -14)], [4, 4.5, 4.5, 4]),  # transverse sinus
            chain([(25, -2, -60), (24, -4, -20), (18, -8, 10), (12, -20, 28), (12, -26, 34)], [3, 3, 2.8, 2.6, 2.4]),
            chain([(12, -26, 34), (34, -24, 36), (50, -10, 50), (54, 10, 66)], [2.2, 2, 1.8, 1.5]),  # middle cerebral
            chain([(4, -30, 36), (3, -56, 52), (3, -50, 80), (3, -10, 90)], [1.8, 1.6, 1.5, 1.3]),  # anterior cerebral
            chain([(34, 4, -60), (36, 8, -20), (40, 14, -12)], [4.5, 4.5, 4]),  # jugular
            chain([(44, -36, -62), (30, -78, -40), (16, -94, -10), (16, -88, 20)], 1.3),  # facial
        )
        self.put_solids(
            _HU["vessel"], None, sinus, basilar, *(half for side in sides for half in pair(side)), limit=skin + 5
        )

    def _tube(self) -> None:
        """A tube through the mouth into the windpipe."""
        s = self.shape
        lip = np.array(shape.jaw(s, (9, -101 - s.lip_forward, -46 + s.mouth_height))[0])
        path: list[Any] = [(24, -135, lip[2] - 14), (16, -116, lip[2]), lip + (0, 0, 3), (3, -60, -38), (0, -28, -36)]
        path += list(self.patient.throat[4:9])
        self.put_solids(_HU["tube"], Label.DEVICE, chain(path, 5.0))
        self.put_solids(_HU["wide airway"], Label.DEVICE, chain(path, 3.4))
