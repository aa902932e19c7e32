"""Which volumes of the scene show the same patient, and what it takes to give them the new skin of one of them."""

import enum

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import database
from .sequences import sequenceOf
from .shared import nodes

TAKEN = ("", "CT", "MR", "PT", "NM")
"""DICOM modalities that a new skin can be laid on; an empty one is that of a volume that says nothing."""

SAME_MM = 1e-2
"""Difference of origin and spacing in mm, and of directions, within which two grids are the same."""


class Way(enum.Enum):
    """What becomes of a further series."""

    SAME_GRID = enum.auto()
    SAME_FRAME = enum.auto()
    OTHER_FRAME = enum.auto()
    UNKNOWN_FRAME = enum.auto()
    NOT_TAKEN = enum.auto()

    def explanation(self):
        return {
            Way.SAME_GRID: _("Same grid: the same voxels are replaced."),
            Way.SAME_FRAME: _("Same frame of reference: laid on its own grid, and registered if the head has moved."),
            Way.OTHER_FRAME: _("Another frame of reference: registered first, or refused if it does not fit."),
            Way.UNKNOWN_FRAME: _("Laid on its own grid where the head agrees, else registered, or refused."),
            Way.NOT_TAKEN: _("No CT, MR or PET: it stays as it is."),
        }[self]


def wayTo(volumeNode, other):
    """What becomes of another volume with the face of ``volumeNode``."""
    if nodes.modality(other).upper() not in TAKEN:
        return Way.NOT_TAKEN
    frames = [database.frameOf(node) for node in (volumeNode, other)]
    if all(frames) and frames[0] != frames[1]:
        return Way.OTHER_FRAME
    if other.GetTransformNodeID() == volumeNode.GetTransformNodeID() and _isSameGrid(volumeNode, other):
        return Way.SAME_GRID
    return Way.SAME_FRAME if all(frames) else Way.UNKNOWN_FRAME


def _isSameGrid(one, other):
    if one.GetImageData() is None or other.GetImageData() is None:
        return False
    same = one.GetImageData().GetDimensions() == other.GetImageData().GetDimensions()
    geometries = zip(nodes.volumeGeometry(one), nodes.volumeGeometry(other))
    return same and all(np.allclose(a, b, atol=SAME_MM) for a, b in geometries)


def patientOf(volumeNode):
    """Item of the subject hierarchy of whose volume this is; None where nobody knows."""
    hierarchy, constants = slicer.mrmlScene.GetSubjectHierarchyNode(), slicer.vtkMRMLSubjectHierarchyConstants
    item = hierarchy.GetItemByDataNode(volumeNode)
    if item == hierarchy.GetInvalidItemID():
        return None
    patient = hierarchy.GetItemAncestorAtLevel(item, constants.GetDICOMLevelPatient())
    return patient if patient != hierarchy.GetInvalidItemID() else None


def isSamePatient(one, other):
    """Whether the scene says that two volumes are of one patient."""
    if one is other:
        return True
    patient = patientOf(one)
    return patient is not None and patient == patientOf(other)


def patientKey(volumeNode):
    """What tells the patient of a volume apart from others: the hospital's ID, or the volume's where it has none."""
    hierarchy, patient = slicer.mrmlScene.GetSubjectHierarchyNode(), patientOf(volumeNode)
    uid = hierarchy.GetItemUID(patient, slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMUIDName()) if patient else ""
    return uid or (f"item {patient}" if patient else volumeNode.GetID())


def furtherVolumes(volumeNode, isResult):
    """The other volumes of the scene that may show the same head, those of the same patient first.

    The volume itself is one of them where it shows the time points of a sequence: there are others.

    :param isResult: whether a volume was made by CTDeface.
    """
    found = [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and (node is not volumeNode or sequenceOf(node) is not None)
        and not node.GetHideFromEditors()
        and not isResult(node)
        and node.GetImageData() is not None
    ]
    return sorted(found, key=lambda node: (not isSamePatient(volumeNode, node), node is not volumeNode))
