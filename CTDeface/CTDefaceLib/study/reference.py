"""In which scan of a study the face is found: that which shows the head best, of those with the head of most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

C = TypeVar("C")
B = TypeVar("B")

FEWEST_VOTERS = 3
"""Of fewer CTs none is outvoted: then the one in which the head is seen best is believed."""


def of_most(candidates: Sequence[C], begin: Callable[[C], B | None], fits: Callable[[B, C], bool]) -> B | None:
    """What begins a study whose head is that of most of its CTs, so that a stranger's among them does not decide.

    Parameters
    ----------
    candidates: sequence
        CTs, the one in which the head is seen best first.
    begin: callable
        Finds the face in one of them; None where there is none.
    fits: callable
        Whether another one shows the head that was found.

    Returns
    -------
    object or None
        What ``begin`` gave, of equal ones the first; None where no face is in any of them.
    """
    best: B | None = None
    most, left = 0, list(candidates)
    while len(left) > most:  # else none of them can be of more
        first = left.pop(0)
        begun = begin(first)
        if begun is None:
            continue
        if len(candidates) < FEWEST_VOTERS:
            return begun
        same = [one for one in candidates if one is first or fits(begun, one)]
        if len(same) > most:
            best, most = begun, len(same)
        left = [one for one in left if one not in same]
    return best
