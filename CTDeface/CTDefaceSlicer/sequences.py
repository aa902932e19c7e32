"""Sequences, such as a perfusion: volumes of the scene that show one time point of several."""

import numpy as np
import slicer
from CTDefaceLib.errors import InputError
from slicer.i18n import tr as _

from .shared import nodes

SECONDS = {"s": 1.0, "sec": 1.0, "ms": 0.001}
"""Unit of the index of a sequence → in s."""

SHOWS = "CTDeface.shows"
"""Role of the reference from a result to the sequence of its time points."""

OTHER_GRIDS = _("The time points do not lie on one grid: deface them one by one.")


def browserOf(volumeNode):
    """What chooses the time point that a volume shows, or None where it is a volume like any other."""
    browsers = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    return next((one for one in browsers if one.GetSequenceNode(volumeNode) is not None), None)


def sequenceOf(volumeNode):
    """The sequence whose time points a volume shows one at a time; None where it has not several."""
    browser = browserOf(volumeNode)
    sequence = browser.GetSequenceNode(volumeNode) if browser is not None else None
    return sequence if sequence is not None and sequence.GetNumberOfDataNodes() > 1 else None


def timePoints(sequence):
    """The volumes of a sequence in its order; they lie in no scene that panels see.

    :raises InputError: if they do not lie on one grid.
    """
    found = [sequence.GetNthDataNode(number) for number in range(sequence.GetNumberOfDataNodes())]
    if any(node is None or not node.IsA("vtkMRMLScalarVolumeNode") or node.GetImageData() is None for node in found):
        raise InputError(OTHER_GRIDS)
    grids = [(node.GetImageData().GetDimensions(), nodes.volumeGeometry(node)) for node in found]
    same = (
        size == grids[0][0] and all(np.allclose(*two, atol=1e-3) for two in zip(place, grids[0][1]))
        for size, place in grids
    )
    if not all(same):
        raise InputError(OTHER_GRIDS)
    return found


def secondsBetween(sequence):
    """Time in s from one time point to the next; 0 where nobody knows."""
    unit = SECONDS.get((sequence.GetIndexUnit() or "").strip().lower())
    try:
        times = [float(sequence.GetNthIndexValue(number)) for number in range(sequence.GetNumberOfDataNodes())]
    except ValueError:
        return 0.0
    return float(np.median(np.diff(times))) * unit if unit else 0.0


def addLike(volumeNode, resultNode, arrays):
    """Let a volume show time points that are made of those that another one shows, chosen together with them.

    :param resultNode: a volume of the scene; what it is known by, its attributes, each time point has as well.
    :param arrays: voxels of each time point, shape (times, slices, rows, columns).
    :return: the new sequence.
    """
    browser, sequence = browserOf(volumeNode), sequenceOf(volumeNode)
    made = slicer.vtkMRMLSequenceNode()
    made.SetName(resultNode.GetName())
    made.SetIndexName(sequence.GetIndexName())
    made.SetIndexUnit(sequence.GetIndexUnit())
    made.SetIndexType(sequence.GetIndexType())
    slicer.mrmlScene.AddNode(made)
    for number, array in enumerate(arrays):
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetName(resultNode.GetName())
        node.CopyOrientation(resultNode)
        for attribute in resultNode.GetAttributeNames():
            node.SetAttribute(attribute, resultNode.GetAttribute(attribute))
        slicer.util.updateVolumeFromArray(node, array)
        made.SetDataNodeAtValue(node, sequence.GetNthIndexValue(number))
    wasModifying = browser.StartModify()  # or it would make another volume for the new sequence
    browser.AddSynchronizedSequenceNode(made)
    browser.AddProxyNode(resultNode, made, False)
    browser.SetOverwriteProxyName(made, False)
    resultNode.SetNodeReferenceID(SHOWS, made.GetID())
    browser.EndModify(wasModifying)
    return made


def removeUnseen(isResult):
    """Remove the time points of results that were deleted, with the volumes that browsers make for them anew.

    :param isResult: whether a volume was made by CTDeface.
    """
    for sequence in slicer.util.getNodesByClass("vtkMRMLSequenceNode"):
        if not sequence.GetNumberOfDataNodes() or not isResult(sequence.GetNthDataNode(0)):
            continue
        everyone = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
        browsers = [browser for browser in everyone if browser.IsSynchronizedSequenceNode(sequence, True)]
        shown = [browser.GetProxyNode(sequence) for browser in browsers]
        if not browsers or any(node is not None and node.GetNodeReference(SHOWS) is sequence for node in shown):
            continue  # the result is there; whoever shows its time points a second time may go on
        for browser in browsers:
            browser.RemoveSynchronizedSequenceNode(sequence.GetID())
        for node in (*shown, sequence):
            if node is not None:
                slicer.mrmlScene.RemoveNode(node)
