"""Two ranks on CPUs (gloo) learn what one process learns: each step's loss, and the weights at the end.

The rows do not fill the last step, nor the trees any: what a rank has too little of must teach nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.invariant.rank import CASES, PARAMS, UNEVEN, made
from tests.invariant.training import STUDENT
from tests.vcrd.training_rows import demo_rows, write_training
from tests.workspace import ROOT
from vcrd.training.curve import CURVE, read_curve
from vcrd.training.student import train_student

pytestmark = pytest.mark.slow
EXACT, TREES = 1e-9, 1e-6
"""Of float64, in the size of the update; trees add up in another order beside others, and norms round to float32."""
ROUNDED = 1e-4
"""Of float32 after AdamW, likewise."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training(tmp_path_factory.mktemp("ranks") / "data", demo_rows(UNEVEN))


@pytest.fixture(scope="module")
def ranks(data: Path) -> Path:
    folder = data.parent / "two"
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    command += ["-m", "tests.invariant.rank", str(data), str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def apart(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], before: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    moved = torch.cat([(theirs[name] - before[name]).flatten() for name in theirs]).norm()
    assert moved > 1e-3
    return float(torch.cat([(ours[name] - theirs[name]).flatten() for name in theirs]).norm() / moved)


@pytest.mark.parametrize("case", [case for case in CASES if case != "fsdp, mixed"])
def test_two_ranks_learn_what_one_does(case: str, data: Path, ranks: Path, tmp_path: Path) -> None:
    alone, both = made(case, data, tmp_path, 1), torch.load(ranks / f"{case}.pt")
    assert len(alone["losses"]) == len(both["losses"]) >= 4
    for ours, theirs in zip(both["losses"], alone["losses"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
        for name in ("supervised_tokens", "mean_weight", "nll", "kl", "grad_norm"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-6), name
    assert apart(both["after"], alone["after"], alone["before"]) < (TREES if "trees" in case else EXACT)


def test_bfloat16_activations_leave_the_weights_of_the_loss_alone(ranks: Path) -> None:
    """FSDP2 rounds a model's arguments where it is not told to leave them: weights and log-probabilities are such."""
    mixed, exact = (torch.load(ranks / f"{case}.pt")["losses"][0] for case in ("fsdp, mixed", "fsdp"))
    for name in ("mean_weight", "teacher_mass"):
        assert mixed[name] == pytest.approx(exact[name], rel=1e-6)
    assert mixed["loss"] == pytest.approx(exact["loss"], rel=0.05)
    assert mixed["loss"] != pytest.approx(torch.tensor(mixed["loss"]).bfloat16().item(), rel=1e-6)


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_the_student_of_two_ranks_is_that_of_one(how: str, data: Path, ranks: Path, tmp_path: Path) -> None:
    train_student(STUDENT, None, data, tmp_path, PARAMS, seed=1)
    ours, theirs, before = (load_file(Path(at) / "model.safetensors") for at in (ranks / how, tmp_path, STUDENT))
    assert apart(ours, theirs, before) < ROUNDED
    assert {path.name for path in (ranks / how).iterdir()} == {path.name for path in tmp_path.iterdir()}
    assert _config(ranks / how) == _config(tmp_path)
    for mine, its in zip(read_curve(ranks / how), read_curve(tmp_path), strict=True):
        assert (mine.step, mine.supervised_tokens, mine.learning_rate) == (
            its.step,
            its.supervised_tokens,
            its.learning_rate,
        )
        assert mine.loss == pytest.approx(its.loss, rel=1e-4), CURVE


def _config(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "config.json").read_text())
