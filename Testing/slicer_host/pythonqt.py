"""Qt shown the way Slicer's Python shows it: the module that the code under test imports as ``qt``.

PySide6 objects behave like PythonQt's: properties are attributes (``button.text = "x"``; ``button.text()`` fails) and
setters work as well, signals connect by name (``b.connect("clicked()", f)``) or as attributes
(``b.clicked.connect(f)``), and an attribute that the class does not have in a running Slicer raises AttributeError, on
reading and on writing.
"""

from __future__ import annotations

import inspect
import json
import sys
import traceback
import types
from pathlib import Path
from xml.etree import ElementTree

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

API = json.loads(Path(__file__).with_name("slicer_api.json").read_text(encoding="utf-8"))["classes"]
PLAIN = {"QFile", "QSettings"}  # shown as PySide6 has them: they have no properties and hardly differ
SPECIAL = {"name", "exec_", "raise_"}  # names that PythonQt answers although dir() does not list them

# what PySide6 looks up on the way to a virtual method
VIRTUAL = {"sizeHint", "minimumSizeHint", "connectNotify", "disconnectNotify"}
VIRTUAL |= {  # of a table
    "closeEditor", "commitData", "currentChanged", "dataChanged", "editorDestroyed", "horizontalScrollbarAction",
    "horizontalScrollbarValueChanged", "initViewItemOption", "itemDelegateForIndex", "rowsAboutToBeRemoved",
    "rowsInserted", "selectionChanged", "updateEditorData", "updateEditorGeometries", "updateGeometries",
    "verticalScrollbarAction", "verticalScrollbarValueChanged",
}  # fmt: skip

problems: list[str] = []
"""Exceptions in slots and what Qt and VTK complain of; a test that leaves any here has failed."""


def report(error: BaseException) -> None:
    """Note an exception that PythonQt would print and swallow."""
    problems.append("".join(traceback.format_exception(error)))
    print(problems[-1], file=sys.stderr)


def api_attributes(name: str) -> set[str]:
    entry = API[name]
    inherited = api_attributes(entry["base"]) if entry["base"] else set()
    return inherited - set(entry.get("removed", ())) | set(entry["attributes"])


def api_members(name: str, kind: str) -> set[str]:
    entry = API[name]
    return set(entry.get(kind, ())) | (api_members(entry["base"], kind) if entry["base"] else set())


def _positional(function) -> int | None:
    """How many arguments a callable takes, None for any number. PythonQt drops those that it has no room for."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def guarded(function, count=None):
    """A slot that calls function with the arguments it has room for (at most count) and notes what it raises."""
    room = _positional(function)
    limit = room if count is None else count if room is None else min(room, count)

    def call(*values):
        try:
            function(*(values if limit is None else values[:limit]))
        except Exception as error:
            report(error)

    return call


class Signal:
    """``widget.clicked``: connect, disconnect, emit, and a call that emits."""

    def __init__(self, owner, name):
        self._owner, self._name = owner, name

    def connect(self, function):
        self._owner._link(self._name, None, function)

    def disconnect(self, function=None):
        self._owner._unlink(self._name, function)

    def emit(self, *values):
        self._owner._qt(self._name).emit(*values)

    __call__ = emit


class PythonQt:
    """Mixed into a PySide6 class; ``_api`` and ``_properties`` say what the class has in a running Slicer."""

    _api: frozenset = frozenset()
    _properties: frozenset = frozenset()  # of a stand-in class; Qt's own are asked from Qt
    _signals: frozenset = frozenset()

    def __init_subclass__(cls, **keywords):
        super().__init_subclass__(**keywords)
        if cls.__module__ != "qt":  # a class of the code under test, with members of its own
            cls._api = cls._api | set(vars(cls))

    def _qt(self, name):
        """PySide6's own attribute."""
        return object.__getattribute__(self, name)

    def __getattribute__(self, name):
        if name.startswith("_") or name in VIRTUAL:
            return object.__getattribute__(self, name)
        kind = type(self)
        if name not in kind._api and name not in SPECIAL:
            raise AttributeError(f"{kind.__name__} has no attribute named '{name}'")
        if name == "name":
            return QtCore.QObject.objectName(self)
        if name in kind._properties:
            return self._property(name)
        if name in kind._signals or isinstance(getattr(kind, name, None), QtCore.Signal):
            return Signal(self, name)
        if _has_qt_property(self, name):
            return QtCore.QObject.property(self, name)
        if name.startswith("set") and not hasattr(kind, name):
            own = name[3:4].lower() + name[4:]
            if own in kind._properties:
                return lambda value: setattr(self, own, value)
        return object.__getattribute__(self, name)

    def __setattr__(self, name, value):
        if name.startswith("_"):
            self.__dict__[name] = value
        elif name in ("name", "objectName"):
            QtCore.QObject.setObjectName(self, value)
        elif name in type(self)._properties:
            self._setProperty(name, value)
        elif isinstance(value, QtCore.QObject) and QtCore.QObject.objectName(value) == name:
            return  # PySide6's loader offers the children of a form as attributes; PythonQt does not
        elif name in type(self)._api and _has_qt_property(self, name):
            for kind, accepted in ((str, str), (bool, (bool, int))):
                if isinstance(QtCore.QObject.property(self, name), kind) and not isinstance(value, accepted):
                    raise AttributeError(f"Property '{name}' of type {kind} does not accept a {type(value)}")
            if not QtCore.QObject.setProperty(self, name, value):
                raise AttributeError(f"{type(self).__name__}.{name} cannot be set to {value!r}")
        else:
            raise AttributeError(f"{type(self).__name__} has no property named '{name}' to set")

    # properties of stand-in classes: a value, and hooks of the class (_get_x, _set_x) where one does more

    def _property(self, name):
        hook = getattr(type(self), f"_get_{name}", None)
        return hook(self) if hook else self.__dict__.setdefault("_values", {}).get(name, type(self)._defaults.get(name))

    def _setProperty(self, name, value):
        self.__dict__.setdefault("_values", {})[name] = value
        hook = getattr(type(self), f"_set_{name}", None)
        if hook:
            hook(self, value)

    # signals

    def _link(self, name, count, function):
        slot = guarded(function, count)
        self.__dict__.setdefault("_slots", []).append((name, function, slot))
        QtCore.QObject.connect(self, QtCore.SIGNAL(self._signature(name)), slot)

    def _unlink(self, name, function):
        links = self.__dict__.setdefault("_slots", [])
        for link in [x for x in links if x[0] == name and (function is None or x[1] == function)]:
            links.remove(link)
            QtCore.QObject.disconnect(self, QtCore.SIGNAL(self._signature(name)), link[2])

    def _signature(self, name):
        """The signal with all its arguments: clicked() and clicked(bool) are one signal to PythonQt."""
        meta = QtCore.QObject.metaObject(self)
        methods = [meta.method(i) for i in range(meta.methodCount())]
        signals = [
            m
            for m in methods
            if m.methodType() == QtCore.QMetaMethod.MethodType.Signal and bytes(m.name()).decode() == name
        ]
        return bytes(max(signals, key=lambda m: m.parameterCount()).methodSignature()).decode()

    def connect(self, signal, *receiver):
        name, _, arguments = signal.partition("(")
        kind = type(self)
        known = name in kind._signals
        if not known and name in kind._api:
            meta = QtCore.QObject.metaObject(self)
            known = meta.indexOfSignal(bytes(QtCore.QMetaObject.normalizedSignature(signal)).decode()) >= 0
        if not known:
            raise ValueError(f"{kind.__name__} has no signal {signal}")
        function = receiver[0] if len(receiver) == 1 else getattr(receiver[0], receiver[1].partition("(")[0])
        arguments = arguments.rstrip(") ")
        self._link(name, arguments.count(",") + 1 if arguments else 0, function)
        return True

    def disconnect(self, signal, function=None):
        self._unlink(signal.partition("(")[0], function)
        return True

    # QObject

    def findChildren(self, kind, *name):
        qt_type = kind if isinstance(kind, type) else getattr(sys.modules["qt"], kind)
        native = next(x for x in qt_type.__mro__ if x.__module__.startswith("PySide6"))
        return QtCore.QObject.findChildren(self, native, *name)

    def findChild(self, kind, *name):
        return next(iter(self.findChildren(kind, *name)), None)

    def className(self):
        return type(self).__name__

    def inherits(self, name):
        return name in _api_bases(type(self).__name__) or QtCore.QObject.inherits(self, name)

    def delete(self):
        from shiboken6 import Shiboken

        Shiboken.delete(self)

    def setProperty(self, name, value):
        if name in type(self)._properties:
            self._setProperty(name, value)
            return True
        return QtCore.QObject.setProperty(self, name, value)

    def property(self, name):
        return self._property(name) if name in type(self)._properties else QtCore.QObject.property(self, name)

    _defaults: dict = {}


def _has_qt_property(instance, name):
    return QtCore.QObject.metaObject(instance).indexOfProperty(name) >= 0


def _api_bases(name):
    while name in API:
        yield name
        name = API[name]["base"]


def wrap(name, native, **members):
    """The class that Python sees as name in Slicer, drawn by the PySide6 class native."""
    stand_in = members.pop("stand_in", False)
    body = {
        "_api": frozenset(api_attributes(name)),
        "_signals": frozenset(s for base in _api_bases(name) for s in API[base].get("signals", ())),
        "_properties": frozenset(api_members(name, "properties")) if stand_in else frozenset(),
        "__module__": "qt",
    }
    return type(name, (PythonQt, native), {**body, **members})


class QtModule(types.ModuleType):
    """``import qt``: QObject classes wrapped on first use, value types and namespaces as PySide6 has them."""

    def __getattr__(self, name):
        native = next((getattr(m, name) for m in (QtCore, QtGui, QtWidgets, QtUiTools) if hasattr(m, name)), None)
        if native is None:
            raise AttributeError(f"qt has no class '{name}'")
        if isinstance(native, type) and issubclass(native, QtCore.QObject) and name not in PLAIN:
            if name not in API:
                raise AttributeError(f"qt.{name} is not in the excerpt: add it to excerpt.py and run that")
            native = wrap(name, native, **SPECIALISED.get(name, {}))
        setattr(self, name, native)
        return native


# where Qt 6 or PySide6 differ from what PythonQt shows of Qt 5


class Dialogs:
    """What the user answers to the dialogs that open; a dialog without an answer waiting is a problem."""

    def __init__(self):
        self.answers = []  # each a button, or a path for a file dialog
        self.shown = []

    def answer(self, text):
        self.shown.append(text)
        if not self.answers:
            report(AssertionError(f"a dialog opened that the test did not expect: {text}"))
            return None
        return self.answers.pop(0)


dialogs = Dialogs()


def message_box_exec(self):
    answer = dialogs.answer(self.text)
    return QtWidgets.QMessageBox.StandardButton.Cancel if answer is None else answer


def _file_dialog(parent=None, caption="", directory="", file_filter="", *rest):
    return dialogs.answer(f"{caption}: {directory}") or ""


class _UiLoader(QtUiTools.QUiLoader):
    def createWidget(self, className, parent=None, name=""):
        widget = self._factory(className)(parent) if parent is not None else self._factory(className)()
        QtCore.QObject.setObjectName(widget, name)
        return widget

    @staticmethod
    def _factory(class_name):
        for module in (sys.modules["slicer"], sys.modules["ctk"], sys.modules["qt"]):
            if class_name in API and hasattr(module, class_name):
                return getattr(module, class_name)
        raise AttributeError(f"the .ui file uses {class_name}, which the stand-in does not have")


def _load_ui(self, file):
    """Load a .ui file after comparing its properties and connections with what the classes really have."""
    tree = ElementTree.fromstring(bytes(file.readAll()))
    flag_values = []
    for element in tree.iter("widget"):
        flag_values += _check_element(element)
    links = []
    for parent in tree.findall("connections"):
        links += [{part.tag: part.text for part in link} for link in parent]
        tree.remove(parent)
    buffer = QtCore.QBuffer()
    buffer.setData(ElementTree.tostring(tree))
    buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
    loader = _UiLoader()
    widget = loader.load(buffer)
    if widget is None:
        raise RuntimeError(loader.errorString())
    everything = [widget, *QtCore.QObject.findChildren(widget, QtWidgets.QWidget)]
    for child in everything:
        if isinstance(child, PythonQt):
            for raw in QtCore.QObject.dynamicPropertyNames(child):
                name = bytes(raw).decode()
                if name in type(child)._properties:
                    setattr(child, name, QtCore.QObject.property(child, name))
    by_name = {QtCore.QObject.objectName(child): child for child in everything}
    for widget_name, name, flags in flag_values:
        setattr(by_name[widget_name], name, sum(getattr(type(by_name[widget_name]), flag) for flag in flags))
    for link in links:
        by_name[link["sender"]].connect(link["signal"], by_name[link["receiver"]], link["slot"])
    return widget


def _check_element(element):
    """Check a widget of a .ui file; takes out flags of classes that Qt does not know: [(widget, property, flags)]."""
    class_name = element.get("class")
    if class_name not in API:
        raise AttributeError(f"the .ui file uses {class_name}, which is not in the excerpt")
    native = getattr(QtWidgets, class_name, None)
    flag_values = []
    for item in element.findall("property"):
        name = item.get("name")
        if name == "buddy" and class_name == "QLabel":  # no property, but Qt's loader knows it
            continue
        if item.get("stdset") != "0" and not _is_declared(class_name, name, native):
            raise AttributeError(f"the .ui file sets {class_name}.{name}, which does not exist")
        flags = item.find("set") if native is None else None
        if flags is not None:
            element.remove(item)
            names = [flag.rpartition("::")[2] for flag in flags.text.split("|")]
            flag_values.append((element.get("name"), name, names))
    return flag_values


def _is_declared(class_name, name, native):
    """Whether a class has a property; `native` is the class of Qt, None where it has none."""
    if native is not None:
        return native.staticMetaObject.indexOfProperty(name) >= 0 and name in api_attributes(class_name)
    return name in api_members(class_name, "properties") or name in api_attributes(class_name)


def _single_shot(milliseconds, function):
    QtCore.QTimer.singleShot(int(milliseconds), guarded(function, 0))


def _start_process(self, program, arguments=(), *mode):
    QtCore.QProcess.start(self, program, list(arguments), *mode)


SPECIALISED = {
    "QMessageBox": {"exec_": message_box_exec},
    "QFileDialog": {
        "getSaveFileName": staticmethod(_file_dialog),
        "getOpenFileName": staticmethod(_file_dialog),
        "getExistingDirectory": staticmethod(_file_dialog),
    },
    "QUiLoader": {"load": _load_ui},
    "QTimer": {"singleShot": staticmethod(_single_shot)},
    "QProcess": {"start": _start_process},
}


def _on_qt_message(kind, context, text):
    if "propagateSizeHints" in text:  # the offscreen platform says so whenever a window opens
        return
    problems.append(f"Qt: {text}")
    print(problems[-1], file=sys.stderr)


def install() -> QtModule:
    """Put the module in place as ``qt``."""
    QtCore.qInstallMessageHandler(_on_qt_message)
    module = QtModule("qt")
    sys.modules["qt"] = module
    return module
