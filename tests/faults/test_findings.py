"""What fuzzing found, each with an input that did it."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.params import read_yaml, set_values
from vcrd.errors import ConfigError, SchemaError
from vcrd.hub.index import Index
from vcrd.hub.lock import changed_since, read_stages
from vcrd.io.files import read_json
from vcrd.io.manifest import MANIFEST_NAME, read_manifest
from vcrd.io.parquet import read_batches, read_table
from vcrd.io.sources import read_card, read_file_rows
from vcrd.io.text import parse_json, parse_yaml
from vcrd.verifiers.arithmetic import check_arithmetic
from vcrd.verifiers.instructions import PATTERN_SECONDS, check_instructions

BOMB = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12))])
BAD_YAML = {
    "a date that is none": "hub: 2001-99-99",
    "deep": "[" * 1000,
    "text that no file holds": 'hub: "\\ud800"',
    "a bomb": f"hub: x\n{BOMB}",
    "itself": "hub: &a [*a]",
    "a control character": "hub: \x00",
    "a number too long": f"hub: {'9' * 5000}",
}
BAD_JSON = {"deep": "[" * 10**5, "text that no file holds": '{"a": "\\ud800"}', "a number too long": "9" * 5000}


@pytest.mark.parametrize("text", BAD_YAML.values(), ids=BAD_YAML)
def test_yaml_that_cannot_be_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.yaml"
    path.write_text(text)
    for read in (read_card, read_yaml):
        with pytest.raises(ConfigError, match="is not YAML") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(SchemaError, match="not a lock file"):
        read_stages(path)


def test_yaml_may_refer_to_its_parts() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a") == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize("text", BAD_JSON.values(), ids=BAD_JSON)
def test_json_that_cannot_be_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever of its kinds
        parse_json(text)
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SchemaError, match="not JSON"):
        read_json(tmp_path / "x.json")


def test_a_changed_value_that_is_no_yaml_is_named() -> None:
    with pytest.raises(ConfigError, match="--set seed=\\*: the value is not YAML"):
        set_values({"seed": 1}, ["seed=*"])


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a" * 300, "a\x00b", ".hidden"])
def test_a_manifest_names_files_of_its_folder_alone(tmp_path: Path, name: str) -> None:
    entry = {"file": name, "sha256": "0", "fingerprint": "0"}
    value = {"artefact": "a", "stage": "s", "stage_version": 1, "provenance": {}, "files": [entry]}
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(value))
    with pytest.raises(SchemaError, match="unsafe"):
        read_manifest(tmp_path)


def test_counts_below_zero_and_sizes_that_are_none_are_refused(tmp_path: Path) -> None:
    entry = {"file": "x", "sha256": "0", "fingerprint": "0", "rejects": {"a": -1}}
    value = {"artefact": "a", "stage": "s", "stage_version": 1, "provenance": {}, "files": [entry]}
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(value))
    with pytest.raises(SchemaError, match="below 0"):
        read_manifest(tmp_path)
    for size in ("Infinity", "-1", "true", '"3"'):
        entry = f'{{"sha256": "{"0" * 64}", "size": {size}}}'
        text = f'{{"format": "vcrd-dataset/1", "folder": null, "files": {{"lock.yaml": {entry}}}}}'
        with pytest.raises(SchemaError, match="not an index"):
            Index.parse(text, "vcrd.json")


@pytest.mark.parametrize("entry", ["{deps: [{md5: x}]}", "{outs: [1]}", "{outs: null}", "{params: {params.yaml: 1}}"])
def test_lock_entries_of_another_shape_are_refused(tmp_path: Path, entry: str) -> None:
    (tmp_path / "lock.yaml").write_text(f"stages:\n  a: {entry}\n")
    with pytest.raises(SchemaError, match="an entry for each stage"):
        read_stages(tmp_path / "lock.yaml")


def test_a_lock_entry_does_not_make_files_elsewhere_be_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside.py"
    outside.write_bytes(b"")
    empty = "d41d8cd98f00b204e9800998ecf8427e"
    paths = ["../outside.py", str(outside), "inside.py"]
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone/inside.py").write_bytes(b"")
    stages = {"a": {"deps": [{"path": path, "md5": empty} for path in paths]}}
    assert changed_since(tmp_path / "clone", stages) == sorted(paths[:2])


def _parquet_with_broken_text(path: Path) -> Path:
    broken = pa.array([b"fine", b"\xff\xfe", b"fine too"]).view(pa.string())
    pq.write_table(pa.table({"prompt": broken}), path)
    return path


def test_text_in_a_shard_that_is_not_utf8_is_a_schema_error_and_in_a_source_an_unreadable_row(tmp_path: Path) -> None:
    path = _parquet_with_broken_text(tmp_path / "rows.parquet")
    for read in (read_table, lambda path: list(read_batches(path))):
        with pytest.raises(SchemaError, match="UTF"):
            read(path)
    rows = list(read_file_rows(path))
    assert [row.values is None for row in rows] == [False, True, False]
    assert rows[1].place == "rows.parquet row 2"
    assert "utf-8" in rows[1].error


def test_a_source_that_is_no_parquet_and_one_whose_archive_is_broken_are_schema_errors(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing PAR1")
    packed = bytearray(gzip.compress(b'{"a": 1}\n' * 100))
    packed[15] ^= 0xFF
    (tmp_path / "x.jsonl.gz").write_bytes(packed)
    for name in ("x.parquet", "x.jsonl.gz"):
        with pytest.raises(SchemaError, match="cannot be read"):
            list(read_file_rows(tmp_path / name))


def test_a_line_with_a_number_of_5000_digits_is_an_unreadable_row(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(f'{{"a": {"9" * 5000}}}\n{{"a": 1}}\n')
    first, second = read_file_rows(tmp_path / "x.jsonl")
    assert first.values is None
    assert second.values == {"a": 1}


def test_a_number_of_4000_digits_costs_no_more_than_its_length() -> None:
    def cost(digits: int) -> float:
        started = time.process_time()
        check_arithmetic(f"{'2' * digits} = 3")
        return time.process_time() - started

    cost(100)
    # Eight times the digits cost 64 times as much where each is the start of a search.
    assert min(cost(4000) for _ in range(5)) < 30 * max(min(cost(500) for _ in range(5)), 1e-4)


def test_a_pattern_that_never_ends_is_bounded() -> None:
    started = time.monotonic()
    [result] = check_instructions(["keywords:existence"], [{"keywords": ["(a+)+$"]}], "a" * 60 + "b")
    assert (result.strict, result.loose) == (False, False)
    assert f"within {PATTERN_SECONDS:g} s" in result.reason
    assert time.monotonic() - started < 10 * PATTERN_SECONDS
    [result] = check_instructions(["keywords:existence"], [{"keywords": ["te+a"]}], "teea")
    assert result.strict


@pytest.mark.parametrize("pattern", ["a{4294967296}", "(" * 2000 + ")" * 2000])
def test_a_pattern_that_cannot_be_compiled_is_named(pattern: str) -> None:
    with pytest.raises(SchemaError, match="a regular expression"):
        check_instructions(["keywords:existence"], [{"keywords": [pattern]}], "an answer")
