"""What the pages of all reports are made of: style, tables, pictures, and the versions of what took part."""

from __future__ import annotations

import base64
import importlib.metadata
import platform
import sys
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from CTDefaceLib.version import __version__

from .identification import Estimate

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .3rem }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; break-after: avoid }
.verdict { border-left: .5rem solid; padding: .6rem 1rem; background: #f5f5f5; margin: 1rem 0 }
.verdict b { display: block; font-size: 1.35rem }
.verdict b::first-letter { text-transform: uppercase }
.notice { border: 1px solid #b3261e; padding: .4rem .8rem }
.small { font-size: .86rem; color: #444 }
table { border-collapse: collapse; font-size: .86rem; margin: .5rem 0 }
td, th { padding: .18rem .5rem; border-bottom: 1px solid #ddd }
th { text-align: left; vertical-align: bottom }
table:not(.map) th:not(:first-child) { text-align: right }
table:not(.map) td:first-child { min-width: 7em }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
tr { break-inside: avoid }
tr.bad td { background: #fbe5e3 }
figure { margin: 0; break-inside: avoid }
figcaption { font-size: .86rem }
.maps { display: flex; flex-wrap: wrap; gap: 1rem 1.6rem }
.map td { width: 2rem; text-align: center; border: 1px solid #fff; padding: .15rem }
.map th { border: 0; font-weight: normal; text-align: center }
.row { display: flex; gap: 3px; margin-bottom: 3px; break-inside: avoid; align-items: center }
.row img { max-width: 100%; display: block }
.row > img { min-width: 0; flex: 0 1 220px }
.row span { width: 8.5rem; flex: none; font-size: .86rem }
.charts, .pictures { display: flex; flex-wrap: wrap; gap: 1rem }
.pictures { gap: .3rem; align-items: flex-start }
.pictures figure { width: 160px }
@media print {
  body { margin: 0; max-width: none; font-size: 11px }
  table { font-size: 9px }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact }
}
"""
FACE_NOTICE = (
    "This page shows the face of the patient. Keep it as you keep the scan itself, and do not share it with the "
    "defaced data."
)
"""Stands on every page with pictures."""


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str], bool]]) -> str:
    """A table of text; each row has a name, cells and whether it is bad news."""
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for name, cells, bad in rows:
        row = f"<td>{escape(name)}</td>" + "".join(f'<td class="n">{escape(cell)}</td>' for cell in cells)
        lines.append(f'<tr class="bad">{row}</tr>' if bad else f"<tr>{row}</tr>")
    return f"<table>{''.join(lines)}</table>"


def image(png: bytes, text: str) -> str:
    """A picture within the page; `text` for those who cannot see it."""
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def quartile_text(spread: dict[str, Any] | None) -> str:
    """Median and quartiles as `findings.quartiles` gives them."""
    return "–" if spread is None else f"{spread['median']:.3f} ({spread['q1']:.3f}–{spread['q3']:.3f})"


def estimate_text(estimate: Estimate | None, form: str) -> str:
    """A figure with its interval, each written in a form such as ``{:.2f}``."""
    if estimate is None:
        return "–"
    value, low, high = (
        form.format(number).replace("-", "−") for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low}{' to ' if estimate.low < 0.0 else '–'}{high})"


def list_of(values: Iterable[float]) -> str:
    """Numbers with commas and a proper minus."""
    return ", ".join(f"{value:g}".replace("-", "−") for value in values)


def versions() -> str:
    """A sentence with the versions of what took part."""
    names = {"numpy": "NumPy", "SimpleITK": "SimpleITK", "vtk": "VTK", "dlib-bin": "dlib", "insightface": "insightface"}
    found = []
    for package, name in names.items():
        try:
            found.append(f"{name} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    python = ".".join(str(part) for part in sys.version_info[:3])
    return f"CTDeface {__version__}, Python {python} on {platform.system()}, {', '.join(found)}."


def page(title: str, parts: Iterable[str]) -> str:
    """The whole page, with the style in it."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
