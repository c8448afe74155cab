"""Reading `training` shards for a trainer: in Arrow memory, checked, without a Python list of candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from vcrd.errors import SchemaError
from vcrd.io.parquet import read_table, shard_files

IGNORED = -100
SIGNAL_COLUMNS = ("teacher_topk_ids", "teacher_topk_logprobs", "teacher_tail_logprob")
TOKEN_COLUMNS = ("input_ids", "labels", "token_weights", *SIGNAL_COLUMNS)


class TrainingDataset(Dataset):  # type: ignore[misc]
    """A `datasets.Dataset` in Arrow format that also hands batches of rows out as Arrow tables."""

    def __getitems__(self, keys: list[int]) -> list[pa.Table]:
        """Return one table per row; the base class takes a batch for a dictionary."""
        batch = self[keys]
        return [batch.slice(index, 1) for index in range(len(keys))]


def load_training_dataset(folder: Path) -> TrainingDataset:
    """Return the per-token columns of a `training` folder.

    Raises:
        SchemaError: A column is missing, per-token columns differ in length, or a weight cannot be.
    """
    tables = []
    for file in shard_files(folder):
        table = read_table(file)
        if missing := [name for name in TOKEN_COLUMNS if name not in table.column_names]:
            raise SchemaError(f"expected per-token columns {TOKEN_COLUMNS}", file=file, column=missing[0])
        table = table.select(TOKEN_COLUMNS).combine_chunks()
        check_rows(table, file)
        tables.append(table)
    dataset: TrainingDataset = TrainingDataset(pa.concat_tables(tables)).with_format("arrow")
    return dataset


def check_rows(table: pa.Table, file: Path) -> None:
    """Check lengths and weights of a shard; the first row that is wrong is a `SchemaError`."""
    if table.num_rows == 0:
        return
    lengths = lengths_of(table, "input_ids")
    for name in TOKEN_COLUMNS[1:]:
        wrong = np.flatnonzero(lengths_of(table, name) != lengths)
        if len(wrong):
            row = int(wrong[0])
            raise SchemaError(f"expected {lengths[row]} values, one per token", file=file, column=name, row=row)
    weights = flat(table, "token_weights")
    masked = flat(table, "labels") == IGNORED
    bad = ~np.isfinite(weights) | (weights < 0) | (masked & (weights != 0))
    if bad.any():
        token = int(np.flatnonzero(bad)[0])
        row = int(np.searchsorted(np.cumsum(lengths), token, side="right"))
        message = f"expected a finite weight >= 0, and 0 where the label is {IGNORED}; got {weights[token]}"
        raise SchemaError(message, file=file, column="token_weights", row=row)


def column(table: pa.Table, name: str) -> Any:
    """Return a list column as one array."""
    whole = table.column(name).combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def lengths_of(table: pa.Table, name: str) -> np.ndarray[Any, Any]:
    """Return how many values each row of a list column has."""
    return np.asarray(column(table, name).value_lengths().to_numpy(zero_copy_only=False))


def flat(table: pa.Table, name: str) -> np.ndarray[Any, Any]:
    """Return the values of a list column, all rows behind one another."""
    return np.asarray(column(table, name).flatten().to_numpy(zero_copy_only=False))
