"""The application: scene and logics of slicer-core, modules, main window, file reading and writing."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from .pythonqt import problems, report, wrap
from .widgets import stand_in

# qSlicerApplication


def _settings(self):
    return sys.modules["qt"].QSettings()


_KNOWN_BY_SLICER_UTIL = {"testingEnabled", "applicationName"}


def _application_class():
    application = wrap(
        "qSlicerApplication",
        QtWidgets.QApplication,
        stand_in=True,
        startupCompleted=QtCore.Signal(),
        mrmlSceneChanged=QtCore.Signal(object),
        layoutManager=lambda self: self._layoutManager,
        moduleManager=lambda self: self._moduleManager,
        ioManager=lambda self: self._ioManager,
        coreIOManager=lambda self: self._ioManager,
        applicationLogic=lambda self: self._applicationLogic,
        mrmlScene=lambda self: slicer.mrmlScene,
        moduleLogic=lambda self, name: slicer.util.getModule(name).logic(),
        pauseRender=lambda self: self._layoutManager and self._layoutManager.pauseRender(),
        resumeRender=lambda self: self._layoutManager and self._layoutManager.resumeRender(),
        testingEnabled=lambda self: False,
        settings=_settings,
        userSettings=_settings,
        processEvents=lambda self, *flags: QtWidgets.QApplication.processEvents(*flags),
        setOverrideCursor=lambda self, cursor: QtWidgets.QApplication.setOverrideCursor(cursor),
        restoreOverrideCursor=lambda self: QtWidgets.QApplication.restoreOverrideCursor(),
        _get_temporaryPath=lambda self: self._temporaryPath,
        _get_mainApplicationName=lambda self: "Slicer",
        _get_majorVersion=lambda self: 5,
        _get_minorVersion=lambda self: 12,
        _layoutManager=None,
    )
    application._api |= _KNOWN_BY_SLICER_UTIL
    return application


# Modules


def _widget_representation(self):
    if self._widget is None:
        self._widget = self._createWidget()
    return self._widget


def _scripted_widget(self):
    holder = qSlicerScriptedLoadableModuleWidget()
    QtWidgets.QVBoxLayout(holder)
    holder._qt("setLayout")  # PySide6 gives the parent its layout on construction
    _fill(holder, self._source, self._name)
    return holder


def _fill(holder, source, name):
    """Make the widget of a module's source, in the holder that the application shows."""
    holder._self = getattr(source, f"{name}Widget")(holder)
    setattr(slicer.modules, f"{name}Widget", holder._self)
    holder._self.setup()


def _reload_widget(self):
    """Make the widget anew, from the source that slicer.util.reloadScriptedModule() has loaded."""
    name = self._self.moduleName
    _fill(self, sys.modules[name], name)


_MODULE = {
    "_defaults": {
        "title": "",
        "helpText": "",
        "acknowledgementText": "",
        "categories": (),
        "dependencies": (),
        "contributors": (),
        "hidden": False,
        "icon": None,
        "index": 0,
        "associatedNodeTypes": (),
    },
    "_widget": None,
    "_logic": None,
    "logic": lambda self: self._logic,
    "widgetRepresentation": _widget_representation,
    "_get_name": lambda self: self._name,
    "_get_path": lambda self: self._path,
}
qSlicerLoadableModule = stand_in("qSlicerLoadableModule", QtCore.QObject, **_MODULE)
qSlicerScriptedLoadableModule = stand_in(
    "qSlicerScriptedLoadableModule", QtCore.QObject, **_MODULE, _createWidget=_scripted_widget
)
for kind in (qSlicerLoadableModule, qSlicerScriptedLoadableModule):
    kind._api |= {"name"}


def _layout_of_holder(self):
    return QtWidgets.QWidget.layout(self)


qSlicerScriptedLoadableModuleWidget = stand_in(
    "qSlicerScriptedLoadableModuleWidget",
    mrmlSceneChanged=QtCore.Signal(object),
    setMRMLScene=lambda self, scene: self._qt("mrmlSceneChanged").emit(scene),
    self=lambda holder: holder._self,
    reload=_reload_widget,
    layout=_layout_of_holder,
    _get_moduleName=lambda self: self._self.moduleName,
    _entered=False,
    _get_isEntered=lambda self: self._entered,
)


class Modules(types.SimpleNamespace):
    """slicer.modules"""


def _all_names(self):
    return tuple(self._modules)


def _module(self, name):
    return self._modules.get(name)


qSlicerModuleFactoryManager = stand_in(
    "qSlicerModuleFactoryManager", QtCore.QObject, _modules={}, loadedModuleNames=_all_names
)
qSlicerModuleManager = stand_in(
    "qSlicerModuleManager",
    QtCore.QObject,
    moduleAboutToBeUnloaded=QtCore.Signal(str),
    moduleLoaded=QtCore.Signal(str),
    module=_module,
    modulesNames=_all_names,
    factoryManager=lambda self: self._factory,
    _current=None,
)


def add_logic_module(name: str, logic, source=None):
    """A module of Slicer's own: its logic, and a Python widget where one is needed."""
    module = qSlicerLoadableModule()
    module._name, module._path, module._logic = name, "", logic
    if logic is not None:
        logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        if hasattr(logic, "SetModuleShareDirectory"):
            logic.SetModuleShareDirectory(slicer.app.temporaryPath)
        slicer.app.applicationLogic().SetModuleLogic(name, logic)
        logic.SetMRMLScene(slicer.mrmlScene)
    _add(name, module)
    return module


def add_scripted_module(path: Path):
    """Load a scripted module file as the application does at start-up; its widget is made when first asked for."""
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    source = importlib.util.module_from_spec(spec)
    sys.modules[name] = source
    spec.loader.exec_module(source)
    return add_source_module(name, source, str(path))


def add_source_module(name, source, path=""):
    module = qSlicerScriptedLoadableModule()
    module._name, module._source, module._path = name, source, path
    _add(name, module)
    module._instance = getattr(source, name)(module)
    return module


def _add(name, module):
    slicer.app._moduleManager._modules[name] = module
    setattr(slicer.modules, name.lower(), module)


def select_module(name: str | None) -> None:
    """What a click in the module selector does: leave the current module, show and enter the other."""
    manager = slicer.app._moduleManager
    panel = slicer.util.mainWindow()._panel
    if manager._current:
        _tell(manager._current, "exit", False)
        panel.takeWidget()._qt("setParent")(None)
    manager._current = name
    if name:
        holder = manager.module(name).widgetRepresentation()
        panel.setWidget(holder)
        holder.show()
        _tell(name, "enter", True)


def _tell(name, method, entered):
    holder = slicer.app._moduleManager.module(name).widgetRepresentation()
    holder._entered = entered
    widget = getattr(holder, "_self", None)
    if hasattr(widget, method):
        try:
            getattr(widget, method)()
        except Exception as error:
            report(error)


# Main window

qSlicerModuleSelectorToolBar = stand_in(
    "qSlicerModuleSelectorToolBar",
    selectModule=lambda self, name: select_module(name),
    _get_selectedModule=lambda self: slicer.app._moduleManager._current,
)


def _window_init(self):
    QtWidgets.QMainWindow.__init__(self)
    self._selector = qSlicerModuleSelectorToolBar()
    self._panel = QtWidgets.QScrollArea()
    self._panel.setWidgetResizable(True)
    self._panel.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAsNeeded)
    self._viewport = QtWidgets.QWidget()
    split = self._split = QtWidgets.QSplitter()
    split.addWidget(self._panel)
    split.addWidget(self._viewport)
    split.setStretchFactor(1, 1)
    split.setSizes([430, 900])
    self._qt("setCentralWidget")(split)
    self._qt("resize")(1330, 900)


qSlicerMainWindow = stand_in(
    "qSlicerMainWindow",
    QtWidgets.QMainWindow,
    __init__=_window_init,
    moduleSelector=lambda self: self._selector,
)


# Reading and writing


def _load_nodes(self, file_type, properties, loaded, messages=None):
    path = properties["fileName"]
    scene = slicer.mrmlScene
    if file_type == "SceneFile":
        if properties.get("clear", True):
            scene.Clear(False)
        if path.endswith(".mrb"):
            return bool(scene.ReadFromMRB(path, False))
        scene.SetURL(path)
        return bool(scene.Import())
    if file_type == "VolumeFile":
        node = slicer.modules.volumes.logic().AddArchetypeVolume(
            path, properties.get("name") or Path(path).name.split(".")[0]
        )
    elif file_type == "SegmentationFile":
        node = slicer.modules.segmentations.logic().LoadSegmentationFromFile(path, True)
    else:
        raise NotImplementedError(file_type)
    if node is None:
        return False
    loaded.AddItem(node)
    return True


def _save_nodes(self, file_type, properties, messages=None):
    path = str(properties["fileName"])
    scene = slicer.mrmlScene
    if file_type == "SceneFile":
        if path.endswith(".mrb"):
            return bool(scene.WriteToMRB(path, None))
        scene.SetURL(path)
        return bool(scene.Commit())
    node = scene.GetNodeByID(properties["nodeID"])
    storage = node.GetStorageNode()
    if storage is None:
        node.AddDefaultStorageNode()
        storage = node.GetStorageNode()
    storage.SetFileName(path)
    return bool(storage.WriteData(node))


def _file_type(self, path):
    name = str(path).lower()
    if name.endswith((".mrml", ".mrb")):
        return "SceneFile"
    return "SegmentationFile" if name.endswith((".seg.nrrd", ".seg.vtm")) else "VolumeFile"


qSlicerIOManager = stand_in(
    "qSlicerIOManager",
    QtCore.QObject,
    loadNodes=_load_nodes,
    saveNodes=_save_nodes,
    fileType=_file_type,
    fileWriterFileType=lambda self, node, *_: "NodeFile",
)


# Start-up


class _SegmentEditorWidget:
    """The Segment Editor module as other modules use it: ``.editor`` and enter()."""

    def __init__(self, parent):
        self.parent, self.moduleName, self.layout = parent, "SegmentEditor", parent.layout()

    def setup(self):
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.layout.addWidget(self.editor)
        self.selectParameterNode()

    def selectParameterNode(self):
        if slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode") is None:
            node = slicer.vtkMRMLSegmentEditorNode()
            node.SetSingletonTag("SegmentEditor")
            slicer.mrmlScene.AddNode(node)

    def enter(self):
        self.selectParameterNode()


@vtk.calldata_type(vtk.VTK_OBJECT)
def _into_hierarchy(scene, event, node):
    """Every node that a user sees gets an item in the subject hierarchy."""
    hierarchy = scene.GetSubjectHierarchyNode()
    if node.IsA("vtkMRMLDisplayableNode") and not node.GetHideFromEditors() and not hierarchy.GetItemByDataNode(node):
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


@vtk.calldata_type(vtk.VTK_OBJECT)
def _out_of_hierarchy(scene, event, node):
    hierarchy = scene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.RemoveItem(item, False, False)


def _default_nodes():
    scene = slicer.mrmlScene
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    for kind in ("Selection", "Interaction"):
        node = getattr(slicer, f"vtkMRML{kind}Node")()
        node.SetSingletonTag("Singleton")
        scene.AddNode(node)


@vtk.calldata_type(vtk.VTK_STRING)
def _on_vtk_message(window, event, text):
    """Slicer shows VTK's warnings and errors in its error log; VTK itself prints them."""
    problems.append(f"VTK: {text}")


def start(with_main_window: bool = True):
    """Bring the application up; what a scripted module imports is in place afterwards."""
    for kind in ("WarningEvent", "ErrorEvent"):
        vtk.vtkOutputWindow.GetInstance().AddObserver(kind, _on_vtk_message)
    QtCore.QCoreApplication.setOrganizationName("CTDefaceTesting")
    settings = Path(tempfile.mkdtemp(prefix="slicer-host-"))
    atexit.register(shutil.rmtree, settings, ignore_errors=True)
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, str(settings))
    slicer.app = slicer.qSlicerApplication = _application_class()([])
    slicer.app._qt("setApplicationName")("Slicer")
    slicer.app._qt("setStyle")("Fusion")
    slicer.app._temporaryPath = str(settings / "temporary")
    os.makedirs(slicer.app._temporaryPath)
    slicer.mrmlScene = scene = slicer.vtkMRMLScene()
    scene.AddObserver(scene.NodeAddedEvent, _into_hierarchy)
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, _out_of_hierarchy)
    slicer.modules, slicer.selfTests = Modules(sampleDataSources={}), {}

    logic = slicer.app._applicationLogic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.SetTemporaryPath(slicer.app._temporaryPath)
    logic.GetColorLogic().SetMRMLScene(scene)
    logic.GetColorLogic().AddDefaultColorNodes()
    logic.SetSliceLogics(vtk.vtkCollection())
    logic.SetViewLogics(vtk.vtkCollection())
    _default_nodes()
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    scene.SetRootDirectory(slicer.app._temporaryPath)
    cache, manager = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    Path(settings, ".slicer-cache").touch()
    cache.SetRemoteCacheDirectory(str(settings))
    manager.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(manager)

    slicer.app._moduleManager = manager = qSlicerModuleManager()
    manager._modules = {}
    manager._factory = qSlicerModuleFactoryManager()
    manager._factory._modules = manager._modules
    slicer.app._ioManager = qSlicerIOManager()
    Path(slicer.app.temporaryPath, "presets.xml").write_text('<MRML version="5" userTags=""></MRML>', encoding="utf-8")
    for name, module_logic in {
        "Colors": slicer.vtkMRMLColorLogic(),
        "SubjectHierarchy": slicer.vtkSlicerSubjectHierarchyModuleLogic(),
        "Volumes": slicer.vtkSlicerVolumesLogic(),
        "Segmentations": slicer.vtkSlicerSegmentationsModuleLogic(),
        "VolumeRendering": slicer.vtkSlicerVolumeRenderingLogic(),
        "Cameras": slicer.vtkSlicerCamerasModuleLogic(),
        "ViewControllers": slicer.vtkSlicerViewControllersLogic(),
        "Markups": slicer.vtkSlicerMarkupsLogic(),
        "Sequences": slicer.vtkSlicerSequencesLogic(),
    }.items():
        add_logic_module(name, module_logic)
    editor = types.ModuleType("SegmentEditor")
    editor.SegmentEditor, editor.SegmentEditorWidget = lambda parent: None, _SegmentEditorWidget
    add_source_module("SegmentEditor", editor)

    if with_main_window:
        window = qSlicerMainWindow()
        slicer.util.mainWindow = lambda: window
        from . import views

        slicer.app._layoutManager = views.qSlicerLayoutManager(window._viewport)
    else:
        slicer.util.mainWindow = lambda: None
    return slicer.app


def picture(widget) -> QtGui.QImage:
    """A screenshot of a widget, its VTK views rendered first."""
    from . import views

    kinds = (views.qMRMLThreeDView, views.qMRMLSliceView, views.qMRMLPlotView)
    for view in [widget, *QtCore.QObject.findChildren(widget, QtWidgets.QWidget)]:
        if isinstance(view, kinds) and view._qt("isVisible")():
            view._draw()
    return QtWidgets.QWidget.grab(widget).toImage()
