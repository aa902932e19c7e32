"""Hints below the steps of a panel: what is missing, and in red what went wrong."""

import html
import re

import qt
from slicer.i18n import tr as _

PIP = re.compile(r"""\s*\(pip install [^)]*\)|[:;,]? install it with [“"]pip install [^”"]*[”"]""")
"""How the libraries' sentences name the command that installs a package."""


def errorColor(widget):
    """A red that can be read on the background of a widget, in Slicer's light style and in its dark one."""
    return "#ff8a7a" if _isDark(widget) else "#c0392b"


def goodColor(widget):
    """As :func:`errorColor`, a green."""
    return "#7ccf87" if _isDark(widget) else "#2f7d3b"


def _isDark(widget):
    return widget.palette.color(qt.QPalette.Window).lightness() < 128


def withoutPip(sentence):
    """A sentence of a library without what helps at a command line only: a panel has a button for it."""
    return PIP.sub("", sentence)


def size(count):
    """A number of bytes in words."""
    return _("{n:.1f} GB").format(n=count / 1e9) if count >= 1e9 else _("{n:.0f} MB").format(n=count / 1e6)


def marked(isGood, text, widget):
    """A line of a list of results, as rich text: with a green or red mark, or with a dot where that is neither.

    :param isGood: whether it is as it should be; None where nobody can say.
    :param widget: whose background the line is read on.
    """
    if isGood is None:
        return f"• {html.escape(text)}"
    mark, color = ("✔", goodColor(widget)) if isGood else ("✘", errorColor(widget))
    return f'<span style="color: {color};">{mark} {html.escape(text)}</span>'


def show(label, text, error=""):
    """Show a hint in a label, or in its place an error in red; with neither the label is hidden."""
    label.text = error or text
    label.styleSheet = f"color: {errorColor(label)};" if error else ""
    label.visible = bool(label.text)
