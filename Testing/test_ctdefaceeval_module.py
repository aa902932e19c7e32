"""The CTDefaceEval module in the stand-in for Slicer: clicked through as a user does, and called from the console."""

import os
from pathlib import Path

import gui
import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from CTDefaceEvalLib.evaluation import Scale
from CTDefaceEvalSlicer import head_views
from CTDefaceEvalSlicer.head_views import DEFACED, NAMES, ORIGINAL
from CTDefaceLib.phantom import PhantomParameters, make_phantom
from CTDefaceLib.pipeline import deface
from CTDefaceLib.volume_io import read_ct
from CTDefaceSlicer import views
from gui import run_for, wait

pytest.importorskip("dlib", reason="the face models need dlib-bin")
PICTURES = os.environ.get("CTDEFACE_PICTURES")  # a folder that keeps the screenshots for a look
SCALE = Scale([0.98, 0.99], [0.85, 0.86])
SCANS = ["phantom", "head_ct_brain_fov.nii.gz", "head_ct_full_face_lowres.nii.gz"]


@pytest.fixture
def panel(monkeypatch):
    with gui.user("CTDefaceEval") as panel:
        slicer.app.resumeRender()  # the meter looks at what is drawn
        monkeypatch.setattr(panel.logic, "measureScale", lambda volume, model, done, failed: done(SCALE))
        yield panel
        slicer.app.pauseRender()


@pytest.fixture(scope="session")
def pairs(real_data):
    """Original and defaced image of a scan by its name; the phantom has large voxels, so that the tests are quick."""
    made = {}

    def find(name):
        if name not in made:
            coarse = PhantomParameters(matrix=(128, 128), spacing=(2.0, 2.0, 2.0), field_of_view="head")
            image = make_phantom(coarse).image if name == "phantom" else read_ct(real_data(name))
            made[name] = image, deface(image).image
        return made[name]

    return find


@pytest.fixture
def volumes(panel, pairs):
    """The phantom and its defaced version in the scene, shown side by side."""
    return show(panel, *pairs("phantom"))


def show(panel, original, defaced=None):
    nodes = [gui.volume(original, "Head CT")]
    if defaced is not None:
        nodes.append(gui.volume(defaced, "Head CT defaced"))
        nodes[1].SetNodeReferenceID("CTDeface.original", nodes[0].GetID())
    panel.preselectVolumes()
    wait(lambda: panel._heads is not None)
    run_for(0.1)
    return nodes


def keep(widget, name, folder):
    run_for(0.1)
    return gui.picture(widget, Path(PICTURES or folder) / f"{name}.png")


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


class Answers(list):
    """What the meter was told, and the pictures that it sent."""

    def __init__(self, panel, monkeypatch):
        told, save = panel.meter._told, panel.logic.meterProcess.save
        self.pictures = []
        monkeypatch.setattr(panel.meter, "_told", lambda answer: (self.append(answer), told(answer)))
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

    # what is found is told and drawn
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
    panel.meter.refresh()
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
    marks = panel.meter._eyes[0]._marks
    box = np.array([marks._lines.GetPoints().GetPoint(i)[:2] for i in range(8)])
    count = len(answers)
    panel.ui.pictureComboBox.currentIndex = 1
    wait(lambda: len(answers) > count)
    standard = answers[-1]
    assert standard["sizes"][ORIGINAL] == 300
    assert standard["faces"][ORIGINAL] and not standard["faces"][DEFACED]
    assert abs(standard["faces"][ORIGINAL]["score"] - seen["faces"][ORIGINAL]["score"]) < 0.6
    marks = panel.meter._eyes[0]._marks
    other = np.array([marks._lines.GetPoints().GetPoint(i)[:2] for i in range(8)])
    size = min(head_views.threeDView(ORIGINAL).renderWindow().GetSize())
    assert np.abs(box.mean(axis=0) - other.mean(axis=0)).max() < 0.12 * size
    assert np.array_equal(np.round(answers.pictures[-1][1], 3), [0, 0])


def test_turning_turns_both_and_is_scored_without_a_queue(panel, volumes, answers):
    answers.at_rest()
    count, jobs = len(answers), panel.logic.meterProcess._count
    for _step in range(60):
        turn(1.0)
        assert np.allclose(*(camera.GetPosition() for camera in cameras()))
        run_for(0.02)
    while_turning = len(answers) - count
    assert while_turning >= 2
    assert not any("similarities" in answer for answer in answers[count:]), "similarity is for the head at rest"
    run_for(0.5)
    wait(lambda: not panel.logic.meterProcess.busy)
    assert panel.logic.meterProcess._count - jobs <= while_turning + 4, "what is late is left out"
    yaw, pitch = panel._heads[1].angles(cameras()[0])
    assert abs(abs(yaw) - 60) < 3
    assert answers[-1]["faces"][ORIGINAL] is None
    panel.ui.frontButton.click()
    wait(lambda: answers[-1]["faces"][ORIGINAL])
    assert np.allclose(panel._heads[1].angles(cameras()[0]), 0, atol=0.1)


def test_the_meter_can_be_switched_off(panel, volumes, answers):
    answers.at_rest()
    windows = [head_views.threeDView(name).renderWindow() for name in (ORIGINAL, DEFACED)]
    layers = [window.GetRenderers().GetNumberOfItems() for window in windows]
    panel.ui.meterCheckBox.click()
    run_for(0.3)
    assert not panel.meter.running
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


def test_what_is_handed_over_by_ctdeface_is_shown(panel, pairs):
    gui.host.select_module("CTDeface")
    first = gui.volume(pairs("phantom")[0], "Another")
    original, defaced = (gui.volume(image, "CT") for image in pairs("phantom"))
    slicer.util.getModuleWidget("CTDeface").logic.evaluate(original, defaced)
    wait(lambda: panel._heads is not None)
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
    assert ui.inputHintLabel.text == panel.logic.problemOf(noise)
    assert not ui.showButton.enabled
    ui.defacedSelector.setCurrentNode(None)
    wait(lambda: panel._heads is not None)
    assert not ui.inputHintLabel.visible


# ------------------------------------------------------------------------------------------------ while the meter runs


def in_full_swing(panel, answers):
    answers.at_rest()
    turn(5)
    run_for(0.1)
    assert panel.meter.running


def test_closing_the_scene_while_the_meter_runs(panel, volumes, answers):
    in_full_swing(panel, answers)
    slicer.mrmlScene.Clear()
    run_for(0.6)
    assert not panel.meter.running
    assert panel.ui.originalSelector.currentNode() is None
    assert all(head_views.surface(name) is None for name in NAMES)


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
        assert not panel.meter.running and head_views.surface(DEFACED) is None
    if which == "defaced":
        assert panel.names() == [ORIGINAL] and head_views.surface(DEFACED) is None


def test_changing_the_layout_while_the_meter_runs(panel, volumes, answers):
    in_full_swing(panel, answers)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    run_for(0.8)
    count = len(answers)
    run_for(0.5)
    assert len(answers) == count, "nobody sees the heads"
    panel.ui.showButton.click()
    wait(lambda: len(answers) > count)


def test_changing_the_module_while_the_meter_runs(panel, volumes, answers):
    in_full_swing(panel, answers)
    gui.host.select_module("CTDeface")
    count = len(answers)
    turn(10)
    run_for(0.6)
    assert not panel.meter.running and len(answers) == count
    gui.host.select_module("CTDefaceEval")
    wait(lambda: len(answers) > count)


def test_a_process_that_dies_is_replaced(panel, volumes, answers):
    answers.at_rest()
    gui.stop_process(panel.logic.meterProcess)
    count = len(answers)
    turn(3)
    wait(lambda: len(answers) > count)


# -------------------------------------------------------------------------------------------------------- how it looks


def test_the_panel_fits_400_pixels_and_explains_itself(panel, volumes, answers, tmp_path):
    answers.at_rest()
    scroll, splitter = gui.window._panel, gui.window._split
    sizes = splitter.sizes()
    splitter.setSizes([402, 900])
    run_for(0.1)
    assert scroll.width() <= 402
    assert not scroll.horizontalScrollBar().isVisible()
    for widget in vars(panel.ui).values():
        if widget.visible and hasattr(widget, "text") and not getattr(widget, "wordWrap", False):
            assert widget.width >= widget.minimumSizeHint().width(), f"{widget.name} is cut"
    keep(panel.parent, "eval-panel", tmp_path)
    splitter.setSizes(sizes)


def test_everything_has_a_tool_tip(panel):
    explained = "QPushButton QCheckBox QComboBox QTableWidget QLabel qMRMLNodeComboBox qMRMLTableView ctkPathLineEdit"
    for name, widget in vars(panel.ui).items():
        if widget.className() in explained.split() and not name.endswith("Label"):
            assert len(widget.toolTip) > 10, name


def test_the_modules_own_test_passes(panel):
    slicer.selfTests["CTDefaceEval"]()
