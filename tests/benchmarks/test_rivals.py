"""What every method learns from a pool, and what it says that cost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from benchmarks.experiments.loaded import Pool
from benchmarks.experiments.records import PlannedRun
from benchmarks.experiments.run import make_run
from benchmarks.rivals import COMPARED, DEFAULT, METHODS, NOISY, RIVALS
from benchmarks.rivals.base import Lesson, first_of_each
from benchmarks.rivals.sod import by_divergence
from tests.benchmarks.tiny_pool import PROBLEMS_OF_A_POOL, SIZE, tiny_pool
from vcrd.records import IGNORED
from vcrd.verifiers.base import VALID

FOURTEEN = {
    "sft",
    "answer_filtered_1",
    "answer_filtered_4",
    "step_filtered_1",
    "step_filtered_4",
    "uniform",
    "uniform_kl",
    "on_policy_kd",
    "sod",
    "own_steps_only",
    "shuffled",
    "vcrd_oracle",
    "vcrd_estimated",
    "vcrd_estimated_kl",
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return tiny_pool(tmp_path_factory.mktemp("pool"))


def lesson(name: str, pool: Pool) -> Lesson:
    make = METHODS[name].lesson
    assert make is not None
    return make(pool)


def column(made: Lesson, name: str) -> list[Any]:
    return made.rows[name].to_pylist()


def taught(made: Lesson) -> list[list[int]]:
    return [[token for token in row if token != IGNORED] for row in column(made, "labels")]


def test_fourteen_are_compared_and_eleven_are_rivals() -> None:
    assert set(COMPARED) == FOURTEEN
    assert set(RIVALS) == {name for name in FOURTEEN if not name.startswith("vcrd")}
    assert all(METHODS[name].name == name for name in METHODS)


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.lesson is not None])
def test_a_row_learns_the_end_of_its_ids_and_weights_lie_on_what_is_learned(name: str, pool: Pool) -> None:
    made = lesson(name, pool)
    assert made.rows.num_rows == len(made.group_N) > 0
    columns = (column(made, each) for each in ("input_ids", "labels", "token_weights"))
    for ids, labels, weights in zip(*columns, strict=True):
        assert len(ids) == len(labels) == len(weights)
        assert labels[0] == IGNORED
        assert all(label in (IGNORED, token) for token, label in zip(ids, labels, strict=True))
        assert all(weight == 0 for weight, label in zip(weights, labels, strict=True) if label == IGNORED)
        assert all(math.isfinite(weight) and weight >= 0 for weight in weights)


@pytest.mark.parametrize("name", ["uniform", "own_steps_only", "shuffled", "vcrd_estimated", "vcrd_oracle", *NOISY])
def test_step_methods_keep_the_amount_of_signal(name: str, pool: Pool) -> None:
    made = lesson(name, pool)
    total = sum(sum(row) for row in column(made, "token_weights"))
    assert total == pytest.approx(sum(map(len, taught(made))), rel=1e-5)


def test_solutions_are_one_or_four_a_problem_and_right_where_that_is_asked(pool: Pool) -> None:
    right = [item for item in pool.solutions if item.outcome == VALID]
    assert 0 < len(right) < len(pool.solutions) == 4 * PROBLEMS_OF_A_POOL
    assert taught(lesson("sft", pool)) == [item.token_ids for item in first_of_each(pool.solutions, 1)]
    assert taught(lesson("answer_filtered_4", pool)) == [item.token_ids for item in right]
    assert taught(lesson("answer_filtered_1", pool)) == [
        item.token_ids for item in first_of_each(pool.solutions, 1) if item.outcome == VALID
    ]


def test_a_step_filter_keeps_a_solution_up_to_its_first_unsound_step(pool: Pool) -> None:
    cut = 0
    for item, tokens in zip(pool.solutions, taught(lesson("step_filtered_4", pool)), strict=True):
        steps = item.step_texts
        sound = [pool.is_valid(item, steps[:index], step) for index, step in enumerate(steps)]
        kept = sound.index(False) if False in sound else len(steps)
        assert tokens == item.token_ids[: item.step_ends[kept - 1] if kept else 0]
        cut += kept < len(steps)
    assert cut > 0
    assert len(column(lesson("step_filtered_1", pool), "labels")) == PROBLEMS_OF_A_POOL


def test_controls_have_the_rows_and_targets_of_the_default(pool: Pool) -> None:
    default, shuffled, same = (lesson(name, pool) for name in (DEFAULT, "shuffled", "uniform_same_targets"))
    assert column(default, "labels") == column(shuffled, "labels") == column(same, "labels")
    strengths = [column(made, "step_strength") for made in (default, shuffled, same)]
    assert sorted(strengths[0]) == sorted(strengths[1]) != strengths[0]
    assert strengths[0] != strengths[1]
    assert set(strengths[2]) == {1.0}


def test_targets_are_the_teachers_or_the_students_where_a_method_has_only_these(pool: Pool) -> None:
    assert set(column(lesson("uniform", pool), "target")) == {"teacher"}
    assert set(column(lesson("own_steps_only", pool), "target")) == {"student"}
    assert set(column(lesson(DEFAULT, pool), "target")) == {"student", "teacher"}


def test_the_oracle_decides_where_it_is_asked_and_noise_reverses_its_share(pool: Pool) -> None:
    exact = lesson("vcrd_oracle", pool)
    validities = set(column(exact, "teacher_validity")) | set(column(exact, "student_validity"))
    assert validities <= {0.0, 1.0}
    noisy = lesson("noise_40", pool)
    reversed_ = np.not_equal(column(exact, "teacher_validity"), column(noisy, "teacher_validity"))
    assert 0 < reversed_.mean() < 1


def test_sod_trusts_the_steps_where_both_models_agree() -> None:
    near, far = by_divergence([np.array([0.1, 0.1, 3.0, 5.0]), np.zeros(2)], [[2], [2]])
    assert near[0] == near[1] > near[2] == near[3] > 0
    assert np.all(far >= near[0])


@pytest.mark.parametrize("name", ["sft", "uniform_kl", DEFAULT, "on_policy_kd", "sod"])
def test_every_run_costs_the_same(name: str, pool: Pool) -> None:
    planned = PlannedRun(
        run_id=name,
        domain="demo-math",
        method=name,
        pretrain_seed=1,
        distill_seed=1,
        method_version=1,
        learning_rate=1e-3,
    )
    run = make_run(planned, pool)
    assert run.optimiser_steps == SIZE.optimiser_steps
    assert run.supervised_tokens == SIZE.optimiser_steps * SIZE.step_tokens
    assert run.n == 2
    needed = sum(pool.generated[part] for part in METHODS[name].needs)
    if METHODS[name].school is None:
        assert run.generated_tokens == needed
    else:
        assert run.generated_tokens >= run.supervised_tokens


def test_generated_tokens_are_counted_by_what_for(pool: Pool) -> None:
    counted = pool.generated
    assert counted["rollouts"] == sum(len(item.token_ids) for item in pool.rollouts)
    assert counted["solution"] < counted["solutions"] == sum(len(item.token_ids) for item in pool.solutions)
    assert (counted["labels"], counted["completions"]) == (1000, 0)
