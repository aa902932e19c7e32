"""Hints below the steps of a panel: what is missing, and in red what went wrong."""

import qt

GOOD_COLOR = "#3d8b48"
"""A green that can be read on a bright and on a dark panel."""


def errorColor(widget):
    """A red that can be read on the background of a widget, in Slicer's light style and in its dark one."""
    return "#ff8a7a" if widget.palette.color(qt.QPalette.Window).lightness() < 128 else "#c0392b"


def show(label, text, error=""):
    """Show a hint in a label, or in its place an error in red; with neither the label is hidden."""
    label.text = error or text
    label.styleSheet = f"color: {errorColor(label)};" if error else ""
    label.visible = bool(label.text)
