"""SOD: on-policy KD whose strength falls with a step's divergence (Zhong et al., arXiv 2605.07725).

Its abstract and a summary were readable, not its formula. Ours: a step counts for exp(-d / mean d), d being the mean
distance of the two models' log-probabilities over its tokens, the mean being over all steps of the fresh rollouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.rivals.base import Method
from benchmarks.rivals.on_policy import Floats, on_policy


def by_divergence(apart: Sequence[Floats], step_ends: Sequence[Sequence[int]]) -> list[Floats]:
    """Weigh a step's tokens by how near the two models are there; what is behind the last step is a step too.

    >>> by_divergence([np.array([0.0, 0.0, 2.0])], [[2]])[0].round(3).tolist()
    [1.0, 1.0, 0.135]
    """
    ends = [sorted({*mine, len(far_T)}) for far_T, mine in zip(apart, step_ends, strict=True)]
    steps = [np.split(far_T, mine[:-1]) for far_T, mine in zip(apart, ends, strict=True)]
    mean = max(float(np.mean([step.mean() for each in steps for step in each])), 1e-6)
    return [np.concatenate([np.full(len(step), np.exp(-step.mean() / mean)) for step in each]) for each in steps]


METHODS = (
    Method(
        name="sod",
        title="divergence-based step weighting (SOD)",
        needs=(),
        school=partial(on_policy, weigh=by_divergence),
    ),
)
