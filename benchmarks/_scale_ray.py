"""Claims of the Ray executor, on a cluster of this machine."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks._scale_stages import EMPTY, WAITING, prepared
from benchmarks.claims import ROOT, claim, seconds, state
from pipeline.executors import run_tasks
from pipeline.runner import Split, run_sharded
from pipeline.shards import plan_shards, stage_facts
from tests.workspace import Workspace

KILLS, PROPOSAL_SHARDS, WAITING_SHARDS, EMPTY_SHARDS, ROUNDS = 5, 64, 120, 10_000, 3


@contextmanager
def cluster() -> Iterator[None]:
    """Start Ray once for all that follows: every run would start its own."""
    import ray

    paths = {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    ray.init("local", num_cpus=4, include_dashboard=False, runtime_env={"env_vars": paths}, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    """Return the Ray workers that make shards for a process."""
    found = []
    for child in process.children(recursive=True):
        try:
            found += [child] if "_Worker" in child.name() else []
        except psutil.Error:
            continue
    return found


def speed() -> bool:
    """Compare one worker with two, on shards that wait."""
    ratios = []
    for _ in range(ROUNDS):
        taken = []
        for workers in (1, 2):
            with tempfile.TemporaryDirectory() as place:
                context = prepared(Path(place), WAITING_SHARDS)
                run = (WAITING, context, workers, Split())
                taken.append(seconds(lambda run=run: run_sharded(*run)))  # type: ignore[misc]
        ratios.append(taken[0] / taken[1])
    return claim("two Ray workers against one, on shards that wait: how many times as fast", ratios, 1.7, "higher")


def overhead() -> bool:
    """Schedule shards in which nothing is done, and watch the driver's memory."""
    with tempfile.TemporaryDirectory() as place:
        context = prepared(Path(place), EMPTY_SHARDS)
        tasks = plan_shards(EMPTY, context, stage_facts(EMPTY, context))
        memory: list[int] = []

        def run() -> None:
            for number, _ in enumerate(run_tasks(EMPTY, context, iter(tasks), 2, lambda tokens: None)):
                if number % 1000 == 999:
                    memory.append(psutil.Process().memory_info().rss)

        taken = seconds(run)
    each = taken / EMPTY_SHARDS
    text = f"seconds a shard, {EMPTY_SHARDS:,} empty shards on two Ray workers (planning left out, commits included)"
    holds = state(text, each, 0.05, "lower", n=EMPTY_SHARDS)
    grown = memory[-1] / memory[0]
    text = f"the driver's memory behind {EMPTY_SHARDS:,} shards over that behind 1,000"
    return state(text, grown, 1.1, "lower", n=1) and holds


def kills() -> bool:
    """Make the demo's proposals on two Ray workers, undisturbed and with kills; compare every file with local ones."""
    with tempfile.TemporaryDirectory() as place:
        local = Workspace(Path(place) / "local")
        local.use("demo-math", **{"run.num_shards": str(PROPOSAL_SHARDS)})
        local.repro("propose_steps")
        calm, killed = (_on_ray(local.copy(Path(place) / name)) for name in ("calm", "killed"))
        said = calm.stage("propose_steps")
        if said.returncode:
            raise AssertionError(said.stderr)
        redone, hit = _killed_run(killed)
        expected = _proposals(local)
        differ = sum(_proposals(run)[name] != digest for run in (calm, killed) for name, digest in expected.items())
    text = f"files of the demo's proposals that differ from local ones, on two Ray workers, one run with {hit} kill -9"
    holds = state(text, differ, 0, "lower", n=2 * len(expected))
    holds &= state("workers killed with -9 during that run", hit, KILLS, "higher", n=1)
    return (
        state("finished shards that were made again behind these kills", redone, 0, "lower", n=PROPOSAL_SHARDS)
        and holds
    )


def _on_ray(run: Workspace) -> Workspace:
    params = (run.root / "params.yaml").read_text(encoding="utf-8")
    (run.root / "params.yaml").write_text(params.replace("executor: local", "executor: ray"), encoding="utf-8")
    run.check("rm", "-r", ".vcrd/scratch/demo-math/propose_steps", "data/demo-math/proposals")
    return run


def _killed_run(run: Workspace) -> tuple[int, int]:
    """Kill workers while the stage runs; return how many finished shards were made again, and how many were hit."""
    rng, hit, redone = random.Random(KILLS), 0, 0
    scratch = run.root / ".vcrd/scratch/demo-math/propose_steps"
    seen: dict[Path, int] = {}
    driver = psutil.Popen(
        ["python", "-m", "stages.propose_steps"], cwd=run.root, env=run.environment, stdout=-3, stderr=-3
    )
    pause, victims = threading.Event(), set()
    while driver.poll() is None:
        entries = {path: path.stat().st_mtime_ns for path in scratch.glob("part-*.json")}
        redone += sum(entries.get(path, when) != when for path, when in seen.items())
        seen |= entries
        found = [worker for worker in workers_of(driver) if worker.pid not in victims]
        # What costs two workers is made in smaller batches, with other bytes: each kill waits until the last is behind.
        if found and hit < KILLS and len(entries) >= 2 * hit and pause.wait(rng.uniform(0.5, 4.0)) is False:
            victim = rng.choice(found)
            victims.add(victim.pid)
            try:
                os.kill(victim.pid, signal.SIGKILL)
                hit += 1
            except ProcessLookupError:
                continue
        pause.wait(0.05)
    if driver.returncode:
        raise AssertionError(f"the stage ended with {driver.returncode}")
    return redone, hit


def _proposals(run: Workspace) -> dict[str, str]:
    return {name: digest for name, digest in run.digests().items() if name.startswith("proposals/")}
