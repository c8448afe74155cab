"""A machine of its own: runs the toy stages in a process, in a folder and with a scratch that it shares.

    python -m tests.pipeline.store_writer FOLDER URL INDEX COUNT [MOMENT [ADD]]

MOMENT: how many objects are put before the process is killed, as by kill -9. ADD: what an engine that is not the same
everywhere adds to each row, beyond what parameters say.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.runner import Split, run_sharded, run_whole
from pipeline.stage import Context, Shard, ShardResult
from tests.pipeline import toy
from vcrd.io.manifest import Manifest
from vcrd.io.stores import StorePath


def context(root: Path, url: str) -> Context:
    made = toy.context(root)
    layout = replace(made.layout, store=url)
    return replace(made, layout=layout, inputs=layout)


def differently(by: int, add: int, shard: Shard) -> ShardResult:
    return toy.work(add + by, shard)


def dying_before_an_index_is_put(add: int, shard: Shard) -> ShardResult:
    """Work in a process that is killed, the first time, when its shard is finished here and not yet shared."""
    died = shard.context.layout.data.parent / "died"
    if not died.exists():
        died.touch()
        StorePath.put_new = lambda path, data: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    return toy.work(add, shard)


def run(root: Path, url: str, split: Split, by: int = 0) -> Manifest | None:
    stage = replace(toy.SQUARE, work=partial(differently, by)) if by else toy.SQUARE
    here = context(root, url)
    run_whole(toy.MAKE, here)
    return run_sharded(stage, here, 1, split)


def die_after(objects: int) -> None:
    """Kill this process in the middle of putting a shard: so many of its objects are there then."""
    upload, put_new, put = StorePath.upload, StorePath.put_new, [0]

    def counted(path: StorePath, source: Path) -> None:
        if "square" in str(path):
            put[0] += 1
        if put[0] > objects:
            os.kill(os.getpid(), signal.SIGKILL)
        upload(path, source)

    def never(path: StorePath, data: bytes) -> bool:
        if "square" in str(path):
            os.kill(os.getpid(), signal.SIGKILL)
        return put_new(path, data)

    StorePath.upload, StorePath.put_new = counted, never  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    folder, address, index, count, *more = sys.argv[1:]
    if more:
        die_after(int(more[0]))
    run(Path(folder), address, Split(int(index), int(count)), int(more[1]) if len(more) > 1 else 0)
