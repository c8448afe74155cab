"""Configuration of the weighted trainer: TRL's, and what is new."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trl import SFTConfig

from vcrd.errors import ConfigError


@dataclass
class WeightedSFTConfig(SFTConfig):  # type: ignore[misc]
    """Arguments of `WeightedSFTTrainer`; only those that `SFTConfig` does not have are documented here.

    Args:
        kl_coef: Share of the KL to the stored teacher signal, in [0, 1]; tokens without one have plain NLL.
        weight_normalization: What a step's loss is divided by over all ranks and micro-batches: "tokens" (supervised
            tokens) or "weights" (the sum of their weights).
    """

    kl_coef: float = field(default=0.0, metadata={"help": "Share of the KL, in [0, 1]."})
    weight_normalization: str = field(default="tokens", metadata={"help": "tokens or weights."})

    def __post_init__(self) -> None:
        """Refuse what cannot be right with weights, and keep the columns that carry them."""
        self.remove_unused_columns = False
        self.dataset_kwargs: dict[str, Any] = {**(self.dataset_kwargs or {}), "skip_prepare_dataset": True}
        super().__post_init__()
        if not 0 <= self.kl_coef <= 1:
            raise ConfigError(f"kl_coef must be in [0, 1], got {self.kl_coef}")
        if self.weight_normalization not in ("tokens", "weights"):
            raise ConfigError(f"weight_normalization must be tokens or weights, got {self.weight_normalization!r}")
        if self.label_smoothing_factor:
            raise ConfigError("label_smoothing_factor mixes other labels into weighted ones; set it to 0")
        if self.packing or self.padding_free:
            raise ConfigError("packing and padding_free would drop the weights; leave both off")
        if self.loss_type not in (None, "nll"):
            raise ConfigError(f"loss_type {self.loss_type!r} weighs tokens by itself; set it to nll")
