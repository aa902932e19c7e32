"""Segmented structures before and after a defacing: Dice, surface distances, volumes, dose."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.grids import bounding_box, union, voxels
from CTDefaceLib.dicom.dose import read_dicom_dose
from CTDefaceLib.dicom.files import is_dicom_file
from CTDefaceLib.errors import InputError
from CTDefaceLib.structures import Read, structure_masks
from CTDefaceLib.volume_io import read_stored
from scipy import ndimage

SURFACE_TOLERANCE_MM = 2.0
"""Surfaces that lie this near to each other, in mm, count as the same in the surface Dice: what the field uses most."""
HOTTEST_ML = 0.01
"""Volume in mL of the hottest part of a structure, whose least dose is its D0.01cc."""

Mask = Callable[[], sitk.Image]
"""Makes the mask of one structure, uint8, when it is its turn: all of a body at once would not fit into memory."""


@dataclass(frozen=True)
class Structure:
    """One structure, and what became of it.

    Attributes
    ----------
    name: str
    volume_ml, replaced_ml: float
        As segmented in the original, and how much of that the defacing replaced.
    defaced_ml: float or None
        As segmented in the defaced scan; None, as the next three, without such a segmentation.
    dice, surface_dice: float or None
        Of both, 0 to 1; of the latter within SURFACE_TOLERANCE_MM.
    hd95_mm: float or None
        95th percentile of the distance between both surfaces in mm; None also where one is empty.
    dose, defaced_dose: tuple of float or None
        D0.01cc and mean dose in the unit of the dose, in the original's and the defaced scan's structure; None without
        a dose, or of an empty structure.
    """

    name: str
    volume_ml: float
    replaced_ml: float
    defaced_ml: float | None = None
    dice: float | None = None
    surface_dice: float | None = None
    hd95_mm: float | None = None
    dose: tuple[float, float] | None = None
    defaced_dose: tuple[float, float] | None = None

    @property
    def replaced_share(self) -> float | None:
        """Share of it that was replaced; None of an empty one."""
        return self.replaced_ml / self.volume_ml if self.volume_ml else None


def read_structures(choice: str | os.PathLike, read: Read = read_stored) -> dict[str, Mask]:
    """Name → what makes its mask, of the structures of a choice, see :func:`CTDefaceLib.structures.structure_masks`.

    Labels that have no name are “label 1”, …; a name that comes again has a number behind it. Raises InputError.
    """
    found: dict[str, Mask] = {}
    times: Counter[str] = Counter()
    for one in structure_masks(choice, read):
        name = f"label {one.name}" if one.name.isdigit() else one.name
        times[name] += 1
        found[name if times[name] == 1 else f"{name} ({times[name]})"] = one.mask
    return found


def read_dose(path: str | os.PathLike, read: Read = read_stored) -> sitk.Image:
    """A dose as volume file or DICOM dose. Raises InputError."""
    if is_dicom_file(path):
        return read_dicom_dose(path)
    try:
        dose = read(Path(path))
    except InputError as error:
        raise InputError(f"The dose, an RTDOSE file or a volume file, cannot be read: {error}") from error
    if dose.GetDimension() != 3 or dose.GetNumberOfComponentsPerPixel() > 1:
        raise InputError("The dose is no volume with one value in each voxel: give it as NIfTI, NRRD or MetaImage.")
    return dose


def measured(
    original: Mapping[str, Mask],
    changed: sitk.Image,
    defaced: Mapping[str, Mask] | None = None,
    dose: sitk.Image | None = None,
) -> list[Structure]:
    """What became of each structure.

    Parameters
    ----------
    original, defaced: mapping
        Name → mask, see :func:`read_structures`, of the original and of the defaced scan where that was segmented, too.
    changed: sitk.Image
        Which voxels were replaced, uint8; structures and dose are brought onto its grid.
    dose: sitk.Image or None
        Dose, which is the same for both.
    """
    on_grid = None if dose is None else sitk.Resample(sitk.Cast(dose, sitk.sitkFloat32), changed)
    found = []
    for name, mask in original.items():
        here = _on_grid(mask(), changed)
        there = (
            None if defaced is None else _empty(changed) if name not in defaced else _on_grid(defaced[name](), changed)
        )
        found.append(_structure(name, here, there, changed, on_grid))
    return found


def _on_grid(mask: sitk.Image, grid: sitk.Image) -> sitk.Image:
    return sitk.Resample(sitk.Cast(mask, sitk.sitkUInt8), grid, sitk.Transform(), sitk.sitkNearestNeighbor)


def _empty(grid: sitk.Image) -> sitk.Image:
    empty = sitk.Image(grid.GetSize(), sitk.sitkUInt8)
    empty.CopyInformation(grid)
    return empty


def _structure(
    name: str, here: sitk.Image, there: sitk.Image | None, changed: sitk.Image, dose: sitk.Image | None
) -> Structure:
    spacing = np.array(changed.GetSpacing()[::-1])
    voxel_ml = float(np.prod(spacing)) / 1000.0
    box = union(bounding_box(here), None if there is None else bounding_box(there))
    if box is None:
        return Structure(name, 0.0, 0.0, None if there is None else 0.0)
    inside = voxels(here, box) > 0
    doses = None if dose is None else voxels(dose, box)
    structure = {
        "volume_ml": float(inside.sum()) * voxel_ml,
        "replaced_ml": float((inside & (voxels(changed, box) > 0)).sum()) * voxel_ml,
        "dose": None if doses is None else dose_of(doses[inside], voxel_ml),
    }
    if there is not None:
        after = voxels(there, box) > 0
        hd95, surface_dice = surface_distance(inside, after, spacing)
        structure |= {
            "defaced_ml": float(after.sum()) * voxel_ml,
            "dice": dice(inside, after),
            "hd95_mm": hd95,
            "surface_dice": surface_dice,
            "defaced_dose": None if doses is None else dose_of(doses[after], voxel_ml),
        }
    return Structure(name=name, **structure)  # type: ignore[arg-type]


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Twice what two masks share, in parts of what they hold together; 1 of two empty ones."""
    both = int(first.sum()) + int(second.sum())
    return 2.0 * float((first & second).sum()) / both if both else 1.0


def surface_distance(first: np.ndarray, second: np.ndarray, spacing: np.ndarray) -> tuple[float | None, float]:
    """How far the surfaces of two masks lie apart.

    Parameters
    ----------
    first, second: np.ndarray
        Bool, (z, y, x).
    spacing: np.ndarray
        mm along z, y and x.

    Returns
    -------
    tuple
        The larger of both directions' 95th percentiles of the distance in mm, None where a mask is empty; and the share
        of both surfaces within SURFACE_TOLERANCE_MM of the other. A surface is the voxels with a neighbour outside,
        each of which counts the same, and distances are those of their centres.
    """
    if not first.any() or not second.any():
        return None, 1.0 if first.any() == second.any() else 0.0
    surfaces = [_surface(mask) for mask in (first, second)]
    away = [_distance_to(surface, spacing) for surface in surfaces]
    there, back = away[1][surfaces[0]], away[0][surfaces[1]]
    near = int((there <= SURFACE_TOLERANCE_MM).sum()) + int((back <= SURFACE_TOLERANCE_MM).sum())
    worst = max(float(np.percentile(distances, 95.0)) for distances in (there, back))
    return worst, near / (len(there) + len(back))


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def _distance_to(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing[::-1].tolist())
    return np.maximum(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True)), 0.0)


def dose_of(doses: np.ndarray, voxel_ml: float) -> tuple[float, float] | None:
    """D0.01cc and mean of the doses of a structure's voxels; None of none.

    D0.01cc is the least dose in the hottest 0.01 mL, the greatest dose where a voxel is no smaller than that.
    """
    if len(doses) == 0:
        return None
    number = min(len(doses), max(1, int(HOTTEST_ML / voxel_ml + 1e-9)))
    return float(np.partition(doses, len(doses) - number)[len(doses) - number]), float(doses.mean())
