"""Reading `training` shards for a trainer: in Arrow memory, checked, without a Python list of candidates."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from datasets import Dataset, IterableDataset

from vcrd.errors import ConfigError, SchemaError
from vcrd.io.parquet import read_schema, read_table, shard_files
from vcrd.io.stores import as_path
from vcrd.records import TOKENIZER_KEY
from vcrd.rows import TOKEN_COLUMNS, wrong_rows
from vcrd.storage import COMPACT_COLUMNS, PLAIN_COLUMNS

GROUP_COLUMN = "problem_id"
"""Rows of a problem begin alike, so that packing to trees merges them; nobody else looks at it."""
_NAMED = "token ids of the tokenizer "


class TrainingDataset(Dataset):  # type: ignore[misc]
    """A `datasets.Dataset` in Arrow format that also hands batches of rows out as Arrow tables."""

    def __getitems__(self, keys: list[int]) -> list[pa.Table]:
        """Return one table per row; the base class takes a batch for a dictionary."""
        batch = self[keys]
        return [batch.slice(index, 1) for index in range(len(keys))]


def load_training_dataset(folder: Path | str, *, streaming: bool = False) -> TrainingDataset | IterableDataset:
    """Return the per-token columns of a `training` folder, the teacher signal as it is stored.

    Args:
        folder: Of shards, or its URL in an object store.
        streaming: Read row groups as they are wanted, instead of all at once; rows are then checked by the collator.

    Raises:
        SchemaError: A column is missing, per-token columns differ in length, a weight cannot be, or shards differ.
    """
    files = shard_files(as_path(folder))
    names, tokenizer = _common(files)
    if streaming:
        dataset = _stream(files, names)
    else:
        tables = []
        for file in files:
            table = read_table(file, columns=names).replace_schema_metadata().combine_chunks()
            check_rows(table, file)
            tables.append(table)
        dataset = TrainingDataset(pa.concat_tables(tables)).with_format("arrow")
    # What `datasets` keeps through shuffling, splitting and selecting.
    dataset.info.description = "" if tokenizer is None else f"{_NAMED}{tokenizer}"
    return dataset


def as_training_dataset(dataset: Dataset | IterableDataset) -> TrainingDataset | IterableDataset:
    """Return any data set of such rows so that they come as Arrow tables: much faster than lists of candidates.

    Raises:
        ConfigError: It is none, or a stream that does not know its columns.
        SchemaError: It lacks a column.
    """
    if isinstance(dataset, TrainingDataset):
        return dataset
    if not isinstance(dataset, Dataset | IterableDataset):
        raise ConfigError(f"expected a training folder or a data set of `datasets`, got {type(dataset).__name__}")
    if dataset.column_names is None:
        raise ConfigError("the stream does not know its columns; give features= where it is made or mapped")
    chosen = dataset.select_columns(_read_columns(dataset.column_names, "the data set"))
    if isinstance(chosen, IterableDataset):
        return chosen.with_format("arrow")
    made: TrainingDataset = TrainingDataset(chosen.data, info=chosen.info, indices_table=chosen._indices)
    return made.with_format("arrow")


def tokenizer_of(dataset: Dataset | IterableDataset) -> str | None:
    """Return the fingerprint of the tokenizer that a data set's ids are of; None where it does not say."""
    told: str = dataset.info.description or ""
    return told.removeprefix(_NAMED) if told.startswith(_NAMED) else None


def token_columns(names: list[str], place: object) -> list[str]:
    """Choose what a trainer reads; a teacher signal may be plain, compact or not there.

    Raises:
        SchemaError: A column is missing.
    """
    if missing := [name for name in TOKEN_COLUMNS if name not in names]:
        raise SchemaError(f"expected per-token columns {TOKEN_COLUMNS}", file=place, column=missing[0])
    wanted = list(TOKEN_COLUMNS)
    for signal in (PLAIN_COLUMNS, COMPACT_COLUMNS):
        there = [name for name in signal if name in names]
        if there and len(there) < len(signal):
            absent = next(name for name in signal if name not in names)
            raise SchemaError(f"expected all of {signal} or none, got {there}", file=place, column=absent)
        wanted += there
    return wanted


def _read_columns(names: list[str], place: object) -> list[str]:
    return [*token_columns(names, place), *([GROUP_COLUMN] if GROUP_COLUMN in names else [])]


def has_teacher(names: list[str] | None) -> bool:
    """Tell whether columns of these names hold a teacher signal, plain or compact."""
    there = set(names or ())
    return there.issuperset(PLAIN_COLUMNS) or there.issuperset(COMPACT_COLUMNS)


def check_rows(table: pa.Table, file: object) -> None:
    """Check lengths, candidates and weights of a shard; the first row that is wrong is a `SchemaError`."""
    for wrong in wrong_rows(table):
        raise SchemaError(wrong.message, file=file, column=wrong.column, row=int(wrong.rows_W[0]))


def _common(files: list[Path]) -> tuple[list[str], str | None]:
    """Return what all shards have: their token columns, and the tokenizer that they name."""
    found = []
    for file in files:
        schema = read_schema(file)
        tokenizer = (schema.metadata or {}).get(TOKENIZER_KEY)
        found.append((_read_columns(schema.names, file), None if tokenizer is None else tokenizer.decode()))
        if found[-1] != found[0]:
            raise SchemaError(f"has other columns, or another tokenizer, than {files[0].name}", file=file)
    return found[0]


def _stream(files: list[Path], names: list[str]) -> IterableDataset:
    import pyarrow.dataset as pads
    from datasets import load_dataset

    checked = pads.ParquetFragmentScanOptions(page_checksum_verification=True)
    paths = [str(file) for file in files]
    return load_dataset(
        "parquet", data_files=paths, split="train", streaming=True, columns=names, fragment_scan_options=checked
    ).with_format("arrow")
