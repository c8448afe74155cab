"""The claims of `python -m benchmarks.faults` about the conveyor, each with fewer cases."""

from pathlib import Path

import pytest

from benchmarks.faults.crashes import crash_everywhere
from benchmarks.faults.damages import damage_all
from benchmarks.faults.full_disk import fill_all
from benchmarks.faults.stale import blind_parameters, reused, undeclared_sections
from benchmarks.faults.writers import double_starts, losing_repro, orphans
from tests.workspace import ROOT


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


def test_a_full_disk_is_named_hides_nothing_half_and_costs_nothing_finished(tmp_path: Path) -> None:
    found = fill_all(tmp_path, [1_200_000])
    assert found == {1_200_000: None}


def test_what_decides_a_shard_makes_it_anew_and_nothing_else_does(tmp_path: Path) -> None:
    assert reused(tmp_path) == []


def test_every_parameter_of_a_real_stage_is_in_its_fingerprint() -> None:
    blind, count = blind_parameters(ROOT / "presets/demo-math.yaml")
    assert count > 100
    assert (blind, undeclared_sections()) == ([], [])
