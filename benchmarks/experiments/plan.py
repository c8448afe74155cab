"""Which runs there are, in the order in which they are made: pool by pool, a pool for each worker at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.experiments.records import PLAN, PlannedRun
from benchmarks.experiments.sizes import Size
from benchmarks.rivals import METHODS, NOISY, ORACLE
from pipeline.params import Settings
from pipeline.shards import shard_file, write_shards
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.io.files import read_json
from vcrd.training.params import TrainParams

WORKERS = 2
_TUNED = Path(__file__).parent / "tuned"


def tuned_file(domain: str) -> Path:
    """Return the file of the learning rates that methods were tuned to on a domain's development set."""
    return _TUNED / f"{domain}.json"


def planned_runs(size: Size, settings: Settings) -> list[PlannedRun]:
    """List the runs of a domain."""
    domain = settings.preset
    usual = settings.get(TrainParams).learning_rate
    tuned = read_json(tuned_file(domain))["learning_rates"] if tuned_file(domain).is_file() else {}
    pools = [(pretrain, distill) for distill in size.distill_seeds for pretrain in size.pretrain_seeds]
    runs: list[PlannedRun] = []
    for first in range(0, len(pools), WORKERS):
        for name in METHODS:
            rate = tuned.get(ORACLE if name in NOISY else name, usual)
            for pretrain, distill in pools[first : first + WORKERS]:
                if name not in NOISY or distill in size.noisy_seeds:
                    runs += _with_rates(domain, name, pretrain, distill, size.learning_rates or (rate,))
    return runs


def _with_rates(
    domain: str, method: str, pretrain: int, distill: int, rates: tuple[float, ...]
) -> Iterator[PlannedRun]:
    for rate in rates:
        yield PlannedRun(
            run_id=f"{domain}/{method}/p{pretrain}/d{distill}" + (f"/{rate:g}" if len(rates) > 1 else ""),
            domain=domain,
            method=method,
            pretrain_seed=pretrain,
            distill_seed=distill,
            method_version=METHODS[method].version,
            learning_rate=rate,
        )


def _facts(context: Context, size: Size) -> dict[str, Any]:
    return {"runs": [str(run) for run in planned_runs(size, context.settings)]}


def _build(context: Context, out: Path, size: Size) -> WholeResult:
    runs = planned_runs(size, context.settings)
    return write_shards(out, PLAN, ((shard_file(index), [run], ()) for index, run in enumerate(runs)), len(runs))


def plan_stage(size: Size) -> WholeStage:
    """Return the stage that writes a shard for every run."""
    return WholeStage(
        name="plan_runs",
        version=1,
        sections={},
        output=PLAN.name,
        facts=partial(_facts, size=size),
        build=partial(_build, size=size),
    )
