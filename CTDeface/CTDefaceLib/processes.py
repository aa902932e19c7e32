"""This process and those it starts: groups that end together, priority, environment, threads and memory."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import ModuleType

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
"""Variables of the environment that libraries ask, when they load, for the number of their threads."""

TEMPORARY_FOLDER = ("TMPDIR", "TEMP", "TMP")
"""Variables of the environment that name the folder for temporary files, on every system."""

NICENESS = 10
"""How far :func:`give_way` steps back, of 19, on systems other than Windows. A choice."""

ASSUMED_FREE = 0.5
"""Share of all memory that counts as free where nothing tells how much is (no psutil); an assumption."""


def lead_process_group() -> None:
    """Make this process and what it will start one group that ends together."""
    if sys.platform != "win32":
        if os.getpgrp() != os.getpid():
            os.setsid()
        return
    import ctypes
    from ctypes import wintypes

    class Limits(ctypes.Structure):  # JOBOBJECT_EXTENDED_LIMIT_INFORMATION
        _fields_ = [
            ("times", ctypes.c_int64 * 2),
            ("flags", wintypes.DWORD),
            ("working_set", ctypes.c_size_t * 2),
            ("processes", wintypes.DWORD),
            ("affinity", ctypes.c_size_t),
            ("priority", wintypes.DWORD * 2),
            ("io", ctypes.c_uint64 * 6),
            ("memory", ctypes.c_size_t * 4),
        ]

    kill_on_close, extended_information = 0x2000, 9
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateJobObjectW.restype = kernel.GetCurrentProcess.restype = wintypes.HANDLE
    job = wintypes.HANDLE(kernel.CreateJobObjectW(None, None))
    limits = Limits(flags=kill_on_close)
    kernel.SetInformationJobObject(job, extended_information, ctypes.byref(limits), ctypes.sizeof(limits))
    kernel.AssignProcessToJobObject(job, wintypes.HANDLE(kernel.GetCurrentProcess()))


def end_process_group(pid: int | None = None) -> None:
    """End the leader of a group and every process it started; ``None`` is the calling one: then it does not return."""
    if sys.platform == "win32":  # the leader's job object takes its children with it
        os.kill(pid or os.getpid(), signal.SIGTERM)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid or os.getpid(), signal.SIGKILL)


def give_way() -> None:
    """Leave the processor to the window, which has to draw, wherever both want it."""
    if sys.platform != "win32":
        os.nice(NICENESS)
        return
    import ctypes
    from ctypes import wintypes

    below_normal = 0x4000
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.GetCurrentProcess.restype = wintypes.HANDLE
    kernel.SetPriorityClass(wintypes.HANDLE(kernel.GetCurrentProcess()), below_normal)


def interpreter() -> str:
    """The Python for further processes.

    Within Slicer, ``sys.executable`` is a launcher that does not hand on the pipes to them; the Python that it launches
    lies beside it.
    """
    path = Path(sys.executable)
    return str(path.with_name("python-real" + path.suffix)) if path.stem == "PythonSlicer" else sys.executable


def started_pool(number: int, variables: Mapping[str, str]) -> tuple[ProcessPoolExecutor, list[Future[int]]]:
    """Start so many processes that do what they are given, and end with this one, however it ends.

    Parameters
    ----------
    number: int
    variables: mapping
        Of their environment.

    Returns
    -------
    tuple
        The pool, and futures of its processes' ids.
    """
    context = get_context("spawn")
    context.set_executable(interpreter())
    pool = ProcessPoolExecutor(number, context, initializer=_set_up_process)
    with _starting, _without_main(), environment(dict(variables)):
        return pool, [pool.submit(os.getpid) for _ in range(number)]


_starting = threading.Lock()


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """A process that is started meanwhile does not run the caller's script again, which may lack a guard."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _set_up_process() -> None:
    """Runs first in a process of a pool."""
    lead_process_group()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that ends this one
    parent = parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        end_process_group()

    threading.Thread(target=end_with_parent, daemon=True).start()


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables of the environment meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    """Libraries put their temporary files, which show the face, where they are cleaned up even after a crash."""
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        with environment(dict.fromkeys(TEMPORARY_FOLDER, str(folder))):
            yield
    finally:
        tempfile.tempdir = before


@contextlib.contextmanager
def libraries_silenced() -> Iterator[None]:
    """What libraries in C print on standard error goes nowhere: it quotes file and header, and a sentence says enough.

    It is the whole process's standard error: this belongs around as little as possible. Several threads can be within
    it at once: the first one silences, and the last one gives back what was there before.
    """
    with _silencing:
        _silent.append(_standard_error_kept() if not _silent else -1)
    try:
        yield
    finally:
        with _silencing:
            if len(_silent) == 1 and _silent[0] >= 0:
                os.dup2(_silent[0], 2)
                os.close(_silent[0])
            _silent.pop()


_silencing = threading.Lock()
_silent: list[int] = []
"""One entry for each thread within :func:`libraries_silenced`; the first is where standard error goes to, or -1."""


def _standard_error_kept() -> int:
    """Let standard error go nowhere; where it went before, or -1 where there is none, as in a program with windows."""
    try:
        sys.stderr.flush()
        kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    except (AttributeError, OSError, ValueError):
        return -1
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return kept


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> float:
    """Bytes of memory that are free now, or an estimate."""
    try:
        import psutil
    except ImportError:
        if sys.platform == "win32":
            return _free_memory_of_windows()
        known = {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(os.sysconf_names)
        return ASSUMED_FREE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else 0.0
    return float(psutil.virtual_memory().available)


def _free_memory_of_windows() -> float:
    import ctypes

    class Status(ctypes.Structure):  # MEMORYSTATUSEX
        _fields_ = [("length", ctypes.c_uint32), ("load", ctypes.c_uint32)] + [
            (name, ctypes.c_uint64)
            for name in ("total", "free", "total_page", "free_page", "total_virtual", "free_virtual", "extended")
        ]

    status = Status(length=ctypes.sizeof(Status))
    if sys.platform == "win32":
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return float(status.free)
