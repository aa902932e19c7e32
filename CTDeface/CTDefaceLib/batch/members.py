"""One scan of a batch while it is worked on: how it is read, and what writes it when it is defaced."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..dicom.deface import HeaderWriter, write_documents, write_series
from ..dicom.defaced_stack import Look, deface_stacks, first_volume, is_checked
from ..dicom.files import OTHER_IMAGES, read_dataset
from ..dicom.references import KEPT_KINDS, referring
from ..dicom.tree import Series, Tree, choose_series, tree_of
from ..dicom.volume import volume_of
from ..errors import InputError
from ..nifti_geometry import Geometry
from ..parameters import DefaceParameters
from ..pipeline import DefaceResult
from ..private import make_private_folder
from ..removal.keep import Structure
from ..scan import Scan, check_grid, in_hounsfield
from ..stored_data import suffix
from ..study.apply import CT
from ..study.follow import Follow, Lead
from ..study.plan import head_rank, series_rank
from ..study.time_series import TimeSeries, time_points, time_series, write_time_series
from ..study.volumes import TAKEN_APART, modality_in, modality_in_name
from ..volume_io import NIFTI, read_placed, read_scan, read_stored, save_volume
from .found_scan import folders_of
from .job import DICOM, Job
from .keeping import NothingToKeepError, kept_structures
from .pet import pet_fields

Kept = tuple[list[Structure], list[str]]
"""What must stay in a scan, and sentences on what was not found for it."""

Made = tuple[dict[str, Any], Callable[[Path], None]]
"""The report of a scan, and what writes its result under a name."""


@dataclass(frozen=True)
class SeriesMember:
    """A DICOM series of a job.

    Attributes
    ----------
    job: Job
    tree: Tree
        What lies in its folders.
    series: Series
    """

    job: Job
    tree: Tree
    series: Series

    @property
    def modality(self) -> str:
        return self.series.modality

    @property
    def frame(self) -> str:
        """UID of the frame of reference."""
        return self.series.frame

    @property
    def uids(self) -> set[str]:
        """Of what gets new ones."""
        return self.series.uids

    @property
    def is_frame_trusted(self) -> bool:
        """Whether what says that it lies in a frame of reference is a scanner."""
        return True

    @property
    def documents(self) -> list[str]:
        """What of its study can be taken along with it."""
        return referring(self.job.documents, self.series) if self.job.take_along else []

    def technique(self) -> dict[str, Any]:
        """What its headers say of how it was made, by the names of BIDS."""
        return pet_fields(self.series.files) if self.modality == "PT" else {}

    @property
    def rank(self) -> tuple:
        """The lower, the better the head is likely to be seen."""
        return series_rank(self.series)

    def kept(self, lead: Member | None = None) -> Kept:
        """What must stay in it.

        Parameters
        ----------
        lead: Member or None
            Another scan, whose structures stay in all: then only what this one has besides.

        Raises
        ------
        InputError
            When a file cannot be read, or nothing that must stay is found for the first (NothingToKeepError).
        """
        structures = referring(self.job.documents, self.series, KEPT_KINDS) if self.job.keep else []
        if isinstance(lead, SeriesMember):
            known = referring(self.job.documents, lead.series, KEPT_KINDS)
            structures = [path for path in structures if path not in known]
        return _kept(self.job, structures, read_stored, lead)

    def image(self) -> sitk.Image:
        """Its volume in Hounsfield units, where it is a CT, or the first of several, on a regular grid."""
        return first_volume(self.series)

    def deface(self, how: Lead | Follow, look: Look, uids: Collection[str], documents: Sequence[str] = ()) -> Made:
        """Deface it.

        Parameters
        ----------
        how: Lead or Follow
            Finds the face, or lays the skin of another scan on it.
        look: callable
            Is given each volume and what its defacing made of it.
        uids: collection of str
            Those of all of the study that get new ones.
        documents: sequence of str
            Paths of what is written with it.

        Returns
        -------
        tuple
            The report, and what writes the result under a name.

        Raises
        ------
        CTDefaceError
            When it cannot be read or defaced.
        """
        parameters = DefaceParameters(**self.job.parameters)
        if suffix(self.job.output) != DICOM:
            scan = volume_of(self.series, tuple(self.tree.left_out(self.series)))
            return _volume(scan, how(scan.image, parameters), look)
        job, retain = self.job, [name for name in self.job.retain.split(",") if name] if self.job.clean else None
        defaced, report = deface_stacks(self.series, parameters, look=look, how=how, no_text=job.no_text)
        finish = HeaderWriter(uids, job.key, is_checked(report), retain, job.no_text)

        def write(part: Path) -> None:
            part.mkdir()
            write_series(self.series, defaced, part, finish)
            shown = {path: (read_dataset(path), defaced) for path in documents}
            taken, report["notes"] = write_documents(shown, part, finish)
            report["taken_along"] = len(taken)
            if job.clean:
                make_private_folder(job.pseudonyms)
                finish.pseudonyms.append_to(Path(job.pseudonyms) / f"{job.scan}.csv")

        report["warnings"] = [*report.pop("notes"), *report["warnings"]]
        report["left_out"] = self.tree.left_out(self.series)
        return report, write


@dataclass(frozen=True)
class VolumeMember:
    """A volume file of a job; ``alone`` where it is all of it."""

    job: Job
    alone: bool

    @property
    def frame(self) -> str:
        """Nothing but the names says that files belong together, and that their heads lie in the same place."""
        return "volume files"

    @property
    def is_frame_trusted(self) -> bool:
        return False

    @property
    def uids(self) -> set[str]:
        return set()

    @property
    def documents(self) -> list[str]:
        return []

    @cached_property
    def modality(self) -> str:
        """As in DICOM: what the name or the file says, else what its values can be; CT where it stands alone."""
        named = modality_in_name(Path(self.job.path))
        return named or (CT if self.alone else modality_in(self.job.path, self._stored()[0]))

    @cached_property
    def times(self) -> TimeSeries | None:
        """Where the file holds several time points."""
        return time_series(self.job.path, **self._said)

    def technique(self) -> dict[str, Any]:
        """As of :class:`SeriesMember`; side-cars say it."""
        return {}

    @property
    def rank(self) -> tuple:
        """As of :class:`SeriesMember`."""
        image, _ = self._stored()
        upright = int(np.argmax(np.abs(image.GetDirection()[6:])))
        spacing = list(image.GetSpacing())
        gap = spacing.pop(upright)
        return head_rank(self.times is not None, image.GetSize()[upright] * gap, True, gap, spacing)

    def kept(self, lead: Member | None = None) -> Kept:
        """As of :class:`SeriesMember`."""
        return _kept(self.job, (), partial(read_stored, **self._said), lead)

    def image(self) -> sitk.Image:
        """As of :class:`SeriesMember`."""
        return self._read().image

    def deface(self, how: Lead | Follow, look: Look, uids: Collection[str], documents: Sequence[str] = ()) -> Made:
        """As of :class:`SeriesMember`."""
        job, times = self.job, self.times
        parameters = DefaceParameters(**job.parameters)
        if suffix(job.output) == DICOM:
            raise InputError("This scan is no DICOM series, so it cannot become one: choose a volume format for it.")
        if times and suffix(job.output) not in NIFTI:
            raise InputError("Several time points can be written as .nii or .nii.gz: choose one of these formats.")
        scan = self._read()
        result = how(scan.image, parameters)
        report, write = _volume(scan, result, look)
        if times is None:
            return report, write
        offset = float(scan.image[0, 0, 0] - next(time_points(times))[0, 0, 0])

        def change(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
            result = how.again(image + offset if offset else image, parameters)
            here = sitk.GetArrayViewFromImage(result.region) > 0
            return here, sitk.GetArrayViewFromImage(result.image)[here] - offset

        return {**report, "time_points": times.count}, lambda part: write_time_series(times, part, change)

    @property
    def _said(self) -> dict[str, str]:
        return {"form": self.job.form, "orientation": self.job.orientation}

    def _stored(self) -> tuple[sitk.Image, Geometry | None]:
        """The volume, or the first time point, as it is stored."""
        if self.times is not None:
            return next(time_points(self.times)), self.times.geometry
        return read_placed(self.job.path, **self._said)

    def _read(self) -> Scan:
        """The volume, or the first time point; of a CT in Hounsfield units."""
        if self.modality == CT and self.times is None:
            return read_scan(self.job.path, **self._said)
        image, geometry = self._stored()
        check_grid(image)
        notes: tuple[str, ...] = (TAKEN_APART.format(self.times.count),) if self.times else ()
        if self.modality == CT:
            image, said = in_hounsfield(image)
            return Scan(image, (*said, *notes), geometry=geometry)
        for key in image.GetMetaDataKeys():
            image.EraseMetaData(key)
        return Scan(image, notes, geometry=geometry)


Member = SeriesMember | VolumeMember


def _kept(job: Job, documents: Sequence[str], read: Callable[[Path], sitk.Image], lead: Member | None) -> Kept:
    try:
        return kept_structures(job.keep, job.path, documents, read, lead.job.path if lead else "")
    except NothingToKeepError:
        if lead is None:
            raise
        return [], []


def _volume(scan: Scan, result: DefaceResult, look: Look) -> Made:
    """Report and writer of a volume that becomes a volume file."""
    look(scan.image, result)
    report = {**result.report, "warnings": [*scan.notes, *result.report["warnings"]], "left_out": [*scan.left_out]}
    defaced, geometry = result.image, scan.geometry  # all else is not needed any more
    return report, lambda part: save_volume(defaced, part, geometry)


def members_of(jobs: Sequence[Job], refuse: Callable[[Job, Exception], None]) -> list[Member]:
    """The scans of some jobs, each folder looked at once.

    Parameters
    ----------
    jobs: sequence of Job
    refuse: callable
        Is given each job whose scan cannot be read, and the error.

    Returns
    -------
    list of Member
        The others, in their order.
    """
    trees: dict[str, Tree] = {}
    found: list[Member] = []
    for job in jobs:
        try:
            if not os.path.isdir(folders_of(job.path)[0]):
                found.append(VolumeMember(job, len(jobs) == 1))
                continue
            if job.path not in trees:
                trees[job.path] = _tree(job.path)
            found.append(SeriesMember(job, trees[job.path], choose_series(trees[job.path], job.series)))
        except Exception as error:
            refuse(job, error)
    return found


def _tree(path: str) -> Tree:
    """What lies in the folders of a scan; their sub-folders hold scans of their own."""
    entries = (e for folder in folders_of(path) for e in os.scandir(folder) if not e.name.startswith("."))
    files = sorted(e.path for e in entries if os.path.isfile(e.path) or e.is_symlink() and not os.path.exists(e.path))
    return tree_of(files, others=OTHER_IMAGES)
