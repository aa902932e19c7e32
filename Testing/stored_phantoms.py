"""Synthetic heads for tests, kept on disk: each is made once, by whichever process needs it first.

They lie in ``Testing/.cache``, or where ``CTDEFACE_TEST_CACHE`` says, in a folder named by all that decides on their
voxels, so that a change of the phantom's code makes new ones.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import platform
import shutil
import time
from functools import cache
from pathlib import Path

import CTDefaceLib.phantom as phantom_package
import numpy as np
import scipy
import SimpleITK as sitk
from CTDefaceLib.phantom import Phantom, PhantomParameters, make_phantom

STORE = Path(os.environ.get("CTDEFACE_TEST_CACHE") or Path(__file__).resolve().parent / ".cache") / "phantoms"
KEPT_DAYS = 7
"""How long heads of other code stay, for branches and Pythons that take turns."""


def stored_phantom(parameters: PhantomParameters) -> Phantom:
    """What `make_phantom` makes of these parameters, read from disk where it is there already."""
    path = _folder() / f"{hashlib.sha256(repr(parameters).encode()).hexdigest()[:32]}.pickle"
    try:
        return pickle.loads(path.read_bytes())
    except (FileNotFoundError, EOFError, pickle.UnpicklingError):  # not there, or cut off as the machine stopped
        phantom = make_phantom(parameters)
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(pickle.dumps(phantom, pickle.HIGHEST_PROTOCOL))
        part.replace(path)
        return phantom


@cache
def _folder() -> Path:
    """The folder of the heads that this code makes; those that were not needed for a week are removed."""
    folder = STORE / _code()
    folder.mkdir(parents=True, exist_ok=True)
    folder.touch()
    for other in STORE.iterdir():
        if time.time() - other.stat().st_mtime > KEPT_DAYS * 86400:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def _code() -> str:
    """Hash of all that decides on a phantom's voxels but its parameters."""
    versions = np.__version__, scipy.__version__, sitk.Version.VersionString(), platform.machine()
    found = hashlib.sha256(repr(versions).encode())
    for source in sorted(Path(phantom_package.__file__).parent.glob("*.py")):
        found.update(source.name.encode() + source.read_bytes())
    return found.hexdigest()[:32]


def very_coarse_head():
    """The image of a head that is enough to click through the panels."""
    return stored_phantom(PhantomParameters(matrix=(64, 64), spacing=(4.0, 4.0, 4.0), field_of_view="head")).image
