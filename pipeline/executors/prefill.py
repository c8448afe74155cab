"""What sharing prefixes saved: told for every shard on standard error, and in no output.

Engines are not imported here: every stage has an executor, and their code would count as that of stages without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vcrd.io.progress import say


def engine_in(loaded: Any) -> Any | None:
    """Return the engine among what a stage loaded, if there is one."""
    parts = loaded if isinstance(loaded, tuple) else (loaded,)
    return next((part for part in parts if hasattr(part, "prefilled")), None)


@contextmanager
def telling_prefill(label: str, loaded: Any) -> Iterator[None]:
    """Tell how many prompt tokens the engine among what a stage loaded computed meanwhile, if there is one."""
    engine = engine_in(loaded)
    if engine is None:
        yield
        return
    before = engine.prefilled
    yield
    done = engine.prefilled - before
    if done.asked:
        shared = round(100 * done.hit_rate)
        say(f"{label}: {done.computed:,} of {done.asked:,} prompt tokens computed ({shared} % shared)")
