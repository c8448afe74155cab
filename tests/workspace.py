"""A copy of the project in a temporary folder, where tests run its commands as a user would."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl

from benchmarks.faults.project import committed

ROOT = Path(__file__).parent.parent
CANARY = "hf_canaryThatNoFileMayHold"
_CODE = ("vcrd", "pipeline", "stages")
_PARTS = (*_CODE, "presets", "data/models", "data/inputs", "dvc.yaml", ".dvc/config", ".dvc/plots", ".dvcignore")
_SMALL = {
    "problems.path": "data/inputs/small.yaml",
    "problems.splits": "{train: 12, prm: 10, fit: 8, judge: 6, test: 12}",
    "run.num_shards": "2",
    "rollouts.per_problem": "1",
    "prm.train.epochs": "1",
    "prm.train.min_labels": "10",
    "reliability.min_labels": "10",
    "completions.budget_per_rollout": "8",
    "train.epochs": "1",
}


class Workspace:
    """The project's tracked parts, without git."""

    def __init__(self, root: Path) -> None:
        """Copy them to `root`."""
        self.root = root
        for part in _PARTS:
            target = root / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(ROOT / part, target)
        self.check("dvc", "config", "--local", "core.no_scm", "true")

    @property
    def environment(self) -> dict[str, str]:
        """Commands of this interpreter's environment first, nothing of the hub, a token, no spinning threads."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HF_HUB_OFFLINE": "1",
            "HF_TOKEN": CANARY,
            "OMP_WAIT_POLICY": "PASSIVE",
            "DVC_NO_ANALYTICS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command here; `python` is this interpreter."""
        return subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=900)

    def start(self, *command: str, log: Path | None = None) -> subprocess.Popen[str]:
        """Start a command here; what it says goes to `log`, or nowhere."""
        with (log or Path(os.devnull)).open("w") as file:
            return subprocess.Popen(
                command, cwd=self.root, env=self.environment, stdout=file, stderr=subprocess.STDOUT, text=True
            )

    def check(self, *command: str) -> str:
        """Run a command that must succeed, and return what it said."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def stage(self, name: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a stage's command line."""
        return self.run("python", "-m", f"stages.{name}", *options)

    def use(self, preset: str, **values: str) -> None:
        """Write params.yaml."""
        changes = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
        self.check("python", "-m", "stages", "preset", "use", preset, *changes)

    def small_demo(self, **values: str) -> Workspace:
        """Set up the demo with 48 problems."""
        card = "generator: demo-math\nn_terms: 4\ncount: 48\nseed: 5\n"
        (self.root / "data/inputs/small.yaml").write_text(card)
        self.use("demo-math", **{**_SMALL, **values})
        return self

    def repro(self, *options: str) -> str:
        """Run the chain."""
        return self.check("dvc", "repro", *options)

    def copy(self, target: Path) -> Workspace:
        """Copy everything, a run's outputs and scratch included."""
        shutil.copytree(self.root, target)
        other = object.__new__(Workspace)
        other.root = target
        return other

    def finished(self) -> dict[str, tuple[int, int]]:
        """Return what is committed to scratch."""
        return committed(self.root)

    def table(self, artefact: str) -> pl.DataFrame:
        """Read an artefact of the demo run."""
        return pl.read_parquet(self.root / "data/demo-math" / artefact / "*.parquet")

    def digests(self) -> dict[str, str]:
        """Digest of every file of the demo run."""
        folder = self.root / "data/demo-math"
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def stages_run(said: str) -> list[str]:
    """Return the stages that `dvc repro` says it ran."""
    return [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage '")]
