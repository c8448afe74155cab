"""Trainers and what they give, for the tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tests.vcrd.training_rows import TOKENIZER, write_training
from tests.workspace import ROOT
from vcrd.training.config import WeightedSFTConfig
from vcrd.training.trainer import WeightedSFTTrainer

STUDENT = str(ROOT / "data/models/demo-math/student")


def arguments(out: Path, **changes: Any) -> dict[str, Any]:
    """Plain gradient descent on the CPU: an update is proportional to its gradient."""
    return {
        "output_dir": str(out),
        "max_length": None,
        "report_to": [],
        "use_cpu": True,
        "gradient_checkpointing": False,
        "bf16": False,
        "optim": "sgd",
        "learning_rate": 0.02,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1e9,
        "max_steps": 5,
        "per_device_train_batch_size": 8,
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        **changes,
    }


def student(dtype: torch.dtype = torch.float32) -> Any:
    """Load the demo's student."""
    return AutoModelForCausalLM.from_pretrained(STUDENT, dtype=dtype)


def trainer_for(
    folder: Path,
    examples: list[dict],
    *,
    data: Any = None,
    model: Any = None,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> Any:
    """Build a weighted trainer on examples, or on data of another form."""
    args = WeightedSFTConfig(**arguments(folder / "out", **changes))
    if data is None:
        data = write_training(folder / "data", examples)
    return WeightedSFTTrainer(model=model or student(dtype), args=args, train_dataset=data, processing_class=TOKENIZER)


def trained(trainer: Any) -> dict[str, torch.Tensor]:
    """Train, and return the parameters."""
    trainer.train()
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def apart(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Return how far two results lie apart, in the size of the update from the demo's student."""
    start = student(next(iter(theirs.values())).dtype).state_dict()
    moved = torch.cat([(theirs[name] - start[name]).flatten() for name in theirs]).norm()
    gap = torch.cat([(ours[name] - theirs[name]).flatten() for name in theirs]).norm()
    assert moved > 1e-3
    return float(gap / moved)
