"""mede: its state, licence and geometry, which need no PyTorch; and its real weights, where the packages are there."""

import importlib.metadata
import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import scan, voxels
from CTDefaceLib import segmenters
from CTDefaceLib.commands import models
from CTDefaceLib.commands.main import main
from CTDefaceLib.errors import Cancelled, NoFaceError, NotReadyError
from CTDefaceLib.pipeline import segment
from CTDefaceLib.segmenters import Action, Choice, Restricted, State, Status, mede, nnunet_runtime

# ------------------------------------------------------------------------------------------------------- what is there


@pytest.fixture
def packages(monkeypatch):
    """What is installed, by name: a version, or None. What is not named is looked up."""
    there = {"mede": None, "torch": None}
    version, find_spec = importlib.metadata.version, importlib.util.find_spec

    def version_of(name):
        if name in there and there[name] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return there.get(name) or version(name)

    def spec_of(name, package=None):
        return there[name] and SimpleNamespace(origin=None) if name in there else find_spec(name, package)

    monkeypatch.setattr(importlib.metadata, "version", version_of)
    monkeypatch.setattr(importlib.util, "find_spec", spec_of)
    return there


@pytest.mark.parametrize(
    "torch, package, words",
    [
        (None, None, "PyTorch and mede 0.0.12 are not installed"),
        ("2.13", None, "mede 0.0.12 is not installed"),
        ("2.13", "0.0.11", "mede 0.0.12 is not installed"),
        (None, "0.0.12", "PyTorch is not installed"),
        ("2.13", "0.0.12", ""),
    ],
)
def test_what_is_missing_and_what_helps(torch, package, words, packages):
    packages.update(torch=torch, mede=package)
    state = mede.state(Choice())
    assert state.sentence.startswith(words) and (state.status is Status.READY) == (words == "")
    assert words == "" or (state.actions == (Action.INSTALL,) and "--no-deps mede==0.0.12" in state.sentence)


def test_it_is_offered_and_its_licence_is_told(packages, capsys):
    assert segmenters.names(Restricted) == ["mede"] and isinstance(mede, segmenters.Trained)
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert "mede: package missing" in text and "Commons Clause" in text and "commercially" in text
    assert "pip install 'ctdeface[mede]', then ctdeface models --install" in text


@pytest.fixture
def installer(monkeypatch):
    calls = []
    monkeypatch.setattr(models.subprocess, "call", lambda command: calls.append(command) or 0)
    return calls


@pytest.mark.parametrize("answer, status", [("n", 1), ("", 1), ("y", 0)])
def test_it_is_installed_only_after_the_licence_was_shown_and_agreed_to(
    answer, status, installer, packages, capsys, monkeypatch
):
    def asked(question):
        assert "Commons Clause" in capsys.readouterr().err and "under these terms" in question and not installer
        return answer

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", asked)
    assert main(["models", "--install"]) == status
    assert installer == ([[sys.executable, "-m", "pip", "install", "--no-deps", "mede==0.0.12"]] if not status else [])


def test_where_nobody_can_be_asked_yes_is_needed(installer, packages, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: False))
    with pytest.raises(SystemExit, match="2"):
        main(["models", "--install"])
    assert "goes with --yes" in capsys.readouterr().err and not installer
    assert main(["models", "--install", "--yes"]) == 0 and len(installer) == 1
    assert "PyTorch and mede" in capsys.readouterr().out, "what is still missing is told"
    monkeypatch.setattr(models.subprocess, "call", lambda command: 1)
    assert main(["models", "--install", "--yes"]) == 1
    assert "could not be installed" in capsys.readouterr().err


def test_it_never_downloads_by_itself(installer, packages):
    with pytest.raises(NotReadyError, match="not installed"):
        segment(scan().image, "mede")
    assert not installer


# -------------------------------------------------------------------------------------------------------- the geometry


class Network:
    """Stands for the network: lets all stay but the brightest, and keeps what it got."""

    def __call__(self, grid, device, progress, cancelled):
        self.grid = grid
        return np.where(grid > 0.99, -3.0, 3.0), {"model": {"dataset": "mede"}, "warnings": []}


@pytest.fixture
def network(monkeypatch):
    network = Network()
    monkeypatch.setattr(mede, "predict", network)
    return network


def run(image):
    """The segmenter on an image that holds nothing but a head."""
    head = SimpleNamespace(solid=np.ones(voxels(image).shape, bool), volume=image)
    return mede.segment(image, SimpleNamespace(head=head), Choice(), lambda *_: None, lambda: False)


@pytest.fixture
def marked():
    """Tissue in voxels of 2 × 3 × 4 mm, with a bright block high, right and in front; its axes to left, back, up."""
    array = np.full((30, 60, 80), 40, np.int16)
    array[22:28, 4:16, 6:20] = 1000
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 3.0, 4.0))
    image.SetOrigin((-50.0, 20.0, 7.0))
    return image


@pytest.mark.parametrize("stored", ["LPS", "RAS", "LPI", "ASL", "PIR"])
def test_however_a_head_is_stored_the_network_gets_it_in_one_way(stored, marked, network):
    image = sitk.DICOMOrient(marked, stored)
    mask, _ = run(image)
    assert network.grid.shape == (64, 224, 224) and (network.grid.min(), network.grid.max()) == (0, 1)
    up, right, front = np.argwhere(network.grid > 0.99).mean(axis=0) / network.grid.shape
    np.testing.assert_allclose((up, right, front), (25 / 30, 1 - 13 / 80, 1 - 10 / 60), atol=0.02)
    assert mask.GetSize() == image.GetSize() and mask.GetDirection() == image.GetDirection()
    assert np.array_equal(voxels(mask) > 0, voxels(image) == 1000)


@pytest.mark.slow
def test_a_larger_scan_comes_back_in_its_own_voxels(marked, network):
    fine = sitk.Expand(marked, [4, 5, 5], sitk.sitkNearestNeighbor)
    found, block = voxels(run(fine)[0]) > 0, voxels(fine) == 1000
    assert 2 * (found & block).sum() / (found.sum() + block.sum()) > 0.97


def test_crumbs_are_no_face(marked, network):
    array = voxels(marked)
    block = array == 1000
    array[3:5, 40:44, 60:64] = 1000
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(marked)
    assert np.array_equal(voxels(run(image)[0]) > 0, block)


def test_air_is_no_face_and_nothing_is_no_face(marked, network, monkeypatch):
    air = np.indices(voxels(marked).shape)[0] < 10
    image = sitk.GetImageFromArray(np.where(air, -1000, voxels(marked)))
    image.CopyInformation(marked)
    monkeypatch.setattr(mede, "predict", lambda *_: (np.zeros(mede.GRID), {"model": {}, "warnings": []}))
    assert np.array_equal(voxels(run(image)[0]) > 0, ~air)
    monkeypatch.setattr(mede, "predict", lambda *_: (np.ones(mede.GRID), {"model": {}, "warnings": []}))
    with pytest.raises(NoFaceError, match="found no face"):
        run(image)
    with pytest.raises(NoFaceError, match="same value everywhere"):
        run(marked * 0)


def test_its_mask_comes_with_a_warning(network, monkeypatch):
    monkeypatch.setattr(mede, "state", lambda choice: State())
    mask, notes = segment(scan().image, "mede")
    assert mask.GetSize() == scan().image.GetSize() and notes["method"] == "mede"
    assert any("forehead, brows and eyes" in warning for warning in notes["warnings"])


def test_one_model_is_kept(monkeypatch):
    monkeypatch.setattr(nnunet_runtime, "_kept", None)
    loads = []
    for key in ("a", "a", "b", "a"):
        assert nnunet_runtime.kept((key,), lambda key=key: loads.append(key) or key) == key
    assert loads == ["a", "b", "a"]


# ------------------------------------------------------------------------------------------------------ the real thing


@pytest.fixture
def real():
    for needed in ("torch", "mede"):
        reason = "needs PyTorch, and the package of mede: pip install --no-deps mede==0.0.12"
        pytest.importorskip(needed, reason=reason, exc_type=ImportError)
    yield
    nnunet_runtime.forget()


@pytest.mark.slow
def test_the_real_weights_on_a_head(real):
    """Minutes on a processor: the network's grid is as large for any scan."""
    s = scan(field_of_view="head")
    with pytest.raises(Cancelled):
        segment(s.image, "mede", device="cpu", cancelled=lambda: True)
    seen = []
    mask, notes = segment(s.image, "mede", device="cpu", progress=lambda share, text: seen.append((share, text)))
    assert notes["model"]["checkpoints_sha256"] == "0ddcc205edc3490b" and notes["model"]["device"] == "cpu"
    assert notes["model"]["software"]["mede"] == "0.0.12" and "site-packages" not in repr(notes)
    shares = [share for share, _ in seen]
    assert shares == sorted(shares) and sum("Layer" in text for _, text in seen) > 50
    with nnunet_runtime.alone:
        kept = mede._loaded("cpu")[0]
        assert mede._loaded("cpu")[0] is kept
    found, face = voxels(mask) > 0, voxels(s.face) > 0
    assert 0.1 * face.sum() < found.sum() and (found & face).sum() > 0.1 * face.sum()
