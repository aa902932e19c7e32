"""One scan and its defaced version: the numbers, the scale, the verdict, and the way they are kept."""

import json
from dataclasses import replace

import numpy as np
import poor_defacings
import pytest
import SimpleITK as sitk
from CTDefaceEvalLib import attacks, detection, sweep
from CTDefaceEvalLib.evaluation import check_pair, evaluate
from CTDefaceEvalLib.findings import Evaluation, Evidence, Face, Level, Scale, Sighting, Subject
from CTDefaceEvalLib.settings import Settings
from CTDefaceEvalLib.verdict import judge
from CTDefaceEvalLib.views import PRESETS, ViewGrid, head_pose
from CTDefaceLib.errors import Cancelled, CTDefaceError, InputError, NoFaceError
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.pipeline import DefaceParameters, deface
from stored_phantoms import stored_phantom

GRID = ViewGrid((-30, 0, 30), (-15, 0, 15), ("top",))
OTHER = np.array([0.0, 1.0, 0.0])


def phantom(person, **changes):
    return stored_phantom(PhantomParameters(person=person, spacing=(2.0, 2.0, 2.0), matrix=(110, 130), **changes)).image


@pytest.fixture(autouse=True)
def few_and_light_pictures(monkeypatch):
    """What is tested is not how finely the head is drawn."""
    monkeypatch.setitem(PRESETS, "quick", ViewGrid((-20, 10), (0, 15), ("top",)))
    monkeypatch.setattr(sweep, "REPORT_VIEWS", sweep.REPORT_VIEWS[:1])
    monkeypatch.setattr(detection, "TRIANGLES", None)
    monkeypatch.setattr(detection, "GRID_MM", 2.5)


@pytest.fixture(scope="module")
def original():
    return phantom(0)


@pytest.fixture(scope="module")
def other():
    return phantom(5)


# ------------------------------------------------------------------------------------------------ arithmetic, no pixels


def sightings(found, direction=(1.0, 0.0, 0.0), score=1.0, grid=GRID):
    """Sightings of the model "m" in every view, with a face in the first `found` of them."""
    face = Face((0.0, 0.0, 9.0, 9.0), score)
    return [Sighting("m", *view, face if i < found else None, np.array(direction)) for i, view in enumerate(grid)]


def made_up(original=9, defaced=0, attack=0, towards=(0.0, 1.0, 0.0), attack_towards=(0.0, 1.0, 0.0), beside=()):
    subjects = [
        Subject("original", "original", 0.0, sightings(original or 0)),
        Subject("defaced", "defaced", 0.0, sightings(defaced, towards)),
        Subject("growth 4 mm", "growth", 0.0, sightings(attack, attack_towards)),
    ]
    if original is None:
        subjects.pop(0)
    scale = Scale([0.9, 0.95, 0.99], [0.1, 0.2, 0.3])
    return Evidence(Settings(models=("m",)), GRID, [], "m", subjects, scale, list(beside))


@pytest.mark.parametrize(
    ("numbers", "level"),
    [
        ({}, Level.NONE_OF_THESE),
        ({"defaced": 2}, Level.NONE_OF_THESE),
        ({"defaced": 3}, Level.FACE_FOUND),
        ({"towards": (1.0, 0.1, 0.0)}, Level.RECOGNISABLE),
        ({"attack": 5}, Level.RECOVERABLE),
        ({"attack_towards": (1.0, 0.1, 0.0)}, Level.RECOVERABLE),
        ({"beside": ["A picture (.png) beside it shows a face, found by m."]}, Level.RECOVERABLE),
        ({"original": 1}, Level.NOT_EVALUABLE),
        ({"original": 0, "defaced": 0}, Level.NOT_EVALUABLE),
        ({"original": None}, Level.NOT_EVALUABLE),
        ({"original": None, "defaced": 3}, Level.FACE_FOUND),
        ({"original": None, "attack": 3}, Level.RECOVERABLE),
    ],
)
def test_verdict(numbers, level):
    verdict = judge(made_up(**numbers))
    assert verdict.level == level
    assert verdict.sentence.endswith(".")
    assert (verdict.recovered_by == ("growth 4 mm",)) == ("attack" in str(numbers))


@pytest.mark.parametrize(
    ("numbers", "level"),
    [
        ({"defaced": 9}, Level.NONE_OF_THESE),
        ({"defaced": 9, "attack": 9}, Level.NONE_OF_THESE),
        ({"defaced": 9, "towards": (1.0, 0.1, 0.0)}, Level.RECOGNISABLE),
        ({"defaced": 9, "attack_towards": (1.0, 0.1, 0.0)}, Level.RECOVERABLE),
        ({"defaced": 9, "original": 1}, Level.NOT_EVALUABLE),
    ],
)
def test_a_synthetic_face_is_judged_by_whose_it_is(numbers, level):
    evidence = made_up(**numbers)
    evidence.settings = replace(evidence.settings, synthetic_face=True)
    assert judge(evidence).level == level
    if level == Level.NONE_OF_THESE:
        evidence.scale = Scale()
        assert judge(evidence).level == Level.NOT_EVALUABLE


def test_levels_are_the_words_that_users_and_records_see():
    words = ["face found", "recognisable", "recoverable", "none of these", "not all tried", "not evaluable"]
    assert [str(level) for level in Level] == [f"{level}" for level in Level] == words
    assert json.dumps(list(Level)) == json.dumps(words)


def test_a_few_false_alarms_are_no_face_but_are_mentioned():
    grid = PRESETS["default"]
    subjects = [
        Subject("original", "original", 0.0, sightings(15, grid=grid)),
        Subject("defaced", "defaced", 0.0, sightings(3, OTHER, grid=grid)),
    ]
    evidence = Evidence(Settings(models=("m",)), grid, [], "m", subjects, Scale([0.9], [0.1]), [])
    assert judge(evidence).level == Level.NONE_OF_THESE and "m in 3 of 70" in judge(evidence).sentence
    subjects[1].sightings = sightings(4, OTHER, grid=grid)
    assert judge(evidence).level == Level.FACE_FOUND


def test_what_could_not_be_measured_is_said_and_not_passed():
    evidence = made_up()
    assert "could not be measured" not in judge(evidence).sentence
    evidence.scale = Scale([0.9], [])
    verdict = judge(evidence)
    assert verdict.level == Level.NOT_ALL_TRIED and "could not be measured" in verdict.sentence
    assert verdict.sentence.startswith("No face was found or recovered in") and "recognised" not in verdict.sentence


@pytest.mark.parametrize("threshold", [True, False])
def test_what_was_not_attacked_is_not_passed(threshold):
    evidence = made_up()
    evidence.settings, evidence.subjects = Settings(models=("m",), attacks=()), evidence.subjects[:2]
    if not threshold:
        evidence.scale = Scale([0.9], [])
    verdict = judge(evidence)
    assert verdict.level == Level.NOT_ALL_TRIED and "no attack was made" in verdict.sentence
    assert verdict.sentence.startswith(f"No face was found{' or recognised' if threshold else ''} in these views.")
    assert "and attacks" not in verdict.sentence
    evidence.subjects[1].sightings = sightings(9)
    assert judge(evidence).level == Level.FACE_FOUND, "one that is found needs no attack"


def test_threshold_lies_midway_and_needs_a_recogniser_that_tells_heads_apart():
    assert Scale([0.9, 0.8, 0.1], [0.5, 0.4, 0.6]).threshold == pytest.approx(0.65)
    assert Scale([], [0.5]).threshold is None
    assert Scale([0.5], [0.6]).threshold is None


def test_numbers_hold_no_names_and_survive_json():
    evidence = made_up(defaced=3)
    evaluation = Evaluation(**vars(evidence), verdict=judge(evidence))
    numbers = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    assert numbers["verdict"]["level"] == "face found"
    assert numbers["subjects"][1]["models"]["m"]["views_found"] == 3
    assert len(numbers["subjects"][1]["models"]["m"]["scores"]) == 9
    assert "folder" not in json.dumps(numbers)


# --------------------------------------------------------------------------------------------------- on synthetic heads


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "deface"),
    [
        ("constant region", poor_defacings.constant_filled),
        ("lowered iso", poor_defacings.rim_left),
        ("deblurring", lambda image, pose: poor_defacings.blurred(image, pose, 5.0)),
        ("growth", lambda image, pose: poor_defacings.shaved(image, pose, 6.0)),
    ],
)
def test_poor_defacings_are_caught_by_the_attack_meant_for_them(original, other, attack, deface):
    pytest.importorskip("dlib")
    defaced = deface(original, head_pose(original))
    settings = Settings(models=("dlib-hog",), views="quick", attacks=(attack,))
    result = evaluate(original, defaced, settings, others=[other])
    assert result.verdict.level in (Level.RECOVERABLE, Level.FACE_FOUND)
    assert any(name.startswith(attack) for name in result.verdict.recovered_by)


@pytest.mark.slow
@pytest.mark.xfail(reason="HOG sees a face in one view of the grown new skin; a verdict by recognition is to come")
def test_the_sealed_removal_leaves_nothing_to_find(original, other):
    pytest.importorskip("dlib")
    defaced = deface(original, DefaceParameters(seed=1)).image
    settings = Settings(("dlib-hog",), None, "quick", ("lowered iso", "constant region", "low variance", "growth"))
    result = evaluate(original, defaced, settings, others=[other])
    assert result.verdict.level == Level.NONE_OF_THESE, result.verdict


@pytest.mark.slow
def test_the_original_itself_is_found_and_recognised(original, other):
    pytest.importorskip("dlib")
    result = evaluate(original, original, Settings(("dlib-hog",), None, "quick", ()), others=[other])
    assert result.verdict.level == Level.FACE_FOUND
    assert result.recognised_share(result.subject("defaced")) == 1.0
    assert min(result.scale.same_head) > np.median(result.scale.other_heads)
    assert result.subject("original").pictures[0].startswith(b"\x89PNG")


@pytest.mark.slow
def test_interrupted_evaluation_goes_on(original, tmp_path, monkeypatch):
    pytest.importorskip("dlib")
    memory = tmp_path / "memory.json"
    settings = Settings(("dlib-hog",), None, "quick", ("lowered iso",))
    searches = []
    real = sweep.find_faces

    def counted(*arguments, **options):
        searches.append(1)
        if len(searches) == 3:
            raise Cancelled("stop")
        return real(*arguments, **options)

    monkeypatch.setattr(sweep, "find_faces", counted)
    with pytest.raises(Cancelled):
        evaluate(original, original, settings, others=[], memory=memory)
    assert memory.exists()
    result = evaluate(original, original, settings, others=[], memory=memory)
    assert len(searches) == 3 + 4  # of original, defaced and four iso levels, the first two were kept
    assert not memory.exists()
    assert result.recogniser == "dlib-hog"
    assert result.similarities(result.subject("defaced"))


@pytest.mark.slow
def test_what_is_the_same_is_searched_once(original, monkeypatch):
    pytest.importorskip("dlib")
    pose = head_pose(original)
    image = attacks.around_head(original, pose)
    tried = (("a", -300.0), ("b", -300.0), ("c", 0.0))
    attempts = [attacks.Recovery(name, "growth", image, iso) for name, iso in tried]
    monkeypatch.setattr(attacks, "recoveries", lambda *arguments: attempts)
    searches = []
    real = sweep.find_faces
    monkeypatch.setattr(sweep, "find_faces", lambda *a, **options: searches.append(1) or real(*a, **options))
    result = evaluate(original, original, Settings(("dlib-hog",), None, "quick"), others=[])
    assert len(searches) == 3  # the original, which is embedded wherever it is found; the defaced one, a and b; c
    first, second = result.subject("defaced"), result.subject("b")
    assert second.sightings == first.sightings and second.pictures == first.pictures and second.kind == "growth"


def test_a_scan_without_its_original(original):
    pytest.importorskip("dlib")
    result = evaluate(None, original, Settings(("dlib-hog",), None, "quick", ()))
    assert result.verdict.level == Level.FACE_FOUND
    assert "Without the original" in result.verdict.sentence


# ------------------------------------------------------------------------------------------------------------ bad input


def test_wrong_pairs_end_in_one_sentence(original, other):
    cropped = original[:, :, 4:]
    with pytest.raises(InputError, match="same grid"):
        evaluate(original, cropped)
    # Other people in the same pose, on the same grid
    for stranger in (other, phantom(2, seed=1)):
        low = min(original.GetSize()[2], stranger.GetSize()[2])
        a, b = (image[:, :, image.GetSize()[2] - low :] for image in (original, stranger))
        b.CopyInformation(a)
        with pytest.raises(InputError, match="same scan"):
            evaluate(a, b)


def test_pairs_that_went_through_other_hands_are_still_pairs(original):
    check_pair(original, sitk.Cast(original, sitk.sitkFloat32) + 0.4)
    check_pair(original, sitk.SmoothingRecursiveGaussian(original, 1.0))
    pose = head_pose(original)
    for way in (poor_defacings.constant_filled, poor_defacings.blurred, poor_defacings.shaved):
        check_pair(original, way(original, pose))


def test_no_head_and_wrong_names_end_in_one_sentence(original):
    pytest.importorskip("dlib")
    block = sitk.Image([60, 60, 60], sitk.sitkInt16) - 1000
    block[20:40, 20:40, 20:40] = 40
    with pytest.raises(NoFaceError, match="No head"):
        evaluate(block, block, Settings(("dlib-hog",), None, "quick", ()))
    with pytest.raises(CTDefaceError, match="no attack called"):
        evaluate(original, original, Settings(attacks=("magic",)))
    with pytest.raises(CTDefaceError, match="no rendering called"):
        evaluate(original, original, Settings(rendering="oil"))
    with pytest.raises(CTDefaceError, match="no set of views"):
        evaluate(original, original, Settings(views="all"))
