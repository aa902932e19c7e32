"""The record of a node: how far each study is, and which images it knows, in one SQLite file.

It holds no identifiers: studies and images stand there as :mod:`.hashes` names them. It survives that the process is
killed at any moment; the images themselves are files, see :mod:`.queue`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..batch.lock import lock
from ..errors import CTDefaceError, OutputError
from ..private import make_private_file

RECORD, LOCK = "record.sqlite", "running.lock"
"""Names of its file, and of the one that is held while a node runs."""

ALREADY_RUNNING = "A node runs with this folder already: end it first, or give this one another folder."
UNUSABLE = "The record of the node cannot be used ({}): check the disk it is on."

OTHER_SECRET = "The secret is not the one that this folder was begun with: name that one with --secret."

TABLES = """
CREATE TABLE IF NOT EXISTS secret (hash TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS study (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    images INTEGER NOT NULL DEFAULT 0,   -- received, when it was closed
    deaths INTEGER NOT NULL DEFAULT 0,   -- of processes that worked on it
    sentence TEXT NOT NULL DEFAULT '',   -- why it waits, or what was left
    seconds REAL
);
CREATE TABLE IF NOT EXISTS image (
    study TEXT NOT NULL,
    id TEXT NOT NULL,
    content TEXT NOT NULL,
    is_left INTEGER NOT NULL,            -- not defaced, and so not forwarded
    PRIMARY KEY (study, id)
) WITHOUT ROWID;
"""


class State(str, Enum):
    """How far a study is; the words stand in records on disk, so they stay."""

    RECEIVING = "receiving"
    DEFACING = "defacing"
    FORWARDING = "forwarding"
    """It is closed: what comes now is late."""
    FORWARDED = "forwarded"
    QUARANTINED = "in quarantine"

    __str__ = str.__str__


@dataclass(frozen=True)
class Study:
    """A row: hash of the study's UID, state, number of images when it was closed, deaths, sentence and seconds."""

    id: str
    state: State
    images: int
    deaths: int
    sentence: str
    seconds: float | None


@dataclass(frozen=True)
class Image:
    """An image of a closed study: its hash, that of its content, and whether it was not defaced."""

    id: str
    content: str
    is_left: bool


@contextmanager
def record_errors() -> Iterator[None]:
    """What SQLite and the system say about disks, as the sentence of an OutputError."""
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(UNUSABLE.format(type(error).__name__)) from error
    except OSError as error:
        raise OutputError(UNUSABLE.format(error.strerror or type(error).__name__)) from error


class Record:
    """An open record, for all threads of the one process that may write it; a context manager that closes it.

    Raises
    ------
    CTDefaceError
        When another process holds the folder, or the file cannot be used.
    """

    def __init__(self, folder: Path):
        self._taking_turns = threading.RLock()
        with record_errors():
            make_private_file(folder / LOCK)
            self._lock = lock(folder / LOCK, ALREADY_RUNNING)
        try:
            with record_errors():
                make_private_file(folder / RECORD)  # what SQLite puts beside it takes after it
                self._db = sqlite3.connect(folder / RECORD, timeout=30, isolation_level=None, check_same_thread=False)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.executescript(TABLES)
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()
        os.close(self._lock)

    def check_secret(self, hashed: str) -> None:
        """Raise CTDefaceError where all that is here was named with another secret."""
        known = self._do("SELECT hash FROM secret")
        if not known:
            self._do("INSERT INTO secret VALUES (?)", hashed)
        elif known[0][0] != hashed:
            raise CTDefaceError(OTHER_SECRET)

    def study(self, study: str) -> Study | None:
        rows = self._do("SELECT * FROM study WHERE id = ?", study)
        return _study(rows[0]) if rows else None

    def studies(self, *states: State) -> list[Study]:
        """All with one of these states, in the order in which they came."""
        marks = ", ".join("?" * len(states))
        return [
            _study(row) for row in self._do(f"SELECT * FROM study WHERE state IN ({marks}) ORDER BY rowid", *states)
        ]

    def image(self, study: str, image: str) -> Image | None:
        rows = self._do("SELECT id, content, is_left FROM image WHERE study = ? AND id = ?", study, image)
        return Image(rows[0][0], rows[0][1], bool(rows[0][2])) if rows else None

    def left(self, study: str) -> list[str]:
        """Hashes of the images of a closed study that were not defaced."""
        return [row[0] for row in self._do("SELECT id FROM image WHERE study = ? AND is_left", study)]

    def begin(self, study: str) -> None:
        """A study that is new, or that somebody took out of quarantine."""
        self._do("INSERT OR REPLACE INTO study (id, state) VALUES (?, ?)", study, State.RECEIVING)

    def forget(self, study: str) -> None:
        """Know nothing of a study and its images any more."""
        with self._taking_turns, record_errors(), self._db:
            self._db.execute("BEGIN")
            self._do("DELETE FROM study WHERE id = ?", study)
            self._do("DELETE FROM image WHERE study = ?", study)

    def note(self, study: str, state: State, sentence: str = "", died: bool = False) -> None:
        """Say how far a study is, and why it waits where it does; ``died`` counts the death of a process."""
        self._do(
            "UPDATE study SET state = ?, sentence = ?, deaths = deaths + ? WHERE id = ?", state, sentence, died, study
        )

    def close_study(
        self, study: str, images: Iterable[Image], state: State, sentence: str, seconds: float | None
    ) -> None:
        """Note all images of a study whose defaced ones are there, at once with its state."""
        images = list(images)
        with self._taking_turns, record_errors(), self._db:
            self._db.execute("BEGIN")
            self._do("DELETE FROM image WHERE study = ?", study)
            rows = [(study, image.id, image.content, image.is_left) for image in images]
            self._db.executemany("INSERT INTO image VALUES (?, ?, ?, ?)", rows)
            self._do(
                "UPDATE study SET state = ?, images = ?, sentence = ?, seconds = ? WHERE id = ?",
                state, len(images), sentence, seconds, study,
            )  # fmt: skip

    def _do(self, statement: str, *values: object) -> list[tuple]:
        with self._taking_turns, record_errors():
            return self._db.execute(statement, values).fetchall()


def read_record(folder: Path) -> list[Study]:
    """All studies of a record, also while a node runs; none where there is no record."""
    path = folder / RECORD
    if not path.is_file():
        return []
    with record_errors(), closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as db:
        return [_study(row) for row in db.execute("SELECT * FROM study ORDER BY rowid")]


def _study(row: tuple) -> Study:
    return Study(row[0], State(row[1]), *row[2:])
