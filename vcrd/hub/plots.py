"""The card's pictures: small PNGs that are the same bytes for the same data."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from vcrd.examples import BINS
from vcrd.hub.facts import Facts

VALIDITY, WEIGHTS, RELIABILITY, REJECTS = "validity.png", "weights.png", "reliability.png", "rejects.png"
_STUDENT, _TEACHER = "#0072b2", "#e69f00"


def plot_names(facts: Facts) -> list[str]:
    """Return the names of the pictures that can be drawn."""
    signal = [VALIDITY, WEIGHTS] if facts.signal is not None else []
    judged = [RELIABILITY] if facts.judged.get("diagram") else []
    return [*signal, *judged, *([REJECTS] if facts.rejects else [])]


def draw(facts: Facts) -> dict[str, bytes]:
    """Return name -> picture."""
    found, signal = {}, facts.signal
    if signal is not None:
        student, teacher = signal.validities["student"], signal.validities["teacher"]
        both = {"student": (student, _STUDENT), "teacher": (teacher, _TEACHER)}
        found[VALIDITY] = _histogram(both, 1.0, "local validity", "steps")
        found[WEIGHTS] = _histogram({"weights": (signal.weights, _STUDENT)}, signal.w_max, "token weight", "tokens")
    if facts.judged.get("diagram"):
        found[RELIABILITY] = _diagram(facts.judged["diagram"])
    if facts.rejects:
        found[REJECTS] = _bars(facts.rejects)
    return found


def _figure(height: float = 3.0, left: float = 0.15) -> tuple[Any, Any]:
    """Make a picture 5 inches wide; `height` in inches, `left` the share of the width before the axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, height), dpi=120)
    FigureCanvasAgg(figure)
    foot, head = 0.5 / height, 0.12 / height
    return figure, figure.add_axes((left, foot, 0.97 - left, 1 - foot - head))


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _histogram(series: Mapping[str, tuple[Any, str]], end: float, what: str, counted: str) -> bytes:
    figure, axes = _figure()
    width = end / BINS / len(series)
    for place, (name, (counts, colour)) in enumerate(series.items()):
        axes.bar(np.arange(BINS) * end / BINS + place * width, counts, width, align="edge", color=colour, label=name)
    axes.set(xlim=(0, end), xlabel=what, ylabel=counted)
    if len(series) > 1:
        axes.legend()
    return _png(figure)


def _diagram(bins: list[Mapping[str, float]]) -> bytes:
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    axes.plot(
        [row["mean_probability"] for row in bins], [row["share_sound"] for row in bins], marker="o", color=_STUDENT
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="local validity", ylabel="share of sound steps")
    return _png(figure)


def _bars(rejects: Mapping[str, Mapping[str, int]]) -> bytes:
    """Draw a bar for each reason of each artefact."""
    rows = [(f"{name}: {reason}", count) for name, reasons in rejects.items() for reason, count in reasons.items()]
    figure, axes = _figure(height=0.75 + 0.25 * len(rows), left=0.5)
    places = np.arange(len(rows))
    drawn = axes.barh(places, [count for _, count in rows], color=_STUDENT)
    axes.bar_label(drawn, padding=3, fontsize="small")
    # A reason is text: what looks like a formula in it is none.
    axes.set_yticks(places, [name for name, _ in rows], parse_math=False, fontsize="small")
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="rejected rows")
    return _png(figure)
