"""What an export reads: the per-token columns of a `training` folder, shard by shard, checked row by row.

Axis letters: R rows, T tokens of all rows behind one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from vcrd.errors import ConfigError, SchemaError
from vcrd.io.parquet import read_table
from vcrd.io.rejects import Reject, reject
from vcrd.records import TOKENIZER_KEY, TRAINING
from vcrd.rows import TOKEN_COLUMNS, TokenView, list_lengths, wrong_rows
from vcrd.storage import COMPACT_COLUMNS, PLAIN_COLUMNS, decode_teacher_signal
from vcrd.storage.rows import Flags

KEY = TRAINING.key

Check = Callable[[pa.Table], tuple[pa.Table, list[Reject]]]


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
    found: dict[int, Reject] = {}
    names = table.column(KEY)
    for wrong in wrong_rows(table):
        for row in wrong.rows_W.tolist():
            found.setdefault(row, reject(names[row].as_py(), wrong.reason, f"{wrong.column}: {wrong.message}"))
    if not found:
        return table, []
    kept_R = np.isin(np.arange(table.num_rows), list(found), invert=True)
    return table.filter(pa.array(kept_R)).combine_chunks(), list(found.values())


def reject_where(table: pa.Table, bad_R: Flags, reason: str, message: str) -> tuple[pa.Table, list[Reject]]:
    """Split rows into those to keep and rejects."""
    if not bad_R.any():
        return table, []
    names = table.column(KEY).filter(pa.array(bad_R)).to_pylist()
    kept = table.filter(pa.array(~bad_R)).combine_chunks()
    return kept, [reject(name, reason, message) for name in names]


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
    view = TokenView(table)
    message = "no token of it weighs anything, and a batch of such rows would divide by zero there"
    return reject_where(table, ~view.any_in_row(view.active_T), "zero_weight", message)


def without_other_labels(table: pa.Table) -> tuple[pa.Table, list[Reject]]:
    """Reject rows that learn another token than the one that stands there."""
    view = TokenView(table)
    bad_T = view.supervised_T & (view.labels_T != view.ids_T)
    return reject_where(table, view.any_in_row(bad_T), "labels_differ", "a label is not the id that stands there")


def in_turn(table: pa.Table, checks: Sequence[Check]) -> tuple[pa.Table, list[Reject]]:
    """Apply checks that each return the rows they keep, and rejects."""
    rejects: list[Reject] = []
    for check in checks:
        table, more = check(table)
        rejects += more
    return table, rejects
