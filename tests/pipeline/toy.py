"""A conveyor of two toy stages, for tests of the runner alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.layout import Layout
from pipeline.params import RunParams, Settings
from pipeline.shards import shard_file, shard_of, write_shards
from pipeline.stage import Context, Shard, ShardedStage, ShardResult, WholeResult, WholeStage
from vcrd.io.rejects import Reject, reject


@dataclass(frozen=True)
class Number:
    problem_id: str
    split: str
    value: int


class Numbers:
    name, key = "numbers", "problem_id"
    schema = pa.schema(
        [
            pa.field("problem_id", pa.string(), nullable=False),
            pa.field("split", pa.string(), nullable=False),
            pa.field("value", pa.int32(), nullable=False),
        ]
    )

    def parse(self, rows: Iterable[dict[str, Any]], /) -> list[Number]:
        return [Number(**row) for row in rows]


class Squares(Numbers):
    name = "squares"


@dataclass(frozen=True)
class ToyParams:
    add: int


NUMBERS, SQUARES = Numbers(), Squares()


def build(context: Context, out: Path) -> WholeResult:
    count = context.settings.run.num_shards
    numbers = [Number(f"n{index}", "train", index) for index in range(40)]
    shards: list[tuple[str, list[Number], list[Reject]]] = [
        (shard_file(shard), [item for item in numbers if shard_of(item.problem_id, count) == shard], [])
        for shard in range(count)
    ]
    return write_shards(out, NUMBERS, shards, len(numbers))


def load(context: Context) -> int:
    log(context, "load")
    return context.settings.get(ToyParams).add


def work(add: int, shard: Shard) -> ShardResult:
    log(shard.context, shard.file)
    numbers = shard.read(NUMBERS)
    kept = [Number(item.problem_id, item.split, item.value**2 + add) for item in numbers if item.value % 10]
    rejects = [reject(item.problem_id, "round", str(item.value)) for item in numbers if not item.value % 10]
    shard.progress(len(kept))
    return ShardResult(kept, rejects, expected=len(numbers))


def log(context: Context, line: str) -> None:
    with (context.layout.data.parent / "log").open("a") as file:
        file.write(f"{line} {os.getpid()}\n")


MAKE = WholeStage(name="make", version=1, sections={}, output="numbers", build=build)
SQUARE = ShardedStage(
    name="square",
    version=1,
    sections={"toy": ToyParams},
    output="squares",
    kind=SQUARES,
    sharded_inputs=(NUMBERS,),
    load=load,
    work=work,
    sample_kind=NUMBERS,
)


def context(root: Path, add: int = 1, num_shards: int = 4, max_reject_share: float = 0.5) -> Context:
    run = RunParams(num_shards=num_shards, workers=1, max_reject_share=max_reject_share)
    settings = Settings("toy", 1, run, {"toy": ToyParams(add)}, {"toy": {"add": add}})
    layout = Layout("toy", root / "data", root / "hidden")
    return Context(settings, layout, layout)
