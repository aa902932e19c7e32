"""Small charts as SVG text, so that a report needs no other file and no plotting package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np

WIDTH, HEIGHT = 420, 260
"""Of a chart without its legend, in pixels, as the margins."""
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 14, 40
COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#775a9c", "#444444", "#00798c", "#a3586d")
"""Of the lines in their order, distinguishable in print and for colour-blind readers."""
DASHES = ("", "6 3", "2 3", "8 3 2 3")
"""Of the lines in their order, in SVG's words: a line of so many pixels, a gap of so many."""


def line_chart(
    lines: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    *,
    x_range: tuple[float, float] = (0.0, 1.0),
    y_range: tuple[float, float] | None = (0.0, 1.0),
    marks: Sequence[tuple[str, float]] = (),
    whole_x: bool = False,
) -> str:
    """Lines (name, x, y) with a legend; `marks` are vertical lines (name, x). Without `y_range` it starts at 0.

    `whole_x` has whole numbers below the chart.
    """
    if y_range is None:
        y_range = 0.0, 1.15 * max((max(y, default=0.0) for _, _, y in lines), default=0.0) or 1.0
    parts = [_frame(x_label, y_label, x_range, y_range, whole_x)]
    names = []
    for number, (name, x, y) in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(f"{_x(a, x_range):.1f},{_y(b, y_range):.1f}" for a, b in zip(x, y))
        # With the next round of colours comes another dash of each.
        pattern = DASHES[(number + number // len(COLOURS)) % len(DASHES)]
        dash = f' stroke-dasharray="{pattern}"' if pattern else ""
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        names.append((name, colour, dash))
    for name, where in marks:
        at = _x(where, x_range)
        parts.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#000"/>')
        parts.append(f'<text x="{at + 3:.1f}" y="{TOP + 10}" font-size="10">{escape(name)}</text>')
    legend_height = 15 * len(names)
    for number, (name, colour, dash) in enumerate(names):
        below = HEIGHT + 12 + 15 * number
        parts.append(f'<path d="M{LEFT} {below - 4}h22" stroke="{colour}" stroke-width="2"{dash}/>')
        parts.append(f'<text x="{LEFT + 28}" y="{below}" font-size="11">{escape(name)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + legend_height + 8}" '
        f'width="{WIDTH}" font-family="sans-serif" role="img">{"".join(parts)}</svg>'
    )


class Point(NamedTuple):
    """A point of a chart with its intervals: value, lower and upper end along either axis."""

    name: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]


def point_chart(
    points: Sequence[Point],
    x_label: str,
    y_label: str,
    *,
    x_range: tuple[float, float],
    y_range: tuple[float, float] = (0.0, 1.0),
    level: tuple[str, float] | None = None,
) -> str:
    """Points with the bars of their intervals and a legend; `level` is a dotted line across (name, y)."""
    parts = [_frame(x_label, y_label, x_range, y_range)]
    if level is not None:
        at = _y(level[1], y_range)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#777" stroke-dasharray="2 4"/>')
        parts.append(f'<text x="{LEFT + 4}" y="{at - 3:.1f}" font-size="10" fill="#555">{escape(level[0])}</text>')
    for number, (name, x, y) in enumerate(points):
        colour, below = COLOURS[number % len(COLOURS)], HEIGHT + 12 + 15 * number
        (middle, left, right), (centre, low, high) = ([_x(a, x_range) for a in x], [_y(b, y_range) for b in y])
        bars = f"M{left:.1f} {centre:.1f}H{right:.1f}M{middle:.1f} {low:.1f}V{high:.1f}"
        bars += f"M{left:.1f} {centre - 3:.1f}v6M{right:.1f} {centre - 3:.1f}v6"
        bars += f"M{middle - 3:.1f} {low:.1f}h6M{middle - 3:.1f} {high:.1f}h6"
        parts.append(f'<path d="{bars}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        parts.append(_mark(number, middle, centre, colour))
        parts.append(_mark(number, LEFT + 11.0, below - 4.0, colour))
        parts.append(f'<text x="{LEFT + 28}" y="{below}" font-size="11">{escape(name)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 15 * len(points) + 8}" '
        f'width="{WIDTH}" font-family="sans-serif" role="img">{"".join(parts)}</svg>'
    )


def _mark(number: int, x: float, y: float, colour: str) -> str:
    """A disc, square, diamond or triangle, so that points can be told apart without colours as well."""
    shapes = (
        "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
        "m-4 -4h8v8h-8z",
        "m0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
        "m0 -5l5 9h-10z",
    )
    # With the next round of colours comes another shape of each.
    shape = shapes[(number + number // len(COLOURS)) % len(shapes)]
    return f'<path d="M{x:.1f} {y:.1f}{shape}" fill="{colour}"/>'


def density(values: Sequence[float], low: float, high: float, bins: int = 40) -> tuple[list[float], list[float]]:
    """Share of the values in each bin, as the x and y of a line."""
    counts, edges = np.histogram(np.clip(values, low, high), bins, (low, high))
    centers = (edges[1:] + edges[:-1]) / 2.0
    return centers.tolist(), (counts / max(1, counts.sum())).tolist()


def _x(value: float, limits: tuple[float, float]) -> float:
    return LEFT + (value - limits[0]) / (limits[1] - limits[0]) * (WIDTH - LEFT - RIGHT)


def _y(value: float, limits: tuple[float, float]) -> float:
    return HEIGHT - BOTTOM - (value - limits[0]) / (limits[1] - limits[0]) * (HEIGHT - TOP - BOTTOM)


def _ticks(limits: tuple[float, float], whole: bool = False) -> list[tuple[float, str]]:
    """At most seven round numbers within a range, with their text: steps of 1, 2 or 5 times a power of ten.

    Whole ones also have the lower end of the range, where there is room for it, as the first rank is.
    """
    low, high = limits
    most = (high - low) / 5.0
    power = math.floor(math.log10(most))
    step = next(part * 10.0**power for part in (1, 2, 5, 10) if part * 10.0**power > most * (1.0 - 1e-9))
    if whole:
        step = max(1.0, step)
    places = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    values = [place * step for place in places]
    if whole and values and values[0] - low >= step / 2.0:
        values.insert(0, low)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(value, f"{value:.{decimals}f}") for value in values]


def _frame(
    x_label: str, y_label: str, x_range: tuple[float, float], y_range: tuple[float, float], whole_x: bool = False
) -> str:
    parts = [
        f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - TOP - BOTTOM}" fill="none" '
        'stroke="#999"/>',
        f'<text x="{(WIDTH + LEFT - RIGHT) / 2}" y="{HEIGHT - 8}" font-size="12" text-anchor="middle">{escape(x_label)}'
        "</text>",
        f'<text transform="translate(12 {(HEIGHT - BOTTOM + TOP) / 2}) rotate(-90)" font-size="12" '
        f'text-anchor="middle">{escape(y_label)}</text>',
    ]
    for tick, text in _ticks(x_range, whole_x):
        at = _x(tick, x_range)
        parts.append(f'<path d="M{at:.1f} {HEIGHT - BOTTOM}v4" stroke="#999"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 14}" font-size="10" text-anchor="middle">{text}</text>')
    for tick, text in _ticks(y_range):
        at = _y(tick, y_range)
        parts.append(f'<path d="M{LEFT} {at:.1f}h-4" stroke="#999"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 3:.1f}" font-size="10" text-anchor="end">{text}</text>')
    return "".join(parts)
