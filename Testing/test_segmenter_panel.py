"""The method box of the CTDeface panel: states, installing, licence, weights, and tiny models end to end."""

import errno
import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gui
import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from CTDefaceLib import segmenters
from CTDefaceLib.errors import NotReadyError
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.segmenters import mede, nnunet_runtime, totalsegmentator
from CTDefaceSlicer.shared import nodes
from CTDefaceSlicer.tasks import Task
from gui import dialogs, run_for, wait
from models import CTA_DEFACE, FACE, dice, make_home, says_elsewhere, torch_python
from models import PLACEHOLDER as KEY
from PySide6 import QtCore
from slicer_host.widgets import stand_in
from stored_phantoms import stored_phantom

import qt  # isort: skip

pytestmark = pytest.mark.gui
OK, CANCEL = qt.QMessageBox.Ok, qt.QMessageBox.Cancel
PICTURES = os.environ.get("CTDEFACE_PICTURES")


@pytest.fixture
def panel(monkeypatch, tmp_path):
    monkeypatch.setenv("TOTALSEG_HOME_DIR", str(tmp_path / "home"))
    monkeypatch.delenv("TOTALSEG_WEIGHTS_PATH", raising=False)
    slicer.app.settings().clear()
    with gui.user() as panel:
        gui.stop_process(panel.logic.process)  # what an earlier test started knows another home
        boxes = panel.ui.segmentCollapsibleButton, panel.ui.segmentAdvancedCollapsibleButton
        for box in boxes:
            box.collapsed = False
        yield panel
        for box in boxes:
            box.collapsed = True
    slicer.app.settings().clear()


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(nnunet_runtime, "is_installed", lambda: True)
    monkeypatch.setattr(nnunet_runtime, "version", lambda package: (2, 18))


@pytest.fixture(scope="session")
def phantom():
    return stored_phantom(PhantomParameters(matrix=(128, 128), spacing=(2.0, 2.0, 2.0), field_of_view="head")).image


def choose(panel, name):
    panel.ui.segmenterComboBox.currentIndex = segmenters.names().index(name)


def texts(panel):
    box = panel.ui.segmenterComboBox
    return dict(zip(segmenters.names(), (box.itemText(index) for index in range(box.count))))


def seen(panel, *names):
    return [name for name in names if getattr(panel.ui, name).visible]


def picture(panel, folder, name):
    run_for(0.1)  # until everything has found its place
    return gui.picture(panel.ui.segmentCollapsibleButton, Path(PICTURES or folder) / f"{name}.png")


BUTTONS = ("installButton", "licenceButton", "downloadButton", "importButton")
FIELDS = ("weightsPathLineEdit", "faceLabelComboBox", "deviceComboBox", "licenceLineEdit")


def test_each_method_shows_its_state(panel, monkeypatch, phantom, tmp_path):
    monkeypatch.setattr(nnunet_runtime, "is_installed", lambda: False)
    panel.segmentationPanel.method.refresh()
    expected = {
        "builtin": "Built-in",
        "cta-deface": "CTA-DEFACE (has to be installed)",
        "mede": "mede (has to be installed)",
        "nnunet": "nnU-Net model (has to be installed)",
        "totalsegmentator": "TotalSegmentator (has to be installed)",
    }
    assert {name: text for name, text in texts(panel).items() if name in expected} == expected
    gui.volume(phantom, "Head")
    wait(lambda: panel.ui.segmentButton.enabled)
    assert seen(panel, *BUTTONS, *FIELDS) == [] and "Geometry" in panel.ui.segmenterComboBox.toolTip
    choose(panel, "totalsegmentator")
    assert panel.parameterNode.segmenter == "totalsegmentator"
    assert seen(panel, *BUTTONS, *FIELDS) == ["installButton", "deviceComboBox"]
    assert not panel.ui.segmentButton.enabled and "not installed" in panel.ui.stateLabel.text
    picture(panel, tmp_path, "method_to_install")
    monkeypatch.setattr(nnunet_runtime, "is_installed", lambda: True)
    monkeypatch.setattr(nnunet_runtime, "version", lambda package: (2, 18))
    panel.segmentationPanel.method.refresh()
    assert texts(panel)["totalsegmentator"] == "TotalSegmentator (needs a licence key)"
    assert texts(panel)["cta-deface"] == "CTA-DEFACE (needs its weights)"
    assert seen(panel, *BUTTONS) == ["licenceButton"]
    picture(panel, tmp_path, "method_licence")
    choose(panel, "nnunet")
    assert seen(panel, *BUTTONS, *FIELDS) == list(FIELDS[:3])
    picture(panel, tmp_path, "method_folder")
    choose(panel, "builtin")
    assert panel.ui.segmentButton.enabled


def test_an_unknown_method_of_a_scene_is_the_built_in_one(panel):
    panel.parameterNode.segmenter = "of-the-future"
    wait(lambda: panel.segmentationPanel.method.name == "builtin")


# ---------------------------------------------------------------------------------------------------------- installing


def _install_extension(self, name, restart=True):
    assert not self.interactive and restart is False
    self._asked.append(name)
    return self._works


Manager = stand_in(
    "qSlicerExtensionsManagerModel",
    QtCore.QObject,
    _defaults={"interactive": True},
    isExtensionInstalled=lambda self, name: name in self._installed,
    installExtensionFromServer=_install_extension,
    setExtensionEnabled=lambda self, name, is_enabled: self._enabled.append((name, is_enabled)),
)


def extensions_manager(works=True, installed=()):
    manager = Manager()
    manager._asked, manager._enabled, manager._works, manager._installed = [], [], works, installed
    return manager


@pytest.fixture
def restarts(monkeypatch):
    calls = []
    monkeypatch.setattr(slicer.util, "restart", lambda: calls.append(1))
    return calls


def manage_with(monkeypatch, manager):
    monkeypatch.setattr(type(slicer.app), "extensionsManagerModel", lambda self: manager, raising=False)


@pytest.mark.parametrize(
    "name, extensions",
    [("cta-deface", ["PyTorch", "NNUNet"]), ("totalsegmentator", ["PyTorch", "NNUNet", "TotalSegmentator"])],
)
def test_extensions_come_first(name, extensions, panel, monkeypatch, restarts):
    manager = extensions_manager()
    manage_with(monkeypatch, manager)
    choose(panel, name)
    dialogs.answers[:] = [CANCEL]
    panel.ui.installButton.click()
    assert manager._asked == [] and panel.ui.stateLabel.text == "Nothing was installed."
    said = dialogs.shown[-1]
    assert "3 GB" in said and "started again" in said and "the extensions PyTorch" in said
    assert f"{' and '.join(extensions[-2:])} of Slicer's server" in said, "a list as in a sentence"
    dialogs.answers[:] = [OK, CANCEL]
    panel.ui.installButton.click()
    assert manager._asked == extensions and not restarts and "has to be started again" in panel.ui.stateLabel.text
    dialogs.answers[:] = [OK, OK]
    panel.ui.installButton.click()
    assert restarts == [1] and manager.interactive, "the manager is left as it was"


def test_an_extension_that_was_switched_off_is_switched_on(panel, monkeypatch, restarts):
    manager = extensions_manager(installed=["PyTorch"])
    manage_with(monkeypatch, manager)
    choose(panel, "nnunet")
    dialogs.answers[:] = [OK, OK]
    panel.ui.installButton.click()
    assert manager._enabled == [("PyTorch", True)] and manager._asked == ["NNUNet"] and restarts == [1]


@pytest.mark.parametrize("how", ["no manager", "a Slicer built without"])
def test_without_an_extensions_manager_a_sentence_says_so(panel, monkeypatch, how):
    if how == "no manager":
        manage_with(monkeypatch, None)
    else:
        monkeypatch.delattr(type(slicer.app), "extensionsManagerModel", raising=False)
    choose(panel, "totalsegmentator")
    panel.ui.installButton.click()
    assert "this Slicer has no Extensions Manager" in panel.ui.stateLabel.text


def test_an_extension_that_cannot_be_installed(panel, monkeypatch, restarts):
    manage_with(monkeypatch, extensions_manager(works=False))
    choose(panel, "nnunet")
    dialogs.answers[:] = [OK]
    panel.ui.installButton.click()
    assert "could not be installed: use the Extensions Manager" in panel.ui.stateLabel.text and not restarts


EXTENSIONS = {
    "PyTorchUtils.py": """
asked = []
class PyTorchUtilsLogic:
    def installTorch(self, askConfirmation):
        asked.append(askConfirmation)
        return asked
""",
    "SlicerNNUNetLib.py": """
asked = []
class InstallLogic:
    needsRestart = False
    doAskConfirmation = True
    works = True
    def setupPythonRequirements(self, requirements):
        asked.append((requirements, self.doAskConfirmation))
        return self.works
""",
    "TotalSegmentator.py": """
asked = []
class TotalSegmentatorLogic:
    def setupPythonRequirements(self, upgrade=False):
        asked.append(upgrade)
""",
}


@pytest.fixture
def extensions(monkeypatch, tmp_path):
    """Modules with what the installer uses of the extensions'; each remembers what it was asked."""
    for name, text in EXTENSIONS.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield [importlib.import_module(name.removesuffix(".py")) for name in EXTENSIONS]
    for name in EXTENSIONS:
        sys.modules.pop(name.removesuffix(".py"), None)


def install(panel, *answers):
    dialogs.answers[:] = answers
    panel.ui.installButton.click()
    return panel.ui.stateLabel.text


def test_packages_are_installed_by_the_extensions(panel, monkeypatch, restarts, extensions):
    torch, nnunet_extension, total = extensions
    versions = {"TotalSegmentator": ()}
    monkeypatch.setattr(nnunet_runtime, "version", lambda package: versions[package])
    choose(panel, "nnunet")
    monkeypatch.setattr(nnunet_runtime, "is_installed", lambda: bool(torch.asked))
    assert install(panel, CANCEL) == "Nothing was installed." and not nnunet_extension.asked
    assert install(panel, OK) == "Installed."
    assert nnunet_extension.asked == [("nnunetv2>=2.6", False)]
    assert torch.asked == [False], "nnU-Net's installer leaves PyTorch out where nnU-Net is there"
    choose(panel, "totalsegmentator")
    assert "Update the extension TotalSegmentator" in install(panel, OK) and total.asked == [False]
    versions["TotalSegmentator"] = (2, 9)
    assert "has to be started again" in install(panel, OK, OK)
    assert total.asked == [False, True] and restarts == [1], "an old one is replaced, and then unloaded"
    versions["TotalSegmentator"] = (2, 18)
    assert install(panel, OK) == "Installed." and total.asked == [False, True, False]


def test_mede_is_installed_after_its_licence_was_shown(panel, monkeypatch, extensions):
    torch, *_ = extensions
    installed = []
    monkeypatch.setattr(slicer.util, "pip_install", installed.append)
    choose(panel, "mede")
    assert "mede 0.0.12" in panel.ui.stateLabel.text and "pip" not in panel.ui.stateLabel.text
    assert install(panel, CANCEL) == "Nothing was installed." and not installed and not torch.asked
    assert "Commons Clause" in dialogs.shown[-1] and "commercially" in dialogs.shown[-1]
    with monkeypatch.context() as patch:
        patch.setattr(mede, "state", lambda choice: segmenters.State())
        assert install(panel, OK) == "Installed." and panel.segmentationPanel.method.isReady
    assert installed == ["--no-deps mede==0.0.12"] and torch.asked == [False]

    def fail(requirement):
        raise subprocess.CalledProcessError(1, ["pip"])

    monkeypatch.setattr(slicer.util, "pip_install", fail)
    assert "mede could not be installed; Slicer's log" in install(panel, OK)


def test_an_installer_that_fails(panel, monkeypatch, restarts, extensions):
    torch, nnunet_extension, _total = extensions
    monkeypatch.setattr(nnunet_runtime, "is_installed", lambda: False)
    choose(panel, "nnunet")
    monkeypatch.setattr(torch.PyTorchUtilsLogic, "installTorch", lambda self, askConfirmation: None)
    assert "PyTorch could not be installed" in install(panel, OK)
    monkeypatch.setattr(nnunet_extension.InstallLogic, "works", False)
    assert "nnU-Net could not be installed" in install(panel, OK) and not restarts


# -------------------------------------------------------------------------------------------------- licence and weights


def test_a_licence_key_stays_a_secret(panel, installed, tmp_path, monkeypatch):
    choose(panel, "totalsegmentator")
    assert totalsegmentator.LICENCE in panel.ui.licenceLinkLabel.text
    panel.ui.licenceLineEdit.text = "wrong"
    panel.ui.licenceButton.click()
    assert "18 characters" in panel.ui.stateLabel.text and panel.ui.licenceLineEdit.text == ""
    assert panel.ui.licenceLineEdit.echoMode == qt.QLineEdit.Password
    panel.ui.licenceLineEdit.text = KEY
    panel.ui.licenceButton.click()
    assert json.loads((tmp_path / "home" / "config.json").read_text())["license_number"] == KEY
    assert panel.ui.licenceLineEdit.text == "" and seen(panel, *BUTTONS) == ["downloadButton", "importButton"]
    slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    assert KEY not in (tmp_path / "scene.mrml").read_text()
    assert KEY not in panel.ui.logTextEdit.plainText + panel.ui.stateLabel.text
    assert not any(KEY in str(slicer.app.settings().value(key)) for key in slicer.app.settings().allKeys())


def test_weights_are_imported_from_a_file(panel, installed, tmp_path, phantom):
    totalsegmentator.save_licence(KEY)
    archive = shutil.make_archive(str(tmp_path / "weights"), "zip", FACE.parent, FACE.name)
    choose(panel, "totalsegmentator")
    dialogs.answers[:] = [""]
    panel.ui.importButton.click()
    dialogs.answers[:] = [__file__]
    panel.ui.importButton.click()
    assert "holds no face model" in panel.ui.stateLabel.text
    dialogs.answers[:] = [archive]
    panel.ui.importButton.click()
    assert texts(panel)["totalsegmentator"] == "TotalSegmentator" and seen(panel, *BUTTONS) == []
    assert panel.ui.weightsSizeLabel.visible and "MB" in panel.ui.weightsSizeLabel.text
    dialogs.answers[:] = [CANCEL]
    panel.ui.removeWeightsButton.click()
    assert panel.segmentationPanel.method.isReady and "downloaded again" in dialogs.shown[-1]
    dialogs.answers[:] = [OK]
    panel.ui.removeWeightsButton.click()
    assert seen(panel, *BUTTONS, "removeWeightsButton") == ["downloadButton", "importButton"]


def test_a_download_is_agreed_to_and_its_error_is_one_sentence(panel, installed, tmp_path):
    totalsegmentator.save_licence(KEY)
    choose(panel, "totalsegmentator")
    dialogs.answers[:] = [CANCEL]
    panel.ui.downloadButton.click()
    assert "about 230 MB" in dialogs.shown[-1] and "is sent the licence key" in dialogs.shown[-1] and not panel.busy
    dialogs.answers[:] = [OK]
    panel.ui.downloadButton.click()
    assert panel.task is Task.DOWNLOAD and panel.ui.segmentButton.text == "Cancel"
    wait(lambda: not panel.busy)
    assert "cannot be loaded" in panel.ui.segmentHintLabel.text  # this Python has none
    panel.logic.process.cancel()


def test_folders_of_weights_are_settings_and_not_in_the_scene(panel, installed, tmp_path):
    mine = shutil.copytree(CTA_DEFACE, tmp_path / "Zygmunts Mödelle" / CTA_DEFACE.name)
    choose(panel, "nnunet")
    panel.ui.weightsPathLineEdit.currentPath = str(mine)
    box = panel.ui.faceLabelComboBox
    assert [box.itemText(index) for index in range(box.count)] == ["face"] and box.currentText == "face"
    assert panel.segmentationPanel.method.isReady and texts(panel)["nnunet"] == "nnU-Net model"
    assert panel.segmentationPanel.method.choice() == {"weights": str(mine), "label": "", "device": "auto"}
    choose(panel, "cta-deface")
    assert panel.ui.weightsPathLineEdit.currentPath == "" and not panel.segmentationPanel.method.isReady
    choose(panel, "nnunet")
    assert panel.ui.weightsPathLineEdit.currentPath == str(mine), "kept for each method"
    slicer.util.saveScene(str(tmp_path / "scene.mrml"))
    assert "Zygmunts" not in (tmp_path / "scene.mrml").read_text(encoding="utf-8")
    dataset = nnunet_runtime.find_model(mine).folder / "dataset.json"
    labels = {"background": 0, "brain": 1, "skin": 2}
    dataset.write_text(json.dumps({**json.loads(dataset.read_text()), "labels": labels}))
    panel.segmentationPanel.method.refresh()
    assert not panel.segmentationPanel.method.isReady and "several labels" in panel.ui.stateLabel.text
    box.currentIndex = 1
    assert panel.segmentationPanel.method.isReady and panel.segmentationPanel.method.choice()["label"] == "skin"


def test_what_is_not_ready_is_refused_by_the_logic(panel, phantom):
    volumeNode = gui.volume(phantom, "Head")
    with pytest.raises(NotReadyError):
        panel.logic.segmentFace(volumeNode, "totalsegmentator")


# --------------------------------------------------------------------------------------------------------- tiny models


@pytest.fixture
def models(panel, installed, monkeypatch, tmp_path):
    """The panel with a background process that has PyTorch, and weights chosen."""
    monkeypatch.setattr(sys, "executable", torch_python())
    gui.stop_process(panel.logic.process)
    make_home(tmp_path / "home")
    slicer.app.settings().setValue("CTDeface/cta-deface/weights", str(CTA_DEFACE))
    slicer.app.settings().setValue("CTDeface/device", "auto")
    panel.segmentationPanel.method.refresh()
    yield panel
    gui.stop_process(panel.logic.process)


@pytest.fixture(scope="session")
def said(phantom, tmp_path_factory):
    """What a model itself says of the phantom."""

    @functools.cache
    def mask(name):
        folder = tmp_path_factory.mktemp(name)
        return says_elsewhere(name, phantom, folder, TOTALSEG_HOME_DIR=str(make_home(folder / "home")))

    return mask


DATASETS = {"cta-deface": "Dataset001_DEFACE", "totalsegmentator": "Dataset303_face_1559subj"}


@pytest.mark.parametrize("name", DATASETS)
def test_a_model_end_to_end(name, models, phantom, said, tmp_path):
    panel, volumeNode = models, gui.volume(phantom, "Head")
    wait(lambda: panel.ui.segmentButton.enabled)
    choose(panel, name)
    wait(lambda: "It will take about" in panel.ui.expectedTimeLabel.text, 120)
    wait(lambda: not panel.busy)
    assert [panel.ui.deviceComboBox.itemText(i).split(":")[0] for i in (0, -1 + panel.ui.deviceComboBox.count)] == [
        "Automatic",
        "cpu",
    ]
    picture(panel, tmp_path, f"method_ready_{name}")
    panel.ui.segmentButton.click()
    wait(lambda: "Tile" in panel.ui.segmentProgressBar.format, 120)
    wait(lambda: not panel.busy and panel.currentResult() is not None, 120)
    maskNode = panel.ui.maskSelector.currentNode()
    assert dice(nodes.faceMask(maskNode, volumeNode) > 0, said(name)) >= 0.99
    report = panel.logic.report(panel.currentResult())
    assert report["method"] == name and report["model"]["dataset"] == DATASETS[name]
    assert str(CTA_DEFACE) not in json.dumps(report) and KEY not in json.dumps(report)
    removed = report["replaced_ml"]
    panel.ui.asIsCheckBox.checked = True
    wait(lambda: not panel.busy and panel.currentResult() is not None, 120)
    assert not panel.ui.marginSlider.enabled and not panel.ui.strengthComboBox.enabled
    assert panel.logic.report(panel.currentResult())["replaced_ml"] < removed
    assert "used as it is" in panel.ui.warningLabel.text


def test_cancelling_and_dying(models, phantom):
    panel = models
    gui.volume(sitk.Expand(phantom, [2, 2, 2]), "Head")
    wait(lambda: panel.ui.segmentButton.enabled)
    choose(panel, "cta-deface")
    panel.ui.segmentButton.click()
    wait(lambda: "Tile" in panel.ui.segmentProgressBar.format, 120)
    folder = panel.logic.process.folder
    panel.ui.segmentButton.click()
    assert not panel.busy and not os.path.exists(folder)
    panel.ui.segmentButton.click()
    wait(lambda: "Tile" in panel.ui.segmentProgressBar.format, 120)
    os.kill(panel.logic.process.pid, 9)
    wait(lambda: not panel.busy)
    assert "stopped unexpectedly, perhaps because memory ran out" in panel.ui.segmentHintLabel.text
    run_for(0.1)


@pytest.mark.parametrize("name", DATASETS)
def test_the_logic_in_the_console(name, models, phantom, said):
    volumeNode = gui.volume(phantom, "Head")
    choice = {"device": "cpu", **({"weights": str(CTA_DEFACE)} if name == "cta-deface" else {})}
    maskNode = models.logic.segmentFace(volumeNode, name, choice=choice)
    mask = nodes.faceMask(maskNode, volumeNode) > 0
    assert dice(mask, said(name)) >= 0.99
    result = models.logic.deface(volumeNode, maskNode)
    assert models.logic.report(result)["method"] == name
    changed = slicer.util.arrayFromVolume(result) != slicer.util.arrayFromVolume(volumeNode)
    assert np.count_nonzero(changed & mask) > 0.5 * np.count_nonzero(mask)


# ------------------------------------------------------------------------------------------ no room, no folder, no file


@pytest.fixture
def fresh(panel, phantom, monkeypatch):
    """The panel with a head, and a background process that starts with the next job and stops when it is told to."""
    monkeypatch.delattr(panel.logic.process, "stop")
    panel.logic.process.stop()
    gui.volume(phantom, "Head")
    wait(lambda: panel.ui.segmentButton.enabled)
    yield panel
    panel.logic.process.stop()


def segmented(panel):
    """Press the button, and tell what is said when it has ended."""
    panel.ui.segmentButton.click()
    wait(lambda: not panel.busy)
    return panel.ui.segmentHintLabel.text


def test_a_full_disk_is_one_sentence_and_nothing_is_left(fresh, monkeypatch):
    folders = []

    def full(path, array):
        folders.append(Path(path).parent)
        Path(path).write_bytes(b"what still fitted")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        assert "No space left on device): make room" in segmented(fresh)
    assert folders and not folders[0].exists() and not fresh.logic.process.running
    assert segmented(fresh) == "" and fresh.ui.maskSelector.currentNode() is not None, "and then it works"


def test_folders_that_somebody_took_are_made_again(fresh, monkeypatch, tmp_path):
    assert segmented(fresh) == ""
    process, first = fresh.logic.process, fresh.logic.process.folder
    shutil.rmtree(first)
    with monkeypatch.context() as patch:
        patch.setattr(slicer.app, "_temporaryPath", str(tmp_path / "gone"))
        assert segmented(fresh) == ""
    assert process.folder != first and Path(process.folder).parent == tmp_path / "gone"


def test_a_result_that_somebody_took_is_told(fresh, monkeypatch):
    load = np.load

    def take(path, *arguments, **named):
        os.remove(path)
        return load(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(np, "load", take)
        assert "could not be read (No such file or directory)" in segmented(fresh)
    assert segmented(fresh) == "" and fresh.ui.maskSelector.currentNode() is not None
