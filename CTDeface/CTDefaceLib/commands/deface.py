"""The command ``ctdeface deface``: its arguments, and what it does."""

from __future__ import annotations

import argparse
import os
import re
from functools import partial
from pathlib import Path

from ..errors import InputError, OutputError
from .choices import AUDITS, add_audit, add_headers, add_parameters, add_take_along, parameters_from, retained_from
from .outputs import check_outputs, save_report, tell
from .reading import add_reading, reading_from
from .terminal import Progress
from .web import place, through_folders

HELP = "replace the face in one head CT"

DESCRIPTION = """\
Replace the face in one head CT by another skin. Everything else stays as it is, voxel
for voxel; the space inside the skull is never touched."""

EPILOG = """\
examples:
  ctdeface deface head.nii.gz head_defaced.nii.gz
  ctdeface deface "DICOM/series 4" "DICOM/series 4 defaced"
  ctdeface deface DICOM defaced --series 4 --headers ps315 --retain dates device
  ctdeface deface "DICOM/series 4" head_defaced.nrrd
  ctdeface deface "DICOM/study of one patient" defaced
  ctdeface deface https://pacs.example/dicom-web/studies/1.2.3 defaced
  ctdeface deface head.mha out.mha --strength light
  ctdeface deface old.nii out.nii.gz --orientation LAS
  ctdeface deface head.nii.gz out.nii.gz --mask face.nii.gz --overwrite
  ctdeface deface head.nii.gz out.nii.gz --companion t1.nii.gz pet.nii.gz
  ctdeface deface head.nii.gz out.nii.gz --apply-mask corrected.nii.gz
  ctdeface deface head.nii.gz out.nii.gz --keep labels.nii.gz:3,7 --keep-margin 4
  ctdeface deface "DICOM/series 4" out --keep plan.dcm:targets,nodes,Mandible --audit quick
  ctdeface deface head.nii.gz out.nii.gz --segmenter totalsegmentator
  ctdeface deface head.nii.gz out.nii.gz --segmenter cta-deface --weights Dataset001_DEFACE

what takes the face's place:
  The head gets another skin: it goes on from the skin around the face and knows
  nothing of the face itself. From a depth below it (--strength) out through the air
  in front of the face all is replaced, so that neither what is filled nor where the
  filled voxels end shows the face.

strengths:
  light       soft tissue, down to the facial bones, which stay, for work on head and
              neck, injuries or teeth; weaker: a face can be estimated from its bones.
  standard    12 mm below the new skin, bone in it included (default).
  strict      18 mm, the ears as well, and the front wall of the frontal sinus as far
              as the space inside the skull allows.

fills and their weakness:
  smooth      a head without features, with this scan's noise (default).
  face        the face of a synthetic person, drawn at random, with its tissues below. A
              viewer cannot tell by looking that it is not the patient's: say so.
  air         the same region emptied: a hole, with air like this scan's own.
  constant    one value. Shows exactly which voxels were replaced.
  percentile  one value, a percentile of the volume (CTA-DEFACE uses the 10th).
              Shows exactly which voxels were replaced.
  blur        the face smeared. Much of it comes back by lowering the level of the
              rendered surface; only for comparison with other tools.

a DICOMweb server (pip install "ctdeface[pacs]") asks who we are: a token in
CTDEFACE_DICOMWEB_TOKEN, or name and password in ~/.netrc.

OUT.json beside the result tells version, parameters, replaced volume, warnings and
no names, paths or identifiers. Look at every result before you share it, and never
share it together with the mask: the mask shows the face.

exit status:
  0 defaced, 1 the scan could not be (one sentence says why), 2 wrong usage,
  3 some series of a study could not be (a sentence for each); the others are.
  Ctrl-C (130) and SIGTERM (143) leave nothing behind."""

MASK_WARNING = "The mask shows the face: never share it together with the defaced volume."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        metavar="IN",
        type=place,
        help="a NIfTI, NRRD or MetaImage file, a folder with DICOM series, or the address of a study or series on a "
        "DICOMweb server (https://.../studies/UID)",
    )
    parser.add_argument(
        "output",
        metavar="OUT",
        type=place,
        help="defaced volume: .nii, .nii.gz, .nrrd or .mha; of DICOM also a folder or the address of a DICOMweb "
        "server, for one series or all of a patient",
    )

    files = parser.add_argument_group("files")
    files.add_argument("--mask", metavar="FILE", type=Path, help="also write the face mask, a volume of 0 and 1")
    files.add_argument(
        "--apply-mask",
        metavar="FILE",
        type=Path,
        help="a face mask made elsewhere, a volume of 0 and others in the same space: nothing is segmented",
    )
    files.add_argument(
        "--companion",
        metavar="IMAGE",
        type=Path,
        nargs="+",
        default=[],
        help="other images of the same head (CT, MR, PET) that get the same new skin: written beside OUT under their "
        "names with _defaced; registered where they lie elsewhere, refused where they do not fit",
    )
    files.add_argument("--report", metavar="FILE", type=Path, help="report to write (default: OUT with .json)")
    files.add_argument(
        "--secret",
        metavar="FILE",
        type=Path,
        help="what is random, new UIDs and pseudonyms are made with it and the patient: the same in every run and all "
        "series; made where missing (default with ps315: in PRIVATE)",
    )
    files.add_argument(
        "--patient", metavar="ID", help="tells patients apart with --secret, where neither DICOM nor sub-ID in IN does"
    )
    add_audit(files)
    files.add_argument("--overwrite", action="store_true", help="replace output files that exist; never the input")
    add_reading(parser)
    add_dicom(parser)
    add_parameters(parser)
    add_kept(parser)


def add_kept(parser: argparse.ArgumentParser) -> None:
    """What must stay."""
    from ..structures import LISTS

    parser.add_argument(
        "--keep",
        metavar="FILE[:NAME,...]",
        action="append",
        default=[],
        help="structures that must stay, bit for bit: of a label map, a folder with masks, a DICOM segmentation or "
        f"structure set; names, patterns such as PTV*, or lists: {', '.join(LISTS)}; may be given several times",
    )


def add_dicom(parser: argparse.ArgumentParser) -> None:
    """The choices of a DICOM series as output."""
    dicom = parser.add_argument_group("DICOM series as output")
    add_take_along(dicom)
    add_headers(dicom)
    dicom.add_argument(
        "--private",
        metavar="DIR",
        type=Path,
        help="folder for secret.key and pseudonyms.csv, which tells who is who (default: OUT-private)",
    )


def run(args: argparse.Namespace) -> int:
    if isinstance(args.input, str) or isinstance(args.output, str):
        return through_folders(args, run)
    from ..dicom.tree import is_dicom
    from ..stored_data import suffix
    from ..volume_io import IMAGE_IO, NIFTI

    if not os.path.exists(args.input):
        raise InputError("There is no such file or folder; check the path of the input.")
    of_dicom = args.input.is_dir() or suffix(args.input) not in IMAGE_IO and is_dicom(args.input)
    if args.series and not of_dicom:
        args.error("argument --series: goes with a DICOM series as IN")
    if args.form and suffix(args.input) not in NIFTI:
        args.error(f"argument --{args.form}: goes with a NIfTI file as IN")
    if args.orientation and of_dicom:
        args.error("argument --orientation: goes with a volume file as IN")
    if suffix(args.output) in IMAGE_IO or not of_dicom:
        return _run_volume(args)
    return _run_dicom(args)


def _run_volume(args: argparse.Namespace) -> int:
    """A volume file or a DICOM series in, a volume file out, and the same new skin for its companions."""
    from ..audits import check_audit
    from ..files import written_whole
    from ..scan import Source
    from ..segmenters import check_ready
    from ..structures import read_all
    from ..study.volumes import companion_name, find_face, read_mask, save_companion, save_face
    from ..volume_io import read_stored, save_volume

    companions = {f"--companion {number}": path for number, path in enumerate(args.companion, 1)}
    outputs = _volume_outputs(
        args, {name: companion_name(path, args.output.parent) for name, path in companions.items()}
    )
    parameters = parameters_from(args)
    secret, patient = _secret_from(args)
    _check_formats(args, outputs)
    check_outputs(args, args.input, outputs, args.overwrite)
    check_ready(parameters.segmenter, parameters.choice)
    audit = AUDITS.get(args.audit, "")
    if audit:
        check_audit(audit)
    with Progress() as progress:
        progress(0.0, "Reading")
        reading = reading_from(args, args.input)
        read = partial(read_stored, form=args.form or "", orientation=args.orientation or "")
        kept, mask = read_all(args.keep, read), read_mask(args.apply_mask, read) if args.apply_mask else None
        face, scan = find_face(
            args.input, parameters, mask=mask, kept=kept, secret=secret, patient=patient, reading=reading, audit=audit,
            progress=progress,
        )  # fmt: skip
        report = face.result.report
        report["warnings"] = [*scan.notes, *[MASK_WARNING] * bool(args.mask), *report["warnings"]]
        if scan.source is Source.SERIES:
            report["left_out"] = list(scan.left_out)
        progress(1.0, "Writing")
        with written_whole(*outputs.values(), overwrite=args.overwrite) as parts:
            places = dict(zip(outputs, parts))
            if args.mask:
                save_volume(face.result.mask, places["--mask"], scan.geometry)
            if companions:
                report["companions"] = [
                    save_companion(face, path, places[name], reading, audit) for name, path in companions.items()
                ]
            save_face(face, scan, args.input, places["OUT"], reading)
            save_report(report, places["report"])
    tell(report)
    return 0


def _volume_outputs(args: argparse.Namespace, companions: dict[str, Path]) -> dict[str, Path]:
    """What is written beside and with a volume, in this order; wrong usage where that does not go together."""
    from ..stored_data import suffix

    if not args.output.suffix:
        args.error(
            "OUT: A volume can be written as .nii, .nii.gz, .nrrd or .mha; only a DICOM series goes into a folder "
            "(unpack an archive first)."
        )
    for name in ("take_along", "headers", "retain", "private", "no_text"):
        if getattr(args, name) not in (None, [], False, "keep"):
            args.error(f"argument --{name.replace('_', '-')}: goes with a folder as OUT, and a DICOM series as IN")
    report_path = args.report or args.output.with_name(args.output.name[: -len(suffix(args.output))] + ".json")
    if report_path.suffix.lower() != ".json":
        args.error("argument --report: the name must end in .json")
    mask = {"--mask": args.mask} if args.mask else {}
    return {"report": report_path, **mask, **companions, "OUT": args.output}


def _check_formats(args: argparse.Namespace, outputs: dict[str, Path]) -> None:
    """Wrong usage where a volume cannot be written under its name."""
    from ..stored_data import suffix
    from ..study.time_series import time_series
    from ..volume_io import check_volume_name

    try:
        for name, path in outputs.items():
            if name != "report":
                check_volume_name(path)
    except OutputError as error:
        args.error(str(error))
    if suffix(args.output) not in (".nii", ".nii.gz") and time_series(args.input):
        args.error("OUT: Several time points can be written as .nii or .nii.gz; choose one of these endings.")


def _secret_from(args: argparse.Namespace) -> tuple[bytes | None, str]:
    """The secret, made where it is missing, and the patient of a volume; wrong usage where nothing says whose it is."""
    from ..private import make_secret

    found = re.findall(r"(?:^|[/\\_])sub-([A-Za-z0-9]+)", str(args.input))
    patient = args.patient or (found[-1] if found else "")
    if args.secret and not patient:
        args.error("argument --secret: goes with --patient ID here, since a volume does not say whose it is")
    return make_secret(args.secret) if args.secret else None, patient


def _run_dicom(args: argparse.Namespace) -> int:
    """A DICOM series in, a DICOM series out."""
    from ..dicom.deface import check_table
    from ..dicom.pseudonyms import TABLE
    from ..files import check_folder, check_writable, written_whole
    from ..pipeline import deface
    from ..private import SECRET, left_with_a_result, make_private_folder, make_secret, private_folder
    from ..segmenters import check_ready
    from ..structures import read_all
    from ..study.folder import deface_folder
    from ..study.volumes import deface_with_mask, read_mask

    for name in ("mask", "patient", "companion"):
        if getattr(args, name):
            args.error(f"argument --{name}: goes with a volume as OUT")
    report_path = args.report or args.output.with_name(args.output.name + ".json")
    parameters = parameters_from(args)
    try:
        check_folder(args.output)
        check_writable(args.output)
    except OutputError as error:
        args.error(f"OUT: {error}")
    check_outputs(args, None, {"report": report_path}, args.overwrite)
    check_ready(parameters.segmenter, parameters.choice)
    retain, table = retained_from(args), None
    private = args.private or private_folder(args.output)
    how = partial(deface_with_mask, face_mask=read_mask(args.apply_mask)) if args.apply_mask else deface
    with (
        left_with_a_result(private),
        Progress() as progress,
        written_whole(report_path, overwrite=args.overwrite) as (part,),
    ):
        if retain is not None:
            table = private / TABLE
            check_table(table, args.output)
            make_private_folder(private)
            args.secret = args.secret or private / SECRET
        secret = make_secret(args.secret) if args.secret else None
        choices = dict(
            secret=secret,
            retain=retain,
            table=table,
            take_along=args.take_along,
            kept=read_all(args.keep),
            no_text=args.no_text,
            how=how,
            audit=AUDITS.get(args.audit, ""),
        )
        report = deface_folder(args.input, args.output, parameters, series=args.series, **choices, progress=progress)
        save_report(report, part)
    tell(report)
    return 3 if report.get("refused") else 0
