"""Whether a model can share prefixes: asked of the model itself on a few tokens, never of its name.

Axis letters: T tokens, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from pipeline.engines.trees import Grove, read_grove
from pipeline.engines.trunk import TRUNK_ATTENTION, TrunkRows, trunk_of
from vcrd.trees.trie import build_trie

_ROWS = ([3, 5, 2, 6], [3, 5, 2, 6, 4, 1], [3, 5, 4, 2, 2, 6, 3])
_NEXT = [1, 6, 5]
_CHUNK = 3
_REFUSALS = (RuntimeError, TypeError, ValueError, AttributeError, IndexError)  # of arguments that it does not take

Head = Callable[[torch.Tensor], torch.Tensor]


def reads_trees(backbone: Any, head: Head, plain: Head) -> bool:
    """Say whether a model's answers at the ends of branches are those that it gives to each row alone.

    Args:
        backbone: Its layers.
        head: Answers for hidden states.
        plain: Answers for one row of ids [1, T], as the whole model gives them.
    """
    config = backbone.config.get_text_config(decoder=True)
    # A window or a recurrent state shows only beyond the length of a probe.
    if any(type(layer) is not DynamicLayer for layer in DynamicCache(config=config).layers):
        return False
    grove, device = _grove(), backbone.device
    try:
        hidden_BNH, _ = read_grove(backbone, grove, device, chunk=_CHUNK)
        trees = [head(hidden_BNH[0, int(nodes[-1])]) for nodes in grove.tries[0].nodes]
        rows = [plain(torch.tensor([row], device=device))[0, -1] for row in _ROWS]
    except _REFUSALS:
        return False
    return _same(trees, rows)


def decodes_from_trunks(model: Any) -> bool:
    """Say whether a language model goes on from a shared trunk as from each row alone; it is then set to do so."""
    stock = model.config.get_text_config(decoder=True)._attn_implementation
    if stock != "sdpa":
        return False
    try:
        model.set_attn_implementation(TRUNK_ATTENTION)
        same = _same(*_next_logits(model))
    except _REFUSALS:
        same = False
    if not same:
        model.set_attn_implementation(stock)
    return same


def _next_logits(model: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return what follows a token behind each row: from one trunk, and from the row."""
    grove, device = _grove(), model.device
    _, cache = read_grove(model.base_model, grove, device, chunk=_CHUNK)
    trunk = trunk_of(cache, [(0, path) for path in grove.tries[0].nodes])
    rows = TrunkRows(model, trunk, torch.tensor([len(row) for row in _ROWS], device=device))
    shared_BV = rows.advance(torch.tensor(_NEXT, device=device))
    alone = [
        model(input_ids=torch.tensor([[*row, token]], device=device)).logits[0, -1]
        for row, token in zip(_ROWS, _NEXT, strict=True)
    ]
    return list(shared_BV), alone


def _grove() -> Grove:
    return Grove([build_trie(_ROWS)], [list(range(len(_ROWS)))])


def _same(shared: Sequence[torch.Tensor], alone: Sequence[torch.Tensor]) -> bool:
    """Compare within what rounding explains; numbers that are none are never the same."""
    left, right = torch.stack(list(shared)).float(), torch.stack(list(alone)).float()
    tolerance = 1e-3 if shared[0].dtype == torch.float32 else 5e-2
    return bool((left - right).abs().max() <= tolerance * right.abs().max())
