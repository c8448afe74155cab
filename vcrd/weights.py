"""Token weights: the total amount of learning signal is kept, it is allocated, not enlarged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from vcrd.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightParams:
    """From strengths to weights, and which rows are written."""

    w_max: Annotated[float, Gt(1)]
    """No token weighs more than this (the mean is 1)."""
    broken_prefixes: Literal["keep", "drop"]
    """What becomes of a row whose prefix is broken; drop makes it a reject."""
    max_length: Annotated[int, Ge(2)]
    """Rows of more tokens are rejects; nothing is truncated."""
    teacher_signal: Literal["plain", "compact"]
    """plain: three list columns that any tool reads; compact: under half the bytes, read by vcrd.storage."""
    keep_mass: Annotated[float, Gt(0), Le(1)] | None
    """Of the compact form: keep the fewest candidates per token that hold this mass; null keeps all."""

    def __post_init__(self) -> None:
        """Refuse what would be ignored."""
        if self.keep_mass is not None and self.teacher_signal == "plain":
            raise ConfigError("weights.keep_mass needs weights.teacher_signal: compact; set it to null, or set that")


def solve_scale(strengths_N: NDArray[np.float64], tokens_N: NDArray[np.int64], w_max: float) -> float:
    """Return c such that the mean of min(c * strength, w_max) over all supervised tokens of the corpus is 1.

    Args:
        strengths_N: Strength of each row's target step, at least 0.
        tokens_N: Supervised tokens of each row.
        w_max: Upper bound of a weight, above 1.

    Raises:
        ConfigError: No c does it, as too few tokens have any strength.

    >>> solve_scale(np.array([1.0, 0.0]), np.array([5, 5]), 4.0)
    2.0
    """
    total = float(tokens_N.sum())
    reachable = w_max * float(tokens_N[strengths_N > 0].sum())
    if total == 0 or reachable < total:
        share = reachable / w_max / total if total else 0.0
        needed = f"raise weights.w_max above {1 / share:.3g}" if share else "all strengths are 0"
        raise ConfigError(
            f"weights cannot have mean 1: only {share:.1%} of {total:.0f} supervised tokens have a strength above 0 "
            f"and w_max is {w_max:g}; {needed}, or take another strength"
        )
    order = np.argsort(-strengths_N, kind="stable")
    strengths, tokens = strengths_N[order], tokens_N[order].astype(float)
    capped_before = np.concatenate([[0.0], np.cumsum(tokens)])
    mass_from = np.concatenate([np.cumsum((strengths * tokens)[::-1])[::-1], [0.0]])
    for count in range(len(strengths)):  # the `count` strongest rows are capped
        if mass_from[count] <= 0:
            break
        scale = (total - w_max * capped_before[count]) / mass_from[count]
        if scale * strengths[count] <= w_max:
            return float(scale)
    return float(w_max / strengths[strengths > 0].min())


def token_weights(strengths_N: NDArray[np.float64], scale: float, w_max: float) -> NDArray[np.float64]:
    """Return the weight [N] of each token of a row's step: min(c * strength, w_max)."""
    return np.minimum(scale * strengths_N, w_max)
