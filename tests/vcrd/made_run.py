"""A run's folder made in a moment: drawn solutions and validities, and from there on the stages' own functions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.vcrd.example_reference import Inputs
from tests.vcrd.factories import TOKENIZER, problem, proposal, rollout, validity
from vcrd.calibration import CalibrationParams
from vcrd.domains.demo_math import generate_problems, sample_solution
from vcrd.examples import Source, choose_targets, gather_pairs, make_examples, scale_of
from vcrd.io.files import fingerprint, sha256_file
from vcrd.io.manifest import FileEntry, Manifest, read_manifest, write_manifest
from vcrd.io.parquet import as_row, read_table, shard_files, table_from_rows, write_table
from vcrd.records import (
    MODELS,
    PROBLEMS,
    PROPOSALS,
    ROLLOUTS,
    TRAINING,
    VALIDITY,
    Artefact,
    Model,
    Rollout,
    StepProposal,
    Validity,
)
from vcrd.storage import store_signal
from vcrd.tokenization import tokenizer_fingerprint
from vcrd.weights import WeightParams

SHARDS = 2
FINGERPRINT = tokenizer_fingerprint(TOKENIZER)
CALIBRATION = CalibrationParams(
    own_steps="when_better", strength="validity", tau=1.0, rho=0.25, shuffle_seed=0, value_pseudocount=0.25
)
STAGES = {
    "problems": "prepare_problems",
    "models": "prepare_models",
    "rollouts": "generate_rollouts",
    "proposals": "propose_steps",
    "validity": "estimate_validity",
    "training": "calibrate_weights",
}
Row = dict[str, Any]


def make_run(folder: Path, *, signal: str = "plain", count: int = 12, licence: str = "CC0-1.0") -> Path:
    """Write problems, models, rollouts, proposals, validity and training of `count` problems into `folder`."""
    rng = random.Random(5)
    shards: list[dict[str, list[Any]]] = [{name: [] for name in STAGES} for _ in range(SHARDS)]
    for index, (prompt, answer) in enumerate(generate_problems(3, count, 5)):
        shard = shards[index % SHARDS]
        given = problem(prompt, answer, problem_id=f"p{index:03d}", licence=licence)
        written = rollout(sample_solution(prompt, rng).splitlines(keepends=True), given)
        shard["problems"].append(given)
        shard["rollouts"].append(written)
        for step in range(len(written.step_ends)):
            both = _proposals(written, step, rng)
            shard["proposals"] += both
            shard["validity"] += [_validity(item, rng) for item in both]
    w_params = WeightParams(w_max=1.2, broken_prefixes="keep", max_length=256, teacher_signal=signal, keep_mass=None)
    teacher = _model("teacher")
    params = {"calibration": asdict(CALIBRATION), "weights": asdict(w_params)}
    write_artefact(folder, MODELS, [[_model("student"), teacher]], {})
    for kind in (PROBLEMS, ROLLOUTS, PROPOSALS, VALIDITY):
        write_artefact(folder, kind, [shard[kind.name] for shard in shards], {})
    tables = [store_signal(table, teacher, w_params) for table in _train(shards, w_params)]
    write_tables(folder, TRAINING, tables, params)
    return folder


def _train(shards: Sequence[dict[str, list[Any]]], params: WeightParams) -> list[pa.Table]:
    inputs = [Inputs(shard["rollouts"], shard["proposals"], shard["validity"]) for shard in shards]
    sources = [Source(shard.read(64), f"{index}", None) for index, shard in enumerate(inputs)]
    pairs = [gather_pairs(source, params)[0] for source in sources]
    targets = choose_targets(np.concatenate(pairs), CALIBRATION)
    scale = scale_of(targets, params)
    tables = []
    for source, mine in zip(sources, pairs, strict=True):
        some, targets = targets.cut(len(mine))
        rows = [table for made, _ in make_examples(source, params, some, scale) for table in made]
        tables.append(pa.concat_tables(rows))
    return tables


def _proposals(of: Rollout, step: int, rng: random.Random) -> list[StepProposal]:
    """The student's own step without, the teacher's with candidates and a tail that add up."""
    ids = of.step_ids(step)
    blank: list[Any] = [[] for _ in ids]
    text = of.step_texts[step]
    own = {"token_ids": ids, "topk_ids": blank, "topk_logprobs": blank, "tail_logprob": [0.0] * len(ids)}
    student = replace(proposal(of, step, "student", text), **own)
    teacher = proposal(of, step, "teacher", text)
    count = len(teacher.token_ids)
    p_N2 = np.array([[rng.uniform(0.3, 0.6), rng.uniform(0.05, 0.3)] for _ in range(count)])
    signal = {
        "topk_ids": [[token, (token + 1) % 29] for token in teacher.token_ids],
        "topk_logprobs": np.log(p_N2).tolist(),
        "tail_logprob": np.log(1 - p_N2.sum(axis=1)).tolist(),
    }
    return [student, replace(teacher, **signal)]


def _validity(of: StepProposal, rng: random.Random) -> Validity:
    value = float(np.float32(rng.choice([0.2, 0.5, 0.9, 0.99]) + rng.uniform(-0.01, 0.01)))
    return replace(validity(of, value), position=0.5, successes=1, trials=2)


def _model(role: str) -> Model:
    return Model(
        role=role,
        name=f"org/{role}",
        revision="5" * 40,
        weights_fingerprint="a" * 64,
        tokenizer_fingerprint=FINGERPRINT,
        vocabulary_size=29,
        chat_template_fingerprint="c" * 64,
    )


def write_artefact(run: Path, kind: Artefact[Any], shards: Sequence[Sequence[object]], params: Row) -> None:
    """Write records as a stage that runs as a whole does."""
    tables = [table_from_rows([as_row(item) for item in records], kind.schema, kind.name) for records in shards]
    write_tables(run, kind, tables, params)


def write_tables(run: Path, kind: Artefact[Any], tables: Sequence[pa.Table], params: Row) -> None:
    """Write tables, and the manifest of a stage that runs as a whole."""
    folder = run / kind.name
    for index, table in enumerate(tables):
        write_table(folder / f"part-{index:05d}.parquet", table)
    facts = {"stage": STAGES[kind.name], "stage_version": 1, "seed": 1, "params": params}
    entries = [
        FileEntry(
            file=path.name,
            sha256=sha256_file(path),
            fingerprint=fingerprint(facts)[:16],
            rows=table.num_rows,
            expected=table.num_rows,
        )
        for path, table in zip(shard_files(folder), tables, strict=True)
    ]
    made = {"artefact": kind.name, "stage": STAGES[kind.name], "stage_version": 1}
    write_manifest(folder, Manifest(**made, provenance=facts, files=entries))


def rewrite(path: Path, change: Callable[[list[Row]], list[Row]], *, columns: Sequence[str] | None = None) -> None:
    """Change the rows of a shard, and keep some columns only where that is asked."""
    table = read_table(path)
    kept = pa.schema([field for field in table.schema if columns is None or field.name in columns])
    rows = change(table.to_pylist())
    write_table(path, table_from_rows(rows, kept, path.name).replace_schema_metadata(table.schema.metadata))


def mend_manifest(folder: Path) -> None:
    """Make checksums and counts fit what lies there, as somebody would who does not want to be found out."""
    manifest = read_manifest(folder)
    entries = [replace(entry, sha256=sha256_file(folder / entry.file)) for entry in manifest.files]
    write_manifest(folder, replace(manifest, files=entries))
