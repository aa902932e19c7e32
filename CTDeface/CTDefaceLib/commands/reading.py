"""What a person has to say of a NIfTI file that does not say how it lies; for all commands that read volumes."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_reading(parser: argparse.ArgumentParser) -> None:
    """What a NIfTI file does not tell of itself, which :func:`reading_from` collects."""

    nifti = parser.add_argument_group("how a NIfTI file lies, where it does not say or says two things")
    form = nifti.add_mutually_exclusive_group()
    form.add_argument(
        "--qform", dest="form", action="store_const", const="qform", default="", help="its qform is right"
    )
    form.add_argument("--sform", dest="form", action="store_const", const="sform", help="its sform is right")
    form.add_argument(
        "--orientation",
        metavar="CODE",
        type=_orientation,
        help="where its axes lead, such as RAS for the patient's right, front (anterior) and top (superior)",
    )


def reading_from(args: argparse.Namespace, path: Path) -> dict[str, str]:
    """The choices of :func:`add_reading` for :func:`.volume_io.read_scan`: none for what is no NIfTI file."""
    from ..stored_data import suffix
    from ..volume_io import NIFTI

    return {"form": args.form or "", "orientation": args.orientation or ""} if suffix(path) in NIFTI else {}


def _orientation(text: str) -> str:
    from ..nifti_geometry import is_orientation

    if not is_orientation(text.upper()):
        raise argparse.ArgumentTypeError("give three letters, one each of R or L, A or P, S or I, such as RAS")
    return text.upper()
