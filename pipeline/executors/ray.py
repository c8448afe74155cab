"""Run shards on a Ray cluster: an actor for each GPU or tensor-parallel group, a shard at a time on each.

The one file that imports ray. The driver only schedules: workers write their shards to the shared file system by the
same protocol as everywhere, and send back the entry. A worker that is lost, with its node or alone, costs the shard it
was at; that goes to another one, as `restarts` decides. RAY_ADDRESS names a cluster; without it one is started here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from pipeline.executors.local import run_one
from pipeline.executors.prefill import engine_in
from pipeline.executors.restarts import Restarts, ending_the_process, say_in_flight
from pipeline.shards import ShardTask
from pipeline.stage import Context, ShardedStage
from vcrd.errors import VcrdError, one_line
from vcrd.io.manifest import FileEntry

_POLL_SECONDS = 0.5
_PASSED_ON = ("VCRD_", "HF_HUB_", "HF_HOME", "OMP_", "VLLM_")


class _Worker:
    """Loads what a stage needs, then makes one shard after the other."""

    def __init__(self, stage: ShardedStage, context: Context, folder: str, number: int, told: Any) -> None:
        os.chdir(folder)
        self._stage, self._context, self._number, self._told = stage, context, number, told
        self._loaded: Any = None
        self._in_flight = ""

    def load(self) -> None:
        """Load; a worker that has answered is ready."""
        with ending_the_process(self._stage, self._last_words):
            self._loaded = self._stage.load(self._context)
        if (engine := engine_in(self._loaded)) is not None:
            engine.tell_in_flight = self._tell_in_flight

    def make(self, task: ShardTask, anew: Context | None) -> FileEntry:
        """Make a shard; load `anew` before, where it is given."""
        if anew is not None:
            if (engine := engine_in(self._loaded)) is not None:
                engine.close()
            self._context = anew
            self.load()
        with ending_the_process(self._stage, self._last_words):
            return run_one(self._stage, self._context, self._loaded, task, self._told.add.remote)

    def _tell_in_flight(self, names: Collection[str]) -> None:
        if (said := say_in_flight(names)) != self._in_flight:
            self._in_flight = said
            self._told.tell_in_flight.remote(self._number, said)

    def _last_words(self, why: str) -> None:
        ray.get(self._told.tell_why.remote(self._number, why))


class _Told:
    """What workers told, where it outlives them."""

    def __init__(self) -> None:
        self._count = 0
        self._in_flight: dict[int, str] = {}
        self._why: dict[int, str] = {}

    def add(self, count: int) -> None:
        """Count tokens."""
        self._count += count

    def take(self) -> int:
        """Return what came since the last time."""
        count, self._count = self._count, 0
        return count

    def tell_in_flight(self, worker: int, said: str) -> None:
        """Keep what a worker's engine is at."""
        self._in_flight[worker] = said

    def tell_why(self, worker: int, why: str) -> None:
        """Keep why a worker ends itself."""
        self._why[worker] = why

    def autopsy(self, worker: int) -> tuple[str | None, str]:
        """Return why a worker died, where it told, and what was in flight."""
        return self._why.pop(worker, None), self._in_flight.pop(worker, say_in_flight(()))


def run_tasks(
    stage: ShardedStage, context: Context, tasks: Iterable[ShardTask], workers: int, tokens: Callable[[int], None]
) -> Iterator[FileEntry]:
    """Make shards and yield their entries as they are committed; `tokens` hears of tokens done.

    Raises:
        VcrdError: The same shard, or the loading of the stage, cost too many workers.
    """
    with _cluster():
        # It may be on any node: where that is lost, it begins anew on another, and only knows less.
        told = ray.remote(_Told).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
        crew = _Crew(stage, tasks, told)
        heard = time.monotonic()
        for entry in crew.run(context, workers):
            if entry is not None:
                yield entry
            if time.monotonic() - heard >= _POLL_SECONDS:
                heard = time.monotonic()
                tokens(ray.get(told.take.remote()))
        tokens(ray.get(told.take.remote()))


@dataclass(frozen=True)
class _Hired:
    """An actor, a number that it leaves to the one that takes its place, and what it has loaded or is loading."""

    actor: Any
    number: int
    context: Context


class _Crew:
    """Workers and what each is at; one for which nothing is left is let go."""

    def __init__(self, stage: ShardedStage, tasks: Iterable[ShardTask], told: Any) -> None:
        self._stage, self._told = stage, told
        self._tasks, self._ended = iter(tasks), False
        self._lost: list[tuple[ShardTask, Context]] = []
        self._busy: dict[Any, tuple[_Hired, ShardTask | None]] = {}
        self._restarts = Restarts(stage)

    def run(self, context: Context, workers: int) -> Iterator[FileEntry | None]:
        """Yield entries, and None where nothing came for a while."""
        for number in range(workers):
            self._hire(number, context)
        # Workers for which the cluster never had room are not waited for.
        while self._lost or not self._ended or any(task for _, task in self._busy.values()):
            done, _ = ray.wait(list(self._busy), timeout=_POLL_SECONDS)
            if not done:
                yield None
            for answer in done:
                worker, task = self._busy.pop(answer)
                said = self._hear(answer, worker, task)
                if said is _NOTHING:
                    continue
                if task is not None:
                    yield said
                self._give_next(worker)

    def _hire(self, number: int, context: Context) -> None:
        """Start a worker; it is at no shard while it loads."""
        kind = ray.remote(_Worker).options(max_restarts=0, max_task_retries=0, **_resources(self._stage, context))
        actor = kind.remote(self._stage, context, str(Path.cwd()), number, self._told)
        self._busy[actor.load.remote()] = _Hired(actor, number, context), None

    def _give_next(self, worker: _Hired) -> None:
        """Give a worker a shard that was lost, with what that asks for, or else one that nobody was at."""
        anew = None
        if self._lost:
            task, context = self._lost.pop()
            if context != worker.context:
                anew, worker = context, replace(worker, context=context)
        elif (following := next(self._tasks, None)) is not None:
            task = following
        else:
            self._ended = True
            return
        self._busy[worker.actor.make.remote(task, anew)] = worker, task

    def _hear(self, answer: Any, worker: _Hired, task: ShardTask | None) -> Any:
        """Return what a worker says; nothing where it is lost, and another one was hired."""
        shard = task.file if task else f"loading in worker {worker.number}"
        try:
            said = ray.get(answer)
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except (RayActorError, OutOfMemoryError) as error:  # the second where Ray killed it, for its node's memory
            why, in_flight = ray.get(self._told.autopsy.remote(worker.number))
            memory = isinstance(error, OutOfMemoryError)
            why = why or one_line(error)
            context = self._restarts.after_death(shard, worker.context, why, in_flight, memory=memory)
            self._lost += [(task, context)] if task else []
            self._hire(worker.number, context)
            return _NOTHING
        self._restarts.survived(shard)
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
