"""The weighted loss inside a causal language model's forward, so that its logits never exist as a whole.

The forward is patched, not called around: wrappers such as DDP, FSDP2, autocast and peft stay in place.

Axis letters: B rows, T tokens, K teacher candidates, H width, V vocabulary.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding
from transformers.utils import ModelOutput

from vcrd.errors import ConfigError
from vcrd.losses import LossPieces, fused_weighted_loss
from vcrd.storage import PLAIN_COLUMNS
from vcrd.training.layouts import TREE_FIELDS
from vcrd.training.probe import logits_are_head_times_hidden
from vcrd.trees.attention import TreeLayout, tree_arguments
from vcrd.trees.support import prepare_for_trees

_OWN_FORWARD = "_forward_with_logits"
_READY_FOR_TREES = "_ready_for_trees"


@dataclass
class WeightedOutput(ModelOutput):  # type: ignore[misc]
    """The loss and what a trainer logs of it."""

    loss: Tensor | None = None
    pieces: LossPieces | None = None


def add_weighted_head(model: Any) -> None:
    """Let `model(..., weighted_loss=True, labels=..., token_weights=...)` return the weighted loss, without logits.

    Further arguments of such a call: teacher_topk_ids, teacher_topk_logprobs [B, T, K] and teacher_tail_logprob [B, T],
    kl_coef, denominator, vocab_size. Entry t of every per-token tensor is about token t of `input_ids`; the shift is
    made here. A batch of prefix trees says by `predecessors` [1, M] which node predicts each of its M labels, and
    what each node sees by its `tree_*` fields. Any other call is the model's own.

    Args:
        model: A `transformers` causal language model, peft around it or not.

    Raises:
        ConfigError: Its logits are not its last hidden states times its head, so that the loss would be another.
    """
    base = unwrapped(model)
    if hasattr(base, _OWN_FORWARD):
        return
    _refuse(base)
    setattr(base, _OWN_FORWARD, base.forward)

    # Bound to the model, not closed over it: a deep copy takes its own along. The signature is what `generate` reads.
    @functools.wraps(type(base).forward)
    def forward(self: Any, *args: Any, weighted_loss: bool = False, **kwargs: Any) -> Any:
        return _weighted_forward(self, args, kwargs) if weighted_loss else getattr(self, _OWN_FORWARD)(*args, **kwargs)

    base.forward = types.MethodType(forward, base)


def unwrapped(model: Any) -> Any:
    """Return the causal language model within a peft model, or the model itself.

    Raises:
        ConfigError: The adapter puts tokens of its own before each row.
    """
    if not hasattr(model, "get_base_model"):
        return model
    if any(config.is_prompt_learning for config in model.peft_config.values()):
        raise ConfigError("prompt and prefix tuning shift every token by tokens that have no weight; use LoRA")
    return model.get_base_model()


def _weighted_forward(base: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> WeightedOutput:
    predecessors = kwargs.pop("predecessors", None)
    labels, weights = (predicted(kwargs.pop(name), predecessors) for name in ("labels", "token_weights"))
    kl_coef = kwargs.pop("kl_coef", 0.0)
    options = {name: kwargs.pop(name, None) for name in ("denominator", "vocab_size")}
    teacher = teacher_arguments({name: kwargs.pop(name, None) for name in PLAIN_COLUMNS}, kl_coef, predecessors)
    if predecessors is not None:
        _prepare_once(base)
        kwargs |= tree_arguments(base, TreeLayout(*(kwargs.pop(name) for name in TREE_FIELDS)))
    hidden = base.base_model(*args, use_cache=False, **kwargs).last_hidden_state
    # As an embedding, whose gradient has the same bits in every run: threads add into what an index picked in any
    # order, and a node may precede many labels.
    hidden_TH = hidden[:, :-1].flatten(0, 1) if predecessors is None else embedding(predecessors[0], hidden[0])
    head = base.get_output_embeddings()

    def forward_of_head(hidden_TH: Tensor) -> tuple[Tensor, LossPieces]:
        return fused_weighted_loss(
            hidden_TH,
            head.weight,
            labels,
            weights,
            **teacher,
            kl_coef=kl_coef,
            bias_V=head.bias,
            **options,
            return_pieces=True,
        )

    loss, pieces = _called_as(head, forward_of_head, hidden_TH)
    return WeightedOutput(loss=loss, pieces=pieces)


def _called_as(module: torch.nn.Module, forward: Callable[..., Any], *args: Any) -> Any:
    """Call a module with another forward, so that its hooks run: FSDP2 gathers a sharded weight in them."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        return module(*args)
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _prepare_once(base: Any) -> None:
    """Prepare a model whose trainer did not: a mixin's host knows nothing of what its collator makes."""
    if hasattr(base, _READY_FOR_TREES):
        return
    if (reason := prepare_for_trees(base)) is not None:
        raise ConfigError(f"{type(base).__name__} cannot be trained on prefix trees: {reason}")
    setattr(base, _READY_FOR_TREES, True)


def teacher_arguments(batch: Mapping[str, Any], kl_coef: float, predecessors: Tensor | None = None) -> dict[str, Any]:
    """Return the teacher's columns of a batch, one entry per prediction, as a loss takes them; none without KL.

    Raises:
        ConfigError: There is a KL and a column is missing.
    """
    if kl_coef == 0:
        return {}
    if missing := [name for name in PLAIN_COLUMNS if batch.get(name) is None]:
        raise ConfigError(
            f"kl_coef is {kl_coef}, but the batch has no {missing[0]}; see with_teacher of "
            "DataCollatorForWeightedLanguageModeling, and give rows that have a teacher signal, or set kl_coef to 0"
        )
    return {f"{name}_{'TK' if 'topk' in name else 'T'}": predicted(batch[name], predecessors) for name in PLAIN_COLUMNS}


def predicted(values: Tensor, predecessors: Tensor | None) -> Tensor:
    """Return what a batch says of each predicted token: of trees these are listed, else all but each row's first."""
    return (values[:, 1:] if predecessors is None else values).flatten(0, 1)


def _refuse(base: Any) -> None:
    config = base.config.get_text_config()
    if getattr(config, "output_router_logits", False):
        raise ConfigError("the loss of a mixture's router would be lost; set output_router_logits to false")
    head = base.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        raise ConfigError(
            f"the head of {type(base).__name__} is {type(head).__name__}, not a plain linear layer: adapt other layers "
            "of the model (lora: leave lm_head out of target_modules and modules_to_save)"
        )
    if not logits_are_head_times_hidden(base):
        raise ConfigError(
            f"the logits of {type(base).__name__} are not its last hidden states times its head (they are scaled or "
            "capped): the weighted loss would be that of another model"
        )
