"""The layout with its 3D and slice views: real displayable managers that draw into offscreen VTK windows."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from vtk.util.numpy_support import vtk_to_numpy

from .widgets import qMRMLTableView, stand_in

THREE_D_MANAGERS = (
    "VolumeRendering",
    "Camera",
    "View",
    "Model",
    "ThreeDReformat",
    "OrientationMarker",
    "Ruler",
)
THREE_D_MANAGERS = [f"vtkMRML{name}DisplayableManager" for name in THREE_D_MANAGERS]
THREE_D_MANAGERS += ["vtkMRMLCrosshairDisplayableManager3D", "vtkMRMLSegmentationsDisplayableManager3D"]
SLICE_MANAGERS = [
    f"vtkMRML{name}DisplayableManager"
    for name in ("Crosshair", "ModelSlice", "OrientationMarker", "Ruler", "ScalarBar")
] + ["vtkMRMLSegmentationsDisplayableManager2D"]


# ctkVTKAbstractView: a widget that shows what its VTK window renders


def _view_init(self, parent=None):
    QtWidgets.QWidget.__init__(self, parent)
    self._renderer = vtk.vtkRenderer()
    self._window = vtk.vtkRenderWindow()
    self._window.SetOffScreenRendering(True)
    self._window.SetMultiSamples(0)
    self._window.SetSize(400, 0)  # a view has no height before it is shown
    self._window.AddRenderer(self._renderer)
    self._interactor = vtk.vtkRenderWindowInteractor()
    self._interactor.SetRenderWindow(self._window)
    self._group = slicer.vtkMRMLDisplayableManagerGroup()
    self._group.SetRenderer(self._renderer)
    self._group.AddObserver(vtk.vtkCommand.UpdateEvent, lambda *_: self._schedule())
    self._image, self._due, self._paused, self._node = None, False, 0, None
    self._qt("setMinimumSize")(60, 60)


def _schedule(self):
    """Render once, soon, however often it is asked for; a view that nobody sees waits until it is shown."""
    if self._due or self._isPaused() or not self._qt("isVisible")():
        return
    self._due = True
    QtCore.QTimer.singleShot(15, self._renderNow)


def _render_now(self):
    self._due = False
    if self._qt("isVisible")() and not self._isPaused():
        self._draw()
        self._qt("update")()


def _draw(self):
    """Render, and keep the picture for paintEvent."""
    self._window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(self._window)
    grab.ReadFrontBufferOff()
    grab.ShouldRerenderOff()
    grab.Update()
    columns, rows, _ = grab.GetOutput().GetDimensions()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1, :, :3]
    self._pixels = np.ascontiguousarray(pixels)
    self._image = QtGui.QImage(self._pixels.data, columns, rows, 3 * columns, QtGui.QImage.Format.Format_RGB888)


def _paint(self, event):
    painter = QtGui.QPainter(self)
    if self._image is not None:
        painter.drawImage(self._qt("rect")(), self._image)


def _shown(self, event):
    self._fitWindow()
    self._schedule()


def _fit_window(self):
    size = self._qt("size")()
    if self._window.GetSize() != (size.width(), size.height()):
        self._window.SetSize(size.width(), size.height())
        self._resized(size.width(), size.height())


def _is_paused(self):
    layout = slicer.app.layoutManager()
    return self._paused > 0 or layout is None or layout._paused > 0


def _set_paused(self, paused):
    self._paused += 1 if paused else -1
    self._schedule()


def _set_all_paused(self, paused):
    self._paused += 1 if paused else -1
    for widget in self._widgets.values():
        widget._view._schedule()


def _registered(factory, managers):
    factory = factory.GetInstance()
    factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    for manager in managers:
        if not factory.IsDisplayableManagerRegistered(manager):
            factory.RegisterDisplayableManager(manager)
    return factory


_VIEW = {
    "_schedule": _schedule,
    "_renderNow": _render_now,
    "_draw": _draw,
    "_fitWindow": _fit_window,
    "_resized": lambda self, columns, rows: None,
    "paintEvent": _paint,
    "showEvent": _shown,
    "resizeEvent": _shown,
    "scheduleRender": lambda self: self._schedule(),
    "forceRender": lambda self: self._draw(),
    "renderWindow": lambda self: self._window,
    "interactor": lambda self: self._interactor,
    "pauseRender": lambda self: self._setPaused(True),
    "resumeRender": lambda self: self._setPaused(False),
    "_isPaused": _is_paused,
    "_setPaused": _set_paused,
    "displayableManagerByClassName": lambda self, name: self._group.GetDisplayableManagerByClassName(name),
}


# qMRMLThreeDView

AXES = ("Right", "Left", "Posterior", "Anterior", "Inferior", "Superior")
ctkAxesWidget = stand_in("ctkAxesWidget", **{name: number for number, name in enumerate(AXES)})


def _three_d_init(self, parent=None):
    _view_init(self, parent)
    self._renderer.SetUseDepthPeeling(True)
    self._renderer.SetUseDepthPeelingForVolumes(True)
    self._renderer.GradientBackgroundOn()
    self._renderer.SetBackground(0.757, 0.765, 0.910)
    self._renderer.SetBackground2(0.455, 0.470, 0.745)
    self._group.Initialize(
        _registered(slicer.vtkMRMLThreeDViewDisplayableManagerFactory, THREE_D_MANAGERS), self._renderer
    )
    self._interactor.SetInteractorStyle(vtk.vtkInteractorStyle3D())


def _three_d_node(self, node):
    self._node = node
    self._group.SetMRMLDisplayableNode(node)


def _reset_focal_point(self):
    node, boxes = self._node, ()
    if node:
        boxes = (node.GetBoxVisible(), node.GetAxisLabelsVisible())
        node.SetBoxVisible(0)
        node.SetAxisLabelsVisible(0)
    bounds = [0.0] * 6
    self._renderer.ComputeVisiblePropBounds(bounds)
    if bounds[0] <= bounds[1]:
        camera = self._renderer.GetActiveCamera()
        centre = [(bounds[2 * i] + bounds[2 * i + 1]) / 2 for i in range(3)]
        shift = [c - f for c, f in zip(centre, camera.GetFocalPoint(), strict=True)]
        camera.SetFocalPoint(centre)
        camera.SetPosition([p + s for p, s in zip(camera.GetPosition(), shift, strict=True)])
    if node:
        node.SetBoxVisible(boxes[0])
        node.SetAxisLabelsVisible(boxes[1])
        node.InvokeEvent(slicer.vtkMRMLViewNode.ResetFocalPointRequestedEvent)
    self._renderer.ResetCameraClippingRange()
    self._schedule()


def _look_from(self, axis, *_):
    _camera_node(self).RotateTo(getattr(slicer.vtkMRMLCameraNode, AXES[axis]))
    self._schedule()


def _camera_node(self):
    manager = self._group.GetDisplayableManagerByClassName("vtkMRMLCameraDisplayableManager")
    return manager.GetCameraNode() if manager else None


qMRMLThreeDView = stand_in(
    "qMRMLThreeDView",
    **_VIEW,
    __init__=_three_d_init,
    setMRMLViewNode=_three_d_node,
    mrmlViewNode=lambda self: self._node,
    cameraNode=_camera_node,
    resetFocalPoint=_reset_focal_point,
    lookFromAxis=_look_from,
    rotateToViewAxis=_look_from,
    resetCamera=lambda self, *_: (self._renderer.ResetCamera(), self._schedule())[1],
)


# qMRMLSliceView


def _slice_init(self, parent=None):
    _view_init(self, parent)
    self._renderer.GetActiveCamera().ParallelProjectionOn()
    self._mapper = vtk.vtkImageMapper()
    self._mapper.SetColorWindow(255)
    self._mapper.SetColorLevel(127.5)
    self._actor = vtk.vtkActor2D()
    self._actor.SetMapper(self._mapper)
    self._actor.GetProperty().SetDisplayLocationToBackground()
    self._group.Initialize(
        _registered(slicer.vtkMRMLSliceViewDisplayableManagerFactory, SLICE_MANAGERS), self._renderer
    )
    self._logic = slicer.vtkMRMLSliceLogic()
    self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    self._logic.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._newImage())


def _slice_image(self):
    connection = self._logic.GetImageDataConnection()
    self._mapper.SetInputConnection(connection)
    self._actor.SetVisibility(connection is not None)
    if not self._renderer.HasViewProp(self._actor):
        self._renderer.AddViewProp(self._actor)
    self._schedule()


def _slice_node(self, node):
    self._node = node
    self._logic.SetMRMLScene(slicer.mrmlScene)
    self._logic.SetSliceNode(node)
    slicer.app.applicationLogic().GetSliceLogics().AddItem(self._logic)
    self._group.SetMRMLDisplayableNode(node)


qMRMLSliceView = stand_in(
    "qMRMLSliceView",
    **{**_VIEW, "_resized": lambda self, columns, rows: self._logic.ResizeSliceNode(columns, rows)},
    __init__=_slice_init,
    _newImage=_slice_image,
    setMRMLSliceNode=_slice_node,
    mrmlSliceNode=lambda self: self._node,
)


# qMRMLPlotView: a VTK chart of what the plot nodes say


def _plot_init(self, parent=None):
    QtWidgets.QWidget.__init__(self, parent)
    self._context = vtk.vtkContextView()
    self._window = self._context.GetRenderWindow()
    self._window.SetOffScreenRendering(True)
    self._window.SetMultiSamples(0)
    self._context.GetRenderer().SetBackground(1.0, 1.0, 1.0)
    self._chart = vtk.vtkChartXY()
    self._context.GetScene().AddItem(self._chart)
    self._image, self._due, self._paused, self._node = None, False, 0, None
    self._qt("setMinimumSize")(60, 60)


def _plot_node(self, node):
    self._node = node
    for event in (vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLPlotViewNode.PlotChartNodeChangedEvent):
        node.AddObserver(event, lambda *_: self._schedule())


def _plot_draw(self):
    chart, node = self._chart, self._node.GetPlotChartNode()
    chart.ClearPlots()
    for index in range(node.GetNumberOfPlotSeriesNodes() if node else 0):
        series = node.GetNthPlotSeriesNode(index)
        plot = chart.AddPlot(vtk.vtkChart.LINE)
        plot.SetInputData(series.GetTableNode().GetTable(), series.GetXColumnName(), series.GetYColumnName())
        plot.SetLabel(series.GetName())
        plot.SetColorF(*series.GetColor())
        plot.SetWidth(series.GetLineWidth())
    chart.SetShowLegend(bool(node and node.GetLegendVisibility()))
    chart.SetTitle(node.GetTitle() or "" if node else "")
    for axis, title in ((vtk.vtkAxis.BOTTOM, "GetXAxisTitle"), (vtk.vtkAxis.LEFT, "GetYAxisTitle")):
        chart.GetAxis(axis).SetTitle(getattr(node, title)() or "" if node else "")
    if node and not node.GetYAxisRangeAuto():
        chart.GetAxis(vtk.vtkAxis.LEFT).SetBehavior(vtk.vtkAxis.FIXED)
        chart.GetAxis(vtk.vtkAxis.LEFT).SetRange(*node.GetYAxisRange())
    _draw(self)


_PLOT = {name: member for name, member in _VIEW.items() if name not in ("interactor", "displayableManagerByClassName")}
qMRMLPlotView = stand_in(
    "qMRMLPlotView", **{**_PLOT, "_draw": _plot_draw}, __init__=_plot_init, setMRMLPlotViewNode=_plot_node
)


# The widgets that hold the views


def _holder_init(view_class):
    def init(self, parent=None):
        QtWidgets.QWidget.__init__(self, parent)
        self._view = view_class()
        column = QtWidgets.QVBoxLayout()
        column.setContentsMargins(1, 1, 1, 1)
        column.addWidget(self._view)
        QtWidgets.QWidget.setLayout(self, column)

    return init


qMRMLThreeDWidget = stand_in(
    "qMRMLThreeDWidget",
    __init__=_holder_init(qMRMLThreeDView),
    threeDView=lambda self: self._view,
    mrmlViewNode=lambda self: self._view._node,
)
qMRMLSliceWidget = stand_in(
    "qMRMLSliceWidget",
    __init__=_holder_init(qMRMLSliceView),
    sliceView=lambda self: self._view,
    sliceLogic=lambda self: self._view._logic,
    mrmlSliceNode=lambda self: self._view._node,
    mrmlSliceCompositeNode=lambda self: self._view._logic.GetSliceCompositeNode(),
    fitSliceToBackground=lambda self: self._view._logic.FitSliceToBackground(),
)

qMRMLPlotWidget = stand_in(
    "qMRMLPlotWidget",
    __init__=_holder_init(qMRMLPlotView),
    plotView=lambda self: self._view,
    mrmlPlotViewNode=lambda self: self._view._node,
)
qMRMLTableWidget = stand_in(
    "qMRMLTableWidget",
    __init__=_holder_init(qMRMLTableView),
    tableView=lambda self: self._view,
    mrmlTableViewNode=lambda self: self._view._node,
)


# qSlicerLayoutManager


def _layout_init(self, viewport):
    QtCore.QObject.__init__(self)
    self._viewport = viewport
    QtWidgets.QVBoxLayout(viewport).setContentsMargins(0, 0, 0, 0)
    self._widgets, self._content = {}, None
    self._logic = slicer.vtkMRMLLayoutLogic()
    self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    self._logic.SetMRMLScene(slicer.mrmlScene)
    self._layoutNode = self._logic.GetLayoutNode()
    self._layoutNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._arrange())
    self._arranged = None
    self._layoutNode.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    self._arrange()


def _arrange(self):
    """Build the widgets that the layout node describes; a view keeps its widget over all layouts."""
    description = self._layoutNode.GetCurrentLayoutDescription()
    if not description or description == self._arranged:
        return
    self._arranged = description
    self._visible = []
    for widget in self._widgets.values():
        widget._qt("setParent")(None)
        widget._view._node.SetMappedInLayout(0)
    if self._content is not None:
        self._content.setParent(None)
    self._content = self._build(ElementTree.fromstring(description))
    self._viewport.layout().addWidget(self._content)
    self._qt("layoutChanged").emit(self._layoutNode.GetViewArrangement())


def _build(self, element):
    if element.tag == "view":
        return self._viewWidget(element.get("class"), element.get("singletontag"))
    vertical = element.get("type") == "vertical"
    split = QtWidgets.QSplitter(QtCore.Qt.Orientation.Vertical if vertical else QtCore.Qt.Orientation.Horizontal)
    for item in element.findall("item"):
        for child in item:
            widget = self._build(child)
            split.addWidget(widget)
            widget.show()
    for index in range(split.count()):
        split.setStretchFactor(index, 1)
    split.setSizes([1000] * split.count())
    return split


_WIDGETS = {
    "vtkMRMLViewNode": (qMRMLThreeDWidget, "setMRMLViewNode"),
    "vtkMRMLSliceNode": (qMRMLSliceWidget, "setMRMLSliceNode"),
    "vtkMRMLPlotViewNode": (qMRMLPlotWidget, "setMRMLPlotViewNode"),
    "vtkMRMLTableViewNode": (qMRMLTableWidget, "setMRMLTableViewNode"),
}


def _view_widget(self, kind, tag):
    node = slicer.mrmlScene.GetSingletonNode(tag, kind)
    if node is None:
        return QtWidgets.QWidget()
    if node.GetID() not in self._widgets:
        widget_class, place = _WIDGETS[kind]
        widget = widget_class()
        getattr(widget._view, place)(node)
        self._widgets[node.GetID()] = widget
    self._visible.append(node)
    node.SetMappedInLayout(1)
    return self._widgets[node.GetID()]


def _three_d_widgets(self):
    """All that were ever made, also those that the layout does not show, as in Slicer."""
    return [widget for widget in self._widgets.values() if widget._view._node.IsA("vtkMRMLViewNode")]


def _reset_slices(self):
    for widget in self._widgets.values():
        if widget._view._node.IsA("vtkMRMLSliceNode"):
            widget._view._logic.FitSliceToBackground()


def _widget_of(kind):
    def find(self, which):
        widgets = [w for w in self._widgets.values() if w._view._node.IsA(kind)]
        if isinstance(which, int):
            return widgets[which] if which < len(widgets) else None
        return next((w for w in widgets if w._view._node.GetLayoutName() == which), None)

    return find


def _slice_logics(self):
    return slicer.app.applicationLogic().GetSliceLogics()


qSlicerLayoutManager = stand_in(
    "qSlicerLayoutManager",
    QtCore.QObject,
    __init__=_layout_init,
    layoutChanged=QtCore.Signal(int),
    _arrange=_arrange,
    _build=_build,
    _viewWidget=_view_widget,
    layoutLogic=lambda self: self._logic,
    setLayout=lambda self, layout: self._layoutNode.SetViewArrangement(layout),
    _get_layout=lambda self: self._layoutNode.GetViewArrangement(),
    _set_layout=lambda self, layout: self._layoutNode.SetViewArrangement(layout),
    _get_threeDViewCount=lambda self: len(_three_d_widgets(self)),
    threeDWidget=_widget_of("vtkMRMLViewNode"),
    sliceWidget=_widget_of("vtkMRMLSliceNode"),
    plotWidget=_widget_of("vtkMRMLPlotViewNode"),
    tableWidget=_widget_of("vtkMRMLTableViewNode"),
    sliceViewNames=lambda self: tuple(n.GetLayoutName() for n in self._visible if n.IsA("vtkMRMLSliceNode")),
    mrmlSliceLogics=_slice_logics,
    resetSliceViews=_reset_slices,
    resetThreeDViews=lambda self: [w._view.resetFocalPoint() for i, w in self._widgets.items() if "ViewNode" in i][:0],
    _paused=0,
    pauseRender=lambda self: _set_all_paused(self, True),
    resumeRender=lambda self: _set_all_paused(self, False),
)
