"""Where the signal of a training data set went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa

from vcrd.records import IGNORED

SUMMARY_COLUMNS = ("target", "labels", "token_weights", "student_validity", "teacher_validity")
_PROPOSERS = ("student", "teacher")


def summarise_training(batches: Iterable[pa.RecordBatch]) -> dict[str, Any]:
    """Say where the signal of a training data set went.

    Args:
        batches: Its `SUMMARY_COLUMNS`, some rows at a time.
    """
    sums: Counter[str] = Counter()
    for batch in batches:
        supervised = batch["labels"].flatten().to_numpy(zero_copy_only=False) != IGNORED
        weights = batch["token_weights"].flatten().to_numpy(zero_copy_only=False)[supervised]
        sums["rows"] += batch.num_rows
        sums["tokens"] += len(weights)
        sums["weight"] += weights.sum(dtype=np.float64)
        sums["zeros"] += int((weights == 0).sum())
        targets = np.asarray(batch["target"].to_numpy(zero_copy_only=False))
        for name in _PROPOSERS:
            sums[name] += int((targets == name).sum())
            values = batch[f"{name}_validity"].to_numpy(zero_copy_only=False)
            sums[f"{name}_validity"] += values.sum(dtype=np.float64)
    return {
        "supervised_tokens": sums["tokens"],
        "mean_weight": round(float(sums["weight"] / sums["tokens"]), 9),
        "share_of_zero_weights": round(sums["zeros"] / sums["tokens"], 6),
        "targets": {name: sums[name] for name in _PROPOSERS},
        "mean_validity": {name: round(float(sums[f"{name}_validity"] / sums["rows"]), 6) for name in _PROPOSERS},
    }
