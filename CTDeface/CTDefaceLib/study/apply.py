"""Give another image of a head the new skin that was made for its CT: the same region, in its own air and tissue."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..anatomy.face_map import moved_image
from ..anatomy.grids import bounding_box, box_around, is_same_grid, values_at, whole
from ..anatomy.hounsfield import OUTSIDE_HU, PADDING_HU
from ..anatomy.work_grid import WORK_SPACING_MM
from ..anatomy.work_volume import work_volume
from ..errors import InputError
from ..parameters import DefaceParameters, drawn
from ..pipeline import DefaceResult
from ..progress import IsCancelled, Progress, steps
from ..removal.check import check
from ..removal.contrast import PET_SHARPNESS_MM, SHARPNESS_MM, contrast_of
from ..removal.fill import fill_region
from ..removal.keep import Structure, keep
from ..removal.region import removal_region
from ..removal.surface import Surface
from ..version import __version__
from .register import BLURRED, Pose

CT = "CT"
OF_THE_FACE = ("method", "model", "parameters", "fill", "strength", "depth_mm")
"""What the report of every image of a study has of that of the CT that the face was found in."""

SHOWS_MORE = (
    "It shows more of the face than the CT that the face was found in, so that some of it would stay: deface it alone, "
    "or begin with this one."
)

MOST_BEYOND = 0.02
"""Largest share (0 to 1) of the skin of the face that may be in an image and out of the view of the CT that the face
was found in: what the edges of both views differ by. A choice."""


@dataclass(frozen=True)
class Face:
    """What was found and made once, in the CT in which the head is seen best.

    Attributes
    ----------
    ct: SimpleITK.Image
        That CT in Hounsfield units, at least the part that shows head and region.
    result: DefaceResult
        What became of it.
    parameters: DefaceParameters
    secret, patient
        See :func:`.pipeline.deface`.
    """

    ct: sitk.Image
    result: DefaceResult
    parameters: DefaceParameters
    secret: bytes | None = None
    patient: str = ""

    def for_others(self) -> Face:
        """As much of it as other images need, for whoever keeps it long: head and region, the new skin, the mask."""
        result, nothing = self.result, sitk.Image(1, 1, 1, sitk.sitkUInt8)
        head = result.cylinder.head
        around = box_around(np.maximum(head.solid, result.surface.reach + 2.0 * WORK_SPACING_MM), head, self.ct)
        mask = result.mask[bounding_box(result.mask) or whole(result.mask)]
        result = replace(result, image=nothing, region=nothing, bare=None, mask=mask)
        return replace(self, ct=self.ct[around or whole(self.ct)], result=result)

    def for_cts(self, parameters: DefaceParameters) -> Face:
        """As much of it as CTs need, which show air and tissue themselves; with these parameters."""
        return self if parameters.keeps_bone else replace(self, ct=self.ct[:1, :1, :1])


def apply(
    face: Face,
    image: sitk.Image,
    modality: str = CT,
    pose: Pose | None = None,
    *,
    kept: Sequence[Structure] = (),
    progress: Progress | None = None,
    cancelled: IsCancelled | None = None,
) -> DefaceResult:
    """Replace the face in another image of the same head.

    Parameters
    ----------
    face: Face
        What was made for its CT.
    image: SimpleITK.Image
        The other image on any grid; of a CT in Hounsfield units.
    modality: str
        As in DICOM: CT, MR, PT, …
    pose: Pose, optional
        Where its head lies; where that of the CT lies when None.
    kept: sequence of Structure
        What must stay in this image besides what stays in the CT.

    Returns
    -------
    DefaceResult
        As of :func:`.pipeline.deface`, its surface where the head lies in this image.

    Raises
    ------
    InputError
        When it shows more of the face than the CT does.
    """
    start = time.perf_counter()
    step = steps(progress, cancelled)
    parameters = face.parameters
    if face.secret is not None:
        parameters = drawn(parameters, face.secret, face.patient, image)
    step(0.0, "Applying the new skin")
    there = partial(_there, pose)
    surface = face.result.surface if pose is None else face.result.surface.moved(pose.rotation, pose.shift)
    _check_view(surface, image)
    surface = surface.wider(0.0 if pose is None and is_same_grid(face.ct, image) else _across_a_voxel(image))
    view, padding = _seen(image, surface, modality)
    bones = there(face.ct) if parameters.keeps_bone else None
    make_region = partial(
        removal_region, image, keep_bone=parameters.keeps_bone, bone_of=bones, view=view, padding=padding
    )
    own = keep(kept, parameters.keep_margin_mm)
    notes: dict[str, Any] = {}
    if own:
        own.check_within(image)
        notes["kept"] = own.report(make_region(surface))
        surface = surface.sparing(own)
    region, bare = make_region(surface), make_region(surface.bare) if surface.bare else None
    step(0.4, "Filling the region")
    contrast = None
    if modality != CT and bounding_box(region) is not None:
        sharpness_mm = PET_SHARPNESS_MM if modality in BLURRED else SHARPNESS_MM
        contrast = contrast_of(image, surface, there(face.ct), sharpness_mm)
    filled = fill_region(
        image,
        region,
        surface,
        **parameters.of_fill,
        contrast=contrast,
    )
    step(0.9, "Checking the result")
    mask = sitk.Resample(there(face.result.mask), image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    hu = image if modality == CT else sitk.Resample(there(face.ct), image, sitk.Transform(), sitk.sitkLinear, -1000.0)
    first = face.result.report
    report: dict[str, Any] = {
        "version": __version__,
        **{key: first[key] for key in OF_THE_FACE if key in first},
        **check(hu, mask, region, surface.cylinder, with_face=_shows_face(image, surface)),
        **notes,
        **({} if pose is None else {"registered": pose.report}),
    }
    report["seconds"] = round(time.perf_counter() - start, 2)
    step(1.0, "Result ready")
    return DefaceResult(filled, mask, region, report, surface.cylinder, surface, bare)


def _there(pose: Pose | None, image: sitk.Image) -> sitk.Image:
    """What lies on the CT where its head lies in the other image; a copy, where that is elsewhere."""
    return image if pose is None else moved_image(image, pose.rotation, pose.shift)


def _seen(image: sitk.Image, surface: Surface, modality: str) -> tuple[sitk.Image, float | None]:
    """What an image shows on the work grid of the head, and the value of its padding; all of it where it is no CT."""
    grid = surface.cylinder.head.volume
    if modality != CT:
        return sitk.Image(grid) * 0.0, None
    work, padding = work_volume(image)
    return sitk.Resample(work, grid, sitk.Transform(), sitk.sitkNearestNeighbor, OUTSIDE_HU), padding


def _across_a_voxel(image: sitk.Image) -> float:
    """From the middle of a voxel to its corner in mm, as far as the guard of the intracranial space has room."""
    return min(float(np.linalg.norm(image.GetSpacing())) / 2.0, WORK_SPACING_MM)


def _check_view(surface: Surface, image: sitk.Image) -> None:
    """Refuse an image that shows skin of the face that the CT of the new skin does not (InputError)."""
    inside = surface.outline > 0
    hidden = inside & ~surface.cylinder.skin_in_view
    shown = values_at(image, surface.cylinder.points(surface.skin)) > PADDING_HU
    if np.count_nonzero(hidden & shown) > MOST_BEYOND * np.count_nonzero(inside):
        raise InputError(SHOWS_MORE)


def _shows_face(image: sitk.Image, surface: Surface) -> bool:
    """Whether any skin of the face is in an image."""
    skin = surface.cylinder.points(surface.skin)[surface.outline > 0]
    return bool((values_at(image, skin) > OUTSIDE_HU).any())
