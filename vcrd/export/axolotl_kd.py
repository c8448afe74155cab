"""Axolotl's `kd` integration: tokenised rows with the teacher's candidates, one place to the left of ours.

Read from axolotl-ai-cloud/axolotl, `src/axolotl/integrations/kd/` at 139786b: `README.md` ("Target alignment"),
`chat_template.py`, `collator.py`; it holds for versions above 0.18.0 (nothing of it was run here):

- row j of `target_token_ids`, `target_logprobs`, `target_mask` describes `input_ids[j + 1]`; the last row is padding;
- padding is id 0, log-probability -1e9, mask 0 (finite, as 0 * -inf is no number); the mask is 0 where the label of
  token j + 1 is -100;
- log-probabilities are normalised over the k candidates (`kd_normalize_topk`): no bucket holds the rest of the mass;
- `axolotl/utils/data/wrappers.py`: rows with `input_ids`, `attention_mask` and `labels` are taken as tokenised.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcrd.export.rows import RowView, list_column, list_lengths, pieces, without_weightless
from vcrd.export.target import Target
from vcrd.io.parquet import write_table
from vcrd.io.rejects import Reject
from vcrd.records import IGNORED

PADDING = -1e9
_PIECE = 1 << 20  # tokens: every one gets k places in memory, where ours has them on the step alone
_BYTES, _INTS, _FLOATS = (pa.list_(kind) for kind in (pa.int8(), pa.int32(), pa.float32()))
SCHEMA = pa.schema(
    {
        "input_ids": _INTS,
        "attention_mask": _BYTES,
        "labels": _INTS,
        "target_token_ids": pa.list_(_INTS),
        "target_logprobs": pa.list_(_FLOATS),
        "target_mask": pa.list_(_BYTES),
    }
)


class _AxolotlWriter:
    def __init__(self, folder: Path, shards: Sequence[str], tokenizer: Any) -> None:
        self._folder = folder

    def add(self, table: pa.Table, shard: str) -> list[Reject]:
        table, rejects = without_weightless(table)
        for index, piece in enumerate(pieces(table, _PIECE)):
            write_table(self._folder / f"{shard}-{index:03d}.parquet", _as_targets(piece))
        return rejects

    def close(self) -> None:
        pass


def _as_targets(table: pa.Table) -> pa.Table:
    view = RowView(table)
    ids_NK, logprobs_NK, mask_NK = _candidates(table, view.active_N)
    ends_R = pa.array(np.concatenate([[0], np.cumsum(list_lengths(table, "input_ids"))]).astype(np.int32))
    last_N = view.left_N == 1

    def tokens(values_N: NDArray[Any]) -> pa.ListArray:
        return pa.ListArray.from_arrays(ends_R, pa.array(values_N))

    def targets(values_NK: NDArray[Any], filler: float) -> pa.ListArray:
        values_NK = np.roll(values_NK, -1, axis=0)
        values_NK[last_N] = filler
        n, k = values_NK.shape
        inner = pa.ListArray.from_arrays(
            pa.array(np.arange(n + 1, dtype=np.int32) * np.int32(k)), pa.array(values_NK.ravel())
        )
        return pa.ListArray.from_arrays(ends_R, inner)

    columns = [
        tokens(view.ids_N),
        tokens(np.ones(len(view.row_N), np.int8)),
        tokens(np.where(view.active_N, view.labels_N, IGNORED)),
        targets(ids_NK, 0),
        targets(logprobs_NK, PADDING),
        targets(mask_NK, 0),
    ]
    return pa.Table.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def _candidates(table: pa.Table, active_N: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return ids, log-probabilities normalised over the candidates, and mask, [N, K], target-aligned."""
    inner = list_column(table, "teacher_topk_ids").flatten()
    counts_N = np.asarray(inner.value_lengths().fill_null(0), np.int64)
    k = max(int(counts_N.max(initial=0)), 1)
    place_N = np.repeat(np.arange(len(counts_N)), counts_N)
    rank_N = np.arange(counts_N.sum()) - np.repeat(np.cumsum(counts_N) - counts_N, counts_N)
    ids_NK = np.zeros((len(counts_N), k), np.int32)
    logprobs_NK = np.full((len(counts_N), k), -np.inf, np.float32)
    ids_NK[place_N, rank_N] = np.asarray(inner.flatten())
    logprobs_NK[place_N, rank_N] = np.asarray(list_column(table, "teacher_topk_logprobs").flatten().flatten())
    mask_NK = np.isfinite(logprobs_NK) & (ids_NK >= 0) & active_N[:, None]
    kept_NK = np.where(mask_NK, logprobs_NK, -np.inf)
    top_N1 = np.where(mask_NK.any(1, keepdims=True), kept_NK.max(1, keepdims=True), np.float32(0))
    total_N1 = np.exp(kept_NK - top_N1).sum(1, keepdims=True)
    normal_NK = logprobs_NK - top_N1 - np.log(np.where(total_N1 > 0, total_N1, 1))
    return (
        np.where(mask_NK, ids_NK, 0),
        np.where(mask_NK, normal_NK, np.float32(PADDING)),
        mask_NK.astype(np.int8),
    )


AXOLOTL_KD = Target(
    open=_AxolotlWriter,
    lost={"weights": "its loss counts every token alike; only weight 0 can be carried, as a masked label"},
    needs_teacher=True,
)
