"""Ways to deface that do not work, which the evaluation has to catch: each leaves the face in the file."""

import numpy as np
import SimpleITK as sitk
from CTDefaceEvalLib.views import Pose
from scipy import ndimage


def face_shell(image: sitk.Image, pose: Pose, thickness_mm: float = 18.0) -> np.ndarray:
    """The outer `thickness_mm` of the front of the head below the hair line, bool (z, y, x): a tissue-exact mask."""
    hu = sitk.GetArrayFromImage(image)
    labels, _ = ndimage.label(ndimage.binary_opening(hu > -300, iterations=2))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    core = sitk.GetImageFromArray((labels == sizes.argmax()).astype(np.uint8))
    core.CopyInformation(image)
    # Nostrils and mouth belong to the head.
    closed = sitk.BinaryFillhole(sitk.BinaryMorphologicalClosing(core, [4, 4, 4]))
    depth = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(closed, True, False, True))
    z, y, x = np.meshgrid(*[np.arange(n) for n in hu.shape], indexing="ij", sparse=True)
    direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    to_head = pose.axes @ direction
    start = pose.axes @ (np.array(image.GetOrigin()) - pose.center)
    posterior = to_head[1, 0] * x + to_head[1, 1] * y + to_head[1, 2] * z + start[1]
    superior = to_head[2, 0] * x + to_head[2, 1] * y + to_head[2, 2] * z + start[2]
    return (depth >= 0) & (depth < thickness_mm) & (posterior < 20.0) & (superior < 45.0)


def with_values(image: sitk.Image, values: np.ndarray) -> sitk.Image:
    """The same volume, data type and geometry, with other values (z, y, x)."""
    dtype = sitk.GetArrayViewFromImage(image).dtype
    result = sitk.GetImageFromArray(np.round(values).astype(dtype))
    result.CopyInformation(image)
    return result


def constant_filled(image: sitk.Image, pose: Pose, grown_mm: float = 0.0) -> sitk.Image:
    """The shell, grown into the air by `grown_mm`, set to the volume's 10th percentile."""
    shell = face_shell(image, pose)
    if grown_mm:
        inverse = sitk.GetImageFromArray(shell.astype(np.uint8))
        inverse.SetSpacing(image.GetSpacing())
        shell = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(inverse, False, False, True)) <= grown_mm
    hu = sitk.GetArrayFromImage(image)
    return with_values(image, np.where(shell, np.percentile(hu, 10.0), hu))


def blurred(image: sitk.Image, pose: Pose, sigma_mm: float = 10.0) -> sitk.Image:
    """The shell and the air before it replaced by a Gaussian blur of the volume."""
    shell = face_shell(image, pose)
    inverse = sitk.GetImageFromArray(shell.astype(np.uint8))
    inverse.SetSpacing(image.GetSpacing())
    region = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(inverse, False, False, True)) <= 2.0 * sigma_mm
    smooth = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(sitk.Cast(image, sitk.sitkFloat32), sigma_mm))
    hu = sitk.GetArrayFromImage(image)
    return with_values(image, np.where(region, smooth, hu))


def shaved(image: sitk.Image, pose: Pose, depth_mm: float = 8.0) -> sitk.Image:
    """A shallow shell taken off evenly, air with the scanner's noise in its place."""
    shell = face_shell(image, pose, depth_mm)
    hu = sitk.GetArrayFromImage(image)
    air = hu[hu < -900]
    return with_values(image, np.where(shell, np.random.default_rng(1).choice(air, hu.shape), hu))


def rim_left(image: sitk.Image, pose: Pose) -> sitk.Image:
    """Everything above -300 HU in the shell and far behind it removed; the half-air voxels at the skin stay."""
    shell = face_shell(image, pose, 40.0)
    hu = sitk.GetArrayFromImage(image)
    air = hu[hu < -900]
    return with_values(image, np.where(shell & (hu > -300), np.random.default_rng(1).choice(air, hu.shape), hu))
