"""Run shards in this process, or in a few processes of this machine, each with what it loaded of its own."""

from __future__ import annotations

import multiprocessing as mp
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_any
from typing import Any

from pipeline.shards import ShardTask, commit
from pipeline.stage import Context, Shard, ShardedStage
from vcrd.errors import VcrdError
from vcrd.io.manifest import FileEntry

_POLL_SECONDS = 0.5
_worker: dict[str, Any] = {}


def run_tasks(
    stage: ShardedStage, context: Context, tasks: Sequence[ShardTask], workers: int, tokens: Callable[[int], None]
) -> Iterator[FileEntry]:
    """Make shards and yield their entries as they are committed; `tokens` hears of tokens done."""
    if min(workers, len(tasks)) <= 1:
        loaded = stage.load(context) if tasks else None
        for task in tasks:
            yield _run(stage, context, loaded, task, tokens)
        return
    # Spawned, not forked: a forked child would inherit torch's thread pools in whatever state they are.
    spawn = mp.get_context("spawn")
    counter = spawn.Value("q", 0)
    count = min(workers, len(tasks))
    with ProcessPoolExecutor(count, mp_context=spawn, initializer=_start, initargs=(stage, context, counter)) as pool:
        pending: set[Future[FileEntry]] = {pool.submit(_run_in_worker, task) for task in tasks}
        seen = 0
        try:
            while pending:
                done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
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


def _run(
    stage: ShardedStage, context: Context, loaded: Any, task: ShardTask, progress: Callable[[int], None]
) -> FileEntry:
    result = stage.work(loaded, Shard(context, task.file, progress))
    return commit(task, result, stage.kind.schema, stage.kind.key)


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

    return _run(stage, context, _worker["loaded"], task, progress)


def die_with_parent() -> None:
    """End this worker at once when the process that started it is gone, however that ended."""
    parent = mp.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=([parent.sentinel],), daemon=True).start()


def _exit_after(sentinels: list[int]) -> None:
    wait_for_any(sentinels)
    os._exit(1)


def die_with_dvc() -> None:
    """End this stage when the `dvc repro` that runs it is killed: an orphan would hold the lock against the next."""
    if "DVC_STAGE" not in os.environ:
        return
    import psutil

    ancestors = psutil.Process().parents()
    dvc = next((process for process in ancestors if any("dvc" in part for part in process.cmdline()[:3])), None)
    if dvc is not None:
        threading.Thread(target=_exit_when_gone, args=(dvc,), daemon=True).start()


def _exit_when_gone(process: Any) -> None:
    while process.is_running() and process.status() != "zombie":
        time.sleep(0.2)
    os._exit(1)
