"""The schedule of `train_student`, as params.yaml gives it (without importing torch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from vcrd.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainParams:
    """How the student learns the data set."""

    epochs: Annotated[float, Gt(0)]
    """Passes over the data set."""
    learning_rate: Annotated[float, Gt(0)]
    """Peak."""
    warmup_steps: Annotated[int, Ge(0)]
    """Optimiser steps up to the peak."""
    lr_scheduler: Literal["linear", "cosine", "constant"]
    """After the peak."""
    batch_size: Annotated[int, Ge(1)]
    """Examples per micro-batch and process."""
    gradient_accumulation: Annotated[int, Ge(1)]
    """Micro-batches per optimiser step."""
    weight_decay: Annotated[float, Ge(0)]
    """Of AdamW."""
    max_grad_norm: Annotated[float, Gt(0)]
    """Gradients are scaled down to this norm."""
    kl_coef: Annotated[float, Ge(0), Le(1)]
    """Share of the KL where there is a teacher signal; the rest is NLL."""
    weight_normalization: Literal["tokens", "weights"]
    """What a step's loss is divided by: supervised tokens, or the sum of their weights."""
    packing: Literal["auto", "trees", "none"]
    """trees: what a problem's rows share is computed once; auto: where the model can and it pays; none: padded rows."""
    dtype: Literal["float32", "bfloat16"]
    """Of the weights."""
    threads: Annotated[int, Ge(1)]
    """CPU threads; sums depend on it."""


def check_loss(kl_coef: float, weight_normalization: str) -> None:
    """Check what a trainer's own arguments say of the loss.

    Raises:
        ConfigError: A value is out of range.
    """
    if not 0 <= kl_coef <= 1:
        raise ConfigError(f"kl_coef must be in [0, 1], got {kl_coef}")
    if weight_normalization not in ("tokens", "weights"):
        raise ConfigError(f"weight_normalization must be tokens or weights, got {weight_normalization!r}")
