"""Step 6 of the CTDeface panel: the result as a file or a DICOM series, and on to CTDefaceEval."""

import importlib.util
import os

import slicer
from slicer.i18n import tr as _

from . import database
from .parameters import ExportKind, Headers
from .shared import hints
from .shared.step_panel import StepPanel
from .tasks import Task


class ExportPanel(StepPanel):
    """The widgets of the step, and what they do."""

    def __init__(self, panel):
        super().__init__(panel)
        ui = self.ui
        ui.exportPathLineEdit.connect("currentPathChanged(QString)", self.onPathChanged)
        ui.exportFolderPathLineEdit.connect("currentPathChanged(QString)", self.onPathChanged)
        ui.exportButton.connect("clicked()", self.onExport)
        ui.evaluateButton.connect("clicked()", self.onEvaluate)

    def update(self, hasInput):
        """Enable what can be done now, and show what is missing.

        :param hasInput: whether a CT is chosen.
        """
        ui, parameters = self.ui, self.parameters
        missing = _("Deface the volume first (step 5).") if parameters.defacedVolume is None else ""
        ui.evaluateButton.enabled = hasInput and not missing
        missing = missing or self._missing()
        ui.exportButton.text = _("Exporting…") if self.panel.task is Task.EXPORT else _("Export")
        ui.exportButton.enabled = not missing and self.panel.isFree
        isFile = parameters.exportKind is ExportKind.FILE
        isFolder = parameters.exportKind is ExportKind.FOLDER
        isCleaned = not isFile and parameters.headers is Headers.PS315
        for widget, isShown in (
            (ui.exportPathLabel, isFile),
            (ui.exportPathLineEdit, isFile),
            (ui.exportFolderLabel, isFolder),
            (ui.exportFolderPathLineEdit, isFolder),
            (ui.headersLabel, not isFile),
            (ui.headersComboBox, not isFile),
            (ui.retainLabel, isCleaned),
            (ui.retainFrame, isCleaned),
        ):
            widget.visible = isShown
        hints.show(ui.exportHintLabel, missing, self.panel.errors.get(Task.EXPORT, ""))

    def forgetPaths(self):
        """Propose no file and no folder: the scene that they were for is closed."""
        self.ui.exportPathLineEdit.currentPath = self.ui.exportFolderPathLineEdit.currentPath = ""

    def _missing(self):
        """What is missing before the result can be exported, in one sentence."""
        kind = self.parameters.exportKind
        if kind is ExportKind.FILE:
            return "" if self.ui.exportPathLineEdit.currentPath else _("Choose a file name.")
        if not database.isFromDatabase(self.parameters.inputVolume):
            return _("Only a volume that was loaded from Slicer's DICOM database can be exported as DICOM.")
        if kind is ExportKind.FOLDER and not self.ui.exportFolderPathLineEdit.currentPath:
            return _("Choose an empty folder, or the name of a new one.")
        return ""

    def onPathChanged(self, path):
        self.panel.errors.pop(Task.EXPORT, None)
        self.panel.updateGUI()

    def onExport(self):
        if self.parameters.exportKind is ExportKind.FILE:
            self._exportVolume()
        else:
            self._exportSeries()

    def _exportVolume(self):
        volumeNode, path = self.parameters.defacedVolume, self.ui.exportPathLineEdit.currentPath
        overwrite = os.path.isfile(path)
        question = _("{name} exists already. Replace it?").format(name=os.path.basename(path))
        if not overwrite or slicer.util.confirmYesNoDisplay(question):
            self._run(lambda **callbacks: self.logic.exportVolume(volumeNode, path, overwrite, **callbacks))

    def _exportSeries(self):
        volumeNode, retain = self.parameters.defacedVolume, self.parameters.retained()
        isFolder = self.parameters.exportKind is ExportKind.FOLDER
        folder = self.ui.exportFolderPathLineEdit.currentPath if isFolder else None
        if retain is None or self.confirmPackage():
            self._run(lambda **callbacks: self.logic.exportSeries(volumeNode, folder, retain, **callbacks))

    def _run(self, start):
        self.panel.run(Task.EXPORT, start, lambda result: self.panel.log(_("Exported.")))

    def confirmPackage(self):
        """Install what cleaning headers needs, if the user agrees; whether it is there now."""
        if importlib.util.find_spec("dicomanonymizer") is not None:
            return True
        question = _("Cleaning headers needs the Python package dicom-anonymizer. Download and install it now?")
        if not slicer.util.confirmOkCancelDisplay(question):
            return False
        with slicer.util.tryWithErrorDisplay(_("The package could not be installed."), waitCursor=True):
            slicer.util.pip_install("dicom-anonymizer>=2.1,<3")
            return True
        return False

    def onEvaluate(self):
        with slicer.util.tryWithErrorDisplay(_("CTDefaceEval could not be opened.")):
            self.logic.evaluate(self.parameters.inputVolume, self.parameters.defacedVolume)
