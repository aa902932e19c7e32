"""What a person has to say of an input that does not say all of itself; for all commands that read volumes."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Which series of several, and what a volume file does not tell of itself; :func:`reading_from` collects it."""
    parser.add_argument(
        "--series", metavar="NUMBER", default="", help="of DICOM: which, or its UID, if there are several"
    )
    add_lying(parser)


def add_lying(parser: argparse.ArgumentParser) -> None:
    """What a volume file does not tell of itself."""
    from ..nifti_geometry import FORMS

    lying = parser.add_argument_group("how a volume file lies, where it does not say or says two things")
    form = lying.add_mutually_exclusive_group()
    for name in FORMS:
        form.add_argument(
            f"--{name}", dest="form", action="store_const", const=name, help=f"of NIfTI: its {name} is right"
        )
    form.add_argument(
        "--orientation",
        metavar="CODE",
        type=_orientation,
        help="where its axes lead, such as RAS for the patient's right, front (anterior) and top (superior)",
    )


def reading_from(args: argparse.Namespace, path: Path) -> dict[str, str]:
    """The choices of :func:`add_reading` for :func:`.volume_io.read_scan`, as far as they are for this kind of file."""
    from ..stored_data import suffix
    from ..volume_io import IMAGE_IO

    if suffix(path) in IMAGE_IO:
        return {"form": args.form or "", "orientation": args.orientation or ""}
    return {"series": args.series}


def _orientation(text: str) -> str:
    from ..nifti_geometry import is_orientation

    if not is_orientation(text.upper()):
        raise argparse.ArgumentTypeError("give three letters, one each of R or L, A or P, S or I, such as RAS")
    return text.upper()
