"""Charts as shapes on a plane of `WIDTH` units: what the page draws as SVG, without a line of script.

Every shape has a title for the pointer, every chart a label that says it in a sentence and its numbers as a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH = 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 10, 44
_ROW, _GAP, _NAMES, _SAID = 26, 6, 158, 122
_TICKS = 4
Value = float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A rectangle, a dot (no size), or a line (points), of a series."""

    series: int
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    points: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Text beside the plot."""

    x: float
    y: float
    text: str
    anchor: str = "middle"
    turned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """What is drawn: `grid` are lines behind the shapes, `marks` lines before them."""

    height: float
    grid: Sequence[str]
    words: Sequence[Words]
    rects: Sequence[Shape] = ()
    lines: Sequence[Shape] = ()
    dots: Sequence[Shape] = ()
    marks: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A plot, what it says, and its numbers."""

    title: str
    label: str
    plot: Plot
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    series: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Axis:
    """Numbers of [0, end] on so many units from `start` on; downwards where `end_at` is above `start`."""

    end: float
    start: float
    end_at: float

    def at(self, value: float) -> float:
        """Return the place of a number."""
        return round(self.start + (self.end_at - self.start) * value / self.end, 2)

    @property
    def ticks(self) -> list[float]:
        """A few round numbers."""
        step = _round_step(self.end / _TICKS)
        return [step * count for count in range(int(self.end / step * (1 + 1e-9)) + 1)]


def _round_step(least: float) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= least * (1 - 1e-9))


def number(value: Value) -> str:
    """Return a number for people.

    >>> [number(value) for value in (None, 12_345, 0.25, 0.000125, 3.0)]
    ['–', '12,345', '0.25', '0.000125', '3']
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"


def _short(value: float) -> str:
    return f"{value / 1000:,.4g}k" if value >= 10_000 else number(value)


def _end(values: Sequence[Value], least: float = 1e-12) -> float:
    """Return a round number that none is above."""
    highest = max([value for value in values if value is not None], default=0.0)
    step = _round_step(max(highest, least) / _TICKS)
    return step * math.ceil(highest / step - 1e-9) or step


def bars(
    names: Sequence[str],
    values: Sequence[Sequence[Value]],
    said: Sequence[str],
    *,
    end: float | None = None,
    intervals: Sequence[tuple[float, float]] = (),
) -> Plot:
    """Draw a bar per name, of a part per series, with a few words behind it.

    Args:
        names: [N].
        values: [N, S], laid end to end.
        said: [N].
        end: Of the axis; the next round number where None.
        intervals: [N], marked on the bars; or none.
    """
    totals = [sum(value or 0 for value in row) for row in values]
    axis = Axis(end or _end(totals), _NAMES, WIDTH - _SAID)
    reach = [max(pair) for pair in zip(totals, (high for _, high in intervals), strict=True)] if intervals else totals
    words, rects = [], []
    for index, (name, row, text) in enumerate(zip(names, values, said, strict=True)):
        top = _TOP + index * _ROW
        rects += _parts(axis, top, row, f"{name}: {text}")
        words.append(Words(x=_NAMES - 8, y=top + 15, text=name, anchor="end"))
        words.append(Words(x=axis.at(reach[index]) + 6, y=top + 15, text=text, anchor="start"))
    foot = _TOP + len(names) * _ROW
    marks = [_whiskers(axis, _TOP + index * _ROW, *span) for index, span in enumerate(intervals)]
    return Plot(height=foot + 4, grid=[f"M{_NAMES} {_TOP - 4}V{foot}"], words=words, rects=rects, marks=marks)


def _parts(axis: Axis, top: float, values: Sequence[Value], title: str) -> list[Shape]:
    parts, done = [], 0.0
    for series, value in enumerate(values):
        left, right = axis.at(done), axis.at(done + (value or 0))
        if right > left:
            shape = Shape(series=series, x=left, y=top, width=right - left, height=_ROW - _GAP, title=title)
            parts.append(shape)
        done += value or 0
    return parts


def _whiskers(axis: Axis, top: float, low: float, high: float) -> str:
    middle, left, right = top + (_ROW - _GAP) / 2, axis.at(low), axis.at(high)
    return f"M{left} {middle - 5}v10M{left} {middle}H{right}M{right} {middle - 5}v10"


def histogram(edges: Sequence[float], counts: Sequence[Sequence[int]], series: Sequence[str], x: str, y: str) -> Plot:
    """Draw counts of bins side by side.

    Args:
        edges: [B + 1], ascending from 0.
        counts: [S, B].
        series: [S], their names.
        x: What is counted over.
        y: What is counted.
    """
    across, up, height = _axes(edges[-1], _end([value for row in counts for value in row]))
    rects = []
    for place, (name, row) in enumerate(zip(series, counts, strict=True)):
        for low, high, count in zip(edges, edges[1:], row, strict=False):
            width = (across.at(high) - across.at(low)) / len(series)
            top = up.at(count)
            title = f"{name}, {number(low)} to {number(high)}: {number(count)}"
            left = across.at(low) + place * width
            shape = Shape(series=place, x=left, y=top, width=width, height=up.start - top, title=title)
            rects.append(shape)
    grid, words = _frame(across, up, x, y)
    return Plot(height=height, grid=grid, words=words, rects=rects)


def scatter(points: Sequence[tuple[float, float, str]], x: str, y: str) -> Plot:
    """Draw points of the unit square with a line where both are equal; each is (x, y, title)."""
    across, up, height = _axes(1.0, 1.0)
    grid, words = _frame(across, up, x, y)
    line = " ".join(f"{across.at(left)},{up.at(top)}" for left, top, _ in points)
    return Plot(
        height=height,
        grid=grid,
        words=words,
        lines=[Shape(series=0, points=line)],
        dots=[Shape(series=0, x=across.at(left), y=up.at(top), title=title) for left, top, title in points],
        marks=[f"M{across.at(0)} {up.at(0)}L{across.at(1)} {up.at(1)}"],
    )


def lines(xs: Sequence[float], ys: Sequence[Sequence[Value]], x: str, y: str) -> Plot:
    """Draw a line per series; a None leaves its point out.

    Args:
        xs: [N], ascending.
        ys: [S, N].
        x: What the first axis is.
        y: What the second is.
    """
    across, up, height = _axes(xs[-1], _end([value for row in ys for value in row]))
    grid, words = _frame(across, up, x, y)
    drawn = [
        " ".join(f"{across.at(at)},{up.at(value)}" for at, value in zip(xs, row, strict=True) if value is not None)
        for row in ys
    ]
    shapes = [Shape(series=series, points=points) for series, points in enumerate(drawn) if points]
    return Plot(height=height, grid=grid, words=words, lines=shapes)


def _axes(x_end: float, y_end: float) -> tuple[Axis, Axis, float]:
    height = 250.0
    return Axis(x_end, _LEFT, WIDTH - _RIGHT), Axis(y_end, height - _BOTTOM, _TOP), height


def _frame(across: Axis, up: Axis, x: str, y: str) -> tuple[list[str], list[Words]]:
    grid = [f"M{across.start} {up.at(tick)}H{across.end_at}" for tick in up.ticks]
    words = [Words(x=_LEFT - 6, y=up.at(tick) + 4, text=_short(tick), anchor="end") for tick in up.ticks]
    words += [Words(x=across.at(tick), y=up.start + 18, text=_short(tick)) for tick in across.ticks]
    words.append(Words(x=(across.start + across.end_at) / 2, y=up.start + 37, text=x))
    words.append(Words(x=14, y=(up.start + up.end_at) / 2, text=y, turned=True))
    return grid, words
