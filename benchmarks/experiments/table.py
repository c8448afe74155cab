"""The table of results: per domain every method's mean over runs, and how far the default lies above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.experiments.records import Run
from benchmarks.experiments.statistics import Interval, bootstrap, holm, paired
from benchmarks.rivals import COMPARED, DEFAULT, METHODS, RIVALS, SAME_TARGETS

BEGIN, END = "<!-- quality table: python -m benchmarks.experiments report -->", "<!-- end of the quality table -->"

ByMethod = Mapping[str, Mapping[tuple[int, int], float]]


@dataclass(frozen=True, slots=True)
class Line:
    """A method in a domain; `margin` is the default minus it, and `p_holm` is of the rivals alone."""

    method: str
    accuracy: Interval
    step_validity: float
    generated_tokens: int
    margin: Interval | None
    p_holm: float | None


def by_method(runs: Sequence[Run], domain: str, measure: str = "accuracy") -> ByMethod:
    """Return method -> (pre-training seed, distillation seed) -> measure."""
    found: dict[str, dict[tuple[int, int], float]] = {}
    for run in runs:
        if run.domain == domain:
            found.setdefault(run.method, {})[run.pretrain_seed, run.distill_seed] = getattr(run, measure)
    return found


def margins(accuracies: ByMethod) -> dict[str, Interval]:
    """Return for every method the default minus it, over the runs that both have."""
    default = accuracies.get(DEFAULT, {})
    differences = {name: paired(default, accuracies[name]) for name in accuracies if name != DEFAULT}
    return {name: bootstrap(values) for name, values in differences.items() if len(values)}


def lines_of(runs: Sequence[Run], domain: str) -> list[Line]:
    """Return the lines of a domain, in the order of the registry."""
    accuracies, steps = by_method(runs, domain), by_method(runs, domain, "step_validity")
    tokens = by_method(runs, domain, "generated_tokens")
    found = margins(accuracies)
    adjusted = holm({name: found[name].p for name in RIVALS if name in found})
    return [
        Line(
            method=name,
            accuracy=bootstrap(list(accuracies[name].values())),
            step_validity=_mean(steps[name]),
            generated_tokens=round(_mean(tokens[name])),
            margin=found.get(name),
            p_holm=adjusted.get(name),
        )
        for name in (*COMPARED, SAME_TARGETS)
        if name in accuracies
    ]


def _mean(values: Mapping[tuple[int, int], float]) -> float:
    return sum(values.values()) / len(values)


def markdown(runs: Sequence[Run], domains: Sequence[str]) -> str:
    """Write the table of all domains, between its markers."""
    parts = [BEGIN]
    for domain in domains:
        if lines := lines_of(runs, domain):
            parts += ["", *_domain(domain, lines)]
    return "\n".join([*parts, "", END])


def _domain(domain: str, lines: Sequence[Line]) -> list[str]:
    runs = min(line.accuracy.n for line in lines)
    head = f"`{domain}`, n {runs}" if runs == max(line.accuracy.n for line in lines) else f"`{domain}`"
    rows = [
        f"| {head} | accuracy | sound steps | tokens generated | default minus it | p (Holm) |",
        "|---|---|---|---|---|---|",
    ]
    for line in lines:
        bold = "**" if line.method == DEFAULT else ""
        few = "" if line.accuracy.n == runs else f" (n {line.accuracy.n})"
        rows.append(
            f"| {bold}{METHODS[line.method].title}{bold}{few} | {_shown(line.accuracy, '.3f')} "
            f"| {line.step_validity:.3f} | {line.generated_tokens / 1000:,.0f} k "
            f"| {_shown(line.margin, '+.3f')} | {'' if line.p_holm is None else f'{line.p_holm:.4f}'} |"
        )
    return rows


def _shown(interval: Interval | None, form: str) -> str:
    if interval is None:
        return ""
    if interval.n < 2:
        return f"{interval.mean:{form}}"
    return f"{interval.mean:{form}} ({interval.low:{form}} to {interval.high:{form}})"


def replaced(text: str, table: str) -> str:
    """Return a text with the table between its markers replaced; one without markers is left as it is."""
    if BEGIN not in text or END not in text:
        return text
    before, _, rest = text.partition(BEGIN)
    return before + table + rest.partition(END)[2]
