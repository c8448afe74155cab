"""Who runs the shards: processes on this machine, or (an extra) a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec

from pipeline.executors import local
from pipeline.shards import ShardTask
from pipeline.stage import Context, ShardedStage
from vcrd.errors import ConfigError
from vcrd.io.manifest import FileEntry


def run_tasks(
    stage: ShardedStage, context: Context, tasks: Iterable[ShardTask], workers: int, tokens: Callable[[int], None]
) -> Iterator[FileEntry]:
    """Make shards where `run.executor` says and yield their entries as they are committed.

    Args:
        stage: What to run.
        context: Of the run.
        tasks: Taken one by one as workers become free.
        workers: How many, of whom each loads what the stage needs.
        tokens: Hears of tokens done.

    Raises:
        ConfigError: It says ray, which is not installed.
    """
    if context.settings.run.executor == "local":
        return local.run_tasks(stage, context, tasks, workers, tokens)
    if find_spec("ray") is None:
        raise ConfigError("run.executor is ray, but ray is not installed: pip install 'vcrd[ray]', or set it to local")
    from pipeline.executors import ray

    return ray.run_tasks(stage, context, tasks, workers, tokens)
