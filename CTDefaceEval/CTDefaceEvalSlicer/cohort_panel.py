"""Step 6 of the CTDefaceEval panel: many scans of many patients, by the study's protocol."""

import qt
import slicer
from CTDefaceEvalLib.cohort_table import PAIR_COLUMNS, pairs_in, pairs_of, read_table
from CTDefaceLib.errors import CTDefaceError
from slicer.i18n import tr as _

from . import results
from .reports import saveReport

COHORT = "CTDefaceEval.cohort"
"""Attribute of the table node of the cohort."""


def cohortTable():
    """The table node of the cohort, or None before it has any line."""
    tables = slicer.util.getNodesByClass("vtkMRMLTableNode")
    return next((node for node in tables if node.GetAttribute(COHORT)), None)


def makeCohortTable():
    """An empty table node. It is not saved with the scene: its paths may name patients."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", _("Cohort"))
    node.SetAttribute(COHORT, "yes")
    node.SetSaveWithScene(False)
    setPairs(node, [])
    return node


def setPairs(tableNode, pairs):
    """Replace the lines of a cohort's table."""
    with slicer.util.NodeModify(tableNode):
        results.fillTable(tableNode, {column: [pair[column] for pair in pairs] for column in PAIR_COLUMNS})
        tableNode.SetLocked(False)


def pairsIn(tableNode):
    """The lines of a cohort's table, one dict each."""
    return [
        {column: tableNode.GetCellText(row, tableNode.GetColumnIndex(column)) for column in PAIR_COLUMNS}
        for row in range(tableNode.GetNumberOfRows())
    ]


class CohortPanel:
    """The widgets of the step, and what they do.

    :param ui: widgets of the panel by name.
    :param logic: of the module.
    :param parameters: called for the parameter node.
    :param run: called with the name of the task, what starts it, what to do with its result, and its progress bar.
    :param task: called for what runs in the background.
    :param showResults: called with the table and the chart to show.
    """

    def __init__(self, ui, logic, parameters, run, task, showResults):
        self._ui, self._logic, self._parameters = ui, logic, parameters
        self._run, self._task, self._showResults = run, task, showResults
        self._cohort = None  # the last result
        self._error = ""
        ui.cohortLoadButton.connect("clicked()", self.onLoad)
        ui.cohortAddPairButton.connect("clicked()", self.onAddPair)
        ui.cohortAddFoldersButton.connect("clicked()", self.onAddFolders)
        ui.cohortRemoveButton.connect("clicked()", self.onRemove)
        ui.cohortButton.connect("clicked()", self.onRun)
        ui.cohortResultsButton.connect("clicked()", self.onResults)
        ui.cohortReportButton.connect("clicked()", self.onReport)

    def setScene(self, isOpen):
        """Show the table of the scene, or none while it closes."""
        table = cohortTable() if isOpen else None
        if table is not self._ui.cohortTableView.mrmlTableNode():
            self._ui.cohortTableView.setMRMLTableNode(table)
            self._cohort, self._error = None, ""

    def update(self, error=""):
        """Enable what can be done now, and say what is missing.

        :param error: of the last run.
        """
        ui, parameters, task = self._ui, self._parameters(), self._task()
        table = ui.cohortTableView.mrmlTableNode()
        isEmpty = table is None or table.GetNumberOfRows() == 0
        isRunning = task == "cohort"
        missing = _("Load a table, or add pairs of volumes of at least two patients.") if isEmpty else ""
        ui.cohortButton.text = _("Cancel") if isRunning else _("Run cohort")
        ui.cohortButton.enabled = isRunning or (task in ("", "scale") and not missing)
        ui.cohortProgressBar.visible = isRunning
        ui.cohortAddPairButton.enabled = parameters.originalVolume is not None and parameters.defacedVolume is not None
        ui.cohortRemoveButton.enabled = not isEmpty
        for widget in (ui.cohortTableView, ui.cohortLoadButton, ui.cohortAddFoldersButton, ui.cohortViewsComboBox):
            widget.enabled = not isRunning
        ui.cohortResultsButton.enabled = not isEmpty and results.resultOf(table, "ROC") is not None
        ui.cohortReportButton.enabled = self._cohort is not None
        error = error or self._error
        ui.cohortHintLabel.text = error or missing
        ui.cohortHintLabel.styleSheet = "color: #c0392b;" if error else ""
        ui.cohortHintLabel.visible = bool(ui.cohortHintLabel.text)
        ui.cohortResultLabel.visible = self._cohort is not None

    def _attempt(self, action):
        """Do what may end in a sentence, which is shown."""
        self._error = ""
        with slicer.util.tryWithErrorDisplay(_("The table could not be changed."), waitCursor=True):
            try:
                action()
            except CTDefaceError as error:
                self._error = str(error)
        self.update()

    def add(self, pairs):
        """Add lines to the table."""
        table = cohortTable() or makeCohortTable()
        setPairs(table, pairsIn(table) + pairs)
        self._ui.cohortTableView.setMRMLTableNode(table)
        for column in range(len(PAIR_COLUMNS)):
            self._ui.cohortTableView.resizeColumnToContents(column)

    def onLoad(self):
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Cohort"), "", _("Table (*.csv)"))
        if path:
            self._attempt(lambda: self.add(pairs_of(read_table(path))))

    def onAddPair(self):
        parameters = self._parameters()
        original, defaced = parameters.originalVolume, parameters.defacedVolume
        names = original.GetName(), original.GetName(), defaced.GetName()
        pair = dict(zip(PAIR_COLUMNS, (names[0], "1", *names[1:], self._ui.cohortMethodLineEdit.text)))
        self._attempt(lambda: self.add([pair]))

    def onAddFolders(self):
        window = slicer.util.mainWindow()
        originals = qt.QFileDialog.getExistingDirectory(window, _("Folder with the originals"))
        if not originals:
            return
        defaced = qt.QFileDialog.getExistingDirectory(window, _("Folder with the same scans, defaced"))
        if defaced:
            self._attempt(lambda: self.add(pairs_in(originals, defaced, self._ui.cohortMethodLineEdit.text)))

    def onRemove(self):
        self._attempt(self._ui.cohortTableView.deleteRow)

    def onRun(self):
        if self._task() == "cohort":
            self._logic.process.cancel()
            return
        self._cohort, self._error = None, ""
        parameters = self._parameters()

        def start(**callbacks):
            self._logic.evaluateCohort(
                cohortTable(), parameters.faceModel.live, parameters.cohortViews.value, **callbacks
            )

        self._run("cohort", start, self.onDone, self._ui.cohortProgressBar)

    def onDone(self, cohort):
        self._cohort = cohort
        results.cohortResults(cohort, cohortTable())
        lines = []
        for method in cohort.methods:
            auc = method.within["by patient"].auc
            figure = _("ROC-AUC {mean:.2f} ± {sd:.2f}").format(mean=auc[0], sd=auc[1]) if auc else _("too few faces")
            found = f"{method.found['median']:.0%}" if method.found else "–"
            lines.append(
                _("{method}: a face in {found} of the views, {figure}").format(
                    method=method.method, found=found, figure=figure
                )
            )
        self._ui.cohortResultLabel.text = "\n".join(lines)

    def onResults(self):
        self._showResults(results.resultOf(cohortTable(), "cohort"), results.resultOf(cohortTable(), "ROC"))

    def onReport(self):
        self._attempt(lambda: saveReport(self._logic, self._cohort, self._parameters().reportPictures))
