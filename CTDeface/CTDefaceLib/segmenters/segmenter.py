"""What a segmenter is: the seam between the ways to find a face and all that use them.

A segmenter is a module of this package that has the members of :class:`Segmenter`, and a line in the table
:data:`CTDefaceLib.segmenters.SEGMENTERS`. It imports its packages when they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import SimpleITK as sitk

from ..anatomy.face_map import Cylinder

Progress = Callable[[float, str], None]
"""Called with a fraction from 0 to 1 and a short text."""

Notes = dict[str, Any]
"""What a segmenter says of its mask: ``warnings``, a list of sentences, and ``model``, where it has one."""


class Status(str, Enum):
    """Whether a segmenter can work here."""

    READY = "ready"
    NO_PACKAGE = "package missing"
    NO_LICENCE = "licence missing"
    NO_WEIGHTS = "weights missing"


class Action(str, Enum):
    """What can be offered to a user whose segmenter is not ready."""

    INSTALL = "install"
    ENTER_LICENCE = "licence"
    DOWNLOAD = "download"
    IMPORT = "import"
    CHOOSE_FOLDER = "folder"


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
    status: Status
    sentence: str
        What is missing.
    actions: tuple of Action
        What helps.
    """

    status: Status = Status.READY
    sentence: str = ""
    actions: tuple[Action, ...] = ()


class Segmenter(Protocol):
    """A way to find the face.

    Attributes
    ----------
    TITLE, ABOUT: str
        What the panel calls it, and a line about what it is.
    OPTIONS: tuple of str
        Which members of :class:`Choice` it takes.

    Notes
    -----
    Some have more: a trained model ``model(choice)``, its :class:`.nnunet_runtime.Model`, and ``expected_seconds(image,
    cylinder, choice)``; ``EXTRA`` is what ``pip install 'ctdeface[…]'`` calls its packages; ``LICENCE`` is the address
    of a licence key, with ``save_licence(key)``; ``DOWNLOAD`` says what ``download(progress, cancelled)`` fetches;
    ``import_weights(path)`` takes weights from a file.
    """

    TITLE: str
    ABOUT: str
    OPTIONS: tuple[str, ...]

    def state(self, choice: Choice) -> State:
        """Whether it can work here; quick, since it is asked often."""

    def segment(
        self,
        image: sitk.Image,
        cylinder: Cylinder,
        choice: Choice,
        progress: Progress,
        cancelled: Callable[[], bool],
    ) -> tuple[sitk.Image, dict[str, Any]]:
        """Find the face in a CT in Hounsfield units.

        Returns
        -------
        tuple
            The face mask (uint8, grid of ``image``) and notes: a dict with ``warnings`` and, for a trained model,
            ``model``: what tells it from others, without places.

        Raises
        ------
        NoFaceError
            When it finds none.
        Cancelled
            When ``cancelled()`` is true.
        """
