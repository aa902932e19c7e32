"""Files with odd bytes, names and shapes: each gets a sentence, in seconds, and costs no other scan."""

import csv
import gzip
import importlib.util
import os
import re
import struct
import threading
import zlib
from functools import partial

import batch_cases
import dicom_files
import pytest
from batch_cases import head
from CTDefaceLib import batch, patience, walk
from CTDefaceLib.batch import Choices, series
from CTDefaceLib.batch.record import Record
from CTDefaceLib.batch.status import Status
from CTDefaceLib.commands.main import main
from CTDefaceLib.dicom.files import dicom_header
from CTDefaceLib.errors import InputError
from CTDefaceLib.processes import libraries_silenced
from CTDefaceLib.volume_io import read_ct
from pydicom.uid import DeflatedExplicitVRLittleEndian
from test_volume_io import small_ct

POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has neither FIFOs nor names that are no text")


def edit(path, change):
    """Change the bytes of a file."""
    path.write_bytes(change(path.read_bytes()))


def tag(group, element):
    return struct.pack("<HH", group, element)


def unknown_kind(data):
    """The modality has a value representation that there is not."""
    place = data.find(tag(0x0008, 0x0060))
    return data[: place + 4] + b"ZZ" + data[place + 6 :]


def endless(data):
    """The pixels have no length, as only compressed ones may."""
    place = data.find(tag(0x7FE0, 0x0010))
    return data[: place + 8] + b"\xff" * 4 + data[place + 12 :]


def run(*args):
    """Exit status of the command."""
    return main([str(arg) for arg in args])


@pytest.fixture
def sentence(tmp_path, capfd):
    """Defaces what must be refused; gives the one line on standard error."""

    def of(path, output="defaced"):
        assert run("deface", path, tmp_path / output) == 1
        shown = capfd.readouterr()
        lines = shown.err.splitlines()
        assert shown.out == "" and len(lines) == 1 and lines[0].startswith("ctdeface: "), shown.err
        assert not (tmp_path / output).exists()
        return lines[0]

    return of


@pytest.fixture
def source(tmp_path):
    """A folder with one good head, for a batch whose results are in the folder out."""
    batch_cases.write(tmp_path / "in" / "good" / "head.nii.gz", head())
    return tmp_path / "in"


def statuses(source, **choices):
    """What a batch without pictures makes of each place."""
    batch.run(source, source.with_name("out"), choices=Choices(**choices), gallery=False)
    with Record(source.with_name("out-private") / batch.RECORD, read_only=True) as record:
        return {row["place"]: row["status"] for row in record.rows()}


# ----------------------------------------------------------------------------------------------- one odd byte, one file


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".nii.gz", ".dicom"])
def test_an_unknown_kind_of_value_costs_its_own_scan(source, sentence, ending):
    files = dicom_files.write_series(source / "odd", head())
    edit(files[3], unknown_kind)
    good = "good/head.nii.gz" if ending == ".nii.gz" else "good"
    if ending == ".dicom":
        dicom_files.write_series(source / "good", head())
        (source / "good" / "head.nii.gz").unlink()
    found = statuses(source, ending=ending)
    assert found == {good: Status.DONE, "odd": Status.REFUSED}
    assert "truncated or damaged" in sentence(source / "odd")


def test_pixels_without_a_length(source, sentence):
    edit(dicom_files.write_series(source / "series", head())[5], endless)
    assert "truncated or damaged" in sentence(source / "series")
    assert "truncated or damaged" in sentence(source / "series", "defaced.nii.gz")


@pytest.mark.slow
@POSIX
def test_a_name_that_is_no_text_is_kept_as_its_bytes(source, capfd):
    odd = os.fsencode(source) + b"/M\xfcller\n.nii.gz"
    batch_cases.write(source / "other.nii.gz", batch_cases.another(1))
    os.rename(source / "other.nii.gz", odd)
    folder = os.fsencode(source) + b"/J\xfcrgen"
    dicom_files.write_series(os.fsdecode(folder), batch_cases.another(2))
    output, private = source.with_name("out"), source.with_name("out-private")
    assert run("batch", source, output, "--dry-run") == 0
    assert "M\\udcfcller\\n.nii.gz -> (a pseudonym): waiting\n" in capfd.readouterr().out
    assert run("batch", source, output, "--names", "keep", "--format", ".dicom", "--no-gallery", "--workers", 0) == 3
    assert "J\\udcfcrgen: done" in capfd.readouterr().err
    assert os.path.isdir(os.fsencode(output) + b"/J\xfcrgen.dicom")
    with open(private / batch.TABLE, encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = {os.fsencode(row["input"]): row for row in csv.DictReader(file)}
    assert set(table) == {b"M\xfcller\n.nii.gz", b"J\xfcrgen", b"good/head.nii.gz"}
    batch_cases.write(source / "other.mha", batch_cases.another(3))
    os.rename(source / "other.mha", os.fsencode(source) + b"/H\xe9.mha")  # which only ITK reads
    assert run("batch", source, source.with_name("volumes"), "--workers", 0) == 3
    shown = capfd.readouterr()
    assert "rename it" in shown.err and shown.out == "3 done, 1 refused\n"
    assert (source.with_name("volumes-private") / batch.GALLERY / "index.html").is_file()
    assert run("batch", source, source.with_name("volumes"), "--workers", 0) == 3
    assert "4 scans, 0 to do" in capfd.readouterr().err


@POSIX
def test_of_two_copies_that_with_a_readable_name_is_done(source):
    os.link(source / "good" / "head.nii.gz", os.fsencode(source) + b"/A\xe4.nii.gz")
    assert statuses(source) == {"A\udce4.nii.gz": Status.DOUBLE, "good/head.nii.gz": Status.DONE}


@pytest.mark.slow
@POSIX
def test_nothing_is_waited_for(source, sentence):
    """FIFOs, in a tree and behind a header, and one beside a scan."""
    (source / "a").mkdir()
    os.mkfifo(source / "a" / "0")
    os.mkfifo(source / "a" / "1.nii.gz")
    os.mkfifo(source / "good" / "head.json")
    dicom_files.write_series(source / "series", batch_cases.another(1))
    os.mkfifo(source / "series" / "0")
    assert statuses(source) == {
        "a/1.nii.gz": Status.REFUSED, "good/head.nii.gz": Status.DONE, "series": Status.DONE
    }  # fmt: skip
    assert "no DICOM images" in sentence(source / "a")
    header = b"ObjectType = Image\nNDims = 3\nDimSize = 9 9 9\nElementType = MET_SHORT\nElementDataFile = 0\n"
    (source / "a" / "head.mhd").write_bytes(header)
    assert "truncated" in sentence(source / "a" / "head.mhd", "defaced.nii")
    (source / "a" / "head.nhdr").write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 9 9 9\nencoding: raw\nendian: little\ndata file: 0\n\n"
    )
    assert "truncated" in sentence(source / "a" / "head.nhdr", "defaced.nii")


@pytest.mark.parametrize("what", ["dicom_header", "a folder"])
def test_a_disk_that_does_not_answer_costs_what_lies_there(source, monkeypatch, capfd, what):
    """A file whose header never comes, or a folder whose list does not, is passed over in time, and said."""
    dicom_files.write_series(source / "slow", small_ct())
    end = threading.Event()

    def wait(real, path, *args):
        if "slow" in os.fspath(path):
            end.wait(30)
        return real(path, *args)

    module, name = (series, "dicom_header") if what == "dicom_header" else (walk, "_listed")
    monkeypatch.setattr(module, name, partial(wait, getattr(module, name)))
    monkeypatch.setattr(patience, "LONGEST_SECONDS", 0.5)
    try:
        assert run("batch", source, source.with_name("out"), "--workers", 0, "--no-gallery") == 3
    finally:
        end.set()
    shown = capfd.readouterr()
    assert "1 done" in shown.out and "could not be read within 0.5 s: 1." in shown.err
    table = (source.with_name("out-private") / batch.PASSED_OVER).read_text(encoding="utf-8")
    assert f"{source / 'slow'}," in table


# ----------------------------------------------------------------------------------- neither crash, nor hang, nor trace


def meta_image(path, line=b"", dimensions=b"3"):
    """The head as MetaImage with another line in its header."""
    image = batch_cases.like(batch_cases.sitk.GetArrayFromImage(head()))
    batch_cases.sitk.WriteImage(image, str(path))
    start = b"ElementDataFile"
    edit(path, lambda data: data.replace(start, line + start, 1).replace(b"NDims = 3", b"NDims = " + dimensions, 1))
    return path


@pytest.mark.parametrize("change", [{"line": b"\xe9tude = 1\n"}, {"dimensions": b"9" * 20}, {"dimensions": b"-1"}])
def test_header_of_a_meta_image_that_nobody_can_mean(tmp_path, sentence, change):
    path = meta_image(tmp_path / "head.mha", **change)
    assert "truncated, damaged or not of the format" in sentence(path, "defaced.nii")


def test_words_of_another_format_in_a_header_mean_nothing(tmp_path):
    (tmp_path / "head.json").write_text("[" * 100_000)
    assert read_ct(meta_image(tmp_path / "head.mha", b"datatype = 4\n")).GetPixelID() == head().GetPixelID()


def nested(levels):
    """Sequences within sequences, of defined length, as they stand in a file."""
    body = b""
    for _ in range(levels):
        item = tag(0xFFFE, 0xE000) + struct.pack("<I", len(body)) + body
        body = tag(0x0008, 0x1140) + b"SQ\0\0" + struct.pack("<I", len(item)) + item
    return body


@pytest.mark.parametrize("levels", [51, 300, 2000])
def test_sequences_that_are_nested_for_ever(tmp_path, sentence, levels):
    files = dicom_files.write_series(tmp_path / "series", head())
    edit(files[3], lambda data: data.replace(b"\x10\0\x20\0LO", nested(levels) + b"\x10\0\x20\0LO", 1))
    assert "nested too deeply" in sentence(tmp_path / "series")
    assert "nested too deeply" in sentence(tmp_path / "series", "defaced.nii.gz")


@pytest.mark.parametrize(
    "tags",
    [{"BitsAllocated": 3}, {"BitsStored": 17}, {"SamplesPerPixel": 0}, {"Rows": 0}, {"BitsStored": 12, "HighBit": 9},
     {"BitsStored": 12, "HighBit": 16}],
)  # fmt: skip
def test_pixels_of_odd_sizes(tmp_path, sentence, tags):
    files = dicom_files.write_series(tmp_path / "series", head())
    for path in files[:3]:
        dicom_files.change(path, **tags)
    assert "truncated or damaged" in sentence(tmp_path / "series")
    assert "truncated or damaged" in sentence(tmp_path / "series", "defaced.nii.gz")


@pytest.mark.parametrize("kind", [b"LO", b"PN", b"FD", b"OB"])
@pytest.mark.parametrize("element", [0x0010, 0x0100, 0x0101, 0x0102, 0x0103])
def test_numbers_of_the_pixels_are_no_numbers(tmp_path, kind, element):
    """Rows, bits, the highest bit, and whether there is a sign."""
    for path in dicom_files.write_series(tmp_path / "series", small_ct()):
        edit(path, lambda data: data.replace(tag(0x0028, element) + b"US", tag(0x0028, element) + kind, 1))
    with pytest.raises(InputError, match="damaged"):
        read_ct(tmp_path / "series")


@pytest.mark.parametrize("element", [0x0002, 0x0003, 0x0012, 0x0013])
def test_an_unknown_kind_of_value_in_front_of_the_header(tmp_path, sentence, element):
    """Among what a file says of itself: class, UID, and who wrote it."""
    path = dicom_files.write_series(tmp_path / "series", small_ct())[3]
    place = path.read_bytes().find(tag(0x0002, element))
    assert place > 0
    edit(path, lambda data: data[: place + 4] + b"UY" + data[place + 6 :])
    assert "truncated or damaged" in sentence(tmp_path / "series", "defaced.nii")


@pytest.mark.parametrize("tags", [{"RescaleSlope": 1e10}, {"RescaleSlope": 4e4, "RescaleIntercept": -9999},
                                  {"RescaleIntercept": 2**31}, {"RescaleSlope": 1e300}])  # fmt: skip
def test_a_rescale_that_nobody_can_mean(tmp_path, recwarn, tags):
    for path in dicom_files.write_series(tmp_path / "series", small_ct()):
        dicom_files.change(path, **tags)
    with pytest.raises(InputError, match="cannot be Hounsfield|not a number or infinite"):
        read_ct(tmp_path / "series")
    assert not recwarn.list


LONG = b"A" * 2000
LINES = {
    "an unknown field": LONG + b": 1", "no field": LONG, "a long origin": b"space origin: (" + LONG,
    "not a comment": b"A#" + LONG, "not a note": LONG + b": 1:=2", "a long file": b"data file: " + LONG,
}  # fmt: skip


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_lines_of_an_nrrd_header_that_its_library_dies_of(tmp_path, line):
    batch_cases.write(tmp_path / "head.nrrd", head())
    edit(tmp_path / "head.nrrd", lambda data: data.replace(b"type: ", line + b"\ntype: ", 1))
    with pytest.raises(InputError, match="truncated, damaged"):
        read_ct(tmp_path / "head.nrrd")


def test_notes_and_comments_of_an_nrrd_header_may_be_long(tmp_path):
    """As those of a segmentation with many segments, beyond what is read at once."""
    batch_cases.write(tmp_path / "head.nrrd", head())
    notes = b"".join(b"Segment%d_Tags:=%s\n" % (n, LONG) for n in range(50)) + b"# " + LONG + b": 1\n"
    edit(tmp_path / "head.nrrd", lambda data: data.replace(b"type: ", notes + b"type: ", 1))
    assert read_ct(tmp_path / "head.nrrd").GetSize() == head().GetSize()


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".nrrd"])
def test_a_small_file_that_inflates_for_ever_is_not_followed(tmp_path, monkeypatch, ending):
    """More than a whole volume follows; and one whose header promises more than its bytes can become."""
    path, read = tmp_path / f"head{ending}", []
    batch_cases.write(path, head())
    data = path.read_bytes()
    if ending == ".nii.gz":
        plain = bytearray(gzip.decompress(data))
        path.write_bytes(gzip.compress(plain + b"\0" * (1 << 28), 1))
        with monkeypatch.context() as watched:
            inflate = zlib.decompressobj
            watched.setattr("CTDefaceLib.stored_data.zlib.decompressobj", lambda bits: Counted(inflate(bits), read))
            read_ct(path)
        assert 1000 < sum(read) < 1 << 28
        plain[42:48] = struct.pack("<3h", 3000, 3000, 3000)
        path.write_bytes(gzip.compress(bytes(plain), 1))
    else:
        sizes = re.search(rb"(DimSize = |sizes: )([0-9 ]+)", data)
        path.write_bytes(data[: sizes.start(2)] + b"30000 30000 30000" + data[sizes.end(2) :])
    with pytest.raises(InputError, match="truncated"):
        read_ct(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (108, struct.pack("<f", float("nan"))), (108, struct.pack("<f", float("inf"))), (108, struct.pack("<f", 1e30)),
        (40, struct.pack("<8h", 7, *[32767] * 7)), (42, struct.pack("<h", -9)), (42, struct.pack("<h", 0)),
        (70, struct.pack("<h", 1536)), (76, struct.pack("<f", float("nan"))), (80, struct.pack("<f", 0.0)),
        (80, struct.pack("<3f", *[float("nan")] * 3)), (80, struct.pack("<3f", *[1e38] * 3)),
        (112, struct.pack("<2f", 1e38, 1e38)), (256, struct.pack("<6f", *[float("nan")] * 6)),
        (256, struct.pack("<6f", *[3e38] * 6)), (280, struct.pack("<12f", *[float("inf")] * 12)),
        (280, struct.pack("<12f", *[0.0] * 12)), (112, struct.pack("<2f", 1, 2.0**31)),
        (112, struct.pack("<2f", 1, 1e20)), (252, struct.pack("<2h", -1, -1)),
    ],
)  # fmt: skip
def test_header_of_a_nifti_file_that_nobody_can_mean(tmp_path, recwarn, ending, offset, value):
    """A sentence, or the volume; neither a crash, nor lines of a library, nor a wait."""
    path = tmp_path / f"head{ending}"
    batch_cases.write(path, head())
    plain = path.read_bytes() if ending == ".nii" else gzip.decompress(path.read_bytes())
    odd = plain[:offset] + value + plain[offset + len(value) :]
    path.write_bytes(odd if ending == ".nii" else gzip.compress(odd, 1))
    try:
        assert read_ct(path).GetSize() == head().GetSize()
    except InputError as error:
        assert "nan" not in str(error)
    assert not recwarn.list, [str(one.message) for one in recwarn]


def test_a_series_that_inflates_for_ever_is_not_followed(tmp_path, sentence, monkeypatch):
    """Deflated as a whole, or compressed pixels of a size that nobody scans."""
    monkeypatch.setattr("CTDefaceLib.dicom.files.MOST_INFLATED_BYTES", 1 << 20)
    files = dicom_files.write_series(tmp_path / "deflated", head())
    dicom_files.change_syntax(files[0], DeflatedExplicitVRLittleEndian)
    assert dicom_header(files[0], ["Rows"]).Rows == head().GetSize()[1]
    dicom_files.change(files[0], EncapsulatedDocument=bytes(1 << 22))
    assert files[0].stat().st_size < 1 << 20
    assert "truncated or damaged" in sentence(tmp_path / "deflated")
    for path in dicom_files.write_series(tmp_path / "large", head())[:1]:
        dicom_files.compress(path, "JPEGLosslessProcess14_1") if importlib.util.find_spec("gdcm") else None
        edit(path, lambda data: data.replace(b"\x28\0\x10\0US\2\0" + struct.pack("<H", head().GetSize()[1]),
                                             b"\x28\0\x10\0US\2\0\xff\xff", 1))  # fmt: skip
    assert "truncated or damaged" in sentence(tmp_path / "large")


class Counted:
    """Notes how much was inflated."""

    def __init__(self, stream, read):
        self._stream, self._read = stream, read

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def decompress(self, *args):
        self._read.append(len(found := self._stream.decompress(*args)))
        return found


def test_formulas_and_lines_in_names_stay_text(source, capfd):
    """In the table of scans, which people open with a spreadsheet, and in the log."""
    for name in ("=1+1.nii.gz", "-2.nii.gz", "a\nb.nii.gz"):
        if os.name != "nt" or "\n" not in name:
            (source / name).write_bytes(name.encode())
    private = source.with_name("out-private")
    assert run("batch", source, source.with_name("out"), "--workers", 0, "--names", "keep") == 3
    lines = capfd.readouterr().err.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines) and any("a\\nb: refused" in line for line in lines)
    with open(private / batch.TABLE, newline="", encoding="utf-8") as file:
        inputs = [row["input"] for row in csv.DictReader(file)]
    assert {"'=1+1.nii.gz", "'-2.nii.gz", "good/head.nii.gz"} <= set(inputs)
    if os.name != "nt":
        modes = {path: path.stat().st_mode & 0o77 for path in [private, *private.rglob("*")]}
        assert not any(modes.values()), modes


def test_a_jpeg_whose_decoder_dies_of_it(tmp_path, sentence):
    """A mark within the header of the compressed pixels is another one."""
    pytest.importorskip("gdcm")
    path = dicom_files.write_series(tmp_path / "series", small_ct())[3]
    dicom_files.compress(path, "JPEGLosslessProcess14_1")
    assert path.read_bytes().count(b"\xff\xc4") == 1
    edit(path, lambda data: data.replace(b"\xff\xc4", b"\x07\xc4"))
    assert "cannot be decoded" in sentence(tmp_path / "series", "defaced.nii")


def test_standard_error_comes_back_whatever_threads_silence_it(capfd):
    """Compressed slices are decoded several at a time: who comes first is not who goes last."""
    first, second = libraries_silenced(), libraries_silenced()
    first.__enter__()
    os.write(2, b"nobody ")
    second.__enter__()
    first.__exit__(None, None, None)
    os.write(2, b"hears ")
    second.__exit__(None, None, None)
    os.write(2, b"a sentence")
    assert capfd.readouterr().err == "a sentence"


def test_what_nobody_expected_is_a_sentence(tmp_path, sentence, monkeypatch, capfd):
    def fail(path, **reading):
        raise ZeroDivisionError("of Jane Doe")

    monkeypatch.setattr("CTDefaceLib.study.volumes.read_scan", fail)
    path = tmp_path / "head.mha"
    batch_cases.write(path, head())
    assert sentence(path, "defaced.nii").endswith("stopped it (ZeroDivisionError); --debug shows where.")
    assert (
        run("deface", path, tmp_path / "defaced.nii", "--debug") == run("--debug", "deface", path, "defaced.nii") == 1
    )
    assert capfd.readouterr().err.count("Traceback") == 2
