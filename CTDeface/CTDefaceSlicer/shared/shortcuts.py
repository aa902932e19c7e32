"""Keys that work while a module is open, wherever the focus is."""

import qt
import slicer


class Shortcuts:
    """Keys of a module.

    :param actions: what to call, by key.
    """

    def __init__(self, actions):
        self._actions, self._installed = actions, []

    def install(self):
        """Let the keys work from now on (with a main window only)."""
        window = slicer.util.mainWindow()
        if window is None or self._installed:
            return
        for key, action in self._actions.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.connect("activated()", action)
            self._installed.append(shortcut)

    def remove(self):
        """Give the keys back."""
        installed, self._installed = self._installed, []
        for shortcut in installed:
            shortcut.setParent(None)
            shortcut.deleteLater()
