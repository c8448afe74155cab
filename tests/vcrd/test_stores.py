"""Artefacts in an object store: pushed with the manifest last, and read where they lie."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from tests.hub_server import Hub
from tests.s3_server import S3
from tests.vcrd.hub_users import User
from tests.vcrd.made_run import make_run
from tests.workspace import ROOT
from vcrd.cli.main import _group as cli
from vcrd.errors import ConfigError, SchemaError
from vcrd.hub import publish
from vcrd.io.manifest import MANIFEST_NAME
from vcrd.io.stores import StorePath, as_path
from vcrd.training.dataset import load_training_dataset
from vcrd.validate import validate


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "made", count=6)


@pytest.fixture
def pushed(s3: S3, run: Path) -> str:
    url = f"{s3.bucket()}/made"
    publish(run, url)
    return url


def test_what_is_pushed_is_the_run_byte_for_byte(s3: S3, run: Path, pushed: str) -> None:
    there = {name.partition("/made/")[2]: data for name, data in s3.contents(pushed).items()}
    assert there == {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for url, said in (
        (pushed, "it was there already"),
        (f"{pushed}-2", f"{len(there)} of {len(there)} files were put"),
    ):
        done = CliRunner().invoke(cli, ["push", str(run), url])
        assert done.exit_code == 0, done.output
        assert said in done.output


def test_validate_finds_the_same_there_as_here(s3: S3, run: Path, pushed: str) -> None:
    here = [item.as_json() for item in validate(run)]
    there = [item.as_json() for item in validate(as_path(pushed))]
    for item in (*here, *there):
        item["folder"] = item["folder"].rpartition("/")[2]
    assert there == here
    told = CliRunner().invoke(cli, ["validate", pushed, "--json"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.output)["ok"]


def test_a_flipped_bit_is_found_there(s3: S3, pushed: str) -> None:
    path = f"{pushed}/training/part-00001.parquet"
    raw = bytearray(s3.files.cat_file(path))
    raw[len(raw) // 2] ^= 4
    s3.files.pipe_file(path, bytes(raw))
    [found] = validate(as_path(f"{pushed}/training"))
    assert {fault.file for fault in found.faults if fault.check in ("checksums", "schema")} == {"part-00001.parquet"}
    with pytest.raises(SchemaError, match=r"s3://.*part-00001.parquet"):
        load_training_dataset(f"{pushed}/training")


def test_a_trainer_reads_the_same_rows_there(s3: S3, run: Path, pushed: str) -> None:
    here, there = (load_training_dataset(f"{place}/training") for place in (run, pushed))
    assert there.data.table.equals(here.data.table)
    assert there.info.description == here.info.description
    streamed = load_training_dataset(f"{pushed}/training", streaming=True)
    batches = list(streamed.iter(4))
    assert pa.concat_tables(batches).to_pylist() == here.data.table.to_pylist()


@pytest.mark.parametrize(
    "command",
    [
        ("export", "{}", "--to", "trl", "-o", "out"),
        ("inspect", "{}/training", "-o", "out"),
    ],
)
def test_verbs_make_the_same_of_it(
    s3: S3, run: Path, pushed: str, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for name, place in (("here", run), ("there", pushed)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        done = CliRunner().invoke(cli, [word.format(place) for word in command])
        assert done.exit_code == 0, done.output
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        made.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert made[0] == made[1]


def test_what_lies_on_the_hub_is_read_there_too(hub: Hub, user: User, run: Path, tmp_path: Path) -> None:
    user.check("push", run, "org/made")
    told = json.loads(user.check("validate", "hf://datasets/org/made", "--json"))
    assert told["ok"]
    assert [item["artefact"] for item in told["artefacts"]] == [item.artefact for item in validate(run)]
    user.check("export", "hf://datasets/org/made", "--to", "trl", "-o", tmp_path / "there")
    user.check("export", run, "--to", "trl", "-o", tmp_path / "here")
    here, there = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("here", "there"))
    assert here == there


def test_what_a_killed_push_left_is_no_artefact_and_the_next_one_completes_it(
    s3: S3, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{s3.bucket()}/made"
    code = (
        "import os, sys; from pathlib import Path; from vcrd.hub import publish; from vcrd.io.stores import StorePath\n"
        f"put, die = StorePath.upload_new, lambda: os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
        f"StorePath.upload_new = lambda path, file: die() if path.name == {MANIFEST_NAME!r} else put(path, file)\n"
        "publish(Path(sys.argv[1]), sys.argv[2], only=['training'])"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(run), url], cwd=ROOT, env=dict(os.environ))
    assert killed.returncode == -signal.SIGKILL
    assert s3.contents(url), "shards were put"
    for read in (lambda: validate(as_path(url)), lambda: load_training_dataset(f"{url}/models")):
        with pytest.raises(ConfigError, match=rf"{url}.*"):
            read()
    publish(run, url, only=["training"])
    assert not any(item.faults for item in validate(as_path(url)))


def test_another_run_is_not_pushed_over_one_that_somebody_reads(s3: S3, pushed: str, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", count=8)
    before = s3.contents(pushed)
    with pytest.raises(ConfigError, match=r"holds another .*give another URL"):
        publish(other, pushed)
    assert s3.contents(pushed) == before
    for arguments in (["--public"], ["--prune"]):
        refused = CliRunner().invoke(cli, ["push", str(other), pushed, *arguments])
        assert isinstance(refused.exception, ConfigError)


def test_of_two_pushes_at_a_time_the_first_stays_whole(
    s3: S3, pushed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, before = make_run(tmp_path / "other", count=8), s3.contents(pushed)
    monkeypatch.setattr("vcrd.hub.store._is_there", lambda source, target: False)  # it looked before the first came
    with pytest.raises(ConfigError, match=r"holds another .*give another URL"):
        publish(other, pushed)
    assert s3.contents(pushed) == before


def test_a_connection_that_breaks_while_a_shard_is_read_is_no_broken_shard(
    s3: S3, pushed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    def broken(*args: object, **kwargs: object) -> bytes:
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(s3fs.core.S3File, "_fetch_range", broken)
    with pytest.raises(ConfigError, match=r"s3://.*parquet: could not read \(ConnectionResetError: reset by peer\)"):
        load_training_dataset(f"{pushed}/training")


def test_a_path_in_a_store_is_one_as_any_other() -> None:
    path = StorePath("s3://bucket/run/") / "training" / "part-00000.parquet"
    assert str(path) == "s3://bucket/run/training/part-00000.parquet"
    assert (path.name, path.stem, str(path.parent)) == ("part-00000.parquet", "part-00000", "s3://bucket/run/training")
    assert str(pickle.loads(pickle.dumps(path))) == str(path)
    assert as_path("data/run") == Path("data/run")
    assert MANIFEST_NAME in str(path.with_name(MANIFEST_NAME))
