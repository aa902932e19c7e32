"""All seven steps of the CTDeface panel by clicks, with two patients loaded and things deleted on the way."""

import gui
import pytest
import quick_worker
import slicer
from CTDefaceSlicer.shared import nodes, views
from gui import dialogs, run_for, wait
from stored_phantoms import very_coarse_head
from test_panel_study import drawn, patient, rows, tick

import qt  # isort: skip

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def head():
    """A very coarse phantom."""
    return very_coarse_head()


@pytest.fixture
def panel(monkeypatch, tmp_path):
    with gui.user() as panel:
        (tmp_path / "saved").mkdir()
        slicer.mrmlScene.SetRootDirectory(str(tmp_path / "saved"))
        quick_worker.use(panel, monkeypatch, tmp_path)
        yield panel


def remove(node):
    slicer.mrmlScene.RemoveNode(node)
    run_for(0.05)


def test_seven_steps_with_two_patients(panel, head, tmp_path):
    ui = panel.ui
    volume, planning = drawn(head)
    bone = gui.volume(head + 1, "CT bone")
    second, second_bone = gui.volume(head + 100, "Second"), gui.volume(head + 101, "Second bone")
    patient("Doe", volume, bone)
    patient("Roe", second, second_bone)

    # 1, 2, 3: input, mask, preview; the first patient's
    ui.inputSelector.setCurrentNode(volume)
    ui.segmentButton.click()
    mask = ui.maskSelector.currentNode()
    wait(lambda: panel.currentResult() is not None)
    for button in (ui.afterRadioButton, ui.leftButton, ui.rightButton, ui.frontButton, ui.beforeRadioButton):
        button.click()
    assert "Brain untouched" in ui.reportLabel.text

    # 4: corrected, and the way back
    ui.editButton.click()
    array = nodes.faceMask(mask, volume)
    array[:2] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, mask, nodes.faceSegmentID(mask), volume)
    panel.previewPanel._wayBack.click()
    wait(lambda: panel.currentResult() is not None)
    assert panel.logic.report(panel.currentResult())["mask"] == "corrected by hand"

    # 5: something stays, then its segmentation is deleted; the bone series goes along
    ui.keepSelector.setCurrentNode(planning)
    tick(ui.keepTable, 0)
    wait(lambda: panel.currentResult() is not None)
    remove(planning)
    assert panel.parameterNode.kept() is None and not ui.keepTable.visible
    ui.strengthComboBox.currentIndex = 0
    ui.defaceButton.click()
    wait(lambda: not panel.busy)
    result = ui.defacedSelector.currentNode()
    assert views.isSideBySide() and views.compares(volume, result)
    assert [row[:2] for row in rows(ui.furtherTable)][0] == (True, "CT bone")
    assert [panel.logic.originalOf(node) for node in panel.logic.furtherResults(result)] == [bone]

    # The second patient, from the list; then the first one's scan is deleted
    ui.inputSelector.setCurrentNode(second)
    assert ui.maskSelector.currentNode() is None and ui.defacedSelector.currentNode() is None
    assert [row[1] for row in rows(ui.furtherTable) if row[0]] == ["Second bone"]
    ui.defaceButton.click()
    wait(lambda: not panel.busy)
    other = ui.defacedSelector.currentNode()
    remove(volume)
    assert panel.parameterNode.inputVolume is second and views.compares(second, other)
    remove(bone)
    (made,) = panel.logic.furtherResults(other)
    assert panel.logic.originalOf(made) is second_bone

    # 6: both series are written, and no other
    ui.exportButton.click()
    wait(lambda: not panel.busy)
    names = ["defaced_head_ct.json", "defaced_head_ct.nii.gz", "defaced_head_ct_2.json", "defaced_head_ct_2.nii.gz"]
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == names
    remove(other)
    assert ui.defacedSelector.currentNode() is None and not ui.exportButton.enabled
    remove(second_bone)
    assert ui.furtherTable.rowCount == 0 and not ui.furtherCollapsibleButton.visible
    ui.defaceButton.click()
    wait(lambda: not panel.busy)
    assert panel.logic.furtherResults(ui.defacedSelector.currentNode()) == []

    # A name that is there already is asked for
    dialogs.answers.append(qt.QMessageBox.No)
    ui.exportPathLineEdit.currentPath = str(tmp_path / "saved" / names[1])
    ui.exportButton.click()
    assert not panel.busy and "exist" in dialogs.shown[-1]

    # 7: the batch says what it needs
    assert "Choose the folder" in ui.batchHintLabel.text and not ui.batchButton.enabled
    remove(second)
    assert panel.parameterNode.inputVolume is None and ui.defacedSelector.currentNode() is None
