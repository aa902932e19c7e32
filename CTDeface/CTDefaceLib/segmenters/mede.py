"""mede, https://github.com/TIO-IKIM/medical_image_deidentification: a MedNeXt that comes whole in a package of PyPI.

Only its network and its weights are used, and PyTorch below them: its pins, of old versions of much that the network
does not need, are not installed. A scan is prepared as mede does it: the whole head in a grid of fixed size, by
nearest neighbours, scaled to its lowest and highest value. The network answers what is to stay; air around and within
the head is not, and the face is what else does not stay.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..anatomy.face_map import Cylinder
from ..anatomy.grids import on_image_grid
from ..anatomy.hounsfield import AIR_HU
from ..anatomy.work_grid import dilated
from ..errors import NoFaceError, NotReadyError, memory_errors
from ..progress import IsCancelled, Progress, stop_if
from . import nnunet_runtime
from .segmenter import Action, Choice, Notes, State, Status

TITLE = "mede"
ABOUT = "A MedNeXt for CT and MRI (Rempe et al. 2025), to compare with: it leaves parts of the face. No commercial use."
OPTIONS: tuple[str, ...] = ("device",)
EXTRA = "mede"

PACKAGE, VERSION = "mede", "0.0.12"
"""No other version: the input that its network expects is nowhere told but in its code."""
PIP = ("--no-deps", f"{PACKAGE}=={VERSION}")
TERMS = (
    "The licence of mede: its metadata name MIT, but its licence file is Apache 2.0 with the Commons Clause. "
    "You may not sell it or use it commercially without its authors' permission."
)
WEIGHTS = "models/mednext_deface.pth"
NETWORK: dict[str, Any] = {
    "in_channels": 1,
    "n_channels": 32,
    "n_classes": 1,
    "exp_r": 2,
    "kernel_size": 3,
    "do_res": True,
    "do_res_up_down": True,
    "block_counts": [2] * 9,
}
"""How mede builds the network that the weights are of."""

GRID = (64, 224, 224)
"""Voxels to the superior, right and anterior that the network takes, whatever their size."""
STAYS = 0.5
"""Above this answer of the network (no unit, about -400 to 100) a voxel stays: mede's own threshold."""
AROUND_SKIN_MM = 6.0
"""How far outside the head, in mm, tissue may belong to the face: two voxels of the work grid. By eye."""
TRIED = (16, 64, 64)
"""The part of the grid, in voxels, that the network's speed is tried on: less than 5 % of the work."""

PARTLY = (
    "The model of mede left forehead, brows and eyes standing in heads that it was tried on: use its mask to compare "
    "with, and do not rely on it to remove a face."
)


def state(choice: Choice) -> State:
    """Whether PyTorch and the package are there."""
    importlib.invalidate_caches()
    try:
        is_there = importlib.metadata.version(PACKAGE) == VERSION
    except importlib.metadata.PackageNotFoundError:
        is_there = False
    if importlib.util.find_spec("torch") is None:
        missing = "PyTorch is" if is_there else f"PyTorch and {PACKAGE} {VERSION} are"
    elif not is_there:
        missing = f"{PACKAGE} {VERSION} is"
    else:
        return State()
    sentence = f"{missing} not installed; its other requirements are not needed (pip install {' '.join(PIP)})."
    return State(Status.NO_PACKAGE, sentence, (Action.INSTALL,))


def expected_seconds(image: sitk.Image, cylinder: Cylinder, choice: Choice) -> float:
    """About how long it will take, from a try of the network on part of its grid."""
    with nnunet_runtime.alone:
        device = nnunet_runtime.torch_device(choice.device)
        each = nnunet_runtime.on_card_or_processor(_try, device)
    return each * np.prod(GRID) / np.prod(TRIED)


def segment(
    image: sitk.Image, cylinder: Cylinder, choice: Choice, progress: Progress, cancelled: IsCancelled
) -> tuple[sitk.Image, Notes]:
    """Find the face, see :class:`.segmenter.Segmenter`."""
    box = nnunet_runtime.head_box(image, cylinder)
    part = image[box]
    turned = sitk.DICOMOrient(part, "RAS")
    grid = _on_grid(sitk.GetArrayViewFromImage(turned))
    with nnunet_runtime.alone:
        answer, notes = predict(grid, choice.device, progress, cancelled)
    near_head = dilated(cylinder.head.solid, AROUND_SKIN_MM) - 0.5
    tissue = on_image_grid(near_head, cylinder.head, turned, only_above=AIR_HU)
    goes = tissue & ~_from_grid(answer > STAYS, tissue.shape)
    face = nnunet_runtime.face_image(_largest_piece(goes), (1,), turned)
    notes["warnings"].append(PARTLY)
    return nnunet_runtime.put_back(face, part, box, image), notes


def _on_grid(array: np.ndarray) -> np.ndarray:
    """Values (z, y, x, turned to RAS) on the network's grid (z, x, y), scaled to 0 to 1; float32."""
    turned = np.swapaxes(array, 1, 2)
    grid = turned[np.ix_(*(_nearest(n, size) for n, size in zip(GRID, turned.shape)))].astype(np.float32)
    low, high = grid.min(), grid.max()
    if low == high:
        raise NoFaceError("The volume has the same value everywhere: there is no face in it. Nothing was changed.")
    return (grid - low) / (high - low)


def _from_grid(found: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array of the network's grid (z, x, y) in a shape (z, y, x)."""
    z, y, x = shape
    return np.swapaxes(found[np.ix_(*(_nearest(n, size) for n, size in zip((z, x, y), GRID)))], 1, 2)


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    """Without the crumbs, 1 % of it, that lie along the skin all around the head."""
    pieces, count = ndimage.label(mask)
    return pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:]) if count else mask


def _nearest(wanted: int, size: int) -> np.ndarray:
    """Which of ``size`` voxels each of ``wanted`` ones over the same length has its centre in."""
    return (2 * np.arange(wanted) + 1) * size // (2 * wanted)


def predict(grid: np.ndarray, device: str, progress: Progress, cancelled: IsCancelled) -> tuple[np.ndarray, Notes]:
    """The network's answer, shape and order of axes of ``grid``; and a dict with ``model`` and ``warnings``."""
    wanted = nnunet_runtime.torch_device(device)

    def work(device: str) -> tuple[np.ndarray, Notes]:
        if device != wanted:
            progress(0.0, "The graphics card's memory ran out; using the processor")
        progress(0.0, "Loading the model")
        network, described = _loaded(device)
        warnings = [nnunet_runtime.CARD_FULL] if device != wanted else []
        return _run(network, grid, device, progress, cancelled), {"model": dict(described), "warnings": warnings}

    return nnunet_runtime.on_card_or_processor(work, wanted)


def _run(network: Any, grid: np.ndarray, device: str, progress: Progress, cancelled: IsCancelled) -> np.ndarray:
    """The network's answer; progress is reported, and the work can be given up, before each of its layers."""
    import torch

    layers = [layer for layer in network.modules() if not any(layer.children())]
    done = 0

    def before(*_: Any) -> None:
        nonlocal done
        stop_if(cancelled)
        done += 1
        progress(0.05 + 0.9 * min(done / len(layers), 1.0), f"Layer {min(done, len(layers))} of {len(layers)}")

    hooks = [layer.register_forward_pre_hook(before) for layer in layers]
    try:
        with torch.inference_mode(), memory_errors():
            return network(torch.from_numpy(grid)[None, None].to(device))[0, 0].float().cpu().numpy()
    finally:
        for hook in hooks:
            hook.remove()


def _try(device: str) -> float:
    """Seconds that the network takes for part of its grid."""
    network, _ = _loaded(device)
    for _ in range(2):  # the first time is slower
        start = time.perf_counter()
        _run(network, np.zeros(TRIED, np.float32), device, lambda *_: None, lambda: False)
        seconds = time.perf_counter() - start
    return seconds


def _loaded(device: str) -> tuple[Any, dict[str, Any]]:
    return nnunet_runtime.kept((PACKAGE, device), lambda: _load(device))


def _load(device: str) -> tuple[Any, dict[str, Any]]:
    """The network with its weights, and what tells it from others, without places."""
    again = f"install it again with pip install {' '.join(PIP)}"
    try:
        import torch
        from mede.mednext.MedNextV1 import MedNeXt
    except ImportError as error:
        raise NotReadyError(f"PyTorch or {PACKAGE} cannot be loaded ({error}): {again}.") from error
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(spec.origin if spec and spec.origin else "").parent / WEIGHTS
    network = MedNeXt(**NETWORK)
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        weights = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # a damaged file can raise anything
        raise NotReadyError(f"The weights of {PACKAGE} cannot be loaded ({type(error).__name__}): {again}.") from error
    described = {
        "dataset": PACKAGE,
        "checkpoints_sha256": digest[:16],
        "device": "gpu" if device.startswith("cuda") else device,
        "software": {name: importlib.metadata.version(name) for name in ("torch", PACKAGE)},
    }
    return network.to(device).eval(), described
