"""Where the commands of the docs are run: a clone with a finished run in it, beside a stand-in for the Hub."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.layout import Layout
from pipeline.shards import write_rejects
from tests.hub_server import TOKEN, Hub
from tests.vcrd.made_run import make_run
from tests.workspace import ROOT, Workspace
from vcrd.io.files import write_json
from vcrd.io.rejects import reject

RUN, STUDENT = "data/demo-math", "data/models/demo-math/student"
_PARTS = ("Makefile", "README.md", "docs")


@dataclass(frozen=True)
class Place:
    """A clone of the project; its `.venv/bin` holds the commands, as a user's does."""

    workspace: Workspace
    hub: Hub

    @property
    def root(self) -> Path:
        return self.workspace.root

    @classmethod
    def make(cls, root: Path, hub: Hub, *, finished: bool = False) -> Place:
        """Make one, with a finished run in it where that is asked."""
        workspace = Workspace(root)
        for part in _PARTS:
            (root / part).symlink_to(ROOT / part)
        shutil.copyfile(ROOT / "presets/demo-math.yaml", root / "params.yaml")
        _write_commands(root / ".venv/bin")
        _write_inputs(root)
        if finished:
            _write_run(root)
        return cls(workspace, hub)

    def copy(self, root: Path) -> Place:
        """Copy all of it."""
        return Place(self.workspace.copy(root), self.hub)

    def bash(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run commands here; the first that fails ends them and is named."""
        script = "set -e -o pipefail\ntrap 'echo \"failed: $BASH_COMMAND\" >&2' ERR\n" + commands
        environment = self.workspace.environment
        environment |= {
            "PATH": f".venv/bin:{environment['PATH']}",
            "HF_ENDPOINT": self.hub.url,
            "HF_HOME": str(self.root / ".home"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "SLURM_ARRAY_TASK_ID": "3",
        }
        return subprocess.run(
            ["bash", "-c", script], cwd=self.root, env=environment, capture_output=True, text=True, timeout=600
        )


def _write_run(root: Path) -> None:
    make_run(root / RUN)
    shutil.copytree(ROOT / STUDENT, root / RUN / "student")
    for preset in ("demo-math", "gsm8k-smoke"):
        folder = root / Layout(preset).rejects("propose_steps")
        folder.mkdir(parents=True)
        write_rejects(folder / "part-00000.parquet", [reject("p0/r0/s1/teacher", "empty_step", "1 tokens", text="\n")])
        write_json(folder / "counts.json", {"expected": 120, "rejected": {"empty_step": 1}})


def _write_commands(folder: Path) -> None:
    """The `vcrd` of this clone, and what `. .venv/bin/activate` reads."""
    folder.mkdir(parents=True)
    (folder / "vcrd").write_text('#!/bin/sh\nexec python -m vcrd "$@"\n')
    (folder / "vcrd").chmod(0o755)
    (folder / "activate").write_text('export PATH="$PWD/.venv/bin:$PATH"\n')


def _write_inputs(root: Path) -> None:
    """The files that the pages take for granted."""
    row = {"id": 1, "prompt": "3 bags of 4?", "reference": "12", "response": "3 * 4 = 12\n#### 12"}
    (root / "outputs.jsonl").write_text(json.dumps(row) + "\n")
    (root / "my.jsonl").write_text(json.dumps({"question": "3 bags of 4?", "answer": "12"}) + "\n")
    rng = np.random.default_rng(5)
    sound = rng.random(240) < 0.7
    score = 1 / (1 + np.exp(-np.where(sound, 1.5, -1.0) - rng.normal(size=240)))
    steps = {"sound": sound.astype(int), "problem_id": [f"p{index // 6}" for index in range(240)], "score_prm": score}
    pl.DataFrame(steps).write_parquet(root / "evidence.parquet")
