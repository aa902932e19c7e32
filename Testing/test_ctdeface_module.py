"""The CTDeface module in the stand-in for Slicer: clicked through as a user does, and called from the console."""

import importlib
import json
import os
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import gui
import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from CTDefaceLib import tasks
from CTDefaceLib.errors import CTDefaceError, InputError, OutputError
from CTDefaceLib.parameters import DEPTH_MM
from CTDefaceLib.phantom import PhantomParameters
from CTDefaceLib.processes import end_process_group
from CTDefaceLib.removal.fill import FILLS
from CTDefaceLib.volume_io import check_ct, read_ct
from CTDefaceSlicer.shared import hints, nodes, views
from CTDefaceSlicer.shared.process import BackgroundProcess
from CTDefaceSlicer.tasks import Task
from gui import dialogs, run_for, wait
from stored_phantoms import stored_phantom
from vtk.util.numpy_support import vtk_to_numpy

import qt  # isort: skip

pytestmark = pytest.mark.gui
YES, NO = qt.QMessageBox.Yes, qt.QMessageBox.No
PICTURES = os.environ.get("CTDEFACE_PICTURES")  # a folder that keeps the screenshots for a look


@pytest.fixture
def panel():
    with gui.user() as panel:
        yield panel


@pytest.fixture(scope="session")
def phantom():
    """A phantom head with large voxels, so that the tests are quick."""
    return stored_phantom(PhantomParameters(matrix=(128, 128), spacing=(2.0, 2.0, 2.0), field_of_view="head")).image


@pytest.fixture(scope="session")
def scans(phantom, real_data, tmp_path_factory):
    """A scan by its name: the phantom, or one of the real ones; each is read once."""

    @cache
    def find(name):
        if name == "phantom":
            return phantom
        path = real_data(name)
        if name.endswith(".zip"):
            folder = tmp_path_factory.mktemp("dicom")
            with zipfile.ZipFile(path) as archive:
                archive.extractall(folder)
            path = min((p.parent for p in folder.rglob("*") if p.is_file()), key=lambda p: len(p.parts))
        return read_ct(path)

    return find


def keep(widget, name, folder):
    return gui.picture(widget, Path(PICTURES or folder) / f"{name}.png")


def idle(panel):
    return not panel.busy and panel.currentResult() is not None


def segment(panel):
    panel.ui.segmentButton.click()
    assert panel.ui.segmentButton.text == "Cancel"
    wait(lambda: idle(panel))
    return panel.ui.maskSelector.currentNode()


def deface(panel):
    panel.ui.defaceButton.click()
    wait(lambda: not panel.busy)
    return panel.ui.defacedSelector.currentNode()


def farthest_tissue(image, face):
    """A ball of 12 mm around the voxel of tissue farthest from the face: scalp, shoulder or couch; bool, (z, y, x)."""

    def squared_mm(voxel):
        return sum(((places - at) * mm) ** 2 for places, at, mm in zip(axes, voxel, image.GetSpacing()[::-1]))

    axes = np.ogrid[tuple(slice(n) for n in face.shape)]
    tissue = sitk.GetArrayViewFromImage(image) > -100
    far = np.where(tissue, squared_mm([places.mean() for places in np.nonzero(face)]), -1.0).argmax()
    return squared_mm(np.unravel_index(far, face.shape)) < 12.0**2


def backgrounds():
    return {c.GetBackgroundVolumeID() for c in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return (
        not Path(f"/proc/{pid}/stat").exists()
        or Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").split()[2] != "Z"
    )


# ------------------------------------------------------------------------------------------------ the steps, one by one


SCANS = [
    "phantom",
    "head_ct_brain_fov.nii.gz",
    "head_ct_full_face_lowres.nii.gz",
    pytest.param("phantom_ct_dicom.zip", id="phantom_ct_dicom"),
]


@pytest.mark.parametrize("name", SCANS)
def test_from_input_to_evaluation_by_mouse(panel, scans, name, tmp_path):
    ui = panel.ui
    image = scans(name)
    voxels = sitk.GetArrayViewFromImage(image)

    # 1. the first CT is chosen by itself
    volume = gui.volume(image, "Head CT")
    wait(lambda: ui.inputSelector.currentNode() is volume)
    assert not ui.inputHintLabel.visible
    assert backgrounds() == {volume.GetID()}

    # 2. segment: the window lives meanwhile
    ticks = []
    timer = qt.QTimer()
    timer.connect("timeout()", lambda: ticks.append(1))
    timer.start(10)
    ui.segmentButton.click()
    assert ui.segmentButton.text == "Cancel"
    assert ui.segmentProgressBar.visible
    wait(lambda: panel.task is not Task.SEGMENT)
    timer.stop()
    assert len(ticks) > 5
    assert ui.logTextEdit.plainText
    mask = ui.maskSelector.currentNode()
    segmentation = mask.GetSegmentation()
    assert [segmentation.GetNthSegment(i).GetName() for i in range(segmentation.GetNumberOfSegments())] == ["Face"]
    terminology = vtk.reference("")
    segmentation.GetNthSegment(0).GetTag("TerminologyEntry", terminology)
    assert "SCT^89545001^Face" in terminology.get()
    assert mask.GetNodeReference(mask.GetReferenceImageGeometryReferenceRole()) is volume
    face = nodes.faceMask(mask, volume)
    assert face.shape == voxels.shape
    assert 100 < face.sum() * np.prod(image.GetSpacing()) / 1000 < 1500

    # 3. preview: how it will look, before anything is a result
    wait(lambda: idle(panel))
    assert ui.logTextEdit.plainText.splitlines()[-1] == "Preview ready"
    assert "✔ Brain untouched" in ui.reportLabel.text and "✘" not in ui.reportLabel.text
    assert "Gaps in the skull: " in ui.reportLabel.toolTip
    assert ui.defacedSelector.currentNode() is None
    ui.afterRadioButton.click()
    preview = panel.currentResult()
    assert preview.GetHideFromEditors()
    assert backgrounds() == {preview.GetID()}
    assert not mask.GetDisplayNode().GetVisibility()
    keep(gui.window, f"{name}-after", tmp_path)
    ui.beforeRadioButton.click()
    assert backgrounds() == {volume.GetID()}
    assert mask.GetDisplayNode().GetVisibility()
    camera = slicer.modules.cameras.logic().GetViewActiveCameraNode(views.threeDView().mrmlViewNode())
    for button, axis, sign in ((ui.leftButton, 0, -1), (ui.rightButton, 0, 1), (ui.frontButton, 1, 1)):
        button.click()
        direction = np.subtract(camera.GetPosition(), camera.GetFocalPoint())
        assert np.argmax(np.abs(direction)) == axis
        assert np.sign(direction[axis]) == sign
    keep(gui.window, f"{name}-before", tmp_path)

    # 4. correct: what is painted far from the face gets a new skin as well
    ui.editButton.click()
    assert slicer.util.selectedModule() == "SegmentEditor"
    stroke = farthest_tissue(image, face)
    paint(mask, volume, stroke)
    gui.host.select_module("CTDeface")
    wait(lambda: idle(panel))
    face = nodes.faceMask(mask, volume)
    assert face[stroke].all()

    # 5. deface: a new volume beside the input, which stays as it was
    result = deface(panel)
    assert result.GetName() == "Head CT defaced"
    assert result is not volume
    assert not result.GetHideFromEditors()
    removed = slicer.util.arrayFromVolume(result)
    assert np.array_equal(slicer.util.arrayFromVolume(volume), voxels)
    assert removed.dtype == voxels.dtype
    assert not np.array_equal(removed, voxels)
    assert (removed != voxels)[(face > 0) & ~stroke & (voxels > 0)].mean() > 0.9
    if (
        name != "phantom_ct_dicom.zip"
    ):  # what is painted on its couch, out of reach of the maps, stays: not as it should be
        assert (removed != voxels)[stroke & (voxels > -100)].mean() > 0.05
    report = panel.logic.report(result)
    assert report["mask"] == "corrected by hand"
    assert report["intracranial_voxels_touched"] == 0
    assert report["version"] == result.GetAttribute("CTDeface.version")
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    folders = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in (volume, mask, result)}
    assert len(folders) == 1
    assert folders != {hierarchy.GetSceneItemID()}

    # … shown side by side, linked
    run_for(0.05)
    layout = slicer.app.layoutManager()
    mapped = [n.GetLayoutName() for n in slicer.util.getNodesByClass("vtkMRMLViewNode") if n.IsMappedInLayout()]
    assert sorted(mapped) == ["Defaced3D", "Original3D"]
    shown = [layout.sliceWidget(view).mrmlSliceCompositeNode() for view in views.COMPARE_VIEWS]
    assert [composite.GetBackgroundVolumeID() for composite in shown] == [volume.GetID(), result.GetID()]
    assert all(composite.GetLinkedControl() for composite in shown)
    pixels = keep(gui.window, f"{name}-side-by-side", tmp_path)
    assert pixels.std() > 20

    # 6. export and evaluate
    ui.exportPathLineEdit.currentPath = str(tmp_path / "süß out.nii.gz")
    ui.exportButton.click()
    wait(lambda: not panel.busy)
    written = read_ct(tmp_path / "süß out.nii.gz")
    assert np.array_equal(sitk.GetArrayViewFromImage(written), removed)
    assert np.allclose(written.GetOrigin(), image.GetOrigin(), atol=1e-3)
    assert np.allclose(written.GetDirection(), image.GetDirection(), atol=1e-5)
    assert np.allclose(written.GetSpacing(), image.GetSpacing(), atol=1e-5)
    assert json.loads((tmp_path / "süß out.json").read_text(encoding="utf-8")) == report
    assert len([p for p in tmp_path.iterdir() if p.suffix != ".png"]) == 2
    ui.evaluateButton.click()
    assert slicer.util.selectedModule() == "CTDefaceEval"
    chosen = slicer.mrmlScene.GetSingletonNode("CTDefaceEval", "vtkMRMLScriptedModuleNode")
    assert chosen.GetNodeReference("originalVolume") is volume
    assert chosen.GetNodeReference("defacedVolume") is result


def test_each_step_says_what_is_missing(panel, phantom):
    ui = panel.ui
    assert ui.inputHintLabel.text == "Load a head CT, or press Load sample."
    for label in (ui.segmentHintLabel, ui.previewHintLabel, ui.correctHintLabel, ui.defaceHintLabel):
        assert "step 1" in label.text
    for button in (
        ui.segmentButton,
        ui.editButton,
        ui.defaceButton,
        ui.compareButton,
        ui.exportButton,
        ui.evaluateButton,
    ):
        assert not button.enabled
    assert not ui.previewFrame.enabled
    gui.volume(phantom, "CT")
    wait(lambda: ui.segmentButton.enabled)
    assert not ui.segmentHintLabel.visible
    assert "step 2" in ui.previewHintLabel.text
    assert "step 5" in ui.exportHintLabel.text


def bad_volumes():
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 50)).astype(np.int16)
    nan = noise.astype(np.float32) * 8 - 1000
    nan[3, 4, 5] = np.nan
    return {
        "a picture": noise,
        "air only": np.full((30, 40, 50), -1000, np.int16),
        "not a number": nan,
        "a single slice": noise[:1] * 8 - 1000,
    }


@pytest.mark.parametrize("name", bad_volumes())
def test_what_is_no_ct_is_refused_with_the_sentence_of_the_library(panel, name):
    array = bad_volumes()[name]
    with pytest.raises(InputError) as refused:
        check_ct(sitk.GetImageFromArray(array))
    volume = gui.volume(sitk.GetImageFromArray(array), name)
    run_for(0.05)
    assert panel.ui.inputSelector.currentNode() is None, "only a CT is chosen by itself"
    panel.ui.inputSelector.setCurrentNode(volume)
    assert panel.ui.inputHintLabel.text == str(refused.value)
    assert not panel.ui.segmentButton.enabled
    with pytest.raises(InputError, match="^" + str(refused.value)[:20]):
        panel.logic.segmentFace(volume)


def test_an_mr_and_an_empty_volume_are_refused(panel, phantom):
    volume = gui.volume(phantom, "MR")
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    hierarchy.SetItemAttribute(hierarchy.GetItemByDataNode(volume), "DICOM.Modality", "MR")
    panel.ui.inputSelector.setCurrentNode(volume)
    assert "MR" in panel.ui.inputHintLabel.text
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    panel.ui.inputSelector.setCurrentNode(empty)
    assert "empty" in panel.ui.inputHintLabel.text
    assert not panel.ui.segmentButton.enabled


def test_a_scan_without_a_face_ends_in_its_sentence(panel):
    image = stored_phantom(
        PhantomParameters(matrix=(96, 96), spacing=(2.5, 2.5, 2.5), field_of_view="above_orbits")
    ).image
    gui.volume(image, "Vertex")
    wait(lambda: panel.ui.segmentButton.enabled)
    panel.ui.segmentButton.click()
    wait(lambda: not panel.busy)
    assert "face" in panel.ui.segmentHintLabel.text
    assert panel.ui.maskSelector.currentNode() is None


def test_load_sample_and_sample_data(panel):
    import SampleData

    panel.ui.loadSampleButton.click()
    assert not panel.ui.loadSampleButton.enabled and panel.ui.inputProgressBar.visible
    wait(lambda: not panel.busy)
    assert not panel.ui.inputProgressBar.visible and not panel.ui.loadSampleButton.visible
    volume = panel.ui.inputSelector.currentNode()
    assert not nodes.ctProblem(volume)
    assert panel.ui.segmentButton.enabled
    (sample,) = SampleData.click("Head CT phantom")
    assert not nodes.ctProblem(sample)
    assert backgrounds() == {sample.GetID()}


def test_the_preview_follows_the_choices(panel, phantom):
    ui = panel.ui
    gui.volume(phantom, "CT")
    wait(lambda: ui.segmentButton.enabled)
    segment(panel)

    def report():
        wait(lambda: idle(panel))
        return panel.logic.report(panel.currentResult())

    before = report()["replaced_ml"]
    ui.segmenterComboBox.currentIndex = 1
    assert panel.currentResult() is not None, "the method was for the mask, which stays as it is"
    choose(ui.strengthComboBox, "Strict")
    assert panel.currentResult() is None
    strict = report()
    assert (strict["strength"], strict["depth_mm"]) == ("strict", DEPTH_MM["strict"])
    assert strict["replaced_ml"] > before
    assert f"Replaced {strict['replaced_ml']:.0f} mL" in ui.reportLabel.text
    choose(ui.strengthComboBox, "Light")
    ui.depthSpinBox.value = 6
    choose(ui.fillComboBox, "Air")
    light = report()
    assert (light["strength"], light["fill"], light["depth_mm"]) == ("light", "air", 6)
    assert light["replaced_ml"] < before
    assert "estimated" in ui.warningLabel.text
    ui.asIsCheckBox.click()
    assert not any(w.enabled for w in (ui.strengthComboBox, ui.depthSpinBox, ui.marginSlider)), "of no effect now"
    assert report()["parameters"]["as_is"]
    previews = [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if n.GetName().endswith("preview")]
    assert len(previews) == 1, "one preview is kept, not one for each choice"


def choose(comboBox, text):
    """Choose the entry of a combo box that starts with a text."""
    texts = [comboBox.itemText(index) for index in range(comboBox.count)]
    comboBox.currentIndex = next(index for index, label in enumerate(texts) if label.startswith(text))


def test_each_fill_and_strength_says_what_it_means(panel):
    ui = panel.ui
    for box, names in ((ui.fillComboBox, FILLS), (ui.strengthComboBox, DEPTH_MM)):
        assert box.count == len(names)
        tips = [box.itemData(index, qt.Qt.ToolTipRole) for index in range(box.count)]
        assert all(tips) and len(set(tips)) == box.count
        box.currentIndex = 0
        assert box.toolTip == tips[0]
    assert panel.parameterNode.defaceParameters()["fill"] == "smooth"
    assert "face can be estimated" in ui.strengthComboBox.toolTip
    assert panel.batchParameters()["strength"] == "light", "a batch takes the same choices"


def test_deface_takes_over_a_running_preview(panel, phantom):
    gui.volume(phantom, "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    segment(panel)
    panel.ui.marginSlider.value = 3
    wait(lambda: panel.task is Task.PREVIEW)
    jobs = panel.logic.process.count
    assert deface(panel) is not None
    assert panel.logic.process.count == jobs, "what the preview computes is the result"


def test_the_skin_level_shifts_the_rendering(panel, phantom):
    volume = gui.volume(phantom, "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    segment(panel)
    display = slicer.modules.volumerendering.logic().GetFirstVolumeRenderingDisplayNode(views.rendering(volume))
    opacity = display.GetVolumePropertyNode().GetVolumeProperty().GetScalarOpacity()
    assert opacity.GetValue(0) == 1
    panel.ui.skinShiftSlider.value = 500
    assert opacity.GetValue(0) == 0


# --------------------------------------------------------------------------------------------------- correction by hand


def paint(mask, volume, where):
    """What the Segment Editor does to the mask."""
    array = nodes.faceMask(mask, volume)
    array[where] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, mask, nodes.faceSegmentID(mask), volume)


def test_the_mask_is_edited_in_the_segment_editor_and_the_edit_is_respected(panel, phantom):
    volume = gui.volume(phantom, "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    mask = segment(panel)
    old = panel.currentResult().GetAttribute("CTDeface.madeFrom")
    unedited = slicer.util.arrayFromVolume(panel.currentResult()).copy()
    panel.ui.editButton.click()
    assert slicer.util.selectedModule() == "SegmentEditor"
    editor = slicer.util.getModuleWidget("SegmentEditor").editor
    assert editor.segmentationNode() is mask
    assert editor.sourceVolumeNode() is volume
    assert editor.currentSegmentID() == nodes.faceSegmentID(mask)

    top = np.flatnonzero(nodes.faceMask(mask, volume).any(axis=(1, 2)))[-1]
    solid = slicer.util.arrayFromVolume(volume) > -300
    scalp = np.zeros(solid.shape, bool)
    slab = np.s_[top - 2 : top + 10, :, 50:78]
    scalp[slab] = (solid & (np.cumsum(solid, axis=1) <= 3))[slab]  # of the forehead, 6 mm
    paint(mask, volume, scalp)
    edited = nodes.faceMask(mask, volume)
    gui.host.select_module("CTDeface")
    wait(lambda: idle(panel))
    assert np.array_equal(nodes.faceMask(mask, volume), edited)
    assert panel.currentResult().GetAttribute("CTDeface.madeFrom") != old
    result = deface(panel)
    assert panel.logic.report(result)["mask"] == "corrected by hand"
    assert segment(panel) is not mask, "work done by hand is not overwritten"
    assert np.array_equal(nodes.faceMask(mask, volume), edited)
    tissue = scalp & (slicer.util.arrayFromVolume(volume) > 0)
    assert tissue.any()
    before, after = slicer.util.arrayFromVolume(volume), slicer.util.arrayFromVolume(result)
    assert (after != before)[tissue].sum() > 1.5 * (unedited != before)[tissue].sum()


def test_painting_into_the_skull_asks_and_never_touches_the_brain(panel, phantom):
    volume = gui.volume(phantom, "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    mask = segment(panel)
    brain = np.zeros(nodes.faceMask(mask, volume).shape, bool)
    z = np.flatnonzero(nodes.faceMask(mask, volume).any(axis=(1, 2)))[-1]
    brain[z - 5 : z + 5, 55:75, 55:75] = True
    paint(mask, volume, brain)
    wait(lambda: idle(panel))
    dialogs.answers.append(NO)
    assert deface(panel) is None
    assert "inside the skull" in dialogs.shown[-1]
    assert "step 4" in panel.ui.defaceHintLabel.text
    dialogs.answers.append(YES)
    result = deface(panel)
    assert np.array_equal(slicer.util.arrayFromVolume(result)[brain], slicer.util.arrayFromVolume(volume)[brain])
    assert panel.logic.report(result)["intracranial_voxels_touched"] == 0


def test_an_emptied_mask_says_so(panel, phantom):
    volume = gui.volume(phantom, "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    mask = segment(panel)
    array = np.zeros_like(nodes.faceMask(mask, volume))
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, mask, nodes.faceSegmentID(mask), volume)
    wait(lambda: panel.ui.previewHintLabel.visible)
    assert "empty" in panel.ui.previewHintLabel.text


# ----------------------------------------------------------------------------------------- cancel, close, break, delete


def start_segmenting(panel, phantom):
    """A run in full swing: the process works, its folder exists."""
    volume = gui.volume(phantom, "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    panel.ui.segmentButton.click()
    wait(lambda: panel.logic.process.pid is not None)
    pid, folder = panel.logic.process.pid, panel.logic.process.folder
    assert is_alive(pid)
    assert os.path.isdir(folder)
    assert panel.task is Task.SEGMENT
    return volume, pid, folder


def test_cancel_leaves_no_process_and_no_file(panel, phantom):
    volume, pid, folder = start_segmenting(panel, phantom)
    panel.ui.segmentButton.click()
    assert not is_alive(pid)
    assert not os.path.exists(folder)
    assert panel.ui.segmentButton.text == "&Segment face"
    assert panel.ui.maskSelector.currentNode() is None
    assert "Cancelled" in panel.ui.logTextEdit.plainText
    assert segment(panel) is not None, "and it can be started again"


def test_closing_the_scene_in_mid_run_is_safe(panel, phantom):
    volume, pid, folder = start_segmenting(panel, phantom)
    slicer.mrmlScene.Clear()
    assert not is_alive(pid)
    assert not os.path.exists(folder)
    run_for(0.3)
    assert panel.ui.inputSelector.currentNode() is None
    assert "Load sample" in panel.ui.inputHintLabel.text


def test_closing_the_scene_empties_the_module_wide_caches(panel, phantom):
    gui.volume(phantom, "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    assert {f"CTDefaceSlicer.shared.nodes.{name}" for name in ("_crcs", "_problems")} <= gui.caches().keys()
    slicer.mrmlScene.Clear()
    run_for(0.1)
    assert gui.caches() == {}


def test_closing_slicer_in_mid_run_is_safe(phantom):
    with gui.user() as panel:
        volume, pid, folder = start_segmenting(panel, phantom)
        slicer.app.moduleManager().moduleAboutToBeUnloaded("CTDeface")
        assert not is_alive(pid)
        assert not os.path.exists(folder)
        run_for(0.1)
        panel.ui.inputCollapsibleButton.parent().setParent(None)
        panel.setup()  # the one process of these tests needs its panel again


def test_deleting_the_volume_in_mid_run_is_safe(panel, phantom):
    volume, pid, folder = start_segmenting(panel, phantom)
    slicer.mrmlScene.RemoveNode(volume)
    wait(lambda: not panel.busy)
    assert panel.ui.maskSelector.currentNode() is None
    assert "removed" in panel.ui.logTextEdit.plainText


def test_after_the_scene_is_closed_no_widget_is_connected_to_it(panel):
    gui.host.select_module(None)
    slicer.mrmlScene.Clear()
    panel.ui.marginSlider.value = 7
    choose(panel.ui.strengthComboBox, "Strict")
    node = slicer.mrmlScene.GetSingletonNode("CTDeface", "vtkMRMLScriptedModuleNode")
    assert (node.GetParameter("margin"), node.GetParameter("strength")) == ("0.0", "STANDARD")
    gui.host.select_module("CTDeface")
    assert (panel.ui.marginSlider.value, panel.ui.strengthComboBox.currentText) == (0, "Standard")
    for _ in range(3):  # to leave and enter the module leaves nothing behind in its parameters
        gui.host.select_module("SegmentEditor")
        gui.host.select_module("CTDeface")
    changes = []
    panel.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: changes.append(1))
    panel.ui.marginSlider.value = 5
    assert len(changes) == 1


def test_the_views_belong_to_the_module_that_is_open(panel, phantom, monkeypatch):
    volume = gui.volume(phantom, "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    segment(panel)
    panel.ui.marginSlider.value = 6
    wait(lambda: panel.task is Task.PREVIEW)
    stops = []
    monkeypatch.setattr(panel.logic.process, "stop", lambda: stops.append(1))
    gui.host.select_module("SegmentEditor")
    views.showInSlices(None)
    wait(lambda: not panel.busy)
    run_for(0.6)
    assert backgrounds() == {None}
    assert stops, "the background process ends when its work is done and the module is left"
    monkeypatch.undo()
    slicer.mrmlScene.RemoveNode(volume)
    other = gui.volume(phantom, "Other")
    run_for(0.05)
    assert backgrounds() == {None}
    gui.host.select_module("CTDeface")
    assert panel.ui.inputSelector.currentNode() is other
    assert backgrounds() == {other.GetID()}


def test_a_worker_that_dies_is_reported_and_replaced(panel, phantom):
    volume, pid, folder = start_segmenting(panel, phantom)
    end_process_group(pid)
    wait(lambda: not panel.busy)
    assert "stopped unexpectedly" in panel.ui.segmentHintLabel.text
    assert not os.path.exists(folder)
    assert segment(panel) is not None
    assert not panel.ui.segmentHintLabel.visible


def test_a_python_that_cannot_be_started_is_reported(panel, phantom, monkeypatch, caplog):
    gui.volume(phantom, "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    gui.stop_process(panel.logic.process)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    panel.ui.segmentButton.click()
    wait(lambda: not panel.busy)
    assert "could not be started" in panel.ui.segmentHintLabel.text
    assert panel.logic.process.folder is None


def test_a_greeting_of_the_launcher_is_no_answer(tmp_path, monkeypatch):
    (tmp_path / "greetings").mkdir()
    (tmp_path / "greetings" / "greeting.py").write_text(
        "from CTDefaceLib import worker\ndef main():\n    print('Welcome', flush=True)\n    worker.main()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    process = BackgroundProcess(importlib.import_module("greetings.greeting"))
    process.start(tasks.MakePhantom({"matrix": (16, 16), "spacing": (20.0, 20.0, 20.0)}))
    assert process.wait()["spacing"] == [20.0, 20.0, 20.0]
    folder = process.folder
    process.stop()
    assert not os.path.exists(folder)
    assert not gui.pythonqt.problems


@pytest.mark.parametrize(
    ("error", "reason"),
    [(MemoryError(), "MemoryError"), (PermissionError(13, "Permission denied"), "Permission denied")],
)
def test_whatever_goes_wrong_with_a_result_ends_its_task(error, reason, caplog):
    def finish(report, path):
        raise error

    process, failed = BackgroundProcess(), []
    process.start(
        tasks.MakePhantom({"matrix": (16, 16), "spacing": (20.0, 20.0, 20.0)}), finish=finish, failed=failed.append
    )
    wait(lambda: not process.busy)
    process.stop()
    assert len(failed) == 1 and isinstance(failed[0], CTDefaceError) and reason in str(failed[0])
    assert "could not be read" in caplog.text
    assert not gui.pythonqt.problems


class Nap:
    """A task that a worker of the next test does."""


class Snore:
    """One that it does not know."""


@pytest.mark.skipif(os.name == "nt", reason="POSIX processes")
@pytest.mark.parametrize("how", ["input closes", "killed"])
def test_the_worker_takes_its_children_and_its_folder_with_it(tmp_path, how):
    folder = tmp_path / "work"
    folder.mkdir()
    code = (
        "import subprocess, sys, time\n"
        "from CTDefaceLib import worker\n"
        "class Nap:\n"
        "    pass\n"
        "def nap(task, call):\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "    call.progress(0.5, str(child.pid))\n"
        "    time.sleep(60)\n"
        "worker.main({Nap: nap})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(gui.CHECKOUT / "CTDeface")}
    command = [sys.executable, "-c", code, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        pid = tasks.from_line(process.stdout.readline(), tasks.ANSWERS).pid
        assert pid == process.pid
        process.stdin.write(tasks.to_line(tasks.Job(1, Snore())) + "\n")
        process.stdin.write(tasks.to_line(tasks.Job(2, Nap())) + "\n")
        process.stdin.flush()
        refused = tasks.from_line(process.stdout.readline(), tasks.ANSWERS)
        assert refused.id == 1 and "does not know the task Snore" in refused.sentence and not refused.details
        child = int(tasks.from_line(process.stdout.readline(), tasks.ANSWERS).text)
        assert is_alive(child)
        if how == "killed":
            end_process_group(pid)
        else:
            process.stdin.close()
        process.wait(20)  # both would sleep for a minute
        wait(lambda: not is_alive(child), 20)
    assert folder.exists() == (how == "killed")  # then whoever started it removes it


def test_deleting_the_result_undoes_it_and_deleting_the_input_leaves_nothing_hidden(panel, phantom):
    volume = gui.volume(phantom, "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    segment(panel)
    first = deface(panel)
    slicer.mrmlScene.RemoveNode(first)
    run_for(0.05)
    assert "step 5" in panel.ui.exportHintLabel.text
    assert not panel.ui.compareButton.enabled
    panel.ui.beforeRadioButton.click()
    wait(lambda: idle(panel))
    second = deface(panel)
    assert second.GetName().startswith("CT defaced")
    slicer.mrmlScene.RemoveNode(volume)
    run_for(0.05)
    left = [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if n.GetHideFromEditors()]
    assert not left


def test_each_input_has_its_own_mask_and_result(panel, phantom):
    first = gui.volume(phantom, "First")
    wait(lambda: panel.ui.segmentButton.enabled)
    mask = segment(panel)
    result = deface(panel)
    second = gui.volume(phantom, "Second")
    panel.ui.inputSelector.setCurrentNode(second)
    assert (panel.ui.maskSelector.currentNode(), panel.ui.defacedSelector.currentNode()) == (None, None)
    other = segment(panel)
    assert other is not mask
    panel.ui.beforeRadioButton.click()
    assert not mask.GetDisplayNode().GetVisibility()
    assert views.rendering(first) is None, "only what is looked at takes memory"
    panel.ui.inputSelector.setCurrentNode(first)
    assert (panel.ui.maskSelector.currentNode(), panel.ui.defacedSelector.currentNode()) == (mask, result)


def test_export_asks_before_it_replaces_a_file(panel, phantom, tmp_path):
    gui.volume(phantom, "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    segment(panel)
    result = deface(panel)
    path = tmp_path / "out.nrrd"
    path.write_text("precious")
    panel.ui.exportPathLineEdit.currentPath = str(tmp_path / "long.nrrd")
    panel.ui.exportButton.click()
    assert panel.ui.exportButton.text == "Cancel" and panel.ui.exportButton.enabled
    panel.ui.exportButton.click()
    assert not panel.busy and panel.ui.exportButton.text == "E&xport" and not panel.exportPanel.isDone
    run_for(0.05)
    assert os.listdir(tmp_path) == ["out.nrrd"]
    panel.ui.exportPathLineEdit.currentPath = str(path)
    dialogs.answers.append(NO)
    panel.ui.exportButton.click()
    assert path.read_text() == "precious"
    dialogs.answers.append(YES)
    panel.ui.exportButton.click()
    wait(lambda: not panel.busy)
    assert path.stat().st_size > 1000
    with pytest.raises(OutputError, match="exists"):
        panel.logic.exportVolume(result, path)
    panel.ui.exportPathLineEdit.currentPath = str(tmp_path / "out.jpg")
    panel.ui.exportButton.click()
    assert ".nii.gz" in panel.ui.exportHintLabel.text
    panel.ui.exportPathLineEdit.currentPath = str(tmp_path / "no folder" / "out.nrrd")
    panel.ui.exportButton.click()
    assert "folder" in panel.ui.exportHintLabel.text


# --------------------------------------------------------------------------------------------------- scenes and console


def test_a_scene_of_the_first_version_keeps_what_was_chosen(panel, tmp_path):
    node = panel.parameterNode.parameterNode
    for name, value in {"keepBone": "True", "sealed": "False", "fill": "CONSTANT", "margin": "5.0"}.items():
        node.SetParameter(name, value)
    for name in ("strength", "depth", "asIs"):
        node.UnsetParameter(name)
    text = slicer.mrmlScene.GetRootDirectory()
    path = tmp_path / "old.mrml"
    slicer.mrmlScene.SetRootDirectory(str(tmp_path))
    slicer.mrmlScene.Commit(str(path))
    slicer.mrmlScene.SetRootDirectory(text)
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(path))
    run_for(0.05)
    parameters = panel.parameterNode
    assert parameters.strength.value == "light"
    assert (parameters.fill.value, parameters.margin, parameters.asIs) == ("constant", 5, True)
    assert not parameters.parameterNode.GetParameter("keepBone")


def test_saving_and_reopening_the_scene_restores_the_panel(panel, phantom, tmp_path):
    volume = gui.volume(phantom, "CT")
    wait(lambda: panel.ui.segmentButton.enabled)
    mask = segment(panel)
    panel.ui.marginSlider.value = 4
    choose(panel.ui.strengthComboBox, "Light")
    panel.ui.depthSpinBox.value = 8
    wait(lambda: idle(panel))
    result = deface(panel)
    face, removed = nodes.faceMask(mask, volume), slicer.util.arrayFromVolume(result).copy()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"), {})
    slicer.mrmlScene.Clear()
    run_for(0.05)
    assert (panel.ui.marginSlider.value, panel.ui.maskSelector.currentNode()) == (0, None)
    jobs = panel.logic.process.count
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    run_for(0.05)

    ui = panel.ui
    assert (ui.marginSlider.value, ui.depthSpinBox.value) == (4, 8)
    assert ui.strengthComboBox.currentText.startswith("Light")
    volume, mask, result = (s.currentNode() for s in (ui.inputSelector, ui.maskSelector, ui.defacedSelector))
    assert (volume.GetName(), result.GetName()) == ("CT", "CT defaced")
    assert np.array_equal(nodes.faceMask(mask, volume), face)
    assert np.array_equal(slicer.util.arrayFromVolume(result), removed)
    assert panel.currentResult() is result, "the result is recognized; nothing is computed again"
    run_for(0.8)
    assert panel.logic.process.count == jobs
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert sorted(n for n in names if "preview" in n) == []
    assert views.isSideBySide()
    assert all(views.rendering(node) is not None for node in (volume, result)), "shown as it was saved"


@pytest.mark.parametrize("name", SCANS)
def test_the_console_lines_without_a_window(scans, name, tmp_path):
    sitk.WriteImage(scans(name), str(tmp_path / "ct.nrrd"))
    code = (
        "import sys\n"
        f"sys.path[:0] = [{str(gui.CHECKOUT / 'Testing')!r}, {str(gui.CHECKOUT / 'CTDeface')!r}]\n"
        "from pathlib import Path\n"
        "import slicer_host\n"
        "host = slicer_host.start(with_main_window=False)\n"
        "import slicer\n"
        f"host.add_scripted_module(Path({str(gui.CHECKOUT)!r}, 'CTDeface', 'CTDeface.py'))\n"
        f"volumeNode = slicer.util.loadVolume({str(tmp_path / 'ct.nrrd')!r})\n"
        "logic = slicer.util.getModuleLogic('CTDeface')\n"
        "mask = logic.segmentFace(volumeNode)\n"
        "result = logic.deface(volumeNode, mask)\n"
        f"logic.exportVolume(result, {str(tmp_path / 'out.nrrd')!r})\n"
        "print(mask.GetName(), '/', result.GetName())\n"
        "slicer.app.moduleManager().moduleAboutToBeUnloaded('CTDeface')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "ct face mask / ct defaced", done.stderr
    assert not done.stderr.strip()
    assert (tmp_path / "out.json").exists()


@pytest.mark.parametrize("reach", [(2, 9, 3, 8, 1, 5), (-3, 4, 2, 30, 4, 9), (40, 44, 0, 3, 0, 3)])
@pytest.mark.parametrize("moved", [0.0, 0.25])
def test_mask_on_the_grid_of_the_volume_is_what_resampling_gives(reach, moved):
    """Where a labelmap has the grid of the volume, it is taken as it is, however far it reaches."""
    shape = (7, 11, 13)
    volume = nodes.addVolume(np.zeros(shape, np.int16), (0.5, 0.6, 2.0), (3.0, -9.0, 5.0), np.eye(3), "CT")
    other = nodes.addVolume(np.zeros(shape, np.int16), (0.5, 0.6, 2.0), (3.0 + moved, -9.0, 5.0), np.eye(3), "Grid")
    labelmap = slicer.vtkOrientedImageData()
    labelmap.SetExtent(*reach)
    labelmap.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    values = vtk_to_numpy(labelmap.GetPointData().GetScalars())
    values[:] = np.random.default_rng(0).integers(0, 2, len(values))
    matrix = vtk.vtkMatrix4x4()
    other.GetIJKToRASMatrix(matrix)
    labelmap.SetImageToWorldMatrix(matrix)
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    mask.AddSegmentFromBinaryLabelmapRepresentation(labelmap, nodes.FACE_NAME)
    expected = slicer.util.arrayFromSegmentBinaryLabelmap(mask, nodes.faceSegmentID(mask), volume)
    found = nodes.faceMask(mask, volume)
    assert found.shape == shape and np.array_equal(found, expected > 0)
    assert found.any() == (reach[0] < 13)


def test_a_mask_that_was_made_as_a_surface_is_taken_and_left_as_it_is():
    """As from an STL file: the surface is the original, and all there is of it."""
    volume = nodes.addVolume(np.zeros((40, 40, 40), np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), "CT")
    ball = vtk.vtkSphereSource()
    ball.SetCenter(-20.0, -20.0, 20.0)
    ball.SetRadius(8.0)
    ball.SetThetaResolution(40)
    ball.SetPhiResolution(40)
    ball.Update()
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    surface = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    mask.GetSegmentation().SetSourceRepresentationName(surface)
    segmentID = mask.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), nodes.FACE_NAME)
    for _ in range(2):
        nodes.updateFaceSurface(mask, volume)
        drawn = mask.GetSegmentation().GetSegment(segmentID).GetRepresentation(surface)
        assert drawn.GetNumberOfPoints() == ball.GetOutput().GetNumberOfPoints()
        assert nodes.faceMask(mask, volume).sum() == pytest.approx(4 / 3 * np.pi * 8.0**3, rel=0.1)
    assert nodes.faceFingerprint(mask) != 0


def test_a_new_mask_takes_the_place_of_the_face_alone():
    """What the user has drawn beside the face, such as what must stay, is in no other place."""
    volume = nodes.addVolume(np.zeros((9, 9, 9), np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), "CT")
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    array = np.zeros((9, 9, 9), np.uint8)
    array[2:5, 2:5, 2:5] = 1
    nodes.setFaceMask(mask, array, volume)
    drawn = mask.GetSegmentation().AddEmptySegment("", "lymph node")
    slicer.util.updateSegmentBinaryLabelmapFromArray(array[::-1].copy(), mask, drawn, volume)
    nodes.setFaceMask(mask, np.roll(array, 1, axis=2), volume)
    assert mask.GetSegmentation().GetNumberOfSegments() == 2
    assert np.array_equal(nodes.faceMask(mask, volume), np.roll(array, 1, axis=2))
    kept = slicer.util.arrayFromSegmentBinaryLabelmap(mask, drawn, volume)
    assert np.array_equal(kept > 0, array[::-1] > 0)


def test_a_segment_without_any_voxels_is_empty():
    volume = nodes.addVolume(np.zeros((2, 3, 4), np.int16), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), np.eye(3), "CT")
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    mask.AddSegmentFromBinaryLabelmapRepresentation(slicer.vtkOrientedImageData(), nodes.FACE_NAME)
    assert nodes.faceFingerprint(mask) == 0
    assert not nodes.faceMask(mask, volume).any()
    assert not nodes.segmentVoxels(mask, nodes.faceSegmentID(mask), volume)[0].any()


def test_oblique_and_transformed_volumes_keep_their_place(panel, phantom):
    plain = gui.volume(phantom, "plain")
    turned = sitk.Image(phantom)
    rotation = sitk.VersorTransform((0.0, 0.0, 1.0), 0.2)
    turned.SetDirection(np.array(rotation.GetMatrix()))
    turned.SetOrigin((13.0, -200.0, 45.0))
    oblique = gui.volume(turned, "oblique")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = (5, -20, 30)
    slicer.util.updateTransformMatrixFromArray(transform, matrix)
    moved = gui.volume(phantom, "moved")
    moved.SetAndObserveTransformNodeID(transform.GetID())

    logic = panel.logic
    masks = {node.GetName(): logic.segmentFace(node) for node in (plain, oblique, moved)}
    assert np.array_equal(nodes.faceMask(masks["plain"], plain), nodes.faceMask(masks["moved"], moved))
    overlap = nodes.faceMask(masks["plain"], plain) & nodes.faceMask(masks["oblique"], oblique)
    assert overlap.sum() > 0.9 * nodes.faceMask(masks["oblique"], oblique).sum()
    assert masks["moved"].GetTransformNodeID() == transform.GetID()
    result = logic.deface(oblique, masks["oblique"])
    for place in ("GetSpacing", "GetOrigin"):
        assert np.allclose(getattr(result, place)(), getattr(oblique, place)())
    assert np.allclose(nodes.volumeGeometry(result)[2], turned.GetDirection())
    result = logic.deface(moved, masks["moved"])
    assert result.GetTransformNodeID() == transform.GetID()
    bounds = [np.zeros(6), np.zeros(6)]
    masks["plain"].GetRASBounds(bounds[0])
    masks["moved"].GetRASBounds(bounds[1])
    assert np.allclose(bounds[1] - bounds[0], np.repeat(matrix[:3, 3], 2), atol=0.1)


def test_a_second_task_is_refused_while_one_runs(panel, phantom):
    volume, _, _ = start_segmenting(panel, phantom)
    with pytest.raises(CTDefaceError, match="still running"):
        panel.logic.segmentFace(volume)
    panel.ui.segmentButton.click()


def test_the_layout_is_known_before_anything_is_compared():
    assert slicer.app.layoutManager().layoutLogic().GetLayoutNode().IsLayoutDescription(views.COMPARE_LAYOUT)


def test_the_modules_own_test_passes(panel):
    slicer.selfTests["CTDeface"]()


# ------------------------------------------------------------------------------------------------------- how it looks


def test_the_panel_fits_400_pixels_and_explains_itself(panel, phantom, tmp_path):
    gui.volume(phantom, "A head CT with quite a long name, as they come out of the archive")
    wait(lambda: panel.ui.segmentButton.enabled)
    form = panel.parent
    scroll = gui.scroll_area
    splitter = gui.splitter
    sizes = splitter.sizes()
    splitter.setSizes([402, 900])
    for state in ("chosen", "segmented", "defaced"):
        if state == "segmented":
            segment(panel)
        if state == "defaced":
            deface(panel)
        panel.ui.batchCollapsibleButton.collapsed = False
        run_for(0.1)
        assert scroll.width() <= 402
        assert not scroll.horizontalScrollBar().isVisible()
        assert form.width <= scroll.viewport().width()
        for widget in vars(panel.ui).values():
            if widget.visible and hasattr(widget, "text") and not getattr(widget, "wordWrap", False):
                assert widget.width >= widget.minimumSizeHint().width(), f"{widget.name} is cut"
        keep(form, f"panel-{state}", tmp_path)
    splitter.setSizes(sizes)


def test_everything_has_a_tool_tip(panel):
    for name, widget in vars(panel.ui).items():
        if widget.className() not in ("QWidget", "QScrollBar", "qMRMLWidget") and not name.startswith("qt_"):
            assert len(widget.toolTip) > 10, name


def test_errors_can_be_read_in_both_styles(panel):
    label = panel.ui.warningLabel
    for background, red, green in (("#efefef", "#c0392b", "#2f7d3b"), ("#353535", "#ff8a7a", "#7ccf87")):
        palette = qt.QPalette()
        palette.setColor(qt.QPalette.Window, qt.QColor(background))
        label.styleSheet = ""
        label.palette = palette
        assert red in hints.marked(False, "", label) and green in hints.marked(True, "", label)
        hints.show(label, "", "Look here.")
        assert red in label.styleSheet
    label.palette = qt.QPalette()


def test_the_help_names_this_module_only(panel):
    module = slicer.modules.ctdeface
    assert "Load sample" in module.helpText
    assert "Apache License" in module.acknowledgementText  # else Slicer puts its own sponsors there
