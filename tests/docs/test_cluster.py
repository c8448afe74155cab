"""The cluster files of docs/ say what the schedulers and the stages' own command lines understand.

They are run with stand-ins for the programs that they start, which write down how they were called.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser

from pipeline.cli import stages_of
from pipeline.stage import ShardedStage
from tests.workspace import ROOT

CLUSTER = ROOT / "docs/cluster"
SBATCH = CLUSTER / "run.sbatch"
SKY = yaml.safe_load((CLUSTER / "sky.yaml").read_text())
# sbatch(1), SLURM 24.05: those that a job of one task on one node may want.
OPTIONS = {
    *("account", "array", "begin", "chdir", "comment", "constraint", "cpus-per-gpu", "cpus-per-task", "dependency"),
    *("error", "exclude", "exclusive", "export", "gpus", "gpus-per-node", "gpus-per-task", "gres", "hold", "job-name"),
    *("mail-type", "mail-user", "mem", "mem-per-cpu", "mem-per-gpu", "nice", "no-requeue", "nodelist", "nodes"),
    *("ntasks", "ntasks-per-node", "open-mode", "output", "parsable", "partition", "qos", "requeue", "reservation"),
    *("signal", "time", "time-min", "tmp", "wait"),
}
# sky/utils/schemas.py: get_task_schema and get_resources_schema take no other keys.
TASK = {
    **{"name": str, "workdir": str, "num_nodes": int, "resources": dict, "file_mounts": dict, "volumes": dict},
    **{"envs": dict, "secrets": dict, "setup": str, "run": str},
}
RESOURCES = {
    *("infra", "accelerators", "accelerator_args", "cpus", "memory", "instance_type", "use_spot", "disk_size"),
    *("disk_tier", "network_tier", "image_id", "ports", "labels", "autostop", "any_of", "ordered", "job_recovery"),
}
UPSTREAM = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


@pytest.fixture
def calls(tmp_path: Path) -> Callable[..., list[list[str]]]:
    """Run a script with stand-ins and return what it called, with the launcher of the training behind it."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for name in ("dvc", "python", "sbatch", "scontrol", "vllm"):
        lines = ["#!/bin/bash", f'echo "$(printf "%q " {name} "$@" ${{VCRD_LAUNCHER:+"$VCRD_LAUNCHER"}})" >>{log}']
        lines += [f"wc -l <{log}" if name == "sbatch" else f"exit ${{{name}_code:-0}}"]
        (programs / name).write_text("\n".join(lines))
        (programs / name).chmod(0o755)

    def run(script: str, *arguments: str, code: int = 0, **environment: str) -> list[list[str]]:
        log.unlink(missing_ok=True)
        command, here = ["bash", "-c", script, *arguments], {"PATH": f"{programs}:/usr/bin:/bin", **environment}
        done = subprocess.run(command, cwd=tmp_path, env=here, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stderr
        return [shlex.split(line) for line in log.read_text().splitlines()]

    return run


def script() -> str:
    """The batch script, without what puts a clone's own environment before the stand-ins."""
    return SBATCH.read_text().replace('export PATH="$PWD/.venv/bin:$PATH"\n', "")


def deps_of(stage: str) -> set[str]:
    makers = {
        out if isinstance(out, str) else next(iter(out)): name for name, it in UPSTREAM.items() for out in it["outs"]
    }
    found = {makers[path] for path in UPSTREAM[stage]["deps"] if path in makers}
    return found.union(*map(deps_of, found))


def check_order(steps: list[tuple[str, ...]]) -> None:
    """Every array finds all that its stage reads, and every stage with shards that asks a model has one."""
    made: set[str] = set()
    for kind, *stages in steps:
        for stage in stages:
            if kind == "array":
                assert deps_of(stage) <= made, stage
            else:
                made |= {stage} | deps_of(stage)
    sharded = {name for name, stage in stages_of("stages").items() if isinstance(stage, ShardedStage)}
    # Its work is arithmetic, done in the time that a job takes to start.
    assert {stage for kind, *stages in steps for stage in stages if kind == "array"} == sharded - {"estimate_validity"}


def test_the_scripts_are_bash_and_their_options_are_those_of_sbatch() -> None:
    checker = ["shellcheck", "--shell=bash", "--external-sources"] if shutil.which("shellcheck") else ["bash", "-n"]
    for text in (SBATCH.read_text(), (CLUSTER / "stages.sh").read_text(), SKY["setup"], SKY["run"]):
        subprocess.run([*checker, "-"], input=text, text=True, cwd=ROOT, check=True)
    directives = re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", SBATCH.read_text(), re.MULTILINE)
    assert len(directives) == SBATCH.read_text().count("#SBATCH") >= 8
    assert {name for name, _ in directives} <= OPTIONS


def test_the_batch_script_submits_a_whole_run_in_order(calls: Callable[..., list[list[str]]]) -> None:
    steps: list[tuple[str, ...]] = []
    for number, (program, *words) in enumerate(calls(script(), "run.sbatch", TASKS="4", TRAIN_GPUS="2")):
        assert program == "sbatch"
        at = words.index("docs/cluster/run.sbatch")
        options, (role, *stages) = words[:at], words[at + 1 :]
        assert {option.removeprefix("--").partition("=")[0] for option in options} <= OPTIONS
        assert (f"--dependency=afterok:{number}" in options) == (number > 0)
        assert ("--array=0-3" in options) == (role == "shards")
        assert ("--gpus-per-node=2" in options) == (stages == ["train_student"])
        steps.append(("array" if role == "shards" else "repro", *stages))
    check_order(steps)
    assert steps[-1] == ("repro",)


def test_the_roles_of_the_batch_script_call_what_there_is(calls: Callable[..., list[list[str]]]) -> None:
    task = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}
    shards = ("shards", "generate_rollouts")
    (called,) = calls(script(), "run.sbatch", *shards, **task)
    assert called == [
        *("python", "-m", "stages.generate_rollouts", "--num-shards", "4", "--shard-index", "3", "--deadline", "3h30m")
    ]
    done = subprocess.run(
        [sys.executable, *called[1:], "--params", "presets/demo-math.yaml", "--dry-run"],
        **{"cwd": ROOT, "env": dict(os.environ), "capture_output": True, "text": True, "check": False},
    )
    assert done.returncode == 0, done.stderr
    again = calls(script(), "run.sbatch", *shards, code=75, python_code="75", **task)
    assert again[1:] == [["scontrol", "requeue", "7_3"]]
    assert len(calls(script(), "run.sbatch", *shards, code=2, python_code="2", **task)) == 1
    gpus = {"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "2"}
    launcher = "accelerate launch --multi_gpu --num_processes 2"
    assert calls(script(), "run.sbatch", "repro", "x", **gpus) == [["dvc", "repro", "x", launcher]]
    launched = launch_command_parser().parse_args([*launcher.split()[2:], "-m", "vcrd.training.launch", "{}"])
    assert (launched.num_processes, launched.module, launched.training_script) == (2, True, "vcrd.training.launch")
    (served,) = calls(script(), "run.sbatch", "serve", "a/b", **gpus)
    assert served[:5] == ["vllm", "serve", "a/b", "--tensor-parallel-size", "2"]


def test_the_task_of_skypilot_is_one_and_runs_in_order(calls: Callable[..., list[list[str]]]) -> None:
    assert all(isinstance(SKY[name], TASK[name]) for name in SKY)
    assert set(SKY["resources"]) <= RESOURCES
    assert all(isinstance(value, str) and value for value in SKY["envs"].values())
    run = SKY["run"].replace("cd /vcrd\n", "").replace('export PATH="$PWD/.venv/bin:$PATH"\n', "")
    steps: list[tuple[str, ...]] = []
    for program, *words in calls(run, "run", SKYPILOT_NUM_GPUS_PER_NODE="2", **SKY["envs"]):
        if program == "dvc":
            steps.append(("repro", *words[1:]))
        elif words[1] == "stages":
            assert words[2:] == ["preset", "use", "gsm8k-qwen", "--set", "run.num_shards=64"]
        else:
            assert words[2:] in (["--num-shards", "2", "--shard-index", index] for index in "01")
            steps.append(("array", words[1].removeprefix("stages.")))
    assert steps.pop() == ("repro", "accelerate launch --multi_gpu --num_processes 2")
    check_order(steps)
