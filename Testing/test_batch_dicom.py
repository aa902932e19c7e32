"""Batches from DICOM series to DICOM series."""

import json
import os
import shutil

import dicom_files
import pydicom
import pytest
import SimpleITK as sitk
from coarse_phantoms import scan
from CTDefaceLib import batch
from CTDefaceLib.batch import Choices
from CTDefaceLib.batch.status import Status
from CTDefaceLib.commands.main import main
from CTDefaceLib.errors import InputError
from test_dicom import assert_defaced


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two series of a patient in one folder, a tilted one of another, one that is damaged, and a volume."""
    folder = tmp_path_factory.mktemp("archive")
    head = scan(field_of_view="upper_lip").image
    for number in (4, 7):
        paths = dicom_files.write_series(folder / f"s{number}", head + number, SeriesNumber=number, PatientID="P1")
        (folder / "Doe, Jane").mkdir(exist_ok=True)
        for path in paths:
            shutil.move(path, folder / "Doe, Jane" / f"{number}{path.name}")
        (folder / f"s{number}").rmdir()
    slices = dicom_files.sheared(scan().image, 12.0)
    dicom_files.write_series(folder / "Doe, John" / "tilted", slices, tilt_degrees=12.0, PatientID="P2")
    paths = dicom_files.write_series(folder / "cut", head + 9)
    paths[5].write_bytes(paths[5].read_bytes()[:5000])
    sitk.WriteImage(head + 11, str(folder / "volume.nii.gz"))
    return folder


def series_of(output):
    return {path.parent for path in output.rglob("IM*.dcm")}


@pytest.mark.slow
def test_series_in_series_out(archive, tmp_path):
    output = tmp_path / "out"
    choices = Choices(names="keep", ending=".dicom")
    summary = batch.run(archive, output, choices=choices)
    assert summary.counts == {Status.DONE: 2, Status.WARNED: 1, Status.REFUSED: 2}
    assert_defaced(archive / "Doe, John" / "tilted", output / "Doe, John" / "tilted.dicom", fill="smooth")
    numbers = set()
    for folder in series_of(output):
        one = pydicom.dcmread(next(folder.iterdir()))
        numbers.add(one.SeriesNumber)
        report = json.loads(folder.with_suffix(".json").read_text())
        assert report["batch"]["run"] and report["intracranial_voxels_touched"] == 0
    assert numbers == {3, 4, 7}
    rows = (tmp_path / "out-private" / "scans.csv").read_text()
    assert "truncated or damaged" in rows and "no DICOM series" in rows
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.dcm")}
    assert batch.run(archive, output, choices=choices).counts == summary.counts
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.dcm")} == before
    shutil.rmtree(next(iter(series_of(output))))
    assert batch.run(archive, output, choices=choices).counts == summary.counts
    assert len(series_of(output)) == 3


@pytest.mark.slow
def test_cleaned_headers_and_pseudonyms_apart(archive, tmp_path):
    pytest.importorskip("dicomanonymizer", reason="pip install ctdeface[dicom]")
    output = tmp_path / "out"
    choices = Choices(ending=".dicom", headers="ps315", retain="dates,patient")
    batch.run(archive, output, choices=choices, gallery=False, workers=2)
    folders = series_of(output)
    assert len(folders) == 3
    patients = {}
    for folder in folders:
        for path in folder.iterdir():
            assert b"Doe" not in path.read_bytes()
        one = pydicom.dcmread(path)
        assert [item.CodeValue for item in one.DeidentificationMethodCodeSequence][:3] == ["113100", "113107", "113108"]
        patients.setdefault(one.PatientID, set()).add(int(one.SeriesNumber))
    assert sorted(map(sorted, patients.values())) == [[3], [4, 7]]
    assert not any("Doe" in part for path in output.rglob("*") for part in path.parts[-3:])
    tables = sorted((tmp_path / "out-private" / "pseudonyms").iterdir())
    assert len(tables) == 3 and "P1" in "".join(table.read_text() for table in tables)
    with pytest.raises(InputError, match="other choices"):
        batch.run(archive, output, choices=Choices(ending=".dicom"))


def test_choices_that_make_no_sense(archive, tmp_path, capsys):
    with pytest.raises(InputError, match="DICOM series only"):
        batch.run(archive, tmp_path / "out", choices=Choices(headers="ps315"))
    with pytest.raises(InputError, match="nothing called names"):
        batch.run(archive, tmp_path / "out", choices=Choices(ending=".dicom", headers="ps315", retain="names"))
    assert os.listdir(tmp_path) == []
    with pytest.raises(SystemExit):
        main(["batch", str(archive), str(tmp_path / "out"), "--retain", "dates"])
    assert main(["batch", str(archive), str(tmp_path / "out"), "--format", ".dicom", "--dry-run"]) == 0
    assert "5 scans" in capsys.readouterr().out
