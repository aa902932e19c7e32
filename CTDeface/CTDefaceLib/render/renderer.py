"""Offscreen pictures of the skin of a head, from any side and by one of two lights.

VTK chooses the OpenGL it finds: the system's own, EGL or OSMesa, so no screen is needed.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CTDefaceError
from .skin import SKIN_AMBIENT, SKIN_COLOUR, SKIN_DIFFUSE

if TYPE_CHECKING:
    import vtk

NO_OPENGL = (
    "No OpenGL was found to draw with: install a graphics driver or the software one "
    "(on Debian or Ubuntu: apt-get install libegl1 libgl1-mesa-dri libosmesa6)."
)

X_LIBRARY = "libX11.so.6"
WITHOUT_X = {
    "vtkEGLRenderWindow": ("libEGL.so.1",),
    "vtkOSOpenGLRenderWindow": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"),
}
"""Kinds of windows of VTK that draw on a Linux without X, as servers and containers are, with the libraries of each."""

BACKGROUND = 0.5
"""Grey, 0 to 1: face detectors find most faces before a middle one."""

LIGHTS = {
    "top": (((0.0, 1.0, 0.55), 0.9), ((0.0, 0.0, 1.0), 0.25)),
    "head": (((0.0, 0.0, 1.0), 1.0),),
}
"""Light → ((position in camera coordinates, strength), …). Detectors find most faces by the first, more with both."""


def head_center(surface: vtk.vtkPolyData, axes: np.ndarray | None = None) -> np.ndarray:
    """Center of the uppermost 220 mm of a surface, in LPS mm.

    With neck and shoulders in view this is the middle of the head, otherwise the middle of what there is.
    ``axes`` as in :meth:`Renderer.picture`. Raises CTDefaceError when the surface is empty.
    """
    from vtkmodules.util.numpy_support import vtk_to_numpy

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
    from vtkmodules.vtkRenderingCore import vtkLight

    if name not in LIGHTS:
        raise CTDefaceError(f"There is no light called “{name}”; choose one of {', '.join(LIGHTS)}.")
    renderer.RemoveAllLights()
    for position, strength in LIGHTS[name]:
        light = vtkLight()
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
        from vtkmodules import vtkRenderingFreeType, vtkRenderingVolumeOpenGL2  # noqa: F401, VTK draws by them
        from vtkmodules.vtkCommonCore import vtkUnsignedCharArray
        from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper, vtkRenderer, vtkTextActor

        self._window = _offscreen_window()
        self._scene = vtkRenderer()
        self._scene.SetBackground(background, background, background)
        self._scene.AutomaticLightCreationOff()
        self._window.AddRenderer(self._scene)
        self._mapper = vtkPolyDataMapper()
        self._mapper.ScalarVisibilityOff()
        self._actor = vtkActor()
        self._actor.SetMapper(self._mapper)
        skin = self._actor.GetProperty()
        skin.SetColor(*SKIN_COLOUR)
        skin.SetAmbient(SKIN_AMBIENT)
        skin.SetDiffuse(SKIN_DIFFUSE)
        skin.SetSpecular(0.0)
        self._shown = None
        self._label = vtkTextActor()
        self._label.GetTextProperty().SetColor(1.0, 1.0, 1.0)
        self._label.SetPosition(8, 6)
        self._scene.AddViewProp(self._label)
        self._light = ""
        self._pixels = vtkUnsignedCharArray()

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
        from vtkmodules.util.numpy_support import vtk_to_numpy

        self._window.GetPixelData(0, 0, columns - 1, rows - 1, 0, self._pixels, 0)
        return vtk_to_numpy(self._pixels).reshape(rows, columns, 3)[::-1].copy()


def _offscreen_window() -> vtk.vtkRenderWindow:
    """A window that can draw, or CTDefaceError.

    What VTK logs while it looks for an OpenGL is kept off the terminal: a missing screen is normal here.
    """
    from vtkmodules.vtkCommonCore import vtkLogger

    verbosity = vtkLogger.GetCurrentVerbosityCutoff()
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    try:
        window = _new_window()
        window.SetOffScreenRendering(1)
        window.SetShowWindow(False)
        window.SetMultiSamples(0)
        window.SetSize(16, 16)
        if not _supports_opengl(window):
            raise CTDefaceError(NO_OPENGL)
        return window
    finally:
        vtkLogger.SetStderrVerbosity(verbosity)


def _new_window() -> vtk.vtkRenderWindow:
    """A window of a kind that can be tried here: without the library of X, VTK's own search ends in a crash (9.7)."""
    from vtkmodules import vtkRenderingOpenGL2
    from vtkmodules.vtkRenderingCore import vtkRenderWindow

    if sys.platform != "linux" or "VTK_DEFAULT_OPENGL_WINDOW" in os.environ or _is_there(X_LIBRARY):
        return vtkRenderWindow()
    for kind, libraries in WITHOUT_X.items():
        if hasattr(vtkRenderingOpenGL2, kind) and any(map(_is_there, libraries)):
            return getattr(vtkRenderingOpenGL2, kind)()
    raise CTDefaceError(NO_OPENGL)


def _is_there(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _supports_opengl(window: vtk.vtkRenderWindow) -> bool:
    return bool(window.SupportsOpenGL())
