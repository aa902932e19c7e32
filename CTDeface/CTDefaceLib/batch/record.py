"""The record of a batch: which scans there are and what became of each, in one SQLite file.

Only the process that runs the batch writes it; others can read it meanwhile. It survives that process being killed at
any moment. It names the inputs, so it is kept apart from the results.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Container, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ..errors import CTDefaceError, OutputError
from ..files import name_bytes, name_text
from ..private import make_private_file
from .found_scan import FoundScan
from .job import Outcome
from .lock import lock
from .status import FINISHED, Status

TABLES = """
CREATE TABLE IF NOT EXISTS run (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS scan (
    id INTEGER PRIMARY KEY,
    place TEXT NOT NULL UNIQUE,     -- of the input, see FoundScan
    path TEXT NOT NULL,
    series TEXT NOT NULL,
    stamp TEXT NOT NULL,
    identity TEXT NOT NULL,
    patient TEXT NOT NULL,
    study TEXT NOT NULL,
    output TEXT NOT NULL UNIQUE COLLATE NOCASE,  -- below the output folder, without ending
    status TEXT NOT NULL,
    sentence TEXT NOT NULL DEFAULT '',
    same_as INTEGER REFERENCES scan,
    attempts INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,        -- of the process that worked on it
    redone_after INTEGER NOT NULL DEFAULT 0,  -- results of attempts up to this one are to be replaced
    parameters TEXT,                -- of this scan where they are not those of the run, JSON
    seconds REAL,
    report TEXT,                    -- what lies beside the result, JSON
    details TEXT NOT NULL DEFAULT '',
    modality TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS scan_path ON scan (path);
CREATE INDEX IF NOT EXISTS scan_status ON scan (status);
CREATE INDEX IF NOT EXISTS scan_study ON scan (patient, study);
"""

FOUND = ("place", "path", "series", "stamp", "identity", "patient", "study", "modality")
"""Columns that hold a :class:`.found_scan.FoundScan`."""

LOCK = "running.lock"
"""Beside the record; held while the batch runs."""

ALREADY_RUNNING = "This batch is running already: wait for its end, or look at it with --dry-run."
UNREADABLE = (
    "The record of the batch cannot be used ({}): check the disk it is on, or keep it elsewhere with --private."
)
DAMAGED = (
    "The record of the batch is damaged: start the batch again with --rebuild (in Python, rebuild=True), which takes "
    "finished results up from their reports."
)
SIGNS_OF_DAMAGE = ("malformed", "not a database", "decode", "no such column", "constraint")
"""What SQLite says of a file with something else in it than was written; it can quote that."""


@contextmanager
def record_errors() -> Iterator[None]:
    """What SQLite and the system say about disks, as the sentence of a CTDefaceError."""
    try:
        yield
    except sqlite3.Error as error:
        said = str(error)
        if "full" in said:
            raise OutputError("The disk of the record is full: make room and start the batch again.") from error
        if any(sign in said for sign in SIGNS_OF_DAMAGE):
            raise CTDefaceError(DAMAGED) from error
        raise CTDefaceError(UNREADABLE.format(error)) from error
    except OSError as error:
        raise CTDefaceError(UNREADABLE.format(error.strerror or type(error).__name__)) from error


def stored(value: object) -> object:
    """A value as the record holds it: text as it is, but a name that is no UTF-8 as its bytes."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return name_bytes(value)
    return value


def _row(cursor: sqlite3.Cursor, values: tuple) -> sqlite3.Row:
    """A row with the text that :func:`stored` was given."""
    return sqlite3.Row(cursor, tuple(name_text(value) if isinstance(value, bytes) else value for value in values))


def _set_aside(path: Path) -> None:
    """Give a record another name, and what SQLite keeps beside it; an older one of that name goes."""
    for end in ("", "-wal", "-shm"):
        part = path.with_name(path.name + end)
        if part.exists():
            os.replace(part, path.with_name(f"{path.name}.damaged{end}"))


class Record:
    """An open record; a context manager that closes it.

    Parameters
    ----------
    path: Path
        Of the SQLite file; made where it is missing.
    read_only: bool
        A copy in memory, of a batch that may be running, or of one that was never begun.
    anew: bool
        An empty one; a file that is there gets the ending ``.damaged``.

    Raises
    ------
    CTDefaceError
        When another process runs this batch, or the file cannot be used; by all methods, when it cannot be read or
        written any more.
    """

    def __init__(self, path: Path, read_only: bool = False, anew: bool = False):
        self._lock: int | None = None
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        try:
            with record_errors():
                self._open(path, read_only, anew)
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path, read_only: bool, anew: bool) -> None:
        if read_only:
            if path.is_file():
                with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as file:
                    file.backup(self._db)
        else:
            make_private_file(path.with_name(LOCK))
            self._lock = lock(path.with_name(LOCK), ALREADY_RUNNING)
            if anew:
                _set_aside(path)
            make_private_file(path)  # what SQLite puts beside it takes after it
            self._db.close()
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")  # stays as it is where the file system lacks what it needs
            self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(TABLES)
        if "modality" not in [row[1] for row in self._db.execute("PRAGMA table_info(scan)")]:  # of an older version
            self._db.execute("ALTER TABLE scan ADD COLUMN modality TEXT NOT NULL DEFAULT ''")
        self._db.row_factory = _row
        if (state := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(f"malformed: {state}")

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def get(self, name: str) -> str:
        """A property of the run; empty when it was never set."""
        row = self._one("SELECT value FROM run WHERE name = ?", name)
        return row["value"] if row else ""

    def set(self, name: str, value: str) -> None:
        self._do("INSERT INTO run VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)

    def known(self, path: str) -> list[FoundScan]:
        """What was found at a path."""
        with record_errors():
            rows = self._db.execute("SELECT * FROM scan WHERE path = ? ORDER BY id", [stored(path)]).fetchall()
        return [FoundScan(**{name: row[name] for name in FOUND}) for row in rows]

    def add(self, scans: Iterable[tuple[FoundScan, str]]) -> list[str]:
        """Take up all scans that are found now, each with the name of its result.

        Scans whose files changed are done again unless they are finished. Where several are the same, one of those that
        are still there is done, and if there is any, one whose name is text and can be read by every library.

        Returns
        -------
        list of str
            Names of the results whose files changed since.
        """
        present, changed = set(), []
        with record_errors(), self._db:
            self._db.execute("BEGIN")
            for scan, output in scans:
                present.add(scan.place)
                old = self.at(scan.place)
                if old is None:
                    self._insert(scan, output)
                elif old["stamp"] == scan.stamp or (scan.identity and old["identity"] == scan.identity):
                    self._do(
                        "UPDATE scan SET stamp = ?, identity = ? WHERE id = ?", scan.stamp, scan.identity, old["id"]
                    )
                elif old["status"] in FINISHED:
                    changed.append(old["output"])
                else:
                    self._do(
                        "UPDATE scan SET stamp = ?, identity = ?, deaths = 0, status = ?, sentence = '' WHERE id = ?",
                        scan.stamp, scan.identity, Status.DOUBLE if old["same_as"] else Status.WAITING, old["id"],
                    )  # fmt: skip
            self._choose_among_doubles(present)
        return changed

    def _insert(self, scan: FoundScan, output: str) -> None:
        name, number = output, 1
        while self.find(name) is not None:
            number += 1
            name = f"{output}-{number}"
        self._do(
            f"INSERT INTO scan ({', '.join(FOUND)}, output, status) VALUES ({', '.join('?' * len(FOUND))}, ?, ?)",
            *(getattr(scan, column) for column in FOUND), name, Status.WAITING,
        )  # fmt: skip

    def _choose_among_doubles(self, present: Container[str]) -> None:
        same: dict[str, list[sqlite3.Row]] = {}
        for row in self._db.execute("SELECT id, place, identity, status, same_as FROM scan ORDER BY id"):
            same.setdefault(row["identity"] or row["place"], []).append(row)
        for rows in same.values():
            first = min(
                rows,
                key=lambda row: (
                    row["status"] not in FINISHED,
                    row["place"] not in present,
                    isinstance(stored(row["place"]), bytes),
                    row["same_as"] is not None,
                ),
            )
            if first["same_as"] is not None:
                self._do(
                    "UPDATE scan SET status = ?, sentence = '', same_as = NULL WHERE id = ?",
                    Status.WAITING,
                    first["id"],
                )
            for row in rows:
                if row is not first and row["status"] not in FINISHED and row["same_as"] != first["id"]:
                    self._do(
                        "UPDATE scan SET status = ?, sentence = ?, same_as = ? WHERE id = ?",
                        Status.DOUBLE, f"The same scan as {first['place']}.", first["id"], row["id"],
                    )  # fmt: skip

    def ids(self, *statuses: Status) -> list[int]:
        """Numbers of the scans with any of these statuses, of all without any; those that a process died of last."""
        marks = ", ".join("?" * len(statuses))
        where = f"WHERE status IN ({marks})" if statuses else ""
        with record_errors():
            return [row[0] for row in self._db.execute(f"SELECT id FROM scan {where} ORDER BY deaths, id", statuses)]

    def with_result(self, patient: str, study: str | None) -> list[int]:
        """Numbers of the scans of a study, or of any of a patient, in which a head was found before, in their order."""
        statement = (
            "SELECT id FROM scan WHERE patient = ? AND study = coalesce(?, study) AND status IN (?, ?, ?) ORDER BY id"
        )
        values = (stored(patient), stored(study), *FINISHED, Status.HELD_BACK)
        with record_errors():
            return [row[0] for row in self._db.execute(statement, values)]

    def scan(self, number: int) -> sqlite3.Row:
        row = self._one("SELECT * FROM scan WHERE id = ?", number)
        assert row is not None, f"there is no scan {number}"
        return row

    def at(self, place: str) -> sqlite3.Row | None:
        """The scan found at a place."""
        return self._one("SELECT * FROM scan WHERE place = ?", place)

    def find(self, output: str) -> int | None:
        """Number of the scan with this name of the result."""
        row = self._one("SELECT id FROM scan WHERE output = ?", output)
        return row["id"] if row else None

    def rows(self) -> Iterator[sqlite3.Row]:
        """All scans in their order."""
        with record_errors():
            yield from self._db.execute("SELECT * FROM scan ORDER BY id")

    def counts(self) -> dict[str, int]:
        """How many scans have each status, in the order of :class:`.status.Status`."""
        with record_errors():
            found = dict(self._db.execute("SELECT status, count(*) FROM scan GROUP BY status").fetchall())
        return {status.value: found[status] for status in Status if status in found}

    def start(self, number: int) -> sqlite3.Row:
        """Mark a scan as running and count the attempt."""
        self._do("UPDATE scan SET status = ?, attempts = attempts + 1 WHERE id = ?", Status.RUNNING, number)
        return self.scan(number)

    def finish(self, number: int, outcome: Outcome, attempts: int | None = None) -> None:
        """Note what became of a scan, and at which attempt where the record does not know it."""
        report = None if outcome.report is None else json.dumps(outcome.report)
        self._do(
            "UPDATE scan SET status = ?, sentence = ?, seconds = ?, report = ?, details = ?, "
            "attempts = coalesce(?, attempts) WHERE id = ?",
            outcome.status, outcome.sentence, outcome.seconds, report, outcome.details, attempts, number,
        )  # fmt: skip

    def wait_again(self, number: int, died: bool = False) -> None:
        """Let a scan be done again; `died` counts that the process that worked on it ended."""
        self._do(
            "UPDATE scan SET status = ?, sentence = '', deaths = deaths + ? WHERE id = ?",
            Status.WAITING,
            int(died),
            number,
        )

    def retry(self, number: int) -> None:
        """Let a scan be done again as if it had never been tried."""
        self._do("UPDATE scan SET status = ?, sentence = '', deaths = 0 WHERE id = ?", Status.WAITING, number)

    def redo(self, number: int, parameters: dict) -> None:
        """Let a scan be done again with these parameters, in place of the result that there is."""
        self.retry(number)
        self._do("UPDATE scan SET redone_after = attempts, parameters = ? WHERE id = ?", json.dumps(parameters), number)

    def _do(self, statement: str, *values: object) -> None:
        with record_errors():
            self._db.execute(statement, [stored(value) for value in values])

    def _one(self, statement: str, *values: object) -> sqlite3.Row | None:
        with record_errors():
            return self._db.execute(statement, [stored(value) for value in values]).fetchone()
