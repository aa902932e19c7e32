"""DICOM series from Slicer's database through the panel, into a folder and back into the database."""

import os
from pathlib import Path

import dicom_files
import gui
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import slicer
from coarse_phantoms import scan
from CTDefaceLib.errors import InputError, OutputError
from CTDefaceSlicer import database
from gui import wait
from slicer import packaging
from slicer_host import dicom
from test_ctdeface_module import deface, keep, segment
from test_dicom import assert_defaced

import ctk  # isort: skip
import qt  # isort: skip

pytestmark = pytest.mark.gui


@pytest.fixture
def panel():
    with gui.user() as panel:
        yield panel


@pytest.fixture
def loaded(tmp_path, panel):
    """A volume node of a DICOM series as the DICOM module loads it, and the series' folder."""
    image = scan(field_of_view="upper_lip").image
    dicom_files.write_series(tmp_path / "in", image, StudyDate="20200304")
    slicer.dicomDatabase = ctk.ctkDICOMDatabase()
    (tmp_path / "database").mkdir()
    slicer.dicomDatabase.openDatabase(str(tmp_path / "database" / "ctkDICOM.sql"))
    node = gui.volume(image, "3: Head")
    dicom.load_series(slicer.dicomDatabase, tmp_path / "in", node)
    panel.ui.inputSelector.setCurrentNode(node)
    yield node, tmp_path / "in"
    del slicer.dicomDatabase


def choose(panel, kind, headers="keep"):
    """Choose in the Export step; the order of the boxes is that of the enumerations."""
    panel.ui.exportKindComboBox.setCurrentIndex(["file", "folder", "database"].index(kind))
    panel.ui.headersComboBox.setCurrentIndex(["keep", "ps315"].index(headers))


def export(panel):
    panel.ui.exportButton.click()
    wait(lambda: not panel.busy)
    return panel.ui.exportHintLabel.text


def test_into_a_folder_by_mouse(panel, loaded, tmp_path):
    volume, source = loaded
    segment(panel)
    result = deface(panel)
    ui = panel.ui
    assert ui.exportPathLineEdit.visible and not ui.exportFolderPathLineEdit.visible and not ui.headersComboBox.visible
    choose(panel, "folder")
    assert not ui.exportPathLineEdit.visible and ui.headersComboBox.visible and not ui.retainFrame.visible
    assert "Choose an empty folder" in ui.exportHintLabel.text and not ui.exportButton.enabled
    ui.exportFolderPathLineEdit.currentPath = str(tmp_path / "süß out")
    assert export(panel).startswith("Exported to ")
    after = assert_defaced(source, tmp_path / "süß out", fill="smooth")
    voxels = slicer.util.arrayFromVolume(result)
    for key, one in after.items():
        index = round((key[0][2] - volume.GetOrigin()[2]) / volume.GetSpacing()[2])
        assert np.array_equal(one.pixel_array.astype(int) - 1024, voxels[index])
        assert one.PatientName == "Doe^Jane" and one.RecognizableVisualFeatures == "NO"
    assert "not empty" in export(panel)
    assert sorted(os.listdir(tmp_path)) == ["database", "in", "süß out"]


def test_cleaned_headers_by_mouse(panel, loaded, tmp_path):
    pytest.importorskip("dicomanonymizer", reason="pip install ctdeface[dicom]")
    segment(panel)
    deface(panel)
    choose(panel, "folder", "ps315")
    assert panel.ui.retainFrame.visible
    panel.ui.retainDatesCheckBox.click()
    panel.ui.retainUidsCheckBox.click()
    panel.ui.exportFolderPathLineEdit.currentPath = str(tmp_path / "out")
    earlier = ("input", "segment", "preview", "correct", "deface")
    steps = [getattr(panel.ui, f"{step}CollapsibleButton") for step in earlier]
    for step in steps:
        step.collapsed = True
    gui.run_for(0.3)
    keep(slicer.util.mainWindow(), "export_dicom", tmp_path / "database")
    for step in steps:
        step.collapsed = False  # the other tests see the same panel
    assert export(panel).startswith("Exported to ")
    one = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert one.PatientIdentityRemoved == "YES" and one.StudyDate not in ("", "20200304")
    codes = [item.CodeValue for item in one.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113107", "113110", "113102"]
    assert not any(b"Doe" in path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert sorted(os.listdir(tmp_path / "out-private")) == ["pseudonyms.csv", "secret.key"]


def test_back_into_the_database(panel, loaded, tmp_path):
    volume, source = loaded
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    mask = segment(panel)
    result = deface(panel)
    study = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volume))
    assert hierarchy.GetItemLevel(study) == "Study"
    for node in (mask, result):
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == study
    choose(panel, "database")
    assert export(panel).startswith("Exported to ")
    item = hierarchy.GetItemByDataNode(result)
    series = hierarchy.GetItemUID(item, "DICOM")
    files = slicer.dicomDatabase.filesForSeries(series)
    (tmp_path / "copy").mkdir()
    for number, path in enumerate(files):
        (tmp_path / "copy" / f"{number}.dcm").write_bytes(Path(path).read_bytes())
    assert_defaced(source, tmp_path / "copy", fill="smooth")
    assert set(database.filesOf(result)) == set(files)
    assert hierarchy.GetItemParent(item) == study


def test_cleaned_series_in_the_database(panel, loaded, tmp_path):
    """It is another patient's, in the database and in the subject hierarchy."""
    pytest.importorskip("dicomanonymizer", reason="pip install ctdeface[dicom]")
    volume, _ = loaded
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    segment(panel)
    result = deface(panel)
    for _ in range(2):  # the second time patient and study are there
        choose(panel, "database", "ps315")
        assert export(panel).startswith("Exported to ")
    study = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result))
    patient = hierarchy.GetItemParent(study)
    one = pydicom.dcmread(database.filesOf(result)[0])
    assert hierarchy.GetItemUID(study, "DICOM") == one.StudyInstanceUID
    assert hierarchy.GetItemUID(patient, "DICOM") == hierarchy.GetItemName(patient) == one.PatientID
    assert (hierarchy.GetItemLevel(study), hierarchy.GetItemLevel(patient)) == ("Study", "Patient")
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(volume)) != study
    assert one.SOPInstanceUID in hierarchy.GetItemUID(hierarchy.GetItemByDataNode(result), "DICOMInstanceUID")
    assert os.path.dirname(database.privateFolder()) == str(tmp_path / "database")


def test_what_cannot_be_exported_is_said(panel, loaded, tmp_path, monkeypatch):
    volume, _ = loaded
    segment(panel)
    result = deface(panel)
    logic = panel.logic
    with pytest.raises(InputError, match="no result of CTDeface"):
        logic.exportSeries(volume, tmp_path / "out")
    with pytest.raises(OutputError, match="not empty"):
        logic.exportSeries(result, tmp_path / "in")
    with monkeypatch.context() as full:
        full.setattr(
            ctk.ctkDICOMIndexer, "addDirectory", lambda *_arguments: None
        )  # as on a full disk: it says nothing
        with pytest.raises(OutputError, match="did not take all images"):
            logic.exportSeries(result)
    assert not result.GetAttribute(database.INSTANCES)
    voxels = slicer.util.arrayFromVolume(volume)
    voxels[3, 4, 5] += 7
    slicer.util.arrayFromVolumeModified(volume)
    with pytest.raises(InputError, match="not what its DICOM files hold"):
        logic.exportSeries(result, tmp_path / "out")
    slicer.dicomDatabase.openDatabase(slicer.dicomDatabase.databaseFilename)  # which empties the stand-in
    with pytest.raises(InputError, match="no longer in the DICOM database"):
        logic.exportSeries(result, tmp_path / "out")
    volume.RemoveAttribute("DICOM.instanceUIDs")
    with pytest.raises(InputError, match="not loaded from the DICOM database"):
        logic.exportSeries(result, tmp_path / "out")
    choose(panel, "database")
    panel.updateGUI()
    assert "loaded from Slicer's DICOM database" in panel.ui.exportHintLabel.text
    assert not (tmp_path / "out").exists()


def test_volumes_upside_down_and_tilted(panel, loaded, tmp_path):
    """Slicer keeps the slices of a series as they are, in either order."""
    from CTDefaceLib.dicom.deface import write_defaced_volume

    image = scan().image
    slices = dicom_files.sheared(image, 15.0)
    files = [str(path) for path in dicom_files.write_series(tmp_path / "tilted", slices, tilt_degrees=15.0)]
    original = sitk.GetArrayFromImage(slices)[::-1]
    defaced = original.copy()
    defaced[:, :40] = -1000
    write_defaced_volume(files, original, defaced, tmp_path / "out", checked=True)
    assert_defaced(tmp_path / "tilted", tmp_path / "out", least_share=0.001, fill="smooth")


def test_package_is_installed_only_when_the_user_agrees(panel, loaded, tmp_path, monkeypatch):
    segment(panel)
    deface(panel)
    choose(panel, "folder", "ps315")
    panel.ui.exportFolderPathLineEdit.currentPath = str(tmp_path / "out")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    installed = []
    monkeypatch.setattr(packaging, "pip_ensure", lambda requirements, **options: installed.extend(requirements))
    gui.dialogs.answers.append(qt.QMessageBox.Cancel)
    panel.ui.exportButton.click()
    assert not installed and not panel.busy
    assert "dicom-anonymizer" in gui.dialogs.shown[-1]
    gui.dialogs.answers.append(qt.QMessageBox.Ok)
    assert panel.exportPanel.confirmPackage() and installed == ["dicom-anonymizer>=2.1,<3"]
