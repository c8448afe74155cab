"""kill -9 at any moment: nothing is lost, nothing finished is computed again, and the result is the same bytes."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Protocol

import psutil

from benchmarks.claims import state
from benchmarks.faults.project import Project

VICTIMS = ("dvc", "stage", "engine")
_PATIENCE_SECONDS, _ALONE_SECONDS = 300, 30


class Runnable(Protocol):
    """A project whose chain can be started."""

    root: Path

    def start(self, *command: str, log: Path | None = None) -> Popen[str]:
        """Start a command in it."""

    def finished(self) -> dict[str, tuple[int, int]]:
        """What is committed to scratch, and what tells a file from one written anew."""


@dataclass
class Toll:
    """What was killed, and what was wrong after it."""

    killed: Counter[str] = field(default_factory=Counter)
    redone: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)
    ended_badly: list[str] = field(default_factory=list)
    unlocked: int = 0

    @property
    def faults(self) -> list[str]:
        """All that was wrong."""
        return [*self.redone, *self.left_behind, *self.ended_badly]


def unlock(root: Path) -> bool:
    """Remove DVC's own lock file if DVC was killed while it wrote it; tell whether it was.

    DVC does not write it in one act, and asks whoever finds it broken to remove it (docs/troubleshooting.md).
    """
    path = root / ".dvc/tmp/rwlock"
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except ValueError:
        path.unlink()
        return True
    return False


def processes_of(dvc: psutil.Process) -> dict[str, list[psutil.Process]]:
    """Return the processes of a running chain by what they are: dvc, the stage's command, its workers."""
    found: dict[str, list[psutil.Process]] = {"dvc": [dvc], "stage": [], "engine": []}
    try:
        children = dvc.children(recursive=True)
    except psutil.NoSuchProcess:
        return found
    for child in children:
        try:
            words = " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            continue
        if "spawn_main" in words:
            found["engine"].append(child)
        elif "stages." in words:
            found["stage"].append(child)
    return found


def strike(
    dvc: Popen[str], wanted: str, rng: random.Random, after: float
) -> tuple[str, list[psutil.Process]] | tuple[None, None]:
    """Kill one of `wanted` at a moment within `after` seconds of its being there; dvc also amid or behind a stage.

    Returns:
        What was killed and all that was there then; None where the chain ended before.
    """
    process, awaited = psutil.Process(dvc.pid), rng.choice(VICTIMS) if wanted == "dvc" else wanted
    _await(dvc, awaited)
    time.sleep(rng.uniform(0.0, after))
    found = processes_of(process) if dvc.poll() is None else {}
    kind = next((kind for kind in (wanted, "stage", "dvc") if found.get(kind)), None)
    if kind is None:
        return None, None
    try:
        os.kill(rng.choice(found[kind]).pid, signal.SIGKILL)
    except ProcessLookupError:
        return None, None
    return kind, [one for several in found.values() for one in several]


def _await(dvc: Popen[str], wanted: str) -> None:
    """Wait for a kind of process, for a while only where a long stage has none."""
    process, alone_since = psutil.Process(dvc.pid), math.inf
    while dvc.poll() is None and time.monotonic() - alone_since < _ALONE_SECONDS:
        found = processes_of(process)
        if found[wanted]:
            return
        alone_since = min(alone_since, time.monotonic()) if found["stage"] else math.inf
        time.sleep(0.02)


def kill_through(run: Runnable, kills: int, rng: random.Random, toll: Toll, after: float) -> None:
    """Start the chain again and again, to kill it, until it was killed so often or has come to its end.

    Another takes the place of a killed engine, and the chain goes on: it is killed again.
    """
    before = sum(toll.killed.values())
    seen = run.finished()
    dvc = None
    while (done := sum(toll.killed.values()) - before) < kills:
        if dvc is None:
            toll.unlocked += unlock(run.root)
            log = run.root.parent / f"{run.root.name}-{done}.log"
            dvc = run.start("dvc", "repro", log=log)
        kind, struck = strike(dvc, VICTIMS[done % len(VICTIMS)], rng, after)
        if kind != "engine":
            dvc.wait(timeout=_PATIENCE_SECONDS)
        now = run.finished()
        toll.redone += [path for path, identity in seen.items() if now.get(path) != identity]
        seen = now
        if kind is None or struck is None:
            if dvc.returncode:
                toll.ended_badly.append(log.read_text()[-2000:])
            return
        toll.killed[kind] += 1
        if kind != "engine":
            dvc = None
            _, alive = psutil.wait_procs(struck, timeout=60)
            toll.left_behind += [f"{one} after killing {kind}" for one in alive]
    if dvc is not None:
        dvc.kill()
        dvc.wait(timeout=_PATIENCE_SECONDS)


def killed_runs(folder: Path, runs: int, kills: int, seed: int, pace: float) -> tuple[Toll, int]:
    """Kill the chain `kills` times in each of `runs` runs, let each end, and compare.

    Returns:
        What was killed, and how many runs ended with other bytes.
    """
    expected = Project(folder / "undisturbed").make_all().digests()
    toll, wrong = Toll(), 0
    for number in range(runs):
        rng, wanted = random.Random(f"{seed} {number}"), kills * (number + 1)
        # A chain that came to its end before it was killed often enough is begun anew.
        while (left := wanted - sum(toll.killed.values())) > 0:
            run = Project(folder / f"run-{number}-{left}", pace=pace)
            kill_through(run, left, rng, toll, after=6 * pace)
            wrong += not _ends_well(run, expected, toll)
    return toll, wrong


def _ends_well(run: Project, expected: dict[str, str], toll: Toll) -> bool:
    seen = run.finished()
    run.pace(0)
    toll.unlocked += unlock(run.root)
    code, said = run.run("dvc", "repro")
    if code:
        toll.ended_badly.append(said[-2000:])
    now = run.finished()
    toll.redone += [path for path, identity in seen.items() if now.get(path) != identity]
    return run.digests() == expected and not run.half_visible()


def claims() -> Iterator[bool]:
    """200 kills."""
    with tempfile.TemporaryDirectory() as folder:
        toll, wrong = killed_runs(Path(folder), runs=10, kills=20, seed=8, pace=0.25)
    for fault in toll.faults:
        sys.stderr.write(f"{fault}\n")
    count = sum(toll.killed.values())
    sys.stderr.write(f"killed: {dict(toll.killed)}\n")
    text = f"runs under kill -9 that end with other bytes ({toll.unlocked} times DVC's own lock file had to be removed)"
    yield state(text, wrong, 0, "lower", n=count)
    yield state("finished shards computed again after a kill", len(toll.redone), 0, "lower", n=count)
    yield state(
        "processes left behind and failures to resume", len(toll.faults) - len(toll.redone), 0, "lower", n=count
    )
