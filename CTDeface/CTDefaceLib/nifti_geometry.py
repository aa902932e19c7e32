"""How a NIfTI header says where its voxels lie: by two transforms, qform and sform, which need not agree."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .errors import InputError

FORMS = ("qform", "sform")
"""The two transforms by name."""

MM = {1: 1e3, 3: 1e-3}
"""Millimetres in a unit of length by its code (metres and micrometres); all else is in millimetres."""

SCANNER = 1
"""Code of a transform that leads to the scanner's axes, which is written where there was none."""

LETTERS = {letter: (axis, sign) for axis, pair in enumerate(("RL", "AP", "SI")) for letter, sign in zip(pair, (1, -1))}
"""Where an axis can lead → the axis of RAS coordinates, and its sign there."""

NO_ORIENTATION = (
    "The file does not say which way its axes lead ({}): look at it in a viewer, and say so with --orientation, such "
    "as RAS where they lead to the patient's right, front and top."
)
NO_CODES = "the codes of qform and sform are 0"
STATED = "The file says itself which way its axes lead: leave --orientation out."
TOLD = (
    "The file does not say which way its axes lead; {} was told. No head tells its left from its right, so that a "
    "mirror image would not be noticed: make sure of that."
)
SIDES = dict(zip("RLAPSI", ("right", "left", "front", "back", "top", "feet")))
TWO_ORIENTATIONS = (
    "The two transforms of the NIfTI file (qform and sform) lay its voxels up to {:.1f} mm apart, which is more than a "
    "voxel: choose the one that is right with --qform or --sform."
)
NO_NUMBERS = (
    "One of the two transforms of the NIfTI file (qform and sform) holds what is no number: choose the other one with "
    "--qform or --sform."
)
TO_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Geometry:
    """What a NIfTI header says of where its voxels lie, as it stands there.

    Attributes
    ----------
    header: int
        Its size in bytes: 348 of NIfTI-1, 540 of NIfTI-2.
    size: tuple of int
        Along the three axes.
    pixdim: tuple of float
        Eight numbers: a sign, the spacing along three axes, and what lies beyond.
    units: int
        Code of the units of length and time.
    codes: tuple of int
        Of qform and sform; 0 for none.
    quatern, qoffset: tuple of float
        The qform: three numbers of a quaternion, and a place.
    srow: tuple of tuple
        The sform: three rows of four numbers.
    """

    header: int
    size: tuple[int, ...]
    pixdim: tuple[float, ...]
    units: int
    codes: tuple[int, int]
    quatern: tuple[float, ...]
    qoffset: tuple[float, ...]
    srow: tuple[tuple[float, ...], ...]

    @property
    def qform(self) -> np.ndarray:
        """3×4, from indices to RAS in mm."""
        b, c, d = self.quatern
        rest = 1.0 - (b * b + c * c + d * d)
        if rest < 1e-7:
            b, c, d = np.array(self.quatern) / np.linalg.norm(self.quatern)
        a = np.sqrt(max(rest, 0.0)) if rest >= 1e-7 else 0.0
        turned = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        spacing = np.abs(self.pixdim[1:4]) * [1, 1, -1 if self.pixdim[0] < 0 else 1]
        return np.column_stack([turned * spacing, self.qoffset]) * self._mm

    @property
    def sform(self) -> np.ndarray:
        """3×4, from indices to RAS in mm."""
        return np.array(self.srow) * self._mm

    @property
    def _mm(self) -> float:
        return MM.get(self.units & 7, 1.0)

    def to_ras(self, form: str = "", orientation: str = "") -> np.ndarray:
        """The transform that holds, 3×4, from indices to RAS in mm.

        Parameters
        ----------
        form: str
            The one to take where there are both, of :data:`FORMS`.
        orientation: str
            Where the three axes lead, such as ``"RAS"``, for a file with none.

        Raises
        ------
        InputError
            When there is none, or both differ by more than a voxel at a corner, and the choice is not made.
        """
        if self.codes == (0, 0):
            if not orientation:
                raise InputError(NO_ORIENTATION.format(NO_CODES))
            spacing = np.abs(self.pixdim[1:4]) * self._mm
            return np.column_stack([axes_of(orientation) * spacing, np.zeros(3)])
        if form and all(self.codes):
            return self.qform if form == "qform" else self.sform
        if not all(self.codes):
            return self.qform if self.codes[0] else self.sform
        apart, voxel = self._apart(), np.abs(self.pixdim[1:4]).min() * self._mm
        if not np.isfinite(apart + voxel):
            raise InputError(NO_NUMBERS)
        if apart > voxel:
            raise InputError(TWO_ORIENTATIONS.format(apart))
        return self.sform if is_rigid(self.sform) else self.qform

    def check_needed(self, form: str = "", orientation: str = "") -> None:
        """Refuse a choice that the file does not need (InputError)."""
        if orientation and any(self.codes):
            raise InputError(STATED)
        if form and not self.codes[FORMS.index(form)]:
            raise InputError(f"The NIfTI file has no {form}: leave --{form} out.")

    def _apart(self) -> float:
        """How far apart both transforms lay the corners of the volume, in mm, at most."""
        corners = [[*corner, 1] for corner in itertools.product(*((0, n - 1) for n in self.size))]
        return float(np.linalg.norm((self.qform - self.sform) @ np.transpose(corners), axis=0).max())


def axes_of(orientation: str) -> np.ndarray:
    """Unit vectors in RAS, the columns of 3×3, where axes lead as three letters say."""
    axes = np.zeros((3, 3))
    for index, letter in enumerate(orientation):
        axis, sign = LETTERS[letter]
        axes[axis, index] = sign
    return axes


def told(orientation: str) -> str:
    """The sentence for the report of a file whose axes a person had to tell."""
    return TOLD.format(f"{orientation} (to the {', '.join(SIDES[letter] for letter in orientation)})")


def is_orientation(text: str) -> bool:
    """Whether three letters lead three axes along the three directions of a patient, such as ``RAS``."""
    return len(text) == 3 and sorted(LETTERS[letter][0] for letter in text if letter in LETTERS) == [0, 1, 2]


def geometry_of(image: sitk.Image) -> Geometry:
    """Both transforms of a volume, in mm, of NIfTI-1."""
    axes = TO_LPS @ np.reshape(image.GetDirection(), (3, 3))
    place = TO_LPS @ image.GetOrigin()
    spacing = np.array(image.GetSpacing())
    mirrored = np.linalg.det(axes) < 0
    turned = axes * ([1, 1, -1] if mirrored else [1, 1, 1])
    rows = np.column_stack([axes * spacing, place])
    return Geometry(
        348, image.GetSize(), (-1.0 if mirrored else 1.0, *floats(spacing), 0.0, 0.0, 0.0, 0.0), 2,
        (SCANNER, SCANNER), _quaternion(turned), floats(place), tuple(map(floats, rows)),
    )  # fmt: skip


def _quaternion(turned: np.ndarray) -> tuple[float, ...]:
    """b, c and d of a rotation, a not below 0."""
    from scipy.spatial.transform import Rotation

    b, c, d, a = Rotation.from_matrix(turned).as_quat()
    return floats(np.array([b, c, d]) * (1 if a >= 0 else -1))


def is_rigid(to_ras: np.ndarray) -> bool:
    """Whether the axes are at right angles."""
    lengths = np.linalg.norm(to_ras[:, :3], axis=0)
    if not np.isfinite(lengths).all() or lengths.min() <= 0:
        return False
    axes = to_ras[:, :3] / lengths
    return np.allclose(axes.T @ axes, np.eye(3), atol=1e-3)


def floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
