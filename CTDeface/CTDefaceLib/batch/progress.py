"""What a batch shows while it runs: a live picture on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

from .record import DONE, FINISHED

Tell = Callable[[dict], None]
"""Takes what happens in a batch, each a dict with ``event``:

``planned``  ``total`` scans, ``left`` to do, and ``counts`` by status
``started``  ``scan`` (name of its result) went to ``worker``
``ended``    ``scan`` with ``status``, ``sentence`` and ``seconds``
``note``     ``text`` for the user
"""


def batch_display() -> AbstractContextManager[Tell]:
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

    def __init__(self):
        self.planned = False
        self.total = self.left = self.ended = 0
        self._start = time.monotonic()

    def take(self, event: dict) -> None:
        if event["event"] == "planned":
            self.total, self.left, self.ended, self._start = event["total"], event["left"], 0, time.monotonic()
            self.planned = True
        elif event["event"] == "ended":
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

    def __init__(self):
        self._pace = Pace()

    def __enter__(self) -> Tell:
        return self._tell

    def __exit__(self, *_) -> None:
        pass

    def _tell(self, event: dict) -> None:
        self._pace.take(event)
        if event["event"] == "planned":
            self._say(f"{event['total']} scans, {event['left']} to do")
        elif event["event"] == "ended":
            done = self._pace.total - self._pace.left
            sentence = f" ({event['sentence']})" if event["sentence"] else ""
            self._say(f"{done}/{self._pace.total} {event['scan']}: {event['status']}{sentence}; {self._pace}")
        elif event["event"] == "note":
            self._say(event["text"])

    @staticmethod
    def _say(text: str) -> None:
        print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


class LiveDisplay:
    """A bar, what each worker does and for how long, and a line for each scan that is not simply done."""

    def __init__(self):
        from rich.console import Console
        from rich.live import Live

        self._pace, self._counts, self._workers = Pace(), Counter(), {}
        self._live = Live(console=Console(stderr=True), get_renderable=self._picture, refresh_per_second=4)

    def __enter__(self) -> Tell:
        self._live.__enter__()
        return self._tell

    def __exit__(self, *error) -> None:
        self._workers.clear()
        self._live.__exit__(*error)

    def _tell(self, event: dict) -> None:
        self._pace.take(event)
        if event["event"] == "planned":
            self._counts = Counter(event["counts"])
        elif event["event"] == "started":
            self._workers[event["worker"]] = event["scan"], time.monotonic()
        elif event["event"] == "ended":
            for worker, work in list(self._workers.items()):
                if work and work[0] == event["scan"]:
                    self._workers[worker] = None
            self._counts[event["status"]] += 1
            if event["status"] != DONE:
                self._print(f"{event['scan']}: {event['status']} ({event['sentence']})")
        elif event["event"] == "note":
            self._print(event["text"])

    def _print(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False)

    def _picture(self):
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
            workers.add_row(Text(worker), Text(f"{work[0]}, {duration(now - work[1])}" if work else "idle", "dim"))
        counts = ", ".join(f"{count} {status}" for status, count in self._counts.items() if status in SHOWN)
        return Group(bar, workers, Text(counts))


SHOWN = (*FINISHED, "held back", "no face in view", "refused", "failed", "timed out", "same as another")
