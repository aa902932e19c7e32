"""Batches by study: one face for all series of a patient, each with its own result, record and sentence."""

import json
import sqlite3
import weakref
from dataclasses import replace
from functools import cache
from pathlib import Path

import batch_cases
import dicom_files
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from batch_cases import another, head, like, records, touched
from CTDefaceLib import batch
from CTDefaceLib.batch import Choices
from CTDefaceLib.batch.bids import side_car
from CTDefaceLib.batch.job import Outcome
from CTDefaceLib.batch.pet import REQUIRED, pet_fields
from CTDefaceLib.batch.planning import MOST_DEATHS
from CTDefaceLib.batch.runners import RUNNERS, Place
from CTDefaceLib.batch.status import FINISHED, Mishap, Status
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom.files import STRUCTURE_SET
from CTDefaceLib.dicom.stack import read_stack
from CTDefaceLib.errors import InputError
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.structures import read_structures
from CTDefaceLib.study import reference
from CTDefaceLib.study.reference import beginnings
from CTDefaceLib.study.register import Pose
from pydicom.uid import MRImageStorage, PositronEmissionTomographyImageStorage, generate_uid
from scipy import ndimage
from stored_phantoms import stored_phantom
from test_dicom_references import item
from test_keep import circle
from test_radiotherapy import ring


@pytest.fixture(autouse=True)
def no_search(monkeypatch):
    """Whoever lies elsewhere is looked for there alone: searching takes seconds, and test_study.py tests it."""
    there = Pose(np.eye(3), np.zeros(3))
    monkeypatch.setattr("CTDefaceLib.study.register._registered", lambda *_: there)


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


def mr(seed: int = 0) -> sitk.Image:
    """An MR of the head, by its HU: air dark, bone dark, soft tissue bright."""
    hu = sitk.GetArrayFromImage(head()).astype(float)
    values = np.where(hu < -500, 5.0, np.where(hu > 200, 60.0, 300.0 + hu))
    return like((values + np.random.default_rng(seed).normal(0, 3, hu.shape)).clip(0).astype(np.int16))


def regions(folder, private, output):
    """What changed in each result, bool, by the place of its scan; single voxels in it are the same by chance."""
    found = {}
    for place, row in records(private).items():
        if row["status"] in FINISHED:
            old, new = (
                np.array([one.pixel_array for one in sorted(map(pydicom.dcmread, path.glob("IM*.dcm")), key=height)])
                for path in (folder / place, output / f"{row['output']}.dicom")
            )
            found[place] = ndimage.binary_closing(old != new, iterations=2)
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
    assert first.sum() > 1000 and (first ^ second).sum() < 0.02 * first.sum()
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


# ----------------------------------------------------------------------------------------------------------------- jobs


@pytest.fixture
def files(tmp_path):
    """Two scans of a subject's session, one of another session, and one that says nothing of whose it is."""
    names = ("sub-1_ses-a_run-1_ct", "sub-1_ses-a_run-2_ct", "sub-1_ses-b_ct", "head")
    (tmp_path / "in").mkdir()
    for number, name in enumerate(names):
        (tmp_path / "in" / f"{name}.nii").write_bytes(bytes(number))
    return tmp_path / "in", tmp_path / "out"


def told(monkeypatch, run):
    """A batch whose jobs are done by a function; returns the scans of each job."""
    jobs = []

    def runner(waiting, **_):
        for job in waiting:
            jobs.append([Path(one.path).stem for one in job.whole])
            yield job, run(job)

    monkeypatch.setitem(RUNNERS, Place.HERE, runner)
    return jobs


TOGETHER = {
    "study": [["head"], ["sub-1_ses-a_run-1_ct", "sub-1_ses-a_run-2_ct"], ["sub-1_ses-b_ct"]],
    "patient": [["head"], ["sub-1_ses-a_run-1_ct", "sub-1_ses-a_run-2_ct", "sub-1_ses-b_ct"]],
    "series": [["head"], ["sub-1_ses-a_run-1_ct"], ["sub-1_ses-a_run-2_ct"], ["sub-1_ses-b_ct"]],
}


@pytest.mark.parametrize("by", TOGETHER)
def test_what_belongs_together_is_one_job(files, monkeypatch, by):
    """Also when one comes later; and nothing goes on otherwise than it was begun."""
    known = []

    def run(job):
        known.append([Path(one.path).stem for one in job.known])
        return replace(touched(job), study=tuple(map(touched, job.study)))

    jobs = told(monkeypatch, run)
    assert batch.run(*files, choices=Choices(by=by), gallery=False).counts == {Status.DONE: 4}
    assert jobs == TOGETHER[by] and not any(known)
    for other in TOGETHER.keys() - {by}:
        with pytest.raises(InputError, match=f"other choices.*by: {by}"):
            batch.run(*files, choices=Choices(by=other), gallery=False)
    (files[0] / "sub-1_ses-b_run-2_ct.nii").write_bytes(bytes(9))
    assert batch.run(*files, choices=Choices(by=by), gallery=False).counts == {Status.DONE: 5}
    assert known[-1] == {"series": [], "study": ["sub-1_ses-b_ct"], "patient": TOGETHER["patient"][1]}[by]


@pytest.mark.parametrize("are_datasets", [True, False])
def test_subjects_of_two_datasets_are_two_people(tmp_path, monkeypatch, are_datasets):
    for number, site in enumerate("ab"):
        folder = tmp_path / "in" / site / "sub-1" / "ct"
        folder.mkdir(parents=True)
        (folder / "sub-1_ct.nii").write_bytes(bytes(number))
        if are_datasets:
            (tmp_path / "in" / site / "dataset_description.json").write_text("{}")
    jobs = told(monkeypatch, lambda job: replace(touched(job), study=tuple(map(touched, job.study))))
    batch.run(tmp_path / "in", tmp_path / "out", choices=Choices(by="patient", layout="bids"), gallery=False)
    assert len(jobs) == (2 if are_datasets else 1)
    subjects = {row["output"].partition("/")[0] for row in records(tmp_path / "out-private").values()}
    assert len(subjects) == len(jobs)


@pytest.mark.slow
def test_another_day_of_a_patient_gets_the_same_face(tmp_path):
    """Where all studies of a patient are asked for, the skin of one is laid on the other."""
    upper = head("upper_lip")
    for number in (1, 2):
        days = dict(SeriesNumber=number, StudyInstanceUID=generate_uid(), FrameOfReferenceUID=generate_uid())
        dicom_files.write_series(tmp_path / "in" / str(number), upper + number, **days)
    command = ["batch", str(tmp_path / "in"), str(tmp_path / "out"), "--workers", "0", "--no-gallery"]
    assert main([*command, "--by", "patient", "--format", ".dicom"]) == 0
    reports = {place: json.loads(row["report"]) for place, row in records(tmp_path / "out-private").items()}
    assert ["registered" in reports[place] for place in "12"] == [False, True]


@pytest.mark.slow
def test_a_finer_scan_that_comes_later_gets_the_face_of_the_first(tmp_path):
    upper = head("upper_lip")
    command = ["batch", str(tmp_path / "in"), str(tmp_path / "out"), "--workers", "0", "--no-gallery"]
    for number, image in enumerate((upper[:, :, ::2], upper + 1), 1):
        days = dict(SeriesNumber=number, StudyInstanceUID=generate_uid(), FrameOfReferenceUID=generate_uid())
        dicom_files.write_series(tmp_path / "in" / str(number), image, **days)
        assert main([*command, "--by", "patient", "--format", ".dicom"]) == 0
    reports = {place: json.loads(row["report"]) for place, row in records(tmp_path / "out-private").items()}
    assert ["registered" in reports[place] for place in "12"] == [False, True]


def test_a_batch_of_an_older_version_goes_on_by_series(files, monkeypatch):
    told(monkeypatch, touched)
    batch.run(*files, choices=Choices(by="series"), gallery=False)
    with sqlite3.connect(files[1].with_name("out-private") / batch.RECORD) as record:
        (choices,) = record.execute("SELECT value FROM run WHERE name = 'choices'").fetchone()
        old = {name: value for name, value in json.loads(choices).items() if name not in ("by", "keep", "take_along")}
        record.execute("UPDATE run SET value = ? WHERE name = 'choices'", [json.dumps(old)])
        record.execute("ALTER TABLE scan DROP COLUMN modality")
    with pytest.raises(InputError, match="other choices.*by: series"):
        batch.run(*files, gallery=False)
    assert batch.run(*files, choices=Choices(by="series"), gallery=False).counts == {Status.DONE: 4}


def test_only_the_scan_that_a_process_dies_of_is_given_up(files, monkeypatch):
    """What the process worked on has unfinished files; the others of its study are done without it."""

    def run(job):
        for one in job.whole:
            if "run-2" in one.path:
                Path(one.work).mkdir(parents=True)
                return Outcome(Mishap.DIED, "died")
        return replace(touched(job), study=tuple(map(touched, job.study)))

    jobs = told(monkeypatch, run)
    batch.run(*files, gallery=False)
    rows = records(files[1].with_name("out-private"))
    assert {place: row["status"] for place, row in rows.items() if row["status"] != Status.DONE} == {
        "sub-1_ses-a_run-2_ct.nii": Status.FAILED
    }
    assert jobs.count(["sub-1_ses-a_run-1_ct", "sub-1_ses-a_run-2_ct"]) == MOST_DEATHS
    assert jobs[-1] == ["sub-1_ses-a_run-1_ct"]


# ----------------------------------------------------------------------------------------------------- whose head it is


def test_most_series_decide_whose_head_it_is(monkeypatch):
    """Not the longest; of two the first, and a series that shows no head decides nothing."""
    searched = []

    def search(head, one, at_rest):
        searched.append(one)
        if head != one[0]:
            raise InputError("another head")
        return "there"

    monkeypatch.setattr(reference, "head_cylinder", lambda one: one[0])
    monkeypatch.setattr(reference, "is_at_rest", lambda head, one: head == one[0])
    monkeypatch.setattr(reference, "find_skull", search)

    def read(one):
        if one == "damaged":
            raise OSError(one)
        return one

    def begun(*candidates):
        """What is begun with, and where its head lies in others; a stroke stands for another frame of reference."""
        searched.clear()
        found = list(beginnings(candidates, read, lambda one, other: one.endswith("'") == other.endswith("'")))
        assert sorted(one for one, _ in found) == sorted(candidates)
        assert all(seen is None for _, seen in found[1:])
        first, seen = found[0]
        return first, dict(seen.poses) if seen else {}

    assert begun("x1", "y1", "y2", "y3") == ("y1", {"y1": None, "y2": None, "y3": None})
    assert searched == ["y1"], "where they lie is looked at before anything is searched for"
    assert begun("y1", "y2", "y3", "x1", "y4") == ("y1", {"y1": None, "y2": None, "y3": None}), (
        "the others change nothing"
    )
    assert begun("y1", "y2'", "x1") == ("y1", {"y1": None, "y2'": "there"}) and searched == ["y2'"]
    assert begun("damaged", "y1", "x1", "y2")[0] == "y1"
    assert begun("x1", "y1", "y2", "x2")[0] == "x1", "of equal ones the first"
    assert begun("x1", "y1") == ("x1", {}), "of two none is outvoted"
    assert list(beginnings([], read, lambda *_: True)) == []


@pytest.fixture
def in_memory(monkeypatch):
    """How many other scans are still in memory when one is read, for each that is."""
    counts, images = [], []

    def reading(*what):
        counts.append(sum(one() is not None for one in images))
        image = read_stack(*what)
        images.append(weakref.ref(image))
        return image

    for place in ("defaced_stack", "volume"):
        monkeypatch.setattr(f"CTDefaceLib.dicom.{place}.read_stack", reading)
    return counts


@pytest.mark.slow
def test_the_longest_series_is_a_strangers(tmp_path, capsys, in_memory):
    """It would be chosen for its length; it is refused, by the command as in a batch, and leaves nothing in memory."""
    common = dict(StudyInstanceUID=generate_uid(), FrameOfReferenceUID=generate_uid())
    lower = head()[:, :, 15:]
    for number, image in ((1, stranger()), (2, lower), (3, lower + 1)):
        dicom_files.write_series(tmp_path / "in" / str(number), image, SeriesNumber=number, **common)
    assert main(["deface", str(tmp_path / "in"), str(tmp_path / "out")]) == 3
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["face_from"].startswith("series 2 (CT") and len(report["series"]) == 2
    assert "refused: series 1 (CT" in capsys.readouterr().err
    command = ["batch", str(tmp_path / "in"), str(tmp_path / "all"), "--workers", "0", "--no-gallery"]
    assert main([*command, "--format", ".nii"]) == 3
    rows = records(tmp_path / "all-private")
    assert [rows[place]["status"] in FINISHED for place in "123"] == [False, True, True]
    assert rows["1"]["status"] == Status.REFUSED
    assert in_memory == [0] * 12, "each of three is read for the vote and to be defaced, twice"


# ----------------------------------------------------------------------------------------------------------------- BIDS


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A BIDS dataset: CT and T1w of a subject's session, a CT of another subject, a mask, and derivatives."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "dataset_description.json").write_text('{"Name": "Doe", "BIDSVersion": "1.10.0"}')
    (folder / "T1w.json").write_text('{"EchoTime": 0.003, "PatientName": "Doe"}')
    session = folder / "sub-Doe" / "ses-1"
    batch_cases.write(session / "ct" / "sub-Doe_ses-1_acq-thin_run-2_ct.nii.gz", head())
    batch_cases.write(session / "anat" / "sub-Doe_ses-1_T1w.nii.gz", mr())
    batch_cases.write(session / "anat" / "sub-Doe_ses-1_label-jaw_dseg.nii.gz", jaw())
    (session / "anat" / "sub-Doe_ses-1_T1w.json").write_text(
        '{"RepetitionTime": 2, "InstitutionName": "Otherville", "IntendedFor": "sub-Doe"}'
    )
    batch_cases.write(folder / "sub-2" / "anat" / "sub-2_T1w.nii.gz", mr(2))
    batch_cases.write(folder / "derivatives" / "sub-2" / "anat" / "sub-2_T1w.nii.gz", mr())
    return folder


def jaw() -> sitk.Image:
    """Bone at the chin as a label map."""
    hu = sitk.GetArrayFromImage(head())
    inside = hu > 250
    inside[len(hu) // 4 :] = False
    return like(inside.astype(np.uint8))


@pytest.mark.slow
def test_a_bids_dataset_becomes_one(dataset, tmp_path, capsys):
    output, private = tmp_path / "out", tmp_path / "out-private"
    assert main(["batch", str(dataset), str(output), "--layout", "bids", "--workers", "0", "--no-gallery"]) == 3
    rows = records(private)
    ct, t1w = (
        rows[f"sub-Doe/ses-1/{name}.nii.gz"]
        for name in ("ct/sub-Doe_ses-1_acq-thin_run-2_ct", "anat/sub-Doe_ses-1_T1w")
    )
    assert {ct["status"], t1w["status"]} <= set(FINISHED) and len(rows) == 3
    assert "no CT with it in which a head was found" in rows["sub-2/anat/sub-2_T1w.nii.gz"]["sentence"]
    subject, session, *_ = ct["output"].split("/")
    assert ct["output"] == f"{subject}/{session}/ct/{subject}_{session}_acq-thin_run-2_ct"
    assert t1w["output"] == f"{subject}/{session}/anat/{subject}_{session}_T1w" and "Doe" not in subject
    side_car = json.loads((output / f"{t1w['output']}.json").read_text())
    assert (side_car["EchoTime"], side_car["RepetitionTime"], side_car["Modality"]) == (0.003, 2, "MR")
    assert side_car["DeidentificationMethodCodeSequence"][0]["CodeValue"] == "113102"
    assert side_car["DeidentificationMethod"] and side_car["SkullStripped"] is False
    written = "".join(path.read_text() for path in output.rglob("*") if path.is_file() and ".nii" not in path.name)
    assert "Doe" not in written and "Otherville" not in written
    assert json.loads((output / "dataset_description.json").read_text())["GeneratedBy"][0]["Name"] == "CTDeface"
    passed_over = (private / batch.PASSED_OVER).read_text()
    assert "derivatives" in passed_over and "dseg" in passed_over
    old, new = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (
        dataset / "sub-Doe/ses-1/anat/sub-Doe_ses-1_T1w.nii.gz", output / f"{t1w['output']}.nii.gz"
    ))  # fmt: skip
    assert 0.01 < (old != new).mean() < 0.4


def pet(folder, **changes):
    """Two slices of a PET as a scanner writes them; returns the files."""
    tracer = item(
        Radiopharmaceutical="FDG", RadiopharmaceuticalStartTime="235500.00", RadionuclideTotalDose="370000000",
        RadionuclideCodeSequence=[item(CodeValue="C-111A1", CodingSchemeDesignator="SRT", CodeMeaning="^18^Fluorine")],
    )  # fmt: skip
    tags = dict(
        SOPClassUID=PositronEmissionTomographyImageStorage, Modality="PT", Manufacturer="Maker", Units="BQML",
        ManufacturerModelName="Ring 1", InstitutionName="Otherville", DecayCorrection="START",
        ActualFrameDuration="120000", AttenuationCorrectionMethod="measured,AC_CT", ReconstructionMethod="OSEM3D 4i21s",
        ConvolutionKernel="XYZ Gauss2.00", AcquisitionTime="005500.00", RescaleIntercept=0,
        RadiopharmaceuticalInformationSequence=[tracer],
    )  # fmt: skip
    return dicom_files.write_series(folder, head()[:, :, :2], **{**tags, **changes})


def test_the_side_car_of_a_pet_has_what_its_headers_say(tmp_path):
    files = list(map(str, pet(tmp_path / "1")))
    later = pydicom.dcmread(files[0])
    later.AcquisitionTime = "005700"  # the next bed
    later.save_as(files[0])
    found = side_car(tmp_path / "1", "PT", True, pet_fields(files))
    assert {name: value for name, value in found.items() if name in REQUIRED} == {
        "Manufacturer": "Maker", "ManufacturersModelName": "Ring 1", "Units": "Bq/mL", "TracerName": "FDG",
        "TracerRadionuclide": "F18", "InjectedRadioactivity": 3.7e8, "InjectedRadioactivityUnits": "Bq",
        "TimeZero": "00:00:00", "ScanStart": 3600.0, "InjectionStart": 0.0, "FrameTimesStart": [3600.0],
        "FrameDuration": [120.0], "ImageDecayCorrected": True, "ImageDecayCorrectionTime": 3600.0,
        "ReconMethodName": "OSEM3D 4i21s", "ReconMethodParameterLabels": ["iterations", "subsets"],
        "ReconMethodParameterUnits": ["none", "none"], "ReconMethodParameterValues": [4, 21],
        "ReconFilterType": "XYZ Gauss", "ReconFilterSize": 2.0, "AttenuationCorrection": "measured,AC_CT",
    }  # fmt: skip
    assert found["side_car_lacks"] == [
        "InjectedMass", "InjectedMassUnits", "SpecificRadioactivity", "SpecificRadioactivityUnits",
        "ModeOfAdministration", "AcquisitionMode",
    ]  # fmt: skip
    text = json.dumps(found)
    assert not any(word in text for word in ("Doe", "4711", "Otherville", "2355", "0055"))
    tags = dict(RadiopharmaceuticalInformationSequence=None, DecayCorrection="NONE", ReconstructionMethod=None)
    bare = pet_fields(list(map(str, pet(tmp_path / "2", ConvolutionKernel="All-pass", **tags))))
    assert bare["ImageDecayCorrected"] is False and bare["ScanStart"] == 0.0 and "InjectionStart" not in bare
    assert (bare["ReconFilterType"], bare["ReconFilterSize"]) == ("none", 0) and "TracerName" not in bare
    odd = dict(ActualFrameDuration=None, AcquisitionTime="", SeriesTime=None, DecayCorrection=None)
    assert "ScanStart" not in pet_fields(list(map(str, pet(tmp_path / "3", **odd))))


@pytest.mark.slow
def test_time_points_in_a_batch_have_one_region(tmp_path):
    upper = head("upper_lip")
    times = [upper, upper + 5]
    (tmp_path / "in").mkdir()
    sitk.WriteImage(sitk.JoinSeries(times), str(tmp_path / "in" / "p.nii"))
    command = [
        "batch",
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "--workers",
        "0",
        "--no-gallery",
        "--names",
        "keep",
    ]
    assert main([*command, "--format", ".nii"]) == 0
    new = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "p.nii")))
    first, second = (
        ndimage.binary_closing(sitk.GetArrayFromImage(one) != values, iterations=2) for one, values in zip(times, new)
    )
    assert first.sum() > 1000 and (first ^ second).sum() < 0.02 * first.sum()


# ------------------------------------------------------------------------------------------------------- what must stay


@pytest.mark.slow
def test_structures_beside_each_scan_stay(tmp_path, capsys):
    source, output, private = tmp_path / "in", tmp_path / "out", tmp_path / "out-private"
    batch_cases.write(source / "a.nii.gz", head("upper_lip"))
    batch_cases.write(source / "b.nii.gz", another(1))
    labels = sitk.GetArrayFromImage(head("upper_lip"))
    inside = labels > 250
    inside[:, labels.shape[1] // 4 :] = False
    batch_cases.write(source / "masks" / "a_seg.nii.gz", like(inside.astype(np.uint8) * 3, head("upper_lip")))
    command = ["batch", str(source), str(output), "--workers", "0", "--no-gallery", "--format", ".nii"]
    assert main([*command, "--keep", "masks/{name}_seg.nii.gz:3,nodes"]) == 3
    rows = records(private)
    assert set(rows) == {"a.nii.gz", "b.nii.gz"}, "the masks are no scans"
    assert rows["b.nii.gz"]["status"] == Status.REFUSED and "must stay" in rows["b.nii.gz"]["sentence"]
    report = json.loads(rows["a.nii.gz"]["report"])
    assert report["kept"]["3"]["in_region"] > 0 and "There is no structure “nodes”" in rows["a.nii.gz"]["sentence"]
    new = sitk.GetArrayFromImage(sitk.ReadImage(str(output / f"{rows['a.nii.gz']['output']}.nii")))
    assert np.array_equal(new[inside], labels[inside]) and (new != labels).sum() > 1000
    assert main([*command, "--keep", "other"]) == 1
    assert "begun with other choices" in capsys.readouterr().err


@pytest.mark.slow
def test_structure_sets_of_a_study_stay_and_go_along(tmp_path, capsys):
    """They lie elsewhere in the archive; both series of the study spare what they draw."""
    source, output, private = tmp_path / "in", tmp_path / "out", tmp_path / "out-private"
    study, frame = generate_uid(), generate_uid()
    common = dict(StudyInstanceUID=study, FrameOfReferenceUID=frame)
    (source / "rt").mkdir(parents=True)
    upper = head("upper_lip")
    paths = dicom_files.write_series(source / "ct" / "1", upper, SeriesNumber=1, **common)
    dicom_files.write_series(source / "ct" / "2", upper[:, :, :-8] + 1, SeriesNumber=2, **common)
    header = pydicom.dcmread(paths[0])
    chin = np.argwhere(sitk.GetArrayFromImage(upper)[4] > 300)[0]
    place = np.array(upper.TransformIndexToPhysicalPoint((int(chin[1]), int(chin[0]), 4)))
    contours = {"PTV": [ring(circle(place + [0.0, 0.0, dz], 6.0, np.eye(3))) for dz in (0.0, 3.0, 6.0)]}
    series = item(SeriesInstanceUID=header.SeriesInstanceUID)
    referred = item(RTReferencedStudySequence=[item(RTReferencedSeriesSequence=[series])])
    dicom_files.write_document(
        source / "rt" / "rs.dcm", STRUCTURE_SET, Modality="RTSTRUCT", StudyInstanceUID=study,
        ReferencedFrameOfReferenceSequence=[referred], StructureSetROISequence=[item(ROINumber=1, ROIName="PTV")],
        ROIContourSequence=[item(ReferencedROINumber=1, ContourSequence=contours["PTV"])],
    )  # fmt: skip
    command = ["batch", str(source), str(output), "--workers", "0", "--no-gallery", "--format", ".dicom"]
    assert main([*command, "--keep", "dicom:targets", "--take-along"]) == 0
    rows = records(private)
    reports = {place: json.loads(row["report"]) for place, row in rows.items()}
    assert (
        set(reports) == {"ct/1", "ct/2"} and set(reports["ct/1"]["kept"]) == {"PTV"} and "kept" not in reports["ct/2"]
    )
    assert (reports["ct/1"]["taken_along"], reports["ct/2"]["taken_along"]) == (1, 0)
    drawn, *_ = read_structures(next((output / f"{rows['ct/1']['output']}.dicom").glob("REF*.dcm")))
    changed = regions(source, private, output)
    for number, image in ((1, upper), (2, upper[:, :, :-8])):
        inside = sitk.Resample(drawn.mask, image, sitk.Transform(), sitk.sitkNearestNeighbor)
        old, new = (
            np.array([one.pixel_array for one in sorted(map(pydicom.dcmread, path.glob("IM*.dcm")), key=height)])
            for path in (source / "ct" / str(number), output / f"{rows[f'ct/{number}']['output']}.dicom")
        )
        here = sitk.GetArrayFromImage(inside) > 0
        assert here.sum() > 5 and np.array_equal(old[here], new[here]) and changed[f"ct/{number}"].sum() > 1000
