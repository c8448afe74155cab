"""A run's student: the weighted trainer with a run's parameters."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from transformers.utils import logging

from vcrd.errors import ConfigError
from vcrd.io.checkpoints import NO_CODE, ONLY_TENSORS
from vcrd.io.progress import Progress
from vcrd.training.batches import choose_batches
from vcrd.training.config import WeightedSFTConfig
from vcrd.training.curve import POINTS, CurvePoint, write_curve
from vcrd.training.dataset import TrainingDataset, load_training_dataset
from vcrd.training.launch import is_first_rank, rank_count
from vcrd.training.params import TrainParams
from vcrd.training.pretrain import save
from vcrd.training.trainer import WeightedSFTTrainer


class _Bar(TrainerCallback):  # type: ignore[misc]
    """Shows steps done, and keeps the curve of the training."""

    def __init__(self) -> None:
        self.points: list[CurvePoint] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._progress = Progress("train_student", state.max_steps, "step")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._progress.advance(1)
        if state.global_step >= state.max_steps:
            control.should_log = True  # the last point stands for the steps that are left over

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:  # and not the times of the whole training
            known = {name: logs.get(name) for name in ("learning_rate", "loss", "nll", "kl")}
            self.points.append(
                CurvePoint(step=state.global_step, supervised_tokens=int(logs["supervised_tokens"]), **known)
            )

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
    """Train a model on a `training` folder and save it: safetensors, configuration, tokenizer, and its curve.

    Same data, parameters, seed and threads give the same bytes. Called by every rank of a launcher, it makes the steps
    that one process makes, up to rounding; the first rank writes.

    Raises:
        ConfigError: Model, data and parameters do not belong together, or the ranks do not see each other.
    """
    logging.disable_progress_bar()  # of reading and writing weights; the training has its own
    torch.set_num_threads(params.threads)
    dtype = getattr(torch, params.dtype)
    model = AutoModelForCausalLM.from_pretrained(model_path, revision=revision, dtype=dtype, **ONLY_TENSORS)
    tokenizer = AutoTokenizer.from_pretrained(model_path, revision=revision, **NO_CODE)
    if tokenizer.pad_token_id is None:
        raise ConfigError(f"the tokenizer of {model_path!r} has no pad token; set one and save it")
    rows = load_training_dataset(training_dir)
    assert isinstance(rows, TrainingDataset), "only streams are none"  # noqa: S101 - for the type checker
    whole, ranks = choose_batches(model, rows, params), rank_count()
    batches = whole.dealt(ranks)
    with tempfile.TemporaryDirectory() as scratch:
        args = WeightedSFTConfig(
            output_dir=scratch,
            seed=seed,
            data_seed=seed,
            num_train_epochs=params.epochs,
            learning_rate=params.learning_rate,
            warmup_steps=params.warmup_steps,
            lr_scheduler_type=params.lr_scheduler,
            per_device_train_batch_size=batches.per_device,
            gradient_accumulation_steps=batches.accumulation,
            items_per_step=whole.items if ranks > 1 else None,
            tree_packing=batches.tree_tokens is not None,
            max_length=batches.tree_tokens,
            weight_decay=params.weight_decay,
            max_grad_norm=params.max_grad_norm,
            kl_coef=params.kl_coef,
            weight_normalization=params.weight_normalization,
            vocab_size=min(len(tokenizer), model.config.get_text_config().vocab_size),
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            logging_steps=1 / POINTS,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            # Not told, accelerate takes each rank on a CPU for a training of its own.
            use_cpu=not torch.accelerator.is_available(),
        )
        if args.world_size != ranks:
            raise ConfigError(f"the launcher started {ranks} processes, and accelerate sees {args.world_size}")
        if args.mixed_precision != "no":
            raise ConfigError(
                f"accelerate was told to compute in {args.mixed_precision}, which no fingerprint knows; give "
                "--mixed_precision no (mixed_precision in its configuration file), and say it with train.dtype"
            )
        bar = _Bar()
        trainer = WeightedSFTTrainer(
            model=model,
            args=args,
            train_dataset=rows,
            processing_class=tokenizer,
            callbacks=[bar] if is_first_rank() else [],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        # Every rank takes part in gathering.
        state = trainer.accelerator.get_state_dict(trainer.model) if trainer.is_fsdp_enabled else None
        if trainer.is_world_process_zero():
            save(trainer.accelerator.unwrap_model(trainer.model), tokenizer, output_dir, state=state)
            write_curve(output_dir, bar.points)
