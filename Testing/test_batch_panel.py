"""Step 7 of the CTDeface panel in the stand-in for Slicer: a batch by mouse and from the console."""

import os
from pathlib import Path

import batch_cases
import gui
import pytest
from batch_cases import problems
from CTDefaceLib.batch.job import WORK_FOLDER
from CTDefaceLib.batch.status import Status
from CTDefaceLib.errors import InputError
from CTDefaceLib.processes import end_process_group
from CTDefaceSlicer.shared import hints
from gui import wait

pytestmark = pytest.mark.gui
PICTURES = os.environ.get("CTDEFACE_PICTURES")  # a folder that keeps the screenshots for a look


@pytest.fixture
def panel():
    with gui.user() as panel:
        panel.ui.batchCollapsibleButton.collapsed = False
        yield panel
        panel.logic.batchProcess.stop()
        panel.ui.batchInputPathLineEdit.currentPath = panel.ui.batchOutputPathLineEdit.currentPath = ""


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "my scäns", tmp_path / "out", tmp_path / "out-private"


def choose(panel, source, output):
    panel.ui.batchInputPathLineEdit.currentPath = str(source)
    panel.ui.batchOutputPathLineEdit.currentPath = str(output)


def table(panel):
    """Texts of the table, row by row."""
    shown = panel.ui.batchTable
    return [[shown.item(row, column).text() if shown.item(row, column) else "" for column in range(4)]
            for row in range(shown.rowCount)]  # fmt: skip


def test_a_batch_by_mouse(panel, folders, tmp_path):
    source, output, private = folders
    expected = batch_cases.make_archive(source, good=3, bad=["no face in view", "cut .nii"], copies=1)
    before = batch_cases.hashes(source)
    ui = panel.ui
    assert not ui.batchButton.enabled
    assert "Choose the folder" in ui.batchHintLabel.text
    choose(panel, source, output)
    assert ui.batchButton.enabled and not ui.batchGalleryButton.enabled and not ui.batchHintLabel.visible
    ui.batchButton.click()
    assert ui.batchButton.text == "Cancel" and ui.batchProgressBar.visible and not ui.batchInputPathLineEdit.enabled
    wait(lambda: len(table(panel)) == 3)
    gui.picture(panel.parent, Path(PICTURES or tmp_path) / "batch-running.png")
    wait(lambda: not panel.batchPanel.running)
    assert ui.batchHintLabel.text == "3 done, 1 no face in view, 1 refused, 1 same as another"
    shown = table(panel)
    assert [row[1] for row in shown].count("done") == 3
    assert any("truncated" in row[3] for row in shown)
    assert float(shown[0][2]) > 0
    names = {path.name for path in source.rglob("*")}
    assert {row[0] for row in shown} <= names, "each scan by its own name"
    assert all("→" in ui.batchTable.item(row, 0).toolTip() for row in range(len(shown)))
    assert not any(row[0] in path.read_text() for row in shown for path in output.rglob("*.json")), "on screen only"
    assert ui.batchGalleryButton.enabled
    assert ui.batchButton.text == "Start batch"
    assert problems(expected, source, output, private, before) == []
    gui.picture(panel.parent, Path(PICTURES or tmp_path) / "batch-done.png")


def test_a_copy_is_no_error(panel):
    first = panel.ui.batchTable.rowCount
    for number, status in enumerate((Status.DOUBLE, Status.DONE, Status.FAILED)):
        panel.batchPanel.showScan(1000 + number, status)
    colors = [panel.ui.batchTable.item(first + row, 1).foreground().color().name() for row in range(3)]
    assert colors[0] == colors[1] != colors[2] == hints.errorColor(panel.ui.batchTable)
    panel.ui.batchTable.setRowCount(0)
    panel.batchPanel._rows.clear()


def test_cancelled_it_leaves_nothing_unfinished_and_goes_on_later(panel, folders):
    source, output, private = folders
    expected = batch_cases.make_archive(source, good=5, bad=[], copies=0)
    before = batch_cases.hashes(source)
    choose(panel, source, output)
    panel.ui.batchWorkersSpinBox.value = 2
    panel.ui.batchButton.click()
    wait(lambda: any(row[1] == "done" for row in table(panel)))
    panel.ui.batchButton.click()
    assert not panel.batchPanel.running
    assert "goes on where it was" in panel.ui.batchHintLabel.text
    assert not (output / WORK_FOLDER).exists()
    panel.ui.batchButton.click()
    wait(lambda: not panel.batchPanel.running)
    assert panel.ui.batchHintLabel.text == "5 done"
    assert len(table(panel)) < 5, "what was done was not done again"
    assert problems(expected, source, output, private, before) == []
    panel.ui.batchWorkersSpinBox.value = 1


def test_what_is_wrong_is_said(panel, folders):
    source, output, _ = folders
    choose(panel, source / "gone", output)
    panel.ui.batchButton.click()
    wait(lambda: not panel.batchPanel.running)
    assert "neither a folder nor a CSV table" in panel.ui.batchHintLabel.text
    batch_cases.make_archive(source, good=1, bad=[], copies=0)
    choose(panel, source, output)
    panel.ui.batchButton.click()
    wait(lambda: panel.logic.batchProcess.pid is not None)
    end_process_group(panel.logic.batchProcess.pid)
    wait(lambda: not panel.batchPanel.running)
    assert "stopped unexpectedly" in panel.ui.batchHintLabel.text


def test_the_panel_can_be_used_while_a_batch_runs(panel, folders):
    source, output, _ = folders
    batch_cases.make_archive(source, good=2, bad=[], copies=0)
    choose(panel, source, output)
    panel.ui.batchButton.click()
    gui.volume(batch_cases.head(), "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    panel.ui.segmentButton.click()
    wait(lambda: not panel.busy and panel.currentResult() is not None)
    wait(lambda: not panel.batchPanel.running)
    assert panel.ui.batchHintLabel.text == "2 done"


def test_from_the_console(panel, folders):
    source, output, _ = folders
    batch_cases.make_archive(source, good=1, bad=["cut .nii"], copies=0)
    told = []
    counts = panel.logic.runBatch(source, output, {"margin_mm": 3}, event=told.append)
    assert counts == {"done": 1, "refused": 1}
    assert [event["event"] for event in told] == ["planned", "started", "ended", "started", "ended"]
    assert os.path.isfile(panel.logic.galleryOf(output))
    with pytest.raises(InputError, match="other choices"):
        panel.logic.runBatch(source, output)
