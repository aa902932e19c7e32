"""The CTDeface panel leads: one button for the usual case, what cannot run yet is folded, keys, and ways back."""

import re

import gui
import numpy as np
import pytest
import quick_worker
import slicer
from CTDefaceLib import segmenters
from CTDefaceLib.errors import NoFaceError
from CTDefaceLib.segmenters import nnunet_runtime
from CTDefaceSlicer.shared import nodes, views
from CTDefaceSlicer.tasks import Task
from gui import dialogs, run_for, wait
from PySide6 import QtGui
from stored_phantoms import very_coarse_head

import qt  # isort: skip

pytestmark = pytest.mark.gui
YES, NO = qt.QMessageBox.Yes, qt.QMessageBox.No
STEPS = ("input", "segment", "preview", "correct", "deface", "export", "batch", "log")
MENU_KEYS = "FEVH"
"""What opens a menu of Slicer together with Alt."""


@pytest.fixture(scope="module")
def head():
    """A very coarse phantom."""
    return very_coarse_head()


@pytest.fixture
def panel():
    with gui.user() as panel:
        yield panel


@pytest.fixture
def quick(panel, monkeypatch, tmp_path):
    """The panel with a worker that needs no time, and a folder that Slicer saves into."""
    (tmp_path / "saved").mkdir()
    slicer.mrmlScene.SetRootDirectory(str(tmp_path / "saved"))
    quick_worker.use(panel, monkeypatch, tmp_path)
    return panel


@pytest.fixture
def loaded(quick, head):
    gui.volume(head, "Head CT")
    wait(lambda: quick.ui.defaceButton.enabled)
    return quick


def box(panel, step):
    return getattr(panel.ui, f"{step}CollapsibleButton")


def unfolded(panel):
    return [step for step in STEPS if not box(panel, step).collapsed]


def done(panel):
    return [step for step in STEPS if box(panel, step).text.endswith("✔")]


def highlighted(panel):
    return [
        widget.name for widget in vars(panel.ui).values() if widget.inherits("QPushButton") and widget.styleSheet != ""
    ]


def is_in_view(widget):
    """Whether all of a widget is seen in what scrolls the panel."""
    area = gui.scroll_area.viewport()
    top = widget._qt("mapTo")(area, widget._qt("rect")().topLeft()).y()
    return widget.visible and top >= 0 and top + widget.height <= area.height()


# ------------------------------------------------------------------------------------------------------- the usual case


def test_two_clicks_lead_from_a_loaded_scan_to_a_file(panel, head, tmp_path):
    """With the real worker; the first click finds the face, replaces it and shows both heads."""
    ui = panel.ui
    slicer.mrmlScene.SetRootDirectory(str(tmp_path))
    volume = gui.volume(head, "Head CT")
    wait(lambda: ui.defaceButton.enabled)
    ui.defaceButton.click()
    assert panel.task is Task.DEFACE and ui.defaceButton.text == "Cancel" and ui.defaceProgressBar.visible
    assert not highlighted(panel), "nothing to press but Cancel"
    values = []
    wait(lambda: values.append(ui.defaceProgressBar.value) or not panel.busy)
    assert values == sorted(values), "one bar for both parts"
    result = ui.defacedSelector.currentNode()
    assert not (slicer.util.arrayFromVolume(result) == slicer.util.arrayFromVolume(volume)).all()
    assert panel.logic.report(result)["mask"] == "as segmented"
    assert views.isSideBySide() and views.compares(volume, result)
    ui.exportButton.click()
    wait(lambda: not panel.busy)
    assert (tmp_path / "defaced_head_ct.nii.gz").exists()
    assert ui.exportHintLabel.text == f"Exported to {tmp_path / 'defaced_head_ct.nii.gz'}"


def test_after_deface_the_face_can_be_corrected_and_replaced_again(loaded):
    ui = loaded.ui
    ui.defaceButton.click()
    first, mask = ui.defacedSelector.currentNode(), ui.maskSelector.currentNode()
    ui.editButton.click()
    array = nodes.faceMask(mask, ui.inputSelector.currentNode())
    array[:, : array.shape[1] // 2] = 1
    face = nodes.faceSegmentID(mask)
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, mask, face, ui.inputSelector.currentNode())
    gui.host.select_module("CTDeface")
    assert highlighted(loaded) == ["defaceButton"] and "deface" not in done(loaded)
    ui.defaceButton.click()
    assert ui.maskSelector.currentNode() is mask and ui.defacedSelector.currentNode() is not first


def test_a_scan_without_a_face_says_so_where_deface_was_pressed(panel, monkeypatch, head):
    gui.volume(head, "Head CT")
    wait(lambda: panel.ui.defaceButton.enabled)

    def run(task, volumeNode, finish, failed, **callbacks):
        failed(NoFaceError("There is no face in this volume."))

    monkeypatch.setattr(panel.logic.process, "run", run)
    panel.ui.defaceButton.click()
    assert panel.ui.defaceHintLabel.visible and panel.ui.defaceHintLabel.text == "There is no face in this volume."
    assert not panel.busy and highlighted(panel) == ["defaceButton"]


def test_an_error_between_the_two_parts_ends_the_task(loaded, monkeypatch):
    def broken(*arguments, **callbacks):
        raise ValueError("of the second part")

    monkeypatch.setattr(loaded.logic, "preview", broken)
    loaded.ui.defaceButton.click()
    assert "of the second part" in loaded.ui.defaceHintLabel.text
    assert loaded.task is not Task.DEFACE and loaded.ui.defaceButton.text == "&Deface"


def test_cancelled_in_the_first_part_nothing_is_left(panel, head):
    gui.volume(head, "Head CT")
    wait(lambda: panel.ui.defaceButton.enabled)
    panel.ui.defaceButton.click()
    wait(lambda: panel.logic.process.pid is not None)
    panel.ui.defaceButton.click()
    assert not panel.busy and panel.ui.maskSelector.currentNode() is None
    assert panel.ui.defacedSelector.currentNode() is None and not panel.ui.defaceHintLabel.visible


def test_another_patient_chosen_meanwhile_gets_nothing_of_the_first(loaded, head, monkeypatch):
    ui, first = loaded.ui, loaded.ui.inputSelector.currentNode()
    second = gui.volume(head + 1, "Second")
    run, waiting = loaded.logic.process.run, []
    monkeypatch.setattr(loaded.logic.process, "run", lambda *given, **named: waiting.append((given, named)))
    ui.defaceButton.click()
    ui.inputSelector.setCurrentNode(second)
    while waiting:
        given, named = waiting.pop(0)
        run(*given, **named)
    assert (ui.maskSelector.currentNode(), ui.defacedSelector.currentNode()) == (None, None)
    ui.inputSelector.setCurrentNode(first)
    assert ui.maskSelector.currentNode() is not None and ui.defacedSelector.currentNode() is not None
    assert not loaded.busy


# ----------------------------------------------------------------------------------------------------- where one stands


def test_steps_that_cannot_run_are_folded_and_the_next_button_is_highlighted(quick, head):
    ui = quick.ui
    assert (unfolded(quick), done(quick), highlighted(quick)) == (["input"], [], [])
    volume = gui.volume(head, "Head CT")
    wait(lambda: ui.defaceButton.enabled)
    assert unfolded(quick) == ["input", "segment", "deface"]
    assert (done(quick), highlighted(quick)) == (["input"], ["defaceButton"])
    ui.segmentButton.click()
    assert unfolded(quick) == ["input", "segment", "preview", "correct", "deface"]
    assert (done(quick), highlighted(quick)) == (["input", "segment"], ["defaceButton"])
    ui.defaceButton.click()
    assert unfolded(quick) == [*STEPS[:6]]
    assert (done(quick), highlighted(quick)) == (["input", "segment", "deface"], ["exportButton"])
    ui.exportButton.click()
    assert (done(quick), highlighted(quick)) == (["input", "segment", "deface", "export"], [])
    ui.marginSlider.value = 3
    assert (done(quick), highlighted(quick)) == (["input", "segment", "export"], ["defaceButton"])
    slicer.mrmlScene.RemoveNode(volume)
    run_for(0.02)
    assert unfolded(quick) == ["input", "export"], "a result without its original can still be written"


def test_a_mask_that_is_corrected_while_another_one_is_found_stays(loaded, monkeypatch):
    """A model can take minutes, and the Segment Editor is a click away."""
    ui, run = loaded.ui, loaded.logic.process.run
    ui.segmentButton.click()
    mask, volume = ui.maskSelector.currentNode(), ui.inputSelector.currentNode()
    ui.segmentButton.click()
    assert ui.maskSelector.currentNode() is mask, "nobody has worked on it"
    corrected = nodes.faceMask(mask, volume)
    corrected[:, :3] = 0

    def meanwhile(*arguments, **keywords):
        slicer.util.updateSegmentBinaryLabelmapFromArray(corrected, mask, nodes.faceSegmentID(mask), volume)
        monkeypatch.setattr(loaded.logic.process, "run", run)
        return run(*arguments, **keywords)

    monkeypatch.setattr(loaded.logic.process, "run", meanwhile)
    ui.segmentButton.click()
    assert ui.maskSelector.currentNode() not in (mask, None)
    assert np.array_equal(nodes.faceMask(mask, volume), corrected)


def test_a_report_tells_of_the_mask_that_was_used(loaded, monkeypatch):
    ui, run = loaded.ui, loaded.logic.process.run
    ui.segmentButton.click()
    mask, volume = ui.maskSelector.currentNode(), ui.inputSelector.currentNode()

    def meanwhile(*arguments, **keywords):
        smaller = nodes.faceMask(mask, volume)
        smaller[:, :3] = 0
        slicer.util.updateSegmentBinaryLabelmapFromArray(smaller, mask, nodes.faceSegmentID(mask), volume)
        return run(*arguments, **keywords)

    monkeypatch.setattr(loaded.logic.process, "run", meanwhile)
    result = loaded.logic.deface(volume, mask)
    assert loaded.logic.report(result)["mask"] == "as segmented"
    assert loaded.logic.maskMethod(mask) == "corrected by hand"


def test_what_is_hidden_moves_with_the_volume(loaded):
    """A transform that is applied, or an origin that is set, after the face was found."""
    ui, panel = loaded.ui, loaded
    ui.segmentButton.click()
    wait(lambda: panel.currentResult() is not None)
    volume, preview = ui.inputSelector.currentNode(), panel.currentResult()
    ui.afterRadioButton.click()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    for node in (volume, ui.maskSelector.currentNode()):
        node.SetAndObserveTransformNodeID(transform.GetID())
    for radioButton, shown in ((ui.afterRadioButton, preview), (ui.beforeRadioButton, volume)):
        radioButton.click()
        assert preview.GetTransformNodeID() == views.rendering(shown).GetTransformNodeID() == transform.GetID()
    volume.SetOrigin(np.add(volume.GetOrigin(), 5.0))
    ui.beforeRadioButton.click()
    bounds = np.zeros((2, 6))
    volume.GetRASBounds(bounds[0])
    views.rendering(volume).GetRASBounds(bounds[1])
    assert np.allclose(*bounds, atol=1.0)
    again = panel.logic.preview(volume, ui.maskSelector.currentNode(), {"fill": "air"})
    assert again is preview and np.allclose(preview.GetOrigin(), volume.GetOrigin())


def test_what_the_user_folds_stays_so(loaded):
    box(loaded, "segment").collapsed = True
    box(loaded, "batch").collapsed = False
    loaded.ui.defaceButton.click()
    loaded.ui.marginSlider.value = 2
    assert "segment" not in unfolded(loaded) and "batch" in unfolded(loaded)


def test_a_method_that_is_not_ready_leads_to_what_helps(loaded, monkeypatch):
    monkeypatch.setattr(nnunet_runtime, "is_installed", lambda: False)
    loaded.segmentationPanel.method.refresh()
    loaded.ui.segmenterComboBox.currentIndex = segmenters.names().index("totalsegmentator")
    assert not loaded.ui.defaceButton.enabled and "step 2" in loaded.ui.defaceHintLabel.text
    assert highlighted(loaded) == ["installButton"]
    loaded.ui.segmenterComboBox.currentIndex = 0
    assert highlighted(loaded) == ["defaceButton"]


@pytest.mark.parametrize("height", [500, 900])
def test_the_next_button_is_in_view(quick, head, height):
    size = gui.window._qt("size")()
    gui.window._qt("resize")(1330, height)
    run_for(0.1)
    gui.volume(head, "Head CT")
    wait(lambda: quick.ui.defaceButton.enabled)
    run_for(0.1)
    assert is_in_view(quick.ui.defaceButton)
    quick.ui.segmentButton.click()
    run_for(0.1)
    quick.ui.defaceButton.click()
    run_for(0.1)
    assert is_in_view(quick.ui.exportButton)
    quick.ui.exportButton.click()
    run_for(0.1)
    assert is_in_view(quick.ui.exportHintLabel)
    gui.window._qt("resize")(size)
    run_for(0.1)


@pytest.mark.parametrize(
    ("report", "good", "bad"),
    [
        ({}, ["Brain untouched", "Facial skin covered 100%"], []),
        ({"intracranial_voxels_touched": 7}, ["Facial skin covered 100%"], ["Brain: 7 voxels changed"]),
        ({"facial_skin_covered": 0.5}, ["Brain untouched"], ["Facial skin covered 50%"]),
        ({"replaced_share": 0.4}, ["Brain untouched", "Facial skin covered 100%"],
         ["Replaced 1 mL, 40% of the head's tissue"]),
    ],
)  # fmt: skip
def test_the_results_are_a_short_list_with_marks(panel, head, monkeypatch, tmp_path, report, good, bad):
    quick_worker.use(panel, monkeypatch, tmp_path, report)
    gui.volume(head, "Head CT")
    wait(lambda: panel.ui.defaceButton.enabled)
    panel.ui.defaceButton.click()
    text = panel.ui.reportLabel.text
    assert [line.replace("&#x27;", "'") for line in re.findall("✔ (.*?)</span>", text)] == good
    assert [line.replace("&#x27;", "'") for line in re.findall("✘ (.*?)</span>", text)] == bad
    assert "Share of the head's tissue" in panel.ui.reportLabel.toolTip


# ------------------------------------------------------------------------------------------------------------- the keys


def press(key):
    """Press a key while the focus is somewhere in the main window."""
    sequence = QtGui.QKeySequence(key)
    found = [s for s in gui.window._qt("findChildren")(QtGui.QShortcut) if QtGui.QShortcut.key(s) == sequence]
    for shortcut in found:
        QtGui.QShortcut.activated.__get__(shortcut).emit()
    return len(found)


def test_keys_segment_deface_and_turn(loaded):
    ui = loaded.ui
    assert press("F8") == press("F9") == 1, "and nothing happens yet"
    assert press("F6") == 1 and ui.maskSelector.currentNode() is not None
    assert not loaded.parameterNode.showAfter
    press("F8")
    assert loaded.parameterNode.showAfter and ui.afterRadioButton.checked
    press("F8")
    assert not loaded.parameterNode.showAfter
    camera = slicer.modules.cameras.logic().GetViewActiveCameraNode(views.threeDView().mrmlViewNode())
    seen = []
    for _turn in range(3):
        press("F9")
        direction = np.subtract(camera.GetPosition(), camera.GetFocalPoint())
        seen.append(tuple(np.sign(np.round(direction)).astype(int)))
    assert seen == [(-1, 0, 0), (1, 0, 0), (0, 1, 0)], "left, right, and the front again"
    press("F7")
    assert ui.defacedSelector.currentNode() is not None
    gui.host.select_module("SegmentEditor")
    assert press("F7") == 0, "the keys belong to the module that is open"
    gui.host.select_module("CTDeface")
    assert press("F7") == 1


def test_each_letter_leads_to_one_button_and_to_no_menu(panel):
    texts = [widget.text for widget in vars(panel.ui).values() if widget.inherits("QAbstractButton")]
    letters = [match.group(1).upper() for text in texts if (match := re.search("&([^&])", text))]
    assert len(letters) >= 8 and len(set(letters)) == len(letters)
    assert not set(letters) & set(MENU_KEYS)


# ------------------------------------------------------------------------------------------------------------ ways back


def way_back():
    layout = slicer.util.getModuleWidget("SegmentEditor").layout
    return [w for i in range(layout.count()) if (w := layout.itemAt(i).widget()).inherits("QPushButton") and w.visible]


def test_the_segment_editor_leads_back(loaded):
    loaded.ui.segmentButton.click()
    for _again in range(2):
        loaded.ui.editButton.click()
        assert slicer.util.selectedModule() == "SegmentEditor"
        run_for(0.02)
        (button,) = way_back()
        assert button.text == "Back to CTDeface"
        button.click()
        run_for(0.02)
        assert slicer.util.selectedModule() == "CTDeface" and not way_back()
    loaded.ui.editButton.click()
    run_for(0.02)
    assert way_back()
    slicer.mrmlScene.Clear()
    assert not way_back(), "nothing to go back to"


class _Running:
    """A batch that runs."""

    def __init__(self, panel, monkeypatch):
        monkeypatch.setattr(type(panel.batchPanel), "running", property(lambda batch: True))
        panel.batchPanel.update()
        panel.batchPanel._pace.take({"event": "planned", "total": 5, "left": 3})


def test_closing_slicer_asks_while_a_batch_runs(panel, monkeypatch):
    assert gui.window._qt("close")(), "and not without one"
    gui.window.show()
    with monkeypatch.context() as patch:
        _Running(panel, patch)
        dialogs.answers.append(NO)
        assert not gui.window._qt("close")() and gui.window.visible
        assert "3 of 5 scans" in dialogs.shown[-1]
        dialogs.answers.append(YES)
        assert gui.window._qt("close")()
    gui.window.show()
    panel.batchPanel.update()
    assert gui.window._qt("close")(), "and no longer when it has ended"
    gui.window.show()
    run_for(0.05)
