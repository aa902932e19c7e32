"""What a defacing costs: how much of the head it replaced, where, and what else comes out of the scan now.

All of it compares the defaced scan with its original, voxel for voxel, within the head as the library finds it in the
original. Regions are geometry: boxes and ellipsoids in the head's own coordinates, laid by eyes and chin and scaled
with the head. They say where tissue went, not what a radiologist would have outlined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.face_map import NECK_MM, Cylinder, head_cylinder
from CTDefaceLib.anatomy.grids import on_image_grid
from CTDefaceLib.anatomy.head import Head, find_head
from CTDefaceLib.anatomy.hounsfield import AIR_HU, BONE_HU, PADDING_HU, TISSUE_HU
from CTDefaceLib.anatomy.work_grid import WORK_SPACING_MM, box_of, dilated
from CTDefaceLib.errors import InputError, NoFaceError
from CTDefaceLib.progress import Progress, silent
from scipy import ndimage

from .structures import Mask, Structure, dice, measured

CHANGED_HU = 0.5
"""A voxel that differs by more than this was replaced; less is a rounding of what stayed as it was."""
CHANGED_AROUND = 0.75
"""Share of a voxel's surroundings of 27 from which on it was replaced, too: noise gives it its old value by chance."""
LEVELS = ("crown", "forehead", "eyes", "nose", "mouth", "chin", "neck")
"""Of the head, from above: their lower ends are `_level_ends`, the neck being what lies below the head."""
REGIONS = ("orbits", "sinuses", "airway", "jaw")
"""What people ask for, by geometry."""
LEAST_ML = 0.05
"""A drop: of less than this, in mL, no share is told, and a level with less tissue lies out of view."""
HISTOGRAM_HU = np.arange(-1000.0, 2001.0, 25.0)
"""Edges of the bins of the histograms; what lies beyond falls into the outermost."""
DISPLACED_DEG, DISPLACED_MM = (4.0, -3.0, 5.0), (5.0, -4.0, 6.0)
"""Rotation and shift from which the registration of the defaced scan starts: how differently a head lies in two scans
of one day. Set by judgement."""
REGISTERED_SHARE = 0.2
"""Share of the work grid's voxels that are registered, 0 to 1: with 0.05 some come to rest 1 mm off by chance; with all
it takes four times as long and comes no nearer."""
REGISTERED_HU = (-1000.0, 1500.0)
"""Range of HU that is registered: what lies beyond is padding and metal."""


@dataclass(frozen=True)
class Part:
    """A part of the head: how much of it there is and how much was replaced, in mL.

    Air counts where it lies inside the head: in nose, mouth, throat, sinuses.
    """

    name: str
    tissue_ml: float
    tissue_replaced_ml: float
    bone_ml: float
    bone_replaced_ml: float
    air_ml: float
    air_replaced_ml: float

    def share(self, what: str) -> float | None:
        """Share of its "tissue", "bone" or "air" that was replaced; None where it has less than a drop of it."""
        there = getattr(self, f"{what}_ml")
        return getattr(self, f"{what}_replaced_ml") / there if there > LEAST_ML else None


@dataclass(frozen=True)
class Preservation:
    """What one defacing costs.

    Attributes
    ----------
    head: Part
        The whole. What there is is counted down to 15 mm below the chin, as in the report of a defacing, and what was
        replaced wherever it was.
    levels, regions: list of Part
        Of LEVELS and REGIONS.
    intracranial_touched: int
        Voxels of the intracranial space that changed.
    registration_mm, registration_control_mm: float
        How far from its place, in mm, a rigid registration by mutual information puts the brain of the defaced scan on
        the original, starting from a shift; and as much of the original on itself.
    head_dice, brain_dice: float or None
        How alike head and intracranial space come out when they are looked for in the defaced scan; None where no head
        is found in it any more.
    histogram, histogram_defaced: list of int
        Voxels of the head by HU, in the bins of HISTOGRAM_HU.
    structures: list of Structure
        Of a segmentation, where one was given.
    """

    head: Part
    levels: list[Part]
    regions: list[Part]
    intracranial_touched: int
    registration_mm: float
    registration_control_mm: float
    head_dice: float | None
    brain_dice: float | None
    histogram: list[int]
    histogram_defaced: list[int]
    structures: list[Structure] = field(default_factory=list)

    @property
    def histogram_overlap(self) -> float:
        """What both histograms share, 0 to 1."""
        before, after = np.array(self.histogram), np.array(self.histogram_defaced)
        return float(np.minimum(before / before.sum(), after / after.sum()).sum())

    def numbers(self) -> dict[str, float | None]:
        """What a table over many scans holds: a name for each number. Of structures Dice, or the share replaced."""
        shares = {"tissue replaced": self.head.share("tissue"), "bone replaced": self.head.share("bone")}
        for region in self.regions:
            what = "air" if region.name == "airway" else "tissue"
            shares[f"{region.name} replaced"] = region.share(what)
        return {
            **shares,
            "intracranial voxels": float(self.intracranial_touched),
            "registration error, mm": self.registration_mm,
            "head Dice": self.head_dice,
            "brain Dice": self.brain_dice,
            "histogram overlap": self.histogram_overlap,
            **{f"{one.name} Dice": one.dice for one in self.structures if one.dice is not None},
            **{f"{one.name} replaced": one.replaced_share for one in self.structures if one.dice is None},
        }


def preservation(
    original: sitk.Image,
    defaced: sitk.Image,
    *,
    cylinder: Cylinder | None = None,
    registration_control_mm: float | None = None,
    structures: Mapping[str, Mask] | None = None,
    defaced_structures: Mapping[str, Mask] | None = None,
    dose: sitk.Image | None = None,
    progress: Progress = silent,
) -> Preservation:
    """Measure what a defacing costs.

    Parameters
    ----------
    original, defaced: sitk.Image
        CTs in Hounsfield units on one grid.
    cylinder: Cylinder or None
        Of the original, where it is there already.
    registration_control_mm: float or None
        Of the original on itself, where it was measured already.
    structures, defaced_structures, dose
        Segmentations of both, and a dose, see :func:`.structures.measured`.

    Raises
    ------
    NoFaceError
        When no head is found in the original.
    InputError
        When both do not lie on one grid.
    """
    if original.GetSize() != defaced.GetSize():
        raise InputError(
            "The two volumes do not lie on the same grid of voxels: give the defaced one and its original."
        )
    progress(0.0, "Finding the head")
    cylinder = cylinder or head_cylinder(original)
    before, after = (sitk.GetArrayViewFromImage(image) for image in (original, defaced))
    changed = replaced_voxels(before, after)
    progress(0.3, "Measuring what was replaced")
    head, levels, regions = _parts(cylinder, original, changed)
    inside = on_image_grid(cylinder.head.solid - 0.5, cylinder.head, original) & (before > PADDING_HU)
    intracranial = on_image_grid((cylinder.head.intracranial | cylinder.head.in_gaps) - 0.5, cylinder.head, original)
    progress(0.4, "Registering the defaced scan")
    registration_mm = _registration_error(original, defaced, cylinder.head)
    if registration_control_mm is None:
        registration_control_mm = _registration_error(original, original, cylinder.head)
    progress(0.6, "Looking for the head in the defaced scan")
    head_dice, brain_dice = _masks_alike(cylinder.head, defaced)
    found: list[Structure] = []
    if structures:
        progress(0.7, "Comparing the structures")
        mask = sitk.GetImageFromArray(changed.astype(np.uint8))
        mask.CopyInformation(original)
        found = measured(structures, mask, defaced_structures, dose)
    progress(1.0, "Done")
    return Preservation(
        head=head,
        levels=levels,
        regions=regions,
        intracranial_touched=int(np.count_nonzero(changed & intracranial)),
        registration_mm=registration_mm,
        registration_control_mm=registration_control_mm,
        head_dice=head_dice,
        brain_dice=brain_dice,
        histogram=_histogram(before[inside]),
        histogram_defaced=_histogram(after[inside]),
        structures=found,
    )


def replaced_voxels(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which voxels a defacing replaced, bool, from the values of both scans, (z, y, x)."""
    changed = np.abs(before.astype(np.float32) - after.astype(np.float32)) > CHANGED_HU
    box = box_of(changed)
    if changed.any():
        around = ndimage.uniform_filter(changed[box].astype(np.float32), 3)
        changed[box] |= around > CHANGED_AROUND
    return changed


def _histogram(values: np.ndarray) -> list[int]:
    inner = HISTOGRAM_HU[0], HISTOGRAM_HU[-1] - 1.0
    return np.histogram(np.clip(values, *inner), HISTOGRAM_HU)[0].tolist()


def _parts(cylinder: Cylinder, image: sitk.Image, changed: np.ndarray) -> tuple[Part, list[Part], list[Part]]:
    """The head as a whole, its levels and its regions."""
    head, hu = cylinder.head, sitk.GetArrayViewFromImage(image)
    # The rim of the head on the work grid is coarse: what is tissue just outside it is the head's.
    near = on_image_grid(dilated(head.solid, WORK_SPACING_MM) - 0.5, head, image)
    inside = on_image_grid(head.solid - 0.5, head, image)
    kinds = {"tissue": near & (hu > TISSUE_HU), "bone": near & (hu > BONE_HU)}
    kinds["air"] = inside & (hu <= AIR_HU) & (hu > PADDING_HU)
    voxel_ml = float(np.prod(image.GetSpacing())) / 1000.0
    left, posterior, height = (head.coordinates(axis) for axis in range(3))
    laid = {LEVELS: _levels(cylinder, height), REGIONS: _regions(cylinder, np.abs(left), posterior, height)}
    found = []
    for names, places in laid.items():
        labels = np.zeros(height.shape, np.uint8)
        for number, place in reversed(list(enumerate(places, start=1))):
            labels[place & ~head.intracranial if names is REGIONS else place] = number
        here = _on_grid_of(image, labels, head)
        parts: list[dict[str, Any]] = [{"name": name} for name in names]
        for kind, of_kind in kinds.items():
            for suffix, of_them in (("ml", of_kind), ("replaced_ml", of_kind & changed)):
                counts = np.bincount(here[of_them], minlength=len(names) + 1)[1:]
                for part, count in zip(parts, counts):
                    part[f"{kind}_{suffix}"] = round(float(count) * voxel_ml, 3)
        found.append([Part(**part) for part in parts])
    levels, regions = found
    return _whole(levels, cylinder), levels, regions


def _whole(levels: list[Part], cylinder: Cylinder) -> Part:
    *of_head, _neck = levels
    sums = {
        f"{kind}_{suffix}": round(sum(getattr(part, f"{kind}_{suffix}") for part in parts), 3)
        for kind in ("tissue", "bone", "air")
        for suffix, parts in (("ml", of_head), ("replaced_ml", levels))
    }
    return Part("head", **{**sums, "tissue_ml": round(cylinder.tissue_mm3 / 1000.0, 3)})


def _on_grid_of(image: sitk.Image, labels: np.ndarray, head: Head) -> np.ndarray:
    """Labels of the work grid at the voxels of a CT, (z, y, x) uint8."""
    coarse = sitk.GetImageFromArray(labels)
    coarse.CopyInformation(head.volume)
    return sitk.GetArrayFromImage(sitk.Resample(coarse, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0))


def _levels(cylinder: Cylinder, height: np.ndarray) -> list[np.ndarray]:
    """Where each level lies and all above it, bool, (z, y, x); between eyes and chin they follow the face's length."""
    eyes, chin, scale = cylinder.landmarks.eye_height, cylinder.landmarks.chin_height, cylinder.scale
    length = eyes - chin
    ends = [eyes + 36.0 * scale, eyes + 15.0 * scale, eyes - 15.0 * scale, eyes - 0.5 * length, chin + 0.22 * length]
    return [height > end for end in [*ends, chin - NECK_MM, -np.inf]]


def _regions(cylinder: Cylinder, aside: np.ndarray, posterior: np.ndarray, height: np.ndarray) -> list[np.ndarray]:
    """Where each region lies, bool, (z, y, x), the first over the next; in millimetres of an adult's head.

    Orbits: an ellipsoid each around the eye and what lies behind it. Sinuses: maxillary below them, ethmoid between
    them, frontal above, sphenoid behind. Airway: the air from the nose down the throat, with its lining. Jaw: from the
    base of the nose to the chin, as far back as the throat.
    """
    scale, eyes, chin = cylinder.scale, cylinder.landmarks.eye_height, cylinder.landmarks.chin_height
    aside, back, up = aside / scale, posterior / scale, (height - eyes) / scale
    below_nose = -0.45 * (eyes - chin) / scale
    orbits = ((aside - 30.0) / 21.0) ** 2 + ((back - 14.0) / 30.0) ** 2 + (up / 20.0) ** 2 < 1.0
    maxillary = (aside > 13.0) & (aside < 40.0) & (back > 0.0) & (back < 42.0) & (up > -45.0) & (up < -12.0)
    ethmoid = (aside < 13.0) & (back > 0.0) & (back < 42.0) & (up > -12.0) & (up < 14.0)
    frontal = (aside < 28.0) & (back > -8.0) & (back < 12.0) & (up >= 14.0) & (up < 42.0)
    sphenoid = (aside < 17.0) & (back >= 42.0) & (back < 68.0) & (up > -16.0) & (up < 12.0)
    airway = (aside < 15.0) & (back > -25.0) & (back < 85.0) & (up < 14.0)
    jaw = (aside < 60.0) & (back < 62.0) & (up < below_nose) & (height > chin - 5.0 * scale)
    air = dilated(sitk.GetArrayViewFromImage(cylinder.head.volume) <= AIR_HU, WORK_SPACING_MM)
    return [orbits, maxillary | ethmoid | frontal | sphenoid, airway & air, jaw]


def _registration_error(fixed: sitk.Image, moving: sitk.Image, head: Head) -> float:
    """Mean distance in mm from its place of what lies in the skull, after a rigid registration from a displacement."""
    grid = head.volume
    fixed, moving = (
        sitk.Clamp(
            sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, REGISTERED_HU[0], sitk.sitkFloat32),
            sitk.sitkFloat32,
            *REGISTERED_HU,
        )
        for image in (fixed, moving)
    )
    places = np.argwhere(head.intracranial)[:: max(1, int(head.intracranial.sum()) // 500), ::-1]
    points = [grid.TransformIndexToPhysicalPoint(place) for place in places.tolist()]
    transform = sitk.Euler3DTransform(np.mean(points, axis=0).tolist())
    transform.SetRotation(*np.radians(DISPLACED_DEG).tolist())
    transform.SetTranslation(DISPLACED_MM)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(50)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(REGISTERED_SHARE, 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-3, 100, gradientMagnitudeTolerance=1e-6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([3.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    moved = np.array([transform.TransformPoint(point) for point in points])
    return float(np.linalg.norm(moved - points, axis=1).mean())


def _masks_alike(head: Head, defaced: sitk.Image) -> tuple[float | None, float | None]:
    """Dice of head and intracranial space with what is found of them in the defaced scan."""
    try:
        found = find_head(defaced)
    except (NoFaceError, InputError):
        return None, None
    alike = []
    for name in ("solid", "intracranial"):
        after = sitk.GetImageFromArray(getattr(found, name).astype(np.uint8))
        after.CopyInformation(found.volume)
        here = sitk.GetArrayFromImage(sitk.Resample(after, head.volume, sitk.Transform(), sitk.sitkNearestNeighbor, 0))
        alike.append(dice(getattr(head, name), here > 0))
    return alike[0], alike[1]
