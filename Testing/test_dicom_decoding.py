"""Compressed pixels are decoded by a process that may die of them, and whose end is that of whoever asked."""

import os
import subprocess
import sys
import time
from pathlib import Path

import dicom_files
import numpy as np
import pydicom
import pytest
from CTDefaceLib.dicom import decoding
from CTDefaceLib.dicom.decoding import pixels_of
from CTDefaceLib.errors import InputError
from pydicom.uid import RLELossless
from test_volume_io import small_ct

ASK = """
import os, sys
sys.path[:] = sys.argv[2:]
import pydicom
from CTDefaceLib.dicom import decoding
decoding.pixels_of(pydicom.dcmread(sys.argv[1]))
print(decoding._decoders[os.getpid()].pid, flush=True)
os._exit(0)
"""
"""A program that asks once and ends without a word."""


@pytest.fixture
def compressed(tmp_path) -> Path:
    """One slice."""
    path = Path(dicom_files.write_series(tmp_path / "in", small_ct()[:, :, 2:3])[0])
    dataset = pydicom.dcmread(path)
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("last_words", ["", '{"sha', '{"shape": [24, 99, 99], "dtype": "<u2"}\n123'])
def test_a_decoder_that_dies_takes_nothing_along(compressed, monkeypatch, last_words):
    """Before, while or after it says what comes; the next file is decoded by another one."""
    dataset = pydicom.dcmread(compressed)
    dying = f"print('{{}}', flush=True); input(); print({last_words!r}, end='', flush=True); import os; os.abort()"
    with monkeypatch.context() as patched:
        patched.setattr(decoding, "_decoders", {})
        patched.setattr(decoding, "START", dying)
        with pytest.raises(InputError, match="cannot be decoded"):
            pixels_of(dataset)
        assert not decoding._decoders
    assert np.array_equal(pixels_of(dataset), dataset.pixel_array)
    assert decoding._decoders[os.getpid()].poll() is None
    pixels_of(dataset)[:] = 0


def test_where_no_process_can_be_started_this_one_decodes(compressed, monkeypatch, tmp_path):
    dataset = pydicom.dcmread(compressed)
    monkeypatch.setattr(decoding, "_decoders", {})
    monkeypatch.setattr(decoding, "interpreter", lambda: str(tmp_path / "none"))
    assert np.array_equal(pixels_of(dataset), dataset.pixel_array)
    monkeypatch.undo()
    monkeypatch.setattr(decoding, "_decoders", {})
    monkeypatch.setattr(decoding, "START", "raise SystemExit")
    assert np.array_equal(pixels_of(dataset), dataset.pixel_array)
    assert not decoding._decoders


def test_the_decoder_ends_with_its_process_and_runs_nothing_of_the_folder(compressed):
    """However that ends; and a folder of scans can hold a file named like a package."""
    psutil = pytest.importorskip("psutil")
    for name in ("pydicom", "numpy", "json", "CTDefaceLib"):
        (compressed.parent / f"{name}.py").write_text("raise SystemExit('a file of the folder was run')")
    command = [sys.executable, "-c", ASK, str(compressed), *filter(None, sys.path)]
    done = subprocess.run(command, cwd=compressed.parent, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    for _ in range(200):
        if not psutil.pid_exists(pid := int(done.stdout)) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    raise AssertionError("the decoder is still there")
