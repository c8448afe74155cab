"""Rows come from files, folders, Hub data sets and generators; what is wrong with a source is said."""

import json
from pathlib import Path

import polars as pl
import pytest

from tests.hub_server import Hub
from tests.vcrd.hub_users import User
from vcrd.domains import problem_rows
from vcrd.errors import ConfigError, SchemaError
from vcrd.io.parquet import read_table, shard_files
from vcrd.io.sources import read_source


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_hub_data_set_is_streamed_as_its_card_says(hub: Hub, user: User, small_run: Path, tmp_path: Path) -> None:
    user.check("push", small_run, "org/made")
    commit = hub.repos["org/made"].commits[-1][0]
    card = write(tmp_path / "card.yaml", f"hub: org/made\nconfig: problems\nsplit: train\nrevision: {commit}\n")
    name, rows = json.loads(user.check("rows", card).splitlines()[-1])
    expected = [row for path in shard_files(small_run / "problems") for row in read_table(path).to_pylist()]
    assert name == "org/made"
    assert rows == [[f"row {number}", row] for number, row in enumerate(expected, start=1)]


def test_a_folder_is_no_hub_data_set(tmp_path: Path) -> None:
    card = write(tmp_path / "card.yaml", f"hub: {tmp_path}\nconfig: main\nsplit: test\nrevision: abc\n")
    with pytest.raises(ConfigError, match=r"hub as org/name on the Hub; for files on this machine set problems.path"):
        list(read_source(card)[1])


def test_a_hub_out_of_reach_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    card = write(tmp_path / "card.yaml", "hub: no/where\nconfig: main\nsplit: test\nrevision: abc\n")
    with pytest.raises(ConfigError, match=r"no/where cannot be read .*; give a local file instead"):
        list(read_source(card)[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hub: a/b\n", "lacks"),
        ("a: 1\n", "expected a source card"),
        ("[", "is not YAML"),
        ("generator: demo-maths\n", "unknown generator 'demo-maths'"),
        ("generator: demo-math\nn_terms: 4\ncount: many\nseed: 1\n", "takes the integers"),
    ],
)
def test_a_card_that_says_too_little_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        list(problem_rows(write(tmp_path / "card.yaml", text))[1])


def test_the_generator_gives_distinct_problems_and_the_same_ones_again(tmp_path: Path) -> None:
    card = write(tmp_path / "card.yaml", "generator: demo-math\nn_terms: 3\ncount: 200\nseed: 4\n")
    first, second = ([row.values["prompt"] for row in problem_rows(card)[1]] for _ in range(2))
    assert first == second
    assert len(set(first)) == 200


def test_folders_and_files_of_parquet_and_json_lines(tmp_path: Path) -> None:
    for name in ("b", "a"):
        pl.DataFrame({"q": [name]}).write_parquet(tmp_path / f"{name}.parquet")
    assert [row.values["q"] for row in read_source(tmp_path)[1]] == ["a", "b"]
    assert [row.place for row in read_source(tmp_path / "a.parquet")[1]] == ["a.parquet row 1"]
    lines = write(tmp_path / "x.jsonl", json.dumps({"q": "é"}) + "\n\n{}\n")
    assert [(row.place, row.values) for row in read_source(lines)[1]] == [("line 1", {"q": "é"}), ("line 3", {})]


@pytest.mark.parametrize("name", ["x.csv", "nowhere.jsonl", "nowhere"])
def test_what_is_no_source_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / "x.csv", "q\n1\n")
    with pytest.raises(ConfigError, match=r"expected|no such"):
        read_source(tmp_path / name)


def test_a_torn_gzip_is_broken_data_not_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00torn")
    with pytest.raises(SchemaError, match="cannot be read"):
        list(read_source(path)[1])
