"""Pictures as files: PNG, sheets of several, and a head before and after defacing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .renderer import Renderer, head_center
from .skin import skin_surface

FRONT_OBLIQUE_SIDE = (("front", 0.0, 0.0), ("oblique", 40.0, 10.0), ("side", 90.0, 0.0))
"""Views of :func:`before_after_picture`: label, yaw, pitch in degrees."""


def png_bytes(picture: np.ndarray) -> bytes:
    """A (rows, columns, 3) uint8 picture as the bytes of a PNG file."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkIOImage import vtkPNGWriter

    rows, columns, colours = picture.shape
    data = vtkImageData()
    data.SetDimensions(columns, rows, 1)
    data.GetPointData().SetScalars(numpy_to_vtk(picture[::-1].reshape(-1, colours).copy(), deep=True))
    writer = vtkPNGWriter()
    writer.SetInputData(data)
    writer.WriteToMemoryOn()
    writer.Write()
    return vtk_to_numpy(writer.GetResult()).tobytes()


def write_png(path: str | os.PathLike, picture: np.ndarray) -> None:
    """Write a (rows, columns, 3) uint8 picture as a PNG file."""
    Path(path).write_bytes(png_bytes(picture))


def montage(rows: Sequence[Sequence[np.ndarray]], gap: int = 4) -> np.ndarray:
    """Put pictures of one size side by side and row under row, white between them."""
    height, width = rows[0][0].shape[:2]
    columns = max(len(row) for row in rows)
    shape = (len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3)
    sheet = np.full(shape, 255, dtype=np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            top, left = r * (height + gap), c * (width + gap)
            sheet[top : top + height, left : left + width] = picture
    return sheet


def before_after_picture(
    original: sitk.Image,
    defaced: sitk.Image,
    path: str | os.PathLike,
    *,
    axes: np.ndarray | None = None,
    size: int = 320,
    renderer: Renderer | None = None,
) -> None:
    """Write a PNG with the original above and the defaced volume below, from the front, oblique and from the side.

    ``axes`` as in :meth:`Renderer.picture`. Raises CTDefaceError when there is no OpenGL or nothing to draw.
    """
    renderer = renderer or Renderer()
    before, after = skin_surface(original), skin_surface(defaced)
    center = head_center(before, axes)
    write_png(
        path,
        montage(
            [
                [
                    renderer.picture(surface, yaw, pitch, size=size, axes=axes, center=center, label=f"{name}, {view}")
                    for view, yaw, pitch in FRONT_OBLIQUE_SIDE
                ]
                for name, surface in (("before", before), ("after", after))
            ]
        ),
    )
