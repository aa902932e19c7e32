"""How a batch ended, and what can be read off its record by those who do not read SQLite."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ..files import csv_line, name_bytes, output_errors, replaced, write_whole
from ..parameters import UNREPORTED
from ..version import __version__
from .bids import DATASET, DESCRIPTION, IGNORED, README
from .folders import GALLERY, SUMMARY, TABLE
from .gallery import write_gallery
from .planning import Batch
from .results import software
from .status import PENDING, WITHOUT_RESULT

TABLE_COLUMNS = {"input": "place"} | {n: n for n in ("output", "status", "sentence", "seconds", "attempts")}
"""Columns of the table of scans → columns of the record."""


UNTOLD = ("keep",)
"""Choices that can name places."""


@dataclass(frozen=True)
class Summary:
    """How a batch ended.

    Attributes
    ----------
    counts: dict
        Number of scans by the word of their status, see :class:`.batch.status.Status`.
    seconds: float
        That this run took.
    passed_over: int
        Places that can hold a scan and were not looked into: links to nothing, other formats, what cannot be read.
    """

    counts: dict[str, int]
    seconds: float
    passed_over: int = 0

    @property
    def all_done(self) -> bool:
        """Whether every scan has its result, and nothing was passed over."""
        return not self.passed_over and not any(self.counts.get(status) for status in (*WITHOUT_RESULT, *PENDING))


def write_results(batch: Batch) -> None:
    """Write summary, table and, where it is wanted, the gallery of a batch.

    Raises
    ------
    OutputError
        When one of them cannot be written.
    """
    record, private = batch.record, batch.private
    with output_errors("The summary could not be written"):
        write_whole(batch.output / SUMMARY, json.dumps(_provenance(batch), indent=2) + "\n")
        if batch.choices.layout == "bids":
            write_whole(batch.output / DESCRIPTION, json.dumps(DATASET, indent=2) + "\n")
            write_whole(batch.output / "README", README)
            write_whole(batch.output / ".bidsignore", IGNORED)
        with replaced(private / TABLE, private=True) as part, open(part, "wb") as file:
            file.write(name_bytes(csv_line(TABLE_COLUMNS)))
            for row in record.rows():
                file.write(name_bytes(csv_line(row[name] for name in TABLE_COLUMNS.values())))
        if batch.gallery:
            write_gallery(record.rows(), private / GALLERY, batch.run, batch.originals)


def _provenance(batch: Batch) -> dict:
    """How the batch was made, without anything of the patients or of places."""
    chosen = batch.parameters
    return {
        "version": __version__,
        "software": software(),
        "run": batch.run,
        "method": chosen["segmenter"],
        "parameters": {name: value for name, value in chosen.items() if name not in UNREPORTED},
        "choices": {name: value for name, value in asdict(batch.choices).items() if name not in UNTOLD},
        "seed": "given, one for each scan made from it"
        if chosen["seed"] is not None
        else "made from the secret, the patient and the scan"
        if batch.secret.is_file()
        else "drawn anew for each scan and not kept",
        "scans": batch.record.counts(),
    }
