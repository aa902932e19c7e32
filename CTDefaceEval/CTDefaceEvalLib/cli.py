"""The command ``ctdeface evaluate``: its arguments, and what it does.

Every command imports this module for its line of help, so that what takes time to import is imported where it is used.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from CTDefaceLib.audits import Level
from CTDefaceLib.commands.reading import add_reading, reading_from
from CTDefaceLib.commands.terminal import Progress
from CTDefaceLib.errors import OutputError

HELP = "measure whether a face can still be found, recognised or recovered"

DESCRIPTION = """\
Look at a defaced head CT as somebody would who wants the face: render it from many
sides, let face detectors search, compare with the original, and attack the defaced
volume to win the face back. Leaves one web page with a verdict, and every number as
CSV and JSON beside it."""

EPILOG = f"""\
examples:
  ctdeface evaluate head.nii.gz head_defaced.nii.gz -o report.html
  ctdeface evaluate head_defaced.nii.gz -o report.html
  ctdeface evaluate --cohort table.csv -o cohort.html
  ctdeface evaluate head.nii.gz head_defaced.nii.gz -o report.html \\
      --models insightface --model-folder ~/.insightface/models/buffalo_l
  ctdeface evaluate --list-models

verdicts, worst first:
  {Level.FACE_FOUND:<15}  a detector still finds a face in the defaced scan
  {Level.RECOGNISABLE:<15}  none does, but what is left resembles the original's face
  {Level.RECOVERABLE:<15}  the face comes back from the defaced file alone, or from a mask,
                   picture or series that lies beside it
  {Level.NONE_OF_THESE:<15}  nothing was found, recognised or recovered with these models and
                   attacks; that does not prove that nobody can
  {Level.NOT_ALL_TRIED:<15}  no face was found, but no attack was made, or what is left could not
                   be compared with the original: that is no pass
  {Level.NOT_EVALUABLE:<15}  even the original's face is hardly found, or nothing is found and
                   there is no original: silence proves nothing

the cohort's table: a CSV file with the columns patient, scan, method, path, where method
  "original" marks the originals; or with patient, scan, original, defaced, method.
  Relative paths start at the table. What was seen of a volume is cached, so that a
  second run looks only at what is new.

The page shows the patient's face (--no-pictures leaves it out): keep it as you keep
the scan. An interrupted evaluation goes on where it stopped.

exit status:
  0 evaluated, 1 it could not be (one sentence says why), 2 wrong usage,
  3 with --strict: the verdict is not "{Level.NONE_OF_THESE}"."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``ctdeface evaluate`` to its parser."""
    from .attacks import ATTACKS
    from .face_models import DEFAULT_MODELS, MODELS
    from .settings import RENDERINGS
    from .views import PRESETS

    parser.add_argument(
        "volumes",
        metavar="CT",
        nargs="*",
        type=Path,
        help="ORIGINAL DEFACED, or DEFACED alone: volume files or folders with one DICOM series",
    )
    parser.add_argument(
        "--cohort", metavar="TABLE.csv", type=Path, help="evaluate many volumes by the study's protocol"
    )
    parser.add_argument(
        "-o", "--output", metavar="REPORT.html", type=Path, help="the page; CSV and JSON come beside it"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a report that exists")
    parser.add_argument("--no-pictures", action="store_true", help="leave pictures of the head out of the page")
    parser.add_argument(
        "--strict", action="store_true", help=f'exit with 3 unless the verdict is "{Level.NONE_OF_THESE}"'
    )

    how = parser.add_argument_group("how to look")
    how.add_argument(
        "--models",
        metavar="NAME",
        nargs="+",
        choices=list(MODELS),
        help=f"of {', '.join(MODELS)} (default: {' '.join(DEFAULT_MODELS)}; for a cohort, which takes one, dlib-hog)",
    )
    how.add_argument("--model-folder", metavar="DIR", type=Path, help="model pack of insightface or facenet")
    how.add_argument("--list-models", action="store_true", help="say what each model needs and its licence")
    how.add_argument("--views", choices=list(PRESETS), help="number of views (default: default; for a cohort: study)")
    how.add_argument(
        "--rendering",
        choices=list(RENDERINGS),
        default=RENDERINGS[0],
        help="the skin as a surface, or by casting rays through the volume, which takes a graphics card or patience "
        "(default: %(default)s; not for a cohort)",
    )
    how.add_argument("--perspective", action="store_true", help="a camera at 1 m, not parallel rays; not for a cohort")
    how.add_argument(
        "--attacks",
        metavar="NAME",
        nargs="*",
        choices=list(ATTACKS),
        help=f"of {', '.join(repr(name) if ' ' in name else name for name in ATTACKS)} (default: all)",
    )
    how.add_argument(
        "--others",
        metavar="CT",
        nargs="+",
        type=Path,
        help="other people's heads, which say what unlike is (default: three synthetic ones)",
    )
    how.add_argument(
        "--alone",
        action="store_true",
        help="the defaced volume is shared without its folder: do not look for masks and pictures beside it",
    )
    how.add_argument(
        "--cache", metavar="DIR", type=Path, help="for a cohort: folder of what was seen (default: beside the report)"
    )
    add_reading(parser)


def run(args: argparse.Namespace) -> int:
    """Run ``ctdeface evaluate`` and return its exit status. Raises CTDefaceError with a sentence for the user."""
    from .report import check_report

    if args.list_models:
        return _list_models(args)
    if args.output is None:
        args.error("the following arguments are required: -o/--output")
    if args.cohort is not None and args.volumes:
        args.error("argument --cohort: takes the volumes from its table, give no others")
    if args.cohort is not None and (args.form or args.orientation or args.series):
        args.error("argument --cohort: goes without --series, --qform, --sform and --orientation")
    if args.cohort is None and len(args.volumes) not in (1, 2):
        args.error("give ORIGINAL and DEFACED, or DEFACED alone, or --cohort TABLE.csv")
    try:
        check_report(args.output, args.overwrite)
    except OutputError as error:
        args.error(f"argument -o/--output: {error}")
    with Progress() as progress:
        return _run_pair(args, progress) if args.cohort is None else _run_cohort(args, progress)


def _list_models(args: argparse.Namespace) -> int:
    from .face_models import availability

    for row in availability(args.model_folder):
        print(f"{row['name']}\n  needs: {row['needs']}\n  licence: {row['licence']}")
        print(f"  missing: {row['missing']}" if row["missing"] else "  ready")
    return 0


def _run_pair(args: argparse.Namespace, progress: Progress) -> int:
    from CTDefaceLib.volume_io import read_ct

    from .attacks import ATTACKS
    from .evaluation import evaluate
    from .face_models import DEFAULT_MODELS
    from .report import report_paths, write_evaluation
    from .settings import Settings

    progress(0.0, "Reading")
    *first, defaced_path = args.volumes
    original = read_ct(first[0], **reading_from(args, first[0])) if first else None
    memory = args.output.with_suffix(".partial")
    evaluation = evaluate(
        original,
        read_ct(defaced_path, **reading_from(args, defaced_path)),
        Settings(
            models=tuple(args.models or DEFAULT_MODELS),
            model_folder=str(args.model_folder) if args.model_folder else None,
            views=args.views or "default",
            attacks=tuple(ATTACKS if args.attacks is None else args.attacks),
            rendering=args.rendering,
            perspective=args.perspective,
        ),
        others=(read_ct(path) for path in args.others) if args.others else None,
        beside=None if args.alone else defaced_path,
        ignore=[*first, *(args.others or ()), memory, *report_paths(args.output)],
        memory=memory,
        progress=progress,
    )
    write_evaluation(evaluation, args.output, pictures=not args.no_pictures, overwrite=args.overwrite)
    progress(1.0, "")
    print(f"{evaluation.verdict.level}: {evaluation.verdict.sentence}")
    return 3 if args.strict and evaluation.verdict.level is not Level.NONE_OF_THESE else 0


def _run_cohort(args: argparse.Namespace, progress: Progress) -> int:
    from .cohort import evaluate_cohort
    from .cohort_table import read_table
    from .pairs import BY_PATIENT
    from .report import write_cohort

    cohort = evaluate_cohort(
        read_table(args.cohort),
        args.cache or args.output.with_suffix(".cache"),
        model=args.models[0] if args.models else "dlib-hog",
        model_folder=args.model_folder,
        views=args.views or "study",
        progress=progress,
    )
    write_cohort(cohort, args.output, pictures=not args.no_pictures, overwrite=args.overwrite)
    progress(1.0, "")
    for method in cohort.methods:
        auc = method.within[BY_PATIENT].auc
        figure = f"ROC-AUC {auc[0]:.2f} ± {auc[1]:.2f}" if auc else "too few faces to compare"
        found = f"{method.found['median']:.0%}" if method.found else "none"
        print(f"{method.method}: a face in {found} of the views, {figure}")
    return 0
