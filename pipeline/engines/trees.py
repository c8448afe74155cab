"""Prefixes that several requests share are computed once: requests to tries, and a model's pass over a batch of these.

Axis letters: B tries, C a chunk's tokens, L tokens so far, N tokens of the longest trie, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Cache

from pipeline.engines.trunk import GrowingLayer
from vcrd.trees.trie import Trie, build_trie, lexicographic, split_rows

_CHUNK = 512
_SPARSE = 0.7
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grove:
    """Tries that go through a model together, padded to the largest.

    Attributes:
        tries: One per group of requests that share prefixes.
        members: Per trie, the requests of its rows.
    """

    tries: list[Trie]
    members: list[list[int]]

    @property
    def size(self) -> int:
        """Tokens of all tries, without those that fill them up."""
        return sum(len(trie.token_ids) for trie in self.tries)

    def branches(self) -> Iterator[tuple[int, int, Ints]]:
        """Go through the requests: each one's number, its trie's, and the places of its tokens there."""
        for tree, (trie, members) in enumerate(zip(self.tries, self.members, strict=True)):
            for member, nodes in zip(members, trie.nodes, strict=True):
                yield member, tree, nodes


def plant(rows: Sequence[Sequence[int]], names: Sequence[str], budget: int) -> tuple[list[Grove], list[int]]:
    """Group rows that share at least half of the shorter one; what shares less is cheaper in batches of its own.

    Args:
        rows: Token ids of the requests.
        names: Their ids: groups follow from ids and contents, never from the order of the requests.
        budget: Tokens of a grove, padding included; a trie of more is cut, with its prefix repeated.

    Returns:
        The groves, and the rows that are in none.
    """
    arrays = [np.asarray(row, np.int64) for row in rows]
    alone: list[int] = []
    plots: list[tuple[Trie, list[int]]] = []
    for group in _groups(arrays, names):
        if len(group) == 1:
            alone += group
            continue
        longest = max(len(arrays[index]) for index in group)
        for piece in split_rows([arrays[index] for index in group], max(budget, longest)):
            members = [group[place] for place in piece.rows]
            plots.append((build_trie([arrays[index] for index in members]), members))
    plots.sort(key=lambda plot: len(plot[0].token_ids))
    return list(_groves(plots, budget)), alone


def _groups(arrays: Sequence[Ints], names: Sequence[str]) -> Iterator[list[int]]:
    group: list[int] = []
    for index in lexicographic(arrays, names):
        if group and not _related(arrays[group[-1]], arrays[index]):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def _related(left: Ints, right: Ints) -> bool:
    needed = (min(len(left), len(right)) + 1) // 2
    return bool((left[:needed] == right[:needed]).all())


def _groves(plots: Sequence[tuple[Trie, list[int]]], budget: int) -> Iterator[Grove]:
    start = 0
    for end in range(1, len(plots) + 1):
        # Plots are in the order of size, so that the next one would be the width.
        if end == len(plots) or len(plots[end][0].token_ids) * (end + 1 - start) > budget:
            yield Grove([trie for trie, _ in plots[start:end]], [members for _, members in plots[start:end]])
            start = end


class PathLayer(GrowingLayer):
    """A layer's cache that shows a chunk of a tree the columns that are on its tokens' paths."""

    columns: torch.Tensor | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append, and return what is to be seen."""
        keys, values = super().update(key_states, value_states)
        if self.columns is None:
            return keys, values
        return keys[:, :, self.columns], values[:, :, self.columns]


def read_grove(backbone: Any, grove: Grove, device: torch.device, chunk: int = _CHUNK) -> tuple[torch.Tensor, Cache]:
    """Run a model over a grove, a chunk of every trie at a time, so that masks and scores stay small.

    Returns:
        Last hidden states [B, N, H], and the keys and values of the same tokens.
    """
    ids_BN, depths_BN, ends_BN = (torch.from_numpy(item).to(device) for item in _padded(grove.tries))
    width = ids_BN.shape[1]
    cache = Cache(layer_class_to_replicate=PathLayer)
    hidden = []
    for start in range(0, width, chunk):
        end = min(start + chunk, width)
        output = backbone(
            input_ids=ids_BN[:, start:end],
            position_ids=depths_BN[:, start:end],
            attention_mask=_look(cache, _paths(ends_BN, start, end)),
            past_key_values=cache,
            use_cache=True,
        )
        hidden.append(output.last_hidden_state)
    return torch.cat(hidden, 1), cache


def _padded(tries: Sequence[Trie]) -> tuple[Ints, Ints, Ints]:
    """Return ids, depths and ends of nodes, [B, N] each; padding sees what is before it, and is seen by nothing."""
    width = max(len(trie.token_ids) for trie in tries)
    ids_BN, depths_BN = np.zeros((len(tries), width), np.int64), np.zeros((len(tries), width), np.int64)
    ends_BN = np.full((len(tries), width), width)
    for row, trie in enumerate(tries):
        size = len(trie.token_ids)
        ids_BN[row, :size], depths_BN[row, :size], ends_BN[row, :size] = trie.token_ids, trie.depths, trie.ends
    return ids_BN, depths_BN, ends_BN


def _paths(ends_BN: torch.Tensor, start: int, end: int) -> torch.Tensor:
    """Say which tokens are on the path to a chunk's, [B, 1, C, L]."""
    token_L = torch.arange(end, device=ends_BN.device)
    token_C1 = token_L[start:, None]
    paths_BCL = (token_L <= token_C1) & (token_C1 < ends_BN[:, None, :end])
    return paths_BCL.unsqueeze(1)


def _look(cache: Cache, paths_B1CL: torch.Tensor) -> torch.Tensor:
    """Leave out the columns that no token of the chunk sees, where these are many; return the mask of the rest."""
    seen = paths_B1CL.flatten(0, 2).any(0).nonzero().squeeze(-1)
    columns = seen if len(seen) < _SPARSE * paths_B1CL.shape[-1] else None
    for layer in cache.layers:
        layer.columns = columns
    return paths_B1CL if columns is None else paths_B1CL[..., columns]
