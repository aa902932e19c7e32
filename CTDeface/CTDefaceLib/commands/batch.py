"""The command ``ctdeface batch``: its arguments, and what it does."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "replace the face in all head CTs of a folder or table"

DESCRIPTION = """\
Replace the face in all head CTs of a folder with its sub-folders, or of a table.
One bad scan never stops the rest. Interrupted, however hard, and started again, it
goes on where it was: finished results are never touched."""

EPILOG = """\
examples:
  ctdeface batch scans defaced --dry-run
  ctdeface batch scans defaced
  ctdeface batch scans defaced --workers 4 --timeout 900 --audit quick
  ctdeface batch dataset defaced --layout bids
  ctdeface batch archive defaced --format .dicom --keep dicom:targets --take-along
  ctdeface batch scans defaced --keep "{name}_seg.nii.gz:3,7"
  ctdeface batch scans defaced --retry-failed
  ctdeface batch scans defaced --redo decisions.csv --strength strict
  ctdeface batch scans defaced --scheduler tcp://node1:8786

what it leaves:
  OUT          the results under pseudonyms, a report beside each (.json), and
               ctdeface_batch.json: how they were made. Nothing of the patients.
  OUT-private  keep it as you keep the scans, and never share it:
                 scans.csv      which input became which output, and its status
                 passed_over.csv  what can hold scans, but was not looked into
                 gallery/       index.html, to look at all results; shows faces
                 record.sqlite  what is done and what is left
                 secret.key     what the pseudonyms are made with
                 pseudonyms/    who is who, a table for each series with cleaned headers

one face: all CT, MR and PET series of a patient's DICOM study, or of a subject's
  session in BIDS, get the same new skin. A series that does not fit is refused with
  a sentence, the others are done. Another day is a study of its own with a face of
  its own, unless --by patient does all studies of a patient (one ID and issuer, one
  subject, or one patient of the table) together. --by series defaces each CT for
  itself.

the table: a CSV file with the column input and, if wanted, patient (tells patients
  apart), study (rows of one get one face) and output (name below OUT, instead of a
  pseudonym). Paths in it start at its folder.

statuses: done; done with warnings (look at it); held back (the audit still found the
  face); no face in view; refused (not one complete head CT); failed; timed out; same
  as another (a copy, done once).

exit status:
  0 every scan has its result, 3 some have none (scans.csv says why) or something was
  passed over (archives, other formats, links to nothing, what cannot be read),
  1 the batch could not begin or go on (one sentence says why), 2 wrong usage.
  Ctrl-C (130) and SIGTERM (143): start it again to go on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from ..batch.choices import BY, LAYOUTS, NAMES
    from ..batch.job import DICOM
    from ..batch.runner import LONGEST_SECONDS
    from ..volume_io import WRITABLE
    from .choices import add_audit, add_headers, add_parameters, add_take_along
    from .reading import add_lying

    parser.add_argument(
        "input", metavar="IN", type=Path, help="a folder, searched with its sub-folders, or a CSV table"
    )
    parser.add_argument("output", metavar="OUT", type=Path, help="folder for the results, made where missing")
    parser.add_argument(
        "--by",
        choices=BY,
        default=BY[0],
        help="one face for all scans of a patient's study (CT, MR and PET), or of all of a patient's studies, or each "
        "defaced for itself (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, write nothing")

    names = parser.add_argument_group("results")
    names.add_argument(
        "--layout",
        choices=LAYOUTS,
        default="tree",
        help="folders as in the input, or BIDS names by patient (default: %(default)s)",
    )
    names.add_argument(
        "--names",
        choices=NAMES,
        default="pseudonym",
        help="pseudonyms, or the names of the inputs, which may name patients (default: %(default)s)",
    )
    names.add_argument(
        "--format",
        choices=[*WRITABLE, DICOM],
        default=".nii.gz",
        help="default: %(default)s; .dicom: a folder with a DICOM series for each",
    )
    add_take_along(names)
    add_headers(names)
    names.add_argument(
        "--private", metavar="DIR", type=Path, help="folder for all that is private (default: OUT-private)"
    )
    names.add_argument(
        "--secret",
        metavar="FILE",
        type=Path,
        help="what pseudonyms and all that is random are made with: the same in another batch; made where missing",
    )
    add_audit(names)
    names.add_argument("--no-gallery", dest="gallery", action="store_false", help="no pictures, no page")
    names.add_argument(
        "--no-originals", dest="originals", action="store_false", help="no pictures of faces in the page"
    )

    where = parser.add_argument_group("where it runs")
    where.add_argument(
        "--workers",
        metavar="N",
        type=_workers,
        default=None,
        help="processes; 0: none but this one (default: as many as processors, memory and graphics cards allow)",
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask cluster, such as tcp://node1:8786")
    where.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        help="give a scan up after this time, a study after so many times that as it has scans; 0: never "
        f"(default: {LONGEST_SECONDS:g}, in a process of its own)",
    )

    again = parser.add_argument_group("once more")
    again.add_argument("--retry-failed", action="store_true", help="try failed and timed out scans again")
    again.add_argument(
        "--redo",
        metavar="CSV",
        type=Path,
        help="do again what was sent back in the gallery, with the choices given now",
    )
    again.add_argument(
        "--rebuild",
        action="store_true",
        help="make a damaged record anew: finished results are taken up from their reports, by the secret",
    )
    add_lying(parser)
    add_parameters(parser)
    parser.add_argument(
        "--keep",
        metavar="WHERE[:NAME,...]",
        action="append",
        default=[],
        help="structures that must stay, bit for bit; WHERE: dicom, for structure sets and segmentations that refer to "
        "a series, or a path from each scan's folder, with {name} for its name, such as {name}_seg.nii.gz; names as of "
        "ctdeface deface",
    )


def run(args: argparse.Namespace) -> int:
    from .. import batch
    from ..batch.progress import batch_display
    from ..files import on_one_line
    from .choices import AUDITS, parameters_from, retained_from
    from .terminal import warn

    parameters = parameters_from(args)
    retained = retained_from(args)
    headers = "keep" if retained is None else "ps315"
    audit, retain = AUDITS.get(args.audit, ""), ",".join(retained or [])
    choices = batch.Choices(
        args.layout, args.names, args.format, audit, headers, retain, args.no_text, args.form or "",
        args.orientation or "", args.by, tuple(args.keep), args.take_along,
    )  # fmt: skip
    folders = {"private": args.private, "secret": args.secret}
    if args.scheduler and args.workers is not None:
        args.error("argument --workers: a Dask cluster has its own")
    if args.timeout and args.workers == 0:
        args.error("argument --timeout: only a worker process can be stopped; use --workers 1 or more")
    if args.dry_run:
        planned = batch.plan(args.input, args.output, choices, **folders, report=lambda event: warn(event["text"]))
        for place, name, status in planned:
            print(on_one_line(f"{place} -> {name + args.format if name else '(a pseudonym)'}: {status}"))
        print(f"{len(planned)} scans")
        return 0
    with batch_display() as report:
        summary = batch.run(
            args.input,
            args.output,
            parameters,
            choices,
            **folders,
            workers=args.workers,
            scheduler=args.scheduler,
            timeout=args.timeout,
            retry_failed=args.retry_failed,
            redo=args.redo,
            rebuild=args.rebuild,
            gallery=args.gallery,
            originals=args.originals,
            report=report,
        )
    print(", ".join(f"{count} {status}" for status, count in summary.counts.items()))
    if summary.passed_over:
        warn(f"{summary.passed_over} places were passed over; {batch.PASSED_OVER} in the private folder lists them.")
    return 0 if summary.all_done else 3


def _workers(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 1024:
        raise argparse.ArgumentTypeError("give a number from 0 to 1024")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= 0:
        raise argparse.ArgumentTypeError("give a number of seconds, 0 for never")
    return seconds
