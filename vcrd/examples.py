"""Training examples: per prefix the target step, its strength, and the tokens that learn it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vcrd.calibration import CalibrationParams, choose_target, step_strength
from vcrd.io.rejects import Reject, reject
from vcrd.records import IGNORED, Rollout, StepProposal, TrainingExample, Validity
from vcrd.verifiers.base import INVALID
from vcrd.weights import WeightParams, solve_scale, token_weight


@dataclass(frozen=True, slots=True)
class Pair:
    """Both validities under one prefix, and how many tokens each step has."""

    prefix_id: str
    student: Validity
    teacher: Validity
    tokens: Mapping[str, int]


def pair_up(
    validities: Sequence[Validity],
    rollouts: Mapping[str, Rollout],
    proposals: Mapping[str, StepProposal],
    params: WeightParams,
) -> tuple[list[Pair], list[Reject]]:
    """Bring both proposals of each prefix together; a prefix that cannot be compared or trained on is a reject."""
    by_prefix: dict[str, dict[str, Validity]] = {}
    for item in validities:
        by_prefix.setdefault(item.prefix_id, {})[item.proposer] = item
    pairs: list[Pair] = []
    rejects: list[Reject] = []
    for prefix_id, both in by_prefix.items():
        if "teacher" not in both or "student" not in both:
            missing = "teacher" if "student" in both else "student"
            rejects.append(reject(prefix_id, f"no_{missing}_step", "its proposal was rejected"))
        elif both["student"].prefix_broken and params.broken_prefixes == "drop":
            rejects.append(reject(prefix_id, "prefix_broken", "weights.broken_prefixes is drop"))
        elif (length := _longest(both, rollouts, proposals)) > params.max_length:
            rejects.append(reject(prefix_id, "too_long", f"{length} tokens, weights.max_length is {params.max_length}"))
        else:
            tokens = {name: len(proposals[item.proposal_id].token_ids) for name, item in both.items()}
            pairs.append(Pair(prefix_id, both["student"], both["teacher"], tokens))
    return pairs, rejects


def _longest(
    both: Mapping[str, Validity], rollouts: Mapping[str, Rollout], proposals: Mapping[str, StepProposal]
) -> int:
    item = both["student"]
    prefix = len(rollouts[item.rollout_id].prefix_ids(item.step_index))
    return prefix + max(len(proposals[item.proposal_id].token_ids) for item in both.values())


@dataclass(frozen=True, slots=True)
class Target:
    """What is learned under a prefix, before weights."""

    pair: Pair
    proposer: str
    strength: float

    @property
    def tokens(self) -> int:
        """Supervised tokens."""
        return self.pair.tokens[self.proposer]


def choose_targets(pairs: Sequence[Pair], params: CalibrationParams) -> list[Target]:
    """Calibrate all pairs of the corpus at once (a control permutes over all of them)."""
    student = np.array([pair.student.local_validity for pair in pairs], float)
    teacher = np.array([pair.teacher.local_validity for pair in pairs], float)
    own = choose_target(teacher, student, params.own_steps)
    invalid = np.array(
        [(pair.student if mine else pair.teacher).rule == INVALID for pair, mine in zip(pairs, own, strict=True)], bool
    )
    strengths = step_strength(np.where(own, student, teacher), np.where(own, teacher, student), invalid, params)
    return [
        Target(pair, "student" if mine else "teacher", float(strength))
        for pair, mine, strength in zip(pairs, own, strengths, strict=True)
    ]


def scale_of(targets: Sequence[Target], params: WeightParams) -> float:
    """Solve the scale over all targets of the corpus."""
    strengths = np.array([target.strength for target in targets], float)
    return solve_scale(strengths, np.array([target.tokens for target in targets], np.int64), params.w_max)


def make_example(
    target: Target, rollout: Rollout, proposals: Mapping[str, StepProposal], scale: float, w_max: float
) -> TrainingExample:
    """Write out one example: the prefix masked, the target step's tokens weighted."""
    name = target.pair.prefix_id
    student, teacher = proposals[f"{name}/student"], proposals[f"{name}/teacher"]
    chosen = student if target.proposer == "student" else teacher
    prefix = rollout.prefix_ids(chosen.step_index)
    weight = token_weight(target.strength, scale, w_max)
    return TrainingExample(
        example_id=name,
        rollout_id=rollout.rollout_id,
        problem_id=rollout.problem_id,
        domain=rollout.domain,
        step_index=chosen.step_index,
        target=target.proposer,
        input_ids=[*prefix, *chosen.token_ids],
        labels=[IGNORED] * len(prefix) + list(chosen.token_ids),
        token_weights=[0.0] * len(prefix) + [weight] * len(chosen.token_ids),
        teacher_topk_ids=[[]] * len(prefix) + list(chosen.topk_ids),
        teacher_topk_logprobs=[[]] * len(prefix) + list(chosen.topk_logprobs),
        teacher_tail_logprob=[0.0] * len(prefix) + list(chosen.tail_logprob),
        student_step=student.text,
        teacher_step=teacher.text,
        student_validity=target.pair.student.local_validity,
        teacher_validity=target.pair.teacher.local_validity,
        relative_validity=target.pair.teacher.local_validity - target.pair.student.local_validity,
        step_strength=target.strength,
    )


SUMMARY_COLUMNS = ("target", "labels", "token_weights", "student_validity", "teacher_validity", "step_strength")


def summarise_training(table: pa.Table) -> dict[str, Any]:
    """Say where the signal of a training data set went.

    Args:
        table: Its `SUMMARY_COLUMNS`.
    """
    targets = table.column("target").to_pylist()
    supervised = table.column("labels").combine_chunks().flatten().to_numpy(zero_copy_only=False) != IGNORED
    proposers = ("student", "teacher")
    weights = table.column("token_weights").combine_chunks().flatten().to_numpy(zero_copy_only=False)[supervised]
    return {
        "supervised_tokens": int(supervised.sum()),
        "mean_weight": round(float(weights.mean(dtype=np.float64)), 9),
        "share_of_zero_weights": round(float((weights == 0).mean()), 6),
        "targets": {name: targets.count(name) for name in proposers},
        "mean_validity": {
            name: round(float(np.mean(table.column(f"{name}_validity").to_numpy())), 6)
            for name in ("student", "teacher")
        },
    }
