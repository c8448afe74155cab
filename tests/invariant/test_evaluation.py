"""Evaluation: the weighted loss of a batch by its own amount, logits on request, figures of its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from tests.invariant.training import student, trainer_for
from tests.vcrd.training_rows import TOKENIZER, demo_rows, write_training
from vcrd.losses import weighted_loss
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
from vcrd.training.dataset import load_training_dataset
from vcrd.training.head import add_weighted_head
from vcrd.training.mixin import WeightedLossMixin

COLLATE = DataCollatorForWeightedLanguageModeling(TOKENIZER.pad_token_id, with_teacher=False)


class Mine(WeightedLossMixin, Trainer):
    weight_normalization = "weights"


def by_hand(examples: list[dict], normalization: str) -> float:
    """The weighted NLL of one batch, on whole logits."""
    batch = COLLATE(examples)
    with torch.no_grad():
        logits = student()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    labels, weights = batch["labels"][:, 1:].flatten(), batch["token_weights"][:, 1:].flatten()
    amount = weights.sum() if normalization == "weights" else (labels != -100).sum()
    return weighted_loss(logits[:, :-1].flatten(0, 1), labels, weights, denominator=amount).loss.item()


def plain_trainer(tmp_path: Path, examples: list[dict]) -> Mine:
    data = load_training_dataset(write_training(tmp_path / "data", examples))
    args = TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, remove_unused_columns=False, report_to=[], per_device_eval_batch_size=8
    )
    return Mine(model=student(), args=args, train_dataset=data, eval_dataset=data, data_collator=COLLATE)


@pytest.mark.parametrize("normalization", ["tokens", "weights"])
def test_the_loss_of_an_evaluation_is_the_weighted_one(tmp_path: Path, normalization: str) -> None:
    examples = demo_rows(8)
    trainer = trainer_for(tmp_path, examples, weight_normalization=normalization)
    told = trainer.evaluate(tmp_path / "data")
    assert told["eval_loss"] == pytest.approx(by_hand(examples, normalization), rel=1e-5)
    assert told["eval_nll"] == pytest.approx(by_hand(examples, "weights"), rel=1e-5)


def test_a_plain_trainer_evaluates_alike_and_makes_no_logits_that_nobody_wants(tmp_path: Path) -> None:
    examples = demo_rows(8)
    trainer = plain_trainer(tmp_path, examples)
    outputs: list[Any] = []
    trainer.model.get_output_embeddings().register_forward_hook(lambda head, given, output: outputs.append(output))
    assert trainer.evaluate()["eval_loss"] == pytest.approx(by_hand(examples, "weights"), rel=1e-5)
    assert outputs, "the loss is made in the head's forward"
    assert not any(isinstance(output, torch.Tensor) for output in outputs)
    assert trainer.predict(trainer.eval_dataset).predictions.shape == (8, *COLLATE(examples)["labels"].shape[1:], 29)


def test_figures_of_one_evaluation_are_not_those_of_another_nor_of_training(tmp_path: Path) -> None:
    trainer = plain_trainer(tmp_path, demo_rows(8))
    trainer.train()
    trainer.predict(trainer.eval_dataset)
    first, again = trainer.evaluate(metric_key_prefix="test"), trainer.evaluate()
    supervised = sum(label != -100 for row in demo_rows(8) for label in row["labels"])
    assert first["test_supervised_tokens"] == again["eval_supervised_tokens"] == supervised
    assert first["test_nll"] == again["eval_nll"]


def test_a_copy_of_a_model_is_a_model_of_its_own() -> None:
    model = student()
    add_weighted_head(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert not other(input_ids=torch.tensor([[1, 2]])).logits.any()
    other(**COLLATE(demo_rows(2, weights=(1.0,))), weighted_loss=True).loss.backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert any(parameter.grad is not None for parameter in other.parameters())
