"""The teacher's signal in few bytes: `teacher_k` and `teacher_signal` in the place of the three plain columns.

Ids are kept exactly, log-probabilities rounded with the error that `logprob_error_bound` gives. Each row's blob says by
itself how it is to be read, as the metadata of a Parquet file does not survive every reader. docs/data-format.md has
the layout bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from vcrd.errors import ConfigError, SchemaError
from vcrd.records import COMPACT_TRAINING_SCHEMA, TOKENIZER_KEY, TRAINING, Model
from vcrd.storage.blobs import COMPACT_COLUMNS, read_compact, write_compact
from vcrd.storage.rows import Rows
from vcrd.storage.scale import MAX_BITS, MIN_BITS, logprob_error_bound
from vcrd.storage.signal import PLAIN_COLUMNS, read_plain, trim, write_plain
from vcrd.weights import WeightParams

__all__ = [
    "COMPACT_COLUMNS",
    "PLAIN_COLUMNS",
    "SignalParams",
    "decode_teacher_signal",
    "encode_teacher_signal",
    "logprob_error_bound",
    "store_signal",
]

_BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalParams:
    """How the signal is made compact."""

    vocabulary_size: int
    """Ids are below it; it decides their size, and is written into every row."""
    keep_mass: float | None = None
    """Keep the smallest set of candidates that holds this share of the mass, at least one; None keeps all."""
    logprob_bits: int = 12
    """Of a candidate's log-probability; the tail's has 16."""
    drop_padding: bool = False
    """Move candidates from `vocabulary_size` on, which are padding of the head and no tokens, into the tail."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 1 <= self.vocabulary_size <= 2**31:
            raise ConfigError(f"vocabulary_size must be in [1, 2^31], got {self.vocabulary_size}")
        if self.keep_mass is not None and not 0 < self.keep_mass <= 1:
            raise ConfigError(f"keep_mass must be in (0, 1], or None to keep all, got {self.keep_mass}")
        if not MIN_BITS <= self.logprob_bits <= MAX_BITS:
            raise ConfigError(f"logprob_bits must be in [{MIN_BITS}, {MAX_BITS}], got {self.logprob_bits}")


def encode_teacher_signal(table: pa.Table, params: SignalParams) -> pa.Table:
    """Return `table` with the compact columns in the place of the plain ones, all else as it is.

    The order of a token's candidates is not kept: `decode_teacher_signal` gives the likeliest first.

    Args:
        table: R rows with `teacher_topk_ids`, `teacher_topk_logprobs` (lists of T tokens of k candidates, none where
            there is no signal) and `teacher_tail_logprob` (lists of T, 0.0 where there is no signal), in nats.
        params: What it takes.

    Raises:
        SchemaError: A plain column is missing, they differ in length, an id is out of range or occurs twice in a
            token, or a log-probability is above 0 or no number.
    """

    def convert(rows: Rows) -> Mapping[str, Any]:
        signal = trim(read_plain(rows), params.vocabulary_size, params.keep_mass, params.drop_padding)
        return write_compact(rows, signal, params.vocabulary_size, params.logprob_bits)

    return _replace(table, PLAIN_COLUMNS, COMPACT_TRAINING_SCHEMA, COMPACT_COLUMNS, convert)


def decode_teacher_signal(table: pa.Table) -> pa.Table:
    """Return `table` with the plain columns in the place of the compact ones, the likeliest candidate of a token first.

    A table with plain columns is returned as it is. Candidates of one rounded log-probability come in the order of
    their ids. Rows of several data sets may be mixed.

    Args:
        table: R rows with `teacher_k` (lists of T counts) and `teacher_signal` (a blob per row), from any reader.

    Raises:
        SchemaError: There is no signal in either form, or in both; a blob is broken or of another version.
    """
    if not set(COMPACT_COLUMNS) & set(table.column_names) and set(PLAIN_COLUMNS) <= set(table.column_names):
        return table
    return _replace(
        table, COMPACT_COLUMNS, TRAINING.schema, PLAIN_COLUMNS, lambda rows: write_plain(read_compact(rows))
    )


def store_signal(table: pa.Table, teacher: Model, params: WeightParams) -> pa.Table:
    """Return training rows with the teacher's signal in the form that a run's parameters ask for.

    The schema's metadata names the tokenizer. An engine may report padding of its model's head among the candidates;
    only the compact form tells it from tokens.
    """
    if params.teacher_signal == "compact":
        compact = SignalParams(vocabulary_size=teacher.vocabulary_size, keep_mass=params.keep_mass, drop_padding=True)
        table = encode_teacher_signal(table, compact)
    return table.replace_schema_metadata({TOKENIZER_KEY: teacher.tokenizer_fingerprint})


def _replace(
    table: pa.Table, old: Sequence[str], schema: pa.Schema, new: Sequence[str], convert: Callable[[Rows], Any]
) -> pa.Table:
    """Put the columns `new` of `schema` where the first of `old` is, batch by batch."""
    names = table.column_names
    for name in old:
        if name not in names:
            raise SchemaError(f"expected columns {', '.join(old)}; the table has {', '.join(names)}", column=name)
    for name in new:
        if name in names:
            raise SchemaError(f"expected the teacher's signal in one form, got {old[0]} beside it", column=name)
    made: dict[str, list[Any]] = {name: [] for name in new}
    first = 0
    for batch in table.select(old).to_batches(max_chunksize=_BATCH_ROWS):
        for name, values in convert(Rows(batch, first)).items():
            made[name].append(values)
        first += batch.num_rows
    columns: dict[str, Any] = {}
    fields: list[pa.Field] = []
    for field in table.schema:
        if field.name == old[0]:
            fields += [schema.field(name) for name in new]
            columns.update((name, pa.chunked_array(made[name], schema.field(name).type)) for name in new)
        elif field.name not in old:
            fields.append(field)
            columns[field.name] = table.column(field.name)
    # Metadata of the whole schema (pandas', datasets') describes the columns that were there before.
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))
