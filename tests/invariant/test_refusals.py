"""What cannot be right is refused before anything is learned, with a reason and a way on."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from datasets import IterableDataset
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import (
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Trainer,
    TrainingArguments,
)

from tests.invariant.rank import PARAMS
from tests.invariant.training import STUDENT, student, trainer_for
from tests.vcrd.training_rows import TOKENIZER, demo_rows, write_training
from vcrd.errors import ConfigError, SchemaError, VcrdError
from vcrd.io.parquet import table_from_rows, write_table
from vcrd.records import TOKENIZER_KEY, TRAINING
from vcrd.storage import PLAIN_COLUMNS
from vcrd.tokenization import tokenizer_fingerprint
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
from vcrd.training.config import WeightedSFTConfig
from vcrd.training.dataset import load_training_dataset
from vcrd.training.head import add_weighted_head
from vcrd.training.launch import LAUNCHER, launch_student
from vcrd.training.mixin import WeightedLossMixin
from vcrd.training.student import train_student


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("token_weights", [0.5], "token_weights, row 1: expected one value per token"),
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


def test_what_a_rank_refuses_is_said_by_who_launched_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, model = write_training(tmp_path / "data", demo_rows(4)), tmp_path / "model"
    student().save_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(model)
    for launcher, kind, message in (
        (sys.executable, ConfigError, "has no pad token"),
        ("false", VcrdError, "false ended with code 1: a rank died"),
        ("torchrun 'of", ConfigError, r"VCRD_LAUNCHER cannot be read \(No closing quotation\)"),
    ):
        monkeypatch.setenv(LAUNCHER, launcher)
        with pytest.raises(kind, match=message):
            launch_student(str(model), None, data, tmp_path / "out", PARAMS, seed=1)


def test_a_precision_that_parameters_do_not_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # as `accelerate launch` tells its ranks
    data = write_training(tmp_path / "data", demo_rows(4))
    with pytest.raises(ConfigError, match="told to compute in bf16, which no fingerprint knows"):
        train_student(STUDENT, None, data, tmp_path / "out", PARAMS, seed=1)


def test_a_step_of_more_items_than_there_is_room_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="items_per_step is 9, and the micro-batches of a step hold 8"):
        trainer_for(tmp_path, demo_rows(4), items_per_step=9).train()


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
    table = table_from_rows(demo_rows(4), TRAINING.schema, "x").drop_columns(list(PLAIN_COLUMNS))
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


def test_a_moderate_cap_on_the_logits_is_seen() -> None:
    config = Gemma2Config(
        vocab_size=32,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        final_logit_softcapping=30.0,
    )
    with pytest.raises(ConfigError, match="scaled or capped"):
        add_weighted_head(Gemma2ForCausalLM(config))
    config.final_logit_softcapping = None
    add_weighted_head(Gemma2ForCausalLM(config))


def test_adapters_that_put_tokens_before_a_row_are_refused() -> None:
    model = get_peft_model(student(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    with pytest.raises(ConfigError, match="prefix tuning"):
        add_weighted_head(model)


@pytest.mark.parametrize("changes", [{"padding_free": True}, {"packing": True, "max_length": 300}])
def test_a_model_whose_rows_would_see_each_other_is_refused(tmp_path: Path, changes: dict) -> None:
    model = BloomForCausalLM(BloomConfig(vocab_size=32, hidden_size=32, n_layer=2, n_head=2))
    trainer_for(tmp_path / "padded", demo_rows(4), model=model)
    with pytest.raises(ConfigError, match="rows that lie behind one another see each other"):
        trainer_for(tmp_path, demo_rows(4), model=model, **changes)


def test_kl_without_teacher_tensors_is_refused_whoever_made_the_batch(tmp_path: Path) -> None:
    class Mine(WeightedLossMixin, Trainer):
        kl_coef = 0.5

    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, remove_unused_columns=False, report_to=[])
    data = load_training_dataset(write_training(tmp_path / "data", demo_rows(4)))
    collate = DataCollatorForWeightedLanguageModeling(TOKENIZER.pad_token_id, with_teacher=False)
    with pytest.raises(ConfigError, match="the batch has no teacher_topk_ids"):
        Mine(model=student(), args=args, train_dataset=data, data_collator=collate).train()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher_topk_logprobs": [[-1.0] * 3, [-1.0]]}, "column teacher_topk_logprobs, row 0: expected as many cand"),
        ({"input_ids": [5, None]}, "column input_ids, row 0: expected no missing value"),
    ],
)
@pytest.mark.parametrize("large", [False, True])
def test_candidates_and_values_out_of_step_are_refused(change: dict, message: str, large: bool) -> None:
    row = {
        "input_ids": [5, 6],
        "labels": [-100, 6],
        "token_weights": [0.0, 1.0],
        "teacher_topk_ids": [[1, 2], [3, 4]],
        "teacher_topk_logprobs": [[-1.0] * 2] * 2,
        "teacher_tail_logprob": [-3.0, -3.0],
    } | change
    list_of = pa.large_list if large else pa.list_
    kinds = {name: list_of(TRAINING.schema.field(name).type.value_type) for name in row}
    table = pa.table({name: pa.array([row[name]], kinds[name]) for name in row})
    with pytest.raises(SchemaError, match=message):
        DataCollatorForWeightedLanguageModeling(0)([table])


@pytest.mark.parametrize("used", ["split", "shuffled stream"])
def test_another_tokenizer_is_refused_after_ordinary_use(tmp_path: Path, used: str) -> None:
    table = table_from_rows(demo_rows(8), TRAINING.schema, "x").replace_schema_metadata({TOKENIZER_KEY: "another"})
    (tmp_path / "data").mkdir()
    write_table(tmp_path / "data/part-00000.parquet", table)
    data = load_training_dataset(tmp_path / "data", streaming=used != "split")
    data = data.train_test_split(0.25)["train"] if used == "split" else data.shuffle(seed=1)
    with pytest.raises(ConfigError, match="tokenizer mismatch"):
        trainer_for(tmp_path, [], data=data)


def test_shards_that_differ_are_refused(tmp_path: Path) -> None:
    folder = write_training(tmp_path / "data", demo_rows(4))
    table = table_from_rows(demo_rows(4), TRAINING.schema, "x").drop_columns(list(PLAIN_COLUMNS))
    write_table(folder / "part-00001.parquet", table)
    with pytest.raises(SchemaError, match=r"part-00001.* other columns, or another tokenizer, than part-00000"):
        load_training_dataset(folder)


def test_a_stream_of_unknown_columns_and_what_is_no_data_set_are_refused(tmp_path: Path) -> None:
    stream = IterableDataset.from_generator(lambda: iter(demo_rows(2)))
    with pytest.raises(ConfigError, match="does not know its columns; give features="):
        trainer_for(tmp_path, [], data=stream)
    with pytest.raises(ConfigError, match="expected a training folder or a data set of `datasets`, got list"):
        trainer_for(tmp_path, [], data=[demo_rows(1)[0]])
