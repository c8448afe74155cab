"""Every step has as many supervised tokens, and every token of a lesson is learned once an epoch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.experiments.training import EqualSteps, Schooling
from benchmarks.rivals.base import Lesson
from vcrd.errors import ConfigError
from vcrd.records import IGNORED
from vcrd.training.params import TrainParams

PARAMS = TrainParams(
    epochs=1.0,
    learning_rate=1e-3,
    warmup_steps=0,
    lr_scheduler="linear",
    batch_size=1,
    gradient_accumulation=1,
    weight_decay=0.0,
    max_grad_norm=1.0,
    kl_coef=0.0,
    weight_normalization="tokens",
    packing="auto",
    dtype="float32",
    threads=1,
)
SCHOOLING = Schooling(steps=4, step_tokens=5, params=PARAMS, seed=3)


def lesson(counts: list[int], groups: list[int] | None = None) -> Lesson:
    """Rows of a two-token prompt and so many supervised tokens, each of which names itself."""
    rows, token = [], 0
    for count in counts:
        ids = list(range(token, token + count))
        token += count
        rows.append(
            {
                "input_ids": [900, 901, *ids],
                "labels": [IGNORED, IGNORED, *ids],
                "token_weights": [0.0, 0.0, *([0.5] * count)],
            }
        )
    kinds = {"input_ids": pa.int32(), "labels": pa.int32(), "token_weights": pa.float32()}
    schema = pa.schema([(name, pa.list_(kind)) for name, kind in kinds.items()])
    return Lesson(pa.Table.from_pylist(rows, schema), np.array(groups or range(len(counts))))


def labels(table: pa.Table) -> list[int]:
    return [token for row in table["labels"].to_pylist() for token in row if token != IGNORED]


@given(counts=st.lists(st.integers(0, 7), min_size=1, max_size=9).filter(any), size=st.integers(1, 6))
def test_steps_are_equal_and_an_epoch_is_learned_once(counts: list[int], size: int) -> None:
    schooling = replace(SCHOOLING, steps=-(-sum(counts) // size), step_tokens=size)
    steps = EqualSteps(lesson(counts), schooling)
    learned = [labels(steps[index]) for index in range(len(steps))]
    assert len(learned) == schooling.steps
    assert {len(step) for step in learned} == {size}
    assert steps.served == schooling.steps * size
    first_epoch = [token for step in learned for token in step][: sum(counts)]
    assert sorted(first_epoch) == list(range(sum(counts)))


def test_weights_and_labels_go_together() -> None:
    steps = EqualSteps(lesson([7, 3, 9]), SCHOOLING)
    for index in range(len(steps)):
        for row in steps[index].to_pylist():
            assert [label != IGNORED for label in row["labels"]] == [weight > 0 for weight in row["token_weights"]]


def test_rows_of_a_group_follow_each_other() -> None:
    groups = [0, 1, 2, 0, 1, 2]
    steps = EqualSteps(lesson([1] * 6, groups), replace(SCHOOLING, steps=3, step_tokens=2))
    for index in range(3):
        assert len({groups[token] for token in labels(steps[index])}) == 1


def test_another_seed_is_another_order() -> None:
    one, two = (EqualSteps(lesson([1] * 20), replace(SCHOOLING, seed=seed)) for seed in (1, 2))
    assert [labels(one[index]) for index in range(4)] != [labels(two[index]) for index in range(4)]


def test_a_lesson_without_a_token_is_refused() -> None:
    with pytest.raises(ConfigError, match="filter left nothing"):
        EqualSteps(lesson([0, 0]), SCHOOLING)
