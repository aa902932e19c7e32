"""Reports: one page that needs nothing else, every number beside it, nobody's name in it; and the command."""

import argparse
import csv
import json
import re
import shutil
from html.parser import HTMLParser

import dicom_files
import numpy as np
import poor_defacings
import pytest
import SimpleITK as sitk
from CTDefaceEvalLib import charts, cli, companions, report
from CTDefaceEvalLib.evaluation import evaluate
from CTDefaceEvalLib.face_models import load_model
from CTDefaceEvalLib.pages import FACE_NOTICE
from CTDefaceEvalLib.settings import Settings
from CTDefaceEvalLib.views import head_pose
from CTDefaceLib.errors import InputError, OutputError
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.render import Renderer, skin_surface, write_png
from CTDefaceLib.volume_io import read_ct
from stored_phantoms import stored_phantom

pytest.importorskip("dlib")


pytestmark = pytest.mark.usefixtures("light_evaluations")

JOINED = ("greatest", "least", "mean")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An original, and a folder that is shared: a defaced volume with its mask and a thumbnail."""
    folder = tmp_path_factory.mktemp("Müller share")
    image = stored_phantom(PhantomParameters(person=0, spacing=(2.0, 2.0, 2.0), matrix=(110, 130))).image
    pose = head_pose(image)
    shell = poor_defacings.face_shell(image, pose, 25.0).astype(np.uint8)
    mask = sitk.GetImageFromArray(shell)
    mask.CopyInformation(image)
    hu = sitk.GetArrayFromImage(image)
    air = np.random.default_rng(0).choice(hu[hu < -900], hu.shape)
    (folder / "shared").mkdir()
    sitk.WriteImage(image, str(folder / "Müller.nii.gz"))
    sitk.WriteImage(
        poor_defacings.with_values(image, np.where(shell, air, hu)), str(folder / "shared" / "defaced.nii.gz")
    )
    sitk.WriteImage(mask, str(folder / "shared" / "mask.nii.gz"))
    write_png(
        folder / "shared" / "thumb.png",
        Renderer().picture(skin_surface(image), size=200, axes=pose.axes, center=pose.center),
    )
    (folder / "shared" / "broken.nii.gz").write_bytes(b"no image")
    (folder / "shared" / "notes.txt").write_text("nothing")
    return folder


@pytest.fixture(scope="module")
def others():
    return [stored_phantom(PhantomParameters(person=8, spacing=(3.0, 3.0, 3.0), matrix=(75, 88))).image]


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.sources, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img", "line", "rect", "path", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("meta", "img", "line", "rect", "path", "polyline"):
            assert self.open.pop() == tag


@pytest.mark.slow
def test_what_lies_beside_is_found_and_the_report_says_so(folder, others, tmp_path):
    original = sitk.ReadImage(str(folder / "Müller.nii.gz"))
    path = folder / "shared" / "defaced.nii.gz"
    settings = Settings(("dlib-hog",), None, "quick", ("constant region",))
    result = evaluate(original, sitk.ReadImage(str(path)), settings, others=others, beside=path)
    assert [name for name in result.verdict.recovered_by] == ["mask beside it 1"]
    assert result.pictures_beside == ["A picture (.png) beside it shows a face, found by dlib-hog."]
    assert "mask beside it" in result.verdict.sentence and "picture beside it" in result.verdict.sentence

    page = tmp_path / "report.html"
    report.write_evaluation(result, page)
    html = page.read_text(encoding="utf-8")
    links = Links()
    links.feed(html)
    assert (
        not links.open
        and links.sources
        and all(source.startswith("data:image/png;base64,") for source in links.sources)
    )
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", html) and "<script" not in html
    assert "@media print" in html and FACE_NOTICE in html and result.verdict.sentence in html
    with open(tmp_path / "report.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(result.grid) * len(result.subjects)
    numbers = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    found = [row for row in rows if row["subject"] == "original" and row["score"]]
    assert len(found) == numbers["subjects"][0]["models"]["dlib-hog"]["views_found"]
    for text in (html, json.dumps(numbers), (tmp_path / "report.csv").read_text(encoding="utf-8")):
        assert not re.search("M.{1,6}ller", text) and "thumb" not in text

    with pytest.raises(OutputError, match="exists"):
        report.write_evaluation(result, page)
    report.write_evaluation(result, page, pictures=False, overwrite=True)
    assert "<img" not in page.read_text(encoding="utf-8")


def test_only_the_same_patients_other_scans_count(folder, tmp_path):
    defaced = sitk.ReadImage(str(folder / "shared" / "defaced.nii.gz"))
    sitk.WriteImage(defaced, str(tmp_path / "defaced.nii.gz"))
    coarse = sitk.BinShrink(sitk.ReadImage(str(folder / "Müller.nii.gz")), [2, 2, 1])
    sitk.WriteImage(coarse, str(tmp_path / "thick.nrrd"))
    noise = np.random.default_rng(0).uniform(-1000, 1000, (40, 40, 40))
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(tmp_path / "elsewhere.mha"))
    names = [found.name for found in companions.volumes_beside(tmp_path / "defaced.nii.gz", defaced)]
    assert names == ["another scan beside it 1", *(f"union of series, {how} of 2" for how in JOINED)]
    ignored = companions.volumes_beside(tmp_path / "defaced.nii.gz", defaced, [tmp_path / "thick.nrrd"])
    assert list(ignored) == []
    assert companions.pictures_beside(tmp_path / "defaced.nii.gz", [load_model("dlib-hog")]) == []


@pytest.mark.slow
def test_what_lies_in_folders_with_dicom_series_is_found(folder, tmp_path):
    image = sitk.Cast(sitk.ReadImage(str(folder / "Müller.nii.gz")), sitk.sitkInt16)
    dicom_files.write_series(tmp_path / "defaced", sitk.ReadImage(str(folder / "shared" / "defaced.nii.gz")))
    dicom_files.write_series(tmp_path / "study", image, SeriesNumber=2)
    for path in dicom_files.write_series(tmp_path / "coarse", sitk.BinShrink(image, [2, 2, 1]), SeriesNumber=4):
        path.rename(tmp_path / "study" / f"coarse {path.name}")
    (tmp_path / "coarse").rmdir()
    shutil.copy(folder / "shared" / "thumb.png", tmp_path / "defaced" / "thumb.png")
    defaced = read_ct(tmp_path / "defaced")
    names = [found.name for found in companions.volumes_beside(tmp_path / "defaced", defaced)]
    scans = ["another scan beside it 1", "another scan beside it 2"]
    assert names == scans + [f"union of series, {how} of 3" for how in JOINED]
    assert len(companions.pictures_beside(tmp_path / "defaced", [load_model("dlib-hog")])) == 1


def test_report_names_are_checked_before_the_work(tmp_path):
    with pytest.raises(OutputError, match=r"\.html"):
        report.check_report(tmp_path / "report.pdf")
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(OutputError, match="exists"):
        report.check_report(tmp_path / "r.html")


def test_charts_are_well_formed_and_escape_names():
    chart = charts.line_chart(
        [("a<b", [0, 1], [0, 1]), ("c", [], [])], "x & y", "y", y_range=None, marks=[("here", 0.5)]
    )
    Links().feed(chart)
    assert "a&lt;b" in chart and "x &amp; y" in chart
    x, y = charts.density([0.1, 0.1, 0.9], 0.0, 1.0, 10)
    assert len(x) == 10 and sum(y) == pytest.approx(1.0) and y[1] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("limits", "whole", "expected"),
    [
        ((0.0, 1.0), False, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ((0.66, 1.0), False, ["0.7", "0.8", "0.9", "1.0"]),
        ((-0.013, 0.0234), False, ["-0.01", "0.00", "0.01", "0.02"]),
        ((-1000.0, 2000.0), True, ["-1000", "0", "1000", "2000"]),
        ((1.0, 4.0), True, ["1", "2", "3", "4"]),
        ((1.0, 24.0), True, ["1", "5", "10", "15", "20"]),
    ],
)
def test_charts_have_round_numbers_below_them(limits, whole, expected):
    chart = charts.line_chart([("a", limits, [0, 1])], "x", "y", x_range=limits, whole_x=whole)
    below = re.findall(r'text-anchor="middle">(-?[0-9.]+)<', chart)
    beside = re.findall(r'text-anchor="end">(-?[0-9.]+)<', chart)
    assert (below, beside) == (expected, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"])


# ---------------------------------------------------------------------------------------------------------- the command


def command(*arguments):
    parser = argparse.ArgumentParser("ctdeface evaluate", description=cli.DESCRIPTION, epilog=cli.EPILOG)
    cli.add_arguments(parser)
    parser.set_defaults(error=parser.error)
    return cli.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.mark.slow
def test_command_evaluates_a_pair(folder, tmp_path, capsys):
    options = ["--models", "dlib-hog", "--views", "quick", "--attacks", "--alone", "--no-pictures"]
    volumes = [folder / "Müller.nii.gz", folder / "Müller.nii.gz"]
    page = tmp_path / "report.html"
    assert command(*volumes, "-o", page, *options, "--others", folder / "Müller.nii.gz") == 0
    assert capsys.readouterr().out.startswith("recognisable: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.csv", "report.html", "report.json"]
    assert command(volumes[0], "-o", page, *options, "--overwrite", "--strict") == 3
    image = read_ct(volumes[0])
    for number in (1, 2):
        dicom_files.write_series(tmp_path / "dicom" / str(number), image, SeriesNumber=number)
    with pytest.raises(InputError, match="by its number .--series"):
        command(tmp_path / "dicom", "-o", page, *options, "--overwrite")
    assert command(tmp_path / "dicom", "-o", page, *options, "--overwrite", "--strict", "--series", "2") == 3


@pytest.mark.slow
def test_command_tells_what_a_pair_cost(folder, tmp_path):
    """Beside the verdict: what was replaced, of a structure as well, its dose, and the shape of the face."""
    image, page = sitk.ReadImage(str(folder / "Müller.nii.gz")), tmp_path / "report.html"
    sitk.WriteImage(image > 300, str(tmp_path / "bone.nii.gz"))
    sitk.WriteImage(sitk.ReadImage(str(folder / "shared" / "defaced.nii.gz")) > 300, str(tmp_path / "after.nii.gz"))
    sitk.WriteImage(sitk.Cast(image * 0 + 20, sitk.sitkFloat32), str(tmp_path / "dose.nrrd"))
    options = ["--models", "dlib-hog", "--views", "quick", "--attacks", "--alone", "--no-pictures"]
    options += ["--others", folder / "Müller.nii.gz", "--preservation", "--dose", tmp_path / "dose.nrrd"]
    options += ["--structures", tmp_path / "bone.nii.gz", tmp_path / "after.nii.gz"]
    assert command(folder / "Müller.nii.gz", folder / "shared" / "defaced.nii.gz", "-o", page, *options) == 0
    numbers = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    cost, html = numbers["preservation"], page.read_text(encoding="utf-8")
    (bone,) = cost["structures"]
    kept_ml = bone["volume_ml"] - bone["replaced_ml"]
    assert 0.5 < bone["dice"] < 1.0 and kept_ml == pytest.approx(bone["defaced_ml"], rel=0.02)
    assert bone["dose"] == [20.0, 20.0] and cost["head"]["tissue_replaced_ml"] > 100.0
    assert "What it cost" in html and "surface Dice, 2 mm" in html and "20.00 → 20.00" in html
    shape = next(one["shape"] for one in numbers["subjects"] if one["name"] == "defaced")
    assert "Shape of the face" in html and shape["mean_mm"] > 2.0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a", "--preservation", "-o", "r.html"],
        ["a", "b", "--structures", "s.nrrd", "-o", "r.html"],
        ["a", "b", "--preservation", "--structures", "s.nrrd", "t.nrrd", "u.nrrd", "-o", "r.html"],
        ["a", "b", "--preservation", "--dose", "d.nrrd", "-o", "r.html"],
        ["-o", "r.html"],
        ["a", "b"],
        ["a", "b", "c", "-o", "r.html"],
        ["a", "--cohort", "t.csv", "-o", "r.html"],
        ["--cohort", "t.csv", "-o", "r.html", "--series", "2"],
        ["a", "b", "-o", "r.pdf"],
        ["a", "b", "-o", "r.html", "--models", "nobody"],
    ],
)
def test_wrong_usage(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        command(*arguments)
    assert stop.value.code == 2 and "error:" in capsys.readouterr().err


def test_command_lists_models_and_refuses_missing_scans(tmp_path, capsys):
    assert command("--list-models") == 0
    assert "opencv-haar" in capsys.readouterr().out
    with pytest.raises(InputError):
        command(tmp_path / "none.nii.gz", tmp_path / "none.nii.gz", "-o", tmp_path / "r.html")
