"""From which sides a head is drawn: the yaw × pitch grids and the camera's pose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.head import find_head
from CTDefaceLib.errors import CTDefaceError, NoFaceError
from CTDefaceLib.render import head_center, skin_surface

View = tuple[float, float, str]
"""Yaw and pitch in degrees, and a light, a key of `CTDefaceLib.render.LIGHTS`."""


@dataclass(frozen=True)
class ViewGrid:
    """Every yaw with every pitch under every light, all in degrees; see `CTDefaceLib.render` for their signs."""

    yaws: tuple[float, ...]
    pitches: tuple[float, ...]
    lights: tuple[str, ...] = ("top", "head")

    def __iter__(self) -> Iterator[View]:
        return ((yaw, pitch, light) for light in self.lights for pitch in self.pitches for yaw in self.yaws)

    def __len__(self) -> int:
        return len(self.yaws) * len(self.pitches) * len(self.lights)


PRESETS = {
    "default": ViewGrid((-45, -30, -15, 0, 15, 30, 45), (-30, -15, 0, 15, 30)),
    "quick": ViewGrid((-30, 0, 30), (-15, 0, 15), ("top",)),
    "study": ViewGrid(tuple(range(-60, 61, 10)), tuple(range(-40, 41, 10)), ("top",)),
}
"""Grids by name. Default: 35 sides under 2 lights, since dlib finds hardly anything beyond 45° of yaw, and the head
light adds a quarter of the faces found. Quick: for a batch's audit. Study: 117 views, of which twelve scans give the
1404 renderings of the study (doi 10.1016/j.radi.2024.12.018)."""

POSE_CENTER_MM = (0.0, 40.0, -15.0)
"""What the camera turns around, in mm of the head's own axes (left, back, top) from its origin in the brow: a little
below the brow and nearer to the face than the middle of the head, so that the face stays in view. Set by judgement; no
other value is on record."""
COARSE_SKIN_MM = 4.0
"""Grid in mm of the skin that only serves to find the middle of what has no skull. Not critical."""


def view_grid(name: str) -> ViewGrid:
    """The grid of a preset. Raises CTDefaceError for an unknown name."""
    if name not in PRESETS:
        raise CTDefaceError(f"There is no set of views called “{name}”; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


@dataclass(frozen=True)
class Pose:
    """Where the camera turns around and which way the head faces.

    Attributes
    ----------
    axes: np.ndarray
        3×3, rows are unit vectors in LPS towards the head's left, back and top.
    center: np.ndarray
        LPS mm.
    found: bool
        False where no skull was found and the axes are the patient's.
    """

    axes: np.ndarray
    center: np.ndarray
    found: bool = True


def head_pose(image: sitk.Image) -> Pose:
    """Pose of the head in a CT in Hounsfield units, so that its tilt and turn are corrected.

    Where no skull is found the patient's axes and the middle of the skin surface serve.
    Raises CTDefaceError when there is no body at all.
    """
    try:
        head = find_head(image)
    except NoFaceError:
        return Pose(np.eye(3), head_center(skin_surface(image, grid_mm=COARSE_SKIN_MM)), found=False)
    return Pose(head.axes, head.to_lps(np.array(POSE_CENTER_MM)))
