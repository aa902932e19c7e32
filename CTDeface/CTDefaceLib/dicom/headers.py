"""Headers that name nobody: the Basic Application Level Confidentiality Profile of DICOM PS3.15, with its options.

What the profile asks for each attribute is taken from ``dicom-anonymizer``, whose tables follow the editions of the
standard (``pydicom/deid`` is a language for rules and has no such table). That package looks neither into sequences nor
at the options, draws UIDs that nobody can draw again, and dates everything 0001-01-01; this module does those things.
It also goes further than the profile: free text that the profile does not mention stays only where the attribute is
technical, and what names the patient in one place is looked for in all others.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from ..errors import InputError
from .codes import body_part, clean_coded_entry, is_coded_entry
from .descriptions import described
from .files import CT_IMAGES
from .identifiers import DATES, TEXTS, Identifiers, identifiers, remove_identifiers, remove_unreadable, strings
from .pseudonyms import Pseudonyms, who
from .write import METHOD, OUTDATED, add_method

if TYPE_CHECKING:
    import pydicom

EDITION = "dicomfields_2026c"
"""Of the standard whose table of attributes is used."""

BASIC_PROFILE = ("113100", "Basic Application Confidentiality Profile")
"""Code that says that the profile was followed."""

RETAIN = {
    "dates": ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
    "full-dates": ("113106", "Retain Longitudinal Temporal Information Full Dates Option"),
    "patient": ("113108", "Retain Patient Characteristics Option"),
    "uids": ("113110", "Retain UIDs Option"),
    "device": ("113109", "Retain Device Identity Option"),
    "institution": ("113112", "Retain Institution Identity Option"),
    "safe-private": ("113111", "Retain Safe Private Option"),
    "descriptors": ("113105", "Clean Descriptors Option"),
}
"""What can be retained, and the code that says so."""

TCIA = ("dates", "patient", "device", "safe-private", "descriptors")
"""What The Cancer Imaging Archive asks to retain, beside the Basic Profile and clean pixels."""

MISSING = 'Cleaning headers needs the package dicom-anonymizer; install it with "pip install ctdeface[dicom]".'

BYTES = ("OB", "OW", "OD", "OF", "OL", "OV", "UN")
"""Value representations of bytes, in which anything can stand."""

DUMMIES = {"DA": "19000101", "DT": "19000101000000", "TM": "000000", "AS": "000Y", "PN": "Removed", "UI": "2.25.0"}
"""What stands for a value that has to be there, by value representation."""

PATIENT = {
    "Allergies", "EthnicGroup", "EthnicGroupCodeSequence", "PatientAge", "PatientSex", "PatientSexNeutered",
    "PatientSize", "PatientState", "PatientWeight", "PregnancyStatus", "PreMedication", "SmokingStatus", "SpecialNeeds",
}  # fmt: skip
DEVICE = {
    "CassetteID", "DetectorID", "DeviceDescription", "DeviceLabel", "DeviceSerialNumber", "DeviceUID", "GantryID",
    "GeneratorID", "ManufacturerDeviceClassUID", "ManufacturerDeviceIdentifier", "PerformedStationAETitle",
    "PerformedStationGeographicLocationCodeSequence", "PerformedStationName", "PerformedStationNameCodeSequence",
    "PlateID", "ScheduledProcedureStepLocation", "ScheduledStationAETitle",
    "ScheduledStationGeographicLocationCodeSequence", "ScheduledStationName", "ScheduledStationNameCodeSequence",
    "ScheduledStudyLocation", "ScheduledStudyLocationAETitle", "SourceManufacturer", "SourceSerialNumber",
    "StationAETitle", "StationName", "TransducerIdentificationSequence", "TreatmentMachineName", "UDISequence",
    "UniqueDeviceIdentifier", "XRayDetectorID", "XRayDetectorLabel", "XRaySourceID",
}  # fmt: skip
INSTITUTION = {
    "ClinicalTrialCoordinatingCenterName", "ClinicalTrialProtocolEthicsCommitteeName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "InstitutionAddress", "InstitutionCodeSequence", "InstitutionName",
    "InstitutionalDepartmentName", "InstitutionalDepartmentTypeCodeSequence",
}  # fmt: skip
REFERENCES = {"ReferencedPerformedProcedureStepSequence", "ReferencedStudySequence"}

KEPT = {"patient": PATIENT, "device": DEVICE, "institution": INSTITUTION, "uids": REFERENCES}
"""What the options keep by table E.1-1 (column K, or C and cleaned)."""

CLEANED = {"Allergies", "PatientState", "PreMedication", "SpecialNeeds"}
"""Free text on the patient: kept cleaned, like a description."""

DESCRIPTOR = re.compile(
    "Description$|Comments$|^CommentsOn|^ReasonFor.*(?<!Sequence)$|^(AcquisitionFieldOfViewLabel|ContrastBolusAgent|"
    "AdditionalPatientHistory|MedicalAlerts|Occupation|ProtocolName|ROIName|ROIObservationLabel|StructureSetLabel|"
    "RequestedContrastAgent|StructureSetName)$"
)
"""Keywords of free text that describes; what the vocabulary knows of it can stay."""

TECHNICAL = {
    "CodeMeaning", "CodeValue", "CodingSchemeDesignator", "CodingSchemeVersion", "ContrastBolusRoute",
    "ConvolutionKernel", "DeidentificationMethod", "DimensionDescriptionLabel", "FilterType", "LongCodeValue",
    "Manufacturer", "ManufacturerModelName", "MappingResourceName", "MaterialID", "PositionReferenceIndicator",
    "RescaleType", "SegmentAlgorithmName", "SoftwareVersions", "StackID", "WindowCenterWidthExplanation",
}  # fmt: skip
"""Free text that describes the technique and that the profile leaves alone."""

NEEDED_BYTES = {"PixelData", "LUTData"}
"""Bytes without which a grey image cannot be shown as it was."""

SAFE_PRIVATE = {
    "ELSCINT1": {(0x00E1, 0x21), (0x01E1, 0x26), (0x01E1, 0x50), (0x01F1, 0x01), (0x01F1, 0x07), (0x01F1, 0x26),
                 (0x01F1, 0x27)},
    "GEMS_ACQU_01": {(0x0019, 0x23), (0x0019, 0x24), (0x0019, 0x27)},
    "GEMS_PARM_01": {(0x0043, 0x27)},
    "GEMS_HELIOS_01": {(0x0045, 0x01), (0x0045, 0x02)},
}  # fmt: skip
"""Group and element in the block of private elements that tell nobody's identity (table E.3.10-1), by their creator."""


@dataclass(frozen=True)
class _Context:
    """What the cleaning of one header needs to know at every depth.

    Attributes
    ----------
    found: Identifiers
        What identifies the patient.
    days: int
        By how many days dates are shifted back.
    strict: bool
        The image is of a kind whose attributes have to be there.
    kept: bool
        An option keeps the sequence that this is in: its codes stay as they are.
    """

    found: Identifiers
    days: int
    strict: bool
    kept: bool = False


class Cleaner:
    """Cleans headers of one study.

    Parameters
    ----------
    retain: collection of str
        Keys of :data:`RETAIN`.
    pseudonyms: Pseudonyms
        Give UIDs, the patient's pseudonym and the shift of dates.

    Raises
    ------
    InputError
        when dicom-anonymizer is not installed, or both kinds of dates are to be retained
    """

    def __init__(self, retain: Collection[str], pseudonyms: Pseudonyms):
        if unknown := set(retain) - set(RETAIN):
            raise InputError(f"There is nothing called {sorted(unknown)[0]} to retain: choose {', '.join(RETAIN)}.")
        if {"dates", "full-dates"} <= set(retain):
            raise InputError("Dates are retained either shifted (dates) or as they are (full-dates), not both.")
        self.retain = set(retain)
        self.pseudonyms = pseudonyms
        self._actions = profile()

    def clean(self, dataset: pydicom.Dataset, pixels_are_clean: bool) -> None:
        """Clean a whole dataset, sequences and private groups included, and say so in it.

        That nothing is left that identifies the patient is said only when this holds for the pixels, too.
        """
        kept = {name for option, names in KEPT.items() if option in self.retain for name in names}
        remove_unreadable(dataset)
        found = identifiers(dataset, kept, uids="uids" not in self.retain, dates="full-dates" not in self.retain)
        patient = who(dataset)
        strict = dataset.get("SOPClassUID") != CT_IMAGES[0]
        self._clean(dataset, _Context(found, self.pseudonyms.days(patient), strict))
        remove_identifiers(dataset, found.names | (found.private - identifiers(dataset).private))
        dataset.PatientID = self.pseudonyms.patient(patient)
        dataset.PatientName = f"Anonymous^{dataset.PatientID}"
        if pixels_are_clean and dataset.get("BurnedInAnnotation") != "YES":
            dataset.PatientIdentityRemoved = "YES"
        elif "PatientIdentityRemoved" in dataset:
            dataset.PatientIdentityRemoved = "NO"
        dataset.LongitudinalTemporalInformationModified = (
            "UNMODIFIED" if "full-dates" in self.retain else "MODIFIED" if "dates" in self.retain else "REMOVED"
        )
        method = "CTDeface: header cleaned as in DICOM PS3.15 E"
        before = dataset.get("DeidentificationMethod") or []
        before = [before] if isinstance(before, str) else list(before)
        dataset.DeidentificationMethod = [*(text for text in before if text not in (METHOD, method)), method]
        for option in (BASIC_PROFILE, *(RETAIN[name] for name in RETAIN if name in self.retain)):
            add_method(dataset, *option)

    def _clean(self, dataset: pydicom.Dataset, context: _Context) -> None:
        from pydicom.datadict import keyword_for_tag

        safe = self._safe_private(dataset) if "safe-private" in self.retain else set()
        for tag in list(dataset.keys()):
            if tag.is_private:
                if tag not in safe:
                    del dataset[tag]
            elif tag.group >> 8 in (0x50, 0x60) or keyword_for_tag(tag) in OUTDATED:
                del dataset[tag]  # curves, overlays, signatures, icons
            else:
                self._clean_element(dataset, dataset[tag], context)
        if is_coded_entry(dataset) and not context.kept:
            clean_coded_entry(dataset, context.found)

    def _clean_element(self, dataset: pydicom.Dataset, element: pydicom.DataElement, context: _Context) -> None:
        action = self._actions.get((element.tag.group, element.tag.element), "")
        keyword, kind = element.keyword, element.VR
        if self._is_retained(keyword, kind, action):
            self._clean_retained(dataset, element, context)
        elif kind == "SQ":
            if action in ("", "U", "X/Z/U"):
                self._clean_items(element, context)
            elif "Z" in action:
                element.value = []
            else:
                del dataset[element.tag]
        elif kind == "UI" and action in ("", "U"):
            self._replace_uids(element)
        elif not action:
            self._clean_unlisted(dataset, element, context.found)
        elif action == "D" or context.strict and "D" in action:
            element.value = dummy(element)
        elif "Z" in action and action != "X/Z/D":
            element.value = None
        else:
            del dataset[element.tag]

    def _clean_retained(self, dataset: pydicom.Dataset, element: pydicom.DataElement, context: _Context) -> None:
        """An element that an option keeps: what is in it is still cleaned, and dates are shifted."""
        if element.VR == "SQ":
            self._clean_items(element, replace(context, kept=True))
        elif element.VR in DATES and "dates" in self.retain and not _shift(element, context.days):
            del dataset[element.tag]
        elif DESCRIPTOR.search(element.keyword) or element.keyword in CLEANED:
            element.value = described(element.value, context.found)

    def _clean_unlisted(self, dataset: pydicom.Dataset, element: pydicom.DataElement, found: Identifiers) -> None:
        """An element of which the profile says nothing: what could name somebody goes."""
        keyword, kind = element.keyword, element.VR
        if keyword == "SegmentLabel":
            element.value = described(element.value, found) or "REMOVED"
        elif keyword == "BodyPartExamined":
            element.value = body_part(str(element.value or ""), found)
        elif kind in TEXTS and keyword not in TECHNICAL or kind in DATES or kind == "AS":
            element.value = None  # some have to be there, if empty
        elif kind in BYTES and keyword not in NEEDED_BYTES or not keyword:
            del dataset[element.tag]

    def _clean_items(self, element: pydicom.DataElement, context: _Context) -> None:
        for item in element.value:
            self._clean(item, context)

    def _is_retained(self, keyword: str, kind: str, action: str) -> bool:
        is_date = kind in DATES and not keyword.startswith("PatientBirth") or keyword == "TimezoneOffsetFromUTC"
        return (
            is_date and bool(self.retain & {"dates", "full-dates"})
            or any(keyword in names and option in self.retain for option, names in KEPT.items())
            or bool(action and kind in TEXTS and DESCRIPTOR.search(keyword)) and "descriptors" in self.retain
        )  # fmt: skip

    def _replace_uids(self, element: pydicom.DataElement) -> None:
        if element.value:
            new = self.pseudonyms.uid
            element.value = [new(uid) for uid in element.value] if element.VM > 1 else new(element.value)

    def _safe_private(self, dataset: pydicom.Dataset) -> set:
        """Tags of private elements that the standard or the dataset itself calls safe, and of their creators."""
        safe = set()
        declared = {
            (int(item.get("PrivateGroupReference", 0)), str(item.get("PrivateCreatorReference", "")))
            for item in dataset.get("PrivateDataElementCharacteristicsSequence") or []
            if item.get("BlockIdentifyingInformationStatus") == "SAFE"
        }
        for tag in dataset.keys():
            if tag.is_private and not tag.is_private_creator and tag.element > 0xFF:
                creator_tag = (tag.group, tag.element >> 8)
                creator = str(dataset[creator_tag].value) if creator_tag in dataset else ""
                listed = (tag.group, tag.element & 0xFF) in SAFE_PRIVATE.get(creator, ())
                if (listed or (tag.group, creator) in declared) and dataset[tag].VR not in ("SQ", *BYTES):
                    safe |= {tag, dataset[creator_tag].tag}
        return safe


@cache
def profile() -> dict[tuple[int, int], str]:
    """What the Basic Profile does with each attribute: X remove, Z empty, D dummy, U new UID, or a choice of these."""
    try:
        from dicomanonymizer.simpledicomanonymizer import initialize_actions
    except ImportError as error:
        raise InputError(MISSING) from error
    letters = {
        "replace": "D", "empty": "Z", "delete": "X", "replace_UID": "U", "empty_or_replace": "Z/D",
        "delete_or_empty": "X/Z", "delete_or_replace": "X/D", "delete_or_empty_or_replace": "X/Z/D",
        "delete_or_empty_or_replace_UID": "X/Z/U",
    }  # fmt: skip
    return {tag: letters[action.__name__] for tag, action in initialize_actions(EDITION).items() if len(tag) == 2}


def dummy(element: pydicom.DataElement) -> str | bytes | int:
    """A value of the element's kind that says nothing."""
    if element.VR in DUMMIES:
        return DUMMIES[element.VR]
    if element.VR in TEXTS or element.VR == "CS":
        return "REMOVED"
    return b"" if element.VR in BYTES else 0


def _shift(element: pydicom.DataElement, by: int) -> bool:
    """Shift dates back by so many days; False where one cannot be read."""
    if element.VR == "TM" or not element.value or element.keyword == "TimezoneOffsetFromUTC":
        return True
    values = strings(element)
    try:
        days = [datetime.datetime.strptime(text[:8], "%Y%m%d") for text in values]
        days = [day - datetime.timedelta(days=by) for day in days]
    except (ValueError, OverflowError):
        return False
    new = [f"{day:%Y}".zfill(4) + f"{day:%m%d}" + text[8:] for day, text in zip(days, values)]
    element.value = new if element.VM > 1 else new[0]
    return True
