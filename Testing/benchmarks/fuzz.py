"""Files that nobody can mean, by the hundred: whatever comes in gets a result or a sentence.

    python Testing/benchmarks/fuzz.py -o RESULTS --files 2000 --minutes 30
    python Testing/benchmarks/fuzz.py -o RESULTS --again RESULTS/findings/0042

Heads as NIfTI, NRRD, MetaImage and DICOM are spoiled, each in one to three ways: single bytes, fields and lines of
headers, lengths, numbers, nesting, ends. Each goes through ``ctdeface deface`` in a process of its own, with limits of
memory and time. Counted are processes that crash, hang, need too much memory, show a trace or a library's own lines,
say that something was not expected, or leave half of something. The seed makes the same files again; what is found is
kept in ``findings``, and ``figures.json`` tells the numbers. It forks, so it runs on Linux.
"""

import argparse
import contextlib
import gzip
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(CHECKOUT / folder) for folder in ("CTDeface", "CTDefaceEval", "Testing")]
os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1")
)

import CTDefaceLib.batch  # noqa: E402, F401, all that a command imports late, once for all processes
import CTDefaceLib.worker  # noqa: E402, F401
import dicom_files  # noqa: E402
import pydicom  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from CTDefaceLib.commands.main import main  # noqa: E402
from CTDefaceLib.phantom import PhantomParameters, make_phantom  # noqa: E402
from pydicom.uid import ImplicitVRLittleEndian  # noqa: E402

SECONDS = 60
"""Of a processor: a head of this size that takes longer hangs, and so does one that waits for ten times as long."""

MEMORY_BYTES = 4 << 30
"""Of address space; a head of this size takes a tenth."""

EXPECTED = re.compile(r"(ctdeface: .*|usage: .*| .*)?")
"""Lines that may stand on standard error."""

NUMBERS = (0, 1, 2, -1, 3, 7, 255, 256, 4096, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, -(2**31), 2**63, 10**20)
"""Numbers that programs forget."""

Dice = random.Random
Mutator = Callable[[Dice, bytes], bytes]


# ------------------------------------------------------------------------------------------------------------ mutators


def flip(dice: Dice, data: bytes) -> bytes:
    """Single bits, most of them in the header."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        end = len(changed) if dice.random() < 0.1 else min(len(changed), 1024)
        if end:
            changed[dice.randrange(end)] ^= 1 << dice.randrange(8)
    return bytes(changed)


def cut(dice: Dice, data: bytes) -> bytes:
    """The end is missing, or a piece in between, or stands twice."""
    if not data:
        return data
    early = dice.randrange(min(len(data), 2048) if dice.random() < 0.5 else len(data))
    length = dice.choice((1, 2, 4, 16, 1000))
    return dice.choice((data[:early], data[:early] + data[early + length :], data[: early + length] + data[early:]))


def stuff(dice: Dice, data: bytes) -> bytes:
    """Something odd stands in between."""
    place = dice.randrange(min(len(data), 2048) + 1)
    odd = dice.choice(
        (b"\0", b"\xff" * 8, b"%s%n%d", b"\n", b"A" * 70_000, b"../../../etc/passwd", b"\xe9\xff", b'"\\')
    )
    return data[:place] + odd * dice.choice((1, 1, 3)) + data[place:]


def _packed(kind: str, number: float) -> bytes:
    """A number as a field of this kind holds it."""
    if kind in "fd":
        with contextlib.suppress(OverflowError):
            return struct.pack("<" + kind, number)
        return struct.pack("<" + kind, float("inf"))
    size = struct.calcsize(kind)
    return (int(number) % (1 << 8 * size)).to_bytes(size, "little")


NIFTI_FIELDS = (
    [(0, "i"), (70, "h"), (72, "h"), (108, "f"), (112, "f"), (116, "f"), (123, "b"), (252, "h"), (254, "h")]
    + [(40 + 2 * n, "h") for n in range(8)]
    + [(76 + 4 * n, "f") for n in range(8)]
    + [(256 + 4 * n, "f") for n in range(18)]
    + [(344, "i"), (348, "i"), (352, "i"), (356, "i")]
)
"""Offset and kind of the numbers in a NIfTI header and of its first extension."""


def nifti_field(dice: Dice, data: bytes) -> bytes:
    """A number of the header is another one."""
    offset, kind = dice.choice(NIFTI_FIELDS)
    number = (
        dice.choice((*NUMBERS, float("nan"), float("inf"), -0.5, 1e-30, 1e30)) if kind in "fd" else dice.choice(NUMBERS)
    )
    field = _packed(kind, number)
    return data[:offset] + field + data[offset + len(field) :]


def text_number(dice: Dice, data: bytes) -> bytes:
    """A number in the lines of a header is another one, or none."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[:2048]))
    if not found:
        return data
    where = dice.choice(found)
    other = str(
        dice.choice((*NUMBERS, "nan", "inf", "1e400", "-1e400", "", "x", "9" * 400, "1 1 1 1", "0x10"))
    ).encode()
    return data[: where.start()] + other + data[where.end() :]


def text_line(dice: Dice, data: bytes) -> bytes:
    """A line of a header is missing, stands twice or elsewhere, has no value, or is one that was never heard of."""
    head, mark, body = data.partition(b"\n\n" if data.startswith(b"NRRD") else b"ElementDataFile")
    lines = head.split(b"\n")
    place = dice.randrange(len(lines))
    new = dice.choice(
        (b"datatype = 4", b"type: block", b"encoding: bzip2", b"encoding: ascii", b"encoding: hex", b"dimension: 16",
         b"space dimension: 9", b"data file: LIST", b"data file: a%03d.raw 1 9 1", b"byte skip: -1", b"line skip: 99",
         b"CompressedData = True", b"CompressedDataSize = 5", b"BinaryData = False", b"NDims = 4", b"HeaderSize = -1",
         b"ElementNumberOfChannels = 3", b"ElementType = MET_STRING", b"ElementByteOrderMSB = maybe", b"kinds: list",
         b"sizes: 0 0 0", b"space directions: none none none", b"TransformMatrix = 0 0 0 0 0 0 0 0 0", b"=", b": ",
         b"a:=b")
    )  # fmt: skip
    ways = (lines[:place] + lines[place + 1 :], [*lines, lines[place]], [*lines[:place], new, *lines[place:]],
            [*lines[:place], lines[place].split(b"=")[0].split(b":")[0] + b"= ", *lines[place + 1 :]],
            dice.sample(lines, len(lines)))  # fmt: skip
    return b"\n".join(dice.choice(ways)) + mark + body


def inflated(mutator: Mutator) -> Mutator:
    """The mutator on what is compressed."""

    def mutate(dice: Dice, data: bytes) -> bytes:
        with contextlib.suppress(OSError, EOFError, ValueError, zlib.error):
            return gzip.compress(mutator(dice, gzip.decompress(data)), 1)
        return data

    return mutate


ELEMENTS = [
    (tag >> 16, tag & 0xFFFF)
    for tag in map(pydicom.tag.Tag, ("SOPClassUID", "SOPInstanceUID", "Modality", "PatientName", "PatientID",
    "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "PixelSpacing",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "RescaleIntercept", "RescaleSlope", "PixelData",
    "TransferSyntaxUID", "FileMetaInformationGroupLength", "NumberOfFrames", "PerFrameFunctionalGroupsSequence",
    "SharedFunctionalGroupsSequence", "PlanePositionSequence"))
]  # fmt: skip


SYNTAXES = (b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.5",
            b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2")  # fmt: skip
"""Transfer syntaxes that a file can claim."""


def _element(dice: Dice, data: bytes) -> int:
    """Where one of the elements that are looked at stands."""
    places = [data.find(struct.pack("<HH", *element)) for element in dice.sample(ELEMENTS, 8)]
    return next((place for place in places if place >= 0), 0)


def dicom_length(dice: Dice, data: bytes) -> bytes:
    """The length of an element is another one."""
    place = _element(dice, data)
    at, size = dice.choice(((6, 2), (8, 4), (4, 4)))
    return (
        data[: place + at]
        + (dice.choice(NUMBERS) % (1 << 8 * size)).to_bytes(size, "little")
        + data[place + at + size :]
    )


def dicom_kind(dice: Dice, data: bytes) -> bytes:
    """The value representation of an element is another one, or none."""
    place = _element(dice, data)
    kind = dice.choice(
        (b"ZZ", b"SQ", b"UN", b"OB", b"US", b"DS", b"FD", b"PN", b"AT", b"\0\0", b"OW", b"UI", b"IS", b"SV")
    )
    return data[: place + 4] + kind + data[place + 6 :]


def dicom_value(dice: Dice, data: bytes) -> bytes:
    """The value of an element is another one of the same length."""
    place = _element(dice, data)
    size = int.from_bytes(data[place + 6 : place + 8], "little")
    if not 0 < size <= 64:
        size = dice.choice((2, 4, 16))
    text = dice.choice(
        (b"nan", b"inf", b"-1", b"0", b"1e400", b"\\\\\\", b"9" * 64, b"\xff" * 64, b"\0" * 64, *SYNTAXES)
    )
    return data[: place + 8] + text.ljust(size, b" ")[:size] + data[place + 8 + size :]


def dicom_nested(dice: Dice, data: bytes) -> bytes:
    """Sequences within sequences before one of the elements."""
    place, levels = _element(dice, data), dice.choice((2, 49, 60, 400, 3000))
    if dice.random() < 0.5:
        start = struct.pack("<HH2sHIHHI", 8, 0x1140, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
        return data[:place] + start * levels + data[place:]
    parts, length = [], 0
    for _ in range(levels):
        parts.append(struct.pack("<HH2sHIHHI", 8, 0x1140, b"SQ", 0, length + 8, 0xFFFE, 0xE000, length))
        length += 20
    return data[:place] + b"".join(reversed(parts)) + data[place:]


ANY = (flip, cut, stuff)
TEXT = (*ANY, text_number, text_number, text_number, text_line, text_line, text_line)
NIFTI = (*ANY, nifti_field, nifti_field, nifti_field, nifti_field)
DICOM = (*ANY, dicom_length, dicom_length, dicom_kind, dicom_value, dicom_value, dicom_value, dicom_nested)
PACKED = (*ANY, *(inflated(mutator) for mutator in NIFTI))


# -------------------------------------------------------------------------------------------------------------- sources


SOURCES = {"a.nii": NIFTI, "b.nii.gz": PACKED, "c.nrrd": TEXT, "d.nrrd": TEXT, "e.mha": TEXT, "f.mha": TEXT,
           "explicit": DICOM, "implicit": DICOM, "frames": DICOM}  # fmt: skip
"""Name of each source, and what spoils it."""


def write_sources(folder: Path) -> None:
    """A small head in every format, made in a process of its own: threads of ITK would be missing after a fork."""
    if child := os.fork():
        if os.waitpid(child, 0)[1]:
            raise RuntimeError("the sources could not be written")
        return
    image = make_phantom(PhantomParameters(matrix=(64, 64), spacing=(4.0, 4.0, 4.0))).image
    for name in ("a.nii", "b.nii.gz", "c.nrrd", "d.nrrd", "e.mha", "f.mha"):
        sitk.WriteImage(image, str(folder / name), useCompression=name[0] in "bdf")
    dicom_files.write_series(folder / "explicit", image)
    for path in dicom_files.write_series(folder / "implicit", image):
        dicom_files.change_syntax(path, ImplicitVRLittleEndian)
    (folder / "frames").mkdir()
    dicom_files.write_multi_frame(folder / "frames" / "1.dcm", image)
    os._exit(0)


def spoil(dice: Dice, source: Path, target: Path, mutators: tuple[Mutator, ...]) -> None:
    """A copy of a scan, one file of which is spoiled in one to three ways."""
    if source.is_dir():
        shutil.copytree(source, target, copy_function=os.link)
        path = dice.choice(sorted(target.iterdir()))
    else:
        path = target
        shutil.copyfile(source, path)
    data = path.read_bytes()
    for _ in range(dice.choice((1, 1, 2, 3))):
        data = dice.choice(mutators)(dice, data)
    path.unlink()
    path.write_bytes(data)


# ------------------------------------------------------------------------------------------------------------- the runs


def run(command: list[str], folder: Path) -> tuple[int, str, float, int]:
    """The real command in a process of its own: exit status (or -signal), what it said, seconds, peak bytes."""
    said = folder / "said"
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 120
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
            signal.alarm(10 * SECONDS)
            descriptor = os.open(said, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout, sys.stderr = (
                open(1, "w", encoding="utf-8", closefd=False),
                open(2, "w", encoding="utf-8", closefd=False),
            )
            status = main(command)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 121
        except BaseException as error:  # noqa: BLE001, what main lets through is a finding
            print(f"Traceback: {type(error).__name__}", flush=True)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, state, usage = os.wait4(child, 0)
    text = said.read_text(errors="replace") if said.exists() else ""
    return os.waitstatus_to_exitcode(state), text, time.monotonic() - start, usage.ru_maxrss * 1024


def verdict(status: int, said: str, output: Path, peak: int) -> str:
    """What is wrong with a run; empty for nothing."""
    left = [path for path in output.parent.iterdir() if path.name != "said"]
    if status in (-signal.SIGALRM, -signal.SIGXCPU):
        return "hang"
    if status < 0:
        return f"crash: {signal.Signals(-status).name}"
    if "Traceback" in said:
        return "traceback"
    if "did not expect" in said:
        return "not expected"
    if status not in (0, 1):
        return f"exit status {status}"
    if odd := [line for line in said.splitlines() if not EXPECTED.fullmatch(line)]:
        return f"line of a library: {odd[0][:60]}"
    if status == 1 and (left or len(said.splitlines()) != 1):
        return "half of something, or more than a sentence"
    if status == 0 and not output.exists():
        return "no result"
    return "much memory" if peak > MEMORY_BYTES // 2 else ""


def examine(scan: Path, folder: Path, as_series: bool) -> tuple[str, str]:
    """What is wrong with the way a scan is treated, and what was said."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    output = folder / ("out" if as_series else "out.nii")
    status, said, _, peak = run(["deface", str(scan), str(output)], folder)
    return verdict(status, said, output, peak), said


def main_loop(results: Path, files: int, minutes: float, seed: int) -> dict:
    """Spoil and run; the figures."""
    (results / "findings").mkdir(parents=True, exist_ok=True)
    found: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    done = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        (work / "sources").mkdir()
        write_sources(work / "sources")
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            main(["deface", "--help"])  # imports what is left to import
        end = time.monotonic() + 60 * minutes
        for number in range(files):
            if time.monotonic() > end:
                break
            dice = random.Random(f"{seed} {number}")
            name = dice.choice(sorted(SOURCES))
            scan = work / "in" / name
            shutil.rmtree(scan.parent, ignore_errors=True)
            scan.parent.mkdir()
            spoil(dice, work / "sources" / name, scan, SOURCES[name])
            wrong, said = examine(scan, work / "out", scan.is_dir() and dice.random() < 0.5)
            done += 1
            ends[
                "a finding" if wrong else "a sentence" if "ctdeface: " in said and "warning" not in said else "a result"
            ] += 1
            if wrong:
                found[wrong] += 1
                kept = results / "findings" / f"{number:05}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(scan.parent, kept)
                (kept / "said.txt").write_text(f"{wrong}\n{said}")
                print(number, name, wrong, flush=True)
    figures = {"seed": seed, "files": done, "ends": dict(ends), "findings": dict(found)}
    (results / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def again(finding: Path) -> None:
    """A finding once more, both ways."""
    (scan,) = (path for path in finding.iterdir() if path.name != "said.txt")
    with tempfile.TemporaryDirectory() as temporary:
        for as_series in (False, True)[: 1 + scan.is_dir()]:
            print(*examine(scan, Path(temporary) / "out", as_series), sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", metavar="RESULTS", type=Path, required=True)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", metavar="FINDING", type=Path)
    args = parser.parse_args()
    if args.again:
        again(args.again)
    else:
        print(json.dumps(main_loop(args.output, args.files, args.minutes, args.seed), indent=2))
