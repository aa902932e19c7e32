"""The CTDeface panel: what must stay, and further series of the same patient, by mouse."""

import dicom_files
import gui
import numpy as np
import pydicom
import pytest
import quick_worker
import SimpleITK as sitk
import slicer
from coarse_phantoms import mask_of, scan, voxels
from CTDefaceLib.errors import InputError
from CTDefaceLib.structures import LISTS
from CTDefaceLib.volume_io import read_ct
from CTDefaceSlicer.shared import nodes
from gui import wait
from slicer_host import dicom
from stored_phantoms import very_coarse_head
from test_keep import jaw
from test_study import mr

import ctk  # isort: skip
import qt  # isort: skip

pytestmark = pytest.mark.gui


@pytest.fixture(scope="module")
def head():
    """A very coarse phantom."""
    return very_coarse_head()


@pytest.fixture
def panel():
    with gui.user() as panel:
        yield panel


@pytest.fixture
def quick(panel, monkeypatch, tmp_path):
    """The panel with a worker that needs no time."""
    (tmp_path / "saved").mkdir()
    slicer.mrmlScene.SetRootDirectory(str(tmp_path / "saved"))
    quick_worker.use(panel, monkeypatch, tmp_path)
    return panel


def patient(name, *volumes):
    """Put volumes below a patient and a study of the subject hierarchy."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), name), "study")
    for volume in volumes:
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(volume), study)


def segmentation(volume, **segments):
    """A segmentation drawn on a volume: masks of shape (slices, rows, columns) by name."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Drawn")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name, array in segments.items():
        node.AddSegmentFromBinaryLabelmapRepresentation(nodes._labelmap(array, volume), name, (0.2, 0.6, 0.9))
    return node


def rows(table):
    """Tick (None where there is none) and texts of each row."""
    found = []
    for row in range(table.rowCount):
        item, remark = table.item(row, 0), table.item(row, 1)
        state = item.data(qt.Qt.CheckStateRole)
        isTicked = None if state is None else item.checkState() == qt.Qt.Checked
        found.append((isTicked, item.text(), remark.text()))
    return found


def tick(table, row, isTicked=True):
    table.item(row, 0).setCheckState(qt.Qt.Checked if isTicked else qt.Qt.Unchecked)


def bottom(table):
    """Where the last row ends, in pixels of what is seen."""
    last = table.rowCount - 1
    return table._qt("rowViewportPosition")(last) + table._qt("rowHeight")(last)


def deface(panel):
    wait(lambda: panel.ui.defaceButton.enabled)
    panel.ui.defaceButton.click()
    wait(lambda: not panel.busy)


def box(shape, *slices):
    array = np.zeros(shape, np.uint8)
    array[slices] = 1
    return array


# ----------------------------------------------------------------------------------------------------- what must stay


def drawn(head):
    """A volume and a segmentation on it: the front of the jaw, and something far behind the face."""
    volume = gui.volume(head, "CT")
    shape = slicer.util.arrayFromVolume(volume).shape
    jaw, back = box(shape, slice(5, 15), slice(10, 22), slice(25, 40)), box(shape, 10, slice(45, 50), slice(30, 34))
    return volume, segmentation(volume, Mandible=jaw, Neck=back)


def test_segments_are_ticked_and_the_preview_follows(quick, head, monkeypatch):
    ui = quick.ui
    sent = []
    run = quick.logic.process.run
    monkeypatch.setattr(quick.logic.process, "run", lambda task, *a, **k: (sent.append(task), run(task, *a, **k))[1])
    _volume, node = drawn(head)
    deface(quick)
    assert highlighted(quick) == "exportButton" and not ui.keepTable.visible
    ui.keepSelector.setCurrentNode(node)
    assert rows(ui.keepTable) == [(False, "Mandible", ""), (False, "Neck", "")]
    assert not ui.keepMarginSlider.enabled and highlighted(quick) == "exportButton", "nothing is kept yet"
    tick(ui.keepTable, 0)
    assert ui.keepMarginSlider.enabled and highlighted(quick) == "defaceButton"
    wait(lambda: quick.currentResult() is not None)
    (name, mask), *others = sent[-1].kept
    assert (name, others, sent[-1].parameters["keep_margin_mm"]) == ("Mandible", [], 2.0)
    assert mask.all() and mask.shape == (10, 12, 15)
    ui.keepMarginSlider.value = 4
    wait(lambda: quick.currentResult() is not None)
    assert sent[-1].parameters["keep_margin_mm"] == 4.0
    count = len(sent)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, node.GetSegmentation().GetNthSegmentID(0), _volume)
    array[20:22] = array[10]
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, node.GetSegmentation().GetNthSegmentID(0), _volume)
    wait(lambda: len(sent) > count)
    assert sent[-1].kept[0][1].shape[0] > 10, "an edit of what stays is followed"
    tick(ui.keepTable, 0, False)
    assert quick.parameterNode.kept() is None and "keep_margin_mm" not in quick.parameterNode.defaceParameters()


def test_what_stays_is_outlined_before_and_after_and_listed(panel, head, monkeypatch, tmp_path):
    report = {"kept": {"Mandible": {"ml": 33.4, "in_region": 0.42}}}
    slicer.mrmlScene.SetRootDirectory(str(tmp_path))
    quick_worker.use(panel, monkeypatch, tmp_path, report)
    _volume, node = drawn(head)
    ui, display = panel.ui, node.GetDisplayNode()
    ids = [node.GetSegmentation().GetNthSegmentID(number) for number in (0, 1)]
    wait(lambda: ui.segmentButton.enabled)
    ui.segmentButton.click()
    ui.keepSelector.setCurrentNode(node)
    tick(ui.keepTable, 0)
    wait(lambda: "Mandible kept: 33.4 mL, 42 % of it in the face" in ui.reportLabel.text.replace("42%", "42 %"))
    for button in (ui.beforeRadioButton, ui.afterRadioButton, ui.defaceButton):
        display.SetVisibility(False)
        button.click()
        assert display.GetVisibility() and display.GetVisibility2DOutline()
        assert [bool(display.GetSegmentVisibility(one)) for one in ids] == [True, False]
    assert rows(ui.keepTable)[0][2].startswith("33.4 mL")


def test_usual_lists_are_ticked_at_once(quick, head):
    ui, volume = quick.ui, gui.volume(head, "CT")
    some = box(slicer.util.arrayFromVolume(volume).shape, 10, slice(10, 20), slice(25, 40))
    names = ("mandible", "Parotid_L", "brain", "teeth_lower", "GTVp", "eye_left")
    ui.inputSelector.setCurrentNode(volume)
    wait(lambda: not ui.defaceCollapsibleButton.collapsed)
    ui.keepCollapsibleButton.collapsed = False
    assert not ui.keepJawButton.visible
    ui.keepSelector.setCurrentNode(segmentation(volume, **dict.fromkeys(names, some)))
    buttons = {"nodes": ui.keepNodesButton, "jaw": ui.keepJawButton, "orbits": ui.keepOrbitsButton}
    buttons["targets"] = ui.keepTargetsButton
    assert set(buttons) == set(LISTS) and all(button.visible and button.enabled for button in buttons.values())
    ticked = lambda: [name for isTicked, name, _remark in rows(ui.keepTable) if isTicked]  # noqa: E731
    buttons["jaw"].click()
    assert ticked() == ["mandible", "teeth_lower"] and not ui.keepJawButton.enabled, "they are all ticked"
    buttons["orbits"].click()
    buttons["targets"].click()
    assert ticked() == ["mandible", "teeth_lower", "GTVp", "eye_left"]
    tick(ui.keepTable, 0, False)
    assert ui.keepJawButton.enabled and ui.keepNodesButton.enabled
    segments = quick.parameterNode.keptSegmentation.GetSegmentation()
    segments.RemoveSegment(segments.GetSegmentIdBySegmentName("Parotid_L"))
    wait(lambda: ui.keepTable.rowCount == 5)
    assert not ui.keepNodesButton.enabled, "there is none"


def test_what_was_drawn_on_one_patient_is_kept_in_no_other(quick, head):
    ui = quick.ui
    _volume, node = drawn(head)
    wait(lambda: ui.defaceButton.enabled)
    ui.keepSelector.setCurrentNode(node)
    tick(ui.keepTable, 1)
    assert quick.parameterNode.kept().segmentIDs == (node.GetSegmentation().GetNthSegmentID(1),)
    assert quick.logic.getParameterNode().kept() == quick.parameterNode.kept(), "as it is saved with the scene"
    other = gui.volume(head + 1, "Other")
    ui.inputSelector.setCurrentNode(other)
    assert ui.keepSelector.currentNode() is None and quick.parameterNode.kept() is None
    assert not ui.keepTable.visible
    ui.keepSelector.setCurrentNode(node)
    assert "drawn on “CT”" in ui.keepHintLabel.text and not rows(ui.keepTable)[1][0]
    tick(ui.keepTable, 0)
    node.GetSegmentation().RemoveSegment(node.GetSegmentation().GetNthSegmentID(0))
    wait(lambda: ui.keepTable.rowCount == 1)
    assert quick.parameterNode.kept() is None
    slicer.mrmlScene.RemoveNode(node)
    assert ui.keepSelector.currentNode() is None
    ui.keepSelector.setCurrentNode(quick.logic.segmentFace(other))
    assert "no segment beside the face" in ui.keepHintLabel.text


def highlighted(panel):
    styled = [w.name for w in vars(panel.ui).values() if w.inherits("QPushButton") and w.styleSheet != ""]
    return styled[0] if len(styled) == 1 else styled


# ---------------------------------------------------------------------------------------------------- further series


def test_the_series_of_the_patient_go_along(quick, head, tmp_path):
    ui = quick.ui
    volume, bone = gui.volume(head, "CT"), gui.volume(head + 10, "CT bone")
    thick = gui.volume(sitk.BinShrink(head, [1, 1, 2]), "CT thick")
    dose = gui.volume(head, "Dose")
    stranger = gui.volume(head + 3, "Somebody")
    patient("Doe", volume, bone, thick, dose)
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    hierarchy.SetItemAttribute(hierarchy.GetItemByDataNode(dose), "DICOM.Modality", "RTDOSE")
    for node, frame in ((volume, "1.2"), (thick, "1.2"), (bone, "1.2"), (stranger, "9.9")):
        hierarchy.SetItemAttribute(hierarchy.GetItemByDataNode(node), "DICOM.FrameOfReferenceUID", frame)
    ui.inputSelector.setCurrentNode(volume)
    assert [row[:2] for row in rows(ui.furtherTable)] == [
        (True, "CT bone"),
        (True, "CT thick"),
        (None, "Dose"),
        (False, "Somebody"),
    ]
    for (_tick, _name, remark), start in zip(
        rows(ui.furtherTable), ("Same grid", "Same frame", "No CT, MR or PET", "Another frame"), strict=True
    ):
        assert remark.startswith(start)
    assert ui.furtherCollapsibleButton.visible and not ui.furtherCollapsibleButton.collapsed
    wait(lambda: bottom(ui.furtherTable) <= ui.furtherTable._qt("viewport")().height())
    tick(ui.furtherTable, 1, False)
    tick(ui.furtherTable, 3)
    assert "make sure" in ui.furtherHintLabel.text
    tick(ui.furtherTable, 3, False)
    tick(ui.furtherTable, 1)
    assert not ui.furtherHintLabel.visible
    deface(quick)
    result = ui.defacedSelector.currentNode()
    made = quick.logic.furtherResults(result)
    assert [node.GetName() for node in made] == ["CT bone defaced", "CT thick defaced"]
    assert [quick.logic.originalOf(node) for node in made] == [bone, thick]
    assert all(row[2].startswith("Done: ") for row in rows(ui.furtherTable)[:2])
    assert len(rows(ui.furtherTable)) == 4, "results are no further series"
    assert (slicer.util.arrayFromVolume(made[1])[:, :5] == -1000).all()
    assert ui.exportFurtherCheckBox.visible and ui.exportFurtherCheckBox.text == "With its further series (2)"
    ui.exportButton.click()
    assert ui.exportHintLabel.text.endswith(" (3 series)")
    names = [f"defaced_head_ct{number}.nii.gz" for number in ("", "_2", "_3")]
    assert sorted(path.name for path in (tmp_path / "saved").glob("*.nii.gz")) == names
    assert read_ct(tmp_path / "saved" / names[2]).GetSize() == (64, 64, head.GetSize()[2] // 2)
    slicer.mrmlScene.RemoveNode(made[0])
    wait(lambda: highlighted(quick) == "defaceButton")
    deface(quick)
    assert ui.defacedSelector.currentNode() is result, "what is there is not made again"
    assert [quick.logic.originalOf(node) for node in quick.logic.furtherResults(result)] == [thick, bone]
    ui.inputSelector.setCurrentNode(stranger)
    assert [row[0] for row in rows(ui.furtherTable)] == [False, False, False, None]


def test_a_series_that_is_refused_says_why_and_the_others_go_on(quick, head, monkeypatch):
    ui = quick.ui
    volume, one, other = (gui.volume(head + number, name) for number, name in enumerate(("CT", "One", "Other")))
    patient("Doe", volume, one, other)
    further = quick.logic.defaceFurther

    def refusing(volumeNode, maskNode, node, *arguments, **callbacks):
        if node is one:
            raise InputError("It shows another head: deface it alone.")
        return further(volumeNode, maskNode, node, *arguments, **callbacks)

    monkeypatch.setattr(quick.logic, "defaceFurther", refusing)
    ui.inputSelector.setCurrentNode(volume)
    deface(quick)
    assert rows(ui.furtherTable)[0][2] == "It shows another head: deface it alone."
    assert rows(ui.furtherTable)[1][2] == "Done: Other defaced"
    assert highlighted(quick) == "exportButton", "there is nothing more to do"
    assert ui.exportFurtherCheckBox.text.endswith("(1)")


def test_the_further_series_are_saved_with_the_scene(quick, head, tmp_path):
    ui = quick.ui
    volume, one, other = (gui.volume(head + number, name) for number, name in enumerate(("CT", "One", "Other")))
    patient("Doe", volume, one)
    ui.inputSelector.setCurrentNode(volume)
    assert [row[:2] for row in rows(ui.furtherTable)] == [(True, "One"), (False, "Other")]
    tick(ui.furtherTable, 0, False)
    tick(ui.furtherTable, 1)
    assert list(quick.parameterNode.addedSeries) == [other] and list(quick.parameterNode.leftOutSeries) == [one]
    slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    wait(lambda: ui.furtherTable.rowCount == 2)
    assert [row[:2] for row in rows(ui.furtherTable)] == [(False, "One"), (True, "Other")]
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("Other"))
    wait(lambda: ui.furtherTable.rowCount == 1)
    assert quick.furtherPanel.ticked() == []


def perfusion(images, name):
    """A volume that shows the time points of a sequence, 1.5 s apart, and the browser that chooses them."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexUnit("s")
    for number, image in enumerate(images):
        node = gui.volume(image, name)
        sequence.SetDataNodeAtValue(node, str(1.5 * number))
        slicer.mrmlScene.RemoveNode(node)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", name)
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return browser.GetProxyNode(sequence), browser


def test_all_time_points_of_a_sequence_get_the_face(quick, head, tmp_path):
    ui = quick.ui
    volume, browser = perfusion([head + number for number in range(3)], "Perfusion")
    other, second = perfusion([head - number for number in range(2)], "Other")
    patient("Doe", volume, other)
    ui.inputSelector.setCurrentNode(volume)
    assert [row[:2] for row in rows(ui.furtherTable)] == [
        (True, "Perfusion: all 3 time points"), (True, "Other (2 time points)"),
    ]  # fmt: skip
    assert rows(ui.furtherTable)[0][2].startswith("Same grid")
    deface(quick)
    result = ui.defacedSelector.currentNode()
    assert result.GetName() == "Perfusion defaced" and quick.logic.results(volume) == [result]
    own, further = quick.logic.furtherResults(result)
    assert (own.GetName(), further.GetName()) == ("Perfusion defaced, all times", "Other defaced")
    assert [row[2] for row in rows(ui.furtherTable)] == [f"Done: {one.GetName()}" for one in (own, further)]
    for node, chooser, step in ((own, browser, 1), (further, second, -1)):
        for number in range(chooser.GetNumberOfItems()):
            chooser.SetSelectedItemNumber(number)
            array = slicer.util.arrayFromVolume(node)
            assert (array[:, :20] == -1000).all(), number
            assert np.array_equal(array[:, 30:], sitk.GetArrayFromImage(head)[:, 30:] + step * number)
            assert quick.logic.isResult(node) and quick.logic.originalOf(node) in (volume, other)
    everything = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert len([node for node in everything if not node.GetHideFromEditors()]) == 5
    browser.SetSelectedItemNumber(0)
    mine, sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode"), browser.GetSequenceNode(own)
    mine.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(mine)
    slicer.mrmlScene.RemoveNode(further)
    wait(lambda: len(slicer.util.getNodesByClass("vtkMRMLSequenceNode")) == 3)
    assert sequence.GetScene() and mine.GetProxyNode(sequence) not in (None, own), "shown a second time by the user"
    for node in (mine.GetProxyNode(sequence), mine):
        slicer.mrmlScene.RemoveNode(node)
    second.SetSelectedItemNumber(0)
    assert [row[2].startswith("Done") for row in rows(ui.furtherTable)] == [True, False], "it does not come back"
    ui.exportKindComboBox.currentIndex = 0
    ui.exportPathLineEdit.currentPath = str(tmp_path / "saved" / "out.nrrd")
    ui.exportButton.click()
    wait(lambda: not quick.busy)
    assert "Several time points can be written as .nii" in ui.exportHintLabel.text
    with pytest.raises(InputError, match="several time points"):
        quick.logic.exportSeries(own, tmp_path / "series")


def test_time_points_by_the_real_worker(panel, head, tmp_path):
    images = [head + 5 * number for number in range(3)]
    volume, browser = perfusion(images, "Perfusion")
    mask = panel.logic.segmentFace(volume)
    result = panel.logic.deface(volume, mask)
    own = panel.logic.defaceFurther(volume, mask, volume)
    report = panel.logic.report(own)
    assert (report["modality"], report["time_points"], report["registered"] if "registered" in report else None) == (
        "CT", 3, None,
    )  # fmt: skip
    panel.logic.exportVolume(own, tmp_path / "out.nii.gz")
    whole = sitk.ReadImage(str(tmp_path / "out.nii.gz"))
    assert whole.GetSize()[3] == 3 and whole.GetSpacing()[3] == 1.5
    new, old = sitk.GetArrayFromImage(whole), np.array([sitk.GetArrayFromImage(image) for image in images])
    changed = new != old
    assert changed[0].sum() > 100 and (changed.any(axis=0) & ~changed[0]).sum() < 0.1 * changed[0].sum()
    first = slicer.util.arrayFromVolume(result) != old[0]
    assert (first ^ changed[0]).sum() < 0.1 * first.sum(), "the region of the result itself"
    browser.SetSelectedItemNumber(2)
    assert np.array_equal(slicer.util.arrayFromVolume(own), new[2])


def test_with_the_real_worker(panel, head):
    """A segment stays bit for bit; an MR gets the same face on its own grid."""
    ui, image = panel.ui, scan().image
    volume, t1 = gui.volume(image, "CT"), gui.volume(mr(), "T1")
    inside = jaw(scan()).astype(np.uint8)
    patient("Doe", volume, t1)
    node = segmentation(volume, Mandible=inside)
    ui.inputSelector.setCurrentNode(volume)
    ui.keepSelector.setCurrentNode(node)
    tick(ui.keepTable, 0)
    deface(panel)
    result = ui.defacedSelector.currentNode()
    before, after = slicer.util.arrayFromVolume(volume), slicer.util.arrayFromVolume(result)
    assert np.array_equal(before[inside > 0], after[inside > 0]) and (before != after).sum() > 1000
    report = panel.logic.report(result)
    assert report["kept"]["Mandible"]["in_region"] > 0.1
    assert "Mandible kept: " in ui.reportLabel.text and "mL" in rows(ui.keepTable)[0][2]
    assert [row[2] for row in rows(ui.furtherTable)] == ["Done: T1 defaced"]
    (made,) = panel.logic.furtherResults(result)
    own = panel.logic.report(made)
    assert own["modality"] == "MR" and own["strength"] == "standard" and own["mask"] == "as segmented"
    changed = slicer.util.arrayFromVolume(t1) != slicer.util.arrayFromVolume(made)
    assert 0.005 < changed.mean() < 0.22
    stays = sitk.Resample(mask_of(inside, image), mr(), sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    assert not changed[voxels(stays) > 0].any(), "it stays in the MR as well"


def test_dicom_series_go_into_folders_of_their_own(panel, head, tmp_path):
    """With one private folder beside them all."""
    pytest.importorskip("dicomanonymizer", reason="pip install ctdeface[dicom]")
    slicer.dicomDatabase = ctk.ctkDICOMDatabase()
    (tmp_path / "database").mkdir()
    slicer.dicomDatabase.openDatabase(str(tmp_path / "database" / "ctkDICOM.sql"))
    ui, volumes = panel.ui, []
    for number, image in enumerate((head, sitk.BinShrink(head, [1, 1, 2])), 3):
        folder = tmp_path / f"in{number}"
        tags = {"SeriesNumber": number, "SeriesInstanceUID": f"1.2.3.{number}"}
        dicom_files.write_series(folder, image, StudyInstanceUID="1.2.8", FrameOfReferenceUID="1.2.9", **tags)
        volumes.append(gui.volume(image, f"{number}: Head"))
        dicom.load_series(slicer.dicomDatabase, folder, volumes[-1])
    ui.inputSelector.setCurrentNode(volumes[0])
    assert [row[0] for row in rows(ui.furtherTable)] == [True]
    deface(panel)
    ui.exportKindComboBox.currentIndex = ui.headersComboBox.currentIndex = 1
    ui.exportFolderPathLineEdit.currentPath = str(tmp_path / "out")
    ui.exportButton.click()
    wait(lambda: not panel.busy)
    assert ui.exportHintLabel.text.endswith(" (2 series)"), ui.exportHintLabel.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["series_1", "series_2"]
    headers = [pydicom.dcmread(next((tmp_path / "out" / f"series_{n}").iterdir())) for n in (1, 2)]
    assert headers[0].PatientID == headers[1].PatientID and headers[0].StudyInstanceUID == headers[1].StudyInstanceUID
    assert headers[0].FrameOfReferenceUID == headers[1].FrameOfReferenceUID
    assert headers[0].SeriesInstanceUID != headers[1].SeriesInstanceUID
    assert (tmp_path / "out-private" / "pseudonyms.csv").exists()
    ui.exportButton.click()
    wait(lambda: not panel.busy)
    assert "not empty" in ui.exportHintLabel.text
    del slicer.dicomDatabase
