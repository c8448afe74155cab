"""How a run's rows become batches: prefix trees where the model can and it pays, else padded rows."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

from vcrd.errors import ConfigError
from vcrd.training.dataset import TrainingDataset
from vcrd.training.packed import tree_bins
from vcrd.training.params import TrainParams
from vcrd.trees.support import prepare_for_trees

_PAYS = 0.8


@dataclass(frozen=True, slots=True)
class Batches:
    """Items of a micro-batch, micro-batches of a step, and nodes of an item where items are bins of trees."""

    per_device: int
    accumulation: int
    tree_tokens: int | None


def choose_batches(model: Any, rows: TrainingDataset, params: TrainParams) -> Batches:
    """Decide, and say on standard error what merging saves or why nothing is merged.

    A step keeps the number of examples that `batch_size` and `gradient_accumulation` say, on average; a micro-batch of
    trees has no more tokens than one of rows has.

    Raises:
        ConfigError: Trees are asked for and cannot be.
    """
    plain = Batches(params.batch_size, params.gradient_accumulation, None)
    if params.packing == "none":
        return plain
    if (reason := prepare_for_trees(model)) is not None:
        if params.packing == "trees":
            raise ConfigError(f"train.packing is trees, but the student cannot: {reason}; set it to auto or none")
        _say(f"rows are trained on one by one: {reason}")
        return plain
    found = tree_bins(rows, None)
    share = found.nodes / found.tokens
    if params.packing == "auto" and share > _PAYS:
        _say(f"rows are trained on one by one: as trees they would still be {share:.0%} of their tokens")
        return plain
    examples = params.batch_size * params.gradient_accumulation
    a_step = examples * found.nodes / found.rows
    room = max(min(params.batch_size * found.tokens / found.rows, a_step), found.longest)
    _say(f"prefix trees: {found.nodes:,} tokens for the {found.tokens:,} of {found.rows:,} rows ({share:.0%})")
    return Batches(1, max(1, round(a_step / room)), math.ceil(room))


def _say(text: str) -> None:
    sys.stderr.write(f"train_student: {text}\n")
