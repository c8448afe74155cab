"""Five stages on the real conveyor whose work is nothing but arithmetic, so that a run takes seconds.

How long a shard takes is read from the file `pace`, and work waits while there is a file `closed`; neither decides a
byte. Every shard that is begun is a line in `begun`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
from annotated_types import Ge

from pipeline.shards import shard_file, shard_of, write_shards
from pipeline.stage import Context, Shard, ShardedStage, ShardResult, Stage, WholeResult, WholeStage
from vcrd.io.rejects import Reject, reject

_FIELDS = {"problem_id": pa.string(), "split": pa.string(), "value": pa.int64(), "note": pa.string()}
_SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _FIELDS.items()])


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainParams:
    """What decides the numbers."""

    rows: Annotated[int, Ge(1)]
    """Numbers in all."""
    add: int
    """Added to every square."""
    width: Annotated[int, Ge(0)]
    """Characters of a row's note, which no compression makes small."""


@dataclass(frozen=True, slots=True)
class Number:
    """A row of every artefact."""

    problem_id: str
    split: str
    value: int
    note: str


@dataclass(frozen=True)
class Numbers:
    """A kind of data set."""

    name: str
    key: str = "problem_id"
    schema: pa.Schema = _SCHEMA

    def parse(self, rows: Iterable[dict[str, Any]], /) -> list[Number]:
        """Turn rows into records."""
        return [Number(**row) for row in rows]


NUMBERS, SQUARES, SUMS, TOTALS, MARKS = (Numbers(name) for name in ("numbers", "squares", "sums", "totals", "marks"))

_ODD = reject("none", "not_a_number", "there is one in every list")


def _note(name: str, width: int) -> str:
    blocks = (hashlib.sha512(f"{name} {block}".encode()).hexdigest() for block in range(width // 128 + 1))
    return "".join(blocks)[:width]


def _begin(context: Context, what: str) -> None:
    root = context.layout.data.parent
    with (root / "begun").open("a") as file:
        file.write(what + "\n")
    time.sleep(float((root / "pace").read_text()))
    while (root / "closed").exists():
        time.sleep(0.01)


def _made(shard: Shard, stage: str, values: Iterable[tuple[Number, int]], rejects: list[Reject]) -> ShardResult:
    _begin(shard.context, f"{stage} {shard.file}")
    width = shard.context.settings.get(ChainParams).width
    made = [
        Number(item.problem_id, item.split, value, _note(f"{stage} {item.problem_id}", width)) for item, value in values
    ]
    shard.progress(len(made))
    return ShardResult(made, rejects, expected=len(made) + len(rejects))


def _build_numbers(context: Context, out: Path) -> WholeResult:
    _begin(context, "numbers all")
    params, count = context.settings.get(ChainParams), context.settings.run.num_shards
    numbers = [Number(f"n{index}", "train", index, "") for index in range(params.rows)]
    dealt = [[item for item in numbers if shard_of(item.problem_id, count) == index] for index in range(count)]
    shards = [(shard_file(index), mine, [_ODD] if not index else []) for index, mine in enumerate(dealt)]
    return write_shards(out, NUMBERS, shards, len(numbers) + 1)


def _square(add: int, shard: Shard) -> ShardResult:
    numbers = shard.read(NUMBERS)
    refused = [reject(item.problem_id, "round", str(item.value)) for item in numbers if not item.value % 10]
    kept = [(item, item.value**2 + add) for item in numbers if item.value % 10]
    return _made(shard, "squares", kept, refused)


def _sum(add: int, shard: Shard) -> ShardResult:
    numbers = {item.problem_id: item.value for item in shard.read(NUMBERS)}
    return _made(shard, "sums", [(item, item.value + numbers[item.problem_id]) for item in shard.read(SQUARES)], [])


def _build_totals(context: Context, out: Path) -> WholeResult:
    _begin(context, "totals all")
    totals = [Number(kind.name, "train", sum(i.value for i in context.read(kind)), "") for kind in (SQUARES, SUMS)]
    return write_shards(out, TOTALS, [(shard_file(0), totals, [_ODD])], len(totals) + 1)


def _mark(total: int, shard: Shard) -> ShardResult:
    return _made(shard, "marks", [(item, item.value * 1000 // total) for item in shard.read(SUMS)], [])


def _add(context: Context) -> int:
    return context.settings.get(ChainParams).add


def _total(context: Context) -> int:
    return context.read(TOTALS)[0].value


_COMMON: dict[str, Any] = {"version": 1, "sections": {"chain": ChainParams}}
_SHARDED: dict[str, Any] = {**_COMMON, "load": _add}
CHAIN: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        WholeStage(name="numbers", output="numbers", build=_build_numbers, **_COMMON),
        ShardedStage(
            name="squares", output="squares", kind=SQUARES, sharded_inputs=(NUMBERS,), work=_square, **_SHARDED
        ),
        ShardedStage(name="sums", output="sums", kind=SUMS, sharded_inputs=(NUMBERS, SQUARES), work=_sum, **_SHARDED),
        WholeStage(name="totals", output="totals", whole_inputs=("squares", "sums"), build=_build_totals, **_COMMON),
        ShardedStage(
            name="marks",
            output="marks",
            kind=MARKS,
            sharded_inputs=(SUMS,),
            whole_inputs=("totals",),
            work=_mark,
            **{**_COMMON, "load": _total},
        ),
    )
}
