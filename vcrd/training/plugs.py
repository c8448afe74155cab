"""Weights in a plain `transformers.Trainer`, without a subclass: the model's own loss function is replaced.

A batch's extra keys reach it through `model(**batch)`. The count that the Trainer hands over covers all micro-batches
of a step, so any split of a batch gives the same update. The logits of a whole micro-batch lie in memory, as they do in
the Trainer anyway.

Axis letters: B rows, T tokens, V vocabulary, K teacher candidates.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from vcrd.errors import ConfigError
from vcrd.losses import weighted_loss
from vcrd.training.head import teacher_arguments
from vcrd.training.params import check_loss


def apply_token_weights(model: Any, *, kl_coef: float = 0.0) -> None:
    """Make a causal language model of transformers weigh its loss by the batch's `token_weights`.

    For a `Trainer` with `DataCollatorForWeightedLanguageModeling` and `remove_unused_columns=False`. The sum of the
    weighted losses is divided by the number of supervised tokens ("tokens"); to divide by the sum of the weights, use
    `WeightedLossMixin` or `WeightedSFTTrainer`. In evaluation a batch is divided by its own tokens.

    Not to be combined with `label_smoothing_factor`, `compute_loss_func` or `use_liger_kernel`: each of them takes the
    labels away from the model, or its loss.

    Args:
        model: A model, or a peft model around one.
        kl_coef: Share of the KL to the stored teacher signal, in [0, 1]; needs the collator's `with_teacher`.

    Raises:
        ConfigError: The model's loss cannot see the weights.
    """
    check_loss(kl_coef, "tokens")
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    name = type(base).__name__
    forward = inspect.unwrap(type(base).forward)
    setter = getattr(inspect.getattr_static(type(base), "loss_function", None), "fset", None)
    if setter is None or "loss_function" not in forward.__code__.co_names:
        raise ConfigError(f"{name} computes its loss by itself, without loss_function; use WeightedLossMixin")
    kinds = [parameter.kind for parameter in inspect.signature(forward).parameters.values()]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        raise ConfigError(
            f"{name}.forward takes no **kwargs, so the weights cannot reach its loss; use WeightedLossMixin"
        )
    if not getattr(base, "accepts_loss_kwargs", True):
        raise ConfigError(
            f"{name} sets accepts_loss_kwargs to False: the Trainer would give its loss no count of the whole step's "
            "tokens, and every split of a batch another update; use WeightedLossMixin"
        )
    base.loss_function = _WeightedLossFunction(kl_coef)


class _WeightedLossFunction:
    """What a model calls in place of its own loss function."""

    def __init__(self, kl_coef: float) -> None:
        self._kl_coef = kl_coef

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        vocab_size: int | None = None,
        num_items_in_batch: Tensor | int | None = None,
        token_weights: Tensor | None = None,
        shift_labels: Tensor | None = None,
        **batch: Any,
    ) -> Tensor:
        """Return the loss of a micro-batch as its part of the whole step's.

        Args:
            logits: [B, T, V].
            labels: [B, T], not shifted.
            vocab_size: Not used: the logits have it.
            num_items_in_batch: Supervised tokens of the whole step; None counts those of this micro-batch.
            token_weights: [B, T], aligned with `labels`.
            shift_labels: Refused: they come from a context or sequence parallelism that does not shard the weights.
            batch: The teacher's columns among others, [B, T, K] and [B, T].
        """
        if shift_labels is not None:
            raise ConfigError("context and sequence parallelism would not shard the weights; switch them off")
        if "predecessors" in batch:
            raise ConfigError("prefix trees need the weighted head: use WeightedLossMixin, or a collator without trees")
        if token_weights is None:
            raise ConfigError(
                "no token_weights reached the loss; use DataCollatorForWeightedLanguageModeling and "
                "remove_unused_columns=False, and a model whose forward hands its **kwargs to the loss"
            )
        return weighted_loss(
            logits[:, :-1].flatten(0, 1),
            labels[:, 1:].flatten().to(logits.device),
            token_weights[:, 1:].flatten(),
            kl_coef=self._kl_coef,
            denominator=num_items_in_batch,
            **teacher_arguments(batch, self._kl_coef),
        ).loss
