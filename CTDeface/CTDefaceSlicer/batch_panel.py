"""Step 7 of the CTDeface panel: many scans, in the background."""

import os

import qt
import slicer
from CTDefaceLib.batch.progress import Event, Pace
from CTDefaceLib.batch.status import Status
from CTDefaceLib.errors import Cancelled, CTDefaceError
from slicer.i18n import tr as _

from .shared import hints, paths

COLUMNS = [_("Scan"), _("Status"), _("Seconds"), _("Remark")]
WIDTHS = (80, 85, 58)


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
        self._rows = {}
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
            self.showScan(event["number"], event["scan"], Status.RUNNING.value)
        elif event["event"] == Event.ENDED:
            seconds = "" if event["seconds"] is None else f"{event['seconds']:.1f}"
            self.showScan(event["number"], event["scan"], event["status"], seconds, event["sentence"])
        elif event["event"] == Event.NOTE:
            self.show(event["text"])
        total, left = self._pace.total, self._pace.left
        self._ui.batchProgressBar.value = round(100 * (total - left) / max(total, 1))
        self._ui.batchProgressBar.format = _("{done} of {total}, {pace}").format(
            done=total - left, total=total, pace=self._pace
        )

    def showScan(self, number, *texts):
        """Add a row to the table, or change the one that the scan has."""
        table = self._ui.batchTable
        bar = table.verticalScrollBar()
        atEnd = bar.value == bar.maximum  # otherwise somebody reads what is above
        if number not in self._rows:
            self._rows[number] = table.rowCount
            table.insertRow(table.rowCount)
            table.visible = True
        for column, text in enumerate(texts):
            item = qt.QTableWidgetItem(text)
            item.setToolTip(text)
            if column == 1 and text not in (Status.DONE, Status.RUNNING):
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
