"""The gallery of a batch: one web page to look at all results, without a server and without a network.

The page itself is ``gallery.html``, copied as it is; the numbers come in ``scans.js`` beside it, the pictures in the
folder ``pictures``.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from ..files import replaced, write_whole
from ..private import make_private_folder
from .status import Status

PICTURES = "pictures"
"""Folder of the pictures, beside the page."""

PAGE = Path(__file__).with_name("gallery.html")


def write_gallery(rows: Iterable[sqlite3.Row], folder: Path, run: str, originals: bool) -> Path:
    """Write or renew the page.

    Parameters
    ----------
    rows: iterable of sqlite3.Row
        Of the record, see :mod:`.batch.record`.
    folder: Path
        Made where it is missing.
    run: str
        Tells batches apart; decisions are remembered by it.
    originals: bool
        Whether pictures of the originals belong into it; the page warns of them. Otherwise those that an earlier run
        made are deleted.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    OutputError
        When the folder cannot be made.
    OSError
        When the page cannot be written.
    """
    make_private_folder(folder)
    pictures: dict[str, list[str]] = {}
    for name in os.listdir(folder / PICTURES) if (folder / PICTURES).is_dir() else ():
        number, _, kind = name.removesuffix(".jpg").partition("-")
        if kind.startswith("before") and not originals:
            (folder / PICTURES / name).unlink()
            continue
        pictures.setdefault(number, []).append(kind)
    about = json.dumps({"run": run, "originals": originals})
    with replaced(folder / "scans.js", private=True) as part, open(part, "w", encoding="utf-8") as file:
        file.write(f"const RUN = {about};\nconst SCANS = [\n")
        for row in rows:
            file.write(json.dumps(_entry(row, pictures.get(str(row["id"]), [])), separators=(",", ":")) + ",\n")
        file.write("];\n")
    write_whole(folder / "index.html", PAGE.read_bytes(), private=True)
    return folder / "index.html"


def _entry(row: sqlite3.Row, pictures: list[str]) -> dict:
    """What the page shows of a scan; nothing of the input's path or header."""
    report = json.loads(row["report"] or "{}")
    entry = {
        "id": row["id"],
        "scan": row["output"],
        "status": row["status"],
        "good": row["status"] == Status.DONE or None,
        "sentence": row["sentence"] if row["same_as"] is None else "",
        "seconds": row["seconds"],
        "attempt": row["attempts"],
        "removed": report.get("replaced_ml", report.get("removed_ml")),
        "covered": report.get("facial_skin_covered"),
        "intracranial": report.get("intracranial_voxels_touched"),
        "audit": report.get("audit", {}).get("verdict"),
        "finding": report.get("audit", {}).get("sentence"),
        "pictures": sorted(pictures),
    }
    return {name: value for name, value in entry.items() if value not in (None, "", [])}
