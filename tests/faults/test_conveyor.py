"""The claims of `python -m benchmarks.faults` about the conveyor, each with fewer cases."""

from pathlib import Path

import pytest

from benchmarks.faults.crashes import crash_everywhere
from benchmarks.faults.damages import damage_all
from benchmarks.faults.writers import double_starts, losing_repro, orphans


@pytest.mark.parametrize("stage", ["numbers", "squares"])
def test_a_crash_at_any_point_of_a_commit_is_undone_by_the_next_run(tmp_path: Path, stage: str) -> None:
    found = crash_everywhere(tmp_path, [stage])
    assert len(found) == 8
    assert not {name: fault for name, fault in found.items() if fault}


def test_of_two_writers_one_wins_and_the_other_says_why_it_does_not(tmp_path: Path) -> None:
    assert double_starts(tmp_path, 2) == []
    assert losing_repro(tmp_path) is None


def test_the_orphans_of_a_killed_dvc_are_in_nobodys_way(tmp_path: Path) -> None:
    assert orphans(tmp_path, 1, seed=1) == []


def test_every_damage_is_found_and_only_what_it_hit_is_made_again(tmp_path: Path) -> None:
    assert damage_all(tmp_path, {"bit flip": 33, "truncation": 11, "empty file": 11, "swapped shards": 6}, seed=1) == []
