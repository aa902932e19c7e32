"""Values that are off Hounsfield units: by a lost intercept, or shifted, whatever marks what was not measured."""

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import scan
from CTDefaceLib.errors import InputError
from CTDefaceLib.scan import check_ct, in_hounsfield
from CTDefaceLib.value_scale import offset_of, sampled, without_padding
from examples import examples
from hypothesis import given
from hypothesis import strategies as st


def off(shift=0, padding=None, noise=0.0, name="upper_lip"):
    """A head whose values are shifted, with another value outside a circle."""
    hu = scan(field_of_view=name).hu.astype(np.int32)
    values = np.maximum(hu, -1024) + shift + np.rint(np.random.default_rng(1).normal(0, noise, hu.shape)).astype(int)
    if padding is not None:
        rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in hu.shape[1:]), indexing="ij")
        values[:, np.hypot(rows, columns) > 1] = padding
    return values


def image_of(values):
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((2.0, 2.0, 2.0))
    return image


@pytest.mark.parametrize("padding", [None, -32768, -3024, -2000, -1024, 0])
@pytest.mark.parametrize("lost", [1024, 1000])
def test_a_lost_intercept_is_found_by_the_bulk(padding, lost):
    values = off(lost, padding)
    image, notes = in_hounsfield(image_of(values))
    assert "1024 was subtracted" in notes[0]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), values - 1024)
    with pytest.raises(InputError, match="subtract 1024"):
        check_ct(image_of(values))


@pytest.mark.parametrize("padding", [None, -32768, -3024, -2000, -1024, 0, 3071])
@pytest.mark.parametrize("shift", [0, 60, -60])
def test_hounsfield_units_stay(padding, shift):
    values = off(shift, padding)
    image, notes = in_hounsfield(image_of(values))
    assert notes == () and np.array_equal(sitk.GetArrayFromImage(image), values)


@pytest.mark.parametrize(
    "padding, noise",
    [
        (None, 0.0),
        (-3024, 0.0),
        (-1000, 0.0),
        (None, 90.0),
        (-3024, 90.0),
        (-350, 0.0),
        (0, 20.0),
        (500, 0.0),
        (800, 0),
    ],
)
@pytest.mark.parametrize("shift", [-300, 200, 350, 600, 800])
def test_a_shift_is_named(shift, padding, noise):
    found = offset_of(sampled(image_of(off(shift, padding, noise))))
    assert abs(found - shift) <= 70
    with pytest.raises(InputError, match=f"shifted by about {found} .air near {found - 1000}, soft tissue near"):
        in_hounsfield(image_of(off(shift, padding, noise)))


def masked(values):
    """The background replaced by one value, as skull strippers and viewers do."""
    return np.where(values < -500, -1024, values)


PARTS = {
    "middle": np.s_[10:-10, 32:96, 32:96], "front": np.s_[:, :64], "left": np.s_[:, :, :64], "upper": np.s_[40:],
    "lower": np.s_[:30], "core": np.s_[20:50, 40:88, 40:88],
}  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("change", [lambda values: values, masked], ids=["as it is", "masked"])
def test_parts_of_heads_are_not_taken_for_shifted(part, change):
    assert offset_of(sampled(image_of(change(off())[PARTS[part]]))) == 0


@examples(30)
@given(
    shares=st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4), peaks=st.lists(st.integers(-1500, 3000), min_size=4)
)
def test_values_of_any_kind_end_in_a_number(shares, peaks):
    chance = np.random.default_rng(0)
    values = np.concatenate([chance.normal(at, 40, 1 + int(2000 * n)) for n, at in zip(shares, peaks)])
    assert -600 <= offset_of(np.sort(values.astype(np.float32))) <= 1600


def test_padding_is_what_many_have_and_nothing_lies_near():
    chance = np.random.default_rng(0).normal(0, 100, 10000)
    for marks, left in ([-3000.0], 10000), ([-3000.0, -2000.0], 10000), ([], 10000), ([-350.0, 500.0], 10000):
        values = np.sort(np.concatenate([chance, np.repeat(marks, 500)]).astype(np.float32))
        assert without_padding(values).size == left
    clipped = np.sort(np.maximum(chance, -100).astype(np.float32))
    assert without_padding(clipped).size == clipped.size
    assert without_padding(np.full(9, 5, np.float32)).size == 9


@pytest.mark.parametrize("name", ["head_ct_brain_fov.nii.gz", "head_ct_full_face_lowres.nii.gz"])
def test_real_heads(real_data, name):
    hu = sitk.GetArrayFromImage(sitk.ReadImage(str(real_data(name)))).astype(np.int32)
    for shift in (0, 300, 1024):
        assert abs(offset_of(sampled(image_of(np.maximum(hu, -1024) + shift))) - shift) <= 70 * (shift == 300)
