"""Whether a model can be computed on trees, asked of the model itself: lists of model types age."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vcrd.trees.attention import TREE_ATTENTION, layout_of, tree_arguments, use_tree_attention
from vcrd.trees.trie import build_trie

_EXACT, _ROUNDED = 1e-5, 2e-2
_ROWS = ((0, 1, 2, 3, 4), (0, 1, 5, 6), (0, 1, 2, 7))


def prepare_for_trees(model: Any) -> str | None:
    """Give a model the fastest attention over trees that is right for it; return why there is none, or None.

    On a GPU that is FlexAttention, else the one of `vcrd.trees.attention`. A model that was made with eager or
    FlexAttention keeps it.

    Args:
        model: A `transformers` causal language model or a backbone of one.
    """
    config = model.config.get_text_config()
    others = sorted(set(getattr(config, "layer_types", None) or ()) - {"full_attention"})
    if others:
        return f"it has layers of {', '.join(others)}: what they see is no path of a tree"
    if getattr(config, "sliding_window", None) is not None:
        return f"its attention slides (sliding_window {config.sliding_window}): a tree's nodes are no window"
    implementation = config._attn_implementation
    if implementation in ("eager", "flex_attention"):
        return _probe(model)
    if implementation not in ("sdpa", TREE_ATTENTION):
        return f"its attention ({implementation}) takes no mask; load it with attn_implementation sdpa"
    # A model may have been prepared before it went to a GPU: what was fastest then is asked again.
    if model.device.type == "cuda":
        model.set_attn_implementation("flex_attention")
        if _probe(model) is None:
            return None
    use_tree_attention(model)
    if _probe(model, by_runs=True) is None:
        return None
    # Its layers hand on nothing but a mask, or have an attention of their own.
    model.set_attn_implementation("sdpa")
    return _probe(model)


@torch.no_grad()
def _probe(model: Any, *, by_runs: bool = False) -> str | None:
    """Compare a few rows with the tree that they make; `by_runs` as a tree of many nodes is computed."""
    was_training = model.training
    model.eval()
    try:
        alike = _tree_equals_rows(model.base_model, model, by_runs)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        return f"it cannot run on one ({' '.join(str(error).split())[:120]})"
    finally:
        model.train(was_training)
    return None if alike else "its tokens depend on more than those before them"


def _tree_equals_rows(backbone: Any, model: Any, by_runs: bool) -> bool:
    vocabulary = model.config.get_text_config().vocab_size
    trie = build_trie([[token % vocabulary for token in row] for row in _ROWS])

    def hidden(ids: Any, **how: Any) -> Tensor:
        given = torch.as_tensor(ids, device=model.device)[None]
        found: Tensor = backbone(input_ids=given, use_cache=False, **how).last_hidden_state[0]
        return found

    layout = type(layout := layout_of(trie))(*(part.to(model.device) for part in layout))
    depths = torch.from_numpy(trie.depths).to(model.device)[None]
    merged = hidden(trie.token_ids, position_ids=depths, **tree_arguments(model, layout, by_runs=by_runs))
    tolerance = _EXACT if merged.dtype in (torch.float32, torch.float64) else _ROUNDED
    return all(_near(merged[nodes], hidden(trie.token_ids[nodes]), tolerance) for nodes in trie.nodes)


def _near(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    return bool((ours - theirs).float().norm() <= tolerance * theirs.float().norm())
