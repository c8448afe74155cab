"""Cases of training that give in two ranks what they give in one process; torchrun starts this file once a rank."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from tests.invariant.training import STUDENT, student, trainer_for
from vcrd.training.params import TrainParams
from vcrd.training.student import train_student

STEP = 8
UNEVEN = 21
"""Rows: two steps and five rows more, which two ranks cannot share."""
_COMMON = {"kl_coef": 0.5, "logging_steps": 1, "num_train_epochs": 2, "max_steps": -1, "max_grad_norm": 0.5}
CASES: dict[str, dict[str, Any]] = {
    "ddp": {},
    "ddp, weights": {"weight_normalization": "weights"},
    "ddp, trees": {"tree_packing": True, "max_length": 300, "items_per_step": 3},
    "fsdp": {},
    "fsdp, weights": {"weight_normalization": "weights"},
    "fsdp, trees": {"tree_packing": True, "max_length": 300, "items_per_step": 3},
    "fsdp, tied": {"tied": True},
    "fsdp, mixed": {"bf16": True, "dtype": torch.float32},
}
PARAMS = TrainParams(
    epochs=2.0,
    learning_rate=1e-3,
    warmup_steps=1,
    lr_scheduler="linear",
    batch_size=STEP,
    gradient_accumulation=1,
    weight_decay=0.1,
    max_grad_norm=1.0,
    kl_coef=0.5,
    weight_normalization="tokens",
    packing="auto",
    dtype="float32",
    threads=1,
)
"""Of the runs through `train_student`."""
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
"""What `accelerate launch --use_fsdp --fsdp_version 2 ...` tells its ranks."""


def made(case: str, data: Path, out: Path, ranks: int) -> dict[str, Any]:
    """Train a case in this process, which is one of `ranks`; return its losses, and its weights before and after."""
    changes = {**_COMMON, "dtype": torch.float64, **CASES[case]}
    at_once = 4 if changes.get("tree_packing") else STEP
    model = student(changes["dtype"])
    if changes.pop("tied", False):
        model.config.tie_word_embeddings = True
        model.tie_weights()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = trainer_for(out, [], data=data, model=model, per_device_train_batch_size=at_once // ranks, **changes)
    assert trainer.is_fsdp_enabled == (case.startswith("fsdp") and ranks > 1)
    trainer.train()
    return {
        "losses": [line for line in trainer.state.log_history if "loss" in line],
        "before": before,
        "after": trainer.accelerator.get_state_dict(trainer.model),
    }


def shard_on_cpus() -> None:
    """FSDP2 runs on CPUs, but accelerate shards over accelerators alone: let it take these ranks for such."""
    own = AcceleratorState.__init__

    def init(self: AcceleratorState, *args: Any, **kwargs: Any) -> None:
        if "ACCELERATE_USE_FSDP" in os.environ and not AcceleratorState._shared_state:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        own(self, *args, **kwargs)

    AcceleratorState.__init__ = init


def main(data: Path, folder: Path) -> None:
    """Be a rank: train all cases, and a student, plain and sharded; the first rank writes."""
    shard_on_cpus()
    for case in CASES:
        os.environ.update(FSDP if case.startswith("fsdp") else {})
        found = made(case, data, folder, 2)
        if os.environ["RANK"] == "0":
            torch.save(found, folder / f"{case}.pt")
    train_student(STUDENT, None, data, folder / "fsdp", PARAMS, seed=1)
    for name in FSDP:
        del os.environ[name]
    train_student(STUDENT, None, data, folder / "ddp", PARAMS, seed=1)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
