"""Deface all series of a patient with one new skin: what was found in one CT is applied to all that can take it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..audits import check_audit, hold_back
from ..dicom.burned_in import check_reader
from ..dicom.deface import HeaderWriter, check_table, uids_of, write_documents, write_series
from ..dicom.defaced_stack import DefacedStack, deface_stacks, first_volume, is_checked
from ..dicom.files import MAY_HOLD_CT, OTHER_IMAGES, read_dataset
from ..dicom.headers import Cleaner
from ..dicom.pseudonyms import Pseudonyms
from ..dicom.references import documents_in, referring
from ..dicom.tree import Series, Tree, read_tree
from ..errors import FaceLeftError, InputError, NoFaceError
from ..files import check_folder, written_folder
from ..parameters import DefaceParameters
from ..pipeline import DefaceResult, deface
from ..progress import IsCancelled, Progress, part, silent
from ..removal.keep import Structure
from .apply import CT, Face
from .audit import auditing
from .follow import Follow, Lead
from .plan import best_first, have_one_frame, patient_of
from .reference import beginnings
from .register import Pose

NO_CT = "The study has no CT series in which a head was found, so no face can be found in it; nothing was written."


def read_study(folder: str | os.PathLike, progress: Progress = silent) -> Tree:
    """All series of CT, MR and PET below a folder; captures and the like are told as left out."""
    tree = read_tree(folder, progress, OTHER_IMAGES)
    scans = [one for one in tree.series if one.kind not in MAY_HOLD_CT]
    captures = [(one.kind, path) for one in tree.series if one not in scans for path in one.files]
    return Tree(scans, [*tree.others, *captures])


def deface_study(
    tree: Tree,
    output: str | os.PathLike,
    parameters: DefaceParameters | None = None,
    *,
    secret: bytes | None = None,
    retain: Collection[str] | None = None,
    table: str | os.PathLike | None = None,
    take_along: bool = False,
    kept: Sequence[Structure] = (),
    no_text: bool = False,
    audit: str = "",
    how: Callable[..., DefaceResult] = deface,
    progress: Progress | None = None,
    cancelled: IsCancelled | None = None,
) -> dict[str, Any]:
    """Deface all series of one patient into a folder with a folder for each, which appears when all of it is there.

    Parameters
    ----------
    tree: Tree
        The series, from :func:`read_study`.
    output, parameters, secret, retain, table, take_along, kept, no_text
        As in :func:`.dicom.deface.deface_series`. What must stay lies in the space of the CT in which the head is seen
        best.
    audit: str
        ``"module:function"`` that looks for the face in each series, see :mod:`.audits`; one in which it is still found
        is refused.
    how: callable
        What defaces that CT: :func:`.pipeline.deface`, or the same with more that it is told.

    Returns
    -------
    dict
        The report of the CT that the face was found in, with ``series`` (for each its ``name``, ``folder`` and report),
        ``refused`` (for each its ``name``, and ``why``), ``left_out``, ``notes`` and ``warnings`` of all.

    Raises
    ------
    InputError
        When the series are of several patients, or a header cannot be cleaned as chosen.
    NoFaceError
        When no head is found in any CT.
    FaceLeftError
        When the audit still finds the face in all of them.
    OutputError
        When the folder exists or cannot be written.
    """
    check_folder(output)
    check_table(table, output)
    if retain is not None:
        Cleaner(retain, Pseudonyms())  # says now what is wrong with the choice
    if no_text:
        check_reader()
    if audit:
        check_audit(audit)
    progress, parameters = progress or silent, parameters or DefaceParameters()
    patient = patient_of(tree.series)
    lead = partial(Lead, secret, patient, kept, how)
    refused: list[dict[str, str]] = []

    def one(series: Series, how: Lead | Follow, progress: Progress) -> Done:
        return deface_stacks(series, parameters, progress, cancelled, auditing(audit, series.modality), how, no_text)

    begun = _find_face(tree, lead, one, part(progress, 0.0, 0.4))
    documents = _documents(tree, take_along)
    new = {uid for one in tree.series for uid in one.uids}
    new |= uids_of(document for document, _ in documents.values())
    names = _folders(tree.series)
    order = [begun.series, *(one for one in tree.series if one is not begun.series)]
    reports: list[dict[str, Any]] = []
    kept_stacks: dict[str, list[DefacedStack]] = {}
    pseudonyms: Pseudonyms | None = None
    with written_folder(output) as folder:
        for number, series in enumerate(sorted(order, key=begun.is_further_ct)):
            step = part(progress, 0.4 + 0.6 * number / len(order), 0.4 + 0.6 * (number + 1) / len(order))
            if begun.is_further_ct(series):  # from now on nobody needs the values of the first
                begun.face = begun.face.for_cts(parameters)
            try:
                defaced, report = _apply(begun, series, one, part(step, 0.0, 0.7))
                hold_back(report)
            except (InputError, NoFaceError, FaceLeftError) as error:
                refused.append({"name": series.name, "why": str(error)})
                continue
            prepare = HeaderWriter(new, secret, is_checked(report), retain, no_text, pseudonyms)
            pseudonyms = prepare.pseudonyms
            (folder / names[series.uid]).mkdir()
            write_series(series, defaced, folder / names[series.uid], prepare, part(step, 0.7, 1.0), cancelled)
            reports.append({"name": series.name, "folder": names[series.uid], **report})
            if any(series.uid in uids for _, uids in documents.values()):
                kept_stacks[series.uid] = defaced
            del defaced  # the next series takes its place in memory
        places = [one.name for one in order]
        for found in (reports, refused):
            found.sort(key=lambda one: places.index(one["name"]))
        if not reports:
            raise FaceLeftError(refused[0]["why"])
        prepare = HeaderWriter(new, secret, True, retain, no_text, pseudonyms)
        with_stacks = {
            path: (document, [stack for uid in uids if uid in kept_stacks for stack in kept_stacks[uid]])
            for path, (document, uids) in documents.items()
        }
        shown = {path: (document, stacks) for path, (document, stacks) in with_stacks.items() if stacks}
        taken, removed = write_documents(shown, folder, prepare)
        if table and retain is not None:
            prepare.pseudonyms.append_to(Path(table))
    return {"face_from": begun.series.name, **_joined(tree, reports, refused, taken, removed)}


Done = tuple[list[DefacedStack], dict[str, Any]]
"""What the files of a series get, and its report."""

One = Callable[[Series, Lead | Follow, Progress], Done]
"""Defaces a series."""


@dataclass
class _Begun:
    """The series that the face was found in.

    Attributes
    ----------
    series: Series
    face: Face
        What was found.
    done: tuple or None
        What its files get, and the report, until that is written.
    poses: dict
        UID of another CT series → where the head lies in it; as far as it was looked for.
    """

    series: Series
    face: Face
    done: Done | None
    poses: dict[str, Pose | None]

    def is_further_ct(self, series: Series) -> bool:
        """Whether it is a CT besides that one."""
        return series is not self.series and series.modality == CT


def _find_face(tree: Tree, lead: Callable[..., Lead], one: One, progress: Progress) -> _Begun:
    """The CT series in which the head is seen best, of those with the head of most; and what was found in it.

    Those in which none is found are not refused for that: another one may show where it lies in them.
    """
    for series, seen in beginnings(best_first(tree.series), first_volume, have_one_frame):
        leading = lead(cylinder=seen.cylinder if seen else None)
        try:
            done = one(series, leading, progress)
        except (InputError, NoFaceError):
            continue
        assert leading.face is not None
        return _Begun(series, leading.face, done, {one.uid: pose for one, pose in seen.poses} if seen else {})
    raise NoFaceError(NO_CT)


def _apply(begun: _Begun, series: Series, one: One, progress: Progress) -> Done:
    """What the files of a series get, and the report; the frame of a scanner, as of a PET/CT, is believed."""
    if series is begun.series and begun.done is not None:
        done, begun.done = begun.done, None
        return done
    follow = Follow(
        begun.face,
        series.modality,
        have_one_frame(begun.series, series),
        trusted=series.modality != CT,
        before=begun.poses.get(series.uid),
        is_known=series.uid in begun.poses,
    )
    return one(series, follow, progress)


def _documents(tree: Tree, take_along: bool) -> dict[str, tuple[Any, list[str]]]:
    """What is taken along of the study, each with the UIDs of the series that it belongs to."""
    found: dict[str, tuple[Any, list[str]]] = {}
    for series in tree.series if take_along else ():
        for path in referring(documents_in(tree), series):
            found.setdefault(path, (read_dataset(path), []))[1].append(series.uid)
    return found


def _folders(series: Sequence[Series]) -> dict[str, str]:
    """UID of each series → name of its folder: by its number, and by its place in the study where others share that."""
    often = Counter(one.number for one in series)
    return {
        one.uid: f"series-{one.number:03}" if one.number >= 0 and often[one.number] == 1 else f"series-x{place:03}"
        for place, one in enumerate(series, 1)
    }


def _joined(
    tree: Tree,
    reports: list[dict[str, Any]],
    refused: list[dict[str, str]],
    taken: list[str],
    removed: list[str],
) -> dict[str, Any]:
    """The report of a study: that of its first series, and what is to be said of all."""

    def of_all(key: str) -> list[str]:
        return list(dict.fromkeys(text for report in reports for text in report[key]))

    return {
        **{key: value for key, value in reports[0].items() if key not in ("name", "folder")},
        "notes": [*of_all("notes"), *removed],
        "warnings": of_all("warnings"),
        "intracranial_voxels_touched": sum(report["intracranial_voxels_touched"] for report in reports),
        "seconds": round(sum(report["seconds"] for report in reports), 2),
        "series": reports,
        "refused": refused,
        "taken_along": tree.kinds_of(taken),
        "left_out": tree.kinds_of({path for _, path in tree.others} - set(taken)),
    }
