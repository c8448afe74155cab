"""From rows of the data set to tensors, by numpy over Arrow's own buffers.

Axis letters: B rows, T tokens, K teacher candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from vcrd.records import COMPACT_TRAINING_SCHEMA, IGNORED, TRAINING
from vcrd.rows import TOKEN_COLUMNS, flat, list_column, list_lengths
from vcrd.storage import COMPACT_COLUMNS, decode_teacher_signal
from vcrd.storage.rows import lengths_of
from vcrd.training.dataset import check_rows, has_teacher, token_columns
from vcrd.training.layouts import Layout, as_trees, behind_one_another, padded

_FIELDS = {field.name: field for field in (*TRAINING.schema, *COMPACT_TRAINING_SCHEMA)}


@dataclass(frozen=True)
class DataCollatorForWeightedLanguageModeling:
    """Pads right, or lays rows behind one another, or merges them to prefix trees.

    A place without a candidate holds id -1 and log-probability -inf.

    Attributes:
        pad_token_id: Fills `input_ids`.
        with_teacher: Whether to build the teacher tensors where the rows have them; without KL nobody reads them.
        padding_free: One row of all tokens with positions that begin anew, instead of a padded row each.
        vocab_size: A candidate from here on is padding of the teacher's head: its mass is tail. None: there is none.
        trees: One row in which tokens that several rows begin with stand once, instead of a padded row each.
    """

    pad_token_id: int
    with_teacher: bool = True
    padding_free: bool = False
    vocab_size: int | None = None
    trees: bool = False

    def __call__(self, rows: Sequence[pa.Table | Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows, given as dictionaries or as Arrow tables of one or more rows.

        Returns:
            input_ids, labels, token_weights [B, T]; teacher_topk_ids, teacher_topk_logprobs [B, T, K] and
            teacher_tail_logprob [B, T]; attention_mask [B, T], or position_ids [1, T] and the sequences' borders. Of
            trees: see `vcrd.training.layouts.as_trees`; labels and all beside them are [1, M] or [1, M, K].

        Raises:
            SchemaError: Per-token columns of a row differ in length, or a weight cannot be.
        """
        table = self._as_table(rows)
        check_rows(table, "a batch")
        layout = self._layout(table)
        batch: dict[str, Any] = layout.batch
        batch["labels"] = layout.laid(flat(table, "labels"), np.int64, IGNORED)
        batch["token_weights"] = layout.laid(flat(table, "token_weights"), np.float32, 0.0)
        if self.padding_free:
            # The first token of a row follows from nothing; here another row's last token stands before it.
            first = batch["position_ids"] == 0
            batch["labels"][first], batch["token_weights"][first] = IGNORED, 0.0
        if self.with_teacher and has_teacher(table.column_names):
            batch["teacher_tail_logprob"] = layout.laid(flat(table, "teacher_tail_logprob"), np.float32, 0.0)
            batch.update(_candidates(table, layout))
            if self.vocab_size is not None:
                _padding_to_tail(batch, self.vocab_size)
        return batch

    def _as_table(self, rows: Sequence[pa.Table | Mapping[str, Any]]) -> pa.Table:
        first = rows[0]
        there = first.column_names if isinstance(first, pa.Table) else list(first)
        names = [name for name in token_columns(there, "a batch") if self.with_teacher or name in TOKEN_COLUMNS]
        tables = [row.select(names) if isinstance(row, pa.Table) else _table_of(row, names) for row in rows]
        table = pa.concat_tables([item.replace_schema_metadata() for item in tables]).combine_chunks()
        return decode_teacher_signal(table).combine_chunks() if COMPACT_COLUMNS[0] in names else table

    def _layout(self, table: pa.Table) -> Layout:
        ids, lengths = flat(table, "input_ids"), list_lengths(table, "input_ids")
        if self.trees:
            return as_trees(ids, lengths, flat(table, "labels") != IGNORED)
        return behind_one_another(ids, lengths) if self.padding_free else padded(ids, lengths, self.pad_token_id)


def _table_of(row: Mapping[str, Any], names: Sequence[str]) -> pa.Table:
    return pa.Table.from_pylist([{name: row[name] for name in names}], pa.schema([_FIELDS[name] for name in names]))


def _candidates(table: pa.Table, layout: Layout) -> dict[str, torch.Tensor]:
    lists = [list_column(table, name).flatten() for name in ("teacher_topk_ids", "teacher_topk_logprobs")]
    if layout.kept is not None:
        lists = [each.filter(pa.array(layout.kept)) for each in lists]
    counts = lengths_of(lists[0])
    k = max(int(counts.max(initial=0)), 1)
    rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    at = (*(np.repeat(axis, counts) for axis in layout.place), rank)
    ids = np.full((*layout.shape, k), -1, np.int64)
    logprobs = np.full((*layout.shape, k), -np.inf, np.float32)
    ids[at], logprobs[at] = (each.flatten().to_numpy(zero_copy_only=False) for each in lists)
    return {"teacher_topk_ids": torch.from_numpy(ids), "teacher_topk_logprobs": torch.from_numpy(logprobs)}


def _padding_to_tail(batch: dict[str, Any], vocab_size: int) -> None:
    ids, logprobs = batch["teacher_topk_ids"], batch["teacher_topk_logprobs"]
    padding = ids >= vocab_size
    if padding.any():
        lost = logprobs.masked_fill(~padding, -torch.inf).logsumexp(-1)
        batch["teacher_tail_logprob"] = torch.logaddexp(batch["teacher_tail_logprob"], lost)
        batch["teacher_topk_ids"] = ids.masked_fill(padding, -1)
        batch["teacher_topk_logprobs"] = logprobs.masked_fill(padding, -torch.inf)
