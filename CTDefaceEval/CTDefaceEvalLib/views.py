"""From where a head is looked at: the yaw × pitch grids and the camera's pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.errors import CTDefaceError


@dataclass(frozen=True)
class ViewGrid:
    """Every yaw with every pitch under every light, all in degrees; see `CTDefaceLib.render` for their signs."""

    yaws: tuple[float, ...]
    pitches: tuple[float, ...]
    lights: tuple[str, ...] = ("top", "head")

    def __iter__(self):
        return ((yaw, pitch, light) for light in self.lights for pitch in self.pitches for yaw in self.yaws)

    def __len__(self) -> int:
        return len(self.yaws) * len(self.pitches) * len(self.lights)


PRESETS = {
    # 35 views × 2 lights: dlib finds hardly anything beyond 45° of yaw
    "default": ViewGrid((-45, -30, -15, 0, 15, 30, 45), (-30, -15, 0, 15, 30)),
    # for a live meter
    "quick": ViewGrid((-30, 0, 30), (-15, 0, 15), ("top",)),
    # 117 views: twelve scans give the 1404 renderings of the study
    "study": ViewGrid(tuple(range(-60, 61, 10)), tuple(range(-40, 41, 10)), ("top",)),
}


def view_grid(name: str) -> ViewGrid:
    """The grid of a preset. Raises CTDefaceError for an unknown name."""
    if name not in PRESETS:
        raise CTDefaceError(f"There is no set of views called “{name}”; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


@dataclass(frozen=True)
class Pose:
    """Where the camera turns around and which way the head looks.

    Attributes
    ----------
    axes: 3×3, rows are unit vectors in LPS towards the head's left, back and top
    center: LPS mm
    found: False where no skull was found and the axes are the patient's
    """

    axes: np.ndarray
    center: np.ndarray
    found: bool = True


def head_pose(image: sitk.Image) -> Pose:
    """Pose of the head in a CT in Hounsfield units, so that its tilt and turn are corrected.

    Where no skull is found the patient's axes and the middle of the skin surface serve.
    Raises CTDefaceError when there is no body at all.
    """
    from CTDefaceLib.anatomy.head import find_head
    from CTDefaceLib.errors import NoFaceError
    from CTDefaceLib.render import head_center, skin_surface

    try:
        head = find_head(image)
    except NoFaceError:
        return Pose(np.eye(3), head_center(skin_surface(image, grid_mm=4.0)), found=False)
    # Behind and a little below the brow: nearer to the face than the middle of the head, so that it stays in view.
    return Pose(head.axes, head.to_lps(np.array([0.0, 40.0, -15.0])))
