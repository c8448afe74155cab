"""On-policy KD: reverse KL to the teacher on the student's rollouts (GKD, arXiv 2306.13649; MiniLLM, 2306.08543)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.rivals.base import Method
from benchmarks.rivals.on_policy import Floats, on_policy


def alike(apart: Sequence[Floats], step_ends: Sequence[Sequence[int]]) -> list[Floats]:
    """Weigh all tokens alike."""
    return [np.ones(len(far_T)) for far_T in apart]


METHODS = (Method(name="on_policy_kd", title="on-policy KD", needs=(), school=partial(on_policy, weigh=alike)),)
