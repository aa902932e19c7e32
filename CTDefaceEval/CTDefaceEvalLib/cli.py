"""The command ``ctdeface evaluate``: its arguments, and what it does.

Every command imports this module for its line of help, so that what takes time to import is imported where it is used.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from CTDefaceLib.audits import Level
from CTDefaceLib.commands.reading import add_reading, reading_from
from CTDefaceLib.commands.terminal import Progress
from CTDefaceLib.errors import OutputError

if TYPE_CHECKING:
    import SimpleITK as sitk
    from CTDefaceLib.progress import Progress as Report

    from .preservation import Preservation

HELP = "measure whether a person can still be recognised, or the face recovered"

DESCRIPTION = """\
Look at a defaced head CT as somebody would who wants the face: render it from many
sides, let face detectors search, compare with the original, and attack the defaced
volume to win the face back. Leaves one web page with a verdict, and every number as
CSV and JSON beside it."""

EPILOG = f"""\
examples:
  ctdeface evaluate head.nii.gz head_defaced.nii.gz -o report.html
  ctdeface evaluate head_defaced.nii.gz -o report.html
  ctdeface evaluate head.nii.gz head_defaced.nii.gz -o report.html --preservation \\
      --structures head_labels.nii.gz head_defaced_labels.nii.gz
  ctdeface evaluate --cohort table.csv -o cohort.html --preservation
  ctdeface evaluate head.nii.gz head_defaced.nii.gz -o report.html \\
      --models insightface --model-folder ~/.insightface/models/buffalo_l
  ctdeface evaluate --list-models

verdicts, worst first:
  {Level.RECOGNISABLE:<16}  the defaced scan is recognised as the person of the original
  {Level.FACE_FOUND:<16}  it shows a face, and whose could not be measured
  {Level.RECOVERABLE:<16}  this person comes back from the defaced file alone, or from a mask,
                    picture or series that lies beside it
  {Level.NOT_RECOGNISABLE:<16}  neither the scan nor what the attacks made of it is recognised;
                    a face that is found in it is somebody else's. With these models
                    and attacks: that does not prove that nobody can
  {Level.NOT_ALL_TRIED:<16}  no attack was made, or what is left could not be compared with
                    the original: that is no pass
  {Level.NOT_EVALUABLE:<16}  even the original's face is hardly found, or there is no original:
                    silence proves nothing

the cohort's table: a CSV file with the columns patient, scan, method, path, where method
  "original" marks the originals; or with patient, scan, original, defaced, method.
  Relative paths start at the table. Method "photo" marks pictures of the patients' faces
  (PNG, JPEG), by which the scans are to be recognised. What was seen of a volume is
  cached, so that a second run looks only at what is new.

The page shows the patient's face (--no-pictures leaves it out): keep it as you keep
the scan. An interrupted evaluation goes on where it stopped.

exit status:
  0 evaluated, 1 it could not be (one sentence says why), 2 wrong usage,
  3 with --strict: the verdict is not "{Level.NOT_RECOGNISABLE}"."""


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
        "--strict", action="store_true", help=f'exit with 3 unless the verdict is "{Level.NOT_RECOGNISABLE}"'
    )

    how = parser.add_argument_group("how to look")
    how.add_argument(
        "--models",
        metavar="NAME",
        nargs="+",
        choices=list(MODELS),
        help=f"of {', '.join(MODELS)} (default: {' '.join(DEFAULT_MODELS)}; for a cohort, which takes one, dlib-hog)",
    )
    how.add_argument("--model-folder", metavar="DIR", type=Path, help="weights of insightface, facenet or opencv-yunet")
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
        help=f"of {', '.join(repr(name) if ' ' in name else name for name in ATTACKS)} (default: all; for a "
        "cohort none: each is one more method there, and takes longer than the volumes themselves)",
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
    cost = parser.add_argument_group("what it cost")
    cost.add_argument(
        "--preservation",
        action="store_true",
        help="measure what was replaced, where, and what else comes out of the scan now; of a cohort for each method",
    )
    cost.add_argument(
        "--structures",
        metavar="LABELS",
        nargs="+",
        help="segmentation of the original, and, if wanted, of the defaced scan made the same way: a label map, a "
        "Slicer segmentation, a folder with a mask for each structure, or a DICOM segmentation or structure set; "
        "FILE:name,name… for some of its structures",
    )
    cost.add_argument(
        "--dose", metavar="DOSE", type=Path, help="with --structures: a dose, as DICOM RTDOSE or volume file"
    )
    how.add_argument(
        "--linkage",
        action="store_true",
        help="for a cohort: also try to link the scans to other CTs of the same people by skull, ears and sinuses, "
        "which no defacing takes away; advice, no part of a verdict",
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
    if args.cohort is not None and args.series:
        args.error("argument --cohort: goes without --series")
    if args.cohort is None and len(args.volumes) not in (1, 2):
        args.error("give ORIGINAL and DEFACED, or DEFACED alone, or --cohort TABLE.csv")
    if args.linkage and args.cohort is None:
        args.error("argument --linkage: needs several scans of people, give --cohort TABLE.csv")
    _check_cost(args)
    try:
        check_report(args.output, args.overwrite)
    except OutputError as error:
        args.error(f"argument -o/--output: {error}")
    with Progress() as progress:
        return _run_pair(args, progress) if args.cohort is None else _run_cohort(args, progress)


def _check_cost(args: argparse.Namespace) -> None:
    if args.preservation and args.cohort is None and len(args.volumes) != 2:
        args.error("argument --preservation: needs the original as well, give ORIGINAL and DEFACED")
    if args.structures and (args.cohort is not None or not args.preservation):
        args.error("argument --structures: belongs to --preservation of a pair; a cohort's table has a column labels")
    if args.structures and len(args.structures) > 2:
        args.error("argument --structures: give the original's segmentation, or it and the defaced scan's")
    if args.dose and not args.structures:
        args.error("argument --dose: needs --structures")


def _preservation(
    args: argparse.Namespace, original: sitk.Image, defaced: sitk.Image, progress: Report
) -> Preservation:
    from CTDefaceLib.volume_io import read_stored

    from .preservation import preservation
    from .structures import read_dose, read_structures

    read = partial(read_stored, **_lying(args))
    given = [read_structures(path, read) for path in args.structures or ()]
    return preservation(
        original,
        defaced,
        structures=given[0] if given else None,
        defaced_structures=given[1] if len(given) > 1 else None,
        dose=read_dose(args.dose, read) if args.dose else None,
        progress=progress,
    )


def _lying(args: argparse.Namespace) -> dict[str, str]:
    """How volume files lie that do not say it, or say two things."""
    return {"form": args.form or "", "orientation": args.orientation or ""}


def _list_models(args: argparse.Namespace) -> int:
    from .face_models import availability

    for row in availability(args.model_folder):
        print(f"{row['name']}\n  needs: {row['needs']}\n  licence: {row['licence']}")
        print(f"  missing: {row['missing']}" if row["missing"] else "  ready")
    return 0


def _run_pair(args: argparse.Namespace, progress: Progress) -> int:
    from CTDefaceLib.progress import part
    from CTDefaceLib.structures import split_choice
    from CTDefaceLib.volume_io import read_ct

    from .attacks import ATTACKS
    from .evaluation import check_pair, evaluate
    from .face_models import DEFAULT_MODELS
    from .report import report_paths, write_evaluation
    from .settings import Settings
    from .verdict import no_gallery_text

    progress(0.0, "Reading")
    *first, defaced_path = args.volumes
    original = read_ct(first[0], **reading_from(args, first[0])) if first else None
    defaced = read_ct(defaced_path, **reading_from(args, defaced_path))
    cost = None
    if original is not None:
        check_pair(original, defaced)
        if args.preservation:
            cost = _preservation(args, original, defaced, part(progress, 0.0, 0.1))
    memory = args.output.with_suffix(".partial")
    evaluation = evaluate(
        original,
        defaced,
        Settings(
            models=tuple(args.models or DEFAULT_MODELS),
            model_folder=str(args.model_folder) if args.model_folder else None,
            views=args.views or "default",
            attacks=tuple(ATTACKS if args.attacks is None else args.attacks),
            rendering=args.rendering,
            perspective=args.perspective,
        ),
        others=(read_ct(path, **_lying(args)) for path in args.others) if args.others else None,
        beside=None if args.alone else defaced_path,
        ignore=[*first, *(args.others or ()), *(split_choice(choice)[0] for choice in args.structures or ())]
        + [*([args.dose] if args.dose else ()), memory, *report_paths(args.output)],
        memory=memory,
        progress=part(progress, 0.1, 1.0),
    )
    evaluation.preservation = cost
    write_evaluation(evaluation, args.output, pictures=not args.no_pictures, overwrite=args.overwrite)
    progress(1.0, "")
    print(f"{evaluation.verdict.level}: {evaluation.verdict.sentence}")
    if evaluation.likeness and not evaluation.scale.is_kept:
        print(no_gallery_text(evaluation))
    return 3 if args.strict and evaluation.verdict.level is not Level.NOT_RECOGNISABLE else 0


def _run_cohort(args: argparse.Namespace, progress: Progress) -> int:
    from .cohort import evaluate_cohort
    from .cohort_table import read_table
    from .identification import FUSED
    from .pages import estimate_text
    from .pairs import BY_PATIENT
    from .report import write_cohort

    cohort = evaluate_cohort(
        read_table(args.cohort),
        args.cache or args.output.with_suffix(".cache"),
        model=args.models[0] if args.models else "dlib-hog",
        model_folder=args.model_folder,
        views=args.views or "study",
        attacks=args.attacks or (),
        with_preservation=args.preservation,
        lying=_lying(args),
        with_linkage=args.linkage,
        progress=progress,
    )
    write_cohort(cohort, args.output, pictures=not args.no_pictures, overwrite=args.overwrite)
    progress(1.0, "")
    for method in cohort.methods:
        auc = method.within[BY_PATIENT].auc
        figure = f"ROC-AUC {auc[0]:.2f} ± {auc[1]:.2f}" if auc else "too few faces to compare"
        found = f"{method.found['median']:.0%}" if method.found else "none"
        print(f"{method.method}: a face in {found} of the views, {figure}")
        for one in method.identification:
            if one.templates == FUSED:
                print(f"  {one.threat}: rank-1 {estimate_text(one.rank1, '{:.0%}')} of {one.patients} patients")
        if method.linkage_advice:
            print(f"  {method.linkage_advice}")
        if method.preservation:
            print(f"  tissue replaced: {estimate_text(method.preservation['tissue replaced'], '{:.1%}')}")
    return 0
