"""Do the scans of a batch in worker processes of this machine, a runner."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as JobTimeout
from concurrent.futures.process import BrokenProcessPool
from queue import SimpleQueue
from typing import Any

from ..errors import CTDefaceError
from ..processes import THREADS, end_process_group, interpreter, started_pool
from .job import Job, Outcome
from .runner import DIED_SENTENCE, TICK_SECONDS, Resources, Results, Started, too_long
from .status import Mishap, Status
from .work import run_job

NO_INTERPRETER = (
    "Slicer's Python cannot start worker processes here: leave them out, or use PythonSlicer -m CTDefaceLib batch."
)


def in_worker_processes(
    jobs: Iterable[Job],
    started: Started,
    resources: Resources,
    run: Callable[[Job], Outcome] = run_job,
) -> Results:
    """In processes of their own, which keep what they loaded from one scan to the next.

    Each worker is a pool of one process, so that killing one that takes too long, or one that dies, costs no other
    scan. They end with this process, however it ends. Parameters as of :class:`.runner.Runner`.

    Raises
    ------
    CTDefaceError
        When there is no Python to start them with.
    """
    if not os.path.isfile(interpreter()):
        raise CTDefaceError(NO_INTERPRETER)
    processes = [WorkerProcess(number, resources) for number in range(resources.workers)]
    idle: SimpleQueue[WorkerProcess] = SimpleQueue()
    for process in processes:
        idle.put(process)

    def do(job: Job) -> tuple[Job, Outcome]:
        process = idle.get()
        try:
            started(process.name, job)
            return job, process.run(run, job, resources.timeout_of(job))
        finally:
            idle.put(process)

    with ThreadPoolExecutor(resources.workers, thread_name_prefix="batch") as pool:
        try:
            yield from _as_they_end(jobs, lambda job: pool.submit(do, job), resources.workers)
        finally:
            for process in processes:
                process.close()


def _as_they_end(jobs: Iterable[Job], submit: Callable[[Job], Future[tuple[Job, Outcome]]], at_once: int) -> Results:
    """Keep as many jobs going as there is room for, however many there are."""
    jobs = iter(jobs)
    going: set[Future[tuple[Job, Outcome]]] = set()
    while True:
        while len(going) < at_once and (job := next(jobs, None)) is not None:
            going.add(submit(job))
        if not going:
            return
        ended, going = wait(going, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
        for future in ended:
            yield future.result()


class WorkerProcess:
    """A process that does one job at a time; started when first needed, and again after it had to be killed."""

    def __init__(self, number: int, resources: Resources):
        self.name = f"worker {number + 1}"
        self._variables = dict.fromkeys(THREADS, str(resources.threads))
        if resources.cards:
            self._variables["CUDA_VISIBLE_DEVICES"] = resources.cards[number % len(resources.cards)]
        self._changing = threading.Lock()
        self._closed = False
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0

    def run(self, function: Callable[[Any], Outcome], job: Any, timeout: float | None) -> Outcome:
        """Have a job done; where the process dies or takes too long, that is the outcome."""
        try:
            return self._started().submit(function, job).result(timeout)
        except JobTimeout:
            self.kill()
            assert timeout is not None
            return Outcome(Status.TIMED_OUT, too_long(timeout), timeout)
        except (BrokenProcessPool, RuntimeError):  # the latter from a pool that was shut down meanwhile
            self.kill()
            return Outcome(Mishap.DIED, DIED_SENTENCE)

    def _started(self) -> ProcessPoolExecutor:
        with self._changing:
            if self._closed:
                raise BrokenProcessPool("The batch ends.")
            if self._pool is None:
                self._pool, (started,) = started_pool(1, self._variables)
                self._pid = started.result()
            return self._pool

    def kill(self) -> None:
        """End the process with everything it started."""
        with self._changing:
            if self._pool is not None:
                if self._pid:
                    end_process_group(self._pid)
                self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool, self._pid = None, 0

    def close(self) -> None:
        self._closed = True
        self.kill()
