"""What a report is made from, and the figures that it gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from vcrd.examples import BINS, SignalCounts, signal_figures
from vcrd.io.manifest import Manifest
from vcrd.records import TrainingExample
from vcrd.report.tokens import StageTokens
from vcrd.training.curve import CurvePoint

MAX_EXAMPLES = 40
_NEAR_ZERO = 0.03
_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a report is made from.

    Attributes:
        preset: Name of the run.
        seed: Of the run.
        manifests: Of every artefact, in the order of the stages.
        evaluation: Accuracy by model.
        judged: How good the validity estimates are, on the judge problems.
        prm: How the process reward model came about.
        signal: Where the signal went.
        tokens: Of the stages that run a model.
        curves: Of the student's and the process reward model's training, by artefact; empty where there was none.
        examples: A few training examples.
    """

    preset: str
    seed: int
    manifests: Sequence[Manifest]
    evaluation: Mapping[str, Mapping[str, Any]]
    judged: Mapping[str, Any]
    prm: str
    signal: SignalCounts
    tokens: Sequence[StageTokens]
    curves: Mapping[str, Sequence[CurvePoint]]
    examples: Sequence[TrainingExample]


def summarise_run(findings: Findings) -> dict[str, Any]:
    """Return the figures of a run as plain values."""
    before, after = findings.evaluation["before"], findings.evaluation["after"]
    return {
        "preset": findings.preset,
        "seed": findings.seed,
        "models": dict(findings.evaluation),
        "gain": round(after["accuracy"] - before["accuracy"], _DIGITS),
        "verdict": verdict(before, after),
        "stages": [
            {
                "stage": manifest.stage,
                "artefact": manifest.artefact,
                "expected": manifest.expected,
                "written": manifest.rows,
                "rejected": manifest.rejects,
            }
            for manifest in findings.manifests
        ],
        "tokens": [asdict(item) for item in findings.tokens],
        "process_reward_model": findings.prm,
        "reliability": dict(findings.judged),
        "training": signal_figures(findings.signal),
        "histograms": histograms(findings.signal),
        "curves": {name: [_finite(point) for point in points] for name, points in findings.curves.items()},
    }


def _finite(point: CurvePoint) -> dict[str, float | None]:
    """Return a point's values; None for what a training that went astray may have."""
    return {name: value if value is None or math.isfinite(value) else None for name, value in asdict(point).items()}


def histograms(signal: SignalCounts) -> dict[str, list[dict[str, float]]]:
    """Return a row per bin: where it begins and ends, and what is in it of each proposer's steps, or of tokens."""

    def rows(end: float, **counts: Any) -> list[dict[str, float]]:
        edges = [round(float(edge), _DIGITS) for edge in np.linspace(0, end, BINS + 1)]
        return [
            {"from": low, "to": high, **{name: int(values[index]) for name, values in counts.items()}}
            for index, (low, high) in enumerate(pairwise(edges))
        ]

    return {"validity": rows(1.0, **signal.validities), "weights": rows(signal.w_max, tokens=signal.weights)}


def verdict(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Say in a sentence what the accuracies allow to say, and no more."""
    gain = after["accuracy"] - before["accuracy"]
    if max(before["accuracy"], after["accuracy"]) < _NEAR_ZERO:
        return "Accuracy is near zero before and after: this run shows that the data goes through, not that it teaches."
    if after["low"] > before["high"]:
        return f"The student gained {gain:+.3f}; the intervals do not overlap."
    if after["high"] < before["low"]:
        return f"The student lost {gain:+.3f}; the intervals do not overlap."
    return f"The difference of {gain:+.3f} is within the intervals: nothing is shown."
