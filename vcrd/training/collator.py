"""From rows of the data set to padded tensors, by numpy over Arrow's own buffers.

Axis letters: B rows, T tokens, K teacher candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from vcrd.records import TRAINING
from vcrd.training.dataset import IGNORED, SIGNAL_COLUMNS, TOKEN_COLUMNS, column, flat, lengths_of


@dataclass(frozen=True)
class DataCollatorForWeightedLanguageModeling:
    """Pads right; a place without a teacher candidate holds id -1 and log-probability -inf.

    Attributes:
        pad_token_id: Fills `input_ids`.
        with_teacher: Whether to build the teacher tensors; without KL nobody reads them.
    """

    pad_token_id: int
    with_teacher: bool = True

    def __call__(self, rows: Sequence[pa.Table | Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return input_ids, attention_mask, labels, token_weights [B, T]; the teacher's candidates [B, T, K]."""
        names = TOKEN_COLUMNS if self.with_teacher else TOKEN_COLUMNS[: -len(SIGNAL_COLUMNS)]
        table = pa.concat_tables([_as_table(row, names) for row in rows]).combine_chunks()
        lengths = lengths_of(table, "input_ids")
        shape = (len(lengths), int(lengths.max()))
        place = np.repeat(np.arange(shape[0]), lengths), np.concatenate([np.arange(length) for length in lengths])

        def padded(name: str, kind: type, filler: float) -> torch.Tensor:
            values: np.ndarray[Any, Any] = np.full(shape, filler, kind)
            values[place] = flat(table, name)
            return torch.from_numpy(values)

        mask = np.zeros(shape, np.int64)
        mask[place] = 1
        batch = {
            "input_ids": padded("input_ids", np.int64, self.pad_token_id),
            "attention_mask": torch.from_numpy(mask),
            "labels": padded("labels", np.int64, IGNORED),
            "token_weights": padded("token_weights", np.float32, 0.0),
        }
        if self.with_teacher:
            batch["teacher_tail_logprob"] = padded("teacher_tail_logprob", np.float32, 0.0)
            batch.update(_candidates(table, shape, place))
        return batch


def _as_table(row: pa.Table | Mapping[str, Any], names: Sequence[str]) -> pa.Table:
    if isinstance(row, pa.Table):
        return row.select(names)
    schema = pa.schema([TRAINING.schema.field(name) for name in names])
    return pa.Table.from_pylist([{name: row[name] for name in names}], schema=schema)


def _candidates(table: pa.Table, shape: tuple[int, int], place: Any) -> dict[str, torch.Tensor]:
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
