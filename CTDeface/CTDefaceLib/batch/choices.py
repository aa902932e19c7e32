"""What has to stay the same while a batch is interrupted and goes on."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass

from ..dicom.headers import Cleaner
from ..dicom.pseudonyms import Pseudonyms
from ..errors import InputError
from ..pipeline import DefaceParameters
from ..volume_io import check_volume_name
from .job import DICOM
from .keeping import asks_for_documents
from .record import Record

PARAMETERS = tuple(asdict(DefaceParameters()))
OTHER_CHOICES = (
    "This batch was begun with other choices ({}): start it with the same ones again, or with another output folder."
)


LAYOUTS, NAMES, BY = ("tree", "bids"), ("pseudonym", "keep"), ("study", "patient", "series")
"""What layout, names and jobs there are."""

OF_OLD = {"by": "series", "keep": [], "take_along": False}
"""What a batch does that was begun before this could be chosen."""


@dataclass(frozen=True)
class Choices:
    """What has to stay the same while a batch is interrupted and goes on.

    Attributes
    ----------
    layout: str
        ``"tree"`` keeps the shape of the input's folders, ``"bids"`` makes ``sub-…/ct/sub-…_ct``.
    names: str
        ``"pseudonym"`` for keyed hashes, ``"keep"`` for the names that the inputs have.
    ending: str
        Format of the results, ``".nii.gz"``, ``".nii"``, ``".nrrd"`` or ``".mha"``; ``".dicom"`` for folders of this
        ending with a DICOM series each.
    headers: str
        Of DICOM series: ``"keep"``, or ``"ps315"`` to clean them.
    retain: str
        What stays of headers that are cleaned: keys of :data:`.dicom.headers.RETAIN` with commas.
    audit: str
        ``"module:function"`` that looks for the face in each result, see :mod:`CTDefaceLib.audits`; empty for none.
    no_text: bool
        Refuse DICOM series with text in their pixels, see :mod:`.dicom.burned_in`.
    form, orientation: str
        Of NIfTI files, where they say two things or nothing of how they lie, see :func:`.volume_io.read_scan`.
    by: str
        ``"study"`` gives all scans of a patient's study one face, ``"patient"`` those of all of a patient's studies,
        ``"series"`` defaces each for itself.
    keep: tuple of str
        What must stay, see :mod:`.keeping`.
    take_along: bool
        Structure sets, segmentations, doses and the like of DICOM studies, too, without what shows the face.
    """

    layout: str = "tree"
    names: str = "pseudonym"
    ending: str = ".nii.gz"
    audit: str = ""
    headers: str = "keep"
    retain: str = ""
    no_text: bool = False
    form: str = ""
    orientation: str = ""
    by: str = "study"
    keep: tuple[str, ...] = ()
    take_along: bool = False

    @property
    def are_headers_cleaned(self) -> bool:
        return self.headers == "ps315"

    @property
    def is_face_shared(self) -> bool:
        """Whether scans that belong together get one face."""
        return self.by != "series"

    @property
    def need_secret(self) -> bool:
        """Whether pseudonyms or new UIDs have to be made, or the same face once more when a study goes on."""
        return self.names == "pseudonym" or self.ending == DICOM or self.is_face_shared

    @property
    def need_documents(self) -> bool:
        """Whether structure sets and the like have to be looked for."""
        return self.take_along or any(asks_for_documents(one) for one in self.keep)


def check_format(choices: Choices) -> None:
    """Refuse results that cannot be written as chosen.

    Raises
    ------
    CTDefaceError
        When the format is not known, headers cannot be cleaned as chosen, or what only DICOM has is asked of another
        format (InputError).
    """
    if choices.ending != DICOM:
        check_volume_name("x" + choices.ending)
        if choices.headers != "keep":
            raise InputError("Headers are cleaned in DICOM series only: choose that as the format of the results.")
        if choices.no_text:
            raise InputError("Text is looked for in DICOM series only: choose that as the format of the results.")
        if choices.take_along:
            raise InputError(
                "Structure sets and the like go with DICOM series: choose that as the format of the results."
            )
    elif choices.are_headers_cleaned:
        Cleaner([name for name in choices.retain.split(",") if name], Pseudonyms())


def keep_choices(record: Record, parameters: DefaceParameters, choices: Choices, redo: bool) -> None:
    """Note the choices of a new batch, with a number that tells it from others; refuse to go on with other ones.

    Parameters
    ----------
    record: Record
    parameters: DefaceParameters
    choices: Choices
    redo: bool
        Scans are done again, for which other parameters are welcome.

    Raises
    ------
    InputError
        When the batch was begun with other choices.
    CTDefaceError
        When the record cannot be read or written.
    """
    now = json.loads(json.dumps({**asdict(parameters), **asdict(choices)}))
    before = json.loads(record.get("choices") or "null")
    if before is None:
        record.set("choices", json.dumps(now))
        record.set("run", record.get("run") or secrets.token_hex(8))
        return
    before = {**OF_OLD, **before}
    free = ("device", *(PARAMETERS if redo else ()))
    other = [name for name in now if now[name] != before.get(name, now[name]) and name not in free]
    if other:
        raise InputError(OTHER_CHOICES.format(", ".join(f"{name}: {before.get(name)}" for name in other)))
    record.set("choices", json.dumps({**before, "device": now["device"]}))


def first_parameters(record: Record) -> dict:
    """The parameters that the batch was begun with, see :class:`CTDefaceLib.pipeline.DefaceParameters`."""
    return {name: value for name, value in json.loads(record.get("choices")).items() if name in PARAMETERS}
