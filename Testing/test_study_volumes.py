"""Volume files of one head: companions, several time points, and masks made elsewhere."""

import json
import struct

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import scan, voxels
from CTDefaceLib.commands.main import main
from CTDefaceLib.errors import InputError
from CTDefaceLib.study.time_series import join_times, time_points, time_series, write_time_series
from CTDefaceLib.study.volumes import read_mask
from test_study import mr, sharp, turned


def joined(images, path):
    """Volumes as the time points of a file."""
    sitk.WriteImage(sitk.JoinSeries(list(images)), str(path))


def small(number: int) -> sitk.Image:
    rng = np.random.default_rng(number)
    image = sitk.GetImageFromArray(rng.integers(-1000, 2000, (4, 5, 6)).astype(np.int16))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((-5.0, 7.0, 9.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    return image


# -------------------------------------------------------------------------------------------------- several time points


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_time_points_are_read_and_written_one_by_one(tmp_path, ending):
    path, copy = tmp_path / f"p{ending}", tmp_path / f"copy{ending}"
    joined(map(small, range(3)), path)
    series = time_series(path)
    assert series is not None and series.count == 3
    for number, image in enumerate(time_points(series)):
        wanted = small(number)
        assert np.array_equal(voxels(image), voxels(wanted))
        for of in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert np.allclose(getattr(image, of)(), getattr(wanted, of)(), atol=1e-4)
    write_time_series(series, copy, lambda image: (voxels(image) > 1500, np.full((voxels(image) > 1500).sum(), -1000)))
    before, after = (sitk.ReadImage(str(one)) for one in (path, copy))
    assert np.allclose(after.GetDirection(), before.GetDirection(), atol=1e-6) and after.GetSize() == before.GetSize()
    assert np.array_equal(voxels(after), np.where(voxels(before) > 1500, -1000, voxels(before)))


def test_scaled_values_and_free_text(tmp_path):
    path, copy = tmp_path / "p.nii", tmp_path / "copy.nii"
    joined(map(small, range(2)), path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2f", content, 112, 0.5, -24.0)
    content[148:156] = b"Doe^Jane"
    path.write_bytes(content)
    series = time_series(path)
    first = next(time_points(series))
    assert np.allclose(voxels(first), voxels(small(0)) * 0.5 - 24.0)
    write_time_series(series, copy, lambda image: (voxels(image) > 700.0, np.zeros((voxels(image) > 700.0).sum())))
    assert b"Doe" not in copy.read_bytes()
    stored = np.frombuffer(copy.read_bytes()[352:], "<i2").reshape(2, 4, 5, 6)
    assert np.array_equal(stored[0], np.where(voxels(first) > 700.0, 48, voxels(small(0))))


def test_other_files_are_no_time_series(tmp_path):
    sitk.WriteImage(small(0), str(tmp_path / "one.nii.gz"))
    (tmp_path / "no.nii.gz").write_bytes(b"\x1f\x8b")
    for name in ("one.nii.gz", "no.nii.gz", "missing.nii"):
        assert time_series(tmp_path / name) is None


def test_time_points_lie_where_their_header_or_the_user_says(tmp_path):
    """As a single volume does; both transforms stay in what is written."""
    path, copy = tmp_path / "p.nii", tmp_path / "copy.nii"
    joined(map(small, range(2)), path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<2h", content, 252, 0, 0)
    path.write_bytes(content)
    with pytest.raises(InputError, match="--orientation"):
        next(time_points(time_series(path)))
    series = time_series(path, orientation="LPS")
    image = next(time_points(series))
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1) and np.allclose(image.GetSpacing(), (1, 2, 3))
    write_time_series(series, copy, lambda image: (voxels(image) > 700, np.zeros((voxels(image) > 700).sum())))
    assert copy.read_bytes()[252:328] == path.read_bytes()[252:328]
    content[40:50] = struct.pack("<5h", 4, 6, 5, 4, 32767)
    for odd in (bytes(content), bytes(content[:108]) + struct.pack("<f", float("nan")) + bytes(content[112:])):
        path.write_bytes(odd)
        with pytest.raises(InputError, match="truncated"):
            next(time_points(time_series(path, orientation="LPS")))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_volumes_become_time_points(tmp_path, ending):
    path = tmp_path / f"p{ending}"
    join_times(map(small, range(3)), 3, path, 1.5)
    whole = sitk.ReadImage(str(path))
    assert whole.GetSize() == (6, 5, 4, 3) and whole.GetSpacing()[3] == 1.5 and whole.GetPixelID() == sitk.sitkInt16
    for number, image in enumerate(time_points(time_series(path))):
        assert np.array_equal(voxels(image), voxels(small(number))) and np.allclose(
            image.GetOrigin(), small(0).GetOrigin(), atol=1e-4
        )
    with pytest.raises(InputError, match="as .nii or .nii.gz"):
        join_times([small(0)], 1, tmp_path / "p.nrrd")


@pytest.mark.parametrize("spoil", [lambda b: b[:-60], lambda b: b[:-400] + bytes(60) + b[-340:]])
def test_damaged_time_series_are_refused(tmp_path, spoil):
    path = tmp_path / "p.nii.gz"
    joined(map(small, range(3)), path)
    path.write_bytes(spoil(path.read_bytes()))
    series = time_series(path)
    with pytest.raises(InputError, match="truncated"):
        list(time_points(series))


@pytest.mark.slow
def test_a_perfusion_has_one_region_for_all_times(tmp_path, capsys):
    s = scan(field_of_view="upper_lip")
    rng = np.random.default_rng(0)
    times = [mask_like(s.hu + rng.normal(0, 5, s.hu.shape) + 20 * n * (s.hu > 300), s.image) for n in range(3)]
    joined(times, tmp_path / "p.nii.gz")
    command = ["deface", str(tmp_path / "p.nii.gz")]
    with pytest.raises(SystemExit):
        main([*command, str(tmp_path / "out.nrrd")])
    assert "written as .nii or .nii.gz" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "out.nii.gz")]) == 0
    before, after = (voxels(sitk.ReadImage(str(tmp_path / name))) for name in ("p.nii.gz", "out.nii.gz"))
    changed = before != after
    assert changed.any(axis=(1, 2, 3)).all()
    never = ~changed.any(axis=0)
    assert all(changed[n][~never].mean() > 0.9 for n in range(3))
    assert np.any(after[0] != after[1])
    assert "3 time points" in json.loads((tmp_path / "out.json").read_text())["warnings"][0]


def mask_like(values, image):
    out = sitk.GetImageFromArray(np.rint(values).astype(np.int16))
    out.CopyInformation(image)
    return out


# ------------------------------------------------------------------------------------------------ companions and masks


@pytest.mark.slow
def test_companions_get_the_same_face(tmp_path, capsys):
    sitk.WriteImage(scan().image, str(tmp_path / "head.nrrd"))
    sitk.WriteImage(sharp(), str(tmp_path / "sharp.nii.gz"))
    sitk.WriteImage(turned(mr())[0], str(tmp_path / "t1.nii.gz"))
    out = tmp_path / "out"
    out.mkdir()
    companions = [str(tmp_path / "sharp.nii.gz"), str(tmp_path / "t1.nii.gz")]
    assert main(["deface", str(tmp_path / "head.nrrd"), str(out / "head.nrrd"), "--companion", *companions]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "head.json", "head.nrrd", "sharp_defaced.nii.gz", "t1_defaced.nii.gz",
    ]  # fmt: skip
    ct, mri = json.loads((out / "head.json").read_text(encoding="utf-8"))["companions"]
    assert (ct["modality"], mri["modality"]) == ("CT", "MR") and mri["registered"]["agreement"] > 0.9
    head, kernel = (sitk.ReadImage(str(out / name)) for name in ("head.nrrd", "sharp_defaced.nii.gz"))
    one, two = voxels(head) != scan().hu, voxels(kernel) != voxels(sharp())
    assert (one & two).sum() > 0.97 * one.sum() and two.sum() < 1.1 * one.sum()


@pytest.mark.slow
def test_a_companion_of_somebody_else_stops_all(tmp_path, capsys):
    sitk.WriteImage(scan().image, str(tmp_path / "head.nrrd"))
    sitk.WriteImage(scan(person=5).image, str(tmp_path / "other.nrrd"))
    command = ["deface", str(tmp_path / "head.nrrd"), str(tmp_path / "out.nrrd")]
    assert main([*command, "--companion", str(tmp_path / "other.nrrd")]) == 1
    assert "could not be laid on the CT" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["head.nrrd", "other.nrrd"]


@pytest.mark.slow
def test_a_mask_made_elsewhere(tmp_path, capsys):
    s = scan(field_of_view="upper_lip")
    sitk.WriteImage(s.image, str(tmp_path / "head.nrrd"))
    coarse = sitk.BinShrink(sitk.Cast(s.face, sitk.sitkFloat32), [2, 2, 2]) > 0.5
    sitk.WriteImage(coarse * 7, str(tmp_path / "mask.nii.gz"))
    command = ["deface", str(tmp_path / "head.nrrd"), str(tmp_path / "out.nrrd"), "--apply-mask"]
    assert main([*command, str(tmp_path / "mask.nii.gz")]) == 0
    report = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert report["method"] == "mask" and report["facial_skin_covered"] > 0.9
    coarse.SetOrigin((900.0, 0.0, 0.0))
    sitk.WriteImage(coarse, str(tmp_path / "mask.nii.gz"))
    assert main([*command, str(tmp_path / "mask.nii.gz"), "--overwrite"]) == 1
    assert "lies outside the volume" in capsys.readouterr().err
    sitk.WriteImage(coarse * 0, str(tmp_path / "mask.nii.gz"))
    with pytest.raises(InputError, match="is empty"):
        read_mask(tmp_path / "mask.nii.gz")
