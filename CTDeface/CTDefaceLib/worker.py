"""Background process: does one job after the other; the messages are those of :mod:`CTDefaceLib.tasks`.

It reads jobs as lines on standard input and writes answers as lines to standard output, ``Ready`` first. It ends when
its standard input closes, which is how a job is cancelled, and which also happens when the application that started it
dies: it then removes its working folder and ends every process it started. It remembers the last volume by its key, so
that further jobs need not send it again.

    python -m CTDefaceLib.worker FOLDER
"""

from __future__ import annotations

import os
import queue
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import tasks
from .errors import CTDefaceError, InputError, memory_errors
from .processes import end_process_group, lead_process_group, temporary_files_in
from .progress import Progress

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .pipeline import DefaceResult
    from .removal.keep import Structure
    from .study.apply import Face

NOT_KNOWN = "The background process does not know the task {}: restart the program that started it."
NO_LONGER_THERE = "The worker no longer has this volume: send it again."
NO_MEMORY = "There is not enough memory for this volume: close other programs or crop it to the head."


@dataclass(frozen=True)
class Call:
    """What the function of a task gets beside the task.

    Attributes
    ----------
    volume: function
        Reads the volume of the job; InputError when it has none.
    result: str
        Path of the file to write.
    progress: function
        Takes a fraction and a text.
    event: function
        Takes what happens in a batch.
    """

    volume: Callable[[], sitk.Image]
    result: str
    progress: Progress
    event: Callable[[dict], None]


Table = Mapping[type, Callable[[Any, Call], dict[str, Any]]]
"""Type of a task → the function that does it and returns the report of the answer."""


class Worker:
    """Does the jobs whose tasks are in a table; ``send`` takes the answers."""

    def __init__(self, table: Table, send: Callable[[object], None]):
        self._table, self._send = table, send
        self._key = ""
        self._image: sitk.Image | None = None

    def run(self, job: tasks.Job) -> None:
        """Do one job; every error becomes an answer."""

        def failed(sentence: str, kind: str = "", details: str = "") -> None:
            self._send(tasks.Failed(job.id, sentence, kind, details))

        try:
            with memory_errors():
                report = self._done(job)
            self._send(tasks.Done(job.id, report))
        except CTDefaceError as error:
            failed(str(error), type(error).__name__)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            sentence = f"A temporary file could not be written ({reason}): make room."
            failed(sentence, "OutputError", traceback.format_exc())
        except MemoryError:
            failed(NO_MEMORY, "MemoryError")
        except Exception as error:
            sentence = f"An error that this program did not expect stopped it ({type(error).__name__})."
            failed(sentence, details=traceback.format_exc())

    def _done(self, job: tasks.Job) -> dict[str, Any]:
        function = self._table.get(type(job.task))
        if function is None:
            raise InputError(NOT_KNOWN.format(getattr(job.task, "name", type(job.task).__name__)))
        call = Call(
            volume=lambda: self._volume(job.image),
            result=job.result,
            progress=lambda fraction, text: self._send(tasks.Progress(job.id, round(fraction, 3), text)),
            event=lambda event: self._send(tasks.Event(job.id, event)),
        )
        return function(job.task, call)

    def _volume(self, volume: tasks.Volume | None) -> sitk.Image:
        if volume is not None and volume.array:
            self._image = tasks.read_volume(volume)
            self._key = volume.key
        elif volume is None or volume.key != self._key or self._image is None:
            raise InputError(NO_LONGER_THERE)
        return self._image


# --------------------------------------------------------------------------------------------------------------- tasks


def segment(task: tasks.Segment, call: Call) -> dict[str, Any]:
    import numpy as np
    import SimpleITK as sitk

    from . import pipeline

    mask, report = pipeline.segment(call.volume(), task.segmenter, **task.choice, progress=call.progress)
    np.save(call.result, sitk.GetArrayViewFromImage(mask))
    return report


def expect(task: tasks.Expect, call: Call) -> dict[str, Any]:
    from . import segmenters
    from .anatomy.face_map import head_cylinder
    from .segmenters import nnunet_runtime

    image = call.volume()
    choice = segmenters.Choice(**task.choice)
    segmenters.check_ready(task.segmenter, choice)
    call.progress(0.1, "Loading the model")
    segmenter = segmenters.module(task.segmenter)
    if not isinstance(segmenter, segmenters.Trained):
        raise InputError(f"The method {task.segmenter} has no model: there is nothing to load.")
    seconds = segmenter.expected_seconds(image, head_cylinder(image), choice)
    return {"seconds": seconds, "devices": nnunet_runtime.devices()}


def download(task: tasks.Download, call: Call) -> dict[str, Any]:
    from . import segmenters

    segmenter = segmenters.module(task.segmenter)
    if not isinstance(segmenter, segmenters.Downloadable):
        raise InputError(f"The method {task.segmenter} has no weights that can be downloaded.")
    segmenter.download(call.progress, lambda: False)
    return {}


class Faces:
    """The face that was found last, for further series of its study; and the tasks that make and use it."""

    def __init__(self) -> None:
        self._key = ""
        self._face: Face | None = None

    def deface(self, task: tasks.Deface, call: Call) -> dict[str, Any]:
        return _saved(self._find(task, *_given(task, call), call.progress), call)

    def apply(self, task: tasks.Apply, call: Call) -> dict[str, Any]:
        import numpy as np
        import SimpleITK as sitk

        from .progress import part
        from .study.volumes import deface_times

        given = _given(task.face, call)
        if not task.face.key or task.face.key != self._key:
            self._find(task.face, *given, part(call.progress, 0.0, 0.5))
        assert self._face is not None
        count, progress = len(task.others), part(call.progress, 0.5, 1.0)
        images = map(tasks.read_volume, task.others)
        made = deface_times(self._face, images, count, task.modality, progress=progress)
        report: dict[str, Any] = {}
        for number, result in enumerate(made):
            values = sitk.GetArrayViewFromImage(result.image)
            if not number:
                report = result.report
                written = np.lib.format.open_memmap(call.result, "w+", values.dtype, (count, *values.shape))
            written[number] = values
        written.flush()
        return report

    def _find(
        self, task: tasks.Deface, image: sitk.Image, mask: sitk.Image, kept: list[Structure], progress: Progress
    ) -> DefaceResult:
        """Deface a volume, and remember what another image of this head needs."""
        from . import pipeline
        from .study.apply import Face

        self._key, self._face = "", None
        parameters, secret = pipeline.DefaceParameters(**task.parameters), bytes.fromhex(task.secret) or None
        result = pipeline.deface(
            image, parameters, mask=mask, kept=kept, secret=secret, patient=task.patient, progress=progress
        )
        self._key, self._face = task.key, Face(image, result, parameters, secret, task.patient).for_others()
        return result


def _given(task: tasks.Deface, call: Call) -> tuple[sitk.Image, sitk.Image, list[Structure]]:
    """Volume, face mask and what must stay."""
    from .removal.keep import Structure

    kept = [Structure(name, tasks.read_volume(mask)) for name, mask in task.kept]
    return call.volume(), tasks.read_volume(task.mask), kept


def _saved(result: DefaceResult, call: Call) -> dict[str, Any]:
    """Write the voxels of a result; its report."""
    import numpy as np
    import SimpleITK as sitk

    np.save(call.result, sitk.GetArrayViewFromImage(result.image))
    return result.report


def write(task: tasks.Write, call: Call) -> dict[str, Any]:
    from .volume_io import save_volume

    save_volume(call.volume(), Path(call.result))
    return {}


def write_times(task: tasks.WriteTimes, call: Call) -> dict[str, Any]:
    from .study.time_series import join_times

    join_times(map(tasks.read_volume, task.volumes), len(task.volumes), Path(call.result), task.seconds)
    return {}


def write_series(task: tasks.WriteSeries, call: Call) -> dict[str, Any]:
    import SimpleITK as sitk

    from .dicom.deface import write_defaced_volume
    from .private import make_secret

    return write_defaced_volume(
        task.files,
        sitk.GetArrayViewFromImage(call.volume()),
        sitk.GetArrayFromImage(tasks.read_volume(task.defaced)),
        call.result,
        checked=task.checked,
        secret=make_secret(Path(task.secret)) if task.secret else None,
        retain=task.retain,
        table=task.table,
        progress=call.progress,
    )


def run_batch(task: tasks.RunBatch, call: Call) -> dict[str, Any]:
    from . import batch
    from .pipeline import DefaceParameters

    summary = batch.run(
        task.source,
        task.output,
        DefaceParameters(**task.parameters),
        workers=task.workers if task.workers > 1 else 0,
        report=call.event,
    )
    return {**summary.counts, **({"passed over": summary.passed_over} if summary.passed_over else {})}


def make_phantom(task: tasks.MakePhantom, call: Call) -> dict[str, Any]:
    import numpy as np
    import SimpleITK as sitk

    from . import phantom

    image = phantom.make_phantom(phantom.PhantomParameters(**task.parameters)).image
    np.save(call.result, sitk.GetArrayViewFromImage(image))
    return {"spacing": image.GetSpacing(), "origin": image.GetOrigin(), "direction": image.GetDirection()}


def table() -> Table:
    """All tasks, with a memory of their own."""
    faces = Faces()
    return {
        tasks.Segment: segment,
        tasks.Expect: expect,
        tasks.Download: download,
        tasks.Deface: faces.deface,
        tasks.Apply: faces.apply,
        tasks.Write: write,
        tasks.WriteTimes: write_times,
        tasks.WriteSeries: write_series,
        tasks.RunBatch: run_batch,
        tasks.MakePhantom: make_phantom,
    }


def main(known: Table | None = None) -> None:
    """Do tasks of a table, :func:`table` when None, in the folder that the command line names."""
    known = table() if known is None else known
    folder = Path(sys.argv[1])
    lead_process_group()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    lock = threading.Lock()

    def send(message: object) -> None:
        with lock:
            answers.write(tasks.to_line(message) + "\n")
            answers.flush()

    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        for line in iter(sys.stdin.readline, ""):
            lines.put(line)
        shutil.rmtree(folder, ignore_errors=True)
        end_process_group()

    worker = Worker(known, send)
    with temporary_files_in(folder):
        threading.Thread(target=listen, daemon=True).start()
        send(tasks.Ready(os.getpid()))
        while True:
            worker.run(tasks.from_line(lines.get(), (tasks.Job, tasks.Volume, *known)))


if __name__ == "__main__":
    main()
