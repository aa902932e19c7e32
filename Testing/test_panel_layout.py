"""Both panels at the widths, font sizes and styles in use: nothing is cut, covered, or wider than the panel."""

import itertools

import gui
import pytest
import quick_worker
import slicer
from CTDefaceEvalLib.face_models import MODELS
from CTDefaceEvalSlicer.head_views import DEFACED, ORIGINAL
from gui import run_for, wait
from PySide6 import QtCore, QtGui, QtWidgets
from stored_phantoms import very_coarse_head

pytestmark = pytest.mark.gui
LONG = "A head CT with quite a long name, as they come out of the archive"
LOOKS = list(itertools.product((352, 402, 602), (9, 18)))


@pytest.fixture(scope="module")
def head():
    """A very coarse phantom."""
    return very_coarse_head()


@pytest.fixture
def look():
    """Give the panel a width in pixels and a font size in points; 18 is what 200 % scaling makes of 9."""
    sizes, font = gui.splitter.sizes(), QtWidgets.QApplication.font()

    def give(width, points):
        larger = QtGui.QFont(font)
        larger.setPointSize(points)
        QtWidgets.QApplication.setFont(larger)
        gui.splitter.setSizes([width * (points // 9), 900])
        run_for(0.2)

    yield give
    QtWidgets.QApplication.setFont(font)
    gui.splitter.setSizes(sizes)
    run_for(0.1)


def faults(panel):
    """What a user would complain of, once the layout has come to rest."""
    for _wait in range(30):
        found = faults_now(panel)
        if not found:
            break
        run_for(0.1)
    return found


def faults_now(panel):
    found = []
    if gui.scroll_area.horizontalScrollBar().isVisible():
        found.append("the panel is wider than its place")
    seen = [widget for widget in vars(panel.ui).values() if widget.visible and not widget.name.startswith("qt_")]
    for widget in seen:
        name = widget.name
        if isinstance(widget, QtWidgets.QLabel) and widget.wordWrap:
            if widget.height < widget._qt("heightForWidth")(widget.width):
                found.append(f"{name} is clipped")
        elif isinstance(widget, (QtWidgets.QAbstractButton, QtWidgets.QLabel)):
            text = widget._qt("fontMetrics")().size(QtCore.Qt.TextFlag.TextShowMnemonic, widget.text).width()
            if widget.width < min(text + 8, widget._qt("minimumSizeHint")().width()):
                found.append(f"{name} is cut")
        if name.endswith("MapTable") or name == "modelsTable":
            last = QtWidgets.QTableWidget.rowCount(widget) - 1
            bottom = widget._qt("rowViewportPosition")(last) + widget._qt("rowHeight")(last)
            if last >= 0 and bottom > widget._qt("viewport")().height():
                found.append(f"{name} loses its last row")
    for one, other in itertools.combinations(seen, 2):
        if one._qt("parentWidget")() is other._qt("parentWidget")():
            if QtCore.QRect.intersects(one._qt("geometry")(), other._qt("geometry")()):
                found.append(f"{one.name} covers {other.name}")
    return found


@pytest.mark.parametrize(("width", "points"), LOOKS)
def test_the_defacing_panel(width, points, head, look, monkeypatch, tmp_path):
    with gui.user() as panel:
        quick_worker.use(panel, monkeypatch, tmp_path, {"warnings": [LONG * 3], "skull_gaps": 2})
        look(width, points)
        assert faults(panel) == []
        gui.volume(head, LONG)
        wait(lambda: panel.ui.defaceButton.enabled)
        for button in (None, panel.ui.defaceButton, panel.ui.exportButton):
            if button is not None:
                slicer.mrmlScene.SetRootDirectory(str(tmp_path))
                button.click()
            run_for(0.1)
            assert faults(panel) == []
        folded = [box for name, box in vars(panel.ui).items() if name.endswith("CollapsibleButton") and box.collapsed]
        for box in folded:
            box.collapsed = False
        panel.ui.segmenterComboBox.currentIndex = 1
        panel.ui.headersComboBox.currentIndex = panel.ui.exportKindComboBox.currentIndex = 1
        panel.batchPanel.show(LONG * 3)
        panel.ui.batchTable.visible = True
        run_for(0.1)
        assert faults(panel) == []
        planning = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", LONG)
        planning.GetSegmentation().AddEmptySegment("", LONG)
        panel.ui.keepSelector.setCurrentNode(planning)
        run_for(0.1)
        assert panel.ui.keepNodesButton.visible and faults(panel) == []
        panel.ui.segmenterComboBox.currentIndex = 0
        panel.batchPanel.show("")
        for box in folded:
            box.collapsed = True


@pytest.mark.parametrize(("width", "points"), LOOKS)
def test_the_evaluation_panel(width, points, look, monkeypatch):
    with gui.user("CTDefaceEval") as panel:
        ui = panel.ui
        look(width, points)
        assert faults(panel) == []
        folded = [box for name, box in vars(ui).items() if name.endswith("CollapsibleButton") and box.collapsed]
        for box in folded:
            box.collapsed = False
        wait(lambda: ui.modelsTable.rowCount == len(MODELS) and not panel.modelsPanel.process.busy)
        for row in range(len(MODELS)):
            ui.modelsTable.setCurrentCell(row, 0)
            run_for(0.05)
            assert faults(panel) == []
        faces = {(yaw, pitch): (1, 2, 0.5) for yaw in range(-60, 61, 10) for pitch in range(-30, 31, 15)}
        for name, label in ((ORIGINAL, ui.originalMapLabel), (DEFACED, ui.defacedMapLabel)):
            label.text = f"{name}: a face in 65 of 130 pictures"
            panel.evaluationPanel._maps[name].show(faces)
        ui.mapFrame.visible = True
        for label in (ui.verdictLabel, ui.meterHintLabel, ui.attackResultLabel, ui.cohortResultLabel):
            label.text, label.visible = LONG * 3, True
        run_for(0.1)
        assert faults(panel) == []
        for box in folded:
            box.collapsed = True
        panel.modelsPanel.models = []
        ui.modelsTable.setRowCount(0)
