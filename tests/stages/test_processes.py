"""The student trained by several processes: one stage, one writer, and the student of one process."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from tests.vcrd.training_rows import demo_rows, write_training
from tests.workspace import ROOT, Workspace
from vcrd.io.files import sha256_file
from vcrd.io.manifest import FileEntry, Manifest, read_manifest, write_manifest
from vcrd.io.parquet import shard_files
from vcrd.training.curve import read_curve

LAUNCHER = "accelerate launch --multi_gpu --num_processes 2"
STUDENT = "data/demo-math/student"


def ranks_of(run: Workspace) -> list[psutil.Process]:
    """Return the launcher and its ranks."""
    found = psutil.process_iter(["cmdline", "cwd"])
    return [it for it in found if it.info["cwd"] == str(run.root) and "vcrd.training.launch" in it.info["cmdline"]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A run of one process, from a training set that is written here."""
    run = Workspace(tmp_path_factory.mktemp("one") / "project").small_demo()
    folder = write_training(run.root / "data/demo-math/training", demo_rows(45))
    (shard,) = shard_files(folder)
    entry = FileEntry(file=shard.name, sha256=sha256_file(shard), fingerprint="", rows=45, expected=45, rejects={})
    write_manifest(folder, Manifest(artefact="training", stage="x", stage_version=1, provenance={}, files=[entry]))
    for stage in ("pretrain_models", "prepare_models", "train_student"):
        done = run.stage(stage)
        assert done.returncode == 0, done.stderr
    return run


@pytest.fixture
def run(trained: Workspace, tmp_path: Path) -> Workspace:
    run = trained.copy(tmp_path / "project")
    shutil.rmtree(run.root / STUDENT)
    shutil.rmtree(run.root / ".vcrd/scratch/demo-math/train_student")
    return run


def wait_for(what: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_two_processes_train_the_student_of_one(
    trained: Workspace, run: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VCRD_LAUNCHER", LAUNCHER)
    stage = run.start("python", "-m", "stages.train_student")
    wait_for(lambda: len(ranks_of(run)) >= 3)
    stage.kill()
    stage.wait()
    wait_for(lambda: not ranks_of(run))
    assert not (run.root / STUDENT).exists()

    done = run.stage("train_student")
    assert done.returncode == 0, done.stderr
    ours, theirs, before = (
        load_file(folder / "model.safetensors")
        for folder in (run.root / STUDENT, trained.root / STUDENT, ROOT / "data/models/demo-math/student")
    )
    moved = sum((theirs[name] - before[name]).square().sum() for name in theirs).sqrt()
    gap = sum((ours[name] - theirs[name]).square().sum() for name in theirs).sqrt()
    assert gap < 1e-3 * moved
    assert moved > 0.01
    curves = [read_curve(place.root / STUDENT) for place in (run, trained)]
    assert [(it.step, it.supervised_tokens) for it in curves[0]] == [
        (it.step, it.supervised_tokens) for it in curves[1]
    ]
    assert [it.loss for it in curves[0]] == pytest.approx([it.loss for it in curves[1]], rel=1e-4)
    manifests = [read_manifest(place.root / STUDENT) for place in (run, trained)]
    assert manifests[0].files[0].fingerprint == manifests[1].files[0].fingerprint

    monkeypatch.delenv("VCRD_LAUNCHER")
    assert run.stage("train_student").returncode == 0
    timing = json.loads((run.root / ".vcrd/timings/demo-math/train_student.json").read_text())
    assert (timing["made"], timing["adopted"]) == (0, 1)
    assert torch.equal(load_file(run.root / STUDENT / "model.safetensors")["lm_head.weight"], ours["lm_head.weight"])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("WORLD_SIZE", "2", "a launcher started this stage 2 times; start it once, with the launcher in VCRD_LAUNCHER"),
        ("VCRD_LAUNCHER", "no-such-launcher --ranks 2", "begins with 'no-such-launcher', and there is no such program"),
    ],
)
def test_a_launcher_that_cannot_be_is_refused(
    run: Workspace, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    done = run.stage("train_student")
    assert done.returncode == 2
    assert words in done.stderr
    assert not (run.root / STUDENT).exists()
