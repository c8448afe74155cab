"""Training on prefix trees is training on the rows: loss, gradients and updates are equal, at fewer tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from tests.invariant.training import (
    apart,
    assert_trees_equal_rows,
    loss_and_gradients,
    student,
    trained,
    trainer_for,
)
from tests.vcrd.test_trees import distinct_prefixes
from tests.vcrd.training_rows import demo_rows, write_training
from tests.vcrd.tree_rows import rollout_rows
from vcrd.errors import ConfigError
from vcrd.io.parquet import table_from_rows
from vcrd.records import TRAINING
from vcrd.training.batches import choose_batches
from vcrd.training.collator import DataCollatorForWeightedLanguageModeling
from vcrd.training.dataset import load_training_dataset
from vcrd.training.head import add_weighted_head, unwrapped
from vcrd.training.packed import PackedStream
from vcrd.training.params import TrainParams
from vcrd.trees import attention
from vcrd.trees.support import prepare_for_trees

WIDE = {"dtype": torch.float64}
CLOSE = 1e-6
"""Sums in another order flip last bits of the norms, which transformers computes in float32 whatever the model."""
MODES = pytest.mark.parametrize("mode", ["mask", "runs"])


@MODES
def test_random_trees_have_the_loss_and_gradients_of_their_rows(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_DENSE_NODES", 0 if mode == "runs" else 10**9)
    model = student()
    add_weighted_head(model)
    assert prepare_for_trees(model) is None

    @settings(max_examples=12, deadline=None)
    @given(st.integers(0, 2**20), st.integers(1, 3), st.integers(1, 5), st.integers(1, 2))
    def holds(seed: int, rollouts: int, steps: int, parts: int) -> None:
        rows = rollout_rows(2, seed, rollouts=rollouts, steps=steps)
        assert_trees_equal_rows(model, rows, min(parts, len(rows)))

    holds()


@settings(max_examples=30)
@given(st.integers(0, 2**20), st.integers(1, 3), st.integers(1, 5))
def test_a_batch_holds_each_node_of_the_trie_once(seed: int, rollouts: int, steps: int) -> None:
    rows = rollout_rows(3, seed, rollouts=rollouts, steps=steps)
    batch = DataCollatorForWeightedLanguageModeling(0, trees=True)(rows)
    assert batch["input_ids"].shape[1] == len(distinct_prefixes([row["input_ids"] for row in rows]))
    # A prompt's first token follows from nothing: no prefix of these is empty, so that nothing is lost.
    assert batch["labels"].shape[1] == sum(label != -100 for row in rows for label in row["labels"])
    before = batch["input_ids"][0][batch["predecessors"][0]]
    expected = [row["input_ids"][at - 1] for row in rows for at, label in enumerate(row["labels"]) if label != -100]
    assert before.tolist() == expected


@pytest.mark.parametrize("normalization", ["tokens", "weights"])
def test_an_epoch_on_trees_is_an_epoch_on_rows(tmp_path: Path, normalization: str) -> None:
    rows = rollout_rows(6)
    common = {"kl_coef": 0.5, "weight_normalization": normalization, "max_steps": 1, **WIDE}
    packed = trainer_for(
        tmp_path / "trees", rows, tree_packing=True, max_length=40, gradient_accumulation_steps=99, **common
    )
    plain = trainer_for(tmp_path / "rows", rows, per_device_train_batch_size=len(rows), **common)
    assert len(packed.train_dataset) > 1
    assert apart(trained(packed), trained(plain)) < CLOSE


def test_several_bins_of_a_micro_batch_become_one_tree(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, rollout_rows(6), tree_packing=True, max_length=40, per_device_train_batch_size=3)
    for batch in trainer.get_train_dataloader():
        assert batch["input_ids"].shape[0] == 1
        assert batch["input_ids"].shape[1] <= 3 * 40
    trained(trainer)


def test_bins_hold_every_row_once_and_no_more_nodes_than_they_may(tmp_path: Path) -> None:
    rows = rollout_rows(9)
    trainer = trainer_for(tmp_path, rows, tree_packing=True, max_length=30)
    bins = [trainer.train_dataset[index]["input_ids"].to_pylist() for index in range(len(trainer.train_dataset))]
    assert sorted(str(ids) for each in bins for ids in each) == sorted(str(row["input_ids"]) for row in rows)
    assert max(len(distinct_prefixes(each)) for each in bins) <= 30


def test_rows_of_a_problem_are_found_wherever_they_stand(tmp_path: Path) -> None:
    data = load_training_dataset(write_training(tmp_path / "data", rollout_rows(9))).shuffle(seed=1)
    sizes = []
    for name, given_data in (("shuffled", data), ("ordered", tmp_path / "data")):
        trainer = trainer_for(tmp_path / name, [], data=given_data, tree_packing=True, max_length=200)
        bins = [trainer.train_dataset[index]["input_ids"].to_pylist() for index in range(len(trainer.train_dataset))]
        sizes.append(sum(len(distinct_prefixes(each)) for each in bins))
    assert sizes[0] == sizes[1] == len(distinct_prefixes([row["input_ids"] for row in rollout_rows(9)]))


def test_a_stream_is_packed_to_trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vcrd.training.packed._WINDOW", 20)
    rows = rollout_rows(9)
    bins = list(
        PackedStream(load_training_dataset(write_training(tmp_path / "d", rows), streaming=True), 40, trees=True)
    )
    seen = [ids for table in bins for ids in table["input_ids"].to_pylist()]
    assert sorted(map(str, seen)) == sorted(str(row["input_ids"]) for row in rows)
    assert max(len(distinct_prefixes(table["input_ids"].to_pylist())) for table in bins) <= 40


def test_checkpointed_activations_and_adapters_change_nothing(tmp_path: Path) -> None:
    rows = rollout_rows(4)
    common = {"kl_coef": 0.5, "max_steps": 1, "per_device_train_batch_size": len(rows), **WIDE}
    trees = {"tree_packing": True, "max_length": 500}
    plain = trained(trainer_for(tmp_path / "rows", rows, **common))
    checkpointed = trainer_for(tmp_path / "trees", rows, gradient_checkpointing=True, **trees, **common)
    assert apart(trained(checkpointed), plain) < CLOSE
    adapted = get_peft_model(student(), LoraConfig(r=2, target_modules=["q_proj"]))
    add_weighted_head(adapted)
    assert prepare_for_trees(unwrapped(adapted)) is None
    assert_trees_equal_rows(adapted, rows)


def test_the_same_tree_has_gradients_of_the_same_bits() -> None:
    # A prompt's last token precedes the first step of every row; more than two threads' sums have an order.
    prompt = [1, 2, 3]
    rows = [_supervised(prompt, [4 + row % 9, 5, 6] * 40) for row in range(24)]
    model = student()
    add_weighted_head(model)
    assert prepare_for_trees(model) is None
    batch = DataCollatorForWeightedLanguageModeling(0, with_teacher=False, trees=True)(rows)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = [loss_and_gradients(model, [batch], kl_coef=0.0)[1] for _ in range(20)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(each, found[0]) for each in found)


def _supervised(prefix: list[int], step: list[int]) -> dict[str, Any]:
    labels = [-100] * len(prefix) + step
    return {"input_ids": prefix + step, "labels": labels, "token_weights": [float(label >= 0) for label in labels]}


def test_predictions_are_of_rows(tmp_path: Path) -> None:
    data = dataset(rollout_rows(3), tmp_path / "data")
    found = [
        trainer_for(tmp_path / name, [], data=data, **changes).predict(data)
        for name, changes in (("rows", {}), ("trees", {"tree_packing": True, "max_length": 60}))
    ]
    assert found[0].predictions.shape == found[1].predictions.shape
    assert abs(found[0].predictions - found[1].predictions).max() < 1e-4
    assert (found[0].label_ids == found[1].label_ids).all()


def of_kind(kind: str, **changes: Any) -> Any:
    """Build a tiny model of another kind than the demo's."""
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    config = AutoConfig.for_model(kind, **sizes, **changes)
    return AutoModelForCausalLM.from_config(config)


HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2}


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("mistral", {**HEADS, "sliding_window": 8}, "its attention slides"),
        ("qwen2", {**HEADS, "use_sliding_window": True, "max_window_layers": 1}, "layers of sliding_attention"),
        ("mamba", {"state_size": 4}, "layers of linear_attention"),
        ("bert", {"num_attention_heads": 2, "is_decoder": False}, "its tokens depend on more than those before them"),
    ],
)
def test_models_whose_tokens_see_no_path_are_refused(kind: str, changes: dict[str, Any], reason: str) -> None:
    assert reason in str(prepare_for_trees(of_kind(kind, **changes)))


def test_a_trainer_says_why_it_refuses(tmp_path: Path) -> None:
    sliding = of_kind("mistral", **HEADS, sliding_window=8)
    with pytest.raises(ConfigError, match="MistralForCausalLM cannot be trained on prefix trees: its attention slides"):
        trainer_for(tmp_path / "a", rollout_rows(2), model=sliding, tree_packing=True, max_length=99)
    with pytest.raises(ConfigError, match=r"max_length is too small for packing: row .* tokens, a bin 5"):
        trainer_for(tmp_path / "b", rollout_rows(2), tree_packing=True, max_length=5)
    data = write_training(tmp_path / "d", rollout_rows(2), without=["problem_id"])
    with pytest.raises(ConfigError, match="the rows have no problem_id"):
        trainer_for(tmp_path / "c", [], data=data, tree_packing=True, max_length=99)
    with pytest.raises(ConfigError, match="takes the place of packing"):
        trainer_for(tmp_path / "e", rollout_rows(2), tree_packing=True, packing=True, max_length=99)


def params(**changes: Any) -> TrainParams:
    """A run's schedule."""
    given = {"epochs": 1.0, "learning_rate": 1e-3, "warmup_steps": 0, "lr_scheduler": "constant", "batch_size": 8}
    given |= {"gradient_accumulation": 2, "weight_decay": 0.0, "max_grad_norm": 1.0, "kl_coef": 0.0, "packing": "auto"}
    return TrainParams(**{**given, "weight_normalization": "tokens", "dtype": "float32", "threads": 1, **changes})


def dataset(rows: list[dict[str, Any]], folder: Path) -> Any:
    """Write and read."""
    return load_training_dataset(write_training(folder, rows))


def test_a_step_of_trees_holds_as_many_examples_as_one_of_rows(tmp_path: Path) -> None:
    rows = rollout_rows(40, rollouts=3, steps=6)
    data = dataset(rows, tmp_path / "data")
    chosen = choose_batches(student(), data, params())
    assert chosen.tree_tokens is not None
    trainer = trainer_for(tmp_path, [], data=data, tree_packing=True, max_length=chosen.tree_tokens)
    a_bin = len(rows) / len(trainer.train_dataset)
    assert 16 * 0.6 <= a_bin * chosen.per_device * chosen.accumulation <= 16 * 1.6
    widest = 8 * sum(len(row["input_ids"]) for row in rows) / len(rows)
    assert chosen.tree_tokens <= widest + 1


def test_steps_that_no_bin_is_small_enough_for_keep_their_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = dataset(rollout_rows(20, rollouts=1, steps=24), tmp_path / "data")
    small = {"batch_size": 2, "gradient_accumulation": 1}
    assert choose_batches(student(), data, params(**small)).tree_tokens is None
    assert "a bin of trees would have" in capsys.readouterr().err
    assert choose_batches(student(), data, params(**small, packing="trees")).tree_tokens is not None
    said = capsys.readouterr().err
    chosen = choose_batches(student(), data, params(batch_size=8, gradient_accumulation=8))
    assert chosen.tree_tokens is not None
    assert "examples a step" in said


def test_trees_are_left_out_where_they_cannot_be_or_do_not_pay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared, apart_rows = rollout_rows(5), [{**row, "problem_id": row["example_id"]} for row in demo_rows(9)]
    sliding = of_kind("mistral", **HEADS, sliding_window=8)
    for name, model, rows in (("a", sliding, shared), ("b", student(), apart_rows)):
        chosen = choose_batches(model, dataset(rows, tmp_path / name), params())
        assert (chosen.per_device, chosen.accumulation, chosen.tree_tokens) == (8, 2, None)
    said = capsys.readouterr().err
    assert "rows are trained on one by one: its attention slides" in said
    assert "as trees they would still be 100% of their tokens" in said
    with pytest.raises(ConfigError, match=r"train\.packing is trees, but the student cannot"):
        choose_batches(sliding, dataset(shared, tmp_path / "c"), params(packing="trees"))
    assert choose_batches(student(), dataset(shared, tmp_path / "d"), params(packing="none")).tree_tokens is None


def test_arrow_tables_and_dictionaries_make_the_same_trees() -> None:
    rows = rollout_rows(2)
    collate = DataCollatorForWeightedLanguageModeling(0, trees=True)
    ours, theirs = collate(rows), collate([table_from_rows(rows, TRAINING.schema, "x")])
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_model_that_no_trainer_prepared_is_prepared_or_refused_at_its_first_tree() -> None:
    batch = DataCollatorForWeightedLanguageModeling(0, trees=True, with_teacher=False)(rollout_rows(1))
    sliding = of_kind("mistral", **HEADS, sliding_window=8)
    add_weighted_head(sliding)
    with pytest.raises(ConfigError, match="MistralForCausalLM cannot be trained on prefix trees: its attention slides"):
        sliding(**batch, weighted_loss=True)
    model = student()
    add_weighted_head(model)
    model(**batch, weighted_loss=True)
    assert model.config._attn_implementation == attention.TREE_ATTENTION
