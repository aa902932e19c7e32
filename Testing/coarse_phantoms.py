"""Synthetic heads small enough for many tests, made once per run and shared by the test files."""

from dataclasses import asdict, replace
from functools import cache, cached_property, lru_cache

import numpy as np
import SimpleITK as sitk
from CTDefaceLib.anatomy.face_map import Cylinder, head_cylinder
from CTDefaceLib.anatomy.head import Head
from CTDefaceLib.parameters import DEPTH_MM
from CTDefaceLib.phantom import Label, PhantomParameters
from CTDefaceLib.removal.region import removal_region
from CTDefaceLib.removal.surface import Surface, face_surface
from CTDefaceLib.segmenters.builtin import segment_face
from phantom_cases import CASES
from stored_phantoms import stored_phantom

COARSE = dict(matrix=(128, 128), spacing=(2.0, 2.0, 2.0))


class Scan:
    """A synthetic head and what the library makes of it, each found when first asked for."""

    def __init__(self, parameters: PhantomParameters):
        self.phantom = stored_phantom(parameters)
        self.image = self.phantom.image
        self.hu = voxels(self.image)

    def labelled(self, *labels: Label) -> np.ndarray:
        """Ground truth, bool, shape (slices, rows, columns)."""
        return np.isin(voxels(self.phantom.labels), labels)

    @cached_property
    def cylinder(self) -> Cylinder:
        return head_cylinder(self.image)

    @cached_property
    def face(self) -> sitk.Image:
        return segment_face(self.image, self.cylinder)

    @lru_cache(maxsize=16)  # noqa: B019, scans live as long as the tests do
    def surface(self, depth_mm: float = DEPTH_MM["standard"], **choices) -> Surface:
        return face_surface(self.image, self.face, self.cylinder, depth_mm=depth_mm, **choices)

    @lru_cache(maxsize=16)  # noqa: B019
    def region(self, depth_mm: float = DEPTH_MM["standard"], keep_bone: bool = False, **choices) -> sitk.Image:
        return removal_region(self.image, self.surface(depth_mm, keep_bone=keep_bone, **choices), keep_bone=keep_bone)


@cache
def scan(**changes) -> Scan:
    """A head in 128×128 columns and rows and 2 mm voxels, with these changes to its parameters."""
    return Scan(PhantomParameters(**{**COARSE, **changes}))


def case(name: str) -> Scan:
    """An acceptance case in pixels of 2 mm, its slices as they are."""
    p = CASES[name]
    matrix = tuple(round(n * spacing / 2.0) for n, spacing in zip(p.matrix, p.spacing))
    return scan(**asdict(replace(p, matrix=matrix, spacing=(2.0, 2.0, p.spacing[2]))))


def small_view(s: Scan, radius_mm: float, forward_mm: float, padding: int, left_mm: float = 0.0):
    """The scan in a round field of view before or beside the brain's middle, and what it shows (bool)."""
    z, y, x = np.argwhere(s.labelled(Label.INTRACRANIAL)).T
    middle = np.array([y.min() + y.max(), x.min() + x.max()]) / 2.0
    spacing = np.reshape(s.image.GetSpacing()[1::-1], (2, 1, 1))
    from_middle = (np.indices(s.hu.shape[1:]) - middle.reshape(2, 1, 1)) * spacing
    seen = np.hypot(from_middle[0] + forward_mm, from_middle[1] - left_mm) < radius_mm
    image = sitk.GetImageFromArray(np.where(seen, s.hu, padding).astype(np.int16))
    image.CopyInformation(s.image)
    return image, np.broadcast_to(seen, s.hu.shape)


def voxels(image: sitk.Image) -> np.ndarray:
    """Values of an image, shape (slices, rows, columns)."""
    return sitk.GetArrayFromImage(image)


def mask_of(array: np.ndarray, image: sitk.Image) -> sitk.Image:
    """Mask on the grid of an image."""
    mask = sitk.GetImageFromArray(array.astype(np.uint8))
    mask.CopyInformation(image)
    return mask


def intracranial(head: Head, image: sitk.Image) -> np.ndarray:
    """The intracranial space that was found, bool, on the grid of an image."""
    found = mask_of(head.intracranial, head.volume)
    return voxels(sitk.Resample(found, image, sitk.Transform(), sitk.sitkNearestNeighbor)) > 0
