"""Packed data sets: an item is a bin of rows, which a collator lays behind one another or merges to prefix trees."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset

from vcrd.errors import ConfigError
from vcrd.packing import TreeBins, fill_bins, fill_tree_bins
from vcrd.rows import flat, list_lengths
from vcrd.training.dataset import GROUP_COLUMN, TrainingDataset

Ints = NDArray[np.int64]

_WINDOW = 1024
_CHUNK = 65_536


class PackedDataset(Dataset[pa.Table]):
    """Bins of a data set's rows; each item is an Arrow table of at most `budget` tokens, merged ones counted once."""

    def __init__(self, rows: TrainingDataset, budget: int, *, trees: bool = False) -> None:
        """Fill the bins; nothing but row numbers is kept.

        Raises:
            ConfigError: A row is longer than a bin, or trees are wanted and the rows have no `problem_id`.
        """
        self._rows = rows
        self._bins = tree_bins(rows, budget).bins if trees else _filled(_lengths(rows), budget)

    def __len__(self) -> int:
        """Return the number of bins."""
        return len(self._bins)

    def __getitem__(self, index: int) -> pa.Table:
        """Return the rows of a bin."""
        return self._rows[self._bins[index]]


class PackedStream(IterableDataset[pa.Table]):
    """Bins of a stream's rows, filled window by window."""

    def __init__(self, rows: Any, budget: int, *, trees: bool = False) -> None:
        """Read nothing yet; a row longer than `budget` is a `ConfigError` when it comes."""
        self._rows, self._budget, self._trees = rows, budget, trees

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield bins."""
        rows = iter(self._rows)
        while window := list(islice(rows, _WINDOW)):
            table = pa.concat_tables(window).combine_chunks()
            for members in self._bins(table):
                yield table.take(pa.array(members))

    def _bins(self, table: pa.Table) -> list[list[int]]:
        if self._trees:
            return tree_bins(TrainingDataset(table).with_format("arrow"), self._budget).bins
        return _filled(list_lengths(table, "input_ids"), self._budget)

    def set_epoch(self, epoch: int) -> None:
        """Let the stream shuffle anew."""
        self._rows.set_epoch(epoch)


def tree_bins(rows: TrainingDataset, budget: int | None) -> TreeBins:
    """Merge the rows of each problem to a tree and fill bins of `budget` nodes; None: a bin for each tree.

    Raises:
        ConfigError: A row is longer than a bin, or the rows have no `problem_id`.
    """
    try:
        return fill_tree_bins(_problems(rows), budget)
    except ValueError as error:
        raise ConfigError(f"max_length is too small for packing: {error}; drop or shorten it, or raise it") from error


def _problems(rows: TrainingDataset) -> Iterator[tuple[Ints, list[Ints]]]:
    """Give the numbers and ids of each problem's rows, wherever these stand, with a chunk of ids in memory."""
    if GROUP_COLUMN not in rows.column_names:
        raise ConfigError(
            f"the rows have no {GROUP_COLUMN}, by which those that begin alike are found; keep that column"
        )
    names = rows.select_columns(GROUP_COLUMN)[:][GROUP_COLUMN].combine_chunks()
    problems = np.asarray(names.dictionary_encode().indices)
    order = np.argsort(problems, kind="stable")
    borders = np.flatnonzero(np.diff(problems[order], prepend=-1, append=-1))
    starts, ids = borders[:-1], rows.select_columns("input_ids")
    chunks = np.split(np.arange(len(starts)), np.flatnonzero(np.diff(starts // _CHUNK)) + 1) if len(starts) else []
    for members in chunks:
        first, last = borders[members[0]], borders[members[-1] + 1]
        tokens = _token_ids(ids, order[first:last])
        for group in members:
            yield (
                order[borders[group] : borders[group + 1]],
                tokens[borders[group] - first : borders[group + 1] - first],
            )


def _token_ids(ids: TrainingDataset, numbers: Ints) -> list[Ints]:
    in_a_row = bool(np.all(np.diff(numbers) == 1))  # a slice costs nothing, single rows do
    table = ids[int(numbers[0]) : int(numbers[-1]) + 1] if in_a_row else ids[numbers]
    return np.split(flat(table, "input_ids"), np.cumsum(list_lengths(table, "input_ids"))[:-1])


def _lengths(rows: TrainingDataset) -> Ints:
    starts = range(0, len(rows), _CHUNK)
    parts = [list_lengths(rows[start : start + _CHUNK], "input_ids") for start in starts]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _filled(lengths: Any, budget: int) -> list[list[int]]:
    try:
        return fill_bins(lengths, budget)
    except ValueError as error:
        raise ConfigError(f"max_length is too small for packing: {error}") from error
