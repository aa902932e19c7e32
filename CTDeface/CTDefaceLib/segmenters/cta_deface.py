"""CTA-DEFACE, https://doi.org/10.1186/s41747-024-00510-9: an nnU-Net for faces in CT angiographies."""

from __future__ import annotations

from pathlib import Path

from . import nnunet, nnunet_runtime
from .segmenter import State

TITLE = "CTA-DEFACE"
ABOUT = "An nnU-Net for faces in CT angiographies (Mahmutoglu et al. 2024). Its weights are a folder of yours."
OPTIONS = ("weights", "device")
EXTRA = "nnunet"
FOLDER = "Dataset001_DEFACE"


def state(choice) -> State:
    nothing = f"Choose the folder {FOLDER} with the weights, to which github.com/CCI-Bonn/CTA-DEFACE links."
    return nnunet.state_with(model, choice, nothing)


def model(choice) -> nnunet_runtime.Model:
    return nnunet_runtime.find_model(Path(choice.weights), FOLDER, folds=("all",), configuration="3d_fullres")


def expected_seconds(image, cylinder, choice) -> float:
    return nnunet.expected_seconds_with(model(choice), image, cylinder, choice)


def segment(image, cylinder, choice, progress, cancelled):
    return nnunet.segment_with(model(choice), image, cylinder, choice, progress, cancelled)
