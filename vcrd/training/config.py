"""Configuration of the weighted trainer: TRL's, and what is new."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trl import SFTConfig

from vcrd.errors import ConfigError
from vcrd.training.params import check_loss


@dataclass
class WeightedSFTConfig(SFTConfig):  # type: ignore[misc]
    """Arguments of `WeightedSFTTrainer`; only those that `SFTConfig` does not have are documented here.

    `packing` fills bins of `max_length` tokens with whole rows, `padding_free` lays the rows of a batch behind one
    another; rows are never truncated. A batch of bins has `per_device_train_batch_size` of them.

    Args:
        kl_coef: Share of the KL to the stored teacher signal, in [0, 1]; tokens without one have plain NLL.
        weight_normalization: What a step's loss is divided by over all ranks and micro-batches: "tokens" (supervised
            tokens) or "weights" (the sum of their weights).
        vocab_size: Ids from here on are padding of the head, which no token has: the student's are masked, a teacher's
            mass there counts as tail. None: there is no padding.
        tree_packing: Merge rows of a problem to prefix trees, so that what they begin with is computed once, at equal
            loss and gradients; bins hold `max_length` tokens of trees. Takes the place of `packing` and `padding_free`.
        items_per_step: Rows (or bins) that an optimiser step teaches over all ranks, where its micro-batches hold more;
            the rest of them stays blank. None: as many as they hold.
    """

    kl_coef: float = field(default=0.0, metadata={"help": "Share of the KL, in [0, 1]."})
    weight_normalization: str = field(default="tokens", metadata={"help": "tokens or weights."})
    vocab_size: int | None = field(default=None, metadata={"help": "Ids from here on are padding of the head."})
    tree_packing: bool = field(default=False, metadata={"help": "Merge rows of a problem to prefix trees."})
    items_per_step: int | None = field(default=None, metadata={"help": "Rows of a step over all ranks, if fewer."})

    def __post_init__(self) -> None:
        """Refuse what cannot be right with weights, and keep the columns that carry them."""
        self.remove_unused_columns = False
        self.dataset_kwargs: dict[str, Any] = {**(self.dataset_kwargs or {}), "skip_prepare_dataset": True}
        if self.padding_free and not self.packing:
            self.max_length: int | None = None  # it limits bins, and there are none
        super().__post_init__()
        check_loss(self.kl_coef, self.weight_normalization)
        if self.label_smoothing_factor:
            raise ConfigError("label_smoothing_factor mixes other labels into weighted ones; set it to 0")
        if self.tree_packing and (self.packing or self.padding_free):
            raise ConfigError("tree_packing takes the place of packing and padding_free; switch these off")
        if (self.packing or self.tree_packing) and self.max_length is None:
            raise ConfigError("packing fills bins of max_length tokens; set max_length")
        if self.packing and self.packing_strategy != "bfd":
            raise ConfigError(f"packing_strategy {self.packing_strategy!r} cuts rows, which are whole; set it to bfd")
        if self.items_per_step is not None and self.items_per_step < 1:
            raise ConfigError(f"items_per_step must be at least 1, got {self.items_per_step}")
        if self.loss_type not in (None, "nll"):
            raise ConfigError(f"loss_type {self.loss_type!r} weighs tokens by itself; set it to nll")
