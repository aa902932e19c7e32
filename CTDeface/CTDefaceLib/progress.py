"""Reporting progress and being cancelled, in one form everywhere.

A long function takes ``progress``, which is called with a fraction from 0 to 1 and a short text, and ``cancelled``,
which is asked between steps and ends the work when it says True.
"""

from __future__ import annotations

from collections.abc import Callable

from .errors import Cancelled

Progress = Callable[[float, str], None]
"""Called with the fraction that is done, 0 to 1, and a short text that says what is going on."""

IsCancelled = Callable[[], bool]
"""Asked between steps; True ends the work."""


def silent(fraction: float, text: str) -> None:
    """The progress of whoever does not want to know."""


def never() -> bool:
    """The answer of whoever does not cancel."""
    return False


def part(progress: Progress, start: float, end: float) -> Progress:
    """The progress of a sub-step, whose 0 to 1 is from ``start`` to ``end`` of the whole."""
    return lambda fraction, text: progress(start + fraction * (end - start), text)


def stop_if(cancelled: IsCancelled) -> None:
    """Raise Cancelled when ``cancelled`` says so."""
    if cancelled():
        raise Cancelled("The work was cancelled; nothing was changed.")


def steps(progress: Progress | None, cancelled: IsCancelled | None) -> Progress:
    """A progress that also asks whether to go on, and raises Cancelled if not."""

    def step(fraction: float, text: str) -> None:
        stop_if(cancelled or never)
        (progress or silent)(fraction, text)

    return step
