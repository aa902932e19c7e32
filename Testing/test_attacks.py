"""Each recovery attack wins back what a poor defacing leaves, and finds its region where it was filled."""

import numpy as np
import poor_defacings
import pytest
import SimpleITK as sitk
from CTDefaceEvalLib import attacks
from CTDefaceEvalLib.views import head_pose
from CTDefaceLib.phantom import PhantomParameters
from stored_phantoms import stored_phantom


@pytest.fixture(scope="module")
def head():
    """A phantom, its pose, and the shell that poor defacings take off, as bool (z, y, x)."""
    image = stored_phantom(PhantomParameters(person=3, spacing=(2.0, 2.0, 2.0), matrix=(110, 130))).image
    pose = head_pose(image)
    return image, pose, poor_defacings.face_shell(image, pose)


def filled(head, values):
    image, _, shell = head
    hu = sitk.GetArrayFromImage(image)
    return poor_defacings.with_values(image, np.where(shell, values, hu))


def region_of(recovery, defaced):
    """Voxels that the attack turned into tissue, on the grid of the defaced volume."""
    back = sitk.Resample(recovery.image, defaced, sitk.Transform(), sitk.sitkNearestNeighbor, -3000.0)
    return (sitk.GetArrayFromImage(back) >= -300) & (sitk.GetArrayFromImage(defaced) < -300)


def best_overlap(head, defaced, kind):
    """Dice coefficient of the shell with the best region that the attack found."""
    _, pose, shell = head
    gone = shell & (sitk.GetArrayFromImage(defaced) < -300)
    overlaps = [0.0]
    for recovery in attacks.recoveries(defaced, pose, (kind,)):
        region = region_of(recovery, defaced)
        overlaps.append(2.0 * (region & gone).sum() / (region.sum() + gone.sum()))
    return max(overlaps)


def noise(head, level, sd):
    return np.random.default_rng(7).normal(level, sd, head[2].shape)


def copied_air(head):
    hu = sitk.GetArrayFromImage(head[0])
    air = np.array(hu[10:40, :12, 20:90])
    repeats = [int(np.ceil(n / m)) for n, m in zip(hu.shape, air.shape)]
    return np.tile(air, repeats)[tuple(slice(n) for n in hu.shape)]


@pytest.mark.parametrize(
    ("kind", "fill"),
    [
        ("constant region", lambda head: -1000.0),
        ("low variance", lambda head: noise(head, -1000, 0.8)),
        ("high variance", lambda head: noise(head, -980, 60)),
        ("level", lambda head: noise(head, -930, 6)),
        ("repeats", copied_air),
    ],
)
def test_region_filled_is_found_by_the_attack_meant_for_it(head, kind, fill):
    assert best_overlap(head, filled(head, fill(head)), kind) > 0.75


def test_a_mask_of_one_value_is_given_back_to_the_voxel(head):
    """Thin as it is: no voxel of it is kept apart from noise by more than its value, and none more is needed."""
    image, pose, _ = head
    thin = image, pose, poor_defacings.face_shell(image, pose, 7.0)
    assert best_overlap(thin, filled(thin, -1000.0), "constant region") > 0.98


def test_fill_of_another_texture_is_found(head):
    image, pose, shell = head
    hu = sitk.GetArrayFromImage(image)
    grain = sitk.GetArrayFromImage(sitk.DiscreteGaussian(sitk.GetImageFromArray(noise(head, 0, 60)), 1.0))
    grainy = hu + grain
    white = noise(head, -1000, grain.std())
    defaced = poor_defacings.with_values(image, np.where(shell, white, grainy))
    assert best_overlap(head, defaced, "texture") > 0.6


def test_peel_takes_off_the_margin_that_was_added(head):
    image, pose, shell = head
    grown = poor_defacings.constant_filled(image, pose, grown_mm=6.0)
    tissue = sitk.GetArrayFromImage(image) >= -300
    errors = {}
    for recovery in attacks.recoveries(grown, pose, ("constant region",)):
        if recovery.name.startswith("constant region 1"):
            errors[recovery.name] = (region_of(recovery, grown) ^ (shell & tissue)).sum()
    assert errors["constant region 1, peel 3 mm"] < errors["constant region 1, peel 0 mm"]


def test_lowered_iso_shows_the_rim(head):
    image, pose, _ = head
    defaced = poor_defacings.rim_left(image, pose)
    names = [(recovery.name, recovery.iso) for recovery in attacks.recoveries(defaced, pose, ("lowered iso",))]
    assert names == [(f"lowered iso {iso:.0f}", iso) for iso in attacks.LOWERED_ISO]


def surface_error(image, iso, truth, where):
    """Share of the voxels of a zone that lie on the wrong side of the skin."""
    on_grid = sitk.GetArrayFromImage(sitk.Resample(image, truth, sitk.Transform(), sitk.sitkLinear, -3000.0)) >= iso
    return (on_grid ^ (sitk.GetArrayFromImage(truth) >= -300))[where].mean()


@pytest.mark.parametrize(
    ("kind", "deface"),
    [
        ("growth", lambda image, pose: poor_defacings.shaved(image, pose, 8.0)),
        ("deblurring", lambda image, pose: poor_defacings.blurred(image, pose, 6.0)),
    ],
)
def test_growth_and_deblurring_bring_the_skin_nearer(head, kind, deface):
    image, pose, shell = head
    defaced = deface(image, pose)
    plain = surface_error(defaced, -300, image, shell)
    recovered = [surface_error(r.image, r.iso, image, shell) for r in attacks.recoveries(defaced, pose, (kind,))]
    assert min(recovered) < 0.7 * plain


def cut_at_random(head, seed):
    """The face taken off to a depth that varies at random over the shell, air in its place."""
    image, _, shell = head
    rough = np.random.default_rng(seed).standard_normal(shell.shape).astype(np.float32)
    taken = shell & (sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(rough), 6.0)) > 0.0)
    return poor_defacings.with_values(image, np.where(taken, -1000, sitk.GetArrayFromImage(image)))


def test_series_that_were_cut_at_random_give_the_face_back_together(head):
    image, _, shell = head
    cuts = [cut_at_random(head, seed) for seed in range(4)]
    alone = surface_error(cuts[0], -300, image, shell)
    found = {recovery.name: recovery for recovery in attacks.joined(cuts[0], cuts[1:])}
    assert list(found) == [f"union of series, {how} of 4" for how in ("greatest", "least", "mean")]
    assert surface_error(found["union of series, greatest of 4"].image, -300, image, shell) < 0.2 * alone


def test_series_on_other_grids_are_joined_where_they_reach(head):
    """The half that a series does not cover is left to the others; tissue filled in over air goes by the least."""
    image, _, shell = head
    hu = sitk.GetArrayFromImage(image)
    air = ~(hu > -300) & np.roll(shell, 6, axis=1)
    puffed = poor_defacings.with_values(image, np.where(air, 40, hu))
    half = sitk.Resample(image, [n // 2 for n in image.GetSize()], sitk.Transform(), sitk.sitkLinear, image.GetOrigin())
    least = next(r for r in attacks.joined(puffed, [half]) if "least" in r.name)
    joined = sitk.GetArrayFromImage(least.image)
    z, y, x = (n // 2 for n in hu.shape)
    z, y, x = (int(n * 1.0 / s) for n, s in zip((z, y, x), image.GetSpacing()[::-1]))
    assert np.abs(joined - hu)[: z - 1, : y - 1, : x - 1].max() < 1e-3
    assert np.array_equal(joined[z + 2 :], sitk.GetArrayFromImage(puffed)[z + 2 :])


def test_only_what_the_camera_sees_is_attacked(head):
    image, pose, _ = head
    body = sitk.ConstantPad(image, [0, 0, 150], [0, 0, 0], -1000)
    cut = attacks.around_head(body, pose)
    assert cut.GetSize()[2] < image.GetSize()[2] + 40
    index = cut.TransformPhysicalPointToIndex([float(x) for x in pose.center])
    assert all(0 <= i < n for i, n in zip(index, cut.GetSize()))
