"""What a command shows while it works: one line on a terminal, nothing in a pipe or a log."""

from __future__ import annotations

import shutil
import sys


class Progress:
    """Progress on standard error, as a context manager; calling it has the signature the library's functions expect."""

    def __init__(self) -> None:
        self._stream = sys.stderr  # libraries' output is kept out of it while they work
        self._shown = self._stream.isatty()
        self._length = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._write("")

    def __call__(self, fraction: float, text: str) -> None:
        self._write(f"{min(max(fraction, 0.0), 1.0):4.0%} {text}")

    def _write(self, line: str) -> None:
        if self._shown:
            line = line[: shutil.get_terminal_size().columns - 1]
            print(f"\r{line:<{self._length}}", end="\r" if not line else "", file=self._stream, flush=True)
            self._length = len(line)


def say(text: str) -> None:
    """A line on standard error where a person reads it."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def warn(text: str) -> None:
    """A line on standard error that also belongs into a log."""
    print(f"ctdeface: {text}", file=sys.stderr)
