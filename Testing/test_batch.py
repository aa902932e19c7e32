"""Batches of scans, with real defacing of coarse heads: bad scans, kills, workers that die or get stuck, names."""

import csv
import errno
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import batch_cases
import processes
import pytest
import SimpleITK as sitk
from batch_cases import head, make_archive, problems, records
from CTDefaceLib import batch
from CTDefaceLib.audits import Level
from CTDefaceLib.batch import Choices, runners
from CTDefaceLib.batch.inputs import FoundScan, find_scans
from CTDefaceLib.batch.job import WORK_FOLDER, Job, Outcome
from CTDefaceLib.batch.lock import lock
from CTDefaceLib.batch.names import output_name, pseudonym
from CTDefaceLib.batch.record import Record
from CTDefaceLib.batch.runner import DIED_SENTENCE, LONGEST_SECONDS, Resources
from CTDefaceLib.batch.runners import RUNNERS, Place
from CTDefaceLib.batch.status import Mishap, Status
from CTDefaceLib.batch.work import run_job
from CTDefaceLib.batch.worker_processes import in_worker_processes
from CTDefaceLib.commands.choices import AUDITS
from CTDefaceLib.commands.main import main
from CTDefaceLib.errors import CTDefaceError, InputError, NotReadyError, OutputError
from CTDefaceLib.pipeline import DefaceParameters
from CTDefaceLib.processes import free_memory
from CTDefaceLib.scan import Scan

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


@pytest.fixture
def folders(tmp_path):
    """Input, output and private folder."""
    source = tmp_path / "my scäns"
    source.mkdir()
    return source, tmp_path / "out", tmp_path / "out-private"


def quick(**choices):
    """A batch without pictures, so that the tests are quick."""
    return lambda source, output, **more: batch.run(source, output, gallery=False, **{**choices, **more})


@pytest.fixture
def planned(folders, monkeypatch):
    """Runs a batch that does no scan for real; returns which results there are, and what was reported."""
    monkeypatch.setitem(RUNNERS, Place.HERE, partial(runners.in_process, run=batch_cases.touched))

    def run():
        told = []
        quick(choices=Choices(names="keep"))(*folders[:2], report=told.append)
        return sorted(results(folders[1])), [event["text"] for event in told if event["event"] == "note"]

    return run


def statuses(private):
    return {place: row["status"] for place, row in records(private).items()}


def results(output):
    return {path.relative_to(output).as_posix(): path for path in output.rglob("*.nii.gz")}


# ------------------------------------------------------------------------------------------------ what becomes of scans


@pytest.mark.slow
def test_every_kind_of_bad_scan_gets_its_sentence_and_the_rest_is_done(folders):
    source, output, private = folders
    expected = make_archive(source, good=6)
    before = batch_cases.hashes(source)
    summary = batch.run(source, output, gallery=False)
    assert problems(expected, source, output, private, before) == []
    assert not summary.all_done
    assert summary.counts[Status.DONE] + summary.counts.get(Status.WARNED, 0) == 6
    assert summary.counts[Status.DOUBLE] == 2


@pytest.mark.slow
def test_nothing_of_the_patient_is_in_the_output_folder(folders):
    source, output, private = folders
    make_archive(source, good=6, bad=["DICOM, an MR"], copies=0)
    quick()(source, output)
    names = [part for path in output.rglob("*") for part in path.relative_to(output).parts]
    text = " ".join(path.read_text(encoding="utf-8") for path in output.rglob("*.json"))
    for secret in ("Patient", "Müller", "head", "P5", "Doe", "4711", str(source)):
        assert not any(secret in name for name in names)
        assert secret not in text.replace("head.", "").replace('"headers"', "")
    assert json.loads((output / batch.SUMMARY).read_text())["scans"] == {Status.DONE: 6, Status.REFUSED: 1}


def test_a_second_run_does_nothing_and_a_new_scan_is_added(folders):
    source, output, private = folders
    batch_cases.write(source / "a.nii.gz", batch_cases.another(1))
    quick()(source, output)
    before = {name: path.stat().st_mtime_ns for name, path in results(output).items()}
    batch_cases.write(source / "b.nii.gz", batch_cases.another(2))
    told = []
    summary = quick(report=told.append)(source, output)
    assert summary.counts == {Status.DONE: 2}
    assert told[0] == {"event": "planned", "total": 2, "left": 1, "counts": {Status.WAITING: 1, Status.DONE: 1}}
    assert before.items() <= {name: path.stat().st_mtime_ns for name, path in results(output).items()}.items()


def test_a_record_of_version_0_1_goes_on(folders, planned):
    """Its words for what became of a scan are those of today; scripts of that time called the callback tell."""
    source, output, private = folders
    words = ("waiting", "running", "done", "done with warnings", "held back", "no face in view", "refused", "failed")
    words = (*words, "timed out", "same as another")
    assert tuple(Status) == words
    for number in range(len(words)):
        (source / f"{number}.nii.gz").write_bytes(bytes(number))
    planned()
    with sqlite3.connect(private / "record.sqlite") as record:
        record.executemany(
            "UPDATE scan SET status = ? WHERE place = ?",
            [(word, f"{number}.nii.gz") for number, word in enumerate(words)],
        )
    for number in range(2):
        (output / f"{number}.nii.gz").unlink()
    told = []
    counts = batch.run(source, output, choices=Choices(names="keep"), gallery=False, tell=told.append).counts
    assert counts == {"done": 3, **dict.fromkeys(words[3:], 1)}
    assert told[0]["counts"] == {"waiting": 2, **dict.fromkeys(words[2:], 1)}
    assert [event["scan"] for event in told if event["event"] == "ended"] == ["0", "1"]
    assert repr(told[-1]["status"]) == repr(counts).split()[0][1:-1] == "'done'", "plain words for who prints them"
    assert (private / batch.TABLE).read_text().count("no face in view") == 1


def test_a_copy_is_done_once_in_whatever_order_it_is_found(folders, planned):
    source, _, private = folders
    (source / "m.nii").write_bytes(b"first")
    assert planned() == (["m.nii.gz"], [])
    (source / "a.nii").write_bytes(b"first")
    (source / "z.nii").write_bytes(b"first")
    assert planned() == (["m.nii.gz"], [])
    assert statuses(private) == {"a.nii": Status.DOUBLE, "m.nii": Status.DONE, "z.nii": Status.DOUBLE}
    (source / "z.nii").write_bytes(b"another one")
    assert planned() == (["m.nii.gz", "z.nii.gz"], [])


def test_a_scan_that_moved_before_it_was_done_is_done_where_it_is(folders, planned):
    source, _, private = folders
    (source / "a.nii").write_bytes(b"one")
    (source / "b.nii").write_bytes(b"one")
    with Record(prepared(private) / batch.RECORD) as record:
        record.add((scan, scan.place) for scan in find_scans(source))
        assert record.counts() == {Status.WAITING: 1, Status.DOUBLE: 1}
    (source / "a.nii").unlink()
    planned()
    assert statuses(private) == {"a.nii": Status.DOUBLE, "b.nii": Status.DONE}


def prepared(private):
    private.mkdir()
    return private


def test_a_scan_that_changed_after_it_was_done_is_told(folders, planned):
    source, output, _ = folders
    (source / "a.nii").write_bytes(b"one")
    planned()
    (source / "a.nii").write_bytes(b"another")
    assert planned() == (["a.nii.gz"], ["a: the scan changed since it was defaced; the result was left as it is."])


def test_a_scan_that_changed_before_it_was_done_is_done_as_it_is_now(folders, planned):
    source, output, private = folders
    (source / "a.nii").write_bytes(b"one")
    with Record(prepared(private) / batch.RECORD) as record:
        record.add((scan, "a") for scan in find_scans(source))
        record.finish(1, Outcome(Status.REFUSED, "The file is truncated.", 0.1))
    assert planned()[0] == []
    (source / "a.nii").write_bytes(b"complete")
    assert planned()[0] == ["a.nii.gz"]


@pytest.mark.slow
def test_each_ct_series_of_a_folder_is_a_scan(folders):
    source, output, private = folders
    write = batch_cases.dicom_files.write_series
    study = {"PatientID": "4711", "StudyInstanceUID": "1.2.3"}
    for number, image in ((4, head()), (5, batch_cases.another(5))):
        for path in write(source / "study" / str(number), image, SeriesNumber=number, **study):
            path.rename(source / "study" / f"{number}{path.name}")
    scout = write(source / "study" / "scout", head()[:, :, :1], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    scout[0].rename(source / "study" / "scout.dcm")
    for path in write(source / "alone", batch_cases.another(6)):
        shutil.copyfile(source / "study" / "scout.dcm", path.with_name("scout.dcm"))
    assert quick(choices=Choices(names="keep"))(source, output).counts == {Status.DONE: 3}
    assert sorted(results(output)) == ["alone.nii.gz", "study#4.nii.gz", "study#5.nii.gz"]
    for name, image in (("study#4", head()), ("study#5", batch_cases.another(5))):
        defaced = sitk.GetArrayFromImage(sitk.ReadImage(str(output / f"{name}.nii.gz")))
        assert (defaced == sitk.GetArrayFromImage(image)).mean() > 0.4, "another series"
    before = dict(records(private))
    assert quick(choices=Choices(names="keep"))(source, output).counts == {Status.DONE: 3}
    assert records(private) == before, "nothing was read again"


def test_a_result_that_was_deleted_is_made_again(folders):
    source, output, private = folders
    batch_cases.write(source / "a.nii.gz", head())
    quick()(source, output)
    next(iter(results(output).values())).unlink()
    quick()(source, output)
    assert len(results(output)) == 1


def test_a_file_of_somebody_else_is_not_overwritten(folders):
    source, output, private = folders
    batch_cases.write(source / "a.nii.gz", head())
    output.mkdir()
    (output / "a.nii.gz").write_text("precious")
    summary = quick(choices=Choices(names="keep"))(source, output)
    assert summary.counts == {Status.FAILED: 1}
    assert "move it away" in records(private)["a.nii.gz"]["sentence"]
    assert (output / "a.nii.gz").read_text() == "precious"


@pytest.mark.slow
def test_a_complete_result_that_nobody_noted_is_kept_and_a_half_one_is_not(folders):
    source, output, private = folders
    for number in range(3):
        batch_cases.write(source / f"{number}.nii.gz", batch_cases.another(number))
    quick()(source, output)
    with sqlite3.connect(private / "record.sqlite") as record:
        record.execute("UPDATE scan SET status = 'running', report = NULL")
    names = {place: row["output"] for place, row in records(private).items()}
    (output / f"{names['1.nii.gz']}.nii.gz").unlink()  # killed between report and volume
    (output / f"{names['2.nii.gz']}.json").write_text("{}")
    kept = output / f"{names['0.nii.gz']}.nii.gz"
    before = kept.stat().st_mtime_ns
    (output / WORK_FOLDER / "7-1").mkdir(parents=True)
    summary = quick()(source, output)
    assert kept.stat().st_mtime_ns == before
    assert (output / f"{names['1.nii.gz']}.nii.gz").exists()
    assert summary.counts == {Status.DONE: 2, Status.FAILED: 1}
    assert not (output / WORK_FOLDER).exists()


@pytest.mark.parametrize("said", [None, OSError(errno.ENOSPC, "No space left on device")])
def test_a_full_disk_ends_the_batch_and_it_goes_on_later(folders, monkeypatch, said):
    source, output, private = folders
    batch_cases.write(source / "a.nii.gz", head())

    def full(*_):
        raise OutputError("No room.") from said

    monkeypatch.setattr("CTDefaceLib.batch.members.save_volume", full)
    monkeypatch.setattr("CTDefaceLib.batch.running.LITTLE_ROOM_BYTES", 0 if said else 1 << 60)
    with pytest.raises(OutputError, match="make room and start the batch again"):
        quick()(source, output)
    assert statuses(private) == {"a.nii.gz": Status.WAITING}
    monkeypatch.undo()
    assert quick()(source, output).counts == {Status.DONE: 1}


def test_other_choices_and_a_second_run_at_the_same_time_are_refused(folders):
    source, output, private = folders
    batch_cases.write(source / "a.nii.gz", head())
    quick()(source, output)
    with pytest.raises(InputError, match="other choices.*margin_mm: 0.0"):
        quick(parameters=DefaceParameters(margin_mm=3))(source, output)
    with pytest.raises(InputError, match="other choices.*layout"):
        quick(choices=Choices(layout="bids"))(source, output)
    with Record(private / batch.RECORD):
        with pytest.raises(CTDefaceError, match="running already"):
            quick()(source, output)
        with Record(private / batch.RECORD, read_only=True) as reader:
            assert reader.counts() == {Status.DONE: 1}


def damage(path, kind):
    """Spoil a record as a disk or an editor would."""
    if kind == "a word":
        with sqlite3.connect(path) as record:
            record.execute("UPDATE scan SET study = CAST(x'312e322e3834302eff' AS TEXT)")
        return
    data = path.read_bytes()
    path.write_bytes({"zeros": bytes(len(data)), "cut": data[: len(data) // 2], "text": b"Dear colleague,"}[kind])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zeros", "cut", "text", "a word"])
def test_a_damaged_record_is_rebuilt(folders, capfd, kind):
    """From reports and secret: what was done is not touched, the rest is done, and nothing is quoted."""
    source, output, private = folders
    for number in range(2):
        batch_cases.write(source / f"{number}.nii.gz", batch_cases.another(number))
    quick(parameters=DefaceParameters(margin_mm=2))(source, output)
    run = json.loads((output / batch.SUMMARY).read_text())["run"]
    gone, kept = sorted(results(output).values())
    before, secret = kept.stat().st_mtime_ns, (private / batch.SECRET).read_bytes()
    gone.unlink()
    damage(private / batch.RECORD, kind)
    command = ["batch", str(source), str(output), "--no-gallery", "--workers", "0", "--margin", "2"]
    assert main(command) == 1
    assert capfd.readouterr().err.splitlines()[-1].startswith("ctdeface: The record of the batch is damaged: start")
    with pytest.raises(InputError, match="other choices.*margin_mm: 2"):
        quick(parameters=DefaceParameters(margin_mm=3), rebuild=True)(source, output)
    (private / batch.SECRET).unlink()
    assert main([*command, "--rebuild"]) == 1
    assert "secret" in capfd.readouterr().err
    (private / batch.SECRET).write_bytes(secret)
    assert main([*command, "--rebuild"]) == 0
    assert "that were taken up: 1." in capfd.readouterr().err
    assert sorted(results(output).values()) == [gone, kept] and kept.stat().st_mtime_ns == before
    assert {row["attempts"] for row in records(private).values()} == {1}
    assert json.loads((output / batch.SUMMARY).read_text())["run"] == run
    assert quick(parameters=DefaceParameters(margin_mm=2))(source, output).counts == {Status.DONE: 2}


@pytest.mark.slow
@pytest.mark.parametrize("number", ["EROFS", "EIO", "ESTALE", "ENOTCONN"])
@pytest.mark.parametrize("step", ["make_folder", "save_volume", "put_in_place"])
def test_a_disk_that_can_no_longer_be_written_ends_the_batch_and_it_goes_on_later(folders, monkeypatch, number, step):
    """Whatever the step at which it shows: no scan is to blame, and none is burned."""
    source, output, private = folders
    for name in ("a", "b"):
        (source / f"{name}.nii.gz").write_bytes(name.encode())
    said = OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    def refused(*_, **__):
        raise said

    def refused_as_such(*_):
        raise OutputError("The output could not be written.") from said

    monkeypatch.setattr("CTDefaceLib.batch.members.read_scan", lambda *_, **__: Scan(head()))
    monkeypatch.setattr(
        "CTDefaceLib.study.follow.deface", lambda *_, **__: SimpleNamespace(image=head(), report={"warnings": []})
    )
    with monkeypatch.context() as broken:
        module = "members" if step == "save_volume" else "results"
        broken.setattr(f"CTDefaceLib.batch.{module}.{step}", refused_as_such if step == "save_volume" else refused)
        with pytest.raises(OutputError, match="start the batch again; it goes on where it was"):
            quick()(source, output)
    assert set(statuses(private).values()) == {Status.WAITING}
    assert quick()(source, output).counts == {Status.DONE: 2}


def test_an_input_that_cannot_be_read_is_no_fault_of_the_output(folders, monkeypatch):
    source, output, private = folders
    (source / "a.nii.gz").write_bytes(b"a")

    def broken(path, *_):
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    monkeypatch.setattr("CTDefaceLib.batch.members.read_scan", broken)
    assert quick()(source, output).counts == {Status.FAILED: 1}


@pytest.mark.parametrize("has_locks", [True, False])
def test_two_batches_with_one_output_leave_each_other_alone(folders, monkeypatch, has_locks):
    """Their private folders differ; the second begins while the first has an unfinished scan."""
    source, output, private = folders
    batch_cases.write(source / "a.nii.gz", head())
    second = []

    def in_the_middle(job):
        if not second:
            second.append("begun")
            work = Path(job.work)
            work.mkdir()
            try:
                second.append(quick()(source, output, private=private.with_name("other")).counts)
            except CTDefaceError as error:
                second.append(str(error))
            assert work.is_dir(), "somebody else's unfinished work was removed"
        return run_job(job)

    if not has_locks:

        def without(*_):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("CTDefaceLib.batch.folders.lock", without)
    monkeypatch.setitem(RUNNERS, Place.HERE, partial(runners.in_process, run=in_the_middle))
    assert quick()(source, output).counts == {Status.DONE: 1}
    assert second[1] == {Status.DONE: 1} if not has_locks else "Another batch is writing into this output" in second[1]
    assert not (output / WORK_FOLDER).exists()
    assert quick()(source, output, private=private.with_name("other")).counts == {Status.DONE: 1}


@POSIX
def test_the_lock_of_an_output_goes_with_its_process(tmp_path):
    held = f"lock({str(tmp_path / 'lock')!r}, 'busy'); print('held', flush=True); input()"
    script = f"from CTDefaceLib.batch.lock import lock; {held}"
    holder = subprocess.Popen(
        [sys.executable, "-c", script], env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(CTDefaceError, match="busy"):
        lock(tmp_path / "lock", "busy")
    holder.kill()
    holder.communicate()
    descriptor = lock(tmp_path / "lock", "busy")
    (tmp_path / "lock").unlink()
    os.close(lock(tmp_path / "lock", "busy"))  # a new file
    os.close(descriptor)


@pytest.mark.slow
def test_what_the_audit_still_finds_is_held_back(folders):
    source, output, private = folders
    batch_cases.write(source / "a.nii.gz", head())
    summary = quick(choices=Choices(audit="test_batch:found"))(source, output)
    assert summary.counts == {Status.HELD_BACK: 1}
    assert records(private)["a.nii.gz"]["sentence"] == "There it is."
    assert json.loads(records(private)["a.nii.gz"]["report"])["audit"]["sentence"] == "There it is."
    assert not results(output)


@pytest.mark.slow
@pytest.mark.usefixtures("light_evaluations")
def test_the_quick_audit(folders):
    pytest.importorskip("dlib", reason="needs dlib-bin and face_recognition_models")
    source, output, private = folders
    batch_cases.write(source / "a.nii.gz", head())
    quick(choices=Choices(audit=AUDITS["quick"]))(source, output)
    (row,) = records(private).values()
    report = json.loads(row["report"])
    assert report["audit"]["verdict"] in (Level.NOT_ALL_TRIED, Level.NOT_EVALUABLE)
    assert json.loads((output / f"{row['output']}.json").read_text())["audit"] == report["audit"]
    weak = DefaceParameters(as_is=True, fill="blur", blur_mm=0.1)
    with pytest.raises(InputError, match="audit needs nowhere"):
        quick(choices=Choices(audit="nowhere:quick"))(source, output)
    summary = batch.run(source, output.with_name("weak"), weak, Choices(audit=AUDITS["quick"]), gallery=False)
    assert summary.counts in ({Status.HELD_BACK: 1}, {Status.WARNED: 1})


def found(original, defaced, bare):
    assert (sitk.GetArrayViewFromImage(original) != sitk.GetArrayViewFromImage(defaced)).any()
    return {"verdict": str(Level.FACE_FOUND), "sentence": "There it is."}


@pytest.mark.slow
def test_sent_back_scans_are_redone_with_the_present_choices(folders):
    source, output, private = folders
    for number in range(2):
        batch_cases.write(source / f"{number}.nii.gz", batch_cases.another(number))
    quick()(source, output)
    names = {place: row["output"] for place, row in records(private).items()}
    removed = {name: json.loads((output / f"{name}.json").read_text())["removed_ml"] for name in names.values()}
    kept = (output / f"{names['0.nii.gz']}.nii.gz").read_bytes()
    decisions = output.with_name("decisions.csv")
    rows = f"scan,decision,note,attempt\n{names['0.nii.gz']},accept,,1\n{names['1.nii.gz']},send back,ears,1\n"
    decisions.write_text(rows, encoding="utf-8")
    quick(parameters=DefaceParameters(margin_mm=8))(source, output, redo=decisions)
    report = json.loads((output / f"{names['1.nii.gz']}.json").read_text())
    assert report["removed_ml"] > removed[names["1.nii.gz"]]
    assert (report["parameters"]["margin_mm"], report["batch"]["attempt"]) == (8, 2)
    assert (output / f"{names['0.nii.gz']}.nii.gz").read_bytes() == kept
    assert quick()(source, output).counts == {Status.DONE: 2}
    redone, told = (output / f"{names['1.nii.gz']}.nii.gz").read_bytes(), []
    quick(parameters=DefaceParameters(margin_mm=8), report=told.append)(source, output, redo=decisions)
    assert {"event": "note", "text": "Done again already with these choices, of those sent back: 1."} in told
    assert (output / f"{names['1.nii.gz']}.nii.gz").read_bytes() == redone, "the same command goes on, and ends"
    quick(parameters=DefaceParameters(margin_mm=9))(source, output, redo=decisions)
    assert records(private)["1.nii.gz"]["attempts"] == 3
    decisions.write_text("scan,decision\nnobody,send back\n", encoding="utf-8")
    with pytest.raises(InputError, match="another batch"):
        quick()(source, output, redo=decisions)


@pytest.mark.slow
def test_seeds_make_the_batch_repeatable_and_differ_between_scans(folders):
    source, output, private = folders
    for name in "ab":
        batch_cases.write(source / f"{name}.nii.gz" if name == "a" else source / "b.nrrd", head())
    choices = Choices(names="keep", ending=".nrrd")
    for folder in (output, output.with_name("again")):
        quick(parameters=DefaceParameters(seed=5), choices=choices)(source, folder)
    a, b, again = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        for path in (output / "a.nrrd", output / "b.nrrd", output.with_name("again") / "a.nrrd")
    )
    assert (a == again).all()
    assert (a != b).any()
    assert '"seed": "given' in (output / batch.SUMMARY).read_text()


# ----------------------------------------------------------------------------------------------------- names and inputs


def test_names():
    secret = b"s" * 32
    scans = find_scans_of("Hans/ct 1/head.nii.gz", patient="")
    assert output_name(scans, "tree", "keep", b"") == "Hans/ct 1/head"
    name = output_name(scans, "tree", "pseudonym", secret)
    assert [len(part) for part in name.split("/")] == [10, 10, 10]
    assert name.split("/")[0] == pseudonym(secret, "folder", "Hans")
    assert pseudonym(secret, "folder", "Hans") != pseudonym(b"t" * 32, "folder", "Hans")
    first = output_name(find_scans_of("a.nii", patient="4711", study="1.2"), "bids", "pseudonym", secret)
    second = output_name(find_scans_of("b.nii", patient="4711", study="1.3"), "bids", "pseudonym", secret)
    subject, session, folder, file = first.split("/")
    assert second.split("/")[0] == subject == f"sub-{pseudonym(secret, 'patient', '4711')}"
    assert session.startswith("ses-") and session != second.split("/")[1]
    assert folder == "ct" and file.startswith(f"{subject}_{session}_rec-") and file.endswith("_ct")


def find_scans_of(place, patient, study=""):
    return FoundScan(place, place, "stamp", patient=patient, study=study)


def test_a_table_says_what_and_how_it_is_called(folders):
    source, output, private = folders
    batch_cases.write(source / "deep" / "a.nii.gz", head())
    table = source / "table.csv"
    table.write_text("﻿input;patient;output\ndeep/a.nii.gz;P1;site 1/first.nii.gz\ngone.nii;P2;\n", encoding="utf-8")
    summary = quick()(table, output)
    assert summary.counts == {Status.DONE: 1, Status.REFUSED: 1}
    assert list(results(output)) == ["site 1/first.nii.gz"]
    assert "no such file" in records(private)["gone.nii"]["sentence"]


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("path\na.nii\n", "no column “input”"),
        ("input\n", "no rows"),
        ("input,output\na.nii,../x\n", "no name below"),
        (
            "input,output\na.nii,x\nb.nii,X\n" if os.name == "nt" else "input,output\na.nii,x\nb.nii,x\n",
            "output 2 times",
        ),
        ("input,patient\n,P1\n", "no input"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path, text, sentence):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        find_scans(tmp_path / "t.csv")


def test_what_the_segmenter_lacks_is_said_once_and_places_stay_private(folders, tmp_path):
    source, output, private = folders
    batch_cases.write(source / "a.nii.gz", head())
    weights = str(tmp_path / "weights of Jane")
    with pytest.raises(NotReadyError):
        quick(parameters=DefaceParameters(segmenter="nnunet", weights=weights))(source, output)
    quick(parameters=DefaceParameters(weights=weights))(source, output)
    quick(parameters=DefaceParameters(weights=weights, device="cpu"))(source, output)  # the same batch
    assert "Jane" not in (output / batch.SUMMARY).read_text()


def test_a_scan_that_hangs_is_given_up_by_default():
    def timeout(*given, **more):
        return runners.choose(DefaceParameters(), *given, **{"threads": 1, "scheduler": None, "timeout": None, **more})[
            1
        ].timeout

    assert timeout(2) == timeout(None, scheduler="tcp://node1:8786") == LONGEST_SECONDS
    assert timeout(2, timeout=5.0) == 5.0 and timeout(2, timeout=0.0) is timeout(0) is None


def test_how_many_workers_fit(monkeypatch):
    monkeypatch.setattr("CTDefaceLib.processes.processors", lambda: 12)
    monkeypatch.setattr("CTDefaceLib.processes.free_memory", lambda: 32e9)
    assert runners.fitting_workers() == 10
    assert runners.fitting_workers(has_model=True) == 4
    assert runners.fitting_workers(has_model=True, cards=2) == 2
    monkeypatch.setattr("CTDefaceLib.processes.free_memory", lambda: 1e9)
    assert runners.fitting_workers() == 1
    monkeypatch.undo()
    assert 1e8 < free_memory() < 1e14
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert free_memory() < 1e14
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-ab")
    assert runners.graphics_cards() == ["2", "GPU-ab"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert runners.graphics_cards() == []


@pytest.mark.slow
def test_graphics_cards_are_shared_out(monkeypatch, tmp_path):
    before = dict(os.environ)
    jobs = [job(number, tmp_path) for number in range(6)]
    runner = in_worker_processes(jobs, lambda *_: None, Resources(2, cards=("3", "7")), run=visible_card)
    assert {outcome.sentence for _, outcome in runner} == {"3 1", "7 1"}
    assert os.environ == before


def visible_card(job):
    """Waits until both workers have come this far."""
    name = os.environ["CUDA_VISIBLE_DEVICES"]
    Path(job.output).with_name(name).touch()
    processes.wait_for(lambda: len(list(Path(job.output).parent.glob("[37]"))) == 2)
    return Outcome(Status.DONE, f"{name} {sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()}")


@pytest.mark.slow
def test_a_script_of_the_user_needs_no_guard(folders, tmp_path):
    """Python's own worker processes would run it again; so would those in “Slicer --python-script”."""
    source, output, _ = folders
    for number in range(2):
        batch_cases.write(source / f"{number}.nii.gz", batch_cases.another(number))
    script = tmp_path / "my script.py"
    script.write_text(
        "print('once')\nfrom CTDefaceLib import batch\n"
        f"print(batch.run({str(source)!r}, {str(output)!r}, workers=2, gallery=False).counts)\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, script], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout == "once\n{'done': 2}\n", done.stderr


@pytest.mark.slow
@POSIX
def test_workers_start_within_slicer(folders, tmp_path):
    """There ``sys.executable`` is a launcher; a process that it starts does not get the pipes."""
    source, output, _ = folders
    batch_cases.write(source / "a.nii.gz", head())
    launcher, interpreter = tmp_path / "PythonSlicer", tmp_path / "python-real"
    launcher.write_text("#!/bin/sh\nexit 1\n")
    interpreter.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    launcher.chmod(0o755)
    interpreter.chmod(0o755)
    script = (
        f"import sys; sys.executable = {str(launcher)!r}; from CTDefaceLib import batch\n"
        f"print(batch.run({str(source)!r}, {str(output)!r}, workers=1, gallery=False).counts)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{'done': 1}\n", "")
    interpreter.unlink()
    batch_cases.write(source / "b.nii.gz", batch_cases.another(2))
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert "PythonSlicer -m CTDefaceLib" in done.stderr


def test_the_output_inside_the_input_is_not_searched(folders):
    source, _, _ = folders
    batch_cases.write(source / "a.nii.gz", head())
    for _ in range(2):
        assert quick()(source, source / "out").counts == {Status.DONE: 1}


@pytest.mark.slow
def test_bids_names_from_the_patients_of_dicom(folders):
    source, output, private = folders
    for number in range(2):
        batch_cases.dicom_files.write_series(source / str(number), batch_cases.another(number), PatientID="4711")
    quick(choices=Choices(layout="bids"))(source, output)
    assert len(list(output.glob("sub-*"))) == 1
    assert len(list(output.glob("sub-*/ses-*/ct/sub-*_ct.nii.gz"))) == 2
    assert json.loads((output / "dataset_description.json").read_text())["GeneratedBy"][0]["Name"] == "CTDeface"


def test_bids_names_keep_patients_without_id_apart(folders):
    source, output, private = folders
    for number, person in enumerate(("ANON", "", "", "Doe^Jane", "Doe^Jane")):
        batch_cases.dicom_files.write_series(source / str(number), head()[:, :, :6], PatientID="", PatientName=person)
    scans = find_scans(source)
    assert len({scan.patient for scan in scans}) == 4 and scans[3].patient == scans[4].patient == "Doe^Jane"
    assert len({output_name(scan, "bids", "pseudonym", b"s" * 32).split("/")[0] for scan in scans}) == 4


def test_dry_run_writes_nothing(folders, capsys, monkeypatch):
    source, output, private = folders
    make_archive(source, good=3, bad=[], copies=1)
    monkeypatch.chdir(source.parent)
    assert main(["batch", str(source), "out", "--dry-run"]) == 0
    assert not output.exists() and not private.exists()
    listed = capsys.readouterr().out
    assert "head 2.nrrd -> (a pseudonym): waiting" in listed
    assert listed.count("same as another") == 1
    assert listed.endswith("4 scans\n")


# ----------------------------------------------------------------------------------------------- workers that misbehave


def job(number, folder):
    return Job(number, 1, str(number), "", str(folder / f"{number}.nii.gz"), str(folder / "work"), "run")


def misbehave(job):
    """What the number of the job says: die, hang, hang in C, or be good and tell the process."""
    if job.scan == 1 and not Path(job.output).exists():
        Path(job.output).touch()
        os.kill(os.getpid(), signal.SIGKILL if os.name != "nt" else signal.SIGTERM)
    if job.scan == 2:
        subprocess.Popen([sys.executable, "-c", f"import time; time.sleep(60) # {job.output}"])
        time.sleep(60)
    return Outcome(Status.DONE, str(os.getpid()))


@pytest.mark.slow
def test_a_worker_that_dies_or_hangs_costs_its_own_scan_only(tmp_path):
    started = []
    ended = {
        job.scan: outcome
        for job, outcome in in_worker_processes(
            (job(number, tmp_path) for number in range(8)),
            lambda worker, job: started.append(worker),
            Resources(workers=2, timeout=5.0),
            run=misbehave,
        )
    }
    assert ended[1].status == Mishap.DIED
    assert ended[2] == Outcome(Status.TIMED_OUT, "It took longer than 5 s.", 5.0)
    assert [ended[n].status for n in (0, 3, 4, 5, 6, 7)] == [Status.DONE] * 6
    assert set(started) == {"worker 1", "worker 2"}
    assert len({ended[n].sentence for n in (0, 3, 4, 5, 6, 7)}) <= 4, "processes are kept"
    if Path("/proc").is_dir():
        assert not processes.with_argument(str(tmp_path / "2.nii"))


@pytest.mark.slow
def test_a_scan_whose_worker_dies_is_tried_again_and_given_up_in_the_end(folders, monkeypatch):
    source, output, private = folders
    for number in range(3):
        batch_cases.write(source / f"{number}.nii.gz", batch_cases.another(number))
    deaths = []

    def runner(jobs, **_):
        for job in jobs:
            dies = job.path.endswith("1.nii.gz") or (job.path.endswith("2.nii.gz") and not deaths)
            deaths.extend([job.scan] * dies)
            yield job, Outcome(Mishap.DIED, DIED_SENTENCE) if dies else run_job(job)

    monkeypatch.setitem(RUNNERS, Place.HERE, runner)
    quick()(source, output)
    assert statuses(private) == {"0.nii.gz": Status.DONE, "1.nii.gz": Status.FAILED, "2.nii.gz": Status.DONE}
    assert "ended without a word" in records(private)["1.nii.gz"]["sentence"]
    monkeypatch.undo()
    assert quick()(source, output).counts == {Status.DONE: 2, Status.FAILED: 1}
    assert quick()(source, output, retry_failed=True).counts == {Status.DONE: 3}


# --------------------------------------------------------------------------------------------------------------- killed


def start_batch(source, output, *more):
    command = [sys.executable, "-m", "CTDefaceLib", "batch", str(source), str(output), "--no-gallery", *more]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("workers", ["0", "2"])
def test_killed_again_and_again_it_goes_on(folders, tmp_path, workers):
    source, output, private = folders
    expected = make_archive(source, good=6, bad=["cut .nii", "no face in view", "DICOM, slice missing"])
    before = batch_cases.hashes(source)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    for kill in range(3):
        process = start_batch(source, output, "--workers", workers)
        processes.wait_for(lambda process=process: process.poll() is not None or (output / WORK_FOLDER).exists())
        time.sleep(0.4 * kill)
        started = processes.children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        processes.wait_for(lambda started=started: not any(map(processes.is_alive, started)))
        assert all(path.stat().st_size > 1000 for path in results(output).values())
    process = start_batch(source, output, "--workers", workers)
    errors = process.communicate()[1]
    assert process.returncode == 3, errors
    assert problems(expected, source, output, private, before) == []


@pytest.mark.slow
@POSIX
def test_workers_killed_and_the_run_goes_on(folders):
    source, output, private = folders
    expected = make_archive(source, good=6, bad=["cut .nii"])
    before = batch_cases.hashes(source)
    process = start_batch(source, output, "--workers", "2")
    killed = set()
    while process.poll() is None and len(killed) < 3:
        workers = [pid for pid in processes.children(process.pid) if "spawn_main" in processes.command_line(pid)]
        if any((output / WORK_FOLDER).glob("*/*")) and set(workers) - killed:
            killed.add(min(set(workers) - killed))
            os.kill(max(killed), signal.SIGKILL) if max(killed) in workers else None
            time.sleep(0.5)
        time.sleep(0.03)
    errors = process.communicate()[1]
    assert process.returncode == 3, errors
    assert killed
    assert problems(expected, source, output, private, before) == []


@pytest.mark.slow
@POSIX
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_leaves_nothing_unfinished(folders, number, status):
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("the tests run in the background, where this signal is ignored")
    source, output, private = folders
    make_archive(source, good=6, bad=[], copies=0)
    process = start_batch(source, output, "--workers", "2")
    processes.wait_for(lambda: any((output / WORK_FOLDER).glob("*/*")))
    started = processes.children(process.pid)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == status
    processes.wait_for(lambda: not any(map(processes.is_alive, started)))  # one of them ends a moment later
    assert not (output / WORK_FOLDER).exists()
    assert quick()(source, output).counts == {Status.DONE: 6}


def test_the_commands_exit_status_and_lines(folders, capsys):
    source, output, private = folders
    batch_cases.write(source / "a.nii.gz", head())
    assert main(["batch", str(source), str(output), "--workers", "0", "--no-gallery"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "1 done\n"
    assert "1 scans, 1 to do" in shown.err
    assert "1/1" in shown.err
    shutil.copyfile(source / "a.nii.gz", source / "b.nii.gz")
    (source / "c.nii.gz").write_bytes(b"no")
    assert main(["batch", str(source), str(output), "--workers", "0", "--no-gallery"]) == 3
    with open(private / "scans.csv", encoding="utf-8", newline="") as file:
        table = {row["input"]: row for row in csv.DictReader(file)}
    assert table["b.nii.gz"]["sentence"] == "The same scan as a.nii.gz."
    assert table["c.nii.gz"]["status"] == Status.REFUSED
    with pytest.raises(SystemExit):
        main(["batch", str(source), str(output), "--workers", "0", "--timeout", "5"])
    assert main(["batch", str(source / "gone"), str(output.with_name("nothing"))]) == 1
    assert not output.with_name("nothing").exists()
    assert Status.RUNNING not in statuses(private).values()
