"""The CTDefaceEval module in the stand-in for Slicer: clicked through as a user does, and called from the console."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import batch_cases
import gui
import numpy as np
import poor_defacings
import pytest
import SimpleITK as sitk
import slicer
from CTDefaceEvalLib.cohort_table import PAIR_COLUMNS
from CTDefaceEvalLib.face_models import DEFAULT_MODELS, MODELS, DlibHog, InsightFace, OpenCvHaar, insightface_pack
from CTDefaceEvalLib.findings import Level, MethodResult, Scale
from CTDefaceEvalLib.identification import ORIGINAL_TO_DEFACED
from CTDefaceEvalLib.pairs import BY_PATIENT
from CTDefaceEvalLib.tasks import DownloadModels
from CTDefaceEvalLib.views import head_pose
from CTDefaceEvalSlicer import cohort_node, evaluation_panel, head_views, parameters, results
from CTDefaceEvalSlicer.head_views import DEFACED, NAMES, ORIGINAL, RECOVERED
from CTDefaceEvalSlicer.tasks import Task
from CTDefaceLib import tasks
from CTDefaceLib.errors import CTDefaceError, NotReadyError
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.pipeline import deface
from CTDefaceLib.volume_io import read_ct
from CTDefaceSlicer.shared import hints, nodes, packages, views
from gui import run_for, wait
from scipy.spatial.transform import Rotation
from slicer import packaging
from stored_phantoms import stored_phantom

import qt  # isort: skip

pytestmark = pytest.mark.gui
pytest.importorskip("dlib", reason="the face models need dlib-bin")
PICTURES = os.environ.get("CTDEFACE_PICTURES")  # a folder that keeps the screenshots for a look
SCALE = Scale([0.98, 0.99], [0.85, 0.86])
SCANS = ["phantom", "head_ct_brain_fov.nii.gz", "head_ct_full_face_lowres.nii.gz"]


@pytest.fixture
def panel(monkeypatch):
    with gui.user("CTDefaceEval") as panel:
        slicer.app.resumeRender()  # the meter looks at what is drawn
        monkeypatch.setattr(panel.logic, "measureScale", lambda volume, model, done, **callbacks: done(SCALE))
        yield panel
        slicer.app.pauseRender()


@pytest.fixture(scope="session")
def pairs(real_data):
    """Original and defaced image of a scan by its name; the phantom has large voxels, so that the tests are quick."""
    made = {}

    def find(name):
        if name not in made:
            if name == "phantom":
                image = batch_cases.head()
            elif name == "phantom, finer":
                image = stored_phantom(PhantomParameters(matrix=(128, 128), spacing=(2.0, 2.0, 2.0))).image
            else:
                image = read_ct(real_data(name))
            made[name] = image, deface(image).image
        return made[name]

    return find


@pytest.fixture
def one_model(monkeypatch):
    """Sweeps and attacks with the quicker of the models only, where it does not matter which."""
    monkeypatch.setattr(parameters, "DEFAULT_MODELS", (DlibHog.name,))


@pytest.fixture
def volumes(panel, pairs):
    """The phantom and its defaced version in the scene, shown side by side."""
    return show(panel, *pairs("phantom"))


def show(panel, original, defaced=None):
    nodes = [gui.volume(original, "Head CT")]
    if defaced is not None:
        nodes.append(gui.volume(defaced, "Head CT defaced"))
        nodes[1].SetNodeReferenceID("CTDeface.original", nodes[0].GetID())
    panel.preselect()
    wait(lambda: panel.headsPanel.head is not None)
    run_for(0.1)
    return nodes


def keep(widget, name, folder):
    run_for(0.1)
    return gui.picture(widget, Path(PICTURES or folder) / f"{name}.png")


def shown_results():
    """The table and the chart below the heads; the layout may have other views of their kind from before."""
    scene, layout = slicer.mrmlScene, slicer.app.layoutManager()
    assert head_views.shownHeads() and layout.layout > head_views.RESULTS_LAYOUT
    return (
        scene.GetSingletonNode(head_views.TABLE_VIEW, "vtkMRMLTableViewNode").GetTableNode(),
        scene.GetSingletonNode(head_views.PLOT_VIEW, "vtkMRMLPlotViewNode").GetPlotChartNode(),
    )


def cameras(names=(ORIGINAL, DEFACED)):
    logic = slicer.modules.cameras.logic()
    return [logic.GetViewActiveCameraNode(head_views.viewNode(name)) for name in names]


def turn(degrees):
    """What the mouse does: turn the head about its long axis in the left view."""
    camera = cameras()[0]
    camera.SetInteracting(1)
    camera.SetInteractionFlags(camera.CameraInteractionFlag)
    focus = np.array(camera.GetFocalPoint())
    x, y, z = np.array(camera.GetPosition()) - focus
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    camera.SetPosition(*(focus + [c * x - s * y, s * x + c * y, z]))
    camera.SetInteracting(0)


def come_to_rest(panel):
    """Let the meter score the heads at rest."""
    run_for(0.6)
    wait(lambda: not panel.logic.meterProcess.busy)


class Answers(list):
    """What the meter was answered, and the pictures that it sent."""

    def __init__(self, panel, monkeypatch):
        meter, save = panel.meterPanel.meter, panel.logic.meterProcess.save
        show = meter.answered
        self.pictures = []
        monkeypatch.setattr(meter, "answered", lambda answer: (self.append(answer), show(answer)))
        monkeypatch.setattr(
            panel.logic.meterProcess,
            "save",
            lambda name, array: (self.pictures.append((name, array)), save(name, array))[1],
        )

    def at_rest(self):
        """Wait for the answer at rest, and return it."""
        wait(lambda: self and "similarities" in self[-1] or len(self) > 3)
        return self[-1]


@pytest.fixture
def answers(panel, monkeypatch):
    return Answers(panel, monkeypatch)


# ------------------------------------------------------------------------------------------------ volumes, views, meter


@pytest.mark.parametrize("name", SCANS)
def test_the_heads_side_by_side_and_the_live_meter(panel, answers, pairs, name, tmp_path):
    ui = panel.ui
    assert "Load a head CT" in ui.inputHintLabel.text
    assert not ui.showButton.enabled
    original, defaced = show(panel, *pairs(name))
    assert (ui.originalSelector.currentNode(), ui.defacedSelector.currentNode()) == (original, defaced)
    assert not ui.inputHintLabel.visible

    # two linked views, each with its own head only, from the front
    mapped = [n for n in slicer.util.getNodesByClass("vtkMRMLViewNode") if n.IsMappedInLayout()]
    assert [n.GetName() for n in mapped] == ["ViewCTDefaceEvalOriginal", "ViewCTDefaceEvalDefaced"]
    assert all(node.GetLinkedControl() for node in mapped)
    assert len({node.GetViewGroup() for node in mapped}) == 1
    for node, head in zip(mapped, (ORIGINAL, DEFACED)):
        assert list(head_views.surface(head).GetDisplayNode().GetViewNodeIDs()) == [node.GetID()]
    left, right = cameras()
    assert np.allclose(left.GetPosition(), right.GetPosition())
    direction = np.subtract(left.GetPosition(), left.GetFocalPoint())
    assert np.argmax(direction) == 1  # in front, a little up or down where the head is tilted

    # what is found is shown in words and drawn
    answer = answers.at_rest()
    assert answer["faces"]["original"]["score"] > 0
    assert answer["faces"]["defaced"] is None
    assert "face found" in ui.originalScoreLabel.text
    assert ui.defacedScoreLabel.text == "no face found"
    assert "like another head" in ui.similarityLabel.text or answer["similarities"]["defaced"] > 0.92
    assert "same head 0.98" in ui.similarityLabel.text.replace("0.99", "0.98")
    pixels = keep(gui.window, f"eval-{name}-meter", tmp_path)
    marks = (pixels[:, :, 0] > 200) & (pixels[:, :, 1] > 170) & (pixels[:, :, 2] < 90)
    assert marks.sum() > 300
    landmarks = np.array(answer["faces"]["original"]["landmarks"])
    left, top, right, bottom = answer["faces"]["original"]["box"]
    assert len(landmarks) == 5 and np.all((landmarks > [left, top]) & (landmarks < [right, bottom]))


def test_what_is_scored_is_what_is_seen_without_the_marks(panel, volumes, answers):
    answers.at_rest()
    shown, count = dict(answers.pictures), len(answers)
    panel.meterPanel.meter.refresh()
    wait(lambda: len(answers) > count)
    again = dict(answers.pictures)
    assert shown[ORIGINAL] is not again[ORIGINAL]
    assert np.array_equal(shown[ORIGINAL], again[ORIGINAL])
    view = head_views.threeDView(ORIGINAL)
    view._draw()
    columns, rows = view.renderWindow().GetSize()
    size, middle = min(columns, rows), (rows - min(columns, rows)) // 2
    drawn = view._pixels[middle : middle + size, :size]
    differ = np.any(drawn != again[ORIGINAL], axis=2)
    assert 100 < differ.sum() < 0.05 * differ.size, "only box and landmarks are drawn over it"


def test_the_standard_rendering_shows_the_same_face(panel, volumes, answers):
    seen = answers.at_rest()
    marks = panel.meterPanel.meter.marks(ORIGINAL)
    box = np.array([marks.lines.GetPoints().GetPoint(i)[:2] for i in range(8)])
    count = len(answers)
    panel.ui.pictureComboBox.currentIndex = 1
    wait(lambda: len(answers) > count)
    standard = answers[-1]
    assert standard["sizes"][ORIGINAL] == 300
    assert standard["faces"][ORIGINAL] and not standard["faces"][DEFACED]
    assert abs(standard["faces"][ORIGINAL]["score"] - seen["faces"][ORIGINAL]["score"]) < 0.6
    marks = panel.meterPanel.meter.marks(ORIGINAL)
    other = np.array([marks.lines.GetPoints().GetPoint(i)[:2] for i in range(8)])
    size = min(head_views.threeDView(ORIGINAL).renderWindow().GetSize())
    assert np.abs(box.mean(axis=0) - other.mean(axis=0)).max() < 0.12 * size
    assert np.array_equal(np.round(answers.pictures[-1][1], 3), [0, 0])


def test_turning_turns_both_and_is_scored_without_a_queue(panel, volumes, answers):
    answers.at_rest()
    count, jobs = len(answers), panel.logic.meterProcess.count
    for _step in range(60):
        turn(1.0)
        assert np.allclose(*(camera.GetPosition() for camera in cameras()))
        run_for(0.02)
    while_turning = len(answers) - count
    assert while_turning >= 2
    assert not any("similarities" in answer for answer in answers[count:]), "similarity is for the head at rest"
    run_for(0.5)
    wait(lambda: not panel.logic.meterProcess.busy)
    assert panel.logic.meterProcess.count - jobs <= while_turning + 4, "what is late is left out"
    yaw, pitch = panel.headsPanel.head.angles(cameras()[0])
    assert abs(abs(yaw) - 60) < 3
    assert answers[-1]["faces"][ORIGINAL] is None
    panel.ui.frontButton.click()
    wait(lambda: answers[-1]["faces"][ORIGINAL])
    assert np.allclose(panel.headsPanel.head.angles(cameras()[0]), 0, atol=0.1)


def tilt(degrees):
    """What the mouse does with a modifier: turn the head clockwise in the views."""
    camera = cameras()[0]
    camera.SetInteracting(1)
    camera.SetInteractionFlags(camera.CameraInteractionFlag)
    towards = np.subtract(camera.GetPosition(), camera.GetFocalPoint())
    turned = Rotation.from_rotvec(np.radians(degrees) * towards / np.linalg.norm(towards))
    camera.SetViewUp(*turned.apply(camera.GetViewUp()))
    camera.SetInteracting(0)


@pytest.mark.parametrize("degrees", [35, -35])
def test_a_tilted_head_is_straightened_before_it_is_scored(panel, volumes, answers, degrees):
    answers.at_rest()
    count, before = len(answers), _box_in_the_view(panel)
    tilt(degrees)
    assert abs(panel.headsPanel.head.roll(cameras()[0]) - degrees) < 0.1
    wait(lambda: len(answers) > count and "similarities" in answers[-1])
    assert answers[-1]["faces"][ORIGINAL] is not None, "a face that is tilted is still a face"
    # and its box lies where it is seen: turned about the middle of the view like the head
    middle = np.array(head_views.threeDView(ORIGINAL).renderWindow().GetSize()) / 2
    c, s = np.cos(np.radians(-degrees)), np.sin(np.radians(-degrees))
    expected = (before - middle) @ np.array([[c, s], [-s, c]]) + middle
    assert np.abs(_box_in_the_view(panel).mean(axis=0) - expected.mean(axis=0)).max() < 0.08 * 2 * middle.min()


def test_a_head_upside_down_is_called_tilted_and_not_passed(panel, volumes, answers, monkeypatch):
    answers.at_rest()
    assert hints.goodColor(panel.ui.defacedScoreLabel) in panel.ui.defacedScoreLabel.styleSheet
    start = panel.logic.meterProcess.start

    def blind(task, done, **callbacks):
        start(task, done=lambda answer: done({**answer, "faces": dict.fromkeys(answer["faces"])}), **callbacks)

    monkeypatch.setattr(panel.logic.meterProcess, "start", blind)
    count = len(answers)
    tilt(180)
    wait(lambda: len(answers) > count)
    for label in (panel.ui.originalScoreLabel, panel.ui.defacedScoreLabel):
        assert label.text == "tilted: turn it upright" and hints.goodColor(label) not in label.styleSheet
    tilt(180)
    count = len(answers)
    wait(lambda: len(answers) > count + 1 or panel.ui.defacedScoreLabel.text == "no face found")
    assert panel.ui.defacedScoreLabel.text == "no face found"


def _box_in_the_view(panel):
    points = panel.meterPanel.meter.marks(ORIGINAL).lines.GetPoints()
    return np.array([points.GetPoint(i)[:2] for i in range(8)])


def test_the_pictures_of_one_answer_show_one_side(panel, volumes, answers):
    answers.at_rest()
    come_to_rest(panel)
    slow, count = head_views.threeDView(DEFACED), len(answers)
    slow.pauseRender()
    turn(5)
    run_for(0.1)
    turn(20)
    run_for(0.05)
    slow.resumeRender()
    wait(lambda: len(answers) > count)
    moving = dict(answers.pictures)
    wait(lambda: len(answers) > count + 1)
    assert np.array_equal(moving[ORIGINAL], dict(answers.pictures)[ORIGINAL])


def test_the_meter_can_be_switched_off(panel, volumes, answers):
    answers.at_rest()
    windows = [head_views.threeDView(name).renderWindow() for name in (ORIGINAL, DEFACED)]
    layers = [window.GetRenderers().GetNumberOfItems() for window in windows]
    panel.ui.meterCheckBox.click()
    wait(lambda: not panel.meterPanel.meter.running)
    assert not panel.ui.meterFrame.visible
    assert [window.GetRenderers().GetNumberOfItems() for window in windows] == [n - 1 for n in layers]
    count = len(answers)
    turn(20)
    run_for(0.8)
    assert len(answers) == count
    panel.ui.meterCheckBox.click()
    wait(lambda: len(answers) > count)


def test_one_volume_alone_is_shown_and_scored(panel, pairs, answers):
    show(panel, pairs("phantom")[0])
    wait(lambda: answers)
    assert answers[0]["faces"].keys() == {ORIGINAL}
    assert not panel.ui.defacedScoreLabel.visible
    assert head_views.threeDView(DEFACED) is None or not head_views.viewNode(DEFACED).IsMappedInLayout()


def test_volume_rendering_instead_of_the_surface(panel, volumes, answers, tmp_path):
    answers.at_rest()
    count = len(answers)
    panel.ui.renderingComboBox.currentIndex = 1
    wait(lambda: views.rendering(volumes[0]) is not None)
    assert not head_views.surface(ORIGINAL).GetDisplayNode().GetVisibility()
    wait(lambda: len(answers) > count)
    keep(gui.window, "eval-volume-rendering", tmp_path)
    panel.ui.renderingComboBox.currentIndex = 0
    wait(lambda: views.rendering(volumes[0]) is None)
    assert head_views.surface(ORIGINAL).GetDisplayNode().GetVisibility()


def test_the_heads_stay_whole_when_the_views_change_their_shape(panel, volumes, answers):
    answers.at_rest()

    def millimetres():
        """Side of the square in the middle of the view."""
        columns, rows = head_views.threeDView(ORIGINAL).renderWindow().GetSize()
        return 2 * cameras()[0].GetParallelScale() * min(columns, rows) / rows

    shown, sizes, count = millimetres(), gui.splitter.sizes(), len(answers)
    cameras()[0].SetParallelScale(cameras()[0].GetParallelScale() * 0.9)  # the user's zoom stays as well
    for widths in ([900, 430], [130, 1200]):
        gui.splitter.setSizes(widths)
        run_for(0.3)
        assert abs(millimetres() - 0.9 * shown) < 0.5
    gui.splitter.setSizes(sizes)
    wait(lambda: len(answers) > count and "similarities" in answers[-1])
    assert abs(millimetres() - 0.9 * shown) < 0.5
    assert answers[-1]["faces"][ORIGINAL]


def test_a_view_that_had_no_height_yet_shows_the_whole_head(panel, volumes, answers):
    answers.at_rest()
    view = head_views.threeDView(ORIGINAL)
    window, size = view.renderWindow(), view.renderWindow().GetSize()
    shown = cameras()[0].GetParallelScale()
    for columns, rows in ((400, 0), (0, 0)):
        window.SetSize(columns, rows)
        head_views.turnTo(panel.headsPanel.head)
        assert cameras()[0].GetParallelScale() > 0
        window.SetSize(*size)
        view._draw()
        assert np.isclose(cameras()[0].GetParallelScale(), shown)


def test_titles_and_colours_of_the_views_outlive_the_scene(panel, volumes):
    def headers():
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        head_views.showLayout(3)
        nodes = [head_views.viewNode(name) for name in NAMES]
        slicer.app.layoutManager().setLayout(views.COMPARE_LAYOUT)
        for kind, tag in (("View", "3D"), ("Slice", "")):
            nodes += [slicer.mrmlScene.GetSingletonNode(n + tag, f"vtkMRML{kind}Node") for n in views.COMPARE_VIEWS]
        return [(n.GetLayoutLabel(), np.round(n.GetLayoutColor(), 2).tolist(), n.GetViewGroup()) for n in nodes]

    before = headers()
    assert [label for label, _color, _group in before] == ["Original", "Defaced", "Recovered", *views.COMPARE_VIEWS * 2]
    assert len({str(color) for _label, color, _group in before[:3]}) == 3
    slicer.mrmlScene.Clear()
    run_for(0.1)
    assert headers() == before


def test_a_scene_saved_with_the_heads_shows_them_in_a_slicer_that_has_just_started(panel, volumes, tmp_path):
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"), {})
    code = (
        "import sys\n"
        f"sys.path[:0] = [{str(gui.CHECKOUT / 'Testing')!r}]\n"
        "import gui, slicer\n"
        f"slicer.util.loadScene({str(tmp_path / 'scene.mrb')!r})\n"
        "gui.run_for(0.1)\n"
        "views = slicer.util.getNodesByClass('vtkMRMLViewNode')\n"
        "print(sorted(node.GetSingletonTag() for node in views if node.IsMappedInLayout()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=400)
    assert done.stdout.strip().split("\n")[-1] == "['CTDefaceEvalDefaced', 'CTDefaceEvalOriginal']", done.stderr


def test_the_scale_of_other_volumes_is_measured_when_there_is_time(panel, volumes, monkeypatch):
    process, waiting = panel.logic.process, []
    isBusy = type(process).busy.fget
    monkeypatch.setattr(
        type(process), "busy", property(lambda self: bool(waiting) if self is process else isBusy(self))
    )
    monkeypatch.setattr(panel.logic, "measureScale", lambda volume, model, **calls: waiting.append((volume, calls)))
    panel.meterPanel.scales.clear()
    panel.meterPanel.startOrStop()
    panel.ui.originalSelector.setCurrentNode(volumes[1])
    panel.ui.defacedSelector.setCurrentNode(volumes[0])
    wait(lambda: panel.headsPanel.key and panel.headsPanel.key[0][0] == volumes[1].GetID())
    assert [volume for volume, _calls in waiting] == [volumes[0]]
    waiting.pop()[1]["done"](SCALE)
    assert [volume for volume, _calls in waiting] == [volumes[1]]
    waiting.pop()[1]["failed"](CTDefaceError("no"))
    assert not waiting and not panel.busy, "it is not tried again and again"


def test_what_is_handed_over_by_ctdeface_is_shown(panel, pairs):
    gui.host.select_module("CTDeface")
    first = gui.volume(pairs("phantom")[0], "Another")
    original, defaced = (gui.volume(image, "CT") for image in pairs("phantom"))
    slicer.util.getModuleWidget("CTDeface").logic.evaluate(original, defaced)
    wait(lambda: panel.headsPanel.head is not None)
    ui = panel.ui
    assert (ui.originalSelector.currentNode(), ui.defacedSelector.currentNode()) == (original, defaced)
    assert head_views.surface(ORIGINAL).GetNodeReference(head_views.SURFACE_OF) is original is not first


def test_the_heads_follow_a_transform(panel, pairs):
    nodes = [gui.volume(image, "CT") for image in pairs("phantom")]
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    matrix[:3, 3] = 10, 20, 30
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    plain = panel.logic.findHeads(*nodes)
    for node in nodes:
        node.SetAndObserveTransformNodeID(transform.GetID())
    moved = panel.logic.findHeads(*nodes)
    assert np.allclose(moved.center, matrix[:3, :3] @ plain.center + matrix[:3, 3])
    assert np.allclose(moved.side(30, 10)[0], matrix[:3, :3] @ plain.side(30, 10)[0])
    assert head_views.surface(ORIGINAL).GetTransformNodeID() == transform.GetID()


def test_bad_volumes_end_in_a_sentence(panel, pairs):
    original, defaced = pairs("phantom")
    shifted = sitk.Image(defaced)
    shifted.SetOrigin((1.0, 2.0, 3.0))
    first, second, noise = (
        gui.volume(original, "CT"),
        gui.volume(shifted, "Shifted"),
        gui.volume(
            sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (20, 20, 20)).astype("int16")), "No"
        ),
    )
    ui = panel.ui
    ui.originalSelector.setCurrentNode(first)
    ui.defacedSelector.setCurrentNode(second)
    wait(lambda: "same grid" in ui.inputHintLabel.text)
    ui.defacedSelector.setCurrentNode(first)
    assert "two different" in ui.inputHintLabel.text
    ui.defacedSelector.setCurrentNode(noise)
    assert ui.inputHintLabel.text == nodes.ctProblem(noise)
    assert not ui.showButton.enabled
    ui.defacedSelector.setCurrentNode(None)
    wait(lambda: panel.headsPanel.head is not None and not ui.inputHintLabel.visible)


# -------------------------------------------------------------------------------------------- sweep, attack and verdict


QUICK = 1


def sweep(panel):
    panel.ui.viewsComboBox.currentIndex = QUICK
    panel.ui.sweepButton.click()
    assert panel.ui.sweepButton.text == "Cancel"
    assert panel.ui.sweepProgressBar.visible
    wait(lambda: not panel.busy, 120)


def attack(panel):
    panel.ui.attackButton.click()
    assert panel.ui.attackButton.text == "Cancel"
    wait(lambda: not panel.busy, 120)


@pytest.mark.parametrize("name", SCANS[:2])
def test_from_the_sweep_to_the_report_by_mouse(panel, pairs, name, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluation_panel, "ATTACKS", ("lowered iso",))
    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", opened.append)
    ui = panel.ui
    assert not ui.sweepButton.enabled and not ui.attackButton.enabled and not ui.reportButton.enabled
    assert "step 1" in ui.sweepHintLabel.text
    isPoor = name == "phantom"  # and the real head is defaced well
    original, defaced = pairs("phantom, finer" if isPoor else name)
    models = (DlibHog.name, OpenCvHaar.name) if isPoor else (DlibHog.name,)  # dlib-cnn takes a hundred times as long
    monkeypatch.setattr(parameters, "DEFAULT_MODELS", models)
    if isPoor:
        defaced = poor_defacings.constant_filled(original, head_pose(original))
    volumes = show(panel, original, defaced)
    assert "step 3" in ui.verdictHintLabel.text
    assert not ui.mapFrame.visible

    # 3. the heat maps, and a click that turns the heads
    sweep(panel)
    ui.mapModelComboBox.currentIndex = 0
    evaluation = panel.evaluationPanel.outcome.evaluation
    found = {s: len(evaluation.subject(s).scores("dlib-hog")) for s in ("original", "defaced")}
    assert found["original"] >= 5 and found["defaced"] < 3
    assert ui.originalMapLabel.text == f"Original: a face in {found['original']} of 9 pictures"
    shown = ui.originalMapTable
    assert (shown.rowCount, shown.columnCount) == (3, 3)
    cells = [[int(shown.item(row, column).text()) for column in range(3)] for row in range(3)]
    faces = evaluation.subject("original").faces("dlib-hog")
    assert cells == [[int((yaw, pitch, "top") in faces) for yaw in (-30, 0, 30)] for pitch in (15, 0, -15)]
    keep(gui.window, f"eval-{name}-sweep", tmp_path)
    shown.cellClicked(0, 2)
    assert np.allclose(panel.headsPanel.head.angles(cameras()[1]), [30, 15], atol=0.1)
    if isPoor:
        ui.mapModelComboBox.currentIndex = 1
        assert str(len(evaluation.subject("original").scores("opencv-haar"))) in ui.originalMapLabel.text

    # 4. what looks most like the face, in a third view from the same side, and how long that will take
    assert panel.parameterNode.attackViews.value == "quick"
    assert re.fullmatch(r"It will take about \d+ min.", ui.attackHintLabel.text)
    assert 0 < panel.evaluationPanel._secondsEach < 60
    panel.evaluationPanel._secondsEach = 60 / evaluation_panel.ATTEMPTS
    panel.updateGUI()
    assert ui.attackHintLabel.text == "It will take about 9 min."
    ui.attackViewsComboBox.currentIndex = 0
    assert ui.attackHintLabel.text == "It will take about 70 min."
    ui.attackViewsComboBox.currentIndex = QUICK
    attack(panel)
    assert panel.evaluationPanel.outcome.recovery.startswith("lowered iso")
    assert panel.evaluationPanel.outcome.recovery in ui.attackResultLabel.text
    run_for(0.1)
    mapped = [n.GetName() for n in slicer.util.getNodesByClass("vtkMRMLViewNode") if n.IsMappedInLayout()]
    assert mapped[2] == "ViewCTDefaceEvalRecovered"
    assert np.allclose(panel.headsPanel.head.angles(cameras(NAMES)[2]), [30, 15], atol=0.1)
    assert head_views.surface(RECOVERED).GetPolyData().GetNumberOfPoints() > 1000
    ui.frontButton.click()
    come_to_rest(panel)
    assert ui.recoveredScoreLabel.visible and "face found" in ui.originalScoreLabel.text
    keep(gui.window, f"eval-{name}-attack", tmp_path)

    # 5. verdict, report, tables, plots
    assert ui.verdictLevelLabel.text == ("Recoverable" if isPoor else "Not recognisable")
    page = tmp_path / "süß report.html"
    gui.dialogs.answers.append(str(page))
    ui.reportButton.click()
    assert [Path(url.toLocalFile()) for url in opened] == [page]
    assert "lowered iso" in page.read_text(encoding="utf-8")
    assert page.with_suffix(".json").exists() and page.with_suffix(".csv").exists()
    summary, pictures = (results.resultOf(volumes[0], what) for what in ("summary", "views"))
    assert summary.GetNumberOfRows() == len(panel.evaluationPanel.outcome.evaluation.subjects)
    subjects = panel.evaluationPanel.outcome.evaluation.subjects
    assert pictures.GetNumberOfRows() == sum(len(subject.sightings) for subject in subjects) > 9 * 2 * 3
    ui.resultsButton.click()
    come_to_rest(panel)
    table, chart = shown_results()
    assert table is summary
    assert chart is results.resultOf(volumes[0], "similarity")
    names = [chart.GetNthPlotSeriesNode(i).GetName() for i in range(chart.GetNumberOfPlotSeriesNodes())]
    assert names == ["same head", "other heads", "defaced", panel.evaluationPanel.outcome.recovery]
    keep(gui.window, f"eval-{name}-results", tmp_path)

    # … all of which is saved with the scene and comes back; the heads are made again
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"), {})
    before = {sides: cell for sides, cell in results.facesByView(pictures, "original", "dlib-hog").items()}
    slicer.mrmlScene.Clear()
    run_for(0.1)
    assert not ui.mapFrame.visible
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    wait(lambda: panel.headsPanel.head is not None)
    table = results.resultOf(ui.originalSelector.currentNode(), "views")
    assert str(results.facesByView(table, "original", "dlib-hog")) == str(before)
    assert ui.mapFrame.visible and ui.originalMapTable.columnCount == 3
    chart = results.resultOf(ui.originalSelector.currentNode(), "similarity")
    assert chart.GetNthPlotSeriesNode(0).GetTableNode().GetNumberOfColumns() == 5
    for kind in ("vtkMRMLTableNode", "vtkMRMLPlotChartNode"):
        for node in slicer.util.getNodesByClass(kind):
            slicer.mrmlScene.RemoveNode(node)
    run_for(0.1)
    assert not ui.mapFrame.visible and not ui.resultsButton.enabled


def test_cancel_a_sweep(panel, volumes):
    panel.ui.sweepButton.click()
    wait(lambda: panel.logic.process.pid is not None and panel.ui.sweepProgressBar.value > 0)
    folder = panel.logic.process.folder
    assert tuple(panel.logic.process.job.task.models) == DEFAULT_MODELS
    panel.ui.sweepButton.click()
    assert not panel.busy and not os.path.exists(folder)
    assert panel.ui.sweepButton.text == "Run sweep"
    assert panel.evaluationPanel.outcome is None
    assert panel.meterPanel.meter.running, "the meter goes on"


def test_one_volume_alone_is_swept_but_not_attacked(panel, pairs, one_model):
    show(panel, pairs("phantom")[0])
    assert "defaced volume" in panel.ui.attackHintLabel.text
    sweep(panel)
    assert "Original: a face in" in panel.ui.originalMapLabel.text
    assert not panel.ui.defacedMapTable.visible
    assert not panel.ui.verdictLevelLabel.visible


# --------------------------------------------------------------------------------------------------------------- cohort


@pytest.fixture(scope="session")
def people():
    """Originals and badly defaced versions of three coarse phantoms."""
    made = []
    for person in range(3):
        image = stored_phantom(PhantomParameters(person=person, matrix=(90, 90), spacing=(3.0, 3.0, 3.0))).image
        made.append((image, poor_defacings.blurred(image, head_pose(image), 4.0)))
    return made


@pytest.fixture
def cohort_files(people, tmp_path):
    """Two people in two folders, and a table of them."""
    lines = ["patient,scan,original,defaced,method"]
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    for number, images in enumerate(people[:2]):
        for folder, image in zip(("in", "out"), images):
            sitk.WriteImage(image, str(tmp_path / folder / f"süß {number}.nrrd"))
        lines.append(f"Person {number},1,in/süß {number}.nrrd,out/süß {number}.nrrd,blur")
    (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


def cells(panel):
    view = panel.ui.cohortTableView
    return [[view._qt("item")(r, c).text() for c in range(5)] for r in range(view._qt("rowCount")())]


def test_a_cohort_by_mouse(panel, people, cohort_files, monkeypatch):
    pytest.importorskip("sklearn", reason="a cohort needs scikit-learn")
    ui = panel.ui
    ui.cohortCollapsibleButton.collapsed = False
    assert not ui.cohortButton.enabled and "at least two patients" in ui.cohortHintLabel.text

    # the table: from a file, and a pair of the scene
    gui.dialogs.answers.append(str(cohort_files / "table.csv"))
    ui.cohortLoadButton.click()
    assert [row[0] for row in cells(panel)] == ["Person 0", "Person 1"]
    assert cells(panel)[1][3] == str(cohort_files / "out" / "süß 1.nrrd")
    volumes = [gui.volume(image, name) for image, name in zip(people[2], ("Scan", "Scan defaced"))]
    panel.parameterNode.originalVolume, panel.parameterNode.defacedVolume = volumes
    ui.cohortMethodLineEdit.text = "blur"
    ui.cohortAddPairButton.click()
    assert cells(panel)[2] == ["Scan", "1", "Scan", "Scan defaced", "blur"]
    wait(lambda: panel.headsPanel.head is not None)

    # run, with an answer for each method, and the numbers of the command
    ui.cohortViewsComboBox.currentIndex = QUICK
    ui.cohortLinkageCheckBox.checked = True
    assert panel.parameterNode.cohortLinkage
    ui.cohortLinkageCheckBox.checked = False
    ui.cohortPreservationCheckBox.checked = True
    ui.cohortButton.click()
    assert ui.cohortButton.text == "Cancel" and not ui.cohortLoadButton.enabled
    wait(lambda: not panel.busy, 400)
    assert not ui.cohortHintLabel.visible, ui.cohortHintLabel.text
    said = [line.partition(":")[0] for line in ui.cohortResultLabel.text.split("\n")]
    assert said == ["original", "blur", f"    {ORIGINAL_TO_DEFACED}"]
    table = ui.cohortTableView.mrmlTableNode()
    summary = results.resultOf(table, "cohort")
    columns = {summary.GetColumnName(i): summary.GetCellText(1, i) for i in range(summary.GetNumberOfColumns())}
    assert 0.0 <= float(columns[f"rank-1, {ORIGINAL_TO_DEFACED}"]) <= 1.0 and float(columns["tissue replaced"]) > 0.0
    assert [summary.GetCellText(row, 0) for row in range(2)] == ["original", "blur"]
    ui.cohortResultsButton.click()
    assert shown_results() == (summary, results.resultOf(table, "ROC"))
    keep(gui.window, "eval-cohort", cohort_files)
    opened = []
    monkeypatch.setattr(qt.QDesktopServices, "openUrl", opened.append)
    gui.dialogs.answers.append(str(cohort_files / "cohort.html"))
    ui.cohortReportButton.click()
    assert len(opened) == 1
    text = (cohort_files / "cohort.html").read_text(encoding="utf-8")
    assert "Whose face is it?" in text and "Privacy against preservation" in text
    assert "blur" in text and "Person" not in text and "süß" not in text

    # what was seen is kept; a line that goes takes nothing with it
    seen = sorted(Path(panel.logic.process.folder, "cohort").glob("*.npz"))
    assert len(seen) == 6
    times = [path.stat().st_mtime for path in seen]
    ui.cohortTableView.selectRow(2)
    ui.cohortRemoveButton.click()
    assert len(cells(panel)) == 2
    cohort = panel.logic.evaluateCohort(cohort_files / "table.csv", preset="quick")
    assert len(cohort.scans) == 4
    assert [path.stat().st_mtime for path in sorted(Path(panel.logic.process.folder, "cohort").glob("*.npz"))] == times

    # it is about patients, so the table stays out of the scene file; numbers and curves go into it
    assert not table.GetSaveWithScene() and summary.GetSaveWithScene()


def a_cohort(**within):
    result = {"auc": None, "accuracy": None, "roc": (np.array([0.0, 1.0]), np.array([0.0, 1.0])), **within}
    method = MethodResult("blur", 2, 2, 0, None, {BY_PATIENT: SimpleNamespace(**result)}, {})
    return SimpleNamespace(methods=[method])


def test_too_few_patients_give_no_plot_and_no_nan(panel):
    table = cohort_node.makeCohortTable()
    summary, chart = results.cohortResults(a_cohort(auc=(0.8, 0.1), accuracy=(0.7, 0.1)), table)
    assert chart is results.resultOf(table, "ROC") is not None
    assert chart.GetYAxisRange()[1] > 1.2, "there is room for the legend above the curves"
    summary, chart = results.cohortResults(a_cohort(), table)
    assert chart is None and results.resultOf(table, "ROC") is None, "what was plotted before is gone"
    assert not slicer.util.getNodesByClass("vtkMRMLPlotSeriesNode")
    texts = [summary.GetCellText(0, column) for column in range(summary.GetNumberOfColumns())]
    assert texts[0] == "blur" and not any("nan" in text for text in texts) and texts.count("") == 3
    panel.cohortPanel.show(a_cohort(), table)
    assert "too few patients" in panel.ui.cohortResultLabel.text


def test_a_line_of_a_cohort_names_one_volume_only(panel, pairs):
    first, second, third = (gui.volume(pairs("phantom")[0], name) for name in ("CT", "CT", "CT defaced"))
    panel.parameterNode.originalVolume, panel.parameterNode.defacedVolume = second, third
    panel.ui.cohortMethodLineEdit.text = "CTDeface"
    panel.ui.cohortAddPairButton.click()
    assert cells(panel)[0] == ["CT", "1", second.GetID(), "CT defaced", "CTDeface"]
    assert cohort_node.volumeOf(second.GetID()) is second is not first
    assert cohort_node.volumeOf("CT defaced") is third
    assert cohort_node.volumeOf("/somewhere/CT.nrrd") is None


def test_a_cohort_from_folders_and_its_errors(panel, cohort_files):
    ui = panel.ui
    gui.dialogs.answers += [str(cohort_files / "in"), str(cohort_files / "out")]
    ui.cohortAddFoldersButton.click()
    assert [row[:2] for row in cells(panel)] == [["süß 0", "1"], ["süß 1", "1"]]
    gui.dialogs.answers += [str(cohort_files / "in"), str(cohort_files)]
    ui.cohortAddFoldersButton.click()
    assert "same name" in ui.cohortHintLabel.text
    (cohort_files / "bad.csv").write_text("a,b\n1,2\n")
    gui.dialogs.answers.append(str(cohort_files / "bad.csv"))
    ui.cohortLoadButton.click()
    assert "lacks the column" in ui.cohortHintLabel.text
    ui.cohortTableView.mrmlTableNode().SetCellText(1, 3, "nowhere.nrrd")  # as by a double click
    ui.cohortButton.click()
    assert "Line 2 of the table names a volume that does not exist" in ui.cohortHintLabel.text
    slicer.mrmlScene.Clear()
    assert not cells(panel)


def test_cancel_a_cohort(panel, cohort_files):
    gui.dialogs.answers.append(str(cohort_files / "table.csv"))
    panel.ui.cohortLoadButton.click()
    panel.ui.cohortButton.click()
    wait(lambda: panel.logic.process.pid is not None and panel.ui.cohortProgressBar.format != "%p%")
    folder = panel.logic.process.folder
    panel.ui.cohortButton.click()
    assert not panel.busy and not os.path.exists(folder)
    assert panel.ui.cohortButton.text == "Run cohort" and panel.ui.cohortButton.enabled


# ---------------------------------------------------------------------------------------------------------- face models


@pytest.fixture
def models(panel, monkeypatch):
    """The models box, opened; what pip would install."""
    installed = []
    monkeypatch.setattr(packaging, "pip_ensure", lambda requirements, **options: installed.append(requirements))
    panel.ui.modelsCollapsibleButton.collapsed = False
    wait(lambda: panel.ui.modelsTable.rowCount == len(MODELS) and not panel.modelsPanel.process.busy)
    yield installed
    panel.ui.modelsCollapsibleButton.collapsed = True
    panel.modelsPanel.models = []
    panel.ui.modelsTable.setRowCount(0)


def choose(panel, name):
    panel.ui.modelsTable.setCurrentCell([m["name"] for m in panel.modelsPanel.models].index(name), 0)


def test_the_models_box_says_what_is_there_and_asks_before_it_installs(panel, models, monkeypatch):
    ui = panel.ui
    shown = {
        ui.modelsTable.item(row, 0).text(): ui.modelsTable.item(row, 1).text() for row in range(ui.modelsTable.rowCount)
    }
    assert shown["dlib-hog"] == shown["dlib-cnn"] == "ready" and shown["facenet"] == "not there"
    choose(panel, "dlib-hog")
    assert "CC0" in ui.modelDetailsLabel.text and "dlib-bin" in ui.modelDetailsLabel.text
    assert not ui.installModelButton.enabled and not ui.downloadModelButton.enabled
    choose(panel, "facenet")
    assert not ui.installModelButton.enabled, "it would replace PyTorch"
    choose(panel, "insightface")
    assert "non-commercial" in ui.modelDetailsLabel.text
    assert ui.installModelButton.enabled and ui.downloadModelButton.enabled
    gui.dialogs.answers.append(qt.QMessageBox.No)
    ui.installModelButton.click()
    assert models == [] and "non-commercial" in gui.dialogs.shown[-1]
    gui.dialogs.answers.append(qt.QMessageBox.No)
    ui.downloadModelButton.click()
    assert "agree to this licence" in gui.dialogs.shown[-1] and not panel.modelsPanel.process.busy
    gui.dialogs.answers.append(qt.QMessageBox.Yes)
    ui.installModelButton.click()
    packages = ["insightface>=0.7", "onnxruntime>=1.16", "opencv-python>=4.8,<5", "scikit-learn>=1.3"]
    assert models == [packages]
    wait(lambda: not panel.modelsPanel.process.busy)
    jobs = []
    monkeypatch.setattr(panel.modelsPanel.process, "start", lambda task, **message: jobs.append(task))
    gui.dialogs.answers.append(qt.QMessageBox.Yes)
    ui.downloadModelButton.click()
    assert jobs == [DownloadModels()]


def test_an_older_slicer_installs_by_its_own_means(panel, models, monkeypatch):
    asked = []
    monkeypatch.delattr(slicer, "packaging")
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(slicer.util, "pip_install", asked.append)
    choose(panel, "insightface")
    gui.dialogs.answers.append(qt.QMessageBox.Yes)
    panel.ui.installModelButton.click()
    assert models == [] and asked == [[*InsightFace.packages, "scikit-learn>=1.3"]]
    wait(lambda: not panel.modelsPanel.process.busy)


def test_a_pack_that_was_fetched_tells_its_size_and_can_be_removed(panel, models, monkeypatch, tmp_path):
    monkeypatch.setattr(insightface_pack, "_PACKS", tmp_path)
    pack = tmp_path / insightface_pack.PACK
    pack.mkdir()
    (pack / "model.onnx").write_bytes(bytes(3_000_000))
    choose(panel, "dlib-hog")
    assert not panel.ui.removeModelButton.visible
    choose(panel, "insightface")
    assert panel.ui.removeModelButton.visible and "On this computer: 3 MB" in panel.ui.modelDetailsLabel.text
    gui.dialogs.answers.append(qt.QMessageBox.No)
    panel.ui.removeModelButton.click()
    assert pack.exists() and "3 MB" in gui.dialogs.shown[-1]
    gui.dialogs.answers.append(qt.QMessageBox.Yes)
    panel.ui.removeModelButton.click()
    assert not pack.exists()
    wait(lambda: not panel.modelsPanel.process.busy)


def test_the_missing_model_is_offered_where_it_is_needed(panel, volumes, answers, monkeypatch):
    answers.at_rest()
    assert not panel.ui.liveModelButton.visible
    installed = []
    monkeypatch.setattr(packaging, "pip_ensure", lambda requirements, **options: installed.append(requirements))
    sentence = "The face model dlib needs the Python package dlib: install it with “pip install dlib-bin”."
    panel.meterPanel.meter._onFailed(NotReadyError(sentence))
    assert panel.ui.liveModelButton.visible and "pip" not in panel.ui.meterHintLabel.text
    assert panel.ui.meterHintLabel.text == "The face model dlib needs the Python package dlib. See step 2."
    assert panel.ui.liveModelButton.styleSheet and not panel.ui.sweepButton.styleSheet, "it comes next"
    monkeypatch.setattr(packages, "isInstalled", lambda name: name != "dlib-bin")
    gui.dialogs.answers.append(qt.QMessageBox.Yes)
    panel.ui.liveModelButton.click()
    assert installed == [[*DlibHog.packages, "scikit-learn>=1.3"]] and "CC0" in gui.dialogs.shown[-1]
    wait(lambda: not panel.ui.liveModelButton.visible)
    monkeypatch.setattr(packages, "isInstalled", lambda name: True)  # and of another model the files are missing
    panel.ui.faceModelComboBox.currentIndex = 1
    panel.meterPanel.meter._onFailed(NotReadyError("There is no insightface model pack here."))
    panel.ui.liveModelButton.click()
    assert not panel.ui.modelsCollapsibleButton.collapsed
    wait(lambda: panel.modelsPanel.chosen() and panel.modelsPanel.chosen()["name"] == "insightface")
    wait(lambda: not panel.modelsPanel.process.busy)
    panel.ui.modelsCollapsibleButton.collapsed = True
    panel.modelsPanel.models = []


def test_a_model_that_is_not_there_is_named_by_the_meter(panel, volumes, answers):
    answers.at_rest()
    panel.ui.faceModelComboBox.currentIndex = 2
    wait(lambda: panel.ui.meterHintLabel.visible)
    assert "FaceNet needs a folder" in panel.ui.meterHintLabel.text
    assert not panel.meterPanel.meter.running
    panel.ui.sweepButton.click()
    wait(lambda: not panel.busy)
    assert "FaceNet needs a folder" in panel.ui.sweepHintLabel.text
    count = len(answers)
    panel.ui.faceModelComboBox.currentIndex = 3
    wait(lambda: len(answers) > count)
    assert not panel.ui.meterHintLabel.visible


def test_the_folder_of_models_is_remembered_by_this_computer(panel, tmp_path):
    from CTDefaceEvalSlicer.parameters import modelFolder

    panel.ui.modelFolderPathLineEdit.currentPath = str(tmp_path)
    assert modelFolder() == str(tmp_path)
    panel.ui.modelFolderPathLineEdit.currentPath = ""
    assert modelFolder() is None


def test_heads_appear_when_models_change_while_their_skins_are_made(panel, pairs):
    for image, name in zip(pairs("phantom"), ("Head CT", "Head CT defaced")):
        gui.volume(image, name)
    panel.preselect()
    wait(lambda: panel.headsPanel.isMaking)
    panel.onModelsChanged()
    wait(lambda: panel.headsPanel.head is not None, 60)


# ------------------------------------------------------------------------------------------------ while the meter runs


def in_full_swing(panel, answers):
    answers.at_rest()
    turn(5)
    run_for(0.1)
    assert panel.meterPanel.meter.running


def test_closing_the_scene_while_the_meter_runs(panel, volumes, answers):
    in_full_swing(panel, answers)
    slicer.mrmlScene.Clear()
    run_for(0.6)
    assert not panel.meterPanel.meter.running
    assert panel.ui.originalSelector.currentNode() is None
    assert all(head_views.surface(name) is None for name in NAMES)


def test_closing_the_scene_empties_the_module_wide_caches(panel, volumes):
    assert {"CTDefaceSlicer.shared.nodes._crcs", "CTDefaceEvalSlicer.head_views._followed"} <= gui.caches().keys()
    slicer.mrmlScene.Clear()
    run_for(0.1)
    assert gui.caches() == {}


@pytest.mark.parametrize("which", ["original", "defaced", "surface", "camera"])
def test_deleting_a_node_while_the_meter_runs(panel, volumes, answers, which):
    in_full_swing(panel, answers)
    node = {
        "original": volumes[0],
        "defaced": volumes[1],
        "surface": head_views.surface(DEFACED),
        "camera": cameras()[1],
    }[which]
    slicer.mrmlScene.RemoveNode(node)
    run_for(1.0)
    wait(lambda: not panel.logic.meterProcess.busy)
    if which == "original":
        assert not panel.meterPanel.meter.running and head_views.surface(DEFACED) is None
    if which == "defaced":
        assert panel.headsPanel.names() == [ORIGINAL] and head_views.surface(DEFACED) is None


def test_changing_the_layout_while_the_meter_runs(panel, volumes, answers):
    in_full_swing(panel, answers)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    run_for(0.8)
    count = len(answers)
    run_for(0.5)
    assert len(answers) == count and not panel.meterPanel.meter.running, "nobody sees the heads"
    assert not panel.ui.meterFrame.visible
    panel.ui.showButton.click()
    wait(lambda: len(answers) > count)


def test_changing_the_module_while_the_meter_runs(panel, volumes, answers):
    in_full_swing(panel, answers)
    gui.host.select_module("CTDeface")
    count = len(answers)
    turn(10)
    run_for(0.6)
    assert not panel.meterPanel.meter.running and len(answers) == count
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView, "as it was before"
    gui.host.select_module("CTDefaceEval")
    wait(lambda: len(answers) > count)
    assert head_views.shownHeads() == 2


def test_the_skins_are_kept_when_the_module_is_entered_again(panel, volumes, answers, monkeypatch):
    answers.at_rest()
    gui.host.select_module("CTDeface")
    gui.stop_process(panel.logic.meterProcess)  # nobody needs it meanwhile
    made, count = [], len(answers)
    findHeads = panel.logic.findHeads
    monkeypatch.setattr(panel.logic, "findHeads", lambda *nodes, **calls: (made.append(1), findHeads(*nodes, **calls)))
    gui.host.select_module("CTDefaceEval")
    wait(lambda: len(answers) > count)
    assert head_views.shownHeads() == 2 and not made and answers[-1]["faces"][ORIGINAL]
    panel.ui.pictureComboBox.currentIndex = 1  # which the new process cannot draw without skins
    wait(lambda: answers[-1]["sizes"][ORIGINAL] == 300)
    assert len(made) == 1


def test_a_process_that_dies_is_replaced(panel, volumes, answers):
    answers.at_rest()
    gui.stop_process(panel.logic.meterProcess)
    count = len(answers)
    turn(3)
    wait(lambda: len(answers) > count)
    panel.ui.pictureComboBox.currentIndex = 1
    wait(lambda: answers[-1]["sizes"][ORIGINAL] == 300)
    gui.stop_process(panel.logic.meterProcess)
    count = len(answers)
    turn(3)
    wait(lambda: len(answers) > count)
    assert not panel.ui.meterHintLabel.visible


# ------------------------------------------------------------------------------------------ while something else runs


CLOSE, ORIGINAL_GONE, DEFACED_GONE = "closing the scene", "deleting the original", "deleting the defaced"
TABLES_GONE, LAYOUT, MODULE = "deleting the tables", "another layout", "another module"
INTERRUPTIONS = [
    *(("skin", event) for event in (CLOSE, ORIGINAL_GONE, DEFACED_GONE, LAYOUT, MODULE)),
    *(("scale", event) for event in (CLOSE, ORIGINAL_GONE, DEFACED_GONE, LAYOUT, MODULE)),
    *(("sweep", event) for event in (CLOSE, ORIGINAL_GONE, DEFACED_GONE, TABLES_GONE, LAYOUT, MODULE)),
    *(("attack", event) for event in (CLOSE, DEFACED_GONE, MODULE)),
    *(("cohort", event) for event in (CLOSE, ORIGINAL_GONE, DEFACED_GONE, TABLES_GONE, LAYOUT, MODULE)),
    *(("models", event) for event in (CLOSE, MODULE)),
]


def start_job(panel, job, monkeypatch):
    """Have the panel start a job; returns the background process that does it."""
    if job == "skin":
        gui.stop_process(panel.logic.meterProcess)
        panel.headsPanel.forget()
        panel.headsPanel.show()
        return panel.logic.meterProcess
    if job == "models":
        panel.modelsPanel.refresh()
        return panel.modelsPanel.process
    if job == "scale":
        monkeypatch.setattr(panel.logic, "measureScale", type(panel.logic).measureScale.__get__(panel.logic))
        panel.meterPanel.scales.clear()
        panel.meterPanel.updateScale()
    elif job == "cohort":
        names = [panel.ui.originalSelector.currentNode().GetID(), panel.ui.defacedSelector.currentNode().GetID()]
        panel.cohortPanel.add([dict(zip(PAIR_COLUMNS, (who, "1", *names, "CTDeface"))) for who in ("A", "B")])
        panel.updateGUI()
        panel.ui.cohortButton.click()
    else:
        getattr(panel.ui, f"{job}Button").click()
    assert panel.task is Task(job)
    return panel.logic.process


def end_job(process, result, report):
    """Have the process answer that its job is done, without waiting for that."""
    job = process.job
    with open(job.result, "wb") as file:
        pickle.dump(result, file)
    process.onAnswer(tasks.Done(job.id, report))
    gui.stop_process(process)


def interrupt(event, volumes):
    scene = slicer.mrmlScene
    if event == CLOSE:
        scene.Clear()
    elif event == LAYOUT:
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    elif event == MODULE:
        gui.host.select_module("CTDeface")
    elif event == TABLES_GONE:
        for node in slicer.util.getNodesByClass("vtkMRMLTableNode"):
            scene.RemoveNode(node)
    else:
        scene.RemoveNode(volumes[event == DEFACED_GONE])


@pytest.mark.parametrize(("job", "event"), INTERRUPTIONS)
def test_nothing_is_raised(panel, volumes, job, event, monkeypatch):
    process = start_job(panel, job, monkeypatch)
    wait(lambda: process.pid is not None)
    interrupt(event, volumes)
    run_for(0.3)
    if event == CLOSE:
        assert not process.busy or job == "models", "that has nothing to do with the scene"
        assert not panel.busy and not panel.headsPanel.head and not panel.meterPanel.meter.running
    elif event == MODULE:
        assert panel.task is (Task(job) if job in ("sweep", "attack", "cohort") else None), "what was asked for goes on"
    if panel.task is Task.SCALE and job == "scale":
        end_job(process, None, vars(SCALE))
    elif panel.busy and panel.task.value == job:
        isDropped = event == TABLES_GONE if job == "cohort" else event in (ORIGINAL_GONE, DEFACED_GONE)
        if isDropped:  # what came out of it belongs to what is gone
            end_job(process, {"evaluation": None, "recovered": None}, {"recovered": ""})
        else:
            process.cancel()
        if isDropped and job != "cohort":
            assert "removed" in getattr(panel.ui, f"{job}HintLabel").text
    wait(lambda: not process.busy)
    run_for(0.3)
    assert panel.isFree
    if event == MODULE:
        gui.host.select_module("CTDefaceEval")
    if event in (LAYOUT, MODULE, TABLES_GONE):
        panel.ui.showButton.click()
        wait(lambda: panel.headsPanel.head is not None and head_views.shownHeads() == 2)
    assert panel.ui.sweepButton.enabled == (event not in (CLOSE, ORIGINAL_GONE))


# ------------------------------------------------------------------------------------------------------------- console


def test_the_console_lines_of_the_readme(pairs, tmp_path):
    """They run as they stand there, in a process without a window; few views and one attack stand for all."""
    pytest.importorskip("sklearn", reason="a cohort needs scikit-learn")
    for image, file in zip((*pairs(SCANS[2]), *pairs("phantom")), ("head", "head_defaced", "other", "other_defaced")):
        sitk.WriteImage(image, str(tmp_path / f"{file}.nii.gz"))
    table = "patient,scan,original,defaced,method\nA,1,head.nii.gz,head_defaced.nii.gz,CTDeface\n"
    (tmp_path / "table.csv").write_text(table + "B,1,other.nii.gz,other_defaced.nii.gz,CTDeface\n", encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", (gui.CHECKOUT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = next(block for block in blocks if 'getModuleLogic("CTDefaceEval")' in block)
    code = (
        "import sys\n"
        f"sys.path[:0] = [{str(gui.CHECKOUT / 'Testing')!r}, {str(gui.CHECKOUT / 'CTDeface')!r}]\n"
        "from pathlib import Path\n"
        "import slicer_host\n"
        "host = slicer_host.start(with_main_window=False)\n"
        "import slicer\n"
        f"host.add_scripted_module(Path({str(gui.CHECKOUT)!r}, 'CTDefaceEval', 'CTDefaceEval.py'))\n"
        "from CTDefaceEval import CTDefaceEvalLogic as Logic\n"
        "whole, many = Logic.evaluate, Logic.evaluateCohort\n"
        "Logic.evaluate = lambda self, original, defaced, models, preset, attacks=(): whole(\n"
        "    self, original, defaced, ('dlib-hog',), 'quick', ('lowered iso',) if attacks else ())\n"
        "Logic.evaluateCohort = lambda self, table: many(self, table, preset='quick')\n"
        f"{lines}"
        "print([len(slicer.util.getNodesByClass(f'vtkMRML{kind}Node')) for kind in ('Table', 'PlotChart')])\n"
        "print(sorted({scan['patient'] for scan in cohort.scans}), [method.method for method in cohort.methods])\n"
        "slicer.app.moduleManager().moduleAboutToBeUnloaded('CTDefaceEval')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert not done.stderr.strip()
    found, verdict, nodes, cohort = done.stdout.strip().split("\n")
    assert int(found.split()[0]) >= 3
    assert verdict.startswith(f"{Level.NOT_RECOGNISABLE} Neither the defaced scan nor")
    assert nodes == "[4, 2]"
    assert cohort == "[1, 2] ['original', 'CTDeface']"
    assert (tmp_path / "report.html").exists() and (tmp_path / "report.json").exists()


# -------------------------------------------------------------------------------------------------------- how it looks


def test_the_panel_fits_400_pixels_and_explains_itself(panel, volumes, answers, tmp_path):
    answers.at_rest()
    scroll, splitter = gui.scroll_area, gui.splitter
    sizes = splitter.sizes()
    splitter.setSizes([402, 900])
    for step in (panel.ui.cohortCollapsibleButton, panel.ui.modelsCollapsibleButton):
        step.collapsed = False
    wait(lambda: panel.ui.modelsTable.rowCount == len(MODELS) and not panel.modelsPanel.process.busy)
    assert scroll.width() <= 402
    assert not scroll.horizontalScrollBar().isVisible()
    for widget in vars(panel.ui).values():
        if widget.visible and hasattr(widget, "text") and not getattr(widget, "wordWrap", False):
            assert widget.width >= widget.minimumSizeHint().width(), f"{widget.name} is cut"
    keep(panel.parent, "eval-panel", tmp_path)
    for step in (panel.ui.cohortCollapsibleButton, panel.ui.modelsCollapsibleButton):
        step.collapsed = True
    splitter.setSizes(sizes)


def test_everything_has_a_tool_tip(panel):
    for name, widget in vars(panel.ui).items():
        isBare = widget.className() in ("QWidget", "QFrame", "QScrollBar", "QHeaderView", "qMRMLWidget")
        if not isBare and not name.startswith("qt_"):
            assert len(widget.toolTip) > 10, name


def test_the_help_names_this_module_only(panel):
    module = slicer.modules.ctdefaceeval
    assert "step 2" in module.helpText
    assert "Apache License" in module.acknowledgementText  # else Slicer puts its own sponsors there


def test_the_modules_own_test_passes(panel):
    slicer.selfTests["CTDefaceEval"]()
