"""What the DICOM headers of a PET say of the fields that BIDS wants in its side-car; nothing of whose it is.

Times are in s from a clock of their own, which starts at the injection, or with the scan where nobody knows that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..dicom.files import quietly, read_dataset

if TYPE_CHECKING:
    import pydicom

REQUIRED = (
    "Manufacturer", "ManufacturersModelName", "Units", "TracerName", "TracerRadionuclide", "InjectedRadioactivity",
    "InjectedRadioactivityUnits", "InjectedMass", "InjectedMassUnits", "SpecificRadioactivity",
    "SpecificRadioactivityUnits", "ModeOfAdministration", "TimeZero", "ScanStart", "InjectionStart", "FrameTimesStart",
    "FrameDuration", "AcquisitionMode", "ImageDecayCorrected", "ImageDecayCorrectionTime", "ReconMethodName",
    "ReconMethodParameterLabels", "ReconMethodParameterUnits", "ReconMethodParameterValues", "ReconFilterType",
    "ReconFilterSize", "AttenuationCorrection",
)  # fmt: skip
"""Fields that BIDS 1.10 asks for in the side-car of a PET."""

UNITS = {"BQML": "Bq/mL", "GML": "g/mL", "CM2ML": "cm2/mL", "PROPCPS": "1/s", "PCNT": "%"}
"""Units of DICOM → as BIDS writes them; others stay as they are."""

ELEMENTS = {
    "carbon": "C", "nitrogen": "N", "oxygen": "O", "fluorine": "F", "copper": "Cu", "gallium": "Ga", "bromine": "Br",
    "rubidium": "Rb", "zirconium": "Zr", "iodine": "I", "scandium": "Sc", "yttrium": "Y", "manganese": "Mn",
}  # fmt: skip
"""Names of elements in DICOM's codes of radionuclides → symbol."""

DAY_S = 86400.0


def pet_fields(files: Sequence[str]) -> dict[str, Any]:
    """Fields of the side-car of a PET series, as far as its headers have them.

    Parameters
    ----------
    files: sequence of str
        Of the series.
    """
    header = read_dataset(files[0], pixels=False)
    with quietly():
        tracer = next(iter(header.get("RadiopharmaceuticalInformationSequence") or []), None)
        found = {
            "Manufacturer": _text(header, "Manufacturer"),
            "ManufacturersModelName": _text(header, "ManufacturerModelName"),
            "Units": UNITS.get(_text(header, "Units"), _text(header, "Units")),
            "AttenuationCorrection": _text(header, "AttenuationCorrectionMethod"),
            **_tracer(tracer),
            **_reconstruction(header),
            **_times(header, tracer, files),
        }
    return {name: value for name, value in found.items() if value not in ("", None)}


def missing_fields(side_car: Mapping[str, Any]) -> list[str]:
    """What BIDS asks for and the side-car of a PET lacks."""
    return [name for name in REQUIRED if name not in side_car]


def _text(dataset: pydicom.Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _number(dataset: pydicom.Dataset | None, keyword: str) -> float | None:
    try:
        return None if dataset is None else float(dataset.get(keyword))
    except (TypeError, ValueError):
        return None


def _meaning(dataset: pydicom.Dataset, keyword: str) -> str:
    return next((_text(item, "CodeMeaning") for item in dataset.get(keyword) or []), "")


def _tracer(tracer: pydicom.Dataset | None) -> dict[str, Any]:
    """What was injected, and how much of it."""
    if tracer is None:
        return {}
    dose = _number(tracer, "RadionuclideTotalDose")
    specific = _number(tracer, "RadiopharmaceuticalSpecificActivity")
    return {
        "TracerName": _text(tracer, "Radiopharmaceutical") or _meaning(tracer, "RadiopharmaceuticalCodeSequence"),
        "TracerRadionuclide": _radionuclide(_meaning(tracer, "RadionuclideCodeSequence")),
        "InjectedRadioactivity": dose,
        "InjectedRadioactivityUnits": "Bq" if dose is not None else "",
        "SpecificRadioactivity": specific,
        "SpecificRadioactivityUnits": "Bq/umol" if specific is not None else "",
    }


def _radionuclide(meaning: str) -> str:
    """
    >>> _radionuclide("^18^Fluorine"), _radionuclide("F-18"), _radionuclide("Gallium 68")
    ('F18', 'F18', 'Ga68')
    """
    mass, name = re.search(r"\d+", meaning), re.search(r"[A-Za-z]+", meaning)
    symbol = ELEMENTS.get(name[0].lower(), name[0] if len(name[0]) < 3 else "") if name else ""
    return f"{symbol}{mass[0]}" if mass and symbol else meaning


def _reconstruction(header: pydicom.Dataset) -> dict[str, Any]:
    """How the image was made; iterations and subsets stand in the name of the method, as in ``OSEM3D 4i21s``."""
    method, kernel = _text(header, "ReconstructionMethod"), _text(header, "ConvolutionKernel")
    size, counts = re.search(r"\d+(?:\.\d+)?", kernel), re.search(r"(\d+)\s*i\s*(\d+)\s*s", method, re.IGNORECASE)
    found: dict[str, Any] = {"ReconMethodName": method}
    if counts:
        found["ReconMethodParameterLabels"] = ["iterations", "subsets"]
        found["ReconMethodParameterUnits"] = ["none", "none"]
        found["ReconMethodParameterValues"] = [int(count) for count in counts.groups()]
    if re.fullmatch(r"all[- ]?pass|none", kernel, re.IGNORECASE):
        found["ReconFilterType"], found["ReconFilterSize"] = "none", 0
    elif kernel:
        found["ReconFilterType"] = kernel[: size.start()].strip() if size and size.start() else kernel
        found["ReconFilterSize"] = float(size[0]) if size else None
    return found


def _times(header: pydicom.Dataset, tracer: pydicom.Dataset | None, files: Sequence[str]) -> dict[str, Any]:
    """When the tracer was injected and the scan was made; a series with one bed after the other is one frame."""
    duration, correction = _number(header, "ActualFrameDuration"), _text(header, "DecayCorrection").upper()
    starts = [_seconds(_text(read_dataset(path, pixels=False), "AcquisitionTime")) for path in files]
    known = [start for start in starts if start is not None]
    scan = min(known, default=_seconds(_text(header, "SeriesTime")))
    injected = None
    if tracer is not None:
        injected = _seconds(_text(tracer, "RadiopharmaceuticalStartTime"))
        if injected is None:
            injected = _seconds(_text(tracer, "RadiopharmaceuticalStartDateTime")[8:])
    found: dict[str, Any] = {}
    if scan is not None:
        start = 0.0 if injected is None else round((scan - injected) % DAY_S, 3)
        found |= {"TimeZero": "00:00:00", "ScanStart": start, "FrameTimesStart": [start]}
        found |= {"InjectionStart": None if injected is None else 0.0}
        at = {"START": start, "ADMIN": found["InjectionStart"]}
        found["ImageDecayCorrectionTime"] = at.get(correction)
    found["FrameDuration"] = None if duration is None else [duration / 1000.0]
    found["ImageDecayCorrected"] = correction in ("START", "ADMIN") if correction else None
    return found


def _seconds(time: str) -> float | None:
    """A time of the day in s; None where it is none.

    >>> _seconds("013015.5")
    5415.5
    """
    found = re.match(r"(\d\d):?(\d\d):?(\d\d(?:\.\d+)?)", time)
    return None if found is None else 3600.0 * int(found[1]) + 60.0 * int(found[2]) + float(found[3])
