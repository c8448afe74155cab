"""A run of one shard in this process: problems and rollouts of random words, and the stages' own `work` on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._words import random_letters, random_line, text_of
from benchmarks.claims import ROOT
from pipeline.cli import stages_of
from pipeline.layout import Layout
from pipeline.params import parse_settings, read_yaml, sections_of, set_values
from pipeline.shards import ShardTask, commit, shard_file, write_shards
from pipeline.stage import Context, Shard, ShardedStage, TableKind
from vcrd.io.files import sha256_file
from vcrd.io.manifest import Manifest, write_manifest
from vcrd.records import PROBLEMS, ROLLOUTS, Problem, Rollout

PROMPT = 128
_FILE = shard_file(0)


@dataclass(frozen=True)
class OneShard:
    """A run's folder and parameters."""

    context: Context

    def work(self, stage: ShardedStage, loaded: Any, progress: Callable[[int], None]) -> None:
        """Make the shard as a worker makes it: read, work, write."""
        result = stage.work(loaded, Shard(self.context, _FILE, progress))
        task = ShardTask(_FILE, "benchmark", self.context.layout.scratch(stage.name))
        commit(task, result, stage.kind.schema, stage.kind.key)


def one_shard(folder: Path, problems: int, rollouts: Sequence[Rollout], changes: Sequence[str]) -> OneShard:
    """Write problems and rollouts into `folder`; the parameters are the demo's with `changes`."""
    values = set_values(read_yaml(ROOT / "presets/demo-math.yaml"), changes)
    settings = parse_settings(values, sections_of(stages_of("stages").values()), "benchmark")
    layout = Layout(settings.preset, folder / "data", folder / "hidden")
    rng = np.random.default_rng(0)
    _write(layout.folder(PROBLEMS.name), PROBLEMS, [_problem(rng, index) for index in range(problems)])
    _write(layout.folder(ROLLOUTS.name), ROLLOUTS, rollouts)
    return OneShard(Context(settings, layout, layout))


def random_rollouts(problems: int, per_problem: int, steps: int, lengths: tuple[int, int]) -> list[Rollout]:
    """Make rollouts whose steps have from `lengths[0]` to `lengths[1]` tokens; those of a problem share its prompt."""
    rng = np.random.default_rng(1)
    made = []
    for problem in range(problems):
        prompt = random_line(rng, PROMPT)
        for index in range(per_problem):
            lines = [random_line(rng, int(rng.integers(lengths[0], lengths[1] + 1))) for _ in range(steps)]
            made.append(_rollout(f"p{problem}", index, prompt, lines))
    return made


def _rollout(problem_id: str, index: int, prompt: list[int], lines: list[list[int]]) -> Rollout:
    token_ids = [token for line in lines for token in line]
    texts = [text_of(line) for line in lines]
    return Rollout(
        rollout_id=f"{problem_id}/r{index}",
        problem_id=problem_id,
        split="train",
        domain="math",
        prompt_ids=prompt,
        token_ids=token_ids,
        step_ends=np.cumsum([len(line) for line in lines]).tolist(),
        step_char_ends=np.cumsum([len(text) for text in texts]).tolist(),
        step_verdicts=[0] * len(lines),
        logprobs=np.zeros(len(token_ids), np.float32),
        text="".join(texts),
        finish_reason="length",
        outcome=0,
    )


def _problem(rng: np.random.Generator, index: int) -> Problem:
    text = random_letters(rng, PROMPT - 1)  # the demo's template ends a prompt with a line's end
    return Problem(
        problem_id=f"p{index}", domain="math", prompt=text, reference="0", split="train", source="", licence="CC0-1.0"
    )


def _write(folder: Path, kind: TableKind[Any], records: Sequence[object]) -> None:
    folder.mkdir(parents=True)
    made = write_shards(folder, kind, [(_FILE, records, [])], len(records)).files
    entries = [replace(entry, sha256=sha256_file(folder / entry.file)) for entry in made]
    write_manifest(
        folder, Manifest(artefact=kind.name, stage="benchmark", stage_version=1, provenance={}, files=entries)
    )
