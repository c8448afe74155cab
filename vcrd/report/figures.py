"""The charts of a report, drawn from its summary alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vcrd.report.charts import Chart, Plot, bars, histogram, lines, number, scatter
from vcrd.report.tables import MODEL_NAMES
from vcrd.report.tokens import TOKEN_KINDS

Summary = Mapping[str, Any]
_CURVE_ROWS = 25
"""So many points of a curve are in its table at most, the last among them; the CSV beside the page has all."""
_CURVE = ("loss", "nll", "kl")
_CURVE_NAMES = {"loss": "loss", "nll": "NLL", "kl": "KL"}


def charts_of(summary: Summary) -> dict[str, Chart]:
    """Return the charts that there are numbers for, by name."""
    found = {
        "accuracy": _accuracy(summary["models"]),
        "funnel": _funnel(summary["stages"]),
        "tokens": _tokens(summary["tokens"]),
        "validity": _validity(summary["histograms"]["validity"]),
        "weights": _weights(summary["histograms"]["weights"]),
    }
    if summary["reliability"]["diagram"]:
        found["reliability"] = _reliability(summary["reliability"]["diagram"])
    if student := summary["curves"]["student"]:
        names = [name for name in _CURVE if any(point[name] is not None for point in student)]
        found["student_curve"] = _curve(student, names, "Training of the student", "nats")
        found["learning_rate"] = _curve(student, ["learning_rate"], "Learning rate of the student", "learning rate")
    if prm := summary["curves"]["prm"]:
        found["prm_curve"] = _curve(prm, ["loss"], "Training of the process reward model", "loss in nats")
    return found


def _accuracy(models: Mapping[str, Summary]) -> Chart:
    values, spans = list(models.values()), [(item["low"], item["high"]) for item in models.values()]
    names, said = [MODEL_NAMES[name] for name in models], [f"{item['accuracy']:.3f}" for item in values]
    plot = bars(names, [[item["accuracy"]] for item in values], said, end=1.0, intervals=spans)
    intervals = [f"{low:.3f} to {high:.3f}" for low, high in spans]
    told = ", ".join(f"{name} {text} ({span})" for name, text, span in zip(names, said, intervals, strict=True))
    problems = [number(item["n"]) for item in values]
    rows = list(zip(names, said, intervals, problems, strict=True))
    columns = ("model", "accuracy", "95 % interval", "problems")
    return _chart("Accuracy before and after", told, plot, columns, rows)


def _funnel(stages: Sequence[Summary]) -> Chart:
    rejected = [item["expected"] - item["written"] for item in stages]
    names = [item["stage"] for item in stages]
    said = [
        f"{item['written']:,}" + (f", {lost:,} rejected" if lost else "")
        for item, lost in zip(stages, rejected, strict=True)
    ]
    plot = bars(names, [[item["written"], lost] for item, lost in zip(stages, rejected, strict=True)], said)
    rows = [[item["stage"], number(item["expected"]), number(item["written"]), _reasons(item)] for item in stages]
    told = f"{sum(rejected):,} rows rejected by {sum(lost > 0 for lost in rejected)} of {len(stages)} stages"
    columns = ("stage", "expected", "written", "rejected")
    return _chart("Rows written and rejected", told, plot, columns, rows, ("written", "rejected"))


def _reasons(item: Summary) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in item["rejected"].items()) or "none"


def _tokens(stages: Sequence[Summary]) -> Chart:
    names, values = [item["stage"] for item in stages], [[item[kind] for kind in TOKEN_KINDS] for item in stages]
    totals = [sum(value or 0 for value in row) for row in values]
    plot = bars(names, values, [number(total) for total in totals])
    told = "; ".join(
        f"{name} " + ", ".join(f"{value:,} {kind}" for kind, value in zip(TOKEN_KINDS, row, strict=True) if value)
        for name, row in zip(names, values, strict=True)
    )
    rows = [[name, *map(number, row)] for name, row in zip(names, values, strict=True)]
    return _chart("Tokens of each stage", told, plot, ("stage", *TOKEN_KINDS), rows, TOKEN_KINDS)


def _validity(bins: Sequence[Summary]) -> Chart:
    series = ("student", "teacher")
    plot = _histogram(bins, series, "local validity", "steps")
    told = "; ".join(f"{name}'s steps: {_halves(bins, name, 0.5)}" for name in series)
    legend = [f"{name}’s steps" for name in series]
    return _chart("Local validity", told, plot, ("from", "to", *series), _bin_rows(bins), legend)


def _weights(bins: Sequence[Summary]) -> Chart:
    plot = _histogram(bins, ("tokens",), "token weight", "supervised tokens")
    told = f"supervised tokens: {_halves(bins, 'tokens', bins[-1]['to'] / 2)}"
    return _chart("Token weights", told, plot, ("from", "to", "tokens"), _bin_rows(bins))


def _halves(bins: Sequence[Summary], name: str, middle: float) -> str:
    below = sum(item[name] for item in bins if item["to"] <= middle)
    above = sum(item[name] for item in bins) - below
    return f"{below:,} below {number(middle)}, {above:,} from there on"


def _histogram(bins: Sequence[Summary], series: Sequence[str], x: str, y: str) -> Plot:
    edges = [0.0, *(item["to"] for item in bins)]
    return histogram(edges, [[item[name] for item in bins] for name in series], series, x, y)


def _bin_rows(bins: Sequence[Summary]) -> list[list[str]]:
    return [[number(value) for value in item.values()] for item in bins]


def _reliability(diagram: Sequence[Summary]) -> Chart:
    def title(item: Summary) -> str:
        return f"{item['n']} steps: estimated {item['mean_probability']:.3f}, sound {item['share_sound']:.3f}"

    points = [(item["mean_probability"], item["share_sound"], title(item)) for item in diagram]
    plot = scatter(points, "estimated local validity", "share of sound steps")
    apart = max(abs(estimated - sound) for estimated, sound, _ in points)
    told = f"{len(points)} bins of equal size; none is more than {apart:.3f} off the line where both are equal"
    columns = ("steps", "estimated", "sound", "from", "to")
    keys = ("n", "mean_probability", "share_sound", "lowest", "highest")
    return _chart("Reliability diagram", told, plot, columns, [[number(item[key]) for key in keys] for item in diagram])


def _curve(points: Sequence[Summary], names: Sequence[str], title: str, unit: str) -> Chart:
    values = [[item[name] for item in points] for name in names]
    plot = lines([item["step"] for item in points], values, "optimiser step", unit)
    called = [_CURVE_NAMES.get(name, name.replace("_", " ")) for name in names]
    ends = ((called[at], points[0][name], points[-1][name]) for at, name in enumerate(names))
    told = f"over {points[-1]['step']:,} steps: " + ", ".join(
        f"{name} from {number(first)} to {number(last)}" for name, first, last in ends
    )
    every = -(-len(points) // _CURVE_ROWS)
    some = points[(len(points) - 1) % every :: every]
    rows = [[number(item[name]) for name in ("step", *names)] for item in some]
    return _chart(title, told, plot, ("step", *called), rows, called if len(called) > 1 else ())


def _chart(
    title: str, told: str, plot: Plot, columns: Sequence[str], rows: Sequence[Sequence[str]], series: Sequence[str] = ()
) -> Chart:
    return Chart(title=title, label=f"{title}: {told}.", plot=plot, columns=columns, rows=rows, series=series)
