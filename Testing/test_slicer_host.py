"""The stand-in for Slicer behaves like PythonQt and refuses what a running Slicer does not have."""

import enum
from pathlib import Path
from typing import Annotated

import gui
import numpy as np
import pytest
from slicer_host import excerpt, pythonqt

import ctk  # isort: skip
import qt  # isort: skip
import slicer  # isort: skip
from slicer.parameterNodeWrapper import Choice, Default, WithinRange, parameterNodeWrapper  # isort: skip

pytestmark = pytest.mark.gui
UI = """<ui version="4.0"><class>Form</class><widget class="qMRMLWidget" name="Form">
<layout class="QVBoxLayout" name="column">
<item><widget class="{widget}" name="thing"><property name="{name}">{value}</property></widget></item>
</layout></widget>{rest}</ui>"""


@pytest.fixture(autouse=True)
def no_problems():
    pythonqt.problems.clear()
    yield
    assert not pythonqt.problems


def test_the_excerpt_says_what_the_running_slicer_said(real_data):
    source = real_data("../slicer_api.json.gz")
    assert excerpt.excerpt(source) == Path(excerpt.__file__).with_name("slicer_api.json").read_text(encoding="utf-8")


def test_a_property_is_an_attribute_and_no_method():
    button = qt.QPushButton("press")
    assert button.text == "press"
    button.text = "here"
    button.setText(button.text + "!")
    assert (button.text, button.enabled, button.isEnabled()) == ("here!", True, True)
    with pytest.raises(TypeError):
        button.text()


@pytest.mark.parametrize(
    "make", [lambda: qt.QLabel(), lambda: ctk.ctkSliderWidget(), lambda: slicer.qMRMLNodeComboBox()]
)
def test_what_the_class_lacks_raises(make):
    widget = make()
    with pytest.raises(AttributeError):
        widget.txt = "x"
    with pytest.raises(AttributeError):
        _ = widget.curentNode
    with pytest.raises(AttributeError):
        widget.show = 1  # a method cannot be assigned


def test_what_only_qt_6_has_raises():
    with pytest.raises(AttributeError):
        _ = qt.QComboBox().setPlaceholderTexts
    with pytest.raises(AttributeError):
        _ = qt.QLabel().grabKeys


def test_a_text_property_takes_text_only():
    with pytest.raises(AttributeError):
        qt.QLabel().text = 5


def test_signals_connect_by_name_with_and_without_arguments_and_as_attributes():
    button, heard = qt.QPushButton(), []
    button.connect("clicked()", lambda: heard.append("plain"))
    button.connect("clicked(bool)", lambda checked: heard.append(checked))
    button.clicked.connect(lambda: heard.append("short"))
    button.clicked.connect(lambda checked: heard.append(checked))
    button.click()
    assert heard == ["plain", False, "short", False]
    with pytest.raises(ValueError, match="no signal"):
        button.connect("clickd()", print)


def test_disconnect():
    slider, heard = ctk.ctkSliderWidget(), []
    slider.connect("valueChanged(double)", heard.append)
    slider.value = 3
    slider.disconnect("valueChanged(double)", heard.append)
    slider.value = 4
    assert heard == [3.0]


def test_an_exception_in_a_slot_is_noted(capsys):
    button = qt.QPushButton()
    button.connect("clicked()", lambda: 1 / 0)
    button.click()
    assert "ZeroDivisionError" in pythonqt.problems.pop()
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_warning_of_vtk_is_noted():
    slicer.mrmlScene.GetSubjectHierarchyNode().GetItemParent(0)
    assert "Invalid item" in pythonqt.problems.pop()


def load(tmp_path, rest="", **values):
    (tmp_path / "form.ui").write_text(UI.format(rest=rest, **values), encoding="utf-8")
    return slicer.util.childWidgetVariables(slicer.util.loadUI(str(tmp_path / "form.ui")))


def test_a_form_gets_its_properties(tmp_path):
    types = "<stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist>"
    ui = load(tmp_path, widget="qMRMLNodeComboBox", name="nodeTypes", value=types)
    assert ui.thing.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    ui = load(tmp_path, widget="ctkCollapsibleButton", name="text", value="<string>Steps</string>")
    assert ui.thing.text == "Steps"


def test_a_form_with_a_misspelt_property_or_slot_is_refused(tmp_path):
    with pytest.raises(AttributeError, match="collapsd"):
        load(tmp_path, widget="ctkCollapsibleButton", name="collapsd", value="<bool>true</bool>")
    link = (
        "<connections><connection><sender>Form</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>"
        "<receiver>thing</receiver><slot>setMRMLSceen(vtkMRMLScene*)</slot></connection></connections>"
    )
    with pytest.raises(AttributeError, match="setMRMLSceen"):
        load(tmp_path, link, widget="qMRMLNodeComboBox", name="addEnabled", value="<bool>true</bool>")


def test_a_collapsible_button_shows_what_is_not_hidden_on_its_own():
    form, button = qt.QWidget(), ctk.ctkCollapsibleButton("Step")
    qt.QVBoxLayout(form).addWidget(button)
    column, labels = qt.QVBoxLayout(button), [qt.QLabel(text) for text in "abc"]
    for label in labels:
        column.addWidget(label)
    form.show()
    labels[0].visible = False
    button.collapsed = True
    assert not any(label.visible for label in labels)
    labels[1].visible, labels[2].visible = False, True
    assert not any(label.visible for label in labels)
    button.collapsed = False
    assert [label.visible for label in labels] == [False, False, True]


def test_a_node_selector_follows_the_scene():
    slicer.mrmlScene.Clear()
    selector, heard = slicer.qMRMLNodeComboBox(), []
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.showChildNodeTypes = False
    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    selector.connect("currentNodeChanged(vtkMRMLNode*)", heard.append)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    assert (selector.nodeCount(), selector.currentNode()) == (1, None)
    selector.setCurrentNode(node)
    assert selector.currentNode() is node
    slicer.mrmlScene.RemoveNode(node)
    assert selector.currentNode() is None
    assert heard == [node, None]


def test_a_node_selector_falls_to_the_row_before_when_its_node_goes():
    slicer.mrmlScene.Clear()
    selector, heard = slicer.qMRMLNodeComboBox(), []
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.noneEnabled = True
    selector.setMRMLScene(slicer.mrmlScene)
    a, b, c = (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in "abc")
    selector.setCurrentNode(b)
    selector.connect(
        "currentNodeChanged(vtkMRMLNode*)", lambda node: heard.append((node, bool(slicer.mrmlScene.IsNodePresent(b))))
    )
    slicer.mrmlScene.RemoveNode(c)
    assert selector.currentNode() is b
    slicer.mrmlScene.RemoveNode(b)
    assert selector.currentNode() is a and heard == [(a, True)], "before the scene forgets the one that goes"
    slicer.mrmlScene.RemoveNode(a)
    assert selector.currentNode() is None


def test_a_node_selector_offers_what_has_an_attribute():
    slicer.mrmlScene.Clear()
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.setMRMLScene(slicer.mrmlScene)
    selector.addAttribute("vtkMRMLScalarVolumeNode", "made")
    for value in (None, "one", "two"):
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetAttribute("made", value)
        slicer.mrmlScene.AddNode(node)
    assert selector.nodeCount() == 2
    selector.addAttribute("vtkMRMLScalarVolumeNode", "made", "two")
    assert selector.nodeCount() == 1
    slicer.mrmlScene.Clear()


def test_a_path_that_its_filters_refuse_and_an_empty_one_are_not_told():
    edit, heard, valid = ctk.ctkPathLineEdit(), [], []
    edit.connect("currentPathChanged(QString)", heard.append)
    edit.connect("validInputChanged(bool)", valid.append)
    edit.currentPath = "a.nii.gz"
    edit.currentPath = ""
    assert (edit.currentPath, heard, valid) == ("", ["a.nii.gz"], [True, False])
    edit.nameFilters = ["CT volume (*.nii.gz *.nrrd)"]
    edit.currentPath = "a.nii.gz"
    edit.currentPath = "a.nrrd"
    assert (heard, valid) == (["a.nii.gz", "a.nrrd"], [True, False, True])


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


@parameterNodeWrapper
class Parameters:
    count: Annotated[float, WithinRange(0, 10)] = 2.0
    name: Annotated[str, Choice(["a", "b"])] = "a"
    flag: Annotated[bool, Default(True)]
    color: Color = Color.GREEN
    path: Path
    node: slicer.vtkMRMLScalarVolumeNode


def test_parameters_live_in_the_node():
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    parameters = Parameters(node)
    assert (parameters.count, parameters.flag, parameters.color, parameters.node) == (2.0, True, Color.GREEN, None)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
    parameters.count, parameters.color, parameters.node = 3, Color.RED, volume
    assert (node.GetParameter("count"), node.GetParameter("color")) == ("3", "RED")
    again = Parameters(node)
    assert (again.count, again.color, again.node) == (3.0, Color.RED, volume)
    with pytest.raises(ValueError):
        parameters.count = 11.0
    with pytest.raises(TypeError):
        parameters.flag = "yes"


def test_widgets_and_parameters_follow_each_other():
    parameters = Parameters(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
    form, slider, box = qt.QWidget(), ctk.ctkSliderWidget(), qt.QCheckBox()
    column = qt.QVBoxLayout(form)
    for widget, name in ((slider, "count"), (box, "flag")):
        widget.setProperty("SlicerParameterName", name)
        column.addWidget(widget)
    tag = parameters.connectParametersToGui({"count": slider, "flag": box})
    assert (slider.value, slider.maximum, box.checked) == (2.0, 10.0, True)
    slider.value = 5
    box.click()
    assert (parameters.count, parameters.flag) == (5.0, False)
    parameters.count = 7.0
    assert slider.value == 7.0
    parameters.disconnectGui(tag)
    slider.value = 1
    assert parameters.count == 7.0
    assert parameters.connectGui(form) is None  # Slicer 5.12 forgets to return the tag
    assert slider.value == 7.0


def test_a_widget_that_slicer_cannot_connect_is_refused():
    parameters = Parameters(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
    form, button = qt.QWidget(), qt.QRadioButton()
    qt.QVBoxLayout(form).addWidget(button)
    button.setProperty("SlicerParameterName", "flag")
    with pytest.raises(RuntimeError, match="cannot connect"):
        parameters.connectGui(form)


def test_views_draw_the_scene(tmp_path):
    slicer.mrmlScene.Clear()
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    z, y, x = np.mgrid[0:40, 0:40, 0:40]
    ball = np.where((x - 20) ** 2 + (y - 20) ** 2 + (z - 20) ** 2 < 15**2, 40, -1000).astype(np.int16)
    node = slicer.util.addVolumeFromArray(ball, np.diag([-4.0, -4.0, 4.0, 1.0]), "Ball")
    slicer.util.setSliceViewerLayers(background=node)
    gui.run_for(0.05)
    slicer.app.layoutManager().resetSliceViews()
    pixels = gui.picture(slicer.app.layoutManager().sliceWidget("Red"), tmp_path / "red.png")
    rows, columns, _ = pixels.shape
    assert pixels[rows // 2, columns // 2].min() > 200
    assert pixels[10, 10].max() < 50
    slicer.mrmlScene.Clear()


def test_a_table_view_shows_a_table_node_and_changes_it():
    slicer.mrmlScene.Clear()
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Table")
    for name in ("patient", "scan"):
        node.AddColumn().SetName(name)
    node.AddEmptyRow()
    node.SetCellText(0, 0, "a")
    view = slicer.qMRMLTableView()
    view.setMRMLTableNode(node)
    assert view._qt("item")(0, 0).text() == "a"
    node.SetCellText(0, 1, "b")
    assert view._qt("item")(0, 1).text() == "b"
    view._qt("item")(0, 1).setText("c")  # typed
    assert node.GetCellText(0, 1) == "c"
    view.selectRow(0)
    view.deleteRow()
    assert node.GetNumberOfRows() == 0
    view.setMRMLTableNode(None)
    slicer.mrmlScene.Clear()


def test_a_plot_view_draws_a_chart(tmp_path):
    slicer.mrmlScene.Clear()
    layout = (
        '<layout type="horizontal"><item><view class="vtkMRMLPlotViewNode" singletontag="TestPlot"/></item></layout>'
    )
    layout_node = slicer.app.layoutManager().layoutLogic().GetLayoutNode()
    layout_node.AddLayoutDescription(987, layout)
    slicer.app.layoutManager().setLayout(987)
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Curve")
    slicer.util.updateTableFromArray(table, np.array([[0.0, 0.0], [1.0, 1.0]]), ["x", "y"])
    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "Line")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("x")
    series.SetYColumnName("y")
    series.SetColor(1.0, 0.0, 0.0)
    series.SetLineWidth(4)
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "Chart")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    widget = slicer.app.layoutManager().plotWidget("TestPlot")  # others may be there, hidden
    widget.mrmlPlotViewNode().SetPlotChartNodeID(chart.GetID())

    def red():
        pixels = gui.picture(widget, tmp_path / "plot.png").astype(int)
        return ((pixels[:, :, 0] > 200) & (pixels[:, :, 1:].max(axis=2) < 80)).sum()

    gui.wait(lambda: red() > 200, seconds=60)
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    slicer.mrmlScene.Clear()
