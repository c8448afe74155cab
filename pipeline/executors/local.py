"""Run shards in this process, or in a few processes of this machine, each with what it loaded of its own."""

from __future__ import annotations

import ctypes
import multiprocessing as mp
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from typing import Any

from pipeline.executors.prefill import engine_in, telling_prefill
from pipeline.executors.restarts import Restarts, ending_the_process, has_engine, say_in_flight
from pipeline.shards import ShardTask, commit, finished_since
from pipeline.stage import Context, Shard, ShardedStage
from vcrd.errors import VcrdError
from vcrd.io.manifest import FileEntry
from vcrd.io.meter import metering, note

_POLL_SECONDS = 0.5
_SHELLS = ("sh",)  # bash, dash, zsh, fish: what dvc runs a command with
_worker: dict[str, Any] = {}


def run_tasks(
    stage: ShardedStage, context: Context, tasks: Iterable[ShardTask], workers: int, tokens: Callable[[int], None]
) -> Iterator[FileEntry]:
    """Make shards and yield their entries as they are committed; `tokens` hears of tokens done.

    An engine is always in a process of its own: what kills it leaves this one, which starts another.

    Raises:
        VcrdError: The same shard cost too many workers.
    """
    if workers == 1 and not has_engine(stage):
        loaded = None
        for number, task in enumerate(tasks):
            loaded = loaded if number else stage.load(context)
            yield run_one(stage, context, loaded, task, tokens)
        return
    crew = _Crew(stage, iter(tasks), tokens)
    try:
        yield from crew.run(context, workers)
    finally:
        crew.dismiss()


def run_one(
    stage: ShardedStage, context: Context, loaded: Any, task: ShardTask, progress: Callable[[int], None]
) -> FileEntry:
    """Make a shard and commit it, unless that is done meanwhile."""
    if (entry := finished_since(task)) is not None:
        return entry
    if metering():
        _warm_up(stage, context, loaded, task.file)
    started = time.perf_counter()
    with telling_prefill(f"{stage.name} {Path(task.file).stem}", loaded):
        result = stage.work(loaded, Shard(context, task.file, progress))
    worked = time.perf_counter() - started
    entry = commit(task, result, stage.kind.schema, stage.kind.key)
    note("shard", seconds=worked, commit=time.perf_counter() - started - worked)
    return entry


def _warm_up(stage: ShardedStage, context: Context, loaded: Any, file: str) -> None:
    """Work on a problem of each split before a shard is measured: what is paid for once is no part of its work.

    It is done twice, and the second time noted: what it takes when all is warm.
    """
    rows: list[Any] = Shard(context, file).read(stage.sharded_inputs[0])
    some = frozenset({row.split: row.problem_id for row in rows}.values())
    shard = Shard(replace(context, only_problems=some), file)
    stage.work(loaded, shard)
    started = time.perf_counter()
    stage.work(loaded, shard)
    note("warm", seconds=time.perf_counter() - started)


class _Told(ctypes.Structure):
    """What a worker told, in memory that outlives it; without a lock, which it could take with it."""

    _fields_ = (("tokens", ctypes.c_int64), ("in_flight", ctypes.c_char * 1024), ("last_words", ctypes.c_char * 512))


class _Worker:
    """A process that loads what a stage needs, for its first shard, and makes one after the other."""

    def __init__(self, stage: ShardedStage, context: Context) -> None:
        # Spawned, not forked: a forked child would inherit torch's thread pools in whatever state they are.
        spawn = mp.get_context("spawn")
        self.context, self._oom_kills, self._counted = context, _oom_kills(), 0
        self._told: Any = spawn.RawValue(_Told)
        self._pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=_start, initargs=(stage, context, self._told))

    def make(self, task: ShardTask) -> Future[FileEntry]:
        """Begin a shard; the future of a worker that is dead says so."""
        self._told.in_flight = b""
        try:
            return self._pool.submit(_run_in_worker, task)
        except BrokenProcessPool as error:
            broken: Future[FileEntry] = Future()
            broken.set_exception(error)
            return broken

    def new_tokens(self) -> int:
        """Return how many tokens came since the last call."""
        before, self._counted = self._counted, self._told.tokens
        return self._counted - before

    def autopsy(self) -> dict[str, Any]:
        """Say what is known of its death, for `Restarts.after_death`."""
        memory = _oom_kills() > self._oom_kills
        why = _text(self._told.last_words) or ("killed while memory was short" if memory else "killed, or it crashed")
        return {"why": why, "in_flight": _text(self._told.in_flight) or say_in_flight(()), "memory": memory}

    def dismiss(self) -> None:
        """Wait for the end of its process."""
        self._pool.shutdown(cancel_futures=True)


class _Crew:
    """Workers and the shard that each is at."""

    def __init__(self, stage: ShardedStage, tasks: Iterator[ShardTask], tokens: Callable[[int], None]) -> None:
        self._stage, self._tasks, self._tokens = stage, tasks, tokens
        self._restarts = Restarts(stage)
        self._workers: list[_Worker] = []
        self._busy: dict[Future[FileEntry], tuple[_Worker, ShardTask]] = {}

    def run(self, context: Context, workers: int) -> Iterator[FileEntry]:
        """Yield entries as they are committed."""
        for task in islice(self._tasks, workers):
            self._hire(context, task)
        while self._busy:
            done, _ = wait(self._busy, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
            self._tokens(sum(worker.new_tokens() for worker in self._workers))
            for future in done:
                worker, task = self._busy.pop(future)
                if isinstance(future.exception(), BrokenProcessPool):
                    self._workers.remove(worker)
                    worker.dismiss()
                    self._hire(self._restarts.after_death(task.file, worker.context, **worker.autopsy()), task)
                    continue
                entry = future.result()
                if (following := next(self._tasks, None)) is not None:
                    self._busy[worker.make(following)] = worker, following
                yield entry

    def _hire(self, context: Context, task: ShardTask) -> None:
        worker = _Worker(self._stage, context)
        self._workers.append(worker)
        self._busy[worker.make(task)] = worker, task

    def dismiss(self) -> None:
        """Wait for the end of all workers."""
        for worker in self._workers:
            worker.dismiss()


def _start(stage: ShardedStage, context: Context, told: Any) -> None:
    die_with_parent()
    _worker.update(stage=stage, context=context, told=told)


def _run_in_worker(task: ShardTask) -> FileEntry:
    stage, context, told = _worker["stage"], _worker["context"], _worker["told"]

    def progress(tokens: int) -> None:
        told.tokens += tokens

    def tell_in_flight(names: Collection[str]) -> None:
        told.in_flight = say_in_flight(names).encode()[:1023]

    def last_words(why: str) -> None:
        told.last_words = why.encode()[:511]

    with ending_the_process(stage, last_words):
        if "loaded" not in _worker:
            _worker["loaded"] = stage.load(context)
            if (engine := engine_in(_worker["loaded"])) is not None:
                engine.tell_in_flight = tell_in_flight
        return run_one(stage, context, _worker["loaded"], task, progress)


def _text(told: bytes) -> str:
    return told.decode(errors="replace")


def _oom_kills() -> int:
    """Return how many processes this machine has killed for memory; 0 where it does not tell."""
    try:
        counts = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(counts.get("oom_kill", 0))


def die_with_parent() -> None:
    """End this worker at once when the process that started it is gone, however that ended."""
    parent = mp.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=([parent.sentinel],), daemon=True).start()


def _exit_after(sentinels: list[int]) -> None:
    wait_for_any(sentinels)
    os._exit(1)


def die_with_dvc() -> None:
    """End this stage when the `dvc repro` that runs it is killed: an orphan would hold the lock against the next.

    It may be gone before this is called; what started the stage is then no Python program, but whatever adopts orphans.
    """
    if "DVC_STAGE" not in os.environ:
        return
    import psutil

    starters = [process for process in psutil.Process().parents() if not _named(process, _SHELLS)]
    if not starters or not _named(starters[0], ("python", "dvc")):
        raise VcrdError("the dvc repro that started this stage is gone; run it again")
    threading.Thread(target=_exit_when_gone, args=(starters[0],), daemon=True).start()


def _named(process: Any, words: tuple[str, ...]) -> bool:
    import psutil

    try:
        program = Path(next(iter(process.cmdline()), process.name())).name
    except psutil.Error:
        return False
    return any(word in program for word in words)


def _exit_when_gone(process: Any) -> None:
    import psutil

    try:
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.2)
    except psutil.NoSuchProcess:
        pass
    os._exit(1)
