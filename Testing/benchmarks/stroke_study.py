"""A synthetic stroke study as DICOM, and what its defaced series together still show of the face."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import dicom_files
import numpy as np
import pydicom
import SimpleITK as sitk
from CTDefaceLib.anatomy.face_map import moved_image
from CTDefaceLib.anatomy.grids import values_at
from CTDefaceLib.anatomy.hounsfield import HALFWAY_HU
from CTDefaceLib.phantom import Label, Phantom, PhantomParameters, make_phantom
from CTDefaceLib.removal.surface import Surface
from pydicom.uid import MRImageStorage, generate_uid
from scipy import ndimage

TURN_DEG, SHIFT_MM = (10.0, -4.0, 5.0), (5.0, -8.0, 12.0)
"""How the head lies on another day and in the MR."""

MR_LEVELS = {
    Label.SKIN: 300, Label.FACE_SKIN: 300, Label.SOFT: 220, Label.FAT: 500, Label.BONE: 60, Label.INTRACRANIAL: 350,
}  # fmt: skip
"""How bright tissues are in an MR."""

OTHER_DAY, STRANGER = 8, 11
"""Number of the series of another day, and of that which is somebody else's."""

CTS = {2: "standard", 3: "sharp", 4: "smooth", 5: "CTA", OTHER_DAY: "another day"}
"""Series of CT whose slices make a regular volume, and what they are."""


@dataclass(frozen=True)
class StrokeStudy:
    """What was made.

    Attributes
    ----------
    folder: Path
        With a folder for each series, named by its number.
    first: SimpleITK.Image
        The standard CT.
    turned: tuple
        Rotation and shift of the head in the series of another day and the MR.
    """

    folder: Path
    first: sitk.Image
    turned: tuple[np.ndarray, np.ndarray]

    def pose_of(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Rotation and shift of the head in a series."""
        return self.turned if number in (OTHER_DAY, 9) else (np.eye(3), np.zeros(3))


def make_study(folder: Path, matrix: int, times: int) -> StrokeStudy:
    """Three kernels, a CTA, a tilted thick series, a perfusion, another day, an MR, and somebody else's series.

    Parameters
    ----------
    folder: Path
    matrix: int
        Columns and rows of the thin series; their voxels are cubes.
    times: int
        Time points of the perfusion.
    """
    spacing = (256.0 / matrix,) * 3

    def ct(**changes) -> Phantom:
        return make_phantom(PhantomParameters(matrix=(matrix, matrix), spacing=spacing, **changes))

    study, frame, rotation = generate_uid(), generate_uid(), _rotation()
    common, shift = dict(StudyInstanceUID=study, FrameOfReferenceUID=frame), np.array(SHIFT_MM)

    def write(number: int, image: sitk.Image, name: str = "", **tags) -> None:
        series = {"SeriesNumber": number, **common, **tags}
        dicom_files.write_series(folder / (name or str(number)), image, **series)

    first = ct()
    thick = sitk.Cast(sitk.BinShrink(first.image, [1, 1, round(5.0 / spacing[2])]), sitk.sitkInt16)
    write(2, first.image)
    write(3, ct(noise=25.0, blur=0.3, seed=1).image)
    write(4, ct(noise=4.0, blur=1.0, seed=2).image)
    write(5, ct(contrast=True, seed=3).image)
    write(6, dicom_files.sheared(thick, 12.0), tilt_degrees=12.0)
    orbits = int(first.image.TransformPhysicalPointToIndex(first.landmarks["nasion"])[2])
    half, step = round(24.0 / spacing[2]), round(4.0 / spacing[2])
    slab, uid = sitk.BinShrink(first.image[:, :, orbits - half : orbits + half], [1, 1, step]), generate_uid()
    for time in range(1, times + 1):
        rng = np.random.default_rng(time)
        values = sitk.GetArrayFromImage(slab) + rng.normal(0.0, 8.0, slab.GetSize()[::-1]) + time
        point = _like(np.maximum(values, -1024), slab)
        write(7, point, f"7-{time}", SeriesInstanceUID=uid, AcquisitionNumber=time)
    day = dict(StudyInstanceUID=generate_uid(), FrameOfReferenceUID=generate_uid())
    later = sitk.Cast(sitk.BinShrink(ct(seed=4).image, [1, 1, 3]), sitk.sitkInt16)
    write(OTHER_DAY, moved_image(later, rotation, shift), **day)
    tags = dict(SOPClassUID=MRImageStorage, Modality="MR", RescaleIntercept=None, RescaleSlope=None)
    write(9, moved_image(_mr(first), rotation, shift) - 1024, FrameOfReferenceUID=generate_uid(), **tags)
    write(STRANGER, ct(person=5).image)
    return StrokeStudy(folder, first.image, (rotation, shift))


def _rotation() -> np.ndarray:
    return np.reshape(sitk.Euler3DTransform((0, 0, 0), *np.radians(TURN_DEG)).GetMatrix(), (3, 3))


def _like(values: np.ndarray, image: sitk.Image) -> sitk.Image:
    out = sitk.GetImageFromArray(np.rint(values).astype(np.int16))
    out.CopyInformation(image)
    return out


def _mr(phantom: Phantom) -> sitk.Image:
    """An MR of a phantom's tissues, on a coarser grid, with Rician noise."""
    labels = sitk.GetArrayFromImage(phantom.labels)
    values = np.full(labels.shape, 5.0, np.float32)
    for label, level in MR_LEVELS.items():
        values[labels == label] = level
    brain = labels == Label.INTRACRANIAL
    values[brain] += np.where(sitk.GetArrayFromImage(phantom.image)[brain] > 38, 40, -60)
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(phantom.image)
    image = sitk.BinShrink(sitk.SmoothingRecursiveGaussian(image, 1.0), [1, 1, 2])
    rng, values = np.random.default_rng(0), sitk.GetArrayFromImage(image)
    noise = rng.normal(0.0, 8.0, (2, *values.shape))
    return _like(np.hypot(values + noise[0], noise[1]), image)


# -------------------------------------------------------------------------------------------------------- what it shows


def series_in(folder: Path) -> dict[int, list[pydicom.Dataset]]:
    """The images below a folder by the number of their series."""
    found: dict[int, list[pydicom.Dataset]] = {}
    for path in sorted(folder.rglob("*.dcm")):
        image = pydicom.dcmread(path)
        found.setdefault(int(image.SeriesNumber), []).append(image)
    return found


def still_shown(
    study: StrokeStudy, region: sitk.Image, outputs: dict[int, list[pydicom.Dataset]]
) -> tuple[dict[int, float], float]:
    """Share (0 to 1) of the tissue removed from the first CT that each series still shows, and all together.

    A voxel is shown where the slice that it lies in has the old values around it. The outermost voxels of the region
    are left out: there the filling goes over into what was there, and rounding decides whether a value is the old one.
    """
    deep = ndimage.binary_erosion(sitk.GetArrayViewFromImage(region) > 0)
    removed = deep & (sitk.GetArrayViewFromImage(study.first) > HALFWAY_HU)
    index = np.argwhere(removed)[:, ::-1]
    axes = np.reshape(study.first.GetDirection(), (3, 3)) * study.first.GetSpacing()
    points = index @ axes.T + study.first.GetOrigin()
    originals = {str(one.SOPInstanceUID): one for images in series_in(study.folder).values() for one in images}
    shown = {}
    for number, images in outputs.items():
        rotation, shift = study.pose_of(number)
        there = points @ rotation.T + shift
        shown[number] = np.zeros(len(points), bool)
        for new in images:
            old = originals[str(new.SourceImageSequence[0].ReferencedSOPInstanceUID)]
            shown[number] |= _shown_in(there, old, new)
    return {number: float(here.mean()) for number, here in shown.items()}, float(np.any(list(shown.values()), 0).mean())


def _shown_in(points: np.ndarray, old: pydicom.Dataset, new: pydicom.Dataset) -> np.ndarray:
    """Which of some points lie in a slice where its values are the old ones; bool."""
    row, column = np.reshape(new.ImageOrientationPatient, (2, 3)).astype(float)
    away = points - np.array(new.ImagePositionPatient, float)
    near = np.flatnonzero(np.abs(away @ np.cross(row, column)) <= float(new.SliceThickness) / 2.0)
    down, along = (float(value) for value in new.PixelSpacing)
    place = np.rint(np.stack([away[near] @ column / down, away[near] @ row / along], axis=-1)).astype(int)
    inside = ((place >= 0) & (place < (new.Rows, new.Columns))).all(axis=-1)
    same = ndimage.binary_opening(old.pixel_array == new.pixel_array, np.ones((3, 3)))  # single ones are chance
    found = np.zeros(len(points), bool)
    found[near[inside]] = same[tuple(place[inside].T)]
    return found


def skin_off(images: list[pydicom.Dataset], surface: Surface) -> float:
    """95th percentile of how far, in mm, the skin of a CT is from the new skin, on rays well inside the face."""
    row, column = np.reshape(images[0].ImageOrientationPatient, (2, 3)).astype(float)
    images = sorted(images, key=lambda one: np.cross(row, column) @ np.array(one.ImagePositionPatient, float))
    ends = [np.array(one.ImagePositionPatient, float) for one in (images[0], images[-1])]
    volume = sitk.GetImageFromArray(np.stack([one.pixel_array.astype(np.int16) - 1024 for one in images]))
    down, along = (float(value) for value in images[0].PixelSpacing)
    volume.SetSpacing([along, down, float(np.linalg.norm(ends[1] - ends[0])) / (len(images) - 1)])
    volume.SetOrigin(ends[0].tolist())
    volume.SetDirection(np.array([row, column, np.cross(row, column)]).T.ravel().tolist())
    steps = np.arange(6.0, -6.1, -0.25)
    values = values_at(volume, surface.cylinder.points(surface.skin[..., None] + steps))
    inside = (surface.outline > 6.0) & (values > -2000).all(axis=-1)
    return float(np.percentile(np.abs(steps[np.argmax(values > HALFWAY_HU, axis=-1)])[inside], 95))
