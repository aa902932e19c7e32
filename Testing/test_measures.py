"""Recognition, bound and cost of an evaluation, in a few lines."""

from types import SimpleNamespace

import gui
import pytest
from CTDefaceEvalLib.findings import BOUND, DEFACED, Likeness
from CTDefaceEvalSlicer.measures import measures

pytestmark = pytest.mark.gui


def evaluation(likeness, cost=None, is_kept=True):
    scale = SimpleNamespace(is_kept=is_kept)
    return SimpleNamespace(likeness=likeness, preservation=cost, scale=scale, recogniser="facenet")


def cost(touched, tissue, bone):
    return SimpleNamespace(
        intracranial_touched=touched, numbers=lambda: {"tissue replaced": tissue, "bone replaced": bone}
    )


def test_whose_face_the_bound_and_the_cost():
    likeness = {DEFACED: Likeness(0.12, 0.05, 0.2, 0.9, 9), BOUND: Likeness(0.5, 0.4, 0.61, 0.9, 9)}
    assert list(measures(evaluation(likeness, cost(0, 0.093, 0.06)))) == [
        (True, "Recognition: likeness 12% (5% to 20%)"),
        (False, "Bound, region emptied: 50% (40% to 61%)"),
        (True, "Brain untouched"),
        (None, "Cost: 9% of the tissue, 6% of the bone replaced"),
    ]


def test_what_was_not_measured_is_not_told():
    assert list(measures(evaluation({}))) == []
    assert list(measures(evaluation({}, cost(3, 0.1, None)))) == [
        (False, "Brain: 3 voxels changed"),
        (None, "Cost: 10% of the tissue replaced"),
    ]


def test_a_likeness_without_a_gallery_of_people_is_a_hint():
    likeness = {DEFACED: Likeness(0.12, 0.05, 0.2, 0.9, 9)}
    assert list(measures(evaluation(likeness, is_kept=False)))[1:] == [
        (None, "No gallery of people for facenet: the likeness is a hint")
    ]


def test_the_panel_has_a_place_for_them():
    with gui.user("CTDefaceEval") as panel:
        assert not panel.ui.measuresLabel.visible and panel.ui.measuresLabel.toolTip
