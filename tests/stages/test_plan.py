"""A probe of the demo's first stages, and counting on paper, against what a run made."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest

from pipeline.cli import load_settings, stages_of
from pipeline.params import Settings
from pipeline.plan import Plan, StagePlan, plan_from_probe
from pipeline.probe import PLACE, run_probe
from tests.workspace import Workspace
from vcrd.records import PROBLEMS
from vcrd.workload import Shape, workload

FIRST = ("prepare_problems", "pretrain_models", "prepare_models", "generate_rollouts", "propose_steps")
SIZE = 5
BAND = 0.1


@pytest.fixture(scope="module")
def settings(finished: Workspace) -> Settings:
    return load_settings(finished.root / "params.yaml", "stages")


@pytest.fixture(scope="module")
def plan(finished: Workspace, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished.copy(tmp_path_factory.mktemp("probed") / "project").root)
        patch.setenv("HF_HUB_OFFLINE", "1")
        probe = run_probe(stages_of("stages"), "stages", settings, PROBLEMS.name, SIZE, FIRST)
        assert not PLACE.exists()
        assert set(probe.sampled.values()) == {SIZE}
        yield plan_from_probe(probe, settings, None, 128)


def lengths(run: Workspace, artefact: str, column: str) -> pl.Series:
    return run.table(artefact)[column].list.len().cast(pl.Int64)


def test_what_a_few_problems_say_of_a_run_is_what_it_made(plan: Plan, finished: Workspace) -> None:
    found: dict[str, StagePlan] = {stage.stage: stage for stage in plan.stages}
    rollouts, proposals = found["generate_rollouts"], found["propose_steps"]
    assert plan.problems == {"train": 12, "prm": 10, "fit": 8, "judge": 6, "test": 12}
    assert rollouts.requests == rollouts.rows == finished.table("rollouts").height
    assert rollouts.read == pytest.approx(lengths(finished, "rollouts", "prompt_ids").sum(), rel=BAND)
    assert rollouts.written == pytest.approx(lengths(finished, "rollouts", "token_ids").sum(), rel=BAND)
    steps = finished.table("proposals").filter(pl.col("proposer") == "teacher")
    assert proposals.requests == pytest.approx(steps.height, rel=BAND)
    assert proposals.written == pytest.approx(steps["token_ids"].list.len().sum(), rel=BAND)
    for stage in (rollouts, proposals):
        folder = finished.root / "data/demo-math" / stage.output
        made = sum(path.stat().st_size for path in folder.glob("*.parquet"))
        assert stage.data_bytes is not None
        assert 0.8 * made <= stage.data_bytes <= 1.6 * made, "few rows compress less than many"
        assert stage.start > 0
        assert stage.worked is not None
        assert stage.worked > 0


def test_what_is_counted_on_paper_is_what_a_run_asked_for_and_bounds_its_completions(
    finished: Workspace, settings: Settings
) -> None:
    rollouts = finished.table("rollouts")
    steps = rollouts["step_ends"].list.len().mean()
    shape = Shape(
        prompt=float(rollouts["prompt_ids"].list.len().mean()),  # type: ignore[arg-type]
        solution=float(rollouts["token_ids"].list.len().mean()),  # type: ignore[arg-type]
        steps=float(steps),  # type: ignore[arg-type]
    )
    sizes = {"train": 12, "prm": 10, "fit": 8, "judge": 6, "test": 12}
    found = {work.stage: work for work in workload(settings.get, sizes, shape)}
    for stage, artefact in (
        ("generate_rollouts", "rollouts"),
        ("propose_steps", "proposals"),
        ("label_steps", "labels"),
        ("review_student_steps", "student_reviews"),
        ("review_teacher_steps", "teacher_reviews"),
        ("score_steps", "evidence"),
        ("train_student", "training"),
        ("evaluate_student", "evaluation"),
    ):
        assert found[stage].rows == pytest.approx(finished.table(artefact).height, rel=0.1), stage
    assert found["generate_rollouts"].written == pytest.approx(rollouts["token_ids"].list.len().sum())
    completed = finished.table("completions").filter(pl.col("token_ids").list.len() > 0)
    assert found["complete_steps"].requests >= completed.height
    asked = finished.table("labels").select(pl.col("after").list.len() + pl.col("outcomes").list.len()).to_series()
    assert found["label_steps"].requests >= asked.sum()
