"""Where the user of a panel stands: which steps are open, which are done, and which button comes next."""

import qt

DONE = " ✔"
NEXT_STYLE = (
    "QPushButton:enabled { background-color: #2d6cb5; color: white; font-weight: bold; padding: 5px; "
    "border: 1px solid #1f4f87; border-radius: 3px; }"
    "QPushButton:enabled:hover { background-color: #3b7fcd; }"
    "QPushButton:enabled:pressed { background-color: #1f4f87; }"
    "QPushButton:focus { border: 1px solid white; }"
)
"""The button that comes next: white on blue, which can be read in Slicer's light style and in its dark one."""


class Steps:
    """The steps of a panel, each a ctkCollapsibleButton. All names are those of the form.

    A step is folded when it can run no longer and opened when it can again; in between it stays as the user leaves it.

    :param ui: widgets of the panel by name.
    """

    def __init__(self, ui):
        self._ui = ui
        self._titles, self._canRun, self._next = {}, {}, None

    def show(self, name, canRun, isDone=False):
        """Open or fold a step when what it needs has come or gone, and mark it when it is done."""
        box = getattr(self._ui, name)
        box.text = self._titles.setdefault(name, box.text) + (DONE if isDone else "")
        if self._canRun.get(name) is not canRun:
            self._canRun[name] = canRun
            box.collapsed = not canRun

    def lead(self, name):
        """Highlight the button that comes next, and bring it into view; with None, none."""
        if name == self._next:
            return
        for button, style in ((self._next, ""), (name, NEXT_STYLE)):
            if button is not None:
                getattr(self._ui, button).styleSheet = style
        self._next = name
        if name is not None:
            self.reveal(name)

    def reveal(self, name):
        """Scroll the panel to a widget, once the panel has its new shape."""
        qt.QTimer.singleShot(0, lambda: qt.QTimer.singleShot(0, lambda: _scrollTo(getattr(self._ui, name))))


def _scrollTo(widget):
    area = widget.parentWidget()
    while area is not None and not area.inherits("QScrollArea"):
        area = area.parentWidget()
    if area is not None and widget.visible:
        area.ensureWidgetVisible(widget)
