"""What a user can get wrong: one clear line, exit code 2, nothing half-written."""

import gzip
import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from tests.s3_server import S3
from tests.workspace import Workspace
from vcrd.io.parquet import shard_files


def edit(run: Workspace, old: str, new: str) -> None:
    path = run.root / "params.yaml"
    text = path.read_text()
    assert old in text, old
    path.write_text(text.replace(old, new, 1))


def refused(run: Workspace, stage: str, *words: str) -> None:
    done = run.stage(stage)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("ConfigError: ")
    assert all(word in lines[0] for word in words), lines[0]
    assert not (run.root / "data/demo-math").exists()
    assert not list((run.root / ".vcrd").glob("scratch/*/*/.tmp-*"))


@pytest.fixture
def demo(workspace: Workspace) -> Workspace:
    return workspace.small_demo()


@pytest.mark.parametrize("stage", ["prepare_problems", "generate_rollouts", "train_student", "write_report"])
def test_a_wrong_parameter_name_names_the_nearest(demo: Workspace, stage: str) -> None:
    edit(demo, "kl_coef:", "kl_coeff:")
    refused(demo, stage, "train.kl_coeff", "did you mean 'kl_coef'?")


def test_a_missing_parameter_is_named(demo: Workspace) -> None:
    edit(demo, "  tau: 1.0\n", "")
    refused(demo, "prepare_problems", "calibration.tau is missing")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("kl_coef: 0.0", "kl_coef: 1.5", ("train.kl_coef", "1.5", "less than or equal to 1")),
        ("num_shards: 2", "num_shards: 0", ("run.num_shards", "greater than or equal to 1")),
        ("temperature: 1.0", "temperature: warm", ("temperature", "'warm'")),
        ("max_tokens: 96", "max_tokens: 9.5", ("max_tokens", "9.5")),
        ("name: transformers", "name: llamafile", ("engine.name", "'transformers' or 'vllm'")),
        ("dtype: float32", "dtype: fp8", ("engine.dtype", "'fp8'")),
    ],
)
def test_a_value_out_of_range_shows_the_value_and_the_limit(
    demo: Workspace, old: str, new: str, words: tuple[str, ...]
) -> None:
    edit(demo, old, new)
    refused(demo, "prepare_problems", *words)


def test_a_missing_problems_file(demo: Workspace) -> None:
    edit(demo, "path: data/inputs/small.yaml", "path: nowhere.jsonl")
    refused(demo, "prepare_problems", "nowhere.jsonl", "no such file")


def test_a_missing_params_file(demo: Workspace) -> None:
    (demo.root / "params.yaml").unlink()
    refused(demo, "prepare_problems", "params.yaml is missing", "preset use")


def test_an_input_that_is_not_there_yet(demo: Workspace) -> None:
    refused(demo, "propose_steps", "data/demo-math/models holds no", "run the stage that writes it")


def test_an_unknown_preset(demo: Workspace) -> None:
    done = demo.run("python", "-m", "stages", "preset", "use", "demo-maths")
    assert done.returncode == 2
    assert done.stderr.strip() == "ConfigError: unknown preset 'demo-maths'; did you mean 'demo-math'?"


def test_an_unknown_key_of_a_preset_leaves_params_as_they_are(demo: Workspace) -> None:
    before = (demo.root / "params.yaml").read_text()
    done = demo.run("python", "-m", "stages", "preset", "use", "demo-math", "--set", "train.epoch=2")
    assert done.returncode == 2
    assert "did you mean 'epochs'?" in done.stderr
    assert (demo.root / "params.yaml").read_text() == before


def test_switching_presets_keeps_what_was_edited_and_keep_keeps_it_in_place(demo: Workspace) -> None:
    edited = (demo.root / "params.yaml").read_text()
    demo.check("python", "-m", "stages", "preset", "use", "demo-math", "--keep")
    assert (demo.root / "params.yaml").read_text() == edited
    demo.use("gsm8k-smoke")
    assert (demo.root / ".vcrd/params-demo-math.yaml").read_text() == edited
    assert "* gsm8k-smoke" in demo.check("python", "-m", "stages", "preset", "list")
    (demo.root / "params.yaml").write_text("[")
    demo.check("python", "-m", "stages", "preset", "use", "demo-math", "--keep")
    assert "* demo-math" in demo.check("python", "-m", "stages", "preset", "list")


def prepared_with(demo: Workspace, finished: Workspace) -> None:
    shutil.copytree(finished.root / "data/demo-math/pretrained", demo.root / "data/demo-math/pretrained")


def refused_models(demo: Workspace, *words: str) -> None:
    done = demo.stage("prepare_models")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert not (demo.root / "data/demo-math/models").exists()


def test_an_unknown_local_model(demo: Workspace, finished: Workspace) -> None:
    prepared_with(demo, finished)
    edit(demo, "name: teacher", "name: professor")
    refused_models(demo, "models.teacher", "data/models/demo-math/professor", "config.json")


def test_a_hub_model_out_of_reach(demo: Workspace, finished: Workspace) -> None:
    prepared_with(demo, finished)
    edit(demo, "source: local\n    name: teacher", "source: hub\n    name: nobody/nothing")
    refused_models(demo, "nobody/nothing", "cannot be reached")


def test_a_tokenizer_mismatch(demo: Workspace, finished: Workspace) -> None:
    prepared_with(demo, finished)
    path = demo.root / "data/models/demo-math/teacher/tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["1"], vocabulary["2"] = vocabulary["2"], vocabulary["1"]
    path.write_text(json.dumps(tokenizer))
    refused_models(demo, "tokenizer mismatch", "student", "teacher")


def test_a_third_model_may_complete_and_must_be_there(demo: Workspace, finished: Workspace, tmp_path: Path) -> None:
    prepared_with(demo, finished)
    edit(demo, "completer: null", "completer: {source: local, name: teacher, revision: null}")
    assert demo.stage("prepare_models").returncode == 0
    assert demo.table("models")["role"].to_list() == ["student", "teacher", "completer"]
    run = finished.copy(tmp_path / "other")
    edit(run, "role: teacher", "role: completer")
    done = run.stage("complete_steps")
    assert done.returncode == 2
    assert "no model has the role 'completer'; set models.completer" in done.stderr


@pytest.mark.parametrize("stage", ["generate_rollouts", "propose_steps", "train_student", "evaluate_student"])
def test_models_that_prepare_models_has_not_seen_are_refused_by_every_stage(
    finished: Workspace, tmp_path: Path, stage: str
) -> None:
    run = finished.copy(tmp_path / "project")
    before = run.digests()
    params = (run.root / "params.yaml").read_text()
    for old, new, words in (
        ("name: teacher", "name: professor", "models.teacher: data/models/demo-math/professor holds no config.json"),
        ("name: teacher", "name: student", "models.teacher is data/models/demo-math/student, prepare_models saw"),
    ):
        edit(run, old, new)
        done = run.stage(stage)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr.strip()
        assert "\n" not in done.stderr.strip()
        (run.root / "params.yaml").write_text(params)
    path = run.root / "data/models/demo-math/teacher/tokenizer.json"
    path.write_text(path.read_text().replace('"isolated"', '"removed"').replace('"Isolated"', '"Removed"'))
    done = run.stage(stage)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("ConfigError: tokenizer mismatch: that of models.teacher")
    assert run.digests() == before


def test_broken_json_lines_are_rejects_with_their_line_numbers(demo: Workspace) -> None:
    lines = [
        '{"prompt": "a=1+2 ?", "reference": "3"}',
        '{"prompt": "a=1+',
        "",
        '{"prompt": "a=1+2 ?", "reference": "3"}',
        "[1, 2]",
        '{"reference": "3"}',
        '{"prompt": "a=2+2 ?", "reference": {"x": 1}}',
        '{"prompt": "a=2+3 ?", "reference": 5}',
    ]
    with gzip.open(demo.root / "mine.jsonl.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    with gzip.open(demo.root / "mine.jsonl.gz", "ab") as file:
        file.write(b'{"prompt": "\xff"}\n')
    edit(demo, "path: data/inputs/small.yaml", "path: mine.jsonl.gz")
    edit(demo, "max_reject_share: 0.5", "max_reject_share: 1.0")
    done = demo.stage("prepare_problems")
    assert done.returncode == 0, done.stderr
    assert demo.table("problems").height == 2
    rejects = pl.read_parquet(demo.root / "data/demo-math/rejects/prepare_problems/*.parquet")
    assert dict(zip(rejects["record_id"], rejects["reason"], strict=True)) == {
        "line 2": "broken_json",
        "line 4": "duplicate",
        "line 5": "broken_json",
        "line 6": "no_prompt",
        "line 7": "bad_reference",
        "line 9": "broken_json",
    }
    metrics = json.loads((demo.root / "data/demo-math/metrics/prepare_problems.json").read_text())
    assert metrics["rows"]["expected"] == 8

    said = demo.check("python", "-m", "stages", "errors", "prepare_problems").splitlines()
    assert said[0] == "prepare_problems: 6 of 8 rows rejected"
    assert "  broken_json 3" in said
    assert sum(line.startswith("    line ") for line in said) == 6


def test_too_many_rejects_fail_the_stage_saying_why(demo: Workspace) -> None:
    (demo.root / "mine.jsonl").write_text('{"prompt": "a=1+2 ?", "reference": "3"}\n{\n{\n')
    edit(demo, "path: data/inputs/small.yaml", "path: mine.jsonl")
    done = demo.stage("prepare_problems")
    assert done.returncode == 3
    assert "rejected 2 of 3 rows (broken_json 2)" in done.stderr
    assert not (demo.root / "data/demo-math/problems").exists()


def test_a_parquet_folder_and_brought_rollouts(demo: Workspace, finished: Workspace) -> None:
    folder = demo.root / "mine"
    folder.mkdir()
    row = {"q": "a=1+2 b=3*4 ?", "a": "5", "r": ["a 1+2=3 3+0=3\nb 3*4=2 2+3=5\n#### 5", "a 1+2=4 4+0=4\n#### 4"]}
    pl.DataFrame([row]).write_parquet(folder / "x.parquet")
    edit(demo, "path: data/inputs/small.yaml", "path: mine")
    edit(demo, "prompt: prompt", "prompt: q")
    edit(demo, "reference: reference", "reference: a")
    edit(demo, "responses: null", "responses: r")
    assert demo.stage("prepare_problems").returncode == 0
    shutil.copytree(finished.root / "data/demo-math/models", demo.root / "data/demo-math/models")
    done = demo.stage("generate_rollouts")
    assert done.returncode == 0, done.stderr
    rollouts = demo.table("rollouts").sort("rollout_id").to_dicts()
    assert [row["text"] for row in rollouts] == row["r"]
    assert [row["outcome"] for row in rollouts] == [1, -1]
    assert [row["step_verdicts"] for row in rollouts] == [[0, 0, 0], [-1, 0]]


def test_a_flipped_bit_in_an_input_is_found(finished: Workspace, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "project")
    shutil.rmtree(run.root / ".vcrd/scratch/demo-math/propose_steps")
    path = shard_files(run.root / "data/demo-math/rollouts")[0]
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 4
    path.write_bytes(bytes(raw))
    done = run.stage("propose_steps")
    assert done.returncode == 3, done.stderr
    assert "SchemaError" in done.stderr
    assert path.name in done.stderr


def test_dry_run_tells_what_would_run_and_loads_nothing(finished: Workspace, tmp_path: Path) -> None:
    said = finished.stage("generate_rollouts", "--dry-run").stdout
    assert "reads problems: 48 rows in 2 files" in said
    assert "shards: 2, of which 2 are finished and 0 would be made" in said
    other = Workspace(tmp_path / "project")
    other.use("gsm8k-qwen")
    for stage in ("prepare_problems", "prepare_models", "generate_rollouts", "score_steps", "train_student"):
        done = other.stage(stage, "--dry-run")
        assert done.returncode == 0, done.stderr


def test_preview_prints_rows_of_a_sample(finished: Workspace, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "project")
    done = run.stage("generate_rollouts", "--preview", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("rollout_id") == 2
    assert run.digests() == finished.digests()


@pytest.mark.parametrize("option", [["--deadline", "1h"], ["--num-shards", "2"]])
def test_a_stage_of_one_piece_refuses_to_be_cut(demo: Workspace, option: list[str]) -> None:
    done = demo.stage("fit_reliability", *option)
    assert done.returncode == 2
    assert "fit_reliability runs in one piece; leave out --num-shards and --deadline" in done.stderr


def test_a_job_array_makes_what_one_process_makes(finished: Workspace, tmp_path: Path) -> None:
    run = finished.copy(tmp_path / "project")
    shutil.rmtree(run.root / ".vcrd/scratch/demo-math/generate_rollouts")
    shutil.rmtree(run.root / "data/demo-math/rollouts")
    late = run.stage("generate_rollouts", "--num-shards", "2", "--shard-index", "0", "--deadline", "0s")
    assert late.returncode == 75
    assert "the deadline left 1 of 1 shards to be made; run it again" in late.stderr
    for index in ("0", "1"):
        done = run.stage("generate_rollouts", "--num-shards", "2", "--shard-index", index)
        assert done.returncode == 0, done.stderr
    assert run.stage("generate_rollouts").returncode == 0
    timing = json.loads((run.root / ".vcrd/timings/demo-math/generate_rollouts.json").read_text())
    assert timing["made"] == 0
    assert run.digests() == finished.digests()


def test_machines_that_share_an_object_store_alone_make_what_one_machine_makes(
    finished: Workspace, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VCRD_SCRATCH", f"{s3.bucket()}/run")
    made = 0
    for name, options in (("one", ("--num-shards", "2")), ("two", ())):
        run = finished.copy(tmp_path / name)
        for stage in ("estimate_validity", "fit_reliability"):
            shutil.rmtree(run.root / ".vcrd/scratch/demo-math" / stage)
        for stage in ("fit_reliability", "estimate_validity"):
            done = run.stage(stage, *(options if stage == "estimate_validity" else ()))
            assert done.returncode == 0, done.stderr
            timing = json.loads((run.root / f".vcrd/timings/demo-math/{stage}.json").read_text())
            made += timing["made"] if name == "two" else 0
        assert run.digests() == finished.digests()
    assert made == 1, "of two shards and the maps, the first machine made all but one shard"
