"""Rows of a `training` data set for tests: of which a test names only what it is about."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcrd.domains.demo_math import DOMAIN, generate_problems, sample_solution
from vcrd.io.parquet import table_from_rows, write_table
from vcrd.records import TRAINING

TOKENIZER = DOMAIN.build_tokenizer()
TEACHER = ("teacher_topk_ids", "teacher_topk_logprobs", "teacher_tail_logprob")


def training_row(name: str, prefix: str, step: str, weight: float | Sequence[float] = 1.5) -> dict[str, Any]:
    """A whole row, with a teacher's signal on every token of the step; a final `$` stands for the end token."""
    head = TOKENIZER.encode(prefix)
    ids = TOKENIZER.encode(step.removesuffix("$")) + ([TOKENIZER.eos_token_id] if step.endswith("$") else [])
    weights = list(weight) if isinstance(weight, Sequence) else [weight] * len(ids)
    given: dict[str, Any] = {field.name: 0 if pa.types.is_primitive(field.type) else "" for field in TRAINING.schema}
    blank: list[list[int]] = [[] for _ in head]
    return given | {
        "example_id": name,
        "input_ids": head + ids,
        "labels": [-100] * len(head) + ids,
        "token_weights": [0.0] * len(head) + weights,
        "teacher_topk_ids": blank + [[token, (token + 1) % 29] for token in ids],
        "teacher_topk_logprobs": blank + [[-0.25 - index / 64, -2.0] for index, _ in enumerate(ids)],
        "teacher_tail_logprob": [0.0] * len(head) + [-3.0 for _ in ids],
    }


def demo_rows(
    count: int, *, signal: bool = True, weights: Sequence[float] = (0.0, 0.5, 1.0, 2.5)
) -> list[dict[str, Any]]:
    """Steps of the demo's domain: different lengths and weights, every third (or all) without a teacher's signal."""
    rng = random.Random(3)
    made = []
    for index, (prompt, _) in enumerate(generate_problems(3, count, 5)):
        solution = sample_solution(prompt, rng).splitlines(keepends=True)
        cut = rng.randrange(len(solution))
        weight = rng.choice(weights)
        row = training_row(f"e{index}", f"{prompt}\n{''.join(solution[:cut])}", solution[cut], weight)
        if index % 3 == 0 or not signal:
            blank: list[list[int]] = [[] for _ in row["input_ids"]]
            row |= dict(zip(TEACHER, (blank, blank, [0.0] * len(blank)), strict=True))
        made.append(row)
    return made


def write_training(folder: Path, *shards: Sequence[dict[str, Any]], without: Sequence[str] = ()) -> Path:
    """Write shards of rows, without some of the columns."""
    folder.mkdir(parents=True)
    for index, rows in enumerate(shards):
        table = table_from_rows(rows, TRAINING.schema, "x").drop_columns(list(without))
        write_table(folder / f"part-{index:05d}.parquet", table)
    return folder
