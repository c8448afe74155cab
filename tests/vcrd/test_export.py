"""Exports: nothing is lost without a word, and a folder is whole or as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tests.vcrd.exports import ROWS, STUDENT, run
from tests.vcrd.test_cli import lines, vcrd
from tests.vcrd.training_rows import TEACHER, write_training
from vcrd.errors import ConfigError, SchemaError
from vcrd.export import export_training
from vcrd.io.parquet import read_table, table_from_rows, write_table
from vcrd.records import TOKENIZER_KEY, TRAINING
from vcrd.storage import SignalParams, encode_teacher_signal


def test_rows_that_disagree_with_themselves_are_rejects(tmp_path: Path) -> None:
    good = ROWS[0]
    broken = {
        "short": good | {"token_weights": good["token_weights"][:-1]},
        "heavy": good | {"token_weights": [*good["token_weights"][:-1], float("nan")]},
        "masked": good | {"token_weights": [1.0, *good["token_weights"][1:]]},
        "empty": good | {name: [] for name in good if isinstance(good[name], list)},
        "odd": good | {"teacher_topk_ids": [*good["teacher_topk_ids"][:-1], [1]]},
    }
    rows = [good, *(example | {"example_id": name} for name, example in broken.items())]
    _, done = run(tmp_path, "trl", rows)
    assert (done.written, done.rejects) == (1, {"bad_weight": 2, "candidates_differ": 1, "lengths_differ": 2})
    assert {item["record_id"] for item in lines(tmp_path / "out.rejects.jsonl")} == set(broken)


def test_a_compact_signal_is_exported_as_a_plain_one_and_the_tokenizer_stays_named(tmp_path: Path) -> None:
    folder = tmp_path / "compact"
    folder.mkdir()
    table = table_from_rows(ROWS, TRAINING.schema, "x")
    compact = encode_teacher_signal(table, SignalParams(vocabulary_size=29, logprob_bits=16))
    write_table(folder / "part-00000.parquet", compact.replace_schema_metadata({TOKENIZER_KEY: "abc"}))
    export_training(folder, "trl", tmp_path / "out")
    exported = read_table(next((tmp_path / "out").glob("*.parquet")))
    assert exported.schema.metadata[TOKENIZER_KEY] == b"abc"
    for row, given in zip(exported.to_pylist(), ROWS, strict=True):
        assert [sorted(ids) for ids in row["teacher_topk_ids"]] == [sorted(ids) for ids in given["teacher_topk_ids"]]
        assert row["teacher_tail_logprob"] == pytest.approx(given["teacher_tail_logprob"], abs=1e-3)


@pytest.mark.parametrize(
    ("to", "asked", "message"),
    [
        ("ms-swift", {"drop": ()}, "cannot carry the teacher: .* add --drop teacher"),
        ("llama-factory", {"drop": ()}, "cannot carry the teacher"),
        ("axolotl-kd", {"drop": ()}, "cannot carry the weights"),
        ("trl", {"drop": ("teacher",)}, "trl has a place for it"),
        ("ms-swift", {"tokenizer": None}, "needs --tokenizer"),
        ("ms-swift", {"tokenizer": "no/such/folder"}, "no such folder"),
    ],
)
def test_what_a_target_cannot_carry_is_refused_with_the_way_on(
    tmp_path: Path, to: str, asked: dict, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, to, ROWS, **asked)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_without_a_teacher_nothing_needs_to_be_dropped_and_axolotl_has_nothing_to_do(tmp_path: Path) -> None:
    source = write_training(tmp_path / "training", ROWS, without=TEACHER)
    assert not export_training(source, "ms-swift", tmp_path / "a", tokenizer=str(STUDENT)).lost
    assert export_training(source, "trl", tmp_path / "b").written == 3
    with pytest.raises(ConfigError, match="has none"):
        export_training(source, "axolotl-kd", tmp_path / "c", drop=("weights",))
    partly = write_training(tmp_path / "partly", ROWS, without=TEACHER[:1])
    with pytest.raises(SchemaError, match="column teacher_topk_ids"):
        export_training(partly, "trl", tmp_path / "d")


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="token id 99, the tokenizer has 29"):
        run(tmp_path, "ms-swift", [ROWS[0] | {"input_ids": [99, *ROWS[0]["input_ids"][1:]]}])


def test_an_id_below_zero_is_of_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="column input_ids: has the token id -1"):
        run(tmp_path, "llama-factory", [ROWS[0] | {"input_ids": [-1, *ROWS[0]["input_ids"][1:]]}])


def test_the_folder_is_whole_or_as_it_was(tmp_path: Path) -> None:
    output, _ = run(tmp_path, "trl", ROWS)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    source = tmp_path / "run"
    with pytest.raises(ConfigError, match="not empty; give another folder, or add --overwrite"):
        export_training(source, "trl", output)
    broken = tmp_path / "run/training/part-00001.parquet"
    broken.write_bytes(b"PAR1 no more")
    with pytest.raises(SchemaError, match="part-00001"):
        export_training(source, "trl", output, overwrite=True)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    broken.unlink()
    (output / "old.parquet").write_bytes(b"")
    export_training(source, "trl", output, overwrite=True)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    with pytest.raises(ConfigError, match="holds the data set"):
        export_training(source, "trl", tmp_path, overwrite=True)
    (output / "folder").mkdir()
    with pytest.raises(ConfigError, match="folders in it"):
        export_training(source, "trl", output, overwrite=True)
    assert not list(tmp_path.glob(".tmp*"))


def test_the_command_says_what_became_of_the_rows(tmp_path: Path) -> None:
    write_training(tmp_path / "run/training", ROWS)
    asked = ("export", tmp_path / "run", "--to", "ms-swift", "--tokenizer", STUDENT, "-o", tmp_path / "out")
    assert "add --drop teacher" in vcrd(*asked, expect=2).stderr
    done = vcrd(*asked, "--drop", "teacher")
    assert f"3 rows: 2 written, rejected: zero_weight 1 -> {tmp_path / 'out'}" in done.stdout
    assert "warning: ms-swift without the teacher" in done.stderr
    assert json.loads((tmp_path / "out.rejects.jsonl").read_text())["record_id"] == "idle"
    assert "no such folder" in vcrd("export", tmp_path / "no", "--to", "trl", "-o", tmp_path / "o", expect=2).stderr
    (tmp_path / "bare").mkdir()
    assert "holds no *.parquet" in vcrd("export", tmp_path / "bare", "--to", "trl", "-o", "o", expect=2).stderr
    write_table(tmp_path / "bare/x.parquet", pa.table({"text": ["a"]}))
    refused = vcrd("export", tmp_path / "bare", "--to", "trl", "-o", tmp_path / "o", expect=2).stderr
    assert "is not a training folder: x.parquet has no column input_ids, labels, token_weights" in refused
