"""What is learned under each prefix of the corpus, before weights. Axis letter: N prefixes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcrd.calibration import CalibrationParams, choose_target, step_strength
from vcrd.examples.windows import Flags, Ints
from vcrd.weights import WeightParams, solve_scale


@dataclass(frozen=True)
class Targets:
    """Targets of some prefixes.

    Attributes:
        own_N: Whether it is the student's own step, and not the teacher's.
        strength_N: Of the target.
        tokens_N: Supervised tokens.
    """

    own_N: Flags
    strength_N: NDArray[np.float64]
    tokens_N: Ints

    def cut(self, count: int) -> tuple[Targets, Targets]:
        """Return the first `count`, and the rest."""
        first, rest = (
            Targets(self.own_N[part], self.strength_N[part], self.tokens_N[part])
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
    invalid = np.where(own, pairs_N["student_invalid"], pairs_N["teacher_invalid"])
    strengths = step_strength(np.where(own, student, teacher), np.where(own, teacher, student), invalid, params)
    tokens = np.where(own, pairs_N["student_tokens"], pairs_N["teacher_tokens"]).astype(np.int64)
    return Targets(own, np.asarray(strengths, np.float64), tokens)


def scale_of(targets: Targets, params: WeightParams) -> float:
    """Solve the scale over all targets of the corpus."""
    return solve_scale(targets.strength_N, targets.tokens_N, params.w_max)
