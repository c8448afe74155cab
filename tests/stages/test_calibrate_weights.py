"""The weights stage over files: shards, rejects, samples, and what it refuses to write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.layout import Layout
from pipeline.params import RunParams, Settings
from pipeline.runner import run_whole
from pipeline.shards import shard_file, write_pieces
from pipeline.stage import Context
from stages.calibrate_weights import STAGE
from tests.vcrd.example_reference import Inputs, expected
from tests.vcrd.factories import RIGHT, problem, proposal, rollout, validity
from vcrd.calibration import CalibrationParams
from vcrd.errors import SchemaError
from vcrd.io.files import read_json, sha256_file
from vcrd.io.manifest import FileEntry, Manifest, write_manifest
from vcrd.io.parquet import as_row, read_table, table_from_rows, write_table
from vcrd.io.rejects import reject
from vcrd.records import (
    COMPACT_TRAINING_SCHEMA,
    MODELS,
    PROPOSALS,
    ROLLOUTS,
    TOKENIZER_KEY,
    TRAINING,
    VALIDITY,
    Artefact,
    Model,
)
from vcrd.weights import WeightParams

WEIGHTS = WeightParams(w_max=4.0, broken_prefixes="drop", max_length=60, teacher_signal="plain", keep_mass=None)
CALIBRATION = CalibrationParams(
    own_steps="when_better", strength="shuffled", tau=1.0, rho=0.25, shuffle_seed=0, value_pseudocount=None
)
TEACHER = Model(
    role="teacher",
    name="t",
    revision=None,
    weights_fingerprint="w",
    tokenizer_fingerprint="abc",
    vocabulary_size=29,
    chat_template_fingerprint="c",
)


def inputs(name: str, without: str = "") -> Inputs:
    own = rollout(of=problem(problem_id=name))
    steps = [
        proposal(own, index, proposer, text)
        for index, text in enumerate(RIGHT)
        for proposer in ("student", "teacher")
        if f"s{index}/{proposer}" != without
    ]
    return Inputs([own], steps, [validity(step, (1 + place) / 8) for place, step in enumerate(steps)])


SHARDS = [inputs("p", without="s1/teacher"), Inputs([], [], []), inputs("q")]


def write(layout: Layout, shards: list[Inputs]) -> None:
    def put(kind: Artefact, files: list[list]) -> None:
        folder, entries = layout.folder(kind.name), []
        for index, records in enumerate(files):
            path = folder / shard_file(index)
            write_table(path, table_from_rows([as_row(item) for item in records], kind.schema, kind.name))
            entries.append(FileEntry(file=path.name, sha256=sha256_file(path), fingerprint="", rows=len(records)))
        write_manifest(
            folder, Manifest(artefact=kind.name, stage="test", stage_version=1, provenance={}, files=entries)
        )

    put(MODELS, [[TEACHER]])
    for place, kind in enumerate((ROLLOUTS, PROPOSALS, VALIDITY)):
        put(kind, [shard[place] for shard in shards])


def context(root: Path, shards: list[Inputs] = SHARDS, **changes) -> Context:
    weights = replace(WEIGHTS, **changes)
    plain = {"calibration": {}, "weights": changes}
    sections = {"calibration": CALIBRATION, "weights": weights}
    settings = Settings("x", 1, RunParams(num_shards=3, workers=1, max_reject_share=0.5), sections, plain)
    layout = Layout("x", root / "data", root / "hidden")
    write(layout, shards)
    return Context(settings, layout, layout)


def test_the_stage_writes_every_row_and_keeps_every_reject(tmp_path: Path) -> None:
    given = context(tmp_path)
    manifest = run_whole(STAGE, given)
    counts = [(entry.rows, entry.expected, entry.rejects) for entry in manifest.files]
    assert counts == [(2, 3, {"no_teacher_step": 1}), (0, 0, {}), (3, 3, {})]
    rows, rejects = expected(SHARDS, WEIGHTS, CALIBRATION)
    tables = [read_table(given.layout.folder(TRAINING.name) / shard_file(index)) for index in range(3)]
    for table, offset in zip(tables, (0, 2, 2), strict=True):
        assert table.schema.equals(TRAINING.schema)
        assert table.schema.metadata == {TOKENIZER_KEY: b"abc"}
        assert table.equals(rows.slice(offset, table.num_rows))
    kept = sorted(given.layout.rejects(STAGE.name).glob("*.parquet"))
    assert [path.name for path in kept] == [shard_file(0)]
    assert read_table(kept[0]).to_pylist() == [as_row(item) for item in rejects]
    told = read_json(given.layout.metrics(STAGE.name))
    assert told["rows"] == {"expected": 6, "written": 5, "rejected": {"no_teacher_step": 1}}
    assert told["mean_weight"] == pytest.approx(1)


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    digests = [
        [entry.sha256 for entry in run_whole(STAGE, context(tmp_path / name, teacher_signal="compact")).files]
        for name in ("a", "b")
    ]
    assert digests[0] == digests[1]
    for index in range(3):
        written = read_table(tmp_path / "a/data/x/training" / shard_file(index))
        assert written.schema.equals(COMPACT_TRAINING_SCHEMA)


def test_a_sample_takes_its_problems_alone(tmp_path: Path) -> None:
    given = replace(context(tmp_path), only_problems=frozenset({"q"}))
    assert [entry.rows for entry in run_whole(STAGE, given).files] == [0, 0, 3]


def test_input_in_another_order_writes_nothing(tmp_path: Path) -> None:
    wrong = SHARDS[2]._replace(validities=SHARDS[2].validities[::-1])
    given = context(tmp_path, [*SHARDS[:2], wrong])
    with pytest.raises(SchemaError, match=r"validity/part-00002\.parquet, column step_index, row 1: expected"):
        run_whole(STAGE, given)
    assert not given.layout.folder(TRAINING.name).exists()


def test_an_input_that_is_not_its_manifests_is_refused(tmp_path: Path) -> None:
    given = context(tmp_path)
    path = given.layout.folder(PROPOSALS.name) / shard_file(0)
    write_table(path, read_table(path).slice(0, 2))
    with pytest.raises(SchemaError, match="differs from the manifest's checksum"):
        run_whole(STAGE, given)


def test_pieces_that_do_not_add_up_are_a_bug(tmp_path: Path) -> None:
    rows = table_from_rows([as_row(TEACHER)], MODELS.schema, "models")
    pieces = [([rows, rows], [reject("a", "why")]), ([], [reject("b", "why"), reject("c", "other")])]
    (tmp_path / "out").mkdir()
    entry = write_pieces(tmp_path / "out", "x.parquet", MODELS.schema, pieces, 5)
    assert (entry.rows, entry.expected, entry.rejects) == (2, 5, {"other": 1, "why": 2})
    with pytest.raises(AssertionError, match="6 rows expected, 2 written, 3 rejected"):
        write_pieces(tmp_path / "out", "x.parquet", MODELS.schema, pieces, 6)
