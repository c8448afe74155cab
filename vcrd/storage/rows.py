"""Rows of a table and the places of their tokens, for numpy over Arrow's own buffers and for messages.

Axis letters: R rows, T tokens of all rows, N some tokens, W items of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcrd.errors import SchemaError

Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]

_BLOCK = 2**15


@dataclass(frozen=True)
class Rows:
    """Some rows, the number of the first one in the table that they are of, and the table's name for messages."""

    batch: pa.RecordBatch
    first: int
    file: str | None = None

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a column of numbers or flags as it is."""
        return np.asarray(self.batch.column(name).to_numpy(zero_copy_only=False))

    def column(self, name: str, kind: pa.DataType) -> Any:
        """Return a column as `kind`; other widths of lists and integers, as other tools write them, are converted."""
        try:
            found = self.batch.column(name).cast(kind)
        except pa.ArrowException as error:
            raise SchemaError(f"expected {kind} ({error})", file=self.file, column=name) from error
        self.refuse("a value is missing", name, found.is_null().to_numpy(zero_copy_only=False))
        values = found
        while pa.types.is_list(values.type):
            values = values.flatten()
            if values.null_count:
                wrong_R = np.array([_misses(row) for row in found.to_pylist()])
                self.refuse("a value inside a list is missing", name, wrong_R)
        return found

    def refuse(self, message: str, column: str, wrong_R: Flags) -> None:
        """Raise a `SchemaError` for the first wrong row, where there is one."""
        if wrong_R.any():
            raise SchemaError(message, file=self.file, column=column, row=self.first + int(wrong_R.argmax()))

    def refuse_tokens(self, message: str, column: str, wrong_T: Flags, starts_R1: Counts) -> None:
        """Raise a `SchemaError` for the row of the first wrong token, where there is one."""
        if wrong_T.any():
            row = int(np.searchsorted(starts_R1, wrong_T.argmax(), side="right")) - 1
            raise SchemaError(message, file=self.file, column=column, row=self.first + row)


def _misses(value: Any) -> bool:
    return value is None or (isinstance(value, list) and any(_misses(item) for item in value))


def lengths_of(lists: Any) -> Counts:
    """Return how many items each list has; -1 for a missing one."""
    return np.asarray(lists.value_lengths().fill_null(-1), np.int64)


def starts_of(lengths: NDArray[Any]) -> Counts:
    """Return where each item of these lengths begins, and behind them where the last one ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def places_of(tokens: Counts, starts_T: Counts, width: int) -> Iterator[tuple[Counts, Counts]]:
    """Go through tokens some at a time, [N], with the places [N, W] of the `width` items that each one has.

    What is made of a block at a time, a byte for every bit, stays within the processor's cache.
    """
    for at in range(0, len(tokens), _BLOCK):
        block_N = tokens[at : at + _BLOCK]
        yield block_N, starts_T[block_N][:, None] + np.arange(width)
