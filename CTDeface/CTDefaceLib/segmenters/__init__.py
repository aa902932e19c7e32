"""The ways to find the face, behind one small interface. Commands, batches, worker and panel list them from here.

To add one:

1. Write a module of this package with the members of :class:`.segmenter.Segmenter`: three constants and two functions.
   It imports packages that not every machine has where it uses them, not above, so that all can be listed everywhere.
2. Give it a line in :data:`SEGMENTERS`. It is then offered by ``ctdeface deface --segmenter``, ``ctdeface batch``,
   ``ctdeface models`` and the panel, and ``Testing/test_segmenters.py`` checks what each
   says of itself.
3. List the file in ``CTDeface/CMakeLists.txt``, by which Slicer installs it; ``Testing/test_cmake_lists.py`` names it
   otherwise.

A trained one has more of the abilities of :mod:`.segmenter`:

4. :class:`.segmenter.Trained`: its packages get an entry in ``[project.optional-dependencies]`` of ``pyproject.toml``
   that is called what its ``EXTRA`` is, and, since the panel's *Install* asks Slicer's extensions for them, one in
   ``EXTENSIONS`` and one in ``INSTALLERS`` of ``CTDefaceSlicer/segmenter_install.py``; an extension that is not yet in
   its ``MODULES`` gets a line there as well. With an ``EXTRA`` that is there all are done.
5. An nnU-Net can be run by :func:`.nnunet.segment_with`, as :mod:`.cta_deface` does in a dozen lines.
6. :class:`.segmenter.Labelled`, :class:`.segmenter.Licensed`, :class:`.segmenter.Downloadable` and
   :class:`.segmenter.Restricted` where they fit; panel and ``ctdeface models`` find these by themselves and offer what
   ``state`` names as :class:`.segmenter.Action`.
"""

from __future__ import annotations

from ..errors import InputError, NotReadyError
from . import builtin, cta_deface, mede, nnunet, totalsegmentator
from .segmenter import Action, Choice, Downloadable, Labelled, Licensed, Restricted, Segmenter, State, Status, Trained

__all__ = [
    "SEGMENTERS",
    "Action",
    "Choice",
    "Downloadable",
    "Labelled",
    "Licensed",
    "Restricted",
    "Segmenter",
    "State",
    "Status",
    "Trained",
    "check_ready",
    "module",
    "names",
]

SEGMENTERS: dict[str, Segmenter] = {
    "builtin": builtin,
    "cta-deface": cta_deface,
    "mede": mede,
    "nnunet": nnunet,
    "totalsegmentator": totalsegmentator,
}
"""All segmenters by the name that commands and records call them, in the order in which they are offered."""


def names(ability: type = Segmenter) -> list[str]:
    """Names of all segmenters that have an ability, by default of all; the built-in one first."""
    return [name for name, segmenter in SEGMENTERS.items() if isinstance(segmenter, ability)]


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
