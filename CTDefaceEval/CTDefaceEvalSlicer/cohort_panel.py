"""Step 6 of the CTDefaceEval panel: many scans of many patients, by the study's protocol."""

import qt
import slicer
from CTDefaceEvalLib.cohort_table import PAIR_COLUMNS, pairs_in, pairs_of, read_table
from CTDefaceEvalLib.identification import FUSED
from CTDefaceEvalLib.pairs import BY_PATIENT
from CTDefaceSlicer.shared import hints
from CTDefaceSlicer.shared.step_panel import StepPanel
from slicer.i18n import tr as _

from . import results
from .cohort_node import cohortTable, makeCohortTable, nameOf, pairsIn, setPairs
from .reports import saveReport
from .tasks import Task


class CohortPanel(StepPanel):
    """The widgets of the step, and what they do."""

    def __init__(self, panel):
        super().__init__(panel)
        ui = self.ui
        self._cohort = None  # the last result
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
        if table is not self.ui.cohortTableView.mrmlTableNode():
            self.ui.cohortTableView.setMRMLTableNode(table)
            self._cohort, self.error = None, ""

    def update(self):
        """Enable what can be done now, and show what is missing."""
        ui, parameters = self.ui, self.parameters
        table = ui.cohortTableView.mrmlTableNode()
        isEmpty = table is None or table.GetNumberOfRows() == 0
        isRunning = self.panel.task is Task.COHORT
        missing = _("Load a table, or add pairs of volumes of at least two patients.") if isEmpty else ""
        ui.cohortButton.text = _("Cancel") if isRunning else _("Run cohort")
        ui.cohortButton.enabled = isRunning or (self.panel.isFree and not missing)
        ui.cohortProgressBar.visible = isRunning
        ui.cohortAddPairButton.enabled = parameters.originalVolume is not None and parameters.defacedVolume is not None
        ui.cohortRemoveButton.enabled = not isEmpty
        for widget in (
            ui.cohortTableView,
            ui.cohortLoadButton,
            ui.cohortAddFoldersButton,
            ui.cohortViewsComboBox,
            ui.cohortPreservationCheckBox,
            ui.cohortLinkageCheckBox,
        ):
            widget.enabled = not isRunning
        ui.cohortResultsButton.enabled = not isEmpty and results.resultOf(table, "cohort") is not None
        ui.cohortReportButton.enabled = self._cohort is not None
        hints.show(ui.cohortHintLabel, missing, self.panel.errors.get(Task.COHORT) or self.error)
        ui.cohortResultLabel.visible = self._cohort is not None

    def _add(self, find):
        """Add the lines that ``find`` gives, which may take a moment."""

        self.attempt(lambda: self.add(find()), _("The lines could not be added."), waitCursor=True)

    def add(self, pairs):
        """Add lines to the table."""
        table = cohortTable() or makeCohortTable()
        setPairs(table, pairsIn(table) + pairs)
        self.ui.cohortTableView.setMRMLTableNode(table)
        for column in range(len(PAIR_COLUMNS)):
            self.ui.cohortTableView.resizeColumnToContents(column)

    def onLoad(self):
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Cohort"), "", _("Table (*.csv)"))
        if path:
            self._add(lambda: pairs_of(read_table(path)))

    def onAddPair(self):
        parameters = self.parameters
        original, defaced = parameters.originalVolume, parameters.defacedVolume
        line = original.GetName(), "1", nameOf(original), nameOf(defaced), self.ui.cohortMethodLineEdit.text
        self._add(lambda: [dict(zip(PAIR_COLUMNS, line))])

    def onAddFolders(self):
        window = slicer.util.mainWindow()
        originals = qt.QFileDialog.getExistingDirectory(window, _("Folder with the originals"))
        if not originals:
            return
        defaced = qt.QFileDialog.getExistingDirectory(window, _("Folder with the same scans, defaced"))
        if defaced:
            self._add(lambda: pairs_in(originals, defaced, self.ui.cohortMethodLineEdit.text))

    def onRemove(self):
        self.attempt(self.ui.cohortTableView.deleteRow, _("The lines could not be removed."))

    def onRun(self):
        if self.panel.task is Task.COHORT:
            self.panel.cancel()
            return
        self._cohort, self.error = None, ""
        parameters, table = self.parameters, self.ui.cohortTableView.mrmlTableNode()

        def start(**callbacks):
            self.logic.evaluateCohort(
                table,
                parameters.faceModel.live,
                parameters.cohortViews.value,
                preservation=parameters.cohortPreservation,
                linkage=parameters.cohortLinkage,
                **callbacks,
            )

        def done(cohort):
            if table is self.ui.cohortTableView.mrmlTableNode():  # else it was deleted meanwhile
                self.show(cohort, table)

        self.panel.run(Task.COHORT, start, done, self.ui.cohortProgressBar)

    def show(self, cohort, table):
        """Show what came out of a table."""
        self._cohort = cohort
        results.cohortResults(cohort, table)
        lines = []
        for method in cohort.methods:
            auc = method.within[BY_PATIENT].auc
            figure = _("too few patients or faces to compare")
            if auc:
                figure = _("ROC-AUC {mean:.2f} ± {sd:.2f}").format(mean=auc[0], sd=auc[1])
            found = f"{method.found['median']:.0%}" if method.found else "–"
            lines.append(
                _("{method}: a face in {found} of the views, {figure}").format(
                    method=method.method, found=found, figure=figure
                )
            )
            for one in method.identification:
                if one.templates == FUSED and one.rank1:
                    lines.append(
                        _("    {threat}: rank-1 {value:.0%} ({low:.0%}–{high:.0%}) of {patients} patients").format(
                            threat=one.threat, patients=one.patients, **vars(one.rank1)
                        )
                    )
            if method.linkage_advice:
                lines.append("    " + method.linkage_advice)
        self.ui.cohortResultLabel.text = "\n".join(lines)

    def onResults(self):
        table = self.ui.cohortTableView.mrmlTableNode()
        self.panel.headsPanel.showResults(results.resultOf(table, "cohort"), results.resultOf(table, "ROC"))

    def onReport(self):
        self.attempt(
            lambda: saveReport(self.logic, self._cohort, self.parameters.reportPictures),
            _("The report could not be written."),
        )
