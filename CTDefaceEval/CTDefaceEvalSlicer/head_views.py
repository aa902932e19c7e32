"""The linked 3D views of CTDefaceEval: a head each, with the same rendering, seen from the same side."""

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from CTDefaceEvalLib.detection import FIELD_OF_VIEW_MM
from CTDefaceEvalLib.findings import DEFACED, ORIGINAL
from CTDefaceLib.render import BACKGROUND, SKIN_AMBIENT, SKIN_COLOUR, SKIN_DIFFUSE, camera_side, set_light
from CTDefaceSlicer.shared import views
from CTDefaceSlicer.shared.nodes import FLIP
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray

RECOVERED = "recovered"
NAMES = (ORIGINAL, DEFACED, RECOVERED)
LABELS = {ORIGINAL: _("Original"), DEFACED: _("Defaced"), RECOVERED: _("Recovered")}
COLORS = {ORIGINAL: "#EDD54C", DEFACED: "#6EB04B", RECOVERED: "#F34A33"}
TABLE_VIEW, PLOT_VIEW = "CTDefaceEvalTable", "CTDefaceEvalPlot"
FIRST_LAYOUT, RESULTS_LAYOUT = 41760, 41770
"""Layouts are numbered from here by the heads that they show; the latter show a table and a plot below the heads."""
VIEW_GROUP = 4176
CAMERA_DISTANCE_MM = 1000.0
SPAN = "CTDefaceEval.span"
"""Attribute of a camera with the span of the view, see :func:`_span`, that its parallel scale is meant for."""
SURFACE_OF = "CTDefaceEval.surfaceOf"
"""Role of the reference from a skin surface to its volume."""


@dataclass
class Head:
    """Where a head is, in RAS of the world: ``axes``, rows towards its left, back and top, and ``center`` in mm."""

    axes: np.ndarray
    center: np.ndarray

    def side(self, yaw, pitch):
        """Unit vectors in RAS from the center to a camera at yaw and pitch in degrees, and up in its picture."""
        return camera_side(yaw, pitch, self.axes)

    def point(self, yaw, pitch, right, up):
        """The point in RAS that a camera at yaw and pitch sees ``right`` and ``up`` of the center, in mm."""
        towards, upwards = self.side(yaw, pitch)
        rightwards = np.cross(upwards, towards)
        rightwards /= np.linalg.norm(rightwards)
        return self.center + right * rightwards + up * np.cross(towards, rightwards)

    def angles(self, camera):
        """Yaw and pitch in degrees of the side that a camera looks at the head from."""
        direction = np.subtract(camera.GetPosition(), camera.GetFocalPoint())
        left, back, top = self.axes @ (direction / np.linalg.norm(direction))
        return float(np.degrees(np.arctan2(left, -back))), float(np.degrees(np.arcsin(np.clip(top, -1.0, 1.0))))

    def roll(self, camera):
        """How far the head is tilted in a camera's picture, in degrees, clockwise."""
        towards = np.subtract(camera.GetPosition(), camera.GetFocalPoint())
        upwards = np.array(camera.GetViewUp())
        rightwards = np.cross(upwards, towards)
        rightwards /= np.linalg.norm(rightwards)
        upwards = np.cross(towards / np.linalg.norm(towards), rightwards)
        _towards, up = self.side(*self.angles(camera))
        return float(np.degrees(np.arctan2(up @ rightwards, up @ upwards)))


def headOf(volumeNode, axes, center):
    """The head in a volume; ``axes`` and ``center`` as the library found them, in LPS of the volume."""
    toWorld = worldMatrix(volumeNode)
    turned = np.array(axes) @ FLIP @ toWorld[:3, :3].T
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    return Head(turned, toWorld[:3, :3] @ FLIP @ np.array(center) + toWorld[:3, 3])


def worldMatrix(volumeNode):
    """The linear transform from the volume's RAS to that of the world, (4, 4)."""
    matrix = vtk.vtkMatrix4x4()
    transform = volumeNode.GetParentTransformNode()
    if transform is not None and transform.IsTransformToWorldLinear():
        transform.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def viewNode(name):
    """The view node of the original, the defaced or the recovered head, or None before it was ever shown."""
    return slicer.mrmlScene.GetSingletonNode(_tag(name), "vtkMRMLViewNode")


def threeDView(name):
    """The view that shows a head, or None when the layout has none."""
    layoutManager, node = slicer.app.layoutManager(), viewNode(name)
    if layoutManager is None or node is None:
        return None
    for index in range(layoutManager.threeDViewCount):
        view = layoutManager.threeDWidget(index).threeDView()
        if view.mrmlViewNode() is node:
            return view
    return None


def _tag(name):
    """Singleton tag of a view: the same in every language, since scenes are saved with it."""
    return f"CTDefaceEval{name.capitalize()}"


def _layoutDescription(names, withResults):
    heads = "".join(
        f'<item><view class="vtkMRMLViewNode" singletontag="{_tag(name)}">'
        f"{views.viewProperties(viewlabel=LABELS[name], viewcolor=COLORS[name], viewgroup=VIEW_GROUP)}</view></item>"
        for name in names
    )
    heads = f'<layout type="horizontal">{heads}</layout>'
    if not withResults:
        return heads
    results = "".join(
        f'<item><view class="vtkMRML{kind}ViewNode" singletontag="{tag}">'
        f'<property name="viewlabel" action="default">{kind[0]}</property></view></item>'
        for kind, tag in (("Table", TABLE_VIEW), ("Plot", PLOT_VIEW))
    )
    return (
        f'<layout type="vertical"><item>{heads}</item>'
        f'<item><layout type="horizontal">{results}</layout></item></layout>'
    )


def registerLayouts():
    """Tell Slicer the layouts before a scene comes that was saved with one (with a main window only)."""
    layoutManager = slicer.app.layoutManager()
    if layoutManager is None:
        return
    layoutNode = layoutManager.layoutLogic().GetLayoutNode()
    for first, withResults in ((FIRST_LAYOUT, False), (RESULTS_LAYOUT, True)):
        for number in (1, 2, 3):
            if not layoutNode.IsLayoutDescription(first + number):
                layoutNode.AddLayoutDescription(first + number, _layoutDescription(NAMES[:number], withResults))


def showLayout(number, withResults=False):
    """Show one head, or two or three linked ones side by side; with results, also a table and a plot below them.

    :return: False where there is no main window to show them in.
    """
    layoutManager = slicer.app.layoutManager()
    if layoutManager is None:
        return False
    registerLayouts()
    layoutManager.setLayout((RESULTS_LAYOUT if withResults else FIRST_LAYOUT) + number)
    for name in NAMES[:number]:
        _prepare(name)
    return True


def shownHeads():
    """How many heads the layout shows, 0 where it is none of :func:`showLayout`."""
    layoutManager = slicer.app.layoutManager()
    layout = layoutManager.layout if layoutManager is not None else 0
    return next((n for n in (1, 2, 3) if layout in (FIRST_LAYOUT + n, RESULTS_LAYOUT + n)), 0)


def _prepare(name):
    """Make a view look as the pictures do that faces are looked for in."""
    node, view = viewNode(name), threeDView(name)
    if view is None:
        return
    with slicer.util.NodeModify(node):
        node.SetBoxVisible(False)
        node.SetAxisLabelsVisible(False)
        node.SetRenderMode(slicer.vtkMRMLViewNode.Orthographic)
        node.SetBackgroundColor(BACKGROUND, BACKGROUND, BACKGROUND)
        node.SetBackgroundColor2(BACKGROUND, BACKGROUND, BACKGROUND)
        node.SetLinkedControl(True)
    renderer = view.renderWindow().GetRenderers().GetFirstRenderer()
    set_light(renderer, "top")
    if name not in _followed:
        tag = renderer.AddObserver(vtk.vtkCommand.StartEvent, lambda caller, event: _followSize(name))
        _followed[name] = renderer, tag


_followed = {}  # by head: the renderer of its view, and the tag of the observer


def forget():
    """Follow no view any more; :func:`showLayout` begins anew."""
    for renderer, tag in _followed.values():
        renderer.RemoveObserver(tag)
    _followed.clear()


def _followSize(name):
    """Keep what the square in the middle of a view shows when the view has another shape than for its last frame."""
    view = threeDView(name)
    camera = _cameraNode(view) if view is not None else None
    if camera is None:
        return
    span, last = _span(view), float(camera.GetAttribute(SPAN) or 0.0)
    if span != last:
        camera.SetAttribute(SPAN, repr(span))
        if last:
            camera.SetParallelScale(camera.GetParallelScale() * span / last)


def _span(view):
    """Height of a view by its shorter side; as of a square while it has no size yet, until it is drawn for once."""
    columns, rows = view.renderWindow().GetSize()
    return rows / min(rows, columns) if min(rows, columns) > 0 else 1.0


def _cameraNode(view):
    return slicer.modules.cameras.logic().GetViewActiveCameraNode(view.mrmlViewNode())


def showSurface(name, arrays, volumeNode):
    """Show a skin surface in its view.

    :param arrays: "points" and "normals" (n, 3) in LPS of the volume, and "triangles" (m, 3).
    """
    polyData = vtk.vtkPolyData()
    points = vtk.vtkPoints()
    points.SetData(numpy_to_vtk(_inRAS(arrays["points"]), deep=True))
    polyData.SetPoints(points)
    normals = numpy_to_vtk(_inRAS(arrays["normals"]), deep=True)
    normals.SetName("Normals")
    polyData.GetPointData().SetNormals(normals)
    triangles = vtk.vtkCellArray()
    corners = np.ascontiguousarray(arrays["triangles"], np.int64)
    offsets = np.arange(0, 3 * len(corners) + 1, 3, dtype=np.int64)
    triangles.SetData(numpy_to_vtkIdTypeArray(offsets, deep=True), numpy_to_vtkIdTypeArray(corners.ravel(), deep=True))
    polyData.SetPolys(triangles)
    node = surface(name) or _addSurface(name)
    node.SetNodeReferenceID(SURFACE_OF, volumeNode.GetID())
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    node.SetAndObservePolyData(polyData)


def _inRAS(vectors):
    return np.ascontiguousarray(np.asarray(vectors, np.float32).reshape(-1, 3) * np.float32([-1, -1, 1]))


def surface(name):
    """The model node with the skin that a view shows, or None."""
    for node in slicer.util.getNodesByClass("vtkMRMLModelNode"):
        if node.GetAttribute("CTDefaceEval.surface") == name:
            return node
    return None


def _addSurface(name):
    node = slicer.vtkMRMLModelNode()
    node.SetName(f"{LABELS[name]} skin")
    node.SetAttribute("CTDefaceEval.surface", name)
    node.SetHideFromEditors(True)
    node.SetSelectable(False)
    node.SetSaveWithScene(False)
    slicer.mrmlScene.AddNode(node)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetSaveWithScene(False)
    display.SetVisibility(False)  # until it has its view
    display.SetColor(*SKIN_COLOUR)
    display.SetAmbient(SKIN_AMBIENT)
    display.SetDiffuse(SKIN_DIFFUSE)
    display.SetSpecular(0.0)
    display.SetVisibility2D(False)
    return node


def showHeads(names, volumeNodes, asVolumes=False):
    """Show each head in its view, and in no other, as skin surface or by volume rendering.

    :param volumeNodes: volume by name; the recovered head is a surface always.
    """
    _hideDefacing()
    if not asVolumes:
        views.keepRenderings()
    for name in names:
        node, volumeNode = surface(name), volumeNodes.get(name)
        isVolume = asVolumes and volumeNode is not None
        if isVolume:
            views.renderSkin(volumeNode, viewNames=[_tag(name)])
        if node is not None and viewNode(name) is not None:
            node.GetDisplayNode().SetViewNodeIDs([viewNode(name).GetID()])
            node.GetDisplayNode().SetVisibility(not isVolume)


def _hideDefacing():
    """Take the face masks of CTDeface out of the views; it shows them again when it is entered."""
    for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
        if node.GetNodeReference("CTDeface.original") is not None and node.GetDisplayNode() is not None:
            node.GetDisplayNode().SetVisibility(False)


def removeSurfaces(names=NAMES):
    """Remove what :func:`showSurface` made."""
    for name in names:
        node = surface(name)
        if node is not None:
            display = node.GetDisplayNode()
            slicer.mrmlScene.RemoveNode(node)
            if display is not None:
                slicer.mrmlScene.RemoveNode(display)


def removeOrphans():
    """Remove the surfaces whose volume is gone."""
    gone = [name for name in NAMES if surface(name) and surface(name).GetNodeReference(SURFACE_OF) is None]
    removeSurfaces(gone)


def turnTo(head, yaw=0.0, pitch=0.0):
    """Turn all views to the side of a head, with the field of view of the pictures that faces are looked for in."""
    towards, up = head.side(yaw, pitch)
    for name in NAMES:
        view = threeDView(name)
        if view is None:
            continue
        camera = _cameraNode(view)
        if camera is None:
            continue
        span = _span(view)
        with slicer.util.NodeModify(camera):
            camera.SetFocalPoint(head.center)
            camera.SetPosition(head.center + CAMERA_DISTANCE_MM * towards)
            camera.SetViewUp(up)
            camera.SetParallelScale(FIELD_OF_VIEW_MM / 2.0 * span)
            camera.SetAttribute(SPAN, repr(span))
        camera.ResetClippingRange()


def sideSeen(head):
    """Yaw and pitch in degrees of the side that the original's view shows; 0, 0 when there is no such view."""
    view = threeDView(ORIGINAL)
    if view is None:
        return 0.0, 0.0
    return head.angles(view.renderWindow().GetRenderers().GetFirstRenderer().GetActiveCamera())
