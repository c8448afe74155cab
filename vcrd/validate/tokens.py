"""The per-token columns of `training` rows: lengths, labels, ids, weights.

Axis letters: R rows, T tokens of all rows behind one another.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from vcrd.records import IGNORED
from vcrd.storage.blobs import COUNTS
from vcrd.storage.rows import Counts, Flags, lengths_of, starts_of
from vcrd.storage.signal import PLAIN_COLUMNS
from vcrd.validate.findings import Place

_PER_TOKEN = ("labels", "token_weights", *PLAIN_COLUMNS, COUNTS)


def list_column(table: pa.Table, name: str) -> Any:
    """Return a list column as one array."""
    found = table.column(name).combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


class Lists:
    """A list column as flat values and the places of its rows in them."""

    def __init__(self, table: pa.Table, name: str) -> None:
        """Take a column of a table."""
        column = list_column(table, name)
        self._values = column.flatten().to_numpy(zero_copy_only=False)
        self._starts_R1: Counts = starts_of(lengths_of(column))

    def __getitem__(self, row: int) -> Any:
        """Return the values of a row."""
        return self._values[self._starts_R1[row] : self._starts_R1[row + 1]]


def _values(table: pa.Table, name: str) -> Any:
    return list_column(table, name).flatten().to_numpy(zero_copy_only=False)


@dataclass(frozen=True)
class TokenView:
    """Flat arrays over rows whose per-token columns have equal lengths."""

    table: pa.Table

    @cached_property
    def starts_R1(self) -> Counts:
        """First token of every row, and the number of tokens, [R + 1]."""
        return starts_of(lengths_of(list_column(self.table, "input_ids")))

    @cached_property
    def row_T(self) -> Counts:
        """The row of each token."""
        return np.repeat(np.arange(self.table.num_rows), np.diff(self.starts_R1))

    @cached_property
    def ids_T(self) -> Any:
        """Token ids."""
        return _values(self.table, "input_ids")

    @cached_property
    def labels_T(self) -> Any:
        """Labels."""
        return _values(self.table, "labels")

    @cached_property
    def weights_T(self) -> Any:
        """Token weights."""
        return _values(self.table, "token_weights")

    @cached_property
    def supervised_T(self) -> Flags:
        """Whether a token is learned."""
        return np.asarray(self.labels_T != IGNORED)

    @cached_property
    def supervised_R(self) -> Counts:
        """Supervised tokens of each row."""
        return np.bincount(self.row_T[self.supervised_T], minlength=self.table.num_rows).astype(np.int64)

    @cached_property
    def step_starts_R(self) -> Counts:
        """Where the last `supervised_R` tokens of each row begin, in T."""
        return self.starts_R1[1:] - self.supervised_R

    def any_in_row(self, flags_T: Flags) -> Flags:
        """Return for each row whether any of its tokens is flagged, [R]."""
        return np.bincount(self.row_T[flags_T], minlength=self.table.num_rows) > 0


def check_lengths(table: pa.Table, place: Place) -> Flags:
    """Find rows without tokens, with missing values, or of unequal lengths; return which rows are whole, [R]."""
    lengths_R = lengths_of(list_column(table, "input_ids"))
    whole_R = lengths_R > 0
    place.refuse("lengths", "input_ids", ~whole_R, "expected a token at least")
    for name in ("input_ids", *(name for name in _PER_TOKEN if name in table.column_names)):
        column = list_column(table, name)
        missing_T = np.asarray(column.flatten().is_null())
        row_T = np.repeat(np.arange(table.num_rows), lengths_of(column))
        holes_R = np.bincount(row_T[missing_T], minlength=table.num_rows) > 0
        place.refuse("lengths", name, holes_R, "a value is missing")
        other_R = lengths_of(column) != lengths_R
        place.refuse("lengths", name, other_R, "expected one value for each token of input_ids")
        whole_R &= ~(other_R | holes_R)
    return whole_R


def check_tokens(view: TokenView, place: Place, vocabulary: int | None) -> None:
    """Check ids, labels and weights."""
    ids_T, weights_T = view.ids_T, view.weights_T

    def refuse(check: str, column: str, wrong_T: Flags, message: str) -> None:
        place.refuse(check, column, view.any_in_row(wrong_T), message)

    if vocabulary is not None:
        wrong_T = (ids_T < 0) | (ids_T >= vocabulary)
        refuse("vocabulary", "input_ids", wrong_T, f"expected ids in [0, {vocabulary})")
    refuse("labels", "labels", view.supervised_T & (view.labels_T != ids_T), f"expected input_ids, or {IGNORED}")
    place.refuse("labels", "labels", view.supervised_R == 0, "no token of it is supervised")
    at_T = np.arange(len(ids_T))
    behind_T = at_T >= view.step_starts_R[view.row_T]
    refuse("labels", "labels", behind_T != view.supervised_T, f"expected {IGNORED} on the prefix, then the step's ids")
    refuse("weights", "token_weights", ~(np.isfinite(weights_T) & (weights_T >= 0)), "expected a finite weight >= 0")
    refuse(
        "weights", "token_weights", ~view.supervised_T & (weights_T != 0), f"expected 0 where the label is {IGNORED}"
    )
    last_T = weights_T[view.starts_R1[1:] - 1][view.row_T]
    refuse(
        "weights", "token_weights", view.supervised_T & (weights_T != last_T), "expected one weight for all of a step"
    )
