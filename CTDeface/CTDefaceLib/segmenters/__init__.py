"""The ways to find the face, behind one small interface. Commands, batches, worker and panel list them from here.

A new one is a module of this package with the members of :class:`.segmenter.Segmenter`, and a line in
:data:`SEGMENTERS`.
"""

from __future__ import annotations

from ..errors import InputError, NotReadyError
from . import builtin, cta_deface, nnunet, totalsegmentator
from .segmenter import Action, Choice, Segmenter, State, Status

__all__ = ["SEGMENTERS", "Action", "Choice", "Segmenter", "State", "Status", "check_ready", "module", "names"]

SEGMENTERS: dict[str, Segmenter] = {
    "builtin": builtin,
    "cta-deface": cta_deface,
    "nnunet": nnunet,
    "totalsegmentator": totalsegmentator,
}
"""All segmenters by the name that commands and records call them, in the order in which they are offered."""


def names() -> list[str]:
    """Names of all segmenters, the built-in one first."""
    return list(SEGMENTERS)


def module(name: str) -> Segmenter:
    """The segmenter of a name; InputError when there is none of this name."""
    if name not in SEGMENTERS:
        raise InputError(f"There is no segmenter “{name}”: choose {', '.join(names())}.")
    return SEGMENTERS[name]


def check_ready(name: str, choice: Choice) -> None:
    """Raise NotReadyError with the sentence of the segmenter's state, when something is missing."""
    state = module(name).state(choice)
    if state.status is not Status.READY:
        raise NotReadyError(state.sentence)
