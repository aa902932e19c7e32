"""Background worker: takes jobs as lines of JSON on standard input and answers in lines of JSON on standard output.

    {"id": 1, "task": "segment", "image": {"key": "a", "array": "image.npy", "spacing": …}, "result": "mask.npy", …}
    {"id": 1, "progress": 0.3, "text": "Finding the head"}
    {"id": 1, "told": {"event": "started", …}}                  what happens in a batch
    {"id": 1, "done": {"face_ml": 412.0, …}}
    {"id": 1, "failed": "one sentence", "kind": "NoFaceError", "details": "…"}

The first line that it writes is ``{"ready": process id}``. The worker ends when its standard input closes, which is how
a job is cancelled, and which also happens when the application that started it dies: it then removes its working
folder and ends every process it started. Volumes travel as .npy files in that folder; the worker removes each as soon
as it has read it, and remembers the last volume by its key, so that further jobs need not send it again.

    python -m CTDefaceLib.worker FOLDER
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

from .errors import CTDefaceError, InputError, memory_errors
from .processes import end_process_group, lead_process_group


def volume_message(array, path, spacing, origin, direction, key: str = "") -> dict:
    """Write voxels to ``path`` and return what :class:`Worker` needs to read them.

    Parameters
    ----------
    array: numpy.ndarray
        Shape (slices, rows, columns).
    path: path of the .npy file
    spacing, origin: three numbers in mm, x, y, z in LPS
    direction: nine numbers, rows of the direction matrix
    key: what the worker shall remember the volume by
    """
    import numpy as np

    np.save(path, array)
    geometry = {"spacing": list(spacing), "origin": list(origin), "direction": list(direction)}
    return {"key": key, "array": str(path), **geometry}


def read_volume(message: dict):
    """The ``SimpleITK.Image`` of :func:`volume_message`; the file is gone afterwards."""
    import numpy as np
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.load(message["array"]))
    os.remove(message["array"])
    image.SetSpacing(message["spacing"])
    image.SetOrigin(message["origin"])
    image.SetDirection(message["direction"])
    return image


class Worker:
    """Runs jobs one after the other; ``send`` takes the answers.

    A job's task is the name of a method, which takes the job and a function for progress, and returns what goes into
    the answer. CTDefaceEvalLib.worker adds tasks of its own.
    """

    def __init__(self, send: Callable[[dict], None]):
        self._send = send
        self._key, self._image = "", None

    def run(self, job: dict) -> None:
        """Do one job; every error becomes an answer."""
        job_id = job["id"]

        def progress(fraction: float, text: str) -> None:
            self._send({"id": job_id, "progress": round(fraction, 3), "text": text})

        try:
            with memory_errors():
                done = getattr(self, f"_{job['task']}")(job, progress)
            self._send({"id": job_id, "done": done})
        except CTDefaceError as error:
            self._send({"id": job_id, "failed": str(error), "kind": type(error).__name__, "details": ""})
        except OSError as error:
            sentence = f"A temporary file could not be written ({error.strerror or type(error).__name__}): make room."
            self._send({"id": job_id, "failed": sentence, "kind": "OutputError", "details": traceback.format_exc()})
        except MemoryError:
            sentence = "There is not enough memory for this volume: close other programs or crop it to the head."
            self._send({"id": job_id, "failed": sentence, "kind": "MemoryError", "details": ""})
        except Exception as error:
            sentence = f"An error that this program did not expect stopped it ({type(error).__name__})."
            self._send({"id": job_id, "failed": sentence, "kind": "", "details": traceback.format_exc()})

    def _volume(self, message: dict):
        if "array" in message:
            self._key, self._image = message["key"], read_volume(message)
        elif message["key"] != self._key:
            raise InputError("The worker no longer has this volume: send it again.")
        return self._image

    def _segment(self, job, progress) -> dict:
        import numpy as np
        import SimpleITK as sitk

        from .pipeline import segment

        image = self._volume(job["image"])
        mask, report = segment(image, job["segmenter"], **job.get("choice", {}), progress=progress)
        np.save(job["result"], sitk.GetArrayViewFromImage(mask))
        return report

    def _expect(self, job, progress) -> dict:
        """About how many seconds a segmentation will take, and on what it can run; the model is loaded then."""
        from . import segmenters
        from .anatomy.face_map import head_cylinder
        from .segmenters import nnunet_runtime

        image = self._volume(job["image"])
        choice = segmenters.Choice(**job["choice"])
        segmenters.check_ready(job["segmenter"], choice)
        progress(0.1, "Loading the model")
        seconds = segmenters.module(job["segmenter"]).expected_seconds(image, head_cylinder(image), choice)
        return {"seconds": seconds, "devices": nnunet_runtime.devices()}

    def _download(self, job, progress) -> dict:
        from . import segmenters

        segmenters.module(job["segmenter"]).download(progress, lambda: False)
        return {}

    def _deface(self, job, progress) -> dict:
        import numpy as np
        import SimpleITK as sitk

        from .pipeline import DefaceParameters, deface

        image = self._volume(job["image"])
        parameters = DefaceParameters(**job["parameters"])
        result = deface(image, parameters, mask=read_volume(job["mask"]), progress=progress)
        np.save(job["result"], sitk.GetArrayViewFromImage(result.image))
        return result.report

    def _write(self, job, progress) -> dict:
        from .volume_io import save_volume

        save_volume(self._volume(job["image"]), Path(job["result"]))
        return {}

    def _series(self, job, progress) -> dict:
        import SimpleITK as sitk

        from .batch.names import make_secret
        from .dicom.deface import write_defaced_volume

        return write_defaced_volume(
            job["files"],
            sitk.GetArrayViewFromImage(self._volume(job["image"])),
            sitk.GetArrayFromImage(read_volume(job["defaced"])),
            job["result"],
            checked=job["checked"],
            secret=make_secret(Path(job["secret"])) if job["secret"] else None,
            retain=job["retain"],
            table=job["table"],
            progress=progress,
        )

    def _batch(self, job, progress) -> dict:
        from .batch import run
        from .pipeline import DefaceParameters

        summary = run(
            job["source"],
            job["output"],
            DefaceParameters(**job["parameters"]),
            workers=job["workers"] if job["workers"] > 1 else 0,
            report=lambda event: self._send({"id": job["id"], "told": event}),
        )
        return summary.counts

    def _phantom(self, job, progress) -> dict:
        import numpy as np
        import SimpleITK as sitk

        from .phantom import PhantomParameters, make_phantom

        image = make_phantom(PhantomParameters(**job["parameters"])).image
        np.save(job["result"], sitk.GetArrayViewFromImage(image))
        return {"spacing": image.GetSpacing(), "origin": image.GetOrigin(), "direction": image.GetDirection()}


def main(kind: type[Worker] = Worker) -> None:
    """Run a worker of this kind in the folder that the command line names."""
    folder = Path(sys.argv[1])
    lead_process_group()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    for name in ("TMPDIR", "TEMP", "TMP"):
        os.environ[name] = str(folder)
    tempfile.tempdir = str(folder)
    lock = threading.Lock()

    def send(message: dict) -> None:
        with lock:
            answers.write(json.dumps(message) + "\n")
            answers.flush()

    jobs: queue.SimpleQueue[dict] = queue.SimpleQueue()
    worker = kind(send)

    def listen() -> None:
        for line in iter(sys.stdin.readline, ""):
            jobs.put(json.loads(line))
        shutil.rmtree(folder, ignore_errors=True)
        end_process_group()

    threading.Thread(target=listen, daemon=True).start()
    send({"ready": os.getpid()})
    while True:
        worker.run(jobs.get())


if __name__ == "__main__":
    main()
