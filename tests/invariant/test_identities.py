"""What must be the same is the same: stock SFT, splits of a batch, and every way of laying rows out.

In float64, where sums in another order leave twelve digits alone, a wrong denominator or a lost token cannot hide.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from tests.invariant.training import apart, arguments, student, trained, trainer_for
from tests.vcrd.training_rows import TOKENIZER, demo_rows, write_training
from vcrd.io.parquet import table_from_rows, write_table
from vcrd.records import TRAINING
from vcrd.storage import SignalParams, decode_teacher_signal, encode_teacher_signal
from vcrd.training.dataset import load_training_dataset
from vcrd.training.packed import PackedStream

CLOSE = 1e-6
"""TRL's kernel has float32 statistics whatever the model."""
EXACT = 1e-9
WIDE = {"dtype": torch.float64}


def unit_rows(count: int) -> list[dict]:
    return [
        {**row, "token_weights": [float(label != -100) for label in row["labels"]]}
        for row in demo_rows(count, signal=False)
    ]


def test_unit_weights_without_kl_are_stock_sft(tmp_path: Path) -> None:
    examples = unit_rows(24)
    ours = trainer_for(tmp_path, examples, logging_steps=1, learning_rate=0.002, **WIDE)
    data = load_dataset("parquet", data_files=str(tmp_path / "data/*.parquet"), split="train")
    data = data.select_columns(["input_ids", "labels"])
    args = SFTConfig(**arguments(tmp_path / "sft", logging_steps=1, learning_rate=0.002))
    stock = SFTTrainer(model=student(**WIDE), args=args, train_dataset=data, processing_class=TOKENIZER)
    assert apart(trained(ours), trained(stock)) < CLOSE
    losses = [[line["loss"] for line in it.state.log_history if "loss" in line] for it in (ours, stock)]
    assert len(losses[0]) == 5
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("normalization", ["tokens", "weights"])
@pytest.mark.parametrize(("batch", "accumulation"), [(2, 4), (1, 8)])
def test_any_split_of_a_batch_gives_the_same_update(
    tmp_path: Path, normalization: str, batch: int, accumulation: int
) -> None:
    common = {"kl_coef": 0.5, "weight_normalization": normalization, "max_steps": 2}
    whole = trained(trainer_for(tmp_path / "whole", demo_rows(16), **common, **WIDE))
    split = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
    parts = trained(trainer_for(tmp_path / "parts", demo_rows(16), **common, **split, **WIDE))
    assert apart(parts, whole) < EXACT


@pytest.mark.parametrize(
    "form", ["padding_free", "packed", "streamed", "streamed and packed", "as load_dataset gives it"]
)
def test_every_way_of_laying_rows_out_gives_the_same_update(tmp_path: Path, form: str) -> None:
    examples, common = demo_rows(16), {"kl_coef": 0.5, "max_steps": 2, "per_device_train_batch_size": 16}
    padded = trained(trainer_for(tmp_path / "padded", examples, **common, **WIDE))
    folder = write_training(tmp_path / "data", examples[::2], examples[1::2])
    data = load_training_dataset(folder, streaming=form.startswith("streamed"))
    changes = {"padding_free": True} if form == "padding_free" else {}
    if "packed" in form:
        changes = {"packing": True, "max_length": 150}
    if form.startswith("as"):
        data = load_dataset("parquet", data_files=str(folder / "*.parquet"), split="train")
    other = trained(trainer_for(tmp_path / "other", [], data=data, **{**common, **changes}, **WIDE))
    assert apart(other, padded) < EXACT


def test_the_compact_signal_teaches_what_the_plain_one_of_its_values_does(tmp_path: Path) -> None:
    given = table_from_rows(demo_rows(16), TRAINING.schema, "x")
    compact = encode_teacher_signal(given, SignalParams(vocabulary_size=29))
    results = []
    for name, table in (("compact", compact), ("plain", decode_teacher_signal(compact))):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "part-00000.parquet", table)
        common = {"data": tmp_path / name, "kl_coef": 0.5, "max_steps": 2, **WIDE}
        results.append(trained(trainer_for(tmp_path, [], **common)))
    assert apart(*results) < EXACT


def test_bins_hold_every_row_once_and_no_more_than_they_may(tmp_path: Path) -> None:
    examples = demo_rows(40)
    trainer = trainer_for(tmp_path, examples, packing=True, max_length=120)
    seen = [row for index in range(len(trainer.train_dataset)) for row in trainer.train_dataset[index].to_pylist()]
    assert sorted(map(str, (row["input_ids"] for row in seen))) == sorted(str(row["input_ids"]) for row in examples)
    assert max(len(batch["input_ids"][0]) for batch in trainer.get_train_dataloader()) <= 8 * 120
    assert len(trainer.train_dataset) < len(examples)


def test_a_stream_is_packed_window_by_window_without_losing_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vcrd.training.packed._WINDOW", 7)
    data = load_training_dataset(write_training(tmp_path / "data", demo_rows(40)), streaming=True)
    bins = list(PackedStream(data, 150))
    assert max(sum(map(len, table["input_ids"].to_pylist())) for table in bins) <= 150
    seen = sorted(str(ids) for table in bins for ids in table["input_ids"].to_pylist())
    assert seen == sorted(str(row["input_ids"]) for row in demo_rows(40))
    assert 40 > len(bins) > 40 / 7


def test_a_row_of_weight_2_is_the_row_twice_where_weights_are_the_denominator(tmp_path: Path) -> None:
    examples = demo_rows(8, weights=(1.0,))
    twice = [*examples, examples[0]]
    doubled = [{**examples[0], "token_weights": [2 * w for w in examples[0]["token_weights"]]}, *examples[1:]]
    common = {"weight_normalization": "weights", "kl_coef": 0.3, "max_steps": 1, "per_device_train_batch_size": 9}
    first, second = (
        trained(trainer_for(tmp_path / name, given, **common, **WIDE)) for name, given in (("a", doubled), ("b", twice))
    )
    assert apart(first, second) < EXACT


def test_scaling_all_weights_changes_nothing_where_they_are_the_denominator(tmp_path: Path) -> None:
    examples = demo_rows(8)
    scaled = [{**row, "token_weights": [3 * weight for weight in row["token_weights"]]} for row in examples]
    common = {"weight_normalization": "weights", "kl_coef": 0.3, "max_steps": 2}
    first, second = (
        trained(trainer_for(tmp_path / name, given, **common, **WIDE))
        for name, given in (("a", scaled), ("b", examples))
    )
    assert apart(first, second) < EXACT
