"""Step 6 of the CTDefaceEval panel: many scans of many patients, by the study's protocol."""

import qt
import slicer
from CTDefaceEvalLib.cohort_table import PAIR_COLUMNS, pairs_in, pairs_of, read_table
from CTDefaceLib.errors import CTDefaceError
from slicer.i18n import tr as _

from . import results
from .cohort_node import cohortTable, makeCohortTable, nameOf, pairsIn, setPairs
from .hints import say
from .reports import saveReport


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
        """Show the table of the scene, or none while it closes or when the table was deleted."""
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
        ui.cohortResultsButton.enabled = not isEmpty and results.resultOf(table, "cohort") is not None
        ui.cohortReportButton.enabled = self._cohort is not None
        say(ui.cohortHintLabel, missing, error or self._error)
        ui.cohortResultLabel.visible = self._cohort is not None

    def _attempt(self, action, failed):
        """Do what may end in a sentence, which is shown.

        :param failed: what to say above an error that nobody expected.
        """
        self._error = ""
        with slicer.util.tryWithErrorDisplay(failed):
            try:
                action()
            except CTDefaceError as error:
                self._error = str(error)
        self.update()

    def _add(self, find):
        """Add the lines that ``find`` gives, which may take a moment."""

        def add():
            with slicer.util.WaitCursor():
                self.add(find())

        self._attempt(add, _("The lines could not be added."))

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
            self._add(lambda: pairs_of(read_table(path)))

    def onAddPair(self):
        parameters = self._parameters()
        original, defaced = parameters.originalVolume, parameters.defacedVolume
        line = original.GetName(), "1", nameOf(original), nameOf(defaced), self._ui.cohortMethodLineEdit.text
        self._add(lambda: [dict(zip(PAIR_COLUMNS, line))])

    def onAddFolders(self):
        window = slicer.util.mainWindow()
        originals = qt.QFileDialog.getExistingDirectory(window, _("Folder with the originals"))
        if not originals:
            return
        defaced = qt.QFileDialog.getExistingDirectory(window, _("Folder with the same scans, defaced"))
        if defaced:
            self._add(lambda: pairs_in(originals, defaced, self._ui.cohortMethodLineEdit.text))

    def onRemove(self):
        self._attempt(self._ui.cohortTableView.deleteRow, _("The lines could not be removed."))

    def onRun(self):
        if self._task() == "cohort":
            self._logic.process.cancel()
            return
        self._cohort, self._error = None, ""
        parameters, table = self._parameters(), self._ui.cohortTableView.mrmlTableNode()

        def start(**callbacks):
            self._logic.evaluateCohort(table, parameters.faceModel.live, parameters.cohortViews.value, **callbacks)

        def done(cohort):
            if table is self._ui.cohortTableView.mrmlTableNode():  # else it was deleted meanwhile
                self.show(cohort, table)

        self._run("cohort", start, done, self._ui.cohortProgressBar)

    def show(self, cohort, table):
        """Show what came out of a table."""
        self._cohort = cohort
        results.cohortResults(cohort, table)
        lines = []
        for method in cohort.methods:
            auc = method.within["by patient"].auc
            figure = _("too few patients or faces to compare")
            if auc:
                figure = _("ROC-AUC {mean:.2f} ± {sd:.2f}").format(mean=auc[0], sd=auc[1])
            found = f"{method.found['median']:.0%}" if method.found else "–"
            lines.append(
                _("{method}: a face in {found} of the views, {figure}").format(
                    method=method.method, found=found, figure=figure
                )
            )
        self._ui.cohortResultLabel.text = "\n".join(lines)

    def onResults(self):
        table = self._ui.cohortTableView.mrmlTableNode()
        self._showResults(results.resultOf(table, "cohort"), results.resultOf(table, "ROC"))

    def onReport(self):
        self._attempt(
            lambda: saveReport(self._logic, self._cohort, self._parameters().reportPictures),
            _("The report could not be written."),
        )
