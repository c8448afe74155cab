"""Training rows made the slow way, a record at a time: what `vcrd.examples` is held against; and its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vcrd.calibration import CalibrationParams, choose_target, step_strength, target_value
from vcrd.examples import PAIR, Source, choose_targets, gather_pairs, make_examples, scale_of
from vcrd.io.parquet import as_row, table_from_rows
from vcrd.io.rejects import Reject, reject
from vcrd.records import (
    IGNORED,
    PROPOSALS,
    ROLLOUTS,
    TRAINING,
    VALIDITY,
    Artefact,
    Rollout,
    StepProposal,
    TrainingExample,
    Validity,
)
from vcrd.weights import WeightParams, solve_scale

Made = tuple[pa.Table, list[Reject]]


class Inputs(NamedTuple):
    """A shard."""

    rollouts: list[Rollout]
    proposals: list[StepProposal]
    validities: list[Validity]

    def of(self, problems: frozenset[str]) -> Inputs:
        return Inputs(*([item for item in items if item.problem_id in problems] for items in self))

    def read(self, cut: int) -> Any:
        """What the passes read with: batches of `cut` rows whatever they ask for."""
        tables = {
            kind.name: table_from_rows([as_row(item) for item in items], kind.schema, kind.name)
            for kind, items in zip((ROLLOUTS, PROPOSALS, VALIDITY), self, strict=True)
        }

        def read(kind: Artefact[Any], columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
            return iter(tables[kind.name].select(columns).to_batches(max_chunksize=cut))

        return read


def made(
    shards: Sequence[Inputs],
    weights: WeightParams,
    calibration: CalibrationParams,
    problems: frozenset[str] | None = None,
    cut: int = 3,
) -> Made:
    """What `vcrd.examples` makes of shards: all rows and all rejects."""
    sources = [Source(shard.read(cut), f"{index}", problems) for index, shard in enumerate(shards)]
    found = [gather_pairs(source, weights) for source in sources]
    pairs = np.concatenate([np.empty(0, PAIR), *(mine for mine, _ in found)])
    targets = choose_targets(pairs, calibration)
    scale = scale_of(targets, weights)
    tables, rejects = [TRAINING.schema.empty_table()], []
    for source, (mine, expected) in zip(sources, found, strict=True):
        some, targets = targets.cut(len(mine))
        pieces = [(list(rows), refused) for rows, refused in make_examples(source, weights, some, scale)]
        assert expected == sum(table.num_rows for rows, _ in pieces for table in rows) + sum(len(r) for _, r in pieces)
        tables += [table for rows, _ in pieces for table in rows]
        rejects += [item for _, refused in pieces for item in refused]
    return pa.concat_tables(tables), rejects


def expected(shards: Sequence[Inputs], weights: WeightParams, calibration: CalibrationParams) -> Made:
    """The same, the slow way."""
    pairs: list[tuple[Validity, Validity, Inputs]] = []
    rejects: list[Reject] = []
    for shard in shards:
        by_prefix: dict[str, dict[str, Validity]] = {}
        for item in shard.validities:
            by_prefix.setdefault(item.prefix_id, {})[item.proposer] = item
        for name, both in by_prefix.items():
            refused = _refused(name, both, shard, weights)
            if refused is None:
                pairs.append((both["student"], both["teacher"], shard))
            else:
                rejects.append(refused)
    student, teacher = (np.array([pair[place].local_validity for pair in pairs]) for place in (0, 1))
    own = choose_target(teacher, student, calibration.own_steps)
    targets = [pair[0] if mine else pair[1] for pair, mine in zip(pairs, own, strict=True)]
    invalid = np.array([item.rule == -1 for item in targets], bool)
    successes, trials = (np.array([getattr(item, name) for item in targets], float) for name in ("successes", "trials"))
    values = target_value(successes, trials, calibration)
    better, other = np.where(own, student, teacher), np.where(own, teacher, student)
    strengths = step_strength(better, other, values, invalid, calibration)
    tokens = [_step(item, pair[2]) for item, pair in zip(targets, pairs, strict=True)]
    scale = solve_scale(strengths, np.array([len(step.token_ids) for step in tokens], np.int64), weights.w_max)
    rows = [
        _example(*pair, step, value, strength, min(scale * strength, weights.w_max))
        for pair, step, value, strength in zip(pairs, tokens, values.tolist(), strengths.tolist(), strict=True)
    ]
    return table_from_rows([as_row(row) for row in rows], TRAINING.schema, "rows"), rejects


def _refused(name: str, both: dict[str, Validity], shard: Inputs, weights: WeightParams) -> Reject | None:
    for proposer in ("teacher", "student"):
        if proposer not in both:
            return reject(name, f"no_{proposer}_step", "its proposal was rejected")
    if both["student"].prefix_broken and weights.broken_prefixes == "drop":
        return reject(name, "prefix_broken", "weights.broken_prefixes is drop")
    steps = [_step(item, shard) for item in both.values()]
    length = len(_prefix(both["student"], shard)) + max(len(step.token_ids) for step in steps)
    if length > weights.max_length:
        return reject(name, "too_long", f"{length} tokens, weights.max_length is {weights.max_length}")
    return None


def _step(of: Validity, shard: Inputs) -> StepProposal:
    return next(item for item in shard.proposals if item.proposal_id == of.proposal_id)


def _rollout(of: Validity, shard: Inputs) -> Rollout:
    return next(item for item in shard.rollouts if item.rollout_id == of.rollout_id)


def _prefix(of: Validity, shard: Inputs) -> list[int]:
    return _rollout(of, shard).prefix_ids(of.step_index)


def _example(
    student: Validity,
    teacher: Validity,
    shard: Inputs,
    step: StepProposal,
    value: float,
    strength: float,
    weight: float,
) -> TrainingExample:
    prefix, rollout = _prefix(student, shard), _rollout(student, shard)
    return TrainingExample(
        example_id=student.prefix_id,
        rollout_id=rollout.rollout_id,
        problem_id=rollout.problem_id,
        domain=rollout.domain,
        step_index=student.step_index,
        target=step.proposer,
        input_ids=[*prefix, *step.token_ids],
        labels=[IGNORED] * len(prefix) + list(step.token_ids),
        token_weights=[0.0] * len(prefix) + [weight] * len(step.token_ids),
        teacher_topk_ids=[[]] * len(prefix) + list(step.topk_ids),
        teacher_topk_logprobs=[[]] * len(prefix) + list(step.topk_logprobs),
        teacher_tail_logprob=[0.0] * len(prefix) + list(step.tail_logprob),
        student_step=_step(student, shard).text,
        teacher_step=_step(teacher, shard).text,
        student_validity=student.local_validity,
        teacher_validity=teacher.local_validity,
        relative_validity=teacher.local_validity - student.local_validity,
        target_value=value,
        step_strength=strength,
    )
