"""The matrix of a domain as a sharded stage: a run is a shard, so that resume and locks are the pipeline's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.experiments import solutions
from benchmarks.experiments.digest import domain_digest
from benchmarks.experiments.loaded import Pool
from benchmarks.experiments.plan import WORKERS, plan_stage
from benchmarks.experiments.pool import PoolPlace, make_pool
from benchmarks.experiments.records import PLAN, RUNS, Run
from benchmarks.experiments.run import make_run
from benchmarks.experiments.sizes import Size
from pipeline.cli import load_settings, stages_of
from pipeline.layout import Layout
from pipeline.params import sections_of
from pipeline.runner import Split, run_sharded, run_whole
from pipeline.shards import ShardTask, adopt, commit, plan_shards, stage_facts
from pipeline.stage import Context, Shard, ShardedStage, ShardResult
from vcrd.io.parquet import read_rows

_DATA = Path("data/experiments")
_DECIDE = ("splits", "optimiser_steps", "step_tokens")


class _Pools:
    """The pools that a worker has at hand: as many as there are in work at a time."""

    def __init__(self) -> None:
        self._pools: dict[Path, Pool] = {}

    def get(self, place: PoolPlace) -> Pool:
        """Make a pool where it is not there yet, and read it."""
        if place.folder not in self._pools:
            make_pool(place)
            while len(self._pools) >= WORKERS:
                self._pools.pop(next(iter(self._pools)))
            self._pools[place.folder] = Pool(place)
        return self._pools[place.folder]


def _facts(context: Context, size: Size) -> dict[str, Any]:
    """What decides a run beside its row of the plan: the size, the preset (its sections), and the pipeline's stages."""
    stages = [*stages_of("stages").values(), solutions.STAGE]
    return {
        "size": {name: asdict(size)[name] for name in _DECIDE},
        "domain": domain_digest(context.settings.preset),
        "stages": sorted((stage.name, stage.version) for stage in stages),
    }


def _load(context: Context) -> _Pools:
    return _Pools()


def _work(pools: _Pools, shard: Shard, size: Size, workspace: Path) -> ShardResult:
    [planned] = shard.read(PLAN)
    place = PoolPlace(
        domain=planned.domain,
        pretrain_seed=planned.pretrain_seed,
        distill_seed=planned.distill_seed,
        size=size,
        workspace=workspace,
    )
    return ShardResult([make_run(planned, pools.get(place))], [], expected=1)


def matrix_stage(size: Size, workspace: Path) -> ShardedStage:
    """Return the stage whose shards are runs."""
    return ShardedStage(
        name="make_runs",
        version=1,
        sections=sections_of(stages_of("stages").values()),
        output=RUNS.name,
        kind=RUNS,
        sharded_inputs=(PLAN,),
        facts=partial(_facts, size=size),
        load=_load,
        work=partial(_work, size=size, workspace=workspace),
    )


def _context(domain: str, size: Size, workspace: Path) -> Context:
    settings = load_settings(Path("presets") / f"{domain}.yaml", "stages")
    layout = Layout(domain, _DATA / size.name, workspace / "runs" / size.name)
    return Context(settings, layout, layout)


def run_matrix(domain: str, size: Size, workspace: Path) -> None:
    """Make what is missing of a domain's matrix."""
    context = _context(domain, size, workspace)
    run_whole(plan_stage(size), context)
    run_sharded(matrix_stage(size, workspace), context, WORKERS, Split())


def _tasks(domain: str, size: Size, workspace: Path) -> list[ShardTask]:
    context, stage = _context(domain, size, workspace), matrix_stage(size, workspace)
    run_whole(plan_stage(size), context)
    return plan_shards(stage, context, stage_facts(stage, context))


def finished_runs(domain: str, size: Size, workspace: Path) -> tuple[dict[str, Run], int]:
    """Return the runs of a domain that are finished so far, by fingerprint, and how many there will be."""
    tasks = _tasks(domain, size, workspace)
    done = [task for task in tasks if adopt(task) is not None]
    runs = RUNS.parse(read_rows([task.rows_path for task in done], RUNS.schema))
    return dict(zip((task.fingerprint for task in done), runs, strict=True)), len(tasks)


def take_over(domain: str, size: Size, workspace: Path, finished: Mapping[str, Run]) -> int:
    """Put runs that another clone finished into the workspace, as far as all that decides them is the same here.

    Args:
        domain: Of the runs.
        size: Of the matrix.
        workspace: To put them into.
        finished: Runs by fingerprint; any others are passed over.

    Returns:
        How many were put there.
    """
    lacking = [task for task in _tasks(domain, size, workspace) if task.fingerprint in finished and not adopt(task)]
    for task in lacking:
        commit(task, ShardResult([finished[task.fingerprint]], [], expected=1), RUNS.schema, RUNS.key)
    return len(lacking)
