"""The head that is shown and exported is the one that is chosen, with several patients and whatever is deleted."""

import itertools
import json

import gui
import numpy as np
import pytest
import quick_worker
import SimpleITK as sitk
import slicer
from CTDefaceLib.errors import InputError
from CTDefaceLib.volume_io import read_ct
from CTDefaceSlicer.shared import views
from gui import dialogs, run_for, wait
from stored_phantoms import very_coarse_head

import qt  # isort: skip

pytestmark = pytest.mark.gui
INPUT, MASK, RESULT = KINDS = ("input", "mask", "result")


@pytest.fixture(scope="module")
def head():
    """A very coarse phantom."""
    return very_coarse_head()


@pytest.fixture
def panel(monkeypatch, tmp_path):
    with gui.user() as panel:
        quick_worker.use(panel, monkeypatch, tmp_path)
        yield panel


def patient(head, number):
    """The volume of another patient."""
    return gui.volume(head + number, f"Patient {number}")


def defaced(panel, volume):
    """Choose a volume and press all that leads to its result."""
    ui = panel.ui
    ui.inputSelector.setCurrentNode(volume)
    for button in (ui.segmentButton, ui.defaceButton):
        slicer.app.processEvents()
        button.click()
    slicer.app.processEvents()
    assert (ui.defaceHintLabel.visible, panel.parameterNode.inputVolume) == (False, volume)
    return {INPUT: volume, MASK: ui.maskSelector.currentNode(), RESULT: ui.defacedSelector.currentNode()}


def originals():
    """The scans of the scene that show a face."""
    shown = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [node for node in shown if (slicer.util.arrayFromVolume(node)[:, : 64 // 3] > -500).any()]


def shown_in(kind, name):
    """The volume that a view of the side-by-side layout shows, "3D" or slice, or None."""
    if kind == "slice":
        composite = slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode()
        return slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
    view = slicer.mrmlScene.GetSingletonNode(f"{name}3D", "vtkMRMLViewNode").GetID()
    return next((node for node in rendered() if views._display(node).IsDisplayableInView(view)), None)


def rendered():
    """The volumes whose skin the 3D views show."""
    logic = slicer.modules.volumerendering.logic()
    found = []
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        display = logic.GetFirstVolumeRenderingDisplayNode(node)
        if display is not None and display.GetVisibility():
            found.append(node.GetNodeReference(views.RENDERING_OF))
    return found


def visible_masks():
    masks = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [mask for mask in masks if mask.GetDisplayNode() and mask.GetDisplayNode().GetVisibility()]


def backgrounds():
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return {slicer.mrmlScene.GetNodeByID(c.GetBackgroundVolumeID() or "") for c in composites}


# ------------------------------------------------------------------------------------------------------------- deletion


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("kinds", list(itertools.permutations(KINDS)), ids="-".join)
def test_whatever_is_deleted_only_a_result_is_exported(panel, head, number, kinds):
    parameters, logic = panel.parameterNode, panel.logic
    patients = [defaced(panel, patient(head, n)) for n in range(number)]
    original = {made[kind]: made[INPUT] for made in patients for kind in KINDS}
    panel.ui.inputSelector.setCurrentNode(patients[number // 2][INPUT])
    for kind in kinds:
        for made in patients:
            chosen = parameters.inputVolume
            slicer.mrmlScene.RemoveNode(made[kind])
            for moment in ("at once", "later"):
                assert parameters.inputVolume is (None if chosen is made[INPUT] and kind == INPUT else chosen), moment
                for node in (parameters.faceMask, parameters.defacedVolume):
                    assert node is None or original[node] is parameters.inputVolume, moment
                assert parameters.defacedVolume not in originals()
                assert panel.ui.defacedSelector.currentNode() is parameters.defacedVolume
                assert panel.ui.maskSelector.currentNode() is parameters.faceMask
                assert panel.ui.exportButton.enabled <= (parameters.defacedVolume is not None)
                slicer.app.processEvents()
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        assert not logic.isResult(node)


def test_the_result_before_is_chosen_when_the_last_one_is_deleted(panel, head):
    first = defaced(panel, patient(head, 0))
    panel.ui.marginSlider.value = 3
    second = defaced(panel, first[INPUT])
    assert second[RESULT] is not first[RESULT]
    slicer.mrmlScene.RemoveNode(second[RESULT])
    assert panel.parameterNode.defacedVolume is first[RESULT]
    slicer.mrmlScene.RemoveNode(first[RESULT])
    run_for(0.02)
    assert panel.parameterNode.defacedVolume is None
    assert "step 5" in panel.ui.exportHintLabel.text and not panel.ui.exportButton.enabled


def test_the_selector_of_results_offers_results_only(panel, head):
    made = [defaced(panel, patient(head, n)) for n in range(2)]
    assert panel.ui.defacedSelector.nodeCount() == 2
    panel.ui.defacedSelector.setCurrentNode(made[0][INPUT])
    assert panel.ui.defacedSelector.currentNode() is None


def test_what_is_no_result_is_not_exported(panel, head, tmp_path):
    made = defaced(panel, patient(head, 0))
    for export in (panel.logic.exportVolume, panel.logic.exportSeries):
        with pytest.raises(InputError, match="no result of CTDeface"):
            export(made[INPUT], tmp_path / "out.nrrd")
    assert not (tmp_path / "out.nrrd").exists()
    panel.logic.exportVolume(made[RESULT], tmp_path / "out.nrrd")
    assert np.array_equal(sitk.GetArrayFromImage(read_ct(tmp_path / "out.nrrd")),
                          slicer.util.arrayFromVolume(made[RESULT]))  # fmt: skip


def test_the_evaluation_never_falls_to_another_volume(head, monkeypatch):
    with gui.user("CTDefaceEval") as panel:
        monkeypatch.setattr(panel.headsPanel, "showSoon", lambda: None)
        monkeypatch.setattr(panel, "preselect", lambda volumeNodes=None: None)
        parameters = panel.parameterNode
        for order in itertools.permutations(range(4)):
            volumes = [patient(head, n) for n in range(4)]
            with slicer.util.NodeModify(parameters):
                parameters.originalVolume, parameters.defacedVolume = volumes[2], volumes[3]
            left = set(volumes)
            for index in order:
                slicer.mrmlScene.RemoveNode(volumes[index])
                left.remove(volumes[index])
                for moment in ("at once", "later"):
                    assert parameters.originalVolume is (volumes[2] if volumes[2] in left else None), moment
                    assert parameters.defacedVolume is (volumes[3] if volumes[3] in left else None), moment
                    assert panel.ui.originalSelector.currentNode() is parameters.originalVolume
                    assert panel.ui.defacedSelector.currentNode() is parameters.defacedVolume
                    slicer.app.processEvents()


# ---------------------------------------------------------------------------------------------------------------- views


def test_choosing_an_input_shows_it_everywhere_whatever_was_shown_before(panel, head):
    first = defaced(panel, patient(head, 0))
    assert views.isSideBySide()
    shifted = sitk.Image(head)
    shifted.SetOrigin(np.add(head.GetOrigin(), (0, 0, 300)))
    second = gui.volume(shifted, "Second")
    panel.ui.inputSelector.setCurrentNode(second)
    run_for(0.02)
    assert not views.isSideBySide()
    assert backgrounds() == {second} and rendered() == [second] and not visible_masks()
    camera = slicer.modules.cameras.logic().GetViewActiveCameraNode(views.threeDView().mrmlViewNode())
    bounds = [0.0] * 6
    second.GetRASBounds(bounds)
    assert np.allclose(camera.GetFocalPoint(), np.reshape(bounds, (3, 2)).mean(axis=1))
    heights = [n.GetSliceOffset() for n in slicer.util.getNodesByClass("vtkMRMLSliceNode") if n.GetName() == "Red"]
    assert all(bounds[4] <= height <= bounds[5] for height in heights)
    panel.ui.inputSelector.setCurrentNode(first[INPUT])
    run_for(0.02)
    assert backgrounds() == {first[INPUT]} and rendered() == [first[INPUT]] and visible_masks() == [first[MASK]]
    panel.ui.inputSelector.setCurrentNode(None)
    run_for(0.02)
    assert backgrounds() == {None} and not rendered() and not visible_masks()


def test_a_volume_that_is_no_ct_takes_the_head_from_the_views_as_well(panel, head):
    defaced(panel, patient(head, 0))
    picture = gui.volume(sitk.Image([30, 30, 30], sitk.sitkUInt8), "Picture")
    panel.ui.inputSelector.setCurrentNode(picture)
    run_for(0.02)
    assert backgrounds() == {picture} and not rendered() and not visible_masks() and not views.isSideBySide()


def test_segmenting_while_side_by_side_paints_no_mask_over_the_defaced_head(panel, head):
    made = defaced(panel, patient(head, 0))
    assert views.isSideBySide() and not visible_masks()
    panel.ui.segmentButton.click()
    assert not (views.isSideBySide() and visible_masks())
    run_for(0.02)
    assert not views.isSideBySide() and visible_masks() == [panel.parameterNode.faceMask]
    assert rendered() == [made[INPUT]]


def test_the_views_show_what_their_title_says(panel, head):
    one = defaced(panel, patient(head, 0))
    two = defaced(panel, patient(head, 1))
    for kind in ("slice", "3D"):
        assert [shown_in(kind, name) for name in views.COMPARE_VIEWS] == [two[INPUT], two[RESULT]]
    panel.ui.marginSlider.value = 2
    newer = defaced(panel, two[INPUT])
    panel.ui.defacedSelector.setCurrentNode(two[RESULT])
    run_for(0.02)
    for kind in ("slice", "3D"):
        assert [shown_in(kind, name) for name in views.COMPARE_VIEWS] == [two[INPUT], two[RESULT]]
    slicer.mrmlScene.RemoveNode(two[RESULT])
    run_for(0.02)
    for kind in ("slice", "3D"):
        assert [shown_in(kind, name) for name in views.COMPARE_VIEWS] == [two[INPUT], newer[RESULT]]
    slicer.mrmlScene.RemoveNode(newer[RESULT])
    run_for(0.02)
    assert not views.isSideBySide() and rendered() == [two[INPUT]]
    panel.ui.defacedSelector.setCurrentNode(one[RESULT])  # of another patient
    assert not panel.ui.compareButton.enabled and not panel.ui.evaluateButton.enabled
    assert not panel.ui.exportButton.enabled and "“Patient 0”" in panel.ui.exportHintLabel.text


# -------------------------------------------------------------------------------------------------------------- results


def test_of_several_results_the_panel_says_which_belongs_to_the_present_choices(panel, head):
    first = defaced(panel, patient(head, 0))
    assert "present mask and choices" in panel.ui.resultLabel.text
    panel.ui.marginSlider.value = 3
    assert "other choices" in panel.ui.resultLabel.text
    second = defaced(panel, first[INPUT])
    assert (first[RESULT].GetName(), second[RESULT].GetName()) == ("Patient 0 defaced (older)", "Patient 0 defaced")
    assert "present mask and choices" in panel.ui.resultLabel.text
    panel.ui.defacedSelector.setCurrentNode(first[RESULT])
    assert "other choices" in panel.ui.resultLabel.text
    panel.ui.marginSlider.value = 0
    assert "present mask and choices" in panel.ui.resultLabel.text
    first[RESULT].SetName("Mine")
    panel.ui.marginSlider.value = 5
    third = defaced(panel, first[INPUT])
    names = [made[RESULT].GetName() for made in (first, second, third)]
    assert names == ["Mine", "Patient 0 defaced (older)", "Patient 0 defaced"], "a name that was given stays"


# --------------------------------------------------------------------------------------------------------------- export


@pytest.fixture
def folder(tmp_path):
    """The folder that Slicer saves into."""
    before = slicer.mrmlScene.GetRootDirectory()
    slicer.mrmlScene.SetRootDirectory(str(tmp_path / "scans"))
    (tmp_path / "scans").mkdir()
    yield tmp_path / "scans"
    slicer.mrmlScene.SetRootDirectory(before)


def test_export_with_a_file_chosen_by_the_button(panel, head, folder):
    made, ui = defaced(panel, patient(head, 0)), panel.ui
    ui.exportPathLineEdit.currentPath = ""
    assert not ui.exportButton.enabled and "file name" in ui.exportHintLabel.text
    for name in ("out.nii.gz", "out.nii", "out.nrrd"):
        dialogs.answers.append(str(folder / name))
        ui.exportPathLineEdit.browse()
        assert ui.exportButton.enabled, name
        dialogs.answers += [] if name == "out.nii.gz" else [qt.QMessageBox.Yes]  # the report of the one before
        ui.exportButton.click()
        assert ui.exportHintLabel.text == f"Exported to {folder / name}"
        assert read_ct(folder / name).GetSize() == head.GetSize()
        ui.exportPathLineEdit.currentPath = ""
        assert not ui.exportButton.enabled and "file name" in ui.exportHintLabel.text
    assert json.loads((folder / "out.json").read_text())["mask"] == "as segmented"
    dialogs.answers += [str(folder / "out.nii.gz"), qt.QMessageBox.No]  # one question only, when it is written
    ui.exportPathLineEdit.browse()
    before = (folder / "out.nii.gz").stat().st_mtime_ns
    ui.exportButton.click()
    assert "out.nii.gz and out.json exist already" in dialogs.shown[-1]
    assert (folder / "out.nii.gz").stat().st_mtime_ns == before
    assert made[RESULT] is panel.parameterNode.defacedVolume


def test_a_name_that_names_nobody_is_proposed_and_nothing_is_overwritten(panel, head, folder):
    ui = panel.ui
    defaced(panel, patient(head, 0))
    assert ui.exportPathLineEdit.currentPath == str(folder / "defaced_head_ct.nii.gz")
    ui.exportButton.click()
    other = defaced(panel, patient(head, 1))
    assert ui.exportPathLineEdit.currentPath == str(folder / "defaced_head_ct_2.nii.gz")
    assert "Exported" not in ui.exportHintLabel.text
    ui.exportPathLineEdit.currentPath = str(folder / "mine.nrrd")
    ui.marginSlider.value = 2
    defaced(panel, other[INPUT])
    assert ui.exportPathLineEdit.currentPath == str(folder / "mine.nrrd"), "a name of one's own stays"


def test_a_relative_name_is_shown_as_the_full_path(panel, head, folder):
    ui = panel.ui
    defaced(panel, patient(head, 0))
    ui.exportPathLineEdit.currentPath = "mine.nrrd"
    assert ui.exportHintLabel.text == f"Will be written to {folder / 'mine.nrrd'}"
    ui.exportButton.click()
    assert (folder / "mine.nrrd").exists()
    assert ui.exportPathLineEdit.currentPath == str(folder / "mine.nrrd")
    assert ui.exportHintLabel.text == f"Exported to {folder / 'mine.nrrd'}"
    wait(lambda: not panel.busy)
