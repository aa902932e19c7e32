"""Deface thousands of scans, unattended: :func:`run` plans, does what is left, notes what became of each, and sums up.

A batch has two folders. The output folder holds what can be shared: results, a report beside each, and
``ctdeface_batch.json``. The private folder beside it holds what must not be: the record, which names the inputs, the
secret that the pseudonyms are made with, and the gallery, which shows faces.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from .. import __version__, segmenters
from ..audits import check_audit
from ..dicom.headers import Cleaner
from ..dicom.pseudonyms import Pseudonyms
from ..errors import CTDefaceError, InputError, OutputError
from ..pipeline import UNREPORTED, DefaceParameters
from ..volume_io import check_volume_name
from . import runners
from .gallery import PICTURES, write_gallery
from .inputs import FoundScan, find_scans, root_of
from .job import DICOM, NO_ROOM, NOT_WRITTEN, WORK_FOLDER, Job, Outcome, finished_before, software
from .names import make_secret, output_name, read_secret
from .progress import Tell
from .record import (
    DOUBLE,
    FAILED,
    FINISHED,
    RETRIED,
    RUNNING,
    TIMED_OUT,
    WAITING,
    WITHOUT_RESULT,
    Record,
)

RECORD, SECRET, TABLE, GALLERY = "record.sqlite", "secret.key", "scans.csv", "gallery"
PSEUDONYMS = "pseudonyms"  # folder with a table for each scan whose headers were cleaned
SUMMARY = "ctdeface_batch.json"
PARAMETERS = tuple(asdict(DefaceParameters()))
#: a scan is given up when this many processes ended while they worked on it
MOST_DEATHS = 5
#: with less room than this, a result that could not be written is the disk's fault, not the scan's
LITTLE_ROOM_BYTES = 1_000_000_000
OTHER_CHOICES = (
    "This batch was begun with other choices ({}): start it with the same ones again, or with another output folder."
)


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
    """

    layout: str = "tree"
    names: str = "pseudonym"
    ending: str = ".nii.gz"
    audit: str = ""
    headers: str = "keep"
    retain: str = ""


@dataclass(frozen=True)
class Summary:
    """How a batch ended.

    Attributes
    ----------
    counts: dict
        Number of scans by status, see :mod:`.batch.record`.
    seconds: float
        That this run took.
    """

    counts: dict[str, int]
    seconds: float

    @property
    def all_done(self) -> bool:
        """Whether every scan has its result."""
        return not any(self.counts.get(status) for status in (*WITHOUT_RESULT, WAITING, RUNNING))


def private_folder(output: str | os.PathLike) -> Path:
    """Where the private part of a batch lies unless it is told otherwise: beside the output folder."""
    output = Path(output)
    return output.with_name(output.name + "-private")


def run(
    source: str | os.PathLike,
    output: str | os.PathLike,
    parameters: DefaceParameters | None = None,
    choices: Choices | None = None,
    *,
    private: str | os.PathLike | None = None,
    secret: str | os.PathLike | None = None,
    workers: int | None = 0,
    threads: int | None = None,
    scheduler: str | None = None,
    timeout: float | None = None,
    retry_failed: bool = False,
    redo: str | os.PathLike | None = None,
    gallery: bool = True,
    originals: bool = True,
    tell: Tell = lambda event: None,
) -> Summary:
    """Deface all scans that are not done yet.

    Interrupted at any moment and called again, it goes on where it was: finished results are not touched, unfinished
    ones never have their final name. An error of one scan is noted and never stops the others.

    Parameters
    ----------
    source: folder that is searched with its sub-folders, or CSV table, see :func:`.batch.inputs.find_scans`
    output: folder for the results, made where it is missing
    parameters: of the defacing; with a seed, each scan gets its own from it
    choices: names, format and audit
    private: folder for record, secret and gallery (default: :func:`private_folder`); best on a local disk
    secret: file with the secret of the pseudonyms (default: in the private folder), made where it is missing
    workers: number of processes; 0 works in this one, None takes as many as fit, see
        :func:`.batch.runners.fitting_workers`
    threads: that each of them uses (default: the processors shared out among them)
    scheduler: address of a Dask scheduler whose workers do the scans instead
    timeout: seconds after which the process that works on a scan is killed; needs workers or a scheduler
    retry_failed: try failed and timed out scans again
    redo: CSV file with decisions from the gallery; what was sent back is done again, with the present parameters
    gallery: make pictures and the page
    originals: pictures of the faces, too
    tell: is told what happens, see :mod:`.batch.progress`

    Raises
    ------
    CTDefaceError
        when the batch cannot begin or go on: unusable input, other choices than before, running already, disk full
    """
    start = time.monotonic()
    parameters, choices = parameters or DefaceParameters(), choices or Choices()
    source, output = Path(source), Path(output)
    root = root_of(source).resolve()
    private = Path(private) if private else private_folder(output)
    if timeout and workers == 0 and not scheduler:
        raise InputError("Only a worker process can be stopped in time: a timeout needs workers or a scheduler.")
    _check_format(choices)
    if not scheduler:  # its workers may have what this machine lacks
        if choices.audit:
            check_audit(choices.audit)
        segmenters.check_ready(parameters.segmenter, parameters.choice)
    _make_folders(source, output, private)
    with Record(private / RECORD) as record:
        run_id = _same_batch(record, parameters, choices, bool(redo))
        job = partial(
            _job,
            record=record,
            root=root,
            output=output.resolve(),
            run_id=run_id,
            parameters=_parameters_of(record),
            ending=choices.ending,
            audit=choices.audit,
            clean=choices.headers == "ps315",
            retain=choices.retain,
            secret=str(Path(secret or private / SECRET).resolve()),
            pseudonyms=str((private / PSEUDONYMS).resolve()),
            pictures=str((private / GALLERY / PICTURES).resolve()) if gallery else "",
            originals=originals,
        )
        _take_up(record, job, tell)
        _plan(record, source, output, private, choices, Path(secret) if secret else private / SECRET, tell)
        for number in record.ids(*RETRIED) if retry_failed else ():
            record.retry(number)
        for number in _sent_back(Path(redo), record, asdict(parameters), tell) if redo else ():
            record.redo(number, asdict(parameters))
        shutil.rmtree(output / WORK_FOLDER, ignore_errors=True)
        runner = _runner(parameters, workers, threads, scheduler, timeout, tell)
        end = partial(_end, record, output, private, choices, gallery, originals)
        try:
            _do_all(record, job, runner, (output, private), tell)
        except BaseException:
            with suppress(CTDefaceError):
                end()
            raise
        end()
        return Summary(record.counts(), time.monotonic() - start)


def plan(
    source: str | os.PathLike,
    output: str | os.PathLike,
    choices: Choices | None = None,
    *,
    private: str | os.PathLike | None = None,
    secret: str | os.PathLike | None = None,
) -> list[tuple[str, str, str]]:
    """What :func:`run` would do, without writing anything: place, name of the result, and status of each scan.

    Pseudonyms are empty as long as there is no secret to make them with.
    """
    choices, output = choices or Choices(), Path(output)
    private = Path(private) if private else private_folder(output)
    secret = Path(secret) if secret else private / SECRET
    key = read_secret(secret) if secret.is_file() else None
    with Record(private / RECORD, read_only=True) as record:
        scans = find_scans(source, (output, private), record.known)
        record.add(_named(scans, choices, key or b""))
        rows = list(record.rows())
    hidden = {scan.place for scan in scans if not scan.output} if choices.names == "pseudonym" and not key else ()
    return [(row["place"], "" if row["place"] in hidden else row["output"], row["status"]) for row in rows]


def _named(scans: list[FoundScan], choices: Choices, secret: bytes) -> list[tuple[FoundScan, str]]:
    return [(scan, output_name(scan, choices.layout, choices.names, secret)) for scan in scans]


def _check_format(choices: Choices) -> None:
    if choices.ending != DICOM:
        check_volume_name("x" + choices.ending)
        if choices.headers != "keep":
            raise InputError("Headers are cleaned in DICOM series only: choose that as the format of the results.")
    elif choices.headers == "ps315":
        Cleaner([name for name in choices.retain.split(",") if name], Pseudonyms())


def _make_folders(source: Path, output: Path, private: Path) -> None:
    if source.is_dir() and output.exists() and os.path.samefile(source, output):
        raise OutputError("The output folder is the input folder; choose another one.")
    if output.resolve() == private.resolve() or output.resolve() in private.resolve().parents:
        raise OutputError("The private folder must not lie in the output folder, which can be shared.")
    _make_folder(output)
    make_private_folder(private)


def make_private_folder(folder: Path) -> None:
    """Make a folder where there is none, and keep it to its owner (OutputError)."""
    _make_folder(folder)
    if os.name != "nt":
        folder.chmod(0o700)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"A folder for the results cannot be made: {error.strerror}.") from error


def _same_batch(record: Record, parameters: DefaceParameters, choices: Choices, redo: bool) -> str:
    """The number that tells this batch from others; refuses to go on with other choices."""
    now = {**asdict(parameters), **asdict(choices)}
    before = json.loads(record.get("choices") or "null")
    if before is None:
        record.set("choices", json.dumps(now))
        record.set("run", secrets.token_hex(8))
    else:
        free = ("device", *(PARAMETERS if redo else ()))
        other = [name for name in now if now[name] != before.get(name, now[name]) and name not in free]
        if other:
            raise InputError(OTHER_CHOICES.format(", ".join(f"{name}: {before.get(name)}" for name in other)))
        record.set("choices", json.dumps({**before, "device": now["device"]}))
    return record.get("run")


def _plan(
    record: Record, source: Path, output: Path, private: Path, choices: Choices, secret_path: Path, tell: Tell
) -> None:
    secret = make_secret(secret_path) if choices.names == "pseudonym" or choices.ending == DICOM else b""
    mark = hashlib.sha256(secret).hexdigest()
    if (record.get("secret") or mark) != mark:
        raise InputError("This batch was begun with another secret: give the same one again.")
    record.set("secret", mark)
    scans = find_scans(source, (output, private), record.known)
    for name in record.add(_named(scans, choices, secret)):
        text = "the scan changed since it was defaced; the result was left as it is."
        tell({"event": "note", "text": f"{name}: {text}"})


def _job(
    number: int,
    *,
    record: Record,
    root: Path,
    output: Path,
    run_id: str,
    parameters: dict,
    ending: str,
    start: bool = True,
    **choices,
) -> Job:
    row = record.start(number) if start else record.scan(number)
    parameters = json.loads(row["parameters"]) if row["parameters"] else dict(parameters)
    if parameters["seed"] is not None:
        digest = hashlib.sha256(f"{parameters['seed']} {row['output']}".encode()).digest()
        parameters["seed"] = int.from_bytes(digest[:4], "little")
    return Job(
        scan=number,
        attempt=row["attempts"],
        name=row["output"],
        path=str(root / row["path"]),
        series=row["series"],
        output=str(output / (row["output"] + ending)),
        work=str(output / WORK_FOLDER / f"{number}-{row['attempts']}"),
        run=run_id,
        parameters=parameters,
        redone_after=row["redone_after"],
        **choices,
    )


def _parameters_of(record: Record) -> dict:
    """The parameters that the batch was begun with."""
    return {name: value for name, value in json.loads(record.get("choices")).items() if name in PARAMETERS}


def _take_up(record: Record, job: partial, tell: Tell) -> None:
    """What an earlier run left: note results that are complete, and let the rest be done again."""
    for number in record.ids(RUNNING):
        left = job(number, start=False)
        outcome = finished_before(left)
        begun = os.path.isdir(left.work)
        if outcome is not None:
            _note(record, number, outcome)
        elif record.scan(number)["deaths"] + begun < MOST_DEATHS:
            record.wait_again(number, died=begun)
        else:
            record.finish(number, FAILED, runners.DIED_SENTENCE, None, None)
    for number in record.ids(*FINISHED):
        if not os.path.lexists(job(number, start=False).output):
            tell({"event": "note", "text": f"{record.scan(number)['output']}: the result is gone; it is made again."})
            record.retry(number)


def _sent_back(decisions: Path, record: Record, parameters: dict, tell: Tell) -> list[int]:
    """Numbers of the scans whose decision is “send back”, unless it was followed already, with these parameters."""
    try:
        with open(decisions, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.DictReader(file) if row["decision"].strip().lower() == "send back"]
        attempts = {row["scan"]: int(row.get("attempt") or -1) for row in rows}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise InputError("The decisions cannot be read: give the CSV file that the gallery saved.") from error
    numbers, followed = [], 0
    for name, attempt in attempts.items():
        number = record.find(name)
        if number is None:
            raise InputError(f"The decisions are of another batch: it has no scan {name}.")
        scan = record.scan(number)
        if 0 <= attempt <= scan["redone_after"] and json.loads(scan["parameters"]) == parameters:
            followed += 1
        elif scan["status"] != DOUBLE:
            numbers.append(number)
    if followed:
        tell({"event": "note", "text": f"Done again already with these choices, of those sent back: {followed}."})
    return numbers


def _runner(
    parameters: DefaceParameters,
    workers: int | None,
    threads: int | None,
    scheduler: str | None,
    timeout: float | None,
    tell: Tell,
):
    started = partial(_tell_started, tell)
    if scheduler:
        from .cluster import on_dask

        return partial(on_dask, started=started, address=scheduler, timeout=timeout)
    if workers == 0:
        return partial(runners.in_process, started=started)
    has_model = "device" in segmenters.module(parameters.segmenter).OPTIONS
    cards = runners.graphics_cards() if has_model and parameters.device in ("auto", "gpu") else []
    workers = workers or runners.fitting_workers(has_model, len(cards))
    threads = threads or max(1, runners.processors() // workers)
    return partial(
        runners.in_worker_processes,
        started=started,
        workers=workers,
        threads=threads,
        timeout=timeout,
        cards=cards,
    )


def _tell_started(tell: Tell, worker: str, job: Job) -> None:
    tell({"event": "started", "scan": job.name, "worker": worker, "number": job.scan})


def _do_all(record: Record, job: partial, runner, folders: tuple[Path, ...], tell: Tell) -> None:
    waiting = record.ids(WAITING)
    counts = record.counts()
    tell({"event": "planned", "total": sum(counts.values()), "left": len(waiting), "counts": counts})
    while waiting:  # again for those whose worker died
        with closing(runner(_jobs(waiting, job))) as results:
            for done, outcome in results:
                if outcome.status == runners.DIED:
                    shutil.rmtree(done.work, ignore_errors=True)
                    if record.scan(done.scan)["deaths"] + 1 < MOST_DEATHS:
                        record.wait_again(done.scan, died=True)
                        continue
                    outcome = Outcome(FAILED, outcome.sentence)
                if outcome.status == TIMED_OUT:  # unless it ended while it was being stopped
                    outcome = finished_before(done) or outcome
                if outcome.status in (NO_ROOM, NOT_WRITTEN):
                    free = min(shutil.disk_usage(folder).free for folder in folders)
                    if outcome.status == NO_ROOM or free < LITTLE_ROOM_BYTES:
                        record.wait_again(done.scan)
                        raise OutputError(
                            f"The disk of the results is nearly full ({free / 1e6:.0f} MB are free): make room and "
                            f"start the batch again; it goes on where it was. ({outcome.sentence})"
                        )
                    outcome = Outcome(FAILED, outcome.sentence, outcome.seconds)
                shutil.rmtree(done.work, ignore_errors=True)
                _note(record, done.scan, outcome)
                tell(
                    {
                        "event": "ended",
                        "scan": done.name,
                        "number": done.scan,
                        "status": outcome.status,
                        "sentence": outcome.sentence,
                        "seconds": outcome.seconds,
                    }
                )
        waiting = record.ids(WAITING)


def _jobs(numbers: list[int], job: partial) -> Iterator[Job]:
    return (job(number) for number in numbers)


def _note(record: Record, number: int, outcome: Outcome) -> None:
    record.finish(number, outcome.status, outcome.sentence, outcome.seconds, outcome.report, outcome.details)


def _end(record: Record, output: Path, *choices) -> None:
    shutil.rmtree(output / WORK_FOLDER, ignore_errors=True)
    for number in record.ids(RUNNING):
        record.wait_again(number)
    _write_results(record, output, *choices)


def _write_results(
    record: Record,
    output: Path,
    private: Path,
    choices: Choices,
    gallery: bool,
    originals: bool,
) -> None:
    """What can be read off the record by those who do not read SQLite."""
    try:
        _write_whole(output / SUMMARY, json.dumps(_provenance(record, choices), indent=2) + "\n")
        if choices.layout == "bids":
            _write_whole(output / "dataset_description.json", json.dumps(BIDS_DESCRIPTION, indent=2) + "\n")
        with open(private / (TABLE + ".new"), "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("input", "output", "status", "sentence", "seconds", "attempts"))
            for row in record.rows():
                table.writerow([row[n] for n in ("place", "output", "status", "sentence", "seconds", "attempts")])
        os.replace(private / (TABLE + ".new"), private / TABLE)
        if gallery:
            write_gallery(record.rows(), private / GALLERY, record.get("run"), originals)
    except OSError as error:
        raise OutputError(f"The summary could not be written: {error.strerror}.") from error


def _provenance(record: Record, choices: Choices) -> dict:
    """How the batch was made, without anything of the patients or of places."""
    chosen = _parameters_of(record)
    return {
        "version": __version__,
        "software": software(),
        "run": record.get("run"),
        "method": chosen["segmenter"],
        "parameters": {name: value for name, value in chosen.items() if name not in UNREPORTED},
        "choices": asdict(choices),
        "seed": "drawn anew for each scan and not kept"
        if chosen["seed"] is None
        else "given, one for each scan made from it",
        "scans": record.counts(),
    }


BIDS_DESCRIPTION = {
    "Name": "Defaced head CTs",
    "BIDSVersion": "1.10.0",
    "DatasetType": "derivative",
    "GeneratedBy": [{"Name": "CTDeface", "Version": __version__}],
}


def _write_whole(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.new")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
