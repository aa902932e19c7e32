"""Step 6 of the CTDeface panel: the result as a file or a DICOM series, and on to CTDefaceEval."""

import contextlib
import importlib.util
import itertools
import os
from functools import partial
from pathlib import Path

import slicer
from CTDefaceLib.errors import Cancelled
from CTDefaceLib.files import check_folder, output_errors
from CTDefaceLib.private import private_folder
from CTDefaceLib.volume_io import WRITABLE, suffix
from slicer.i18n import tr as _

from . import database
from .logic import MADE_FROM, reportOf
from .parameters import ExportKind, Headers
from .shared import hints, packages, paths
from .shared.step_panel import StepPanel
from .tasks import Task


def makeFolder(folder):
    """Make an output folder, unless it is there and empty."""
    check_folder(folder)
    with output_errors():
        os.makedirs(folder, exist_ok=True)


def removeIfEmpty(folder):
    """Leave no folder behind in which nothing was written."""
    with contextlib.suppress(OSError):
        os.rmdir(folder)


PROPOSED = "defaced_head_ct"
"""A file name that names nobody, as the name of a volume may."""


class ExportPanel(StepPanel):
    """The widgets of the step, and what they do."""

    def __init__(self, panel):
        super().__init__(panel)
        self._proposed = ""  # a path that gives way to another proposal
        self._exported = ""  # what was written of the chosen result, in one sentence
        ui = self.ui
        ui.defacedSelector.addAttribute("vtkMRMLScalarVolumeNode", MADE_FROM)
        paths.follow(ui.exportPathLineEdit, self.onPathChanged)
        paths.follow(ui.exportFolderPathLineEdit, self.onPathChanged)
        ui.exportButton.connect("clicked()", self.onExport)
        ui.evaluateButton.connect("clicked()", self.onEvaluate)

    @property
    def isDone(self):
        """Whether the chosen result was written."""
        return bool(self._exported)

    def update(self):
        """Enable what can be done now, and show what is missing."""
        ui, parameters = self.ui, self.parameters
        problem = self.panel.resultProblem()
        ui.evaluateButton.enabled = self.panel.hasResult
        missing = self._missing(problem)
        hints.show(ui.resultLabel, "" if problem else self._origin())
        isRunning = self.panel.task is Task.EXPORT
        ui.exportButton.text = _("Cancel") if isRunning else _("E&xport")
        ui.exportButton.enabled = isRunning or (not missing and self.panel.isFree)
        ui.exportProgressBar.visible = isRunning
        isFile = parameters.exportKind is ExportKind.FILE
        isFolder = parameters.exportKind is ExportKind.FOLDER
        further = self.logic.furtherResults(parameters.defacedVolume)
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
            (ui.exportFurtherCheckBox, bool(further)),
        ):
            widget.visible = isShown
        ui.exportFurtherCheckBox.text = _("With its further series ({count})").format(count=len(further))
        hint = missing or self._exported or self._destination()
        hints.show(ui.exportHintLabel, hint, self.panel.errors.get(Task.EXPORT, ""))

    def _origin(self):
        """Whether the chosen result belongs to the mask and the choices that the panel shows."""
        if self.panel.isResultPresent:
            return _("Made with the present mask and choices.")
        return _("Made with another mask or other choices. Press Deface to make one with those above.")

    def _further(self):
        """The results of further series that are written as well."""
        parameters = self.parameters
        return self.logic.furtherResults(parameters.defacedVolume) if parameters.exportFurther else []

    def _path(self):
        """Full path of the file or folder to write; empty where none is chosen or needed."""
        kind, ui = self.parameters.exportKind, self.ui
        fields = {ExportKind.FILE: ui.exportPathLineEdit, ExportKind.FOLDER: ui.exportFolderPathLineEdit}
        path = fields[kind].currentPath if kind in fields else ""
        return (self._folder() / Path(path).expanduser()).as_posix() if path else ""

    @staticmethod
    def _folder():
        """The folder that relative names start at: the one that Slicer saves into."""
        return Path(slicer.mrmlScene.GetRootDirectory() or Path.home())

    def _destination(self):
        """Where a relative name leads to."""
        path, kind = self._path(), self.parameters.exportKind
        field = self.ui.exportPathLineEdit if kind is ExportKind.FILE else self.ui.exportFolderPathLineEdit
        return _("Will be written to {path}").format(path=path) if path and path != field.currentPath else ""

    def propose(self):
        """Propose a file for another result, unless there is one that the user has chosen and not written yet."""
        self._exported = ""
        field = self.ui.exportPathLineEdit
        if self.parameters.defacedVolume is None or field.currentPath not in ("", self._proposed):
            return
        folder = Path(self._proposed).parent if self._proposed else self._folder()
        names = (PROPOSED + (f"_{number}" if number > 1 else "") for number in itertools.count(1))
        free = (folder / f"{name}.nii.gz" for name in names if not any(folder.glob(f"{name}.*")))
        self._proposed = next(free).as_posix()
        field.currentPath = self._proposed

    def forgetPaths(self):
        """Propose no file and no folder: the scene that they were for is closed."""
        self._proposed = self._exported = ""
        self.ui.exportPathLineEdit.currentPath = self.ui.exportFolderPathLineEdit.currentPath = ""

    def _missing(self, problem):
        """What is missing before the result can be exported, in one sentence.

        :param problem: why the result is none of the chosen input.
        """
        kind, result = self.parameters.exportKind, self.parameters.defacedVolume
        isAlone = self.logic.isResult(result) and self.logic.originalOf(result) is None
        if problem and not (isAlone and kind is ExportKind.FILE):  # which is a result still
            return problem
        if kind is ExportKind.FILE:
            return "" if self.ui.exportPathLineEdit.currentPath else _("Choose a file name.")
        if not database.isFromDatabase(self.parameters.inputVolume):
            return _("Only a volume that was loaded from Slicer's DICOM database can be exported as DICOM.")
        if not all(database.isFromDatabase(self.logic.originalOf(one)) for one in self._further()):
            return _("Not all further series were loaded from Slicer's DICOM database: untick them, or write files.")
        if kind is ExportKind.FOLDER and not self.ui.exportFolderPathLineEdit.currentPath:
            return _("Choose an empty folder, or the name of a new one.")
        return ""

    def onPathChanged(self, path):
        self.panel.errors.pop(Task.EXPORT, None)
        self._exported = ""
        self.panel.updateGUI()

    def onExport(self):
        if self.panel.task is Task.EXPORT:
            self.panel.cancel()
            return
        if self.parameters.exportKind is ExportKind.FILE:
            self._exportVolume()
        else:
            self._exportSeries()

    def _exportVolume(self):
        volumeNodes, path = [self.parameters.defacedVolume, *self._further()], self._path()
        self.ui.exportPathLineEdit.currentPath = path
        ending = suffix(path)
        start = path[: len(path) - len(ending)]
        places = [path, *(f"{start}_{number}{ending}" for number in range(2, len(volumeNodes) + 1))]
        files = [file for place in places for file in (place, reportOf(place))] if ending in WRITABLE else ()
        existing = [os.path.basename(file) for file in files if os.path.isfile(file)]
        overwrite = bool(existing)
        question = _("{name} exists already. Replace it?") if len(existing) < 2 else _("{name} exist already. Replace?")
        question = question.format(name=_(" and ").join(existing))
        if not overwrite or slicer.util.confirmYesNoDisplay(question):
            self._proposed = path  # once it is written, another result needs another
            self._run(path, [partial(self.logic.exportVolume, *one, overwrite) for one in zip(volumeNodes, places)])

    def _exportSeries(self):
        volumeNodes, retain = [self.parameters.defacedVolume, *self._further()], self.parameters.retained()
        isFolder = self.parameters.exportKind is ExportKind.FOLDER
        folder = self._path() if isFolder else None
        if isFolder:
            self.ui.exportFolderPathLineEdit.currentPath = folder
        if retain is not None and not self.confirmPackage():
            return
        place = folder or _("Slicer's DICOM database")
        if not isFolder or len(volumeNodes) == 1:
            self._run(place, [partial(self.logic.exportSeries, one, folder, retain) for one in volumeNodes])
            return
        places = [os.path.join(folder, f"series_{number}") for number in range(1, len(volumeNodes) + 1)]
        private = private_folder(folder)
        starts = [partial(self.logic.exportSeries, *one, retain, private) for one in zip(volumeNodes, places)]

        def first(**callbacks):
            makeFolder(folder)
            starts[0](**callbacks)

        self._run(place, [first, *starts[1:]], lambda: removeIfEmpty(folder))

    def _run(self, place, starts, cleanUp=lambda: None):
        """Start the exports, and say where the results are when all are there.

        :param cleanUp: called when one could not be made.
        """

        def finish(results):
            self._exported = _("Exported to {place}").format(place=place)
            if len(results) > 1:
                self._exported += _(" ({count} series)").format(count=len(results))
            self.panel.log(self._exported)
            self.panel.steps.reveal("exportHintLabel")

        def failed(error):
            cleanUp()
            if not isinstance(error, Cancelled):
                self.panel.errors[Task.EXPORT] = self.panel.sentence(error)

        self._exported = ""
        self.panel.run(Task.EXPORT, self.panel.inTurn(starts), finish, failed=failed)

    def confirmPackage(self):
        """Install what cleaning headers needs, if the user agrees; whether it is there now."""
        if importlib.util.find_spec("dicomanonymizer") is not None:
            return True
        question = _("Cleaning headers needs the Python package dicom-anonymizer. Download and install it now?")
        if not slicer.util.confirmOkCancelDisplay(question):
            return False
        with slicer.util.tryWithErrorDisplay(_("The package could not be installed."), waitCursor=True):
            packages.install(["dicom-anonymizer>=2.1,<3"])
            return True
        return False

    def onEvaluate(self):
        with slicer.util.tryWithErrorDisplay(_("CTDefaceEval could not be opened.")):
            self.logic.evaluate(self.parameters.inputVolume, self.parameters.defacedVolume)
