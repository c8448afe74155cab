"""What holds over all rows of `training`: weights of mean 1, all of one scale.

Axis letter: R rows of all shards.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from vcrd.rows import TokenView
from vcrd.validate.findings import Findings, Place

_MEAN = 1e-5
_SCALE = 1e-5


class CorpusChecks:
    """Takes rows, of which it keeps weight, strength and number of supervised tokens."""

    def __init__(self, findings: Findings, w_max: float | None) -> None:
        self._findings, self._w_max = findings, w_max
        self._parts: list[tuple[Place, Any, Any, Any]] = []

    def add(self, table: pa.Table, view: TokenView, place: Place) -> None:
        """Take some rows; all tokens of a step have the weight of the last one."""
        weights_R = np.asarray(view.last_weights_R, np.float32)
        strengths_R = table.column("step_strength").to_numpy().astype(np.float32)
        self._parts.append((place, weights_R, strengths_R, view.supervised_R.astype(np.int32)))

    def finish(self) -> None:
        """Check mean and scale; a row that has another scale than most is named."""
        if not self._parts:
            self._findings.fault("mean weight", "there are no rows")
            return
        weights_R, strengths_R, tokens_R = (
            np.concatenate([part[index] for part in self._parts]).astype(np.float64) for index in (1, 2, 3)
        )
        total = tokens_R.sum()
        mean = float((weights_R * tokens_R).sum() / total) if total else float("nan")
        self._findings.details["mean weight"] = f"{mean:.7f} over {int(total)} supervised tokens"
        if not abs(mean - 1) <= _MEAN:
            message = f"expected a mean of 1 over the supervised tokens of all shards, got {mean:.7f}"
            self._findings.fault("mean weight", message, column="token_weights")
        self._check_scale(weights_R, strengths_R)

    def _check_scale(self, weights_R: Any, strengths_R: Any) -> None:
        cap = self._w_max if self._w_max is not None else float(weights_R.max())
        free_R = (strengths_R > 0) & (weights_R > 0) & (weights_R < cap * (1 - _SCALE))
        if free_R.any():
            scale = float(np.median(weights_R[free_R] / strengths_R[free_R]))
        else:
            weighing_R = (weights_R > 0) & (strengths_R > 0)
            scale = cap / float(strengths_R[weighing_R].min()) if weighing_R.any() else 0.0
        self._findings.holds("weight scale", f"min({scale:.6g} * step_strength, {cap:g})")
        with np.errstate(invalid="ignore"):  # 0 * inf is no weight, and is told as such
            expected_R = np.minimum(scale * strengths_R, cap)
        wrong_R = ~(abs(weights_R - expected_R) <= _SCALE * expected_R + 1e-9)
        ends = list(accumulate(len(part[1]) for part in self._parts))
        for (place, mine_R, _, _), end in zip(self._parts, ends, strict=True):
            message = f"expected min({scale:.6g} * step_strength, {cap:g})"
            place.refuse("weight scale", "token_weights", wrong_R[end - len(mine_R) : end], message)
