"""Objects of head studies with planted identifiers, and what has to become of each element: the answers are known.

In the manner of the MIDI-B challenge (arXiv 2507.23608): synthetic identifiers are planted into DICOM objects of all
kinds, each with the action that it requires, and the score is the share of required actions that were done. The rules
are those of HIPAA's Safe Harbor, of DICOM PS3.15 and of The Cancer Imaging Archive, which asks for the Basic Profile
with cleaned descriptors, shifted dates, and patient's characteristics, devices and safe private elements retained.
"""

from __future__ import annotations

import copy
import datetime
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from CTDefaceLib.dicom.deface import HeaderWriter
from CTDefaceLib.dicom.files import CT_IMAGES, SEGMENTATION, STRUCTURE_SET, read_dataset
from CTDefaceLib.dicom.write import save
from dicom_files import slice_header
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

FIRST = "Anna Bram Chiara Dmitri Eun-Ji Fatima Gustav Hülya Ingrid João Kwame Mary Nils Olga Pedro Quentin Rosa".split()
LAST = (
    "Abernathy Brandt Castellanos Dubois Eriksen Fitzgerald Großmann Hashimoto Ivanova Jóhannsson Kowalski Lee".split()
)
TOWNS = "Otherville Springfeld Nowhereton Musterstadt Villeneuve Wixbury".split()
PHRASES = [
    "CT HEAD W/O CONTRAST", "CT Head", "ANGIO HEAD NECK", "Brain axial 5.0 mm", "Thin bone 0.75mm", "COR MPR 3 mm",
    "SAG soft tissue", "CTA HEAD 120 kV", "Facial bones", "Temporal bone right", "Sinus helical", "Perfusion 70 kV",
    "Stroke protocol", "Orbits w contrast", "AX STANDARD 2.5 mm", "Routine brain", "Skull trauma", "Head low dose",
    "Arterial phase", "Venous phase head", "Dual energy head", "Mandible bone window", "C7 spine", "Pediatric head",
]  # fmt: skip
"""Descriptions as scanners and their users write them."""


@dataclass(frozen=True)
class Answer:
    """What has to become of an element.

    Attributes
    ----------
    category: str
        Of what it tells: names, numbers, …
    action: str
        A key of :data:`ACTIONS`.
    place: tuple
        Keywords or tags from the outermost sequence inwards.
    value: str
        What was planted, or has to stay.
    """

    category: str
    action: str
    place: tuple
    value: str = ""


@dataclass
class Patient:
    """Who the identifiers are of.

    Attributes
    ----------
    texts: dict
        Category → identifiers that must be nowhere in what is passed on.
    born, study: datetime.date
        Days of birth and study.
    uids: dict
        Name → UID that objects share.
    """

    texts: dict[str, list[str]]
    born: datetime.date
    study: datetime.date
    uids: dict[str, str]
    sex: str
    age: str


@dataclass
class Case:
    """An object, whose it is, and the answers."""

    kind: str
    patient: Patient
    header: pydicom.Dataset
    answers: list[Answer] = field(default_factory=list)


# ------------------------------------------------------------------------------------------------------------- the set


def cases(patients: int, seed: int = 1) -> list[Case]:
    """Eight objects for each patient: slices, enhanced images, a structure set and a segmentation."""
    dice = random.Random(seed)
    found = []
    for _ in range(patients):
        patient = _patient(dice)
        found += [_case(dice, patient, kind) for kind in KINDS]
    return found


def _uid(dice: random.Random) -> str:
    return f"1.2.826.0.1.{dice.randint(10**10, 10**25)}"


def _patient(dice: random.Random) -> Patient:
    day = datetime.date(1930, 1, 1) + datetime.timedelta(days=dice.randint(0, 30000))
    study = datetime.date(2015, 1, 1) + datetime.timedelta(days=dice.randint(0, 3500))
    number = dice.choice(["{:08}", "{:03}-{:02}-{:04}", "MRN{:07}", "{:02}.{:03}.{:03}", "H{:06}"])
    texts = {
        "names": [f"{dice.choice(LAST)}^{dice.choice(FIRST)}", f"{dice.choice(LAST)}^{dice.choice(FIRST)}"],
        "numbers": [_filled(dice, number), f"A{dice.randint(10**6, 10**7)}", f"ADM-{dice.randint(10**5, 10**6)}"],
        "people": [f"{dice.choice(LAST)}^{dice.choice(FIRST)}^^Dr" for _ in range(3)],
        "places": [f"{dice.choice(TOWNS)} General Hospital", f"{dice.randint(1, 99)} Elm Street, {dice.choice(TOWNS)}"],
        "telephones": [f"0{dice.randint(100, 999)}/{dice.randint(10**5, 10**6)}", f"+49 {dice.randint(10**8, 10**9)}"],
    }
    uids = {name: _uid(dice) for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "image")}
    return Patient(texts, day, study, uids, dice.choice("FMO"), f"{dice.randint(1, 89):03}Y")


def _filled(dice: random.Random, pattern: str) -> str:
    widths = [int(width) for width in re.findall(r":0(\d+)", pattern)]
    return pattern.format(*(dice.randint(10 ** (width - 1), 10**width - 1) for width in widths))


def _case(dice: random.Random, patient: Patient, kind: str) -> Case:
    sop_class = {
        "slice": CT_IMAGES[0],
        "enhanced": CT_IMAGES[1],
        "structures": STRUCTURE_SET,
        "segmentation": SEGMENTATION,
    }
    header = slice_header(
        SOPClassUID=sop_class[kind], SpecificCharacterSet="ISO_IR 192", SOPInstanceUID=_uid(dice),
        **{name: uid for name, uid in patient.uids.items() if name != "image"},
    )  # fmt: skip
    header.file_meta.TransferSyntaxUID = dice.choice((ExplicitVRLittleEndian, ImplicitVRLittleEndian))
    case = Case(kind, patient, header)
    for step in (_identity, _dates, _uids, _descriptions, _codes, _private, _characteristics, _technique):
        step(dice, case)
    return case


def _put(case: Case, dataset: pydicom.Dataset, keyword: str, value: object) -> None:
    with pydicom.config.disable_value_validation():
        setattr(dataset, keyword, value)


def _plant(case: Case, category: str, keyword: str, value: str, action: str = "text_removed") -> None:
    _put(case, case.header, keyword, value)
    case.answers.append(Answer(category, action, (keyword,), value))


def _identity(dice: random.Random, case: Case) -> None:
    texts = case.patient.texts
    _plant(case, "names", "PatientName", texts["names"][0])
    _plant(case, "numbers", "PatientID", texts["numbers"][0])
    case.answers += [
        Answer("numbers", "patid_consistent", ("PatientID",), texts["numbers"][0]),
        *(Answer("names", "text_notnull", (keyword,)) for keyword in ("PatientID", "PatientName")),
    ]
    for category, keyword, value in (
        ("names", "OtherPatientNames", texts["names"][1]), ("names", "PatientMotherBirthName", texts["names"][1]),
        ("numbers", "AccessionNumber", texts["numbers"][1]), ("numbers", "AdmissionID", texts["numbers"][2]),
        ("numbers", "OtherPatientIDs", texts["numbers"][2]), ("numbers", "StudyID", texts["numbers"][1][:16]),
        ("people", "ReferringPhysicianName", texts["people"][0]), ("people", "OperatorsName", texts["people"][1]),
        ("people", "PerformingPhysicianName", texts["people"][2]),
        ("people", "RequestingPhysician", texts["people"][0]),
        ("places", "InstitutionName", texts["places"][0]), ("places", "InstitutionAddress", texts["places"][1]),
        ("places", "PatientAddress", texts["places"][1]),
        ("telephones", "PatientTelephoneNumbers", texts["telephones"][0]),
        ("telephones", "ReferringPhysicianTelephoneNumbers", texts["telephones"][1]),
    ):  # fmt: skip
        if dice.random() < 0.8:
            _plant(case, category, keyword, value)


def _dates(dice: random.Random, case: Case) -> None:
    day = case.patient.study
    _plant(case, "dates", "PatientBirthDate", f"{case.patient.born:%Y%m%d}", "text_removed")
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        _plant(case, "dates", keyword, f"{day:%Y%m%d}", "date_shifted")
    _plant(case, "dates", "AcquisitionDateTime", f"{day:%Y%m%d}101113", "date_shifted")
    _plant(case, "dates", "StudyTime", "101112", "tag_retained")


def _uids(dice: random.Random, case: Case) -> None:
    header = case.header
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
        for action in ("uid_changed", "uid_consistent"):
            case.answers.append(Answer("uids", action, (keyword,), str(header[keyword].value)))
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CT_IMAGES[0], case.patient.uids["image"]
    header.ReferencedImageSequence = [reference]
    place = ("ReferencedImageSequence", "ReferencedSOPInstanceUID")
    for action in ("uid_changed", "uid_consistent"):
        case.answers.append(Answer("uids", action, place, case.patient.uids["image"]))
    case.answers.append(
        Answer("uids", "tag_retained", ("ReferencedImageSequence", "ReferencedSOPClassUID"), CT_IMAGES[0])
    )
    case.answers.append(Answer("uids", "tag_retained", ("SOPClassUID",), str(header.SOPClassUID)))


def _written(dice: random.Random, case: Case) -> tuple[str, str]:
    """An identifier in one of the ways that people write it, and its category."""
    category = dice.choice(["names", "numbers", "people", "telephones", "dates", "dates"])
    if category == "dates":
        day = dice.choice((case.patient.born, case.patient.study))
        return day.strftime(
            dice.choice(["%d.%m.%Y", "%m/%d/%y", "%Y-%m-%d", "%d %b %Y", "%d%m%y", "%B %d, %Y"])
        ), category
    text = dice.choice(case.patient.texts[category])
    if category in ("names", "people"):
        parts = text.strip("^").split("^")
        return dice.choice(
            [" ".join(parts[:2]), f"{parts[1]} {parts[0]}", f"{parts[0]}, {parts[1]}", parts[0].upper()]
        ), category
    return dice.choice([text, re.sub(r"[-./ ]", " ", text), re.sub(r"[-./ ]", "", text)]), category


def _descriptions(dice: random.Random, case: Case) -> None:
    """Words of the trade have to stay, identifiers amid them to go."""
    longest = {"StudyDescription": 64, "SeriesDescription": 50, "ProtocolName": 64, "ImageComments": 200,
               "RequestedProcedureDescription": 64, "PerformedProcedureStepDescription": 64}  # fmt: skip
    for keyword, most in longest.items():
        phrase = dice.choice(PHRASES)
        planted, category = _written(dice, case)
        text = dice.choice(
            [f"{phrase}", f"{phrase} {planted}", f"{planted}: {phrase}", f"{phrase} / {planted} / {phrase}"]
        )
        if len(text.encode()) > most:
            text = phrase
        _put(case, case.header, keyword, text)
        case.answers.append(Answer("descriptions", "text_retained", (keyword,), phrase))
        if planted in text:
            case.answers.append(Answer(f"{category} in descriptions", "text_removed", (keyword,), planted))
    for keyword in ("AdditionalPatientHistory", "PatientComments", "VisitComments", "TextComments"):
        planted, category = _written(dice, case)
        _put(case, case.header, keyword, f"Seen by me: {planted}")
        case.answers.append(Answer(f"{category} in free text", "text_removed", (keyword,), planted))


def _codes(dice: random.Random, case: Case) -> None:
    planted, category = _written(dice, case)
    own, known = pydicom.Dataset(), pydicom.Dataset()
    own.CodeValue, own.CodingSchemeDesignator, own.CodeMeaning = "CT1", "99HOSPITAL", f"CT head for {planted}"[:64]
    known.CodeValue, known.CodingSchemeDesignator, known.CodeMeaning = "69536005", "SCT", "Head"
    case.header.ProcedureCodeSequence, case.header.AnatomicRegionSequence = [own], [known]
    case.answers += [
        Answer(f"{category} in codes", "text_removed", ("ProcedureCodeSequence", "CodeMeaning"), planted),
        Answer("codes", "text_retained", ("ProcedureCodeSequence", "CodeMeaning"), "CT head"),
        Answer("codes", "tag_retained", ("AnatomicRegionSequence", "CodeValue"), "69536005"),
        Answer("codes", "tag_retained", ("AnatomicRegionSequence", "CodingSchemeDesignator"), "SCT"),
        Answer("codes", "text_notnull", ("AnatomicRegionSequence", "CodeMeaning")),
    ]


def _private(dice: random.Random, case: Case) -> None:
    planted, category = _written(dice, case)
    block = case.header.private_block(0x0029, "SOMEBODY'S OWN", create=True)
    block.add_new(0x10, "LO", planted[:64])
    block.add_new(0x11, "UN", f"<{planted}>".encode())
    for element in (0x10, 0x11):
        case.answers.append(Answer("private elements", "text_removed", ((0x0029, 0x1000 + element),), planted))
    case.header.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x27, "SH", "0.562:1")
    case.answers.append(Answer("safe private elements", "tag_retained", ((0x0043, 0x1027),), "0.562:1"))


def _characteristics(dice: random.Random, case: Case) -> None:
    for keyword, value in (("PatientSex", case.patient.sex), ("PatientAge", case.patient.age), ("PatientWeight", "70"),
                           ("PatientSize", "1.7"), ("SmokingStatus", "NO")):  # fmt: skip
        _plant(case, "characteristics", keyword, value, "tag_retained")


def _technique(dice: random.Random, case: Case) -> None:
    for keyword, value in (
        ("Modality", "CT"), ("Manufacturer", "Maker"), ("ManufacturerModelName", "Scanner 64"), ("KVP", "120"),
        ("SoftwareVersions", "VB20"), ("ConvolutionKernel", "H31s"), ("SliceThickness", "1.5"),
        ("XRayTubeCurrent", "250"), ("StationName", "CT3"), ("DeviceSerialNumber", "SN98765"),
        ("PatientPosition", "HFS"), ("BodyPartExamined", "HEAD"), ("RescaleIntercept", "-1024"),
        ("ImagePositionPatient", r"1\2\3"), ("GantryDetectorTilt", "0"), ("FilterType", "BODY"),
    ):  # fmt: skip
        _put(case, case.header, keyword, value.split("\\") if "\\" in value else value)
        case.answers.append(Answer("technique", "tag_retained", (keyword,), value))
    case.answers.append(Answer("pixels", "pixels_retained", ("PixelData",)))


CLASSES = {"slice": CT_IMAGES[0], "enhanced": CT_IMAGES[1], "structures": STRUCTURE_SET, "segmentation": SEGMENTATION}
KINDS = ("slice", "slice", "slice", "slice", "enhanced", "enhanced", "structures", "segmentation")


# ---------------------------------------------------------------------------------------------------------- the scoring


class Key:
    """Whether actions were done; remembers what stood for what in the objects before, which has to stay consistent."""

    def __init__(self) -> None:
        self._seen: dict[tuple, object] = {}
        self._used: dict[tuple, object] = {}

    def is_done(self, answer: Answer, case: Case, before: pydicom.Dataset, after: pydicom.Dataset) -> bool:
        """Whether the element of the cleaned object is as it has to be."""
        return ACTIONS[answer.action](self, answer, case, _value(before, answer.place), _value(after, answer.place))

    def _same(self, kind: str, who: int, old: str, new: str) -> bool:
        """Whether the same always stands for one thing, and for no other."""
        return (
            bool(new) and new != old and self._seen.setdefault((kind, old, who), new) == new
            and self._used.setdefault((kind, new), (old, who)) == (old, who)
        )  # fmt: skip

    def _uid(self, answer: Answer, case: Case, before: str, after: str) -> bool:
        return self._same("uid", 0, before, after)

    def _patient(self, answer: Answer, case: Case, before: str, after: str) -> bool:
        return after != before and self._same("patient", id(case.patient), "", after)

    def _shift(self, answer: Answer, case: Case, before: str, after: str) -> bool:
        if not re.fullmatch(r"\d{8}", after[:8]) or after[8:] != before[8:]:
            return False
        old, new = (datetime.datetime.strptime(text[:8], "%Y%m%d") for text in (before, after))
        return new != old and self._seen.setdefault(("days", id(case.patient)), old - new) == old - new


def _value(dataset: pydicom.Dataset, place: Iterable) -> str:
    """The value at a place as text; empty where there is none."""
    for step in place:
        if isinstance(dataset, pydicom.Sequence):
            dataset = dataset[0] if len(dataset) else pydicom.Dataset()
        if step not in dataset:
            return ""
        dataset = dataset[step].value
    if isinstance(dataset, bytes):
        return dataset.decode("latin-1")
    return (
        "\\".join(map(str, dataset))
        if isinstance(dataset, pydicom.multival.MultiValue)
        else ""
        if dataset is None
        else str(dataset)
    )


def squeezed(text: str) -> str:
    return re.sub(r"[\W_]", "", text).lower()


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+|\d+(?:[.,]\d+)?", text.lower())


def _words_stay(key: Key, answer: Answer, case: Case, before: str, after: str) -> bool:
    left = iter(_words(after))
    return all(word in left for word in _words(answer.value))


ACTIONS: dict[str, Callable[[Key, Answer, Case, str, str], bool]] = {
    "text_removed": lambda key, answer, case, before, after: squeezed(answer.value) not in squeezed(after),
    "text_retained": _words_stay,
    "text_notnull": lambda key, answer, case, before, after: bool(after),
    "tag_retained": lambda key, answer, case, before, after: after == before != "",
    "date_shifted": Key._shift,
    "uid_changed": lambda key, answer, case, before, after: after not in ("", before),
    "uid_consistent": Key._uid,
    "patid_consistent": Key._patient,
    "pixels_retained": lambda key, answer, case, before, after: after == before != "",
}
"""What MIDI-B calls an action → whether it was done."""


def clean(case: Case, folder: Path, retain: Collection[str], secret: bytes = b"s" * 32) -> pydicom.Dataset:
    """The object as it is written, read, cleaned and written; what is on the disk then."""
    case.header.save_as(folder / "in.dcm", enforce_file_format=True)
    dataset = read_dataset(str(folder / "in.dcm"))
    writer = HeaderWriter({dataset.SOPInstanceUID, dataset.SeriesInstanceUID}, secret, True, retain)
    (writer if case.kind in ("slice", "enhanced") else writer.document)(dataset)
    save(dataset, folder / "out.dcm")
    return pydicom.dcmread(folder / "out.dcm")


def traces(patient: Patient, content: bytes) -> list[str]:
    """Identifiers, and the pieces of names, that stand in the bytes of a file."""
    texts = [text for texts in patient.texts.values() for text in texts]
    parts = {part for text in texts for part in re.split(r"[\^,]\s*", text) if len(part) > 3}
    parts |= {f"{patient.born:%Y%m%d}", f"{patient.study:%Y%m%d}", *patient.uids.values()}
    return [
        part for part in sorted(parts)
        if re.search(rb"(?<![A-Za-z0-9])" + re.escape(part.encode()) + rb"(?![A-Za-z0-9])", content, re.IGNORECASE)
    ]  # fmt: skip


@dataclass
class Score:
    """What became of the required actions.

    Attributes
    ----------
    done, required: Counter
        By (category, action).
    missed: list of (Answer, str)
        Those that were not done, and what the element holds.
    left: list of str
        Identifiers found in the bytes of cleaned objects.
    objects: int
    """

    done: Counter = field(default_factory=Counter)
    required: Counter = field(default_factory=Counter)
    missed: list[tuple[Answer, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    objects: int = 0

    @property
    def share(self) -> float:
        """Of all required actions, those that were done (0 to 1)."""
        return self.done.total() / max(self.required.total(), 1)


def score(found: Iterable[Case], folder: Path, retain: Collection[str]) -> Score:
    """Clean the objects in a folder and look at every answer."""
    result, key = Score(), Key()
    for case in found:
        before = pydicom.Dataset()
        before.update(copy.deepcopy(case.header))
        after = clean(case, folder, retain)
        result.objects += 1
        result.left += traces(case.patient, (folder / "out.dcm").read_bytes())
        for answer in case.answers:
            kind = answer.category, answer.action
            result.required[kind] += 1
            if key.is_done(answer, case, before, after):
                result.done[kind] += 1
            else:
                result.missed.append((answer, _value(after, answer.place)))
    return result
