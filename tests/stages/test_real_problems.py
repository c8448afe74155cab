"""Real text through every stage: GSM8K problems, tiny models trained on its solutions; nothing is lost."""

import json
from pathlib import Path

import polars as pl
import pytest

from tests.vcrd.factories import problem
from tests.workspace import Workspace
from vcrd.verifiers.base import INVALID, VALID
from vcrd.verifiers.code import CodeVerifier
from vcrd.verifiers.instructions import InstructionsVerifier

SMALL = {
    "problems.limit": "30",
    "problems.splits": "{train: 12, prm: 5, fit: 4, judge: 3, test: 6}",
    "models.pretrain.student.steps": "20",
    "models.pretrain.teacher.steps": "30",
    "run.num_shards": "2",
    "rollouts.per_problem": "1",
    "weights.max_length": "190",
}


@pytest.mark.slow
def test_every_row_of_every_stage_is_written_or_a_reject(real_data: Path, tmp_path: Path) -> None:
    run = Workspace(tmp_path / "project")
    test, train = real_data / "gsm8k/test.jsonl", real_data / "gsm8k/train.jsonl.gz"
    run.use("gsm8k-smoke", **{"problems.path": str(test), "models.path": str(train), **SMALL})
    run.repro()
    folder = run.root / "data/gsm8k-smoke"
    summary = json.loads((folder / "report/summary.json").read_text())
    assert len(summary["stages"]) == 12
    for stage in summary["stages"]:
        assert stage["expected"] == stage["written"] + sum(stage["rejected"].values()), stage
        rows = [pl.read_parquet(path) for path in (folder / "rejects" / stage["stage"]).glob("*.parquet")]
        assert sum(row.height for row in rows) == sum(stage["rejected"].values())
    reasons = {reason for stage in summary["stages"] for reason in stage["rejected"]}
    assert "too_long" in reasons
    assert "near zero" in summary["verdict"]
    problems = pl.read_parquet(folder / "problems/*.parquet")
    assert set(problems["licence"]) == {"MIT"}
    asked = {json.loads(line)["question"] for line in test.read_text().splitlines()}
    assert set(problems["prompt"]) <= asked


def test_the_mbpp_preset_takes_every_problem_and_its_reference_programs_pass(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "mbpp/mbpp.jsonl"
    run = Workspace(tmp_path / "project")
    run.use("mbpp-qwen", **{"problems.path": str(source), "run.num_shards": "2"})
    for stage in ("prepare_problems", "prepare_models", "generate_rollouts", "complete_steps", "train_student"):
        done = run.stage(stage, "--dry-run")
        assert done.returncode == 0, done.stderr
    assert run.stage("prepare_problems").returncode == 0
    rows = [json.loads(line) for line in source.read_text().splitlines()]
    found = pl.read_parquet(run.root / "data/mbpp-qwen/problems/*.parquet")
    assert found.height == len(rows) == 974
    programs = {row["text"]: row["code"] for row in rows[::80]}
    kind = {name: found[name].to_list() for name in ("prompt", "reference")}
    asked = [
        (problem(prompt, reference, domain="code"), programs[text])
        for prompt, reference in zip(*kind.values(), strict=True)
        if (text := prompt.partition("\nYour code")[0]) in programs
    ]
    verdicts = CodeVerifier().verify_answers([one for one, _ in asked], [program for _, program in asked])
    assert len(verdicts) >= len(programs)
    assert {verdict.rule for verdict in verdicts} == {VALID}


def test_the_ifeval_preset_takes_every_problem_with_its_instructions(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "ifeval/input_data.jsonl"
    run = Workspace(tmp_path / "project")
    run.use("ifeval-qwen", **{"problems.path": str(source), "run.num_shards": "2"})
    for stage in ("prepare_problems", "generate_rollouts", "train_student"):
        done = run.stage(stage, "--dry-run")
        assert done.returncode == 0, done.stderr
    assert run.stage("prepare_problems").returncode == 0
    rows = {row["prompt"]: row for row in map(json.loads, source.read_text().splitlines())}
    found = pl.read_parquet(run.root / "data/ifeval-qwen/problems/*.parquet")
    assert found.height == len(rows)
    verifier = InstructionsVerifier()
    for prompt, reference in zip(found["prompt"], found["reference"], strict=True):
        assert json.loads(reference)["instruction_id_list"] == rows[prompt]["instruction_id_list"]
        verdict = verifier.verify_answer(problem(prompt, reference, domain="instructions"), "")
        assert verdict.rule == INVALID, verdict.reason
