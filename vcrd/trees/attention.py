"""Attention over a trie's nodes: each sees itself and its ancestors, in a stock causal language model.

Three forms with equal results. A mask over all pairs of nodes goes into any model with scaled dot product attention. A
`BlockMask` for FlexAttention skips what no node of a block sees; it needs a GPU. `vcrd_tree`, an attention function
of our own under transformers' public registry, computes run by run what a row adds against that row's own keys: its
cost is that of the nodes times their depths, where a mask's is the square of all nodes.

Axis letters: B rows of a batch, N nodes, R runs, S keys of all runs, D width of an attention head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from vcrd.trees.trie import Trie

TREE_ATTENTION = "vcrd_tree"

# Below it, one masked product costs less than a product per run.
_DENSE_NODES = 512


class TreeLayout(NamedTuple):
    """Who sees whom, as tensors that move between devices with a batch.

    Attributes:
        ends_N: Exclusive end of each node's subtree, [N].
        keys_S: Nodes that each run sees, run behind run, [S]; its own are the last.
        seen_R: Keys of each run, [R].
        added_R: Nodes of each run, [R]; they are contiguous, run behind run.
    """

    ends_N: Tensor
    keys_S: Tensor
    seen_R: Tensor
    added_R: Tensor


@dataclass(frozen=True)
class _Runs:
    """What every layer needs of a layout, made once."""

    keys_S: Tensor
    seen: list[int]
    added: list[int]
    masks: list[Tensor | None]


def layout_of(trie: Trie) -> TreeLayout:
    """Return a trie's layout, on the CPU."""
    ways = [trie.nodes[row] for row, _ in trie.runs]
    return TreeLayout(
        torch.from_numpy(trie.ends),
        torch.from_numpy(np.concatenate(ways) if ways else np.zeros(0, np.int64)),
        torch.tensor([len(way) for way in ways], dtype=torch.int64),
        torch.tensor([len(trie.nodes[row]) - shared for row, shared in trie.runs], dtype=torch.int64),
    )


def use_tree_attention(model: Any) -> None:
    """Give a model the attention function `vcrd_tree`, which without a layout is its scaled dot product attention."""
    AttentionInterface.register(TREE_ATTENTION, _tree_attention)
    AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)
    model.set_attn_implementation(TREE_ATTENTION)


def tree_arguments(model: Any, layout: TreeLayout, *, by_runs: bool = False) -> dict[str, Any]:
    """Return what a model takes beside `input_ids` and `position_ids` (the depths), both [1, N], to see only ancestors.

    Args:
        model: Causal, of full attention; its attention function decides the form.
        layout: On the model's device.
        by_runs: Let `vcrd_tree` go run by run even where there are few nodes.
    """
    implementation = model.config.get_text_config()._attn_implementation
    if implementation == "flex_attention":
        return {"attention_mask": _block_mask(layout.ends_N)}
    if implementation == TREE_ATTENTION and (by_runs or len(layout.ends_N) > _DENSE_NODES):
        # A mask of four axes is handed on as it is, so that none is made from the positions.
        placeholder = torch.zeros(1, 1, 0, 0, dtype=torch.bool, device=layout.ends_N.device)
        return {"attention_mask": placeholder, "tree": _runs_of(layout)}
    mask = ancestor_mask(layout.ends_N)
    if implementation == "eager":  # it adds its mask to the scores
        mask = torch.zeros(mask.shape, dtype=model.dtype, device=mask.device).masked_fill(~mask, -torch.inf)
    return {"attention_mask": mask}


def ancestor_mask(ends_N: Tensor) -> Tensor:
    """Return the mask over all pairs, True where the query (third axis) sees the key (fourth), [1, 1, N, N]."""
    node_N = torch.arange(len(ends_N), device=ends_N.device)
    return ((node_N <= node_N[:, None]) & (node_N[:, None] < ends_N))[None, None]


def _block_mask(ends_N: Tensor) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < ends_N[key])

    return create_block_mask(sees, None, None, len(ends_N), len(ends_N), device=ends_N.device.type)


def _runs_of(layout: TreeLayout) -> _Runs:
    seen, added = layout.seen_R.tolist(), layout.added_R.tolist()
    masks: list[Tensor | None] = []
    for keys, own in zip(seen, added, strict=True):
        key = torch.arange(keys, device=layout.keys_S.device)
        query = torch.arange(keys - own, keys, device=layout.keys_S.device)
        masks.append(None if keys == own else key <= query[:, None])
    return _Runs(layout.keys_S, seen, added, masks)


def _tree_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    tree: _Runs | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend run by run; arguments are those of transformers' attention functions, [B, heads, N, D].

    Keys and values of all runs are gathered at once: a gather for each would have a gradient of the whole size.
    """
    if tree is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)  # type: ignore[no-any-return]
    keys, values = (_shared_out(part, query.shape[1], tree) for part in (key, value))
    queries = torch.split(query, tree.added, dim=2)
    made = [
        scaled_dot_product_attention(
            query_run, key_run, value_run, attn_mask=mask, dropout_p=dropout, scale=scaling, is_causal=mask is None
        )
        for query_run, key_run, value_run, mask in zip(queries, keys, values, tree.masks, strict=True)
    ]
    return torch.cat(made, dim=2).transpose(1, 2).contiguous(), None


def _shared_out(part: Tensor, heads: int, tree: _Runs) -> Sequence[Tensor]:
    gathered = part.index_select(2, tree.keys_S)
    if heads != part.shape[1]:
        gathered = gathered.repeat_interleave(heads // part.shape[1], dim=1)
    return torch.split(gathered, tree.seen, dim=2)
