"""What is learned under each prefix of the corpus, before weights. Axis letter: N prefixes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcrd.calibration import CalibrationParams, choose_target, step_strength, target_value
from vcrd.examples.windows import Flags, Ints
from vcrd.weights import WeightParams, solve_scale


@dataclass(frozen=True)
class Targets:
    """Targets of some prefixes.

    Attributes:
        own_N: Whether it is the student's own step, and not the teacher's.
        value_N: What its completions make of it, 1 where they are not asked.
        strength_N: Of the target.
        tokens_N: Supervised tokens.
    """

    own_N: Flags
    value_N: NDArray[np.float64]
    strength_N: NDArray[np.float64]
    tokens_N: Ints

    def cut(self, count: int) -> tuple[Targets, Targets]:
        """Return the first `count`, and the rest."""
        first, rest = (
            Targets(self.own_N[part], self.value_N[part], self.strength_N[part], self.tokens_N[part])
            for part in (slice(count), slice(count, None))
        )
        return first, rest


def choose_targets(pairs_N: NDArray[np.void], params: CalibrationParams) -> Targets:
    """Calibrate all pairs of the corpus at once (a control permutes over all of them).

    Args:
        pairs_N: Of type `PAIR`.
        params: How.
    """
    student, teacher = pairs_N["student"].astype(np.float64), pairs_N["teacher"].astype(np.float64)
    own = choose_target(teacher, student, params.own_steps)
    invalid, successes, trials, tokens = (
        np.where(own, pairs_N[f"student_{name}"], pairs_N[f"teacher_{name}"])
        for name in ("invalid", "successes", "trials", "tokens")
    )
    value = target_value(successes.astype(np.float64), trials.astype(np.float64), params)
    strengths = step_strength(np.where(own, student, teacher), np.where(own, teacher, student), value, invalid, params)
    return Targets(own, value, np.asarray(strengths, np.float64), tokens.astype(np.int64))


def scale_of(targets: Targets, params: WeightParams) -> float:
    """Solve the scale over all targets of the corpus."""
    return solve_scale(targets.strength_N, targets.tokens_N, params.w_max)
