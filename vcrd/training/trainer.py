"""The weighted trainer: TRL's SFTTrainer with a weight on every token and the stored teacher signal beside it.

One denominator per optimiser step, over all its micro-batches and ranks, so that any split of a batch gives the same
update. TRL and transformers are touched at `compute_loss`, `get_batch_samples` and `loss_is_scaled_for_ga` alone.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from transformers.utils import logging
from trl import SFTTrainer

from vcrd.errors import ConfigError
from vcrd.io.progress import Progress
from vcrd.losses import IGNORED, weighted_loss
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
from vcrd.training.config import WeightedSFTConfig
from vcrd.training.dataset import load_training_dataset
from vcrd.training.params import TrainParams
from vcrd.training.pretrain import save

logging.disable_progress_bar()  # of reading and writing weights; the training has its own

_TEACHER = ("teacher_topk_ids", "teacher_topk_logprobs", "teacher_tail_logprob")


class WeightedSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """Reads `training` rows (see `load_training_dataset`); weights and teacher signal are taken as they are."""

    # The loss below is divided once, by the whole step's denominator: nobody may divide it by micro-batches again.
    loss_is_scaled_for_ga = True

    def __init__(self, model: Any, args: WeightedSFTConfig, **kwargs: Any) -> None:
        """Take the same arguments as `SFTTrainer`; the collator is ours unless one is given."""
        if not isinstance(args, WeightedSFTConfig):
            raise ConfigError(f"args must be a WeightedSFTConfig, got {type(args).__name__}")
        tokenizer = kwargs.get("processing_class")
        if kwargs.get("data_collator") is None and tokenizer is not None:
            collator = DataCollatorForWeightedLanguageModeling(tokenizer.pad_token_id, with_teacher=args.kl_coef > 0)
            kwargs["data_collator"] = collator
        super().__init__(model=model, args=args, **kwargs)
        if getattr(self.accelerator.state, "parallelism_config", None) is not None:
            raise ConfigError("context and sequence parallelism would not shard the weights; switch them off")
        self._pieces: defaultdict[str, float] = defaultdict(float)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Prefetch a step's micro-batches and return them with the step's denominator over all ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        total = sum((self._amount(batch) for batch in batches), torch.zeros((), dtype=torch.float64))
        if self.args.average_tokens_across_devices:
            total = self.accelerator.gather(total.to(device)).sum()
        return batches, total

    def _amount(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Supervised tokens of a batch, or the sum of their weights; the first token of a row predicts nothing."""
        supervised = batch["labels"][:, 1:] != IGNORED
        if self.args.weight_normalization == "tokens":
            return supervised.sum().double()
        return batch["token_weights"][:, 1:][supervised].double().sum()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the weighted loss of a micro-batch as its part of the whole step's."""
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        denominator = self._amount(inputs) if num_items_in_batch is None else num_items_in_batch
        teacher = {}
        if self.args.kl_coef > 0 and _TEACHER[0] in inputs:
            teacher = {
                f"{name}_{'TK' if 'topk' in name else 'T'}": inputs[name][:, 1:].flatten(0, 1) for name in _TEACHER
            }
        result = weighted_loss(
            outputs.logits[:, :-1].flatten(0, 1),
            inputs["labels"][:, 1:].flatten(),
            inputs["token_weights"][:, 1:].flatten(),
            kl_coef=self.args.kl_coef,
            denominator=torch.as_tensor(denominator, device=outputs.logits.device).to(torch.float32),
            **teacher,
        )
        loss = result.loss
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over ranks
        if model.training:
            for name in ("nll_sum", "kl_sum", "n_supervised", "weight_sum"):
                self._pieces[name] += float(getattr(result, name))
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was learned since the last line: NLL and KL per unit of weight, mean weight, supervised tokens."""
        pieces = self._pieces
        if pieces["n_supervised"]:
            weight = max(pieces["weight_sum"], 1e-12)
            logs = {
                **logs,
                "nll": pieces["nll_sum"] / weight,
                "kl": pieces["kl_sum"] / weight,
                "mean_weight": pieces["weight_sum"] / pieces["n_supervised"],
                "supervised_tokens": pieces["n_supervised"],
            }
            self._pieces = defaultdict(float)
        super().log(logs, start_time)


class _Bar(TrainerCallback):  # type: ignore[misc]
    """Shows steps done."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._progress = Progress("train_student", state.max_steps, "step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._progress.advance(1)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._progress.close()


def train_student(
    model_path: str,
    revision: str | None,
    training_dir: Path,
    output_dir: Path,
    params: TrainParams,
    *,
    seed: int,
) -> None:
    """Train a model on a `training` folder and save it: safetensors, configuration, tokenizer, nothing else.

    Same data, parameters, seed and threads give the same bytes.
    """
    torch.set_num_threads(params.threads)
    model = AutoModelForCausalLM.from_pretrained(model_path, revision=revision, dtype=getattr(torch, params.dtype))
    tokenizer = AutoTokenizer.from_pretrained(model_path, revision=revision)
    if tokenizer.pad_token_id is None:
        raise ConfigError(f"the tokenizer of {model_path!r} has no pad token; set one and save it")
    with tempfile.TemporaryDirectory() as scratch:
        args = WeightedSFTConfig(
            output_dir=scratch,
            seed=seed,
            data_seed=seed,
            num_train_epochs=params.epochs,
            learning_rate=params.learning_rate,
            warmup_steps=params.warmup_steps,
            lr_scheduler_type=params.lr_scheduler,
            per_device_train_batch_size=params.batch_size,
            gradient_accumulation_steps=params.gradient_accumulation,
            weight_decay=params.weight_decay,
            max_grad_norm=params.max_grad_norm,
            kl_coef=params.kl_coef,
            weight_normalization=params.weight_normalization,
            bf16=False,
            max_length=None,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            logging_steps=10,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = WeightedSFTTrainer(
            model=model,
            args=args,
            train_dataset=load_training_dataset(training_dir),
            processing_class=tokenizer,
            callbacks=[_Bar()],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        save(trainer.accelerator.unwrap_model(trainer.model), tokenizer, output_dir)
