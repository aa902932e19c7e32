"""A received study goes in, its defaced images come out, and each received image is accounted for.

Runs in a process of its own. An image counts as defaced when an image with the UID that the secret makes of its own is
there; all others stay. What the checks found something wrong with does not count, unless asked for: nobody looks at
results here before they go on.
"""

from __future__ import annotations

import shutil
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..batch.job import Outcome
from ..batch.status import Mishap, Status
from ..dicom.defaced_stack import is_checked
from ..dicom.files import quietly
from ..dicom.pseudonyms import Pseudonyms
from ..dicom.write import METHOD
from ..errors import CTDefaceError, InputError, NoFaceError, OutputError, memory_errors
from ..files import make_folder
from ..parameters import DefaceParameters
from ..private import read_secret
from ..processes import temporary_files_in
from ..study.folder import deface_folder
from .hashes import content_of
from .kinds import IMAGES

RESULT = "result"
"""Name of the folder with what was made, in that of a job."""

NOT_ONE_OF_THEM = "A result is of none of the images that were received: nothing is forwarded of this study."


@dataclass(frozen=True)
class Choices:
    """How all studies are defaced; what :func:`.study.folder.deface_folder` takes, in values that can be pickled.

    Attributes
    ----------
    parameters: dict
        Of :class:`.parameters.DefaceParameters`.
    secret: str
        File.
    retain: tuple of str, or None
    table: str
        File for what stands for what; empty for none.
    take_along, no_text: bool
    forward_warned: bool
        Forward what the checks found something wrong with, too.
    """

    parameters: dict[str, Any]
    secret: str
    retain: tuple[str, ...] | None = None
    table: str = ""
    take_along: bool = False
    no_text: bool = False
    forward_warned: bool = False


@dataclass(frozen=True)
class StudyJob:
    """A study: the folder of its images, an empty one to work in, and the choices."""

    images: str
    work: str
    choices: Choices


@dataclass(frozen=True)
class Account:
    """What became of each image.

    Attributes
    ----------
    contents: dict
        Name of its file → hash of its content, of all that were there.
    left: frozenset
        Names of those that were not defaced.
    why: str
        Why they were not, a line for each reason.
    """

    contents: dict[str, str]
    left: frozenset[str]
    why: str


def deface_received(job: StudyJob) -> Outcome:
    """Deface a study; every error becomes an outcome. The report of one that is done holds an :class:`Account`."""
    start = time.perf_counter()
    work = Path(job.work)
    try:
        make_folder(work / "temporary")
        with temporary_files_in(work / "temporary"), memory_errors():
            account = _deface(job.choices, Path(job.images), work / RESULT)
        outcome = Outcome(Status.DONE, account.why, None, {"account": account})
    except (InputError, NoFaceError) as error:
        outcome = Outcome(Status.REFUSED, str(error))
    except (OutputError, OSError) as error:
        said = error if isinstance(error, OutputError) else error.strerror or type(error).__name__
        outcome = Outcome(Mishap.NOT_WRITTEN, f"The results could not be written: {said}")
    except CTDefaceError as error:
        outcome = Outcome(Status.FAILED, str(error))
    except MemoryError:
        outcome = Outcome(Status.FAILED, "There was not enough memory: use fewer workers.")
    except Exception as error:
        sentence = f"An error that this program did not expect stopped it ({type(error).__name__})."
        outcome = Outcome(Status.FAILED, sentence, details=traceback.format_exc())
    seconds = round(time.perf_counter() - start, 2)
    return Outcome(outcome.status, outcome.sentence, seconds, outcome.report, outcome.details)


def _deface(choices: Choices, images: Path, result: Path) -> Account:
    secret = read_secret(choices.secret)
    names = _names(images)
    report = deface_folder(
        images,
        result,
        DefaceParameters(**choices.parameters),
        secret=secret,
        retain=choices.retain,
        table=choices.table or None,
        take_along=choices.take_along,
        no_text=choices.no_text,
    )
    reasons = [f"{one['name']}: {one['why']}" for one in report.get("refused", ())]
    if report.get("left_out"):
        reasons.append(f"What cannot be defaced, or does not belong to what was: {', '.join(report['left_out'])}.")
    if not choices.forward_warned:
        reasons += list(_without_warned(report, result))
    if _names(images) != names:  # some came meanwhile: an account of none fits nothing, and the study stays open
        return Account({}, frozenset(), "")
    return account_for(images, result, secret, reasons)


def _without_warned(report: dict[str, Any], result: Path) -> Iterator[str]:
    """Remove the results that the checks found something wrong with and what refers to them, and say what."""
    for one in report.get("series", (report,)):
        if not is_checked(one):
            for document in result.glob("REF*.dcm"):
                document.unlink()
            shutil.rmtree(result / one.get("folder", ""))
            yield f"{one.get('name', 'The series')}: the result was not good enough to go on unseen. " + " ".join(
                one["warnings"]
            )


def account_for(images: Path, result: Path, secret: bytes, reasons: Iterable[str]) -> Account:
    """Which of the images are among the results.

    Raises
    ------
    CTDefaceError
        When a result is of none of them, or is an image that does not say of itself that it was defaced.
    """
    pseudonyms = Pseudonyms(secret)
    names = _names(images)
    new = {name: pseudonyms.uid(_header(images / name)[0]) for name in names}
    made = [_header(path) for path in sorted(result.rglob("*.dcm"))] if result.is_dir() else []
    uids = {uid for uid, _ in made}
    if len(uids) < len(made) or not uids <= set(new.values()) or not all(said for _, said in made):
        raise CTDefaceError(NOT_ONE_OF_THEM)
    left = frozenset(name for name in names if new[name] not in uids)
    return Account({name: content_of(secret, images / name) for name in names}, left, "\n".join(reasons))


@quietly()
def _header(path: Path) -> tuple[str, bool]:
    """UID of an instance, and whether it is no image or says that it was defaced."""
    import pydicom

    tags = ["SOPClassUID", "SOPInstanceUID", "DeidentificationMethod"]
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags)
    methods = header.get("DeidentificationMethod") or ()
    is_image = header.SOPClassUID in IMAGES
    return str(header.SOPInstanceUID), not is_image or METHOD in ([methods] if isinstance(methods, str) else methods)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
