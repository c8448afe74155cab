"""How the tokens of several rows lie in a batch: padded, behind one another, or merged to prefix trees.

Axis letters: B rows, T tokens, N nodes of all trees, M supervised tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vcrd.trees import build_trie

Ints = NDArray[np.int64]

TREE_FIELDS = ("tree_ends", "tree_keys", "tree_seen", "tree_added")
"""Of a batch, in the order of `vcrd.trees.attention.TreeLayout`."""


@dataclass(frozen=True)
class Layout:
    """Where what is said of each token goes.

    Attributes:
        batch: What the model is told beside the labels: ids, positions, who sees whom.
        shape: Of labels and weights.
        place: Row and column of each token of which something is said, one row of the data set behind the other.
        kept: Which tokens these are, [all tokens]; None: all.
    """

    batch: dict[str, torch.Tensor | int]
    shape: tuple[int, int]
    place: tuple[Ints, Ints]
    kept: NDArray[np.bool_] | None = None

    def laid(self, values: NDArray[Any], kind: type, filler: float) -> torch.Tensor:
        """Return a value for each token as the batch has them; `filler` where there is no token."""
        made: NDArray[Any] = np.full(self.shape, filler, kind)
        made[self.place] = values if self.kept is None else values[self.kept]
        return torch.from_numpy(made)


def padded(ids: Ints, lengths: Ints, pad_token_id: int) -> Layout:
    """Give each row a row of its own, padded right, [B, T]."""
    place = np.repeat(np.arange(len(lengths)), lengths), _within(lengths)
    shape = (len(lengths), int(lengths.max()))
    layout = Layout({}, shape, place)
    layout.batch["input_ids"] = layout.laid(ids, np.int64, pad_token_id)
    layout.batch["attention_mask"] = layout.laid(np.ones_like(ids), np.int64, 0)
    return layout


def behind_one_another(ids: Ints, lengths: Ints) -> Layout:
    """Lay all rows into one, [1, T], with positions that begin anew and the borders of the sequences."""
    total, longest = int(lengths.sum()), int(lengths.max())
    borders = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    batch: dict[str, torch.Tensor | int] = {
        "input_ids": torch.from_numpy(ids.astype(np.int64)[None]),
        "position_ids": torch.from_numpy(_within(lengths)[None]),
        "cu_seq_lens_q": borders,
        "cu_seq_lens_k": borders,
        "max_length_q": longest,
        "max_length_k": longest,
        "seq_idx": torch.from_numpy(np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)[None]),
    }
    return Layout(batch, (1, total), (np.zeros(total, np.int64), np.arange(total)))


def as_trees(ids: Ints, lengths: Ints, supervised: NDArray[np.bool_]) -> Layout:
    """Merge all rows to one sequence of a trie's nodes, [1, N]; what is supervised has an entry of its own, [1, M].

    A node may precede several labels, so that `predecessors` [1, M] names the node whose hidden state predicts each.
    The first token of a row follows from nothing and has no entry.
    """
    from vcrd.trees.attention import layout_of

    trie = build_trie(np.split(ids, np.cumsum(lengths)[:-1]))
    kept = supervised & (_within(lengths) > 0)
    before = np.roll(np.concatenate(trie.nodes), 1)[kept]
    batch: dict[str, torch.Tensor | int] = {
        "input_ids": torch.from_numpy(trie.token_ids[None]),
        "position_ids": torch.from_numpy(trie.depths[None]),
        "predecessors": torch.from_numpy(before[None]),
        **dict(zip(TREE_FIELDS, layout_of(trie), strict=True)),
    }
    return Layout(batch, (1, len(before)), (np.zeros(len(before), np.int64), np.arange(len(before))), kept)


def _within(lengths: Ints) -> Ints:
    """Return each token's place within its row."""
    return np.concatenate([np.arange(length) for length in lengths])
