"""Calibration: from the validities of both next steps to what is learned there, and how strongly.

A strength is a pure function of (v_target, v_other) in a registry; add your own with `register_strength`. The formulas
are ours, not the paper's. Axis letter: N prefixes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from vcrd.errors import ConfigError, did_you_mean

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationParams:
    """Which step is the target, and its strength."""

    own_steps: Literal["when_sound", "when_better", "never", "only"]
    """The student's own step is the target when it is sound or the more valid, when the more valid, never, always."""
    strength: str
    """Name in the registry: net_validity, validity, gap_sigmoid, bilinear, ratio, gap_relu, uniform, shuffled."""
    tau: Annotated[float, Gt(0)]
    """Temperature of gap_sigmoid, in logits."""
    rho: Annotated[float, Ge(0)]
    """Share that bilinear leaves where both steps are valid."""
    shuffle_seed: Annotated[int, Ge(0)]
    """Decides the permutation of shuffled."""
    value_pseudocount: Annotated[float, Gt(0)] | None
    """a: strengths are multiplied by the target's value, (successes + a) / (completions + 2 a); null: by nothing."""


Strength = Callable[[Floats, Floats, CalibrationParams], Floats]
STRENGTHS: dict[str, Strength] = {}
CONTROLS = ("uniform", "shuffled")


def register_strength(name: str) -> Callable[[Strength], Strength]:
    """Add a strength function to the registry."""

    def register(function: Strength) -> Strength:
        STRENGTHS[name] = function
        return function

    return register


def choose_target(teacher_N: Floats, student_N: Floats, own_steps: str) -> NDArray[np.bool_]:
    """Return True [N] where the student's own step is the target; a tie goes to the teacher.

    Sound is what is likelier so than not. Of many sound steps the student's own costs it least to learn.

    >>> choose_target(np.array([0.9, 0.2, 0.9]), np.array([0.5, 0.3, 0.8]), "when_sound").tolist()
    [False, True, True]
    >>> choose_target(np.array([0.9, 0.2, 0.9]), np.array([0.5, 0.3, 0.8]), "when_better").tolist()
    [False, True, False]
    """
    if own_steps == "when_sound":
        return np.asarray((student_N > 0.5) | (student_N > teacher_N))
    if own_steps == "when_better":
        return np.asarray(student_N > teacher_N)
    return np.full(len(teacher_N), own_steps == "only")


def target_value(successes_N: Floats, trials_N: Floats, params: CalibrationParams) -> Floats:
    """Return the value [N] of targets by their completions (mean of a beta distribution); 1 where it is not asked for.

    A step may be sound and of little value: it uses up room, or leads to where mistakes are made.
    """
    if params.value_pseudocount is None or params.strength == "uniform":
        return np.ones_like(trials_N)
    return (successes_N + params.value_pseudocount) / (trials_N + 2 * params.value_pseudocount)


def step_strength(
    target_N: Floats, other_N: Floats, value_N: Floats, proved_invalid_N: NDArray[np.bool_], params: CalibrationParams
) -> Floats:
    """Return the strength [N] of each target step; 0 where a rule proved it invalid, but under the two controls.

    Args:
        target_N: Local validity of the target.
        other_N: Local validity of the other step.
        value_N: `target_value` of the target.
        proved_invalid_N: Whether a rule proved the target invalid.
        params: How.

    Raises:
        ConfigError: There is no strength of this name.
    """
    if params.strength not in STRENGTHS:
        raise ConfigError(f"unknown strength {params.strength!r}{did_you_mean(params.strength, STRENGTHS)}")
    strengths = STRENGTHS[params.strength](target_N, other_N, params) * value_N
    if params.strength == "shuffled":
        return np.random.default_rng(params.shuffle_seed).permutation(strengths)
    return strengths if params.strength in CONTROLS else np.where(proved_invalid_N, 0.0, strengths)


@register_strength("net_validity")
def net_validity(target_N: Floats, other_N: Floats, params: CalibrationParams) -> Floats:
    """max(2 v_target - 1, 0): how much likelier the target is sound than not, as learning the other does harm."""
    return np.maximum(2 * target_N - 1, 0.0)


@register_strength("validity")
def validity_strength(target_N: Floats, other_N: Floats, params: CalibrationParams) -> Floats:
    """v_target."""
    return target_N


@register_strength("gap_sigmoid")
def gap_sigmoid(target_N: Floats, other_N: Floats, params: CalibrationParams) -> Floats:
    """v_target * sigmoid((logit v_target - logit v_other) / tau)."""
    gap = (_logit(target_N) - _logit(other_N)) / params.tau
    return np.asarray(target_N / (1 + np.exp(-gap)))


@register_strength("bilinear")
def bilinear(target_N: Floats, other_N: Floats, params: CalibrationParams) -> Floats:
    """v_target (1 - v_other) + rho v_target v_other."""
    return target_N * (1 - other_N) + params.rho * target_N * other_N


@register_strength("ratio")
def ratio(target_N: Floats, other_N: Floats, params: CalibrationParams) -> Floats:
    """v_target^2 / (v_target + v_other + eps)."""
    return target_N**2 / (target_N + other_N + 1e-6)


@register_strength("gap_relu")
def gap_relu(target_N: Floats, other_N: Floats, params: CalibrationParams) -> Floats:
    """max(v_target - v_other, 0)."""
    return np.maximum(target_N - other_N, 0.0)


@register_strength("uniform")
def uniform(target_N: Floats, other_N: Floats, params: CalibrationParams) -> Floats:
    """1 (a control)."""
    return np.ones_like(target_N)


@register_strength("shuffled")
def shuffled(target_N: Floats, other_N: Floats, params: CalibrationParams) -> Floats:
    """net_validity, which `step_strength` permutes over rows (a control): the same strengths, fallen elsewhere."""
    return net_validity(target_N, other_N, params)


def _logit(probabilities: Floats) -> Floats:
    clipped = np.clip(probabilities, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
