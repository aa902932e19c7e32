"""Batches by study: one face for all series of a patient, each with its own result, record and sentence."""

import json
import sqlite3
from functools import cache

import batch_cases
import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from batch_cases import another, head, like, records
from CTDefaceLib import batch
from CTDefaceLib.batch import Choices
from CTDefaceLib.batch.job import Outcome
from CTDefaceLib.batch.runners import RUNNERS, Place
from CTDefaceLib.batch.status import FINISHED, Mishap, Status
from CTDefaceLib.commands.main import main
from CTDefaceLib.errors import InputError
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.study.reference import of_most
from pydicom.uid import MRImageStorage, generate_uid
from stored_phantoms import stored_phantom


@cache
def stranger() -> sitk.Image:
    return stored_phantom(PhantomParameters(person=5, **batch_cases.COARSE)).image


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A study of two kernels, an MR and somebody else's series; and a series of another patient."""
    folder = tmp_path_factory.mktemp("archive")
    common = dict(StudyInstanceUID=generate_uid(), FrameOfReferenceUID=generate_uid())
    for number, image in ((2, head()), (3, another(3)), (8, stranger()[:, :, 4:])):
        dicom_files.write_series(folder / "p1" / str(number), image, SeriesNumber=number, **common)
    tags = dict(SOPClassUID=MRImageStorage, Modality="MR", RescaleIntercept=None, RescaleSlope=None)
    dicom_files.write_series(folder / "p1" / "6", mr() - 1024, SeriesNumber=6, **common, **tags)
    dicom_files.write_series(folder / "p2", another(9), PatientID="4712")
    return folder


def mr() -> sitk.Image:
    """An MR of the head, by its HU: air dark, bone dark, soft tissue bright."""
    hu = sitk.GetArrayFromImage(head()).astype(float)
    values = np.where(hu < -500, 5.0, np.where(hu > 200, 60.0, 300.0 + hu))
    return like((values + np.random.default_rng(0).normal(0, 3, hu.shape)).clip(0).astype(np.int16))


def regions(folder, private, output):
    """What changed in each result, bool, by the place of its scan."""
    found = {}
    for place, row in records(private).items():
        if row["status"] in FINISHED:
            old, new = (
                np.array([one.pixel_array for one in sorted(map(pydicom.dcmread, path.glob("*.dcm")), key=height)])
                for path in (folder / place, output / f"{row['output']}.dicom")
            )
            found[place] = old != new
    return found


def height(one):
    return float(one.ImagePositionPatient[2])


@pytest.mark.slow
def test_one_face_for_all_series_of_a_study(archive, tmp_path, capsys):
    output, private = tmp_path / "out", tmp_path / "out-private"
    command = ["batch", str(archive), str(output), "--format", ".dicom", "--workers", "0"]
    assert main(command) == 3
    rows = records(private)
    assert {place: row["status"] for place, row in rows.items() if row["status"] not in FINISHED} == {
        "p1/8": Status.REFUSED
    }
    assert "could not be laid on the CT" in rows["p1/8"]["sentence"] and len(rows) == 5
    assert "4 done" in capsys.readouterr().out.replace("done with warnings", "done")
    changed = regions(archive, private, output)
    first, second = (changed[f"p1/{number}"] for number in (2, 3))
    assert first.sum() > 1000 and (first ^ second).sum() < 0.02 * first.sum()  # single voxels are the same by chance
    assert (changed["p1/6"] & first).sum() > 0.8 * first.sum()
    reports = {place: json.loads(row["report"]) for place, row in rows.items() if row["report"]}
    assert "registered" not in reports["p1/3"] and reports["p1/2"]["batch"]["scan"] == rows["p1/2"]["output"]
    pictures = {path.name for path in (private / "gallery" / "pictures").iterdir()}
    assert {f"{rows[place]['id']}-before-slice.jpg" for place in changed} <= pictures
    uids = {place: pydicom.dcmread(next((output / f"{rows[place]['output']}.dicom").iterdir())) for place in changed}
    assert len({uids[f"p1/{number}"].FrameOfReferenceUID for number in (2, 3, 6)}) == 1
    before = batch_cases.hashes(output, ".dcm")
    dicom_files.write_series(
        archive / "p1" / "4", another(4), SeriesNumber=4, StudyInstanceUID=uids["p1/2"].StudyInstanceUID,
        FrameOfReferenceUID=uids["p1/2"].FrameOfReferenceUID,
    )  # fmt: skip
    with sqlite3.connect(private / "record.sqlite") as record:
        record.execute("UPDATE scan SET status = 'running' WHERE place = 'p1/3'")
    assert main(command) == 3
    after = batch_cases.hashes(output, ".dcm")
    assert before.items() < after.items()
    third = regions(archive, private, output)["p1/4"]
    assert (first ^ third).sum() < 0.02 * first.sum(), "a series that comes later gets the same face"
