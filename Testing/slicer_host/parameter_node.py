"""slicer.parameterNodeWrapper: typed values kept in a vtkMRMLScriptedModuleNode and connected to widgets both ways.

Written from the documentation of Slicer's wrapper; the types and widgets it connects are those that Slicer connects.
"""

from __future__ import annotations

import dataclasses
import enum
import pathlib
import typing
import weakref

import ctk
import qt
import slicer
import vtk

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Maximum",
    "Minimum",
    "SingleStep",
    "WithinRange",
    "findChildWidgetForParameter",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]
SlicerParameterNamePropertyName = "SlicerParameterName"


@dataclasses.dataclass
class Default:
    value: typing.Any


@dataclasses.dataclass
class Decimals:
    value: int


@dataclasses.dataclass
class SingleStep:
    value: float


@dataclasses.dataclass
class Minimum:
    minimum: float

    def validate(self, value):
        if value < self.minimum:
            raise ValueError(f"{value} is less than {self.minimum}")


@dataclasses.dataclass
class Maximum:
    maximum: float

    def validate(self, value):
        if value > self.maximum:
            raise ValueError(f"{value} is more than {self.maximum}")


@dataclasses.dataclass
class WithinRange:
    minimum: float
    maximum: float

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} is not within {self.minimum} … {self.maximum}")


class Choice:
    def __init__(self, choices):
        self.choices = list(choices)

    def validate(self, value):
        if value not in self.choices:
            raise ValueError(f"{value!r} is none of {self.choices}")


class Parameter:
    """One typed value of the node."""

    def __init__(self, name, annotation, default):
        self.name = name
        self.type, *self.notes = typing.get_args(annotation) if hasattr(annotation, "__metadata__") else (annotation,)
        self.element = self._element()
        self.is_node = isinstance(self.type, type) and issubclass(self.type, slicer.vtkMRMLNode)
        known = self.type in (bool, int, float, str) or self._is(enum.Enum, pathlib.PurePath)
        if not self.is_node and not self.element and not known:
            raise TypeError(f"no serializer for {self.type} of parameter {name}")
        declared = next((note.value for note in self.notes if isinstance(note, Default)), None)
        self.default = default if default is not None else declared if declared is not None else self._zero()

    def _element(self):
        """The values of a list, as a parameter of their own: ``list[str]``, ``list[vtkMRMLScalarVolumeNode]``."""
        if typing.get_origin(self.type) is not list:
            return None
        return Parameter(self.name, typing.get_args(self.type)[0], None)

    def _is(self, *types):
        return isinstance(self.type, type) and issubclass(self.type, types)

    def _zero(self):
        if self.element:
            return []
        return None if self.is_node else next(iter(self.type)) if self._is(enum.Enum) else self.type()

    def note(self, kind):
        return next((note for note in self.notes if isinstance(note, kind)), None)

    def _write_list(self, node, values):
        """Each value under a name of its own, as in Slicer; what is beyond the end is gone."""
        before = int(node.GetParameter(f"{self.name}_len") or 0)
        for index, value in enumerate(values):
            self.element.name = f"{self.name}_{index}"
            self.element.write(node, value)
        for index in range(len(values), before):
            node.UnsetParameter(f"{self.name}_{index}")
            node.RemoveNodeReferenceIDs(f"{self.name}_{index}")
        node.SetParameter(f"{self.name}_len", str(len(values)))

    def _read_list(self, node):
        if not node.HasParameter(f"{self.name}_len"):
            self._write_list(node, self.default)
        values = []
        for index in range(int(node.GetParameter(f"{self.name}_len"))):
            self.element.name = f"{self.name}_{index}"
            values.append(self.element.read(node))
        return values

    def write(self, node, value):
        if self.element:
            self._write_list(node, value)
            return
        accepted = (int, float) if self.type is float else self.type
        if not (self.is_node and value is None) and not isinstance(value, accepted):
            raise TypeError(f"{self.name} is a {self.type.__name__}, not {value!r}")
        for note in self.notes:
            if hasattr(note, "validate"):
                note.validate(value)
        if self.is_node:
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        elif self._is(enum.Enum):
            node.SetParameter(self.name, value.name)
        else:
            node.SetParameter(self.name, str(value))

    def read(self, node):
        if self.element:
            return self._read_list(node)
        if not node.HasParameter(self.name):
            self.write(node, self.default)
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if self.type is bool:
            return text == "True"
        return self.type[text] if self._is(enum.Enum) else self.type(text)


class Connector:
    """Keeps a widget and a parameter equal. ``read`` and ``write`` are the widget's side."""

    def __init__(self, widget, parameter):
        self.widget, kind = widget, type(widget)
        member = None
        if kind is qt.QCheckBox and parameter.type is bool:
            member, self.signal = "checked", "stateChanged"
        elif kind is qt.QPushButton and parameter.type is bool:
            widget.checkable = True
            member, self.signal = "checked", "toggled"
        elif kind in (qt.QSpinBox, qt.QSlider) and parameter.type is int:
            member, self.signal = "value", "valueChanged"
            self._limit(parameter)
        elif kind in (qt.QDoubleSpinBox, ctk.ctkSliderWidget) and parameter.type is float:
            member, self.signal = "value", "valueChanged"
            self._limit(parameter)
        elif kind is qt.QLineEdit and parameter.type is str:
            member, self.signal = "text", "textChanged"
        elif kind is qt.QComboBox and (parameter.note(Choice) or parameter._is(enum.Enum)):
            self.signal = "currentIndexChanged"
            values = parameter.note(Choice).choices if parameter.note(Choice) else list(parameter.type)
            label = getattr(parameter.type, "label", lambda value: value.name) if parameter._is(enum.Enum) else str
            widget.clear()
            for value in values:
                widget.addItem(label(value))
            self.read = lambda: values[widget.currentIndex]
            self.write = lambda value: setattr(widget, "currentIndex", values.index(value))
        elif kind is ctk.ctkPathLineEdit and parameter._is(pathlib.PurePath):
            self.signal = "currentPathChanged"
            self.read = lambda: parameter.type(widget.currentPath)
            self.write = lambda value: setattr(widget, "currentPath", str(value))
        elif kind is slicer.qMRMLNodeComboBox and parameter.is_node:
            self.signal = "currentNodeChanged"
            widget.nodeTypes = [parameter.type.__name__]
            self.read, self.write = widget.currentNode, widget.setCurrentNode
        else:
            raise RuntimeError(f"Slicer cannot connect a {kind.__name__} to a parameter of type {parameter.type}")
        if member:
            self.read = lambda: getattr(widget, member)
            self.write = lambda value: setattr(widget, member, value)

    def _limit(self, parameter):
        for note, member in ((parameter.note(Decimals), "decimals"), (parameter.note(SingleStep), "singleStep")):
            if note is not None:
                setattr(self.widget, member, note.value)
        limits = parameter.note(WithinRange)
        low, high = parameter.note(Minimum) or limits, parameter.note(Maximum) or limits
        if type(self.widget) in (qt.QSlider, ctk.ctkSliderWidget) and not (low and high):
            raise RuntimeError(f"a slider needs limits, and parameter {parameter.name} has none")
        if low:
            self.widget.minimum = low.minimum
        if high:
            self.widget.maximum = high.maximum

    def link(self, callback):
        self.callback = callback
        getattr(self.widget, self.signal).connect(callback)

    def unlink(self):
        getattr(self.widget, self.signal).disconnect(self.callback)


def _init(self, parameterNode, prefix=None):
    self.parameterNode = parameterNode
    self._guis, self._next_tag, self._updating = {}, 0, False
    with slicer.util.NodeModify(parameterNode):
        for parameter in self.allParameters.values():
            parameter.read(parameterNode)
    self._read_all()
    this = weakref.ref(self)
    parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: this() and this()._read_all())


def _read_all(self):
    """Values are remembered, and read again when the node tells that it was modified, as in Slicer."""
    self._values = {name: parameter.read(self.parameterNode) for name, parameter in self.allParameters.items()}


def _set(self, name, value):
    parameter = self.allParameters[name]
    with slicer.util.NodeModify(self.parameterNode):
        parameter.write(self.parameterNode, value)
        self._values[name] = parameter.read(self.parameterNode)


def _connect_gui(self, gui):
    """As in Slicer up to 5.12, the tag that disconnectGui() needs is not returned."""
    widgets = gui.findChildren(qt.QWidget) if hasattr(gui, "isWidgetType") else list(vars(gui).values())
    names = [(widget.property(SlicerParameterNamePropertyName), widget) for widget in widgets]
    self.connectParametersToGui({name: widget for name, widget in names if name})


def _connect_parameters(self, mapping):
    for name in mapping:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")
    connectors = {name: Connector(widget, self.allParameters[name]) for name, widget in mapping.items()}

    def on_widget(name, connector):
        def changed():
            with slicer.util.NodeModify(self):
                if not self._updating:
                    self.setValue(name, connector.read())

        return changed

    tag, self._next_tag = self._next_tag, self._next_tag + 1
    self._guis[tag] = connectors
    for name, connector in connectors.items():
        connector.write(self.getValue(name))
        connector.link(on_widget(name, connector))
    # It stays for good, as in Slicer, with the widgets or without
    self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: _update_guis(self))
    return tag


def _update_guis(self):
    if self._updating:
        return
    self._updating = True
    try:
        with slicer.util.NodeModify(self):
            for connectors in self._guis.values():
                for name, connector in connectors.items():
                    connector.write(self.getValue(name))
    finally:
        self._updating = False


def _disconnect_gui(self, tag):
    for connector in self._guis.pop(tag, {}).values():
        connector.unlink()


def _add_observer(self, event, callback, priority=0.0):
    return self.parameterNode.AddObserver(event, callback, priority)


def parameterNodeWrapper(kind=None):
    """Class decorator: annotated members become values of the parameter node that the instance is made for."""
    if kind is None:
        return parameterNodeWrapper
    kind.allParameters = {
        name: Parameter(name, annotation, getattr(kind, name, None))
        for name, annotation in typing.get_type_hints(kind, include_extras=True).items()
    }
    for name in kind.allParameters:
        setattr(
            kind,
            name,
            property(
                lambda self, name=name: self._values[name],
                lambda self, value, name=name: _set(self, name, value),
            ),
        )
    kind._is_parameter_node_wrapper = True
    kind.__init__ = _init
    kind._read_all = _read_all
    kind.connectGui, kind.disconnectGui = _connect_gui, _disconnect_gui
    kind.connectParametersToGui = _connect_parameters
    kind.default = lambda self, name: Default(self.allParameters[name].default)
    kind.getValue = lambda self, name: getattr(self, name)
    kind.setValue = lambda self, name, value: setattr(self, name, value)
    kind.AddObserver = _add_observer
    kind.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    kind.StartModify = lambda self: self.parameterNode.StartModify()
    kind.EndModify = lambda self, was: self.parameterNode.EndModify(was)
    kind.Modified = lambda self: self.parameterNode.Modified()
    return kind


def isParameterNodeWrapper(thing):
    return getattr(thing, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget, parameter):
    return next(
        (w for w in widget.findChildren(qt.QWidget) if w.property(SlicerParameterNamePropertyName) == parameter), None
    )
