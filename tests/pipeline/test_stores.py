"""Machines that share an object store alone: the bytes of one machine, whoever is killed, late or damaged."""

import hashlib
import os
import random
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cli import describe
from pipeline.executors.local import run_one
from pipeline.runner import Split, run_sharded, run_whole
from pipeline.shards import plan_shards, stage_facts
from tests.pipeline import store_writer, toy
from tests.pipeline.store_writer import differently
from tests.pipeline.test_runner import made, outputs
from tests.s3_server import S3, SECRET, forget_clients
from tests.workspace import ROOT
from vcrd.errors import ConfigError
from vcrd.io.files import json_text, sealed
from vcrd.io.stores import StorePath, as_path

ALL = Split()


def machine(*arguments: object) -> subprocess.Popen[str]:
    """Start a process that shares the store; it has the environment of this one."""
    command = [sys.executable, "-m", "tests.pipeline.store_writer", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=dict(os.environ), stderr=subprocess.PIPE, text=True)


def local(root: Path) -> dict[str, bytes]:
    here = toy.context(root)
    run_whole(toy.MAKE, here)
    run_sharded(toy.SQUARE, here, 1, ALL)
    return outputs(root)


def assemble(root: Path, url: str) -> dict[str, bytes]:
    store_writer.run(root, url, ALL)
    return outputs(root)


def test_tasks_on_two_machines_make_what_one_machine_makes(s3: S3, tmp_path: Path) -> None:
    url = f"{s3.bucket()}/run"
    tasks = [machine(tmp_path / str(index), url, index, 2) for index in range(2)]
    assert [task.communicate()[1] for task in tasks if task.wait()] == []
    assert sorted(made(tmp_path / "0") + made(tmp_path / "1")) == [f"part-0000{index}.parquet" for index in range(4)]
    assert assemble(tmp_path / "last", url) == local(tmp_path / "local")
    assert made(tmp_path / "last") == []
    assert "of which 4 are finished" in describe(toy.SQUARE, store_writer.context(tmp_path / "last", url))
    assert not any(SECRET.encode() in data for data in s3.contents(url).values())


@pytest.mark.parametrize("objects", [1, 3])
def test_a_writer_that_is_killed_leaves_nothing_that_is_read(s3: S3, tmp_path: Path, objects: int) -> None:
    url = f"{s3.bucket()}/run"
    victim = machine(tmp_path / "victim", url, 0, 1, objects, 5)  # what it puts differs from what others would
    assert victim.wait() == -9
    left = s3.contents(f"{url}/toy/square")
    assert len(left) == objects
    assert assemble(tmp_path / "next", url) == local(tmp_path / "local")
    assert len(made(tmp_path / "next")) == 4
    found = s3.contents(f"{url}/toy/square")
    assert len(found) == 4 * 4, "three files and an index for each shard, and nothing of the victim's"


def test_what_was_finished_before_a_kill_is_put_by_the_next_run(s3: S3, tmp_path: Path) -> None:
    url = f"{s3.bucket()}/run"
    assert machine(tmp_path / "one", url, 0, 1, 1).wait() == -9
    assert assemble(tmp_path / "one", url) == local(tmp_path / "local")
    assert len(made(tmp_path / "one")) == 4, "the shard that could not be put was finished here"
    assert len(s3.contents(f"{url}/toy/square")) == 16


def test_what_a_worker_had_finished_is_put_by_the_one_that_takes_its_place(s3: S3, tmp_path: Path) -> None:
    url = f"{s3.bucket()}/run"
    context = store_writer.context(tmp_path, url)
    run_whole(toy.MAKE, context)
    run_sharded(replace(toy.SQUARE, work=store_writer.dying_before_an_index_is_put), context, 2, ALL)
    assert len(made(tmp_path)) == 4, "the shard that could not be put was finished here"
    assert len(s3.contents(f"{url}/toy/square")) == 16


def test_of_racing_writers_one_wins_and_the_others_take_its_shards(s3: S3, tmp_path: Path) -> None:
    url, writers = f"{s3.bucket()}/run", 4
    started = threading.Barrier(writers)
    contexts = [store_writer.context(tmp_path / str(index), url) for index in range(writers)]
    for context in contexts:
        run_whole(toy.MAKE, context)

    def write(index: int) -> None:
        for task in plan_shards(toy.SQUARE, contexts[index], stage_facts(toy.SQUARE, contexts[index])):
            stage = replace(toy.SQUARE, work=lambda add, shard: meet(differently(index, add, shard)))
            run_one(stage, contexts[index], 1, task, lambda tokens: None)

    def meet(result):
        started.wait()  # all have looked for the shard and made it before one of them puts it
        return result

    threads = [threading.Thread(target=write, args=(index,)) for index in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for context in contexts:
        run_sharded(toy.SQUARE, context, 1, ALL)
    first = outputs(tmp_path / "0")
    assert all(outputs(tmp_path / str(index)) == first for index in range(writers))
    assert [len(made(tmp_path / str(index))) for index in range(writers)] == [4] * writers
    assert assemble(tmp_path / "late", url) == first
    assert made(tmp_path / "late") == []


@pytest.mark.parametrize("damage", ["flip", "gone", "torn index", "index of another", "index that leads out"])
def test_a_damaged_shard_is_made_again_and_put_again(s3: S3, tmp_path: Path, damage: str) -> None:
    url = f"{s3.bucket()}/run"
    expected = assemble(tmp_path / "one", url)
    store, context = s3.contents(f"{url}/toy/square"), store_writer.context(tmp_path / "one", url)
    tasks = plan_shards(toy.SQUARE, context, stage_facts(toy.SQUARE, context))
    place = str(tasks[1].piece.objects).removeprefix("s3://")
    index = f"{place}.json"
    largest = max((name for name in store if name.startswith(f"{place}/")), key=lambda name: len(store[name]))
    if damage == "flip":
        raw = bytearray(store[largest])
        raw[random.Random(3).randrange(len(raw))] ^= 1
        s3.files.pipe_file(largest, bytes(raw))
    elif damage == "gone":
        s3.files.rm_file(largest)
    elif damage == "torn index":
        s3.files.pipe_file(index, store[index][:40])
    elif damage == "index that leads out":
        digest = hashlib.sha256(b"evil").hexdigest()
        s3.files.pipe_file(f"{place}/{digest}", b"evil")
        s3.files.pipe_file(index, json_text(sealed({"files": {"../../../../evil": digest}})).encode())
    else:
        s3.files.pipe_file(index, store[str(tasks[2].piece.index).removeprefix("s3://")])
    assert assemble(tmp_path / "two", url) == expected
    assert made(tmp_path / "two") == [tasks[1].file]
    assert s3.contents(f"{url}/toy/square").items() >= store.items()
    assert not list(tmp_path.rglob("evil"))


def test_a_whole_stage_is_built_on_one_machine(s3: S3, tmp_path: Path) -> None:
    url = f"{s3.bucket()}/run"
    run_whole(toy.MAKE, store_writer.context(tmp_path / "one", url))

    def refuse(context, out):
        raise AssertionError("built again")

    run_whole(replace(toy.MAKE, build=refuse), store_writer.context(tmp_path / "two", url))
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "data/toy/numbers").iterdir()}
        for name in ("one", "two")
    )
    assert one == two
    victim = next(name for name in s3.contents(url) if not name.endswith(".json"))
    s3.files.pipe_file(victim, b"")
    with pytest.raises(AssertionError, match="built again"):
        run_whole(replace(toy.MAKE, build=refuse), store_writer.context(tmp_path / "three", url))


class TestRefusals:
    def test_no_such_bucket(self, s3: S3, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"s3://none-of-this-name/run/toy/.*no such bucket"):
            assemble(tmp_path, "s3://none-of-this-name/run")

    def test_no_connection_and_no_key_in_the_message(
        self, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        forget_clients()
        with pytest.raises(
            ConfigError, match=r"s3://bucket/run.*could not (read|put).*what is finished is kept"
        ) as told:
            assemble(tmp_path, "s3://bucket/run/unreached")
        assert SECRET not in str(told.value)

    def test_no_room_on_the_disk(self, s3: S3) -> None:
        url = f"{s3.bucket()}/object"
        s3.files.pipe_file(url, b"x")
        with pytest.raises(ConfigError, match="/dev/full: no space left on the disk; free some and run again"):
            StorePath.of(url).download(Path("/dev/full"))

    def test_no_driver(self) -> None:
        with pytest.raises(
            ConfigError, match=r"gs://bucket/run: the driver for gs:// is not installed.*vcrd\[stores\]"
        ):
            as_path("gs://bucket/run")

    @pytest.mark.parametrize("value", ["/somewhere", "hf://datasets/org/name", "s4://bucket/run"])
    def test_a_scratch_that_cannot_be_shared(self, value: str, tmp_path: Path) -> None:
        environment = {**os.environ, "VCRD_SCRATCH": value}
        command = [sys.executable, "-m", "stages.prepare_problems", "--dry-run"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 2
        assert "expected s3://" in done.stderr or "must be the URL" in done.stderr

    def test_nothing_is_written_by_what_reads(self) -> None:
        with pytest.raises(ConfigError, match="a store is read"):
            StorePath("s3://bucket/x").write_text("x")
