"""A project of its own in a folder, with the chain's stages, where commands are run as a user would."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from benchmarks.claims import ROOT
from benchmarks.faults.chain import CHAIN, ChainParams
from pipeline.graph import graph_of
from pipeline.layout import Layout
from pipeline.params import parse_settings, read_yaml, set_values
from pipeline.runner import Split, run_sharded, run_whole
from pipeline.stage import Context, ShardedStage, Stage, WholeStage
from vcrd.io.files import write_json, write_text
from vcrd.io.manifest import Manifest

_PARAMS = {
    "preset": "chain",
    "seed": 1,
    "run": {"num_shards": 8, "executor": "local", "workers": 2, "max_reject_share": 0.5},
    "chain": {"rows": 240, "add": 1, "width": 64},
}
_DVC = "[core]\n    analytics = false\n    check_update = false\n    no_scm = true\n"
_STAGE = """from benchmarks.faults.chain import CHAIN
from pipeline.cli import stage_main

STAGE = CHAIN["{name}"]

if __name__ == "__main__":
    stage_main("stages.{name}")
"""


class Project:
    """A folder with `stages/`, `dvc.yaml` and `params.yaml`, without git."""

    def __init__(self, root: Path, *changes: str, pace: float = 0.0) -> None:
        """Write it; `changes` are `key=value` on its parameters, `pace` is how many seconds a shard takes."""
        self.root = root
        (root / "stages").mkdir(parents=True)
        (root / ".dvc").mkdir()
        (root / ".dvc/config").write_text(
            "[core]\n    analytics = false\n    check_update = false\n    no_scm = true\n"
        )
        (root / "stages/__init__.py").touch()
        for name in CHAIN:
            (root / f"stages/{name}.py").write_text(_STAGE.format(name=name))
        graph = graph_of(CHAIN)
        for name, entry in graph["stages"].items():
            entry["deps"] = sorted(
                {*entry["deps"], f"stages/{name}.py"} - {f"stages/{other}.py" for other in CHAIN if other != name}
            )
        write_text(root / "dvc.yaml", yaml.safe_dump(graph, sort_keys=False))
        write_json(root / "params.yaml", _PARAMS)
        self.set(*changes)
        self.pace(pace)

    def set(self, *changes: str) -> None:
        """Change parameters, as `key=value`."""
        write_json(self.root / "params.yaml", set_values(read_yaml(self.root / "params.yaml"), changes))

    def pace(self, seconds: float) -> None:
        """Say how long a shard takes."""
        (self.root / "pace").write_text(str(seconds))

    def copy(self, root: Path) -> Project:
        """Copy everything, what was made included."""
        shutil.copytree(self.root, root)
        other = object.__new__(Project)
        other.root = root
        return other

    @property
    def environment(self) -> dict[str, str]:
        """This interpreter first; the chain's package from the project, all else from the clone."""
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {
            **os.environ,
            "PATH": binaries,
            "PYTHONPATH": path,
            "DVC_NO_ANALYTICS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def start(self, *command: str, log: Path | None = None, **extra: str) -> subprocess.Popen[str]:
        """Start a command here; what it says goes to `log`, or is kept."""
        out = subprocess.PIPE if log is None else log.open("w")
        return subprocess.Popen(
            command, cwd=self.root, env={**self.environment, **extra}, stdout=out, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *command: str, **extra: str) -> tuple[int, str]:
        """Run a command here; returns its exit code and what it said."""
        process = self.start(*command, log=None, **extra)
        said, _ = process.communicate(timeout=600)
        return process.returncode, said

    def stage(self, name: str, **extra: str) -> tuple[int, str]:
        """Run a stage's command line."""
        return self.run(sys.executable, "-m", f"stages.{name}", **extra)

    def context(self) -> Context:
        """What a stage run in this process needs."""
        values = read_yaml(self.root / "params.yaml")
        settings = parse_settings(values, {"chain": ChainParams}, "params.yaml")
        layout = Layout(settings.preset, self.root / "data", self.root / ".vcrd")
        return Context(settings, layout, layout)

    def make(self, stage: str | Stage, workers: int = 1) -> Manifest:
        """Run a stage in this process."""
        if isinstance(stage, str):
            stage = CHAIN[stage]
        if isinstance(stage, WholeStage):
            return run_whole(stage, self.context())
        assert isinstance(stage, ShardedStage)
        manifest = run_sharded(stage, self.context(), workers, Split())
        assert manifest is not None
        return manifest

    def make_all(self) -> Project:
        """Run the chain in this process."""
        for name in CHAIN:
            self.make(name)
        return self

    def begun(self) -> list[str]:
        """Shards whose work was begun, as `stage file`, in that order."""
        path = self.root / "begun"
        return path.read_text().splitlines() if path.exists() else []

    def digests(self, folder: str = "") -> dict[str, str]:
        """Digest of every file of the run's outputs, or of one artefact."""
        top = self.context().layout.folder(folder)
        files = sorted(path for path in top.rglob("*") if path.is_file())
        return {str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def half_visible(self) -> list[str]:
        """Temporary files and folders among the outputs."""
        data = self.root / "data"
        return sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.name.startswith(".tmp-"))

    def finished(self) -> dict[str, tuple[int, int]]:
        """Return what is committed to scratch."""
        return committed(self.root)


def committed(root: Path) -> dict[str, tuple[int, int]]:
    """Return every shard committed to scratch: its entry, and what tells this very file from one written anew."""
    scratch = root / ".vcrd/scratch"
    entries = [*scratch.glob("*/*/part-*.json"), *scratch.glob("*/*/*/out/_manifest.json")]
    named = [path for path in entries if ".tmp-" not in str(path)]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in named}
