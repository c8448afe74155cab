"""What a page is made from: rows of a `training` folder, and of the run's other artefacts where they lie beside it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vcrd.errors import ConfigError, SchemaError
from vcrd.io.parquet import artefact_folder, read_schema, read_table, shard_files
from vcrd.io.rejects import REJECTS_SCHEMA
from vcrd.records import EVIDENCE, MODELS, PROBLEMS, PROPOSALS, ROLLOUTS, TOKENIZER_KEY, TRAINING, VALIDITY, Artefact

Row = dict[str, Any]

_TRAINING = (
    "example_id",
    "rollout_id",
    "problem_id",
    "domain",
    "step_index",
    "target",
    "input_ids",
    "labels",
    "token_weights",
    "student_step",
    "teacher_step",
    "student_validity",
    "teacher_validity",
    "relative_validity",
    "target_value",
    "step_strength",
)
_PER_TOKEN = ("input_ids", "labels", "token_weights")
_BESIDE: tuple[tuple[Artefact[Any], tuple[str, ...]], ...] = (
    (PROBLEMS, ("problem_id", "domain", "prompt", "reference", "source", "licence")),
    (ROLLOUTS, ("problem_id", "rollout_id", "text", "step_char_ends", "finish_reason", "outcome")),
    (PROPOSALS, ("problem_id", "proposal_id", "prefix_id", "text")),
    (EVIDENCE, ("problem_id", "proposal_id", "prm_missing", "peer_missing")),
    (VALIDITY, tuple(VALIDITY.schema.names)),
)
REJECTS = "rejects/calibrate_weights"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Rows of the problems that are shown.

    Attributes:
        folder: Of the training shards.
        run: Of the run that they lie in; None where they lie alone.
        tokenizer: Fingerprint of the tokenizer that the ids are of, where the shards name one.
        training: Training rows, in their order.
        examples: Training rows of the whole data set.
        problems: Problems of the whole data set.
        beside: Rows of the run's other artefacts, by the artefact's name; those that are not there are left out.
        rejects: Why no example was made of a prefix, by its id.
    """

    folder: Path
    run: Path | None
    tokenizer: str | None
    training: Sequence[Row]
    examples: int
    problems: int
    beside: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    rejects: Mapping[str, str] = field(default_factory=dict)


def read_sources(source: Path, limit: int) -> Sources:
    """Read whole problems until `limit` examples are there, chosen by a digest of their ids.

    Args:
        source: A run's folder, its `training` folder, or a training data set that lies alone.
        limit: Examples at most; of the first problem alone where that one has more.

    Raises:
        ConfigError: There are no shards, or they are not of a training data set.
        SchemaError: A shard is broken.
    """
    folder = artefact_folder(source, TRAINING.name)
    run = folder.resolve().parent if folder.resolve().name == TRAINING.name else None
    files = shard_files(folder)
    counts = _count(files)
    chosen = choose(counts, limit)
    training = [row for file in files for row in _training_rows(file, chosen)][:limit]
    tokenizer = (read_schema(files[0]).metadata or {}).get(TOKENIZER_KEY)
    return Sources(
        folder=folder,
        run=run,
        tokenizer=None if tokenizer is None else tokenizer.decode(errors="replace"),
        training=training,
        examples=sum(counts.values()),
        problems=len(counts),
        beside={} if run is None else _beside(run, chosen),
        rejects={} if run is None else _rejects(run),
    )


def choose(counts: Mapping[str, int], limit: int) -> set[str]:
    """Choose whole problems of at most `limit` examples together, one at least.

    Args:
        counts: Examples of each problem.
        limit: Examples at most.
    """
    if sum(counts.values()) <= limit:
        return set(counts)
    chosen: set[str] = set()
    left = limit
    for name in sorted(counts, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
        if counts[name] > left and chosen:
            break
        chosen.add(name)
        left -= counts[name]
    return chosen


def _count(files: Sequence[Path]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for file in files:
        names = read_schema(file).names
        if missing := [name for name in _TRAINING if name not in names]:
            raise ConfigError(f"{file.parent} is not a training folder: {file.name} has no column {', '.join(missing)}")
        counts.update(_strings(read_table(file, columns=["problem_id"]), "problem_id", file))
    return counts


def _strings(table: pa.Table, name: str, file: Path) -> list[str]:
    values: list[str | None] = table.column(name).to_pylist()
    if None in values:
        raise SchemaError("a required value is missing", file=file, column=name, row=values.index(None))
    return [str(value) for value in values]


def _training_rows(file: Path, chosen: set[str]) -> list[Row]:
    table = read_table(file, columns=list(_TRAINING))
    column = table.column("problem_id")
    kept = np.flatnonzero(pc.is_in(column, pa.array(sorted(chosen), column.type)))
    rows: list[Row] = table.take(kept).to_pylist()
    for index, row in zip(kept.tolist(), rows, strict=True):
        if nothing := [name for name in _TRAINING if row[name] is None]:
            raise SchemaError("a required value is missing", file=file, column=nothing[0], row=index)
        for name in _PER_TOKEN:
            if len(row[name]) != len(row["input_ids"]) or None in row[name]:
                raise SchemaError("expected one value per token of input_ids", file=file, column=name, row=index)
        if min(row["input_ids"], default=0) < 0:
            raise SchemaError("expected token ids of 0 or more", file=file, column="input_ids", row=index)
    return rows


def _beside(run: Path, chosen: set[str]) -> dict[str, list[Row]]:
    wanted = pa.array(sorted(chosen), pa.string())
    found: dict[str, list[Row]] = {}
    for kind, columns in _BESIDE:
        files = sorted((run / kind.name).glob("*.parquet"))
        if not files:
            continue
        found[kind.name] = []
        for file in files:
            table = _read(file, kind.schema, columns)
            found[kind.name] += table.filter(pc.is_in(table.column("problem_id"), wanted)).to_pylist()
    files = sorted((run / MODELS.name).glob("*.parquet"))
    if files:
        found[MODELS.name] = [row for file in files for row in _read(file, MODELS.schema, ("role", "name")).to_pylist()]
    return found


def _read(file: Path, schema: pa.Schema, columns: Sequence[str]) -> pa.Table:
    there = read_schema(file)
    for name in columns:
        if name not in there.names or there.field(name).type != schema.field(name).type:
            raise SchemaError(f"expected {schema.field(name).type} in this artefact of the run", file=file, column=name)
    return read_table(file, columns=list(columns))


def _rejects(run: Path) -> dict[str, str]:
    files = sorted((run / REJECTS).glob("*.parquet"))
    rows = [row for file in files for row in _read(file, REJECTS_SCHEMA, ("record_id", "reason")).to_pylist()]
    return {row["record_id"]: row["reason"] for row in rows}
