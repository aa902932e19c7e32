"""MRML nodes and the arrays and images of the library; the only place where RAS meets LPS."""

import zlib

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from CTDefaceLib.errors import CTDefaceError, InputError
from CTDefaceLib.volume_io import check_ct
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

FACE_NAME = "Face"
FACE_COLOR = (0.90, 0.16, 0.16)
FACE_TERMINOLOGY = (
    "Segmentation category and type - DICOM master list~SCT^123037004^Anatomical Structure~SCT^89545001^Face~^^"
    "~Anatomic codes - DICOM master list~^^~^^"
)
SURFACE_SPACING_MM = 1.8
"""Spacing of the grid that the face surface is made on: fine enough to look at, and quick to draw and to make."""

SURFACE_OF = "CTDeface.surfaceOf"
"""Attribute with the fingerprint of the mask that the surface was made of."""

SAME_GRID_MM = 1e-5
"""How far the origins, or an edge of a voxel, of grids can differ that count as one. A choice: rounding alone."""

FLIP = np.diag([-1.0, -1.0, 1.0])


def volumeGeometry(volumeNode):
    """Spacing in mm, origin and direction cosines of a volume node in LPS, without its parent transform.

    :return: three, three and nine numbers; the nine are the rows of the direction matrix.
    """
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return _geometry(slicer.util.arrayFromVTKMatrix(matrix))


def _geometry(ijkToRAS):
    spacing = np.linalg.norm(ijkToRAS[:3, :3], axis=0)
    direction = FLIP @ (ijkToRAS[:3, :3] / spacing)
    return spacing.tolist(), (FLIP @ ijkToRAS[:3, 3]).tolist(), direction.ravel().tolist()


def imageFromVolume(volumeNode):
    """The volume as SimpleITK.Image."""
    spacing, origin, direction = volumeGeometry(volumeNode)
    image = sitk.GetImageFromArray(slicer.util.arrayFromVolume(volumeNode))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    return image


def addVolume(array, spacing, origin, direction, name, isHelper=False, attributes=None):
    """A new scalar volume node, shown by no view yet; the geometry is in LPS as :func:`volumeGeometry` gives it.

    :param isHelper: it only serves the display: no selector offers it and no scene file keeps it.
    :param attributes: texts by name, which the node has before any selector sees it.
    """
    volumeNode = slicer.vtkMRMLScalarVolumeNode()
    volumeNode.SetName(name)
    setGeometry(volumeNode, spacing, origin, direction)
    volumeNode.SetHideFromEditors(isHelper)
    for attribute, value in (attributes or {}).items():
        volumeNode.SetAttribute(attribute, value)
    slicer.mrmlScene.AddNode(volumeNode)
    volumeNode.CreateDefaultDisplayNodes()
    display = volumeNode.GetDisplayNode()
    display.SetAutoWindowLevel(False)  # looking for a good one takes long on a large volume
    display.SetWindowLevel(400.0, 40.0)
    if isHelper:
        volumeNode.SetSelectable(False)
        volumeNode.SetSaveWithScene(False)
        display.SetSaveWithScene(False)
    if array is not None:
        slicer.util.updateVolumeFromArray(volumeNode, array)
    return volumeNode


def setGeometry(volumeNode, spacing, origin, direction):
    """Give a volume node another geometry, in LPS as :func:`volumeGeometry` gives it."""
    ijkToRAS = np.eye(4)
    ijkToRAS[:3, :3] = FLIP @ np.reshape(direction, (3, 3)) * spacing
    ijkToRAS[:3, 3] = FLIP @ np.array(origin)
    volumeNode.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijkToRAS))


def addVolumeLike(volumeNode, array, name, isHelper=False, attributes=None):
    """As :func:`addVolume`, with geometry, transform and window of another volume."""
    node = addVolume(array, *volumeGeometry(volumeNode), name=name, isHelper=isHelper, attributes=attributes)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    if volumeNode.GetDisplayNode() is not None:
        display = volumeNode.GetDisplayNode()
        node.GetDisplayNode().SetWindowLevel(display.GetWindow(), display.GetLevel())
    return node


def freeName(name):
    """A name that no node has: this one, or one made of it (the scene's own way never gives a name a second time)."""
    scene = slicer.mrmlScene
    return name if scene.GetFirstNodeByName(name) is None else scene.GetUniqueNameByString(name)


def fingerprint(volumeNode):
    """A number that changes with the voxels of a volume, and not when the scene is saved and opened again."""
    return _crc(volumeNode, volumeNode.GetImageData(), lambda: slicer.util.arrayFromVolume(volumeNode))


def faceFingerprint(segmentationNode):
    """A number that changes with the face mask, and not when the scene is saved and opened again."""
    return segmentFingerprint(segmentationNode, faceSegmentID(segmentationNode))


def segmentFingerprint(segmentationNode, segmentID):
    """As :func:`faceFingerprint`, of any segment; 0 where it has no voxels."""
    labelmap = _labelmapOf(segmentationNode, segmentID)
    if labelmap is None:
        return 0

    def segment():
        array, corner = _filled(segmentationNode, segmentID, labelmap)
        if not array.any():
            return np.zeros(1, np.uint8)
        matrix = vtk.vtkMatrix4x4()
        labelmap.GetImageToWorldMatrix(matrix)
        position = np.round(matrix.MultiplyPoint([*corner, 1.0]), 2).astype(np.float32) + np.float32(0)
        return np.concatenate([position.view(np.uint8), np.packbits(array)])

    return _crc(segmentationNode, labelmap, segment, segmentID)


def _labelmapOf(segmentationNode, segmentID, make=False):
    """The vtkOrientedImageData that a segment lies in; None where there is none, or it has no voxels.

    :param make: make it where the segmentation has surfaces or contours only.
    """
    binary = slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName()
    if make and not segmentationNode.GetSegmentation().ContainsRepresentation(binary):
        segmentationNode.CreateBinaryLabelmapRepresentation()
    labelmap = segmentationNode.GetBinaryLabelmapInternalRepresentation(segmentID) if segmentID else None
    return labelmap if labelmap is not None and labelmap.GetPointData().GetScalars() is not None else None


def _filled(segmentationNode, segmentID, labelmap):
    """The part of a labelmap that a segment fills, bool (slices, rows, columns), and the index of its first voxel."""
    label = segmentationNode.GetSegmentation().GetSegment(segmentID).GetLabelValue()
    array = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(labelmap.GetDimensions()[::-1]) == label
    if not array.any():
        return array[:1, :1, :1], labelmap.GetExtent()[::2]
    box = [np.flatnonzero(array.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)]
    corner = [low + start for (low, _high), start in zip(box[::-1], labelmap.GetExtent()[::2])]
    return array[tuple(slice(low, high + 1) for low, high in box)], corner


def _crc(node, imageData, voxels, segmentID=""):
    key = node.GetID(), segmentID
    known = _crcs.get(key)
    if known is None or known[0] != imageData.GetMTime():
        known = _crcs[key] = imageData.GetMTime(), zlib.crc32(np.ascontiguousarray(voxels()))
    return known[1]


_crcs = {}  # by node ID and segment: when the voxels last changed, and their checksum


def modality(volumeNode):
    """DICOM modality that the volume was loaded with, or an empty text."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(volumeNode)
    return hierarchy.GetItemAttribute(item, "DICOM.Modality") if item != hierarchy.GetInvalidItemID() else ""


def ctProblem(volumeNode):
    """Why a volume is no CT in Hounsfield units, in one sentence; an empty text when it is one."""
    if volumeNode.GetImageData() is None or volumeNode.GetImageData().GetNumberOfPoints() == 0:
        return _("The volume is empty. Choose another one.")
    looked = fingerprint(volumeNode), volumeGeometry(volumeNode), modality(volumeNode)
    known = _problems.get(volumeNode.GetID())
    if known is None or known[0] != looked:
        try:
            check_ct(imageFromVolume(volumeNode), modality(volumeNode))
        except CTDefaceError as error:
            known = looked, str(error)
        else:
            known = looked, ""
        _problems[volumeNode.GetID()] = known
    return known[1]


_problems = {}  # by node ID: what was looked at, and the sentence


def forget():
    """Drop what is known of the nodes of a scene, which is closed now."""
    _crcs.clear()
    _problems.clear()


def offeredCTs(volumeNodes=None):
    """Those volumes that selectors offer and that are CTs, one by one.

    :param volumeNodes: the volumes to choose from, some of which may be gone again; None for all of the scene.
    """
    for volumeNode in volumeNodes or slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        isOffered = volumeNode.GetClassName() == "vtkMRMLScalarVolumeNode" and not volumeNode.GetHideFromEditors()
        if isOffered and volumeNode.GetScene() and not ctProblem(volumeNode):
            yield volumeNode


def checkCT(volumeNode):
    """Raise InputError with the sentence of :func:`ctProblem` where there is one."""
    problem = ctProblem(volumeNode)
    if problem:
        raise InputError(problem)


def checkPresent(volumeNode):
    """Raise InputError when a volume that a background process worked on is no longer in the scene."""
    if slicer.mrmlScene.GetNodeByID(volumeNode.GetID()) is not volumeNode:
        raise InputError(_("The volume was removed from the scene meanwhile."))


def faceSegmentID(segmentationNode):
    """The segment named Face, else the first one, else an empty text."""
    segmentation = segmentationNode.GetSegmentation()
    segmentID = segmentation.GetSegmentIdBySegmentName(FACE_NAME)
    if not segmentID and segmentation.GetNumberOfSegments():
        segmentID = segmentation.GetNthSegmentID(0)
    return segmentID or ""


def faceMask(segmentationNode, volumeNode):
    """The face mask on the grid of the volume, uint8 0 or 1, axis order (slices, rows, columns)."""
    segmentID = faceSegmentID(segmentationNode)
    shape = slicer.util.arrayFromVolume(volumeNode).shape
    labelmap = _labelmapOf(segmentationNode, segmentID, make=True)
    if labelmap is None:
        return np.zeros(shape, np.uint8)
    if _isOnGrid(labelmap, segmentationNode, volumeNode):
        return _placed(*_filled(segmentationNode, segmentID, labelmap), shape)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentID, volumeNode)
    return (array > 0).astype(np.uint8) if array.shape == shape else np.zeros(shape, np.uint8)


def _isOnGrid(labelmap, segmentationNode, volumeNode):
    """Whether a labelmap has the grid of a volume, as far as it reaches: it needs no resampling, which takes long."""
    if segmentationNode.GetTransformNodeID() != volumeNode.GetTransformNodeID():
        return False
    of, to = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(of)
    volumeNode.GetIJKToRASMatrix(to)
    apart = slicer.util.arrayFromVTKMatrix(of) - slicer.util.arrayFromVTKMatrix(to)
    return bool(np.abs(apart).max() < SAME_GRID_MM)


def _placed(part, corner, shape):
    """A part of a grid on the whole of it, uint8: what lies beyond is left out."""
    whole = np.zeros(shape, np.uint8)
    first = np.array(corner[::-1])
    low, high = np.maximum(first, 0), np.minimum(first + part.shape, shape)
    if (high > low).all():
        inside, of = ([slice(a, b) for a, b in zip(low - start, high - start)] for start in (0, first))
        whole[tuple(inside)] = part[tuple(of)]
    return whole


def segmentVoxels(segmentationNode, segmentID, volumeNode):
    """The voxels of a segment in the space of a volume, on a grid of their own where that is possible.

    :return: uint8 0 or 1, axis order (slices, rows, columns), and their geometry as :func:`volumeGeometry` has it.
    """
    labelmap = _labelmapOf(segmentationNode, segmentID, make=True)
    if labelmap is None:
        return np.zeros((1, 1, 1), np.uint8), volumeGeometry(volumeNode)
    if segmentationNode.GetTransformNodeID() != volumeNode.GetTransformNodeID():
        array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentID, volumeNode)
        return (array > 0).astype(np.uint8), volumeGeometry(volumeNode)
    array, corner = _filled(segmentationNode, segmentID, labelmap)
    matrix = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(matrix)
    ijkToRAS = slicer.util.arrayFromVTKMatrix(matrix)
    ijkToRAS[:3, 3] += ijkToRAS[:3, :3] @ corner
    return array.astype(np.uint8), _geometry(ijkToRAS)


def setFaceMask(segmentationNode, array, volumeNode):
    """Make the segment Face of a segmentation the mask ``array`` (grid of the volume); all others stay."""
    segmentation = segmentationNode.GetSegmentation()
    former = segmentation.GetSegmentIdBySegmentName(FACE_NAME)
    if former:
        segmentation.RemoveSegment(former)
    segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    segmentID = segmentationNode.AddSegmentFromBinaryLabelmapRepresentation(
        _labelmap(array, volumeNode), FACE_NAME, FACE_COLOR
    )
    segment = segmentation.GetSegment(segmentID)
    segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), FACE_TERMINOLOGY)
    _makeSurface(segmentationNode, array, volumeNode)


def updateFaceSurface(segmentationNode, volumeNode):
    """Bring the surface of the Face segment up to date where it is missing or the mask has changed.

    Where the segmentation was made as surfaces, as from an STL file, they are the original, and stay as they are.
    """
    segment = segmentationNode.GetSegmentation().GetSegment(faceSegmentID(segmentationNode))
    surfaceName = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    if segmentationNode.GetSegmentation().GetSourceRepresentationName() == surfaceName:
        return
    isThere = segment is not None and segment.GetRepresentation(surfaceName) is not None
    if not isThere or segmentationNode.GetAttribute(SURFACE_OF) != str(faceFingerprint(segmentationNode)):
        _makeSurface(segmentationNode, faceMask(segmentationNode, volumeNode), volumeNode)


def _makeSurface(segmentationNode, array, volumeNode):
    """Give the Face segment a closed surface made on a coarse grid, which 3D views draw fluidly whatever the volume."""
    segment = segmentationNode.GetSegmentation().GetSegment(faceSegmentID(segmentationNode))
    if segment is None:
        return
    factors = [max(1, int(SURFACE_SPACING_MM / s + 0.5)) for s in volumeGeometry(volumeNode)[0]]
    coarse = slicer.vtkSegmentation()
    coarse.SetSourceRepresentationName(slicer.vtkSegmentationConverter.GetBinaryLabelmapRepresentationName())
    face = slicer.vtkSegment()
    face.SetName(FACE_NAME)
    face.AddRepresentation(coarse.GetSourceRepresentationName(), _labelmap(array, volumeNode, factors))
    coarse.AddSegment(face)
    surfaceName = slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    coarse.CreateRepresentation(surfaceName)
    segment.AddRepresentation(surfaceName, face.GetRepresentation(surfaceName))
    segmentationNode.SetAttribute(SURFACE_OF, str(faceFingerprint(segmentationNode)))


def _labelmap(array, volumeNode, factors=(1, 1, 1)):
    """Where ``array`` is not 0, as vtkOrientedImageData cropped to that.

    :param factors: how many voxels to join along columns, rows and slices.
    """
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    extent = []
    for axis in range(3):
        filled = np.flatnonzero(array.any(axis=tuple(a for a in range(3) if a != 2 - axis)))
        extent.append((filled[0] // factors[axis], filled[-1] // factors[axis]) if len(filled) else (0, 0))
    slices = [slice(low * f, (high + 1) * f) for (low, high), f in zip(extent, factors)]
    part = array[slices[2], slices[1], slices[0]]
    fz, fy, fx = factors[::-1]
    if factors != (1, 1, 1):
        part = np.pad(part, [(0, -size % f) for size, f in zip(part.shape, (fz, fy, fx))])
        z, y, x = part.shape
        part = part.reshape(z // fz, fz, y // fy, fy, x // fx, fx).max(axis=(1, 3, 5))
        scaled = slicer.util.arrayFromVTKMatrix(matrix)
        scaled[:3, 3] += scaled[:3, :3] @ ((np.array(factors) - 1) / 2)
        scaled[:3, :3] *= factors
        matrix = slicer.util.vtkMatrixFromArray(scaled)
    labelmap = slicer.vtkOrientedImageData()
    labelmap.SetExtent(*(int(edge) for pair in extent for edge in pair))
    labelmap.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(part.shape)[:] = part
    labelmap.SetImageToWorldMatrix(matrix)
    return labelmap


def keepTogether(volumeNode, node):
    """Put a node beside the volume in the subject hierarchy, in a folder of their own where the volume lies in none."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    parent = hierarchy.GetItemParent(_hierarchyItem(volumeNode))
    if parent == hierarchy.GetSceneItemID():
        parent = hierarchy.CreateFolderItem(parent, volumeNode.GetName())
        hierarchy.SetItemParent(_hierarchyItem(volumeNode), parent)
    hierarchy.SetItemParent(_hierarchyItem(node), parent)


def _hierarchyItem(node):
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node)
    return item if item != hierarchy.GetInvalidItemID() else hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)
