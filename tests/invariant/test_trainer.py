"""The weighted trainer: what may change nothing changes nothing, and what is weighted is weighted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.workspace import ROOT
from vcrd.domains.demo_math import build_tokenizer, generate_problems, sample_solution
from vcrd.errors import ConfigError, SchemaError
from vcrd.io.parquet import table_from_rows, write_table
from vcrd.records import TRAINING
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
from vcrd.training.config import WeightedSFTConfig
from vcrd.training.dataset import load_training_dataset
from vcrd.training.params import TrainParams
from vcrd.training.trainer import WeightedSFTTrainer, train_student

STUDENT = str(ROOT / "data/models/demo-math/student")
TOKENIZER = build_tokenizer()
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


def rows(count: int = 16, signal: bool = True) -> list[dict]:
    """Examples of different lengths and weights, some without a teacher signal."""
    import random

    rng = random.Random(3)
    made = []
    for index, (prompt, _) in enumerate(generate_problems(3, count, 5)):
        solution = sample_solution(prompt, rng).splitlines(keepends=True)
        cut = rng.randrange(len(solution))
        prefix = TOKENIZER.encode(prompt + "\n" + "".join(solution[:cut]))
        step = TOKENIZER.encode(solution[cut])
        weight = rng.choice([0.0, 0.5, 1.0, 2.5])
        with_signal = signal and index % 3 > 0
        blank = [[] for _ in prefix]
        given = {field.name: "" for field in TRAINING.schema}
        made.append(
            given
            | {
                "example_id": f"e{index}",
                "step_index": cut,
                "input_ids": prefix + step,
                "labels": [-100] * len(prefix) + step,
                "token_weights": [0.0] * len(prefix) + [weight] * len(step),
                "teacher_topk_ids": blank + [[token, (token + 1) % 29] if with_signal else [] for token in step],
                "teacher_topk_logprobs": blank + [[-0.3, -1.8] if with_signal else [] for _ in step],
                "teacher_tail_logprob": [0.0] * len(prefix) + [-2.5 if with_signal else 0.0 for _ in step],
                "student_validity": 0.5,
                "teacher_validity": 0.5,
                "relative_validity": 0.0,
                "step_strength": 0.5,
            }
        )
    return made


def write(folder: Path, examples: list[dict]) -> Path:
    folder.mkdir(parents=True)
    write_table(folder / "part-00000.parquet", table_from_rows(examples, TRAINING.schema, "x"))
    return folder


def train(tmp_path: Path, name: str, examples: list[dict], **changes) -> dict[str, torch.Tensor]:
    data = write(tmp_path / name / "data", examples)
    out = tmp_path / name / "out"
    train_student(STUDENT, None, data, out, TrainParams(**{**PARAMS, **changes}), seed=1)
    return load_file(out / "model.safetensors")


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], atol: float = 0.0) -> bool:
    return all(torch.allclose(ours[name], theirs[name], atol=atol, rtol=0) for name in ours)


def trainer_for(tmp_path: Path, examples: list[dict], **changes) -> WeightedSFTTrainer:
    data = load_training_dataset(write(tmp_path / "data", examples))
    args = WeightedSFTConfig(
        output_dir=str(tmp_path / "out"),
        max_length=None,
        report_to=[],
        use_cpu=True,
        gradient_checkpointing=False,
        bf16=False,
        **changes,
    )
    model = AutoModelForCausalLM.from_pretrained(STUDENT, dtype=torch.float32)
    return WeightedSFTTrainer(model=model, args=args, train_dataset=data, processing_class=TOKENIZER)


def test_training_repeats_to_the_byte(tmp_path: Path) -> None:
    first, second = train(tmp_path, "a", rows()), train(tmp_path, "b", rows())
    assert all(torch.equal(first[name], second[name]) for name in first)
    start = load_file(f"{STUDENT}/model.safetensors")
    assert not same(first, start, atol=1e-5)


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 4), (4, 2), (1, 8)])
def test_any_split_of_a_batch_gives_the_same_update(tmp_path: Path, batch: int, accumulation: int) -> None:
    whole = train(tmp_path, "a", rows(8), learning_rate=1e-4)
    split = train(tmp_path, "b", rows(8), learning_rate=1e-4, batch_size=batch, gradient_accumulation=accumulation)
    start = load_file(f"{STUDENT}/model.safetensors")
    moved = max(float((whole[name] - start[name]).abs().max()) for name in whole)
    apart = max(float((whole[name] - split[name]).abs().max()) for name in whole)
    # AdamW's first step is the sign of the gradient: where that is 0 up to rounding, its sign is rounding's.
    differing = np.mean([float(((whole[n] - split[n]).abs() > 0.05 * moved).float().mean()) for n in whole])
    assert apart <= 2 * moved
    assert differing < 1e-3


def test_rows_of_weight_0_teach_nothing(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, [{**row, "token_weights": [0.0] * len(row["labels"])} for row in rows(4)])
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    assert loss.item() == 0
    assert all(not p.grad.any() for p in trainer.model.parameters() if p.grad is not None)


def test_weight_1_without_kl_is_the_models_own_loss(tmp_path: Path) -> None:
    ones = [
        {**row, "token_weights": [float(label != -100) for label in row["labels"]]} for row in rows(4, signal=False)
    ]
    trainer = trainer_for(tmp_path, ones, per_device_train_batch_size=4)
    batch = next(iter(trainer.get_train_dataloader()))
    ours = trainer.compute_loss(trainer.model, batch)
    own = trainer.model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"]
    ).loss
    assert ours.item() == pytest.approx(own.item(), rel=1e-5)


def test_padding_changes_nothing(tmp_path: Path) -> None:
    examples = rows(6)
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
    examples = rows(5)
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


@pytest.mark.parametrize("given", ["tables", "dictionaries"])
def test_the_collator_takes_arrow_tables_and_dictionaries(given: str) -> None:
    examples = rows(3)
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
    examples = rows(3)
    examples[1][column] = value
    with pytest.raises(SchemaError, match=message):
        load_training_dataset(write(tmp_path / "data", examples))


@pytest.mark.parametrize("weight", [float("nan"), -1.0, float("inf")])
def test_a_weight_that_cannot_be_is_refused(tmp_path: Path, weight: float) -> None:
    examples = rows(3)
    examples[2]["token_weights"][-1] = weight
    with pytest.raises(SchemaError, match="row 2: expected a finite weight >= 0"):
        load_training_dataset(write(tmp_path / "data", examples))


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
        ({"packing": True}, "packing"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"loss_type": "dft"}, "loss_type 'dft'"),
    ],
)
def test_what_would_undo_the_weights_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WeightedSFTConfig(output_dir=str(tmp_path), use_cpu=True, **changes)


def test_the_students_folder_holds_what_any_loader_needs_and_no_trace_of_here(tmp_path: Path) -> None:
    train(tmp_path, "a", rows(8))
    out = tmp_path / "a/out"
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {path.name for path in out.iterdir()}
    assert str(tmp_path) not in "".join(path.read_text() for path in out.glob("*.json"))
    assert "_name_or_path" not in json.loads((out / "config.json").read_text())
