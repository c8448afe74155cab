"""Where the signal of a training data set went: counts and histograms, for metrics, report and card alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcrd.records import IGNORED

SUMMARY_COLUMNS = ("target", "labels", "token_weights", "student_validity", "teacher_validity")
BINS = 20
W_MAX = 4.0
PROPOSERS = ("student", "teacher")


def _no_counts() -> NDArray[np.int64]:
    return np.zeros(BINS, np.int64)


@dataclass(slots=True, kw_only=True)
class SignalCounts:
    """What was counted of a training data set.

    Attributes:
        w_max: End of the weights' histogram, which begins at 0; what lies above is in its last bin.
        rows: Examples.
        input_tokens: Of prefixes and targets.
        tokens: Supervised ones.
        weight: Sum over them.
        zero: Those that weigh nothing.
        targets: Examples by whose step is learned.
        validity_sums: Of both proposers' local validities.
        validities: Both proposers' steps in `BINS` bins over [0, 1].
        weights: Supervised tokens in `BINS` bins over [0, w_max].
    """

    w_max: float = W_MAX
    rows: int = 0
    input_tokens: int = 0
    tokens: int = 0
    weight: float = 0.0
    zero: int = 0
    targets: Counter[str] = field(default_factory=Counter)
    validity_sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PROPOSERS, 0.0))
    validities: dict[str, NDArray[np.int64]] = field(default_factory=lambda: {name: _no_counts() for name in PROPOSERS})
    weights: NDArray[np.int64] = field(default_factory=_no_counts)


def count_signal(batches: Iterable[pa.RecordBatch], w_max: object = W_MAX) -> SignalCounts:
    """Go through a training data set once.

    Args:
        batches: Its `SUMMARY_COLUMNS`, some rows at a time.
        w_max: The cap of `weights.w_max`; what is no positive number is as if the default were given.
    """
    known = isinstance(w_max, int | float) and w_max > 0
    found = SignalCounts(w_max=float(w_max) if known else W_MAX)  # type: ignore[arg-type]
    for batch in batches:
        labels = batch["labels"].flatten().to_numpy(zero_copy_only=False)
        weights = batch["token_weights"].flatten().to_numpy(zero_copy_only=False)[labels != IGNORED]
        found.rows += batch.num_rows
        found.input_tokens += len(labels)
        found.tokens += len(weights)
        found.weight += float(weights.sum(dtype=np.float64))
        found.zero += int((weights == 0).sum())
        found.weights += _histogram(weights, found.w_max)
        found.targets.update(batch["target"].to_pylist())
        for name, counts in found.validities.items():
            values = batch[f"{name}_validity"].to_numpy(zero_copy_only=False)
            found.validity_sums[name] += float(values.sum(dtype=np.float64))
            counts += _histogram(values, 1.0)
    return found


def _histogram(values: NDArray[Any], end: float) -> NDArray[np.int64]:
    # A 32-bit cap may lie above the same number in 64 bits, and would fall out of the last bin.
    counts = np.histogram(np.minimum(values.astype(np.float64), end), BINS, (0.0, end))[0]
    return counts.astype(np.int64)


def summarise_training(batches: Iterable[pa.RecordBatch]) -> dict[str, Any]:
    """Say where the signal of a training data set went.

    Args:
        batches: Its `SUMMARY_COLUMNS`, some rows at a time.
    """
    return signal_figures(count_signal(batches))


def signal_figures(found: SignalCounts) -> dict[str, Any]:
    """Return the figures of what was counted, rounded, without its histograms."""
    tokens, rows = max(found.tokens, 1), max(found.rows, 1)
    return {
        "supervised_tokens": found.tokens,
        "mean_weight": round(found.weight / tokens, 9),
        "share_of_zero_weights": round(found.zero / tokens, 6),
        "targets": {name: found.targets[name] for name in PROPOSERS},
        "mean_validity": {name: round(found.validity_sums[name] / rows, 6) for name in PROPOSERS},
    }
