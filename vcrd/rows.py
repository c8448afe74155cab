"""The per-token columns of `training` rows as flat arrays, and which rows do not agree with themselves.

Whoever reads such rows decides what becomes of a wrong one: a trainer stops, an export rejects it, `validate` reports
it.

Axis letters: R rows, T tokens of all rows behind one another, W wrong rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from vcrd.records import IGNORED
from vcrd.storage import PLAIN_COLUMNS
from vcrd.storage.rows import Counts, Flags, lengths_of, starts_of

TOKEN_COLUMNS = ("input_ids", "labels", "token_weights")


def list_column(table: pa.Table, name: str) -> Any:
    """Return a list column as one array."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])


def list_lengths(table: pa.Table, name: str) -> Counts:
    """Return how many values each row of a list column has; -1 for a missing list, [R]."""
    return lengths_of(list_column(table, name))


def flat(table: pa.Table, name: str) -> Any:
    """Return the values of a list column, all rows behind one another, [T]."""
    return np.asarray(list_column(table, name).flatten().to_numpy(zero_copy_only=False))


@dataclass(frozen=True)
class TokenView:
    """Flat arrays over rows whose per-token columns have equal lengths."""

    table: pa.Table

    @cached_property
    def lengths_R(self) -> Counts:
        """Tokens of each row."""
        return list_lengths(self.table, "input_ids")

    @cached_property
    def starts_R1(self) -> Counts:
        """First token of every row, and the number of tokens, [R + 1]."""
        return starts_of(self.lengths_R)

    @cached_property
    def row_T(self) -> Counts:
        """The row of each token."""
        return np.repeat(np.arange(self.table.num_rows), self.lengths_R)

    @cached_property
    def left_T(self) -> Counts:
        """Tokens of the same row from this one on, itself counted."""
        return np.asarray(np.repeat(self.starts_R1[1:], self.lengths_R) - np.arange(len(self.row_T)))

    @cached_property
    def ids_T(self) -> Any:
        """Token ids."""
        return flat(self.table, "input_ids")

    @cached_property
    def labels_T(self) -> Any:
        """Labels."""
        return flat(self.table, "labels")

    @cached_property
    def weights_T(self) -> Any:
        """Token weights."""
        return flat(self.table, "token_weights")

    @cached_property
    def supervised_T(self) -> Flags:
        """Whether a token is learned."""
        return np.asarray(self.labels_T != IGNORED)

    @cached_property
    def active_T(self) -> Flags:
        """Whether a token is learned with a weight above 0."""
        return np.asarray(self.supervised_T & (self.weights_T > 0))

    @cached_property
    def last_weights_R(self) -> Any:
        """Weight of the last token of each row, which must have one."""
        return self.weights_T[self.starts_R1[1:] - 1]

    @cached_property
    def supervised_R(self) -> Counts:
        """Supervised tokens of each row."""
        return self.count_in_row(self.supervised_T)

    @cached_property
    def step_starts_R(self) -> Counts:
        """Where the last `supervised_R` tokens of each row begin, in T."""
        return self.starts_R1[1:] - self.supervised_R

    def count_in_row(self, flags_T: Flags) -> Counts:
        """Return for each row how many of its tokens are flagged, [R]."""
        return np.bincount(self.row_T[flags_T], minlength=self.table.num_rows).astype(np.int64)

    def any_in_row(self, flags_T: Flags) -> Flags:
        """Return for each row whether any of its tokens is flagged, [R]."""
        return self.count_in_row(flags_T) > 0

    def not_at_the_end(self, flags_T: Flags) -> Flags:
        """Return for each row whether its flagged tokens are other than its last ones, [R]."""
        count_R = self.count_in_row(flags_T)
        return np.asarray(self.count_in_row(flags_T & (self.left_T <= count_R[self.row_T])) != count_R)


@dataclass(frozen=True, slots=True)
class Wrong:
    """Rows that a check does not pass.

    Attributes:
        reason: Name of what is wrong with them, as rejects have it.
        column: Where.
        rows_W: Their numbers in the table, rising, one at least.
        message: What was expected.
    """

    reason: str
    column: str
    rows_W: Counts
    message: str


def wrong_rows(table: pa.Table) -> Iterator[Wrong]:
    """Find rows that do not agree with themselves; every group of checks gets what those before it let pass.

    Args:
        table: Rows with `TOKEN_COLUMNS` and, or not, the teacher's columns; every list column is one of tokens.
    """
    rows_R = np.arange(table.num_rows)
    for checks in (_lengths, _missing, _candidates, _weights):
        whole_R = np.ones(table.num_rows, bool)
        for reason, column, wrong_R, message in checks(table):
            if wrong_R.any():
                whole_R &= ~wrong_R
                yield Wrong(reason, column, rows_R[wrong_R], message)
        if not whole_R.all():
            table, rows_R = table.filter(pa.array(whole_R)), rows_R[whole_R]


_Found = Iterator[tuple[str, str, Flags, str]]


def _lists(table: pa.Table) -> list[str]:
    return [field.name for field in table.schema if pa.types.is_list(field.type) or pa.types.is_large_list(field.type)]


def _lengths(table: pa.Table) -> _Found:
    lengths_R = list_lengths(table, "input_ids")
    yield "lengths_differ", "input_ids", lengths_R < 1, "expected a token at least"
    for name in _lists(table):
        wrong_R = list_lengths(table, name) != lengths_R
        yield "lengths_differ", name, wrong_R, "expected one value per token of input_ids"


def _missing(table: pa.Table) -> _Found:
    for name in _lists(table):
        yield "missing_value", name, _with_null(list_column(table, name)), "expected no missing value"


def _with_null(values: Any) -> Flags:
    """Return which values are missing, or are lists in which one is."""
    missing = np.asarray(values.is_null()) if values.null_count else np.zeros(len(values), bool)
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        inside = _with_null(values.flatten())
        if inside.any():
            missing[np.repeat(np.arange(len(values)), np.maximum(lengths_of(values), 0))[inside]] = True
    return missing


def _candidates(table: pa.Table) -> _Found:
    ids, logprobs, _ = PLAIN_COLUMNS
    if ids in table.column_names:
        counts_T, given_T = (lengths_of(list_column(table, name).flatten()) for name in (ids, logprobs))
        if (counts_T != given_T).any():
            wrong_R = TokenView(table).any_in_row(counts_T != given_T)
            yield "candidates_differ", logprobs, wrong_R, f"expected as many candidates as {ids} has"


def _weights(table: pa.Table) -> _Found:
    view = TokenView(table)
    bad_T = ~(np.isfinite(view.weights_T) & (view.weights_T >= 0))
    masked_T = ~view.supervised_T & (view.weights_T != 0)
    for wrong_T, message in (
        (bad_T, "expected a finite weight >= 0"),
        (masked_T, f"expected 0 where the label is {IGNORED}"),
    ):
        if wrong_T.any():
            yield "bad_weight", "token_weights", view.any_in_row(wrong_T), message
