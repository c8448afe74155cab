"""Reading `training` shards for a trainer: in Arrow memory, checked, without a Python list of candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, IterableDataset

from vcrd.errors import SchemaError
from vcrd.io.parquet import read_schema, read_table, shard_files
from vcrd.records import TOKENIZER_KEY
from vcrd.storage import COMPACT_COLUMNS

IGNORED = -100
NEEDED_COLUMNS = ("input_ids", "labels", "token_weights")
SIGNAL_COLUMNS = ("teacher_topk_ids", "teacher_topk_logprobs", "teacher_tail_logprob")


class TrainingDataset(Dataset):  # type: ignore[misc]
    """A `datasets.Dataset` in Arrow format that also hands batches of rows out as Arrow tables.

    Attributes:
        tokenizer_fingerprint: Of the tokenizer that the ids are of, where the shards say so.
    """

    tokenizer_fingerprint: str | None = None

    def __getitems__(self, keys: list[int]) -> list[pa.Table]:
        """Return one table per row; the base class takes a batch for a dictionary."""
        batch = self[keys]
        return [batch.slice(index, 1) for index in range(len(keys))]


def load_training_dataset(folder: Path | str, *, streaming: bool = False) -> TrainingDataset | IterableDataset:
    """Return the per-token columns of a `training` folder, the teacher signal as it is stored.

    Args:
        folder: Of shards.
        streaming: Read row groups as they are wanted, instead of all at once; rows are then checked by the collator.

    Raises:
        SchemaError: A column is missing, per-token columns differ in length, or a weight cannot be.
    """
    files = shard_files(Path(folder))
    schemas = [read_schema(file) for file in files]
    names = [token_columns(schema.names, file) for schema, file in zip(schemas, files, strict=True)]
    if streaming:
        return _stream(files, names[0], schemas[0])
    tables = []
    for file in files:
        table = read_table(file, columns=names[0]).combine_chunks()
        check_rows(table, file)
        tables.append(table)
    dataset: TrainingDataset = TrainingDataset(pa.concat_tables(tables)).with_format("arrow")
    dataset.tokenizer_fingerprint = _tokenizer_of(schemas[0])
    return dataset


def as_training_dataset(dataset: Dataset | IterableDataset) -> TrainingDataset | IterableDataset:
    """Return any data set of such rows so that they come as Arrow tables: much faster than lists of candidates.

    Raises:
        SchemaError: It lacks a column.
    """
    if isinstance(dataset, TrainingDataset):
        return dataset
    known = dataset.column_names
    names = token_columns(known, "train_dataset") if known else None
    if isinstance(dataset, IterableDataset):
        fingerprint = getattr(dataset, "tokenizer_fingerprint", None)
        stream = (dataset.select_columns(names) if names else dataset).with_format("arrow")
        stream.tokenizer_fingerprint = fingerprint
        return stream
    chosen = dataset.select_columns(names)
    made: TrainingDataset = TrainingDataset(chosen.data, info=chosen.info, indices_table=chosen._indices)
    return made.with_format("arrow")


def token_columns(names: list[str], place: object) -> list[str]:
    """Choose what a trainer reads; a teacher signal may be plain, compact or not there.

    Raises:
        SchemaError: A column is missing.
    """
    if missing := [name for name in NEEDED_COLUMNS if name not in names]:
        raise SchemaError(f"expected per-token columns {NEEDED_COLUMNS}", file=place, column=missing[0])
    wanted = list(NEEDED_COLUMNS)
    for signal in (SIGNAL_COLUMNS, COMPACT_COLUMNS):
        there = [name for name in signal if name in names]
        if there and len(there) < len(signal):
            absent = next(name for name in signal if name not in names)
            raise SchemaError(f"expected all of {signal} or none, got {there}", file=place, column=absent)
        wanted += there
    return wanted


def has_teacher(names: list[str] | None) -> bool:
    """Tell whether columns of these names hold a teacher signal, plain or compact."""
    there = set(names or ())
    return there.issuperset(SIGNAL_COLUMNS) or there.issuperset(COMPACT_COLUMNS)


def check_rows(table: pa.Table, file: object) -> None:
    """Check lengths and weights of a shard; the first row that is wrong is a `SchemaError`."""
    if table.num_rows == 0:
        return
    lengths = lengths_of(table, "input_ids")
    for name in table.column_names:
        if not pa.types.is_list(table.schema.field(name).type):
            continue
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


def _stream(files: list[Path], names: list[str], schema: pa.Schema) -> IterableDataset:
    import pyarrow.dataset as pads
    from datasets import load_dataset

    checked = pads.ParquetFragmentScanOptions(page_checksum_verification=True)
    paths = [str(file) for file in files]
    stream = load_dataset(
        "parquet", data_files=paths, split="train", streaming=True, columns=names, fragment_scan_options=checked
    ).with_format("arrow")
    stream.tokenizer_fingerprint = _tokenizer_of(schema)
    return stream


def _tokenizer_of(schema: pa.Schema) -> str | None:
    found = (schema.metadata or {}).get(TOKENIZER_KEY)
    return None if found is None else found.decode()
