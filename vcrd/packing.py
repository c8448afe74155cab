"""Rows of unequal length in bins of equal size, whole or merged to prefix trees: best fit, the largest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcrd.trees import split_rows

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TreeBins:
    """Rows of each bin, and what merging saves.

    Attributes:
        bins: Row numbers.
        rows: How many there are.
        tokens: Of all rows, each by itself.
        nodes: Tokens that are computed: a prefix counts once in a tree, and once more in each piece of one that is cut.
        longest: Tokens of the longest row.
    """

    bins: list[list[int]]
    rows: int
    tokens: int
    nodes: int
    longest: int


def fill_tree_bins(groups: Iterable[tuple[Ints, Sequence[Ints]]], budget: int | None) -> TreeBins:
    """Merge each group's rows to a tree, cut trees that are larger than a bin, and fill bins with the pieces.

    Args:
        groups: Row numbers and the rows' token ids; rows of different groups share nothing that is worth merging.
        budget: Nodes of a bin; None: a bin for each tree, whatever its size.

    Raises:
        ValueError: A row is longer than a bin: nothing is truncated here.

    >>> group = np.array([0, 1, 2]), [np.array(row) for row in ([1, 2, 3], [1, 2, 4], [1, 5])]
    >>> fill_tree_bins([group], 4)
    TreeBins(bins=[[0, 1], [2]], rows=3, tokens=8, nodes=6, longest=3)
    """
    pieces: list[list[int]] = []
    sizes: list[int] = []
    tokens = longest = 0
    for numbers, rows in groups:
        lengths = [len(row) for row in rows]
        tokens, longest = tokens + sum(lengths), max(longest, *lengths)
        if budget is not None and longest > budget:
            raise ValueError(f"row {int(numbers[np.argmax(lengths)])} has {longest} tokens, a bin {budget}")
        for piece in split_rows(rows, budget or sum(lengths)):
            pieces.append(numbers[piece.rows].tolist())
            sizes.append(piece.size)
    filled = [[index] for index in range(len(pieces))] if budget is None else fill_bins(sizes, budget)
    bins = [[row for index in members for row in pieces[index]] for members in filled]
    return TreeBins(bins, sum(map(len, pieces)), tokens, sum(sizes), longest)


def fill_bins(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return the rows of each bin, in the order in which bins were begun.

    Best-fit decreasing: the longest row first, each into the fullest bin that still has room for it. Bins are kept by
    the room they have left, and a bit set of the rooms that occur finds the least that is enough, so that the cost of a
    row does not grow with the number of bins.

    Args:
        lengths: Of each row, in tokens, at least 1.
        budget: Tokens of a bin.

    Raises:
        ValueError: A row is longer than a bin: nothing is truncated here.

    >>> fill_bins([3, 6, 4, 2], 8)
    [[1, 3], [2, 0]]
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) and sizes.max() > budget:
        row = int(sizes.argmax())
        raise ValueError(f"row {row} has {sizes[row]} tokens, a bin {budget}; drop or shorten it, or raise the budget")
    bins: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(budget + 1)]
    rooms = 0
    for row in np.argsort(-sizes, kind="stable").tolist():
        length = int(sizes[row])
        enough = rooms >> length
        if enough:
            room = length + (enough & -enough).bit_length() - 1
            chosen = by_room[room].pop()
            if not by_room[room]:
                rooms ^= 1 << room
        else:
            room, chosen = budget, len(bins)
            bins.append([])
        bins[chosen].append(row)
        left = room - length
        by_room[left].append(chosen)
        rooms |= 1 << left
    return bins
