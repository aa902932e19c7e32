"""The command ``ctdeface demo``: see it work on a synthetic head."""

from __future__ import annotations

import argparse
from pathlib import Path

from .outputs import check_outputs, save_report, summary
from .reading import add_reading, reading_from
from .terminal import Progress

HELP = "see it work on a synthetic head"

DESCRIPTION = """\
Make a synthetic head CT (or take yours), deface it, and leave the defaced volume,
the report and a before/after picture in a folder. Files of an earlier demo are replaced."""

EPILOG = """\
exit status:
  0 done, 1 the scan could not be defaced (one sentence says why), 2 wrong usage."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder",
        metavar="OUT_DIR",
        type=Path,
        nargs="?",
        default=Path("ctdeface-demo"),
        help="folder for the results, made where missing (default: %(default)s)",
    )
    parser.add_argument("--ct", type=Path, help="a head CT of yours instead of the synthetic one; it is only read")
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    from ..files import written_whole
    from ..phantom import make_phantom
    from ..pipeline import DefaceParameters, deface
    from ..render import before_after_picture
    from ..scan import Scan
    from ..volume_io import read_scan, save_volume

    names = ["synthetic_head.nii.gz"] * (args.ct is None) + ["before_after.png", "defaced.json", "defaced.nii.gz"]
    try:
        args.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        args.error(f"OUT_DIR: The folder cannot be made: {error.strerror}.")
    check_outputs(args, args.ct, {name: args.folder / name for name in names}, overwrite=True)
    with Progress() as progress:
        if args.ct:
            progress(0.0, "Reading")
            scan = read_scan(args.ct, **reading_from(args, args.ct))
        else:
            progress(0.0, "Making a synthetic head")
            scan = Scan(make_phantom().image)
        result = deface(scan.image, DefaceParameters(), progress=progress)
        result.report["warnings"] = [*scan.notes, *result.report["warnings"]]
        progress(1.0, "Writing and rendering")
        with written_whole(*(args.folder / name for name in names), overwrite=True) as parts:
            if args.ct is None:
                save_volume(scan.image, parts[0])
            before_after_picture(scan.image, result.image, parts[-3])
            save_report(result.report, parts[-2])
            save_volume(result.image, parts[-1], scan.geometry)
    print(summary(result.report))
    print(f"{args.folder.resolve()}: {', '.join(reversed(names))}")
    if args.ct:
        print("The picture shows the face: do not share it.")
    return 0
