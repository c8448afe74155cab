"""Decisions kept as tests: what importing costs, that dvc.yaml is complete, that every preset is."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.cli import load_settings, stages_of
from pipeline.graph import check_graph, code_of, graph_of
from pipeline.stage import ShardedStage
from tests.workspace import ROOT
from vcrd.errors import ConfigError

STAGES = stages_of("stages")


def test_importing_vcrd_is_quick_and_pulls_in_nothing_heavy() -> None:
    heavy = ("torch", "vllm", "trl", "transformers", "datasets", "sklearn")
    program = (
        "import sys, time; start = time.perf_counter(); import vcrd; print(time.perf_counter() - start); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for _ in range(3)
    ]
    assert all(run.splitlines()[1] == "[]" for run in runs)
    assert min(float(run.splitlines()[0]) for run in runs) < 0.3


@pytest.mark.parametrize(
    "module", ["vcrd.records", "vcrd.io.parquet", "vcrd.reliability", "vcrd.examples", "vcrd.export", "pipeline.cli"]
)
def test_the_method_runs_without_torch(module: str) -> None:
    program = f"import sys, {module}; print([n for n in ('torch', 'vllm', 'trl', 'transformers') if n in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert said.stdout.strip() == "[]"


def test_dvc_yaml_is_what_the_stages_say() -> None:
    check_graph(ROOT / "dvc.yaml", STAGES)


def test_a_dependency_that_is_missing_is_found(tmp_path: Path) -> None:
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    graph["stages"]["label_steps"]["deps"].remove("vcrd/labels.py")
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(graph))
    with pytest.raises(ConfigError, match=r"label_steps, deps is not up to date \(vcrd/labels.py\)"):
        check_graph(tmp_path / "dvc.yaml", STAGES)


def test_a_plot_that_is_missing_is_found_and_every_template_is_there(tmp_path: Path) -> None:
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    plots = {name: entry for item in graph["plots"] for name, entry in item.items()}
    assert {"funnel", "tokens", "validity", "weights", "reliability", "student_curve", "accuracy"} <= set(plots)
    for plot in plots.values():
        assert plot["template"] == "linear" or (ROOT / f".dvc/plots/{plot['template']}.json").is_file()
        assert all(file.startswith("data/${preset}/report/") for file in plot["y"])
    graph["plots"].pop()
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(graph))
    with pytest.raises(ConfigError, match="plots are not up to date"):
        check_graph(tmp_path / "dvc.yaml", STAGES)


def test_the_closure_reaches_what_is_imported_inside_functions() -> None:
    code = code_of("stages.train_student", ROOT)
    assert {
        "stages/train_student.py",
        "vcrd/training/trainer.py",
        "vcrd/losses/reference.py",
        "vcrd/__init__.py",
    } <= set(code)
    assert "pipeline/engines/transformers.py" not in code
    assert "pipeline/engines/vllm.py" in code_of("stages.generate_rollouts", ROOT)


def test_every_stage_is_one_short_file_under_its_own_name() -> None:
    for name in STAGES:
        lines = (ROOT / f"stages/{name}.py").read_text().splitlines()
        assert len(lines) < 80, name
    assert list(graph_of(STAGES)["stages"]) == list(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])


def test_every_verb_is_one_short_file() -> None:
    for path in (ROOT / "stages/__main__.py", *(ROOT / "stages/verbs").glob("*.py")):
        assert len(path.read_text().splitlines()) < 80, path.name


def test_no_file_is_over_500_lines() -> None:
    long = {
        path.name: count
        for room in ("vcrd", "pipeline", "stages", "tests", "scripts")
        for path in (ROOT / room).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 500
    }
    assert not long


@pytest.mark.parametrize("preset", sorted(path.name for path in (ROOT / "presets").glob("*.yaml")))
def test_every_preset_is_complete_and_named_after_its_file(preset: str) -> None:
    settings = load_settings(ROOT / "presets" / preset, "stages")
    assert settings.preset == Path(preset).stem


def test_the_committed_params_are_the_demo() -> None:
    committed = subprocess.run(["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, text=True)
    text = committed.stdout if committed.returncode == 0 else (ROOT / "params.yaml").read_text()
    assert yaml.safe_load(text) == yaml.safe_load((ROOT / "presets/demo-math.yaml").read_text())


def test_only_evaluation_knows_of_an_oracle() -> None:
    users = [name for name in STAGES if "oracle" in (ROOT / f"stages/{name}.py").read_text()]
    assert users == ["evaluate_student"]


def test_stages_with_a_model_say_which_one_in_their_facts() -> None:
    for name, stage in STAGES.items():
        if isinstance(stage, ShardedStage) and "engine" in stage.sections and name != "score_steps":
            assert "models" in stage.also_reads, name


def test_the_public_names_of_training_are_there_and_torch_comes_with_the_first() -> None:
    program = (
        "import sys, vcrd.training as room; assert 'torch' not in sys.modules; "
        "print([getattr(room, name).__name__ for name in room.__all__] == room.__all__)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert said.stdout.strip() == "True", said.stderr[-2000:]
