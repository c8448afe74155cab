"""The weighted trainer: what may change nothing changes nothing, and what is weighted is weighted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from tests.invariant.training import STUDENT, apart, arguments, student, trained, trainer_for
from tests.vcrd.training_rows import TOKENIZER, demo_rows, write_training
from vcrd.errors import ConfigError, SchemaError
from vcrd.io.parquet import table_from_rows, write_table
from vcrd.records import TOKENIZER_KEY, TRAINING
from vcrd.tokenization import tokenizer_fingerprint
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
from vcrd.training.config import WeightedSFTConfig
from vcrd.training.dataset import SIGNAL_COLUMNS, load_training_dataset
from vcrd.training.head import add_weighted_head
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


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("token_weights", [0.5], "token_weights, row 1: expected .* values, one per token"),
        ("labels", [1, 2], "labels, row 1"),
    ],
)
def test_rows_out_of_step_are_refused_with_their_place(tmp_path: Path, column: str, value: list, message: str) -> None:
    examples = demo_rows(3)
    examples[1][column] = value
    with pytest.raises(SchemaError, match=message):
        load_training_dataset(write_training(tmp_path / "data", examples))


@pytest.mark.parametrize("weight", [float("nan"), -1.0, float("inf")])
def test_a_weight_that_cannot_be_is_refused(tmp_path: Path, weight: float) -> None:
    examples = demo_rows(3)
    examples[2]["token_weights"][-1] = weight
    with pytest.raises(SchemaError, match="row 2: expected a finite weight >= 0"):
        load_training_dataset(write_training(tmp_path / "data", examples))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_table(tmp_path / "data/part-00000.parquet", pa.table({"input_ids": [[1]], "labels": [[1]]}))
    with pytest.raises(SchemaError, match="column token_weights"):
        load_training_dataset(tmp_path / "data")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kl_coef": 1.5}, r"kl_coef must be in \[0, 1\], got 1\.5"),
        ({"weight_normalization": "mean"}, "tokens or weights, got 'mean'"),
        ({"packing": True, "max_length": None}, "packing fills bins"),
        ({"packing": True, "packing_strategy": "wrapped"}, "packing_strategy 'wrapped' cuts rows"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"loss_type": "dft"}, "loss_type 'dft'"),
    ],
)
def test_what_would_undo_the_weights_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WeightedSFTConfig(output_dir=str(tmp_path), use_cpu=True, **changes)


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


def test_a_head_with_adapters_is_refused() -> None:
    with pytest.raises(ConfigError, match="leave lm_head out of target_modules"):
        add_weighted_head(get_peft_model(student(), LoraConfig(r=2, target_modules=["lm_head"])))


def test_logits_that_are_not_hidden_states_times_head_are_refused(tmp_path: Path) -> None:
    model = student()
    plain = model.forward

    def capped(*args, **kwargs):
        found = plain(*args, **kwargs)
        return type(found)(logits=torch.tanh(found.logits))

    model.forward = capped
    with pytest.raises(ConfigError, match="scaled or capped"):
        trainer_for(tmp_path, demo_rows(4), model=model)


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


def test_the_data_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    examples = table_from_rows(demo_rows(4), TRAINING.schema, "x").replace_schema_metadata({TOKENIZER_KEY: "another"})
    (tmp_path / "data").mkdir()
    write_table(tmp_path / "data/part-00000.parquet", examples)
    with pytest.raises(ConfigError, match="tokenizer mismatch"):
        trainer_for(tmp_path, [], data=tmp_path / "data")
    mine = examples.replace_schema_metadata({TOKENIZER_KEY: tokenizer_fingerprint(TOKENIZER)})
    write_table(tmp_path / "data/part-00000.parquet", mine)
    trainer_for(tmp_path, [], data=tmp_path / "data")


def test_kl_without_a_teacher_signal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    table = table_from_rows(demo_rows(4), TRAINING.schema, "x").drop_columns(list(SIGNAL_COLUMNS))
    write_table(tmp_path / "data/part-00000.parquet", table)
    with pytest.raises(ConfigError, match="the data set has no teacher columns"):
        trainer_for(tmp_path, [], data=tmp_path / "data", kl_coef=0.5)
    trainer_for(tmp_path, [], data=tmp_path / "data").train()


@pytest.mark.parametrize("missing", ["token_weights", "teacher_tail_logprob"])
def test_rows_of_a_stream_that_lack_a_column_or_a_value_are_refused(tmp_path: Path, missing: str) -> None:
    collate = DataCollatorForWeightedLanguageModeling(0)
    with pytest.raises(SchemaError, match=f"column {missing}"):
        collate([{name: value for name, value in row.items() if name != missing} for row in demo_rows(2)])
    short = demo_rows(2)
    short[1][missing] = short[1][missing][:-1]
    with pytest.raises(SchemaError, match=f"a batch, column {missing}, row 1"):
        collate(short)


def test_a_row_longer_than_a_bin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_length is too small for packing: row .* tokens, a bin 10"):
        trainer_for(tmp_path, demo_rows(4), packing=True, max_length=10)


def test_evaluation_has_the_weighted_loss_and_can_give_logits(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, demo_rows(8), kl_coef=0.5)
    told = trainer.evaluate(load_training_dataset(tmp_path / "data"))
    assert told["eval_loss"] > 0
    batch = next(iter(trainer.get_train_dataloader()))
    loss, outputs = trainer.compute_loss(trainer.model, batch, return_outputs=True)
    assert outputs.logits.shape[:2] == batch["input_ids"].shape
    assert loss.requires_grad
