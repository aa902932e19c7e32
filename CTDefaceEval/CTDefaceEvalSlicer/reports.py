"""Reports as files that the user names."""

import os

import qt
import slicer
from slicer.i18n import tr as _


def saveReport(logic, evaluated, pictures):
    """Ask for a name, write the report of an evaluation or a cohort under it, and open it."""
    path = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Report"), "", _("Web page (*.html)"))
    if not path:
        return
    isConfirmed = os.path.exists(path)  # the dialog has asked before it gave the name of a page that exists
    if not path.lower().endswith((".html", ".htm")):
        path, isConfirmed = path + ".html", False
    with slicer.util.WaitCursor():
        logic.writeReport(evaluated, path, pictures, overwrite=isConfirmed)
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(path))
