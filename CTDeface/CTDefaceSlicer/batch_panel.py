"""Step 7 of the CTDeface panel: many scans, in the background."""

import os

import qt
import slicer
from CTDefaceLib.batch.progress import Event, Pace
from CTDefaceLib.batch.status import FINISHED, Status
from CTDefaceLib.errors import Cancelled, CTDefaceError
from slicer.i18n import tr as _

from .shared import hints, paths

COLUMNS = [_("Scan"), _("Status"), _("Seconds"), _("Remark")]
WIDTHS = (110, 85, 58)
NO_ERROR = (Status.RUNNING, *FINISHED, Status.DOUBLE)
"""What needs no red in the table."""


class QuitGuard(qt.QWidget):
    """Asks before Slicer is closed while something runs.

    :param question: called for what to ask.
    """

    def __init__(self, question):
        super().__init__()
        self._question, self._watched = question, None

    def watch(self, isNeeded):
        """Ask from now on, or no longer (with a main window only)."""
        if isNeeded and self._watched is None and slicer.util.mainWindow() is not None:
            self._watched = slicer.util.mainWindow()
            self._watched.installEventFilter(self)
        elif not isNeeded and self._watched is not None:
            self._watched.removeEventFilter(self)
            self._watched = None

    def eventFilter(self, watched, event):
        stays = event.type() == qt.QEvent.Close and not slicer.util.confirmYesNoDisplay(self._question())
        if stays:
            event.ignore()
        return stays


class BatchPanel:
    """The widgets of the step, and what they do.

    :param ui: widgets of the panel by name.
    :param logic: of the module.
    :param parameters: called for the choices of the removal, a dict.
    """

    def __init__(self, ui, logic, parameters):
        self._ui, self._logic, self._parameters = ui, logic, parameters
        self._pace = Pace()
        self._rows = {}  # number of a scan → its row in the table
        self._names = {}  # number of a scan → its own name
        self._guard = QuitGuard(self.quitQuestion)
        self._message = self._error = ""
        ui.batchTable.setColumnCount(len(COLUMNS))
        ui.batchTable.setHorizontalHeaderLabels(COLUMNS)
        ui.batchTable.verticalHeader().hide()
        for column, width in enumerate(WIDTHS):
            ui.batchTable.setColumnWidth(column, width)
        ui.batchTable.horizontalHeader().setStretchLastSection(True)
        paths.follow(ui.batchInputPathLineEdit, self.onPathChanged)
        paths.follow(ui.batchOutputPathLineEdit, self.onPathChanged)
        ui.batchButton.connect("clicked()", self.onStart)
        ui.batchGalleryButton.connect("clicked()", self.onGallery)
        self.update()

    def stop(self):
        """Leave the main window as it was."""
        self._guard.watch(False)
        self._guard.deleteLater()

    def quitQuestion(self):
        """What to ask before Slicer is closed while the batch runs."""
        return _(
            "A batch is running: {left} of {total} scans are left to do. Closing Slicer ends it; started again with "
            "the same folders, it goes on where it was.\n\nClose Slicer?"
        ).format(left=self._pace.left, total=self._pace.total)

    @property
    def running(self):
        return self._logic.batchProcess.busy

    def update(self):
        """Enable what can be done now, and show what is missing."""
        ui = self._ui
        source, output = ui.batchInputPathLineEdit.currentPath, ui.batchOutputPathLineEdit.currentPath
        missing = "" if source and output else _("Choose the folder with the scans, and one for the results.")
        ui.batchButton.text = _("Cancel") if self.running else _("Start batch")
        ui.batchButton.enabled = self.running or not missing
        for widget in (ui.batchInputPathLineEdit, ui.batchOutputPathLineEdit, ui.batchWorkersSpinBox):
            widget.enabled = not self.running
        ui.batchProgressBar.visible = self.running
        self._guard.watch(self.running)
        ui.batchTable.visible = bool(self._rows)
        ui.batchGalleryButton.enabled = bool(output) and os.path.isfile(self._logic.galleryOf(output))
        hints.show(ui.batchHintLabel, self._message or missing, self._error)

    def onPathChanged(self, path):
        self.show("")

    def onStart(self):
        if self.running:
            self._logic.cancelBatch()
            return
        ui = self._ui
        self._rows, self._names = {}, {}
        ui.batchTable.setRowCount(0)
        ui.batchProgressBar.value = 0
        ui.batchProgressBar.format = _("Looking for scans…")
        with slicer.util.tryWithErrorDisplay(_("The batch could not be started.")):
            try:
                self._logic.runBatch(
                    ui.batchInputPathLineEdit.currentPath,
                    ui.batchOutputPathLineEdit.currentPath,
                    self._parameters(),
                    workers=ui.batchWorkersSpinBox.value,
                    event=self.onEvent,
                    done=self.onDone,
                    failed=self.onFailed,
                )
            except CTDefaceError as error:
                self.onFailed(error)
            else:
                self.show("")

    def onEvent(self, event):
        """Show what happens in the batch."""
        self._pace.take(event)
        if event["event"] == Event.STARTED:
            self._names[event["number"]] = event["source"]
            self.showScan(event["number"], Status.RUNNING)
        elif event["event"] == Event.ENDED:
            seconds = "" if event["seconds"] is None else f"{event['seconds']:.1f}"
            self.showScan(event["number"], Status(event["status"]), seconds, event["sentence"], event["scan"])
        elif event["event"] == Event.NOTE:
            self.show(event["text"])
        total, left = self._pace.total, self._pace.left
        self._ui.batchProgressBar.value = round(100 * (total - left) / max(total, 1))
        self._ui.batchProgressBar.format = _("{done} of {total}, {pace}").format(
            done=total - left, total=total, pace=self._pace
        )

    def showScan(self, number, status, seconds="", sentence="", result=""):
        """Add a row to the table, or change the one that the scan has.

        :param number: of the scan.
        :param result: name of its result, a pseudonym.
        """
        table = self._ui.batchTable
        bar = table.verticalScrollBar()
        atEnd = bar.value == bar.maximum  # otherwise somebody reads what is above
        if number not in self._rows:
            self._rows[number] = table.rowCount
            table.insertRow(table.rowCount)
            table.visible = True
        name = self._names.get(number, result)
        for column, text in enumerate((name, status.value, seconds, sentence)):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(_("{name} → {result}").format(name=name, result=result) if column == 0 and result else text)
            if column == 1 and status not in NO_ERROR:
                item.setForeground(qt.QBrush(qt.QColor(hints.errorColor(table))))
            table.setItem(self._rows[number], column, item)
        if atEnd:
            table.scrollToBottom()

    def onDone(self, counts):
        self.show(", ".join(f"{count} {status}" for status, count in counts.items()) or _("No scans were found."))

    def onFailed(self, error):
        if isinstance(error, Cancelled):
            self.show(_("Cancelled. Start it again, and it goes on where it was."))
        else:
            self.show("", str(error))

    def show(self, text, error=""):
        """Show what there is to know of the batch, or in its place an error."""
        self._message, self._error = text, error
        self.update()

    def onGallery(self):
        path = self._logic.galleryOf(self._ui.batchOutputPathLineEdit.currentPath)
        qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(path))
