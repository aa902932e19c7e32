"""The ways to find the face, behind one small interface. Commands, batches, worker and panel list them from here.

Each is a module ``segmenter_….py`` of this package; adding one is adding that file. It has

- ``TITLE``: what the panel calls it, and ``ABOUT``: a line about what it is;
- ``OPTIONS``: which members of :class:`Choice` it takes;
- ``state(choice) -> State``: whether it can work here; quick, since it is asked often;
- ``segment(image, cylinder, choice, progress, cancelled) -> (mask, notes)``: finds the face in a CT in Hounsfield
  units, once it is ready. ``cylinder`` tells where the head lies. ``mask`` is uint8 on the grid of ``image``; ``notes``
  is a dict with ``warnings`` and, for a trained model, ``model``: what tells it from others, without places.
  NoFaceError when it finds none, Cancelled when ``cancelled()`` said so;

and, where it needs them,

- ``model(choice)``: its :class:`.nnunet.Model`, and ``expected_seconds(image, cylinder, choice)``;
- ``EXTRA``: what ``pip install 'ctdeface[…]'`` calls its packages;
- ``LICENCE``: link to a licence key, and ``save_licence(key)``;
- ``DOWNLOAD``: what is downloaded, and ``download(progress, cancelled)``; ``import_weights(path)``.

They import their packages when they are used.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from types import ModuleType

from . import __path__ as PACKAGE_PATH
from .errors import InputError, NotReadyError

PREFIX = "segmenter_"
READY, NO_PACKAGE, NO_LICENCE, NO_WEIGHTS = "ready", "package missing", "licence missing", "weights missing"
#: what can be offered
INSTALL, ENTER_LICENCE, DOWNLOAD, IMPORT, CHOOSE_FOLDER = "install", "licence", "download", "import", "folder"


@dataclass(frozen=True)
class Choice:
    """What a segmenter can be told.

    Attributes
    ----------
    weights: str
        Folder with the weights.
    label: str
        The label of the model that is the face.
    device: str
        ``"auto"`` (a graphics card where there is one), ``"cpu"``, ``"gpu"``, ``"gpu:1"`` … or ``"mps"``.
    """

    weights: str = ""
    label: str = ""
    device: str = "auto"


@dataclass(frozen=True)
class State:
    """Whether a segmenter can work here.

    Attributes
    ----------
    status: str
        READY, NO_PACKAGE, NO_LICENCE or NO_WEIGHTS.
    sentence: str
        What is missing.
    actions: tuple of str
        What helps, of INSTALL, ENTER_LICENCE, DOWNLOAD, IMPORT and CHOOSE_FOLDER.
    """

    status: str = READY
    sentence: str = ""
    actions: tuple[str, ...] = ()


def names() -> list[str]:
    """Names of all segmenters, the built-in one first."""
    modules = (module.name for module in pkgutil.iter_modules(PACKAGE_PATH))
    found = [name.removeprefix(PREFIX).replace("_", "-") for name in modules if name.startswith(PREFIX)]
    return sorted(found, key=lambda name: (name != "builtin", name))


def module(name: str) -> ModuleType:
    """The module of a segmenter; InputError when there is none of this name."""
    if name not in names():
        raise InputError(f"There is no segmenter “{name}”: choose {', '.join(names())}.")
    return importlib.import_module(f".{PREFIX}{name.replace('-', '_')}", __package__)


def check_ready(name: str, choice: Choice) -> None:
    """Raise NotReadyError with the sentence of the segmenter's state, when something is missing."""
    state = module(name).state(choice)
    if state.status != READY:
        raise NotReadyError(state.sentence)
