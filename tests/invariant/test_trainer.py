"""The weighted trainer: what may change nothing changes nothing, and what is weighted is weighted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from tests.invariant.training import STUDENT, apart, arguments, student, trained, trainer_for
from tests.vcrd.training_rows import TOKENIZER, demo_rows, write_training
from vcrd.io.parquet import table_from_rows
from vcrd.records import TRAINING
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
from vcrd.training.config import WeightedSFTConfig
from vcrd.training.curve import CURVE, POINTS, read_curve
from vcrd.training.params import TrainParams
from vcrd.training.student import train_student
from vcrd.training.trainer import WeightedSFTTrainer

PARAMS = {
    "epochs": 1.0,
    "learning_rate": 1e-3,
    "warmup_steps": 0,
    "lr_scheduler": "constant",
    "batch_size": 8,
    "gradient_accumulation": 1,
    "weight_decay": 0.0,
    "max_grad_norm": 1e9,
    "kl_coef": 0.5,
    "weight_normalization": "tokens",
    "packing": "none",
    "dtype": "float32",
    "threads": 1,
}


def train(tmp_path: Path, name: str, examples: list[dict], **changes) -> dict[str, torch.Tensor]:
    data = write_training(tmp_path / name / "data", examples)
    out = tmp_path / name / "out"
    train_student(STUDENT, None, data, out, TrainParams(**{**PARAMS, **changes}), seed=1)
    return load_file(out / "model.safetensors")


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], atol: float = 0.0) -> bool:
    return all(torch.allclose(ours[name], theirs[name], atol=atol, rtol=0) for name in ours)


def test_training_repeats_to_the_byte(tmp_path: Path) -> None:
    first, second = train(tmp_path, "a", demo_rows(16)), train(tmp_path, "b", demo_rows(16))
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = load_file(f"{STUDENT}/model.safetensors")
    assert not same(first, start, atol=1e-5)


def test_the_curve_repeats_to_the_byte_and_counts_every_token(tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(tmp_path, name, demo_rows(20), epochs=2.0)
    assert (tmp_path / "a/out" / CURVE).read_bytes() == (tmp_path / "b/out" / CURVE).read_bytes()
    curve = read_curve(tmp_path / "a/out")
    assert [point.step for point in curve] == [1, 2, 3, 4, 5, 6]
    labels = [label for row in demo_rows(20) for label in row["labels"]]
    assert sum(point.supervised_tokens for point in curve) == 2 * sum(label != -100 for label in labels)
    assert {point.learning_rate for point in curve} == {PARAMS["learning_rate"]}
    assert all(point.nll > 0 and point.kl > 0 for point in curve)
    assert curve[-1].loss < curve[0].loss


def test_a_long_training_has_a_short_curve_with_an_end(tmp_path: Path) -> None:
    train(tmp_path, "long", demo_rows(8), epochs=POINTS + 3.0, learning_rate=1e-6)
    steps = [point.step for point in read_curve(tmp_path / "long/out")]
    assert steps == [*range(2, POINTS + 3, 2), POINTS + 3]


def test_rows_of_weight_0_teach_nothing(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, [{**row, "token_weights": [0.0] * len(row["labels"])} for row in demo_rows(4)])
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in trainer.model.parameters() if p.grad is not None)


def test_weight_1_without_kl_is_the_models_own_loss(tmp_path: Path) -> None:
    ones = [
        {**row, "token_weights": [float(label != -100) for label in row["labels"]]}
        for row in demo_rows(4, signal=False)
    ]
    trainer = trainer_for(tmp_path, ones, per_device_train_batch_size=4)
    batch = next(iter(trainer.get_train_dataloader()))
    ours = trainer.compute_loss(trainer.model, batch)
    own = trainer.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]
    ).loss
    assert ours.item() == pytest.approx(own.item(), rel=1e-5)


def test_padding_changes_nothing(tmp_path: Path) -> None:
    examples = demo_rows(6)
    trainer = trainer_for(tmp_path, examples, kl_coef=0.5, per_device_train_batch_size=6)
    batch = next(iter(trainer.get_train_dataloader()))
    collate = DataCollatorForWeightedLanguageModeling(TOKENIZER.pad_token_id)
    total = float(trainer._amount(batch))
    with torch.inference_mode():
        together = trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(total))
        alone = sum(
            trainer.compute_loss(trainer.model, collate([row]), num_items_in_batch=torch.tensor(total))
            for row in examples
        )
    assert together.item() == pytest.approx(alone.item(), rel=1e-4)


def test_the_collator_pads_right_and_keeps_every_value() -> None:
    examples = demo_rows(5)
    batch = DataCollatorForWeightedLanguageModeling(TOKENIZER.pad_token_id)(examples)
    for index, row in enumerate(examples):
        length = len(row["input_ids"])
        assert batch["input_ids"][index, :length].tolist() == row["input_ids"]
        assert (batch["labels"][index, length:] == -100).all()
        assert not batch["token_weights"][index, length:].any()
        assert batch["attention_mask"][index].sum() == length
        for token, ids in enumerate(row["teacher_topk_ids"]):
            kept = batch["teacher_topk_ids"][index, token]
            assert kept[: len(ids)].tolist() == ids
            assert (kept[len(ids) :] == -1).all()
            logprobs = batch["teacher_topk_logprobs"][index, token]
            assert logprobs[: len(ids)].tolist() == pytest.approx(row["teacher_topk_logprobs"][token])


def test_a_candidate_that_is_padding_of_the_head_becomes_tail() -> None:
    row = demo_rows(2)[1]
    given = {**row, "teacher_topk_ids": [[*ids[:1], 400][: len(ids)] for ids in row["teacher_topk_ids"]]}
    batch = DataCollatorForWeightedLanguageModeling(0, vocab_size=400)([given])
    step = batch["labels"][0] != -100
    mass = batch["teacher_topk_logprobs"][0].exp().sum(-1) + batch["teacher_tail_logprob"][0].exp()
    whole = sum(map(math.exp, [*row["teacher_topk_logprobs"][-1], row["teacher_tail_logprob"][-1]]))
    assert mass[step][-1].item() == pytest.approx(whole, rel=1e-6)
    assert batch["teacher_topk_ids"].max() < 400


@pytest.mark.parametrize("given", ["tables", "dictionaries"])
def test_the_collator_takes_arrow_tables_and_dictionaries(given: str) -> None:
    examples = demo_rows(3)
    table = table_from_rows(examples, TRAINING.schema, "x")
    feed = [table.slice(index, 1) for index in range(3)] if given == "tables" else examples
    batch = DataCollatorForWeightedLanguageModeling(0, with_teacher=False)(feed)
    assert set(batch) == {"input_ids", "attention_mask", "labels", "token_weights"}
    assert batch["token_weights"].sum().item() == pytest.approx(sum(sum(row["token_weights"]) for row in examples))


def test_the_students_folder_holds_what_any_loader_needs_and_no_trace_of_here(tmp_path: Path) -> None:
    train(tmp_path, "a", demo_rows(8))
    out = tmp_path / "a/out"
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {path.name for path in out.iterdir()}
    assert str(tmp_path) not in "".join(path.read_text() for path in out.glob("*.json"))
    assert "_name_or_path" not in json.loads((out / "config.json").read_text())


def test_a_resumed_training_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    common = {"kl_coef": 0.5, "max_steps": 6, "save_strategy": "steps", "save_steps": 3, "optim": "adamw_torch"}
    whole = trained(trainer_for(tmp_path / "whole", demo_rows(24), **common))
    resumed = trainer_for(tmp_path / "resumed", demo_rows(24), **common)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole/out/checkpoint-3"))
    assert apart(resumed.model.state_dict(), whole) < 1e-6


def test_adapters_learn_and_nothing_else_moves(tmp_path: Path) -> None:
    data, start = write_training(tmp_path / "data", demo_rows(16)), student().state_dict()
    args = arguments(tmp_path / "out", logging_steps=1, learning_rate=1e-2, optim="adamw_torch", max_steps=20)
    trainer = WeightedSFTTrainer(
        model=student(),
        args=WeightedSFTConfig(kl_coef=0.5, **{**args, "per_device_train_batch_size": 16}),
        train_dataset=data,
        processing_class=TOKENIZER,
        peft_config=LoraConfig(r=4, target_modules=["q_proj", "v_proj"]),
    )
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < losses[0]
    base = trainer.model.unload().state_dict()
    assert all(torch.equal(base[name], start[name]) for name in start)


def test_what_was_learned_is_logged(tmp_path: Path) -> None:
    examples = demo_rows(8)
    trainer = trainer_for(tmp_path, examples, kl_coef=0.5, max_steps=1, logging_steps=1)
    trainer.train()
    line = trainer.state.log_history[0]
    supervised = [(w, label) for row in examples for w, label in zip(row["token_weights"], row["labels"], strict=True)]
    weights = [w for w, label in supervised if label != -100]
    assert line["supervised_tokens"] == len(weights)
    assert line["mean_weight"] == pytest.approx(sum(weights) / len(weights), rel=1e-6)
    assert line["nll"] > 0
    assert line["kl"] > 0
    assert 0 < line["teacher_mass"] <= 1
