"""The region that is replaced: never the brain, all that shows the face, and no more than it takes."""

from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import case, intracranial, mask_of, scan, small_view, voxels
from CTDefaceLib.anatomy.face_map import head_cylinder
from CTDefaceLib.anatomy.hounsfield import TISSUE_HU
from CTDefaceLib.errors import NoFaceError
from CTDefaceLib.parameters import DEPTH_MM
from CTDefaceLib.phantom import Label
from CTDefaceLib.removal.fill import fill_region
from CTDefaceLib.removal.region import removal_region
from CTDefaceLib.removal.surface import face_surface
from CTDefaceLib.segmenters.builtin import segment_face
from hypothesis import given, settings
from hypothesis import strategies as st
from phantom_cases import CASES
from scipy import ndimage

pytestmark = pytest.mark.slow
GUARD_MM = 5.0
FACES = [name for name, p in CASES.items() if p.field_of_view != "orbits"]
RAY_MM = np.arange(20.0, 200.0)
OPEN_IN_FRONT = ["frontal", "neck", "child", "leaning", "chin_down"]
"""Cases in which nothing reaches through the air in front of the face and all of that air is in view."""


@cache
def polar(s):
    """Height (mm), angle (degrees, 0 is anterior) and radius (mm) of all voxels about the head's axis."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in s.hu.shape), indexing="ij")[::-1], axis=-1)
    left, back, height = np.moveaxis(
        s.cylinder.head.to_head(index * s.image.GetSpacing() + s.image.GetOrigin()).astype(np.float32), -1, 0
    )
    anterior = s.cylinder.depth_mm - back
    return height, np.degrees(np.arctan2(left, anterior)), np.hypot(left, anterior)


def rays(s, array, heights=range(-61, -4, 8), angles=range(-40, 41, 8)):
    """An array along rays through the face, at RAY_MM, shape (heights, angles, radii)."""
    height, angle, radius = np.meshgrid(heights, np.radians(angles), RAY_MM, indexing="ij")
    head = np.stack([radius * np.sin(angle), s.cylinder.depth_mm - radius * np.cos(angle), height], axis=-1)
    index = (s.cylinder.head.to_lps(head) - s.image.GetOrigin()) / s.image.GetSpacing()
    return ndimage.map_coordinates(array.astype(float), np.moveaxis(index[..., ::-1], -1, 0), order=0, cval=-1)


def outermost(along):
    """Radius in mm of the last sample of each ray that is inside; of rays that meet nothing, the last there is."""
    return RAY_MM[::-1][along[..., ::-1].argmax(axis=-1)]


def inside(region):
    return voxels(region) > 0


def remove(s, mask=None, depth_mm=DEPTH_MM["standard"], **choices):
    return replaced(s.image, s.face if mask is None else mask, s.cylinder, depth_mm, **choices)


def replaced(image, mask, cylinder, depth_mm=DEPTH_MM["standard"], keep_bone=False, **choices):
    surface = face_surface(image, mask, cylinder, depth_mm=depth_mm, keep_bone=keep_bone, **choices)
    return inside(removal_region(image, surface, keep_bone=keep_bone))


def segmented_and_removed(image):
    cylinder = head_cylinder(image)
    return replaced(image, segment_face(image, cylinder), cylinder)


def distance(s, mask):
    """Distance in mm to a mask."""
    return ndimage.distance_transform_edt(~mask, sampling=s.image.GetSpacing()[::-1])


# --------------------------------------------------------------------------------------- never an intracranial voxel


@pytest.mark.parametrize("name", FACES)
def test_nothing_of_the_intracranial_space(name):
    s = case(name)
    found = intracranial(s.cylinder.head, s.image)
    here = inside(s.region())
    assert not (here & found).any()
    assert distance(s, found)[here].min() > GUARD_MM - 3.0


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["frontal", "brain_fov", "child", "craniectomy", "no_vertex"]),
    st.floats(0, 60),
    st.floats(2, 60),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
    st.integers(0, 60),
)
def test_nothing_of_the_brain_whatever_is_asked_for(name, margin_mm, depth_mm, ears, keep_bone, place, painted_mm):
    s = case(name)
    brain = s.labelled(Label.INTRACRANIAL)
    middle = np.argwhere(brain)[place * 997 % brain.sum()]
    apart = distance(s, (np.indices(brain.shape) == middle[:, None, None, None]).all(axis=0))
    painted = mask_of((apart < painted_mm) | (voxels(s.face) > 0), s.image)
    here = remove(s, painted, depth_mm, margin_mm=margin_mm, with_ears=ears, keep_bone=keep_bone)
    assert here.any()
    assert not (here & brain).any()
    assert not (here & intracranial(s.cylinder.head, s.image)).any()


# ------------------------------------------------------------------------------------------------- all of the face


@pytest.mark.parametrize("name", CASES)
def test_skin_of_the_eyebrows_is_removed(name):
    s = case(name)
    eyes = np.mean([s.phantom.landmarks[f"{side}_eye"] for side in ("left", "right")], axis=0)
    index = np.argwhere(s.labelled(Label.FACE_SKIN))
    left, _, above = ((index[:, ::-1] * s.image.GetSpacing() + s.image.GetOrigin() - eyes) @ s.phantom.axes.T).T
    brows = index[(np.abs(left) < 45) & (above > 10) & (above < 24)]
    assert len(brows) > 30
    removed = inside(s.region())[tuple(brows.T)]
    assert removed.mean() > 0.9, "the guard keeps a little where the forehead is thin"


@pytest.mark.parametrize("name", FACES)
def test_facial_skin_is_covered(name):
    s = case(name)
    skin, here = s.labelled(Label.FACE_SKIN), inside(s.region())
    assert (skin & here).sum() > 0.88 * skin.sum(), "but for the blend in front of the ears and along the jaw"
    for feature in ("nose_tip", "upper_lip", "chin", "nasion"):
        index = s.image.TransformPhysicalPointToIndex(s.phantom.landmarks[feature])
        if all(0 <= i < n for i, n in zip(index, s.image.GetSize())):
            assert s.region()[index], feature


@pytest.mark.parametrize("hu", [-650, -350])
@pytest.mark.parametrize("thick_mm", [6, 12])
def test_a_dressing_on_the_face_does_not_shield_it(hu, thick_mm):
    s = scan()
    skin = s.labelled(Label.FACE_SKIN)
    around = distance(s, skin)
    dressing = (around <= thick_mm) & s.labelled(Label.AIR)
    dressed = sitk.GetImageFromArray(np.where(dressing, hu, s.hu))
    dressed.CopyInformation(s.image)
    here = segmented_and_removed(dressed)
    assert (skin & here).sum() > 0.92 * skin.sum()
    at_the_face = ndimage.binary_erosion(skin | dressing, iterations=2) & dressing
    assert here[at_the_face].mean() > 0.9, "its inside is a cast of the face"


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize("choices, most", [({}, 0.14), ({"keep_bone": True}, 0.11)], ids=["standard", "light"])
def test_little_of_the_head_is_replaced(name, choices, most):
    s = case(name)
    tissue = ~s.labelled(Label.AIR, Label.HOLDER, Label.AIRWAY)
    z = s.image.GetOrigin()[2] + np.arange(len(tissue)) * s.image.GetSpacing()[2]
    tissue[z < s.phantom.landmarks["chin"][2] - 15] = False
    whole = 1.0 if CASES[name].field_of_view in ("head", "neck") else 1.4  # what is not in view does not count
    assert 0.03 < (tissue & inside(s.region(**choices))).sum() / tissue.sum() < most * whole


@pytest.mark.parametrize("name", ["frontal", "neck", "chin_down"])
def test_the_cut_is_as_deep_where_little_of_the_head_is_in_view(name):
    s = case(name)
    image, _ = small_view(s, radius_mm=70.0, forward_mm=50.0, padding=-2000)
    in_small_view, in_all = segmented_and_removed(image), inside(s.region())
    assert (in_small_view & (voxels(image) > TISSUE_HU)).sum() > 0.6 * (in_all & (s.hu > TISSUE_HU)).sum()


def test_skin_painted_where_the_maps_do_not_reach_is_removed():
    s = case("frontal")
    back = s.phantom.landmarks["occiput"]
    spot = np.zeros(s.hu.shape, bool)
    spot[s.image.TransformPhysicalPointToIndex(back)[::-1]] = True
    painted = (distance(s, spot) < 12) & s.labelled(Label.SKIN, Label.FAT, Label.SOFT)
    here = remove(s, mask_of(painted | (voxels(s.face) > 0), s.image))
    assert here[painted].mean() > 0.5


def test_an_empty_mask_removes_nothing():
    s = case("frontal")
    assert not remove(s, s.face * 0, margin_mm=5).any()


@pytest.mark.parametrize("choices", [dict(), dict(with_ears=True), dict(keep_bone=True)], ids=str)
def test_region_is_a_mask_on_the_grid_of_the_volume(choices):
    s = case("frontal")
    region = s.region(**choices)
    assert region.GetPixelID() == sitk.sitkUInt8
    assert set(np.unique(voxels(region))) == {0, 1}
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(region, get)() == getattr(s.image, get)()


# ----------------------------------------------------------------------------------------------- out through the air


@pytest.mark.parametrize("name", OPEN_IN_FRONT)
def test_outer_boundary_is_a_cylinder_in_air(name):
    s = case(name)
    along = rays(s, inside(s.region())) == 1
    last = outermost(along)
    assert along.any(axis=-1).all()
    hu = rays(s, s.hu)
    in_volume = last < outermost(hu != -1) - 4
    assert in_volume.mean() > 0.5
    assert np.ptp(last[in_volume]) < 2.5 * max(s.image.GetSpacing())
    beyond = hu[..., int(last.min()) - 20 :]
    assert beyond[beyond != -1].max() < -850


@pytest.mark.parametrize("name", [*OPEN_IN_FRONT, "metal", "open_mouth_tube"])
def test_nothing_stays_in_front_of_the_inner_boundary(name):
    s = case(name)
    along = rays(s, inside(s.region())) == 1
    since = np.maximum.accumulate(along, axis=-1)
    until = np.maximum.accumulate(along[..., ::-1], axis=-1)[..., ::-1]
    skin = rays(s, s.labelled(Label.FACE_SKIN)) == 1
    below_skin = np.maximum.accumulate(skin[..., ::-1], axis=-1)[..., ::-1]
    left = ~along & since & until
    assert along.any(axis=-1).all()
    assert not (left & ~below_skin & skin.any(axis=-1, keepdims=True)).any()
    steps = np.arange(along.shape[-1]) < along.argmax(axis=-1)[..., None] + 10
    assert (left & ~steps).sum() < 5e-3 * along.sum(), "but for steps of voxels"


@pytest.mark.parametrize("name", ["frontal", "brain_fov", "neck", "child"])
def test_no_rim_of_the_skin_is_left(name):
    s = case(name)
    here = inside(s.region())
    filled = voxels(fill_region(s.image, s.region(), fill="air", seed=1))
    height, angle, _ = polar(s)
    front = here & (np.abs(angle) < 50) & (height < 0)
    assert filled[front].max() < -850
    rim = front & (s.hu > -990) & (s.hu < -300)
    assert rim.sum() > 500
    assert abs(np.corrcoef(filled[rim], s.hu[rim])[0, 1]) < 0.1


def test_inner_boundary_does_not_follow_the_features():
    s = case("frontal")
    skin = outermost(rays(s, s.labelled(Label.FACE_SKIN)) == 1)
    features = skin - ndimage.gaussian_filter(skin, 2)
    inner = (rays(s, inside(s.region())) == 1).argmax(axis=-1).astype(float)
    dents = inner - ndimage.gaussian_filter(inner, 2)
    assert np.corrcoef(features.ravel(), dents.ravel())[0, 1] < 0.5


@pytest.mark.parametrize("depth_mm", [4.0, DEPTH_MM["standard"], 18.0])
def test_the_region_starts_at_its_depth(depth_mm):
    s = case("neck")
    here, surface = inside(s.region(depth_mm)), s.surface(depth_mm)
    well_inside = (surface.outline > 25.0) & s.cylinder.skin_in_view
    ground = surface.inner[well_inside] - np.minimum(surface.skin, s.cylinder.skin)[well_inside]
    assert np.median(ground) == pytest.approx(-depth_mm, abs=0.35 * depth_mm)
    height, angle, radius = polar(s)
    front = here & (np.abs(angle) < 30) & (height < -20) & (height > -80)
    assert (s.hu[front] > TISSUE_HU).sum() > 1000


def test_the_outline_is_the_same_on_both_sides():
    outline = case("neck").cylinder.outline
    assert np.array_equal(outline, outline[:, ::-1])


def test_what_lies_below_a_mask_above_the_jaw_is_left():
    s = case("neck")
    height, _, _ = polar(s)
    upper = voxels(s.face) * (height > -60)
    region = remove(s, mask=mask_of(upper, s.image))
    assert height[region].min() > -80


# ---------------------------------------------------------------------------------------------------------- choices


def test_keep_bone_keeps_the_facial_skeleton():
    s = case("frontal")
    bone = ndimage.binary_erosion(s.labelled(Label.BONE)) & (s.hu > 300)
    all_, kept = inside(s.region()), inside(s.region(keep_bone=True))
    assert (all_ & bone).sum() > 1000
    assert (kept & bone).sum() < 0.05 * (all_ & bone).sum()
    skin = s.labelled(Label.FACE_SKIN)
    assert (kept & skin).sum() > 0.98 * (all_ & skin).sum()


def test_the_ears_are_replaced_when_asked_for():
    s = case("frontal")
    without, with_ears = inside(s.region()), inside(s.region(with_ears=True))
    height, angle, radius = polar(s)
    eye = s.cylinder.landmarks.eye_height
    skin = s.cylinder.landmarks.smooth_skin
    ears = (s.hu > TISSUE_HU) & (np.abs(np.abs(angle) - 97) < 15) & (np.abs(height - eye + 20) < 25)
    ears &= radius > skin[:, 44].max() - 20
    assert with_ears[ears].mean() > 0.8 > 0.3 > without[ears].mean()


def test_margins_grow_the_region():
    s = case("frontal")
    grown = [inside(s.region(margin_mm=margin)) & (s.hu > TISSUE_HU) for margin in (0.0, 3.0, 6.0, 12.0)]
    for small, large in zip(grown, grown[1:]):
        assert large.sum() > small.sum()


@pytest.mark.parametrize("padding", [-1024, -2048, -3024])
def test_what_lies_outside_the_field_of_view_is_left_alone(padding):
    s = scan(padding=padding, position=(30, -38))
    here = inside(s.region())
    assert (s.hu == padding).any()
    assert not (here & (s.hu == padding)).any()
    near = ndimage.binary_dilation(here, iterations=2)
    assert (near & (s.hu == padding)).any(), "the region reaches the padding"


def test_air_with_the_value_of_the_padding_is_removed_all_the_same():
    """Air cut off at the padding's value: left alone it would draw the face."""
    s = scan(padding=-2048, position=(30, -38))
    image = sitk.Maximum(s.image, -1003)
    well_within = ndimage.binary_erosion(s.hu > -2048, iterations=6)
    thin = (voxels(image) == -1003) & well_within
    here = segmented_and_removed(image)
    around = ndimage.binary_erosion(ndimage.binary_closing(here, iterations=3), iterations=4)
    assert (thin & around).sum() > 5000
    assert here[thin & around].mean() > 0.99


@pytest.mark.parametrize("padding", [-1024, -2048])
@pytest.mark.parametrize("person", [1, 3])
def test_a_round_field_of_view_that_cuts_the_forehead_off_does_not_open_the_brain(person, padding):
    s = scan(person=person, padding=padding, position=(10, -50))
    assert_brain_is_left(s.image, s.labelled(Label.INTRACRANIAL))


@pytest.mark.parametrize("padding", [-1024, -3024])
@pytest.mark.parametrize(
    "name, radius_mm, forward_mm, left_mm",
    [
        ("frontal", 60, 50, 0),
        ("frontal", 60, 30, 0),
        ("frontal", 54, 78, -25),
        ("neck", 80, 0, 0),
        ("neck", 66, 41, 39),
        ("craniectomy", 95, 50, 0),
        ("craniectomy", 75, 0, 0),
        ("craniectomy", 75, 50, 0),
        ("chin_down", 75, 82, -5),
        ("turned_left", 63, 66, -47),
    ],
)
def test_a_round_field_of_view_that_ends_within_the_brain_does_not_open_it(
    name, radius_mm, forward_mm, left_mm, padding
):
    s = case(name)
    image, seen = small_view(s, radius_mm, forward_mm, padding, left_mm)
    assert_brain_is_left(image, s.labelled(Label.INTRACRANIAL) & seen)


@settings(max_examples=12, deadline=None)
@given(
    person=st.integers(0, 3),
    tilt=st.floats(-0.6, 0.6),
    turn=st.floats(-0.6, 0.6),
    cut_mm=st.floats(2.0, 20.0),
    padding=st.sampled_from([-3024, -2000, -1024, 0]),
)
def test_padding_that_cuts_obliquely_into_the_brain_does_not_open_it(person, tilt, turn, cut_mm, padding):
    s = scan(person=person)
    brain = s.labelled(Label.INTRACRANIAL)
    z, y, x = np.indices(brain.shape) * np.reshape(s.image.GetSpacing()[::-1], (3, 1, 1, 1))
    behind = y + tilt * z + turn * x
    cut = behind < behind[brain].min() + cut_mm
    image = sitk.GetImageFromArray(np.where(cut, padding, s.hu))
    image.CopyInformation(s.image)
    assert_brain_is_left(image, brain & ~cut)


@pytest.mark.parametrize("first", range(59, 63))
def test_the_last_slice_of_a_volume_is_removed_as_well(first):
    """A head cut in the middle of its face: the cut would draw the profile."""
    image = scan(person=1).image[first:, :, :]
    here = segmented_and_removed(image)
    in_slices = here.sum(axis=(0, 1))
    assert in_slices[0] > 0.8 * in_slices[3] > 0


def assert_brain_is_left(image, brain):
    """A view that hides the face may be refused: nothing is changed then."""
    try:
        here = segmented_and_removed(image)
    except NoFaceError:
        return
    assert (here & (voxels(image) > TISSUE_HU)).sum() > 1000
    assert not (here & brain).any()


def test_volume_is_not_changed():
    s = case("frontal")
    image, face = sitk.Image(s.image), sitk.Image(s.face)
    remove(s, margin_mm=5, keep_bone=True)
    assert np.array_equal(voxels(image), voxels(s.image)) and np.array_equal(voxels(face), voxels(s.face))
