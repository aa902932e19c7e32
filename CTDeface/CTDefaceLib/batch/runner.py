"""What a runner is: the seam between a batch and the places where its scans are done.

A runner is a function with the signature of :class:`Runner` and a line in the table :data:`.runners.RUNNERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Protocol

from .job import Job, Outcome
from .work import run_job

Started = Callable[[str, Job], None]
"""Is given the name of the worker that a job went to."""

Results = Generator[tuple[Job, Outcome], None, None]

DIED_SENTENCE = "The process that worked on it ended without a word, perhaps because memory ran out."

TICK_SECONDS = 1.0
"""How long a runner waits for a job to end before it looks after everything else, in s; so late it sees what broke."""


LONGEST_SECONDS = 7200.0
"""After which a scan is given up unless another time is asked for, in s, so that what hangs does not hold a batch for
ever. A choice, far above what a scan takes, with a trained model on a slow processor, too."""


@dataclass(frozen=True)
class Resources:
    """What a runner may use; each takes what it knows.

    Attributes
    ----------
    workers: int
        Number of processes.
    threads: int
        That each of them uses.
    cards: tuple of str
        Graphics cards, see :func:`.runners.graphics_cards`; each worker sees one of them.
    scheduler: str
        Address of a Dask scheduler such as ``tcp://node1:8786``.
    timeout: float or None
        Seconds after which a scan is given up; for a study so many for each of its scans.
    """

    workers: int = 0
    threads: int = 1
    cards: tuple[str, ...] = ()
    scheduler: str = ""
    timeout: float | None = None

    def timeout_of(self, job: Job) -> float | None:
        """Seconds after which a job is given up."""
        return self.timeout and self.timeout * len(job.whole)


class Runner(Protocol):
    """Does jobs somewhere."""

    def __call__(
        self,
        jobs: Iterable[Job],
        started: Started,
        resources: Resources,
        run: Callable[[Job], Outcome] = run_job,
    ) -> Results:
        """Take jobs as there is room for them, and yield each with its outcome, in the order in which they end.

        Parameters
        ----------
        jobs: iterable of Job
            Asked for one by one.
        started: callable
            Is given the name of the worker that takes a job, and the job.
        resources: Resources
        run: callable
            What to do with a job, in the worker.

        Raises
        ------
        CTDefaceError
            When nothing can be done there.
        """


def too_long(seconds: float) -> str:
    """The sentence of a scan that was given up after so many seconds."""
    return f"It took longer than {seconds:g} s."
