"""The skin of a head CT as what can be drawn: a surface, or a volume rendering.

Positions are in mm in the LPS frame of the image (x to the patient's left, y to the back, z to the top).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ..anatomy.hounsfield import TISSUE_HU

if TYPE_CHECKING:
    import vtk

SKIN_COLOUR = (0.88, 0.80, 0.74)
"""Red, green and blue, 0 to 1."""

SKIN_AMBIENT, SKIN_DIFFUSE = 0.12, 0.88
"""How the skin takes the light: without gloss, and with little of it in the shadow."""


def skin_surface(
    image: sitk.Image,
    iso: float = TISSUE_HU,
    smooth_mm: float = 1.0,
    *,
    largest: bool = True,
    grid_mm: float = 1.0,
) -> vtk.vtkPolyData:
    """Triangulate the boundary between air and skin.

    Parameters
    ----------
    image: SimpleITK.Image
        CT in Hounsfield units (or any scalar volume, with its own ``iso``), any axis order and obliquity.
    iso: float
        Level of the surface, in the units of the image.
    smooth_mm: float
        Standard deviation of the Gaussian smoothing before, 0 for none.
    largest: bool
        Keep only the largest body by voxels and its outer skin; a table or holder that does not touch it, and
        cavities closed all round, go away.
    grid_mm: float
        Axes that are sampled more finely than this are resampled to it, which bounds the number of triangles.

    Returns
    -------
    vtk.vtkPolyData with points in LPS mm and point normals; without points when nothing lies above ``iso``
    """
    volume = _smooth(sitk.Cast(image, sitk.sitkFloat32), smooth_mm)
    volume = _coarsen(volume, grid_mm)
    if largest:
        volume = _largest_body(volume, iso)
    return _isosurface(volume, iso)


def _smooth(volume: sitk.Image, sigma_mm: float) -> sitk.Image:
    # Below half a voxel a recursive Gaussian no longer is one, and smoothing would do next to nothing.
    for axis, (spacing, size) in enumerate(zip(volume.GetSpacing(), volume.GetSize())):
        if sigma_mm >= 0.5 * spacing and size >= 4:
            volume = sitk.RecursiveGaussian(volume, sigma_mm, False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis)
    return volume


def _coarsen(volume: sitk.Image, grid_mm: float) -> sitk.Image:
    old, size = np.array(volume.GetSpacing()), np.array(volume.GetSize())
    new_size = np.where(old < 0.9 * grid_mm, np.maximum(2, np.ceil((size - 1) * old / grid_mm) + 1), size).astype(int)
    if np.array_equal(new_size, size):
        return volume
    spacing = (size - 1) * old / np.maximum(new_size - 1, 1)
    return sitk.Resample(
        volume,
        [int(n) for n in new_size],
        sitk.Transform(),
        sitk.sitkLinear,
        volume.GetOrigin(),
        [float(s) for s in spacing],
        volume.GetDirection(),
    )


def _largest_body(volume: sitk.Image, iso: float) -> sitk.Image:
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(volume >= iso))
    sizes = np.bincount(labels[::2, ::2, ::2].ravel())
    if len(sizes) < 2:
        return volume
    sizes[0] = 0
    body = labels == np.argmax(sizes)
    solid = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(body.astype(np.uint8)))) > 0
    values = sitk.GetArrayFromImage(volume)
    # Keep the values around the skin, which say where between two voxels it runs; change the rest only.
    values[(labels > 0) & ~body] = min(float(values.min()), iso - 1.0)
    np.maximum(values, iso + 1.0, out=values, where=solid & ~body)
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(volume)
    return result


def _isosurface(volume: sitk.Image, iso: float) -> vtk.vtkPolyData:
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D, vtkReverseSense

    # A frame of air closes the surface where the body leaves the field of view.
    volume = sitk.ConstantPad(volume, [1, 1, 1], [1, 1, 1], float(iso) - 500.0)
    values = sitk.GetArrayViewFromImage(volume)
    data = vtkImageData()
    data.SetDimensions(*volume.GetSize())
    data.SetSpacing(*volume.GetSpacing())
    data.GetPointData().SetScalars(numpy_to_vtk(values.ravel(), deep=False))
    contour = vtkFlyingEdges3D()
    contour.SetInputData(data)
    contour.SetValue(0, float(iso))
    contour.ComputeScalarsOff()
    contour.SetComputeGradients(False)
    contour.Update()
    surface = contour.GetOutput()
    if surface.GetNumberOfPoints() == 0:
        return surface

    direction = np.array(volume.GetDirection()).reshape(3, 3)
    origin = np.array(volume.TransformIndexToPhysicalPoint((0, 0, 0)))
    points = vtk_to_numpy(surface.GetPoints().GetData())
    placed = vtkPoints()
    placed.SetData(numpy_to_vtk((points @ direction.T + origin).astype(np.float32), deep=True))
    surface.SetPoints(placed)
    normals = vtk_to_numpy(surface.GetPointData().GetNormals())
    turned = numpy_to_vtk((normals @ direction.T).astype(np.float32), deep=True)
    turned.SetName("Normals")
    surface.GetPointData().SetNormals(turned)
    if np.linalg.det(direction) < 0:
        reverse = vtkReverseSense()
        reverse.SetInputData(surface)
        reverse.ReverseCellsOn()
        reverse.Update()
        surface = reverse.GetOutput()
    return surface


def skin_volume(image: sitk.Image, iso: float = TISSUE_HU) -> vtk.vtkVolume:
    """The CT as a volume rendering that shows the skin, the other way that Slicer shows a head.

    Opacity and shading set in around ``iso`` HU: between -500 and -200, and above air where it is lower. Slower than a
    surface by far: rays are cast for each picture.

    Returns
    -------
    vtk.vtkVolume in LPS mm, which :meth:`Renderer.picture` takes in place of a surface
    """
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData, vtkPiecewiseFunction
    from vtkmodules.vtkCommonMath import vtkMatrix4x4
    from vtkmodules.vtkRenderingCore import vtkColorTransferFunction, vtkVolume, vtkVolumeProperty
    from vtkmodules.vtkRenderingVolumeOpenGL2 import vtkSmartVolumeMapper

    values = sitk.GetArrayFromImage(sitk.Cast(image, sitk.sitkFloat32))
    data = vtkImageData()
    data.SetDimensions(*image.GetSize())
    data.SetSpacing(*image.GetSpacing())
    data.GetPointData().SetScalars(numpy_to_vtk(values.ravel(), deep=True))
    mapper = vtkSmartVolumeMapper()
    mapper.SetInputData(data)
    opacity, colour = vtkPiecewiseFunction(), vtkColorTransferFunction()
    start = iso - min(200.0, max(0.0, (iso + 1024.0) / 2.0))
    for level, share in ((start, 0.0), (iso + 100.0, 0.6), (iso + 500.0, 1.0)):
        opacity.AddPoint(level, share)
    colour.AddRGBPoint(start, *SKIN_COLOUR)
    properties = vtkVolumeProperty()
    properties.SetScalarOpacity(opacity)
    properties.SetColor(colour)
    properties.SetInterpolationTypeToLinear()
    properties.ShadeOn()
    properties.SetAmbient(SKIN_AMBIENT)
    properties.SetDiffuse(SKIN_DIFFUSE)
    properties.SetSpecular(0.0)
    placed = np.eye(4)
    placed[:3, :3] = np.array(image.GetDirection()).reshape(3, 3)
    placed[:3, 3] = image.GetOrigin()
    matrix = vtkMatrix4x4()
    matrix.DeepCopy(placed.ravel().tolist())
    volume = vtkVolume()
    volume.SetMapper(mapper)
    volume.SetProperty(properties)
    volume.SetUserMatrix(matrix)
    return volume
