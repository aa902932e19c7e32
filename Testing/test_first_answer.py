"""The attack that is most likely to succeed is tried first, and its answer told as soon as it is there."""

import poor_defacings
from CTDefaceEvalLib import evaluation
from CTDefaceEvalLib.attacks import ATTACKS, REGION_FINDERS
from CTDefaceEvalLib.findings import Subject
from CTDefaceEvalLib.settings import Settings
from CTDefaceEvalLib.views import head_pose
from stored_phantoms import very_coarse_head

REFERENCE = ("original", "back of the head", "front cut off")
"""What is searched only for comparison."""


def test_every_attack_is_tried_once():
    assert sorted(ATTACKS) == sorted({"lowered iso", *REGION_FINDERS, "growth", "deblurring"})


def test_each_answer_is_told_as_soon_as_it_is_there(monkeypatch):
    """The fill of one value, which most tools leave, is searched first."""
    image = very_coarse_head()
    defaced = poor_defacings.constant_filled(image, head_pose(image))
    told, searched = [], []

    def search(sweep, name, kind, *arguments, **choices):
        assert [answer[0] for answer in told] == [one for one in searched if one not in REFERENCE]
        searched.append(name)
        return Subject(name, kind)

    monkeypatch.setattr(evaluation.Sweep, "subject", search)
    monkeypatch.setattr(evaluation, "facial_shape", lambda *arguments: None)
    found = evaluation.evaluate(
        image,
        defaced,
        Settings(("opencv-haar",), attacks=("lowered iso", "constant region")),
        answered=lambda *answer: told.append(answer),
    )
    names = [answer[0] for answer in told]
    assert names[:2] == ["defaced", "region emptied"] and names[2].startswith("constant region")
    assert names == [subject.name for subject in found.subjects if subject.name not in REFERENCE]
    assert all(likeness is None for _name, likeness, _gives_away in told), "this model tells nobody apart"
