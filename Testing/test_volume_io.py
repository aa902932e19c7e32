import errno
import os
import re
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from CTDefaceLib import volume_io
from CTDefaceLib.dicom.tree import DAMAGED, read_tree
from CTDefaceLib.errors import InputError, OutputError
from CTDefaceLib.volume_io import Source, check_ct, read_ct, read_scan, write_volume, written_whole
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

FORMATS = (".nii", ".nii.gz", ".nrrd", ".mha")


def small_ct(size=(24, 20, 12), dtype=np.int16, direction=None, spacing=(0.8, 0.9, 2.5), origin=(-30.5, 12.25, 400.0)):
    """A ball of soft tissue in air with a core of bone, in HU."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in size[::-1]), indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    noise = np.random.default_rng(1).normal(0, 10, radius.shape)
    hu = np.maximum(np.where(radius < 0.4, 900, np.where(radius < 0.8, 40, -1000)) + noise, -1024)
    image = sitk.GetImageFromArray(np.round(hu).astype(dtype) if np.issubdtype(dtype, np.integer) else hu.astype(dtype))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(np.ravel(direction).tolist())
    return image


def like(image, values):
    out = sitk.GetImageFromArray(values)
    out.CopyInformation(image)
    return out


def values(image):
    return sitk.GetArrayFromImage(image)


def assert_same_volume(a, b, atol=1e-4):
    assert a.GetPixelID() == b.GetPixelID()
    assert a.GetSize() == b.GetSize()
    np.testing.assert_array_equal(values(a), values(b), strict=True)
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(a, get)(), getattr(b, get)(), atol=atol)


def refusal(path):
    """The sentence that refuses a path."""
    with pytest.raises(InputError) as caught:
        read_ct(path)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "\n" not in sentence and len(sentence) < 400
    assert "Doe" not in sentence and str(path) not in sentence
    return sentence


@pytest.fixture(autouse=True)
def _nothing_on_stderr(capfd, caplog):
    yield
    assert capfd.readouterr().err == "" and caplog.text == ""


# ------------------------------------------------------------------------------------------- what is read and written


def rotation(angles):
    return np.reshape(sitk.Euler3DTransform((0, 0, 0), *angles).GetMatrix(), (3, 3))


directions = st.builds(
    lambda order, flips, angles: rotation(angles) @ (np.eye(3)[list(order)] * flips),
    st.permutations(range(3)),
    st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    st.tuples(*[st.floats(-0.6, 0.6)] * 3) | st.just((0.0, 0.0, 0.0)),
)


@examples(60)
@given(
    ending=st.sampled_from(FORMATS),
    dtype=st.sampled_from([np.int16, np.int32, np.float32, np.float64]),
    direction=directions,
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    origin=st.tuples(*[st.floats(-1000, 1000)] * 3),
    overwrite=st.booleans(),
)
def test_round_trip_keeps_voxels_type_and_geometry(
    tmp_path_factory, ending, dtype, direction, spacing, origin, overwrite
):
    path = tmp_path_factory.mktemp("a folder with späces") / f"größe 1{ending}"
    image = small_ct((12, 11, 10), dtype, direction, spacing, origin)
    if overwrite:
        path.write_bytes(b"older")
    write_volume(image, path, overwrite=overwrite)
    assert_same_volume(read_ct(path), image, atol=2e-3 if "nii" in ending else 1e-6)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("ending", FORMATS)
def test_compression_follows_the_format(tmp_path, ending):
    image = small_ct((64, 64, 20))
    write_volume(image, tmp_path / f"v{ending}")
    raw = 2 * image.GetNumberOfPixels()
    assert ((tmp_path / f"v{ending}").stat().st_size < raw) == (ending != ".nii")


def test_masks_are_written_as_they_are(tmp_path):
    mask = sitk.Cast(small_ct() > 200, sitk.sitkUInt8)
    write_volume(mask, tmp_path / "mask.nrrd")
    assert_same_volume(sitk.ReadImage(str(tmp_path / "mask.nrrd")), mask)


def test_dicom_series_is_ordered_by_position_not_by_name(tmp_path):
    image = small_ct(direction=rotation((0.2, -0.1, 0.3)))
    dicom_files.write_series(tmp_path / "série äöü", image)
    (tmp_path / "série äöü" / "notes.txt").write_text("no slice")
    (tmp_path / "série äöü" / ".hidden").write_bytes(b"")
    assert_same_volume(read_ct(tmp_path / "série äöü"), image, atol=1e-3)


def test_old_files_without_preamble(tmp_path):
    image = small_ct()
    for path in dicom_files.write_series(tmp_path, image):
        header = pydicom.dcmread(path)
        header.preamble = None
        del header.file_meta
        header.save_as(path, implicit_vr=True, little_endian=True)
        assert path.read_bytes()[:4] == b"\x08\x00\x16\x00"
    assert_same_volume(read_ct(tmp_path), image)


def test_rescale_of_each_slice_is_applied(tmp_path):
    image = small_ct()
    paths = dicom_files.write_series(tmp_path, image)
    dicom_files.change(paths[5], RescaleSlope=0.5, RescaleIntercept=-1024)
    expected = values(image).astype(float)
    expected[5] = (expected[5] + 1024) * 0.5 - 1024
    result = read_ct(tmp_path)
    assert result.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_allclose(values(result), expected)


@pytest.mark.parametrize("name", ["head_ct_brain_fov.nii.gz", "head_ct_full_face_lowres.nii.gz"])
def test_real_scans_are_read_as_simpleitk_reads_them(real_data, name):
    assert_same_volume(read_ct(real_data(name)), sitk.ReadImage(str(real_data(name))))


@pytest.mark.slow
def test_real_dicom_is_read_as_simpleitk_reads_it(real_data, tmp_path):
    import zipfile

    zipfile.ZipFile(real_data("phantom_ct_dicom.zip")).extractall(tmp_path)
    folder = next(tmp_path.rglob("*.dcm")).parent
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    assert_same_volume(read_ct(folder), sitk.ReadImage(names))


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii"])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int16, np.float32])
def test_lost_rescale_intercept_is_restored_and_said(tmp_path, ending, dtype):
    image = small_ct()
    stored = np.clip(values(image).astype(np.int32) + 1024, 0, 4095)
    sitk.WriteImage(like(image, stored.astype(dtype)), str(tmp_path / f"v{ending}"))
    with pytest.raises(InputError, match="subtract 1024"):
        check_ct(like(image, stored.astype(dtype)))
    scan = read_scan(tmp_path / f"v{ending}")
    result = scan.image
    assert scan.source is Source.FILE and len(scan.notes) == 1 and "1024 was subtracted" in scan.notes[0]
    np.testing.assert_array_equal(values(result), stored - 1024)
    assert result.GetPixelID() == (sitk.sitkFloat32 if dtype is np.float32 else sitk.sitkInt16)


@pytest.mark.filterwarnings("error")
def test_what_the_reader_notes_comes_with_the_scan(tmp_path):
    dicom_files.write_series(tmp_path / "series", small_ct(), RescaleIntercept=0)
    scan = read_scan(tmp_path / "series")
    assert scan.source is Source.SERIES and "1024 was subtracted" in scan.notes[0]
    assert_same_volume(read_ct(tmp_path / "series"), scan.image)  # the simple call says nothing of it
    write_volume(small_ct(), tmp_path / "v.nrrd")
    assert read_scan(tmp_path / "v.nrrd").notes == ()


@pytest.mark.parametrize("slope, inter, stays_whole", [(1, -1024, True), (0.5, -1024, False), (1, -1024.5, False)])
def test_nifti_of_shifted_integers(tmp_path, slope, inter, stays_whole):
    image = small_ct()
    stored = np.clip((values(image) - inter) / slope, 0, 60000).astype(np.uint16)
    path = tmp_path / "v.nii"
    sitk.WriteImage(like(image, stored), str(path))
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, inter], "<f4").tobytes()
    path.write_bytes(content)
    result = read_ct(path)
    assert result.GetPixelID() == (sitk.sitkInt16 if stays_whole else sitk.sitkFloat32)
    np.testing.assert_allclose(values(result), stored.astype(float) * slope + inter)


def test_header_text_is_dropped(tmp_path):
    image = small_ct()
    image.SetMetaData("0010|0010", "Doe^Jane")
    image.SetMetaData("0008|0060", "CT")
    sitk.WriteImage(image, str(tmp_path / "v.nrrd"))
    result = read_ct(tmp_path / "v.nrrd")
    assert result.GetMetaDataKeys() == ()


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_four_axes_with_one_volume(tmp_path, ending):
    image = small_ct(direction=rotation((0, 0, 0.4)))
    sitk.WriteImage(sitk.JoinSeries([image]), str(tmp_path / f"v{ending}"))
    assert_same_volume(read_ct(tmp_path / f"v{ending}"), image)


def test_nrrd_with_a_list_of_one_component(tmp_path):
    image = small_ct()
    sitk.WriteImage(sitk.Compose(image, image), str(tmp_path / "v.nrrd"))
    header = (tmp_path / "v.nrrd").read_bytes().split(b"\n\n", 1)[0]
    header = header.replace(b"sizes: 2", b"sizes: 1")
    (tmp_path / "v.nrrd").write_bytes(header + b"\n\n" + values(image).tobytes())
    assert_same_volume(read_ct(tmp_path / "v.nrrd"), image)


@pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
def test_detached_header(tmp_path, ending):
    image = small_ct()
    sitk.WriteImage(image, str(tmp_path / f"v{ending}"))
    assert_same_volume(read_ct(tmp_path / f"v{ending}"), image)
    (tmp_path / "v.raw").unlink()
    assert "truncated, damaged" in refusal(tmp_path / f"v{ending}")


def test_gzip_of_several_members_is_whole(tmp_path):
    import gzip

    sitk.WriteImage(small_ct(), str(tmp_path / "v.nii"))
    content = (tmp_path / "v.nii").read_bytes()
    (tmp_path / "v.nii.gz").write_bytes(
        b"".join(gzip.compress(content[i : i + 1000]) for i in range(0, len(content), 1000))
    )
    assert_same_volume(read_ct(tmp_path / "v.nii.gz"), small_ct())


# ---------------------------------------------------------------------------------------------------- what is refused


def test_missing_path(tmp_path):
    assert "no such file" in refusal(tmp_path / "Doe.nii.gz")


def test_other_formats(tmp_path):
    (tmp_path / "v.png").write_bytes(b"\x89PNG")
    assert "neither a folder" in refusal(tmp_path / "v.png")
    path = dicom_files.write_series(tmp_path / "series", small_ct())[0]
    assert "single DICOM file" in refusal(path)


def test_folder_without_dicom(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    assert "no DICOM images" in refusal(tmp_path)


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("content", [b"", b"hello" * 300])
def test_empty_or_foreign_file(tmp_path, ending, content):
    (tmp_path / f"v{ending}").write_bytes(content)
    assert "truncated, damaged" in refusal(tmp_path / f"v{ending}")


@pytest.mark.parametrize("ending", FORMATS)
@examples(40)
@given(data=st.data())
def test_truncated_file(tmp_path_factory, ending, data):
    path = tmp_path_factory.mktemp("cut") / f"v{ending}"
    sitk.WriteImage(small_ct((12, 11, 10)), str(path), data.draw(st.booleans()) and ending != ".nii")
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    refusal(path)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
@examples(40)
@given(data=st.data())
def test_damaged_compressed_file(tmp_path_factory, ending, data):
    """A changed byte is noticed, or it changes nothing."""
    image = small_ct((12, 11, 10))
    path = tmp_path_factory.mktemp("damaged") / f"v{ending}"
    write_volume(image, path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(len(content) // 2, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with suppress(InputError):
        assert_same_volume(read_ct(path), image)


def test_not_3d(tmp_path):
    image = small_ct()
    sitk.WriteImage(image[:, :, 3], str(tmp_path / "flat.nrrd"))
    assert "single slice" in refusal(tmp_path / "flat.nrrd")
    sitk.WriteImage(image[:, :, 3:4], str(tmp_path / "one.nii"))
    assert "single slice" in refusal(tmp_path / "one.nii")
    sitk.WriteImage(sitk.JoinSeries([image, image]), str(tmp_path / "two.nii.gz"))
    assert "2 volumes" in refusal(tmp_path / "two.nii.gz")
    sitk.WriteImage(sitk.Compose([sitk.Cast(image, sitk.sitkUInt8)] * 3), str(tmp_path / "rgb.mha"))
    assert "colour" in refusal(tmp_path / "rgb.mha")
    for size in ((0, 4, 4), (4, 4, 1), (4, 4)):
        with pytest.raises(InputError):
            check_ct(sitk.Image(size, sitk.sitkInt16))
    with pytest.raises(InputError, match="four axes"):
        check_ct(sitk.JoinSeries([image]))
    with pytest.raises(InputError, match="complex"):
        check_ct(sitk.RealAndImaginaryToComplex(*[sitk.Cast(image, sitk.sitkFloat32)] * 2))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [(0, 0, 0), (7, 3, 5), (-1, -1, -1)])
def test_one_bad_voxel_is_found(dtype, bad, where):
    array = values(small_ct(dtype=dtype))
    array[where] = bad
    with pytest.raises(InputError, match="not a number or infinite"):
        check_ct(like(small_ct(), array))


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda hu: np.zeros_like(hu), "empty"),
        (lambda hu: np.clip(hu / 16 + 64, 0, 255).astype(np.uint8), "as in a picture"),
        (lambda hu: np.clip(hu / 16 + 64, 0, 255).astype(np.float32), "as in a picture"),
        (lambda hu: np.clip(hu, -100, 300), "no air"),
        (lambda hu: np.clip(hu, -1024, 100), "no bone"),
        (lambda hu: np.abs(hu), "no air"),
        (lambda hu: hu.astype(np.int32) * 200, "cannot be Hounsfield units"),
        (lambda hu: hu.astype(np.uint16), "cannot be Hounsfield units"),
        (lambda hu: np.random.default_rng(2).integers(0, 4096, hu.shape).astype(np.uint16), "no air"),
    ],
)
def test_values_that_are_not_hounsfield_units(tmp_path, change, words):
    image = small_ct()
    sitk.WriteImage(like(image, change(values(image))), str(tmp_path / "v.nrrd"))
    assert words in refusal(tmp_path / "v.nrrd")


def test_modality(tmp_path):
    image = small_ct()
    check_ct(image, "CT")
    check_ct(image, "")
    with pytest.raises(InputError, match="modality MR"):
        check_ct(image, "MR")
    dicom_files.write_series(tmp_path / "dicom", image, Modality="PT")
    assert "only image of modality PT (12)" in refusal(tmp_path / "dicom")

    write_volume(image, tmp_path / "v.nii.gz")
    (tmp_path / "v.json").write_text('{"Modality": "MR"}')
    assert "modality MR" in refusal(tmp_path / "v.nii.gz")
    (tmp_path / "v.json").write_text('["something else"]')
    read_ct(tmp_path / "v.nii.gz")

    image.SetMetaData("0008|0060", "MR")
    for ending in (".nrrd", ".mha"):
        sitk.WriteImage(image, str(tmp_path / f"tag{ending}"))
        assert "modality MR" in refusal(tmp_path / f"tag{ending}")
    image.EraseMetaData("0008|0060")
    image.SetMetaData("modality", "MR")
    sitk.WriteImage(image, str(tmp_path / "key.nrrd"))
    assert "modality MR" in refusal(tmp_path / "key.nrrd")
    sitk.WriteImage(small_ct(), str(tmp_path / "met.mha"))
    content = (tmp_path / "met.mha").read_bytes()
    (tmp_path / "met.mha").write_bytes(content.replace(b"NDims = 3", b"NDims = 3\nModality = MET_MOD_MR"))
    assert "modality MR" in refusal(tmp_path / "met.mha")


def test_geometry_that_is_no_grid_in_mm(tmp_path):
    sheared = small_ct(direction=[1, 0, 0, 0, 0.9, 0.3, 0, 0, 0.95])
    sitk.WriteImage(sheared, str(tmp_path / "v.mha"))
    assert "right angles" in refusal(tmp_path / "v.mha")
    sitk.WriteImage(small_ct(), str(tmp_path / "v.nii"))
    content = bytearray((tmp_path / "v.nii").read_bytes())
    content[252:256] = np.array([0, 1], "<i2").tobytes()  # no qform
    content[280:328] = np.array([[0.8, 0, 0, 0], [0, 0.9, 0.7, 0], [0, 0, 2.5, 0]], "<f4").tobytes()
    (tmp_path / "v.nii").write_bytes(content)
    assert "right angles" in refusal(tmp_path / "v.nii")
    for spacing in ((1e-3, 1e-3, 2e-3), (500.0, 500.0, 1250.0)):
        with pytest.raises(InputError, match="cannot be in mm"):
            check_ct(small_ct(spacing=spacing))


# ------------------------------------------------------------------------------------------------------ DICOM refusals


@examples(25)
@given(lost=st.sets(st.integers(0, 11), min_size=1, max_size=9))
def test_lost_slices(tmp_path_factory, lost):
    folder = tmp_path_factory.mktemp("series")
    image = small_ct(direction=rotation((0.3, 0.2, 0)))
    paths = dicom_files.write_series(folder, image)
    for index in lost:
        paths[index].unlink()
    left = sorted(set(range(12)) - lost)
    gaps = np.diff(left)
    if len(set(gaps)) == 1:  # nothing can tell
        if len(left) > 4:
            np.testing.assert_array_equal(values(read_ct(folder)), values(image)[left])
    else:
        sentence = refusal(folder)
        assert "missing" in sentence or "unevenly" in sentence or len(left) < 5 and "too few" in sentence


def test_one_missing_slice_is_named(tmp_path):
    dicom_files.write_series(tmp_path, small_ct())[4].unlink()
    assert "missing: 5.00 mm lie between slices 4 and 5 of 11 where 2.50 mm" in refusal(tmp_path)


def test_uneven_spacing(tmp_path):
    paths = dicom_files.write_series(tmp_path, small_ct())
    dicom_files.change(paths[-1], ImagePositionPatient=[-30.5, 12.25, 428.7])
    assert "unevenly spaced (from 2.50 to 3.70 mm)" in refusal(tmp_path)


def test_positions_rounded_to_a_tenth_are_even(tmp_path):
    image = small_ct(spacing=(0.8, 0.9, 0.625), origin=(0, 0, 0))
    for index, path in enumerate(dicom_files.write_series(tmp_path, image)):
        dicom_files.change(path, ImagePositionPatient=[0, 0, f"{index * 0.625:.1f}"])
    found = read_ct(tmp_path)
    assert found.GetSize() == image.GetSize() and found.GetSpacing()[2] == pytest.approx(0.625, abs=0.01)


def test_double_slices(tmp_path):
    paths = dicom_files.write_series(tmp_path, small_ct())
    dicom_files.change(paths[4], ImagePositionPatient=pydicom.dcmread(paths[5]).ImagePositionPatient)
    assert "1 of the 12 DICOM slices lie at the place of another one; write DICOM instead" in refusal(tmp_path)


def test_several_series_are_listed_without_patient_data(tmp_path):
    image = small_ct()
    for number in (12, 4):
        dicom_files.write_series(tmp_path / f"Doe {number}", image, SeriesNumber=number)
    dicom_files.write_series(tmp_path / "mr", image, Modality="MR")
    assert (
        "2 CT series: series 4 (CT, 12 slices), series 12 (CT, 12 slices); say which one, by its number (--series)"
        in (refusal(tmp_path))
    )
    scan = read_scan(tmp_path, "12")
    assert scan.left_out == ("series 4 (CT, 12 slices)", "image of modality MR (12)")
    assert_same_volume(scan.image, image)


def test_files_that_are_no_images_are_passed_over(tmp_path):
    image = small_ct()
    dicom_files.write_series(tmp_path, image)
    report = dicom_files.write_series(tmp_path / ".hidden", image)[0]
    pixels = dict.fromkeys(["PixelData", "Rows", "Columns", "BitsAllocated"])
    kind = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67", "Modality": "SR"}
    dicom_files.change(report, **kind, **pixels)
    report.rename(tmp_path / "dose.dcm")
    assert read_ct(tmp_path).GetSize() == image.GetSize()


@pytest.mark.slow
def test_slice_truncated_anywhere(tmp_path):
    """It blocks its own series, and all of them where it cannot be told which that is."""
    path = dicom_files.write_series(tmp_path, small_ct((12, 10, 2)))[0]
    content, told = path.read_bytes(), set()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:
            found = read_tree(tmp_path)
        except InputError as error:
            told.add(re.sub("[0-9]+", "1", str(error)))
        else:
            assert ("damaged file", str(path)) in found.others and not found.series
            told.add("")
    assert told == {"", DAMAGED.format(1, 1)}


def test_truncated_compressed_slice(tmp_path):
    image = small_ct((64, 64, 8))
    paths = dicom_files.write_series(tmp_path, image)
    for path in paths:
        header = pydicom.dcmread(path)
        header.compress(pydicom.uid.RLELossless)
        header.save_as(path)
    assert_same_volume(read_ct(tmp_path), image)
    content = paths[3].read_bytes()
    paths[3].write_bytes(content[:-200])
    assert "truncated" in refusal(tmp_path)


@pytest.mark.parametrize("degrees", [5, -17])
def test_gantry_tilt(tmp_path, degrees):
    dicom_files.write_series(tmp_path, small_ct(), tilt_degrees=degrees, GantryDetectorTilt=degrees)
    assert f"tilted by {abs(degrees):.1f} degrees" in refusal(tmp_path)


def test_tilt_that_the_axes_carry_is_none(tmp_path):
    image = small_ct(direction=rotation((0.3, 0, 0)))
    dicom_files.write_series(tmp_path, image, GantryDetectorTilt=17)
    assert read_ct(tmp_path).GetSize() == image.GetSize()


@pytest.mark.parametrize(
    "tags, words",
    [
        ({"ImagePositionPatient": None}, "missing"),
        ({"ImageOrientationPatient": None}, "missing"),
        ({"PixelSpacing": None}, "missing"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "missing"),
        ({"PixelSpacing": [2, 2]}, "missing"),
        ({"NumberOfFrames": 1, "SamplesPerPixel": 3}, "truncated"),
        ({"SeriesInstanceUID": "1.2.3"}, "missing"),
    ],
)
def test_one_slice_that_does_not_fit(tmp_path, tags, words):
    dicom_files.change(dicom_files.write_series(tmp_path, small_ct())[6], **tags)
    assert words in refusal(tmp_path)


def test_axes_that_are_none(tmp_path):
    dicom_files.write_series(tmp_path, small_ct(), ImageOrientationPatient=[1, 0, 0, 1, 0, 0])
    assert "where they lie" in refusal(tmp_path)


def test_colour_and_single_slices(tmp_path):
    image = small_ct()
    pixels = np.zeros((20, 24, 3), np.uint8).tobytes()
    for path in dicom_files.write_series(tmp_path / "colour", image):
        dicom_files.change(path, SamplesPerPixel=3, BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=pixels)
    assert "only capture in colour (12)" in refusal(tmp_path / "colour")
    dicom_files.write_series(tmp_path / "one", image[:, :, 3:4])
    assert "only slice of a stack of too few (1)" in refusal(tmp_path / "one")
    path = dicom_files.write_series(tmp_path / "frames", image[:, :, 3:4])[0]
    dicom_files.change(path, NumberOfFrames=12, PixelData=values(image).tobytes())
    assert "only picture without a place (1)" in refusal(tmp_path / "frames")


# ------------------------------------------------------------------------------------------------------------ writing


def test_nothing_is_overwritten_unless_told(tmp_path):
    (tmp_path / "v.nrrd").write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        write_volume(small_ct(), tmp_path / "v.nrrd")
    assert (tmp_path / "v.nrrd").read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["v.nrrd"]


@pytest.mark.parametrize(
    "name, words",
    [
        ("v.png", "written as"),
        ("v", "written as"),
        ("v.mhd", "written as"),
        ("v.nhdr", "written as"),
        ("no folder/v.nii", "does not exist"),
        ("taken.nii", "is a folder"),
    ],
)
def test_names_that_cannot_be_written(tmp_path, name, words):
    (tmp_path / "taken.nii").mkdir()
    with pytest.raises(OutputError, match=words):
        write_volume(small_ct(), tmp_path / name)
    assert os.listdir(tmp_path) == ["taken.nii"]


def test_file_that_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(OutputError, match="exists already"), written_whole(tmp_path / "a") as (part,):
        part.write_text("new")
        (tmp_path / "a").write_text("somebody else's")
    assert (tmp_path / "a").read_text() == "somebody else's"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_nothing_is_left_when_the_work_ends_early(tmp_path, error):
    with pytest.raises(error), written_whole(tmp_path / "a", tmp_path / "b.nii.gz") as parts:
        for part in parts:
            part.write_text("half")
        raise error
    assert os.listdir(tmp_path) == []


def test_all_outputs_appear_or_none(tmp_path, monkeypatch):
    def fails_on_b(rename):
        def renamed(source, target):
            if Path(target).name == "b":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rename(source, target)

        return renamed

    for name in ("replace", "link"):
        monkeypatch.setattr(os, name, fails_on_b(getattr(os, name)))
    with pytest.raises(OutputError, match="No space left"), written_whole(tmp_path / "a", tmp_path / "b") as parts:
        for part in parts:
            part.write_text("whole")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ending", FORMATS)
def test_too_little_room_is_seen_before_or_after(tmp_path, monkeypatch, ending):
    """A disk that says it is full is believed; one that cuts the file short is found out."""
    write = volume_io._write

    def cuts(image, path, geometry):
        write(image, path, geometry)
        os.truncate(path, os.path.getsize(path) - 5)

    monkeypatch.setattr(volume_io, "_write", cuts)
    with pytest.raises(OutputError, match="make room"):
        write_volume(small_ct(), tmp_path / f"v{ending}")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX")
@pytest.mark.parametrize("ending", FORMATS)
def test_full_disk(tmp_path, ending, capfd):
    """Writing for real against a limit, in a process of its own."""
    script = f"""
        import resource, sys
        import SimpleITK as sitk
        from CTDefaceLib.errors import OutputError
        from CTDefaceLib.volume_io import write_volume
        noise = sitk.AdditiveGaussianNoise(sitk.Image((64, 64, 64), sitk.sitkInt16), 300.0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write_volume(noise, {str(tmp_path / f"v{ending}")!r})
        except OutputError as error:
            sys.exit(3 if "make room" in str(error) else 4)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True)
    assert ended.returncode == 3, ended.stderr
    assert os.listdir(tmp_path) == []


def test_disk_that_says_it_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(volume_io.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(OutputError, match="make room"):
        write_volume(small_ct(), tmp_path / "v.nii")
    assert os.listdir(tmp_path) == []
