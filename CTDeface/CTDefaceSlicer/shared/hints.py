"""Hints below the steps of a panel: what is missing, and in red what went wrong."""

import html

import qt

GOOD_COLOR = "#3d8b48"
"""A green that can be read on a bright and on a dark panel."""


def errorColor(widget):
    """A red that can be read on the background of a widget, in Slicer's light style and in its dark one."""
    return "#ff8a7a" if widget.palette.color(qt.QPalette.Window).lightness() < 128 else "#c0392b"


def marked(isGood, text, widget):
    """A line of a list of results, as rich text: with a green or red mark, or with a dot where that is neither.

    :param isGood: whether it is as it should be; None where nobody can say.
    :param widget: whose background the line is read on.
    """
    if isGood is None:
        return f"• {html.escape(text)}"
    mark, color = ("✔", GOOD_COLOR) if isGood else ("✘", errorColor(widget))
    return f'<span style="color: {color};">{mark} {html.escape(text)}</span>'


def show(label, text, error=""):
    """Show a hint in a label, or in its place an error in red; with neither the label is hidden."""
    label.text = error or text
    label.styleSheet = f"color: {errorColor(label)};" if error else ""
    label.visible = bool(label.text)
