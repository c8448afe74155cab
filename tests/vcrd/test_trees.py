"""The trie: every distinct prefix is one node, and ancestors are told by two comparisons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcrd.trees import build_trie, split_rows

ROWS = st.lists(st.lists(st.integers(0, 3), max_size=9), max_size=12)


def distinct_prefixes(rows: list[list[int]]) -> set[tuple[int, ...]]:
    """All that a trie may hold."""
    return {tuple(row[: end + 1]) for row in rows for end in range(len(row))}


@given(ROWS)
def test_nodes_are_the_distinct_prefixes(rows: list[list[int]]) -> None:
    trie = build_trie(rows)
    assert len(trie.token_ids) == len(distinct_prefixes(rows))
    for row, nodes in zip(rows, trie.nodes, strict=True):
        assert trie.token_ids[nodes].tolist() == row
        assert trie.depths[nodes].tolist() == list(range(len(row)))
        assert np.all(np.diff(nodes) > 0)


@given(ROWS)
def test_a_node_is_seen_by_its_subtree_alone(rows: list[list[int]]) -> None:
    trie = build_trie(rows)
    size = len(trie.token_ids)
    sees = {(int(query), int(key)) for nodes in trie.nodes for at, query in enumerate(nodes) for key in nodes[: at + 1]}
    told = {(q, k) for q in range(size) for k in range(size) if k <= q < trie.ends[k]}
    assert told == sees


@given(ROWS)
def test_runs_cover_all_nodes_in_order(rows: list[list[int]]) -> None:
    trie = build_trie(rows)
    covered = [node for row, shared in trie.runs for node in trie.nodes[row][shared:].tolist()]
    assert covered == list(range(len(trie.token_ids)))


@given(ROWS, st.integers(9, 20))
def test_pieces_hold_every_row_once_within_the_budget(rows: list[list[int]], budget: int) -> None:
    pieces = split_rows(rows, budget)
    assert sorted(row for piece in pieces for row in piece.rows) == list(range(len(rows)))
    for piece in pieces:
        assert piece.size == len(distinct_prefixes([rows[row] for row in piece.rows])) <= budget
    if len(distinct_prefixes(rows)) <= budget:
        assert len(pieces) <= 1


def test_large_ids_keep_their_order() -> None:
    assert build_trie([[151_935, 2], [255, 2], [256]]).token_ids.tolist() == [255, 2, 256, 151_935, 2]


def test_a_row_that_is_too_long_is_named() -> None:
    with pytest.raises(ValueError, match="row 1 has 3 tokens, a piece at most 2"):
        split_rows([[1], [1, 2, 3]], 2)
