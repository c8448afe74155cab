"""A pool: what all methods share for one pair of seeds, made by the pipeline's own stages in a folder of its own."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from benchmarks.experiments import solutions
from benchmarks.experiments.clock import core_seconds
from benchmarks.experiments.digest import SHIPPED, domain_digest
from benchmarks.experiments.problems import pool_problems
from benchmarks.experiments.sizes import Size
from pipeline.cli import stages_of
from pipeline.layout import Layout
from pipeline.params import Settings, parse_settings, read_yaml, sections_of, set_values
from pipeline.runner import Split, run_sharded, run_whole
from pipeline.stage import Context, Shard, ShardedStage, ShardResult, Stage, WholeStage
from vcrd.domains import DOMAINS
from vcrd.domains.base import DemoDomain, Role
from vcrd.domains.demo_models import make as make_model
from vcrd.errors import BusyError
from vcrd.io.files import fingerprint, read_json, write_json, write_text
from vcrd.io.lock import locked

_STAGES = (
    "pretrain_models",
    "prepare_problems",
    "prepare_models",
    "generate_rollouts",
    "propose_steps",
    "label_steps",
    "train_prm",
    "review_student_steps",
    "review_teacher_steps",
    "score_steps",
    "fit_reliability",
    "complete_steps",
    "estimate_validity",
)
_READY = "pool.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPlace:
    """Where a pool lies, and what decides it."""

    domain: str
    pretrain_seed: int
    distill_seed: int
    size: Size
    workspace: Path

    @property
    def models(self) -> Path:
        """Folder of student and teacher."""
        return self.workspace / "models" / self.domain / f"p{self.pretrain_seed}-{domain_digest(self.domain)[:8]}"

    @property
    def folder(self) -> Path:
        """Folder of everything else."""
        name = f"p{self.pretrain_seed}-d{self.distill_seed}"
        return self.workspace / "pools" / self.size.name / self.domain / name

    @property
    def layout(self) -> Layout:
        """Of the stages' outputs."""
        return Layout(self.domain, self.folder / "data", self.folder / "hidden")

    def settings(self) -> Settings:
        """Return the domain's preset with this pool's seed, problems and models, and one thread."""
        preset = Path("presets") / f"{self.domain}.yaml"
        changes = (
            f"seed={self.distill_seed}",
            f"problems.path={self.folder / 'problems.jsonl'}",
            "problems.columns={prompt: prompt, reference: reference, split: split, responses: null}",
            f"models.path={self.models}",
            "run.num_shards=1",
            "run.workers=1",
            "engine.threads=1",
            "prm.train.threads=1",
            "train.threads=1",
        )
        values = set_values(read_yaml(preset), changes)
        return parse_settings(values, sections_of(stages_of("stages").values()), str(preset))


def make_pool(place: PoolPlace) -> None:
    """Make a pool, or what is missing of it; while another process makes it, wait."""
    domain, settings = DOMAINS[place.domain], place.settings()
    stages = {**stages_of("stages"), solutions.STAGE.name: solutions.STAGE}
    chain = [stages[name] for name in (*_STAGES, solutions.STAGE.name)]
    rows = pool_problems(domain, place.size, place.distill_seed)
    decides = fingerprint([dict(settings.plain), rows, [[stage.name, stage.version] for stage in chain]])
    while not _is_ready(place, decides):
        try:
            with locked(place.folder / ".lock"):
                if not _is_ready(place, decides):
                    _make(place, rows, settings, chain)
                    write_json(place.folder / _READY, {"decides": decides})
        except BusyError:
            time.sleep(1)


def _is_ready(place: PoolPlace, decides: str) -> bool:
    ready = place.folder / _READY
    return ready.is_file() and read_json(ready)["decides"] == decides


def _make(place: PoolPlace, rows: list[dict[str, str]], settings: Settings, chain: list[Stage]) -> None:
    for role in get_args(Role):
        _model(DOMAINS[place.domain], role, place)
    write_text(place.folder / "problems.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    context = Context(settings, place.layout, place.layout)
    with (place.folder / "log.txt").open("a") as log, redirect_stderr(log):
        for stage in chain:
            started = core_seconds()
            if isinstance(stage, ShardedStage):
                work = partial(_counting, stage=stage, folder=place.folder)
                run_sharded(replace(stage, work=work), context, 1, Split())
            else:
                assert isinstance(stage, WholeStage)
                run_whole(stage, context)
            _keep_seconds(place, stage.name, core_seconds() - started)


def _keep_seconds(place: PoolPlace, stage: str, seconds: float) -> None:
    """Keep what a stage took; one that is adopted after a kill took what it took when it was made."""
    path = place.folder / "seconds" / f"{stage}.json"
    before = read_json(path)["seconds"] if path.is_file() else 0.0
    write_json(path, {"seconds": round(max(before, seconds), 2)})


def pool_seconds(place: PoolPlace) -> float:
    """Return the seconds of one core that a pool took."""
    kept = (place.folder / "seconds").glob("*.json")
    return float(round(sum(read_json(path)["seconds"] for path in kept), 2))


def _model(domain: DemoDomain, role: Role, place: PoolPlace) -> None:
    """Put a model into the workspace: of the first pre-training seed those that ship with the project."""
    target = place.models / role
    if (target / "config.json").is_file():
        return
    try:
        with locked(place.models / f".{role}.lock"):
            if (target / "config.json").is_file():
                return
            shipped, made = SHIPPED / domain.name / role, place.models / "making" / role
            shutil.rmtree(made, ignore_errors=True)
            if place.pretrain_seed == 1 and shipped.is_dir():
                shutil.copytree(shipped, made)
            else:
                make_model(domain, role, made.parent, seed=domain.seeds[role] + 1000 * place.pretrain_seed)
            made.rename(target)
    except BusyError:
        time.sleep(1)
        _model(domain, role, place)


def _counting(loaded: Any, shard: Shard, stage: ShardedStage, folder: Path) -> ShardResult:
    """Work, and keep how many tokens the engine answered with: of completions for labels nothing else tells."""
    counted = 0

    def count(tokens: int) -> None:
        nonlocal counted
        counted += tokens
        shard.progress(tokens)

    result = stage.work(loaded, replace(shard, progress=count))
    write_json(folder / "tokens" / f"{stage.name}.json", {"tokens": counted})
    return result


def tokens_of(place: PoolPlace, stage: str) -> int:
    """Return how many tokens a stage of a pool generated or scored."""
    return int(read_json(place.folder / "tokens" / f"{stage}.json")["tokens"])
