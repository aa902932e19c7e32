"""Names and side-cars as in BIDS: what the name of a file says, what its result is called, and what is told beside it.

BIDS has no names for CT yet, and the headers of an MR do not tell which of its names it gets: both lie in folders of
their own, which ``.bidsignore`` names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ..dicom.write import CLEAN_VISUAL_FEATURES, METHOD
from ..stored_data import suffix
from ..version import __version__
from .pet import missing_fields

DATATYPES = ("anat", "ct", "dwi", "fmap", "func", "perf", "pet")
"""Folders of BIDS for kinds of images."""

OF_MODALITY = {"": "ct", "CT": "ct", "MR": "mr", "PT": "pet"}
"""Modality → how the name of a series ends, and the folder it lies in."""

LABELS = ("mask", "dseg", "probseg", "defacemask")
"""How names of what is no image end."""

NOT_RAW = ("derivatives", "sourcedata", "code")
"""Folders of a dataset with what was made of its images, or with what they were made of."""

DESCRIPTION = "dataset_description.json"

DATASET = {
    "Name": "Defaced head scans",
    "BIDSVersion": "1.10.0",
    "DatasetType": "derivative",
    "GeneratedBy": [
        {"Name": "CTDeface", "Version": __version__, "Description": "The face is replaced by another skin."}
    ],
}
README = f"""\
Head scans in which the face was replaced by another skin with CTDeface {__version__}.

The .json file beside each says how it was made. What lies in folders called ct and mr has no names in BIDS yet.
"""
IGNORED = "**/ct\n**/ct/**\n**/mr\n**/mr/**\nctdeface_batch.json\n"
"""What stands in the description, the README and the ``.bidsignore`` of a dataset."""

TECHNICAL = {
    "Manufacturer", "ManufacturersModelName", "MagneticFieldStrength", "ReceiveCoilName", "SequenceVariant",
    "ScanningSequence", "ScanOptions", "MRAcquisitionType", "PulseSequenceType", "NonlinearGradientCorrection",
    "EchoTime", "EchoTime1", "EchoTime2", "EchoTrainLength", "EffectiveEchoSpacing", "DwellTime", "FlipAngle",
    "InversionTime", "RepetitionTime", "RepetitionTimePreparation", "RepetitionTimeExcitation", "SliceTiming",
    "SliceThickness", "SliceEncodingDirection", "PhaseEncodingDirection", "TotalReadoutTime", "PartialFourier",
    "ParallelReductionFactorInPlane", "ParallelAcquisitionTechnique", "MultibandAccelerationFactor", "TaskName",
    "NumberOfVolumesDiscardedByScanner", "NumberOfVolumesDiscardedByUser", "DelayTime", "AcquisitionDuration",
    "ArterialSpinLabelingType", "PostLabelingDelay", "BackgroundSuppression", "M0Type", "LabelingDuration",
    "TotalAcquiredPairs", "Units", "KVP", "XRayTubeCurrent", "ExposureTime", "ConvolutionKernel",
    "TracerName", "TracerRadionuclide", "TracerMolecularWeight", "TracerMolecularWeightUnits", "InjectedRadioactivity",
    "InjectedRadioactivityUnits", "InjectedMass", "InjectedMassUnits", "SpecificRadioactivity",
    "SpecificRadioactivityUnits", "ModeOfAdministration", "TimeZero", "ScanStart", "InjectionStart", "InjectionEnd",
    "FrameTimesStart", "FrameDuration", "AcquisitionMode", "ImageDecayCorrected", "ImageDecayCorrectionTime",
    "ReconMethodName", "ReconMethodParameterLabels", "ReconMethodParameterUnits", "ReconMethodParameterValues",
    "ReconFilterType", "ReconFilterSize", "AttenuationCorrection", "ScatterFraction", "DecayCorrectionFactor",
    "PromptRate", "RandomRate", "SinglesRate", "BodyPart",
}  # fmt: skip
"""Fields of side-cars that tell how an image was made, and nothing of whose it is."""

MOST_BYTES = 1_000_000
"""Of a side-car that is read; they have a few thousand."""


def entity(place: str, name: str) -> str:
    """The last value of an entity in a path; empty where it has none.

    Parameters
    ----------
    place: str
        Path with ``/``.
    name: str
        Of the entity, such as ``sub``.
    """
    found = re.findall(rf"(?:^|[/_]){name}-([A-Za-z0-9]+)", place)
    return found[-1] if found else ""


def subject_and_session(place: str) -> tuple[str, str]:
    """What stands after ``sub-`` and ``ses-`` in the path of a scan; empty where nothing does."""
    return entity(place, "sub"), entity(place, "ses")


def dataset_of(root: Path, place: str) -> str:
    """Folder below a root that is the dataset of a file, with ``/``; empty where it is in none, or the root is one."""
    folders = PurePosixPath(place).parents[:-1]
    return next((str(folder) for folder in folders if (root / folder / DESCRIPTION).is_file()), "")


def parts_of(name: str) -> tuple[list[str], str] | None:
    """The entities of a file name after subject and session, and how it ends; None for a name that is none of BIDS.

    >>> parts_of("sub-1_ses-2_acq-thin_run-1_T1w.nii.gz")
    (['acq-thin', 'run-1'], 'T1w')
    """
    stem = name[: -len(suffix(name))] if suffix(name) else name
    *entities, ending = stem.split("_")
    if not entities or not entities[0].startswith("sub-") or not re.fullmatch("[A-Za-z0-9]+", ending):
        return None
    if not all(re.fullmatch("[A-Za-z]+-[A-Za-z0-9+]+", one) for one in entities):
        return None
    return [one for one in entities if not one.startswith(("sub-", "ses-"))], ending


def is_label_map(place: str) -> bool:
    """Whether a file is a mask or a label map by its name."""
    parts = parts_of(PurePosixPath(place).name)
    return parts is not None and parts[1] in LABELS


def bids_name(place: str, modality: str, subject: str, session: str, code: Callable[[str, str], str]) -> str:
    """Name of a result below its dataset, with ``/`` and without ending.

    Parameters
    ----------
    place: str
        Of the scan; of a name in BIDS folder, entities and ending are kept.
    modality: str
        As in DICOM, where that is known.
    subject, session: str
        What stands after ``sub-`` and ``ses-``; no session where that is empty.
    code: callable
        Gives, of a kind and a text, what stands for it in a name.
    """
    path = PurePosixPath(place)
    entities, ending = parts_of(path.name) or ([f"rec-{code('scan', place)}"], OF_MODALITY.get(modality, "ct"))
    folder = path.parent.name if path.parent.name in DATATYPES else ending if ending in ("mr", "pet") else "ct"
    whose = [f"sub-{subject}", *([f"ses-{session}"] if session else [])]
    return "/".join([*whose, folder, "_".join([*whose, *entities, ending])])


def side_car(source: Path, modality: str, checked: bool, technique: Mapping[str, Any]) -> dict[str, Any]:
    """What BIDS wants to be told of a result: how its image was made, and how it was de-identified.

    Parameters
    ----------
    source: Path
        The scan; what its own side-cars say of the technique is taken over.
    modality: str
        As in DICOM.
    checked: bool
        The face is gone and the checks found nothing wrong.
    technique: mapping
        Fields that its DICOM headers have.

    Returns
    -------
    dict
        Of a PET also ``side_car_lacks``: what BIDS asks for and nobody says.
    """
    value, meaning = CLEAN_VISUAL_FEATURES
    code = {"CodeValue": value, "CodingSchemeDesignator": "DCM", "CodeMeaning": meaning}
    found = {**technique, **_technical(source)}
    return {
        "Description": "The face is replaced by another skin; all else is as it was.",
        "Modality": modality,
        "SkullStripped": False,
        **found,
        "DeidentificationMethod": [METHOD],
        **({"DeidentificationMethodCodeSequence": [code]} if checked else {}),
        **({"side_car_lacks": missing_fields(found)} if modality == "PT" else {}),
    }


def _technical(source: Path) -> dict[str, Any]:
    """What the side-cars of a file say of the technique, those of folders above first."""
    parts = parts_of(source.name)
    if parts is None:
        return {}
    own = {*source.name[: -len(suffix(source))].split("_")}
    found: dict[str, Any] = {}
    for folder in reversed([source.parent, *list(source.parents)[1 : _depth(source) + 1]]):
        for path in sorted(folder.glob(f"*{parts[1]}.json"), key=lambda path: len(path.name)):
            if {*path.stem.split("_")} <= own:
                found.update({key: value for key, value in _read(path).items() if key in TECHNICAL})
    return found


def _depth(source: Path) -> int:
    """How many folders above that of a file its dataset is; 0 where there is none."""
    return next((n for n, folder in enumerate(source.parents) if n < 4 and (folder / DESCRIPTION).is_file()), 0)


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            return {}
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
