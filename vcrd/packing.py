"""Rows of unequal length in bins of equal size: best fit, the longest rows first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


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
