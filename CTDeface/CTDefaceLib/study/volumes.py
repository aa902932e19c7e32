"""Volume files of one head: the face is found in one of them, and others that the user names get the same new skin."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..anatomy.grids import is_same_grid
from ..audits import hold_back
from ..errors import InputError
from ..nifti_geometry import STATED, told
from ..parameters import DefaceParameters
from ..pipeline import DefaceResult, deface
from ..progress import Progress, part, silent
from ..removal.keep import Structure
from ..scan import Scan, check_grid, in_hounsfield
from ..stored_data import suffix
from ..volume_io import is_oriented, read_placed, read_scan, read_stored, save_volume, stated_modality
from .apply import CT, Face, apply
from .audit import auditing
from .register import Pose, find_pose
from .time_series import TimeSeries, time_points, time_series, write_time_series

OF_MR = (
    "T1w T2w FLAIR PDw PDT2 T2starw T2star inplaneT1 inplaneT2 UNIT1 T1rho T1map T2map angio bold sbref dwi asl m0scan "
    "epi magnitude magnitude1 magnitude2 MEGRE MESE MP2RAGE"
).split()
BIDS_MODALITIES = {"ct": CT, "pet": "PT", **dict.fromkeys(OF_MR, "MR")}
"""How names end in BIDS → modality."""

TAKEN_APART = "{} time points were defaced with one region, which was found in the first of them."


def find_face(
    path: str | os.PathLike,
    parameters: DefaceParameters,
    *,
    mask: sitk.Image | None = None,
    kept: Sequence[Structure] = (),
    secret: bytes | None = None,
    patient: str = "",
    reading: Mapping[str, str] | None = None,
    audit: str = "",
    progress: Progress = silent,
) -> tuple[Face, Scan]:
    """Deface the CT in a file; of several time points the first.

    Parameters
    ----------
    path: path
        A volume file, or a folder with one DICOM series.
    mask: SimpleITK.Image, optional
        Face mask on any grid in the same space, from :func:`read_mask`.
    parameters, kept, secret, patient
        As of :func:`.pipeline.deface`.
    reading: mapping, optional
        What a person says of the file, by the names of :func:`.volume_io.read_scan`.
    audit: str
        ``"module:function"`` that looks for the face in the result, see :mod:`.audits`; of several time points, in
        that of the first.

    Returns
    -------
    tuple
        What was found, and the scan; of several time points the first.

    Raises
    ------
    InputError, NoFaceError
        When it is no CT of a head, the mask does not lie on it, or the file does not need what is said of it.
    FaceLeftError
        When the audit still finds the face.
    """
    reading = reading or {}
    series = _time_series(path, reading)
    if series is None:
        scan = read_scan(path, **reading)
    else:
        image, said = in_hounsfield(next(time_points(series)))
        said += (told(series.orientation),) if series.orientation else ()
        scan = Scan(image, (*said, TAKEN_APART.format(series.count)), geometry=series.geometry)
    if scan.geometry is not None:
        scan.geometry.check_needed(**reading)
    elif reading.get("orientation") and is_oriented(path, None):
        raise InputError(STATED)
    image = scan.image
    on_image = None if mask is None else _mask_on(mask, image)
    result = deface(image, parameters, mask=on_image, kept=kept, secret=secret, patient=patient, progress=progress)
    auditing(audit)(image, result)
    hold_back(result.report)
    return Face(image, result, parameters, secret, patient), scan


def save_face(
    face: Face, scan: Scan, source: str | os.PathLike, path: Path, reading: Mapping[str, str] | None = None
) -> None:
    """Write the result of :func:`find_face`: a volume, or all time points of its file."""
    series = _time_series(source, reading or {})
    if series is None:
        save_volume(face.result.image, path, scan.geometry)
    else:
        _save_times(face, series, CT, path, at_rest=True)


def save_companion(
    face: Face,
    source: str | os.PathLike,
    path: Path,
    reading: Mapping[str, str] | None = None,
    audit: str = "",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Give another image of the head the same new skin, and write it.

    Parameters
    ----------
    face: Face
        From :func:`find_face`.
    source: path
        The other image: a CT, MR or PET on any grid, also with several time points.
    path: Path
        Where to write it.
    reading: mapping, optional
        As in :func:`find_face`; a file that does not need it does without.
    audit: str
        As in :func:`find_face`.

    Returns
    -------
    dict
        Its report.

    Raises
    ------
    InputError
        When it cannot be read, is not of this head, or shows more of the face.
    FaceLeftError
        When the audit still finds the face.
    """
    reading = reading or {}
    series = _time_series(source, reading)
    if series is not None:
        modality = modality_in(source, next(time_points(series)))
        return _save_times(face, series, modality, path, at_rest=False, audit=audit)
    image, geometry = read_placed(source, **_of_nifti(reading))
    modality = modality_in(source, image)
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    result = deface_companion(face, image, modality, audit, progress)
    save_volume(result.image, path, geometry)
    return result.report


def deface_companion(
    face: Face, image: sitk.Image, modality: str = "", audit: str = "", progress: Progress = silent
) -> DefaceResult:
    """Give another image of the head the same new skin.

    Parameters
    ----------
    face: Face
        What was found and made in the CT.
    image: SimpleITK.Image
        The other image, on any grid.
    modality: str
        As in DICOM; where nobody says it, what the values can be.
    audit: str
        As in :func:`find_face`.

    Returns
    -------
    DefaceResult
        Its report has the ``modality``.

    Raises
    ------
    InputError
        When it is not of this head, or shows more of the face.
    """
    return next(deface_times(face, [image], 1, modality, audit, progress))


def deface_times(
    face: Face,
    images: Iterable[sitk.Image],
    count: int,
    modality: str = "",
    audit: str = "",
    progress: Progress = silent,
) -> Iterator[DefaceResult]:
    """Give the time points of another image the same new skin, in one region.

    Where the head lies is looked for in the first of them. Parameters, and errors, are those of
    :func:`deface_companion`; ``count`` is how many there are. Reports have the ``modality`` and, of several,
    ``time_points``.
    """
    times: Times | None = None
    several = {"time_points": count} if count > 1 else {}
    for number, image in enumerate(images):
        if times is None:
            check_grid(image)
            times = Times(face, modality or modality_of(image), audit=audit)
        result = times(image, part(progress, number / count, (number + 1) / count))
        yield replace(result, report={"modality": times.modality, **several, **result.report})


class Times:
    """Lays the new skin on one time point of an image after the other, in one region.

    Parameters
    ----------
    face: Face
    modality: str
        As in DICOM.
    at_rest: bool
        Whether it is the CT itself; otherwise where its head lies is looked for in the first time point.
    audit: str
        As in :func:`find_face`, of the first time point.
    """

    def __init__(self, face: Face, modality: str, at_rest: bool = False, audit: str = ""):
        self._face, self.modality, self._at_rest, self._audit = face, modality, at_rest, audit
        self._offset: float | None = None
        self._pose: Pose | None = None

    def __call__(self, image: sitk.Image, progress: Progress = silent) -> DefaceResult:
        """Deface a time point; the values of the result are on the scale of the image."""
        is_first = self._offset is None
        if self._offset is None:
            self._offset = float(in_hounsfield(image)[0][0, 0, 0] - image[0, 0, 0]) if self.modality == CT else 0.0
        offset = self._offset
        image = image + offset if offset else image
        if is_first and not self._at_rest:
            progress(0.0, "Looking for the head")
            self._pose = find_pose(self._face.result.surface, image, self.modality, at_rest=True)
        result = apply(self._face, image, self.modality, self._pose, progress=part(progress, 0.3, 1.0))
        if is_first:
            auditing(self._audit, self.modality)(image, result)
            hold_back(result.report)
        return replace(result, image=result.image - offset) if offset else result


def companion_name(source: Path, folder: Path) -> Path:
    """Where a companion goes: into a folder, under its own name with ``_defaced``."""
    ending = suffix(source)
    return folder / f"{source.name[: -len(ending)]}_defaced{ending}"


def read_mask(path: str | os.PathLike, read: Callable[[Path], sitk.Image] = read_stored) -> sitk.Image:
    """A face mask that was made elsewhere: all that is not 0; uint8 (InputError where that is nothing).

    ``read`` is :func:`.volume_io.read_stored`, or the same with more that it is told.
    """
    mask = read(Path(path))
    check_grid(mask)
    mask = sitk.Cast(mask != 0, sitk.sitkUInt8)
    if not sitk.GetArrayViewFromImage(mask).any():
        raise InputError("The face mask is empty: all of it is 0.")
    return mask


def deface_with_mask(
    image: sitk.Image, parameters: DefaceParameters, *, face_mask: sitk.Image, **more: Any
) -> DefaceResult:
    """As :func:`.pipeline.deface`, with a mask on any grid."""
    return deface(image, parameters, mask=_mask_on(face_mask, image), **more)


def _time_series(path: str | os.PathLike, reading: Mapping[str, str]) -> TimeSeries | None:
    return time_series(path, **_of_nifti(reading))


def _of_nifti(reading: Mapping[str, str]) -> dict[str, str]:
    return {name: reading[name] for name in ("form", "orientation") if name in reading}


def _mask_on(mask: sitk.Image, image: sitk.Image) -> sitk.Image:
    """A mask on the grid of an image; InputError where it does not lie on it."""
    if mask.GetSize() != image.GetSize() or not is_same_grid(mask, image):
        mask = sitk.Resample(mask, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    if not sitk.GetArrayViewFromImage(mask).any():
        raise InputError("The face mask lies outside the volume: take the one that was made on this scan.")
    return mask


def _save_times(
    face: Face, series: TimeSeries, modality: str, path: Path, at_rest: bool, audit: str = ""
) -> dict[str, Any]:
    """Write all time points with one region: that of the first. Returns its report."""
    reports: list[dict[str, Any]] = []
    times = Times(face, modality, at_rest, audit)

    def change(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
        result = times(image)
        reports.append(result.report)
        here = sitk.GetArrayViewFromImage(result.region) > 0
        return here, sitk.GetArrayViewFromImage(result.image)[here]

    write_time_series(series, path, change)
    return {"modality": modality, "time_points": len(reports), **reports[0]}


def modality_in(path: str | os.PathLike, image: sitk.Image) -> str:
    """What a file or its name in BIDS says it is; else CT if its values can be Hounsfield units, and MR otherwise."""
    path = Path(path)
    return stated_modality(path, image) or modality_in_name(path) or modality_of(image)


def modality_in_name(path: Path) -> str:
    """What the name of a file in BIDS says it is; empty where it says nothing."""
    named = re.search(r"_([A-Za-z0-9]+)$", path.name[: -len(suffix(path))])
    return BIDS_MODALITIES.get(named.group(1), "") if named else ""


def modality_of(image: sitk.Image) -> str:
    """CT if the values of an image can be Hounsfield units, and MR otherwise."""
    try:
        in_hounsfield(image)
    except InputError:
        return "MR"
    return CT
