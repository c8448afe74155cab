"""Teacher signals for tests: tables of plain columns, and what came back as rows of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from vcrd.records import TRAINING
from vcrd.storage import SignalParams

PLAIN = ("teacher_topk_ids", "teacher_topk_logprobs", "teacher_tail_logprob")
Token = tuple[list[int], list[float], float]


def table_of(rows: list[list[Token]]) -> pa.Table:
    columns: list[Any] = [[[token[part] for token in row] for row in rows] for part in range(3)]
    fields = [TRAINING.schema.field(name) for name in PLAIN]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, fields, strict=True)]
    before, behind = pa.array([f"r{index}" for index in range(len(rows))]), pa.array(range(len(rows)))
    schema = pa.schema([pa.field("example_id", pa.string()), *fields, pa.field("step_index", pa.int64())])
    return pa.Table.from_arrays([before, *arrays, behind], schema=schema)


def rows_of(table: pa.Table) -> list[list[Token]]:
    columns = [table.column(name).to_pylist() for name in PLAIN]
    return [list(zip(*row, strict=True)) for row in zip(*columns, strict=True)]


def distribution(rng: np.random.Generator, vocabulary: int, k: int, kind: str) -> Token:
    """A token's signal: ids in any order, as a user's own data may have them."""
    if k == 0:
        return [], [], 0.0
    ids = rng.choice(vocabulary, k, replace=False).tolist()
    if kind == "certain":
        return ids, [0.0, *[-np.inf] * (k - 1)], -np.inf
    if kind == "far below":
        return ids, rng.uniform(-200, -30, k).astype(np.float32).tolist(), -0.0
    logits = rng.normal(0, 4, k + 1)
    logprobs = (logits - np.logaddexp.reduce(logits)).astype(np.float32).tolist()
    return ids, logprobs[:k], logprobs[k]


SAMPLE = [
    [distribution(np.random.default_rng(7 * index + k), 151_936, k, "usual") for k in (0, 0, 16, 16, 3)]
    for index in range(9)
]
PARAMS = SignalParams(vocabulary_size=151_936)
