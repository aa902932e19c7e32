"""Where the scans of a batch are done: in this process, in worker processes, or on a Dask cluster."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from enum import Enum

from .. import processes, segmenters
from ..pipeline import DefaceParameters
from .cluster import on_dask
from .job import Job, Outcome
from .runner import LONGEST_SECONDS, Resources, Results, Runner, Started
from .work import run_job
from .worker_processes import in_worker_processes

BYTES_PER_WORKER = 3_000_000_000
"""Memory that a scan of 512 × 512 × 500 voxels takes at most, with the pictures of the gallery, in bytes; measured."""

BYTES_PER_MODEL = 5_000_000_000
"""… and what a trained model adds on the processor, in bytes: PyTorch, the model, and its output for a whole head;
measured."""


def in_process(
    jobs: Iterable[Job],
    started: Started,
    resources: Resources,
    run: Callable[[Job], Outcome] = run_job,
) -> Results:
    """One after the other, in this process; parameters as of :class:`.runner.Runner`."""
    for job in jobs:
        started("this process", job)
        yield job, run(job)


class Place(Enum):
    """Where a batch can run."""

    HERE = "this process"
    PROCESSES = "worker processes"
    DASK = "a Dask cluster"


RUNNERS: dict[Place, Runner] = {
    Place.HERE: in_process,
    Place.PROCESSES: in_worker_processes,
    Place.DASK: on_dask,
}


def choose(
    parameters: DefaceParameters,
    workers: int | None,
    threads: int | None,
    scheduler: str | None,
    timeout: float | None,
) -> tuple[Place, Resources]:
    """Where to run, and with what.

    Parameters
    ----------
    parameters: DefaceParameters
        A trained model needs more memory, and can use graphics cards.
    workers, threads: int or None
        Processes, 0 for this one, and threads of each; chosen for this machine where None.
    scheduler: str or None
        Address of a Dask scheduler.
    timeout: float or None
        Seconds for each scan, 0 for no limit; :data:`.runner.LONGEST_SECONDS` where None.

    Raises
    ------
    InputError
        For a segmenter that there is not.
    """
    timeout = LONGEST_SECONDS if timeout is None else timeout or None
    if scheduler:
        return Place.DASK, Resources(scheduler=scheduler, timeout=timeout)
    if workers == 0:
        return Place.HERE, Resources()
    has_model = "device" in segmenters.module(parameters.segmenter).OPTIONS
    cards = graphics_cards() if has_model and parameters.device in ("auto", "gpu") else []
    workers = workers or fitting_workers(has_model, len(cards))
    threads = threads or max(1, processes.processors() // workers)
    return Place.PROCESSES, Resources(workers, threads, tuple(cards), timeout=timeout)


def graphics_cards() -> list[str]:
    """The NVIDIA cards that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip() not in ("", "-1")]
    try:
        asked = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, encoding="ascii", timeout=30, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


def fitting_workers(has_model: bool = False, cards: int = 0) -> int:
    """How many workers this machine has room for: by processors and free memory.

    Parameters
    ----------
    has_model: bool
        Each loads a trained model, which takes memory.
    cards: int
        Graphics cards; with any there is one worker for each at most.
    """
    each = BYTES_PER_WORKER + BYTES_PER_MODEL * has_model
    most = processes.processors()
    return max(1, min(most, int(processes.free_memory() // each), cards or most))
