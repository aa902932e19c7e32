"""The table node of a cohort: patient, scan, original, defaced and method, a line for each defaced volume."""

import slicer
from CTDefaceEvalLib.cohort_table import PAIR_COLUMNS
from slicer.i18n import tr as _

from . import results

COHORT = "CTDefaceEval.cohort"
"""Attribute of the table node of the cohort."""


def cohortTable():
    """The table node of the cohort, or None before it has any line."""
    tables = slicer.util.getNodesByClass("vtkMRMLTableNode")
    return next((node for node in tables if node.GetAttribute(COHORT)), None)


def makeCohortTable():
    """An empty table node. It is not saved with the scene: its paths may name patients."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", _("Cohort"))
    node.SetAttribute(COHORT, "yes")
    node.SetSaveWithScene(False)
    setPairs(node, [])
    return node


def setPairs(tableNode, pairs):
    """Replace the lines of a cohort's table."""
    with slicer.util.NodeModify(tableNode):
        results.fillTable(tableNode, {column: [pair[column] for pair in pairs] for column in PAIR_COLUMNS})
        tableNode.SetLocked(False)


def pairsIn(tableNode):
    """The lines of a cohort's table, one dict each."""
    places = {column: tableNode.GetColumnIndex(column) for column in PAIR_COLUMNS}
    return [
        {column: tableNode.GetCellText(row, place) if place >= 0 else "" for column, place in places.items()}
        for row in range(tableNode.GetNumberOfRows())
    ]


def nameOf(volumeNode):
    """How a line names a volume of the scene: by its name, or by its ID where another volume has the same name."""
    name = volumeNode.GetName()
    others = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return name if sum(other.GetName() == name for other in others) == 1 else volumeNode.GetID()


def volumeOf(cell):
    """The volume of the scene that a cell names, or None: it names a file."""
    node = slicer.mrmlScene.GetNodeByID(cell) or slicer.mrmlScene.GetFirstNodeByName(cell) if cell else None
    return node if node is not None and node.IsA("vtkMRMLScalarVolumeNode") else None
