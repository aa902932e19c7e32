"""What a batch shows while it runs: a live picture on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING

from ..files import on_one_line
from .status import PENDING, Status

if TYPE_CHECKING:
    from rich.console import RenderableType

Report = Callable[[dict], None]
"""Takes what happens in a batch, each a dict of plain values, as :func:`planned`, :func:`started`, :func:`ended` and
:func:`note` make it; ``event`` is the word of an :class:`Event`."""

REFRESHES_PER_SECOND = 4
"""How often the live display is drawn. A choice."""


class Event(str, Enum):
    """What can happen in a batch."""

    PLANNED = "planned"
    STARTED = "started"
    ENDED = "ended"
    NOTE = "note"


def planned(counts: dict[str, int], left: int) -> dict:
    """The event that says how many scans there are by the word of their status, and how many of them are left to do."""
    return {"event": Event.PLANNED.value, "total": sum(counts.values()), "left": left, "counts": counts}


def started(scan: str, number: int, worker: str, source: str) -> dict:
    """The event that says that a scan went to a worker.

    Parameters
    ----------
    scan: str
        Name of its result.
    number: int
        In the record.
    worker: str
        Name of the worker.
    source: str
        The scan's own name, that of its file or folder: it may name the patient, so it is for the eyes of whoever runs
        the batch, and for no file.
    """
    return {"event": Event.STARTED.value, "scan": scan, "worker": worker, "number": number, "source": source}


def ended(scan: str, number: int, status: str, sentence: str, seconds: float | None) -> dict:
    """The event that says what became of a scan.

    Parameters
    ----------
    scan, number
        As of :func:`started`.
    status: str
        Word of a :class:`.batch.status.Status`.
    sentence: str
        Why; can be empty.
    seconds: float or None
        That it took.
    """
    return {
        "event": Event.ENDED.value,
        "scan": scan,
        "number": number,
        "status": str(status),
        "sentence": sentence,
        "seconds": seconds,
    }


def note(text: str) -> dict:
    """The event that is a sentence for the user."""
    return {"event": Event.NOTE.value, "text": text}


def batch_display() -> AbstractContextManager[Report]:
    """A display for standard error: live with rich on a terminal, plain lines otherwise."""
    if sys.stderr.isatty():
        try:
            import rich  # noqa: F401
        except ImportError:
            pass
        else:
            return LiveDisplay()
    return PlainDisplay()


class Pace:
    """How fast a batch goes, and how long it will take."""

    def __init__(self) -> None:
        self.planned = False
        self.total = self.left = self.ended = 0
        self._start = time.monotonic()

    def take(self, event: dict) -> None:
        if event["event"] == Event.PLANNED:
            self.total, self.left, self.ended, self._start = event["total"], event["left"], 0, time.monotonic()
            self.planned = True
        elif event["event"] == Event.ENDED:
            self.left, self.ended = self.left - 1, self.ended + 1

    @property
    def per_hour(self) -> float:
        return 3600.0 * self.ended / max(time.monotonic() - self._start, 1e-3)

    def __str__(self) -> str:
        if not self.ended:
            return f"{self.left} scans to do"
        return f"{self.per_hour:.0f} scans per hour, {duration(3600.0 * self.left / self.per_hour)} left"


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes, or seconds."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"


class PlainDisplay:
    """One line for each scan."""

    def __init__(self) -> None:
        self._pace = Pace()

    def __enter__(self) -> Report:
        return self._show

    def __exit__(self, *_: object) -> None:
        pass

    def _show(self, event: dict) -> None:
        self._pace.take(event)
        if event["event"] == Event.PLANNED:
            self._print(f"{event['total']} scans, {event['left']} to do")
        elif event["event"] == Event.ENDED:
            done = self._pace.total - self._pace.left
            sentence = f" ({event['sentence']})" if event["sentence"] else ""
            self._print(f"{done}/{self._pace.total} {event['scan']}: {event['status']}{sentence}; {self._pace}")
        elif event["event"] == Event.NOTE:
            self._print(event["text"])

    @staticmethod
    def _print(text: str) -> None:
        print(time.strftime("%H:%M:%S"), on_one_line(text), file=sys.stderr, flush=True)


class LiveDisplay:
    """A bar, what each worker does and for how long, and a line for each scan that is not simply done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._pace = Pace()
        self._counts: Counter[str] = Counter()
        self._workers: dict[str, tuple[str, float] | None] = {}  # name → what it does, and since when
        self._live = Live(
            console=Console(stderr=True), get_renderable=self._picture, refresh_per_second=REFRESHES_PER_SECOND
        )

    def __enter__(self) -> Report:
        self._live.__enter__()
        return self._show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.clear()
        self._live.__exit__(kind, error, trace)

    def _show(self, event: dict) -> None:
        self._pace.take(event)
        if event["event"] == Event.PLANNED:
            self._counts = Counter(event["counts"])
        elif event["event"] == Event.STARTED:
            self._workers[event["worker"]] = event["scan"], time.monotonic()
        elif event["event"] == Event.ENDED:
            for worker, work in list(self._workers.items()):
                if work and work[0] == event["scan"]:
                    self._workers[worker] = None
            self._counts[event["status"]] += 1
            if event["status"] != Status.DONE:
                self._print(f"{event['scan']}: {event['status']} ({event['sentence']})")
        elif event["event"] == Event.NOTE:
            self._print(event["text"])

    def _print(self, text: str) -> None:
        self._live.console.print(on_one_line(text), markup=False, highlight=False)

    def _picture(self) -> RenderableType:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        if not self._pace.planned:
            return Text("Looking for scans…")
        bar = Table.grid(padding=(0, 1))
        done = self._pace.total - self._pace.left
        bar.add_row(ProgressBar(max(self._pace.total, 1), done, width=40), f"{done}/{self._pace.total}, {self._pace}")
        workers = Table.grid(padding=(0, 2))
        now = time.monotonic()
        for worker, work in sorted(dict(self._workers).items(), key=lambda item: (len(item[0]), item[0])):
            doing = f"{on_one_line(work[0])}, {duration(now - work[1])}" if work else "idle"
            workers.add_row(Text(worker), Text(doing, "dim"))
        counts = ", ".join(f"{count} {status}" for status, count in self._counts.items() if status not in PENDING)
        return Group(bar, workers, Text(counts))
