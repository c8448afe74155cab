"""What an export reads: the per-token columns of a `training` folder, shard by shard, checked row by row.

Axis letters: R rows, N tokens of all rows behind one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcrd.errors import ConfigError, SchemaError
from vcrd.io.parquet import read_table, shard_files
from vcrd.io.rejects import Reject, reject
from vcrd.records import IGNORED, TOKENIZER_KEY, TRAINING
from vcrd.storage import COMPACT_COLUMNS, PLAIN_COLUMNS, decode_teacher_signal

KEY = TRAINING.key
TOKEN_COLUMNS = ("input_ids", "labels", "token_weights")

Flags = NDArray[np.bool_]
Check = Callable[[pa.Table], tuple[pa.Table, list[Reject]]]


def training_folder(source: Path) -> Path:
    """Return the `training` folder of a run's folder, or the folder itself.

    Raises:
        ConfigError: There is no such folder, or it holds no shards.
    """
    if not source.is_dir():
        raise ConfigError(f"{source}: no such folder; give a run's folder or its training folder")
    inner = source / TRAINING.name
    folder = inner if inner.is_dir() else source
    shard_files(folder)
    return folder


def read_shard(file: Path) -> pa.Table:
    """Read a shard's key and per-token columns, all three of the teacher's or none.

    Raises:
        ConfigError: It is no `training` shard.
        SchemaError: A column has another type, or some of the teacher's columns are missing.
    """
    whole = read_table(file)
    tokenizer = (whole.schema.metadata or {}).get(TOKENIZER_KEY)
    if COMPACT_COLUMNS[0] in whole.column_names:
        whole = decode_teacher_signal(whole)
    if missing := [name for name in TOKEN_COLUMNS if name not in whole.column_names]:
        raise ConfigError(f"{file.parent} is not a training folder: {file.name} has no column {', '.join(missing)}")
    teacher = [name for name in PLAIN_COLUMNS if name in whole.column_names]
    if teacher and len(teacher) < len(PLAIN_COLUMNS):
        absent = next(name for name in PLAIN_COLUMNS if name not in teacher)
        raise SchemaError(f"expected it beside {teacher[0]}", file=file, column=absent)
    if KEY not in whole.column_names:
        names = [f"{file.name} row {index}" for index in range(whole.num_rows)]
        whole = whole.append_column(KEY, pa.array(names, pa.string()))
    kinds = pa.schema([pa.field(name, TRAINING.schema.field(name).type) for name in (KEY, *TOKEN_COLUMNS, *teacher)])
    if tokenizer is not None:
        kinds = kinds.with_metadata({TOKENIZER_KEY: tokenizer})
    try:
        return whole.select(kinds.names).cast(kinds).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaError(f"not the types of a training data set ({error})", file=file) from error


def has_teacher(table: pa.Table) -> bool:
    """Tell whether the teacher's columns are there."""
    return PLAIN_COLUMNS[0] in table.column_names


def sound_rows(table: pa.Table) -> tuple[pa.Table, list[Reject]]:
    """Return the rows that agree with themselves; the others are rejects."""
    checks = [_same_lengths, _no_nulls, _sound_weights, *([_same_candidates] if has_teacher(table) else [])]
    return in_turn(table, checks)


def _same_lengths(table: pa.Table) -> tuple[pa.Table, list[Reject]]:
    lengths_R = list_lengths(table, "input_ids")
    names = [name for name in table.column_names if name not in (KEY, "input_ids")]
    bad_R = np.any([lengths_R < 1, *(list_lengths(table, name) != lengths_R for name in names)], axis=0)
    message = "expected one value per token in every column, and a token at least"
    return reject_where(table, bad_R, "lengths_differ", message)


def _no_nulls(table: pa.Table) -> tuple[pa.Table, list[Reject]]:
    view = RowView(table)
    flat = [list_column(table, name).flatten() for name in table.column_names if name != KEY]
    null_N = np.any([np.asarray(values.is_null()) for values in flat], axis=0)
    return reject_where(table, view.any_in_row(null_N), "missing_value", "expected a value for every token")


def _sound_weights(table: pa.Table) -> tuple[pa.Table, list[Reject]]:
    view = RowView(table)
    bad_N = ~np.isfinite(view.weights_N) | (view.weights_N < 0) | (~view.supervised_N & (view.weights_N != 0))
    message = f"expected finite weights >= 0, and 0 where the label is {IGNORED}"
    return reject_where(table, view.any_in_row(bad_N), "bad_weight", message)


def _same_candidates(table: pa.Table) -> tuple[pa.Table, list[Reject]]:
    ids, logprobs = (list_column(table, name).flatten() for name in PLAIN_COLUMNS[:2])
    bad_R = RowView(table).any_in_row(_lengths(ids) != _lengths(logprobs))
    return reject_where(table, bad_R, "candidates_differ", "expected as many log-probabilities as candidate ids")


def reject_where(table: pa.Table, bad_R: Flags, reason: str, message: str) -> tuple[pa.Table, list[Reject]]:
    """Split rows into those to keep and rejects."""
    if not bad_R.any():
        return table, []
    names = table.column(KEY).filter(pa.array(bad_R)).to_pylist()
    kept = table.filter(pa.array(~bad_R)).combine_chunks()
    return kept, [reject(name, reason, message) for name in names]


def list_column(table: pa.Table, name: str) -> pa.ListArray:
    """Return a list column as one array."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def list_lengths(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Return how many values each row of a list column has; -1 for a missing list, [R]."""
    return _lengths(list_column(table, name))


def _lengths(column: pa.ListArray) -> NDArray[np.int64]:
    return np.asarray(column.value_lengths().fill_null(-1), np.int64)


@dataclass(frozen=True)
class RowView:
    """Flat arrays over rows that agree with themselves."""

    table: pa.Table

    @cached_property
    def lengths_R(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return list_lengths(self.table, "input_ids")

    @cached_property
    def row_N(self) -> NDArray[np.int64]:
        """The row of each token."""
        return np.repeat(np.arange(len(self.lengths_R)), self.lengths_R)

    @cached_property
    def left_N(self) -> NDArray[np.int64]:
        """Tokens of the same row from this one on, itself counted."""
        return np.repeat(np.cumsum(self.lengths_R), self.lengths_R) - np.arange(len(self.row_N))

    @cached_property
    def ids_N(self) -> NDArray[Any]:
        """Token ids."""
        return self._flat("input_ids")

    @cached_property
    def labels_N(self) -> NDArray[Any]:
        """Labels."""
        return self._flat("labels")

    @cached_property
    def weights_N(self) -> NDArray[Any]:
        """Token weights."""
        return self._flat("token_weights")

    @cached_property
    def supervised_N(self) -> Flags:
        """Whether a token is learned."""
        return np.asarray(self.labels_N != IGNORED)

    @cached_property
    def active_N(self) -> Flags:
        """Whether a token is learned with a weight above 0."""
        return np.asarray(self.supervised_N & (self.weights_N > 0))

    def any_in_row(self, flags_N: Flags) -> Flags:
        """Return for each row whether any of its tokens is flagged, [R]."""
        return self.count_in_row(flags_N) > 0

    def count_in_row(self, flags_N: Flags) -> NDArray[np.int64]:
        """Return for each row how many of its tokens are flagged, [R]."""
        return np.bincount(self.row_N[flags_N], minlength=len(self.lengths_R)).astype(np.int64)

    def not_at_the_end(self, flags_N: Flags) -> Flags:
        """Return for each row whether its flagged tokens are other than its last ones, [R]."""
        count_R = self.count_in_row(flags_N)
        return np.asarray(self.count_in_row(flags_N & (self.left_N <= count_R[self.row_N])) != count_R)

    def _flat(self, name: str) -> NDArray[Any]:
        return np.asarray(list_column(self.table, name).flatten())


def pieces(table: pa.Table, tokens: int) -> Iterator[pa.Table]:
    """Cut rows into pieces of at most so many tokens, and of a row at least."""
    ends_R = np.cumsum(list_lengths(table, "input_ids"))
    start = 0
    while start < table.num_rows:
        before = ends_R[start - 1] if start else 0
        end = max(int(np.searchsorted(ends_R, before + tokens, side="right")), start + 1)
        yield table.slice(start, end - start).combine_chunks()
        start = end


def without_weightless(table: pa.Table) -> tuple[pa.Table, list[Reject]]:
    """Reject rows in which no token weighs anything: they teach nothing, and a batch of them divides by zero."""
    view = RowView(table)
    message = "no token of it weighs anything, and a batch of such rows would divide by zero there"
    return reject_where(table, ~view.any_in_row(view.active_N), "zero_weight", message)


def without_other_labels(table: pa.Table) -> tuple[pa.Table, list[Reject]]:
    """Reject rows that learn another token than the one that stands there."""
    view = RowView(table)
    bad_N = view.supervised_N & (view.labels_N != view.ids_N)
    return reject_where(table, view.any_in_row(bad_N), "labels_differ", "a label is not the id that stands there")


def in_turn(table: pa.Table, checks: Sequence[Check]) -> tuple[pa.Table, list[Reject]]:
    """Apply checks that each return the rows they keep, and rejects."""
    rejects: list[Reject] = []
    for check in checks:
        table, more = check(table)
        rejects += more
    return table, rejects
