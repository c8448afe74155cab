"""Methods by name: fourteen that are compared, and beside them what only a claim or a plot needs."""

from __future__ import annotations

from functools import partial

from benchmarks.rivals import (
    answer_filtered,
    controls,
    on_policy_kd,
    own_steps_only,
    sft,
    sod,
    step_filtered,
    uniform,
    uniform_kl,
    vcrd_default,
)
from benchmarks.rivals.base import ESTIMATED, Method

DEFAULT, ORACLE, UNIFORM = "vcrd_estimated", "vcrd_oracle", "uniform"
SHUFFLED, SAME_TARGETS = "shuffled", "uniform_same_targets"

_ALL = (
    *sft.METHODS,
    *answer_filtered.METHODS,
    *step_filtered.METHODS,
    *uniform.METHODS,
    *uniform_kl.METHODS,
    *on_policy_kd.METHODS,
    *sod.METHODS,
    *own_steps_only.METHODS,
    *controls.METHODS,
    *vcrd_default.METHODS,
)
COMPARED = tuple(method.name for method in _ALL if method.name != SAME_TARGETS)
RIVALS = tuple(name for name in COMPARED if not name.startswith("vcrd_"))
NOISY = {f"noise_{round(100 * rate)}": rate for rate in vcrd_default.NOISE}
"""Of the plot against validity noise."""

METHODS: dict[str, Method] = {method.name: method for method in _ALL} | {
    name: Method(
        name=name,
        title=f"vcrd, oracle with {rate:.0%} of its verdicts reversed",
        needs=ESTIMATED,
        lesson=partial(vcrd_default.noisy, rate=rate),
    )
    for name, rate in NOISY.items()
}

__all__ = [
    "COMPARED",
    "DEFAULT",
    "METHODS",
    "NOISY",
    "ORACLE",
    "RIVALS",
    "SAME_TARGETS",
    "SHUFFLED",
    "UNIFORM",
    "Method",
]
