"""Questions asked of a model itself, with a few tokens, before it is trained: can the weighted loss be right for it?

Lists of model types age; a forward of eight tokens does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_LARGE = 100.0
_SAME = 1e-3
_EXACT, _ROUNDED = 1e-5, 2e-2


@torch.no_grad()
def logits_are_head_times_hidden(base: Any) -> bool:
    """Tell whether a model's logits are its head's output, as it is, on its last hidden states.

    The head's output is blown up to 100 on the way, where a cap or a scale behind it cannot be overlooked.
    """
    seen: list[tuple[Tensor, Tensor]] = []

    def stretch(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output = output * (_LARGE / output.abs().max().clamp_min(1e-6))
        seen.append((inputs[0], output))
        return output

    ids = torch.tensor([[0, 1]], device=base.get_output_embeddings().weight.device)
    with _evaluating(base):
        hook = base.get_output_embeddings().register_forward_hook(stretch)
        try:
            logits = base(input_ids=ids, use_cache=False).logits
        finally:
            hook.remove()
        hidden = base.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return len(seen) == 1 and _near(seen[0][0], hidden, _SAME) and _near(logits, seen[0][1], _SAME)


@torch.no_grad()
def rows_do_not_see_each_other(base: Any, padding_free: dict[str, Any], alone: Tensor) -> bool:
    """Tell whether a row behind another one, laid out padding-free, has the hidden states that it has alone.

    Args:
        base: A causal language model.
        padding_free: What its backbone is given of two equal rows, one behind the other.
        alone: The ids of one of them, [1, T].
    """
    with _evaluating(base):
        together = base.base_model(**padding_free, use_cache=False).last_hidden_state
        single = base.base_model(input_ids=alone, use_cache=False).last_hidden_state
    tolerance = _EXACT if single.dtype in (torch.float32, torch.float64) else _ROUNDED
    return _near(together[:, alone.shape[1] :], single, tolerance)


@contextmanager
def _evaluating(base: Any) -> Iterator[None]:
    was_training = base.training
    base.eval()
    try:
        yield
    finally:
        base.train(was_training)


def _near(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    return ours.shape == theirs.shape and bool((ours - theirs).float().norm() <= tolerance * theirs.float().norm())
