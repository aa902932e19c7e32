"""Cleaned headers: nothing that was planted anywhere comes back, and what is claimed to be retained is retained."""

import argparse
import copy
import csv
import datetime
import io
import os
import re
import sys
import warnings
from pathlib import Path

import dicom_files
import numpy as np
import pydicom
import pytest
from coarse_phantoms import scan
from CTDefaceLib.commands.choices import add_headers, retained_from
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom.deface import HeaderWriter, deface_series
from CTDefaceLib.dicom.descriptions import described
from CTDefaceLib.dicom.files import quietly, read_dataset
from CTDefaceLib.dicom.headers import RETAIN, TCIA, Cleaner, profile
from CTDefaceLib.dicom.identifiers import identifiers
from CTDefaceLib.dicom.pseudonyms import Pseudonyms
from CTDefaceLib.dicom.write import code, save
from CTDefaceLib.errors import InputError, OutputError
from CTDefaceLib.pipeline import DefaceParameters
from dicom_files import slice_header
from examples import examples
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

pytest.importorskip("dicomanonymizer", reason="pip install ctdeface[dicom]")

SECRET = b"s" * 32


def cleaned(header, *retain, checked=True):
    HeaderWriter({header.SOPInstanceUID, header.SeriesInstanceUID}, SECRET, checked, retain)(header)
    return header


def written(header, tmp_path):
    save(header, tmp_path / "one.dcm")
    return (tmp_path / "one.dcm").read_bytes()


# --------------------------------------------------------------------------------------------------- what must be gone

TEXT_KINDS = ("LO", "SH", "ST", "LT", "UT", "UC", "PN", "AE", "CS", "UR")
PUBLIC = sorted(
    (tag, kind)
    for tag, (kind, *_) in DicomDictionary.items()
    if kind in (*TEXT_KINDS, "DA", "DT", "UI", "OB", "UN")
    and 0x00080005 < tag < 0x50000000
    and tag >> 16 != 0x0028
    and tag not in (0x00080016, 0x00080018)  # class and instance, without which there is no file
)
SEQUENCES = sorted(tag for tag, (kind, *_) in DicomDictionary.items() if kind == "SQ" and 0x0008 <= tag >> 16 < 0x5000)
# Hypothesis also tries what stands in our code, such as the name that CTDeface writes itself
letters = st.text("ABCDEFGHJKLMNPQRSTUVWXYZ", min_size=8, max_size=12).filter(lambda text: "CTDEFACE" not in text)
dates = st.dates(datetime.date(1900, 1, 2), datetime.date(2019, 1, 1)).map(lambda day: day.strftime("%Y%m%d"))
uids = st.integers(10**20, 10**30).map(lambda number: f"1.2.3.{number}")
IDENTITY = ("PatientName", "PatientID", "AccessionNumber", "InstitutionName", "ReferringPhysicianName",
            "OperatorsName", "InstitutionAddress", "OtherPatientIDs", "StationName")  # fmt: skip


def plant(dataset, place, kind, text):
    """Put a text into an element as far as its kind allows."""
    value = text.encode() + b"\0" * (len(text) % 2) if kind in ("OB", "UN") else text
    with pydicom.config.disable_value_validation():
        dataset[place] = pydicom.DataElement(place, kind, value)


def plant_private(dataset, data, text, nested):
    group = data.draw(st.sampled_from([0x0009, 0x0019, 0x0021, 0x0029, 0x0043, 0x7053]))
    creator = data.draw(st.sampled_from(["SIEMENS CSA HEADER", "GEMS_IDEN_01", "SOMEBODY'S OWN"]))
    block = dataset.private_block(group, creator, create=True)
    offset = data.draw(st.integers(0x80, 0xFE))
    if nested:
        item = pydicom.Dataset()
        plant(item, 0x00081030, "LO", text)
        block.add_new(offset, "SQ", [item])
    else:
        kind = data.draw(st.sampled_from(["LO", "UN", "OB", "LT"]))
        block.add_new(offset, kind, text.encode() + b" " * (len(text) % 2) if kind in ("UN", "OB") else text)


@pytest.mark.slow
@examples(150, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_planted_anywhere_comes_back(tmp_path_factory, data):
    """Names, numbers, a birth date and UIDs of a patient, each in its own place and repeated anywhere else."""
    header = slice_header()
    header.file_meta.TransferSyntaxUID = data.draw(st.sampled_from([ExplicitVRLittleEndian, ImplicitVRLittleEndian]))
    planted = [str(header.SOPInstanceUID), str(header.StudyInstanceUID), str(header.SeriesInstanceUID)]
    for keyword in IDENTITY:
        text = data.draw(letters)
        setattr(header, keyword, text)
        planted.append(text)
    header.PatientBirthDate = data.draw(dates)
    planted.append(str(header.PatientBirthDate))
    owned = [*planted, data.draw(letters)]  # the last one stands in private elements alone
    plant_private(header, data, owned[-1], nested=data.draw(st.booleans()))
    depth = data.draw(st.integers(0, 3))
    place = header
    for _ in range(depth):
        item = pydicom.Dataset()
        tag = data.draw(st.sampled_from(SEQUENCES))
        place[tag] = pydicom.DataElement(tag, "SQ", [item])
        place = item
    for text in data.draw(st.lists(st.sampled_from(planted), min_size=1, max_size=6)):
        tag, kind = data.draw(st.sampled_from(PUBLIC))
        if kind == "UI":
            text = data.draw(uids)
            owned.append(text)
        elif kind in ("DA", "DT"):
            text = str(header.PatientBirthDate)
        elif data.draw(st.booleans()):
            text = f"see {text} again"[: 16 if kind in ("CS", "SH", "AE") else 60]
        if pydicom.tag.Tag(tag) not in place:
            plant(place, tag, kind, text)
        plant_private(place, data, text, nested=data.draw(st.booleans()))
    header.preamble = planted[3].encode().ljust(128, b"\0")
    content = written(cleaned(header), tmp_path_factory.mktemp("clean")).upper()
    found = [text for text in owned if text.upper().encode() in content]
    assert not found, header


@examples(60, suppress_health_check=list(HealthCheck))
@given(data=st.data(), retain=st.sets(st.sampled_from(["dates", "patient", "device", "safe-private", "descriptors"])))
def test_retaining_options_keep_no_name(tmp_path_factory, data, retain):
    header = slice_header()
    names = [data.draw(letters) for _ in range(4)]
    header.PatientName = f"{names[0]}^{names[1]}"
    header.PatientID, header.AccessionNumber = names[2:]
    header.PatientBirthDate = "19010203"
    for text in names:
        tag, kind = data.draw(st.sampled_from(PUBLIC))
        plant(header, tag, kind if kind not in ("DA", "DT", "UI") else "LO", text)
        header.SeriesDescription = f"Head of {text}"
    header.PatientName = f"{names[0]}^{names[1]}"
    header.PatientID, header.AccessionNumber = names[2:]
    content = written(cleaned(header, *retain), tmp_path_factory.mktemp("clean")).upper()
    assert not [text for text in (*names, "19010203") if text.encode() in content]


def test_pictures_overlays_and_signatures_are_gone(tmp_path):
    header = slice_header()
    icon = slice_header()
    header.IconImageSequence = [icon]
    header.DigitalSignaturesSequence = header.MACParametersSequence = [code("1", "x")]
    header.add_new(0x60003000, "OW", b"\x55" * 8)
    header.add_new(0x60020010, "US", 2)
    header.add_new(0x50003000, "OW", b"\x66" * 8)
    header.add_new(0xFFFCFFFC, "OB", b"\x77" * 8)
    header.file_meta.SourceApplicationEntityTitle = "OTHERVILLE"
    header.file_meta.PrivateInformationCreatorUID, header.file_meta.PrivateInformation = "1.2.3", b"private!"
    header.preamble = b"II*\0" + b"tiff" * 31
    content = written(cleaned(header), tmp_path)
    assert not any(rest in content for rest in (b"\x55\x55", b"\x66\x66", b"\x77\x77", b"tiff", b"OTHERV", b"private!"))
    back = pydicom.dcmread(io.BytesIO(content))
    assert not {"IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence"} & set(back.dir())


# ----------------------------------------------------------------------------------------- what is said and retained


def codes(header):
    return [item.CodeValue for item in header.DeidentificationMethodCodeSequence]


def test_what_is_done_is_said():
    header = cleaned(slice_header())
    assert header.PatientIdentityRemoved == "YES" and header.LongitudinalTemporalInformationModified == "REMOVED"
    assert codes(header) == ["113100", "113102"]
    assert header.PatientID == str(header.PatientName).partition("^")[2] == Pseudonyms(SECRET).patient("4711-0815")
    assert header.SeriesDescription == "defaced" and header.ConvolutionKernel == "H31s"
    assert header.StudyDate in ("", None) and "AcquisitionDateTime" not in header and "PatientAge" not in header
    assert header.Manufacturer == "Maker" and header.ImagePositionPatient == [1, 2, 3]


def test_each_option_is_applied_and_has_its_code():
    for name, (value, meaning) in RETAIN.items():
        study = pydicom.Dataset()
        study.ReferencedSOPInstanceUID = "1.2.3.5"
        original = slice_header(DeviceUID="1.2.3.4", ReferencedStudySequence=[study])
        header = cleaned(copy.deepcopy(original), name)
        assert codes(header) == ["113100", value, "113102"]
        assert header.DeidentificationMethodCodeSequence[1].CodeMeaning == meaning
        assert bool(header.get("PatientAge")) == (name == "patient") == bool(header.get("PatientSex"))
        assert bool(header.get("DeviceSerialNumber")) == (name == "device") == bool(header.get("StationName"))
        assert bool(header.get("InstitutionName")) == (name == "institution")
        assert bool(header.get("StudyDate")) == ("dates" in name) == bool(header.get("StudyTime"))
        assert header.SeriesDescription == ("Head axial defaced" if name == "descriptors" else "defaced")
        assert not header.get("PatientBirthDate") and ("ProtocolName" in header) == (name == "descriptors")
        known = ("StudyInstanceUID", "FrameOfReferenceUID")
        assert {header[key].value == original[key].value for key in known} == {name == "uids"}
        assert (header.DeviceUID == "1.2.3.4") == (name in ("uids", "device"))
        assert ("ReferencedStudySequence" in header and len(header.ReferencedStudySequence)) == (name == "uids")
        assert not {header.SOPInstanceUID, header.SeriesInstanceUID} & {
            original.SOPInstanceUID, original.SeriesInstanceUID
        }  # fmt: skip


def test_identity_is_called_removed_only_where_the_pixels_hold_none():
    assert "PatientIdentityRemoved" not in cleaned(slice_header(), checked=False)
    assert "PatientIdentityRemoved" not in cleaned(slice_header(BurnedInAnnotation="YES"))
    header = cleaned(slice_header(BurnedInAnnotation="YES", PatientIdentityRemoved="YES"))
    assert header.PatientIdentityRemoved == "NO" and header.BurnedInAnnotation == "YES"


def test_free_text_on_the_patient_is_cleaned():
    header = cleaned(slice_header(Allergies="contrast, says Dr Miller", SmokingStatus="NO"), "patient")
    assert header.Allergies == "contrast" and header.SmokingStatus == "NO"


def test_values_that_cannot_be_read_are_removed(tmp_path):
    header = slice_header()
    header.save_as(tmp_path / "in.dcm", enforce_file_format=True)
    header = pydicom.dcmread(tmp_path / "in.dcm")
    for tag, kind in ((0x00189306, "FD"), (0x00280106, "US")):
        tag = pydicom.tag.Tag(tag)
        header._dict[tag] = pydicom.dataelem.RawDataElement(tag, kind, 3, b"Doe", 0, False, True)
    assert b"Doe" not in written(cleaned(header), tmp_path)


DISGUISES = {
    "an age": ("PatientAge", "AS", "Zyxwvut"), "bytes": ("PatientSize", "OB", b"Zyxwvut!"),
    "a device's bytes": ("StationName", "OB", b"Zyxwvut!"), "a time": ("StudyTime", "TM", "Zyxwvut"),
    "spaces": ("ScanOptions", "CS", "Z Y X W V U T"), "dashes": ("ViewPosition", "CS", "90-81-72"),
    "a code string": ("StudyComments", "CS", "ZYXWVUT"), "profile": ("ICCProfile", "OB", b"Zyxwvut!"),
    "table": ("RedPaletteColorLookupTableData", "OW", b"Zyxwvut!"),
    "items": ("DeidentificationMethod", "SQ", "Zyxwvut"), "items of a code": ("URNCodeValue", "SQ", "Zyxwvut"),
    "type": ("ImageType", "SQ", "Zyxwvut"),
    "label": ("SegmentLabel", "OB", b"Zyxwvut!"), "a UID": ("FrameOfReferenceUID", "UI", "Zyxwvut"),
    "a name": ("OperatorsName", "LO", "Zyxwvut"),
}  # fmt: skip


@pytest.mark.parametrize("retain", [(), TCIA], ids=["basic", "tcia"])
@pytest.mark.parametrize("keyword, kind, value", DISGUISES.values(), ids=DISGUISES.keys())
def test_names_in_values_of_another_kind(tmp_path, keyword, kind, value, retain):
    """Of another value representation than the attribute has, or not written as values of that are."""
    header = slice_header(PatientName="Zyxwvut^Q", PatientID="908172", StudyDescription="head of Zyxwvut")
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    items = pydicom.Sequence([coded(CodeMeaning=value, TextValue=value)]) if kind == "SQ" else value
    with quietly():
        element = pydicom.DataElement(keyword, kind, None)
        element._value = items
        header[keyword] = element
        save(header, tmp_path / "in.dcm")
        dataset = read_dataset(str(tmp_path / "in.dcm"))
        HeaderWriter(set(), b"secret", True, retain)(dataset)
        save(dataset, tmp_path / "out.dcm")
    left = re.sub(rb"[^a-z0-9]", b"", (tmp_path / "out.dcm").read_bytes().lower())
    assert b"zyxwvut" not in left and b"908172" not in left


def test_names_of_two_letters_and_in_pieces():
    """What is short in letters can be a whole name; a name is looked for without what joins it to others."""
    header = slice_header(
        SpecificCharacterSet="ISO_IR 192", PatientName="王^小东", OperatorsName="Meier-Vogel^A",
        ConvolutionKernel="小东", ManufacturerModelName="VOGELs own",
    )  # fmt: skip
    cleaned(header)
    assert "ConvolutionKernel" not in header and "ManufacturerModelName" not in header


def test_dates_are_shifted_by_the_same_days_for_one_patient():
    first, second = cleaned(slice_header(), "dates"), cleaned(slice_header(StudyDate="20200404"), "dates")
    other = cleaned(slice_header(PatientID="another"), "dates")
    day = [datetime.datetime.strptime(str(h.StudyDate), "%Y%m%d") for h in (first, second, other)]
    assert day[1] - day[0] == datetime.timedelta(days=31) and day[0] != day[2]
    assert str(first.AcquisitionDateTime) == f"{day[0]:%Y%m%d}101113.5" and str(first.StudyTime).startswith("101112")
    assert first.LongitudinalTemporalInformationModified == "MODIFIED"
    early = cleaned(slice_header(StudyDate="00010101", SeriesDate="10010101", ContentDate="unknown"), "dates")
    assert "StudyDate" not in early and len(early.SeriesDate) == 8 and "ContentDate" not in early
    full = cleaned(slice_header(), "full-dates")
    assert full.StudyDate == "20200304" and full.LongitudinalTemporalInformationModified == "UNMODIFIED"
    with pytest.raises(InputError, match="not both"):
        Cleaner(["dates", "full-dates"], Pseudonyms())
    with pytest.raises(InputError, match="nothing called everything"):
        Cleaner(["everything"], Pseudonyms())


@pytest.mark.parametrize(
    "nobody", [{}, {"PatientID": " ", "PatientName": "^"}, {"PatientID": "0000", "PatientName": "ANON^Patient"},
               {"PatientID": "N/A", "PatientName": "Anonymous"}],
)  # fmt: skip
def test_two_people_without_id_and_name_do_not_become_one(nobody):
    """Their pseudonym and the shift of their dates come from the study."""
    attributes = {"PatientID": "", "PatientName": "", **nobody}
    studies = {uid: [cleaned(slice_header(StudyInstanceUID=uid, **attributes), "dates") for _ in range(2)]
               for uid in ("1.2.3", "1.2.4")}  # fmt: skip
    for same in studies.values():
        assert same[0].PatientID == same[1].PatientID and same[0].StudyDate == same[1].StudyDate
    first, second = (same[0] for same in studies.values())
    assert first.PatientID != second.PatientID and first.PatientName != second.PatientName
    assert first.StudyDate != second.StudyDate
    named = [cleaned(slice_header(StudyInstanceUID=uid, PatientID="", PatientName="Anna^Nona")) for uid in studies]
    assert named[0].PatientID == named[1].PatientID


@pytest.mark.parametrize(
    "first, second",
    [
        ({"PatientID": "1", "IssuerOfPatientID": "A"}, {"PatientID": "1", "IssuerOfPatientID": "B"}),
        ({"PatientID": "1", "IssuerOfPatientID": "A"}, {"PatientID": "1"}),
        ({"PatientID": "", "PatientBirthDate": "19700101"}, {"PatientID": "", "PatientBirthDate": "19710101"}),
    ],
)
def test_two_people_of_one_number_or_name_do_not_become_one(first, second):
    """Hospitals that give the same numbers say whose they are; of one name there are many people."""
    one, other = (cleaned(slice_header(PatientName="Anna^Nona", **who), "dates") for who in (first, second))
    assert one.PatientID != other.PatientID and one.StudyDate != other.StudyDate
    again = cleaned(slice_header(PatientName="Anna^Nona", StudyInstanceUID="1.2.9", **first), "dates")
    assert again.PatientID == one.PatientID


def test_safe_private_elements():
    header = slice_header()
    header.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x27, "SH", "0.562:1")
    header.private_block(0x0043, "GEMS_PARM_01").add_new(0x28, "LO", "who knows")
    header.private_block(0x0099, "DECLARED SAFE", create=True).add_new(0x01, "DS", "1.5")
    declared = pydicom.Dataset()
    declared.PrivateGroupReference, declared.PrivateCreatorReference = 0x0099, "DECLARED SAFE"
    declared.BlockIdentifyingInformationStatus = "SAFE"
    header.PrivateDataElementCharacteristicsSequence = [declared]
    plain = cleaned(copy.deepcopy(header))
    assert not [tag for tag in plain.keys() if tag.is_private]
    kept = cleaned(header, "safe-private")
    assert [str(e.value) for e in kept if e.tag.is_private and not e.tag.is_private_creator] == ["0.562:1", "1.5"]


good_numbers = st.sampled_from(["1.5 mm", "0,75mm", "120 kV", "250 mAs", "75 %", "2x0.6 mm", "T2", "C7"])
trade = st.sampled_from(["Head", "CT", "axial", "bone", "SOFT", "Angio", "w", "contrast"])
between = st.sampled_from([" ", "-", "_", ", ", " / ", ". ", " - ", "  "])


@st.composite
def identifiers_in_writings(draw):
    """Attributes that identify, and other ways to write them, telephone numbers among them."""
    apart = draw(st.sampled_from(["", "-", ".", "/", " ", "_", "\u2013"]))
    pieces = draw(st.lists(st.from_regex("[A-Z]?[0-9]{2,5}", fullmatch=True), min_size=2, max_size=4))
    name = draw(st.lists(letters, min_size=2, max_size=2))
    day = draw(st.dates(datetime.date(1920, 1, 1), datetime.date(2024, 12, 31)))
    dates = [
        "%d.%m.%y",
        "%m/%d/%y",
        "%Y-%m-%d",
        "%d %b %Y",
        "%d%B%y",
        "%b %d, %Y",
        "%Y%m%d",
        "%d %m %Y",
        "%d-%b",
        "%H:%M",
    ]
    phone = draw(st.from_regex(r"0[0-9]{2,4}[ /-][0-9]{3}[ -]?[0-9]{2} ?[0-9]{2}", fullmatch=True))
    attributes = {
        "PatientID": apart.join(pieces), "PatientName": "^".join(name), "PatientBirthDate": f"{day:%Y%m%d}"
    }  # fmt: skip
    other = draw(st.sampled_from(["", "-", ".", " ", "/", "_"]))
    written = [other.join(pieces), *name, other.join(name), phone, day.strftime(draw(st.sampled_from(dates)))]
    return attributes, draw(st.lists(st.sampled_from(written), min_size=1, max_size=4))


@pytest.mark.slow
@examples(200)
@given(data=st.data(), identity=identifiers_in_writings())
def test_a_number_stays_only_beside_a_word_that_explains_it(data, identity):
    attributes, written = identity
    good = data.draw(st.lists(good_numbers, max_size=3))
    words = data.draw(st.lists(trade, max_size=3))
    parts = data.draw(st.permutations([*good, *words, *written]))
    text = "".join(f"{part}{data.draw(between)}" for part in parts)
    header = pydicom.Dataset()
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    left = described(text, identifiers(header))
    allowed = {token.lower() for part in (*good, *words) for token in re.findall(r"[\d.,]+|[^\W\d_]+", part)}
    assert {token.lower() for token in re.findall(r"[\d.,]+|[^\W\d_]+", left)} <= allowed, (text, left)


def test_dates_and_numbers_in_any_writing_leave_descriptions():
    """Where nothing stands between good ones, those stay."""
    header = slice_header(
        PatientID="12-34-56", PatientBirthDate="19600102", StudyDate="20220926", StudyDescription="CT head 26.09.22",
        SeriesDescription="head 12-34-56 soft 1.5 mm", ProtocolName="head 09/26/22 at 120 kV",
        ImageComments="tel 040/555 12 34, T2 brain 26 Mar 2022", ConvolutionKernel="12/34/56", FilterType="2 Jan. 1960",
        ManufacturerModelName="2022.09.26 scanner",
    )  # fmt: skip
    cleaned(header, "descriptors")
    left = [header[name].value for name in ("StudyDescription", "SeriesDescription", "ProtocolName", "ImageComments")]
    assert left == ["CT head", "head soft 1.5 mm defaced", "head 120 kV", "T2 brain"]
    assert not {"ConvolutionKernel", "FilterType", "ManufacturerModelName"} & set(header.dir())


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("head 26 mm 09 mm 22 mm", "head mm"), ("123 mm 456 mm 7 mm head", "head"), ("123.45 mm 67 mm", ""),
        ("head 26 s 9 s 22 s", "head"), ("T12 head L5", "head"), ("C7 spine", "spine"), ("c6 spine", "c6 spine"),
        ("２０２２年９月２６日 head", "head"), ("令和4年9月26日 head", "head"), ("26 сентября 2022 head", "head"),
        ("٢٦/٩/٢٠٢٢ head", "head"), ("IX/26/22 head", "head"), ("2022-269 head", "head"), ("0 2 0 1 6 0 head", "head"),
        ("AB\u200b123456\u200b7 head", "head"), ("ＡＢ１２３４５６７ mm head", "mm head"), ("M u l l e r head", "head"),
        ("Dr. Low May low dose", "dose"), ("120 kV/26.09.2022", "120 kV"), ("5 mar 3 mm head", "mm head"),
        ("tel +49 (0)40 555 12 34 mm", "mm"), ("120 kV 200 mAs 0.75 mm 0.5 mm", "120 kV 200 mAs 0.75 mm 0.5 mm"),
    ],
)  # fmt: skip
def test_identifiers_in_pieces_disguises_and_other_scripts(text, left):
    header = slice_header(
        PatientID="AB-123456-7", PatientName="Müller^Hans", StudyID="T12-L5", OtherPatientIDs="C7",
        StudyDate="20220926", ReferringPhysicianName="Low^May",
    )  # fmt: skip
    assert described(text, identifiers(header)) == left


def test_descriptions_keep_only_words_of_the_trade():
    assert described("Head of Jane Doe, 0.75mm H31s 4711 (Adult)") == "Head 0.75 mm Adult"
    assert described("Müller^Routine CT") == "Routine CT" and described("") == "" == described(None)


def coded(**attributes):
    """An item of a code sequence."""
    item = pydicom.Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


def test_what_was_typed_into_coded_entries_goes():
    """A dictionary's own words stay; of others the words of the trade, and none of the hospital's values."""
    header = slice_header(BodyPartExamined="HEAD MILLER")
    header.ProcedureCodeSequence = [
        coded(CodeValue="CTSKULL MILLER", CodingSchemeDesignator="99OTHERVILLE", CodeMeaning="CT skull for Dr Miller",
              CodingSchemeVersion="Miller 1"),
        coded(CodeValue="77477000", CodingSchemeDesignator="SCT", CodeMeaning="Mrs Smith had a CT"),
        coded(CodeValue="RPID22", CodingSchemeDesignator="RADLEX", CodeMeaning="CT Head, Smith"),
        coded(LongCodeValue="Mrs Smith " * 3, CodingSchemeDesignator="SCT", CodeMeaning="Smith"),
    ]  # fmt: skip
    nested = coded(RequestedProcedureCodeSequence=[coded(CodeMeaning="as said by Anna Smith")])
    header.ReferencedInstanceSequence = [nested]
    header.AnatomicRegionSequence = [
        coded(CodeValue="69536005", CodingSchemeDesignator="SCT", CodeMeaning="Head structure")
    ]
    cleaned(header, "descriptors")
    first, second, third, fourth = header.ProcedureCodeSequence
    assert (first.CodeValue, first.CodingSchemeDesignator, first.CodeMeaning) == ("REMOVED", "L", "CT skull")
    assert "CodingSchemeVersion" not in first and header.BodyPartExamined == "HEAD"
    assert second.CodeValue == "77477000" and "Smith" not in second.CodeMeaning and second.CodeMeaning != "REMOVED"
    assert (third.CodeValue, third.CodeMeaning) == ("RPID22", "CT Head")
    assert (fourth.LongCodeValue, fourth.CodingSchemeDesignator, fourth.CodeMeaning) == ("REMOVED", "SCT", "REMOVED")
    assert "Smith" not in str(header) and "Miller" not in str(header)
    region = header.AnatomicRegionSequence[0]
    assert (region.CodeValue, region.CodingSchemeDesignator) == ("69536005", "SCT") and region.CodeMeaning.startswith(
        "Head"
    )
    place = slice_header(
        InstitutionCodeSequence=[coded(CodeValue="OTHERVILLE", CodeMeaning="Our own", CodingSchemeDesignator="99X")]
    )
    assert cleaned(place, "institution").InstitutionCodeSequence[0].CodeMeaning == "Our own"


def test_references_stay_consistent_and_well_known_uids_stay():
    first = slice_header()
    second = slice_header(StudyInstanceUID=first.StudyInstanceUID)
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = first.SOPClassUID, first.SOPInstanceUID
    second.ReferencedImageSequence = [reference]
    cleaned(first)
    cleaned(second)
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert second.ReferencedImageSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert second.ReferencedImageSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert first.SourceImageSequence[0].ReferencedSOPInstanceUID not in (first.SOPInstanceUID, second.SOPInstanceUID)


def test_enhanced_headers_stay_complete():
    header = slice_header(SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", ContentDate="20200304", ContentTime="101112")
    cleaned(header)
    assert header.DeviceSerialNumber == "REMOVED" and header.ContentDate == "19000101"


# ---------------------------------------------------------------------------------------------------------- the command


def test_what_the_archive_asks_for_has_a_name(capsys):
    def retained(*args):
        parser = argparse.ArgumentParser()
        add_headers(parser)
        args = parser.parse_args(args)
        args.error = parser.error
        return retained_from(args)

    assert retained() is None and retained("--headers", "ps315") == []
    assert retained("--headers", "tcia") == list(TCIA)
    assert retained("--headers", "tcia", "--retain", "uids", "dates") == [*TCIA, "uids"]
    with pytest.raises(SystemExit):
        retained("--headers", "tcia", "--retain", "full-dates")
    header = cleaned(slice_header(), *TCIA)
    assert codes(header) == ["113100", "113107", "113108", "113109", "113111", "113105", "113102"]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    image = scan(field_of_view="upper_lip").image
    dicom_files.write_series(
        folder, image, AccessionNumber="ACC12345", PatientBirthDate="19700203", InstitutionName="Otherville Clinic",
        StudyDate="20200304", OperatorsName="Smith^Will", PatientID="4711-0815",
    )  # fmt: skip
    return folder


def run(*args):
    try:
        return main([str(arg) for arg in args])
    except SystemExit as exit:
        return exit.code


@pytest.mark.slow
def test_command(series, tmp_path):
    assert run("deface", series, tmp_path / "out", "--headers", "ps315", "--retain", "dates", "patient") == 0
    assert sorted(os.listdir(tmp_path)) == ["out", "out-private", "out.json"]
    original = [path.read_bytes() for path in sorted(series.iterdir())]
    secrets = {b"Doe", b"4711-0815", b"ACC12345", b"19700203", b"Otherville", b"Smith", b"20200304"}
    secrets |= set(re.findall(rb"1\.2\.826\.0\.1\.3680043\.8\.498\.\d{15,}", b"".join(original)))
    assert len(secrets) > len(original)
    for path in (tmp_path / "out").iterdir():
        content = path.read_bytes()
        assert not [text for text in secrets if text in content]
    with open(tmp_path / "out-private" / "pseudonyms.csv", encoding="utf-8", newline="") as file:
        table = {(row[0], row[1]): row[2] for row in csv.reader(file)}
    one = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert table["patient", "4711-0815"] == one.PatientID and one.StudyInstanceUID in table.values()
    days = datetime.timedelta(days=int(table["days back", "4711-0815"]))
    assert datetime.datetime(2020, 3, 4) - days == datetime.datetime.strptime(str(one.StudyDate), "%Y%m%d")
    if os.name != "nt":
        assert (tmp_path / "out-private" / "pseudonyms.csv").stat().st_mode & 0o077 == 0

    assert run("deface", series, tmp_path / "again", "--headers", "ps315", "--private", tmp_path / "out-private") == 0
    again = pydicom.dcmread(next((tmp_path / "again").iterdir()))
    assert (again.PatientID, again.StudyInstanceUID) == (one.PatientID, one.StudyInstanceUID)
    with open(tmp_path / "out-private" / "pseudonyms.csv", encoding="utf-8", newline="") as file:
        rows = [tuple(row) for row in csv.reader(file)]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("retain", [None, ["dates"]])
def test_odd_values_are_not_quoted(tmp_path, retain):
    """pydicom warns of them, with the value; a warning would be an error here."""
    image = scan(field_of_view="upper_lip").image
    with pydicom.config.disable_value_validation():
        dicom_files.write_series(
            tmp_path / "in", image, PatientBirthDate="1970.02.03", AcquisitionTime="noon", SeriesDate="3 May",
            AccessionNumber="A" * 40, DeviceUID="no.uid", PatientAge="50 years",
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("default", DeprecationWarning)
        deface_series(tmp_path / "in", tmp_path / "out", DefaceParameters(seed=1), retain=retain)
    assert len(os.listdir(tmp_path / "out")) == image.GetSize()[2]


def test_wrong_usage(series, tmp_path, monkeypatch):
    assert run("deface", series, tmp_path / "out", "--retain", "dates") == 2
    assert run("deface", series, tmp_path / "out", "--headers", "ps315", "--retain", "dates", "full-dates") == 2
    assert run("deface", series, tmp_path / "out.nrrd", "--headers", "ps315") == 2
    with pytest.raises(OutputError, match="must not lie in the output"):
        deface_series(series, tmp_path / "out", retain=[], table=tmp_path / "out" / "table.csv")
    assert os.listdir(tmp_path) == []


def test_missing_package_is_named(series, tmp_path, monkeypatch):
    profile.cache_clear()
    monkeypatch.setitem(sys.modules, "dicomanonymizer.simpledicomanonymizer", None)
    with pytest.raises(InputError, match="pip install ctdeface.dicom."):
        deface_series(series, tmp_path / "out", DefaceParameters(seed=1), retain=[])
    profile.cache_clear()
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_pixels_are_the_same_whatever_becomes_of_the_headers(series, tmp_path):
    for name, retain in (("keep", None), ("clean", [])):
        deface_series(series, tmp_path / name, DefaceParameters(seed=1), retain=retain)
    for path in Path(tmp_path / "keep").iterdir():
        kept, clean = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "clean" / path.name)
        assert np.array_equal(kept.pixel_array, clean.pixel_array)
        assert kept.ImagePositionPatient == clean.ImagePositionPatient
