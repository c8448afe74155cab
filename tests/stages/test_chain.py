"""A small demo run from problems to report, and what happens to it when something changes."""

import json
import re
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow.dataset as ds
import pytest
import yaml
from transformers import AutoModelForCausalLM

from tests.invariant.training import assert_trees_equal_rows
from tests.workspace import Workspace, stages_run
from vcrd.io.parquet import read_table
from vcrd.records import ARTEFACTS, COMPACT_TRAINING_SCHEMA, ROLLOUTS, TRAINING
from vcrd.report import PLOTS
from vcrd.storage import decode_teacher_signal
from vcrd.training.head import add_weighted_head
from vcrd.trees.support import prepare_for_trees


def training(run: Workspace) -> Path:
    return run.root / "data/demo-math/training"


def test_every_artefact_holds_its_schema_its_key_once_and_as_many_rows_as_expected(finished: Workspace) -> None:
    for artefact in ARTEFACTS:
        folder = finished.root / "data/demo-math" / artefact.name
        manifest = json.loads((folder / "_manifest.json").read_text())
        table = ds.dataset(folder, format="parquet", exclude_invalid_files=True).to_table()
        assert table.schema.equals(artefact.schema), artefact.name
        assert table.num_rows == manifest["rows"]
        assert manifest["expected"] == manifest["rows"] + sum(manifest["rejects"].values())
        assert len(set(table.column(artefact.key).to_pylist())) == table.num_rows


def test_training_loads_with_the_readers_people_use(finished: Workspace) -> None:
    from datasets import load_dataset

    folder = training(finished)
    hub = load_dataset(str(folder), split="train")
    polars = pl.read_parquet(str(folder / "*.parquet"))
    arrow = ds.dataset(folder, format="parquet", exclude_invalid_files=True).to_table()
    table = duckdb.read_parquet(str(folder / "*.parquet"))
    duck = table.aggregate("count(*), count(distinct example_id)").fetchall()[0]
    assert hub.column_names == polars.columns == arrow.column_names == TRAINING.schema.names
    assert duck == (len(hub), len(hub)) == (polars.height, arrow.num_rows)
    assert hub[0]["input_ids"] == polars["input_ids"][0].to_list()


def test_weights_have_mean_1_over_supervised_tokens_and_are_0_elsewhere(finished: Workspace) -> None:
    table = ds.dataset(training(finished), format="parquet", exclude_invalid_files=True).to_table()
    labels = np.concatenate([np.array(row) for row in table.column("labels").to_pylist()])
    weights = np.concatenate([np.array(row) for row in table.column("token_weights").to_pylist()])
    assert abs(weights[labels != -100].mean() - 1) < 1e-6
    assert not weights[labels == -100].any()
    assert len(set(weights[labels != -100])) > 5


def test_every_prefix_is_the_rollouts_own_ids_and_the_target_a_proposals(finished: Workspace) -> None:
    rollouts = {item.rollout_id: item for item in ROLLOUTS.parse(finished.table("rollouts").to_dicts())}
    proposals = {row["proposal_id"]: row for row in finished.table("proposals").to_dicts()}
    targets = set()
    for row in finished.table("training").to_dicts():
        prefix = rollouts[row["rollout_id"]].prefix_ids(row["step_index"])
        step = proposals[f"{row['example_id']}/{row['target']}"]
        assert row["input_ids"] == prefix + step["token_ids"]
        assert row["labels"] == [-100] * len(prefix) + step["token_ids"]
        assert row["teacher_topk_ids"][len(prefix) :] == step["topk_ids"]
        targets.add(row["target"])
    assert targets == {"student", "teacher"}


def test_the_runs_rows_as_trees_have_the_loss_and_gradients_of_rows(finished: Workspace) -> None:
    rows = finished.table("training").sort("problem_id").to_dicts()
    model = AutoModelForCausalLM.from_pretrained(finished.root / "data/models/demo-math/student")
    add_weighted_head(model)
    assert prepare_for_trees(model) is None
    assert_trees_equal_rows(model, rows, parts=2)


def test_the_teachers_signal_is_a_distribution(finished: Workspace) -> None:
    steps = [row for row in finished.table("proposals").to_dicts() if row["proposer"] == "teacher"]
    for row in steps[:50]:
        for logprobs, tail in zip(row["topk_logprobs"], row["tail_logprob"], strict=True):
            assert np.exp(logprobs).sum() + np.exp(tail) == pytest.approx(1, abs=1e-4)
            assert logprobs == sorted(logprobs, reverse=True)


def test_nothing_before_evaluation_holds_what_only_the_oracle_knows(finished: Workspace) -> None:
    names = {column for kind in ARTEFACTS[:-1] for column in kind.schema.names}
    assert not [name for name in names if "oracle" in name]
    assert finished.table("evaluation")["oracle_steps"].list.len().sum() > 0


def test_the_report_says_what_the_artefacts_say(finished: Workspace) -> None:
    folder = finished.root / "data/demo-math/report"
    summary = json.loads((folder / "summary.json").read_text())
    after = finished.table("evaluation").filter(pl.col("model") == "after")
    assert summary["models"]["after"]["accuracy"] == pytest.approx((after["outcome"] == 1).mean(), abs=1e-6)
    page = (folder / "report.html").read_text()
    assert summary["verdict"] in page
    assert "://" not in page, "the page needs nothing from elsewhere"
    said = finished.check("python", "-m", "stages", "show")
    assert "student after" in said
    assert "data/demo-math/report/report.html" in said


def test_dvc_plots_draws_everything_that_the_report_does(finished: Workspace, tmp_path: Path) -> None:
    said = finished.check("dvc", "plots", "show", "-o", str(tmp_path))
    assert "index.html" in said
    page = (tmp_path / "index.html").read_text()
    specs = [json.loads(spec) for spec in re.findall(r"var spec = (\{.*?\});\n", page, re.DOTALL)]
    drawn = {spec["title"]["text"] if isinstance(spec["title"], dict) else spec["title"]: spec for spec in specs}
    assert set(drawn) == {plot["title"] for plot in PLOTS.values()}
    folder = finished.root / "data/demo-math/report"
    for plot in PLOTS.values():
        [(file, columns)] = plot["y"].items()
        rows = pl.read_csv(folder / file).to_dicts()
        assert rows, file
        points = drawn[plot["title"]]["data"]["values"]
        for column in [columns] if isinstance(columns, str) else columns:
            found = [point[column] for point in points if point.get("field", column) == column]
            assert [float(value) if value else None for value in found] == [row[column] for row in rows], (file, column)
    assert "not found" not in said
    assert "rror" not in said


def test_tokens_and_curves_of_the_report_are_those_of_the_artefacts(finished: Workspace) -> None:
    summary = json.loads((finished.root / "data/demo-math/report/summary.json").read_text())
    tokens = {item["stage"]: item for item in summary["tokens"]}
    rollouts, completions = (finished.table(name) for name in ("rollouts", "completions"))
    assert tokens["generate_rollouts"]["generated"] == rollouts["token_ids"].list.len().sum()
    assert tokens["complete_steps"]["generated"] == completions["token_ids"].list.len().sum()
    supervised = sum(label != -100 for row in finished.table("training")["labels"].to_list() for label in row)
    assert tokens["train_student"]["trained"] == supervised == summary["training"]["supervised_tokens"]
    assert sum(item["tokens"] for item in summary["histograms"]["weights"]) == supervised
    assert summary["curves"]["student"]
    assert summary["curves"]["prm"]


def test_the_figures_and_the_times_are_shown_for_scripts_too(finished: Workspace) -> None:
    summary = json.loads((finished.root / "data/demo-math/report/summary.json").read_text())
    show = ("python", "-m", "stages", "show")
    assert json.loads(finished.check(*show, "--json")) == summary
    times = {item["stage"]: item for item in json.loads(finished.check(*show, "--timings", "--json"))}
    assert list(times) == list(yaml.safe_load((finished.root / "dvc.yaml").read_text())["stages"])
    assert sum(item["share"] for item in times.values()) == pytest.approx(1, abs=0.01)
    for stage in ("generate_rollouts", "label_steps", "complete_steps", "score_steps", "train_student"):
        assert times[stage]["tokens_per_second"] > 0, stage
    assert times["evaluate_student"]["rows_per_second"] > 0
    assert "tokens/s" in finished.check(*show, "--timings")
    assert "generate_rollouts.json" in finished.check("dvc", "metrics", "show")


def test_a_second_repro_runs_nothing(finished: Workspace) -> None:
    assert stages_run(finished.repro()) == []


def test_a_parameter_of_calibration_reruns_it_and_what_follows(finished: Workspace, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "project")
    run.small_demo(**{"calibration.strength": "gap_sigmoid"})
    before = run.digests()
    ran = stages_run(run.repro())
    assert ran == ["calibrate_weights", "train_student", "evaluate_student", "write_report"]
    after = run.digests()
    assert after["validity/part-00000.parquet"] == before["validity/part-00000.parquet"]
    assert after["training/part-00000.parquet"] != before["training/part-00000.parquet"]


def test_the_compact_signal_holds_what_the_plain_one_does(finished: Workspace, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "project")
    run.small_demo(**{"weights.teacher_signal": "compact"})
    for name in ("calibrate_weights", "write_report"):
        done = run.stage(name)
        assert done.returncode == 0, done.stderr
    for file in sorted(path.name for path in training(run).glob("*.parquet")):
        plain = read_table(training(finished) / file, TRAINING.schema)
        compact = read_table(training(run) / file, COMPACT_TRAINING_SCHEMA)
        same = [name for name in compact.column_names if name in plain.column_names]
        assert compact.select(same).equals(plain.select(same))
        back = decode_teacher_signal(compact)
        for ids, found in zip(*(table["teacher_topk_ids"].to_pylist() for table in (plain, back)), strict=True):
            assert [sorted(token) for token in found] == [sorted(token) for token in ids]
    pages = [workspace.root / "data/demo-math/report/report.html" for workspace in (finished, run)]
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_a_comment_in_a_stages_code_runs_no_model(finished: Workspace, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "project")
    before = run.digests()
    for name in ("pipeline/engines/transformers.py", "vcrd/rollouts.py"):
        path = run.root / name
        path.write_text(path.read_text() + "# another comment\n")
    ran = stages_run(run.repro())
    assert "generate_rollouts" in ran
    for stage in ran:
        timing = json.loads((run.root / f".vcrd/timings/demo-math/{stage}.json").read_text())
        assert timing["made"] == 0, stage
    assert run.digests() == before


def test_workers_and_order_of_the_input_change_no_byte(finished: Workspace, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "project")
    run.small_demo(**{"run.workers": "1"})
    (run.root / ".vcrd").rename(run.root / ".moved")
    for name in ("generate_rollouts", "propose_steps", "complete_steps"):
        done = run.stage(name)
        assert done.returncode == 0, done.stderr
    assert run.digests() == finished.digests()


@pytest.mark.slow
@pytest.mark.usefixtures("needs_vllm")
def test_the_generating_stages_run_on_vllm(finished: Workspace, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "project")
    run.small_demo(**{"engine.name": "vllm", "run.workers": "1", "engine.max_in_flight": "16"})
    counts = {}
    for name in ("generate_rollouts", "propose_steps", "label_steps", "score_steps", "complete_steps"):
        done = run.stage(name, "--limit", "4")
        assert done.returncode == 0, done.stderr[-3000:]
        counts[name] = done.stderr
    sample = run.root / ".vcrd/samples/data/demo-math"
    rollouts = pl.read_parquet(sample / "rollouts/*.parquet")
    assert rollouts.height == 4
    assert all(text.endswith(tuple("0123456789")) for text in rollouts["text"])
    assert pl.read_parquet(sample / "proposals/*.parquet")["topk_ids"].list.len().sum() > 0
    assert pl.read_parquet(sample / "evidence/*.parquet")["score_prm"].null_count() == 0
    assert pl.read_parquet(sample / "completions/*.parquet").height > 0


@pytest.mark.slow
@pytest.mark.usefixtures("needs_vllm")
def test_three_models_are_evaluated_in_one_process_on_vllm(finished: Workspace, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "project")
    run.small_demo(**{"engine.name": "vllm", "engine.max_in_flight": "16"})
    done = run.stage("evaluate_student", "--limit", "6")
    assert done.returncode == 0, done.stderr[-3000:]
    ours = finished.table("evaluation").select("evaluation_id", "text").sort("evaluation_id")
    theirs = pl.read_parquet(run.root / ".vcrd/samples/data/demo-math/evaluation/*.parquet")
    both = theirs.join(ours, on="evaluation_id", suffix="_transformers")
    assert both.height == 18
    assert (both["text"] == both["text_transformers"]).mean() >= 0.9
