"""What can become of a scan of a batch, in the words of record, table, gallery, panel and command line."""

from __future__ import annotations

from enum import Enum


class Status(str, Enum):
    """How far a scan is; the words stand in records on disk, so they stay."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    WARNED = "done with warnings"
    HELD_BACK = "held back"
    """The audit still found the face."""
    NO_FACE = "no face in view"
    REFUSED = "refused"
    FAILED = "failed"
    TIMED_OUT = "timed out"
    DOUBLE = "same as another"

    __str__ = str.__str__


class Mishap(str, Enum):
    """Why a runner brings no status: the batch finds out whether the scan waits again or failed."""

    DIED = "worker died"
    """The process ended before the scan did."""
    NO_ROOM = "no room"
    """The disk is full."""
    DISK_GONE = "disk gone"
    """The disk cannot be written to any more: it turned read-only, broke, or is no longer connected."""
    NOT_WRITTEN = "not written"
    """The result could not be written, perhaps because the disk is full."""

    __str__ = str.__str__


FINISHED = (Status.DONE, Status.WARNED)
"""A result was written."""

RETRIED = (Status.FAILED, Status.TIMED_OUT)
"""Worth another try as they are."""

WITHOUT_RESULT = (Status.HELD_BACK, Status.NO_FACE, Status.REFUSED, Status.FAILED, Status.TIMED_OUT)
"""Nothing was written although there was a scan."""

PENDING = (Status.WAITING, Status.RUNNING)
"""Nothing became of the scan yet."""
