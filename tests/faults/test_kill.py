"""kill -9 at any moment: nothing is lost, nothing finished is computed again, and the result is the same bytes."""

import random
from pathlib import Path

import pytest

from benchmarks.faults.kills import VICTIMS, Toll, kill_through, unlock
from tests.workspace import Workspace

KILLS = 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_change_no_byte_and_repeat_no_shard(finished: Workspace, tmp_path: Path) -> None:
    run = Workspace(tmp_path / "project").small_demo()
    toll = Toll()
    kill_through(run, KILLS, random.Random(20), toll, after=4.0)
    assert not toll.faults
    seen = run.finished()
    unlock(run.root)
    run.repro()
    assert sum(toll.killed.values()) >= KILLS, f"too few kills before the chain was done: {toll.killed}"
    assert set(toll.killed) == set(VICTIMS)
    assert {path: identity for path, identity in run.finished().items() if path in seen} == seen
    assert run.digests() == finished.digests()
