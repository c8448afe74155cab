"""A weight on every token, and the stored teacher signal, for any subclass of `transformers.Trainer`.

One denominator per optimiser step, over all its micro-batches and ranks, so that any split of a batch gives the same
update. The host is touched at `compute_loss`, `get_batch_samples`, `prediction_step`, `evaluation_loop`, `log` and
`loss_is_scaled_for_ga` alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vcrd.errors import ConfigError
from vcrd.losses import IGNORED, exact_dtype
from vcrd.storage import PLAIN_COLUMNS
from vcrd.training.head import add_weighted_head, predicted
from vcrd.training.params import check_loss

_FOR_LOSS = ("labels", "token_weights", *PLAIN_COLUMNS)


class WeightedLossMixin:
    """Stands before a trainer in the bases: `class Mine(WeightedLossMixin, Trainer)`.

    Batches hold what `DataCollatorForWeightedLanguageModeling` makes. The arguments of the trainer may have `kl_coef`,
    `weight_normalization` and `vocab_size` (see `WeightedSFTConfig`); else those of the class hold.
    """

    kl_coef: float = 0.0
    weight_normalization: str = "tokens"
    vocab_size: int | None = None
    # The loss below is divided once, by the whole step's denominator: nobody may divide it by micro-batches again.
    loss_is_scaled_for_ga = True

    args: Any
    model: Any
    accelerator: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Set the host up, refuse what cannot be right with weights, and give the model its head.

        Raises:
            ConfigError: An argument or the model would undo the weights; says which and what to do.
        """
        super().__init__(*args, **kwargs)
        self.kl_coef = getattr(self.args, "kl_coef", self.kl_coef)
        self.weight_normalization = getattr(self.args, "weight_normalization", self.weight_normalization)
        self.vocab_size = getattr(self.args, "vocab_size", self.vocab_size)
        check_loss(self.kl_coef, self.weight_normalization)
        refuse_host(self)
        add_weighted_head(self.model)
        self._pieces: dict[str, dict[str, Tensor]] = {}

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Prefetch a step's micro-batches and return them with the step's denominator over all ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)  # type: ignore[misc]
        amounts = [self._amount(batch) for batch in batches]
        total = torch.stack(amounts).sum().to(device) if amounts else torch.zeros((), device=device)
        if self.args.average_tokens_across_devices:
            total = self.accelerator.gather(total).sum()
        return batches, total

    def _amount(self, batch: dict[str, Tensor]) -> Tensor:
        """Supervised tokens of a batch, or the sum of their weights; the first token of a row predicts nothing."""
        labels, weights = (predicted(batch[name], batch.get("predecessors")) for name in ("labels", "token_weights"))
        supervised, exact = labels != IGNORED, exact_dtype(labels.device)
        return (
            supervised.sum().to(exact) if self.weight_normalization == "tokens" else weights[supervised].to(exact).sum()
        )

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the weighted loss of a micro-batch as its part of the whole step's."""
        denominator = self._amount(inputs) if num_items_in_batch is None else num_items_in_batch
        found = model(
            **inputs,
            weighted_loss=True,
            kl_coef=self.kl_coef,
            denominator=denominator,
            vocab_size=self.vocab_size,
        )
        sums = self._pieces.setdefault(self._mode, {})
        for name, value in found.pieces._asdict().items():
            sums[name] = sums[name] + value if name in sums else value
        loss = found.loss
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over ranks
        if not return_outputs:
            return loss
        with torch.no_grad():
            return loss, model(**{name: value for name, value in inputs.items() if name not in _FOR_LOSS})

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Divide a batch by its own amount, and make its logits only where they are asked for."""
        inputs = self._prepare_inputs(inputs)  # type: ignore[attr-defined]
        with torch.no_grad(), self.compute_loss_context_manager():  # type: ignore[attr-defined]
            if prediction_loss_only:
                return self.compute_loss(model, inputs).detach(), None, None
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        return loss.detach(), outputs.logits, inputs["labels"]

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Begin with empty sums."""
        self._pieces.pop("eval", None)
        return super().evaluation_loop(*args, **kwargs)  # type: ignore[misc]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add what was learned since the last line: NLL and KL per unit of weight, mean weight, supervised tokens.

        Nothing is added of an evaluation over several ranks, where the sampler repeats rows to fill the last batch.
        """
        mode = self._mode
        sums = self._pieces.pop(mode, None)
        if sums and (mode == "train" or self.accelerator.num_processes == 1):
            exact = exact_dtype(self.accelerator.device)
            values = self.accelerator.gather(torch.stack([value.to(exact) for value in sums.values()])[None]).sum(0)
            losses = [name for name in logs if name.endswith("_loss")]
            prefix = losses[0].removesuffix("loss") if mode == "eval" and losses else ""
            for name, value in told_of(dict(zip(sums, values.tolist(), strict=True))).items():
                logs[f"{prefix}{name}"] = value  # in place: they are among the metrics that `evaluate` returns
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"


def told_of(sums: dict[str, float]) -> dict[str, float]:
    """Turn the sums of many micro-batches into what a log line says; of the KL, per weight of tokens that have one."""
    told = {
        "nll": sums["nll_sum"] / max(sums["weight_sum"], 1e-12),
        "mean_weight": sums["weight_sum"] / max(sums["n_supervised"], 1.0),
        "supervised_tokens": sums["n_supervised"],
    }
    if sums["n_signal"]:
        signal = max(sums["signal_weight_sum"], 1e-12)
        told["kl"] = sums["kl_sum"] / signal
        told["teacher_mass"] = sums["teacher_mass_sum"] / signal
        told["overlap"] = sums["overlap_sum"] / signal
    return told


def refuse_host(trainer: Any) -> None:
    """Refuse settings of a trainer that would undo or misplace weights.

    Raises:
        ConfigError: There is one; says why.
    """
    args = trainer.args
    if args.remove_unused_columns:
        raise ConfigError("remove_unused_columns would drop the weights; set it to false")
    if args.label_smoothing_factor:
        raise ConfigError("label_smoothing_factor mixes other labels into weighted ones; set it to 0")
    if getattr(trainer, "compute_loss_func", None) is not None:
        raise ConfigError("compute_loss_func would take the place of the weighted loss; leave it out")
    if getattr(args, "parallelism_config", None) is not None:
        raise ConfigError("context, sequence and tensor parallelism would not shard the weights; switch them off")
    if trainer.is_deepspeed_enabled:
        raise ConfigError("nobody has tried DeepSpeed with the weighted loss; use DDP or FSDP2 (torchrun, accelerate)")
    if trainer.is_fsdp_enabled:
        _prepare_fsdp(trainer.accelerator.state.fsdp_plugin)
    if args.n_gpu > 1:
        raise ConfigError(
            "DataParallel knows no denominator over devices; start one process per device with torchrun, "
            "which the stage train_student takes from VCRD_LAUNCHER"
        )


def _prepare_fsdp(plugin: Any) -> None:
    """Keep FSDP2 from rounding what is given to the loss, and refuse what it cannot be right with."""
    if plugin.fsdp_version != 2:
        raise ConfigError("FSDP1 flattens the head, which the weighted loss reads; set fsdp_version to 2")
    if plugin.cpu_ram_efficient_loading:
        raise ConfigError(
            "with fsdp_cpu_ram_efficient_loading only the first rank has weights, and each rank asks its model whether "
            "the weighted loss is right for it; set it to false"
        )
    if plugin.mixed_precision_policy is not None:
        # Weights and the teacher's log-probabilities are arguments of the model; activations are of its dtype anyway.
        plugin.mixed_precision_policy = replace(
            plugin.mixed_precision_policy, cast_forward_inputs=False, output_dtype=None
        )
