"""A real engine killed in the middle of a shard: another takes the shard up three times, then the run ends cleanly.

The stage is the demo's own; from within, amid a shard, it kills its process, which is that of its engine and of vLLM's
core. How often is read from the file `deaths`; every beginning is a line in `begun`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.claims import state
from benchmarks.faults.demo import Demo, demo_rows
from benchmarks.faults.project import committed
from benchmarks.faults.same_bytes import Agreement, compare_rollouts
from pipeline.engines import EngineParams
from pipeline.executors.restarts import MOST_RESTARTS
from pipeline.shards import shard_file
from pipeline.stage import Shard, ShardResult
from stages.generate_rollouts import STAGE
from vcrd.errors import VcrdError

VICTIM = shard_file(1)
SIZES = ["16", "16", "8", "4"]
VLLM = ("engine.name=vllm", "engine.max_model_len=192", "engine.max_in_flight=4")


def work(engine: Any, shard: Shard) -> ShardResult:
    """Do the stage's work, and die with the second requests of a shard in flight while it has deaths left."""
    root, size = shard.context.layout.data.parent, shard.context.settings.get(EngineParams).batch_size
    with (root / "begun").open("a") as file:
        file.write(f"{shard.file} {size}\n")
    supervisor, told = engine.tell_in_flight, count(1)

    def tell_in_flight(names: Collection[str]) -> None:
        supervisor(names)
        deaths = json.loads((root / "deaths").read_text())
        if next(told) == 2 and deaths.get(shard.file):
            deaths[shard.file] -= 1
            (root / "deaths").write_text(json.dumps(deaths))
            os.kill(os.getpid(), signal.SIGKILL)

    engine.tell_in_flight = tell_in_flight
    try:
        return STAGE.work(engine, shard)
    finally:
        engine.tell_in_flight = supervisor


class MortalDemo(Demo):
    """A run whose engine dies while it generates."""

    def __init__(self, root: Path, deaths: Mapping[str, int], *changes: str, count: int = 100) -> None:
        """Prepare it; `deaths` says how often each shard costs its engine."""
        super().__init__(root, demo_rows(count), "rollouts.per_problem=1", *changes)
        self.stages[STAGE.name] = replace(STAGE, work=work)
        (root / "deaths").write_text(json.dumps(deaths))
        self.prepare()

    def begun(self, file: str) -> list[str]:
        """Batch sizes with which a shard was begun."""
        lines = (self.root / "begun").read_text().splitlines()
        return [line.split()[1] for line in lines if line.split()[0] == file]

    def finished(self) -> dict[str, tuple[int, int]]:
        """Return what the stage has committed."""
        scratch = str(self.context.layout.scratch(STAGE.name))
        return {path: identity for path, identity in committed(self.root).items() if path.startswith(scratch)}


def survived(folder: Path, calm: Demo, *changes: str) -> tuple[list[str], Agreement]:
    """Kill the engine once in the first shard and three times in the second; say what is wrong, and compare."""
    demo = MortalDemo(folder, {shard_file(0): 1, VICTIM: MOST_RESTARTS}, *changes)
    demo.make(STAGE.name)
    faults = []
    if demo.begun(VICTIM) != SIZES:
        faults.append(f"{VICTIM} was begun with batches of {demo.begun(VICTIM)}, expected {SIZES}")
    if demo.begun(shard_file(0)) != SIZES[:2]:
        faults.append(f"the first shard was begun with batches of {demo.begun(shard_file(0))}")
    if demo.digests("rollouts")[shard_file(0)] != calm.digests("rollouts")[shard_file(0)]:
        faults.append("one kill changed a byte")
    return faults, compare_rollouts(calm, demo)


def failed(folder: Path, *changes: str) -> tuple[list[str], MortalDemo]:
    """Kill the engine four times in the second shard, then run again; say what is wrong."""
    demo = MortalDemo(folder, {VICTIM: MOST_RESTARTS + 1}, *changes)
    faults, said = [], "nothing"
    try:
        demo.make(STAGE.name)
    except VcrdError as error:
        said = str(error)
        faults += [f"exit code {error.exit_code}"] if error.exit_code != 1 else []
    expected = (VICTIM, "cost 4 workers", "in flight (", "engine.batch_size 4", "finished shards are kept")
    faults += [f"the failure does not say {words!r}: {said}" for words in expected if words not in said]
    before = demo.finished()
    if len(before) != 1:
        faults.append(f"{len(before)} shards were kept, expected the first")
    demo.make(STAGE.name)
    after = demo.finished()
    faults += [f"{path} was made again" for path, identity in before.items() if after.get(path) != identity]
    return faults, demo


def claims() -> Iterator[bool]:
    """Both engines, the second where it is installed."""
    with tempfile.TemporaryDirectory() as name:
        yield _claim(Path(name) / "transformers", "the transformers engine's process")
        if find_spec("vllm"):
            yield _claim(Path(name) / "vllm", "the process of vLLM's core", *VLLM)


def _claim(folder: Path, who: str, *changes: str) -> bool:
    folder.mkdir()
    calm = MortalDemo(folder / "calm", {}, *changes)
    calm.make(STAGE.name)
    faults, agreement = survived(folder / "survived", calm, *changes)
    more, resumed = failed(folder / "failed", *changes)
    faults += more
    if not changes and resumed.digests("rollouts") != calm.digests("rollouts"):
        faults.append("the run after the failure gave other bytes")
    if agreement.rate < 0.9 if changes else agreement.apart or agreement.logprob > 1e-4:
        faults.append("answers in smaller batches are others")
    sys.stderr.writelines(f"{who}: {line}\n" for line in (*faults, agreement))
    text = (
        f"{who}, killed with -9 three times in a shard and then four times: faults ({agreement.rate:.1%} same tokens)"
    )
    return state(text, len(faults), 0, "lower", n=2 * MOST_RESTARTS + 2)
