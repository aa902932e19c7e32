"""Search the bytes of cleaned files for what was planted into the originals, in any encoding, and by no rule of ours.

The files are written and read again, so that values are met as they come from a disk: not yet decoded, in the character
set that the file declares, in sequences of defined and undefined length.
"""

import datetime
import io
import random

import dicom_files
import pydicom
import pytest
from coarse_phantoms import scan
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom.deface import HeaderWriter
from CTDefaceLib.dicom.files import CT_IMAGES, SEGMENTATION, STRUCTURE_SET, read_dataset
from CTDefaceLib.dicom.write import save
from examples import examples
from hypothesis import HealthCheck, event, given
from hypothesis import strategies as st
from pydicom.datadict import DicomDictionary, RepeatersDictionary
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

pytest.importorskip("dicomanonymizer", reason="pip install ctdeface[dicom]")

SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
#: character sets with letters of theirs, and how Python calls them
CHARACTERS = {
    "ISO_IR 6": ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "ascii"),
    "ISO_IR 100": ("ÄÖÜéèçñABCDEFG", "latin-1"),
    "ISO_IR 144": ("БГДЖЗИЛПФЦЧ", "iso8859-5"),
    "ISO_IR 192": ("ÄŐŞ山田太郎김희중БГД", "utf-8"),
    "GB18030": ("王小东张伟李娜", "gb18030"),
    "\\ISO 2022 IR 87": ("山田太郎鈴木花子", "iso2022_jp"),
}
NAMES = ("PatientName", "ReferringPhysicianName", "OperatorsName", "PerformingPhysicianName", "OtherPatientNames")
NUMBERS = ("PatientID", "AccessionNumber", "StudyID", "OtherPatientIDs")
PLACES = ("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "PatientAddress")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "DeviceUID")
TEXTS = ("LO", "SH", "ST", "LT", "UT", "UC", "PN")
ASCII_TEXTS = ("CS", "AE", "UR")
BYTES = ("OB", "UN", "OW")
#: what an image needs to be read, and what names a character set or a syntax
NEEDED = {
    0x00080005, 0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00200032, 0x00200037, 0x7FE00010,
    *range(0x00280002, 0x00280200),
}  # fmt: skip
ATTRIBUTES = {
    tag: entry[0]
    for tag, entry in DicomDictionary.items()
    if tag >> 16 > 7 and tag not in NEEDED and entry[0] in (*TEXTS, *ASCII_TEXTS, *BYTES, "DA", "DT", "UI", "IS", "DS")
}
ATTRIBUTES |= {int(mask.replace("x", "0"), 16): entry[0] for mask, entry in RepeatersDictionary.items()
               if entry[0] in (*TEXTS, *BYTES)}  # fmt: skip
TAGS = sorted(ATTRIBUTES)
SEQUENCES = sorted(
    tag for tag, entry in DicomDictionary.items() if entry[0] == "SQ" and tag >> 16 > 7 and tag not in NEEDED
)
CREATORS = ["SIEMENS CSA HEADER", "GEMS_PARM_01", "ELSCINT1", "PHILIPS MR/PART", "somebody's own"]


def identities(dice, alphabet):
    """Attribute → value for everything that identifies: nothing that could stand in a file by chance."""

    def word():
        return "".join(dice.choices(alphabet, k=dice.randint(5, 9)))

    found = {keyword: "^".join(word() for _ in range(dice.randint(1, 2))) for keyword in NAMES}
    found |= {keyword: word() for keyword in PLACES}
    for keyword in NUMBERS:
        found[keyword] = "".join(dice.choices("BCDFGHJKLMN", k=3)) + dice.choice(["", "-", "/", "."])
        found[keyword] = dice.choice(["", found[keyword]]) + str(dice.randint(10**8, 10**9))
    found |= {keyword: f"1.2.{dice.randint(10**15, 10**30)}" for keyword in UIDS}
    day = datetime.date(1900, 1, 2) + datetime.timedelta(days=dice.randint(0, 43000))
    return {**found, "PatientBirthDate": f"{day:%Y%m%d}"}


def fitting(kind, text, codec):
    """A value of a kind that shows a text, and None where it cannot."""
    plain = text.isascii()
    if kind in ("DA", "DT"):
        return text if text.isdigit() and len(text) == 8 else None
    if kind == "UI":
        return text if text.startswith("1.2.") else None
    if kind in ("IS", "DS"):
        return text if text.isdigit() and len(text) <= 12 else None
    if kind in BYTES:
        raw = text.encode(codec)
        return raw + b" " * (len(raw) % 2)
    if kind in ASCII_TEXTS and not plain:
        return None
    return text[:16] if kind in ("CS", "AE", "SH") else text


def plant(data, dataset, text, codec):
    """Put a text somewhere into a dataset: deep, in a private group, in any kind of element, amid other words."""
    for _ in range(data.draw(st.integers(0, 3))):
        if data.draw(st.integers(0, 3)) == 0:
            group, creator = data.draw(st.sampled_from([0x0009, 0x0029, 0x0043, 0x00E1])), data.draw(
                st.sampled_from(CREATORS))  # fmt: skip
            block = dataset.private_block(group, creator, create=True)
            offset = data.draw(st.integers(0, 255))
            if offset in block:
                return
            block.add_new(offset, "SQ", [pydicom.Dataset()])
            dataset = block[offset].value[0]
        else:
            tag = data.draw(st.sampled_from(SEQUENCES))
            if tag not in dataset:
                dataset[tag] = pydicom.DataElement(tag, "SQ", [pydicom.Dataset()])
                dataset[tag].value[0].is_undefined_length_sequence_item = data.draw(st.booleans())
            dataset = dataset[tag].value[0]
    if data.draw(st.integers(0, 3)) == 0:
        group = data.draw(st.sampled_from([0x0009, 0x0019, 0x0043, 0x00E1, 0x7053]))
        creator = data.draw(st.sampled_from([*CREATORS, text[:60]]))
        block = dataset.private_block(group, creator, create=True)
        offset, kind = data.draw(st.integers(0, 255)), data.draw(st.sampled_from([*TEXTS, *BYTES, "UI", "DA"]))
        value = fitting(kind, text, codec)
        if offset not in block and value is not None:
            block.add_new(offset, kind, value)
        return
    tag = data.draw(st.sampled_from(TAGS))
    kind = ATTRIBUTES[tag]
    around = "{}"
    if kind in ("LO", "ST", "LT", "UT", "UC"):
        around = data.draw(st.sampled_from(["{}", "Head of {}, 2 mm", "see {} (old)", "{}\\{}"]))
    value = fitting(kind, around.format(text, text), codec)
    if value is not None and pydicom.tag.Tag(tag) not in dataset:
        parts = value.split("\\") if isinstance(value, str) and "\\" in value else value
        dataset[tag] = pydicom.DataElement(tag, kind, parts)


def forms(text, codec):
    """How a text could stand in a file."""
    return {text.encode(name) for name in {codec, "utf-8", "utf-16-le", "utf-16-be"}} | (
        {text.encode("utf-8").hex().encode()} if len(text) > 4 else set()
    )


def traces(content, planted, codec):
    """Which of the planted texts, or parts of names, stand in the bytes."""
    content = content.upper()
    parts = {part for text in planted for part in text.split("^")}
    return [part for part in parts if any(form.upper() in content for form in forms(part, codec))]


def inflated(path):
    """All bytes of a file, those that are deflated as what they are."""
    content = path.read_bytes()
    back = pydicom.dcmread(path)
    if back.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        back.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        plain = pydicom.Dataset()
        plain.update(back)
        plain.file_meta = back.file_meta
        plain.save_as(file := io.BytesIO(), enforce_file_format=True)
        content += file.getvalue()
    return content


def fresh(source, path):
    """A dataset as it comes from the disk."""
    plain = pydicom.Dataset()
    plain.update(source)
    plain.file_meta, plain.preamble = source.file_meta, source.preamble
    plain.save_as(path, enforce_file_format=True)
    return read_dataset(str(path))


@pytest.mark.slow
@examples(120, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_trace_in_the_bytes(tmp_path_factory, data):
    declared = data.draw(st.sampled_from(sorted(CHARACTERS)))
    alphabet, codec = CHARACTERS[declared]
    dice = random.Random(data.draw(st.integers(0, 2**64)))
    identity = identities(dice, alphabet)
    syntax = data.draw(st.sampled_from(SYNTAXES))
    retain = data.draw(st.sets(st.sampled_from(["dates", "patient", "device", "safe-private", "descriptors"])))
    event(declared)
    with pydicom.config.disable_value_validation():
        kind = data.draw(st.sampled_from([*CT_IMAGES[:2], STRUCTURE_SET, SEGMENTATION]))
        charset = declared.split("\\")
        header = dicom_files.slice_header(SOPClassUID=kind, SpecificCharacterSet=charset, **identity)
        if "device" in retain:
            for keyword in ("StationName", "DeviceUID"):
                delattr(header, keyword)
                del identity[keyword]
        header.file_meta.TransferSyntaxUID = syntax
        for text in data.draw(st.lists(st.sampled_from(sorted(identity.values())), max_size=12)):
            plant(data, header, text.split("^")[-1], codec)
        secret = "".join(dice.choices("ABCDEFGHIJ", k=12))
        if "safe-private" not in retain:
            header.private_block(0x0029, "SOMEBODY", create=True).add_new(0xFE, "LO", secret)
        header.preamble = identity["PatientID"].encode().ljust(128, b"\0")
        header.file_meta.SourceApplicationEntityTitle = identity["AccessionNumber"]
        header.file_meta.SendingApplicationEntityTitle = identity["AccessionNumber"]
        header.file_meta.ReceivingApplicationEntityTitle = identity["PatientID"]
        folder = tmp_path_factory.mktemp("bytes")
        dataset = fresh(header, folder / "in.dcm")
        assert len(traces(inflated(folder / "in.dcm"), identity.values(), codec)) > 5
    writer = HeaderWriter({dataset.SOPInstanceUID, dataset.SeriesInstanceUID}, b"s" * 32, True, retain)
    (writer if kind in CT_IMAGES else writer.document)(dataset)
    save(dataset, folder / "out.dcm")
    assert not traces(inflated(folder / "out.dcm"), [*identity.values(), secret], codec)


@pytest.mark.slow
def test_no_trace_in_names_of_files_reports_and_messages(tmp_path, capfd):
    """Folders and files are often named after the patient, too."""
    dice = random.Random(3)
    identity = {**identities(dice, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "SeriesInstanceUID": "1.2.34567890123456"}
    del identity["SOPInstanceUID"]
    source = tmp_path / identity["PatientName"].replace("^", " ")
    paths = dicom_files.write_series(source, scan(field_of_view="upper_lip").image, **identity)
    for number, path in enumerate(paths):
        path.rename(source / f"{identity['PatientID'].replace('/', ' ')} {identity['PatientBirthDate']} {number}.dcm")
    dicom_files.write_document(source / "report", "1.2.840.10008.5.1.4.1.1.88.67", **identity)
    command = ["deface", source, tmp_path / "out", "--headers", "ps315", "--retain", "dates", "descriptors"]
    assert main([str(arg) for arg in command]) == 0
    written = [path for name in ("out", "out.json") for path in (tmp_path / name, *(tmp_path / name).rglob("*"))]
    assert len(written) == len(paths) + 2
    content = b"".join(path.read_bytes() for path in written if path.is_file())
    content += " ".join([*map(str, written), *capfd.readouterr()]).replace(str(tmp_path), "").encode()
    assert not traces(content, identity.values(), "ascii")
