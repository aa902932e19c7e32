"""The segmenters as such: what is there, what is missing, what can be told. None of this needs PyTorch."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from coarse_phantoms import case, intracranial, voxels
from CTDefaceLib import segmenters
from CTDefaceLib.commands.main import main
from CTDefaceLib.errors import InputError, NotReadyError
from CTDefaceLib.pipeline import DefaceParameters, deface, segment
from CTDefaceLib.removal.region import mask_as_region
from CTDefaceLib.segmenters import Action, Choice, State, Status, nnunet_runtime
from CTDefaceLib.volume_io import write_volume
from models import CTA_DEFACE, FACE


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(nnunet_runtime, "is_installed", lambda: True)


@pytest.fixture
def model(tmp_path, installed):
    """A copy of a trained model: the folder of its trainer."""
    copy = shutil.copytree(CTA_DEFACE, tmp_path / "results" / CTA_DEFACE.name)
    return copy / "nnUNetTrainer__nnUNetPlans__3d_fullres"


def change(path, **entries):
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


# ------------------------------------------------------------------------------------------------------ what there is


def test_the_built_in_one_comes_first_and_needs_nothing():
    assert segmenters.names()[0] == "builtin"
    assert segmenters.module("builtin").state(Choice()).status == Status.READY


@pytest.mark.parametrize("name", segmenters.names())
def test_each_tells_what_it_is_and_what_it_needs(name):
    module = segmenters.module(name)
    assert module.TITLE and module.ABOUT.endswith(".") and set(module.OPTIONS) <= {"weights", "label", "device"}
    state = module.state(Choice())
    assert (state.status == Status.READY) == (state.sentence == "") == (state.actions == ())


class UpperHalf:
    TITLE, ABOUT, OPTIONS = "Upper half", "All that is bone.", ()

    @staticmethod
    def state(choice):
        return State()

    @staticmethod
    def segment(image, cylinder, choice, progress, cancelled):
        progress(0.5, "Halfway")
        return sitk.Cast(image > 200, sitk.sitkUInt8), {"warnings": ["bone only"]}


def test_another_line_in_the_table_is_another_segmenter(tmp_path, monkeypatch):
    monkeypatch.setitem(segmenters.SEGMENTERS, "upper-half", UpperHalf)
    assert "upper-half" in segmenters.names()
    write_volume(case("frontal").image, tmp_path / "head.nii")
    assert main(["deface", str(tmp_path / "head.nii"), str(tmp_path / "out.nii"), "--segmenter", "upper-half"]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["method"] == "upper-half" and "bone only" in report["warnings"]


@pytest.mark.parametrize(
    "words, kind",
    [
        ("Exception thrown in SimpleITK new_Image: …\nFailed to allocate memory for image.", MemoryError),
        ("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory", MemoryError),
        ("DefaultCPUAllocator: not enough memory: you tried to allocate 8589934592 bytes.", MemoryError),
        ("something else", RuntimeError),
    ],
    ids=["SimpleITK", "PyTorch", "PyTorch on Windows", "other"],
)
def test_too_little_memory_in_any_words_is_one_sentence(words, kind, head, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError(words)

    monkeypatch.setattr("CTDefaceLib.study.volumes.read_scan", fail)
    assert main(["deface", "head.nii", "out.nii"]) == 1
    said = "There is not enough memory" if kind is MemoryError else "An error that this program did not expect"
    assert capsys.readouterr().err.startswith(f"ctdeface: {said}")


def test_there_is_no_other():
    with pytest.raises(InputError, match="There is no segmenter “magic”: choose builtin"):
        segment(case("frontal").image, "magic")


# ------------------------------------------------------------------------------------------------------ what is missing


@pytest.mark.parametrize("name", ["cta-deface", "nnunet"])
def test_without_its_packages(name, monkeypatch):
    monkeypatch.setattr(nnunet_runtime, "is_installed", lambda: False)
    state = segmenters.module(name).state(Choice(weights=str(CTA_DEFACE)))
    assert (state.status, state.actions) == (Status.NO_PACKAGE, (Action.INSTALL,)) and "not installed" in state.sentence
    with pytest.raises(NotReadyError, match="not installed"):
        deface(case("frontal").image, DefaceParameters(name, str(CTA_DEFACE)))


@pytest.mark.parametrize("name", ["cta-deface", "nnunet"])
@pytest.mark.parametrize("weights", ["", "/no/such/folder", "."])
def test_without_its_weights(name, weights, installed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = segmenters.module(name).state(Choice(weights=weights))
    assert (state.status, state.actions) == (Status.NO_WEIGHTS, (Action.CHOOSE_FOLDER,)) and "hoose" in state.sentence


@pytest.mark.parametrize("up", [0, 1, 2])
def test_a_model_is_found_in_the_folders_above_it(model, up):
    folder = [model, *model.parents][up]
    for name in ("cta-deface", "nnunet"):
        assert segmenters.module(name).state(Choice(weights=str(folder))).status == Status.READY
        assert segmenters.module(name).model(Choice(weights=str(folder))) == nnunet_runtime.Model(model, ("all",))


def test_cta_deface_is_no_other_model(installed):
    state = segmenters.module("cta-deface").state(Choice(weights=str(FACE)))
    assert state.status == Status.NO_WEIGHTS


def test_a_folder_with_two_models_is_not_guessed_at(model):
    shutil.copytree(FACE, model.parents[1] / FACE.name)
    with pytest.raises(InputError, match="holds 2 models"):
        nnunet_runtime.find_model(model.parents[1])
    shutil.copytree(model, model.with_name("nnUNetTrainer__nnUNetPlans__2d"))
    assert nnunet_runtime.find_model(model.parent).folder == model, "3d_fullres is preferred"


def test_folds_are_chosen_as_by_nnunet(model):
    for fold in ("0", "3"):
        shutil.copytree(model / "fold_all", model / f"fold_{fold}")
    assert nnunet_runtime.find_model(model).folds == ("0", "3")
    assert nnunet_runtime.find_model(model, folds=("all",)).folds == ("all",)
    (model / "fold_all" / nnunet_runtime.CHECKPOINT).unlink()
    with pytest.raises(InputError, match="fold_all/checkpoint_final.pth is missing"):
        nnunet_runtime.find_model(model, folds=("all",))


def test_unusable_models(model):
    change(model / "dataset.json", channel_names={"0": "CT", "1": "PET"})
    with pytest.raises(InputError, match="needs 2 images"):
        nnunet_runtime.find_model(model)
    change(model / "dataset.json", channel_names={"0": "CT"})
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["previous_stage"] = "3d_lowres"
    change(model / "plans.json", **plans)
    with pytest.raises(InputError, match="second stage"):
        nnunet_runtime.find_model(model)
    (model / "plans.json").write_text("{")
    with pytest.raises(InputError, match="plans.json of the model cannot be read"):
        nnunet_runtime.find_model(model)


@pytest.mark.parametrize(
    "labels, label, values",
    [
        ({"background": 0, "face": 1}, "", (1,)),
        ({"background": 0, "skin": 2}, "", (2,)),
        ({"background": 0, "brain": 1, "Face": 2, "ignore": 3}, "", (2,)),
        ({"background": 0, "brain": 1, "face": 2}, "brain", (1,)),
        ({"background": 0, "all": [1, 2], "eyes": [2]}, "all", (1, 2)),
        ({"background": 0, "brain": 1, "eyes": 2}, "", "several labels.* brain, eyes"),
        ({"background": 0, "face": 1}, "nose", "no label “nose”: choose face"),
        ({"background": 0}, "", "has no labels"),
        ({"background": 0, "face": "one"}, "", "cannot be read"),
    ],
    ids=str,
)
def test_labels(model, labels, label, values):
    change(model / "dataset.json", labels=labels)
    state = segmenters.module("nnunet").state(Choice(weights=str(model), label=label))
    if isinstance(values, tuple):
        assert (
            nnunet_runtime.face_values(nnunet_runtime.find_model(model), label) == values
            and state.status == Status.READY
        )
    else:
        with pytest.raises(InputError, match=values):
            nnunet_runtime.face_values(nnunet_runtime.find_model(model), label)
        assert state.status == Status.NO_WEIGHTS


def test_the_reader_tells_the_orientation(model):
    assert nnunet_runtime.orientation(nnunet_runtime.find_model(model)) == ""
    change(model / "plans.json", image_reader_writer="NibabelIOWithReorient")
    assert nnunet_runtime.orientation(nnunet_runtime.find_model(model)) == "RAS"


# ------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def head(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_volume(case("frontal").image, "head.nii")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--weights", "x"], "the segmenter builtin has no use for it"),
        (["--segmenter", "cta-deface", "--label", "face"], "has no use for it"),
        (["--as-is", "--margin", "3"], "argument --as-is"),
        (["--as-is", "--no-seal"], "argument --no-seal"),
        (["--as-is", "--keep-bone"], "argument --as-is"),
    ],
    ids=str,
)
def test_wrong_usage(arguments, words, head, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["deface", "head.nii", "out.nii", *arguments])
    assert words in capsys.readouterr().err


def test_what_is_missing_is_one_sentence(head, installed, capsys, tmp_path):
    assert main(["deface", "head.nii", "out.nii", "--segmenter", "nnunet"]) == 1
    assert capsys.readouterr().err == "ctdeface: Choose the results folder of a trained model (Dataset…).\n"
    assert [path.name for path in tmp_path.iterdir()] == ["head.nii"]


# ----------------------------------------------------------------------------------------------------- mask as it is


def test_the_mask_as_it_is():
    s = case("frontal")
    result = deface(s.image, DefaceParameters(as_is=True, fill="percentile"))
    assert np.count_nonzero(voxels(result.region) != voxels(result.mask)) == 0, "this mask does not touch the brain"
    filled = voxels(result.image)[voxels(result.region) > 0]
    assert np.ptp(filled) == 0 and filled[0] == round(float(np.percentile(s.hu, 10)))
    assert result.report["parameters"]["as_is"]


def test_even_a_mask_as_it_is_spares_the_brain():
    s = case("frontal")
    everything = sitk.Cast(s.image > -400, sitk.sitkUInt8)
    region = voxels(mask_as_region(everything, s.cylinder)) > 0
    brain = intracranial(s.cylinder.head, s.image)
    assert (region & brain).sum() < 0.03 * brain.sum()
    result = deface(s.image, DefaceParameters(as_is=True), mask=everything)
    assert result.report["intracranial_voxels_touched"] == 0
    assert not voxels(mask_as_region(s.image * 0, s.cylinder)).any()
