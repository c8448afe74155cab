"""kill -9 at any moment: nothing is lost, nothing finished is computed again, and the result is the same bytes."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.workspace import Workspace

KILLS = 20
ATTEMPTS = 60


def finished_shards(run: Workspace) -> dict[str, tuple[int, int]]:
    """Everything that is committed to scratch: its entry, and what identifies the very file."""
    scratch = run.root / ".vcrd/scratch"
    entries = [*scratch.glob("*/*/part-*.json"), *scratch.glob("*/*/*/out/_manifest.json")]
    committed = [path for path in entries if ".tmp-" not in str(path)]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in committed}


def tree(process: psutil.Process) -> dict[str, list[psutil.Process]]:
    """Processes of a running chain by what they are: dvc, the stage's command, its workers."""
    children = process.children(recursive=True)
    stage = [child for child in children if any("stages." in part for part in cmdline(child))]
    workers = [child for child in children if any("spawn_main" in part for part in cmdline(child))]
    return {"dvc": [process], "stage": stage, "engine": workers}


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def kill_once(run: Workspace, rng: random.Random, log: Path) -> str | None:
    """Start the chain, let it come to work, and kill one of its processes; None where it ended before."""
    with log.open("w") as file:
        started = subprocess.Popen(["dvc", "repro"], cwd=run.root, env=run.environment, stdout=file, stderr=file)
    wanted = rng.choice(["dvc", "stage", "engine"])
    stages = rng.choice([1, 1, 2])
    while log.read_text().count("Running stage") < stages and started.poll() is None:
        time.sleep(0.05)
    time.sleep(rng.uniform(0.0, 4.0))
    found = tree(psutil.Process(started.pid)) if started.poll() is None else {}
    victims = found.get(wanted) or found.get("stage") or found.get("dvc") or []
    if started.poll() is not None or not victims:
        started.wait()
        return None
    everyone = [process for processes in found.values() for process in processes]
    victim = rng.choice(victims)
    try:
        os.kill(victim.pid, signal.SIGKILL)
    except ProcessLookupError:
        started.wait()
        return None
    started.wait(timeout=120)
    _, alive = psutil.wait_procs(everyone, timeout=20)
    assert not alive, f"left behind after killing {wanted}: {alive}"
    return wanted


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_change_no_byte_and_repeat_no_shard(finished: Workspace, tmp_path: Path) -> None:
    run = Workspace(tmp_path / "project").small_demo()
    rng = random.Random(20)
    kills: list[str] = []
    seen: dict[str, tuple[int, int]] = {}
    for attempt in range(ATTEMPTS):
        if len(kills) == KILLS:
            break
        victim = kill_once(run, rng, tmp_path / f"{attempt}.log")
        if victim is not None:
            kills.append(victim)
        now = finished_shards(run)
        redone = [path for path, identity in seen.items() if now.get(path) != identity]
        assert not redone, f"computed again after kill {len(kills)}: {redone}"
        seen = now
        if victim is None and not (run.root / "data/demo-math/report").is_dir():
            said = (tmp_path / f"{attempt}.log").read_text()
            pytest.fail(f"the chain ended by itself before its end:\n{said[-3000:]}")
        if victim is None:  # it has come to its end: start over, in a chain that must recompute what is left
            break
    run.repro()
    assert len(kills) >= KILLS, f"only {len(kills)} kills before the chain was done: {kills}"
    assert set(kills) == {"dvc", "stage", "engine"}
    assert {path: identity for path, identity in finished_shards(run).items() if path in seen} == seen
    assert run.digests() == finished.digests()
