"""What is fuzzed of the readers of rows: exports, blobs of the teacher's signal, the card.

Axis letters: T tokens, K candidates.
"""

from __future__ import annotations

import copy
import shutil
import struct
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks._fuzz_data import scratch
from benchmarks._fuzz_text import holds, text_of
from vcrd.domains.demo_math import DOMAIN
from vcrd.examples import SignalCounts
from vcrd.export import TARGETS
from vcrd.export.rows import read_shard, sound_rows
from vcrd.export.run import check_vocabulary
from vcrd.hub.card import make_card
from vcrd.hub.contents import Contents
from vcrd.hub.facts import Facts, TableFacts
from vcrd.hub.licences import licences_of
from vcrd.io.manifest import FileEntry, Manifest, write_manifest
from vcrd.records import COMPACT_TRAINING_SCHEMA, MODELS, PROBLEMS, TRAINING
from vcrd.storage import COMPACT_COLUMNS, SignalParams, decode_teacher_signal, encode_teacher_signal

VOCABULARY = 29
_SHARD = "part-00000.parquet"
_COLUMNS = tuple(
    TRAINING.schema.field(name)
    for name in (
        *("example_id", "input_ids", "labels", "token_weights"),
        *("teacher_topk_ids", "teacher_topk_logprobs", "teacher_tail_logprob"),
    )
)
_EDIT = struct.Struct("<BBBBf")
_VALUES = (None, 0, 1, -1, -100, 2**31 - 1, -(2**31), float("nan"), float("-inf"), float("inf"), 1e-40, 0.5)


def plain_rows() -> list[dict[str, Any]]:
    """Return three sound rows of four tokens, the last two of which are learned."""
    row = {
        "input_ids": [5, 6, 7, 8],
        "labels": [-100, -100, 7, 8],
        "token_weights": [0.0, 0.0, 1.0, 1.0],
        "teacher_topk_ids": [[], [], [7, 3], [8, 2]],
        "teacher_topk_logprobs": [[], [], [-0.5, -2.0], [-0.25, -3.0]],
        "teacher_tail_logprob": [0.0, 0.0, -1.5, -2.5],
    }
    return [{"example_id": f"e{index}", **copy.deepcopy(row)} for index in range(3)]


def export_rows(data: bytes) -> None:
    """Export rows that are sound but for edits, eight bytes each; the first byte says to whom."""
    to = sorted(TARGETS)[(data[0] if data else 0) % len(TARGETS)]
    rows = plain_rows()
    for at in range(1, len(data) - _EDIT.size + 1, _EDIT.size):
        _edit(rows, *_EDIT.unpack_from(data, at))
    table = read_shard(_written(rows))
    kept, rejects = sound_rows(table)
    folder = scratch() / "exported"
    folder.mkdir(exist_ok=True)
    if TARGETS[to].needs_tokenizer and kept.num_rows:
        check_vocabulary(kept, len(_tokenizer()), folder)
    writer = TARGETS[to].open(folder, ["part-00000"], _tokenizer())
    rejects += writer.add(kept, "part-00000")
    writer.close()
    holds(table.num_rows == len(rows), "rows went missing")
    holds(len({item.record_id for item in rejects}) == len(rejects) <= len(rows), "a row is rejected twice")


def _written(rows: list[dict[str, Any]]) -> Path:
    path = scratch() / _SHARD
    pq.write_table(_as_table(rows), path)
    return path


def _edit(rows: list[dict[str, Any]], where: int, how: int, place: int, choice: int, number: float) -> None:
    """Change one value: of a row's column, of a token in it, or of a candidate."""
    row, name = rows[where % len(rows)], _COLUMNS[1 + (where >> 4) % (len(_COLUMNS) - 1)].name
    value: Any = _VALUES[choice] if choice < len(_VALUES) else number
    tokens = row[name]
    if how == 0 or tokens is None:
        row[name] = None
    elif how == 1:
        del tokens[place % (len(tokens) + 1) :]
    elif how == 2:
        tokens += tokens[: 1 + place % 8]
    elif tokens and isinstance(tokens[place % len(tokens)], list):
        candidates = tokens[place % len(tokens)]
        candidates.insert(how % (len(candidates) + 1), value)
    elif tokens:
        tokens[place % len(tokens)] = value


def _as_table(rows: list[dict[str, Any]]) -> pa.Table:
    columns = []
    for field in _COLUMNS:
        inner = field.type
        while pa.types.is_list(inner):
            inner = inner.value_type
        values = [_fitting(row[field.name], inner) for row in rows]
        columns.append(pa.array(values, field.type))
    return pa.Table.from_arrays(columns, names=[field.name for field in _COLUMNS])


def _fitting(value: Any, kind: pa.DataType) -> Any:
    """Return a value that a column of this kind can hold: integers have neither fractions nor infinities."""
    if isinstance(value, list):
        return [_fitting(item, kind) for item in value]
    if value is None or pa.types.is_string(kind):
        return value
    return int(np.clip(np.nan_to_num(value), -(2**31), 2**31 - 1)) if pa.types.is_integer(kind) else float(value)


@cache
def _tokenizer() -> Any:
    return DOMAIN.build_tokenizer()


def packed_signal() -> bytes:
    """Return the frames of sound rows' blobs."""
    schema = pa.schema([*_COLUMNS])
    table = encode_teacher_signal(
        pa.Table.from_pylist(plain_rows(), schema), SignalParams(vocabulary_size=VOCABULARY, logprob_bits=12)
    )
    frames = b""
    for row in table.select(COMPACT_COLUMNS).to_pylist():
        counts, blob = row["teacher_k"], row["teacher_signal"]
        frames += struct.pack("<BH", len(counts), len(blob)) + struct.pack(f"<{len(counts)}H", *counts) + blob
    return frames


def read_signal(data: bytes) -> None:
    """Decode blobs, each behind its number of tokens, its size and its counts."""
    counts: list[list[int]] = []
    blobs: list[bytes] = []
    at = 0
    while at + 3 <= len(data):
        tokens, size = struct.unpack_from("<BH", data, at)
        at += 3
        if at + 2 * tokens > len(data):
            break
        counts.append(list(struct.unpack_from(f"<{tokens}H", data, at)))
        blobs.append(data[at + 2 * tokens : at + 2 * tokens + size])
        at += 2 * tokens + size
    kinds = [COMPACT_TRAINING_SCHEMA.field(name).type for name in COMPACT_COLUMNS]
    table = pa.table([pa.array(counts, kinds[0]), pa.array(blobs, kinds[1])], names=COMPACT_COLUMNS)
    decoded = decode_teacher_signal(table)
    signal = (decoded.column(index).to_pylist() for index in (0, 1))
    for given, ids_TK, logprobs_TK in zip(counts, *signal, strict=True):
        holds([len(ids) for ids in ids_TK] == given, "a token has another number of candidates than it says")
        holds(all(logprob <= 0 for logprobs in logprobs_TK for logprob in logprobs), "a probability is above one")


def fill_card(data: bytes) -> None:
    """Fill the card with names that are any text; what it says of itself reads back."""
    from huggingface_hub import DatasetCard

    names = [name.encode("utf-8", "replace").decode() for name in text_of(data)[1].split("\x1f")]
    names = [*names, *[""] * 8][:8]
    repo, licence, source, model, revision, key, value, reason = names
    contents = _contents(source, licence, model, revision, {key: value, "prompts": {"template": value}}, reason)
    rejects, signal = {"training": {reason: 1}}, SignalCounts(targets=Counter({reason: 1}))
    facts = Facts(tables=_tables(), rejects=rejects, signal=signal, judged={})
    licences = licences_of(contents, None)
    card = make_card(contents, facts, repo, licences)
    DatasetCard(card, ignore_metadata_errors=False)
    said = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---"))
    holds(said["pretty_name"] == repo.rpartition("/")[2], "the name does not read back")
    holds({item["config_name"] for item in said["configs"]} == set(facts.tables), "a table is missing")
    holds(card.count("\n## ") == _EMPTY_CARD_HEADINGS, "a name makes a heading")


_EMPTY_CARD_HEADINGS = 7


@cache
def _tables() -> dict[str, TableFacts]:
    return {
        kind.name: TableFacts(schema=kind.schema, rows=1, bytes=1, download=1) for kind in (PROBLEMS, MODELS, TRAINING)
    }


def _contents(source: str, licence: str, model: str, revision: str, params: dict[str, Any], reason: str) -> Contents:
    run = scratch() / "run"
    shutil.rmtree(run, ignore_errors=True)
    manifests = {}
    for name in _tables():
        entry = FileEntry(file=_SHARD, sha256="0", fingerprint="0", rows=1, expected=2, rejects={reason: 1})
        provenance = {"params": params, "seed": 1}
        manifests[name] = Manifest(artefact=name, stage=name, stage_version=1, provenance=provenance, files=[entry])
        write_manifest(run / name, manifests[name])
    _write(run / PROBLEMS.name, PROBLEMS.schema, source=source, licence=licence)
    _write(run / MODELS.name, MODELS.schema, role="student", name=model, revision=revision)
    return Contents(run=run, manifests=manifests, files={})


def _write(folder: Path, schema: pa.Schema, **given: str) -> None:
    blank = {field.name: 0 if pa.types.is_integer(field.type) else "" for field in schema}
    blank |= {field.name: [] for field in schema if pa.types.is_list(field.type)}
    pq.write_table(pa.Table.from_pylist([{**blank, **given}], schema), folder / _SHARD)
