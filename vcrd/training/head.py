"""The weighted loss inside a causal language model's forward, so that its logits never exist as a whole.

The forward is patched, not called around: wrappers such as DDP, autocast and peft stay in place.

Axis letters: B rows, T tokens, K teacher candidates, H width, V vocabulary.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from vcrd.errors import ConfigError
from vcrd.losses import LossPieces, fused_weighted_loss

_TEACHER = ("teacher_topk_ids", "teacher_topk_logprobs", "teacher_tail_logprob")
_MARK = "_has_weighted_head"
_TOLERANCE = 0.05


@dataclass
class WeightedOutput(ModelOutput):  # type: ignore[misc]
    """The loss and what a trainer logs of it."""

    loss: Tensor | None = None
    pieces: LossPieces | None = None


def add_weighted_head(model: Any) -> None:
    """Let `model(..., weighted_loss=True, labels=..., token_weights=...)` return the weighted loss, without logits.

    Further arguments of such a call: teacher_topk_ids, teacher_topk_logprobs [B, T, K] and teacher_tail_logprob [B, T],
    kl_coef, denominator, vocab_size. Entry t of every per-token tensor is about token t of `input_ids`; the shift is
    made here. Any other call is the model's own.

    Args:
        model: A `transformers` causal language model, peft around it or not.

    Raises:
        ConfigError: Its logits are not its last hidden states times its head, so that the loss would be another.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if getattr(base, _MARK, False):
        return
    _refuse(base)
    own_forward = base.forward

    @functools.wraps(own_forward)
    def forward(*args: Any, weighted_loss: bool = False, **kwargs: Any) -> Any:
        if not weighted_loss:
            return own_forward(*args, **kwargs)
        return _weighted_forward(base, args, kwargs)

    base.forward = forward
    setattr(base, _MARK, True)


def _weighted_forward(base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> WeightedOutput:
    labels, weights = kwargs.pop("labels"), kwargs.pop("token_weights")
    kl_coef = kwargs.pop("kl_coef", 0.0)
    options = {name: kwargs.pop(name, None) for name in ("denominator", "vocab_size")}
    given = {name: kwargs.pop(name, None) for name in _TEACHER}
    hidden = base.base_model(*args, use_cache=False, **kwargs).last_hidden_state
    teacher: dict[str, Any] = {}
    if kl_coef > 0 and given[_TEACHER[0]] is not None:
        teacher = {f"{name}_{'TK' if 'topk' in name else 'T'}": _shifted(given[name]) for name in _TEACHER}
    head = base.get_output_embeddings()
    loss, pieces = fused_weighted_loss(
        hidden[:, :-1].flatten(0, 1),
        head.weight,
        _shifted(labels),
        _shifted(weights),
        **teacher,
        kl_coef=kl_coef,
        bias_V=head.bias,
        **options,
        return_pieces=True,
    )
    return WeightedOutput(loss=loss, pieces=pieces)


def _shifted(values: Tensor) -> Tensor:
    return values[:, 1:].flatten(0, 1)


def _refuse(base: Any) -> None:
    config = base.config.get_text_config()
    if getattr(config, "output_router_logits", False):
        raise ConfigError("the loss of a mixture's router would be lost; set output_router_logits to false")
    head = base.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise ConfigError(
            f"the head of {type(base).__name__} is {type(head).__name__}, not a plain linear layer: adapt other layers "
            "of the model (lora: leave lm_head out of target_modules)"
        )
    if not _is_linear_in_hidden(base, head):
        raise ConfigError(
            f"the logits of {type(base).__name__} are not its last hidden states times its head (they are scaled or "
            "capped): the weighted loss would be that of another model"
        )


@torch.no_grad()
def _is_linear_in_hidden(base: Any, head: Any) -> bool:
    """Compare the model's own logits of two tokens with head times hidden states."""
    was_training = base.training
    base.eval()
    ids = torch.tensor([[0, 1]], device=head.weight.device)
    own = base(input_ids=ids, use_cache=False).logits.float()
    ours = head(base.base_model(input_ids=ids, use_cache=False).last_hidden_state).float()
    base.train(was_training)
    return bool((own - ours).norm() <= _TOLERANCE * own.norm())
