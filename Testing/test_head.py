"""Finding the head: its axes, its plane of symmetry, the intracranial space; and saying so when there is none."""

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import case, intracranial, mask_of, scan, small_view, voxels
from CTDefaceLib.anatomy.grids import sampled
from CTDefaceLib.anatomy.head import find_head
from CTDefaceLib.anatomy.work_grid import WORK_SPACING_MM
from CTDefaceLib.anatomy.work_volume import work_volume
from CTDefaceLib.errors import NoFaceError
from CTDefaceLib.phantom import Label
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from phantom_cases import CASES
from scipy import ndimage, spatial
from scipy.spatial.transform import Rotation

POSES = [dict(yaw=-30), dict(pitch=-30), dict(roll=30), dict(yaw=30, pitch=30), dict(yaw=20, pitch=-20, roll=20)]
SIDE, PITCH, PITCH_WITHOUT_BASE = 3.0, 17.0, 20.0
"""Degrees that the plane of symmetry, and the axes in it, may be off; those when the skull base is not in view."""


def angles(found, true):
    """Angles in degrees between the axes of two heads."""
    return np.degrees(np.arccos(np.clip((found * true).sum(axis=1), -1, 1)))


def same_head(head, other, degrees, mm):
    assert angles(head.axes, other.axes).max() < degrees
    assert np.linalg.norm(head.brow - other.brow) < mm


def assert_found(s):
    off = angles(s.cylinder.head.axes, s.phantom.axes)
    base_in_view = s.phantom.parameters.field_of_view != "orbits"
    assert off[0] < SIDE and off.max() < (PITCH if base_in_view else PITCH_WITHOUT_BASE), off
    true, found = s.labelled(Label.INTRACRANIAL), intracranial(s.cylinder.head, s.image)
    assert (true & found).sum() > 0.94 * true.sum()
    assert (true & found).sum() > 0.93 * found.sum()


# ------------------------------------------------------------------------------------------------- found wherever it is


@pytest.mark.parametrize("name", CASES)
def test_every_field_of_view_and_artefact(name):
    assert_found(case(name))


@pytest.mark.slow
@pytest.mark.parametrize("pose", POSES, ids=str)
def test_every_pose(pose):
    assert_found(scan(person=3, **pose))


@pytest.mark.parametrize("name", ["frontal", "chin_up", "leaning", "child", "neck", "cut_at_orbits"])
def test_brow_lies_between_the_eyes_and_above_them(name):
    s = case(name)
    left, right = (s.cylinder.head.to_head(np.array(s.phantom.landmarks[f"{side}_eye"])) for side in ("left", "right"))
    assert abs(left[0] + right[0]) < 8
    assert 20 < left[0] < 45
    middle = (left + right)[1:] / 2
    assert -30 < middle[0] < 20, "eyes in front of the brow point or just behind"
    assert -50 < middle[1] < 10, "eyes below the brow point"


def test_head_coordinates_there_and_back():
    head = case("leaning").cylinder.head
    points = np.random.default_rng(0).normal(0, 100, (50, 3))
    assert np.allclose(head.to_lps(head.to_head(points)), points)
    assert np.allclose(head.axes @ head.axes.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(head.axes) == pytest.approx(1)


def test_sampling_reads_the_work_grid_where_it_lies():
    head = case("leaning").cylinder.head
    index = (20, 31, 12)
    point = head.to_head(np.array(head.volume.TransformIndexToPhysicalPoint(index)))
    value = head.sample(voxels(head.volume), head.to_index(head.to_lps(point))[None])
    assert value == pytest.approx(head.volume[index], abs=1)
    assert [head.coordinates(axis)[index[::-1]] for axis in range(3)] == pytest.approx(point, abs=1e-3)


def test_the_work_grid_is_read_as_simpleitk_reads_it():
    """On grids with axes in any order and direction, fine and coarse, that reach beyond it."""
    s = case("frontal")
    values = s.cylinder.head.guard
    function = sitk.GetImageFromArray(values)
    function.CopyInformation(s.cylinder.head.volume)
    wide = sitk.ConstantPad(s.image[::2, :, ::3], [20, 0, 9], [0, 17, 4])
    for image in (s.image, sitk.PermuteAxes(wide, [2, 0, 1]), sitk.Flip(wide, [True, False, True])):
        box = tuple(slice(n // 8, n) for n in image.GetSize())
        expected = sitk.GetArrayFromImage(sitk.Resample(function, image[box], sitk.Transform(), sitk.sitkLinear, -1.0))
        assert np.allclose(sampled(values, s.cylinder.head, image, box), expected, atol=1e-4)
        assert (expected == -1.0).any() and (expected > 20.0).any()


# --------------------------------------------------------------------------------------------- however the grid is laid


@pytest.mark.slow
@examples(6)
@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_axis_order_and_flips_do_not_matter(order, flips):
    s = case("turned_left")
    image = sitk.Flip(sitk.PermuteAxes(s.image, order), flips)
    same_head(find_head(image), s.cylinder.head, degrees=1.5, mm=4)


@pytest.mark.slow
@examples(5)
@given(st.tuples(*[st.floats(-25, 25)] * 3), st.tuples(*[st.floats(-500, 500)] * 3))
def test_a_patient_laid_otherwise_takes_the_axes_along(turn, shift):
    s = case("frontal")
    rotation = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
    image = sitk.Image(s.image)
    image.SetDirection((rotation @ np.reshape(s.image.GetDirection(), (3, 3))).ravel().tolist())
    image.SetOrigin((rotation @ s.image.GetOrigin() + shift).tolist())
    head = find_head(image)
    off = angles(head.axes, s.phantom.axes @ rotation.T)
    assert off[0] < SIDE and off.max() < PITCH + 2
    assert np.linalg.norm(head.brow - (rotation @ s.cylinder.head.brow + shift)) < 12


def test_gantry_tilt_and_oblique_reformats():
    s = case("frontal")
    rotation = Rotation.from_euler("xz", [22, -18], degrees=True).as_matrix()
    size, spacing = np.array([130, 130, 110]), np.array([2.0, 2.0, 3.0])
    middle = np.array(s.image.TransformContinuousIndexToPhysicalPoint([n / 2 for n in s.image.GetSize()]))
    origin = middle - rotation @ (size * spacing / 2)
    oblique = sitk.Resample(
        s.image, size.tolist(), sitk.Transform(), sitk.sitkLinear, origin, spacing, rotation.ravel().tolist(), -1024
    )
    same_head(find_head(oblique), s.cylinder.head, degrees=5, mm=6)


def pelvis(hu):
    """Soft tissue in a wide tube of bone that is open above and has a gap in front; shape as ``hu`` but for slices."""
    z, y, x = np.indices((150, *hu.shape[1:])) * 2.0
    r = np.hypot((x - 127.0) / 120.0, (y - 127.0) / 95.0)
    bone = (np.abs(r - 0.8) < 0.06) & (z < 250) & (y > 70)
    return np.where(bone, 600, np.where(r < 1, 40, -1000)) + np.random.default_rng(0).normal(0, 10, r.shape)


def with_pelvis(s, head=True):
    parts = [pelvis(s.hu), s.hu] if head else [pelvis(s.hu)]
    image = sitk.GetImageFromArray(np.concatenate(parts).astype(np.int16))
    image.SetSpacing(s.image.GetSpacing())
    image.SetOrigin((*s.image.GetOrigin()[:2], s.image.GetOrigin()[2] - 300.0))
    return image


@pytest.mark.slow
@pytest.mark.parametrize("who", [dict(), dict(child=True), dict(person=2, pitch=15)], ids=str)
def test_the_head_is_found_on_a_body_whose_pelvis_holds_more(who):
    s = scan(**who)
    found = find_head(with_pelvis(s))
    off = angles(found.axes, s.phantom.axes)
    assert off[0] < SIDE and off.max() < PITCH
    assert abs(found.intracranial.sum() / s.cylinder.head.intracranial.sum() - 1) < 0.05


def test_a_body_without_its_head_has_none():
    with pytest.raises(NoFaceError, match="No head was found"):
        find_head(with_pelvis(scan(), head=False))


@pytest.mark.parametrize(
    "spacing", [(0.4, 0.4, 6.0), (1.0, 1.0, 1.0), (0.7, 0.9, 2.5), (3.2, 3.2, 1.5), (3.0, 3.0, 0.5)], ids=str
)
def test_work_volume_keeps_place_extent_and_values(spacing):
    size = [max(1, round(60 / s)) for s in spacing]
    image = sitk.Image(size, sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetOrigin((-11, 23, 5))
    ramp = sitk.PhysicalPointSource(sitk.sitkVectorFloat32, size, image.GetOrigin(), spacing)
    image = sitk.Cast(sitk.VectorIndexSelectionCast(ramp, 2) * 10, sitk.sitkInt16)
    work, padding = work_volume(image)
    assert work.GetSpacing() == (WORK_SPACING_MM,) * 3
    extent = np.array(image.GetSize()) * spacing
    assert (np.abs(np.array(work.GetSize()) * WORK_SPACING_MM - extent) < WORK_SPACING_MM).all()
    z = work.GetOrigin()[2] + WORK_SPACING_MM * np.arange(work.GetSize()[2])
    inner = slice(2, -2)
    assert np.abs(voxels(work).mean(axis=(1, 2)) - 10 * z)[inner].max() < 1 + 10 * 0.51 * spacing[2]


def test_an_oblique_volume_ends_where_it_ends():
    """Nothing is drawn out into the corners of the work grid."""
    image = sitk.Image([40, 40, 40], sitk.sitkInt16) + 40
    image.SetSpacing((2.0, 2.0, 2.0))
    image.SetDirection(Rotation.from_euler("z", 30, degrees=True).as_matrix().ravel().tolist())
    hu = voxels(work_volume(image)[0])
    inside = hu == 40
    assert abs(inside.sum() * WORK_SPACING_MM**3 / 80.0**3 - 1) < 0.05
    assert (hu[~inside] < -1500).all()


def resampled(s, value, rotation):
    """A scan turned in its own grid, filled with one value around it, and where it is (bool)."""
    turn = sitk.Euler3DTransform()
    turn.SetCenter((np.array(s.image.GetOrigin()) + 128.0).tolist())
    turn.SetRotation(*np.radians(rotation).tolist())
    within = voxels(sitk.Resample(sitk.Cast(s.image > -5000, sitk.sitkUInt8), turn)) > 0
    return sitk.Resample(s.image, turn, sitk.sitkLinear, value), within


@pytest.mark.parametrize("value", [-1024, -1000, 0, 500])
@pytest.mark.parametrize("rotation", [(0, 0, 15), (12, 0, 0), (8, -6, 10)], ids=str)
def test_what_a_resampled_volume_was_filled_up_with_is_padding(rotation, value):
    image, within = resampled(scan(), value, rotation)
    work, padding = work_volume(image)
    assert padding == value
    expected = voxels(sitk.Resample(mask_of(within, image), work)) == 0
    unseen = voxels(work) < -1500
    assert not (expected & ~unseen).any()
    assert not (unseen & ~ndimage.binary_dilation(expected, iterations=4)).any()


@pytest.mark.parametrize("person", range(3))
def test_a_round_field_of_view_need_not_lie_in_the_middle(person):
    s = scan(person=person)
    y, x = np.indices(s.hu.shape[1:]) * 2.0
    circle = np.hypot(y - 110.0, x - 140.0) < 115.0
    image = sitk.GetImageFromArray(np.where(circle, s.hu, -1024))
    image.CopyInformation(s.image)
    work, padding = work_volume(image)
    assert padding == -1024
    assert 0 <= (voxels(work) < -1500).mean() - (~circle).mean() < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("padding", [-1024, -2000, -3024])
@pytest.mark.parametrize("forward_mm", [0, 50])
@pytest.mark.parametrize("radius_mm", [60, 75, 90])
def test_a_round_view_that_ends_within_the_head(radius_mm, forward_mm, padding):
    """Such as a sinus CT's: the intracranial space goes on to the edge of the view, and little air is in it."""
    s = scan(person=4)
    image, seen = small_view(s, radius_mm, forward_mm, padding)
    head = find_head(image)
    assert head.padding == (padding if padding > -1500 else None)
    brain, found = s.labelled(Label.INTRACRANIAL) & seen, intracranial(head, image)
    assert (brain & found).sum() > 0.93 * brain.sum()
    assert (seen & brain & found).sum() > 0.9 * (seen & found).sum()
    off = angles(head.axes, s.phantom.axes)
    assert off[0] < SIDE and off.max() < PITCH


@pytest.mark.parametrize("padding", [-1024, -2000])
@pytest.mark.parametrize("name", ["brain_fov", "cut_at_orbits", "frontal"])
def test_a_view_that_ends_in_front_of_the_skull_base_does_not_tilt_the_head(name, padding):
    """The longest line through what is left of the intracranial space goes from its floor to the vertex."""
    s = case(name)
    image, _ = small_view(s, 60.0, 66.0, padding)
    assert angles(find_head(image).axes, s.phantom.axes).max() < PITCH


@pytest.mark.parametrize("padding", [-1024, -2000])
@pytest.mark.parametrize(
    "name, radius_mm, forward_mm, left_mm",
    [("brain_fov", 97, 36, -48), ("frontal", 107, 72, -40), ("chin_down", 92, 36, -57)],
)
def test_a_view_of_one_side_does_not_turn_the_head(name, radius_mm, forward_mm, left_mm, padding):
    """Planes that mirror little of what is in view onto what is in view fit by chance."""
    s = case(name)
    image, _ = small_view(s, radius_mm, forward_mm, padding, left_mm)
    assert angles(find_head(image).axes, s.phantom.axes).max() < PITCH


def convex_hull(mask):
    """All voxels between those of a mask."""
    edge = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    triangles = spatial.Delaunay(edge[spatial.ConvexHull(edge).vertices])
    return triangles.find_simplex(np.argwhere(np.ones_like(mask))).reshape(mask.shape) >= 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frontal", "brain_fov", "cut_at_orbits", "child_brain_fov"])
@pytest.mark.parametrize("value", [-1024, -1000])
@pytest.mark.parametrize("banded", [False, True])
def test_air_that_was_set_to_one_value_is_no_padding(name, value, banded):
    """The head alone is in view then, or what a rubber band around it holds; the skin must not count as unseen."""
    s = case(name)
    head = ~np.isin(voxels(s.phantom.labels), (Label.AIR, Label.HOLDER))
    held = convex_hull(head) if banded else ndimage.binary_dilation(head, iterations=2)
    image = sitk.GetImageFromArray(np.where(held, s.hu, value))
    image.CopyInformation(s.image)
    work, padding = work_volume(image)
    assert padding is None
    assert not (voxels(work) < -1500).any()


@pytest.mark.slow
@pytest.mark.parametrize("pitch", [-20, 0, 20])
def test_pitch_where_the_skull_base_is_not_in_view(pitch):
    found = [find_head(scan(person=p, pitch=pitch, field_of_view="orbits").image).axes for p in range(3)]
    true = scan(person=0, pitch=pitch, field_of_view="orbits").phantom.axes
    assert np.mean([angles(axes, true).max() for axes in found]) < 17


@pytest.mark.slow
@pytest.mark.parametrize("padding", [None, -2000, -1024])
@pytest.mark.parametrize("tilt", [-20, -10, 0, 10])
def test_pitch_where_an_oblique_volume_ends_above_the_skull_base(tilt, padding):
    """The plane that ends the volume is not taken for the base, be it the volume's own edge or that of the padding."""
    s = scan(person=1)
    rotation = Rotation.from_euler("x", tilt, degrees=True).as_matrix()
    ears_and_eyes = [s.phantom.landmarks[f"{side}_{what}"] for side in ("left", "right") for what in ("eye", "tragus")]
    corner = np.mean(ears_and_eyes, axis=0) + rotation @ [-128.0, -128.0, 8.0]
    size, turn = [128, 128, 51], rotation.ravel().tolist()
    image = sitk.Resample(s.image, size, sitk.Transform(), sitk.sitkLinear, corner.tolist(), [2.0] * 3, turn, -1024)
    if padding is not None:
        image = sitk.Resample(image, s.image, sitk.Transform(), sitk.sitkNearestNeighbor, padding)
    assert angles(find_head(image).axes, s.phantom.axes).max() < 16


# -------------------------------------------------------------------------------------------------- or is not there


def made(array, spacing=3.0):
    noise = np.random.default_rng(0).normal(0, 10, array.shape)
    image = sitk.GetImageFromArray((array + noise).astype(np.int16))
    image.SetSpacing([spacing] * 3)
    return image


def ball(a, b, c, size):
    return np.where(a**2 + b**2 + c**2 < size**2, 1.0, 0.0)


def chest(z, y, x):
    """A trunk with lungs, a spine and ribs that leave gaps."""
    hu = np.where((x / 140) ** 2 + (y / 110) ** 2 < 1, 40.0, -1000.0)
    wall = ((x / 130) ** 2 + (y / 100) ** 2 > 1) & ((x / 136) ** 2 + (y / 106) ** 2 < 1)
    hu[wall & ((z + 0.3 * y) % 30 < 10)] = 700
    hu[np.hypot((np.abs(x) - 70) / 50, y / 80) < 1] = -850
    hu[np.hypot(x, y - 80) < 20] = 500
    return hu


def leg(z, y, x):
    hu = np.where(np.hypot(x, y) < 80, 50.0, -1000.0)
    hu[np.hypot(x, y) < 18] = 1300
    hu[np.hypot(x, y) < 10] = -50
    return hu


NO_HEADS = {
    "air": lambda z, y, x: np.full(x.shape, -1000.0),
    "water ball": lambda z, y, x: 1000 * ball(z, y, x, 90) - 1000,
    "water cylinder": lambda z, y, x: np.where(np.hypot(x, y) < 100, 0.0, -1000.0),
    "chest": chest,
    "leg": leg,
    "skull of a doll": lambda z, y, x: -1000 + 1800 * ball(z, y, x, 30) - 800 * ball(z, y, x, 25),
}


@pytest.mark.parametrize("name", NO_HEADS)
def test_no_head(name):
    grid = np.mgrid[-45:45, -50:50, -50:50] * 3.0
    with pytest.raises(NoFaceError, match="No head"):
        find_head(made(NO_HEADS[name](*grid)))


@examples(15)
@given(st.tuples(*[st.integers(1, 40)] * 3), st.sampled_from([-1024, -1000, 0, 40, 1000]))
def test_small_or_even_volumes_hold_no_head(size, value):
    with pytest.raises(NoFaceError):
        find_head(sitk.Image(size, sitk.sitkInt16) + value)
