"""No second writer: of two that start together one works, and the other says so and changes nothing."""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.claims import state
from benchmarks.faults.kills import processes_of
from benchmarks.faults.project import Project

BUSY = 75
_SAID = "is locked: another process runs this stage; wait for it or stop it"
_PATIENCE_SECONDS = 120.0


def double_start(project: Project, stage: str) -> str | None:
    """Start a stage twice at once, and let the winner go on when the other has ended; say what was wrong."""
    gate = project.root / "closed"
    gate.touch()
    logs = [project.root.parent / f"{project.root.name}-{which}.log" for which in ("one", "two")]
    both = [project.start(sys.executable, "-m", f"stages.{stage}", log=log) for log in logs]
    until = time.monotonic() + _PATIENCE_SECONDS
    while all(process.poll() is None for process in both) and time.monotonic() < until:
        time.sleep(0.02)
    loser = next((place for place, process in enumerate(both) if process.poll() is not None), None)
    gate.unlink()
    codes = [process.wait(_PATIENCE_SECONDS) for process in both]
    if loser is None:
        return "both worked"
    said = logs[loser].read_text()
    if codes[loser] != BUSY or _SAID not in said or len(said.splitlines()) != 1:
        return f"the loser ended with {codes[loser]}, saying: {said[-500:]}"
    return None if codes[1 - loser] == 0 else f"the winner ended with {codes[1 - loser]}"


def double_starts(folder: Path, starts: int) -> list[str]:
    """Start stages twice; returns what was wrong, other bytes and shards computed twice included."""
    expected = Project(folder / "undisturbed", "run.num_shards=2").make_all()
    faults = []
    ready = Project(folder / "ready", "run.num_shards=2", "run.workers=1")
    ready.make("numbers")
    for number in range(starts):
        project = ready.copy(folder / f"double-{number}")
        fault = double_start(project, "squares")
        shards = [line for line in project.begun() if line.startswith("squares")]
        if fault is None and len(shards) != len(set(shards)):
            fault = "a shard was computed twice"
        if fault is None and project.digests("squares") != expected.digests("squares"):
            fault = "other bytes"
        faults += [fault] if fault else []
    return faults


def losing_repro(folder: Path) -> str | None:
    """Run `dvc repro` beside a stage that works; say what was wrong with how it fails."""
    project = Project(folder / "losing", "run.num_shards=2", "run.workers=1")
    project.make("numbers")
    (project.root / "closed").touch()
    log = folder / "winner.log"
    winner = project.start(sys.executable, "-m", "stages.squares", log=log)
    while not any(line.startswith("squares") for line in project.begun()) and winner.poll() is None:
        time.sleep(0.02)
    code, said = project.run("dvc", "repro", "--single-item", "squares")
    (project.root / "closed").unlink()
    if winner.wait(_PATIENCE_SECONDS):
        return f"the winner failed: {log.read_text()[-500:]}"
    return None if code and _SAID in said else f"dvc ended with {code}, saying: {said[-500:]}"


def orphans(folder: Path, times: int, seed: int) -> list[str]:
    """Kill dvc amid a stage and start it again at once; returns what was wrong with the run that follows."""
    expected = Project(folder / "whole").make_all().digests()
    rng, faults = random.Random(seed), []
    for number in range(times):
        project = Project(folder / f"orphan-{number}", pace=0.1)
        dvc = project.start("dvc", "repro", log=folder / "orphan.log")
        process = psutil.Process(dvc.pid)
        while not processes_of(process)["engine"] and dvc.poll() is None:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 1))
        os.kill(dvc.pid, signal.SIGKILL)
        dvc.wait()
        code, said = project.run("dvc", "repro")
        if code or project.digests() != expected:
            faults.append(f"the next run ended with {code}, saying: {said[-500:]}")
    return faults


def claims() -> Iterator[bool]:
    """50 double starts, 5 losing repros, 10 orphans."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        faults = double_starts(folder / "doubles", 50)
        yield state("double starts that do not end with one winner and the same bytes", len(faults), 0, "lower", n=50)
        lost = [fault for number in range(5) if (fault := losing_repro(folder / f"losing-{number}"))]
        yield state("losing repros that do not fail with the reason", len(lost), 0, "lower", n=5)
        orphaned = orphans(folder / "orphans", 10, seed=8)
        text = "runs after a killed dvc that its orphans block or corrupt"
        yield state(text, len(orphaned), 0, "lower", n=10)
    sys.stderr.writelines(f"{fault}\n" for fault in [*faults, *lost, *orphaned])
