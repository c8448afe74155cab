"""The stages around process reward models: labels by people, models that are given, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from tests.pipeline.prm_models import save_tiny
from tests.workspace import Workspace

ROWS = [
    {"prompt": "a=1+2 b=3*4 ?", "completions": ["a 1+2=3 3+0=3", "b 3*4=2 2+3=5"], "labels": [True, number % 2 == 0]}
    for number in range(5)
]
BAD = {"prompt": "a=1+2 b=3*4 ?", "completions": ["a 1+2=3 3+0=3"], "labels": [1]}


def spec(run: Workspace) -> dict[str, object]:
    return json.loads((run.root / "data/demo-math/prm/prm.json").read_text())


def test_steps_that_people_labelled_join_the_runs_own(finished: Workspace, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "project")
    (run.root / "data/inputs/steps.jsonl").write_text("\n".join(json.dumps(row) for row in [*ROWS, BAD]))
    run.small_demo(**{"prm.train.stepwise": "data/inputs/steps.jsonl"})
    done = run.stage("train_prm")
    assert done.returncode == 0, done.stderr
    assert "and 10 by people" in spec(run)["reason"]
    rejects = pl.read_parquet(run.root / "data/demo-math/rejects/train_prm/*.parquet")
    assert rejects.select("record_id", "reason").rows() == [("line 6", "bad_labels")]
    rows = json.loads((run.root / "data/demo-math/metrics/train_prm.json").read_text())["rows"]
    assert rows == {"expected": 6, "written": 5, "rejected": {"bad_labels": 1}}
    run.small_demo(**{"prm.train.stepwise": "data/inputs/nothing.jsonl"})
    done = run.stage("train_prm")
    assert (done.returncode, "no such file" in done.stderr) == (2, True)


@pytest.mark.parametrize("family", ["math_shepherd", "skywork", "generative"])
def test_a_model_that_is_given_scores_every_proposal(finished: Workspace, tmp_path: Path, family: str) -> None:
    run = finished.copy(tmp_path / "project")
    save_tiny(family, run.root / "judge")
    run.small_demo(**{"prm.source": "local", "prm.family": family, "prm.name": "./judge"})
    for stage in ("train_prm", "score_steps"):
        done = run.stage(stage)
        assert done.returncode == 0, done.stderr
    assert spec(run)["family"] == family
    evidence = run.table("evidence")
    assert evidence["score_prm"].is_between(1e-4, 1 - 1e-4).all()
    assert evidence["score_prm"].null_count() == 0
    assert evidence["score_prm"].n_unique() > evidence.height // 4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"prm.family": "rlhflow"}, "a run trains token_classification models only"),
        ({"prm.source": "local", "prm.name": "./judge"}, "read the same ids as different text"),
    ],
)
def test_a_model_that_cannot_be_read_is_refused(
    finished: Workspace, tmp_path: Path, values: dict[str, str], words: str
) -> None:
    run = finished.copy(tmp_path / "project")
    save_tiny("token_classification", run.root / "judge")
    run.small_demo(**values)
    done = run.stage("train_prm")
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
