"""The demo's own stages and models on given problems, run in this process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims import ROOT
from pipeline.cli import stages_of
from pipeline.layout import Layout
from pipeline.params import parse_settings, read_yaml, sections_of, set_values
from pipeline.runner import Split, run_sharded, run_whole
from pipeline.stage import Context, ShardedStage, Stage, WholeStage
from vcrd.domains.demo_math import generate_problems
from vcrd.io.manifest import Manifest
from vcrd.io.parquet import read_table, shard_files

MODELS = ROOT / "data/models/demo-math"
_SET = (
    f"models.path={MODELS}",
    "problems.splits={train: 1, prm: 0, fit: 0, judge: 0, test: 0}",
    "run.num_shards=4",
    "engine.batch_size=16",
)


def demo_rows(count: int, seed: int = 5) -> list[dict[str, Any]]:
    """Make problems of the demo."""
    return [{"prompt": prompt, "reference": answer} for prompt, answer in generate_problems(4, count, seed)]


class Demo:
    """A run in a folder."""

    def __init__(self, root: Path, rows: Sequence[Mapping[str, Any] | bytes], *changes: str) -> None:
        """Write the problems, one a line (bytes as they are); `changes` are `key=value` on the demo's parameters."""
        root.mkdir(parents=True)
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        (root / "problems.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        stages = stages_of("stages")
        changes = (f"problems.path={root / 'problems.jsonl'}", *_SET, *changes)
        values = set_values(read_yaml(ROOT / "presets/demo-math.yaml"), changes)
        settings = parse_settings(values, sections_of(stages.values()), "params.yaml")
        layout = Layout(settings.preset, root / "data", root / ".vcrd")
        self.root, self.stages, self.context = root, stages, Context(settings, layout, layout)

    def make(self, *names: str, workers: int = 1) -> Manifest:
        """Run stages in turn; returns the manifest of the last."""
        for name in names:
            manifest = self._make(self.stages[name], workers)
        return manifest

    def _make(self, stage: Stage, workers: int) -> Manifest:
        if isinstance(stage, WholeStage):
            return run_whole(stage, self.context)
        assert isinstance(stage, ShardedStage)
        manifest = run_sharded(stage, self.context, workers, Split())
        assert manifest is not None
        return manifest

    def prepare(self) -> Demo:
        """Run the stages before the first model."""
        self.make("prepare_problems", "pretrain_models", "prepare_models")
        return self

    def rows(self, artefact: str) -> list[dict[str, Any]]:
        """Read an artefact."""
        return [
            row for path in shard_files(self.context.layout.folder(artefact)) for row in read_table(path).to_pylist()
        ]

    def digests(self, artefact: str) -> dict[str, str]:
        """Digest of every shard of an artefact."""
        files = shard_files(self.context.layout.folder(artefact))
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
