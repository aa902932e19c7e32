"""Compressed pixels, decoded in a process of its own: decoders in C die of damaged ones, and only that process does."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ..errors import InputError
from ..processes import interpreter, libraries_silenced
from .files import read_dataset

if TYPE_CHECKING:
    import pydicom

NO_DECODER = (
    "The DICOM pixels are compressed in a way that needs the package python-gdcm; install it with "
    '"pip install ctdeface[dicom]".'
)
UNDECODED = "The DICOM pixels cannot be decoded; copy or export the series again."

START = "import sys; sys.path[:] = sys.argv[1:]; from CTDefaceLib.dicom.decoding import serve; serve()"
"""What the process runs. Nothing is imported before the path is this process's: the scans' folder is never on it."""

_asking = threading.Lock()
_decoders: dict[int, subprocess.Popen[bytes]] = {}
"""The decoder of this process by its number, since a fork does not take it along; it lasts from file to file."""


def pixels_of(header: pydicom.Dataset) -> np.ndarray:
    """Pixels of a dataset that was read from a file, as pydicom gives them; writable.

    Raises
    ------
    InputError
        When they are compressed and cannot be decoded, or when the decoder dies of them.
    """
    syntax = header.file_meta.get("TransferSyntaxUID") if "file_meta" in header.__dict__ else None
    if syntax is None or not syntax.is_encapsulated:
        return np.array(header.pixel_array)
    path = os.path.abspath(os.fsdecode(header.filename))
    with _asking:
        decoder = _running_decoder()
        if decoder is None:
            return decode(path)
        try:
            return _asked(decoder, path)
        except (OSError, ValueError) as error:
            _end_decoder()
            raise InputError(UNDECODED) from error


def _asked(decoder: subprocess.Popen[bytes], path: str) -> np.ndarray:
    """What a decoder answers (InputError for its own sentence; OSError or ValueError when it died)."""
    assert decoder.stdin is not None and decoder.stdout is not None
    decoder.stdin.write(json.dumps(path).encode("ascii") + b"\n")
    decoder.stdin.flush()
    answer = json.loads(decoder.stdout.readline())
    if "refused" in answer:
        raise InputError(answer["refused"])
    words = np.empty(answer["shape"], answer["dtype"])
    if words.nbytes and decoder.stdout.readinto(memoryview(words).cast("B")) != words.nbytes:  # type: ignore[attr-defined]
        raise ValueError("the decoder died while it answered")
    return words


def _running_decoder() -> subprocess.Popen[bytes] | None:
    """This process's decoder; None where no further process can be started: then there is nothing but this one."""
    if (decoder := _decoders.get(os.getpid())) is not None:
        return decoder
    try:
        decoder = subprocess.Popen(
            [interpreter(), "-c", START, *map(os.fspath, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError:
        return None
    assert decoder.stdout is not None
    if not decoder.stdout.readline():
        decoder.wait()
        return None
    _decoders[os.getpid()] = decoder
    return decoder


@atexit.register
def _end_decoder() -> None:
    """A decoder ends when it is asked nothing more."""
    if (decoder := _decoders.pop(os.getpid(), None)) is not None:
        decoder.kill()
        with contextlib.suppress(OSError), decoder:  # what it was not told any more cannot be sent
            decoder.wait()


def serve() -> None:
    """Decode the files whose names stand on standard input, a line of JSON each, until it ends.

    For each there is a line of JSON on standard output, with what is refused or with shape and type, and the words.
    """
    _die_quietly()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print goes the way of their complaints, and not between the answers
    _answer(answers, {"ready": True})
    for line in sys.stdin.buffer:
        try:
            words = np.ascontiguousarray(decode(json.loads(line)))
        except InputError as error:
            _answer(answers, {"refused": str(error)})
        else:
            _answer(answers, {"shape": words.shape, "dtype": words.dtype.str}, words)


def _answer(answers: BinaryIO, head: dict, words: np.ndarray | None = None) -> None:
    answers.write(json.dumps(head).encode("ascii") + b"\n")
    if words is not None and words.nbytes:
        answers.write(memoryview(words).cast("B"))
    answers.flush()


def _die_quietly() -> None:
    """Neither a memory dump, which would hold the scan, nor a box to click away; Ctrl-C is for who asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "win32":
        import ctypes

        no_box_for_crashes_or_critical_errors = 0x0003
        ctypes.windll.kernel32.SetErrorMode(no_box_for_crashes_or_critical_errors)
    else:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def decode(path: str) -> np.ndarray:
    """Pixels of a file, decoded within this process.

    Raises
    ------
    InputError
        When they cannot be decoded.
    """
    header = read_dataset(path)
    with warnings.catch_warnings(), libraries_silenced():
        warnings.simplefilter("ignore")
        try:
            return np.array(header.pixel_array)
        except (RuntimeError, NotImplementedError, ImportError) as error:
            missing = "missing" in str(error).lower() or isinstance(error, NotImplementedError | ImportError)
            if not missing:
                raise InputError(UNDECODED) from error
            return _decoded_by_simpleitk(header)
        except Exception as error:  # decoders meet damaged pixels with errors of many kinds
            raise InputError(UNDECODED) from error


def _decoded_by_simpleitk(header: pydicom.Dataset) -> np.ndarray:
    """The words of a compressed slice where pydicom has no decoder, as in 3D Slicer: SimpleITK has, but it rescales.

    Raises
    ------
    InputError
        When SimpleITK cannot either, or for several frames, of which each can have a rescale of its own.
    """
    import SimpleITK as sitk

    if int(header.get("NumberOfFrames") or 1) > 1:
        raise InputError(NO_DECODER)
    slope, intercept = float(header.get("RescaleSlope") or 1), float(header.get("RescaleIntercept") or 0)
    try:
        rescaled = sitk.GetArrayFromImage(sitk.ReadImage(str(header.filename))).astype(np.float64)
    except RuntimeError as error:
        raise InputError(NO_DECODER) from error
    words = np.rint((rescaled - intercept) / slope)
    if not np.allclose(words * slope + intercept, rescaled, rtol=0, atol=abs(slope) / 100):
        raise InputError(NO_DECODER)
    return words
