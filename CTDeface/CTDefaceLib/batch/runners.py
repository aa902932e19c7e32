"""Where the scans of a batch are done: in this process, in worker processes, or on a Dask cluster.

Each runner is a generator that takes jobs as it has room for them and yields each with its outcome, in the order in
which they end. ``started(worker, job)`` tells which worker a job went to.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as JobTimeout
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType

from ..errors import CTDefaceError
from ..worker import end_process_group, lead_process_group
from .job import Job, Outcome, environment, run_job
from .record import TIMED_OUT

Started = Callable[[str, Job], None]
Results = Iterator[tuple[Job, Outcome]]

#: what an outcome says when the worker ended before the job did
DIED = "worker died"
DIED_SENTENCE = "The process that worked on it ended without a word, perhaps because memory ran out."
NO_INTERPRETER = (
    "Slicer's Python cannot start worker processes here: leave them out, or use PythonSlicer -m CTDefaceLib batch."
)
TICK_SECONDS = 1.0
#: what a scan of 512 × 512 × 500 voxels takes at most, with the pictures of the gallery
BYTES_PER_WORKER = 3_000_000_000
#: … and what a trained model adds on the processor: PyTorch, the model, and its output for a whole head
BYTES_PER_MODEL = 5_000_000_000
#: what the libraries ask for the number of their threads
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")

_starting = threading.Lock()


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def graphics_cards() -> list[str]:
    """The NVIDIA cards that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip() not in ("", "-1")]
    try:
        asked = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


def fitting_workers(has_model: bool = False, cards: int = 0) -> int:
    """How many workers this machine has room for: by processors and free memory; one for each graphics card."""
    each = BYTES_PER_WORKER + BYTES_PER_MODEL * has_model
    return max(1, min(processors(), int(_free_memory() // each), cards or processors()))


def _free_memory() -> float:
    try:
        import psutil
    except ImportError:
        if os.name == "nt":
            return _free_memory_of_windows()
        known = hasattr(os, "sysconf") and {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(os.sysconf_names)
        return 0.5 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else 0.0
    return psutil.virtual_memory().available


def _free_memory_of_windows() -> float:
    import ctypes

    class Status(ctypes.Structure):  # MEMORYSTATUSEX
        _fields_ = [("length", ctypes.c_uint32), ("load", ctypes.c_uint32)] + [
            (name, ctypes.c_uint64)
            for name in ("total", "free", "total_page", "free_page", "total_virtual", "free_virtual", "extended")
        ]

    status = Status(length=ctypes.sizeof(Status))
    ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return float(status.free)


def in_process(jobs: Iterable[Job], started: Started, run: Callable[[Job], Outcome] = run_job) -> Results:
    """One after the other, here."""
    for job in jobs:
        started("this process", job)
        yield job, run(job)


def in_worker_processes(
    jobs: Iterable[Job],
    started: Started,
    workers: int,
    threads: int = 1,
    timeout: float | None = None,
    cards: list[str] | None = None,
    run: Callable[[Job], Outcome] = run_job,
) -> Results:
    """In processes of their own, which keep what they loaded from one scan to the next.

    Each of the `workers` is a pool of one process, so that killing one that takes longer than `timeout` seconds, or
    one that dies, costs no other scan. They end with this process, however it ends.

    Parameters
    ----------
    threads: that each of them uses
    cards: graphics cards, see :func:`graphics_cards`; each worker sees one of them
    run: what to do with a job
    """
    if not os.path.isfile(_interpreter()):
        raise CTDefaceError(NO_INTERPRETER)
    processes = [_Process(number, threads, cards) for number in range(workers)]
    idle: SimpleQueue[_Process] = SimpleQueue()
    for process in processes:
        idle.put(process)

    def do(job: Job) -> tuple[Job, Outcome]:
        process = idle.get()
        try:
            started(process.name, job)
            return job, process.run(run, job, timeout)
        finally:
            idle.put(process)

    with ThreadPoolExecutor(workers, thread_name_prefix="batch") as pool:
        try:
            yield from _as_they_end(jobs, lambda job: pool.submit(do, job), workers)
        finally:
            for process in processes:
                process.close()


def _as_they_end(jobs: Iterable[Job], submit: Callable[[Job], Future], at_once: int) -> Results:
    """Keep as many jobs going as there is room for, however many there are."""
    jobs, going = iter(jobs), set()
    while True:
        while len(going) < at_once and (job := next(jobs, None)) is not None:
            going.add(submit(job))
        if not going:
            return
        ended, going = wait(going, timeout=TICK_SECONDS, return_when=FIRST_COMPLETED)
        for future in ended:
            yield future.result()


class _Process:
    """A process that does one job at a time; started when first needed, and again after it had to be killed."""

    def __init__(self, number: int, threads: int, cards: list[str] | None):
        self.name = f"worker {number + 1}"
        self._variables = dict.fromkeys(THREADS, str(threads))  # libraries ask for them when they load
        if cards:
            self._variables["CUDA_VISIBLE_DEVICES"] = cards[number % len(cards)]
        self._changing = threading.Lock()
        self._closed = False
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0

    def run(self, function: Callable[[Job], Outcome], job: Job, timeout: float | None) -> Outcome:
        try:
            return self._started().submit(function, job).result(timeout)
        except JobTimeout:
            self.kill()
            return Outcome(TIMED_OUT, f"It took longer than {timeout:g} s.", timeout)
        except (BrokenProcessPool, RuntimeError):  # the latter from a pool that was shut down meanwhile
            self.kill()
            return Outcome(DIED, DIED_SENTENCE)

    def _started(self) -> ProcessPoolExecutor:
        with self._changing:
            if self._closed:
                raise BrokenProcessPool("The batch ends.")
            if self._pool is None:
                context = get_context("spawn")
                context.set_executable(_interpreter())
                self._pool = ProcessPoolExecutor(1, context, initializer=_set_up_process)
                with _starting, _without_main(), environment(self._variables):
                    started = self._pool.submit(os.getpid)
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


def _interpreter() -> str:
    """The Python for worker processes. Within Slicer, ``sys.executable`` is a launcher that does not hand on the pipes
    to them; the Python that it launches lies beside it."""
    path = Path(sys.executable)
    return str(path.with_name("python-real" + path.suffix)) if path.stem == "PythonSlicer" else sys.executable


@contextmanager
def _without_main() -> Iterator[None]:
    """A process that is started meanwhile does not run the caller's script again, which may lack a guard."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _set_up_process() -> None:
    """Runs first in a worker process."""
    lead_process_group()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that ends this one

    def end_with_parent() -> None:
        parent_process().join()
        end_process_group()

    threading.Thread(target=end_with_parent, daemon=True).start()
