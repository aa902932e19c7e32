"""A node at work: images come in, a study that has become quiet is defaced, and what was made of it goes on."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from ..batch.job import Outcome
from ..batch.runner import Resources
from ..batch.status import Mishap, Status
from ..batch.worker_processes import WorkerProcess
from ..errors import CTDefaceError, OutputError
from . import node
from .defacing import RESULT, Account, Choices, StudyJob, deface_received
from .forward import Destination, ForwardError, removed
from .queue import Queue
from .record import State

TICK_SECONDS = 0.5
"""How often it is looked for studies that have become quiet. A choice."""

AGAIN_SECONDS = (2.0, 300.0)
"""How long it waits before a receiver is tried again: first, and at most; twice as long each time. A choice."""

ENDING_SECONDS = 10.0
"""How long an image may take that is being sent when the node ends; after that it is sent again next time. A choice."""

FORWARDED_AT_ONCE = 2
"""Studies: receivers write each image to their disk before they answer, and wait for it. A choice."""

MOST_DEATHS = 3
"""Of processes that work on a study, before it goes into quarantine. A choice."""

DIED = "The process that defaced it ended {} times without a word, perhaps because memory ran out."


@dataclass(frozen=True)
class Work:
    """How studies are worked on.

    Attributes
    ----------
    choices: Choices
    destination: Destination
    resources: Resources
        Number of processes, their threads and cards, and seconds after which a study is given up.
    quiet: float
        Seconds without another image after which a study is complete.
    """

    choices: Choices
    destination: Destination
    resources: Resources
    quiet: float


def receive(queue: Queue, listen: node.Listening, work: Work, report: Callable[[str], None]) -> None:
    """Run a node until an exception ends it, such as that of a signal; whatever it had begun goes on next time.

    Parameters
    ----------
    queue: Queue
    listen: node.Listening
    work: Work
    report: callable
        Takes lines for a log, which name nobody.
    """
    queue.resume()
    server = node.start(listen, queue, report)
    with ExitStack() as ending:
        defacer, forwarder = Defacer(queue, work, report), Forwarder(queue, work.destination, report)
        ending.callback(forwarder.end)
        ending.callback(defacer.end)
        ending.callback(server.shutdown)
        threading.Thread(target=server.serve_forever, args=(TICK_SECONDS,), daemon=True).start()
        report(f"listening as {listen.title} at {listen.address}, port {server.server_address[1]}")
        while True:
            try:
                defacer.take(queue.quiet(work.quiet, defacer.busy))
                forwarder.take()
            except OutputError as error:  # the disk of the record
                report(str(error))
            time.sleep(TICK_SECONDS)


class Defacer:
    """Defaces studies in processes of their own, as many at a time as there are processes."""

    def __init__(self, queue: Queue, work: Work, report: Callable[[str], None]):
        self._queue, self._work, self._report = queue, work, report
        self._ending = False
        self._processes = [WorkerProcess(number, work.resources) for number in range(work.resources.workers)]
        self._idle: SimpleQueue[WorkerProcess] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(work.resources.workers, thread_name_prefix="deface")
        self.busy: set[str] = set()

    def take(self, studies: list[str]) -> None:
        for study in studies:
            self.busy.add(study)
            self._threads.submit(self._do, study)

    def end(self) -> None:
        """Stop; what was being defaced is defaced anew next time."""
        self._ending = True
        for process in self._processes:
            process.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _do(self, study: str) -> None:
        process = self._idle.get()
        try:
            if not self._ending:
                self._deface(study, process)
        except CTDefaceError as error:
            self._set_back(study, str(error))
        except Exception as error:
            self._set_back(study, f"An error that this program did not expect ({type(error).__name__}).")
        finally:
            self._idle.put(process)
            self.busy.discard(study)

    def _deface(self, study: str, process: WorkerProcess) -> None:
        queue = self._queue
        queue.record.note(study, State.DEFACING)
        work = queue.work(study)
        job = StudyJob(str(queue.images(study)), str(work), self._work.choices)
        outcome = process.run(deface_received, job, self._work.resources.timeout)
        if self._ending:
            return
        try:
            self._settle(study, outcome, job)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _settle(self, study: str, outcome: Outcome, job: StudyJob) -> None:
        """Do what an outcome asks for."""
        queue, report = self._queue, self._report
        if outcome.status is Status.DONE and outcome.report:
            account: Account = outcome.report["account"]
            made = Path(job.work) / RESULT
            closed = queue.close(study, made, account.contents, set(account.left), account.why, outcome.seconds)
            done = f"{len(account.contents) - len(account.left)} of {len(account.contents)} images defaced"
            report(
                f"study {study}: {done} in {outcome.seconds:.0f} s" if closed else f"study {study}: more images came"
            )
        elif outcome.status is Mishap.DIED:
            known = queue.record.study(study)
            deaths = 1 + (known.deaths if known else 0)
            if deaths >= MOST_DEATHS:
                self._quarantine(study, DIED.format(deaths))
            else:
                queue.set_back(study, outcome.sentence, died=True)
        elif isinstance(outcome.status, Mishap):
            self._set_back(study, outcome.sentence)
        else:
            self._quarantine(study, outcome.sentence)

    def _quarantine(self, study: str, why: str) -> None:
        self._queue.put_into_quarantine(study, why)
        self._report(f"study {study}: into quarantine: {why}")

    def _set_back(self, study: str, why: str) -> None:
        """Leave a study for later; where even that cannot be noted, the next start finds it."""
        self._report(f"study {study}: is tried again: {why}")
        try:
            self._queue.set_back(study, why)
        except CTDefaceError as error:
            self._report(str(error))


class Forwarder:
    """Sends closed studies, a few at a time; one that could not be sent waits, and the others are tried."""

    def __init__(self, queue: Queue, destination: Destination, report: Callable[[str], None]):
        self._queue, self._destination, self._report = queue, destination, report
        self._ending = threading.Event()
        self._threads: dict[str, threading.Thread] = {}
        self._waits: dict[str, float] = {}
        self._not_before: dict[str, float] = {}

    def take(self) -> None:
        """Begin with what can be sent now."""
        self._threads = {study: thread for study, thread in self._threads.items() if thread.is_alive()}
        for study in self._queue.record.studies(State.FORWARDING):
            if len(self._threads) == FORWARDED_AT_ONCE:
                return
            if study.id not in self._threads and time.monotonic() >= self._not_before.get(study.id, 0.0):
                self._threads[study.id] = threading.Thread(target=self._forward, args=(study.id,), daemon=True)
                self._threads[study.id].start()

    def end(self) -> None:
        """Stop after the images that are being sent; what hangs ends with the process."""
        self._ending.set()
        for thread in self._threads.values():
            thread.join(ENDING_SECONDS)

    def _forward(self, study: str) -> None:
        count = 0

        def sent(path: Path) -> None:
            nonlocal count
            count += 1
            removed(path)
            if self._ending.is_set():
                raise ForwardError("the node ends")

        try:
            self._destination.send(self._queue.defaced(study), study, sent)
            self._queue.forwarded(study)
            self._waits.pop(study, None)
            self._report(f"study {study}: forwarded, {count} images")
        except Exception as error:
            said = str(error) if isinstance(error, CTDefaceError) else f"an unexpected error ({type(error).__name__})"
            self._report(f"study {study}: is sent again: {said}")
            wait = self._waits.get(study, AGAIN_SECONDS[0])
            self._not_before[study] = time.monotonic() + wait
            self._waits[study] = min(2 * wait, AGAIN_SECONDS[1])
