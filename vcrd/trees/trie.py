"""Rows of token ids as a trie: each distinct prefix is one node.

Rows are put in lexicographic order, in which a row shares its longest known prefix with the row before it; it adds the
rest as one contiguous run of nodes. Nodes are therefore numbered depth first, and a node's subtree is contiguous too.

Axis letters: N nodes, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Trie:
    """Nodes in depth-first order, and the rows' ways through them.

    Attributes:
        token_ids: Of each node, [N].
        depths: Tokens before each node on its way from a root, [N]; the position that a model is told.
        ends: Exclusive end of each node's subtree, [N]: node k precedes or is node q where k <= q < ends[k].
        nodes: Of each row, in the caller's order, the node of each of its tokens, [T].
        runs: Rows that add nodes, as (row, tokens that it shares with rows before it), in the order of their nodes: the
            run of a row is `nodes[row][shared:]`, and it sees `nodes[row]`.
    """

    token_ids: Ints
    depths: Ints
    ends: Ints
    nodes: list[Ints]
    runs: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that are computed together, and the number of nodes of their trie."""

    rows: list[int]
    size: int


def lexicographic(rows: Sequence[ArrayLike], names: Sequence[str] | None = None) -> list[int]:
    """Return the rows' numbers in the order in which each shares most with the one before it, the shorter first.

    Args:
        rows: Token ids in [0, 2^32), [T] each.
        names: Decide between equal rows; None: their numbers do.

    >>> lexicographic([[1, 2, 3], [7], [1, 2], [1, 4]])
    [2, 0, 3, 1]
    """
    # As bytes, the most significant first, numbers compare as they do as numbers.
    keys = [np.asarray(row, np.int64).astype(">u4").tobytes() for row in rows]
    return sorted(range(len(keys)), key=keys.__getitem__ if names is None else lambda row: (keys[row], names[row]))


def build_trie(rows: Sequence[ArrayLike]) -> Trie:
    """Merge what rows have in common.

    Args:
        rows: Token ids in [0, 2^32), [T] each; T may differ, and rows may be equal or prefixes of others.

    >>> trie = build_trie([[5, 6, 7], [5, 6, 8, 9]])
    >>> trie.token_ids.tolist(), trie.depths.tolist(), trie.nodes[1].tolist()
    ([5, 6, 7, 8, 9], [0, 1, 2, 2, 3], [0, 1, 3, 4])
    """
    arrays = [np.asarray(row, np.int64) for row in rows]
    nodes: list[Ints] = [np.zeros(0, np.int64)] * len(arrays)
    runs: list[tuple[int, int]] = []
    parts: list[Ints] = []
    size, known, way = 0, np.zeros(0, np.int64), np.zeros(0, np.int64)
    ends = np.zeros(sum(map(len, arrays)), np.int64)
    for row in lexicographic(arrays):
        ids = arrays[row]
        shared = _in_common(known, ids)
        ends[way[shared:]] = size
        way = np.concatenate([way[:shared], np.arange(size, size + len(ids) - shared)])
        known, nodes[row] = ids, way
        if len(ids) > shared:
            runs.append((row, shared))
            parts.append(ids[shared:])
            size += len(ids) - shared
    ends[way] = size
    depths = [np.arange(shared, len(arrays[row])) for row, shared in runs]
    return Trie(_joined(parts), _joined(depths), ends[:size], nodes, runs)


def split_rows(rows: Sequence[ArrayLike], budget: int) -> list[Piece]:
    """Cut rows into pieces whose tries have at most `budget` nodes; each piece repeats the prefix that it needs.

    Rows stay in lexicographic order, so that as little as possible is repeated.

    Raises:
        ValueError: A row alone has more tokens; names it.

    >>> [(piece.rows, piece.size) for piece in split_rows([[1, 2, 3], [1, 2, 4], [1, 5]], 4)]
    [([0, 1], 4), ([2], 2)]
    """
    arrays = [np.asarray(row, np.int64) for row in rows]
    pieces: list[Piece] = []
    mine: list[int] = []
    size, known = 0, np.zeros(0, np.int64)
    for row in lexicographic(arrays):
        ids = arrays[row]
        if len(ids) > budget:
            raise ValueError(f"row {row} has {len(ids)} tokens, a piece at most {budget}")
        added = len(ids) - _in_common(known, ids)
        if mine and size + added > budget:
            pieces.append(Piece(mine, size))
            mine, size, added = [], 0, len(ids)
        mine.append(row)
        size, known = size + added, ids
    return [*pieces, Piece(mine, size)] if mine else pieces


def _in_common(one: Ints, other: Ints) -> int:
    both = min(len(one), len(other))
    differ = one[:both] != other[:both]
    first = int(differ.argmax()) if both else 0
    return first if both and differ[first] else both


def _joined(parts: Sequence[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
