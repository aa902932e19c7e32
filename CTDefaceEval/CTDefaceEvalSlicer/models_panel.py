"""Step 7 of the CTDefaceEval panel: which face models there are, what each needs, and how to get it."""

import qt
import slicer
from CTDefaceEvalLib import tasks, worker
from CTDefaceEvalLib.face_models import COHORT_PACKAGES, MODELS, PACK_SIZE, InsightFace
from CTDefaceLib.errors import CTDefaceError
from CTDefaceSlicer.shared.process import BackgroundProcess
from slicer.i18n import tr as _

from .hints import BAD, GOOD, say
from .parameters import FOLDER_SETTING, modelFolder

ROW_PIXELS = 22
TYPING_MSEC = 600
"""A folder that is typed is looked into when no key was pressed for that long."""


class ModelsPanel:
    """The widgets of the step, and what they do.

    :param ui: widgets of the panel by name.
    :param changed: called when a model may have become available.
    """

    def __init__(self, ui, changed):
        self._ui, self._changed = ui, changed
        self.process = BackgroundProcess(worker)  # looks which models load, and ends with them
        self._there = []  # what the library says of each model
        self._message, self._isError = "", False
        table = ui.modelsTable
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels([_("Model"), _("State")])
        table.verticalHeader().hide()
        table.verticalHeader().setDefaultSectionSize(ROW_PIXELS)
        table.horizontalHeader().setStretchLastSection(True)
        table.horizontalHeader().setFixedHeight(ROW_PIXELS)
        table.setFixedHeight(ROW_PIXELS * (len(MODELS) + 1) + 2 * table.frameWidth)
        self._folderTimer = qt.QTimer()
        self._folderTimer.setSingleShot(True)
        self._folderTimer.setInterval(TYPING_MSEC)
        self._folderTimer.connect("timeout()", self.onFolderTyped)
        ui.modelFolderPathLineEdit.currentPath = modelFolder() or ""
        ui.modelsCollapsibleButton.connect("contentsCollapsed(bool)", self.onCollapsed)
        ui.modelFolderPathLineEdit.connect("currentPathChanged(QString)", self.onFolderChanged)
        table.connect("itemSelectionChanged()", self.update)
        ui.installModelButton.connect("clicked()", self.onInstall)
        ui.downloadModelButton.connect("clicked()", self.onDownload)
        self.update()

    def stop(self):
        """Drop what runs."""
        self._folderTimer.stop()
        self.process.stop()

    def onCollapsed(self, collapsed):
        if not collapsed and not self._there:
            self.look()

    def look(self):
        """Find out in the background which models are there."""

        def onDone(rows):
            self.process.stop()
            self._message = ""
            self.show(rows)

        self._start(tasks.ListModels(modelFolder()), _("Looking which models are there…"), onDone)

    def _start(self, task, text, onDone):
        def onFailed(error):
            self.process.stop()
            self.say(str(error), isError=True)

        self.process.stop()
        try:
            self.process.start(task, done=onDone, failed=onFailed)
        except CTDefaceError as error:
            onFailed(error)
        else:
            self.say(text)

    def show(self, report):
        self._there = report["models"]
        table = self._ui.modelsTable
        table.setRowCount(len(self._there))
        for row, model in enumerate(self._there):
            state = qt.QTableWidgetItem(_("not there") if model["missing"] else _("ready"))
            state.setForeground(qt.QBrush(qt.QColor(BAD if model["missing"] else GOOD)))
            for column, item in enumerate((qt.QTableWidgetItem(model["name"]), state)):
                item.setToolTip(model["missing"] or model["licence"])
                table.setItem(row, column, item)
        table.resizeColumnToContents(0)
        if table.currentRow() < 0:
            table.setCurrentCell(0, 0)
        self.update()

    def chosen(self):
        """What the library says of the chosen model, or None."""
        row = self._ui.modelsTable.currentRow()
        return self._there[row] if 0 <= row < len(self._there) else None

    def update(self):
        """Say what the chosen model needs, and enable what can be done about it."""
        ui, model = self._ui, self.chosen()
        lines = []
        if model is not None:
            lines = [_("Licence: {licence}").format(licence=model["licence"]), _("Needs: {needs}").format(**model)]
            lines += [model["missing"]] if model["missing"] else []
        ui.modelDetailsLabel.text = "\n".join(lines)
        isMissing = model is not None and model["missing"] is not None and not self.process.busy
        ui.installModelButton.enabled = isMissing and bool(MODELS[model["name"]].packages)
        ui.downloadModelButton.enabled = isMissing and model["name"] == InsightFace.name
        say(ui.modelsHintLabel, self._message, self._message if self._isError else "")

    def say(self, text, isError=False):
        self._message, self._isError = text, isError
        self.update()

    def onFolderChanged(self, path):
        qt.QSettings().setValue(FOLDER_SETTING, path)
        self._folderTimer.start()

    def onFolderTyped(self):
        self._changed()
        if self._there:
            self.look()

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
        self.look()

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
            self.look()

        self._start(tasks.DownloadModels(), _("Downloading the model pack…"), onDone)
