"""Run trained nnU-Net v2 models: in this process, on the head only, with the last one kept loaded for the next scan.

nnU-Net's own ``nnUNetPredictor`` does the work, with its defaults but for mirror images, which are not averaged: that
takes eight times as long, and neither TotalSegmentator nor CTA-DEFACE do so. Its progress bar is replaced while it
runs, which tells the tiles that are done and where the work can be given up.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import io
import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import SimpleITK as sitk

from ..anatomy.face_map import Cylinder
from ..anatomy.grids import Box, box_around, mask_of
from ..anatomy.work_grid import dilated
from ..errors import InputError, NoFaceError, NotReadyError, memory_errors
from ..progress import IsCancelled, Progress, stop_if
from .segmenter import Notes

T = TypeVar("T")

CHECKPOINT = "checkpoint_final.pth"
OLDEST = (2, 6)
"""Version of nnU-Net; older ones cannot load their models with a recent PyTorch."""

AROUND_HEAD_MM = 24.0
"""What of the scan around the head goes into a model, in mm: some air, as in training. Chosen by eye."""

WORTH_CROPPING = 0.6
"""Share (0 to 1) of the scan: only a head that fills less than this is cut out.

A head CT goes in whole, as it would in nnU-Net. Chosen by eye.
"""

SECONDS_PER_VOXEL = 4e-7
"""Seconds for each voxel that preparing an image and bringing the labels back to its grid takes, about.

A rough figure; on what machine it was taken is not on record.
"""

alone = threading.RLock()
"""Held while a model works: one is kept loaded, and nnU-Net's members are replaced meanwhile."""

NOT_A_MODEL = (
    "The folder holds no trained nnU-Net v2 model: choose one with plans.json, dataset.json and "
    f"fold_…/{CHECKPOINT} in it, or the folder Dataset… above."
)
CARD_FULL = "The memory of the graphics card ran out; the processor did the work instead."


@dataclass(frozen=True)
class Model:
    """A trained model on disk.

    Attributes
    ----------
    folder: Path
        Holds ``plans.json``, ``dataset.json`` and a folder for each fold.
    folds: tuple of str
        Whose predictions are averaged.
    """

    folder: Path
    folds: tuple[str, ...]

    def read(self, name: str) -> dict[str, Any]:
        """``plans.json`` or ``dataset.json``."""
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"The file {name} of the model cannot be read: copy its folder again.") from error

    @property
    def checkpoints(self) -> list[Path]:
        """The file of weights of each fold."""
        return [self.folder / f"fold_{fold}" / CHECKPOINT for fold in self.folds]

    @property
    def configuration(self) -> str:
        """What nnU-Net calls the model's configuration, such as ``3d_fullres``."""
        return self.folder.name.rpartition("__")[2]


def is_installed() -> bool:
    """Whether PyTorch and nnU-Net 2.6 or newer are; without importing them, which takes seconds."""
    importlib.invalidate_caches()
    there = all(importlib.util.find_spec(name) is not None for name in ("torch", "nnunetv2"))
    return there and version("nnunetv2") >= OLDEST


def version(package: str) -> tuple[int, ...]:
    """The first two numbers of an installed package's version; nothing when it is not installed."""
    try:
        text = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ()
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def find_model(
    folder: Path, dataset: str = "", folds: tuple[str, ...] = (), configuration: str = "3d_fullres"
) -> Model:
    """The model in a folder, or up to two folders below it.

    Parameters
    ----------
    folder: Path
        nnU-Net's results folder, the one of a dataset in it, or of a trainer in that.
    dataset: str
        Name of the dataset's folder, where it has to be this one.
    folds: tuple of str
        Folds that it has to have; by default all that are numbered, or else ``all``, as nnU-Net chooses.
    configuration: str
        Preferred, where there are several.

    Raises
    ------
    InputError
        When there is none, or there are several.
    """
    if not folder.is_dir():
        raise InputError("The folder with the weights is not there: choose it again.")
    found = [path.parent for depth in ("", "*/", "*/*/") for path in sorted(folder.glob(depth + "plans.json"))]
    found = [path for path in found if (path / "dataset.json").is_file()]
    if dataset:
        found = [path for path in found if dataset in (path.resolve().parent.name, path.parent.name)]
    preferred = [path for path in found if path.name.endswith("__" + configuration)]
    found = preferred or found
    if not found:
        raise InputError(NOT_A_MODEL)
    if len(found) > 1:
        raise InputError(f"The folder holds {len(found)} models: choose the folder of one of them.")
    there = [path.parent.name.removeprefix("fold_") for path in sorted(found[0].glob(f"fold_*/{CHECKPOINT}"))]
    if not folds:
        folds = tuple(fold for fold in there if fold.isdigit()) or tuple(fold for fold in there if fold == "all")
    if not folds or not set(folds) <= set(there):
        raise InputError(f"The weights are incomplete: fold_{folds[0] if folds else '…'}/{CHECKPOINT} is missing.")
    model = Model(found[0], folds)
    channels = model.read("dataset.json").get("channel_names") or {}
    if len(channels) != 1:
        raise InputError(f"The model needs {len(channels)} images of each patient; choose one that needs a CT only.")
    plans = model.read("plans.json").get("configurations") or {}
    if (plans.get(model.configuration) or {}).get("previous_stage"):
        raise InputError("The model is the second stage of a cascade; choose the folder of another configuration.")
    return model


def labels(model: Model) -> dict[str, tuple[int, ...]]:
    """The model's labels, without the background: name and values."""
    named = model.read("dataset.json").get("labels") or {}
    try:
        values = {name: tuple(np.atleast_1d(value).astype(int).tolist()) for name, value in named.items()}
    except (TypeError, ValueError) as error:
        raise InputError("The labels of the model cannot be read: copy its folder again.") from error
    return {name: value for name, value in values.items() if name not in ("background", "ignore")}


def face_values(model: Model, label: str = "") -> tuple[int, ...]:
    """Values of a label; by default of the one named face, or of the only one there is."""
    known = labels(model)
    if label and label not in known:
        raise InputError(f"The model has no label “{label}”: choose {_listed(known)}.")
    if not label and len(known) > 1:
        label = next((name for name in known if name.lower() == "face"), "")
        if not label:
            raise InputError(f"The model has several labels: choose the one that is the face, of {_listed(known)}.")
    if not known:
        raise InputError("The model has no labels.")
    return known[label or next(iter(known))]


def _listed(known: dict[str, Any]) -> str:
    return ", ".join(list(known)[:12]) + (" …" if len(known) > 12 else "")


def orientation(model: Model) -> str:
    """The orientation that the model's reader turns images to (axes to …), empty where it takes them as stored."""
    return "RAS" if model.read("plans.json").get("image_reader_writer") == "NibabelIOWithReorient" else ""


def devices() -> list[tuple[str, str]]:
    """What the models can run on: name and description, the processor last. Imports PyTorch."""
    try:
        import torch
    except ImportError as error:
        raise _not_loadable(error) from error

    found = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        card = torch.cuda.get_device_properties(number)
        found.append((f"gpu:{number}", f"{card.name}, {card.total_memory / 2**30:.0f} GB"))
    if torch.backends.mps.is_available():
        found.append(("mps", "Apple graphics"))
    return [*found, ("cpu", f"processor, {torch.get_num_threads()} threads")]


def torch_device(name: str) -> str:
    """PyTorch's name of a device; ``"auto"`` is the first graphics card, or the processor where there is none."""
    known = [device for device, _ in devices()]
    wanted = {"auto": "gpu:0" if "gpu:0" in known else "cpu", "gpu": "gpu:0"}.get(name, name)
    if wanted not in known:
        raise InputError(f"PyTorch finds no device “{name}” here: choose auto or {', '.join(known)}.")
    return wanted.replace("gpu", "cuda")


def head_box(image: sitk.Image, cylinder: Cylinder) -> Box:
    """The part of the scan that goes into a model: around the head, or all where the head fills most of it."""
    box = box_around(dilated(cylinder.head.solid, AROUND_HEAD_MM).astype(np.int8), cylinder.head, image)
    if box is None or np.prod([s.stop - s.start for s in box]) > WORTH_CROPPING * image.GetNumberOfPixels():
        return tuple(slice(0, size) for size in image.GetSize())
    return box


def put_back(face: sitk.Image, part: sitk.Image, box: Box, image: sitk.Image) -> sitk.Image:
    """A mask of a part of an image, turned back as that is stored, as mask on the whole grid."""
    stored = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(part.GetDirection())
    face = sitk.DICOMOrient(face, stored)
    return mask_of(sitk.GetArrayViewFromImage(face) > 0, box, image)


def face_image(found: np.ndarray, values: tuple[int, ...], like: sitk.Image) -> sitk.Image:
    """Mask of what a model labelled as the face; NoFaceError when that is nothing."""
    face = np.isin(found, values)
    if not face.any():
        raise NoFaceError("The model found no face in this volume. Nothing was changed.")
    image = sitk.GetImageFromArray(face.astype(np.uint8))
    image.CopyInformation(like)
    return image


def predict(
    model: Model,
    array: np.ndarray,
    spacing: tuple[float, float, float],
    device: str,
    progress: Progress,
    cancelled: IsCancelled,
) -> tuple[np.ndarray, Notes]:
    """Label an image.

    Parameters
    ----------
    model: Model
        On disk; the one used last stays loaded.
    array: numpy.ndarray
        Shape (z, y, x), in the orientation that the model expects.
    spacing: tuple
        In mm, (z, y, x).
    device: str
        See :class:`.segmenter.Choice`. When a graphics card's memory runs out, the processor takes over.
    progress, cancelled: callable
        As of :meth:`.segmenter.Segmenter.segment`.

    Returns
    -------
    tuple
        Labels (integers, shape of ``array``), and a dict with ``model`` and ``warnings``.
    """
    with alone, quiet():
        wanted = torch_device(device)

        def work(device: str) -> tuple[np.ndarray, Notes]:
            if device != wanted:
                progress(0.0, "The graphics card's memory ran out; using the processor")
            found, described = _predict(model, array, spacing, device, progress, cancelled)
            return found, {"model": described, "warnings": [CARD_FULL] if device != wanted else []}

        return on_card_or_processor(work, wanted)


def expected_seconds(model: Model, shape: tuple[int, ...], spacing: tuple[float, ...], device: str) -> float:
    """About how long :func:`predict` will take on an image, from a try of the network on part of a tile.

    Loads the model, so that it is there when the work begins.
    """
    with alone, quiet():
        each, predictor = on_card_or_processor(lambda device: _try(model, device), torch_device(device))
        from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

        manager, axes = predictor.configuration_manager, predictor.plans_manager.transpose_forward
        size = np.take(shape, axes)
        flat = len(size) - len(manager.patch_size)  # 1 for a network that takes slice by slice
        resampled = np.round(size[flat:] * np.take(spacing, axes)[flat:] / manager.spacing).astype(int)
        resampled = np.maximum(resampled, manager.patch_size)
        steps = compute_steps_for_sliding_window(resampled, manager.patch_size, predictor.tile_step_size)
    tiles = np.prod([*size[:flat], *(len(along) for along in steps)])
    return float(tiles * len(model.folds) * each + SECONDS_PER_VOXEL * np.prod(size))


def _try(model: Model, device: str) -> tuple[float, Any]:
    """Seconds that the network takes for a tile, and the predictor."""
    import torch

    predictor, _ = _loaded(model, device)
    patch = predictor.configuration_manager.patch_size
    strides = np.prod(predictor.configuration_manager.pool_op_kernel_sizes, axis=0)
    part = [size // 2 if size // 2 % stride == 0 else size for size, stride in zip(patch, strides)]
    network = predictor.network.to(device).eval()
    with torch.inference_mode():
        piece = torch.zeros((1, 1, *part), device=device)
        for _ in range(2):  # the first time is slower
            start = time.perf_counter()
            network(piece).cpu()
            seconds = time.perf_counter() - start
    return seconds * np.prod(patch) / np.prod(part), predictor


def _predict(
    model: Model,
    array: np.ndarray,
    spacing: tuple[float, float, float],
    device: str,
    progress: Progress,
    cancelled: IsCancelled,
) -> tuple[np.ndarray, dict[str, Any]]:
    progress(0.0, "Loading the model")
    predictor, described = _loaded(model, device)
    progress(0.05, "Preparing the volume")
    with _watched(predictor, len(model.folds), progress, cancelled), memory_errors():
        found = predictor.predict_single_npy_array(
            np.ascontiguousarray(array, np.float32)[None], {"spacing": [float(s) for s in spacing]}
        )
    return found, described


def on_card_or_processor(work: Callable[[str], T], device: str) -> T:
    """What ``work`` gives on a device; on the processor when the memory of a graphics card runs out."""
    try:
        return work(device)
    except RuntimeError as error:
        if device == "cpu" or "out of memory" not in str(error).lower():  # so say CUDA, its driver and Apple's
            raise
    forget()  # the error is gone by now, and with it what it held on the card
    return work("cpu")


_kept: tuple[Any, Any] | None = None
"""Key of the model used last, and what was loaded for it."""


def kept(key: tuple[Any, ...], load: Callable[[], T]) -> T:
    """What ``load`` returns for a key: only the last one is kept. Hold :data:`alone` meanwhile."""
    global _kept
    if _kept is None or _kept[0] != key:
        forget()
        _kept = key, load()
    return _kept[1]


def _loaded(model: Model, device: str) -> tuple[Any, dict[str, Any]]:
    """A model's predictor and description; loaded when it is not the one used last, or has changed on disk."""
    try:
        stamp = [(path.stat().st_mtime_ns, path.stat().st_size) for path in model.checkpoints]
    except OSError as error:
        raise NotReadyError("The weights are no longer there: choose their folder again.") from error
    return kept((model, device, stamp), lambda: (_load(model, device), _described(model, device)))


def _load(model: Model, device: str) -> Any:
    """nnU-Net's predictor of a model."""
    try:
        import torch
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    except ImportError as error:
        raise _not_loadable(error) from error
    predictor = nnUNetPredictor(device=torch.device(device), use_mirroring=False)
    folds = [fold if fold == "all" else int(fold) for fold in model.folds]
    try:
        predictor.initialize_from_trained_model_folder(str(model.folder), folds, CHECKPOINT)
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        sentence = "The weights cannot be loaded: they are damaged, or made for another version of nnU-Net"
        raise NotReadyError(f"{sentence} ({type(error).__name__}).") from error
    return predictor


def forget() -> None:
    """Free the model that is kept loaded, also from a graphics card's memory."""
    global _kept
    _kept = None
    if torch := sys.modules.get("torch"):
        torch.cuda.empty_cache()


def _not_loadable(error: ImportError) -> NotReadyError:
    return NotReadyError(f"PyTorch or nnU-Net cannot be loaded ({error}): install them again.")


def _described(model: Model, device: str) -> dict[str, Any]:
    """What tells this model from others, for reports; no paths."""
    digest = hashlib.sha256()
    for path in model.checkpoints:
        digest.update(path.read_bytes())
    return {
        "dataset": model.read("plans.json").get("dataset_name", ""),
        "configuration": model.folder.name,
        "folds": list(model.folds),
        "checkpoints_sha256": digest.hexdigest()[:16],
        "device": "gpu" if device.startswith("cuda") else device,
        "software": {name: importlib.metadata.version(name) for name in ("torch", "nnunetv2")},
    }


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Nothing that the libraries print gets out: it belongs to no output, and can hold what nobody may read."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield printed


@contextlib.contextmanager
def replaced(module: ModuleType, **members: Any) -> Iterator[None]:
    """Members of a module replaced while it lasts."""
    originals = {name: getattr(module, name) for name in members}
    vars(module).update(members)
    try:
        yield
    finally:
        vars(module).update(originals)


@contextlib.contextmanager
def _watched(predictor: Any, passes: int, progress: Progress, cancelled: IsCancelled) -> Iterator[None]:
    """While it lasts, nnU-Net tells its tiles to ``progress`` and can be given up within each layer of the network."""
    from nnunetv2.inference import predict_from_raw_data as nnunet

    done = 0
    queues: list[Queue] = []

    class Bar:
        def __init__(self, *_: Any, total: int = 1, **__: Any) -> None:
            self._tiles, self._tile = max(total, 1), 0

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, error: type[BaseException] | None, *_: Any) -> None:
            nonlocal done
            done += error is None  # else nnU-Net tries the same tiles once more, with less on the card

        def update(self, count: int = 1) -> None:
            self._tile += count
            share = (done + self._tile / self._tiles) / passes
            progress(0.1 + 0.8 * share, f"Tile {done * self._tiles + self._tile} of {passes * self._tiles}")
            stop_if(cancelled)

    def queue(*arguments: Any, **named: Any) -> Queue:
        queues.append(Queue(*arguments, **named))
        return queues[-1]

    hooks = [layer.register_forward_pre_hook(lambda *_: stop_if(cancelled)) for layer in predictor.network.modules()]
    try:
        with replaced(nnunet, tqdm=Bar, Queue=queue):
            yield
    except BaseException:
        for left in queues:  # the thread that fills it waits for room
            threading.Thread(target=_drain, args=(left,), daemon=True).start()
        raise
    finally:
        for hook in hooks:
            hook.remove()


def _drain(queue: Queue) -> None:
    with contextlib.suppress(Empty):
        while queue.get(timeout=10.0) != "end":
            pass
