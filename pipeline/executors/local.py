"""Run shards in this process, or in a few processes of this machine, each with what it loaded of its own."""

from __future__ import annotations

import multiprocessing as mp
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from typing import Any

from pipeline.executors.prefill import telling_prefill
from pipeline.shards import ShardTask, commit
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
    """Make shards and yield their entries as they are committed; `tokens` hears of tokens done."""
    if workers == 1:
        loaded = None
        for number, task in enumerate(tasks):
            loaded = loaded if number else stage.load(context)
            yield run_one(stage, context, loaded, task, tokens)
        return
    # Spawned, not forked: a forked child would inherit torch's thread pools in whatever state they are.
    spawn = mp.get_context("spawn")
    counter = spawn.Value("q", 0)
    waiting = iter(tasks)
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start, initargs=(stage, context, counter)) as pool:
        pending = {pool.submit(_run_in_worker, task) for task in islice(waiting, workers)}
        seen = 0
        try:
            while pending:
                done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
                pending |= {pool.submit(_run_in_worker, task) for task in islice(waiting, len(done))}
                now = counter.value
                tokens(now - seen)
                seen = now
                for future in done:
                    yield future.result()
        except BrokenProcessPool as error:
            raise VcrdError("a worker died (killed, or out of memory); finished shards are kept, run again") from error
        finally:
            for future in pending:
                future.cancel()


def run_one(
    stage: ShardedStage, context: Context, loaded: Any, task: ShardTask, progress: Callable[[int], None]
) -> FileEntry:
    """Make a shard and commit it."""
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


def _start(stage: ShardedStage, context: Context, counter: Any) -> None:
    die_with_parent()
    _worker.update(stage=stage, context=context, counter=counter)


def _run_in_worker(task: ShardTask) -> FileEntry:
    stage, context, counter = _worker["stage"], _worker["context"], _worker["counter"]
    if "loaded" not in _worker:
        _worker["loaded"] = stage.load(context)

    def progress(tokens: int) -> None:
        with counter.get_lock():
            counter.value += tokens

    return run_one(stage, context, _worker["loaded"], task, progress)


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
