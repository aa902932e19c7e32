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


@contextmanager
def orthanc(folder: Path, **choices) -> Iterator[tuple[int, int]]:
    """An Orthanc that listens to this machine alone and keeps its images in a folder: ports for DICOM and HTTP.

    ``choices`` are entries of its configuration.
    """
    program = tool("Orthanc")
    dicom, http = choices.pop("DicomPort", None) or free_port(), free_port()
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
    log = open(folder / "log.txt", "a")
    process = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log)
    try:
        for _ in range(300):
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{http}/system", timeout=5).read()
                break
            if process.poll() is not None:
                pytest.skip("Orthanc does not start here")
            time.sleep(0.2)
        yield dicom, http
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        log.close()
