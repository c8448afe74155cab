"""Past one machine: what Ray workers and served models keep of a run, what scheduling costs, what a plan foretells.

A large cluster is simulated: it draws shards as uneven as those of the demo's rollouts, measured here; what it assumes
of nodes and engines stands in `benchmarks._cluster.Cluster` and in docs/planning.md.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from benchmarks import _scale_plan, _scale_ray, _scale_server
from benchmarks._cluster import Cluster, draw_shards, simulate
from benchmarks.claims import state
from pipeline.cli import load_settings
from pipeline.executors import run_tasks
from pipeline.layout import Layout
from pipeline.shards import plan_shards, stage_facts
from pipeline.stage import Context
from scripts.vllm_cpu import missing_because
from stages.generate_rollouts import STAGE
from tests.workspace import Workspace

WORKERS, HOURS, MINUTES, SEEDS = 1024, 24, (1, 2, 5, 10, 20, 40, 80), tuple(range(8))


def measured_variation() -> float:
    """Return the coefficient of variation of the demo's shards of rollouts: seconds over their mean, one worker."""
    with tempfile.TemporaryDirectory() as place:
        run = Workspace(Path(place) / "project").small_demo(**{"run.num_shards": "16"})
        run.repro("prepare_models")
        run.check("python", "-m", "stages.prepare_problems")
        settings = load_settings(run.root / "params.yaml", "stages")
        layout = Layout(settings.preset, run.root / "data", run.root / ".vcrd")
        context = Context(settings, layout, layout)
        tasks = plan_shards(STAGE, context, stage_facts(STAGE, context))
        ends = [time.perf_counter() for _ in run_tasks(STAGE, context, tasks, 1, lambda tokens: None)]
    taken = [after - before for before, after in pairwise(ends)]
    return statistics.stdev(taken) / statistics.fmean(taken)


def simulation() -> bool:
    """Find the shard size that wastes least on 1,024 GPUs of which 1 % of nodes are lost an hour."""
    variation = measured_variation()
    losing = Cluster(workers=WORKERS)
    found = {minutes: _efficiencies(minutes, variation, losing) for minutes in MINUTES}
    best = max(MINUTES, key=lambda minutes: statistics.fmean(found[minutes]))
    undisturbed = statistics.fmean(_efficiencies(best, variation, replace(losing, loss_per_hour=0.0)))
    curve = ", ".join(f"{minutes} min {statistics.fmean(values):.3f}" for minutes, values in found.items())
    text = (
        f"simulated efficiency of {WORKERS:,} GPUs over {HOURS} h of work with 1 % of nodes lost an hour, in shards of "
        f"{best} min, the best of: {curve} (variation of shards {variation:.2f}, measured; no loss: {undisturbed:.3f})"
    )
    values = found[best]
    return state(text, statistics.fmean(values), 0.9, "higher", n=len(SEEDS), spread=(min(values), max(values)))


def _efficiencies(minutes: int, variation: float, cluster: Cluster) -> list[float]:
    """Simulate a day's work in shards of so many minutes, once for each seed."""
    shards = (draw_shards(WORKERS * HOURS * 3600.0, minutes * 60.0, variation, seed) for seed in SEEDS)
    return [simulate(drawn, cluster, seed).efficiency for drawn, seed in zip(shards, SEEDS, strict=True)]


def main() -> None:
    """Print every claim; exit 1 where one does not hold."""
    held = [simulation(), _scale_plan.predictions(), _scale_ray.kills()]
    with _scale_ray.cluster():
        held += [_scale_ray.speed(), _scale_ray.overhead()]
    if reason := missing_because():
        sys.stderr.write(f"left out: the served model, {reason}\n")
    else:
        held.append(_scale_server.faults())
    sys.exit(not all(held))


if __name__ == "__main__":
    main()
