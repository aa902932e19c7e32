"""Step 7 of the CTDefaceEval panel: which face models there are, what each needs, and how to get it."""

import re

import qt
import slicer
from CTDefaceEvalLib import tasks, worker
from CTDefaceEvalLib.face_models import COHORT_PACKAGES, MODELS, PACK_SIZE, InsightFace, pack_folder, remove_pack
from CTDefaceLib.errors import CTDefaceError
from CTDefaceLib.files import folder_bytes
from CTDefaceSlicer.shared import hints, packages, paths
from CTDefaceSlicer.shared.process import BackgroundProcess
from slicer.i18n import tr as _

from .parameters import FOLDER_SETTING, modelFolder

TYPING_MSEC = 600
"""A folder that is typed is searched when no key was pressed for that long."""


class ModelsPanel:
    """The widgets of the step, and what they do.

    :param ui: widgets of the panel by name.
    :param changed: called when a model may have become available.
    :param shown: called when the step was opened for the user.

    Attributes
    ----------
    models: what the library says of each model, dicts; empty until that was found out
    """

    def __init__(self, ui, changed, shown=lambda: None):
        self._ui, self._changed, self._shown = ui, changed, shown
        self.process = BackgroundProcess(worker)  # finds out which models load, and ends with them
        self.models = []
        self._message = self._error = ""
        self._wanted = None  # name of the model to choose once the models are listed
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
        ui.removeModelButton.connect("clicked()", self.onRemove)
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
            color = hints.errorColor(table) if model["missing"] else hints.goodColor(table)
            state.setForeground(qt.QBrush(qt.QColor(color)))
            for column, item in enumerate((qt.QTableWidgetItem(model["name"]), state)):
                item.setToolTip(hints.withoutPip(model["missing"] or model["licence"]))
                table.setItem(row, column, item)
        table.resizeColumnToContents(0)
        table.updateGeometry()
        names = [model["name"] for model in self.models]
        if self._wanted in names:
            table.setCurrentCell(names.index(self._wanted), 0)
        elif table.currentRow() < 0:
            table.setCurrentCell(0, 0)
        self._wanted = None
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
            lines += [hints.withoutPip(model["missing"])] if model["missing"] else []
        ui.modelDetailsLabel.text = "\n".join(lines)
        isMissing = model is not None and model["missing"] is not None and not self.process.busy
        pack = pack_folder() if model is not None and model["name"] == InsightFace.name else None
        ui.removeModelButton.visible = pack is not None
        ui.removeModelButton.enabled = not self.process.busy
        if pack is not None:
            lines.append(_("On this computer: {size}").format(size=hints.size(folder_bytes(pack))))
            ui.modelDetailsLabel.text = "\n".join(lines)
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
        self.install(self.chosen()["name"])

    def offer(self, name):
        """Help with a model that is missing: install its packages, or show here what else it needs."""
        if self._lacksPackages(name):
            self.install(name)
            return
        self._ui.modelsCollapsibleButton.collapsed = False
        self._wanted = name
        self.refresh()
        self._shown()

    @staticmethod
    def _lacksPackages(name):
        """Whether a package that this panel can install is missing."""
        needed = (re.split("[<>=]", requirement)[0] for requirement in MODELS[name].packages)
        return not all(packages.isInstalled(package) for package in needed)

    def install(self, name):
        """Install the packages of a model, if the user agrees."""
        requirements = [*MODELS[name].packages, *COHORT_PACKAGES]
        question = _(
            "Install these Python packages into Slicer from the Python Package Index?\n\n{packages}\n\n"
            "Licence: {licence}\n\nSlicer does not respond while they are installed."
        ).format(packages="\n".join(requirements), licence=MODELS[name].licence)
        if not slicer.util.confirmYesNoDisplay(question):
            return
        with slicer.util.tryWithErrorDisplay(_("The packages could not be installed."), waitCursor=True):
            packages.install(requirements)
            self._changed()
        if not self._ui.modelsCollapsibleButton.collapsed:
            self.refresh()

    def onRemove(self):
        pack = pack_folder()
        question = _("Remove insightface's model pack buffalo_l ({size}) from this computer?")
        if pack is None or not slicer.util.confirmYesNoDisplay(question.format(size=hints.size(folder_bytes(pack)))):
            return
        remove_pack()
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
