"""What follows the death of an engine: a fresh one takes its shard up, a few times, with fewer requests at a time.

Engines are not imported here, for the reason that `prefill` gives.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

from pipeline.stage import Context, ShardedStage
from vcrd.errors import VcrdError, one_line
from vcrd.io.progress import say

MOST_RESTARTS = 3
_SECTION = "engine"
_NAMED = 8
_FATAL = {"OutOfMemoryError", "AcceleratorError", "EngineDeadError"}  # of torch, of torch, of vllm
_OUT_OF_MEMORY = "out of memory"
# torch has no kind of error for a CPU's memory, nor vllm for what its workers say of theirs.
_SAYING_SO = (_OUT_OF_MEMORY, "can't allocate memory")


def has_engine(stage: ShardedStage) -> bool:
    """Tell whether a stage loads a model: it runs in a process that may die alone."""
    return _SECTION in stage.sections


def say_in_flight(names: Collection[str]) -> str:
    """Return how many requests are in flight, and the first of them.

    >>> say_in_flight([f"r{number}" for number in range(10)])
    '10 requests in flight (r0, r1, r2, r3, r4, r5, r6, r7 and 2 more)'
    >>> say_in_flight([])
    'no request in flight'
    """
    if not names:
        return "no request in flight"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    plural = "s" if len(names) > 1 else ""
    return f"{len(names)} request{plural} in flight ({', '.join(islice(names, _NAMED))}{more})"


@contextmanager
def ending_the_process(stage: ShardedStage, last_words: Callable[[str], None]) -> Iterator[None]:
    """End this process, after its last words, where its engine cannot go on: nothing else frees all that it held."""
    try:
        yield
    except Exception as error:
        why = _fatal(error) if has_engine(stage) else None
        if why is None:
            raise
        last_words(why)
        os._exit(1)


def _fatal(error: Exception) -> str | None:
    """Return why an engine cannot go on after an error; None where the error is of another kind.

    >>> _fatal(RuntimeError("Worker failed with error 'CUDA out of memory'"))
    "out of memory: Worker failed with error 'CUDA out of memory'"
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    said = not isinstance(error, VcrdError) and any(words in str(error) for words in _SAYING_SO)
    if said or isinstance(error, MemoryError) or "OutOfMemoryError" in kinds:
        return f"{_OUT_OF_MEMORY}: {one_line(error) or type(error).__name__}"
    return f"{type(error).__name__}: {one_line(error)}" if kinds & _FATAL else None


class Restarts:
    """Decides with what a shard is taken up again, and when no more.

    The first restart is at the same size where nothing speaks of memory, so that a kill changes no byte; any other
    halves the requests that are run together. An engine that was made smaller stays so for the shards after.
    """

    def __init__(self, stage: ShardedStage) -> None:
        self._stage = stage
        self._tried: dict[str, list[Context]] = defaultdict(list)

    def after_death(self, shard: str, context: Context, why: str, in_flight: str, *, memory: bool = False) -> Context:
        """Return what the fresh worker is to load.

        Args:
            shard: What the worker was at.
            context: It had loaded.
            why: It died.
            in_flight: What its engine was answering, as `say_in_flight` says it.
            memory: Memory was short.

        Raises:
            VcrdError: The shard has cost a worker more than `MOST_RESTARTS` times.
        """
        tried = self._tried[shard]
        tried.append(context)
        label = f"{self._stage.name} {shard}"
        if len(tried) > MOST_RESTARTS:
            raise VcrdError(
                f"{label} cost {len(tried)} workers, the last with {in_flight}: {why}{self._sizes_tried(tried)}; "
                f"finished shards are kept, run it again{self._remedy()}"
            )
        fresh = context
        if has_engine(self._stage) and (memory or why.startswith(_OUT_OF_MEMORY) or len(tried) > 1):
            fresh = _halved(context)
        size = f" with {_sizes(fresh)}" if has_engine(self._stage) else ""
        say(f"{label} lost its worker with {in_flight}: {why}; restart {len(tried)} of {MOST_RESTARTS}{size}")
        return fresh

    def survived(self, shard: str) -> None:
        """Forget the deaths of a shard that is made."""
        self._tried.pop(shard, None)

    def _sizes_tried(self, tried: list[Context]) -> str:
        return "; tried: " + ", then ".join(map(_sizes, tried)) if has_engine(self._stage) else ""

    def _remedy(self) -> str:
        if not has_engine(self._stage):
            return ", with fewer run.workers if memory was short"
        return (
            "; if memory was short, with fewer run.workers, which changes no byte, or a smaller engine.batch_size, "
            "engine.max_in_flight or engine.max_model_len: every stage that has an engine then makes its shards anew"
        )


def _halved(context: Context) -> Context:
    settings = context.settings
    sections = {**settings.sections, _SECTION: settings.sections[_SECTION].halved()}
    return replace(context, settings=replace(settings, sections=sections))


def _sizes(context: Context) -> str:
    engine: Any = context.settings.sections[_SECTION]
    return f"engine.batch_size {engine.batch_size} and engine.max_in_flight {engine.max_in_flight}"
