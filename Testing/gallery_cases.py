"""Galleries of scans that never were."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from CTDefaceLib.audits import Level
from CTDefaceLib.batch.gallery import write_gallery
from CTDefaceLib.batch.gallery_pictures import PIXELS, jpeg_bytes
from CTDefaceLib.batch.status import Status

KINDS = ("before-front", "after-front", "before-oblique", "after-oblique", "before-slice")


def row(number: int, **changes) -> dict:
    """A row of a record."""
    report = {
        "removed_ml": 400.0 + number * 7 % 100,
        "facial_skin_covered": 0.9,
        "intracranial_voxels_touched": 0,
        "audit": {"verdict": str(Level.NOT_RECOGNISABLE), "sentence": "Nothing found."},
    }
    return {
        "id": number,
        "output": f"scan{number:04}",
        "status": Status.DONE,
        "sentence": "",
        "same_as": None,
        "seconds": 1.0 + number % 13,
        "attempts": 1,
        "report": json.dumps(report),
        **changes,
    }


def make_gallery(folder: Path, rows: list[dict], pictures: Iterable[int] = ()) -> Path:
    """A page for these rows, with grey pictures of the scans of these numbers; the same files under all names."""
    (folder / "pictures").mkdir(parents=True)
    for shade, kind in enumerate(KINDS):
        content = jpeg_bytes(np.full((PIXELS, PIXELS, 3), 50 + 40 * shade, np.uint8))
        first = None
        for number in pictures:
            path = folder / "pictures" / f"{number}-{kind}.jpg"
            if first is None:
                first = path
                path.write_bytes(content)
            else:
                os.link(first, path)
    return write_gallery(rows, folder, "abc", originals=True)
