"""Stand-ins for Slicer's DICOM database and for what adds files to it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pydicom
from PySide6 import QtCore

from .widgets import stand_in


def _open(self, filename, connection="DICOM-DB"):
    self._filename, self._files = str(filename), {}
    return True


def _add_directory(self, database, folder, copy=False, include_hidden=True):
    """Files lie in the database under their UIDs; without copying, where they are."""
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            uid = str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
            target = Path(database._filename).parent / "dicom" / uid
            if copy:
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
            database._files[uid] = str(target if copy else path)


def _files_for_series(self, uid, hits=-1):
    headers = {path: pydicom.dcmread(path, stop_before_pixels=True) for path in self._files.values()}
    return tuple(path for path, header in headers.items() if header.SeriesInstanceUID == uid)


def _instance_value(self, uid, tag):
    if uid not in self._files:
        return ""
    header = pydicom.dcmread(self._files[uid], stop_before_pixels=True)
    element = header.get(tuple(int(part, 16) for part in tag.split(",")))
    return "" if element is None else str(element.value)


ctkDICOMDatabase = stand_in(
    "ctkDICOMDatabase",
    QtCore.QObject,
    _filename="",
    openDatabase=_open,
    isOpen=property(lambda self: bool(self._filename)),
    databaseFilename=property(lambda self: self._filename),
    fileForInstance=lambda self, uid: self._files.get(uid, ""),
    filesForSeries=_files_for_series,
    instanceValue=_instance_value,
)

ctkDICOMIndexer = stand_in(
    "ctkDICOMIndexer", QtCore.QObject, addDirectory=_add_directory, waitForImportFinished=lambda self: None
)


def load_series(database, folder, volume_node) -> None:
    """Leave a volume node as the DICOM module leaves it: with the UIDs of its slices, below patient and study."""
    import slicer

    indexer = ctkDICOMIndexer()
    indexer.addDirectory(database, str(folder), True)
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in Path(folder).iterdir()]
    volume_node.SetAttribute("DICOM.instanceUIDs", " ".join(str(header.SOPInstanceUID) for header in headers))
    hierarchy, constants = slicer.mrmlScene.GetSubjectHierarchyNode(), slicer.vtkMRMLSubjectHierarchyConstants
    dicom = constants.GetDICOMUIDName()

    def item_of(uid, create, parent, name):
        item = hierarchy.GetItemByUID(dicom, uid)
        if not item:
            item = create(parent, name)
            hierarchy.SetItemUID(item, dicom, uid)
        return item

    header = headers[0]
    top, name = hierarchy.GetSceneItemID(), str(header.PatientName)
    patient = item_of(str(header.PatientID), hierarchy.CreateSubjectItem, top, name)
    study = item_of(str(header.StudyInstanceUID), hierarchy.CreateStudyItem, patient, "study")
    item = hierarchy.GetItemByDataNode(volume_node)
    hierarchy.SetItemParent(item, study)
    hierarchy.SetItemUID(item, dicom, str(header.SeriesInstanceUID))
    hierarchy.SetItemAttribute(item, "DICOM.Modality", str(header.Modality))
    assert os.path.isfile(database.fileForInstance(str(header.SOPInstanceUID)))
