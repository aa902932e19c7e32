"""Slicer's DICOM database: the files that a volume was loaded from, and the way of a defaced series back into it."""

import os

import ctk
import slicer
from CTDefaceLib.errors import InputError, OutputError
from slicer.i18n import tr as _

INSTANCES = "DICOM.instanceUIDs"
"""Attribute in which Slicer notes what a volume was loaded from."""

FRAME_OF_REFERENCE = "0020,0052"

PRIVATE = "CTDeface-private"


def isFromDatabase(volumeNode):
    """Whether a volume was loaded from the DICOM database."""
    return bool(volumeNode is not None and volumeNode.GetAttribute(INSTANCES))


def filesOf(volumeNode):
    """The files that a volume was loaded from.

    :raises InputError: if it was not loaded from the database, or they are no longer there.
    """
    if not isFromDatabase(volumeNode):
        raise InputError(_("The volume was not loaded from the DICOM database, so there are no headers to write."))
    database = _openDatabase()
    files = [database.fileForInstance(uid) if database else "" for uid in volumeNode.GetAttribute(INSTANCES).split()]
    if not all(path and os.path.isfile(path) for path in files):
        raise InputError(_("The DICOM files that the volume was loaded from are no longer in the DICOM database."))
    return list(dict.fromkeys(files))


def frameOf(volumeNode):
    """UID of the frame of reference that a volume was loaded with; empty where nobody knows it."""
    constants, hierarchy = slicer.vtkMRMLSubjectHierarchyConstants, slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(volumeNode)
    if item != hierarchy.GetInvalidItemID():
        frame = hierarchy.GetItemAttribute(item, constants.GetDICOMFrameOfReferenceUIDAttributeName())
        if frame:
            return frame
    database = _openDatabase()
    if database is None or not isFromDatabase(volumeNode):
        return ""
    return database.instanceValue(volumeNode.GetAttribute(INSTANCES).split()[0], FRAME_OF_REFERENCE)


def privateFolder():
    """Where the table of pseudonyms goes for what is written into the database: beside it, with the other patients."""
    database = _openDatabase()
    if database is None:
        raise OutputError(_("Slicer has no DICOM database: open the DICOM module once."))
    return os.path.join(os.path.dirname(database.databaseFilename), PRIVATE)


def add(folder, instances):
    """Copy the DICOM files of a folder into the database.

    :param instances: UIDs of the images in it.
    :raises OutputError: if they are not all there afterwards: the indexer says nothing of what it could not copy.
    """
    database = _openDatabase()
    if database is None:
        raise OutputError(_("Slicer has no DICOM database: open the DICOM module once."))
    indexer = ctk.ctkDICOMIndexer()
    indexer.addDirectory(database, str(folder), True)
    indexer.waitForImportFinished()
    if not all(os.path.isfile(database.fileForInstance(uid)) for uid in instances):
        raise OutputError(
            _("The DICOM database did not take all images: make room on its disk, and see that it can be written to.")
        )


def link(volumeNode, written):
    """Note in a volume node, and in the subject hierarchy, which series of the database it is now.

    A series with cleaned headers goes below its own patient and study, as the database has it.

    :param written: what ``CTDefaceLib.dicom.deface.write_defaced_volume`` returned.
    """
    instances = " ".join(written["instances"])
    volumeNode.SetAttribute(INSTANCES, instances)
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(volumeNode)
    if item == hierarchy.GetInvalidItemID():
        return
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    hierarchy.SetItemUID(item, constants.GetDICOMUIDName(), written["series"])
    hierarchy.SetItemUID(item, constants.GetDICOMInstanceUIDName(), instances)
    hierarchy.SetItemAttribute(item, constants.GetDICOMSeriesModalityAttributeName(), "CT")
    if not written["cleaned"]:
        return
    above = hierarchy.GetSceneItemID()
    for uid, create in ((written["patient"], "CreateSubjectItem"), (written["study"], "CreateStudyItem")):
        found = hierarchy.GetItemByUID(constants.GetDICOMUIDName(), uid)
        if found == hierarchy.GetInvalidItemID():
            found = getattr(hierarchy, create)(above, written["patient"])
            hierarchy.SetItemUID(found, constants.GetDICOMUIDName(), uid)
        above = found
    hierarchy.SetItemParent(item, above)


def _openDatabase():
    database = getattr(slicer, "dicomDatabase", None)
    return database if database is not None and database.isOpen else None
