"""What a segmenter is: the seam between the ways to find a face and all that use them.

:class:`Segmenter` is what each has to have. :class:`Trained`, :class:`Labelled`, :class:`Licensed`,
:class:`Downloadable` and :class:`Restricted` are abilities that some have beyond it. Who uses one asks
``isinstance(segmenter, Trained)``, so that none has to be registered. How to add a segmenter stands in
:mod:`CTDefaceLib.segmenters`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, runtime_checkable

import SimpleITK as sitk

from ..anatomy.face_map import Cylinder
from ..progress import IsCancelled, Progress

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


@runtime_checkable
class Segmenter(Protocol):
    """A way to find the face: a module with these members.

    Attributes
    ----------
    TITLE, ABOUT: str
        What the panel calls it, and a line about what it is.
    OPTIONS: tuple of str
        Which members of :class:`Choice` it takes. One that takes ``"device"`` has a model; in a batch its processes
        share the graphics cards out.
    """

    TITLE: str
    ABOUT: str
    OPTIONS: tuple[str, ...]

    def state(self, choice: Choice) -> State:
        """Whether it can work here; quick, since it is asked often, and without importing its packages."""

    def segment(
        self,
        image: sitk.Image,
        cylinder: Cylinder,
        choice: Choice,
        progress: Progress,
        cancelled: IsCancelled,
    ) -> tuple[sitk.Image, Notes]:
        """Find the face.

        Parameters
        ----------
        image: SimpleITK.Image
            CT in Hounsfield units; it is not changed.
        cylinder: Cylinder
            Where the head lies in it.
        choice: Choice
            What it is told; only members in ``OPTIONS`` count.
        progress: callable
            Called with a fraction from 0 to 1 and a short text.
        cancelled: callable
            Asked now and then; True ends the work.

        Returns
        -------
        tuple
            The face mask (uint8, grid of ``image``; it may reach into the skull, which the region spares) and notes: a
            dict with ``warnings``, an empty list where there are none, and, for a trained model, ``model``: what tells
            it from others, without places.

        Raises
        ------
        NoFaceError
            When it finds none: never return an empty mask.
        Cancelled
            When ``cancelled()`` is true.
        """


@runtime_checkable
class Trained(Segmenter, Protocol):
    """A segmenter with a trained model: it takes time to load and to run, and its packages may be missing.

    Attributes
    ----------
    EXTRA: str
        What ``pip install 'ctdeface[…]'`` calls its packages.
    """

    EXTRA: str

    def expected_seconds(self, image: sitk.Image, cylinder: Cylinder, choice: Choice) -> float:
        """About how long :meth:`segment` will take; loads the model, so that it is there then."""


@runtime_checkable
class Labelled(Segmenter, Protocol):
    """A segmenter whose model can have several labels, of which one is the face: ``"label"`` is in its ``OPTIONS``."""

    def labels(self, choice: Choice) -> list[str]:
        """Names of the model's labels, without the background; InputError when it is not there."""


@runtime_checkable
class Licensed(Segmenter, Protocol):
    """A segmenter that needs a licence key.

    Attributes
    ----------
    LICENCE: str
        Address of the page where a key can be had.
    """

    LICENCE: str

    def save_licence(self, key: str) -> None:
        """Keep a key; InputError when it cannot be one, OutputError when it cannot be written."""


@runtime_checkable
class Downloadable(Segmenter, Protocol):
    """A segmenter whose weights can be fetched, or taken from a file.

    Attributes
    ----------
    DOWNLOAD: str
        What is fetched, how large it is, and from where; the user is asked with it.
    """

    DOWNLOAD: str

    def download(self, progress: Progress, cancelled: IsCancelled) -> None:
        """Fetch the weights; call it only after the user agreed. All of them appear, or none."""

    def import_weights(self, path: str | os.PathLike[str]) -> None:
        """Take the weights from a file. All of them appear, or none."""

    def weights_bytes(self) -> int:
        """How much room the weights take on this computer, 0 where there are none."""

    def remove_weights(self) -> None:
        """Remove the weights from this computer."""


@runtime_checkable
class Restricted(Segmenter, Protocol):
    """A segmenter with a package that is installed only after the user agreed to its licence.

    Attributes
    ----------
    TERMS: str
        What the licence says, in a sentence; the user is asked with it.
    PIP: tuple of str
        What ``pip install`` takes to install it.
    """

    TERMS: str
    PIP: tuple[str, ...]
