"""TotalSegmentator, task ``face``, https://doi.org/10.1148/ryai.230024: an nnU-Net of 1.5 mm with one fold.

Its own functions find the task's settings, check the licence, resample and download; the prediction runs in
:mod:`.nnunet_runtime`, which keeps the model loaded. They work in a home of their own that is made for each scan, since
TotalSegmentator rewrites its ``config.json`` in a way that other processes can trip over; statistics of use, which it
sends by default, are off there.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
import json
import os
import re
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..anatomy.face_map import Cylinder
from ..errors import CTDefaceError, InputError, NotReadyError, OutputError
from ..files import folder_bytes, replaced_folder, write_whole
from ..processes import environment
from ..progress import IsCancelled, Progress, stop_if
from . import nnunet_runtime
from .segmenter import Action, Choice, Notes, State, Status

TITLE = "TotalSegmentator"
ABOUT = "The model “face” of TotalSegmentator (Wasserthal et al. 2023). It needs a licence key, free for research."
OPTIONS: tuple[str, ...] = ("device",)
EXTRA = "totalsegmentator"
LICENCE = "https://backend.totalsegmentator.com/license-academic/"
DOWNLOAD = "the face model of TotalSegmentator, about 230 MB, from its makers' server, which is sent the licence key"

PACKAGE = "TotalSegmentator"
TASK, TASK_ID, FOLDER = "face", 303, "Dataset303_face_1559subj"
SERVER = "https://backend.totalsegmentator.com:443/"
OLDEST = (2, 13)
"""What the TotalSegmentator extension of Slicer 5.12 installs; 2.9 sends the licence key in plain text."""
NEEDED = f"TotalSegmentator {'.'.join(map(str, OLDEST))} or newer"
SPACING_MM, SPLINE_ORDER = 1.5, 3
"""Voxel size in mm of the images that the model takes, and order of the spline that makes them.

TotalSegmentator's own values, for versions that are too old to tell them.
"""

KEY_LENGTH = 18
"""Characters of a licence key, by TotalSegmentator's own check."""

NO_KEY = f"TotalSegmentator's face model needs a licence key, free for non-commercial use ({LICENCE}): enter it."
WRONG_KEY = f"The licence key of TotalSegmentator is not valid: it has to have {KEY_LENGTH} characters. Enter it again."
REFUSED_KEY = "TotalSegmentator's server refused the licence key: check it and enter it again."
ELSEWHERE = "download the weights on another computer and import them from their zip file"
NOT_THESE = f"The file holds no face model of TotalSegmentator: choose the zip file with {FOLDER} in it."


def state(choice: Choice) -> State:
    """Whether packages, licence key and weights are there."""
    if not (nnunet_runtime.is_installed() and nnunet_runtime.version(PACKAGE) >= OLDEST):
        return State(Status.NO_PACKAGE, f"{NEEDED} is not installed.", (Action.INSTALL,))
    key = _config(_home()).get("license_number")
    if not isinstance(key, str) or len(key) != KEY_LENGTH:
        return State(Status.NO_LICENCE, NO_KEY if key is None else WRONG_KEY, (Action.ENTER_LICENCE,))
    try:
        model(choice)
    except InputError as error:
        there = (_weights_folder() / FOLDER).is_dir()
        sentence = f"The weights of TotalSegmentator are damaged ({error})" if there else "The weights are not here yet"
        sentence = f"{sentence.rstrip('.')}: download them (about 230 MB), or import them from their zip file."
        return State(Status.NO_WEIGHTS, sentence, (Action.DOWNLOAD, Action.IMPORT))
    return State()


def model(choice: Choice) -> nnunet_runtime.Model:
    """The model in TotalSegmentator's own folder of weights."""
    return nnunet_runtime.find_model(_weights_folder() / FOLDER, FOLDER, folds=("0",))


def weights_bytes() -> int:
    """How much room the weights take on this computer, 0 where there are none."""
    return folder_bytes(_weights_folder() / FOLDER)


def remove_weights() -> None:
    """Remove the weights from this computer; TotalSegmentator itself does without them as well then."""
    shutil.rmtree(_weights_folder() / FOLDER, ignore_errors=True)


def expected_seconds(image: sitk.Image, cylinder: Cylinder, choice: Choice) -> float:
    """About how long it will take."""
    turned = sitk.DICOMOrient(image[nnunet_runtime.head_box(image, cylinder)], "RAS")
    spacing, _ = _settings()
    shape = tuple(max(1, round(n * mm / spacing)) for n, mm in zip(turned.GetSize(), turned.GetSpacing()))[::-1]
    resampling = nnunet_runtime.SECONDS_PER_VOXEL * turned.GetNumberOfPixels()
    return resampling + nnunet_runtime.expected_seconds(model(choice), shape, (spacing,) * 3, choice.device)


def segment(
    image: sitk.Image, cylinder: Cylinder, choice: Choice, progress: Progress, cancelled: IsCancelled
) -> tuple[sitk.Image, Notes]:
    """Find the face, see :class:`.segmenter.Segmenter`."""
    spacing, order = _settings()
    box = nnunet_runtime.head_box(image, cylinder)
    part = image[box]
    turned = sitk.DICOMOrient(part, "RAS")
    progress(0.0, "Resampling")
    small = _resampled(turned, spacing, order)
    found, notes = nnunet_runtime.predict(
        model(choice),
        np.asarray(small.dataobj, np.float32).T,
        tuple(small.header.get_zooms()[::-1]),
        choice.device,
        progress,
        cancelled,
    )
    progress(0.95, "Resampling")
    face = nnunet_runtime.face_image(_resampled_back(found, small, turned), (1,), turned)
    notes["model"]["software"][PACKAGE] = importlib.metadata.version(PACKAGE)
    return nnunet_runtime.put_back(face, part, box, image), notes


def _resampled(image: sitk.Image, spacing: float, order: int) -> Any:
    """The image in TotalSegmentator's own resampling, as nibabel image with axes (x, y, z)."""
    import nibabel
    from totalsegmentator.resampling import change_spacing

    affine = np.diag([*image.GetSpacing(), 1.0])
    scan = nibabel.Nifti1Image(sitk.GetArrayFromImage(image).T.astype(np.float32), affine)
    return change_spacing(scan, spacing, order=order, dtype=np.int32)


def _resampled_back(found: np.ndarray, small: Any, image: sitk.Image) -> np.ndarray:
    import nibabel
    from totalsegmentator.resampling import change_spacing

    labels = nibabel.Nifti1Image(found.T.astype(np.uint8), small.affine)
    labels = change_spacing(labels, target_shape=image.GetSize(), order=0, dtype=np.uint8)
    return np.asarray(labels.dataobj).T


def _settings() -> tuple[float, int]:
    """Spacing (mm) of the images that the model takes, and order of the spline that makes them.

    TotalSegmentator checks the licence before it tells.
    """
    with nnunet_runtime.alone, _own_home(), _sentences():
        from totalsegmentator import python_api

        parameters = inspect.signature(python_api.totalsegmentator).parameters
        order = parameters["resampling_order"].default if "resampling_order" in parameters else SPLINE_ORDER
        if hasattr(python_api, "get_task_config"):
            return python_api.get_task_config(TASK, quiet=True)["resample"], order
        python_api.show_license_info()
        return SPACING_MM, order


# What is installed, and where


def _home() -> Path:
    """TotalSegmentator's folder of this user, where it looks for it itself."""
    parent = Path("/tmp") if str(Path.home()) == "/" else Path.home()
    return Path(os.environ.get("TOTALSEG_HOME_DIR") or parent / ".totalsegmentator")


def _weights_folder() -> Path:
    return Path(os.environ.get("TOTALSEG_WEIGHTS_PATH") or _home() / "nnunet" / "results")


def _config(home: Path) -> dict[str, Any]:
    try:
        config = json.loads((home / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


@contextlib.contextmanager
def _own_home(**changes: str) -> Iterator[None]:
    """Let TotalSegmentator work in a home that nobody else uses, and that is gone afterwards."""
    key = _config(_home()).get("license_number")
    weights = str(_weights_folder())
    with tempfile.TemporaryDirectory(prefix="ctdeface-home-") as folder:
        _write_config(Path(folder), {"send_usage_stats": False, "license_number": key} if key else {})
        with environment({"TOTALSEG_HOME_DIR": folder, "TOTALSEG_WEIGHTS_PATH": weights, **changes}):
            yield


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """Turn what TotalSegmentator prints before it ends the program, which can hold the licence key, into a sentence."""
    with nnunet_runtime.quiet() as printed:
        try:
            yield
        except SystemExit as error:
            if error.code != 1:  # somebody else ends the program
                raise
            text = printed.getvalue().lower()
            if "invalid license" in text:
                raise NotReadyError(REFUSED_KEY) from None
            if "license" in text or "config file" in text:
                raise NotReadyError(NO_KEY) from None
            raise NotReadyError("TotalSegmentator gave up without a reason that it tells: install it again.") from None
        except ImportError as error:
            raise NotReadyError(f"TotalSegmentator cannot be loaded ({error}): install it again.") from error


# Licence and weights


def save_licence(key: str) -> None:
    """Keep a licence key in TotalSegmentator's own settings, where its command finds it, too. It is not checked online.

    Raises
    ------
    InputError
        When it cannot be a key.
    OutputError
        When it cannot be written.
    """
    key = key.strip()
    if len(key) != KEY_LENGTH or not re.fullmatch(r"[!-~]+", key):
        raise InputError(f"This is no licence key of TotalSegmentator: it has to have {KEY_LENGTH} characters.")
    home = _home()
    config = _config(home)
    if not config:
        config = {"totalseg_id": f"totalseg_{secrets.token_hex(4).upper()}", "send_usage_stats": False}
        config["prediction_counter"] = 0
    try:
        home.mkdir(parents=True, exist_ok=True)
        _write_config(home, {**config, "license_number": key})
    except OSError as error:
        raise OutputError(f"The licence key could not be kept: {error.strerror or type(error).__name__}.") from error


def _write_config(home: Path, config: dict[str, Any]) -> None:
    """Write ``config.json`` whole, and for nobody else to read."""
    write_whole(home / "config.json", json.dumps(config, indent=4), private=True)


def download(progress: Progress, cancelled: IsCancelled) -> None:
    """Download the weights, with the licence key; call it only after the user agreed. All of them appear, or none.

    Raises
    ------
    NotReadyError
        When there is no key, or it is refused.
    CTDefaceError
        When the server cannot be reached, or what came is not the weights.
    """
    if not _config(_home()).get("license_number"):
        raise NotReadyError(NO_KEY)
    with nnunet_runtime.alone, _new_weights() as folder, _own_home(TOTALSEG_WEIGHTS_PATH=str(folder)), _sentences():
        import requests
        from totalsegmentator import libs

        progress(0.0, "Asking the server")
        try:
            requests.head(SERVER, timeout=10)  # TotalSegmentator itself waits for five minutes
            with nnunet_runtime.replaced(libs, tqdm=_bar(progress, cancelled)):
                libs.download_pretrained_weights(TASK_ID)
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (401, 403):
                raise NotReadyError(REFUSED_KEY) from None
            raise CTDefaceError(f"TotalSegmentator's server did not send the weights (status {status}).") from None
        except requests.RequestException:
            sentence = f"TotalSegmentator's server cannot be reached: check the network, or {ELSEWHERE}."
            raise CTDefaceError(sentence) from None
        except zipfile.BadZipFile:
            raise CTDefaceError("The download is damaged: try again.") from None


def _bar(progress: Progress, cancelled: IsCancelled) -> type:
    """A progress bar that reports to ``progress``, in place of tqdm's."""

    class Bar:
        def __init__(self, *_: Any, total: int = 0, **__: Any) -> None:
            self._total, self._got = total, 0

        def update(self, count: int) -> None:
            self._got += count
            share = self._got / self._total if self._total else 0.5
            progress(min(share, 1.0), f"{self._got / 1e6:.0f} MB downloaded")
            stop_if(cancelled)

        def close(self) -> None:
            pass

    return Bar


def import_weights(path: str | os.PathLike[str]) -> None:
    """Take the weights out of the zip file that TotalSegmentator's server sends. All of them appear, or none.

    Raises
    ------
    InputError
        When the file holds no face model.
    OutputError
        When they cannot be written.
    """
    with _new_weights() as folder:
        try:
            with zipfile.ZipFile(path) as file:
                wanted = [name for name in file.namelist() if name.startswith(f"{FOLDER}/")]
                for name in wanted:
                    file.extract(name, folder)
        except (FileNotFoundError, IsADirectoryError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
            raise InputError(NOT_THESE) from error


@contextlib.contextmanager
def _new_weights() -> Iterator[Path]:
    """An empty folder; the face model that is in it at the end takes the place of the present one."""
    target = _weights_folder()
    try:
        with tempfile.TemporaryDirectory(prefix="ctdeface-weights-") as name:
            yield Path(name)
            try:
                nnunet_runtime.find_model(Path(name, FOLDER), FOLDER, folds=("0",))
            except InputError as error:
                raise InputError(NOT_THESE) from error
            target.mkdir(parents=True, exist_ok=True)
            with replaced_folder(target / FOLDER) as part:
                shutil.copytree(Path(name, FOLDER), part, dirs_exist_ok=True)
    except OSError as error:  # a shutil.Error, too, which has no number
        raise OutputError(
            f"The weights could not be written ({error.strerror or type(error).__name__}): make room on the disk."
        ) from error
