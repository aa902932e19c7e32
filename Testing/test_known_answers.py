"""Cleaned headers against known answers; ``benchmarks/bench_headers.py`` does the same for hundreds of objects."""

import copy

import pytest
from CTDefaceLib.dicom.headers import TCIA
from known_answers import ACTIONS, cases, score, traces

pytest.importorskip("dicomanonymizer", reason="pip install ctdeface[dicom]")


def test_required_actions_are_done(tmp_path):
    found = score(cases(patients=4, seed=11), tmp_path, TCIA)
    assert found.objects == 32 and {action for _, action in found.required} == set(ACTIONS)
    assert found.missed == [] and found.left == [] and found.share == 1


def test_the_score_sees_what_is_not_done(tmp_path):
    """With other options than the answers are for, and where one patient has two numbers."""
    several = cases(patients=1, seed=2)
    found = score(several, tmp_path, ["full-dates", "institution", "device", "patient"])
    missed = {answer.action for answer, _ in found.missed}
    assert {"date_shifted", "text_retained", "tag_retained"} <= missed and found.share < 1
    content = (tmp_path / "in.dcm").read_bytes()
    assert len(traces(several[-1].patient, content)) > 5
    first, second = (copy.deepcopy(several[0]) for _ in range(2))
    second.patient = first.patient
    first.header.PatientID, second.header.PatientID = "ANOTHER-1", "ANOTHER-2"
    found = score([first, second], tmp_path, TCIA)
    assert "patid_consistent" in {answer.action for answer, _ in found.missed}
