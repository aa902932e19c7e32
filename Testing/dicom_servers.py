"""Programs that others send and keep DICOM with: Orthanc, and those of dcmtk."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PLUGINS = Path("/usr/share/orthanc/plugins")
"""Where Debian keeps those of Orthanc."""


def tool(name: str) -> str:
    """Path of a program; skips the test where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def plugin(name: str) -> str:
    """Path of a plugin of Orthanc; skips the test where it is not installed."""
    if not (PLUGINS / name).exists():
        pytest.skip(f"Orthanc's {name} is not installed")
    return str(PLUGINS / name)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start_orthanc(folder: Path, dicom: int, http: int, **choices) -> subprocess.Popen:
    """Start an Orthanc that listens to this machine alone, at these ports, and keeps its images in a folder.

    ``choices`` are entries of its configuration. Raises OSError where it ends at once.
    """
    usual = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomPort": dicom,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomCheckModalityHost": True,
        "ConcurrentJobs": 1,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps({**usual, **choices}))
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        process = subprocess.Popen(["Orthanc", folder / "orthanc.json"], stdout=log, stderr=log)
    for _ in range(300):
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{http}/system", timeout=5).read()
            return process
        if process.poll() is not None:
            raise OSError("Orthanc does not start here")
        time.sleep(0.2)
    process.kill()
    raise OSError("Orthanc does not answer")


@contextmanager
def orthanc(folder: Path, **choices) -> Iterator[tuple[int, int]]:
    """As :func:`start_orthanc`, while the block runs: ports for DICOM and HTTP; skips the test where there is none."""
    tool("Orthanc")
    dicom, http = free_port(), free_port()
    try:
        process = start_orthanc(folder, dicom, http, **choices)
    except OSError as error:
        pytest.skip(str(error))
    try:
        yield dicom, http
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
