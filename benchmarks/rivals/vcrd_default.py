"""This project's default, whose rivals the others are: targets and strengths as the domain's preset has them.

Under the oracle, validity alone is exact: the value of a target still comes from the pool's completions, which were
allotted by the estimates and so cost what these cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.rivals.base import ESTIMATED, Lesson, Method, step_lesson
from vcrd.requests import derive_seed

if TYPE_CHECKING:
    from benchmarks.experiments.loaded import Pool

NOISE = (0.1, 0.2, 0.3, 0.4)


def estimated(pool: Pool) -> Lesson:
    """Learn by the pipeline's estimates."""
    return step_lesson(pool)


def exact(pool: Pool) -> Lesson:
    """Learn by the oracle."""
    return step_lesson(pool, pool.oracle_validity)


def noisy(pool: Pool, rate: float) -> Lesson:
    """Learn by the oracle, of whose verdicts a share is the wrong way round."""
    rng = np.random.default_rng(derive_seed(pool.settings.seed, f"noise {rate}"))
    exact_V = pool.oracle_validity
    return step_lesson(pool, np.where(rng.random(len(exact_V)) < rate, 1 - exact_V, exact_V))


METHODS = (
    Method(name="vcrd_oracle", title="vcrd, oracle validity", needs=ESTIMATED, lesson=exact),
    Method(name="vcrd_estimated", title="vcrd, estimated validity", needs=ESTIMATED, lesson=estimated),
    Method(
        name="vcrd_estimated_kl", title="vcrd, estimated validity + KL", needs=ESTIMATED, lesson=estimated, kl_coef=0.5
    ),
)
