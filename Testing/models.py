"""Trained models for tests: tiny ones, which label synthetic heads somewhat like a face; and what they say themselves.

python models.py NAME IN OUT        writes what a model says of a volume
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

CHECKOUT = Path(__file__).resolve().parents[1]
MODELS = CHECKOUT / "Testing" / "data" / "nnunet"
CTA_DEFACE = MODELS / "Dataset001_DEFACE"
FACE = MODELS / "Dataset303_face_1559subj"
PLACEHOLDER = "aca_PLACEHOLDER_00"
"""Of the length of a licence key of TotalSegmentator, and nothing else; for throwaway homes with the tiny weights."""


def dice(first, second) -> float:
    """Overlap of two bool arrays, 1 for the same."""
    return 2.0 * (first & second).sum() / (first.sum() + second.sum())


def make_home(home: Path, **settings) -> Path:
    """A home of TotalSegmentator in which its face model works, with the tiny weights."""
    shutil.copytree(FACE, home / "nnunet" / "results" / FACE.name)
    config = {"totalseg_id": "test", "prediction_counter": 0, "statistics_disclaimer_shown": True}
    config |= {"send_usage_stats": False, "license_number": PLACEHOLDER, **settings}
    (home / "config.json").write_text(json.dumps(config))
    return home


def torch_python() -> str:
    """A Python with PyTorch and nnU-Net, for background processes; the stand-in for Slicer runs in one without.

    CTDEFACE_TORCH_PYTHON names it; by default it is the environment that test.sh makes.
    """
    found = os.environ.get("CTDEFACE_TORCH_PYTHON") or str(CHECKOUT / ".venv-models" / "bin" / "python")
    if not os.path.exists(found):
        pytest.skip("needs a Python with PyTorch and nnU-Net: set CTDEFACE_TORCH_PYTHON")
    return found


def nnunet_says(image: sitk.Image, folder: Path) -> np.ndarray:
    """Face in an image, bool (z, y, x), by nnU-Net itself, which gets it as dcm2niix would store it."""
    import torch
    from CTDefaceLib.segmenters import nnunet_runtime
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    model = nnunet_runtime.find_model(folder)
    predictor = nnUNetPredictor(device=torch.device("cpu"), use_mirroring=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model.folder), model.folds, nnunet_runtime.CHECKPOINT)
    stored = sitk.DICOMOrient(image, "LAS")
    found = predictor.predict_single_npy_array(
        sitk.GetArrayFromImage(stored).astype(np.float32)[None], {"spacing": list(stored.GetSpacing()[::-1])}
    )
    face = sitk.GetImageFromArray((found > 0).astype(np.uint8))
    face.CopyInformation(stored)
    orientation = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection())
    return sitk.GetArrayFromImage(sitk.DICOMOrient(face, orientation)) > 0


def totalsegmentator_says(image: sitk.Image) -> np.ndarray:
    """Face in an image, bool (z, y, x), by TotalSegmentator's own API; in the home that the environment names."""
    import nibabel
    from totalsegmentator.python_api import totalsegmentator

    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine = np.diag([*image.GetSpacing(), 1.0])
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ affine[:3, :3]
    affine[:3, 3] = image.GetOrigin()
    scan = nibabel.Nifti1Image(sitk.GetArrayFromImage(image).T, lps_to_ras @ affine)
    found = totalsegmentator(scan, None, task="face", device="cpu", quiet=True)
    return np.asarray(found.dataobj).T > 0


def says_elsewhere(name: str, image: sitk.Image, folder: Path, **environment: str) -> np.ndarray:
    """The same in a Python that has PyTorch. ``name``: a segmenter; ``folder``: for files in between."""
    sitk.WriteImage(image, str(folder / "in.nii.gz"))
    libraries = os.pathsep.join(path for path in sys.path if Path(path).name in ("CTDeface", "CTDefaceEval"))
    subprocess.run(
        [torch_python(), __file__, name, "in.nii.gz", "out.nii.gz"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": libraries, **environment},
        check=True,
        capture_output=True,
    )
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "out.nii.gz"))) > 0


if __name__ == "__main__":
    name, source, target = sys.argv[1:]
    image = sitk.ReadImage(source)
    found = totalsegmentator_says(image) if name == "totalsegmentator" else nnunet_says(image, CTA_DEFACE)
    sitk.WriteImage(sitk.GetImageFromArray(found.astype(np.uint8)), target)
