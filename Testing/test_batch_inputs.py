"""What a batch finds: series over several folders, links to folders, and what it has to say of what it passes over."""

import csv
import os
import shutil
from functools import partial

import batch_cases
import dicom_files
import pydicom
import pytest
from CTDefaceLib import batch
from CTDefaceLib.batch import Choices, runners
from CTDefaceLib.batch.found_scan import folders_of
from CTDefaceLib.batch.inputs import find_scans
from CTDefaceLib.batch.job import Job
from CTDefaceLib.batch.runners import RUNNERS, Place
from CTDefaceLib.batch.status import Status
from CTDefaceLib.batch.work import run_job
from CTDefaceLib.commands.main import main
from CTDefaceLib.errors import InputError
from pydicom.uid import SecondaryCaptureImageStorage
from test_one_reader import cone_beam, link, split
from test_volume_io import small_ct


@pytest.fixture
def folders(tmp_path):
    """Input, output and private folder."""
    source = tmp_path / "my scäns"
    source.mkdir()
    return source, tmp_path / "out", tmp_path / "out-private"


def places(source, **more):
    return [scan.place for scan in find_scans(source, **more)]


def moved(path, new):
    new.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, new)


def run(*args):
    try:
        return main(["batch", *map(str, args)])
    except SystemExit as exit:
        return exit.code


@pytest.fixture
def planned(monkeypatch):
    """Batches take scans for done without looking at them."""
    monkeypatch.setitem(RUNNERS, Place.HERE, partial(runners.in_process, run=batch_cases.touched))


# ------------------------------------------------------------------------------------------ series over several folders


def test_a_series_in_several_folders_is_one_scan(folders):
    source, _, _ = folders
    split(source / "p1" / "series", small_ct())
    scans = find_scans(source)
    assert [scan.place for scan in scans] == ["p1/series"]
    below = [f"p1/series{inner}" for inner in ("", "/00000001/x", "/00000002/x")]
    assert folders_of(scans[0].path) == below and scans[0].series and scans[0].patient == "4711"
    again = find_scans(source, known=lambda path: [scan for scan in scans if scan.path == path])
    assert again == scans


def test_series_over_folders_beside_whole_ones(folders):
    """Two series over two folders, a whole one beside a part, and a scout: each CT series is one scan."""
    source, _, _ = folders
    for number in (4, 5, 6):
        for index, path in enumerate(dicom_files.write_series(source / "x", small_ct(), SeriesNumber=number)):
            moved(path, source / "p" / ("b" if index > 5 and number < 6 else "a") / f"{number} {index}")
    scout = dicom_files.write_series(source / "x", small_ct()[:, :, :1], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    moved(scout[0], source / "p" / "a" / "scout")
    assert sorted(places(source)) == ["p#4", "p#5", "p/a#6"]


def test_captures_and_cone_beam_are_scans_where_no_ct_is(folders):
    source, _, _ = folders
    for number in (4, 5):
        for path in dicom_files.write_series(source / "x", small_ct(), SeriesNumber=number, Modality="OT",
                                             SOPClassUID=SecondaryCaptureImageStorage):  # fmt: skip
            moved(path, source / "p" / f"{number}{path.name}")
    cone_beam(source / "q", small_ct())
    assert places(source) == ["p#4", "p#5", "q"]
    for path in dicom_files.write_series(source / "x", small_ct(), SeriesNumber=6):
        moved(path, source / "p" / f"6{path.name}")
    assert places(source) == ["p", "q"]


def test_copies_of_a_series_are_not_joined(folders):
    source, _, _ = folders
    paths = dicom_files.write_series(source / "a", small_ct())
    shutil.copytree(source / "a", source / "b")
    first, second = find_scans(source)
    assert (first.place, second.place) == ("a", "b") and first.identity == second.identity != ""
    (source / "b" / paths[3].name).unlink()  # a part of it only: no scan of its own
    assert [scan.identity for scan in find_scans(source)] == [first.identity]


def test_what_goes_on_in_a_folder_that_came_later_is_joined(folders):
    source, _, _ = folders
    paths = dicom_files.write_series(source / "p" / "a", small_ct())
    later = [(path, path.read_bytes()) for path in paths[6:]]
    for path, _ in later:
        path.unlink()
    first = find_scans(source)
    (source / "p" / "b").mkdir()
    for path, content in later:
        (source / "p" / "b" / path.name).write_bytes(content)
    second = find_scans(source, known=lambda path: [scan for scan in first if scan.path == path])
    assert [scan.place for scan in first] == ["p/a"] and [scan.place for scan in second] == ["p"]
    assert len(folders_of(second[0].path)) == 2


def test_patients_with_the_same_uids_are_not_joined(folders):
    source, _, _ = folders
    for name in "ab":
        dicom_files.write_series(
            source / name, small_ct(), PatientID=name, SeriesInstanceUID="1.2", StudyInstanceUID="1.3"
        )
    assert places(source) == ["a", "b"]


def test_the_folder_of_a_row_is_searched_with_its_sub_folders(folders):
    source, _, _ = folders
    split(source / "p1", small_ct())
    (source / "empty").mkdir()
    (source / "table.csv").write_text("input,patient,output\np1,P,first\nempty,Q,second\n")
    first, second = find_scans(source / "table.csv")
    assert (first.place, first.patient, first.output) == ("p1", "P", "first") and len(folders_of(first.path)) == 3
    assert (second.place, second.output) == ("empty", "second")


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".nii.gz", ".dicom"])
def test_all_slices_of_a_series_over_folders_are_defaced(folders, ending):
    source, output, _ = folders
    split(source, batch_cases.head())
    assert batch.run(source, output, choices=Choices(ending=ending), gallery=False).counts == {Status.DONE: 1}
    if ending == ".dicom":
        assert len(list(output.rglob("IM*.dcm"))) == batch_cases.head().GetSize()[2]
    else:
        problem = batch_cases._wrong_result(source, next(output.rglob("*.nii.gz")))
        assert problem == ""


def test_a_slice_that_is_a_link_to_nothing_is_no_gap(folders, tmp_path):
    source, output, _ = folders
    paths = dicom_files.write_series(source, small_ct())
    paths[-1].unlink()
    link(paths[-1], tmp_path / "gone")
    job = Job(1, 1, "x", str(source), str(output / "x.nii.gz"), str(tmp_path / "work"), "run")
    outcome = run_job(job)
    assert outcome.status == Status.REFUSED and "cannot be read" in outcome.sentence


# -------------------------------------------------------------------------------------------------------------- links


def test_links_to_folders_are_followed_once(folders, planned, capsys):
    source, output, private = folders
    batch_cases.write(source.parent / "archive" / "p1" / "head.nii.gz", small_ct())
    batch_cases.write(source / "p2" / "head.nii.gz", small_ct((24, 20, 13)))
    link(source / "p1", source.parent / "archive" / "p1")
    link(source / "p3", source / "p2")
    link(source / "results", output)
    for _ in range(2):
        assert run(source, output, "--workers", "0", "--no-gallery", "--names", "keep") == 0
        assert sorted(path.name for path in output.iterdir() if path.is_dir()) == ["p1", "p2"]
    assert "passed over" not in capsys.readouterr().err and not (private / batch.PASSED_OVER).exists()


# --------------------------------------------------------------------------------------------- nothing in silence


def test_a_batch_without_a_scan_is_no_success(folders, capsys):
    source, output, private = folders
    (source / "letter.txt").write_text("Dear colleague,")
    assert run(source, output) == 1
    assert "There are no scans below the input" in capsys.readouterr().err
    assert run(source, output, "--dry-run") == 1
    link(source / "gone", source.parent / "nothing")
    with pytest.raises(InputError, match="1 places were passed over"):
        batch.run(source, output)


def test_what_is_passed_over_is_said_and_listed(folders, planned, capsys):
    source, output, private = folders
    batch_cases.write(source / "a" / "head.nii.gz", small_ct())
    for name in ("more.zip", "head.img", "notes.txt"):
        (source / "a" / name).write_bytes(b"x")
    link(source / "b", source.parent / "gone")
    link(source / "a" / "up", source.parent)
    assert run(source, output, "--workers", "0", "--no-gallery") == 3
    shown = capsys.readouterr()
    assert shown.out == "1 done\n" and "4 places were passed over; passed_over.csv" in shown.err
    assert "since a format that is not read, or an archive: 2." in shown.err
    assert str(source) not in shown.err
    with open(private / batch.PASSED_OVER, newline="", encoding="utf-8") as file:
        listed = {os.path.relpath(row["path"], source): row["why"] for row in csv.DictReader(file)}
    assert sorted(listed) == sorted(["a/more.zip", "a/head.img", "a/up", "b"])
    assert listed["b"] == "it cannot be read, or is a link to nothing"
    assert run(source, output, "--dry-run") == 0
    assert "Passed over" in capsys.readouterr().err
    for name in ("a/more.zip", "a/head.img", "a/up", "b"):
        (source / name).unlink()
    assert run(source, output, "--workers", "0", "--no-gallery") == 0
    assert not (private / batch.PASSED_OVER).exists()


def test_damaged_files_without_an_ending_still_count_as_a_scan(folders):
    source, _, _ = folders
    path = dicom_files.write_series(source, small_ct())[0]
    for other in source.iterdir():
        other.unlink() if other != path else None
    header = pydicom.dcmread(path)
    header.save_as(source / "IM1")
    path.unlink()
    (source / "IM1").write_bytes((source / "IM1").read_bytes()[:500])
    assert places(source) == ["."]
