"""Pictures of the skin surface: geometry of the surface, cameras, lights, and what happens without OpenGL."""

import shutil
import sys

import numpy as np
import pytest
import SimpleITK as sitk
import vtk
from CTDefaceLib import render
from CTDefaceLib.errors import CTDefaceError
from vtk.util.numpy_support import vtk_to_numpy

LPS = np.eye(3)
# left, anterior, superior knob of the test body, in LPS mm
KNOBS = {"left": (50.0, 0.0, 0.0), "front": (0.0, -50.0, 0.0), "top": (0.0, 0.0, 50.0)}


def knobbed_ball(direction=LPS, spacing=(2.0, 2.0, 2.0), center=(10.0, -20.0, 30.0), table=False):
    """A ball of water of 45 mm radius in air with three knobs of different size, sampled on any grid."""
    direction = np.asarray(direction, dtype=float)
    size = [round(160.0 / s) for s in spacing]
    image = sitk.Image(size, sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetDirection(direction.ravel().tolist())
    half = direction @ ((np.array(size) - 1) / 2.0 * spacing)
    image.SetOrigin((np.array(center) - half).tolist())
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), axis=-1)
    points = (index * spacing) @ direction.T - half
    body = (points**2).sum(axis=-1) <= 45.0**2
    for (x, y, z), radius in zip(KNOBS.values(), (18.0, 14.0, 10.0)):
        body |= ((points - [x, y, z]) ** 2).sum(axis=-1) <= radius**2
    if table:
        body |= (points[..., 1] > 62.0) & (points[..., 1] < 70.0)
    values = np.where(body, 40, -1000).astype(np.int16)
    filled = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    filled.CopyInformation(image)
    return filled


OBLIQUE = vtk.vtkTransform()
OBLIQUE.RotateX(25)
OBLIQUE.RotateZ(-40)
OBLIQUE = np.array([[OBLIQUE.GetMatrix().GetElement(r, c) for c in range(3)] for r in range(3)])


@pytest.fixture(scope="module")
def renderer():
    return render.Renderer()


@pytest.mark.parametrize(
    "direction",
    [np.eye(3), np.diag([-1.0, -1.0, 1.0]), np.diag([-1.0, 1.0, 1.0]), np.eye(3)[[1, 2, 0]], OBLIQUE],
    ids=["LPS", "RAS", "mirrored", "permuted", "oblique"],
)
def test_surface_lies_in_lps_whatever_the_grid(direction):
    surface = render.skin_surface(knobbed_ball(direction))
    low, high = np.array(surface.GetBounds()).reshape(3, 2).T
    assert low == pytest.approx([10 - 45, -20 - 64, 30 - 45], abs=2.0)
    assert high == pytest.approx([10 + 68, -20 + 45, 30 + 60], abs=2.0)
    points = vtk_to_numpy(surface.GetPoints().GetData())
    normals = vtk_to_numpy(surface.GetPointData().GetNormals())
    outwards = points - [10.0, -20.0, 30.0]
    ball = np.linalg.norm(outwards, axis=1) < 46.0
    assert ((normals * outwards).sum(axis=1)[ball] > 0).mean() > 0.99


def test_pictures_do_not_depend_on_the_axis_order(renderer):
    pictures = [
        renderer.picture(render.skin_surface(knobbed_ball(d)), 30, 10, center=(10, -20, 30), size=100)
        for d in (np.eye(3), np.diag([-1.0, 1.0, 1.0]), np.eye(3)[[1, 2, 0]])
    ]
    for other in pictures[1:]:
        assert np.abs(pictures[0].astype(int) - other).mean() < 1.0


def silhouette_center(renderer, yaw, pitch, **options):
    picture = renderer.picture(
        render.skin_surface(knobbed_ball()), yaw, pitch, center=(10, -20, 30), size=100, light="head", **options
    )
    rows, columns = np.nonzero(np.abs(picture.astype(int) - 127).max(axis=2) > 8)
    return columns.mean() - 49.5, 49.5 - rows.mean()


def test_yaw_and_pitch_turn_the_camera_as_promised(renderer):
    x, y = silhouette_center(renderer, 0, 0)
    assert x > 1 and y > 0.3  # from the front the left knob is on the right hand, the top one above
    x, _ = silhouette_center(renderer, 90, 0)
    assert x < -1  # from the left, the front knob is on the left hand
    x, _ = silhouette_center(renderer, -90, 0)
    assert x > 1
    _, y = silhouette_center(renderer, 0, 90)
    assert y < -1  # from above, the front is at the bottom


def test_head_axes_correct_the_tilt(renderer):
    straight = render.skin_surface(knobbed_ball(center=(0.0, 0.0, 0.0)))
    tilted = render.skin_surface(_turned(knobbed_ball(center=(0.0, 0.0, 0.0)), OBLIQUE))
    expected = renderer.picture(straight, 20, 15, center=(0, 0, 0), size=100)
    corrected = renderer.picture(tilted, 20, 15, axes=OBLIQUE.T, center=(0, 0, 0), size=100)
    as_is = renderer.picture(tilted, 20, 15, center=(0, 0, 0), size=100)
    assert np.abs(expected.astype(int) - corrected).mean() < 1.0
    assert np.abs(expected.astype(int) - as_is).mean() > 3.0


def _turned(image, rotation):
    turned = sitk.Image(image)
    turned.SetDirection((rotation @ np.array(image.GetDirection()).reshape(3, 3)).ravel().tolist())
    turned.SetOrigin((rotation @ np.array(image.GetOrigin())).tolist())
    return turned


@pytest.mark.slow
def test_table_goes_away_and_fine_grids_are_bounded():
    surface = render.skin_surface(knobbed_ball(table=True))
    assert surface.GetBounds()[3] < 30.0
    fine = render.skin_surface(knobbed_ball(spacing=(0.7, 0.7, 2.0)))
    assert fine.GetNumberOfPolys() < 130_000


def test_lights_sizes_projection_and_label(renderer):
    surface = render.skin_surface(knobbed_ball())
    top = renderer.picture(surface, light="top", size=(120, 80))
    head = renderer.picture(surface, light="head", size=(120, 80))
    assert top.shape == head.shape == (80, 120, 3) and top.dtype == np.uint8
    assert (top[0, 0] == 127).all() or (top[0, 0] == 128).all()
    assert np.abs(top.astype(int) - head).mean() > 1.0
    assert not np.array_equal(head, renderer.picture(surface, light="head", size=(120, 80), perspective=True))
    assert not np.array_equal(head, renderer.picture(surface, light="head", size=(120, 80), label="before"))
    with pytest.raises(CTDefaceError, match="no light"):
        renderer.picture(surface, light="disco")


@pytest.mark.parametrize("direction", [LPS, np.diag([-1.0, 1.0, 1.0]), OBLIQUE], ids=["LPS", "mirrored", "oblique"])
def test_volume_rendering_shows_the_same_shape(renderer, direction):
    image = knobbed_ball(direction)
    view = {"yaw": 30, "pitch": 10, "center": (10, -20, 30), "size": 100, "light": "head"}
    outlines = [
        np.abs(renderer.picture(shown, **view).astype(int) - 127).max(axis=2) > 8
        for shown in (render.skin_surface(image), render.skin_volume(image), render.skin_surface(image))
    ]
    assert (outlines[0] ^ outlines[1]).sum() < 0.05 * outlines[0].sum()
    assert np.array_equal(outlines[0], outlines[2])


def test_center_is_that_of_the_head_when_the_body_is_in_view():
    image = sitk.Image([40, 40, 130], sitk.sitkInt16) - 1000
    image.SetSpacing([4.0, 4.0, 4.0])
    image[15:25, 15:25, 10:125] = 40
    center = render.head_center(render.skin_surface(image))
    assert center == pytest.approx([78.0, 78.0, 498.0 - 110.0], abs=8.0)


def test_nothing_above_the_level_is_one_clear_sentence(renderer):
    empty = render.skin_surface(sitk.Image([8, 8, 8], sitk.sitkInt16) - 1000)
    assert empty.GetNumberOfPoints() == 0
    with pytest.raises(CTDefaceError, match="nothing to draw"):
        renderer.picture(empty)


def test_without_opengl_one_clear_sentence(monkeypatch):
    monkeypatch.setattr(render.renderer, "_supports_opengl", lambda window: False)
    with pytest.raises(CTDefaceError, match="No OpenGL"):
        render.Renderer()


@pytest.mark.skipif(sys.platform != "linux", reason="X is the way to a screen on Linux")
@pytest.mark.parametrize("present, kind", [("EGL OSMesa", "vtkEGL"), ("OSMesa", "vtkOSOpenGL"), ("", None)])
def test_without_x_a_window_is_chosen_that_does_not_crash(present, kind, monkeypatch):
    monkeypatch.delenv("VTK_DEFAULT_OPENGL_WINDOW", raising=False)
    is_there = render.renderer._is_there
    monkeypatch.setattr(
        render.renderer,
        "_is_there",
        lambda library: library[3:].partition(".")[0] in present.split() and is_there(library),
    )
    if kind is None:
        with pytest.raises(CTDefaceError, match="No OpenGL"):
            render.Renderer()
        return
    if not any(map(is_there, render.renderer.WITHOUT_X[f"{kind}RenderWindow"])):
        pytest.skip(f"the library of {kind} is not here")
    drawing = render.Renderer()
    assert drawing._window.GetClassName() == f"{kind}RenderWindow"
    assert drawing.picture(render.skin_surface(knobbed_ball()), size=100).std() > 10


def test_before_after_picture(tmp_path):
    target = tmp_path / "vor und nach Größe.png"
    render.before_after_picture(knobbed_ball(), knobbed_ball(), target, size=64)
    written = sitk.GetArrayFromImage(sitk.ReadImage(shutil.copy(target, tmp_path / "copy.png")))
    assert written.shape == (2 * 68 - 4, 3 * 68 - 4, 3)
    assert written[:60, 24:44].std() > 10
