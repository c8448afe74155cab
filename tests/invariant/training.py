"""Trainers and what they give, for the tests of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.vcrd.training_rows import TOKENIZER, write_training
from tests.workspace import ROOT
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
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


def loss_and_gradients(model: Any, batches: list[dict[str, Any]], kl_coef: float = 0.5) -> tuple[float, torch.Tensor]:
    """Return the sums over batches; every batch's loss has one denominator."""
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = model(**batch, weighted_loss=True, kl_coef=kl_coef, denominator=100.0).loss
        loss.backward()
        total += loss.item()
    return total, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def assert_trees_equal_rows(model: Any, rows: list[Any], parts: int = 1) -> None:
    """Compare one tree of all rows, or some trees, with a batch for each row."""
    trees = DataCollatorForWeightedLanguageModeling(0, trees=True)
    alone = DataCollatorForWeightedLanguageModeling(0)
    ours, our_gradients = loss_and_gradients(model, [trees(rows[part::parts]) for part in range(parts)])
    theirs, their_gradients = loss_and_gradients(model, [alone([row]) for row in rows])
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    assert (our_gradients - their_gradients).norm() <= 1e-5 * max(float(their_gradients.norm()), 0.5)
