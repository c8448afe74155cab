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
from pipeline.shards import write_shards
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.io.files import read_json
from vcrd.training.params import TrainParams

WORKERS = 2
_TUNED = Path(__file__).parent / "tuned"


def tuned_file(domain: str) -> Path:
    """Return the file of the learning rates that methods were tuned to on a domain's development set."""
    return _TUNED / f"{domain}.json"


def planned_runs(size: Size, settings: Settings) -> list[PlannedRun]:
    """List the runs of a domain in the order in which they are made.

    That is the order of their shards' names: by distillation seed, method and pre-training seed, so that each of two
    workers has a pool. A name is the run's own, so that another method or seed makes no other run again.
    """
    domain = settings.preset
    usual = settings.get(TrainParams).learning_rate
    tuned = read_json(tuned_file(domain))["learning_rates"] if tuned_file(domain).is_file() else {}
    runs: list[PlannedRun] = []
    for name in METHODS:
        rate = tuned.get(ORACLE if name in NOISY else name, usual)
        for distill in size.noisy_seeds if name in NOISY else size.distill_seeds:
            for pretrain in size.pretrain_seeds:
                runs += _with_rates(domain, name, pretrain, distill, size.learning_rates or (rate,))
    return sorted(runs, key=shard_name)


def shard_name(run: PlannedRun) -> str:
    """Return the name of a run's shard."""
    return run.run_id.partition("/")[2].replace("/", "-") + ".parquet"


def _with_rates(
    domain: str, method: str, pretrain: int, distill: int, rates: tuple[float, ...]
) -> Iterator[PlannedRun]:
    for rate in rates:
        yield PlannedRun(
            run_id=f"{domain}/d{distill}/{method}/p{pretrain}" + (f"/{rate:g}" if len(rates) > 1 else ""),
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
    return write_shards(out, PLAN, ((shard_name(run), [run], ()) for run in runs), len(runs))


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
