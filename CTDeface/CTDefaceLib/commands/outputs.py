"""What commands write: checked before any work, and told of afterwards."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from ..errors import OutputError
from .terminal import say, warn


def check_outputs(args: argparse.Namespace, source: Path | None, outputs: dict[str, Path], overwrite: bool) -> None:
    """Wrong usage, before any work: outputs that exist or cannot be written, are the input, or of which two are one."""
    from ..files import check_output, check_writable

    seen = set()
    for name, path in outputs.items():
        try:
            if source and _is_same_file(path, source):
                raise OutputError("This is the input itself; choose another name.")
            check_output(path, overwrite)
            check_writable(path)
        except OutputError as error:
            args.error(f"{name}: {error}")
        if (resolved := os.path.normcase(path.resolve())) in seen:
            args.error(f"{name}: Another output has the same name; choose a different one.")
        seen.add(resolved)


def _is_same_file(path: Path, other: Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them is not there, or cannot be
        return False


def save_report(report: dict, path: Path) -> None:
    path.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def tell(report: dict) -> None:
    """Say what a report has to say."""
    for warning in (*report.get("notes", ()), *report["warnings"]):
        warn(f"warning: {warning}")
    for number, one in enumerate(report.get("companions", []), 1):
        for warning in one["warnings"]:
            warn(f"warning: companion {number}: {warning}")
    for one in report.get("refused", []):
        warn(f"refused: {one['name']}: {one['why']}")
    if report.get("left_out"):
        warn(f"left out: {', '.join(report['left_out'])}")
    if "series" in report:
        say(f"One new skin for {len(report['series'])} series, from {report['face_from']}.")
    if "audit" in report and report["audit"]["sentence"] not in report["warnings"]:
        warn(f"audit: {report['audit']['sentence']}")
    say(summary(report))


def summary(report: dict) -> str:
    return (
        f"Replaced {report['replaced_ml']:.0f} mL in {report['seconds']:.1f} s; "
        f"{report['intracranial_voxels_touched']} intracranial voxels touched. Look at the result before you share it."
    )
