"""Training at equal cost: every run has as many optimiser steps, and every step as many supervised tokens.

The supervised tokens of a lesson are one long stream, epoch after epoch in another order, and it is cut into steps of
equal length: a row that a cut falls into is learned up to there in one step and from there in the next.

Axis letters: N rows of a lesson, T tokens of a step's rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch.utils.data import Dataset
from transformers import PrinterCallback, ProgressCallback

from benchmarks.rivals.base import Lesson
from vcrd.errors import ConfigError
from vcrd.records import IGNORED
from vcrd.rows import flat, list_lengths
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
from vcrd.training.config import WeightedSFTConfig
from vcrd.training.dataset import TrainingDataset
from vcrd.training.params import TrainParams
from vcrd.training.trainer import WeightedSFTTrainer
from vcrd.trees.support import prepare_for_trees

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schooling:
    """What every run of a matrix has alike, and the learning rate that its method was tuned to.

    Attributes:
        steps: Optimiser steps.
        step_tokens: Supervised tokens of each.
        params: Schedule; epochs and batch size are not read.
        seed: Of the order of rows.
    """

    steps: int
    step_tokens: int
    params: TrainParams
    seed: int


class EqualSteps(Dataset[pa.Table]):
    """A lesson cut into steps; an item is the table of a step's rows."""

    def __init__(self, lesson: Lesson, schooling: Schooling) -> None:
        """Draw the order of all epochs.

        Raises:
            ConfigError: There is nothing to learn.
        """
        self._rows, self._size = lesson.rows, schooling.step_tokens
        lengths = list_lengths(lesson.rows, "input_ids")
        taught = flat(lesson.rows, "labels") != IGNORED
        counts_N = np.bincount(np.repeat(np.arange(len(lengths)), lengths)[taught], minlength=len(lengths))
        if not counts_N.sum():
            raise ConfigError("a lesson without a supervised token; its filter left nothing over")
        self._steps = list(_cut(lesson.group_N, counts_N, schooling))
        self.served = 0

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self._steps)

    def __getitem__(self, index: int) -> pa.Table:
        """Return the rows of a step, of which exactly its tokens are supervised."""
        rows, skipped = self._steps[index]
        table = self._rows.take(pa.array(rows)).combine_chunks()
        labels_T, weights_T = flat(table, "labels").copy(), flat(table, "token_weights").copy()
        rank_T = np.cumsum(labels_T != IGNORED) - 1
        outside_T = (rank_T < skipped) | (rank_T >= skipped + self._size)
        labels_T[outside_T], weights_T[outside_T] = IGNORED, 0.0
        self.served += int((labels_T != IGNORED).sum())
        return _with(_with(table, "labels", labels_T), "token_weights", weights_T)


def _cut(group_N: Ints, counts_N: Ints, schooling: Schooling) -> Iterator[tuple[Ints, int]]:
    """Yield for each step its rows, and how many supervised tokens of the first were learned in the step before."""
    rng = np.random.default_rng(schooling.seed)
    needed = schooling.steps * schooling.step_tokens
    parts, total = [], 0
    while total < needed:
        order = np.argsort(rng.permutation(group_N.max() + 1)[group_N], kind="stable")
        parts.append(order[counts_N[order] > 0])
        total += int(counts_N.sum())
    rows = np.concatenate(parts)
    ends = np.cumsum(counts_N[rows])
    for start in range(0, needed, schooling.step_tokens):
        first, last = np.searchsorted(ends, [start, start + schooling.step_tokens - 1], side="right")
        yield rows[first : last + 1], int(start - (ends[first] - counts_N[rows[first]]))


def _with(table: pa.Table, name: str, values_T: NDArray[Any]) -> pa.Table:
    lists = table.column(name).combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    changed = pa.ListArray.from_arrays(lists.offsets, pa.array(values_T, lists.type.value_type))
    return table.set_column(table.column_names.index(name), table.schema.field(name), changed)


def train(model: Any, tokenizer: Any, lesson: Lesson, schooling: Schooling, kl_coef: float) -> tuple[int, int]:
    """Train a model on a lesson with the weighted trainer; return optimiser steps and supervised tokens as counted."""
    steps = EqualSteps(lesson, schooling)
    if (reason := prepare_for_trees(model)) is not None:
        raise ConfigError(f"the student cannot be trained on prefix trees: {reason}")
    vocabulary = min(len(tokenizer), model.config.get_text_config().vocab_size)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = WeightedSFTTrainer(
            model=model,
            args=_arguments(scratch, schooling, kl_coef, vocabulary),
            train_dataset=TrainingDataset(lesson.rows.slice(0, 1)).with_format("arrow"),
            processing_class=tokenizer,
            data_collator=DataCollatorForWeightedLanguageModeling(
                tokenizer.pad_token_id, with_teacher=kl_coef > 0, vocab_size=vocabulary, trees=True
            ),
        )
        for callback in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(callback)
        trainer.train_dataset = steps  # SFTTrainer takes data sets alone
        trainer.train()
    return int(trainer.state.global_step), steps.served


def _arguments(scratch: str, schooling: Schooling, kl_coef: float, vocabulary: int) -> WeightedSFTConfig:
    params = schooling.params
    return WeightedSFTConfig(
        output_dir=scratch,
        seed=schooling.seed,
        data_seed=schooling.seed,
        num_train_epochs=1,
        learning_rate=params.learning_rate,
        warmup_steps=min(params.warmup_steps, schooling.steps // 4),
        lr_scheduler_type=params.lr_scheduler,
        per_device_train_batch_size=1,
        weight_decay=params.weight_decay,
        max_grad_norm=params.max_grad_norm,
        kl_coef=kl_coef,
        weight_normalization=params.weight_normalization,
        vocab_size=vocabulary,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=True,
    )
