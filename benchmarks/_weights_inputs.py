"""Inputs of the weights stage, made up and streamed to disk: rollouts, proposals, validities and the teacher's row.

Ids are drawn as token / V ~ u^4, frequent ones and rare ones; candidates are distinct, their log-probabilities those of
a softmax over normal logits. Axis letters: R rollouts, P proposals, V validities, T tokens, K candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.layout import Layout
from pipeline.shards import all_files, shard_file
from vcrd.io.files import sha256_file
from vcrd.io.manifest import Manifest, write_manifest
from vcrd.io.parquet import TableWriter, table_from_rows, table_writer, write_table
from vcrd.records import MODELS, PROPOSALS, ROLLOUTS, VALIDITY

SHARDS, PROMPT, STEPS, STEP, K = 2, 128, 8, 48, 8
VOCABULARY = 2**17
_BLOCK, _MISSING, _CHARACTERS = 250, 0.01, 4
_INPUTS = (ROLLOUTS, PROPOSALS, VALIDITY)


def write_inputs(layout: Layout, rollouts: int, seed: int) -> None:
    """Write so many rollouts and all that belongs to them, a block at a time."""
    rng = np.random.default_rng(seed)
    for shard in range(SHARDS):
        paths = {kind.name: layout.folder(kind.name) / shard_file(shard) for kind in _INPUTS}
        with (
            table_writer(paths[ROLLOUTS.name], ROLLOUTS.schema) as first,
            table_writer(paths[PROPOSALS.name], PROPOSALS.schema) as second,
            table_writer(paths[VALIDITY.name], VALIDITY.schema) as third,
        ):
            for start in range(0, rollouts // SHARDS, _BLOCK):
                count = min(_BLOCK, rollouts // SHARDS - start)
                _write_block(rng, [f"{shard}-{start + row:07d}" for row in range(count)], first, second, third)
    roles = [_model(role) for role in ("student", "teacher")]
    write_table(layout.folder(MODELS.name) / shard_file(0), table_from_rows(roles, MODELS.schema, "models"))
    for kind in (MODELS, *_INPUTS):
        _write_manifest(layout.folder(kind.name))


def _write_block(
    rng: np.random.Generator, problems: list[str], first: TableWriter, second: TableWriter, third: TableWriter
) -> None:
    count = len(problems)
    ids_RT = _ids(rng, (count, STEPS * STEP))
    keys = {"problem_id": problems, "domain": ["math"] * count, "split": ["train"] * count}
    keys["rollout_id"] = [f"{name}/r0" for name in problems]
    first.write(_table(keys | _solved(rng, ids_RT), ROLLOUTS.schema))
    kept_P = np.ones(2 * count * STEPS, bool)
    kept_P[1::2] = rng.random(count * STEPS) >= _MISSING
    named = {name: np.repeat(values, 2 * STEPS)[kept_P] for name, values in keys.items()}
    steps_P = np.tile(np.repeat(np.arange(STEPS, dtype=np.int32), 2), count)[kept_P]
    proposers_P = np.tile(["student", "teacher"], count * STEPS)[kept_P]
    prefixes = [f"{name}/s{step}" for name, step in zip(named["rollout_id"], steps_P, strict=True)]
    common = {
        **named,
        "prefix_id": prefixes,
        "proposal_id": [f"{name}/{proposer}" for name, proposer in zip(prefixes, proposers_P, strict=True)],
        "step_index": steps_P,
        "proposer": proposers_P,
    }
    ids_PT = np.stack([ids_RT.reshape(-1, STEP), _ids(rng, (count * STEPS, STEP))], axis=1).reshape(-1, STEP)
    second.write(_table(common | _proposed(rng, ids_PT[kept_P], proposers_P), PROPOSALS.schema))
    third.write(_table(common | _judged(rng, len(steps_P)), VALIDITY.schema))


def _solved(rng: np.random.Generator, ids_RT: NDArray[np.int32]) -> dict[str, Any]:
    """Return the columns of rollouts alone."""
    count, tokens = ids_RT.shape
    ends = np.tile(np.arange(1, STEPS + 1, dtype=np.int32) * STEP, count)
    return {
        "prompt_ids": _lists(_ids(rng, (count, PROMPT)).ravel(), PROMPT),
        "token_ids": _lists(ids_RT.ravel(), tokens),
        "step_ends": _lists(ends, STEPS),
        "step_char_ends": _lists(ends * _CHARACTERS, STEPS),
        "step_verdicts": _lists(np.zeros(len(ends), np.int8), STEPS),
        "logprobs": _lists(-rng.exponential(1, ids_RT.size).astype(np.float32), tokens),
        "text": _texts(rng, count, tokens),
        "finish_reason": ["eos"] * count,
        "outcome": rng.integers(-1, 2, count, np.int8),
    }


def _proposed(rng: np.random.Generator, ids_PT: NDArray[np.int32], proposers_P: NDArray[Any]) -> dict[str, Any]:
    """Return the columns of proposals alone: candidates for the teacher's, none for the student's."""
    of_teacher_T = np.repeat(proposers_P == "teacher", STEP)
    tokens = int(of_teacher_T.sum())
    # An odd stride in a vocabulary of 2^n ids: no candidate occurs twice.
    stride_T1 = 2 * rng.integers(1, 2**12, (tokens, 1)) + 1
    candidates_TK = (ids_PT.ravel()[of_teacher_T, None] + stride_T1 * np.arange(K)) % VOCABULARY
    logits_TK = np.sort(3 * rng.normal(size=(tokens, 2 * K)), axis=1)[:, ::-1]
    logprobs_TK = logits_TK - np.logaddexp.reduce(logits_TK, axis=1, keepdims=True)
    tail_T = np.zeros(len(of_teacher_T), np.float32)
    tail_T[of_teacher_T] = np.logaddexp.reduce(logprobs_TK[:, K:], axis=1)
    inner = pa.array(np.concatenate([[0], np.cumsum(K * of_teacher_T)]), pa.int32())
    flat = (candidates_TK.astype(np.int32), logprobs_TK[:, :K].astype(np.float32))
    ids, logprobs = (pa.ListArray.from_arrays(inner, pa.array(values.ravel())) for values in flat)
    return {
        "token_ids": _lists(ids_PT.ravel(), STEP),
        "text": _texts(rng, len(ids_PT), STEP),
        "logprobs": _lists(-rng.exponential(1, ids_PT.size).astype(np.float32), STEP),
        "topk_ids": _lists(ids, STEP),
        "topk_logprobs": _lists(logprobs, STEP),
        "tail_logprob": _lists(tail_T, STEP),
        "finish_reason": ["step"] * len(ids_PT),
    }


def _judged(rng: np.random.Generator, rows: int) -> dict[str, Any]:
    """Return the columns of validities alone."""
    return {
        "position": rng.random(rows),
        "rule": pa.array(-(rng.random(rows) < 0.05).astype(np.int8)),
        "rule_reason": [""] * rows,
        "score_prm": rng.random(rows),
        "score_peer": rng.random(rows),
        "successes": np.zeros(rows, np.int32),
        "trials": np.zeros(rows, np.int32),
        "local_validity": rng.random(rows),
        "local_validity_sd": rng.random(rows),
        "prefix_broken": np.zeros(rows, bool),
    }


def _ids(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int32]:
    return (VOCABULARY * rng.random(shape) ** 4).astype(np.int32)


def _texts(rng: np.random.Generator, count: int, tokens: int) -> list[str]:
    size = tokens * _CHARACTERS
    letters = np.frombuffer(b"eeeetttaaooiinnsshhrrddlu    ", np.uint8)
    drawn = rng.choice(letters, 50 * size).tobytes().decode()
    return [drawn[start : start + size] for start in rng.integers(0, 49 * size, count).tolist()]


def _lists(values: Any, length: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.arange(0, len(values) + 1, length), pa.int32()), pa.array(values))


def _table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = [
        values.cast(field.type) if isinstance(values, pa.Array) else pa.array(values, field.type)
        for field in schema
        for values in [columns[field.name]]
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _model(role: str) -> dict[str, Any]:
    digests = {f"{name}_fingerprint": name for name in ("weights", "tokenizer", "chat_template")}
    return {"role": role, "name": role, "revision": None, "vocabulary_size": VOCABULARY, **digests}


def _write_manifest(folder: Path) -> None:
    files = [replace(entry, sha256=sha256_file(folder / entry.file)) for entry in all_files(folder)]
    write_manifest(folder, Manifest(artefact=folder.name, stage="", stage_version=0, provenance={}, files=files))
