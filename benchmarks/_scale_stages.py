"""Stages whose work is waiting, or nothing, for measuring who schedules them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.runner import run_whole
from pipeline.stage import Context, Shard, ShardResult
from tests.pipeline import toy

SECONDS = 0.4


def wait(loaded: Any, shard: Shard) -> ShardResult:
    """Sleep, and give back what came in."""
    time.sleep(SECONDS)
    return nothing(loaded, shard)


def nothing(loaded: Any, shard: Shard) -> ShardResult:
    """Give back what came in."""
    numbers = shard.read(toy.NUMBERS)
    return ShardResult(numbers, [], expected=len(numbers))


def load(context: Context) -> None:
    """Load nothing."""


WAITING = replace(toy.SQUARE, work=wait, load=load)
EMPTY = replace(toy.SQUARE, work=nothing, load=load)


def prepared(root: Path, num_shards: int) -> Context:
    """Return the context of a run on Ray whose input lies in `root`."""
    context = toy.context(root, num_shards=num_shards)
    settings = replace(context.settings, run=replace(context.settings.run, executor="ray"))
    context = replace(context, settings=settings)
    run_whole(toy.MAKE, context)
    return context
