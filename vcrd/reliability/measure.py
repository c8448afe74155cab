"""How good probabilities are against labels: scores with intervals, and the reliability diagram.

Intervals are percentiles of a bootstrap over groups: steps of one problem are no independent samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcrd.metrics import auroc, brier, expected_calibration_error, log_loss
from vcrd.reliability.table import EvidenceTable, Floats

BINS = 10
_RESAMPLES = 500
_MEASURES: dict[str, Callable[[Floats, Floats], float | None]] = {
    "brier": brier,
    "log_loss": log_loss,
    "ece": lambda probabilities, labels: expected_calibration_error(probabilities, labels, BINS),
    "auroc": auroc,
}


def raw_estimates(evidence: EvidenceTable) -> dict[str, Floats]:
    """Return what each single source says, [N] each, nan where it says nothing: scores as they are, (s+1/2)/(n+1)."""
    estimates = {name: score.copy() for name, score in evidence.scores.items() if not np.isnan(score).all()}
    if (evidence.trials > 0).any():
        shares = (evidence.successes + 0.5) / (evidence.trials + 1)
        estimates["completions"] = np.where(evidence.trials > 0, shares, np.nan)
    return estimates


def measure(
    probabilities: Floats, labels: Floats, groups: NDArray[np.str_], prefixes: NDArray[np.str_] | None = None
) -> dict[str, Any]:
    """Measure probabilities against labels where both are known.

    Args:
        probabilities: [N], nan where there is none.
        labels: [N], 0 or 1, nan where there is none.
        groups: [N], what is drawn together.
        prefixes: [N], for the accuracy of pairs under one prefix.

    Returns:
        n, base_rate, and value, low, high (95 %) of brier, log_loss, ece and auroc; pairs where prefixes are given.
    """
    known = ~np.isnan(probabilities) & ~np.isnan(labels)
    given, truth = probabilities[known], labels[known]
    found: dict[str, Any] = {"n": int(known.sum()), "base_rate": _rounded(truth.mean()) if len(truth) else None}
    draws: dict[str, list[float]] = {name: [] for name in _MEASURES}
    for rows in resamples(groups[known]):
        drawn, of_drawn = given[rows], truth[rows]
        for name, function in _MEASURES.items():
            if (value := function(drawn, of_drawn)) is not None:
                draws[name].append(value)
    for name, function in _MEASURES.items():
        found[name] = _interval(function(given, truth) if len(given) else None, draws[name])
    if prefixes is not None:
        found["pairs"] = pair_accuracy(given, truth, prefixes[known])
    return found


def resamples(groups: NDArray[np.str_]) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each bootstrap sample over groups, the same ones each time; all at once would be gigabytes."""
    if not len(groups):
        return
    _, index = np.unique(groups, return_inverse=True)
    order = np.argsort(index, kind="stable")
    sizes = np.bincount(index)
    firsts = np.cumsum(sizes) - sizes
    rng = np.random.default_rng(0)
    for _ in range(_RESAMPLES):
        drawn = rng.integers(len(sizes), size=len(sizes))
        counts = sizes[drawn]
        yield order[np.arange(counts.sum()) + np.repeat(firsts[drawn] - np.cumsum(counts) + counts, counts)]


def brier_difference(first: Floats, second: Floats, labels: Floats, groups: NDArray[np.str_]) -> dict[str, Any]:
    """Return Brier(first) - Brier(second) with its interval, on the steps that have both and a label."""
    known = ~np.isnan(first) & ~np.isnan(second) & ~np.isnan(labels)
    gaps = (first[known] - labels[known]) ** 2 - (second[known] - labels[known]) ** 2
    draws = [float(gaps[rows].mean()) for rows in resamples(groups[known])]
    return {"n": int(known.sum()), **_interval(float(gaps.mean()) if len(gaps) else None, draws)}


def pair_accuracy(probabilities: Floats, labels: Floats, prefixes: NDArray[np.str_]) -> dict[str, Any]:
    """Return how often, of a sound and an unsound step under one prefix, the sound one has the higher probability.

    Ties count half.
    """
    by_prefix: dict[str, tuple[list[float], list[float]]] = {}
    for prefix, probability, label in zip(prefixes.tolist(), probabilities.tolist(), labels.tolist(), strict=True):
        by_prefix.setdefault(prefix, ([], []))[int(label)].append(probability)
    pairs = [(good, bad) for bads, goods in by_prefix.values() for good in goods for bad in bads]
    right = sum((good > bad) + 0.5 * (good == bad) for good, bad in pairs)
    return {"n": len(pairs), "accuracy": _rounded(right / len(pairs)) if pairs else None}


def diagram(probabilities: Floats, labels: Floats, bins: int = BINS) -> list[Mapping[str, float]]:
    """Return the reliability diagram: per bin of equal mass n, mean probability, share of sound steps."""
    known = ~np.isnan(probabilities) & ~np.isnan(labels)
    given, truth = probabilities[known], labels[known]
    order = np.argsort(given, kind="stable")
    return [
        {
            "bin": number,
            "n": len(rows),
            "lowest": _rounded(given[rows].min()),
            "highest": _rounded(given[rows].max()),
            "mean_probability": _rounded(given[rows].mean()),
            "share_sound": _rounded(truth[rows].mean()),
        }
        for number, rows in enumerate(np.array_split(order, bins))
        if len(rows)
    ]


def _interval(value: float | None, draws: list[float]) -> dict[str, float | None]:
    if value is None or not draws:
        return {"value": None if value is None else _rounded(value), "low": None, "high": None}
    low, high = np.percentile(draws, (2.5, 97.5))
    return {"value": _rounded(value), "low": _rounded(low), "high": _rounded(high)}


def _rounded(value: float) -> float:
    return round(float(value), 6)
