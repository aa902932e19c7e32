"""A DICOM series goes in, the same series without the face comes out: one file per file, in its true geometry."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ..audits import hold_back
from ..errors import InputError, OutputError
from ..files import check_folder, written_folder
from ..pipeline import DefaceParameters, DefaceResult, deface
from ..progress import IsCancelled, Progress, never, part, silent, stop_if
from ..removal.keep import Structure
from .burned_in import check_reader
from .defaced_stack import DefacedStack, Look, deface_stacks, is_checked, look_away
from .files import OTHER_IMAGES, quietly, read_dataset
from .headers import Cleaner
from .pseudonyms import Pseudonyms
from .references import documents_in, referring, without_face
from .stack import read_stack, stored_values, to_words, words_of
from .tree import Series, Tree, choose_series, read_tree, tree_of
from .write import CLEAN_PIXELS, add_method, mark_derived, replace_uids, save, set_pixels

if TYPE_CHECKING:
    import pydicom

WRITERS = 4
"""Files written at a time: compressing and copying take turns with the disk."""


def deface_series(
    source: str | os.PathLike,
    output: str | os.PathLike,
    parameters: DefaceParameters | None = None,
    *,
    series: str = "",
    tree: Tree | None = None,
    secret: bytes | None = None,
    retain: Collection[str] | None = None,
    table: str | os.PathLike | None = None,
    take_along: bool = False,
    kept: Sequence[Structure] = (),
    no_text: bool = False,
    how: Callable[..., DefaceResult] = deface,
    look: Look = look_away,
    progress: Progress | None = None,
    cancelled: IsCancelled | None = None,
) -> dict:
    """Deface one DICOM CT series into a folder, which appears when all of it is there.

    Parameters
    ----------
    source: path
        Folder, searched with its sub-folders.
    output: path
        Folder to make; it must not exist, or be empty.
    parameters: DefaceParameters, optional
        Choices of the defacing.
    series: str
        Number or UID of the series where there are several.
    tree: Tree, optional
        What the folder holds, where that was read before.
    secret: bytes, optional
        Makes UIDs, pseudonyms and all that is random the same in every run; random when None.
    retain: collection of str, optional
        Clean the headers of all that tells who the patient is, but for these, see :data:`.dicom.headers.RETAIN`;
        None leaves the headers as they are but for what was done to the pixels.
    table: path, optional
        CSV file, not in the output, that takes what stands for what when headers are cleaned.
    take_along: bool
        Structure sets, segmentations, doses, plans and the like of the series, too, without what shows the face.
    kept: sequence of Structure
        What must stay, see :func:`.pipeline.deface`.
    no_text: bool
        Look for text that is burned into the pixels, and refuse the series where there is some.
    how: callable
        What defaces a volume: :func:`.pipeline.deface`, or the same with more that it is told.
    look: callable
        As of :func:`.defaced_stack.deface_stacks`.
    progress, cancelled: callable, optional
        See :mod:`.progress`.

    Returns
    -------
    dict
        The report of :func:`.pipeline.deface` with, further, ``files`` (number written), ``taken_along`` and
        ``left_out`` (what else the source holds). Where a series has several stacks, the numbers of the worst.

    Raises
    ------
    InputError, NoFaceError
        When a file is damaged, there is not one CT series, or it shows no face.
    FaceLeftError
        When ``look`` audits it, and the face is still found.
    OutputError
        When the folder exists or cannot be written.
    """
    check_folder(output)
    check_table(table, output)
    if retain is not None:
        Cleaner(retain, Pseudonyms())  # says now what is wrong with the choice
    if no_text:
        check_reader()
    progress = progress or silent
    tree = tree or read_tree(source, part(progress, 0.0, 0.1))
    chosen = choose_series(tree, series)
    defaced, report = deface_stacks(
        chosen,
        parameters or DefaceParameters(),
        part(progress, 0.1, 0.8),
        cancelled,
        look,
        partial(how, kept=kept, secret=secret, patient=chosen.patient or chosen.study),
        no_text,
    )
    hold_back(report)
    documents = {path: read_dataset(path) for path in (referring(documents_in(tree), chosen) if take_along else ())}
    new = uids_of(documents.values())
    prepare = HeaderWriter(chosen.uids | new, secret, is_checked(report), retain, no_text)
    with written_folder(output) as folder:
        write_series(chosen, defaced, folder, prepare, part(progress, 0.8, 1.0), cancelled)
        whole = {path: (document, defaced) for path, document in documents.items()}
        taken, removed = write_documents(whole, folder, prepare)
        report["notes"] += removed
        if table and retain is not None:
            prepare.pseudonyms.append_to(Path(table))
    counts = {"files": len(chosen.files) + len(taken), "left_out": tree.left_out(chosen, taken)}
    return {**report, **counts, "taken_along": tree.kinds_of(taken)}


def write_defaced_volume(
    files: list[str],
    original: np.ndarray,
    defaced: np.ndarray,
    output: str | os.PathLike,
    *,
    checked: bool,
    secret: bytes | None = None,
    retain: Collection[str] | None = None,
    table: str | os.PathLike | None = None,
    progress: Progress = silent,
) -> dict:
    """Write a volume that was loaded from DICOM files and defaced elsewhere, such as in 3D Slicer, as DICOM again.

    Parameters
    ----------
    files: list of str
        What the volume was loaded from.
    original, defaced: numpy.ndarray
        HU, or the values of another modality; shape (slices, rows, columns), slices in either order; what differs is
        written.
    output, secret, retain, table
        As in :func:`deface_series`.
    checked: bool
        The checks of the defacing found nothing wrong.

    Returns
    -------
    dict
        ``files`` (number), ``series`` and ``instances`` (new UIDs), ``study`` and ``patient`` (UID and ID, new ones
        where the headers were ``cleaned``).

    Raises
    ------
    InputError
        When the original is not what the files hold: it was cropped, resampled or edited.
    """
    check_folder(output)
    check_table(table, output)
    series = choose_series(tree_of(sorted(files), part(progress, 0.0, 0.1), OTHER_IMAGES))
    stack = series.stacks[0]
    hu = sitk.GetArrayViewFromImage(image := read_stack(stack, part(progress, 0.1, 0.4)))
    order = next((step for step in (1, -1) if original.shape == hu.shape and _is_same(original[::step], hu)), 0)
    if len(series.stacks) > 1 or not order:
        raise InputError(
            "The volume is not what its DICOM files hold: it was cropped, resampled or edited. Load the series again, "
            "or export a volume file."
        )
    del image
    region = (original != defaced)[::order]
    if not region.any():
        raise InputError("Nothing was removed from the volume: deface it first.")
    values = [plane[here] for plane, here in zip(defaced[::order], region)]
    prepare = HeaderWriter(series.uids, secret, checked, retain)
    pseudonyms = prepare.pseudonyms
    with written_folder(output) as folder:
        write_series(series, [DefacedStack(stack, region, values)], folder, prepare, part(progress, 0.4, 1.0))
        if table and retain is not None:
            pseudonyms.append_to(Path(table))
    return {
        "files": len(series.files),
        "series": pseudonyms.uid(series.uid),
        "instances": [pseudonyms.uid(series.instances[path]) for path in series.files],
        "study": pseudonyms.uid(series.study),
        "patient": next((new for (kind, _), new in pseudonyms.used.items() if kind == "patient"), series.patient),
        "cleaned": retain is not None,
    }


def _is_same(volume: np.ndarray, hu: np.ndarray) -> bool:
    """Whether both hold the same Hounsfield units, as far as rounding tells."""
    return all(np.abs(a.astype(np.float32) - b).max() <= 0.5 for a, b in zip(volume, hu))


class HeaderWriter:
    """Brings the header of a slice into the state of its defaced counterpart.

    Parameters
    ----------
    new: collection of str
        UIDs of what is defaced, which gets new ones whatever becomes of the others.
    secret, retain
        As in :func:`deface_series`.
    checked: bool
        The face is gone and the checks found nothing wrong.
    no_text: bool
        It was looked for text in the pixels, and there is none.
    pseudonyms: Pseudonyms, optional
        Those of the other series of a study, so that all references fit.

    Attributes
    ----------
    pseudonyms: Pseudonyms
        What was replaced.
    """

    def __init__(
        self,
        new: Collection[str],
        secret: bytes | None,
        checked: bool,
        retain: Collection[str] | None,
        no_text: bool = False,
        pseudonyms: Pseudonyms | None = None,
    ):
        others_stay = retain is None or "uids" in retain
        self.pseudonyms = pseudonyms or Pseudonyms(secret, only=new if others_stay else None)
        self._checked, self._no_text = checked, no_text
        self._cleaner = None if retain is None else Cleaner(retain, self.pseudonyms)

    def __call__(self, dataset: pydicom.Dataset) -> None:
        hide = self.pseudonyms.source
        source = str(dataset.SOPClassUID), hide(str(dataset.SOPInstanceUID)), hide(str(dataset.SeriesInstanceUID))
        self.document(dataset)
        mark_derived(dataset, source, self._checked)
        if self._no_text:
            dataset.BurnedInAnnotation = "NO"
            add_method(dataset, *CLEAN_PIXELS)

    def document(self, dataset: pydicom.Dataset) -> None:
        """As calling it, for what is no image."""
        if self._cleaner:
            self._cleaner.clean(dataset, self._checked)
        else:
            replace_uids(dataset, self.pseudonyms)


def uids_of(documents: Iterable[pydicom.Dataset]) -> set[str]:
    """Of files that are taken along: what gets new UIDs."""
    return {str(uid) for one in documents for uid in (one.SOPInstanceUID, one.SeriesInstanceUID)}


@quietly()
def write_documents(
    documents: dict[str, tuple[pydicom.Dataset, list[DefacedStack]]], folder: Path, prepare: HeaderWriter
) -> tuple[list[str], list[str]]:
    """Write what is taken along without the face; which files these are, and sentences on what was left out.

    Each comes with the stacks that it refers to.
    """
    taken: list[str] = []
    notes: list[str] = []
    for path, (document, defaced) in documents.items():
        is_report = "ContentSequence" in document
        removed = without_face(document, defaced)
        if removed != "all":
            prepare.document(document)
            if is_report and not document.get("ContentSequence"):  # the profile leaves nothing of what it says
                continue
            taken.append(path)
            save(document, folder / f"REF{len(taken):03}.dcm")
            notes += [f"{removed.capitalize()}."] * bool(removed)
    return taken, notes


@quietly()
def write_series(
    series: Series,
    defaced: list[DefacedStack],
    folder: Path,
    finish_header: Callable[[pydicom.Dataset], None],
    progress: Progress = silent,
    cancelled: IsCancelled | None = None,
) -> None:
    """Write each file of a series into a folder under a number, its header as ``finish_header`` leaves it."""
    places: dict[str, list[tuple[int, DefacedStack, int]]] = {}
    for one in defaced:
        for index, piece in enumerate(one.stack.slices):
            places.setdefault(piece.path, []).append((piece.frame, one, index))

    def write(number: int, path: str) -> None:
        dataset = read_dataset(path)
        words = words_of(dataset)
        for frame, one, index in places[path]:
            here = one.region[index]
            if here.any():
                new = one.values[index] - one.offset
                words[frame][here] = to_words(new, one.stack.slices[index], dataset, words.dtype)
        try:
            set_pixels(dataset, words, stored_values(words, dataset))
            finish_header(dataset)
            save(dataset, folder / f"IM{number:05}.dcm")
        except OSError:
            raise
        except Exception as error:  # pydicom meets odd values with errors of many kinds
            raise InputError("A DICOM header holds values that cannot be written; export the series again.") from error

    with ThreadPoolExecutor(WRITERS) as pool:
        jobs = [pool.submit(write, number, path) for number, path in enumerate(places, 1)]
        try:
            for number, job in enumerate(jobs, 1):
                stop_if(cancelled or never)
                job.result()
                if number % 20 == 0:
                    progress(number / len(jobs), "Writing")
        finally:
            for job in jobs:
                job.cancel()


def check_table(table: str | os.PathLike | None, output: str | os.PathLike) -> None:
    """Refuse a table of pseudonyms in the folder that is shared (OutputError)."""
    if table is not None and Path(output).resolve() in Path(table).resolve().parents:
        raise OutputError("The table of pseudonyms must not lie in the output folder, which can be shared.")
