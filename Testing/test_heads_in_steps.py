"""The heads of CTDefaceEval are brought up in steps, and a module that is left meanwhile shows nothing of them."""

import gui
import pytest
import slicer
from CTDefaceEvalSlicer import head_views
from gui import run_for, wait
from stored_phantoms import very_coarse_head

import qt  # isort: skip

pytestmark = pytest.mark.gui


def test_a_module_that_is_left_while_the_heads_come_up_stays_left(monkeypatch):
    head = very_coarse_head()
    with gui.user("CTDefaceEval") as panel:
        panel.parameterNode.liveMeter = False
        panel.parameterNode.originalVolume = gui.volume(head, "Head CT")
        wait(lambda: head_views.shownHeads() == 1 and not panel.headsPanel.isMaking)
        run_for(0.1)
        later = []
        monkeypatch.setattr(qt.QTimer, "singleShot", lambda msec, function: later.append(function))
        panel.headsPanel.onShow()
        assert len(later) >= 3 and head_views.shownHeads() == 1, "the layout first, the rest in turns of its own"
        gui.host.select_module("CTDeface")
        before = slicer.app.layoutManager().layout
        monkeypatch.undo()
        for step in later:
            step()
        assert slicer.app.layoutManager().layout == before and head_views.shownHeads() == 0
