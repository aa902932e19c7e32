"""One scan and its defaced version: the numbers, the scale, the verdict, and the way they are kept."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import poor_defacings
import pytest
import SimpleITK as sitk
from CTDefaceEvalLib import attacks, similarity_scale, sweep
from CTDefaceEvalLib.evaluation import check_pair, evaluate
from CTDefaceEvalLib.face_models import DEFAULT_MODELS
from CTDefaceEvalLib.findings import (
    BACK,
    BOUND,
    CONTROL,
    DEFACED,
    NOTHING_KEPT,
    Evaluation,
    Evidence,
    Face,
    Level,
    Scale,
    Sighting,
    Subject,
)
from CTDefaceEvalLib.recognition import SAME_PERSON, gallery_of, kept_gallery, kept_heads, likeness
from CTDefaceEvalLib.settings import Settings
from CTDefaceEvalLib.verdict import cost_of_keeping, is_recognised, judge
from CTDefaceEvalLib.views import PRESETS, ViewGrid, head_pose
from CTDefaceLib.anatomy.hounsfield import BONE_HU
from CTDefaceLib.errors import Cancelled, CTDefaceError, InputError, NoFaceError
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.pipeline import DefaceParameters, deface
from scipy import ndimage
from stored_phantoms import stored_phantom

pytestmark = pytest.mark.usefixtures("light_evaluations")

GRID = ViewGrid((-30, 0, 30), (-15, 0, 15), ("top",))
OTHER = np.array([0.0, 1.0, 0.0])
GALLERY = np.array([0.0, 0.0, 1.0])


def phantom(person, **changes):
    return stored_phantom(PhantomParameters(person=person, spacing=(2.0, 2.0, 2.0), matrix=(110, 130), **changes)).image


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


TOWARDS = (1.0, 0.1, 0.0)
"""Nearly the original's direction: the same person's."""


def made_up(original=9, defaced=0, attack=0, towards=(0.0, 1.0, 0.0), known=True, beside=(), **others):
    """Evidence of one model; of others, ``back`` is a number of views, ``attack_towards``, ``bound`` and ``control``
    are directions."""
    away = (0.0, 1.0, 0.0)
    subjects = [
        Subject("original", "original", 0.0, sightings(original or 0)),
        Subject(BACK, BACK, 0.0, sightings(others.get("back", 0), away)),
        Subject(CONTROL, CONTROL, 0.0, sightings(0, others.get("control", away))),
        Subject("defaced", "defaced", 0.0, sightings(defaced, towards)),
        Subject(BOUND, BOUND, 0.0, sightings(0, others.get("bound", away))),
        Subject("growth 4 mm", "growth", 0.0, sightings(attack, others.get("attack_towards", away))),
    ]
    known = known and original is not None
    if original is None:
        subjects = subjects[3:4] + subjects[5:]
    own = subjects[0].embeddings("m")
    alike = {subject.name: likeness(own, subject.embeddings("m"), GALLERY) for subject in subjects} if known else {}
    return Evidence(Settings(models=("m",)), GRID, [], "m", subjects, Scale([0.9], [0.1]), list(beside), alike)


@pytest.mark.parametrize(
    ("numbers", "level"),
    [
        ({}, Level.NOT_RECOGNISABLE),
        ({"defaced": 9}, Level.NOT_RECOGNISABLE),
        ({"defaced": 9, "attack": 9}, Level.NOT_RECOGNISABLE),
        ({"towards": TOWARDS}, Level.RECOGNISABLE),
        ({"towards": (0.5, 1.0, 0.0)}, Level.NOT_RECOGNISABLE),
        ({"defaced": 9, "towards": TOWARDS, "attack_towards": TOWARDS}, Level.RECOGNISABLE),
        ({"attack_towards": TOWARDS}, Level.RECOVERABLE),
        ({"bound": TOWARDS}, Level.RECOVERABLE),
        ({"beside": ["A picture (.png) beside it shows a face, found by m."]}, Level.RECOVERABLE),
        ({"original": 1}, Level.NOT_EVALUABLE),
        ({"original": 0, "defaced": 0}, Level.NOT_EVALUABLE),
        ({"control": TOWARDS}, Level.NOT_EVALUABLE),
        ({"known": False}, Level.NOT_ALL_TRIED),
        ({"known": False, "bound": TOWARDS}, Level.NOT_ALL_TRIED),
        ({"known": False, "defaced": 3}, Level.FACE_FOUND),
        ({"known": False, "defaced": 3, "back": 3}, Level.NOT_ALL_TRIED),
        ({"known": False, "attack": 3}, Level.RECOVERABLE),
        ({"original": None}, Level.NOT_EVALUABLE),
        ({"original": None, "defaced": 3}, Level.FACE_FOUND),
        ({"original": None, "attack": 3}, Level.RECOVERABLE),
    ],
)
def test_verdict(numbers, level):
    verdict = judge(made_up(**numbers))
    assert verdict.level == level
    assert verdict.sentence.endswith(".")
    expected = [BOUND] if "bound" in numbers and level is Level.RECOVERABLE else []
    expected += ["growth 4 mm"] if "attack_towards" in numbers or (numbers.get("attack") == 3) else []
    assert verdict.recovered_by == tuple(expected)


def test_the_verdict_says_what_decided():
    sentence = judge(made_up(attack_towards=(0.5, 1.0, 0.0))).sentence
    assert "growth 4 mm, likeness 45% (95 % over the views: 45% to 45%), one person from 60% on" in sentence
    assert "likeness 100%" in judge(made_up(towards=TOWARDS)).sentence
    assert "More of the head has to be replaced" in judge(made_up(bound=TOWARDS)).sentence
    assert "but it is not this person's" in judge(made_up(defaced=9)).sentence
    findings = judge(made_up(attack_towards=TOWARDS)).findings
    assert any(finding.startswith("growth 4 mm: ") and finding.endswith(", recognised.") for finding in findings)


def test_where_no_gallery_of_people_is_kept_the_findings_say_so():
    evidence = made_up()
    assert judge(evidence).findings[-1].startswith("No gallery of people is kept for m")
    evidence.scale.is_kept = True
    assert not any("gallery" in finding for finding in judge(evidence).findings)
    evidence.scale.is_kept, evidence.likeness = False, {}
    assert not any("gallery" in finding for finding in judge(evidence).findings)


def test_what_keeping_costs():
    """The bound with what is kept in the head against that without; it decides nothing by itself."""
    assert cost_of_keeping(made_up()) == ""

    def sentence(bare, **others):
        evidence = made_up(**others)
        evidence.subjects.append(subject := Subject(NOTHING_KEPT, NOTHING_KEPT, 0.0, sightings(0, bare)))
        if evidence.likeness:
            own = evidence.original.embeddings("m")
            evidence.likeness[NOTHING_KEPT] = likeness(own, subject.embeddings("m"), GALLERY)
        return judge(evidence).level, cost_of_keeping(evidence)

    away, half = (0.0, 1.0, 0.0), (0.5, 1.0, 0.0)
    level, said = sentence(away, bound=half)
    assert level is Level.NOT_RECOGNISABLE and said.startswith("Keeping structures costs 45% of likeness: with them")
    assert "without them 0% (95 %" in said and said.endswith("one person from 60% on.")
    assert sentence(half, bound=half)[1].startswith("Keeping structures costs nothing that is seen")
    assert sentence(TOWARDS)[0] is Level.NOT_RECOGNISABLE, "what would have been is nothing that is shared"
    assert "could not be measured" in sentence(away, known=False)[1]


def test_levels_are_the_words_that_users_and_records_see():
    words = ["recognisable", "face found", "recoverable", "not recognisable", "not all tried", "not evaluable"]
    assert [str(level) for level in Level] == [f"{level}" for level in Level] == words
    assert json.dumps(list(Level)) == json.dumps(words)


def test_a_few_false_alarms_are_no_face_but_are_mentioned():
    grid = PRESETS["default"]
    evidence = made_up(known=False)
    evidence.grid = grid
    evidence.subjects = [
        Subject("original", "original", 0.0, sightings(15, grid=grid)),
        Subject("defaced", "defaced", 0.0, sightings(3, OTHER, grid=grid)),
    ]
    verdict = judge(evidence)
    assert verdict.level == Level.NOT_ALL_TRIED and "by m in 3 of 70 views" in verdict.sentence
    evidence.subjects[1].sightings = sightings(4, OTHER, grid=grid)
    assert judge(evidence).level == Level.FACE_FOUND


def test_what_could_not_be_measured_is_said_and_not_passed():
    assert "could not be measured" not in judge(made_up()).sentence
    verdict = judge(made_up(known=False))
    assert verdict.level == Level.NOT_ALL_TRIED and "could not be measured" in verdict.sentence


@pytest.mark.parametrize("known", [True, False])
def test_what_was_not_attacked_is_not_passed(known):
    evidence = made_up(known=known)
    evidence.settings, evidence.subjects = Settings(models=("m",), attacks=()), evidence.subjects[:-1]
    verdict = judge(evidence)
    assert verdict.level == Level.NOT_ALL_TRIED and "no attack was made" in verdict.sentence
    assert ("not recognised as this person" in verdict.sentence) == known
    assert "these models and attacks" not in verdict.sentence


def test_likeness_lies_between_other_people_and_the_original_itself():
    views = list(GRID)
    own = {view: np.array([1.0, 0.0, 0.0]) for view in views}
    half = np.sqrt(0.5)
    gallery = gallery_of([{views[0]: np.array([3.0, 4.0, 0.0])}, {}, {views[0]: np.array([3.0, -4.0, 0.0])}])
    assert np.allclose(gallery, [0.6, 0.0, 0.0])
    assert likeness(own, own, gallery).value == pytest.approx(1.0)
    probe = {view: np.array([half, half, 0.0]) for view in views[:4]}
    found = likeness(own, probe, gallery)
    assert found.value == pytest.approx((half - 0.6 * half) / 0.4) and found.cosine == pytest.approx(half)
    assert (found.low, found.high, found.views) == (pytest.approx(found.value), pytest.approx(found.value), 4)
    # Views that differ widen the interval, and it holds the value.
    rng = np.random.default_rng(1)
    noisy = {view: np.array([1.0, 0.0, 0.0]) + rng.normal(0.0, 0.5, 3) for view in views}
    found = likeness(own, noisy, gallery)
    assert found.low < found.value < found.high and found.high - found.low > 0.1
    assert likeness(own, {}, gallery) is None and likeness(own, own, np.zeros(0)) is None
    assert likeness(own, own, np.array([0.999, 0.0, 0.0])) is None, "a model that tells nobody apart"


@pytest.mark.parametrize("model", DEFAULT_MODELS)
def test_a_gallery_is_kept_for_the_default_models(model):
    gallery = kept_gallery(model)
    assert gallery.shape == (128,) and 0.9 < np.linalg.norm(gallery) < 1.0
    assert kept_gallery("no such model").shape == (0,)


def test_heads_that_are_kept_are_not_drawn(monkeypatch):
    """A scale from kept heads has the numbers of one that draws them."""
    views = list(similarity_scale.SCALE_VIEWS)
    heads = kept_heads("dlib-hog", views)
    model = SimpleNamespace(name="dlib-hog")
    faces = {view: Sighting("dlib-hog", *view, None, vector) for view, vector in heads[0].items()}
    heads = [{view: vector for view, vector in head.items() if view in faces} for head in heads]
    measure = partial(
        similarity_scale.measured_scale, None, faces, similarity_scale.SCALE_VIEWS, faces, model, None, Settings()
    )
    kept = measure()
    monkeypatch.setattr(similarity_scale, "kept_heads", lambda name, views: None)
    monkeypatch.setattr(similarity_scale, "synthetic_heads", lambda: [(number, None) for number in range(3)])
    monkeypatch.setattr(similarity_scale, "embeddings_of", lambda renderer, number, *_: heads[number])
    assert measure() == kept and kept.is_kept and len(kept.other_heads) >= len(faces)


def test_threshold_lies_midway_and_needs_a_recogniser_that_tells_heads_apart():
    assert Scale([0.9, 0.8, 0.1], [0.5, 0.4, 0.6]).threshold == pytest.approx(0.65)
    assert Scale([], [0.5]).threshold is None
    assert Scale([0.5], [0.6]).threshold is None


def test_numbers_hold_no_names_and_survive_json():
    evidence = made_up(defaced=3)
    evaluation = Evaluation(**vars(evidence), verdict=judge(evidence))
    numbers = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    assert numbers["verdict"]["level"] == "not recognisable"
    defaced = next(subject for subject in numbers["subjects"] if subject["name"] == "defaced")
    assert defaced["models"]["m"]["views_found"] == 3
    assert len(defaced["models"]["m"]["scores"]) == 9
    assert defaced["likeness"]["views"] == 9
    assert "folder" not in json.dumps(numbers)


# --------------------------------------------------------------------------------------------------- on synthetic heads


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "deface"),
    [
        ("constant region", poor_defacings.constant_filled),
        ("lowered iso", poor_defacings.rim_left),
        ("deblurring", lambda image, pose: poor_defacings.blurred(image, pose, 5.0)),
        ("growth", lambda image, pose: poor_defacings.shaved(image, pose, 4.0)),
    ],
)
def test_poor_defacings_are_caught_by_the_attack_meant_for_them(original, other, attack, deface):
    pytest.importorskip("dlib")
    defaced = deface(other, head_pose(other))
    settings = Settings(models=("dlib-hog",), views="quick", attacks=(attack,))
    result = evaluate(other, defaced, settings, others=[original])
    assert result.verdict.level in (Level.RECOVERABLE, Level.RECOGNISABLE)
    assert any(name.startswith(attack) for name in result.verdict.recovered_by)


def judged(image, defaced, other, **more):
    """An evaluation without attacks by one model."""
    pytest.importorskip("dlib")
    return evaluate(image, defaced, Settings(("dlib-hog",), None, "quick", ()), others=[other], **more)


@pytest.mark.slow
def test_a_thin_shell_is_caught_by_recognition(original, other):
    """Three millimetres off, and what is left still has this person's features, without any attack."""
    result = judged(other, poor_defacings.shaved(other, head_pose(other), 3.0), original)
    assert result.verdict.level == Level.RECOGNISABLE and is_recognised(result, result.defaced)


@pytest.mark.slow
def test_bone_that_was_left_is_caught_by_the_bound(original, other):
    """Whatever lies over it: once all that was replaced is emptied, the bones of the face stand there."""
    hu, shell = sitk.GetArrayFromImage(other), poor_defacings.face_shell(other, head_pose(other))
    in_front = ndimage.binary_dilation(shell, iterations=6) & (hu < -300)
    covered = poor_defacings.with_values(other, np.where((shell | in_front) & (hu <= BONE_HU), 40, hu))
    result = judged(other, covered, original)
    assert BOUND in result.verdict.recovered_by and result.likeness[BOUND].value > SAME_PERSON


@pytest.mark.slow
def test_two_random_cuts_are_caught_by_their_union(original, other, tmp_path):
    """Each takes other halves of the face away; both beside each other give all of it back."""
    hu, shell = sitk.GetArrayFromImage(other), poor_defacings.face_shell(other, head_pose(other))
    paths = [tmp_path / f"{seed}.nrrd" for seed in range(2)]
    for seed, path in enumerate(paths):
        rough = np.random.default_rng(seed).standard_normal(hu.shape).astype(np.float32)
        taken = shell & (ndimage.gaussian_filter(rough, 8.0) > 0.0)
        sitk.WriteImage(poor_defacings.with_values(other, np.where(taken, -1000, hu)), str(path))
    result = judged(other, sitk.ReadImage(str(paths[0])), original, beside=paths[0])
    union = f"{attacks.UNION}, greatest of 2"
    assert union in result.verdict.recovered_by
    assert result.likeness[union].value > max(result.likeness[name].value for name in (DEFACED, BOUND)) + 0.1


@pytest.mark.slow
def test_the_sealed_removal_leaves_nothing_to_find(original, other):
    pytest.importorskip("dlib")
    defaced = deface(original, DefaceParameters(seed=1)).image
    settings = Settings(("dlib-hog",), None, "quick", ("lowered iso", "constant region", "low variance", "growth"))
    result = evaluate(original, defaced, settings, others=[other])
    assert result.verdict.level == Level.NOT_RECOGNISABLE, result.verdict


@pytest.mark.slow
def test_the_original_itself_is_found_and_recognised(original, other):
    pytest.importorskip("dlib")
    result = evaluate(original, original, Settings(("dlib-hog",), None, "quick", ()), others=[other])
    assert result.verdict.level == Level.RECOGNISABLE
    assert result.likeness["defaced"].value == pytest.approx(1.0)
    assert result.subject(BOUND) is None, "nothing was changed"
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
    assert len(searches) == 3 + 6  # of original, two controls, defaced and four iso levels, the first two were kept
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
    assert len(searches) == 5  # the original, which is embedded wherever it is found; its controls; defaced, a and b; c
    first, second = result.subject("defaced"), result.subject("b")
    assert second.sightings == first.sightings and second.pictures == first.pictures and second.kind == "growth"


def test_a_scan_without_its_original(original):
    pytest.importorskip("dlib")
    result = evaluate(None, original, Settings(("dlib-hog",), None, "quick", ()))
    assert result.verdict.level == Level.FACE_FOUND
    assert "Without the original" in result.verdict.sentence


@pytest.mark.slow
def test_a_detector_alone_is_held_against_its_false_alarms(original):
    """One that takes any bright place for a face finds the back of the head as often, and so nothing in the scan."""
    pytest.importorskip("cv2")
    weights = Path(__file__).parent / "data" / "opencv"
    emptied = sitk.GetArrayFromImage(original)
    emptied[:, :40] = -1000
    defaced = sitk.GetImageFromArray(emptied)
    defaced.CopyInformation(original)
    result = evaluate(original, defaced, Settings(("centerface",), str(weights), "quick", ()))
    found = [len(result.subject(name).scores("centerface")) for name in ("original", BACK, "defaced")]
    assert found[0] > 0 and found[1] == found[2] > 0
    assert result.recogniser is None and result.verdict.level == Level.NOT_ALL_TRIED
    assert "could not be measured with these models" in result.verdict.sentence


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


@pytest.mark.slow
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
