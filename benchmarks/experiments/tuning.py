"""The learning rate of every method, by accuracy on the development set: the same grid for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.experiments.records import Run
from benchmarks.experiments.sizes import Size


def best_rates(runs: Sequence[Run], size: Size) -> dict[str, Any]:
    """Return each method's best learning rate (the lower of two that are equal), and what it was chosen by."""
    tried: dict[str, dict[float, float]] = {}
    for run in sorted(runs, key=lambda item: item.learning_rate):
        tried.setdefault(run.method, {})[run.learning_rate] = run.accuracy
    return {
        "tuned_on": {
            "set": "development",
            "pretrain_seed": size.pretrain_seeds[0],
            "distill_seed": size.distill_seeds[0],
            "n": runs[0].n if runs else 0,
        },
        "learning_rates": {name: max(rates, key=lambda rate: rates[rate]) for name, rates in tried.items()},
        "accuracy": {
            name: {f"{rate:g}": round(accuracy, 4) for rate, accuracy in rates.items()} for name, rates in tried.items()
        },
    }
