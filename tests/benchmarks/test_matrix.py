"""The plan of the matrix, and that a run which is finished is never made twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.experiments import matrix, plan, report
from benchmarks.experiments.digest import domain_digest
from benchmarks.experiments.plan import plan_stage, planned_runs
from benchmarks.experiments.problems import pool_problems
from benchmarks.experiments.records import PLAN, RUNS, PlannedRun, Run
from benchmarks.experiments.sizes import DEV_SEED, SIZES, Size
from benchmarks.rivals import COMPARED, METHODS
from pipeline.cli import load_settings
from pipeline.layout import Layout
from pipeline.runner import Split, run_sharded, run_whole
from pipeline.shards import commit
from pipeline.stage import Context, Shard, ShardResult
from tests.workspace import ROOT
from vcrd.domains import DOMAINS
from vcrd.io.files import write_json
from vcrd.io.parquet import read_rows, shard_files, write_table

SIZE = replace(SIZES["small"], noisy_seeds=(), distill_seeds=(1, 2))
SETTINGS = load_settings(ROOT / "presets/demo-math.yaml", "stages")


def done(planned: PlannedRun) -> Run:
    values = {name: getattr(planned, name) for name in PlannedRun.__slots__ if name in Run.__slots__}
    counts = {"n": 2, "optimiser_steps": 3, "supervised_tokens": 4, "generated_tokens": 5}
    measured = {"accuracy": 0.5, "step_validity": 0.5, "seconds": 1.0, "pool_seconds": 1.0}
    return Run(**values, **counts, **measured)


class Matrix:
    """A matrix of which every run is made by hand, and the runs that were made."""

    def __init__(self, root: Path) -> None:
        layout = Layout("demo-math", root / "data", root / "hidden")
        self.context = Context(SETTINGS, layout, layout)
        self.made: list[str] = []

    def run(self, size: Size = SIZE, stop_after: int | None = None) -> None:
        def work(loaded: Any, shard: Shard) -> ShardResult:
            if len(self.made) == stop_after:
                raise KeyboardInterrupt
            [planned] = shard.read(PLAN)
            self.made.append(planned.run_id)
            return ShardResult([done(planned)], [], expected=1)

        run_whole(plan_stage(size), self.context)
        stage = matrix.matrix_stage(size, Path("nowhere"))
        sections = {name: kind for name, kind in stage.sections.items() if name != "engine"}  # stays in this process
        stage = replace(stage, sections=sections, work=work, load=lambda context: None)
        run_sharded(stage, self.context, 1, Split())


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[str, float]], None]:
    monkeypatch.setattr(plan, "_TUNED", tmp_path)
    return lambda rates: write_json(tmp_path / "demo-math.json", {"learning_rates": rates})


def test_the_whole_matrix_is_methods_by_seeds() -> None:
    full = SIZES["full"]
    assert (len(full.pretrain_seeds), len(full.distill_seeds), full.domains) == (2, 5, tuple(DOMAINS))
    runs = planned_runs(full, SETTINGS)
    assert len({run.run_id for run in runs}) == len(runs)
    for name in COMPARED:
        assert len({(run.pretrain_seed, run.distill_seed) for run in runs if run.method == name}) == 10
    assert DEV_SEED not in full.distill_seeds


def test_two_workers_begin_with_a_pool_each_and_end_it_before_the_next() -> None:
    runs = planned_runs(replace(SIZE, pretrain_seeds=(1, 2)), SETTINGS)
    pools = [(run.distill_seed, run.pretrain_seed) for run in runs]
    half = len(runs) // 2
    assert pools[:half] == [(1, 1), (1, 2)] * (half // 2)
    assert pools[half:] == [(2, 1), (2, 2)] * (half // 2)


def test_what_is_finished_is_not_made_again(tmp_path: Path) -> None:
    made = Matrix(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        made.run(stop_after=7)
    assert len(made.made) == 7
    made.run()
    assert len(made.made) == len(set(made.made)) == len(planned_runs(SIZE, SETTINGS))
    rows = read_rows(shard_files(tmp_path / "data/demo-math/runs"), matrix.RUNS.schema)
    assert [row["run_id"] for row in rows] == made.made


def test_more_seeds_and_methods_keep_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Matrix(tmp_path)
    with monkeypatch.context() as patch:
        patch.delitem(METHODS, "step_filtered_4")
        made.run(replace(SIZE, distill_seeds=(1,)))
    before = list(made.made)
    made.run()
    assert made.made[: len(before)] == before
    assert not set(made.made[len(before) :]) & set(before)


def test_another_learning_rate_makes_the_runs_of_its_method_again(
    tmp_path: Path, tuned: Callable[[dict[str, float]], None]
) -> None:
    made = Matrix(tmp_path)
    made.run()
    first = len(made.made)
    tuned({"sft": 2e-3})
    made.run()
    assert {name.split("/")[2] for name in made.made[first:]} == {"sft"}


@pytest.mark.parametrize("change", [{"optimiser_steps": 61}, {"step_tokens": 9}, {"splits": {"train": 1, "test": 1}}])
def test_another_size_makes_everything_again(tmp_path: Path, change: dict[str, Any]) -> None:
    made = Matrix(tmp_path)
    small = replace(SIZE, distill_seeds=(1,))
    made.run(small)
    first = len(made.made)
    made.run(replace(small, **change))
    assert len(made.made) == 2 * first


def test_another_clone_goes_on_from_committed_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size, here, there = replace(SIZE, name="full"), tmp_path / "here", tmp_path / "there"
    monkeypatch.setattr(matrix, "_DATA", tmp_path / "data")
    planned = {plan.shard_name(run): run for run in planned_runs(size, SETTINGS)}
    tasks = matrix._tasks("demo-math", size, here)
    for task in tasks[:5]:
        commit(task, ShardResult([done(planned[task.file])], [], expected=1), RUNS.schema, RUNS.key)
    runs, count = matrix.finished_runs("demo-math", size, here)
    assert (len(runs), count) == (5, len(planned))
    write_table(tmp_path / report.PARQUET, report.gathered(runs))
    committed = report.read_results(tmp_path)
    assert committed == runs
    assert matrix.take_over("demo-math", size, there, committed) == 5
    assert matrix.finished_runs("demo-math", size, there) == (runs, count)
    assert matrix.take_over("demo-math", size, there, committed) == 0
    assert matrix.take_over("demo-math", replace(size, step_tokens=9), there, committed) == 0


@pytest.mark.parametrize("name", DOMAINS)
def test_held_out_problems_are_in_no_pool_and_the_same_in_all(name: str) -> None:
    size = replace(SIZE, splits={"train": 30, "prm": 5, "test": 20})

    def prompts(seed: int, split: str | None = None) -> set[str]:
        return {row["prompt"] for row in pool_problems(DOMAINS[name], size, seed) if split in (None, row["split"])}

    test, dev = prompts(1, "test"), prompts(DEV_SEED, "test")
    assert test == prompts(2, "test")
    assert len(test) == len(dev) == 20
    assert not test & dev
    for seed in (DEV_SEED, 1, 2):
        learned = prompts(seed, "train") | prompts(seed, "prm")
        assert len(learned) == 35
        assert not learned & (test | dev)
    assert prompts(1, "train") != prompts(2, "train")


def test_every_domain_is_in_the_graph() -> None:
    graph = yaml.safe_load((ROOT / "benchmarks/dvc.yaml").read_text())["stages"]["experiments"]
    assert set(DOMAINS) <= set(graph["matrix"]["domain"])
    assert graph["matrix"]["size"] == ["full", "small"]


def test_other_models_or_texts_are_another_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    before = domain_digest("demo-math")
    domain = DOMAINS["demo-math"]
    for changed in (replace(domain, seeds={"student": 8, "teacher": 9}), replace(domain, texts=domain.texts + 1)):
        domain_digest.cache_clear()
        monkeypatch.setitem(DOMAINS, "demo-math", changed)
        assert domain_digest("demo-math") != before
    monkeypatch.undo()
    domain_digest.cache_clear()
    assert domain_digest("demo-math") == before
