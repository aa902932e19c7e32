"""``ctdeface deface`` with a DICOMweb server as input, output or both: what lies there passes through a folder."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from .terminal import say

NOT_SENT = (
    "The checks found something wrong with the result, so it was not sent: deface into a folder, look at it, and send "
    "it if it is good."
)


def place(text: str) -> Path | str:
    """A path, or the address of a DICOMweb server as it is; the type of an argument."""
    from ..pacs.dicomweb import is_address

    return text if is_address(text) else Path(text)


def through_folders(args: argparse.Namespace, run: Callable[[argparse.Namespace], int]) -> int:
    """Read from the server, run with folders in its place, and send what came out.

    The folders are only for their owner, and removed whatever happens, but where the process is killed. What the checks
    found something wrong with is not sent (exit status 1).
    """
    from ..dicom.defaced_stack import is_checked
    from ..errors import CTDefaceError
    from ..pacs.dicomweb import Server, fetch, is_address, store

    goal = Server(args.output) if is_address(args.output) else None
    if goal and args.headers != "keep" and not args.private:
        args.error("argument --private: is needed with a server as OUT, for the secret and who is who")
    with tempfile.TemporaryDirectory(prefix="ctdeface-") as name:
        folder = Path(name)
        if is_address(args.input):
            (folder / "in").mkdir()
            say(f"{fetch(args.input, folder / 'in')} images were read from the server.")
            args.input = folder / "in"
        if goal:
            args.output, args.report = folder / "out", args.report or folder / "report.json"
        status = run(args)
        if goal and status in (0, 3):
            report = json.loads(args.report.read_text(encoding="utf-8"))
            if not all(map(is_checked, report.get("series", (report,)))):
                raise CTDefaceError(NOT_SENT)
            store(goal, sorted(args.output.rglob("*.dcm")))
    return status
