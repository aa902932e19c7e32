"""A DICOM series goes in, the same series without the face comes out: one file per file, in its true geometry."""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk

from ..anatomy.grids import bounding_box, on_image_grid
from ..errors import Cancelled, InputError, NoFaceError, OutputError
from ..pipeline import DefaceParameters, DefaceResult, Progress, deface
from ..removal.fill import fill_region
from ..volume_io import in_hounsfield
from .even_series import quietly
from .headers import Cleaner
from .pseudonyms import Pseudonyms
from .references import referring, without_face
from .stack import (
    is_regular,
    oddities,
    on_regular_grid,
    read_dataset,
    read_stack,
    slice_images,
    stored_values,
    to_slices,
    to_words,
    words_of,
)
from .tree import Series, Stack, choose_series, read_tree, tree_of
from .write import mark_derived, replace_uids, save, set_pixels

if TYPE_CHECKING:
    import pydicom

WRITERS = 4  # files written at a time
BURNED_IN = "The images say that text is burned into their pixels: look at them before you share them."


@dataclass(frozen=True)
class DefacedStack:
    """What takes the place of the face in one stack.

    Attributes
    ----------
    stack: Stack
    region: numpy.ndarray
        Bool, shape (slices, rows, columns): what is replaced.
    values: list of numpy.ndarray
        HU of what is replaced, one array for each slice in the order of its voxels.
    offset: float
        HU that the values lack against those of the files (a lost rescale intercept).
    """

    stack: Stack
    region: np.ndarray
    values: list[np.ndarray]
    offset: float = 0.0


def deface_series(
    source: str | os.PathLike,
    output: str | os.PathLike,
    parameters: DefaceParameters | None = None,
    *,
    series: str = "",
    secret: bytes | None = None,
    retain: Collection[str] | None = None,
    table: str | os.PathLike | None = None,
    take_along: bool = False,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict:
    """Deface one DICOM CT series into a folder, which appears when all of it is there.

    Parameters
    ----------
    source: folder, searched with its sub-folders
    output: folder to make; it must not exist, or be empty
    parameters: choices of the defacing
    series: number or UID of the series where there are several
    secret: makes UIDs and pseudonyms the same in every run; random when None
    retain: clean the headers of all that tells who the patient is, but for these, see :data:`.dicom.headers.RETAIN`;
        None leaves the headers as they are but for what was done to the pixels
    table: CSV file, not in the output, that takes what stands for what when headers are cleaned
    take_along: structure sets and segmentations that refer to the series, too, without what shows the face

    Returns
    -------
    dict
        The report of :func:`.pipeline.deface` with, further, ``files`` (number written) and ``left_out`` (what else
        the source holds). Where a series has several stacks, the numbers of the worst.

    Raises
    ------
    InputError, NoFaceError
        when a file is damaged, there is not one CT series, or it shows no face
    OutputError
        when the folder exists or cannot be written
    """
    check_folder(output)
    check_table(table, output)
    if retain is not None:
        Cleaner(retain, Pseudonyms())  # says now what is wrong with the choice
    progress = progress or (lambda fraction, text: None)
    tree = read_tree(source, _part(progress, 0.0, 0.1))
    chosen = choose_series(tree, series)
    defaced, report = deface_stacks(chosen, parameters or DefaceParameters(), _part(progress, 0.1, 0.8), cancelled)
    documents = {path: read_dataset(path) for path in (referring(tree, chosen) if take_along else ())}
    new = {str(uid) for one in documents.values() for uid in (one.SOPInstanceUID, one.SeriesInstanceUID)}
    prepare = HeaderWriter(chosen.uids | new, secret, is_checked(report), retain)
    with written_folder(output) as part:
        write_series(chosen, defaced, part, prepare, _part(progress, 0.8, 1.0), cancelled)
        taken = []
        with quietly():
            for path, document in documents.items():
                removed = without_face(document, defaced)
                if removed != "all":
                    prepare.document(document)
                    taken.append(path)
                    save(document, part / f"REF{len(taken):03}.dcm")
                    report["notes"] += [f"{removed.capitalize()}."] * bool(removed)
        if table and retain is not None:
            prepare.pseudonyms.append_to(Path(table))
    return {**report, "files": len(chosen.files) + len(taken), "left_out": tree.left_out(chosen, taken)}


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
    progress: Progress = lambda fraction, text: None,
) -> dict:
    """Write a volume that was loaded from DICOM files and defaced elsewhere, such as in 3D Slicer, as DICOM again.

    Parameters
    ----------
    files: what the volume was loaded from
    original, defaced: HU, shape (slices, rows, columns), slices in either order; what differs is written
    output: as in :func:`deface_series`, like ``secret``, ``retain`` and ``table``
    checked: the checks of the defacing found nothing wrong

    Returns
    -------
    dict
        ``files`` (number), ``series`` and ``instances`` (new UIDs), ``study`` and ``patient`` (UID and ID, new ones
        where the headers were ``cleaned``).

    Raises
    ------
    InputError
        when the original is not what the files hold: it was cropped, resampled or edited
    """
    check_folder(output)
    check_table(table, output)
    series = choose_series(tree_of(sorted(files), _part(progress, 0.0, 0.1)))
    stack = series.stacks[0]
    hu = sitk.GetArrayViewFromImage(image := read_stack(stack, _part(progress, 0.1, 0.4)))
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
    with written_folder(output) as part:
        write_series(series, [DefacedStack(stack, region, values)], part, prepare, _part(progress, 0.4, 1.0))
        if table and retain is not None:
            pseudonyms.append_to(Path(table))
    return {
        "files": len(series.files),
        "series": pseudonyms.uid(series.uid),
        "instances": [pseudonyms.uid(series.instances[path]) for path in series.files],
        "study": pseudonyms.uid(series.study),
        "patient": series.patient if retain is None else pseudonyms.patient(series.patient),
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
    secret, retain: as in :func:`deface_series`
    checked: the face is gone and the checks found nothing wrong

    Attributes
    ----------
    pseudonyms: Pseudonyms
        What was replaced.
    """

    def __init__(self, new: Collection[str], secret: bytes | None, checked: bool, retain: Collection[str] | None):
        others_stay = retain is None or "uids" in retain
        self.pseudonyms = Pseudonyms(secret, only=new if others_stay else None)
        self._checked = checked
        self._cleaner = None if retain is None else Cleaner(retain, self.pseudonyms)

    def __call__(self, dataset: pydicom.Dataset) -> None:
        hide = self.pseudonyms.source
        source = str(dataset.SOPClassUID), hide(str(dataset.SOPInstanceUID)), hide(str(dataset.SeriesInstanceUID))
        self.document(dataset)
        mark_derived(dataset, source, self._checked)

    def document(self, dataset: pydicom.Dataset) -> None:
        """As calling it, for what is no image."""
        if self._cleaner:
            self._cleaner.clean(dataset, self._checked)
        else:
            replace_uids(dataset, self.pseudonyms)


def deface_stacks(
    series: Series,
    parameters: DefaceParameters,
    progress: Progress = lambda fraction, text: None,
    cancelled: Callable[[], bool] | None = None,
    look: Callable[[sitk.Image, DefaceResult], None] = lambda image, result: None,
) -> tuple[list[DefacedStack], dict]:
    """Deface all stacks of a series. Those without a face are an error, since they would be missing from the output.

    ``look`` is shown the volume of each stack, on a regular grid, and the result; the report has ``notes`` on what is
    odd about the series.
    """
    defaced, reports = [], []
    for number, stack in enumerate(series.stacks):
        step = _part(progress, number / len(series.stacks), (number + 1) / len(series.stacks))
        notes = oddities(stack) + [BURNED_IN] * series.burned_in
        image = read_stack(stack, _part(step, 0.0, 0.15))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            if is_regular(stack):
                original, image = image, in_hounsfield(image)
                offset = _offset(original, image)
                del original
                result = deface(image, parameters, progress=_part(step, 0.15, 1.0), cancelled=cancelled)
                look(image, result)
                del image  # a copy of the region takes its place in memory
                region = sitk.GetArrayViewFromImage(result.region) > 0
                filled = result.image
            else:
                original = on_regular_grid(stack, image)
                grid = in_hounsfield(original)
                offset = _offset(original, grid)
                result = deface(grid, parameters, progress=_part(step, 0.15, 0.9), cancelled=cancelled)
                look(grid, result)
                region, filled = _filled_slices(stack, image + offset, result, parameters)
                _count_touched(stack, region, result)
        notes += [str(message.message) for message in caught if message.category is UserWarning]
        reports.append({**result.report, "notes": notes})
        values = [plane[here] for plane, here in zip(sitk.GetArrayViewFromImage(filled), region)]
        defaced.append(DefacedStack(stack, region, values, offset))
    return defaced, _joined(reports)


def _offset(original: sitk.Image, image: sitk.Image) -> float:
    return float(image[0, 0, 0] - original[0, 0, 0])


def _filled_slices(
    stack: Stack, image: sitk.Image, result: DefaceResult, parameters: DefaceParameters
) -> tuple[np.ndarray, sitk.Image]:
    """Region and filled volume on the slices themselves."""
    region = to_slices(result.region, stack)
    mask = sitk.GetImageFromArray(region.astype(np.uint8))
    mask.CopyInformation(image)
    if bounding_box(mask) is None:
        raise NoFaceError("The face lies between the slices of this series; nothing was changed.")
    filled = fill_region(
        image,
        mask,
        fill=parameters.fill,
        constant=parameters.constant,
        percentile=parameters.percentile,
        blur_mm=parameters.blur_mm,
        seed=parameters.seed,
    )
    return region, filled


def _count_touched(stack: Stack, region: np.ndarray, result: DefaceResult) -> None:
    """Count intracranial voxels of the slices themselves."""
    head = result.cylinder.head
    touched = sum(
        int(np.count_nonzero(here & on_image_grid(head.intracranial - 0.5, head, place)[0]))
        for here, place in zip(region, slice_images(stack))
        if here.any()
    )
    result.report["intracranial_voxels_touched"] += touched
    if touched:
        result.report["warnings"].append(f"{touched} intracranial voxels were touched: do not use this result.")


def _joined(reports: list[dict]) -> dict:
    """One report of several stacks: the worst numbers, and all that is to be said."""
    joined = dict(max(reports, key=lambda report: len(report["warnings"])))
    for key in ("intracranial_voxels_touched", "seconds"):
        joined[key] = sum(report[key] for report in reports)
    joined["facial_skin_covered"] = min(report["facial_skin_covered"] for report in reports)
    joined["warnings"] = list(dict.fromkeys(text for report in reports for text in report["warnings"]))
    joined["notes"] = list(dict.fromkeys(text for report in reports for text in report["notes"]))
    return joined


def is_checked(report: dict) -> bool:
    """Whether the checks of a defacing found nothing wrong."""
    return not report["warnings"] and report["intracranial_voxels_touched"] == 0


@quietly()
def write_series(
    series: Series,
    defaced: list[DefacedStack],
    folder: Path,
    finish_header: Callable[[pydicom.Dataset], None],
    progress: Progress = lambda fraction, text: None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Write each file of a series into a folder under a number, its header as ``finish_header`` leaves it."""
    places: dict[str, list[tuple[int, DefacedStack, int]]] = {}
    for part in defaced:
        for index, piece in enumerate(part.stack.slices):
            places.setdefault(piece.path, []).append((piece.frame, part, index))

    def write(number: int, path: str) -> None:
        dataset = read_dataset(path)
        words = words_of(dataset)
        for frame, part, index in places[path]:
            here = part.region[index]
            if here.any():
                new = part.values[index] - part.offset
                words[frame][here] = to_words(new, part.stack.slices[index], dataset, words.dtype)
        set_pixels(dataset, words, stored_values(words, dataset))
        try:
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
                if cancelled and cancelled():
                    raise Cancelled("The work was cancelled; nothing was changed.")
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


def check_folder(output: str | os.PathLike) -> None:
    """Refuse an output folder that holds something, or whose own folder is missing (OutputError)."""
    output = Path(output)
    if output.is_file() or output.is_dir() and any(os.scandir(output)):
        raise OutputError("The output folder exists already and is not empty; choose another name.")
    if not output.absolute().parent.is_dir():
        raise OutputError("The folder of the output does not exist; make it or choose another one.")


@contextmanager
def written_folder(output: str | os.PathLike) -> Iterator[Path]:
    """A temporary folder beside `output` that takes its name when the block ends well, and is deleted otherwise."""
    output = Path(os.path.abspath(output))
    check_folder(output)
    part = output.with_name(f".{secrets.token_hex(8)}.part")
    try:
        part.mkdir()
        yield part
        check_folder(output)
        if output.is_dir():
            output.rmdir()
        os.replace(part, output)
    except OSError as error:
        raise OutputError(f"The output could not be written: {error.strerror or type(error).__name__}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _part(progress: Progress, start: float, stop: float) -> Progress:
    """Progress of a part of the work."""
    return lambda fraction, text: progress(start + fraction * (stop - start), text)
