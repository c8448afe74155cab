"""Shards on Ray workers: the bytes of local ones, a lost worker costs the shard it was at, and errors arrive whole."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import ray
from ray.exceptions import OutOfMemoryError

from pipeline.runner import Split, run_sharded, run_whole
from pipeline.stage import Context, Shard, ShardedStage, ShardResult
from tests.pipeline import toy
from tests.pipeline.test_restarts import STAGE as MORTAL
from tests.pipeline.test_restarts import short_of_memory, with_engine
from tests.pipeline.test_runner import made, outputs
from tests.workspace import Workspace
from vcrd.errors import SchemaError, VcrdError
from vcrd.io.manifest import FileEntry

SHARDS = 16


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One for all tests of this file: starting one takes seconds."""
    paths = {"PYTHONPATH": str(Path.cwd()), "RAY_USAGE_STATS_ENABLED": "0"}
    ray.init("local", num_cpus=4, include_dashboard=False, runtime_env={"env_vars": paths}, logging_level="ERROR")
    yield
    ray.shutdown()


def run(root: Path, stage: ShardedStage, executor: str = "ray", workers: int = 2) -> None:
    context = with_engine(toy.context(root, num_shards=SHARDS))
    run_settings = replace(context.settings.run, executor=executor)
    context = replace(context, settings=replace(context.settings, run=run_settings))
    run_whole(toy.MAKE, context)
    run_sharded(stage, context, workers, Split())


def slowly(add: int, shard: Shard) -> ShardResult:
    time.sleep(0.25)
    return toy.work(add, shard)


def refuse(add: int, shard: Shard) -> ShardResult:
    raise SchemaError("no square", file=shard.file, column="value", row=3)


def die(add: int, shard: Shard) -> ShardResult:
    os._exit(1)


def die_loading(context: Context) -> int:
    os._exit(1)


def workers_at_work() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "_Worker" in name_of(child)]


def name_of(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def test_the_bytes_are_those_of_local_workers(tmp_path: Path) -> None:
    run(tmp_path / "local", toy.SQUARE, "local", workers=1)
    run(tmp_path / "ray", toy.SQUARE)
    assert outputs(tmp_path / "ray") == outputs(tmp_path / "local")
    assert sorted(made(tmp_path / "ray")) == sorted(made(tmp_path / "local"))


def test_five_kills_change_no_byte_and_repeat_nothing_that_was_finished(tmp_path: Path) -> None:
    rng, killed, stop = random.Random(5), [], threading.Event()

    def kill() -> None:
        while len(killed) < 5 and not stop.wait(0.1):
            found = [child for child in workers_at_work() if child.pid not in killed]
            if found and made(tmp_path / "ray"):
                victim = rng.choice(found)
                os.kill(victim.pid, signal.SIGKILL)
                killed.append(victim.pid)
                stop.wait(rng.uniform(0.2, 0.6))

    killer = threading.Thread(target=kill)
    killer.start()
    run(tmp_path / "ray", replace(toy.SQUARE, work=slowly))
    stop.set()
    killer.join()
    run(tmp_path / "local", toy.SQUARE, "local", workers=1)
    assert len(killed) == 5
    assert outputs(tmp_path / "ray") == outputs(tmp_path / "local")
    begun = made(tmp_path / "ray")
    assert len(set(begun)) == SHARDS
    assert len(begun) <= SHARDS + len(killed), "a kill costs one shard at most"


def test_an_error_of_the_stage_arrives_as_it_was_raised(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no square") as error:
        run(tmp_path, replace(toy.SQUARE, work=refuse))
    assert (error.value.column, error.value.row) == ("value", 3)


@pytest.mark.parametrize("broken", [{"work": die}, {"load": die_loading}])
def test_what_always_kills_its_worker_ends_the_stage(tmp_path: Path, broken: dict) -> None:
    with pytest.raises(VcrdError, match=r"cost 4 workers.*finished shards are kept"):
        run(tmp_path, replace(toy.SQUARE, **broken), workers=1)


def test_a_shard_for_which_memory_is_short_is_made_in_smaller_batches(tmp_path: Path) -> None:
    run(tmp_path / "ray", replace(MORTAL, work=short_of_memory))
    run(tmp_path / "local", MORTAL, "local", workers=1)
    assert outputs(tmp_path / "ray") == outputs(tmp_path / "local")
    assert len(made(tmp_path / "ray")) == SHARDS


def test_a_worker_that_ray_kills_for_memory_costs_one_restart_at_half_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    get, killed = ray.get, []

    def get_or_be_short(answer: object) -> object:
        said = get(answer)
        if isinstance(said, FileEntry) and not killed:
            killed.append(said.file)
            raise OutOfMemoryError("1 worker(s) were killed due to the node running low on memory")
        return said

    monkeypatch.setattr(ray, "get", get_or_be_short)
    run(tmp_path, MORTAL)
    assert f"{killed[0]} lost its worker" in (said := capfd.readouterr().err)
    assert "low on memory; restart 1 of 3 with engine.batch_size 2 and" in said
    assert len(made(tmp_path)) == SHARDS, "it was finished already"


@pytest.mark.slow
def test_proposals_of_the_demo_are_the_same_bytes(finished: Workspace, tmp_path: Path) -> None:
    other = finished.copy(tmp_path / "project")
    before = {name: digest for name, digest in finished.digests().items() if name.startswith("proposals/")}
    params = (other.root / "params.yaml").read_text()
    (other.root / "params.yaml").write_text(params.replace("executor: local", "executor: ray"))
    other.check("rm", "-r", ".vcrd/scratch/demo-math/propose_steps", "data/demo-math/proposals")
    done = other.stage("propose_steps")
    assert done.returncode == 0, done.stderr
    assert {name: digest for name, digest in other.digests().items() if name.startswith("proposals/")} == before
