"""Which scans a batch has, which of them are left, and what a worker has to know of each."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ..dicom.files import OTHER_IMAGES
from ..errors import InputError
from ..files import name_bytes
from ..private import SECRET, make_secret, private_folder, read_secret
from ..volume_io import IMAGE_IO
from .bids import is_label_map, subject_and_session
from .choices import Choices, first_parameters
from .documents import by_study, find_documents
from .folders import GALLERY, PSEUDONYMS, RECORD, write_passed_over
from .found_scan import FoundScan, folders_of, joined
from .gallery import PICTURES
from .inputs import find_scans, root_of
from .job import WORK_FOLDER, Job, Outcome, finished_before
from .keeping import without_kept
from .names import output_name
from .progress import Report, note
from .record import Record
from .runner import DIED_SENTENCE
from .status import FINISHED, Status

MOST_DEATHS = 5
"""A scan is given up when this many processes ended while they worked on it; fewer may have been ended for another
reason, such as a machine that went down. A choice."""


@dataclass(frozen=True)
class Batch:
    """A batch that was begun.

    Attributes
    ----------
    record: Record
    root: Path
        Folder that the paths of the record start at.
    output, private, secret: Path
        Folders, and the file of the secret; all absolute.
    choices: Choices
    gallery, originals: bool
        Make pictures and the page; also of the originals.
    documents: dict
        Structure sets and the like: study instance UID → paths.
    """

    record: Record
    root: Path
    output: Path
    private: Path
    secret: Path
    choices: Choices
    gallery: bool
    originals: bool
    documents: dict[str, list[str]] = field(default_factory=dict)

    @cached_property
    def run(self) -> str:
        """Tells this batch from others."""
        return self.record.get("run")

    @cached_property
    def parameters(self) -> dict:
        """That it was begun with."""
        return first_parameters(self.record)

    def job(self, number: int, start: bool = True) -> Job:
        """What a worker needs to know of a scan, which counts as running from now on unless ``start`` is false."""
        row = self.record.start(number) if start else self.record.scan(number)
        return Job(
            scan=number,
            attempt=row["attempts"],
            name=row["output"],
            path=joined(str(self.root / path) for path in folders_of(row["path"])),
            series=row["series"],
            output=str(self.output / (row["output"] + self.choices.ending)),
            work=str(self.output / WORK_FOLDER / f"{self.run}-{number}-{row['attempts']}"),
            run=self.run,
            parameters=self._parameters(row, row["parameters"]),
            redone_after=row["redone_after"],
            pictures=str(self.private / GALLERY / PICTURES) if self.gallery else "",
            originals=self.originals,
            audit=self.choices.audit,
            clean=self.choices.are_headers_cleaned,
            retain=self.choices.retain,
            secret=str(self.secret) if self.secret.is_file() else "",
            patient=row["patient"] or row["study"] or row["place"],
            no_text=self.choices.no_text,
            pseudonyms=str(self.private / PSEUDONYMS),
            form=self.choices.form,
            orientation=self.choices.orientation,
            keep=self.choices.keep,
            documents=tuple(self.documents.get(row["study"], ())),
            take_along=self.choices.take_along,
            bids=self.choices.layout == "bids",
        )

    def _parameters(self, row: sqlite3.Row, chosen: str | None) -> dict:
        """The parameters of a scan; with a seed each gets its own from it, and all that belong together one person."""
        parameters = json.loads(chosen) if chosen else dict(self.parameters)
        if (seed := parameters["seed"]) is not None:
            parameters["seed"] = _seed(seed, row["output"])
            parameters["person_seed"] = _seed(seed, *(self._group_of(row) or (row["output"],)))
        return parameters

    def together(self, numbers: list[int]) -> Iterator[list[int]]:
        """These scans by job: those that belong together and have the same parameters, where that is wanted."""
        groups: dict[tuple, list[int]] = {}
        for number in numbers:
            row = self.record.scan(number)
            group = self._group_of(row) if self.choices.is_face_shared else None
            groups.setdefault((*group, row["parameters"]) if group else (number,), []).append(number)
        yield from groups.values()

    def job_of(self, numbers: list[int]) -> Job:
        """What a worker needs to know of scans that belong :meth:`together`; they count as running from now on."""
        first, *others = map(self.job, numbers)
        row, known = self.record.scan(numbers[0]), []
        if self.choices.is_face_shared and (group := self._group_of(row)):
            for number in self.record.with_result(*group):
                one = self.record.scan(number)
                known.append(
                    replace(self.job(number, start=False), parameters=self._parameters(one, row["parameters"]))
                )
        return replace(first, study=tuple(others), known=tuple(known))

    def _group_of(self, row: sqlite3.Row) -> tuple[str, str | None] | None:
        """Patient and study of what a scan belongs to, None for any study; None where nothing says that it does."""
        if self.choices.by == "patient":
            return (row["patient"], None) if row["patient"] else None
        is_named = bool(row["study"]) or bool(subject_and_session(row["path"])[0])
        return (row["patient"], row["study"]) if row["patient"] and is_named else None


def _seed(*of: object) -> int:
    digest = hashlib.sha256(name_bytes(" ".join(map(str, of)))).digest()
    return int.from_bytes(digest[:4], "little")


def take_up(batch: Batch, report: Report) -> None:
    """What an earlier run left: note results that are complete, and let the rest be done again.

    Parameters
    ----------
    batch: Batch
    report: callable
        Is given events of :mod:`.batch.progress`.

    Raises
    ------
    CTDefaceError
        When the record cannot be read or written.
    """
    record = batch.record
    for number in record.ids(Status.RUNNING):
        left = batch.job(number, start=False)
        outcome = finished_before(left)
        begun = os.path.isdir(left.work)
        if outcome is not None:
            record.finish(number, outcome)
        elif record.scan(number)["deaths"] + begun < MOST_DEATHS:
            record.wait_again(number, died=begun)
        else:
            record.finish(number, Outcome(Status.FAILED, DIED_SENTENCE))
    for number in record.ids(*FINISHED):
        if not os.path.lexists(batch.job(number, start=False).output):
            report(note(f"{record.scan(number)['output']}: the result is gone; it is made again."))
            record.retry(number)


def look_for_scans(batch: Batch, source: Path, report: Report) -> int:
    """Take up the scans that there are now.

    Parameters
    ----------
    batch: Batch
    source: Path
        Folder or table with the scans.
    report: callable
        Is given events of :mod:`.batch.progress`.

    Returns
    -------
    int
        How many places that can hold a scan were passed over.

    Raises
    ------
    InputError
        When the secret is another one than before, the table cannot be read, or there is no scan.
    OutputError
        When the secret or the table of what was passed over cannot be written.
    CTDefaceError
        When the record cannot be read or written.
    """
    secret = make_secret(batch.secret) if batch.choices.need_secret or batch.secret.is_file() else b""
    mark = hashlib.sha256(secret).hexdigest()
    if (batch.record.get("secret") or mark) != mark:
        raise InputError("This batch was begun with another secret: give the same one again.")
    batch.record.set("secret", mark)
    ignore = (batch.output, batch.private)
    scans, passed_over = _found(source, ignore, batch.record, batch.choices, report)
    write_passed_over(passed_over, batch.private)
    if batch.choices.need_documents:
        tops = ["."] if source.is_dir() else sorted({one for scan in scans for one in folders_of(scan.path)})
        before = json.loads(batch.record.get("documents") or "{}")
        found = find_documents(batch.root, tops, ignore, before)
        batch.record.set("documents", json.dumps(found))
        batch.documents.update(by_study(batch.root, found))
    for name in batch.record.add(_named(scans, batch.choices, secret)):
        report(note(f"{name}: the scan changed since it was defaced; the result was left as it is."))
    return len(passed_over)


def _found(
    source: str | os.PathLike, ignore: tuple[Path, ...], record: Record, choices: Choices, report: Report
) -> tuple[list[FoundScan], list[tuple[str, str]]]:
    """The scans that there are, and what was passed over, which is said; InputError when there is no scan."""
    passed_over: list[tuple[str, str]] = []
    others = OTHER_IMAGES if choices.is_face_shared else ()
    scans = find_scans(source, ignore, record.known, lambda path, why: passed_over.append((path, why)), others)
    scans = without_kept(root_of(source), scans, choices.keep)
    labels = [scan for scan in scans if is_label_map(scan.place)]
    scans = [scan for scan in scans if scan not in labels]
    passed_over += [(scan.place, "a mask or label map by its name") for scan in labels]
    for why, count in Counter(why for _, why in passed_over).items():
        report(note(f"Passed over, since {why}: {count}."))
    if not scans:
        there = f", and {len(passed_over)} places were passed over" if passed_over else ""
        raise InputError(
            f"There are no scans below the input, neither volumes ({', '.join(IMAGE_IO)}) nor DICOM images{there}; "
            "check its path."
        )
    return scans, passed_over


def plan(
    source: str | os.PathLike,
    output: str | os.PathLike,
    choices: Choices | None = None,
    *,
    private: str | os.PathLike | None = None,
    secret: str | os.PathLike | None = None,
    report: Report = lambda event: None,
) -> list[tuple[str, str, str]]:
    """What :func:`.batch.run` would do, without writing anything.

    Parameters
    ----------
    source, output, choices, private, secret
        As of :func:`.batch.run`.
    report: callable
        Is given what is passed over, as events of :mod:`.batch.progress`.

    Returns
    -------
    list of tuple
        Place, name of the result, and status of each scan. Pseudonyms are empty as long as there is no secret to make
        them with.

    Raises
    ------
    InputError
        When there is no scan, or the table cannot be read.
    CTDefaceError
        When there is a record that cannot be read.
    """
    choices, output = choices or Choices(), Path(output)
    private = Path(private) if private else private_folder(output)
    secret = Path(secret) if secret else private / SECRET
    key = read_secret(secret) if secret.is_file() else None
    with Record(private / RECORD, read_only=True) as record:
        scans, _ = _found(source, (output, private), record, choices, report)
        record.add(_named(scans, choices, key or b""))
        rows = list(record.rows())
    hidden = {scan.place for scan in scans if not scan.output} if choices.names == "pseudonym" and not key else set()
    return [(row["place"], "" if row["place"] in hidden else row["output"], row["status"]) for row in rows]


def _named(scans: list[FoundScan], choices: Choices, secret: bytes) -> list[tuple[FoundScan, str]]:
    return [(scan, output_name(scan, choices.layout, choices.names, secret)) for scan in scans]
