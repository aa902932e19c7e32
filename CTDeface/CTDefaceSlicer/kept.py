"""Segments of the scene that must stay."""

from dataclasses import dataclass
from typing import Any

import slicer
from CTDefaceLib.errors import InputError
from slicer.i18n import tr as _

from .shared import nodes


@dataclass(frozen=True)
class KeptSegments:
    """Attributes
    ----------
    segmentationNode: the vtkMRMLSegmentationNode that they lie in
    segmentIDs: tuple of their IDs
    """

    segmentationNode: Any
    segmentIDs: tuple

    def fingerprint(self):
        """A text that changes with the voxels and the names of the segments."""
        return " ".join(f"{nodes.segmentFingerprint(self.segmentationNode, one)} {name}" for one, name in self._named())

    def messages(self, process, volumeNode):
        """Name and mask of each segment in the space of a volume, as a task takes them.

        :raises InputError: if a segment is empty.
        """
        found = []
        for number, (segmentID, name) in enumerate(self._named()):
            array, geometry = nodes.segmentVoxels(self.segmentationNode, segmentID, volumeNode)
            if not array.any():
                raise InputError(_("The segment “{name}” that is to be kept is empty: untick it.").format(name=name))
            found.append((name, process.voxelsMessage(f"kept-{number}-", array, geometry)))
        return found

    def _named(self):
        """ID and name of each segment; a name that stands more than once gets a number, since reports go by name."""
        named, seen = [], {}
        for segmentID in self.segmentIDs:
            name = self.segmentationNode.GetSegmentation().GetSegment(segmentID).GetName()
            seen[name] = seen.get(name, 0) + 1
            named.append((segmentID, name if seen[name] == 1 else f"{name} ({seen[name]})"))
        return named


def segmentsOffered(segmentationNode, isFaceMask):
    """ID and name of the segments that can be kept: all but the face.

    :param isFaceMask: whether the segmentation is a face mask, in which others may lie as well.
    """
    segmentation = segmentationNode.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    face = nodes.faceSegmentID(segmentationNode) if isFaceMask else None
    return [(one, segmentation.GetSegment(one).GetName()) for one in ids if one != face]


def keptSegments(segmentationNode, segments):
    """The segments of some IDs or names, as :class:`KeptSegments`.

    :raises InputError: if there is no such segment.
    """
    segmentation, ids = segmentationNode.GetSegmentation(), []
    for segment in segments:
        segmentID = segment if segmentation.GetSegment(segment) else segmentation.GetSegmentIdBySegmentName(segment)
        if not segmentID:
            raise InputError(_("There is no segment “{name}” to keep.").format(name=segment))
        ids.append(segmentID)
    return KeptSegments(segmentationNode, tuple(ids))


def drawnOn(segmentationNode):
    """The volume that a segmentation was drawn on, or None where nobody knows."""
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    return segmentationNode.GetNodeReference(role)
