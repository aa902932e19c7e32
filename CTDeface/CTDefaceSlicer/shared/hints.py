"""Hints below the steps of the panel: what is missing, and in red what went wrong."""

import qt


def errorColor(widget):
    """A red that can be read on the background of a widget, in Slicer's light style and in its dark one."""
    return "#ff8a7a" if widget.palette.color(qt.QPalette.Window).lightness() < 128 else "#c0392b"


def show(label, text, isError=False):
    """Show a text in a label, in red if it tells of an error; hide a label without a text."""
    label.text = text
    label.styleSheet = f"color: {errorColor(label)};" if isError else ""
    label.visible = bool(text)
