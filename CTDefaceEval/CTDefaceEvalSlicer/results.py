"""Numbers and curves of evaluations as tables and plots of the scene, which are saved with it."""

import math

import numpy as np
import slicer
import vtk
from CTDefaceEvalLib.charts import COLOURS, density
from CTDefaceEvalLib.findings import ORIGINAL
from CTDefaceEvalLib.identification import THREATS
from CTDefaceEvalLib.pairs import BY_PATIENT
from CTDefaceEvalLib.report import evaluation_rows
from CTDefaceEvalLib.verdict import worst_first
from slicer.i18n import tr as _

from . import head_views

RESULT_OF = "CTDefaceEval.resultOf"
"""Role of the reference from a table or chart to what it belongs to."""
LEGEND_ROOM = 1.35
"""How much higher than its highest curve a chart is, so that the legend hides none."""


def evaluationTables(evaluation, name, ownerNode):
    """A table with a row for each surface that was looked at, and one with a row for each picture.

    :param name: what the tables are named after.
    :param ownerNode: the volume that they belong to; those that it has are written over.
    """
    models = evaluation.settings.models
    summary = {
        "subject": [s.name for s in evaluation.subjects],
        "kind": [s.kind for s in evaluation.subjects],
        **{f"{model} views": [float(len(s.scores(model))) for s in evaluation.subjects] for model in models},
        "of views": [float(len({sighting.view for sighting in s.sightings})) for s in evaluation.subjects],
        "best score": [max(s.scores(models[0]), default=math.nan) for s in evaluation.subjects],
        "likeness": [
            evaluation.likeness[s.name].value if s.name in evaluation.likeness else math.nan
            for s in evaluation.subjects
        ],
        "region mL": [s.region_ml for s in evaluation.subjects],
    }
    titles, *rows = evaluation_rows(evaluation)
    views = {title: [math.nan if row[i] is None else row[i] for row in rows] for i, title in enumerate(titles)}
    return (
        _table(summary, _("{name} summary").format(name=name), ownerNode, "summary"),
        _table(views, _("{name} views").format(name=name), ownerNode, "views"),
    )


def evaluationCharts(evaluation, name, ownerNode):
    """Charts of the share of pictures with a face by yaw, and of the similarities; the latter None when there are none.

    Arguments as of :func:`evaluationTables`.
    """
    subjects = [s for s in (evaluation.original, evaluation.defaced) if s] + worst_first(evaluation)[:1]
    model, grid = evaluation.settings.models[0], evaluation.grid
    pictures = len(grid) / len(grid.yaws)
    byYaw = {"yaw": [float(yaw) for yaw in grid.yaws]}
    for subject in subjects:
        found = [yaw for yaw, _pitch, _light in subject.faces(model)]
        byYaw[subject.name] = [found.count(yaw) / pictures for yaw in grid.yaws]
    title = _("Pictures with a face, by yaw ({model})").format(model=model)
    labels = _("yaw, degrees"), _("share of pictures")
    charts = [_chart(byYaw, f"{name} {_('faces by yaw')}", title, labels, ownerNode, "by yaw", (0.0, LEGEND_ROOM))]

    samples = {_("same head"): evaluation.scale.same_head, _("other heads"): evaluation.scale.other_heads}
    samples.update({s.name: list(evaluation.similarities(s).values()) for s in subjects if s.name != ORIGINAL})
    samples = {label: values for label, values in samples.items() if values}
    if evaluation.scale.threshold is None:
        return [*charts, None]
    low = min(min(values) for values in samples.values())
    curves = {label: density(values, low, 1.0, 24) for label, values in samples.items()}
    top = max(max(share) for _edges, share in curves.values())
    columns = {"similarity": next(iter(curves.values()))[0], **{label: y for label, (x, y) in curves.items()}}
    labels = _("cosine similarity"), _("share of pairs")
    title = _("Similarity to the original's face ({model})").format(model=evaluation.recogniser)
    yRange = 0.0, LEGEND_ROOM * top
    charts.append(_chart(columns, f"{name} {_('similarity')}", title, labels, ownerNode, "similarity", yRange))
    return charts


def cohortResults(cohort, ownerNode):
    """A table with a row for each method, and a chart of their ROC curves; None where too few patients give none.

    :param ownerNode: the table of the cohort, which they belong to.
    """

    def figure(method, protocol, what):
        pair = getattr(method.within[protocol], what)
        return pair[0] if pair else math.nan

    methods = cohort.methods
    summary = {
        "method": [m.method for m in methods],
        "volumes": [float(m.scans) for m in methods],
        "faces": [float(m.faces) for m in methods],
        "views with a face": [m.found["median"] if m.found else math.nan for m in methods],
    }
    for protocol in methods[0].within:
        for what, title in (("auc", "ROC-AUC"), ("accuracy", "accuracy")):
            summary[f"{title}, {protocol}"] = [figure(m, protocol, what) for m in methods]
    for threat in THREATS:
        found = [m.identified(threat) for m in methods]
        if any(found):
            for what, title in (
                ("rank1", "rank-1"),
                ("rank5", "rank-5"),
                ("auc", "AUC"),
                ("eer", "EER"),
                ("d_prime", "d′"),
            ):
                estimates = [getattr(one, what) if one else None for one in found]
                for part, name in (("value", ""), ("low", " from"), ("high", " to")):
                    summary[f"{title}{name}, {threat}"] = [getattr(e, part) if e else math.nan for e in estimates]
    for name in dict.fromkeys(name for m in methods for name in m.preservation):
        medians = [m.preservation.get(name) for m in methods]
        summary[name] = [one.value if one else math.nan for one in medians]
    steps = np.linspace(0.0, 1.0, 101)
    curves = {"impostor": steps.tolist(), "chance": steps.tolist()}
    for method in methods:
        result = method.within[BY_PATIENT]
        if result.auc and result.roc is not None:
            curves[method.method] = np.interp(steps, *result.roc).tolist()
    table = _table(summary, _("Cohort summary"), ownerNode, "cohort")
    if len(curves) == 2:
        _removeChart(ownerNode, "ROC")
        return table, None
    labels = _("impostor pairs taken for genuine"), _("genuine pairs accepted")
    return table, _chart(
        curves, _("Cohort ROC"), _("Telling patients apart"), labels, ownerNode, "ROC", (0.0, LEGEND_ROOM)
    )


def _removeChart(ownerNode, what):
    """Remove a chart that an earlier evaluation has left, with its curves."""
    chart = resultOf(ownerNode, what)
    if chart is not None:
        series = [chart.GetNthPlotSeriesNode(i) for i in range(chart.GetNumberOfPlotSeriesNodes())]
        for node in (*series, resultOf(ownerNode, f"{what} curves"), chart):
            if node is not None:
                slicer.mrmlScene.RemoveNode(node)


def facesByView(tableNode, subject, model):
    """Of one subject and model, by yaw and pitch: pictures with a face, pictures in all, and the best score.

    :param tableNode: the second table of :func:`evaluationTables`, also one that was loaded with a scene.
    """
    table, found = tableNode.GetTable(), {}
    for row in range(table.GetNumberOfRows()):
        if _text(table, row, "subject") != subject or _text(table, row, "model") != model:
            continue
        view = _number(table, row, "yaw"), _number(table, row, "pitch")
        faces, pictures, best = found.get(view, (0, 0, math.nan))
        score = _number(table, row, "score")
        isFace = not math.isnan(score)
        found[view] = faces + isFace, pictures + 1, score if isFace and not best >= score else best
    return found


def models(tableNode):
    """Names of the models in a table of views, in their order."""
    table = tableNode.GetTable()
    return list(dict.fromkeys(_text(table, row, "model") for row in range(table.GetNumberOfRows())))


def _text(table, row, column):
    return table.GetValueByName(row, column).ToString()


def _number(table, row, column):
    text = _text(table, row, column)
    return float(text) if text else math.nan


def show(tableNode, chartNode, heads):
    """Show a table and a chart, or None of it, below the views of so many heads (with a main window only)."""
    if not head_views.showLayout(heads, withResults=True):
        return
    scene = slicer.mrmlScene
    tableView = scene.GetSingletonNode(head_views.TABLE_VIEW, "vtkMRMLTableViewNode")
    plotView = scene.GetSingletonNode(head_views.PLOT_VIEW, "vtkMRMLPlotViewNode")
    tableView.SetTableNodeID(tableNode.GetID() if tableNode is not None else None)
    plotView.SetPlotChartNodeID(chartNode.GetID() if chartNode is not None else None)


def resultOf(ownerNode, what):
    """The table or chart of a kind that belongs to a node, or None."""
    for kind in ("vtkMRMLTableNode", "vtkMRMLPlotChartNode"):
        for node in slicer.util.getNodesByClass(kind):
            if node.GetNodeReference(RESULT_OF) is ownerNode and node.GetAttribute(RESULT_OF) == what:
                return node
    return None


def _table(columns, name, ownerNode, what):
    """A table node with columns of text or numbers, written over where the owner has one of this kind."""
    node = resultOf(ownerNode, what)
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", slicer.mrmlScene.GetUniqueNameByString(name))
        node.SetAttribute(RESULT_OF, what)
        node.SetNodeReferenceID(RESULT_OF, ownerNode.GetID())
    with slicer.util.NodeModify(node):
        fillTable(node, columns)
    return node


def fillTable(tableNode, columns):
    """Replace what a table node holds by columns of text or of numbers; a number that nobody knows (NaN) is no text."""
    tableNode.RemoveAllColumns()
    for title, values in columns.items():
        isText = any(isinstance(value, str) or math.isnan(value) for value in values)
        array = vtk.vtkStringArray() if isText else vtk.vtkDoubleArray()
        array.SetName(title)
        for value in values:
            array.InsertNextValue(_cell(value) if isText else round(value, 4))
        tableNode.AddColumn(array)
    tableNode.SetUseColumnTitleAsColumnHeader(True)
    tableNode.SetLocked(True)


def _cell(value):
    """A text or number as text; empty for NaN."""
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else f"{round(value, 4):g}"


def _chart(columns, name, title, axes, ownerNode, what, yRange=None):
    """A chart of all columns over the first one, written over where the owner has one of this kind."""
    tableNode = _table(columns, name, ownerNode, f"{what} curves")
    chart = resultOf(ownerNode, what)
    if chart is None:
        chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", tableNode.GetName())
        chart.SetAttribute(RESULT_OF, what)
        chart.SetNodeReferenceID(RESULT_OF, ownerNode.GetID())
    with slicer.util.NodeModify(chart):
        for node in [chart.GetNthPlotSeriesNode(i) for i in range(chart.GetNumberOfPlotSeriesNodes())]:
            if node is not None:
                slicer.mrmlScene.RemoveNode(node)
        chart.RemoveAllPlotSeriesNodeIDs()
        x, *others = columns
        for number, label in enumerate(others):
            series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", label)
            series.SetAndObserveTableNodeID(tableNode.GetID())
            series.SetXColumnName(x)
            series.SetYColumnName(label)
            series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
            series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone)
            series.SetLineWidth(2)
            series.SetColor(*(int(COLOURS[number % len(COLOURS)][i : i + 2], 16) / 255 for i in (1, 3, 5)))
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
        chart.SetTitle(title)
        chart.SetXAxisTitle(axes[0])
        chart.SetYAxisTitle(axes[1])
        if yRange is not None:
            chart.SetYAxisRangeAuto(False)
            chart.SetYAxisRange(*yRange)
    return chart
