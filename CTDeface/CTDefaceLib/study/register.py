"""Where the head of a CT lies in another image of the same patient: rigidly registered, and checked.

The check does not ask the registration how well it did: for a CT the skulls have to overlap and their outer surfaces to
lie on each other, for another modality the skin has to lie where the CT has it, all around the head but for the face.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import SimpleITK as sitk

from ..anatomy.face_map import Cylinder, moved_image
from ..anatomy.grids import values_at
from ..anatomy.head import find_head
from ..anatomy.hounsfield import OUTSIDE_HU, PADDING_HU, SKULL_HU
from ..anatomy.map_grid import HEIGHTS
from ..anatomy.work_grid import WORK_SPACING_MM, dilated
from ..anatomy.work_volume import shrink_factors, work_volume
from ..errors import InputError, NoFaceError
from ..removal.surface import Surface

LEAST_SKULL = 0.9
"""Share (0 to 1, Dice) of two skulls on the work grid that have to be one and the same for both to be one person's.

In phantoms 0.93 and more of the same, turned, with another kernel and thick slices; 0.27 to 0.85 of others, 0.91 of the
two of a dozen that are most alike, whose surfaces lie too far apart.
"""

FARTHEST_SKULL_MM = 1.5
"""How far apart, in mm, the outer surfaces of two skulls may lie on nine tenths of the rays above the jaw.

In phantoms 0.7 at most of the same, turned, with another kernel and in slices of 6 mm; 3.4 at least of others. It does
not ask how thick the bone is, as the share does.
"""

LEAST_SKIN = 0.88
"""Share (0 to 1) of the skin around the head that has to lie where the CT has it.

In MR made from phantoms 0.96 and more of the same, 0.03 to 0.82 of others, 0.90 of the two that are most alike.
"""

SKIN_MM, BLURRED_SKIN_MM = 2.0, 5.0
"""How far, in mm, that may be from there, and for PET and SPECT, which show the skin blurred."""

BLURRED = ("PT", "NM")
"""Modalities that do."""

FEWEST_RAYS = 400
"""Places around the head where the skin has to be seen for it to be checked."""

JAW_MM = -60.0
"""Height in mm on the head below which jaw and neck move against the skull."""

CT_RANGE = (-500.0, 1000.0)
"""What is told apart of a CT, in HU."""

TURNS_DEG, LIFTS_MM = (-20.0, 0.0, 20.0), (-30.0, 0.0, 30.0)
"""From where the search begins: the chin lifted by some degrees, the head further up by some mm."""

STARTS = 3
"""How many of the beginnings that fit best are followed."""

LONGEST_STEP_MM, SHORTEST_STEP_MM, ITERATIONS = 1.5, 0.02, 40
"""First and last step of a search in mm on the work grid, and how many there are at most."""

ROUNDS, LITTLE_GAIN = 6, 1e-3
"""How often a search goes on from its end, with shorter steps, and what mutual information has to be gained by it."""

FROM_SKIN_MM = np.arange(-20.0, 30.1, 0.5)
"""Where on a ray the skin is looked for, in mm from where the CT has it."""

SKULL_RADII_MM = np.arange(20.0, 130.0)
"""Where on a ray from the head's axis the outer surface of the skull is looked for, in mm."""

SKULL_MM = 120.0
"""How long a skull is from the vertex, in mm, about."""

BINS = 32
"""Of the histograms whose mutual information is looked at."""

REFUSED = (
    "It could not be laid on the CT that the face was found in: {}. It may be another patient's, or show too little of "
    "the head; deface it alone."
)


@dataclass(frozen=True)
class Pose:
    """Where the head of a CT lies in another image.

    Attributes
    ----------
    rotation: numpy.ndarray
        3×3.
    shift: numpy.ndarray
        In mm: a point p of the CT is at ``rotation @ p + shift``, in LPS.
    agreement: float
        Of skull or skin, 0 to 1.
    """

    rotation: np.ndarray
    shift: np.ndarray
    agreement: float = 0.0

    @property
    def report(self) -> dict[str, float]:
        """How far it was moved, and how well it fits."""
        turned = np.degrees(np.arccos(np.clip((np.trace(self.rotation) - 1.0) / 2.0, -1.0, 1.0)))
        return {"turned_deg": round(float(turned), 2), "agreement": round(self.agreement, 3)}


def find_pose(
    surface: Surface, image: sitk.Image, modality: str, at_rest: bool, before: Pose | None = None
) -> Pose | None:
    """Find the head of a CT in another image.

    Parameters
    ----------
    surface: Surface
        What was found in the CT.
    image: SimpleITK.Image
        The other image; of a CT in Hounsfield units.
    modality: str
        As in DICOM: CT, MR, PT, …
    at_rest: bool
        Whether it says that it lies in the same frame of reference.
    before: Pose, optional
        Where it lay at another time of the same series.

    Returns
    -------
    Pose or None
        None where it lies just there.

    Raises
    ------
    InputError
        When it cannot be laid on it so that skull or skin agree.
    """
    if modality == "CT":
        return find_skull(surface.cylinder, image, at_rest, before)
    return _found(surface.cylinder, image, modality, partial(_skin_checked, surface, modality), at_rest, before)


def find_skull(cylinder: Cylinder, image: sitk.Image, at_rest: bool, before: Pose | None = None) -> Pose | None:
    """As :func:`find_pose`, for a CT, of which where the skull lies is all that has to be known."""
    return _found(cylinder, image, "CT", partial(_skull_checked, cylinder), at_rest, before)


def is_at_rest(cylinder: Cylinder, image: sitk.Image) -> bool:
    """Whether the head lies in another CT just where it lies in its own."""
    return not _skull_checked(cylinder, image)[1]


Check = Callable[[sitk.Image], tuple[float, str]]
"""Says of an image laid where the CT lies how well skull or skin agree, 0 to 1, and what is wrong; nothing where both
show one head."""


def _found(
    cylinder: Cylinder, image: sitk.Image, modality: str, check: Check, at_rest: bool, before: Pose | None
) -> Pose | None:
    if at_rest and not check(image)[1]:
        return None
    if before is not None:
        found, wrong = check(_moved_back(image, before))
        if not wrong:
            return replace(before, agreement=found)
    pose = _registered(cylinder, image, modality)
    found, wrong = check(_moved_back(image, pose))
    if wrong:
        raise InputError(REFUSED.format(wrong))
    return replace(pose, agreement=found)


def _skull_checked(cylinder: Cylinder, image: sitk.Image) -> tuple[float, str]:
    """A :data:`Check` of a CT."""
    work = work_volume(image)[0]
    found = skull_overlap(cylinder, work) or 0.0
    if found < LEAST_SKULL:
        return found, f"only {found:.0%} of the skulls agree"
    apart = skull_distance(cylinder, work)
    wrong = apart is None or apart > FARTHEST_SKULL_MM
    return found, f"the skulls lie {apart or np.inf:.1f} mm apart" if wrong else ""


def _skin_checked(surface: Surface, modality: str, image: sitk.Image) -> tuple[float, str]:
    """A :data:`Check` of another modality."""
    found = skin_agreement(surface, image, modality) or 0.0
    return found, "" if found >= LEAST_SKIN else f"only {found:.0%} of the outlines of the head agree"


def skull_overlap(cylinder: Cylinder, work: sitk.Image) -> float | None:
    """Dice coefficient of the skull of a CT with that in a work volume in the same place, where both are in view."""
    head = cylinder.head
    there = sitk.Resample(work, head.volume, sitk.Transform(), sitk.sitkLinear, OUTSIDE_HU)
    own, other = sitk.GetArrayViewFromImage(head.volume), sitk.GetArrayViewFromImage(there)
    here = dilated(head.solid, 2.0 * WORK_SPACING_MM) & (head.coordinates(2) > JAW_MM)
    here &= (own > PADDING_HU) & (other > PADDING_HU)
    one, two = here & (own > SKULL_HU), here & (other > SKULL_HU)
    if one.sum() < FEWEST_RAYS:
        return None
    return float(2.0 * (one & two).sum() / (one.sum() + two.sum()))


def skull_distance(cylinder: Cylinder, work: sitk.Image) -> float | None:
    """How far, in mm, the outer surface of the skull of a CT is from that in a work volume in the same place.

    It is the distance that nine tenths of the rays above the jaw do not exceed; None where too few meet both.
    """
    rays = np.broadcast_to(SKULL_RADII_MM, (*cylinder.skin.shape, len(SKULL_RADII_MM)))
    points = cylinder.points(rays)[HEIGHTS > JAW_MM]
    own, other = (_outer_bone(values_at(one, points)) for one in (cylinder.head.volume, work))
    apart = np.abs(own - other)
    apart = apart[np.isfinite(apart)]
    return float(np.percentile(apart, 90.0)) if len(apart) >= FEWEST_RAYS else None


def _outer_bone(values: np.ndarray) -> np.ndarray:
    """Where in mm the outermost bone ends on rays with these values, shape (…, radii); NaN where it is not seen."""
    bone = values > SKULL_HU
    last = np.minimum(bone.shape[-1] - 1 - bone[..., ::-1].argmax(axis=-1), bone.shape[-1] - 2)
    inner, outer = (np.take_along_axis(values, (last + n)[..., None], axis=-1)[..., 0] for n in (0, 1))
    part = np.clip((inner - SKULL_HU) / np.where(inner > outer, inner - outer, 1.0), 0.0, 1.0)
    seen = bone.any(axis=-1) & (outer > PADDING_HU)  # else it is cut by the edge of the view
    return np.where(seen, SKULL_RADII_MM[last] + part * np.diff(SKULL_RADII_MM)[0], np.nan)


def skin_agreement(surface: Surface, image: sitk.Image, modality: str) -> float | None:
    """Share of the rays around the head, without the face, on which the skin is where the CT has it."""
    cylinder = surface.cylinder
    small = sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), shrink_factors(image))
    around = cylinder.skin_in_view & (surface.outline < 0) & (HEIGHTS > JAW_MM)[:, None]
    values = values_at(small, cylinder.points(surface.skin[..., None] + FROM_SKIN_MM)[around])
    values = values[(values > OUTSIDE_HU).all(axis=1)]
    if len(values) < FEWEST_RAYS:
        return None
    levels = [np.median(values[:, side]) for side in (FROM_SKIN_MM < -3.0, FROM_SKIN_MM > 8.0)]
    above = values > (levels[0] + levels[1]) / 2.0
    last = FROM_SKIN_MM[above.shape[1] - 1 - above[:, ::-1].argmax(axis=1)]
    near = np.abs(last) <= (BLURRED_SKIN_MM if modality in BLURRED else SKIN_MM)
    return float((near & above.any(axis=1)).mean())


def _moved_back(image: sitk.Image, pose: Pose) -> sitk.Image:
    """An image laid where the head of the CT lies."""
    return moved_image(image, pose.rotation.T, -pose.rotation.T @ pose.shift)


def _registered(cylinder: Cylinder, image: sitk.Image, modality: str) -> Pose:
    """The best of the poses that a search from several beginnings finds."""
    head = cylinder.head
    middle = head.to_lps(np.array([0.0, cylinder.depth_mm, 0.0]))
    here = dilated(head.solid, 3.0 * WORK_SPACING_MM) & (head.coordinates(2) > JAW_MM) & ~head.unseen
    fixed = sitk.Clamp(head.volume, sitk.sitkFloat32, *CT_RANGE)
    search = _Search(fixed, _image_of(here, head.volume), _to_search(image, modality), middle)
    begin = [search.transform(pose) for pose in _beginnings(cylinder, image, modality)]
    followed = [search.follow(one, 3) for one in sorted(begin, key=search.value)[:STARTS]]
    best = search.follow(search.follow(min(followed, key=search.value), 2), 1)
    rotation, shift = np.reshape(best.GetMatrix(), (3, 3)), np.array(best.TransformPoint((0.0, 0.0, 0.0)))
    return Pose(rotation.round(7), shift.round(4))  # the last digits depend on how threads took turns


def _to_search(image: sitk.Image, modality: str) -> sitk.Image:
    """An image on about the work grid, its values in the range in which they are told apart."""
    if modality == "CT":
        return sitk.Clamp(work_volume(image)[0], sitk.sitkFloat32, *CT_RANGE)
    small = sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), shrink_factors(image))
    low, high = np.percentile(sitk.GetArrayViewFromImage(small), [1.0, 99.5])
    return sitk.Clamp(small, sitk.sitkFloat32, float(low), float(high))


def _beginnings(cylinder: Cylinder, image: sitk.Image, modality: str) -> list[Pose]:
    """Where the head may lie: in the same place; where it is found, in a CT; or at the top of what is no air."""
    found = [Pose(np.eye(3), np.zeros(3))]
    head = cylinder.head
    if modality == "CT":
        try:
            other = find_head(image)
        except (NoFaceError, InputError):
            pass
        else:
            rotation = other.axes.T @ head.axes
            return [*found, Pose(rotation, other.brow - rotation @ head.brow)]
    own, other_top = _crown(head.volume, head.solid), _crown_of(image)
    for turn, lift in product(TURNS_DEG, LIFTS_MM):
        angle = np.radians(turn)
        about_left = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        found.append(Pose(about_left, other_top + (0.0, 0.0, lift) - about_left @ own))
    return found


def _crown_of(image: sitk.Image) -> np.ndarray:
    """The same of an image of another modality."""
    small = sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), [2 * factor for factor in shrink_factors(image)])
    inside = sitk.BinaryMorphologicalOpening(sitk.OtsuThreshold(small, 0, 1), [1, 1, 1])
    return _crown(small, sitk.GetArrayFromImage(inside) > 0)


def _crown(image: sitk.Image, inside: np.ndarray) -> np.ndarray:
    """The middle (LPS mm) of the uppermost part of what is inside (bool, z, y, x), as long as a skull."""
    place = np.argwhere(inside if inside.any() else np.ones_like(inside))[:, ::-1] * image.GetSpacing()
    points = place @ np.reshape(image.GetDirection(), (3, 3)).T + image.GetOrigin()
    return points[points[:, 2] > points[:, 2].max() - SKULL_MM].mean(axis=0)


def _image_of(here: np.ndarray, grid: sitk.Image) -> sitk.Image:
    mask = sitk.GetImageFromArray(here.astype(np.uint8))
    mask.CopyInformation(grid)
    return mask


class _Search:
    """Looks for the rigid transform under which two images have most mutual information (Mattes 2003)."""

    def __init__(self, fixed: sitk.Image, mask: sitk.Image, moving: sitk.Image, middle: np.ndarray):
        self._levels = {
            n: tuple(sitk.BinShrink(one, [n] * 3) if n > 1 else one for one in (fixed, moving)) for n in (1, 2, 3)
        }
        self._mask, self._middle = mask, middle

    def transform(self, pose: Pose) -> sitk.Euler3DTransform:
        """A pose as a transform about the middle of the head."""
        transform = sitk.Euler3DTransform()
        transform.SetCenter(self._middle.tolist())
        transform.SetMatrix(pose.rotation.ravel().tolist(), 1e-6)
        transform.SetTranslation((pose.rotation @ self._middle + pose.shift - self._middle).tolist())
        return transform

    def value(self, transform: sitk.Transform, level: int = 3) -> float:
        """Mutual information under a transform, negative; infinite where too little of both meets."""
        method = self._method(transform)
        try:
            return float(method.MetricEvaluate(*self._levels[level]))
        except RuntimeError:
            return np.inf

    def follow(self, transform: sitk.Euler3DTransform, level: int) -> sitk.Euler3DTransform:
        """The best transform near another one, looked for in ever shorter steps on voxels of ``level`` work voxels."""
        best, value = transform, self.value(transform, level)
        for number in range(ROUNDS):
            found = sitk.Euler3DTransform(best)
            method = self._method(found)
            longest = LONGEST_STEP_MM * level / (number + 1)
            method.SetOptimizerAsRegularStepGradientDescent(longest, SHORTEST_STEP_MM * level, ITERATIONS)
            method.SetOptimizerScalesFromPhysicalShift()
            try:
                method.Execute(*self._levels[level])
            except RuntimeError:  # too little of both meets there
                continue
            before, reached = value, self.value(found, level)
            if reached < before:
                best, value = found, reached
            if before - reached < LITTLE_GAIN and number:
                break
        return best

    def _method(self, transform: sitk.Transform) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(BINS)
        method.SetMetricFixedMask(self._mask)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetInitialTransform(transform, inPlace=True)
        return method
