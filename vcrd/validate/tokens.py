"""The per-token columns of `training` rows: lengths, labels, ids, weights.

Axis letters: R rows, T tokens of all rows behind one another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from vcrd.records import IGNORED
from vcrd.rows import TokenView, flat, list_lengths, wrong_rows
from vcrd.storage.rows import Counts, Flags, starts_of
from vcrd.validate.findings import Place


class Lists:
    """A list column as flat values and the places of its rows in them."""

    def __init__(self, table: pa.Table, name: str) -> None:
        """Take a column of a table."""
        self._values = flat(table, name)
        self._starts_R1: Counts = starts_of(list_lengths(table, name))

    def __getitem__(self, row: int) -> Any:
        """Return the values of a row."""
        return self._values[self._starts_R1[row] : self._starts_R1[row + 1]]


def check_rows(table: pa.Table, place: Place) -> Flags:
    """Report rows that do not agree with themselves; return of which the columns can be read side by side, [R]."""
    whole_R = np.ones(table.num_rows, bool)
    for wrong in wrong_rows(table):
        of_weights = wrong.reason == "bad_weight"
        wrong_R = np.isin(np.arange(table.num_rows), wrong.rows_W)
        place.refuse("weights" if of_weights else "lengths", wrong.column, wrong_R, wrong.message)
        whole_R &= of_weights | ~wrong_R
    return whole_R


def check_tokens(view: TokenView, place: Place, vocabulary: int | None) -> None:
    """Check ids and labels, and that a step has one weight."""
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
    last_T = view.last_weights_R[view.row_T]
    refuse(
        "weights", "token_weights", view.supervised_T & (weights_T != last_T), "expected one weight for all of a step"
    )
