"""One reader for every output: whatever lies in a folder, a volume file and a DICOM series come of the same slices."""

import os
import shutil
from pathlib import Path

import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from coarse_phantoms import scan
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom.tree import choose_series, read_tree
from CTDefaceLib.errors import InputError
from CTDefaceLib.volume_io import read_scan
from CTDefaceLib.walk import files_below
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid
from test_volume_io import small_ct

CONE_BEAM = "1.2.840.10008.5.1.4.1.1.13.1.2"


def link(path, target):
    """A link to a folder; skips the test where the user may not make one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("this user may not make links")


def scout_inside(folder, image):
    paths = dicom_files.write_series(folder, image)
    shutil.copy(paths[0], folder / "scout")
    dicom_files.change(folder / "scout", SOPInstanceUID=generate_uid(), ImageOrientationPatient=[1, 0, 0, 0, 0, -1],
                       Rows=100, Columns=100, PixelData=np.full((100, 100), 1024, "<u2").tobytes())  # fmt: skip


def copy_inside(folder, image):
    shutil.copy(dicom_files.write_series(folder, image)[7], folder / "IM0007 (1)")


def captures(folder, image):
    dicom_files.write_series(folder, image, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")


def cone_beam(folder, image):
    folder.mkdir()
    dicom_files.write_multi_frame(folder / "volume.dcm", image, SOPClassUID=CONE_BEAM, Modality="DX")


def multi_frame(folder, image):
    folder.mkdir()
    dicom_files.write_multi_frame(folder / "volume.dcm", image)


def high_bits(folder, image):
    for path in dicom_files.write_series(folder, image):
        words = np.frombuffer(pydicom.dcmread(path).PixelData, "<u2")
        dicom_files.change(path, BitsStored=12, HighBit=15, PixelData=(np.minimum(words, 4095) << 4).tobytes())


def split(folder, image):
    for number, path in enumerate(dicom_files.write_series(folder, image)):
        place = folder / ("" if number % 3 == 0 else f"0000000{number % 3}/x")
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)


def linked(folder, image):
    split(folder, image)
    shutil.move(folder / "00000001", folder.parent / "elsewhere")
    for name in ("a", "b"):
        link(folder / name, folder.parent / "elsewhere")
    link(folder / "00000002" / "up", folder)


ARRANGED = {
    scout_inside: "slice of a stack of too few (1)", copy_inside: "copy (1)", captures: "", cone_beam: "",
    multi_frame: "", high_bits: "", split: "", linked: "",
}  # fmt: skip
"""How files are arranged, and what of them is left out."""


@pytest.mark.parametrize("arrange", ARRANGED, ids=lambda arrange: arrange.__name__)
def test_a_volume_is_read_however_its_files_are_arranged(tmp_path, arrange):
    image = small_ct()
    arrange(tmp_path / "in", image)
    found = read_scan(tmp_path / "in")
    assert found.left_out == tuple(filter(None, [ARRANGED[arrange]]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found.image), sitk.GetArrayFromImage(image))
    np.testing.assert_allclose(found.image.GetOrigin(), image.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(found.image.GetSpacing(), image.GetSpacing(), atol=1e-3)
    said = [arrange.__name__ for note in found.notes if "no CT images by their kind" in note]
    assert said == [arrange.__name__] * (arrange in (captures, cone_beam))


@pytest.mark.slow
@pytest.mark.parametrize("arrange", ARRANGED, ids=lambda arrange: arrange.__name__)
def test_both_outputs_come_of_the_same_slices(tmp_path, arrange, capsys):
    head = scan(field_of_view="upper_lip").image
    arrange(tmp_path / "in", head)
    assert main(["deface", str(tmp_path / "in"), str(tmp_path / "out.nii.gz")]) == 0
    said = capsys.readouterr().err
    assert main(["deface", str(tmp_path / "in"), str(tmp_path / "defaced")]) == 0
    assert capsys.readouterr().err == said
    volume = sitk.ReadImage(str(tmp_path / "out.nii.gz"))
    defaced = read_scan(tmp_path / "defaced").image
    assert volume.GetSize() == defaced.GetSize() == head.GetSize()
    changed = [sitk.GetArrayFromImage(image) != sitk.GetArrayFromImage(head) for image in (volume, defaced)]
    assert (changed[0] & changed[1]).sum() > 0.9 * max(map(np.sum, changed)) > 1000


@pytest.mark.parametrize("series", ["4", "uid"])
def test_one_of_several_series_goes_into_a_volume(tmp_path, series):
    image = small_ct()
    paths = [dicom_files.write_series(tmp_path / "in" / str(n), image + n, SeriesNumber=n)[0] for n in (7, 4)]
    which = series if series == "4" else str(pydicom.dcmread(paths[1]).SeriesInstanceUID)
    found = read_scan(tmp_path / "in", which)
    assert found.left_out == ("series 7 (CT, 12 slices)",)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found.image), sitk.GetArrayFromImage(image + 4))


def test_a_dicomdir_and_a_single_file_stand_for_what_they_hold(tmp_path):
    image = small_ct()
    dicom_files.write_series(tmp_path / "in" / "DICOM", image)
    dicom_files.write_document(tmp_path / "in" / "DICOMDIR", "1.2.840.10008.1.3.10")
    assert read_scan(tmp_path / "in" / "DICOMDIR").image.GetSize() == image.GetSize()
    multi_frame(tmp_path / "one", image)
    assert read_scan(tmp_path / "one" / "volume.dcm").image.GetSize() == image.GetSize()


def test_what_only_dicom_can_hold_says_so(tmp_path):
    uids = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2.4"}
    for number in (1, 2):
        dicom_files.write_series(tmp_path / "phases" / str(number), small_ct(), AcquisitionNumber=number, **uids)
    dicom_files.write_series(tmp_path / "tilted", small_ct(), tilt_degrees=9)
    heights = [*range(0, 20, 2), 23, 24]
    dicom_files.write_series(tmp_path / "uneven", small_ct(), heights=heights)
    words = {"phases": "2 volumes", "tilted": "tilted by 9.0", "uneven": "unevenly spaced"}
    for name, said in words.items():
        with pytest.raises(InputError, match=said) as caught:
            read_scan(tmp_path / name)
        assert "write DICOM instead" in str(caught.value)
        assert choose_series(read_tree(tmp_path / name)).stacks


def test_captures_do_not_stand_in_the_way_of_a_ct(tmp_path):
    image = small_ct()
    captures(tmp_path / "in", image + 5)
    dicom_files.write_series(tmp_path / "in" / "ct", image)
    found = read_scan(tmp_path / "in", "3")  # both are series 3
    assert found.left_out == ("series 3 (secondary capture, 12 slices)",) and not found.notes
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found.image), sitk.GetArrayFromImage(image))


@pytest.mark.parametrize(
    "tags", [{"ImageOrientationPatient": None}, {"Modality": "MR"}, {"PhotometricInterpretation": "RGB"}]
)
def test_the_kind_of_what_is_refused_is_said(tmp_path, tags):
    dicom_files.write_series(tmp_path / "in", small_ct(), SOPClassUID=SecondaryCaptureImageStorage, **tags)
    with pytest.raises(InputError, match=r"only secondary capture \(12\)"):
        read_scan(tmp_path / "in")


def test_values_of_captures_have_to_be_hounsfield_units(tmp_path):
    grey = sitk.Cast(sitk.RescaleIntensity(small_ct(), 0, 255), sitk.sitkInt16) - 1024
    captures(tmp_path / "in", grey)
    for path in (tmp_path / "in").iterdir():
        dicom_files.change(path, RescaleIntercept=0)
    with pytest.raises(InputError, match="secondary capture.*as in a picture"):
        read_scan(tmp_path / "in")


@pytest.mark.parametrize("tags", [{"PatientID": "another"}, {"IssuerOfPatientID": "another"}])
def test_images_of_several_patients_are_no_series(tmp_path, tags):
    paths = dicom_files.write_series(tmp_path / "in", small_ct(), IssuerOfPatientID="one")
    dicom_files.change(paths[3], **tags)
    with pytest.raises(InputError, match="several patients"):
        read_scan(tmp_path / "in")


@pytest.mark.parametrize("ending", ["", ".nii.gz"])
def test_a_damaged_file_blocks_its_own_series(tmp_path, ending):
    """It is named by its number; the other series of the folder is read, and what is damaged is told."""
    for number in (4, 5):
        paths = dicom_files.write_series(tmp_path / str(number), small_ct(), SeriesNumber=number)
        for path in paths:
            moved = tmp_path / "in" / f"{number} {path.name}"
            moved.parent.mkdir(exist_ok=True)
            path.rename(moved)
    damaged = sorted((tmp_path / "in").iterdir())[14]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    assert read_scan(tmp_path / "in", "4").left_out == ("series 5 (CT, 11 slices)",)
    with pytest.raises(InputError, match=r"truncated or damaged .number 15 of the 24 files by name"):
        read_scan(tmp_path / "in", "5")
    for path in sorted((tmp_path / "in").iterdir())[15:]:
        path.unlink()
    alone = read_scan(tmp_path / "in", "4")
    assert alone.left_out == ("damaged file (1)", "slice of a stack of too few (2)")
    damaged.write_bytes(b"\0" * 200 + b"no header" * 99)
    damaged.rename(damaged.with_suffix(".dcm"))
    with pytest.raises(InputError, match="truncated or damaged"):  # of any series, for all one knows
        read_scan(tmp_path / "in", "4")


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_looked_into_is_no_empty_one(tmp_path):
    split(tmp_path / "in", small_ct())
    (tmp_path / "in" / "00000001").chmod(0)
    try:
        with pytest.raises(InputError, match="cannot be looked into"):
            read_scan(tmp_path / "in")
    finally:
        (tmp_path / "in" / "00000001").chmod(0o700)


# ----------------------------------------------------------------------------------------------------- links to folders


def test_each_real_folder_is_walked_once(tmp_path):
    for place in ("in/real/deep", "in/real", "elsewhere/a", "elsewhere/a/b", "in/.hidden", "ignored/deep", "ignored"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "file").touch()
    link(tmp_path / "in" / "a link before", tmp_path / "in" / "real")
    link(tmp_path / "in" / "to elsewhere", tmp_path / "elsewhere" / "a" / "b")
    link(tmp_path / "in" / "to elsewhere as well", tmp_path / "elsewhere")
    link(tmp_path / "in" / "real" / "up", tmp_path)
    link(tmp_path / "elsewhere" / "back", tmp_path / "in")
    link(tmp_path / "in" / "y", tmp_path / "ignored" / "deep")
    link(tmp_path / "in" / "z", tmp_path / "ignored")
    link(tmp_path / "in" / "broken", tmp_path / "gone")
    told = []
    found = files_below(tmp_path / "in", [tmp_path / "ignored"], lambda path, error: told.append((path, error)))
    places = {Path(place).relative_to(tmp_path).as_posix(): names for place, names in found}
    assert places == {
        "in": ["broken"], "in/real": ["file"], "in/real/deep": ["file"], "in/to elsewhere": ["file"],
        "in/to elsewhere as well": [], "in/to elsewhere as well/a": ["file"],
    }  # fmt: skip
    assert told == [(str(tmp_path / "in" / "real" / "up"), None)]
    assert files_below(tmp_path / "in" / "real") == files_below(str(tmp_path / "in" / "real"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX")
def test_a_pipe_is_not_waited_for(tmp_path):
    dicom_files.write_series(tmp_path / "in", small_ct())
    os.mkfifo(tmp_path / "in" / "pipe")
    assert read_scan(tmp_path / "in").image.GetSize() == small_ct().GetSize()
