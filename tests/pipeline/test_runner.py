"""What is finished is never made twice, what decides a shard is in its fingerprint, and counts add up."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.runner import Split, run_sharded, run_whole
from pipeline.shards import adopt, plan_shards, stage_facts
from pipeline.stage import Shard, ShardResult
from tests.pipeline import toy
from vcrd.errors import BusyError, SchemaError, UnfinishedError
from vcrd.io.lock import locked
from vcrd.io.manifest import read_manifest

ALL = Split()


def made(root: Path) -> list[str]:
    """Shards computed so far."""
    path = root / "log"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split()[0] for line in lines if line.startswith("part")]


def run(root: Path, stage=toy.SQUARE, workers: int = 1, **changes):
    context = toy.context(root, **changes)
    run_whole(toy.MAKE, context)
    return run_sharded(stage, context, workers, ALL)


def outputs(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((root / "data/toy/squares").iterdir())}


def test_rows_and_rejects_add_up_to_what_was_expected(tmp_path: Path) -> None:
    manifest = run(tmp_path)
    assert (manifest.rows, manifest.expected, manifest.rejects) == (36, 40, {"round": 4})
    assert read_manifest(tmp_path / "data/toy/squares") == manifest
    assert list((tmp_path / "data/toy/rejects/square").glob("*.parquet"))


def test_a_second_run_makes_nothing_and_gives_the_same_bytes(tmp_path: Path) -> None:
    run(tmp_path)
    before = outputs(tmp_path)
    run(tmp_path)
    assert len(made(tmp_path)) == 4
    assert outputs(tmp_path) == before


def test_workers_change_no_byte(tmp_path: Path) -> None:
    run(tmp_path / "one")
    run(tmp_path / "two", workers=2)
    assert outputs(tmp_path / "one") == outputs(tmp_path / "two")


@pytest.mark.parametrize("what", ["add", "version", "schema name", "input"])
def test_whatever_decides_the_output_makes_it_anew(tmp_path: Path, what: str) -> None:
    run(tmp_path)
    stage, changes = toy.SQUARE, {}
    if what == "add":
        changes = {"add": 2}
    elif what == "version":
        stage = replace(stage, version=2)
    elif what == "schema name":
        changes = {"num_shards": 5}
    else:
        stage = replace(stage, facts=lambda context: {"model": "another"})
    run(tmp_path, stage, **changes)
    assert len(made(tmp_path)) == 4 + (5 if what == "schema name" else 4)


def test_going_back_adopts_what_was_made_before(tmp_path: Path) -> None:
    run(tmp_path, add=1)
    first = outputs(tmp_path)
    run(tmp_path, add=2)
    run(tmp_path, add=1)
    assert len(made(tmp_path)) == 8
    assert outputs(tmp_path) == first


@pytest.mark.parametrize("damage", ["flip", "empty", "gone", "swap", "torn entry"])
def test_a_damaged_shard_is_made_again_and_only_that_one(tmp_path: Path, damage: str) -> None:
    run(tmp_path)
    before = outputs(tmp_path)
    context = toy.context(tmp_path)
    tasks = plan_shards(toy.SQUARE, context, stage_facts(toy.SQUARE, context))
    path = tasks[1].rows_path
    if damage == "flip":
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(bytes(raw))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "gone":
        path.unlink()
    elif damage == "swap":
        path.write_bytes(tasks[2].rows_path.read_bytes())
    else:
        tasks[1].entry_path.write_text(tasks[1].entry_path.read_text()[:40])
    assert [adopt(task) is None for task in tasks] == [False, True, False, False]
    run(tmp_path)
    assert made(tmp_path)[4:] == [tasks[1].file]
    assert outputs(tmp_path) == before


def test_too_many_rejects_fail_and_keep_what_was_made(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"square rejected 4 of 40 rows \(round 4\); the limit is 5%"):
        run(tmp_path, max_reject_share=0.05)
    assert not (tmp_path / "data/toy/squares").exists()
    run(tmp_path)
    assert len(made(tmp_path)) == 4


def test_a_second_writer_is_turned_away(tmp_path: Path) -> None:
    run(tmp_path)
    scratch = toy.context(tmp_path).layout.scratch("square")
    with locked(scratch / ".lock"), pytest.raises(BusyError):
        run(tmp_path)


def test_tasks_of_a_job_array_share_the_work(tmp_path: Path) -> None:
    context = toy.context(tmp_path)
    run_whole(toy.MAKE, context)
    for index in range(3):
        assert run_sharded(toy.SQUARE, context, 1, Split(index, 3)) is None
    assert sorted(made(tmp_path)) == [f"part-0000{index}.parquet" for index in range(4)]
    run_sharded(toy.SQUARE, context, 1, ALL)
    assert len(made(tmp_path)) == 4


def test_a_sample_has_its_own_place(tmp_path: Path) -> None:
    run(tmp_path)
    before = outputs(tmp_path)
    context = toy.context(tmp_path)
    sample = replace(context, layout=context.layout.sample(), only_problems=frozenset({"n1", "n2"}))
    sample = replace(sample, layout=replace(sample.layout, data=tmp_path / "s/data", hidden=tmp_path / "s/hidden"))
    manifest = run_sharded(toy.SQUARE, sample, 1, ALL)
    assert manifest.rows == 2
    assert outputs(tmp_path) == before


def test_an_inputs_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    for path in sorted((tmp_path / "data/toy/numbers").glob("*.parquet")):
        raw = bytearray(path.read_bytes())
        for position in range(8, len(raw), 97):
            raw[position] ^= 1
            path.write_bytes(bytes(raw))
            with pytest.raises(SchemaError, match="differs from the manifest"):
                toy.context(tmp_path).select(toy.NUMBERS, [path])
            raw[position] ^= 1


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(context, out):
        (out / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        run_whole(replace(toy.MAKE, build=fail), toy.context(tmp_path))
    assert not (tmp_path / "data").exists()
    assert not [path for path in (tmp_path / "hidden").rglob("*") if "half" in path.name or ".tmp-" in path.name]


def late(add: int, shard: Shard) -> ShardResult:
    time.sleep(0.4)
    return toy.work(add, shard)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_deadline_begins_no_other_shard_and_the_next_run_ends_it(tmp_path: Path, workers: int) -> None:
    context, stage = toy.context(tmp_path), replace(toy.SQUARE, work=late)
    run_whole(toy.MAKE, context)
    with pytest.raises(UnfinishedError, match=r"the deadline left . of . shards to be made; run it again"):
        run_sharded(stage, context, workers, ALL, deadline=0.2)
    assert 1 <= len(made(tmp_path)) <= workers
    assert not (tmp_path / "data/toy/squares").exists()
    assert run_sharded(stage, context, workers, ALL) is not None
    assert sorted(made(tmp_path)) == sorted(entry.file for entry in read_manifest(tmp_path / "data/toy/squares").files)
