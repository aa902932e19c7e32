"""The steps of the CTDefaceEval panel by clicks, with two patients loaded and things deleted on the way."""

from pathlib import Path

import gui
import numpy as np
import pytest
import slicer
from CTDefaceEvalLib.findings import DEFACED, ORIGINAL, Evaluation, Settings
from CTDefaceEvalLib.verdict import judge
from CTDefaceEvalSlicer import head_views, results
from CTDefaceEvalSlicer.logic import Outcome
from gui import dialogs, run_for, wait
from stored_phantoms import very_coarse_head
from test_evaluation import made_up
from vtk.util.numpy_support import vtk_to_numpy

import qt  # isort: skip

pytestmark = pytest.mark.gui


@pytest.fixture
def panel(monkeypatch):
    """Heads are found for real; what is seen of them is made up, and there at once."""
    with gui.user("CTDefaceEval") as panel:
        panel.parameterNode.liveMeter = False
        asked = []

        def evaluate(original, defaced, models, preset, attacks, done, progress, event=None, **callbacks):
            asked.append((original.GetName(), defaced and defaced.GetName(), bool(attacks)))
            progress(0.5, "Rendering")
            evidence = made_up(defaced=2)
            if not attacks:
                evidence.settings, evidence.subjects = Settings(models=("m",), attacks=()), evidence.subjects[:-1]
            elif event:
                event({"subject": evidence.subjects[-1].name, "gives_away": False, "likeness": 0.2})
            if defaced is None:
                evidence.subjects = [subject for subject in evidence.subjects if subject.name == DEFACED]
            name = evidence.subjects[-1].name if attacks else None
            done(Outcome(Evaluation(**vars(evidence), verdict=judge(evidence)), name, skin() if attacks else None))

        monkeypatch.setattr(panel.logic, "evaluate", evaluate)
        panel.asked = asked
        yield panel


def skin():
    """The skin of the original, as an attack that won it back would give it."""
    made = head_views.surface(ORIGINAL).GetPolyData()
    flip = np.float32([-1, -1, 1])
    return {
        "points": vtk_to_numpy(made.GetPoints().GetData()) * flip,
        "normals": vtk_to_numpy(made.GetPointData().GetNormals()) * flip,
        "triangles": vtk_to_numpy(made.GetPolys().GetConnectivityArray()).reshape(-1, 3),
    }


def pair(head, name):
    """A scan and its defaced version."""
    original, defaced = gui.volume(head, name), gui.volume(head - 1, f"{name} defaced")
    defaced.SetNodeReferenceID("CTDeface.original", original.GetID())
    return original, defaced


def remove(node):
    slicer.mrmlScene.RemoveNode(node)
    run_for(0.05)


def shown(count):
    wait(lambda: head_views.shownHeads() == count)
    return [name for name in head_views.NAMES if head_views.surface(name) is not None]


def choices(panel):
    return [node and node.GetName() for node in (panel.parameterNode.originalVolume, panel.parameterNode.defacedVolume)]


def test_all_steps_with_two_patients(panel, monkeypatch, tmp_path):
    ui, head = panel.ui, very_coarse_head()
    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", opened.append)
    first, first_defaced = pair(head, "First")
    second, second_defaced = pair(head + 2, "Second")

    # 1: the first patient's pair; side by side, from the front
    ui.originalSelector.setCurrentNode(first)
    ui.defacedSelector.setCurrentNode(first_defaced)
    wait(lambda: panel.headsPanel.head is not None and not panel.headsPanel.isMaking)
    assert shown(2) == [ORIGINAL, DEFACED]
    ui.frontButton.click()

    # 3 and 4: sweep, a click into the heat map, attack; what it won back stands beside the others
    ui.sweepButton.click()
    assert ui.mapFrame.visible and ui.verdictLevelLabel.text == "Not all tried"
    ui.defacedMapTable.cellClicked(0, 0)
    ui.attackButton.click()
    assert shown(3) == [ORIGINAL, DEFACED, head_views.RECOVERED]
    assert "likeness" in ui.measuresLabel.text and ui.attackResultLabel.visible
    assert panel.asked == [("First", "First defaced", False), ("First", "First defaced", True)]

    # The defaced scan is deleted: nothing that came of it stays, and no other patient's takes its place
    remove(first_defaced)
    assert choices(panel) == ["First", None]
    assert shown(1) == [ORIGINAL]
    assert not ui.attackButton.enabled and "defaced volume" in ui.attackHintLabel.text
    assert not ui.reportButton.enabled and not ui.verdictLevelLabel.visible
    ui.sweepButton.click()
    assert panel.asked[-1] == ("First", None, False) and ui.defacedMapTable.visible is False

    # The second patient; then the first one's scan is deleted, which changes nothing
    ui.originalSelector.setCurrentNode(second)
    assert not ui.mapFrame.visible and not ui.reportButton.enabled, "of the first patient"
    ui.defacedSelector.setCurrentNode(second_defaced)
    wait(lambda: panel.headsPanel.head is not None and not panel.headsPanel.isMaking)
    assert shown(2) == [ORIGINAL, DEFACED]
    ui.sweepButton.click()
    ui.attackButton.click()
    remove(first)
    assert choices(panel) == ["Second", "Second defaced"] and len(shown(3)) == 3

    # 5: report, table and plot
    page = tmp_path / "report.html"
    dialogs.answers.append(str(page))
    ui.reportButton.click()
    assert [Path(url.toLocalFile()) for url in opened] == [page]
    text = page.read_text(encoding="utf-8")
    assert "Second" not in text and "First" not in text
    ui.resultsButton.click()
    table = slicer.mrmlScene.GetSingletonNode(head_views.TABLE_VIEW, "vtkMRMLTableViewNode").GetTableNode()
    assert table is results.resultOf(second, "summary")
    remove(table)
    assert not ui.resultsButton.enabled
    ui.showButton.click()
    shown(3)

    # 6: a cohort of the pair that is chosen; a volume of it is deleted before it runs
    ui.cohortAddPairButton.click()
    assert ui.cohortButton.enabled
    remove(second_defaced)
    assert choices(panel) == ["Second", None] and not ui.cohortAddPairButton.enabled
    ui.cohortButton.click()
    wait(lambda: not panel.busy)
    assert "Line 1 of the table names a volume that does not exist" in ui.cohortHintLabel.text
    remove(second)
    assert choices(panel) == [None, None]
    assert [name for name in head_views.NAMES if head_views.surface(name)] == []
    assert not ui.sweepButton.enabled and "step 1" in ui.sweepHintLabel.text
