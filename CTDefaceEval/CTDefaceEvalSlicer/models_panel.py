"""Step 7 of the CTDefaceEval panel: which face models there are, what each needs, and how to get it."""

import qt
import slicer
from CTDefaceEvalLib import tasks, worker
from CTDefaceEvalLib.face_models import COHORT_PACKAGES, MODELS, PACK_SIZE, InsightFace
from CTDefaceLib.errors import CTDefaceError
from CTDefaceSlicer.shared import hints, paths
from CTDefaceSlicer.shared.process import BackgroundProcess
from slicer.i18n import tr as _

from .parameters import FOLDER_SETTING, modelFolder

TYPING_MSEC = 600
"""A folder that is typed is searched when no key was pressed for that long."""


class ModelsPanel:
    """The widgets of the step, and what they do.

    :param ui: widgets of the panel by name.
    :param changed: called when a model may have become available.

    Attributes
    ----------
    models: what the library says of each model, dicts; empty until that was found out
    """

    def __init__(self, ui, changed):
        self._ui, self._changed = ui, changed
        self.process = BackgroundProcess(worker)  # finds out which models load, and ends with them
        self.models = []
        self._message = self._error = ""
        table = ui.modelsTable
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Model"), _("State")])
        table.verticalHeader().hide()
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setStretchLastSection(True)
        self._folderTimer = qt.QTimer()
        self._folderTimer.setSingleShot(True)
        self._folderTimer.setInterval(TYPING_MSEC)
        self._folderTimer.connect("timeout()", self.onFolderTyped)
        ui.modelFolderPathLineEdit.currentPath = modelFolder() or ""
        ui.modelsCollapsibleButton.connect("contentsCollapsed(bool)", self.onCollapsed)
        paths.follow(ui.modelFolderPathLineEdit, self.onFolderChanged)
        table.connect("itemSelectionChanged()", self.update)
        ui.installModelButton.connect("clicked()", self.onInstall)
        ui.downloadModelButton.connect("clicked()", self.onDownload)
        self.update()

    def stop(self):
        """Drop what runs."""
        self._folderTimer.stop()
        self.process.stop()

    def onCollapsed(self, collapsed):
        if not collapsed and not self.models:
            self.refresh()

    def refresh(self):
        """Find out in the background which models are there."""

        def onDone(rows):
            self.process.stop()
            self._message = ""
            self.show(rows)

        self._start(tasks.ListModels(modelFolder()), _("Looking which models are there…"), onDone)

    def _start(self, task, text, onDone):
        def onFailed(error):
            self.process.stop()
            self._inform("", str(error))

        self.process.stop()
        try:
            self.process.start(task, done=onDone, failed=onFailed)
        except CTDefaceError as error:
            onFailed(error)
        else:
            self._inform(text)

    def show(self, report):
        self.models = report["models"]
        table = self._ui.modelsTable
        table.setRowCount(len(self.models))
        for row, model in enumerate(self.models):
            state = qt.QTableWidgetItem(_("not there") if model["missing"] else _("ready"))
            color = hints.errorColor(table) if model["missing"] else hints.GOOD_COLOR
            state.setForeground(qt.QBrush(qt.QColor(color)))
            for column, item in enumerate((qt.QTableWidgetItem(model["name"]), state)):
                item.setToolTip(model["missing"] or model["licence"])
                table.setItem(row, column, item)
        table.resizeColumnToContents(0)
        table.updateGeometry()
        if table.currentRow() < 0:
            table.setCurrentCell(0, 0)
        self.update()

    def chosen(self):
        """What the library says of the chosen model, or None."""
        row = self._ui.modelsTable.currentRow()
        return self.models[row] if 0 <= row < len(self.models) else None

    def update(self):
        """Show what the chosen model needs, and enable what can be done about it."""
        ui, model = self._ui, self.chosen()
        lines = []
        if model is not None:
            lines = [_("Licence: {licence}").format(licence=model["licence"]), _("Needs: {needs}").format(**model)]
            lines += [model["missing"]] if model["missing"] else []
        ui.modelDetailsLabel.text = "\n".join(lines)
        isMissing = model is not None and model["missing"] is not None and not self.process.busy
        ui.installModelButton.enabled = isMissing and bool(MODELS[model["name"]].packages)
        ui.downloadModelButton.enabled = isMissing and model["name"] == InsightFace.name
        hints.show(ui.modelsHintLabel, self._message, self._error)

    def _inform(self, text, error=""):
        self._message, self._error = text, error
        self.update()

    def onFolderChanged(self, path):
        qt.QSettings().setValue(FOLDER_SETTING, path)
        self._folderTimer.start()

    def onFolderTyped(self):
        self._changed()
        if self.models:
            self.refresh()

    def onInstall(self):
        model = self.chosen()
        packages = [*MODELS[model["name"]].packages, *COHORT_PACKAGES]
        question = _(
            "Install these Python packages into Slicer from the Python Package Index?\n\n{packages}\n\n"
            "Licence: {licence}\n\nSlicer does not respond while they are installed."
        ).format(packages="\n".join(packages), licence=model["licence"])
        if not slicer.util.confirmYesNoDisplay(question):
            return
        with slicer.util.tryWithErrorDisplay(_("The packages could not be installed."), waitCursor=True):
            slicer.util.pip_install(packages)
            self._changed()
        self.refresh()

    def onDownload(self):
        model = self.chosen()
        question = _(
            "Download insightface's model pack buffalo_l (about {size}) from its makers' GitHub pages to this "
            "computer?\n\nLicence: {licence}\n\nDo you agree to this licence?"
        ).format(size=PACK_SIZE, licence=model["licence"])
        if not slicer.util.confirmYesNoDisplay(question):
            return

        def onDone(report):
            self._changed()
            self.refresh()

        self._start(tasks.DownloadModels(), _("Downloading the model pack…"), onDone)
