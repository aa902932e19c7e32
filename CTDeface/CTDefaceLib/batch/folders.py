"""The two folders of a batch, and what lies in them.

The output folder holds what can be shared: results, a report beside each, and the summary. The private folder beside it
holds what must not be: the record, which names the inputs, the secret that the pseudonyms are made with, and the
gallery, which shows faces.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError
from ..files import csv_line, make_folder, name_bytes, output_errors, write_whole
from ..private import make_private_folder
from .job import WORK_FOLDER
from .lock import lock
from .record import LOCK

SUMMARY = "ctdeface_batch.json"
"""In the output folder: how the batch was made."""

RECORD, TABLE, GALLERY, PSEUDONYMS = "record.sqlite", "scans.csv", "gallery", "pseudonyms"
"""In the private folder, beside the secret; the last two are folders, of which that of the pseudonyms has a table for
each scan whose headers were cleaned."""

PASSED_OVER = "passed_over.csv"
"""In the private folder, where there is something: what can hold a scan and was not looked into."""

NOT_MADE = "A folder for the results cannot be made"
IN_USE = "Another batch is writing into this output folder: wait for its end, or choose another one."


def make_folders(source: Path, output: Path, private: Path) -> None:
    """Make the folders of a batch where they are missing.

    Parameters
    ----------
    source: Path
        The scans: a folder or a table.
    output, private: Path
        What can be shared, and what must not be.

    Raises
    ------
    OutputError
        When they cannot be made, or one lies where it must not.
    """
    if source.is_dir() and output.exists() and os.path.samefile(source, output):
        raise OutputError("The output folder is the input folder; choose another one.")
    if output.resolve() == private.resolve() or output.resolve() in private.resolve().parents:
        raise OutputError("The private folder must not lie in the output folder, which can be shared.")
    with output_errors(NOT_MADE):
        make_folder(output)
    make_private_folder(private)


@contextmanager
def unfinished_work(output: Path, run: str) -> Iterator[None]:
    """The folder for unfinished work in an output folder: emptied of what an earlier run left, and gone afterwards.

    Of all batches that write into an output folder, whatever their private folders, one can be here at a time. On a
    disk without locks several can, and each removes what bears its own name.

    Parameters
    ----------
    output: Path
    run: str
        Tells this batch from others, and begins the names of its unfinished work.

    Raises
    ------
    CTDefaceError
        when another batch is here, or the folder cannot be made
    """
    work = output / WORK_FOLDER
    with output_errors(NOT_MADE):
        make_folder(work)
    try:
        held = lock(work / LOCK, IN_USE)
    except OSError:
        held = None

    def remove() -> None:
        with suppress(OSError):
            for entry in list(os.scandir(work)):
                if entry.name != LOCK and (held is not None or entry.name.startswith(f"{run}-")):
                    shutil.rmtree(entry.path, ignore_errors=True)

    try:
        remove()
        yield
    finally:
        remove()
        if held is not None:
            if os.name == "nt":
                os.close(held)  # what is open cannot be removed there
            with suppress(OSError):
                os.unlink(work / LOCK)
            if os.name != "nt":
                os.close(held)  # not before: whoever waits for it sees that it is gone
        with suppress(OSError):
            work.rmdir()


def write_passed_over(passed_over: list[tuple[str, str]], private: Path) -> None:
    """Write the table of what was passed over into the private folder; none where nothing was.

    Parameters
    ----------
    passed_over: list of tuple
        Path and reason of each.
    private: Path

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    with output_errors("The table of what was passed over could not be written"):
        if not passed_over:
            (private / PASSED_OVER).unlink(missing_ok=True)
            return
        rows = [("path", "why"), *passed_over]
        write_whole(private / PASSED_OVER, name_bytes("".join(map(csv_line, rows))), private=True)
