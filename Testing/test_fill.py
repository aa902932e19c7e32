"""Filling the region: nothing else changes, and what is new looks like this scanner's own air and tissue."""

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import case, mask_of, scan, voxels
from CTDefaceLib.anatomy.grids import sampled, values_at, whole
from CTDefaceLib.anatomy.hounsfield import OUTSIDE_HU
from CTDefaceLib.errors import InputError
from CTDefaceLib.phantom import Label
from CTDefaceLib.removal.fill import FILLS, fill_region, skin_layers
from CTDefaceLib.removal.surface import slope
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

TYPES = [np.int16, np.int32, np.uint16, np.float32, np.float64]


def block_of(mask):
    """The part of an array that holds all of a mask."""
    where = np.argwhere(mask)
    return tuple(slice(a, b + 1) for a, b in zip(where.min(axis=0), where.max(axis=0)))


def correlation(values, mask, axis):
    """Correlation of neighbours along an axis."""
    size = values.shape[axis]
    near, far = (np.take(values, range(i, size - 1 + i), axis) for i in (0, 1))
    both = np.take(mask, range(size - 1), axis) & np.take(mask, range(1, size), axis)
    return np.corrcoef(near[both], far[both])[0, 1]


def open_air(s):
    """Air of a synthetic scan, away from the head, its holder and the rim of the field of view."""
    rows, columns = s.hu.shape[1:]
    y, x = np.ogrid[:rows, :columns]
    inside = np.hypot(y - rows / 2 + 0.5, x - columns / 2 + 0.5) < columns / 2 - 3
    return ndimage.binary_erosion(s.labelled(Label.AIR), iterations=4) & inside


def filled_with_air(seed=0, **changes):
    """A scan, where its region is, its fill, and where its own air is."""
    s = scan(**changes)
    region = s.region()
    here = voxels(region) > 0
    return s, here, voxels(fill_region(s.image, region, fill="air", seed=seed)).astype(float), open_air(s) & ~here


@st.composite
def volumes(draw):
    """A small volume with air, tissue and bone, and a region in it."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 60), st.integers(1, 60)))
    dtype = draw(st.sampled_from(TYPES))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    hu = rng.normal(-1000, 12, shape)
    tissue = np.indices(shape)[2] > draw(st.integers(0, 60))
    hu[tissue] = rng.choice([30, 60, 900], tissue.sum())
    image = sitk.GetImageFromArray(np.maximum(hu, 0).astype(dtype) if dtype is np.uint16 else hu.astype(dtype))
    image.SetSpacing(draw(st.tuples(*[st.floats(0.3, 5)] * 3)))
    image.SetOrigin((12.5, -30, 7))
    image.SetDirection((0, 1, 0, 0, 0, -1, -1, 0, 0))
    corners = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    region = np.zeros(shape, bool)
    region[tuple(slice(a, b) for a, b in corners)] = True
    return image, mask_of(region & (rng.random(shape) < 0.9), image)


# ------------------------------------------------------------------------------------------------ whatever the fill is


@settings(max_examples=60, deadline=None)
@given(volumes(), st.sampled_from(FILLS), st.integers(0, 5))
def test_only_the_region_changes(volume, fill, seed):
    image, region = volume
    before = voxels(image)
    out = fill_region(image, region, fill=fill, seed=seed)
    assert out.GetPixelID() == image.GetPixelID()
    for get in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(out, get)() == getattr(image, get)()
    assert np.array_equal(voxels(image), before)
    outside = voxels(region) == 0
    assert voxels(out)[outside].tobytes() == before[outside].tobytes()
    assert np.isfinite(voxels(out)).all()


def test_other_values_of_the_mask_count_too():
    s = scan()
    a = fill_region(s.image, s.region(), fill="constant")
    b = fill_region(s.image, s.region() * 255, fill="constant")
    assert np.array_equal(voxels(a), voxels(b))


@pytest.mark.parametrize("fill", FILLS)
def test_an_empty_region_changes_nothing(fill):
    s = scan()
    assert np.array_equal(voxels(fill_region(s.image, s.region() * 0, fill=fill)), s.hu)


@pytest.mark.parametrize("fill", ["", "Air", "zeros"])
def test_unknown_fill_is_refused(fill):
    s = scan()
    with pytest.raises(InputError, match="smooth, face, air, constant, percentile, blur"):
        fill_region(s.image, s.region(), fill=fill)


# ------------------------------------------------------------------------------------------------------------ air


def test_a_seed_is_reproducible_and_another_is_not():
    s = scan()
    region = s.region()
    here = voxels(region) > 0
    one, same, other, any_, again = (
        voxels(fill_region(s.image, region, fill="air", seed=seed))[here].astype(float)
        for seed in (1, 1, 2, None, None)
    )
    assert np.array_equal(one, same)
    for a, b in ((one, other), (any_, again), (one, any_)):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("changes", [dict(noise=30), dict(clip=-1000), dict(clip=-1000, noise=30)], ids=str)
def test_values_of_air(changes):
    s, here, filled, air = filled_with_air(**changes)
    assert filled[here].mean() == pytest.approx(s.hu[air].mean(), abs=0.1 * s.hu[air].std())
    assert np.percentile(filled[here], [2, 25, 50, 75, 98]) == pytest.approx(
        np.percentile(s.hu[air], [2, 25, 50, 75, 98]), abs=max(1, 0.1 * s.hu[air].std())
    )


def test_clipped_air_stays_clipped():
    s, here, filled, air = filled_with_air(clip=-1000)
    assert filled[here].min() == -1000
    assert (filled[here] == -1000).mean() == pytest.approx((s.hu[air] == -1000).mean(), abs=0.05)


@pytest.mark.slow
def test_texture_of_air():
    s, here, filled, air = filled_with_air(matrix=(256, 256), spacing=(1.0, 1.0, 3.0))
    assert filled[here].std() == pytest.approx(s.hu[air].std(), rel=0.1)
    for axis in (1, 2):
        assert correlation(s.hu.astype(float), air, axis) > 0.3, "this air has a texture"
        assert correlation(filled, here, axis) == pytest.approx(correlation(s.hu.astype(float), air, axis), abs=0.15)
    assert abs(correlation(filled, here, 0) - correlation(s.hu.astype(float), air, 0)) < 0.15


def test_slices_that_belong_together_stay_together():
    rng = np.random.default_rng(0)
    hu = ndimage.gaussian_filter(rng.normal(0, 100, (30, 90, 90)), (1.0, 0.6, 0.6)) - 1000
    image = sitk.GetImageFromArray(hu.astype(np.float32))
    here = np.zeros(hu.shape, bool)
    here[2:28, 50:85, 5:85] = True
    filled = voxels(fill_region(image, mask_of(here, image), fill="air", seed=0)).astype(float)
    assert filled[here].std() == pytest.approx(hu[~here].std(), rel=0.1)
    for axis in range(3):
        assert correlation(filled, here, axis) == pytest.approx(correlation(hu, ~here, axis), abs=0.1)


@pytest.mark.slow
def test_no_constant_runs_and_no_repeated_patches():
    s, here, filled, _ = filled_with_air(noise=30)
    runs = sliding_window_view(filled, 6, axis=2)
    whole = sliding_window_view(here, 6, axis=2).all(axis=-1)
    assert not (np.ptp(runs[whole], axis=-1) == 0).any()
    patches = sliding_window_view(filled, (4, 4), axis=(1, 2)).reshape(-1, 16)
    whole = sliding_window_view(here, (4, 4), axis=(1, 2)).all(axis=(-2, -1)).ravel()
    inside = patches[whole].astype(np.int16)
    assert len(np.unique(inside, axis=0)) == len(inside) > 10000
    scanned = sliding_window_view(s.hu, (4, 4), axis=(1, 2)).reshape(-1, 16)
    assert not set(map(bytes, inside)) & set(map(bytes, np.ascontiguousarray(scanned)))


def test_neither_seams_nor_slices_stand_out():
    _, here, filled, _ = filled_with_air(noise=30)
    means = np.array([one[where].mean() for one, where in zip(filled, here) if where.sum() > 500])
    assert means.std() < 1.5
    box = block_of(here)
    rows = np.array([filled[box][:, i][here[box][:, i]].mean() for i in range(5, 60)])
    assert rows.std() < 1.5


def test_types_hold_the_same_air():
    s = scan(noise=30)
    region = s.region()
    here = voxels(region) > 0
    whole = voxels(fill_region(s.image, region, fill="air", seed=3))[here]
    real = voxels(fill_region(sitk.Cast(s.image, sitk.sitkFloat32), region, fill="air", seed=3))[here]
    assert np.abs(whole - real).max() <= 1


def test_float_air_is_not_rounded():
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.normal(-1000, 0.2, (4, 80, 80)).astype(np.float32))
    here = np.zeros((4, 80, 80), bool)
    here[1:3, 40:70, 10:70] = True
    filled = voxels(fill_region(image, mask_of(here, image), fill="air", seed=0))[here]
    assert 0.15 < filled.std() < 0.25
    assert len(np.unique(filled)) > 500


def test_even_air_stays_even():
    image = sitk.Image([80, 80, 4], sitk.sitkInt16) - 1000
    image[60:, :, :] = 50
    here = np.zeros((4, 80, 80), bool)
    here[:, 20:60, 20:75] = True
    filled = voxels(fill_region(image, mask_of(here, image), fill="air"))
    assert (filled[here] == -1000).all()


# ---------------------------------------------------------------------------------------------------- a smooth head


def filled_smoothly(s, image=None, **choices):
    image = s.image if image is None else image
    return voxels(fill_region(image, s.region(), s.surface(), fill="smooth", **choices)).astype(float)


@pytest.mark.parametrize("thick_mm", [1.0, 3.0, 6.0])
def test_no_staircase_at_any_level(thick_mm):
    """Where the new skin lies at a level is as smooth as the skin itself, whatever the slices."""
    s = scan(person=4, field_of_view="neck", matrix=(160, 160), spacing=(1.5, 1.5, thick_mm), noise=1.0)
    filled = sitk.GetImageFromArray(filled_smoothly(s, seed=0))
    filled.CopyInformation(s.image)
    surface = s.surface()
    steps = np.arange(6.0, -6.1, -0.2)
    along = values_at(filled, s.cylinder.points(surface.skin[..., None] + steps))
    deep = (surface.outline > 20.0) & s.cylinder.skin_in_view & (slope(surface.skin) < 1.2)
    for level in (-900, -700, -500, -300, -100):
        place = steps[np.argmax(along > level, axis=-1)]
        assert place[deep].std() < 0.25 * max(1.5, thick_mm) ** 0.5 + 0.1, level


def test_layers_are_those_beside_the_face():
    s = scan(person=2, noise=2.0)
    layers = skin_layers(s.image, s.surface())
    assert -100 < layers[:8].min() < -50, "the phantom's fat"
    assert 30 < layers[-1] < 70, "its muscle"


@pytest.mark.slow
def test_noise_of_tissue_is_this_scanners():
    for noise in (12.0, 30.0):
        s = scan(person=2, noise=noise)  # noise grows towards the brain, in which it is measured
        filled = voxels(fill_region(s.image, s.region(18.0), s.surface(18.0), seed=0)).astype(float)
        below = sampled(s.surface(18.0).below, s.cylinder.head, s.image, whole(s.image))
        reach = sampled(s.surface(18.0).reach, s.cylinder.head, s.image, whole(s.image))
        here = (reach > 6.0) & (below > 7.0) & (below < 13.0)
        brain = ndimage.binary_erosion(s.labelled(Label.INTRACRANIAL), iterations=4)
        rough, usual = (
            np.std((values - ndimage.uniform_filter(values, (1, 3, 3)))[mask])
            for values, mask in ((filled, here), (s.hu.astype(float), brain))
        )
        assert here.sum() > 500
        assert rough == pytest.approx(usual, rel=0.4)


def test_a_smooth_head_has_no_hole_in_it():
    s = case("frontal")
    filled, surface = filled_smoothly(s, seed=0), s.surface()
    image = sitk.GetImageFromArray(filled)
    image.CopyInformation(s.image)
    just_below = values_at(image, s.cylinder.points(surface.skin - 4.0))
    deep = (surface.outline > 10.0) & s.cylinder.skin_in_view
    in_volume = deep & (just_below > OUTSIDE_HU / 2)
    assert just_below[in_volume].min() > -400


def test_the_seed_makes_a_smooth_head_repeatable():
    s = case("frontal")
    one, same, other = (filled_smoothly(s, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_values_stay_in_the_range_of_the_volume():
    s = case("metal")
    filled = filled_smoothly(s, sitk.Clamp(s.image, sitk.sitkInt16, -1000, 200))
    here = voxels(s.region()) > 0
    assert filled[here].min() >= -1000 and filled[here].max() <= 200


def test_metal_ends_without_a_bright_edge():
    s = case("metal")
    here = voxels(s.region()) > 0
    filled = filled_smoothly(s, seed=0)
    edge = here & ~ndimage.binary_erosion(here, iterations=1)
    inner = ndimage.binary_erosion(here, iterations=4)
    assert filled[inner].max() < 400
    assert filled[edge & (s.hu < 300)].max() < 400


# ------------------------------------------------------------------------------------------------- for comparison


@settings(max_examples=10, deadline=None)
@given(st.floats(-3000, 4000))
def test_constant_is_clipped_to_the_range_of_the_volume(value):
    s = scan()
    region = s.region()
    filled = voxels(fill_region(s.image, region, fill="constant", constant=value))
    assert (filled[voxels(region) > 0] == round(np.clip(value, s.hu.min(), s.hu.max()))).all()


@pytest.mark.parametrize("percentile", [0, 10, 66.6, 100])
def test_percentile_of_the_whole_volume(percentile):
    s = scan()
    region = s.region()
    filled = voxels(fill_region(s.image, region, fill="percentile", percentile=percentile))
    assert (filled[voxels(region) > 0] == np.rint(np.percentile(s.hu, percentile))).all()


@pytest.mark.parametrize("blur_mm", [4.0, 10.0])
def test_blur_is_gaussian_in_millimetres(blur_mm):
    s = scan(spacing=(2.0, 2.0, 4.0))
    region = s.region()
    here = voxels(region) > 0
    filled = voxels(fill_region(s.image, region, fill="blur", blur_mm=blur_mm)).astype(float)
    truth = ndimage.gaussian_filter(s.hu.astype(float), [blur_mm / n for n in (4.0, 2.0, 2.0)], mode="nearest")
    assert np.abs(filled - truth)[here].mean() < 15
    assert np.corrcoef(filled[here], truth[here])[0, 1] > 0.995
