"""Run shards on a Ray cluster: an actor for each GPU or tensor-parallel group, a shard at a time on each.

The one file that imports ray. The driver only schedules: workers write their shards to the shared file system by the
same protocol as everywhere, and send back the entry. A worker that is lost, with its node or alone, costs the shard it
was at; that goes to another one. RAY_ADDRESS names a cluster; without it one is started on this machine.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from pipeline.executors.local import run_one
from pipeline.shards import ShardTask, adopt
from pipeline.stage import Context, ShardedStage
from vcrd.errors import VcrdError, one_line
from vcrd.io.manifest import FileEntry

_POLL_SECONDS = 0.5
_MOST_DEATHS = 5
_PASSED_ON = ("VCRD_", "HF_HUB_", "HF_HOME", "OMP_", "VLLM_")


class _Worker:
    """Loads what a stage needs once, then makes one shard after the other."""

    def __init__(self, stage: ShardedStage, context: Context, folder: str, tokens: Any) -> None:
        os.chdir(folder)
        self._stage, self._context, self._tokens = stage, context, tokens
        self._loaded: Any = None

    def load(self) -> None:
        """Load; a worker that has answered is ready."""
        self._loaded = self._stage.load(self._context)

    def make(self, task: ShardTask) -> FileEntry:
        """Make a shard, unless a worker that was lost since had finished it."""
        return adopt(task) or run_one(self._stage, self._context, self._loaded, task, self._tokens.add.remote)


class _Tokens:
    """Adds up what all workers have done."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, count: int) -> None:
        """Count."""
        self._count += count

    def take(self) -> int:
        """Return what came since the last time."""
        count, self._count = self._count, 0
        return count


def run_tasks(
    stage: ShardedStage, context: Context, tasks: Iterable[ShardTask], workers: int, tokens: Callable[[int], None]
) -> Iterator[FileEntry]:
    """Make shards and yield their entries as they are committed; `tokens` hears of tokens done.

    Raises:
        VcrdError: The same shard, or the loading of the stage, cost too many workers.
    """
    with _cluster():
        counter = ray.remote(_Tokens).options(num_cpus=0).remote()
        crew = _Crew(stage, context, tasks, counter)
        heard = time.monotonic()
        for entry in crew.run(workers):
            if entry is not None:
                yield entry
            if time.monotonic() - heard >= _POLL_SECONDS:
                heard = time.monotonic()
                tokens(ray.get(counter.take.remote()))
        tokens(ray.get(counter.take.remote()))


class _Crew:
    """Workers and what each is at; one for which nothing is left is let go."""

    def __init__(self, stage: ShardedStage, context: Context, tasks: Iterable[ShardTask], tokens: Any) -> None:
        self._stage, self._context, self._tokens = stage, context, tokens
        self._tasks, self._ended = iter(tasks), False
        self._lost: list[ShardTask] = []
        self._busy: dict[Any, tuple[Any, ShardTask | None]] = {}
        self._deaths: Counter[str] = Counter()

    def run(self, workers: int) -> Iterator[FileEntry | None]:
        """Yield entries, and None where nothing came for a while."""
        for _ in range(workers):
            self._hire()
        # Workers for which the cluster never had room are not waited for.
        while self._lost or not self._ended or any(task for _, task in self._busy.values()):
            done, _ = ray.wait(list(self._busy), timeout=_POLL_SECONDS)
            if not done:
                yield None
            for answer in done:
                worker, task = self._busy.pop(answer)
                said = self._hear(answer, task)
                if said is _NOTHING:
                    self._lost += [task] if task else []
                    self._hire()
                    continue
                if task is not None:
                    yield said
                if (following := self._next()) is not None:
                    self._busy[worker.make.remote(following)] = worker, following

    def _hire(self) -> None:
        """Start a worker; it is at no shard while it loads."""
        options = _resources(self._stage, self._context)
        worker = ray.remote(_Worker).options(max_restarts=0, max_task_retries=0, **options)
        made = worker.remote(self._stage, self._context, str(Path.cwd()), self._tokens)
        self._busy[made.load.remote()] = made, None

    def _next(self) -> ShardTask | None:
        if self._lost:
            return self._lost.pop()
        task = next(self._tasks, None)
        self._ended = task is None
        return task

    def _hear(self, answer: Any, task: ShardTask | None) -> Any:
        """Return what a worker says, or nothing where it is lost."""
        shard = task.file if task else f"loading {self._stage.name}"
        try:
            said = ray.get(answer)
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except RayActorError as error:
            self._deaths[shard] += 1
            if self._deaths[shard] < _MOST_DEATHS:
                return _NOTHING
            message = f"{shard} cost {_MOST_DEATHS} workers ({one_line(error)}); finished shards are kept, run it again"
            message += " with fewer run.workers or a smaller engine.batch_size if memory was short"
            raise VcrdError(message) from error
        self._deaths.pop(shard, None)
        return said


_NOTHING = object()


def _resources(stage: ShardedStage, context: Context) -> Mapping[str, float]:
    """Return what a worker occupies: GPUs where its engine runs on them, else CPU threads."""
    engine = context.settings.plain.get("engine") if "engine" in stage.sections else None
    if engine is None:
        return {"num_cpus": 1}
    on_gpu = engine["device"] == "cuda" or (engine["device"] == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
    return {"num_gpus": engine["tensor_parallel_size"]} if on_gpu else {"num_cpus": engine["threads"]}


@contextmanager
def _cluster() -> Iterator[None]:
    """Join the cluster that RAY_ADDRESS names, or start one here for the time being."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    path = os.pathsep.join([str(Path.cwd()), *filter(None, [os.environ.get("PYTHONPATH")])])
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON) and "KEY" not in name}
    address = os.environ.get("RAY_ADDRESS") or "local"
    local = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, runtime_env={"env_vars": {**passed, "PYTHONPATH": path}}, logging_level="ERROR", **local)
    except (RayError, ConnectionError, RuntimeError) as error:
        raise VcrdError(f"no Ray cluster at {address} ({one_line(error)}); start one, or unset RAY_ADDRESS") from error
    try:
        yield
    finally:
        ray.shutdown()
