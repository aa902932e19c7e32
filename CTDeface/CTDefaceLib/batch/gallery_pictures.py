"""Small pictures of a scan before and after, for the gallery of a batch."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import CTDefaceError
from ..files import write_whole
from ..pipeline import DefaceResult
from ..private import make_private_folder
from ..render import Renderer, head_center, skin_surface

VIEWS = {"front": (0.0, 0.0), "oblique": (40.0, 10.0)}
"""Name of a rendering → yaw and pitch of the camera, in degrees: from the front, and from a side on which nose, cheek
and ear show in one picture. A choice."""

PIXELS = 360
"""Width and height of a picture; the page shows it with 92 to 520 pixels. A choice."""

GRID_MM = 1.5
"""Edge of a voxel of what is drawn, in mm; finer ones are averaged first. A pixel of a head of 250 mm is 0.7 mm, so
that little is seen of it. A choice, for speed."""

WINDOW_HU = (-160.0, 240.0)
"""Black and white of a slice, in HU: the usual soft tissue window (level 40, width 400)."""

OUTLINE_COLOUR = (255, 60, 40)
"""Red, green and blue of an outline, 0 to 255: a red that stands out from every grey. A choice."""

JPEG_QUALITY = 80
"""Of 100. A choice."""

_of_thread = threading.local()  # a window can draw only in the thread that made it


def write_pictures(original: sitk.Image, result: DefaceResult, folder: Path, stem: str, originals: bool = True) -> None:
    """Write ``STEM-before-slice.jpg`` and, where there is OpenGL, ``-before-front``, ``-before-oblique``,
    ``-after-front`` and ``-after-oblique``.

    Parameters
    ----------
    original: SimpleITK.Image
        CT that the result was made of; the face mask is drawn as outline in a sagittal slice through its middle.
    result: DefaceResult
    folder: Path
        Made where it is missing.
    stem: str
        How the names begin.
    originals: bool
        Also write what shows the face; otherwise ``-after-slice`` takes the place of ``-before-slice``, with the
        outline of the filled region, since that of the mask is the face in profile.

    Raises
    ------
    OutputError
        When the folder cannot be made.
    OSError
        When a picture cannot be written.
    """
    make_private_folder(folder)
    before, after = _coarse(original), _coarse(result.image)
    if originals:
        pictures = {"before-slice": _slice(before, _coarse(result.mask))}
    else:
        pictures = {"after-slice": _slice(after, _coarse(result.region))}
    try:
        pictures.update(_renderings(before, after, originals))
    except CTDefaceError:  # no OpenGL, or nothing to draw
        pass
    for name, picture in pictures.items():
        write_whole(folder / f"{stem}-{name}.jpg", jpeg_bytes(picture), private=True)


def _coarse(image: sitk.Image) -> sitk.Image:
    factors = [max(1, int(GRID_MM / spacing)) for spacing in image.GetSpacing()]
    return sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), factors)


def _renderings(before: sitk.Image, after: sitk.Image, originals: bool) -> dict[str, np.ndarray]:
    if not hasattr(_of_thread, "renderer"):
        _of_thread.renderer = Renderer()
    surfaces = {"before": skin_surface(before, grid_mm=GRID_MM), "after": skin_surface(after, grid_mm=GRID_MM)}
    center = head_center(surfaces["before"])
    if not originals:
        del surfaces["before"]
    return {
        f"{when}-{view}": _of_thread.renderer.picture(surface, yaw, pitch, size=PIXELS, center=center)
        for when, surface in surfaces.items()
        for view, (yaw, pitch) in VIEWS.items()
    }


def _slice(image: sitk.Image, mask: sitk.Image) -> np.ndarray:
    """Sagittal slice, (rows, columns, 3) uint8: the front on the left, the top up; outline of the mask."""
    image, mask = sitk.DICOMOrient(image, "LPS"), sitk.DICOMOrient(mask, "LPS")
    inside = sitk.GetArrayViewFromImage(mask) > 0.5
    weights = inside.sum(axis=(0, 1))
    column = int(np.average(np.arange(len(weights)), weights=weights)) if weights.any() else len(weights) // 2
    hu, face = _square(image[column, :, :], sitk.sitkLinear), _square(mask[column, :, :], sitk.sitkLinear)
    low, high = WINDOW_HU
    grey = np.clip((sitk.GetArrayFromImage(hu) - low) / (high - low), 0.0, 1.0) * 255.0
    picture = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    face = face > 0.5
    outline = sitk.GetArrayFromImage(sitk.BinaryDilate(face, (1, 1)) - sitk.BinaryErode(face, (1, 1))) > 0
    picture[outline] = OUTLINE_COLOUR
    return picture[::-1].copy()


def _square(part: sitk.Image, interpolator: int) -> sitk.Image:
    """A 2D image on a grid of square pixels, PIXELS along its longer side."""
    extent = np.array(part.GetSize()) * np.array(part.GetSpacing())
    spacing = float(extent.max()) / PIXELS
    size = [max(1, int(round(e / spacing))) for e in extent]
    return sitk.Resample(
        part, size, sitk.Transform(), interpolator, part.GetOrigin(), (spacing, spacing), part.GetDirection(), -1024.0
    )


def jpeg_bytes(picture: np.ndarray) -> bytes:
    """A picture, (rows, columns, 3) uint8 RGB, as the bytes of a JPEG file."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkIOImage import vtkJPEGWriter

    rows, columns, colours = picture.shape
    data = vtkImageData()
    data.SetDimensions(columns, rows, 1)
    data.GetPointData().SetScalars(numpy_to_vtk(picture[::-1].reshape(-1, colours).copy(), deep=True))
    writer = vtkJPEGWriter()
    writer.SetInputData(data)
    writer.SetQuality(JPEG_QUALITY)
    writer.WriteToMemoryOn()
    writer.Write()
    return vtk_to_numpy(writer.GetResult()).tobytes()
