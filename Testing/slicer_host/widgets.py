"""Stand-ins for the CTK and qMRML widgets of a module panel. Each shows exactly the attributes the real class has."""

from __future__ import annotations

import os
import re

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from .pythonqt import dialogs, message_box_exec, wrap


def stand_in(name, native=QtWidgets.QWidget, **members):
    return wrap(name, native, stand_in=True, **members)


def _in_a_row(widget, first, *others):
    row = QtWidgets.QHBoxLayout()
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(first, 1)
    for other in others:
        row.addWidget(other)
    QtWidgets.QWidget.setLayout(widget, row)
    QtWidgets.QWidget.setSizePolicy(widget, QtWidgets.QSizePolicy.Policy.Expanding, QtWidgets.QSizePolicy.Policy.Fixed)


# ctkCollapsibleButton: a header to click on, and under it a layout that it shows or hides


def _collapsible_init(self, *arguments):
    text, parent = "", None
    for argument in arguments:
        text, parent = (argument, parent) if isinstance(argument, str) else (text, argument)
    QtWidgets.QAbstractButton.__init__(self, parent)
    self._collapsed = False
    self._children = _Children(self)
    self._qt("setText")(text)
    self._qt("setSizePolicy")(QtWidgets.QSizePolicy.Policy.Minimum, QtWidgets.QSizePolicy.Policy.Preferred)
    self._qt("setContentsMargins")(0, self._headerHeight(), 0, 0)
    QtCore.QObject.connect(self, QtCore.SIGNAL("clicked()"), lambda: setattr(self, "collapsed", not self._collapsed))


def _header_height(self):
    return self._qt("fontMetrics")().height() + 8


def _set_collapsed(self, collapsed):
    if collapsed == self._collapsed:
        return
    self._collapsed = bool(collapsed)
    for child in QtCore.QObject.findChildren(
        self, QtWidgets.QWidget, options=QtCore.Qt.FindChildOption.FindDirectChildrenOnly
    ):
        self._children.show(child)
    self._qt("setMaximumHeight")(self._headerHeight() if collapsed else 16777215)
    self._qt("updateGeometry")()
    self._qt("contentsCollapsed").emit(self._collapsed)


class _Children(QtCore.QObject):
    """A child that was hidden on its own stays so, and one of a closed button waits until that is opened."""

    def __init__(self, button):
        super().__init__()
        self.button, self.forcing = button, False
        button.installEventFilter(self)

    def show(self, child):
        shown = child.property("visibilityToParent") is not False
        self.forcing = True
        QtWidgets.QWidget.setVisible(child, shown and not self.button._collapsed)
        if shown:  # so that Qt tells when it is hidden on its own now
            QtWidgets.QWidget.setAttribute(child, QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)
        self.forcing = False

    def eventFilter(self, widget, event):
        kinds = QtCore.QEvent.Type
        if widget is self.button:
            if event.type() == kinds.ChildAdded and event.child().isWidgetType():
                event.child().installEventFilter(self)
        elif not self.forcing and event.type() in (kinds.ShowToParent, kinds.HideToParent):
            widget.setProperty("visibilityToParent", event.type() == kinds.ShowToParent)
            if self.button._collapsed:
                self.show(widget)
        return False


def _collapsible_paint(self, event):
    painter = QtWidgets.QStylePainter(self)
    header = QtCore.QRect(0, 0, self._qt("width")(), self._headerHeight())
    palette = self._qt("palette")()
    painter.fillRect(header, palette.color(QtGui.QPalette.ColorRole.Button))
    option = QtWidgets.QStyleOption()
    option.initFrom(self)
    option.rect = QtCore.QRect(4, header.height() // 2 - 6, 12, 12)
    arrow = QtWidgets.QStyle.PrimitiveElement
    painter.drawPrimitive(arrow.PE_IndicatorArrowRight if self._collapsed else arrow.PE_IndicatorArrowDown, option)
    font = painter.font()
    font.setBold(True)
    painter.setFont(font)
    painter.drawText(
        header.adjusted(22, 0, 0, 0), QtCore.Qt.AlignmentFlag.AlignVCenter, QtWidgets.QAbstractButton.text(self)
    )


def _collapsible_hint(method):
    def hint(self):
        size = method(self)  # that of the layout, with the header as margin
        return QtCore.QSize(size.width(), self._headerHeight()) if self._collapsed else size

    return hint


ctkCollapsibleButton = stand_in(
    "ctkCollapsibleButton",
    QtWidgets.QAbstractButton,
    __init__=_collapsible_init,
    contentsCollapsed=QtCore.Signal(bool),
    _headerHeight=_header_height,
    _get_collapsed=lambda self: self._collapsed,
    _set_collapsed=_set_collapsed,
    paintEvent=_collapsible_paint,
    sizeHint=_collapsible_hint(QtWidgets.QWidget.sizeHint),
    minimumSizeHint=_collapsible_hint(QtWidgets.QWidget.minimumSizeHint),
)


# ctkSliderWidget: a slider and a spin box that show one value


def _slider_init(self, parent=None):
    QtWidgets.QWidget.__init__(self, parent)
    self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
    self._box = QtWidgets.QDoubleSpinBox()
    self._box.setDecimals(2)
    _in_a_row(self, self._slider, self._box)
    self._slider.valueChanged.connect(lambda tick: self._moved(tick))
    self._box.valueChanged.connect(lambda value: self._typed(value))
    self._fitRange()


def _slider_range(self, *_):
    self._slider.blockSignals(True)
    self._box.setRange(self.minimum, self.maximum)
    self._box.setSingleStep(self.singleStep)
    self._box.setDecimals(self.decimals)
    self._box.setPrefix(self.prefix)
    self._box.setSuffix(self.suffix)
    self._slider.setRange(0, max(1, round((self.maximum - self.minimum) / self.singleStep)))
    self._slider.setValue(round((self._box.value() - self.minimum) / self.singleStep))
    self._slider.blockSignals(False)


def _slider_typed(self, value):
    self._slider.blockSignals(True)
    self._slider.setValue(round((value - self.minimum) / self.singleStep))
    self._slider.blockSignals(False)
    self._qt("valueChanged").emit(value)


_SLIDER_DEFAULTS = {
    "minimum": 0.0,
    "maximum": 99.0,
    "singleStep": 1.0,
    "pageStep": 10.0,
    "decimals": 2,
    "prefix": "",
    "suffix": "",
    "tracking": True,
    "spinBoxVisible": True,
    "invertedAppearance": False,
    "popupSlider": False,
}
ctkSliderWidget = stand_in(
    "ctkSliderWidget",
    __init__=_slider_init,
    valueChanged=QtCore.Signal(float),
    valueIsChanging=QtCore.Signal(float),
    decimalsChanged=QtCore.Signal(int),
    _defaults=_SLIDER_DEFAULTS,
    _fitRange=_slider_range,
    _moved=lambda self, tick: self._box.setValue(self.minimum + tick * self.singleStep),
    _typed=_slider_typed,
    _get_value=lambda self: self._box.value(),
    _set_value=lambda self, value: self._box.setValue(value),
    **{f"_set_{name}": _slider_range for name in ("minimum", "maximum", "singleStep", "decimals", "prefix", "suffix")},
    _set_spinBoxVisible=lambda self, visible: self._box.setVisible(visible),
)


ctkMessageBox = wrap("ctkMessageBox", QtWidgets.QMessageBox, exec_=message_box_exec)


# ctkPathLineEdit: a path that a validator checks, and a button that browses for one


def _path_init(self, parent=None):
    QtWidgets.QWidget.__init__(self, parent)
    self._line, self._isValid = QtWidgets.QLineEdit(), False
    self._button = QtWidgets.QToolButton()
    self._button.setText("…")
    _in_a_row(self, self._line, self._button)
    self._line.textChanged.connect(lambda text: self._checkInput())
    self._button.clicked.connect(lambda: self._browse())
    self._setValidator()


def _path_validator(self, *_):
    """Of each extension only what follows the first dot counts: ``*.nii.gz`` lets .nii pass, and not .nii.gz."""
    extensions = re.findall(r"\*\.(\w+)", " ".join(self.nameFilters))
    pattern = "|".join(rf".*\.{extension}?$" for extension in extensions)
    self._line.setValidator(QtGui.QRegularExpressionValidator(QtCore.QRegularExpression(f"({pattern or '.+'})")))


def _path_check(self):
    """Only a path that the validator accepts is told; an empty one never is."""
    was, self._isValid = self._isValid, self._line.hasAcceptableInput()
    if self._isValid:
        self._qt("currentPathChanged").emit(self.currentPath)
    if self._isValid != was:
        self._qt("validInputChanged").emit(self._isValid)


def _path_browse(self):
    path = dialogs.answer(f"{self.label}: {self._line.text()}")
    confirms = self.filters & self.Writable and not self.options & self.DontConfirmOverwrite
    if path and confirms and os.path.isfile(path):
        path = path if dialogs.answer("Replace it?") == QtWidgets.QMessageBox.StandardButton.Yes else None
    if path:
        self._line.setText(path)


ctkPathLineEdit = stand_in(
    "ctkPathLineEdit",
    __init__=_path_init,
    currentPathChanged=QtCore.Signal(str),
    validInputChanged=QtCore.Signal(bool),
    Files=0x002,
    Dirs=0x001,
    Writable=0x020,
    Readable=0x010,
    DontConfirmOverwrite=0x004,
    _defaults={
        "filters": 0,
        "label": "",
        "nameFilters": (),
        "options": 0,
        "settingKey": "",
        "showHistoryButton": True,
        "showBrowseButton": True,
    },
    _setValidator=_path_validator,
    _set_nameFilters=_path_validator,
    _checkInput=_path_check,
    _browse=_path_browse,
    browse=_path_browse,
    addCurrentPathToHistory=lambda self: None,
    _get_currentPath=lambda self: self._line.text(),
    _set_currentPath=lambda self, path: self._line.setText(os.fspath(path).replace("\\", "/")),
)


# qMRMLNodeComboBox: the nodes of the scene that fit, one of them current. When that one goes, or fits no more, the one
# in the row before is current


def _combo_init(self, parent=None):
    QtWidgets.QWidget.__init__(self, parent)
    self._scene, self._ids, self._names, self._observed, self._shown, self._attributes = None, [], [], [], None, []
    self._box = QtWidgets.QComboBox()
    self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    _in_a_row(self, self._box)
    self._box.currentIndexChanged.connect(lambda index: self._tell())
    observed = self._observed
    QtCore.QObject.connect(self, QtCore.SIGNAL("destroyed()"), lambda: _stop_observing(observed))


def _combo_scene(self, scene):
    _stop_observing(self._observed)
    self._scene = scene
    if scene:
        kinds = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent)
        self._observed += [(scene, scene.AddObserver(kind, lambda *_: self._refresh())) for kind in kinds]

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def going(caller, event, node):
            self._refresh(going=node)  # its row goes before the scene has removed it and all that refers to it

        self._observed.append((scene, scene.AddObserver(scene.NodeAboutToBeRemovedEvent, going, -10.0)))
    self._refresh()


def _stop_observing(observed):
    for scene, tag in observed:
        scene.RemoveObserver(tag)
    observed.clear()


def _combo_nodes(self):
    """What fits, in the order of the scene. Every change of a scene asks that of every selector: it has to be quick."""
    types, hidden, attributes = tuple(self.nodeTypes or ()), bool(self.showHidden), self._attributes
    with_children = bool(self.showChildNodeTypes)
    nodes = map(self._scene.GetNthNode, range(self._scene.GetNumberOfNodes())) if self._scene else ()
    return [
        node
        for node in nodes
        if (any(map(node.IsA, types)) if with_children else node.GetClassName() in types)
        and (hidden or not node.GetHideFromEditors())
        and all(_combo_has(node, *wanted) for wanted in attributes)
    ]


def _combo_has(node, kind, name, value):
    """Whether a node of a kind has an attribute, with a value if one is given; nodes of other kinds need not."""
    there = node.GetAttribute(name) if node.IsA(kind) else value or ""
    return there is not None and value in (None, there)


def _combo_refresh(self, *_, going=None):
    nodes = [node for node in self._nodes() if node is not going]
    ids = [None] * bool(self.noneEnabled) + [node.GetID() for node in nodes]
    names = ["None"] * bool(self.noneEnabled) + [node.GetName() or "" for node in nodes]
    current, row = self._shown, self._box.currentIndex()
    if (ids, names) == (self._ids, self._names) and current in ids:
        return
    self._box.blockSignals(True)
    self._box.clear()
    self._ids, self._names = ids, names
    self._box.addItems(names)
    neighbour = min(max(row - 1, 0), len(ids) - 1)
    self._box.setCurrentIndex(ids.index(current) if current in ids else neighbour)
    self._box.blockSignals(False)
    self._tell()


def _combo_tell(self):
    node_id = self._currentID()
    if node_id != self._shown:
        self._shown = node_id
        self._qt("currentNodeChanged").emit(self._current())
        self._qt("currentNodeIDChanged").emit(node_id or "")


def _combo_current_id(self):
    index = self._box.currentIndex()
    return self._ids[index] if 0 <= index < len(self._ids) else None


def _combo_set_current(self, node):
    wanted = node.GetID() if hasattr(node, "GetID") else node or None
    self._box.setCurrentIndex(self._ids.index(wanted) if wanted in self._ids else -1)


qMRMLNodeComboBox = stand_in(
    "qMRMLNodeComboBox",
    __init__=_combo_init,
    currentNodeChanged=QtCore.Signal(object),
    currentNodeIDChanged=QtCore.Signal(str),
    nodeAddedByUser=QtCore.Signal(object),
    _defaults={
        "nodeTypes": (),
        "noneEnabled": False,
        "addEnabled": True,
        "removeEnabled": True,
        "renameEnabled": False,
        "editEnabled": False,
        "showHidden": False,
        "showChildNodeTypes": True,
        "selectNodeUponCreation": False,
        "baseName": "",
        "noneDisplay": "None",
    },
    setMRMLScene=_combo_scene,
    mrmlScene=lambda self: self._scene,
    _nodes=_combo_nodes,
    _refresh=_combo_refresh,
    _tell=_combo_tell,
    _currentID=_combo_current_id,
    _current=lambda self: self._scene.GetNodeByID(self._currentID()) if self._scene and self._currentID() else None,
    currentNode=lambda self: self._current(),
    setCurrentNode=_combo_set_current,
    setCurrentNodeID=_combo_set_current,
    addAttribute=lambda self, kind, name, value=None: (self._attributes.append((kind, name, value)), self._refresh())[
        1
    ],
    nodeCount=lambda self: sum(i is not None for i in self._ids),
    _get_currentNodeID=lambda self: self._currentID() or "",
    _get_currentNodeId=lambda self: self._currentID() or "",
    _set_nodeTypes=lambda self, kinds: (self._values.update(nodeTypes=tuple(kinds)), self._refresh()),
    **{f"_set_{name}": _combo_refresh for name in ("noneEnabled", "showHidden", "showChildNodeTypes")},
)


# qMRMLWidget and what derives from it: a widget that tells its children about the scene


def _widget_scene(self, scene):
    self._scene = scene
    self._qt("mrmlSceneChanged").emit(scene)


_SCENE = {
    "mrmlSceneChanged": QtCore.Signal(object),
    "_scene": None,
    "setMRMLScene": _widget_scene,
    "mrmlScene": lambda self: self._scene,
}
qMRMLWidget = stand_in("qMRMLWidget", **_SCENE)
qSlicerWidget = stand_in("qSlicerWidget", **_SCENE)


# qMRMLSegmentEditorWidget: what the editor is pointed at


def _editor_set(name):
    def setter(self, value):
        node = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
        getattr(node, f"SetAndObserve{name}")(value)

    return setter


def _editor_get(name):
    def getter(self):
        return getattr(slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode"), f"Get{name}")()

    return getter


qMRMLSegmentEditorWidget = stand_in(
    "qMRMLSegmentEditorWidget",
    **_SCENE,
    setSegmentationNode=_editor_set("SegmentationNode"),
    segmentationNode=_editor_get("SegmentationNode"),
    setSourceVolumeNode=_editor_set("SourceVolumeNode"),
    sourceVolumeNode=_editor_get("SourceVolumeNode"),
    setCurrentSegmentID=lambda self, segment: slicer.mrmlScene.GetSingletonNode(
        "SegmentEditor", "vtkMRMLSegmentEditorNode"
    ).SetSelectedSegmentID(segment),
    currentSegmentID=_editor_get("SelectedSegmentID"),
    setActiveEffectByName=lambda self, effect: None,
)


# qMRMLTableView: the cells of a table node, which can be changed by typing


def _table_init(self, parent=None):
    QtWidgets.QTableWidget.__init__(self, parent)
    self._node, self._shown, self._tag, self._scene = None, None, None, None
    self._qt("itemChanged").connect(lambda item: self._typed(item))


def _table_show(self, node):
    if self._shown is not None:
        self._shown.RemoveObserver(self._tag)
    self._shown = node
    if node is not None:
        self._tag = node.AddObserver("ModifiedEvent", lambda *_: self._refresh())
    self._refresh()


def _table_refresh(self):
    node = self._shown
    columns, rows = (node.GetNumberOfColumns(), node.GetNumberOfRows()) if node is not None else (0, 0)
    self._qt("blockSignals")(True)
    self._qt("setColumnCount")(columns)
    self._qt("setRowCount")(rows)
    if node is not None and node.GetUseColumnTitleAsColumnHeader():
        titles = [node.GetColumnTitle(node.GetColumnName(c)) or node.GetColumnName(c) for c in range(columns)]
        self._qt("setHorizontalHeaderLabels")(titles)
    for row in range(rows):
        for column in range(columns):
            item = QtWidgets.QTableWidgetItem(node.GetCellText(row, column))
            if node.GetLocked():
                item.setFlags(item.flags() & ~QtCore.Qt.ItemFlag.ItemIsEditable)
            self._qt("setItem")(row, column, item)
    self._qt("blockSignals")(False)


def _table_delete_row(self):
    for row in sorted({index.row() for index in self._qt("selectedIndexes")()}, reverse=True):
        self._shown.RemoveRow(row)


def _table_view_node(self, view_node):
    self._node = view_node
    view_node.AddObserver("ModifiedEvent", lambda *_: self._show(view_node.GetTableNode()))
    self._show(view_node.GetTableNode())


qMRMLTableView = stand_in(
    "qMRMLTableView",
    QtWidgets.QTableWidget,
    mrmlSceneChanged=QtCore.Signal(object),
    __init__=_table_init,
    _show=_table_show,
    _refresh=_table_refresh,
    _typed=lambda self, item: self._shown.SetCellText(item.row(), item.column(), item.text()),
    _schedule=lambda self: None,
    setMRMLScene=lambda self, scene: self.__dict__.update(_scene=scene),
    setMRMLTableNode=_table_show,
    mrmlTableNode=lambda self: self._shown,
    setMRMLTableViewNode=_table_view_node,
    mrmlTableViewNode=lambda self: self._node,
    deleteRow=_table_delete_row,
    insertRow=lambda self: self._shown.AddEmptyRow(),
)
