"""What the window and the background process say to each other arrives as it was sent."""

import dataclasses
import io
import json

import numpy as np
import pytest
from CTDefaceEvalLib import tasks as evaluation_tasks
from CTDefaceLib import tasks, worker
from CTDefaceLib.errors import NoFaceError

VOLUME = tasks.Volume(
    "a key", "a.npy", (1.0, 1.0, 2.5), (0.0, -3.0, 1e-3), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
)
MESSAGES = [
    tasks.Segment("builtin"),
    tasks.Expect("nnunet", {"weights": "a folder", "device": "cpu"}),
    tasks.Deface(VOLUME, {"margin_mm": 3.0, "seed": None}),
    tasks.Apply(tasks.Deface(VOLUME, {}, [("PTV", VOLUME)], "00ff", "a patient", "a key"), [VOLUME, VOLUME], "MR"),
    tasks.WriteTimes([VOLUME], 1.5),
    tasks.Write(),
    tasks.WriteSeries(["1.dcm"], VOLUME, True, ["dates"], "secret.key", "table.csv"),
    tasks.RunBatch("in", "out", {"segmenter": "builtin"}, 2),
    evaluation_tasks.Score({"original": "o.npy"}, "dlib-hog", None, embed=True),
    evaluation_tasks.Evaluate(["dlib-hog"], None, "quick", [], VOLUME),
    tasks.Progress(1, 0.5, "häl\nf"),
    tasks.Event(1, {"event": "note", "text": "a sentence"}),
    tasks.Failed(1, "No face.", "NoFaceError"),
]


def as_sent(message):
    """Sequences arrive as lists."""
    return json.loads(json.dumps(dataclasses.asdict(message)))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message):
    line = tasks.to_line(tasks.Job(7, message, "result.npy", VOLUME))
    assert "\n" not in line
    job = tasks.from_line(line, (tasks.Job, tasks.Volume, tasks.Deface, type(message)))
    assert (job.id, job.result) == (7, "result.npy")
    assert type(job.task) is type(message) and as_sent(job.task) == as_sent(message)
    assert type(job.image) is tasks.Volume and as_sent(job.image) == as_sent(VOLUME)


def test_a_message_that_is_not_known_is_none_of_the_others():
    assert tasks.from_line(tasks.to_line(tasks.Write()), (tasks.Segment,)) == tasks.Unknown("Write")


def test_the_table_of_the_worker_has_every_task():
    messages = {tasks.Volume, tasks.Unknown, tasks.Job, *tasks.ANSWERS}
    there = {kind for kind in vars(tasks).values() if dataclasses.is_dataclass(kind)}
    assert set(worker.table()) == there - messages


def run(table, *jobs):
    """The answers of a worker to jobs."""
    answers = []
    one = worker.Worker(table, answers.append)
    for job in jobs:
        one.run(job)
    return answers


def test_the_last_volume_is_remembered_by_its_key(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    geometry = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0)
    sent = tasks.write_volume(array, tmp_path / "a.npy", *geometry, key="a")

    def look(task, call):
        image = call.volume()
        return {"geometry": (image.GetSpacing(), image.GetOrigin(), image.GetDirection()), "last": image[3, 2, 1]}

    jobs = [tasks.Job(n, tasks.Write(), "", image) for n, image in enumerate((sent, tasks.Volume("a"), None))]
    first, again, without = run({tasks.Write: look}, *jobs, tasks.Job(3, tasks.Write(), "", tasks.Volume("b")))[:3]
    assert first.report == again.report == {"geometry": geometry, "last": 23}
    assert not (tmp_path / "a.npy").exists()
    assert without.sentence == worker.NO_LONGER_THERE


@pytest.mark.parametrize(
    ("error", "kind", "sentence", "has_details"),
    [
        (NoFaceError("No face."), "NoFaceError", "No face.", False),
        (MemoryError(), "MemoryError", "not enough memory", False),
        (RuntimeError("std::bad_alloc"), "MemoryError", "not enough memory", False),
        (OSError(28, "No space left on device"), "OutputError", "No space left on device): make room", True),
        (KeyError("x"), "", "did not expect stopped it (KeyError)", True),
    ],
)
def test_an_error_is_a_sentence(error, kind, sentence, has_details):
    def fail(task, call):
        raise error

    (answer,) = run({tasks.Write: fail}, tasks.Job(1, tasks.Write()))
    assert isinstance(answer, tasks.Failed) and answer.kind == kind and sentence in answer.sentence
    assert bool(answer.details) is has_details


def test_a_task_that_is_not_in_the_table_is_a_sentence():
    line = tasks.to_line(tasks.Job(4, tasks.Download("builtin")))
    job = tasks.from_line(io.StringIO(line).readline(), (tasks.Job,))
    (answer,) = run({}, job)
    assert (answer.id, answer.details) == (4, "") and "does not know the task Download: restart" in answer.sentence


def test_a_method_without_a_model_has_nothing_to_download():
    (answer,) = run(worker.table(), tasks.Job(1, tasks.Download("builtin")))
    assert answer.kind == "InputError" and "has no weights" in answer.sentence
