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
from numpy.typing import NDArray

from vcrd.records import COMPACT_TRAINING_SCHEMA, IGNORED, TRAINING
from vcrd.storage import COMPACT_COLUMNS, decode_teacher_signal
from vcrd.training.dataset import (
    NEEDED_COLUMNS,
    check_rows,
    column,
    flat,
    has_teacher,
    lengths_of,
    token_columns,
)

_FIELDS = {field.name: field for field in (*TRAINING.schema, *COMPACT_TRAINING_SCHEMA)}

Place = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Where each token of the rows, one behind the other, stands in the batch: row and column."""


@dataclass(frozen=True)
class DataCollatorForWeightedLanguageModeling:
    """Pads right, or lays rows behind one another; a place without a candidate holds id -1 and log-probability -inf.

    Attributes:
        pad_token_id: Fills `input_ids`.
        with_teacher: Whether to build the teacher tensors where the rows have them; without KL nobody reads them.
        padding_free: One row of all tokens with positions that begin anew, instead of a padded row each.
        vocab_size: A candidate from here on is padding of the teacher's head: its mass is tail. None: there is none.
    """

    pad_token_id: int
    with_teacher: bool = True
    padding_free: bool = False
    vocab_size: int | None = None

    def __call__(self, rows: Sequence[pa.Table | Mapping[str, Any]]) -> dict[str, Any]:
        """Collate rows, given as dictionaries or as Arrow tables of one or more rows.

        Returns:
            input_ids, labels, token_weights [B, T]; teacher_topk_ids, teacher_topk_logprobs [B, T, K] and
            teacher_tail_logprob [B, T]; attention_mask [B, T], or position_ids [1, T] and the sequences' borders.

        Raises:
            SchemaError: Per-token columns of a row differ in length, or a weight cannot be.
        """
        table = self._as_table(rows)
        check_rows(table, "a batch")
        lengths = lengths_of(table, "input_ids")
        batch, shape, place = self._layout(lengths)

        def laid(name: str, kind: type, filler: float) -> torch.Tensor:
            values: np.ndarray[Any, Any] = np.full(shape, filler, kind)
            values[place] = flat(table, name)
            return torch.from_numpy(values)

        batch["input_ids"] = laid("input_ids", np.int64, self.pad_token_id)
        batch["labels"] = laid("labels", np.int64, IGNORED)
        batch["token_weights"] = laid("token_weights", np.float32, 0.0)
        if self.padding_free:
            # The first token of a row follows from nothing; here another row's last token stands before it.
            first = batch["position_ids"] == 0
            batch["labels"][first], batch["token_weights"][first] = IGNORED, 0.0
        if self.with_teacher and has_teacher(table.column_names):
            batch["teacher_tail_logprob"] = laid("teacher_tail_logprob", np.float32, 0.0)
            batch.update(_candidates(table, shape, place))
            if self.vocab_size is not None:
                _padding_to_tail(batch, self.vocab_size)
        return batch

    def _as_table(self, rows: Sequence[pa.Table | Mapping[str, Any]]) -> pa.Table:
        first = rows[0]
        there = first.column_names if isinstance(first, pa.Table) else list(first)
        names = [name for name in token_columns(there, "a batch") if self.with_teacher or name in NEEDED_COLUMNS]
        tables = [row.select(names) if isinstance(row, pa.Table) else _table_of(row, names) for row in rows]
        table = pa.concat_tables([item.replace_schema_metadata() for item in tables]).combine_chunks()
        return decode_teacher_signal(table).combine_chunks() if COMPACT_COLUMNS[0] in names else table

    def _layout(self, lengths: NDArray[np.int64]) -> tuple[dict[str, Any], tuple[int, int], Place]:
        """Return what tells the model of the rows' borders, the shape, and where each token goes."""
        within = np.concatenate([np.arange(length) for length in lengths])
        if self.padding_free:
            total = int(lengths.sum())
            borders = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
            longest = int(lengths.max())
            batch = {
                "position_ids": torch.from_numpy(within[None]),
                "cu_seq_lens_q": borders,
                "cu_seq_lens_k": borders,
                "max_length_q": longest,
                "max_length_k": longest,
                "seq_idx": torch.from_numpy(np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[None]),
            }
            return batch, (1, total), (np.zeros(total, np.int64), np.arange(total))
        place = np.repeat(np.arange(len(lengths)), lengths), within
        shape = (len(lengths), int(lengths.max()))
        mask = np.zeros(shape, np.int64)
        mask[place] = 1
        return {"attention_mask": torch.from_numpy(mask)}, shape, place


def _table_of(row: Mapping[str, Any], names: Sequence[str]) -> pa.Table:
    return pa.Table.from_pylist([{name: row[name] for name in names}], pa.schema([_FIELDS[name] for name in names]))


def _candidates(table: pa.Table, shape: tuple[int, int], place: Place) -> dict[str, torch.Tensor]:
    inner = column(table, "teacher_topk_ids").flatten()
    counts = np.asarray(inner.value_lengths().to_numpy(zero_copy_only=False), np.int64)
    k = max(int(counts.max(initial=0)), 1)
    rank = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    at = (*(np.repeat(axis, counts) for axis in place), rank)
    ids = np.full((*shape, k), -1, np.int64)
    logprobs = np.full((*shape, k), -np.inf, np.float32)
    ids[at] = inner.flatten().to_numpy(zero_copy_only=False)
    logprobs[at] = column(table, "teacher_topk_logprobs").flatten().flatten().to_numpy(zero_copy_only=False)
    return {"teacher_topk_ids": torch.from_numpy(ids), "teacher_topk_logprobs": torch.from_numpy(logprobs)}


def _padding_to_tail(batch: dict[str, Any], vocab_size: int) -> None:
    ids, logprobs = batch["teacher_topk_ids"], batch["teacher_topk_logprobs"]
    padding = ids >= vocab_size
    if padding.any():
        lost = logprobs.masked_fill(~padding, -torch.inf).logsumexp(-1)
        batch["teacher_tail_logprob"] = torch.logaddexp(batch["teacher_tail_logprob"], lost)
        batch["teacher_topk_ids"] = ids.masked_fill(padding, -1)
        batch["teacher_topk_logprobs"] = logprobs.masked_fill(padding, -torch.inf)
