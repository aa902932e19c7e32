"""What a phantom is made from: the person, the pose, the field of view, the grid and the artefacts."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError

FIELDS_OF_VIEW = ("head", "upper_lip", "orbits", "no_vertex", "neck", "above_orbits")
"""How much of the head is scanned, see :class:`PhantomParameters`."""


@dataclass(frozen=True)
class PhantomParameters:
    """What to scan and how.

    Attributes
    ----------
    person: int
        Number of the person; the same number is the same head.
    seed: int
        Seed of the scan (noise, streaks), so that two scans of a person differ.
    child: bool
        A child's proportions.
    yaw, pitch, roll: float
        Pose in degrees; positive turns the face to the patient's left, lifts the chin, leans the top of the head to the
        patient's left. Made for -30 to 30.
    position: tuple of float
        Where the middle of the head lies in the field of view, (x, y) in mm from its middle, LPS.
    field_of_view: str
        One of ``FIELDS_OF_VIEW``: ``"head"`` vertex to chin; ``"upper_lip"`` and ``"orbits"`` vertex to there;
        ``"no_vertex"`` chin to forehead; ``"neck"`` vertex to shoulders; ``"above_orbits"`` has no face in view.
    matrix: tuple of int
        Columns and rows.
    spacing: tuple of float
        Column, row and slice spacing in mm.
    thickness: float or None
        Slice thickness in mm; the slice spacing when None.
    noise: float
        Standard deviation in HU at the middle of the head.
    blur: float
        Point spread, standard deviation in mm.
    holder: bool
        Head holder with foam, and the couch below it.
    clip: int
        Lowest value stored, in HU.
    padding: int or None
        Value outside the circular field of view in HU, or None for none.
    jaw_open: float
        Mouth opening in degrees of jaw rotation, 0 to 20.
    metal: float
        Dental metal with streaks, 0 for none, 1 for strong.
    tube: bool
        A tube through the mouth into the windpipe.
    craniectomy: bool
        A piece of the calvaria is missing.
    contrast: bool
        Enhanced vessels.
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

    def __post_init__(self) -> None:
        if self.field_of_view not in FIELDS_OF_VIEW:
            raise InputError(f"field_of_view is {self.field_of_view!r}; choose one of {', '.join(FIELDS_OF_VIEW)}.")
        if min(self.matrix) < 8 or min(self.spacing) <= 0:
            raise InputError("matrix must be at least 8 by 8 and spacing positive.")
