"""Offscreen pictures of the skin surface of a head CT.

The surface is made once per volume (:func:`skin_surface`); a :class:`Renderer` keeps one offscreen window and takes
pictures of it from any side. Positions are in mm in the LPS frame of the image (x to the patient's left, y to the
back, z to the top). VTK chooses the OpenGL it finds: the system's own, EGL or OSMesa, so no screen is needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from .errors import CTDefaceError

if TYPE_CHECKING:
    import vtk

NO_OPENGL = (
    "No OpenGL was found to draw with: install a graphics driver or the software one "
    "(on Debian or Ubuntu: apt-get install libegl1 libgl1-mesa-dri libosmesa6)."
)

SKIN_COLOUR = (0.88, 0.80, 0.74)
"""Red, green and blue, 0 to 1."""

SKIN_AMBIENT, SKIN_DIFFUSE = 0.12, 0.88
"""How the skin takes the light: without gloss, and with little of it in the shadow."""

BACKGROUND = 0.5
"""Grey, 0 to 1: face detectors find most faces before a middle one."""

LIGHTS = {
    "top": (((0.0, 1.0, 0.55), 0.9), ((0.0, 0.0, 1.0), 0.25)),
    "head": (((0.0, 0.0, 1.0), 1.0),),
}
"""Light → ((position in camera coordinates, strength), …). Detectors find most faces by the first, more with both."""

FRONT_OBLIQUE_SIDE = (("front", 0.0, 0.0), ("oblique", 40.0, 10.0), ("side", 90.0, 0.0))
"""Views of :func:`before_after_picture`: label, yaw, pitch in degrees."""


def skin_surface(
    image: sitk.Image,
    iso: float = -300.0,
    smooth_mm: float = 1.0,
    *,
    largest: bool = True,
    grid_mm: float = 1.0,
    triangles: int | None = None,
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
    triangles: int, optional
        Decimate to about this number.

    Returns
    -------
    vtk.vtkPolyData with points in LPS mm and point normals; without points when nothing lies above ``iso``
    """
    volume = _smooth(sitk.Cast(image, sitk.sitkFloat32), smooth_mm)
    volume = _coarsen(volume, grid_mm)
    if largest:
        volume = _largest_body(volume, iso)
    return _isosurface(volume, iso, triangles)


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


def _isosurface(volume: sitk.Image, iso: float, triangles: int | None) -> vtk.vtkPolyData:
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    # A frame of air closes the surface where the body leaves the field of view.
    volume = sitk.ConstantPad(volume, [1, 1, 1], [1, 1, 1], float(iso) - 500.0)
    values = sitk.GetArrayViewFromImage(volume)
    data = vtk.vtkImageData()
    data.SetDimensions(*volume.GetSize())
    data.SetSpacing(*volume.GetSpacing())
    data.GetPointData().SetScalars(numpy_to_vtk(values.ravel(), deep=False))
    contour = vtk.vtkFlyingEdges3D()
    contour.SetInputData(data)
    contour.SetValue(0, float(iso))
    contour.ComputeScalarsOff()
    contour.SetComputeNormals(triangles is None)
    contour.SetComputeGradients(False)
    contour.Update()
    surface = contour.GetOutput()
    if surface.GetNumberOfPoints() == 0:
        return surface
    if triangles is not None:
        surface = _decimated(surface, triangles)

    direction = np.array(volume.GetDirection()).reshape(3, 3)
    origin = np.array(volume.TransformIndexToPhysicalPoint((0, 0, 0)))
    points = vtk_to_numpy(surface.GetPoints().GetData())
    placed = vtk.vtkPoints()
    placed.SetData(numpy_to_vtk((points @ direction.T + origin).astype(np.float32), deep=True))
    surface.SetPoints(placed)
    normals = vtk_to_numpy(surface.GetPointData().GetNormals())
    turned = numpy_to_vtk((normals @ direction.T).astype(np.float32), deep=True)
    turned.SetName("Normals")
    surface.GetPointData().SetNormals(turned)
    if np.linalg.det(direction) < 0:
        reverse = vtk.vtkReverseSense()
        reverse.SetInputData(surface)
        reverse.ReverseCellsOn()
        reverse.Update()
        surface = reverse.GetOutput()
    return surface


def _decimated(surface: vtk.vtkPolyData, triangles: int) -> vtk.vtkPolyData:
    import vtk

    if surface.GetNumberOfPolys() > triangles:
        decimate = vtk.vtkQuadricDecimation()
        decimate.SetInputData(surface)
        decimate.SetTargetReduction(1.0 - triangles / surface.GetNumberOfPolys())
        decimate.Update()
        surface = decimate.GetOutput()
    normals = vtk.vtkPolyDataNormals()
    normals.SetInputData(surface)
    normals.SplittingOff()
    normals.ConsistencyOff()
    normals.Update()
    return normals.GetOutput()


def skin_volume(image: sitk.Image, iso: float = -300.0) -> vtk.vtkVolume:
    """The CT as a volume rendering that shows the skin, the other way that Slicer shows a head.

    Opacity and shading set in around ``iso`` HU: between -500 and -200, and above air where it is lower. Slower than a
    surface by far: rays are cast for each picture.

    Returns
    -------
    vtk.vtkVolume in LPS mm, which :meth:`Renderer.picture` takes in place of a surface
    """
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk

    values = sitk.GetArrayFromImage(sitk.Cast(image, sitk.sitkFloat32))
    data = vtk.vtkImageData()
    data.SetDimensions(*image.GetSize())
    data.SetSpacing(*image.GetSpacing())
    data.GetPointData().SetScalars(numpy_to_vtk(values.ravel(), deep=True))
    mapper = vtk.vtkSmartVolumeMapper()
    mapper.SetInputData(data)
    opacity, colour = vtk.vtkPiecewiseFunction(), vtk.vtkColorTransferFunction()
    start = iso - min(200.0, max(0.0, (iso + 1024.0) / 2.0))
    for level, share in ((start, 0.0), (iso + 100.0, 0.6), (iso + 500.0, 1.0)):
        opacity.AddPoint(level, share)
    colour.AddRGBPoint(start, *SKIN_COLOUR)
    properties = vtk.vtkVolumeProperty()
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
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(placed.ravel())
    volume = vtk.vtkVolume()
    volume.SetMapper(mapper)
    volume.SetProperty(properties)
    volume.SetUserMatrix(matrix)
    return volume


def head_center(surface: vtk.vtkPolyData, axes: np.ndarray | None = None) -> np.ndarray:
    """Center of the uppermost 220 mm of a surface, in LPS mm.

    With neck and shoulders in view this is the middle of the head, otherwise the middle of what there is.
    ``axes`` as in :meth:`Renderer.picture`. Raises CTDefaceError when the surface is empty.
    """
    from vtk.util.numpy_support import vtk_to_numpy

    if surface.GetNumberOfPoints() == 0:
        raise CTDefaceError("There is nothing to draw: no voxel of the volume lies above the level of the surface.")
    axes = np.eye(3) if axes is None else np.asarray(axes, dtype=float)
    local = vtk_to_numpy(surface.GetPoints().GetData()) @ axes.T
    head = local[local[:, 2] >= np.percentile(local[:, 2], 99.9) - 220.0]
    low, high = np.percentile(head, [1.0, 99.0], axis=0)
    return axes.T @ ((low + high) / 2.0)


def camera_side(yaw: float, pitch: float, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors in LPS from the middle of the picture to the camera, and up; see :meth:`Renderer.picture`."""
    turn, lift = np.radians([yaw, pitch])
    towards = axes.T @ [np.sin(turn) * np.cos(lift), -np.cos(turn) * np.cos(lift), np.sin(lift)]
    # At the poles the view has no "up"; there the front of the head goes to the bottom, seen from above.
    up = axes[2] if abs(np.sin(lift)) < 0.999 else axes.T @ [-np.sin(turn), np.cos(turn), 0.0] * np.sign(lift)
    return towards, up


def set_light(renderer: vtk.vtkRenderer, name: str) -> None:
    """Light a vtkRenderer by a key of LIGHTS and nothing else. Raises CTDefaceError for an unknown name."""
    import vtk

    if name not in LIGHTS:
        raise CTDefaceError(f"There is no light called “{name}”; choose one of {', '.join(LIGHTS)}.")
    renderer.RemoveAllLights()
    for position, strength in LIGHTS[name]:
        light = vtk.vtkLight()
        light.SetLightTypeToCameraLight()
        light.SetPosition(*position)
        light.SetFocalPoint(0.0, 0.0, 0.0)
        light.SetIntensity(strength)
        renderer.AddLight(light)


class Renderer:
    """Takes pictures of surfaces with one offscreen window.

    Raises CTDefaceError when there is no OpenGL to draw with.
    """

    def __init__(self, background: float = BACKGROUND):
        import vtk

        self._window = _offscreen_window()
        self._scene = vtk.vtkRenderer()
        self._scene.SetBackground(background, background, background)
        self._scene.AutomaticLightCreationOff()
        self._window.AddRenderer(self._scene)
        self._mapper = vtk.vtkPolyDataMapper()
        self._mapper.ScalarVisibilityOff()
        self._actor = vtk.vtkActor()
        self._actor.SetMapper(self._mapper)
        skin = self._actor.GetProperty()
        skin.SetColor(*SKIN_COLOUR)
        skin.SetAmbient(SKIN_AMBIENT)
        skin.SetDiffuse(SKIN_DIFFUSE)
        skin.SetSpecular(0.0)
        self._shown = None
        self._label = vtk.vtkTextActor()
        self._label.GetTextProperty().SetColor(1.0, 1.0, 1.0)
        self._label.SetPosition(8, 6)
        self._scene.AddViewProp(self._label)
        self._light = ""
        self._pixels = vtk.vtkUnsignedCharArray()

    def picture(
        self,
        surface: vtk.vtkPolyData | vtk.vtkVolume,
        yaw: float = 0.0,
        pitch: float = 0.0,
        *,
        light: str = "top",
        size: int | tuple[int, int] = 300,
        field_of_view_mm: float = 280.0,
        axes: np.ndarray | None = None,
        center: Sequence[float] | np.ndarray | None = None,
        perspective: bool = False,
        label: str = "",
    ) -> np.ndarray:
        """Take one picture.

        Parameters
        ----------
        surface: vtk.vtkPolyData or vtk.vtkVolume
            In LPS mm, from :func:`skin_surface` or :func:`skin_volume`.
        yaw, pitch: float
            Degrees; yaw > 0 looks from the patient's left, pitch > 0 from above; 0, 0 is straight from the front with
            the top of the head up.
        light: str
            A key of LIGHTS: "top" (from above with a weak fill) or "head" (from the camera).
        size: int or tuple
            Pixels, one number for a square or (columns, rows).
        field_of_view_mm: float
            Height of the picture in the plane of the center.
        axes: numpy.ndarray, optional
            3×3, rows are unit vectors in LPS towards the head's left, back and top; the patient's by default. Giving
            the head's own corrects its tilt.
        center: three numbers, optional
            LPS mm of the point in the middle of the picture; by default :func:`head_center` of the surface. Give the
            same to compare two volumes of one scan, and with a volume rendering.
        perspective: bool
            A camera at 1 m instead of parallel rays.
        label: str
            Text in the lower left corner.

        Returns
        -------
        numpy.ndarray
            Shape (rows, columns, 3), uint8, RGB.
        """
        columns, rows = size if isinstance(size, tuple) else (size, size)
        axes = np.eye(3) if axes is None else np.asarray(axes, dtype=float)
        if center is None:
            center = head_center(surface, axes)
        self._show(surface)
        self._window.SetSize(int(columns), int(rows))
        self._set_light(light)
        self._label.SetInput(label)
        self._label.GetTextProperty().SetFontSize(max(10, int(rows) // 18))

        towards, up = camera_side(yaw, pitch, axes)
        camera = self._scene.GetActiveCamera()
        camera.SetFocalPoint(*center)
        camera.SetPosition(*(np.asarray(center) + 1000.0 * towards))
        camera.SetViewUp(*up)
        camera.SetParallelProjection(not perspective)
        camera.SetParallelScale(field_of_view_mm / 2.0)
        camera.SetViewAngle(float(np.degrees(2.0 * np.arctan(field_of_view_mm / 2.0 / 1000.0))))
        self._scene.ResetCameraClippingRange()
        self._window.Render()
        return self._grab(int(columns), int(rows))

    def _show(self, surface: vtk.vtkPolyData | vtk.vtkVolume) -> None:
        if surface is self._shown:
            return
        if self._shown is not None:
            self._scene.RemoveViewProp(self._shown if self._shown.IsA("vtkVolume") else self._actor)
        if surface.IsA("vtkVolume"):
            self._scene.AddVolume(surface)
        else:
            self._mapper.SetInputData(surface)
            self._scene.AddActor(self._actor)
        self._shown = surface

    def _set_light(self, name: str) -> None:
        if name != self._light:
            set_light(self._scene, name)
            self._light = name

    def _grab(self, columns: int, rows: int) -> np.ndarray:
        from vtk.util.numpy_support import vtk_to_numpy

        self._window.GetPixelData(0, 0, columns - 1, rows - 1, 0, self._pixels, 0)
        return vtk_to_numpy(self._pixels).reshape(rows, columns, 3)[::-1].copy()


def _offscreen_window() -> vtk.vtkRenderWindow:
    """A window that can draw, or CTDefaceError.

    What VTK logs while it looks for an OpenGL is kept off the terminal: a missing screen is normal here.
    """
    import vtk

    verbosity = vtk.vtkLogger.GetCurrentVerbosityCutoff()
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    try:
        window = vtk.vtkRenderWindow()
        window.SetOffScreenRendering(1)
        window.SetShowWindow(False)
        window.SetMultiSamples(0)
        window.SetSize(16, 16)
        if not _supports_opengl(window):
            raise CTDefaceError(NO_OPENGL)
        return window
    finally:
        vtk.vtkLogger.SetStderrVerbosity(verbosity)


def _supports_opengl(window: vtk.vtkRenderWindow) -> bool:
    return bool(window.SupportsOpenGL())


def png_bytes(picture: np.ndarray) -> bytes:
    """A (rows, columns, 3) uint8 picture as the bytes of a PNG file."""
    import vtk
    from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

    rows, columns, colours = picture.shape
    data = vtk.vtkImageData()
    data.SetDimensions(columns, rows, 1)
    data.GetPointData().SetScalars(numpy_to_vtk(picture[::-1].reshape(-1, colours).copy(), deep=True))
    writer = vtk.vtkPNGWriter()
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
