"""How a run's rows become batches: prefix trees where the model can and it pays, else padded rows."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from typing import Any

from vcrd.errors import ConfigError
from vcrd.training.dataset import TrainingDataset
from vcrd.training.launch import is_first_rank
from vcrd.training.packed import tree_bins
from vcrd.training.params import TrainParams
from vcrd.trees.support import prepare_for_trees

_PAYS = 0.8
# Beyond so many times the examples of a step it is another schedule: fewer, larger steps.
_COARSE = 1.5
_IDLE = 0.25


@dataclass(frozen=True, slots=True)
class Batches:
    """Items of a micro-batch, micro-batches of a step, and nodes of an item where items are bins of trees."""

    per_device: int
    accumulation: int
    tree_tokens: int | None

    @property
    def items(self) -> int:
        """Of a step."""
        return self.per_device * self.accumulation

    def dealt(self, ranks: int) -> Batches:
        """Return what each rank takes of a step: micro-batches no larger, and as few as hold all items."""
        per_device = min(self.per_device, -(-self.items // ranks))
        made = replace(self, per_device=per_device, accumulation=-(-self.items // (ranks * per_device)))
        if (idle := 1 - self.items / (made.items * ranks)) > _IDLE:
            _say(
                f"a step has {self.items} items for {ranks} processes, which idle {idle:.0%} of the time; lower "
                "train.batch_size and raise train.gradient_accumulation as much, or take fewer processes"
            )
        return made


def choose_batches(model: Any, rows: TrainingDataset, params: TrainParams) -> Batches:
    """Decide, and say on standard error what merging saves or why nothing is merged.

    A step keeps the number of examples that `batch_size` and `gradient_accumulation` say, on average and as nearly as
    whole bins allow; a micro-batch of trees has no more tokens than one of rows has, or than the longest row.

    Raises:
        ConfigError: Trees are asked for and cannot be.
    """
    plain = Batches(params.batch_size, params.gradient_accumulation, None)
    if params.packing == "none" or not len(rows):
        return plain
    if (reason := prepare_for_trees(model)) is not None:
        if params.packing == "trees":
            raise ConfigError(f"train.packing is trees, but the student cannot: {reason}; set it to auto or none")
        _say(f"rows are trained on one by one: {reason}")
        return plain
    examples = params.batch_size * params.gradient_accumulation
    whole = tree_bins(rows, None)
    a_step = examples * whole.nodes / whole.rows
    room = math.ceil(max(min(params.batch_size * whole.tokens / whole.rows, a_step), whole.longest))
    found = tree_bins(rows, room)
    share, a_bin = found.nodes / found.tokens, found.rows / len(found.bins)
    if params.packing == "auto" and share > _PAYS:
        _say(f"rows are trained on one by one: as trees they would still be {share:.0%} of their tokens")
        return plain
    if params.packing == "auto" and a_bin > _COARSE * examples:
        _say(f"rows are trained on one by one: a bin of trees would have {a_bin:.0f} examples, a step {examples}")
        return plain
    accumulation = max(1, round(examples / a_bin))
    _say(
        f"prefix trees: {found.nodes:,} tokens for the {found.tokens:,} of {found.rows:,} rows ({share:.0%}); "
        f"{a_bin * accumulation:.0f} examples a step"
    )
    return Batches(1, accumulation, room)


def _say(text: str) -> None:
    if is_first_rank():
        sys.stderr.write(f"train_student: {text}\n")
