"""A whole training step of `WeightedSFTTrainer` against one of TRL's `SFTTrainer`: same model, same rows, one run.

Every token of the rows is supervised: the case in which skipping masked ones gains nothing.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import load_dataset
from transformers import PreTrainedTokenizerFast, TrainerCallback
from transformers.utils import logging
from trl import SFTConfig, SFTTrainer

from benchmarks._qwen import small_qwen
from benchmarks.claims import claim
from vcrd.domains.demo_math import DOMAIN
from vcrd.io.parquet import table_from_rows, write_table
from vcrd.records import TRAINING
from vcrd.training.config import WeightedSFTConfig
from vcrd.training.trainer import WeightedSFTTrainer

VOCABULARY, K, LENGTH, BATCH, STEPS, ROUNDS = 151_936, 16, 256, 2, 3, 5


class _Clock(TrainerCallback):  # type: ignore[misc]
    """Keeps when steps ended: between two ends lie collation, forward, backward and update."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())


def _write_rows(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for index in range(BATCH * STEPS):
        ids = rng.integers(0, VOCABULARY, LENGTH).tolist()
        given = {field.name: "" for field in TRAINING.schema}
        numbers = ("student_validity", "teacher_validity", "relative_validity", "target_value", "step_strength")
        rows.append(
            given
            | dict.fromkeys(numbers, 0.5)
            | {
                "example_id": str(index),
                "step_index": 0,
                "input_ids": ids,
                "labels": ids,
                "token_weights": (rng.random(LENGTH) + 0.5).tolist(),
                "teacher_topk_ids": [rng.choice(VOCABULARY, K, replace=False).tolist() for _ in ids],
                "teacher_topk_logprobs": [[-3.0] * K for _ in ids],
                "teacher_tail_logprob": [float(np.log1p(-K * np.exp(-3.0)))] * LENGTH,
            }
        )
    write_table(folder / "part-00000.parquet", table_from_rows(rows, TRAINING.schema, "rows"))


def _trainers(folder: Path, tokenizer: PreTrainedTokenizerFast) -> dict[str, tuple[Any, _Clock]]:
    common: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "max_length": None,
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    plain = load_dataset("parquet", data_files=str(folder / "*.parquet"), split="train")
    made: dict[str, tuple[Any, _Clock]] = {}
    for name, kl_coef in (("sft", None), ("weights", 0.0), ("kl", 0.5)):
        clock = _Clock()
        rest: dict[str, Any] = {"model": small_qwen(VOCABULARY), "processing_class": tokenizer, "callbacks": [clock]}
        if kl_coef is None:
            data = plain.select_columns(["input_ids", "labels"])
            made[name] = SFTTrainer(args=SFTConfig(**common), train_dataset=data, **rest), clock
        else:
            args = WeightedSFTConfig(kl_coef=kl_coef, **common)
            made[name] = WeightedSFTTrainer(args=args, train_dataset=folder, **rest), clock
    return made


def main() -> bool:
    """Alternate between the trainers."""
    torch.set_num_threads(2)
    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as place:
        _write_rows(Path(place))
        trainers = _trainers(Path(place), DOMAIN.build_tokenizer())
        rounds = []
        for _ in range(ROUNDS):
            took = {}
            for name, (trainer, clock) in trainers.items():
                clock.ends.clear()
                trainer.train()
                took[name] = statistics.median(np.diff(clock.ends).tolist())
            rounds.append(took)
    shape = f"25.7 M parameters and a vocabulary of {VOCABULARY}, {BATCH} x {LENGTH} tokens"
    held = [
        claim(f"{title}, in steps of SFTTrainer: {shape}", [each[name] / each["sft"] for each in rounds], bar, "lower")
        for name, title, bar in (
            ("weights", "a step of WeightedSFTTrainer without KL", 1.05),
            ("kl", f"a step of WeightedSFTTrainer with KL (k={K})", 1.1),
        )
    ]
    return all(held)


if __name__ == "__main__":
    sys.exit(not main())
