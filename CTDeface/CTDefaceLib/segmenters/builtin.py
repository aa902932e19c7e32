"""The built-in segmenter: the face by geometry on Hounsfield units, no model and no network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..anatomy.face_map import Cylinder
from ..anatomy.face_outline import ramp
from ..anatomy.grids import box_around, mask_of, on_image_grid
from ..anatomy.hounsfield import AIR_HU
from ..anatomy.work_grid import WORK_SPACING_MM
from ..errors import NoFaceError
from .segmenter import Choice, Notes, Progress, State

TITLE = "Built-in"
ABOUT = "Geometry on Hounsfield units: no model, nothing to install, a few seconds."
OPTIONS: tuple[str, ...] = ()

SMALLEST_FACE_MM2 = 250.0
"""Facial skin in view, in mm², below which there is no face.

Between what synthetic heads show that end above the eyes (at most 85) and that end at the orbits (at least 818). 3000,
1200 and 50 before, when pitch and skin were found less well.
"""

SHELL_MM = 5.0
"""How deep under the smooth skin of an adult the mask reaches, in mm. 8 and 6 in early versions; chosen by eye."""

SHELL_RAMP_MM = 20.0
"""How far inside the outline, in mm, the mask reaches that depth; at the outline it ends at the skin. By eye."""

OVER_THE_SKIN_MM = 4.0
"""How far outside the skin the mask may reach, in mm: two steps along a ray, for skin that curves between rays."""


def state(choice: Choice) -> State:
    """It needs nothing."""
    return State()


def segment(
    image: sitk.Image, cylinder: Cylinder, choice: Choice, progress: Progress, cancelled: Callable[[], bool]
) -> tuple[sitk.Image, Notes]:
    """Find the face, see :class:`.segmenter.Segmenter`."""
    return segment_face(image, cylinder), {"warnings": []}


def segment_face(image: sitk.Image, cylinder: Cylinder) -> sitk.Image:
    """Segment the face: skin and what lies under it, from above the eyebrows to below the chin, from ear to ear.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units.
    cylinder: Cylinder
        Where the head lies in it, from :func:`CTDefaceLib.anatomy.face_map.head_cylinder`.

    Returns
    -------
    SimpleITK.Image
        Face mask, uint8, 1 in the face, on the grid of ``image``.

    Raises
    ------
    NoFaceError
        When the volume ends above the face, or does so where its orientation says that the face is.
    """
    if cylinder.facial_skin_mm2 < SMALLEST_FACE_MM2:
        raise NoFaceError(
            "No face is in view: the volume holds the head only above the eyes or behind the face, or its orientation "
            "is wrong. Nothing was changed."
        )
    outline = cylinder.outline
    inner = cylinder.landmarks.smooth_skin - SHELL_MM * cylinder.scale * ramp(outline, SHELL_RAMP_MM)
    outer = ndimage.maximum_filter(cylinder.skin, 3) + OVER_THE_SKIN_MM
    face = cylinder.spread(outline)
    near = np.flatnonzero(face > -2.0 * WORK_SPACING_MM)
    radius = cylinder.radius[near]
    shell = np.minimum(radius - cylinder.spread(inner, near), cylinder.spread(outer, near) - radius)
    face[near] = np.minimum(face[near], shell)
    inside = np.minimum(cylinder.on_work_grid(face), cylinder.head.guard)
    box = box_around(inside, cylinder.head, image)
    here = on_image_grid(inside, cylinder.head, image, box, AIR_HU) if box else None
    return mask_of(here, box, image)
