"""Packed data sets: an item is a bin of rows, laid behind one another by a padding-free collator."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from torch.utils.data import Dataset, IterableDataset

from vcrd.errors import ConfigError
from vcrd.packing import fill_bins
from vcrd.training.dataset import TrainingDataset, lengths_of

_WINDOW = 1024
_CHUNK = 65_536


class PackedDataset(Dataset[pa.Table]):
    """Bins of a data set's rows; each item is an Arrow table of at most `budget` tokens."""

    def __init__(self, rows: TrainingDataset, budget: int) -> None:
        """Fill the bins; nothing but row numbers is kept.

        Raises:
            ConfigError: A row is longer than a bin.
        """
        self._rows = rows
        starts = range(0, len(rows), _CHUNK)
        parts = [lengths_of(rows[start : start + _CHUNK], "input_ids") for start in starts]
        self._bins = _filled(np.concatenate(parts) if parts else np.zeros(0, np.int64), budget)

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self._bins)

    def __getitem__(self, index: int) -> pa.Table:
        """Return the rows of a bin."""
        return self._rows[self._bins[index]]


class PackedStream(IterableDataset[pa.Table]):
    """Bins of a stream's rows, filled window by window."""

    def __init__(self, rows: Any, budget: int) -> None:
        """Read nothing yet; a row longer than `budget` is a `ConfigError` when it comes."""
        self._rows, self._budget = rows, budget

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield bins."""
        rows = iter(self._rows)
        while window := list(islice(rows, _WINDOW)):
            table = pa.concat_tables(window).combine_chunks()
            for members in _filled(lengths_of(table, "input_ids"), self._budget):
                yield table.take(pa.array(members))

    def set_epoch(self, epoch: int) -> None:
        """Let the stream shuffle anew."""
        self._rows.set_epoch(epoch)


def _filled(lengths: Any, budget: int) -> list[list[int]]:
    try:
        return fill_bins(lengths, budget)
    except ValueError as error:
        raise ConfigError(f"max_length is too small for packing: {error}") from error
