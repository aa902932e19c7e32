"""The two folders of a batch, and what lies in them.

The output folder holds what can be shared: results, a report beside each, and the summary. The private folder beside it
holds what must not be: the record, which names the inputs, the secret that the pseudonyms are made with, and the
gallery, which shows faces.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

from ..errors import OutputError
from ..files import make_folder, output_errors, replaced
from ..private import make_private_folder

SUMMARY = "ctdeface_batch.json"
"""In the output folder: how the batch was made."""

RECORD, TABLE, GALLERY, PSEUDONYMS = "record.sqlite", "scans.csv", "gallery", "pseudonyms"
"""In the private folder, beside the secret; the last two are folders, of which that of the pseudonyms has a table for
each scan whose headers were cleaned."""

PASSED_OVER = "passed_over.csv"
"""In the private folder, where there is something: what can hold a scan and was not looked into."""


def make_folders(source: Path, output: Path, private: Path) -> None:
    """Make the folders of a batch where they are missing.

    Raises
    ------
    OutputError
        when they cannot be made, or one lies where it must not
    """
    if source.is_dir() and output.exists() and os.path.samefile(source, output):
        raise OutputError("The output folder is the input folder; choose another one.")
    if output.resolve() == private.resolve() or output.resolve() in private.resolve().parents:
        raise OutputError("The private folder must not lie in the output folder, which can be shared.")
    with output_errors("A folder for the results cannot be made"):
        make_folder(output)
    make_private_folder(private)


def write_passed_over(passed_over: list[tuple[str, str]], private: Path) -> None:
    """Write the table of what was passed over, path and reason of each (OutputError); none for nothing."""
    with output_errors("The table of what was passed over could not be written"):
        if not passed_over:
            (private / PASSED_OVER).unlink(missing_ok=True)
            return
        with replaced(private / PASSED_OVER, private=True) as part:
            with open(part, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
                csv.writer(file).writerows([("path", "why"), *passed_over])
