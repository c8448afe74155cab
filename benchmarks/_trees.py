"""Rollouts of random tokens whose rows share prefixes, and passes over them as trees and as rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks._qwen import small_qwen
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
from vcrd.training.head import add_weighted_head
from vcrd.trees.support import prepare_for_trees

VOCABULARY, PROMPT, STEP = 8_192, 128, 48

Row = dict[str, Any]


def trainable_qwen() -> Any:
    """Build a Qwen2 with the weighted loss in its forward, ready for trees; 2 of its 8 heads hold keys and values."""
    model = small_qwen(VOCABULARY, key_value_heads=2)
    add_weighted_head(model)
    if (reason := prepare_for_trees(model)) is not None:
        raise AssertionError(reason)
    return model.train()


def rollout_rows(steps: int, rollouts: int, seed: int) -> list[Row]:
    """Return a row for each prefix of each rollout: the prefix, and the teacher's step behind it."""
    rng = np.random.default_rng(seed)
    rows = []
    for rollout in range(rollouts):
        trunk = rng.integers(0, VOCABULARY, PROMPT + steps * STEP)
        for step in range(steps):
            prefix = trunk[: PROMPT + step * STEP].tolist()
            target = rng.integers(0, VOCABULARY, STEP).tolist()
            rows.append(
                {
                    "rollout": rollout,
                    "input_ids": prefix + target,
                    "labels": [-100] * len(prefix) + target,
                    "token_weights": [0.0] * len(prefix) + [1.0] * STEP,
                }
            )
    return rows


def tree_batches(rows: Sequence[Row]) -> list[list[Row]]:
    """Return one batch for each rollout."""
    found = defaultdict(list)
    for row in rows:
        found[row["rollout"]].append(row)
    return list(found.values())


def bucketed_batches(rows: Sequence[Row], tokens: int) -> list[list[Row]]:
    """Return batches of rows of one length, so that nothing is padded, with at most `tokens` where a row is shorter."""
    by_length = defaultdict(list)
    for row in rows:
        by_length[len(row["input_ids"])].append(row)
    batches = []
    for length, mine in by_length.items():
        size = max(1, tokens // length)
        batches += [mine[start : start + size] for start in range(0, len(mine), size)]
    return batches


def train_pass(model: Any, batches: Sequence[Sequence[Row]], *, trees: bool) -> float:
    """Collate, run forward and backward over all batches, leave the gradients, and return the loss."""
    collate = DataCollatorForWeightedLanguageModeling(0, with_teacher=False, trees=trees)
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = model(**collate(batch), weighted_loss=True, denominator=1000.0).loss
        loss.backward()
        total += loss.item()
    return total


def gradient(model: Any) -> torch.Tensor:
    """Return all gradients as one vector."""
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def synthetic_table(rollouts: int, steps: int, mean_length: int) -> pa.Table:
    """Return rows of many rollouts, each of its own problem, as a training data set has them: problem_id, input_ids.

    Args:
        rollouts: How many.
        steps: Rows of each, every one `STEP` tokens longer than the one before.
        mean_length: Tokens of a row, on average.
    """
    rng = np.random.default_rng(0)
    lengths = mean_length + STEP * np.arange(1, steps + 1) - STEP * (steps + 1) // 2
    place = np.concatenate([np.arange(length) for length in lengths])
    is_target = place >= np.repeat(lengths - STEP, lengths)
    ids = np.empty((rollouts, len(place)), np.int32)
    for rollout in range(rollouts):
        ids[rollout] = rng.integers(0, VOCABULARY, int(lengths[-1]), dtype=np.int32)[place]
        ids[rollout, is_target] = rng.integers(0, VOCABULARY, int(is_target.sum()), dtype=np.int32)
    offsets = np.concatenate([[0], np.cumsum(np.tile(lengths, rollouts))]).astype(np.int32)
    names = pa.array(np.repeat(np.arange(rollouts), steps).astype(str))
    return pa.table(
        {"problem_id": names, "input_ids": pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids.ravel()))}
    )
