"""What the 3D and slice views show: skin renderings, the face mask, before and after, two volumes side by side."""

from xml.sax.saxutils import escape

import numpy as np
import qt
import SimpleITK as sitk
import slicer
from CTDefaceLib.anatomy.hounsfield import TISSUE_HU

from . import nodes

SKIN_COLOR = (0.87, 0.68, 0.57)
SOFTWARE_OPENGL = ("llvmpipe", "softpipe", "swr", "software", "gdi generic", "basic render")
SOFTWARE_VOXELS, HARDWARE_VOXELS = 6_000_000, 64_000_000
"""How many voxels a rendering may have: a processor draws more only slowly, a graphics card may not hold more."""

RENDERING_OF = "CTDeface.renderingOf"
"""Role of the reference from a rendering to its volume, and attribute with the fingerprint of what is rendered."""

SIDES = {"front": (0, 1, 0), "left": (-1, 0, 0), "right": (1, 0, 0)}
"""Where the camera stands, as seen from the face, in RAS."""
CAMERA_DISTANCE_MM = 580.0

COMPARE_LAYOUT = 41753
COMPARE_GROUP = 4175
COMPARE_VIEWS = ("Original", "Defaced")


def viewProperties(**properties):
    """Properties of a view in a layout description: of a new view, and of one that was there before.

    The former gets only what is for "default" in vtkMRMLLayoutLogic, the latter, which a closed scene has reset, only
    what is for "relayout".
    """
    return "".join(
        f'<property name="{name}" action="{action}">{escape(str(value))}</property>'
        for name, value in properties.items()
        for action in ("default", "relayout")
    )


def _compareLayout():
    def column(name, color):
        properties = viewProperties(viewlabel=name, viewcolor=color, viewgroup=COMPARE_GROUP)
        return (
            f'<item><layout type="vertical">'
            f'<item><view class="vtkMRMLViewNode" singletontag="{name}3D">{properties}</view></item>'
            f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">'
            f"{viewProperties(orientation='Sagittal')}{properties}</view></item>"
            f"</layout></item>"
        )

    columns = column(COMPARE_VIEWS[0], "#EDD54C") + column(COMPARE_VIEWS[1], "#6EB04B")
    return f'<layout type="horizontal">{columns}</layout>'


def registerLayout():
    """Tell Slicer the layout of :func:`showSideBySide`, so that a scene that was saved in it opens in it."""
    layoutManager = slicer.app.layoutManager()
    layoutNode = layoutManager.layoutLogic().GetLayoutNode() if layoutManager is not None else None
    if layoutNode is not None and not layoutNode.IsLayoutDescription(COMPARE_LAYOUT):
        layoutNode.AddLayoutDescription(COMPARE_LAYOUT, _compareLayout())


def threeDView():
    """The first 3D view of the layout, or None."""
    layoutManager = slicer.app.layoutManager()
    if layoutManager is None or layoutManager.threeDViewCount == 0:
        return None
    return layoutManager.threeDWidget(0).threeDView()


def isSoftwareOpenGL():
    """Whether the 3D views are drawn without a graphics card, or there is none that could tell."""
    view = threeDView()
    capabilities = view.renderWindow().ReportCapabilities().lower() if view is not None else ""
    return "opengl renderer" not in capabilities or any(name in capabilities for name in SOFTWARE_OPENGL)


def rendering(volumeNode):
    """The hidden volume that the rendering of ``volumeNode`` is made of, or None."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetNodeReference(RENDERING_OF) is volumeNode:
            return node
    return None


def _makeRendering(volumeNode):
    """As :func:`rendering`, made or brought up to date; no larger than what the machine draws fluidly."""
    node = rendering(volumeNode)
    place = np.round(np.concatenate(nodes.volumeGeometry(volumeNode)), 4).tolist()
    content = f"{nodes.fingerprint(volumeNode)} {place}"
    if node is None or node.GetAttribute(RENDERING_OF) != content:
        image = nodes.imageFromVolume(volumeNode)
        limit = SOFTWARE_VOXELS if isSoftwareOpenGL() else HARDWARE_VOXELS
        factors = np.ones(3, int)
        while np.prod(np.array(image.GetSize()) / factors) > limit:
            factors[np.argmin(np.array(image.GetSpacing()) * factors)] += 1
        image = sitk.BinShrink(image, factors.tolist())
        array = sitk.GetArrayViewFromImage(image)
        geometry = image.GetSpacing(), image.GetOrigin(), image.GetDirection()
        if node is None:
            node = nodes.addVolume(array, *geometry, name=f"{volumeNode.GetName()} rendering", isHelper=True)
            node.SetNodeReferenceID(RENDERING_OF, volumeNode.GetID())
            _addDisplay(node)
        else:
            nodes.setGeometry(node, *geometry)
            slicer.util.updateVolumeFromArray(node, array)
        node.SetAttribute(RENDERING_OF, content)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    return node


def _addDisplay(node):
    """Volume rendering by the graphics card, or by the processor where that is faster."""
    logic = slicer.modules.volumerendering.logic()
    default = logic.GetDefaultRenderingMethod()
    if isSoftwareOpenGL():
        logic.SetDefaultRenderingMethod("vtkMRMLCPURayCastVolumeRenderingDisplayNode")
    display = logic.CreateDefaultVolumeRenderingNodes(node)
    logic.SetDefaultRenderingMethod(default)
    for part in (display, display.GetVolumePropertyNode(), display.GetROINode()):
        if part is not None:
            part.SetSaveWithScene(False)
            part.SetHideFromEditors(True)


def _display(volumeNode):
    node = rendering(volumeNode) if volumeNode is not None else None
    return slicer.modules.volumerendering.logic().GetFirstVolumeRenderingDisplayNode(node) if node is not None else None


def renderSkin(volumeNode, shift=0.0, viewNames=()):
    """Show the skin of a volume in the 3D views, in all or in those named.

    :param shift: moves the skin threshold, in HU.
    """
    _makeRendering(volumeNode)
    setSkinShift(volumeNode, shift)
    display = _display(volumeNode)
    display.RemoveAllViewNodeIDs()
    for name in viewNames:
        view = slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLViewNode")
        if view is not None:
            display.AddViewNodeID(view.GetID())
    display.SetVisibility(True)


def setSkinShift(volumeNode, shift):
    """The skin preset: everything above the skin threshold plus ``shift`` HU is drawn opaque in the color of skin."""
    display = _display(volumeNode)
    if display is None:
        return
    material = display.GetVolumePropertyNode().GetVolumeProperty()
    opacity, color = material.GetScalarOpacity(), material.GetRGBTransferFunction()
    opacity.RemoveAllPoints()
    color.RemoveAllPoints()
    low = TISSUE_HU + shift
    for value, opaque in ((-4000.0, 0.0), (low - 120.0, 0.0), (low + 120.0, 1.0), (4000.0, 1.0)):
        opacity.AddPoint(value, opaque)
    for value in (-4000.0, 4000.0):
        color.AddRGBPoint(value, *SKIN_COLOR)
    material.GetGradientOpacity().RemoveAllPoints()
    material.GetGradientOpacity().AddPoint(0.0, 1.0)
    material.ShadeOn()
    material.SetAmbient(0.2)
    material.SetDiffuse(0.9)
    material.SetSpecular(0.15)
    material.SetInterpolationTypeToLinear()


def hideSkin(volumeNode):
    """Take a volume, if any, out of the 3D views."""
    display = _display(volumeNode)
    if display is not None:
        display.SetVisibility(False)


def passRendering(volumeNode, heir):
    """Let the rendering of a volume belong to another one with the same voxels."""
    node = rendering(volumeNode)
    if node is not None:
        node.SetNodeReferenceID(RENDERING_OF, heir.GetID())


def keepRenderings(*volumeNodes):
    """Remove the renderings of all other volumes."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetAttribute(RENDERING_OF) and node.GetNodeReference(RENDERING_OF) not in volumeNodes:
            _removeRendering(node)


def removeOrphans():
    """Remove the renderings of volumes that are gone."""
    for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
        if node.GetAttribute(RENDERING_OF) and node.GetNodeReference(RENDERING_OF) is None:
            _removeRendering(node)


def _removeRendering(node):
    display = slicer.modules.volumerendering.logic().GetFirstVolumeRenderingDisplayNode(node)
    parts = [display.GetVolumePropertyNode(), display.GetROINode()] if display is not None else []
    for part in [*parts, display, node.GetScalarVolumeDisplayNode(), node]:
        if part is not None:
            slicer.mrmlScene.RemoveNode(part)


def showMask(segmentationNode, visible=True):
    """The face mask as a translucent surface in 3D and as an outline in the slice views."""
    segmentationNode.CreateDefaultDisplayNodes()
    display = segmentationNode.GetDisplayNode()
    display.SetVisibility(visible)
    display.SetPreferredDisplayRepresentationName3D(
        slicer.vtkSegmentationConverter.GetClosedSurfaceRepresentationName()
    )
    display.SetVisibility3D(True)
    display.SetOpacity3D(
        1.0 if isSoftwareOpenGL() else 0.45
    )  # the processor cannot mix a rendering with what is translucent
    display.SetVisibility2DFill(False)
    display.SetVisibility2DOutline(True)
    display.SetSliceIntersectionThickness(2)


def showSegments(segmentationNode, segmentIDs):
    """Some segments of a segmentation as outlines in the slice views, and none of the others."""
    segmentationNode.CreateDefaultDisplayNodes()
    display, segmentation = segmentationNode.GetDisplayNode(), segmentationNode.GetSegmentation()
    with slicer.util.NodeModify(display):
        display.SetVisibility(True)
        display.SetVisibility2DFill(False)
        display.SetVisibility2DOutline(True)
        display.SetSliceIntersectionThickness(2)
        for number in range(segmentation.GetNumberOfSegments()):
            segmentID = segmentation.GetNthSegmentID(number)
            display.SetSegmentVisibility(segmentID, segmentID in segmentIDs)


def showInSlices(volumeNode, viewNames=None, fit=False):
    """Make a volume the background of the slice views, of all or of those named."""
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if viewNames is None or composite.GetLayoutName() in viewNames:
            composite.SetBackgroundVolumeID(volumeNode.GetID() if volumeNode is not None else None)
            composite.SetForegroundVolumeID(None)
    layoutManager = slicer.app.layoutManager()
    if fit and layoutManager is not None:
        layoutManager.resetSliceViews()


def isSideBySide():
    """Whether the layout is the one of :func:`showSideBySide`."""
    layoutManager = slicer.app.layoutManager()
    return layoutManager is not None and layoutManager.layout == COMPARE_LAYOUT


def leaveSideBySide():
    """Go from the side-by-side layout to one whose views show one volume; leave any other as it is."""
    if isSideBySide():
        slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)


def showThreeDLayout():
    """Leave the side-by-side layout, and any other without a 3D view."""
    layoutManager = slicer.app.layoutManager()
    hasThreeD = any(node.IsMappedInLayout() for node in slicer.util.getNodesByClass("vtkMRMLViewNode"))
    if layoutManager is not None and (isSideBySide() or not hasThreeD):
        layoutManager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)


def lookAt(node, side):
    """Turn all 3D views of the layout to a face mask or volume, seen from "front", "left" or "right"."""
    layoutManager = slicer.app.layoutManager()
    if layoutManager is None:
        return
    center = _center(node)
    for index in range(layoutManager.threeDViewCount):
        view = layoutManager.threeDWidget(index).threeDView()
        camera = slicer.modules.cameras.logic().GetViewActiveCameraNode(view.mrmlViewNode())
        if camera is None:
            continue
        with slicer.util.NodeModify(camera):
            camera.SetFocalPoint(center)
            camera.SetPosition(center + CAMERA_DISTANCE_MM * np.array(SIDES[side]))
            camera.SetViewUp(0.0, 0.0, 1.0)
        camera.ResetClippingRange()
    qt.QTimer.singleShot(0, _uncut)


def _uncut():
    """Let the clipping planes of all 3D views pass outside what the views show by now."""
    layoutManager = slicer.app.layoutManager()
    for index in range(layoutManager.threeDViewCount):
        view = layoutManager.threeDWidget(index).threeDView()
        view.renderWindow().GetRenderers().GetFirstRenderer().ResetCameraClippingRange()


def jumpTo(node):
    """Move the slices to the middle of a face mask or volume."""
    for sliceNode in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        sliceNode.JumpSlice(*_center(node))


def _center(node):
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    return np.array(bounds).reshape(3, 2).mean(axis=1)


def compares(original, defaced):
    """Whether the views of the side-by-side layout show these two volumes, each under its title."""
    for name, volumeNode in zip(COMPARE_VIEWS, (original, defaced)):
        display, view = _display(volumeNode), slicer.mrmlScene.GetSingletonNode(f"{name}3D", "vtkMRMLViewNode")
        if display is None or view is None or not display.GetVisibility():
            return False
        shown = slicer.app.layoutManager().sliceWidget(name).mrmlSliceCompositeNode().GetBackgroundVolumeID()
        if list(display.GetViewNodeIDs() or ()) != [view.GetID()] or shown != volumeNode.GetID():
            return False
    return True


def showSideBySide(original, defaced, shift=0.0):
    """Original on the left, defaced on the right: a 3D and a sagittal view each, linked (with a main window only)."""
    layoutManager = slicer.app.layoutManager()
    if layoutManager is None:
        return
    registerLayout()
    layoutManager.setLayout(COMPARE_LAYOUT)
    keepRenderings(original, defaced)
    for name, volumeNode in zip(COMPARE_VIEWS, (original, defaced)):
        renderSkin(volumeNode, shift, viewNames=[f"{name}3D"])
        showInSlices(volumeNode, [name])
        view = slicer.mrmlScene.GetSingletonNode(f"{name}3D", "vtkMRMLViewNode")
        view.SetLinkedControl(True)
        view.SetBoxVisible(False)
        view.SetAxisLabelsVisible(False)
    for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if composite.GetLayoutName() in COMPARE_VIEWS:
            composite.SetLinkedControl(True)
            composite.SetHotLinkedControl(True)
    qt.QTimer.singleShot(0, lambda: layoutManager.resetSliceViews())  # once the new views have their size
