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

from vcrd.export.rows import pieces, without_weightless
from vcrd.export.target import Target
from vcrd.io.parquet import write_table
from vcrd.io.rejects import Reject
from vcrd.records import IGNORED
from vcrd.rows import TokenView, list_column
from vcrd.storage.rows import lengths_of

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
    view = TokenView(table)
    ids_TK, logprobs_TK, mask_TK = _candidates(table, view.active_T)
    ends_R = pa.array(view.starts_R1.astype(np.int32))
    last_T = view.left_T == 1

    def tokens(values_T: NDArray[Any]) -> pa.ListArray:
        return pa.ListArray.from_arrays(ends_R, pa.array(values_T))

    def targets(values_TK: NDArray[Any], filler: float) -> pa.ListArray:
        values_TK = np.roll(values_TK, -1, axis=0)
        values_TK[last_T] = filler
        n, k = values_TK.shape
        inner = pa.ListArray.from_arrays(
            pa.array(np.arange(n + 1, dtype=np.int32) * np.int32(k)), pa.array(values_TK.ravel())
        )
        return pa.ListArray.from_arrays(ends_R, inner)

    columns = [
        tokens(view.ids_T),
        tokens(np.ones(len(view.row_T), np.int8)),
        tokens(np.where(view.active_T, view.labels_T, IGNORED)),
        targets(ids_TK, 0),
        targets(logprobs_TK, PADDING),
        targets(mask_TK, 0),
    ]
    return pa.Table.from_arrays(
        [column.cast(field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def _candidates(table: pa.Table, active_T: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return ids, log-probabilities normalised over the candidates, and mask, [N, K], target-aligned."""
    inner = list_column(table, "teacher_topk_ids").flatten()
    counts_T = lengths_of(inner)
    k = max(int(counts_T.max(initial=0)), 1)
    place_T = np.repeat(np.arange(len(counts_T)), counts_T)
    rank_T = np.arange(counts_T.sum()) - np.repeat(np.cumsum(counts_T) - counts_T, counts_T)
    ids_TK = np.zeros((len(counts_T), k), np.int32)
    logprobs_TK = np.full((len(counts_T), k), -np.inf, np.float32)
    ids_TK[place_T, rank_T] = np.asarray(inner.flatten())
    logprobs_TK[place_T, rank_T] = np.asarray(list_column(table, "teacher_topk_logprobs").flatten().flatten())
    mask_TK = np.isfinite(logprobs_TK) & (ids_TK >= 0) & active_T[:, None]
    kept_TK = np.where(mask_TK, logprobs_TK, -np.inf)
    top_T1 = np.where(mask_TK.any(1, keepdims=True), kept_TK.max(1, keepdims=True), np.float32(0))
    total_T1 = np.exp(kept_TK - top_T1).sum(1, keepdims=True)
    normal_TK = logprobs_TK - top_T1 - np.log(np.where(total_T1 > 0, total_T1, 1))
    return (
        np.where(mask_TK, ids_TK, 0),
        np.where(mask_TK, normal_TK, np.float32(PADDING)),
        mask_TK.astype(np.int8),
    )


AXOLOTL_KD = Target(
    open=_AxolotlWriter,
    lost={"weights": "its loss counts every token alike; only weight 0 can be carried, as a masked label"},
    needs_teacher=True,
)
