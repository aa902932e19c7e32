"""A cohort from its table to its report: the cache, the pairs, and bad tables."""

import json
import pickle
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
from CTDefaceEvalLib import cohort as library
from CTDefaceEvalLib import face_models, report, tasks, worker
from CTDefaceEvalLib.cohort_table import Row, check_table, pairs_in, pairs_of, read_table
from CTDefaceEvalLib.identification import (
    DEFACED_TO_DEFACED,
    FUSED,
    NEAREST,
    ORIGINAL_TO_DEFACED,
    PHOTO_TO_CT,
    SINGLE,
    UNTOUCHED,
)
from CTDefaceEvalLib.linkage import compared
from CTDefaceLib.commands.main import main
from CTDefaceLib.errors import CTDefaceError, InputError
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.render import Renderer, write_png
from stored_phantoms import stored_phantom

pytest.importorskip("sklearn")


class Brightness:
    """A face model for tests: a face in every picture, described by the picture itself; no weights, fast."""

    name, licence, needs, picture_size, embeds = "brightness", "none", "nothing", 24, True

    def __init__(self, folder=None):
        pass

    def detect(self, picture):
        return [face_models.Face((0.0, 0.0, 24.0, 24.0), float(picture.mean()))] if picture.std() > 5 else []

    def embed(self, picture, face):
        return picture[::2, ::2, 0].astype(np.float32).ravel() - 128.0


@pytest.fixture
def brightness(monkeypatch):
    monkeypatch.setitem(face_models.MODELS, "brightness", Brightness)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Four people, two scans each, original, half removed ("cut") and gone ("air")."""
    folder = tmp_path_factory.mktemp("cohort")
    lines = ["patient,scan,method,path"]
    for person in range(4):
        for scan in range(2):
            parameters = PhantomParameters(person=person, seed=scan, yaw=4.0 * scan, spacing=(4, 4, 4), matrix=(64, 64))
            image = stored_phantom(parameters).image
            cut = sitk.GetArrayFromImage(image)
            cut[:, : cut.shape[1] // 3] = -1000
            air = np.full_like(cut, -1000)
            for method, values in (("original", sitk.GetArrayFromImage(image)), ("cut", cut), ("air", air)):
                if method == "air":
                    values[:2, :2, :2], values[-2:, -2:, -2:] = 1500, 1500
                volume = sitk.GetImageFromArray(values)
                volume.CopyInformation(image)
                name = f"{person}_{scan}_{method}.nrrd"
                sitk.WriteImage(volume, str(folder / name))
                lines.append(f"Person {person},{scan},{method},{name}")
    path = folder / "table.csv"
    path.write_text("\ufeff" + "\n".join(lines), encoding="utf-8")
    return path


def test_volumes_are_read_as_a_person_tells(brightness, table, tmp_path, monkeypatch):
    """Files that do not say how they lie, from the command's options on."""
    told = []

    def read(path, **lying):
        told.append(lying)
        raise InputError("Read.")

    monkeypatch.setattr(library, "read_ct", read)
    for options in ([], ["--orientation", "RAS"], ["--sform"]):
        assert main(["evaluate", "--cohort", str(table), "-o", str(tmp_path / "r.html"), "--models", "brightness",
                     "--views", "quick", *options]) == 1  # fmt: skip
    assert told == [{}, {"orientation": "RAS"}, {"form": "sform"}]


@pytest.mark.slow
def test_cohort_end_to_end_and_its_cache(brightness, table, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "read_ct", lambda path: sitk.ReadImage(str(path)))
    rows = read_table(table)
    assert len(rows) == 24 and rows[0].method == "original"
    searches = []
    real = library.detection.surface_of

    def counted(image, iso):
        searches.append(1)
        return real(image, iso)

    monkeypatch.setattr(library.detection, "surface_of", counted)
    first = library.evaluate_cohort(rows[:-3], tmp_path / "cache", model="brightness", views="quick")
    assert len(searches) == 21
    cohort = library.evaluate_cohort(rows, tmp_path / "cache", model="brightness", views="quick")
    assert len(searches) == 24  # one more scan costs one more
    again = library.evaluate_cohort(rows, tmp_path / "cache", model="brightness", views="quick")
    assert len(searches) == 24 and again.as_dict() == cohort.as_dict() != first.as_dict()

    original, air, cut = cohort.methods
    assert (original.method, air.method, cut.method) == ("original", "air", "cut")
    assert original.faces == 8 * 9 and original.scans == 8 and original.patients == 4
    by_patient, study = original.within["by patient"], original.within["study"]
    assert by_patient.genuine["n"] == 4 * 81 and study.genuine["n"] == 4 * 18 * 17 / 2
    assert by_patient.folds == 2 and study.folds == 5 and 0.5 < by_patient.auc[0] <= 1.0
    assert cut.against_originals["study"].genuine["n"] == 4 * 18 * 18
    assert original.against_originals == {}

    threats = {one.threat for one in original.identification}
    assert threats == {UNTOUCHED} and {one.threat for one in cut.identification} == {
        ORIGINAL_TO_DEFACED,
        DEFACED_TO_DEFACED,
    }
    same, single = original.identified(UNTOUCHED), original.identified(UNTOUCHED, SINGLE)
    assert (same.patients, same.probes, same.missed, same.same_scan) == (4, 8, 0, False)
    assert single.probes == 8 * 9 and same.rank1.value > 0.5
    # Where nothing is left to draw, nothing is recognised, and nothing is left out of the count.
    gone = air.identified(ORIGINAL_TO_DEFACED)
    assert gone.probes == 8 and gone.rank1.value < 1.0

    report.write_cohort(cohort, tmp_path / "cohort.html")
    page = (tmp_path / "cohort.html").read_text(encoding="utf-8")
    numbers = (tmp_path / "cohort.json").read_text(encoding="utf-8")
    assert "Person" not in page + numbers + (tmp_path / "cohort.csv").read_text(encoding="utf-8")
    assert "by patient (2)" in page and "study (5)" in page and "Against the originals" in page
    assert "chance makes these figures: original" not in page
    assert "Whose face is it?" in page and "by chance rank-1 is 25%" in page
    assert json.loads(numbers)["methods"][0]["identification"][0]["rank1"]["value"] == same.rank1.value
    assert len(json.loads(numbers)["scans"]) == 24


@pytest.mark.slow
def test_module_and_command_tell_the_same_numbers(brightness, table, tmp_path, monkeypatch):
    """The module's task and the command, each with its own way to the table and the result."""
    monkeypatch.setattr(library, "read_ct", lambda path: sitk.ReadImage(str(path)))
    rows = [row for row in read_table(table) if row.patient in ("Person 0", "Person 1") and row.method != "air"]
    lines = [f"{row.patient},{row.scan},{row.method},{row.path}" for row in rows]
    (tmp_path / "few.csv").write_text("\n".join(["patient,scan,method,path", *lines]), encoding="utf-8")
    task = tasks.EvaluateCohort(
        [{"patient": r.patient, "scan": r.scan, "method": r.method, "path": str(r.path), "labels": ""} for r in rows],
        str(tmp_path / "cache"), "brightness", None, "quick",
    )  # fmt: skip
    worker.evaluate_cohort(task, SimpleNamespace(result=tmp_path / "result", progress=lambda *_: None))
    shown = pickle.loads((tmp_path / "result").read_bytes())
    assert main(["evaluate", "--cohort", str(tmp_path / "few.csv"), "-o", str(tmp_path / "c.html"), "--views", "quick",
                 "--models", "brightness", "--cache", str(tmp_path / "other cache")]) == 0  # fmt: skip
    written = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(shown.as_dict())) and written["methods"][1]["faces"] > 0


def with_photos(table, folder, people):
    """The rows of the table and a photo of each person: a picture of the first scan, on its side."""
    rows = read_table(table)
    for person in people:
        image = sitk.ReadImage(str(table.parent / f"{person}_0_original.nrrd"))
        surface, pose = library.detection.surface_of(image), library.head_pose(image)
        picture = library.detection.picture_of(Renderer(), surface, pose, 0.0, 0.0, "top", 400)
        write_png(folder / f"{person}.png", np.ascontiguousarray(np.rot90(picture)))
        rows.append(Row(f"Person {person}", "1", "photo", folder / f"{person}.png"))
    return rows


@pytest.mark.slow
def test_photos_name_the_scans(table, tmp_path, monkeypatch):
    """With a real model: a picture of another view is recognised among the untouched scans, not by what is left."""
    pytest.importorskip("dlib")
    monkeypatch.setattr(library, "read_ct", lambda path: sitk.ReadImage(str(path)))
    rows = with_photos(table, tmp_path, range(4))
    rows = [row for row in rows if row.method == "photo" or (row.method in ("original", "cut") and row.scan == "0")]
    blank = tmp_path / "blank.png"
    write_png(blank, np.full((100, 100, 3), 90, np.uint8))
    rows.append(Row("Person 0", "2", "photo", blank))
    cohort = library.evaluate_cohort(rows, tmp_path / "cache", model="dlib-hog", views="quick")
    assert (cohort.photos, cohort.photos_without_face) == (5, 1)
    assert [method.method for method in cohort.methods] == ["original", "cut"] and len(cohort.scans) == 8
    untouched, cut = (method.identified(PHOTO_TO_CT) for method in cohort.methods)
    assert (untouched.patients, untouched.probes) == (4, 4)
    assert untouched.rank1.value >= 0.75 and cut.auc.value < untouched.auc.value
    report.write_cohort(cohort, tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "In 1 of 5 photos no face was found" in page and "photo → CT" in page


def test_a_table_with_photos_is_the_same_in_both_forms(table, tmp_path):
    (tmp_path / "0.png").touch()
    rows = [row for row in read_table(table) if row.method == "original"]
    rows.append(Row("Person 0", "1", "photo", tmp_path / "0.png"))
    assert set(check_table(pairs_of(rows))) == set(rows)


def test_a_photo_that_is_no_picture(brightness, table, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "read_ct", lambda path: sitk.ReadImage(str(path)))
    (tmp_path / "x.png").write_bytes(b"no")
    rows = [*read_table(table)[:9], Row("Person 0", "1", "photo", tmp_path / "x.png")]
    with pytest.raises(InputError, match="photo"):
        library.evaluate_cohort(rows, tmp_path, model="brightness", views="quick")


@pytest.mark.slow
def test_what_each_method_costs(brightness, table, tmp_path, monkeypatch):
    """Measured once for each defaced volume, its segmentation included; the figure has a point for each method."""
    monkeypatch.setattr(library, "read_ct", lambda path: sitk.ReadImage(str(path)))
    lines = ["patient,scan,method,path,labels"]
    for person in range(2):
        for method in ("original", "cut"):
            volume = table.parent / f"{person}_0_{method}.nrrd"
            labels = tmp_path / f"{person}_{method}.nrrd"
            sitk.WriteImage(sitk.ReadImage(str(volume)) > 300, str(labels))
            lines.append(f"Person {person},1,{method},{volume},{labels.name}")
    (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    rows = read_table(tmp_path / "table.csv")
    assert rows[0].labels == tmp_path / "0_original.nrrd"
    evaluate = partial(library.evaluate_cohort, rows, tmp_path / "cache", model="brightness", views="quick")
    cohort = evaluate(with_preservation=True)
    original, cut = cohort.methods
    assert original.preservation == {} and cut.identified(ORIGINAL_TO_DEFACED).same_scan
    assert 0.1 < cut.preservation["tissue replaced"].value < 0.6 and cut.preservation["label 1 Dice"].value < 0.95
    assert [scan.get("label 1 Dice") is None for scan in cohort.scans] == [True, False, True, False]
    monkeypatch.setattr(library, "preservation", None)  # all is remembered
    again = evaluate(with_preservation=True)
    assert again.as_dict() == cohort.as_dict() and evaluate().methods[1].preservation == {}
    report.write_cohort(cohort, tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "Privacy against preservation" in page and "the very scan that was defaced" in page

    (tmp_path / "0_original.nrrd").unlink()
    with pytest.raises(InputError, match="labels that do not exist"):
        read_table(tmp_path / "table.csv")


@pytest.mark.slow
def test_what_attacks_leave_are_methods_of_their_own(brightness, table, tmp_path, monkeypatch):
    """Heads that are only dimmed, each to another level, are named again once all lower levels are looked at."""
    monkeypatch.setattr(library, "read_ct", lambda path: sitk.ReadImage(str(path)))
    rows = [row for row in read_table(table) if row.method == "original" and row.scan == "0"][:3]
    # The surface at -900 HU shows the head in the first fog only, the one at -990 HU the others.
    for number, (row, air, head) in enumerate(zip(rows[:3], (-950, -1000, -1000), (-850, -970, -970))):
        image = sitk.ReadImage(str(row.path))
        dimmed = sitk.Cast(image > -300, sitk.sitkInt16) * (head - air) + air
        sitk.WriteImage(dimmed, str(tmp_path / f"{number}.nrrd"))
        rows.append(Row(row.patient, row.scan, "dimmed", tmp_path / f"{number}.nrrd"))
    evaluate = partial(library.evaluate_cohort, rows, tmp_path / "cache", model="brightness", views="quick")
    cohort = evaluate(attacks=("lowered iso", "repeats"))
    assert [m.method for m in cohort.methods] == [
        "original", "dimmed", "dimmed after lowered iso", "dimmed after repeats"
    ]  # fmt: skip
    _, dimmed, lowered, repeats = cohort.methods
    assert dimmed.faces == repeats.faces == 0 and lowered.faces == 3 * 9
    assert dimmed.identified(ORIGINAL_TO_DEFACED).rank1.value == 0.0
    for kind in (FUSED, SINGLE):
        named = lowered.identified(ORIGINAL_TO_DEFACED, kind)
        assert (named.rank1.value, named.by, named.missed) == (1.0, NEAREST, 0)
    assert dimmed.identified(ORIGINAL_TO_DEFACED).by == repeats.identified(ORIGINAL_TO_DEFACED).by == ""
    report.write_cohort(cohort, tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert f"dimmed after lowered iso, {NEAREST}" in page and "dimmed after repeats<" in page
    monkeypatch.setattr(library, "recoveries", None)  # all is remembered
    assert evaluate(attacks=("lowered iso", "repeats")).as_dict() == cohort.as_dict()
    assert len(evaluate().methods) == 2
    with pytest.raises(CTDefaceError, match="no attack called"):
        evaluate(attacks=("magic",))


@pytest.mark.slow
def test_scans_are_linked_as_advice(brightness, table, tmp_path, monkeypatch):
    """Originals and heads without a third of them are linked to other scans; no verdict knows of it."""
    monkeypatch.setattr(library, "read_ct", lambda path: sitk.ReadImage(str(path)))
    rows = [row for row in read_table(table) if row.method == "original" or (row.method == "air" and row.scan == "0")]
    evaluate = partial(library.evaluate_cohort, rows, tmp_path / "cache", model="brightness", views="quick")
    pairs = []
    monkeypatch.setattr(library, "compared", lambda one, other: (pairs.append((one, other)), compared(one, other))[1])
    cohort = evaluate(with_linkage=True)
    assert len(pairs) == 8 * 7 / 2  # of each two scans once, whichever is the probe
    original, air = cohort.methods
    surface, sinuses = original.linkage
    assert (surface.threat, surface.patients, surface.probes) == (UNTOUCHED, 4, 8)
    assert surface.rank1.value == 1.0 and original.linkage_advice.startswith("This scan can be linked to another CT")
    gone, _ = air.linkage
    assert (gone.threat, gone.rank1.value) == (ORIGINAL_TO_DEFACED, 0.0) and gone.missed == gone.probes
    assert air.linkage_advice == ""
    monkeypatch.setattr(library, "head_print", None)  # all is remembered
    monkeypatch.setattr(library, "compared", None)
    assert evaluate(with_linkage=True).as_dict() == cohort.as_dict()
    assert evaluate().methods[0].linkage == []
    report.write_cohort(cohort, tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "Linkage that no defacing stops" in page and "no part of any verdict" in page
    written = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))
    assert written["methods"][0]["linkage_advice"] == original.linkage_advice


@pytest.mark.slow
def test_old_memory_is_made_anew(brightness, table, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "read_ct", lambda path: sitk.ReadImage(str(path)))
    rows = [row for row in read_table(table)[:7] if row.method == "original"]
    first = library.evaluate_cohort(rows, tmp_path, model="brightness", views="quick")
    for file in tmp_path.glob("*.npz"):
        with np.load(file) as kept:
            older = {name: kept[name] for name in ("views", "scores", "embeddings", "picture")}
        np.savez_compressed(file, **older)
    again = library.evaluate_cohort(rows, tmp_path, model="brightness", views="quick")
    assert again.as_dict() == first.as_dict()


def test_methods_without_any_face_have_no_figures(brightness, table, tmp_path, monkeypatch):
    monkeypatch.setattr(library, "read_ct", lambda path: sitk.ReadImage(str(path)))
    monkeypatch.setattr(Brightness, "detect", lambda self, picture: [])
    cohort = library.evaluate_cohort(read_table(table)[:9], tmp_path, model="brightness", views="quick")
    assert all(method.faces == 0 and method.within["study"].auc is None for method in cohort.methods)
    report.write_cohort(cohort, tmp_path / "c.html")
    assert "So few faces were found that chance makes these figures: original (0)" in (tmp_path / "c.html").read_text()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("patient,path\na,b\n", "lacks the column “method”"),
        ("patient,scan,method,path\na,1,original,\n", "Line 2"),
        ("patient,scan,method,path\na,1,original,nowhere.nrrd\n", "does not exist"),
        ("patient,scan,method,path\na,1,original,x.nrrd\na,1,original,x.nrrd\n", "repeats"),
        ("patient,scan,method,path\na,1,original,x.nrrd\n", "fewer than two patients"),
        ("patient,original,method\na,x.nrrd,m\n", "lacks the column “defaced”"),
        ("patient,original,defaced,method\na,x.nrrd,x.nrrd,\n", "Line 2"),
        ("patient,original,defaced,method\na,x.nrrd,x.nrrd,m\na,x.nrrd,x.nrrd,m\n", "Line 3.*repeats"),
        ("patient,original,defaced,method\na,x.nrrd,,\na,y.nrrd,x.nrrd,m\n", "Line 3.*repeats"),
    ],
)
def test_bad_tables_end_in_one_sentence(text, sentence, tmp_path):
    (tmp_path / "x.nrrd").touch()
    (tmp_path / "y.nrrd").touch()
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        read_table(tmp_path / "table.csv")


def test_a_table_of_pairs_names_the_same_volumes(table, tmp_path):
    rows = read_table(table)
    pairs = pairs_of(rows)
    assert len(pairs) == 16 and {pair["method"] for pair in pairs} == {"cut", "air"}
    assert set(check_table(pairs)) == set(rows)
    alone = pairs_of([row for row in rows if row.method == "original"])
    assert len(alone) == 8 and set(check_table(alone)) == {row for row in rows if row.method == "original"}


def test_pairs_are_found_in_two_folders(tmp_path):
    for place in ("in/sub-1/ct.nii.gz", "in/sub-1/other.nii.gz", "in/süß 2.nrrd", "in/only here.nrrd"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(place.encode())
    for place in ("out/sub-1/ct_defaced.nii.gz", "out/sub-1/other.nrrd", "out/süß 2 defaced.mha"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(place.encode())
    pairs = pairs_in(tmp_path / "in", tmp_path / "out", "m")
    named = sorted((pair["patient"], pair["scan"]) for pair in pairs)
    assert named == [("1", "1"), ("1", "2"), ("süß 2", "1")]
    assert len(check_table(pairs)) == 6
    with pytest.raises(InputError, match="same name"):
        pairs_in(tmp_path / "out", tmp_path / "in" / "sub-1", "m")
    with pytest.raises(InputError, match="folder"):
        pairs_in(tmp_path / "nowhere", tmp_path / "out", "m")


def test_other_bad_input(brightness, table, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "none.csv")
    monkeypatch.setattr(Brightness, "embeds", False)
    with pytest.raises(CTDefaceError, match="cannot tell people apart"):
        library.evaluate_cohort(read_table(table), tmp_path, model="brightness")
    monkeypatch.setattr(Brightness, "embeds", True)
    broken = tmp_path / "broken.nrrd"
    broken.write_bytes(b"no")
    rows = [Row("a", "1", "original", broken)]
    with pytest.raises(InputError, match="Volume 1 of the table"):
        library.evaluate_cohort(rows, tmp_path, model="brightness")
