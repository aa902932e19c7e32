"""nnU-Net models on synthetic heads, on the processor. The tiny models know a face by where it lies in the volume."""

import json
import shutil
import threading

import numpy as np
import processes
import pytest
import SimpleITK as sitk
from coarse_phantoms import case, scan, voxels
from models import CTA_DEFACE, FACE, dice, nnunet_says

for needed in ("torch", "nnunetv2"):
    pytest.importorskip(
        needed, reason="needs PyTorch and nnU-Net: pip install 'ctdeface[nnunet]'", exc_type=ImportError
    )

import torch  # noqa: E402
from CTDefaceLib import segmenters  # noqa: E402
from CTDefaceLib.commands.main import main  # noqa: E402
from CTDefaceLib.errors import Cancelled, InputError, NoFaceError, NotReadyError  # noqa: E402
from CTDefaceLib.pipeline import DefaceParameters, deface, segment  # noqa: E402
from CTDefaceLib.segmenters import nnunet_runtime  # noqa: E402
from CTDefaceLib.volume_io import write_volume  # noqa: E402

CPU = dict(weights=str(CTA_DEFACE), device="cpu")


@pytest.fixture(scope="module")
def found():
    return segment(scan().image, "cta-deface", **CPU)


def test_the_command_as_a_user_types_it(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(CTA_DEFACE, tmp_path / "mödel of mine" / CTA_DEFACE.name)
    write_volume(scan().image, "head.nii.gz")
    files = ["head.nii.gz", "out.nii.gz", "--mask", "mask.nii.gz"]
    model = ["--segmenter", "cta-deface", "--weights", "mödel of mine", "--device", "cpu"]
    assert main(["deface", *files, *model, "--as-is", "--fill", "percentile"]) == 0
    printed = capfd.readouterr()
    assert printed.out == "" and all(line.startswith("ctdeface: warning") for line in printed.err.splitlines())
    mask = voxels(sitk.ReadImage("mask.nii.gz")) > 0
    assert dice(mask, nnunet_says(scan().image, CTA_DEFACE)) >= 0.99
    text = (tmp_path / "out.json").read_text()
    report = json.loads(text)
    assert report["method"] == "cta-deface" and report["intracranial_voxels_touched"] == 0
    assert report["model"]["dataset"] == "Dataset001_DEFACE" and report["model"]["folds"] == ["all"]
    assert report["model"]["device"] == "cpu"
    assert "mödel" not in text and str(tmp_path) not in text and '"weights"' not in text


@pytest.mark.parametrize("folder, name", [(CTA_DEFACE, "cta-deface"), (FACE, "nnunet")])
def test_the_mask_is_the_models_own(folder, name):
    mask, notes = segment(scan().image, name, weights=str(folder), device="cpu")
    assert dice(voxels(mask) > 0, nnunet_says(scan().image, folder)) >= 0.99
    assert notes["mask_ml"] > 50 and notes["warnings"] == []


@pytest.fixture
def flat_model(tmp_path):
    """A network that takes slice by slice, with random weights."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    source = nnunet_runtime.find_model(CTA_DEFACE)
    folder = tmp_path / "Dataset005_Flat" / source.folder.name.replace("3d_fullres", "2d")
    (folder / "fold_0").mkdir(parents=True)
    shutil.copy(source.folder / "dataset.json", folder)
    plans = source.read("plans.json")
    plan = plans["configurations"]["2d"] = plans["configurations"].pop("3d_fullres")
    plan["patch_size"], plan["spacing"] = [64, 64], [3.0, 3.0]
    kind, parts = plan["architecture"]["network_class_name"], plan["architecture"]["arch_kwargs"]
    parts["conv_op"], parts["norm_op"] = (parts[name].replace("3d", "2d") for name in ("conv_op", "norm_op"))
    parts["kernel_sizes"], parts["strides"] = ([v[:2] for v in parts[name]] for name in ("kernel_sizes", "strides"))
    (folder / "plans.json").write_text(json.dumps(plans))
    torch.manual_seed(0)
    network = get_network_from_plans(kind, parts, plan["architecture"]["_kw_requires_import"], 1, 2)
    state = {"trainer_name": "nnUNetTrainer", "init_args": {"configuration": "2d"}}
    state |= {"inference_allowed_mirroring_axes": (0, 1), "network_weights": network.state_dict()}
    torch.save(state, folder / "fold_0" / nnunet_runtime.CHECKPOINT)
    return folder


def test_a_network_that_takes_slice_by_slice(flat_model):
    image, choice = scan().image, segmenters.Choice(str(flat_model), device="cpu")
    assert segmenters.module("nnunet").expected_seconds(image, _cylinder(image), choice) > 0
    told = []
    mask, _ = segment(
        image, "nnunet", weights=str(flat_model), device="cpu", progress=lambda _, text: told.append(text)
    )
    assert dice(voxels(mask) > 0, nnunet_says(image, flat_model)) >= 0.99
    assert any(text.startswith(f"Tile {image.GetSize()[2]} of ") for text in told)


@pytest.mark.parametrize("stored", ["RAS", "LPI", "ASL"])
def test_the_same_head_stored_otherwise_gives_the_same_mask(stored, found):
    image = sitk.DICOMOrient(scan().image, stored)
    mask, _ = segment(image, "cta-deface", **CPU)
    assert mask.GetSize() == image.GetSize() and mask.GetDirection() == image.GetDirection()
    assert dice(voxels(sitk.DICOMOrient(mask, "LPS")) > 0, voxels(found[0]) > 0) > 0.999


def test_the_mask_is_refined_and_sealed_like_any_other():
    result = deface(scan().image, DefaceParameters("cta-deface", **CPU))
    mask, region = voxels(result.mask) > 0, voxels(result.region) > 0
    assert region.sum() > 1.5 * mask.sum() and result.report["intracranial_voxels_touched"] == 0


def test_only_the_head_goes_in(monkeypatch):
    head = scan(field_of_view="neck").image
    body = sitk.ConstantPad(head, (40, 40, 250), (40, 40, 0), -1000.0)
    seen = []
    monkeypatch.setattr(nnunet_runtime, "predict", lambda model, array, *rest: seen.append(array) or (array > 0, {}))
    for image in (head, body):
        mask, _ = segmenters.module("nnunet").segment(
            image, _cylinder(image), segmenters.Choice(**CPU), lambda *_: None, lambda: False
        )
        assert mask.GetSize() == image.GetSize()
    assert seen[1].size < 1.5 * seen[0].size < 0.4 * body.GetNumberOfPixels()


def _cylinder(image):
    from CTDefaceLib.anatomy.face_map import head_cylinder

    return head_cylinder(image)


def test_a_head_cut_out_of_a_body_is_found_where_it_is(found):
    image = scan().image
    body = sitk.ConstantPad(image, (30, 30, 130), (30, 30, 0), -1000.0)
    mask, _ = segment(body, "cta-deface", **CPU)
    where = np.argwhere(voxels(mask)).mean(axis=0) - (130, 30, 30)
    assert np.abs(where - np.argwhere(voxels(found[0])).mean(axis=0)).max() < 12


# ------------------------------------------------------------------------------------------- progress, cancel, memory


def test_progress_counts_tiles_and_the_model_stays_loaded(monkeypatch, found):
    load = []
    monkeypatch.setattr(torch, "load", lambda *_, **__: load.append(1))
    told = []
    segment(scan().image, "cta-deface", **CPU, progress=lambda fraction, text: told.append((fraction, text)))
    assert not load
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[0] == 0 and fractions[-1] == 1
    tiles = [text for _, text in told if text.startswith("Tile")]
    count = len(tiles)
    assert count > 1 and tiles == [f"Tile {n} of {count}" for n in range(1, count + 1)]


@pytest.mark.parametrize("after", ["Loading", "Preparing", "Tile 1 ", "Tile 5 "])
def test_cancelling_takes_a_moment_and_leaves_nothing(after, found):
    told, asked = [], []  # what was said, and how much of it had been when the cancelling began
    threads = threading.active_count()

    def cancelled():
        if told and told[-1].startswith(after):
            asked.append(len(told))
            return True
        return False

    with pytest.raises(Cancelled):
        segment(scan().image, "cta-deface", **CPU, progress=lambda _, text: told.append(text), cancelled=cancelled)
    assert len(told) <= asked[0] + 1, "not a tile more"
    processes.wait_for(lambda: threading.active_count() <= threads, 20)  # else a thread waits for ever
    assert dice(voxels(segment(scan().image, "cta-deface", **CPU)[0]) > 0, voxels(found[0]) > 0) == 1


@pytest.fixture
def failing_card(monkeypatch):
    """A graphics card that fails with the error that it is called with, when a model is moved to it."""
    real = torch.nn.Module.to

    def fail_with(error):
        def to(network, device, *rest):
            if str(device) != "cpu":
                raise error
            return real(network, device, *rest)

        monkeypatch.setattr(torch.nn.Module, "to", to)

    monkeypatch.setattr(nnunet_runtime, "devices", lambda: [("gpu:0", "a small one"), ("cpu", "2 threads")])
    return fail_with


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
    ],
    ids=["PyTorch", "driver", "Apple"],
)
def test_a_full_graphics_card_falls_back_to_the_processor(error, failing_card, found):
    failing_card(error)
    told = []
    parameters = DefaceParameters("cta-deface", str(CTA_DEFACE), device="gpu")
    result = deface(scan().image, parameters, progress=lambda _, text: told.append(text))
    assert nnunet_runtime.CARD_FULL in result.report["warnings"]
    assert any("memory ran out; using the processor" in text for text in told)
    assert np.array_equal(voxels(result.mask), voxels(found[0])) and result.report["model"]["device"] == "cpu"
    image, module = scan().image, segmenters.module("cta-deface")
    assert module.expected_seconds(image, _cylinder(image), segmenters.Choice(str(CTA_DEFACE), device="gpu")) > 0


def test_other_errors_of_a_graphics_card_are_not_hidden(failing_card):
    failing_card(RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(RuntimeError, match="assert"):
        segment(scan().image, "cta-deface", weights=str(CTA_DEFACE), device="gpu")


def test_too_little_memory_is_told_as_that(monkeypatch):
    def fail(*_):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(nnunet_runtime, "_loaded", lambda model, device: (_Predictor(fail), {}))
    with pytest.raises(MemoryError):
        segment(scan().image, "cta-deface", **CPU)


class _Predictor:
    def __init__(self, predict):
        self.predict_single_npy_array = predict
        self.network = torch.nn.Identity()


def test_the_expected_time_is_that_of_the_tiles_that_are_worked_on(monkeypatch, found):
    image, choice, told = scan().image, segmenters.Choice(**CPU), []
    module, real = segmenters.module("cta-deface"), nnunet_runtime._try
    monkeypatch.setattr(nnunet_runtime, "_try", lambda *arguments: (1000.0, real(*arguments)[1]))
    expected = module.expected_seconds(image, _cylinder(image), choice)
    module.segment(image, _cylinder(image), choice, lambda _, text: told.append(text), lambda: False)
    tiles = sum(text.startswith("Tile") for text in told)
    assert expected == pytest.approx(1000.0 * tiles, rel=0.2)


# ------------------------------------------------------------------------------------------------------ what goes wrong


def test_no_such_device():
    with pytest.raises(InputError, match="no device “gpu:7” here: choose auto or"):
        segment(scan().image, "cta-deface", weights=str(CTA_DEFACE), device="gpu:7")
    assert nnunet_runtime.devices()[-1][0] == "cpu"


@pytest.mark.parametrize("damage", ["cut", "garbage", "other"])
def test_damaged_weights(damage, tmp_path):
    copy = shutil.copytree(CTA_DEFACE, tmp_path / CTA_DEFACE.name)
    path = nnunet_runtime.find_model(copy).checkpoints[0]
    if damage == "other":
        torch.save({"something": "else"}, path)
    else:
        path.write_bytes(path.read_bytes()[:5000] if damage == "cut" else b"no pickle at all")
    with pytest.raises(NotReadyError, match="The weights cannot be loaded: they are damaged"):
        segment(scan().image, "cta-deface", weights=str(copy), device="cpu")
    shutil.rmtree(copy)
    with pytest.raises(NotReadyError, match="not there"):
        segment(scan().image, "cta-deface", weights=str(copy), device="cpu")


def test_no_face(monkeypatch):
    monkeypatch.setattr(nnunet_runtime, "face_values", lambda model, label: (7,))
    with pytest.raises(NoFaceError, match="found no face"):
        segment(case("frontal").image, "nnunet", **CPU)
