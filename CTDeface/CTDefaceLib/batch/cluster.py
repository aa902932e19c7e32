"""Do the scans of a batch on an existing Dask cluster, a runner.

The workers need CTDeface installed and see input and output under the same paths. Dask shares out the scans, and gives
those of a worker that went away to others.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import pkgutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from .. import segmenters
from ..audits import check_audit
from ..errors import CTDefaceError
from ..pipeline import DefaceParameters
from ..version import __version__
from .job import Job, Outcome
from .runner import DIED_SENTENCE, LONGEST_SECONDS, TICK_SECONDS, Resources, Results, Started, too_long
from .status import Mishap, Status
from .work import run_job

if TYPE_CHECKING:
    from distributed import Client, Future

NOT_INSTALLED = "The Dask client is not installed: pip install 'ctdeface[cluster]'."
NOT_REACHED = (
    "The Dask scheduler cannot be reached ({}): check its address, that the cluster runs, and "
    "its certificates, where it asks for them."
)
OTHER_VERSION = "The Dask workers have {}, not CTDeface {}: install the same version there."
NOT_SEEN = "The Dask workers do not see the {} folder: give paths that are the same on all machines."
NO_NANNY = "A worker of this Dask cluster has no nanny, so that it cannot be stopped in time: leave out --timeout."
SCHEDULER_GONE = "The connection to the Dask scheduler was lost: start the batch again, and it goes on where it was."
QUEUED = 2
"""Scans that wait at the scheduler for each thread that works, so that none has to wait for the next."""

LEAST_QUEUED = 32
"""… and at least this many, so that a cluster that grows with its work does grow."""

PATIENCE_SECONDS = 30
"""How long a scheduler may take to answer, in s."""


def on_dask(
    jobs: Iterable[Job],
    started: Started,
    resources: Resources,
    run: Callable[[Job], Outcome] = run_job,
) -> Results:
    """On the workers of the scheduler of ``resources``; parameters as of :class:`.runner.Runner`.

    Raises
    ------
    CTDefaceError
        When Dask is not installed, the cluster cannot be reached, its workers lack CTDeface or do not see the output
    """
    try:
        import distributed
    except ImportError as error:
        raise CTDefaceError(NOT_INSTALLED) from error
    client, why = None, ""
    try:
        client = distributed.Client(resources.scheduler, timeout=PATIENCE_SECONDS)
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # the latter where it asks for a certificate
        why = type(error).__name__
    if client is None:
        gc.collect()  # ends what was made of it now: later that may wait for a lock that the next one holds
        raise CTDefaceError(NOT_REACHED.format(why))  # not from that error, which would keep it
    with client, _quiet(logging.getLogger("distributed.client")):
        yield from _share_out(client, jobs, started, resources.timeout, run)


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """What goes wrong is told in one sentence, without the library's own report."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _share_out(
    client: Client,
    jobs: Iterable[Job],
    started: Started,
    timeout: float | None,
    run: Callable[[Job], Outcome],
) -> Results:
    import distributed

    going: dict[Future, Job] = {}
    running: dict[int, tuple[str, float]] = {}  # scan → worker's address and since when
    topic = ""

    def on_start(event: tuple[float, dict]) -> None:
        _, message = event
        running[message["scan"]] = message["address"], time.monotonic()
        job = next((job for job in list(going.values()) if job.scan == message["scan"]), None)
        if job is not None:
            started(message["worker"], job)

    jobs = iter(jobs)
    while True:
        while len(going) < max(LEAST_QUEUED, QUEUED * sum(client.nthreads().values())):
            job = next(jobs, None)
            if job is None:
                break
            if not topic:
                timeout = _check(client, job, timeout)
                topic = f"ctdeface-{job.run}"
                client.subscribe_topic(topic, on_start)
            going[client.submit(_on_worker, run, job, topic, pure=False)] = job
        if not going:
            return
        with suppress(TimeoutError, distributed.CancelledError):
            distributed.wait(list(going), timeout=TICK_SECONDS, return_when="FIRST_COMPLETED")
        if client.status != "running":
            raise CTDefaceError(SCHEDULER_GONE)
        for future in [future for future in going if future.done()]:
            job = going.pop(future)
            running.pop(job.scan, None)
            yield job, _outcome(future)
            future.release()
        if timeout:
            yield from _stop_overdue(client, going, running, timeout)


def _stop_overdue(
    client: Client, going: dict[Future, Job], running: dict[int, tuple[str, float]], timeout: float
) -> Results:
    """Give up the scans that took longer than ``timeout`` (s), each with the worker that it ran on."""
    for future, job in list(going.items()):
        worker, since = running.get(job.scan, ("", math.inf))
        if time.monotonic() - since > timeout * len(job.whole):
            del going[future], running[job.scan]
            future.cancel(force=True)
            client.restart_workers([worker], raise_for_error=False)
            yield job, Outcome(Status.TIMED_OUT, too_long(timeout * len(job.whole)), timeout * len(job.whole))


def _check(client: Client, job: Job, timeout: float | None) -> float | None:
    """One sentence now instead of one for each scan; the timeout, None where that of the default cannot be kept."""
    try:
        version = client.submit(pkgutil.resolve_name, "CTDefaceLib:__version__", pure=False).result()
    except (ImportError, AttributeError):
        version = "none"
    if version != __version__:
        raise CTDefaceError(OTHER_VERSION.format(version, __version__))
    for name, inside in (("output", job.work), ("private", job.pictures)):
        if inside and not client.submit(os.path.isdir, os.path.dirname(os.path.dirname(inside)), pure=False).result():
            raise CTDefaceError(NOT_SEEN.format(name))
    parameters = DefaceParameters(**job.parameters)
    client.submit(segmenters.check_ready, parameters.segmenter, parameters.choice, pure=False).result()
    if job.audit:
        client.submit(check_audit, job.audit, pure=False).result()
    if timeout and any(worker["nanny"] is None for worker in client.scheduler_info()["workers"].values()):
        if timeout != LONGEST_SECONDS:
            raise CTDefaceError(NO_NANNY)
        return None
    return timeout


def _on_worker(run: Callable[[Job], Outcome], job: Job, topic: str) -> Outcome:
    from distributed import get_worker

    worker = get_worker()
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    worker.log_event(topic, {"scan": job.scan, "worker": str(worker.name), "address": worker.address})
    return run(job)


def _outcome(future: Future) -> Outcome:
    from distributed import CancelledError, KilledWorker

    try:
        return future.result()
    except (KilledWorker, CancelledError):  # the latter when the scheduler forgot it
        return Outcome(Mishap.DIED, DIED_SENTENCE)
    except Exception as error:
        return Outcome(Status.FAILED, f"Dask could not do it ({type(error).__name__}).", details=str(error))
