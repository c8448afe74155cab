"""SIGKILL during push and pull: a reader sees all or nothing, and the same command again finishes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hub_server import Hub
from tests.vcrd.hub_users import User, files_of

REPO = "org/made"
POINTS = 10
FEW = ("--only", "training")


def test_killed_pushes_are_never_seen_by_half_and_the_next_one_finishes(
    hub: Hub, user: User, small_run: Path, tmp_path: Path
) -> None:
    user.check("push", small_run, REPO, *FEW)
    whole, requests = hub.files(REPO), len(hub.requests)
    commits = [index for index, request in enumerate(hub.requests, 1) if "/commit/" in request]
    points = sorted({1 + index * (requests - 1) // (POINTS - 2) for index in range(POINTS - 1)} | set(commits))
    assert len(points) >= POINTS - 1
    for moment, kill_at in [*(("before", point) for point in points), ("behind", commits[0])]:
        hub.repos.clear()
        hub.objects.clear()
        done = user.vcrd("push", small_run, REPO, *FEW, kill_at=kill_at, moment=moment)
        assert done.rc == -9, (moment, kill_at, done.out)
        assert hub.files(REPO) in ({}, whole), (moment, kill_at)
        there = len(hub.objects)
        sent = len(hub.requests)
        user.check("push", small_run, REPO, *FEW)
        assert hub.files(REPO) == whole
        puts = [request for request in hub.requests[sent:] if request.startswith("PUT")]
        assert len(puts) == len(hub.objects) - there
        assert len(hub.repos[REPO].commits) == 2


def test_killed_pulls_are_never_seen_by_half_and_the_next_one_finishes(
    hub: Hub, user: User, small_run: Path, tmp_path: Path
) -> None:
    user.check("push", small_run, REPO, *FEW)
    hub.requests.clear()
    user.check("pull", REPO, tmp_path / "first" / "made")
    whole, requests = files_of(tmp_path / "first" / "made"), len(hub.requests)
    for index in range(POINTS):
        kill_at = 1 + index * (requests - 1) // (POINTS - 1)
        folder = tmp_path / f"k{kill_at}" / "made"
        done = user.vcrd("pull", REPO, folder, kill_at=kill_at)
        assert done.rc == -9, (kill_at, done.out)
        assert not folder.exists()
        hub.requests.clear()
        user.check("pull", REPO, folder)
        assert len(hub.requests) <= requests - kill_at + 6
        assert files_of(folder) == whole
        assert [path.name for path in folder.parent.iterdir()] == ["made"]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_pull_killed_while_it_replaces_a_folder_leaves_all_of_one_and_the_next_one_finishes(
    user: User, small_run: Path, tmp_path: Path, renames: int
) -> None:
    """The old folder is renamed away, then the new one into its place: between the two there is none."""
    folder = tmp_path / "in" / "made"
    user.check("push", small_run, REPO, *FEW)
    user.check("pull", REPO, folder)
    old = files_of(folder)
    user.check("push", small_run, "org/other")
    done = user.vcrd("pull", "org/other", folder, "--overwrite", kill_at_renames=renames)
    assert done.rc == -9, done.out
    between = files_of(folder) if folder.exists() else None
    hidden = files_of(folder.with_name(".tmp-old-made")) if renames else None
    user.check("pull", "org/other", folder, "--overwrite")
    new = files_of(folder)
    assert new != old
    assert between == {0: old, 1: None, 2: new}[renames]
    assert hidden == (old if renames else None)
    assert [path.name for path in folder.parent.iterdir()] == ["made"]


def test_a_first_pull_killed_before_its_folder_appears_is_finished_by_the_next(
    user: User, small_run: Path, tmp_path: Path
) -> None:
    user.check("push", small_run, REPO, *FEW)
    folder = tmp_path / "in" / "made"
    for renames in (0, 1):
        assert user.vcrd("pull", REPO, folder, kill_at_renames=renames).rc == -9
        assert folder.exists() == (renames == 1)
    assert json.loads(user.check("pull", REPO, folder, "--json"))["downloaded"] == 0
    assert [path.name for path in folder.parent.iterdir()] == ["made"]
