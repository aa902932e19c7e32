"""A DICOM node next to a PACS: nothing that it took is lost, doubled or forwarded undefaced, whatever happens when."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

pynetdicom = pytest.importorskip("pynetdicom", reason='pip install "ctdeface[pacs]"')

import dicom_files  # noqa: E402
import processes  # noqa: E402
import pydicom  # noqa: E402
from coarse_phantoms import scan  # noqa: E402
from CTDefaceLib.batch.job import Outcome  # noqa: E402
from CTDefaceLib.batch.runner import Resources  # noqa: E402
from CTDefaceLib.batch.status import Mishap  # noqa: E402
from CTDefaceLib.batch.status import Status as Became  # noqa: E402
from CTDefaceLib.commands.main import main  # noqa: E402
from CTDefaceLib.dicom.pseudonyms import Pseudonyms  # noqa: E402
from CTDefaceLib.dicom.write import METHOD  # noqa: E402
from CTDefaceLib.errors import CTDefaceError, InputError, OutputError  # noqa: E402
from CTDefaceLib.pacs import defacing, node, receiving  # noqa: E402
from CTDefaceLib.pacs import queue as queue_module  # noqa: E402
from CTDefaceLib.pacs.defacing import Account, Choices, StudyJob, account_for, deface_received  # noqa: E402
from CTDefaceLib.pacs.forward import Folder, ForwardError, Node, destination  # noqa: E402
from CTDefaceLib.pacs.hashes import content_of  # noqa: E402
from CTDefaceLib.pacs.queue import LATE, QUARANTINE, STUDIES, WHY, Kept, Queue, Refusal, Status  # noqa: E402
from CTDefaceLib.pacs.record import Record, State, read_record  # noqa: E402
from CTDefaceLib.pacs.tls import Tls  # noqa: E402
from CTDefaceLib.private import make_secret  # noqa: E402
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid  # noqa: E402

SECRET = bytes(range(32))
CT_STUDY = "1.2.3.4"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def written(header) -> bytes:
    """A header as a file of its own."""
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    file = BytesIO()
    header.save_as(file, enforce_file_format=True)
    return file.getvalue()


def image(**tags) -> bytes:
    return written(dicom_files.slice_header(**{"StudyInstanceUID": CT_STUDY, **tags}))


@contextmanager
def opened(folder: Path, **choices):
    """The queue of a folder, as a node that starts finds it."""
    folder.mkdir(exist_ok=True)
    (folder / "secret.key").write_text(SECRET.hex())
    with Record(folder) as record:
        queue = Queue(folder, record, SECRET, **choices)
        queue.resume()
        yield queue


def take(queue: Queue, data: bytes) -> tuple[str, Kept]:
    return queue.take(data[:132], memoryview(data)[132:])


def contents(queue: Queue, study: str) -> dict[str, str]:
    return {path.name: content_of(SECRET, path) for path in queue.images(study).iterdir()}


def make_results(queue: Queue, study: str, names) -> Path:
    """Stand-ins for the defaced counterparts of these images."""
    made = queue.work(study) / "result"
    made.mkdir()
    for name in names:
        (made / name).write_bytes(b"defaced")
    return made


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# What is taken, and what is not


def test_an_image_is_on_disk_under_a_hash_and_kept_once(tmp_path):
    data = image(SOPInstanceUID="1.2.3.4.5")
    with opened(tmp_path / "node") as queue:
        study, kept = take(queue, data)
        assert kept is Kept.NEW and take(queue, data) == (study, Kept.AGAIN)
        (path,) = queue.images(study).iterdir()
        assert path.read_bytes() == data
        assert not any(uid in str(path) for uid in ("1.2.3.4", "4711"))
        assert files_below(tmp_path / "node" / "incoming") == []
        assert queue.record.study(study).state is State.RECEIVING


@pytest.mark.parametrize("uid", ["../../../evil", "/etc/passwd", "CON", "1.2.3/../4", "a" * 64])
def test_no_uid_becomes_part_of_a_path(tmp_path, uid):
    with opened(tmp_path / "node") as queue:
        study, _ = take(queue, image(StudyInstanceUID=uid, SOPInstanceUID=uid))
        assert len(study) == 32 and set(study) <= set("0123456789abcdef")
    assert [path.name for path in tmp_path.iterdir()] == ["node"]
    assert not [path for path in (tmp_path / "node").rglob("*") if "evil" in path.name or "passwd" in path.name]


@pytest.mark.parametrize(
    "data, status",
    [
        (lambda: image()[:-4], Status.NOT_UNDERSTOOD),
        (lambda: image()[:200], Status.NOT_UNDERSTOOD),
        (lambda: image()[:132] + os.urandom(3000), Status.NOT_UNDERSTOOD),
        (lambda: image(StudyInstanceUID=""), Status.NOT_UNDERSTOOD),
        (lambda: image(StudyInstanceUID="1\\2"), Status.NOT_UNDERSTOOD),
        (lambda: image(StudyInstanceUID="1" * 65), Status.NOT_UNDERSTOOD),
        (lambda: image(DeidentificationMethod=["by hand", METHOD]), Status.ALREADY_DEFACED),
        (lambda: image(SOPInstanceUID="1.2.3").replace(b"\2\0\3\0UI\6\x001.2.3\0", b"\2\0\3\0UI\6\x001.2.4\0"),
         Status.MISMATCH),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_leaves_nothing(tmp_path, data, status):
    with opened(tmp_path / "node") as queue:
        with pytest.raises(Refusal) as refusal:
            take(queue, data())
        assert refusal.value.status is status
        assert [name for name in files_below(tmp_path / "node") if name.endswith(".dcm")] == []


def test_another_image_of_the_same_uid_is_refused(tmp_path):
    with opened(tmp_path / "node") as queue:
        study, _ = take(queue, image(SOPInstanceUID="1.2"))
        with pytest.raises(Refusal) as refusal:
            take(queue, image(SOPInstanceUID="1.2", PixelData=b"\1" * 8))
        assert refusal.value.status is Status.OTHER_IMAGE and len(contents(queue, study)) == 1


def test_a_disk_that_would_get_full_refuses(tmp_path):
    free = shutil.disk_usage(tmp_path).free
    with opened(tmp_path / "node", keep_free=2 * free) as queue, pytest.raises(Refusal) as refusal:
        take(queue, image())
    assert refusal.value.status is Status.OUT_OF_RESOURCES
    assert not any(name.endswith(".dcm") for name in files_below(tmp_path / "node"))


@pytest.mark.parametrize("step", ["sync", "make_folder"])
def test_a_disk_that_is_full_refuses(tmp_path, monkeypatch, step):
    def full(*_):
        raise OSError(28, "No space left on device")

    with opened(tmp_path / "node") as queue:
        with monkeypatch.context() as patch, pytest.raises(Refusal) as refusal:
            patch.setattr(queue_module, step, full)
            take(queue, image(SOPInstanceUID="1.2"))
        assert refusal.value.status is Status.OUT_OF_RESOURCES
        assert not any(name.endswith(".dcm") for name in files_below(tmp_path / "node"))
        assert take(queue, image(SOPInstanceUID="1.2"))[1] is Kept.NEW


# A study's way


def test_a_study_is_handed_out_when_nothing_more_comes(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(queue_module.time, "monotonic", lambda: now[0])
    with opened(tmp_path / "node") as queue:
        study, _ = take(queue, image())
        now[0] += 9
        assert queue.quiet(10) == []
        take(queue, image())
        now[0] += 9
        assert queue.quiet(10) == []
        now[0] += 1
        assert queue.quiet(10, busy={study}) == [] and queue.quiet(10) == [study] and queue.quiet(10) == []
    with opened(tmp_path / "node") as queue:  # begun again
        now[0] += 10
        assert queue.quiet(10) == [study]


def test_what_comes_while_a_study_is_defaced_makes_it_be_defaced_again(tmp_path):
    with opened(tmp_path / "node") as queue:
        study, _ = take(queue, image())
        queue.quiet(0)
        before, made = contents(queue, study), make_results(queue, study, ["a"])
        take(queue, image())
        assert not queue.close(study, made, before, set(), "", 1.0)
        assert queue.quiet(0) == [study] and not queue.defaced(study).exists()
        take(queue, image())
        queue.put_into_quarantine(study, "A part of it was no head.")
        assert len(contents(queue, study)) == 3, "it was not complete when it was found to be none"


def test_late_images_go_into_quarantine_and_doubles_nowhere(tmp_path):
    data = image()
    with opened(tmp_path / "node") as queue:
        study, _ = take(queue, data)
        queue.close(study, make_results(queue, study, ["a"]), contents(queue, study), set(), "", 1.0)
        for state in (State.FORWARDING, State.FORWARDED):
            assert queue.record.study(study).state is state
            assert take(queue, data)[1] is Kept.AGAIN
            with pytest.raises(Refusal):
                take(queue, written(_changed(data)))
            late = image()
            assert take(queue, late)[1] is Kept.QUARANTINED and take(queue, late)[1] is Kept.AGAIN
            queue.forwarded(study)
        quarantine = tmp_path / "node" / QUARANTINE / study
        assert len(list(quarantine.glob("*.dcm"))) == 2
        assert (quarantine / WHY).read_text() == LATE + "\n"
        assert list((tmp_path / "node" / STUDIES).iterdir()) == []


def _changed(data: bytes):
    header = pydicom.dcmread(BytesIO(data))
    header.PixelData = b"\7" * 8
    return header


def test_a_study_in_quarantine_can_be_taken_up_again(tmp_path, capsys):
    data, more = image(), image()
    with opened(tmp_path / "node") as queue:
        study, _ = take(queue, data)
        queue.quiet(0)
        queue.put_into_quarantine(study, "It is no head.")
        assert take(queue, data)[1] is Kept.AGAIN and take(queue, more)[1] is Kept.QUARANTINED
    folder = str(tmp_path / "node")
    assert main(["receive", folder, "--status"]) == 0
    said = capsys.readouterr().out
    assert f"{study}: in quarantine; 2 images in quarantine; It is no head." in said
    assert main(["receive", folder, "--again", "nothing"]) == 1 and "--status" in capsys.readouterr().err
    assert main(["receive", folder, "--again", study]) == 0
    with opened(tmp_path / "node") as queue:
        assert queue.quiet(0) == [study] and len(contents(queue, study)) == 2
        assert list((tmp_path / "node" / QUARANTINE).iterdir()) == []
        queue.put_into_quarantine(study, "It is no head.")
        shutil.rmtree(tmp_path / "node" / QUARANTINE / study)  # somebody took it out by hand
        assert take(queue, data)[1] is Kept.NEW


class Killed(BaseException):
    """What stands for the end of the process."""


def steps(queue: Queue, kill_at: int, monkeypatch) -> list[str]:
    """Let the process end at the n-th step that changes the disk; the steps that were taken."""
    taken: list[str] = []

    def watch(owner, name):
        original = getattr(owner, name)

        def step(*args, **more):
            taken.append(name)
            if len(taken) > kill_at:
                raise Killed
            return original(*args, **more)

        monkeypatch.setattr(owner, name, step)

    for name in ("put_in_place", "make_folder", "write_whole", "sync"):
        watch(queue_module, name)
    watch(queue_module.os, "replace")
    watch(queue_module.shutil, "rmtree")
    watch(queue.record, "_do")
    return taken


@pytest.mark.slow
def test_killed_at_any_step_a_study_is_neither_lost_nor_doubled(tmp_path, monkeypatch):
    """Of three images one is left; each ends at the receiver or in quarantine, once."""
    images = [image(SOPInstanceUID=f"1.2.{number}") for number in range(3)]
    kill_at, ended = 0, False
    while not ended:
        folder, goal = tmp_path / f"node{kill_at}", tmp_path / f"goal{kill_at}"
        goal.mkdir()
        ended, sure = _until_killed(folder, goal, images, kill_at, monkeypatch)
        with opened(folder) as queue:
            _finish(queue, goal, images[sure:])
        ((received,),) = [list(goal.iterdir())]
        left = list((folder / QUARANTINE).rglob("*.dcm"))
        names = sorted([*files_below(received), *(path.name for path in left)])
        assert len(names) == 3 == len(set(names)) and len(left) == 1, f"killed at step {kill_at}"
        assert (left[0].parent / WHY).read_text() == "It is a scout.\n"
        assert list((folder / STUDIES).iterdir()) == [] and read_record(folder)[0].state is State.FORWARDED
        kill_at += 1
    assert kill_at > 25, "every step that changes the disk is one to be killed at"


def _until_killed(folder, goal, images, kill_at, monkeypatch) -> tuple[bool, int]:
    """Whether it came to its end, and how many images their sender was sure of."""
    sure = 0
    with monkeypatch.context() as patch:
        try:
            with opened(folder) as queue:
                steps(queue, kill_at, patch)
                for data in images:
                    take(queue, data)
                    sure += 1
                _finish(queue, goal, [])
        except Killed:
            return False, sure
    return True, sure


def _finish(queue: Queue, goal: Path, images) -> None:
    """Receive these images, and do with what is there what a node does."""
    for data in images:
        take(queue, data)
    for study in queue.quiet(0):
        queue.record.note(study, State.DEFACING)
        there = contents(queue, study)
        last = sorted(there)[-1]
        made = make_results(queue, study, set(there) - {last})
        queue.close(study, made, there, {last}, "It is a scout.", 1.0)
    for study in queue.record.studies(State.FORWARDING):
        Folder(goal).send(queue.defaced(study.id), study.id, os.unlink)
        queue.forwarded(study.id)


def test_a_folder_keeps_its_secret(tmp_path):
    with opened(tmp_path / "node") as queue, pytest.raises(CTDefaceError, match="--secret"):
        Queue(tmp_path / "node", queue.record, bytes(32))


@pytest.mark.parametrize("step", ["close_study", "note"])
def test_a_disk_that_gets_full_while_a_study_is_closed_costs_nothing(tmp_path, monkeypatch, step):
    def full(*_, **__):
        raise OutputError("The disk is full.")

    with opened(tmp_path / "node") as queue:
        images = [take(queue, image())[0] for _ in range(2)]
        study = images[0]
        queue.quiet(0)
        queue.record.note(study, State.DEFACING)
        there = contents(queue, study)
        left = {sorted(there)[-1]}
        made = make_results(queue, study, set(there) - left)
        with monkeypatch.context() as patch:
            patch.setattr(Record, step, full)
            with pytest.raises(OutputError):
                queue.close(study, made, there, left, "It is a scout.", 1.0)
                queue.forwarded(study)
            if step == "close_study":
                queue.set_back(study, "The disk is full.")
        if step == "close_study":
            assert queue.quiet(0) == [study] and set(contents(queue, study)) == set(there)
        else:
            queue.set_back(study, "It is closed, and stays so.")
            assert queue.record.study(study).state is State.FORWARDING
            assert len(list((tmp_path / "node" / QUARANTINE / study).glob("*.dcm"))) == 1


@pytest.mark.parametrize("arguments", [["--status"], ["--again", "a"]])
def test_a_folder_of_no_node_is_said_to_be_none(tmp_path, capsys, arguments):
    assert main(["receive", str(tmp_path / "typo"), *arguments]) == 1
    assert "check its path" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_one_node_has_a_folder(tmp_path, capsys):
    with opened(tmp_path / "node"):
        assert main(["receive", str(tmp_path / "node"), "--to", str(tmp_path), "--port", "0"]) == 1
        assert "A node runs with this folder already" in capsys.readouterr().err


# Which image was defaced


def results_of(folder: Path, sources: list[Path], **tags) -> None:
    """Stand-ins for what a defacing makes of these files, with the UIDs that the secret makes."""
    folder.mkdir(parents=True)
    pseudonyms = Pseudonyms(SECRET)
    for number, path in enumerate(sources):
        header = pydicom.dcmread(path)
        header.SOPInstanceUID, header.DeidentificationMethod = pseudonyms.uid(header.SOPInstanceUID), METHOD
        for keyword, value in tags.items():
            setattr(header, keyword, value)
        (folder / f"{number}.dcm").write_bytes(written(header))


@pytest.fixture
def three(tmp_path) -> list[Path]:
    (tmp_path / "images").mkdir()
    for number in range(3):
        (tmp_path / "images" / f"{number}.dcm").write_bytes(image())
    return sorted((tmp_path / "images").iterdir())


def test_each_image_is_accounted_for(tmp_path, three):
    results_of(tmp_path / "made" / "series-003", three[:2])
    account = account_for(tmp_path / "images", tmp_path / "made", SECRET, ["series 4: no head."])
    assert account.left == {"2.dcm"} and set(account.contents) == {"0.dcm", "1.dcm", "2.dcm"}
    assert account.why == "series 4: no head."


@pytest.mark.parametrize(
    "tags", [{"DeidentificationMethod": "by hand"}, {"SOPInstanceUID": "1.2.3"}, {"DeidentificationMethod": None}]
)
def test_nothing_goes_on_that_is_of_no_image_or_not_defaced(tmp_path, three, tags):
    results_of(tmp_path / "made", three[:1], **tags)
    with pytest.raises(CTDefaceError, match="nothing is forwarded"):
        account_for(tmp_path / "images", tmp_path / "made", SECRET, [])


def test_an_original_is_never_a_result(tmp_path, three):
    (tmp_path / "made").mkdir()
    shutil.copy(three[0], tmp_path / "made" / "0.dcm")
    with pytest.raises(CTDefaceError, match="nothing is forwarded"):
        account_for(tmp_path / "images", tmp_path / "made", SECRET, [])


REPORT = {"warnings": [], "intracranial_voxels_touched": 0}


@pytest.mark.parametrize("warned, left", [(False, {"1.dcm", "2.dcm"}), (True, {"2.dcm"})])
def test_what_has_warnings_stays_unless_asked_for(tmp_path, three, monkeypatch, warned, left):
    doubtful = {**REPORT, "warnings": ["Only 60% of the facial skin is covered."]}

    def deface(images, result, parameters, **choices):
        results_of(result / "series-003", three[:1])
        results_of(result / "series-004", three[1:2])
        return {
            **doubtful,
            "series": [
                {"name": "series 3", "folder": "series-003", **REPORT},
                {"name": "series 4", "folder": "series-004", **doubtful},
            ],
            "refused": [{"name": "series 5", "why": "It is another head."}],
            "left_out": ["scout (2)"],
        }

    monkeypatch.setattr(defacing, "deface_folder", deface)
    (tmp_path / "secret.key").write_text(SECRET.hex())
    choices = Choices({}, str(tmp_path / "secret.key"), forward_warned=warned)
    outcome = deface_received(StudyJob(str(tmp_path / "images"), str(tmp_path), choices))
    account = outcome.report["account"]
    assert outcome.status is Became.DONE and account.left == left
    assert "series 5: It is another head." in account.why and "scout (2)" in account.why
    assert ("series 4: the result was not good enough" in account.why) is not warned


def test_images_that_come_while_it_works_fit_no_account(tmp_path, three, monkeypatch):
    def deface(images, result, parameters, **choices):
        results_of(result, three)
        shutil.copy(three[0], tmp_path / "images" / "3.dcm")
        return REPORT

    monkeypatch.setattr(defacing, "deface_folder", deface)
    (tmp_path / "secret.key").write_text(SECRET.hex())
    job = StudyJob(str(tmp_path / "images"), str(tmp_path), Choices({}, str(tmp_path / "secret.key")))
    assert deface_received(job).report["account"] == Account({}, frozenset(), "")


@pytest.mark.parametrize(
    "error, status",
    [
        (InputError("No."), Became.REFUSED),
        (OutputError("Full."), Mishap.NOT_WRITTEN),
        (OSError(28, "full"), Mishap.NOT_WRITTEN),
        (MemoryError(), Became.FAILED),
        (ZeroDivisionError("4711"), Became.FAILED),
    ],
)
def test_every_error_becomes_an_outcome(tmp_path, three, monkeypatch, error, status):
    def deface(*_, **__):
        raise error

    monkeypatch.setattr(defacing, "deface_folder", deface)
    (tmp_path / "secret.key").write_text(SECRET.hex())
    job = StudyJob(str(tmp_path / "images"), str(tmp_path), Choices({}, str(tmp_path / "secret.key")))
    outcome = deface_received(job)
    assert outcome.status is status and "4711" not in outcome.sentence


# What becomes of a study


@pytest.mark.parametrize(
    "outcomes, state, sentence",
    [
        ([Outcome(Became.REFUSED, "It is no head.")], State.QUARANTINED, "It is no head."),
        ([Outcome(Became.TIMED_OUT, "It took too long.")], State.QUARANTINED, "It took too long."),
        ([Outcome(Mishap.NOT_WRITTEN, "The disk is full.")] * 5, State.RECEIVING, "The disk is full."),
        ([Outcome(Mishap.DIED, "It died.")] * 2, State.RECEIVING, "It died."),
        ([Outcome(Mishap.DIED, "It died.")] * 3, State.QUARANTINED, receiving.DIED.format(3)),
    ],
)
def test_only_what_is_the_study_s_own_fault_puts_it_into_quarantine(tmp_path, monkeypatch, outcomes, state, sentence):
    class Process:
        def __init__(self, *_):
            pass

        def run(self, *_):
            return next(coming)

        def close(self):
            pass

    coming, lines = iter(outcomes), []
    monkeypatch.setattr(receiving, "WorkerProcess", Process)
    with opened(tmp_path / "node") as queue:
        study, _ = take(queue, image())
        work = receiving.Work(Choices({}, ""), Folder(tmp_path), Resources(workers=1), 0)
        for _ in outcomes:
            defacer = receiving.Defacer(queue, work, lines.append)
            defacer.take(queue.quiet(0, defacer.busy))
            processes.wait_for(lambda d=defacer: not d.busy)
            defacer.end()
        known = queue.record.study(study)
        assert (known.state, known.sentence) == (state, sentence)
        assert [path.name for path in (tmp_path / "node").rglob("*.dcm")], "it is still here"
        assert list((tmp_path / "node" / STUDIES).rglob("work-*")) == []


# Who may call, and how much they may send


@contextmanager
def listening(folder: Path, **choices):
    """A node that keeps what it gets: its queue, its port, and what it reports."""
    lines: list[str] = []
    with opened(folder) as queue:
        server = node.start(node.Listening(**{"port": 0, **choices}), queue, lines.append)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield queue, server.server_address[1], lines
        finally:
            server.shutdown()


@contextmanager
def calling(port: int, title: str = "CT1", called: str = "CTDEFACE", contexts=(CTImageStorage,), **more):
    ae = pynetdicom.AE(title)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = 20
    ae.add_requested_context("1.2.840.10008.1.1")
    for one in contexts:
        ae.add_requested_context(one, [ExplicitVRLittleEndian])
    association = ae.associate("127.0.0.1", port, ae_title=called, **more)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def test_a_caller_is_echoed_and_its_image_kept(tmp_path):
    header = dicom_files.slice_header()
    with listening(tmp_path / "node") as (queue, port, lines), calling(port) as association:
        assert association.send_c_echo().Status == 0
        assert association.send_c_store(header).Status == association.send_c_store(header).Status == 0
        (study,) = queue.quiet(0)
        (path,) = queue.images(study).iterdir()
    kept = pydicom.dcmread(path)
    assert kept == header and kept.file_meta.get("SourceApplicationEntityTitle") is None
    assert lines == []


def test_who_is_not_on_the_lists_is_not_let_in(tmp_path):
    with listening(tmp_path / "a", callers=("CT1",)) as (_, port, lines):
        for title, called in (("CT2", "CTDEFACE"), ("CT1", "OTHER")):
            with calling(port, title, called) as association:
                assert association.is_rejected
        with calling(port) as association:
            assert association.is_established
        assert lines == ["CT2 at 127.0.0.1 was not let in", "CT1 at 127.0.0.1 was not let in"]
    with listening(tmp_path / "b", networks=node.networks(["10.1.2.0/24"])) as (_, port, lines):
        with calling(port) as association:
            assert not association.is_established
        assert lines == ["a call from 127.0.0.1 was not taken"]


def test_more_associations_than_allowed_are_rejected(tmp_path):
    with listening(tmp_path / "node", associations=2) as (_, port, _), ExitStack() as stack:
        there = [stack.enter_context(calling(port)).is_established for _ in range(3)]
        assert there == [True, True, False]


def test_what_can_never_be_defaced_is_declined_at_once(tmp_path):
    report = "1.2.840.10008.5.1.4.1.1.104.1"
    structures = "1.2.840.10008.5.1.4.1.1.481.3"
    with listening(tmp_path / "a") as (_, port, _), calling(port, contexts=[report, structures]) as association:
        assert [one.abstract_syntax for one in association.accepted_contexts] == ["1.2.840.10008.1.1"]
    with (
        listening(tmp_path / "b", take_along=True) as (_, port, _),
        calling(port, contexts=[structures]) as association,
    ):
        assert len(association.accepted_contexts) == 2


def test_a_refused_image_is_told_and_the_next_one_taken(tmp_path):
    mine = dicom_files.slice_header(DeidentificationMethod=METHOD)
    with listening(tmp_path / "node") as (queue, port, lines), calling(port) as association:
        assert association.send_c_store(mine).Status == Status.ALREADY_DEFACED
        assert association.send_c_store(dicom_files.slice_header()).Status == 0
        assert lines == ["an image was refused: The image was defaced before: the node is sent its own results."]
        assert not any("Doe" in line or "4711" in line for line in lines)


def test_too_large_an_object_ends_the_association(tmp_path):
    def square(size):
        return dicom_files.slice_header(
            StudyInstanceUID=CT_STUDY, Rows=size, Columns=size, PixelData=bytes(size * size * 2)
        )

    with listening(tmp_path / "node", largest=300_000) as (queue, port, _):
        with calling(port) as association:
            for _ in range(3):  # each is counted by itself
                assert association.send_c_store(square(256)).Status == 0
            assert association.send_c_store(square(512)).get("Status") is None
        (study,) = queue.quiet(0)
        assert len(list(queue.images(study).iterdir())) == 3
        assert files_below(tmp_path / "node" / "incoming") == []


@pytest.mark.parametrize("length", [0xFFFFFFF0, node.LONGEST_PDU + 1])
def test_a_pdu_of_any_length_is_not_waited_for(tmp_path, length):
    with listening(tmp_path / "node") as (_, port, _):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as caller:
            caller.sendall(b"\1\0" + length.to_bytes(4, "big"))
            assert caller.recv(100) == b""
        with calling(port) as association:
            assert association.is_established


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate for this machine that is its own authority, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    for name in ("mine", "other"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                   "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", "/CN=localhost",
                   "-addext", "subjectAltName=IP:127.0.0.1"]  # fmt: skip
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return lambda name: Tls(folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}.pem")


def test_with_tls_only_who_has_a_certificate_gets_through(tmp_path, certificates):
    mine, goal = certificates("mine"), tmp_path / "results"
    goal.mkdir()
    (goal / "0.dcm").write_bytes(image())
    with listening(tmp_path / "node", tls=mine) as (queue, port, _):
        silent = socket.create_connection(("127.0.0.1", port))  # never shakes hands, and nobody waits for it
        sent: list[Path] = []
        to = Node("CTDEFACE", "127.0.0.1", port, "CT1", mine)
        to.send(goal, "", sent.append)
        assert len(sent) == len(queue.quiet(0)) == 1
        nobody = replace(mine, certificate=None, key=None)
        for tls in (None, certificates("other"), replace(certificates("other"), authority=mine.authority), nobody):
            with pytest.raises(ForwardError):
                replace(to, tls=tls).send(goal, "", sent.append)
        silent.close()
    with pytest.raises(InputError, match="PEM"):
        node.start(node.Listening(tls=Tls(goal / "0.dcm")), queue, print)
    assert ssl.HAS_TLSv1_2


# Where it goes


@contextmanager
def receiver(answer, syntax=ExplicitVRLittleEndian):
    """A DICOM node that answers each image with a status: its port, and what it got."""
    got: list[str] = []

    def store(event):
        status = answer(len(got))
        if status == 0:
            got.append(event.request.AffectedSOPInstanceUID)
        return status

    ae = pynetdicom.AE("RESEARCH")
    ae.add_supported_context(CTImageStorage, syntax)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(pynetdicom.evt.EVT_C_STORE, store)])
    try:
        yield server.server_address[1], got
    finally:
        server.shutdown()


def test_a_receiver_that_fails_gets_the_rest_later(tmp_path, three):
    folder, left = three[0].parent, [0xA700]
    with receiver(lambda count: left.pop() if count == 1 and left else 0) as (port, got):
        to = Node("RESEARCH", "127.0.0.1", port, "CTDEFACE")
        with pytest.raises(ForwardError, match="A700"):
            to.send(folder, "", os.unlink)
        assert len(got) == 1 and len(list(folder.iterdir())) == 2
        to.send(folder, "", os.unlink)
        assert len(set(got)) == len(got) == 3 and list(folder.iterdir()) == []
    (folder / "more.dcm").write_bytes(image())
    with pytest.raises(ForwardError, match="does not answer"):
        to.send(folder, "", os.unlink)
    assert list(folder.iterdir())


def test_a_receiver_that_knows_only_what_all_have_to_gets_that(tmp_path, three):
    with receiver(lambda _: 0, ImplicitVRLittleEndian) as (port, got):
        Node("RESEARCH", "127.0.0.1", port, "CTDEFACE").send(three[0].parent, "", os.unlink)
        assert len(got) == 3


def test_a_folder_gets_a_study_whole_and_no_other_one(tmp_path, three):
    goal = tmp_path / "goal"
    goal.mkdir()
    sent: list[Path] = []
    for _ in range(2):  # the second time as after a kill before it was noted
        Folder(goal).send(three[0].parent, "a", sent.append)
    assert files_below(goal) == ["a/0.dcm", "a/1.dcm", "a/2.dcm"] and sent == [*three, *three]
    (goal / "a" / "1.dcm").write_bytes(b"of somebody else")
    with pytest.raises(ForwardError, match="something else"):
        Folder(goal).send(three[0].parent, "a", sent.append)


def test_where_results_go(tmp_path):
    assert destination(str(tmp_path), "ME", None) == Folder(tmp_path)
    assert destination("PACS@[::1]:104", "ME", None) == Node("PACS", "::1", 104, "ME")
    assert destination("https://host/dicom-web", "ME", None).server.address == "https://host/dicom-web"
    for wrong in ("nowhere", "PACS@host", "PACS:104", "https://me:secret@host/dicom-web", "https://"):
        with pytest.raises(InputError):
            destination(wrong, "ME", None)


def test_a_token_does_not_go_through_plain_http(monkeypatch):
    monkeypatch.setenv("CTDEFACE_DICOMWEB_TOKEN", "secret")
    for good in ("http://127.0.0.1:8042/dicom-web", "http://localhost/dicom-web", "https://host/dicom-web"):
        destination(good, "ME", None)
    with pytest.raises(InputError, match="https"):
        destination("http://host/dicom-web", "ME", None)


# The command


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "--to"),
        (["--to", ".", "--address", "0.0.0.0"], "say who may call"),
        (["--to", ".", "--key", "k"], "goes with --certificate"),
        (["--to", ".", "--to-authority", "k"], "go with --to-tls"),
        (["--to", ".", "--table", "t"], "headers that are cleaned"),
        (["--to", ".", "--title", "a" * 17], "1 to 16 characters"),
        (["--to", ".", "--port", "70000"], "not between"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_made(tmp_path, capsys, arguments, said):
    with pytest.raises(SystemExit) as end:
        main(["receive", str(tmp_path / "node"), *arguments])
    assert end.value.code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "node").exists()


@contextmanager
def running(folder: Path, *arguments: str):
    """``ctdeface receive`` in a process of its own: the process and its port."""
    port = free_port()
    command = [sys.executable, "-m", "CTDefaceLib", "receive", str(folder), "--port", str(port), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with open(folder.with_suffix(".log"), "a", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, stderr=log)
    try:
        processes.wait_for(lambda: f"port {port}" in folder.with_suffix(".log").read_text(), 120)
        yield process, port
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is one of POSIX")
def test_a_study_goes_through_a_node_that_is_killed_while_it_works(tmp_path):
    ct = {"StudyInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid(), "PatientName": "Doe^Jane"}
    series = dicom_files.write_series(tmp_path / "in", scan().image, **ct)
    scout = dicom_files.slice_header(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], PatientID="4711-0815-0042", **ct)
    node_folder, goal = tmp_path / "node", tmp_path / "goal"
    goal.mkdir()
    choices = ["--to", str(goal), "--quiet", "1", "--workers", "1", "--keep-free", "1", "--seed", "1"]
    with running(node_folder, *choices) as (process, port):
        with calling(port) as association:
            for path in series:
                assert association.send_c_store(path).Status == 0
            assert association.send_c_store(scout).Status == 0
        processes.wait_for(lambda: list((node_folder / STUDIES).glob("*/work-*")), 120)
        process.kill()
        process.wait()
    with running(node_folder, *choices) as (process, port):
        processes.wait_for(lambda: [one.state for one in read_record(node_folder)] == [State.FORWARDED], 240)
        with calling(port) as association:  # all of it once more
            assert {association.send_c_store(path).Status for path in series} == {0}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    (result,) = goal.iterdir()
    made = [pydicom.dcmread(path) for path in result.rglob("*.dcm")]
    pseudonyms = Pseudonyms(make_secret(node_folder / "secret.key"))
    assert {one.SOPInstanceUID for one in made} == {
        pseudonyms.uid(pydicom.dcmread(path).SOPInstanceUID) for path in series
    }
    assert all(one.DeidentificationMethod == METHOD for one in made)
    quarantine = node_folder / QUARANTINE / result.name
    assert len(files_below(quarantine)) == 2 and "scout (1)" in (quarantine / WHY).read_text()
    shutil.rmtree(quarantine)
    left = b"".join(path.read_bytes() for path in node_folder.rglob("*") if path.is_file())
    log = node_folder.with_suffix(".log").read_bytes()
    for identifier in (b"4711-0815", b"Doe", ct["StudyInstanceUID"].encode(), scout.SOPInstanceUID.encode()):
        assert identifier not in left + log
    assert b"ended" in log and not list((node_folder / STUDIES).iterdir())
