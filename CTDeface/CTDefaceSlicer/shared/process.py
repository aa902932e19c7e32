"""The background process that does the long work, so that the window stays usable and Cancel really cancels."""

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import qt
import slicer
from CTDefaceLib import errors, tasks, worker
from CTDefaceLib.processes import end_process_group
from slicer.i18n import tr as _

from .nodes import fingerprint, volumeGeometry

STOP_MSEC = 1000
NOT_STARTED = _("Slicer's Python could not be started in the background: reinstall Slicer, or free some memory.")


@dataclass(frozen=True)
class _Running:
    """The job that runs, and whom its answers go to; all but ``finish`` may be None."""

    job: tasks.Job
    finish: Callable[[dict, str], Any]
    progress: Callable[[float, str], None] | None
    event: Callable[[dict], None] | None
    done: Callable[[Any], None] | None
    failed: Callable[[Exception], None] | None


class BackgroundProcess:
    """One process of Slicer's Python that runs :mod:`CTDefaceLib.worker`, one job at a time.

    The process starts with the first job and stays for the next ones. It has a temporary folder of its own; ``stop()``
    ends the process with all that it started and removes the folder.

    :param program: the module to run, with a ``main()`` like that of :mod:`CTDefaceLib.worker`.
    """

    def __init__(self, program=worker):
        self._program = program
        self._process = None
        self._folder = None
        self._pid = None
        self._running = None  # a _Running
        self._count = 0
        self._sentVolume = None
        self._output = b""
        self._log = []

    @property
    def busy(self):
        return self._running is not None

    @property
    def job(self):
        """The ``CTDefaceLib.tasks.Job`` that runs, or None."""
        return self._running.job if self._running is not None else None

    @property
    def running(self):
        """Whether the process is there, with all that it remembers."""
        return self._process is not None

    @property
    def pid(self):
        """Process ID once the process is ready for jobs, else None."""
        return self._pid

    @property
    def count(self):
        """How many jobs were started so far."""
        return self._count

    @property
    def folder(self):
        """Temporary folder of the running process, or None."""
        return self._folder

    def start(
        self, task, volumeNode=None, finish=None, suffix=".npy", progress=None, event=None, done=None, failed=None
    ):
        """Start a job.

        :param task: of :mod:`CTDefaceLib.tasks`, or of the library of the program.
        :param volumeNode: the volume it works on; sent only when the process does not have it yet.
        :param finish: called in Slicer with the report and the path of the result's file; returns the result.
        :param suffix: ending of that file.
        :param progress: called with a fraction and a text.
        :param event: called with what happens in a batch, dicts as in :mod:`CTDefaceLib.batch.progress`.
        :param done: called with the result.
        :param failed: called with the error.
        :raises CTDefaceError: if another job runs.
        """
        if self.busy:
            raise errors.CTDefaceError(_("Another task is still running: wait for it or cancel it."))
        with self._writing():
            self._count += 1
            image = self._volume(volumeNode) if volumeNode is not None else None
            job = tasks.Job(self._count, task, self.path("result", suffix), image)
        finish = finish or (lambda report, path: report)
        self._running = _Running(job, finish, progress, event, done, failed)
        self._process.write((tasks.to_line(job) + "\n").encode())

    def run(self, task, *arguments, **keywords):
        """As :meth:`start`; without ``done``, wait for the result and return it, or raise the error."""
        self.start(task, *arguments, **keywords)
        return None if keywords.get("done") else self.wait()

    def wait(self):
        """Wait for the running job and return its result, or raise its error. The window stands still meanwhile."""
        outcome = {}
        self._running = replace(
            self._running,
            done=lambda result: outcome.update(result=result),
            failed=lambda error: outcome.update(error=error),
        )
        while not outcome:
            if self._process is None:
                raise errors.Cancelled(_("Cancelled. Nothing was changed."))
            self._process.waitForReadyRead(100)
            self._onOutput()
            if self._process is not None and self._process.state() == qt.QProcess.NotRunning:
                self._onFinished()
        if "error" in outcome:
            raise outcome["error"]
        return outcome["result"]

    def cancel(self):
        """Stop the running job, with the process and everything it started."""
        if self.busy:
            self._fail(errors.Cancelled(_("Cancelled. Nothing was changed.")))

    def stop(self):
        """End the process, if any, and remove its files. A running job is dropped silently."""
        self._running = None
        process, self._process = self._process, None
        if process is None:
            return
        slicer.app.disconnect("aboutToQuit()", self.stop)
        process.disconnect("readyReadStandardOutput()", self._onOutput)
        process.disconnect("readyReadStandardError()", self._onLog)
        process.disconnect("finished(int,QProcess::ExitStatus)", self._onFinished)
        process.disconnect("errorOccurred(QProcess::ProcessError)", self._onError)
        process.closeWriteChannel()  # the worker ends itself and its children when its input closes
        if process.state() != qt.QProcess.NotRunning and not process.waitForFinished(STOP_MSEC):
            if self._pid is not None:
                end_process_group(self._pid)
            process.kill()
            process.waitForFinished(STOP_MSEC)
        process.deleteLater()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._pid = self._sentVolume = None

    def makeFolder(self):
        """As :attr:`folder`, of a process that is started when it does not run."""
        with self._writing():
            return self._folder

    def path(self, name, suffix=".npy"):
        """A file name for the next job."""
        return os.path.join(self._folder, f"{name}{self._count}{suffix}")

    def arrayMessage(self, name, array, volumeNode):
        """A member of a task that holds further voxels, such as a mask, on the grid of a volume."""
        return self.voxelsMessage(name, array, volumeGeometry(volumeNode))

    def voxelsMessage(self, name, array, geometry):
        """As :meth:`arrayMessage`, on any grid, see ``nodes.volumeGeometry``."""
        with self._writing():
            return tasks.write_volume(array, self.path(name), *geometry)

    def volumeMessage(self, name, volumeNode):
        """A member of a task that holds a further volume."""
        return self.arrayMessage(name, slicer.util.arrayFromVolume(volumeNode), volumeNode)

    def save(self, name, array):
        """A member of a task that names a file with this array; the worker removes the file."""
        with self._writing():
            path = self.path(name)
            np.save(path, array)
            return path

    @contextlib.contextmanager
    def _writing(self):
        """Have the process running, and its folder, while files for it are written; errors become a sentence."""
        try:
            self._startProcess()
            yield
        except OSError as error:
            self.stop()
            sentence = _("A temporary file could not be written ({reason}): make room on the disk.")
            raise errors.OutputError(sentence.format(reason=error.strerror or type(error).__name__)) from error

    def _volume(self, volumeNode):
        """The volume of a job: its voxels when the process does not have them yet, else only its key."""
        geometry = volumeGeometry(volumeNode)
        key = f"{fingerprint(volumeNode)} {geometry}"
        if key == self._sentVolume:
            return tasks.Volume(key)
        array = slicer.util.arrayFromVolume(volumeNode)
        volume = tasks.write_volume(array, self.path("image"), *geometry, key=key)
        self._sentVolume = key
        return volume

    def _startProcess(self):
        if self._process is not None:
            if os.path.isdir(self._folder):
                return
            self.stop()  # somebody who tidied up took its folder
        os.makedirs(slicer.app.temporaryPath, exist_ok=True)
        self._folder = tempfile.mkdtemp(prefix="CTDeface-", dir=slicer.app.temporaryPath)
        self._output, self._log = b"", []
        libraries = [os.path.dirname(os.path.dirname(os.path.abspath(m.__file__))) for m in (self._program, worker)]
        code = f"import sys; sys.path[:0] = {libraries!r}; from {self._program.__name__} import main; main()"
        self._process = qt.QProcess()
        self._process.setWorkingDirectory(self._folder)
        self._process.connect("readyReadStandardOutput()", self._onOutput)
        self._process.connect("readyReadStandardError()", self._onLog)
        self._process.connect("finished(int,QProcess::ExitStatus)", self._onFinished)
        self._process.connect("errorOccurred(QProcess::ProcessError)", self._onError)
        slicer.app.connect("aboutToQuit()", self.stop)
        self._process.start(sys.executable, ["-c", code, self._folder])
        if self._process is None:
            raise errors.CTDefaceError(NOT_STARTED)

    def _onOutput(self):
        if self._process is None:
            return
        *lines, self._output = (self._output + self._process.readAllStandardOutput().data()).split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                self.onAnswer(tasks.from_line(line, tasks.ANSWERS))
            else:  # of Python or its launcher, before the worker has the channel to itself
                self._keepLog(line)

    def _onLog(self):
        if self._process is not None:
            self._keepLog(self._process.readAllStandardError().data())

    def _keepLog(self, output):
        self._log += output.decode(errors="replace").splitlines()
        del self._log[:-50]

    def onAnswer(self, answer):
        """Take an answer of the process, one of ``CTDefaceLib.tasks.ANSWERS``."""
        running = self._running
        if isinstance(answer, tasks.Ready):
            self._pid = answer.pid
        elif running is None or answer.id != running.job.id:
            return
        elif isinstance(answer, tasks.Progress):
            if running.progress:
                running.progress(answer.fraction, answer.text)
        elif isinstance(answer, tasks.Event):
            self._call(running.event, answer.event)
        elif isinstance(answer, tasks.Failed):
            if answer.details:
                logging.error(answer.details)
            self._fail(getattr(errors, answer.kind, errors.CTDefaceError)(answer.sentence), stop=False)
        else:
            self._finish(answer.report)

    def _finish(self, report):
        running, self._running = self._running, None
        try:
            result = running.finish(report, running.job.result)
        except errors.CTDefaceError as error:
            self._call(running.failed, error)
        except Exception as error:  # whatever it is, as want of memory: a task that never ends would block the panel
            logging.exception("A result of the background process could not be read.")
            sentence = _("The result could not be read ({reason}). Please try again.")
            reason = getattr(error, "strerror", None) or type(error).__name__
            self._call(running.failed, errors.CTDefaceError(sentence.format(reason=reason)))
        else:
            self._call(running.done, result)
        finally:
            with contextlib.suppress(OSError):
                os.remove(running.job.result)

    def _fail(self, error, stop=True):
        running = self._running
        if stop:
            self.stop()
        self._running = None
        self._call(running.failed, error)

    @staticmethod
    def _call(callback, value):
        if callback:
            callback(value)

    def _onError(self, _error):
        if self._process is not None and self._process.state() == qt.QProcess.NotRunning:
            self._onFinished()  # it could not be started; a process that crashes reports that itself as well

    def _onFinished(self, *_arguments):
        """The process ended although nobody asked it to."""
        self._onLog()
        for line in self._log:
            logging.error(line)
        message = _("The background process stopped unexpectedly, perhaps because memory ran out. Please try again.")
        if self._pid is None:
            message = NOT_STARTED
        if self.busy:
            self._fail(errors.CTDefaceError(message))
        else:
            self.stop()
