"""Parquet with an explicit schema, zstd and page checksums; the one place that reads and writes it.

Without page checksums a flipped bit is read back as wrong data; with them it is a `SchemaError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vcrd.errors import ConfigError, SchemaError
from vcrd.io.files import atomic_path
from vcrd.io.manifest import read_manifest
from vcrd.io.stores import StorePath

ROW_GROUP_ROWS, ROW_GROUP_BYTES = 4096, 2**27


def as_row(record: object) -> dict[str, Any]:
    """Turn a dataclass record into a row, without copying its values."""
    return {item.name: getattr(record, item.name) for item in fields(record)}  # type: ignore[arg-type]


def table_from_rows(rows: Sequence[dict[str, Any]], schema: pa.Schema, name: str) -> pa.Table:
    """Build a table of exactly `schema`; a value that does not fit is a `SchemaError` that names its column and row."""
    columns = []
    for field in schema:
        try:
            column = pa.array([row[field.name] for row in rows], type=field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, KeyError) as error:
            raise SchemaError(f"expected {field.type} ({error})", file=name, column=field.name) from error
        if not field.nullable and column.null_count:
            first = column.is_null().to_pylist().index(True)
            raise SchemaError("a required value is missing", file=name, column=field.name, row=first)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


class TableWriter:
    """Appends tables to a file, and holds back no more than a row group.

    A row group has `ROW_GROUP_ROWS` rows, and fewer where these are large.
    """

    def __init__(self, file: pq.ParquetWriter) -> None:
        self._file = file
        self._waiting: list[pa.Table] = []
        self.rows = 0

    def write(self, table: pa.Table) -> None:
        """Append a table of the file's schema."""
        self.rows += table.num_rows
        while table.num_rows:
            rows, size = (sum(getattr(part, name) for part in self._waiting) for name in ("num_rows", "nbytes"))
            fitting = (ROW_GROUP_BYTES - size) * table.num_rows // max(table.nbytes, 1)
            room = min(ROW_GROUP_ROWS - rows, max(fitting, 1))
            self._waiting.append(table.slice(0, room))
            table = table.slice(room)
            if table.num_rows or sum(part.nbytes for part in self._waiting) >= ROW_GROUP_BYTES:
                self.flush()

    def flush(self) -> None:
        """End the row group."""
        if self._waiting:
            self._file.write_table(pa.concat_tables(self._waiting), row_group_size=ROW_GROUP_ROWS)
            self._waiting.clear()
            # The allocator keeps what was freed, and over many row groups ever more of it.
            pa.default_memory_pool().release_unused()


@contextmanager
def table_writer(path: Path, schema: pa.Schema) -> Iterator[TableWriter]:
    """Write a file table by table, atomically; it is reopened and rows and schema are compared before it gets its name.

    Raises:
        SchemaError: What was written does not read back.
    """

    def check(temporary: Path) -> None:
        metadata = pq.read_metadata(temporary)
        if metadata.num_rows != writer.rows or not metadata.schema.to_arrow_schema().equals(schema):
            raise SchemaError("what was written does not read back", file=path)

    how = {"compression": "zstd", "write_page_checksum": True}
    with atomic_path(path, check) as temporary, pq.ParquetWriter(temporary, schema, **how) as file:
        writer = TableWriter(file)
        yield writer
        writer.flush()


def write_table(path: Path, table: pa.Table) -> None:
    """Write `table` atomically; it is reopened and its rows and schema are compared before it gets its name."""
    with table_writer(path, table.schema) as writer:
        writer.write(table)


def read_batches(
    path: Path,
    columns: Sequence[str] | None = None,
    rows: int = 1024,
    schema: pa.Schema | None = None,
    *,
    validate: bool = True,
) -> Iterator[pa.RecordBatch]:
    """Read columns of one shard, or all, some rows at a time, checking every page's checksum and a given schema.

    Args:
        path: The shard.
        columns: Their names.
        rows: Of a batch, at most.
        schema: What the shard must have.
        validate: Whether text that is not UTF-8 is an error; else whoever reads it decides, row by row.

    Raises:
        ConfigError: There is no such file.
        SchemaError: A checksum or the schema does not hold, or a text is not UTF-8.
    """
    with _opened(path) as file:
        if schema is not None:
            _check_schema(path, schema, file.schema_arrow)
        # One iteration over the whole file would hold on to every row group that it has read.
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
                if validate:
                    batch.validate(full=True)
                yield batch


def read_table(path: Path, schema: pa.Schema | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one shard, checking every page's checksum and, where given, the schema.

    Raises:
        ConfigError: There is no such file.
        SchemaError: A checksum or the schema does not hold, or a text is not UTF-8.
    """
    with _opened(path) as file:
        if schema is not None:
            _check_schema(path, schema, file.schema_arrow)
        table = file.read(columns=columns)
        table.validate(full=True)
        return table


def read_schema(path: Path) -> pa.Schema:
    """Read one shard's schema alone, with its metadata.

    Raises:
        ConfigError: There is no such file.
        SchemaError: It is no Parquet file.
    """
    with _opened(path) as file:
        return file.schema_arrow


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        opened = path.open("rb") if isinstance(path, StorePath) else nullcontext(path)
        with opened as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
            yield file
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing; run the stage that writes it") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SchemaError(f"cannot be read: {error}", file=path) from error


def shard_files(folder: Path) -> list[Path]:
    """Return the shards of a data set folder in their order; in an object store, those that its manifest names.

    Raises:
        ConfigError: There are none, or there is no manifest in an object store: the folder was not put to its end.
    """
    if isinstance(folder, StorePath):
        names = [entry.file for entry in read_manifest(folder).files if entry.file.endswith(".parquet")]
    else:
        names = [path.name for path in folder.glob("*.parquet")]
    files = [folder / name for name in sorted(names)]
    if not files:
        raise ConfigError(f"{folder} holds no *.parquet; run the stage that writes it")
    return files


def artefact_folder(source: Path, name: str) -> Path:
    """Return the folder of an artefact in a run's folder, or the folder itself where it has none in it.

    Raises:
        ConfigError: There is no such folder, or it holds no shards.
    """
    if not source.is_dir():
        raise ConfigError(f"{source}: no such folder; give a run's folder or its {name} folder")
    inner = source / name
    folder = inner if inner.is_dir() else source
    shard_files(folder)
    return folder


def read_rows(files: Iterable[Path], schema: pa.Schema) -> list[dict[str, Any]]:
    """Read whole shards as rows."""
    return [row for file in files for row in read_table(file, schema).to_pylist()]


def _check_schema(path: Path, expected: pa.Schema, got: pa.Schema) -> None:
    if not got.equals(expected):
        raise SchemaError(schema_difference(expected, got), file=path)


def schema_difference(expected: pa.Schema, got: pa.Schema) -> str:
    """Say how a schema differs from the one expected."""
    missing = [name for name in expected.names if name not in got.names]
    extra = [name for name in got.names if name not in expected.names]
    types = [
        f"{name} is {_type_of(got.field(name))} instead of {_type_of(expected.field(name))}"
        for name in expected.names
        if name in got.names and got.field(name) != expected.field(name)
    ]
    parts = [f"missing columns {missing}" if missing else "", f"unknown columns {extra}" if extra else "", *types]
    return "; ".join(part for part in parts if part) or "columns are in another order"


def _type_of(field: pa.Field) -> str:
    return f"{field.type}{', optional' if field.nullable else ''}"
