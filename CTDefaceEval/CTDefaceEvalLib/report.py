"""Reports of evaluations: one HTML page that needs nothing else, with every number as CSV and JSON beside it."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from CTDefaceLib.errors import OutputError
from CTDefaceLib.files import check_output, written_whole

from .cohort_page import cohort_page
from .evaluation_page import evaluation_page
from .findings import Cohort, Evaluation


def report_paths(path: str | os.PathLike) -> tuple[Path, Path, Path]:
    """The CSV, JSON and HTML files of a report named by its page. Raises OutputError for another ending."""
    page = Path(path)
    if page.suffix.lower() not in (".html", ".htm"):
        raise OutputError("The report is a web page: choose a name that ends in .html.")
    return page.with_suffix(".csv"), page.with_suffix(".json"), page


def check_report(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Refuse a report that could not be written later (OutputError)."""
    for file in report_paths(path):
        check_output(file, overwrite)


def write_evaluation(
    evaluation: Evaluation, path: str | os.PathLike, *, pictures: bool = True, overwrite: bool = False
) -> None:
    """Write the report of one scan: the page, and CSV and JSON of the same name. Raises OutputError.

    `pictures` of the head go into the page unless told otherwise; they show the face.
    """
    _write(path, overwrite, evaluation_rows(evaluation), evaluation.as_dict(), evaluation_page(evaluation, pictures))


def write_cohort(cohort: Cohort, path: str | os.PathLike, *, pictures: bool = True, overwrite: bool = False) -> None:
    """Write the report of a cohort, as :func:`write_evaluation`."""
    rows = [list(cohort.scans[0]), *(list(scan.values()) for scan in cohort.scans)]
    _write(path, overwrite, rows, cohort.as_dict(), cohort_page(cohort, pictures))


def _write(
    path: str | os.PathLike, overwrite: bool, rows: Iterable[Sequence], numbers: dict[str, Any], page: str
) -> None:
    with written_whole(*report_paths(path), overwrite=overwrite) as (table_part, numbers_part, page_part):
        with open(table_part, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
        numbers_part.write_text(json.dumps(numbers, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        page_part.write_text(page, encoding="utf-8")


def evaluation_rows(evaluation: Evaluation) -> list[list]:
    """Every picture that was searched, below a row with the names of the columns."""
    rows: list[list] = [["subject", "kind", "region_ml", "model", "yaw", "pitch", "light", "score", "similarity"]]
    for subject in evaluation.subjects:
        similar = evaluation.similarities(subject)
        for s in subject.sightings:
            value = similar.get(s.view) if s.model == evaluation.recogniser else None
            score = s.face.score if s.face else None
            rows.append([subject.name, subject.kind, subject.region_ml, s.model, *s.view, score, value])
    return rows
