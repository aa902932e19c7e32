"""What an application and its background process say to each other: a type for each message, and its line of JSON.

    {"is": "Job", "id": 1, "task": {"is": "Segment", "segmenter": "builtin", …}, "result": "mask.npy", "image": …}
    {"is": "Progress", "id": 1, "fraction": 0.3, "text": "Finding the head"}
    {"is": "Done", "id": 1, "report": {"face_ml": 412.0, …}}

Both ends import this module; :mod:`CTDefaceLib.worker` does the tasks. Volumes travel as .npy files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import SimpleITK as sitk


# ------------------------------------------------------------------------------------------------------------- volumes


@dataclass(frozen=True)
class Volume:
    """A volume: a file with its voxels, or only the key by which the worker remembers the one that it had last.

    Attributes
    ----------
    key: str
        What the worker remembers it by; empty for one that nobody will ask for again.
    array: str
        Path of a .npy file of shape (slices, rows, columns), which the worker removes; empty when it has the volume.
    spacing, origin: three numbers in mm, x, y, z in LPS
    direction: nine numbers, rows of the direction matrix
    """

    key: str = ""
    array: str = ""
    spacing: Sequence[float] = ()
    origin: Sequence[float] = ()
    direction: Sequence[float] = ()


def write_volume(
    array: np.ndarray,
    path: str | os.PathLike,
    spacing: Sequence[float],
    origin: Sequence[float],
    direction: Sequence[float],
    key: str = "",
) -> Volume:
    """Write voxels of shape (slices, rows, columns) to a .npy file; the rest as in :class:`Volume`."""
    import numpy as np

    np.save(path, array)
    return Volume(key, str(path), tuple(spacing), tuple(origin), tuple(direction))


def read_volume(volume: Volume) -> sitk.Image:
    """What :func:`write_volume` wrote; the file is gone afterwards."""
    import numpy as np
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.load(volume.array))
    os.remove(volume.array)
    image.SetSpacing(volume.spacing)
    image.SetOrigin(volume.origin)
    image.SetDirection(volume.direction)
    return image


# --------------------------------------------------------------------------------------------------------------- tasks


@dataclass(frozen=True)
class Segment:
    """Find the face in the volume of the job: the result is the mask, the report that of the segmenter.

    Attributes
    ----------
    segmenter: str
        One of :func:`CTDefaceLib.segmenters.names`.
    choice: dict
        Members of :class:`CTDefaceLib.segmenters.Choice`.
    """

    segmenter: str
    choice: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Expect:
    """Load the model of a segmenter, and report about how many ``seconds`` a segmentation of the volume of the job will
    take, and on what ``devices`` it can run. Attributes as of :class:`Segment`."""

    segmenter: str
    choice: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Download:
    """Fetch the weights of a segmenter."""

    segmenter: str


@dataclass(frozen=True)
class Deface:
    """Remove the face from the volume of the job: the result are its voxels, the report that of the defacing.

    Attributes
    ----------
    mask: Volume
        The face, on the grid of the volume.
    parameters: dict
        Members of :class:`CTDefaceLib.pipeline.DefaceParameters`.
    kept: list
        Name and mask (a Volume, on a grid of its own) of each structure that must stay.
    secret: str
        What is random is made from it, hexadecimal digits; drawn when it is empty.
    patient: str
        Tells patients apart.
    key: str
        What the worker remembers the face by, for :class:`Apply`; empty where nobody will ask for it.
    """

    mask: Volume
    parameters: dict[str, Any] = field(default_factory=dict)
    kept: Sequence[tuple[str, Volume]] = ()
    secret: str = ""
    patient: str = ""
    key: str = ""


@dataclass(frozen=True)
class Apply:
    """Give another image the new skin of the head in the volume of the job: the result are the voxels of that image.

    The result is an array of shape (times, slices, rows, columns), the report that of the first time point.

    Attributes
    ----------
    face: Deface
        What made the new skin; it is made again where the worker does not remember it.
    others: list of Volume
        The other image on any grid, or its time points, which get one region.
    modality: str
        As in DICOM; empty where nobody knows.
    """

    face: Deface
    others: Sequence[Volume]
    modality: str = ""


@dataclass(frozen=True)
class Write:
    """Write the volume of the job to the result, in the format of its name."""


@dataclass(frozen=True)
class WriteTimes:
    """Write the time points of a sequence to the result, one NIfTI file.

    Attributes
    ----------
    volumes: list of Volume
        On one grid.
    seconds: float
        From one to the next; 0 where nobody knows.
    """

    volumes: Sequence[Volume]
    seconds: float = 0.0


@dataclass(frozen=True)
class WriteSeries:
    """Write a DICOM series into a folder, the result; the volume of the job is the original. The report has the UIDs.

    Attributes
    ----------
    files: list of str
        Of the original series.
    defaced: Volume
        On the grid of the original.
    checked: bool
        The defacing had no warnings, and touched nothing within the skull.
    retain: list of str or None
        What stays of the headers when they are cleaned, see :data:`CTDefaceLib.dicom.headers.RETAIN`; None keeps them.
    secret, table: str
        Files, of the secret for new UIDs and of a table of them; empty for none.
    """

    files: list[str]
    defaced: Volume
    checked: bool
    retain: list[str] | None = None
    secret: str = ""
    table: str = ""


@dataclass(frozen=True)
class RunBatch:
    """Deface what is in a folder or table, see :func:`CTDefaceLib.batch.run`; the report has the scans by status.

    Attributes
    ----------
    source, output: str
        Paths.
    parameters: dict
        Members of :class:`CTDefaceLib.pipeline.DefaceParameters`.
    workers: int
        Number of scans that are done at the same time.
    """

    source: str
    output: str
    parameters: dict[str, Any] = field(default_factory=dict)
    workers: int = 1


@dataclass(frozen=True)
class MakePhantom:
    """Make a synthetic head CT: the result are its voxels, the report its geometry.

    Attributes
    ----------
    parameters: dict
        Members of :class:`CTDefaceLib.phantom.PhantomParameters`.
    """

    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Unknown:
    """A message of a type that this end does not know."""

    name: str


# ------------------------------------------------------------------------------------------------------------ messages


@dataclass(frozen=True)
class Job:
    """A task to do.

    Attributes
    ----------
    id: int
        What the answers are told apart by.
    task: one of the types above, or of a library that stands on this one
    result: str
        Path of the file, or the folder, for what is too large for an answer; not every task makes one.
    image: Volume or None
        The volume to work on, for tasks that need one.
    """

    id: int
    task: Any
    result: str = ""
    image: Volume | None = None


@dataclass(frozen=True)
class Ready:
    """The worker's first message: the number of its process."""

    pid: int


@dataclass(frozen=True)
class Progress:
    """How far a job is, 0 to 1, and what it does now."""

    id: int
    fraction: float
    text: str


@dataclass(frozen=True)
class Event:
    """What happens in a batch, see :data:`CTDefaceLib.batch.progress.Report`."""

    id: int
    event: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """A job is done; what the report has depends on its task."""

    id: int
    report: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """A job could not be done.

    Attributes
    ----------
    sentence: str
        What is wrong and what to do.
    kind: str
        Name of a class of :mod:`CTDefaceLib.errors`, or empty.
    details: str
        For the log, of what nobody expected.
    """

    id: int
    sentence: str
    kind: str = ""
    details: str = ""


ANSWERS: tuple[type, ...] = (Ready, Progress, Event, Done, Failed)
"""What a worker writes; it reads :class:`Job`."""


def to_line(message: object) -> str:
    """A message as a line of JSON, without the line's end."""
    return json.dumps(message, default=lambda value: {"is": type(value).__name__, **vars(value)})


def from_line(line: str | bytes, kinds: Iterable[type]) -> Any:
    """The message that a line of :func:`to_line` holds.

    Parameters
    ----------
    kinds: types that may occur in it; others become :class:`Unknown`
    """
    return _message(json.loads(line), {kind.__name__: kind for kind in kinds})


def _message(value: Any, kinds: dict[str, type]) -> Any:
    if isinstance(value, list):
        return [_message(member, kinds) for member in value]
    if not isinstance(value, dict) or "is" not in value:
        return value
    members = {name: _message(member, kinds) for name, member in value.items() if name != "is"}
    return kinds[value["is"]](**members) if value["is"] in kinds else Unknown(value["is"])
