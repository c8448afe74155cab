"""A small run of the demo, and its artefacts with any number of rows: its own again and again, under other ids.

Each copy's problems have ids of their own, and so has all below them. A copy lies in one shard, as a problem's rows do,
and the copies of a shard are in the order of their ids. Scores are drawn anew: equal ones would come out of a cache.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from benchmarks.faults.demo import Demo, demo_rows
from pipeline.layout import Layout
from pipeline.shards import all_files, shard_file
from vcrd.io.files import sha256_file
from vcrd.io.manifest import read_manifest, write_manifest
from vcrd.io.parquet import read_batches, read_table, shard_files, table_writer
from vcrd.records import PROBLEMS, Artefact

_STAGES = (
    ("prepare_problems", "pretrain_models", "prepare_models", "generate_rollouts", "propose_steps", "label_steps"),
    ("review_student_steps", "review_teacher_steps", "train_prm", "score_steps", "fit_reliability", "complete_steps"),
    ("estimate_validity", "calibrate_weights", "train_student", "evaluate_student"),
)
_SMALL = (
    "run.num_shards=1",
    "problems.splits={train: 12, prm: 3, fit: 7, judge: 4, test: 4}",
    "rollouts.per_problem=1",
    "engine.batch_size=128",
    "labels={first: 2, completions: 4, independent: 4}",
    "prm.source=none",
    "reliability.min_labels=5",
    "completions.budget_per_rollout=8",
    "train.epochs=1",
)
_PROBLEMS = 30
_DRAWN = ("score_prm", "score_peer")
_ID, _KEPT, _BLOCK = 16, 8, 64


def small_run(root: Path) -> Demo:
    """Run every stage of the demo but the report, on some problems in one shard."""
    demo = Demo(root, demo_rows(_PROBLEMS), *_SMALL)
    for names in _STAGES:
        demo.make(*names)
    return demo


class Growth:
    """Takes rows from a small run and writes them into a large one."""

    def __init__(self, source: Layout, target: Layout, shards: int, splits: Collection[str] = ()) -> None:
        """Take the rows of the problems of some splits, by default of all, for so many shards."""
        self._source, self._target, self._shards = source, target, shards
        problems = read_table(source.folder(PROBLEMS.name) / shard_file(0), columns=["problem_id", "split"])
        wanted = pc.is_in(problems["split"], pa.array(sorted(splits))) if splits else pa.array([True] * len(problems))
        self._problems = problems.filter(wanted)["problem_id"].combine_chunks()

    def copies(self, kind: Artefact[Any], rows: int) -> int:
        """Return how many copies give at least so many rows."""
        return math.ceil(rows / len(self._rows(kind)))

    def grow(self, kind: Artefact[Any], copies: int) -> int:
        """Write so many copies of an artefact; return its rows."""
        rows, folder = self._rows(kind), self._target.folder(kind.name)
        shutil.rmtree(folder, ignore_errors=True)
        rng, counts = np.random.default_rng(0), []
        for shard in range(self._shards):
            mine = np.arange(shard, copies, self._shards)
            with table_writer(folder / shard_file(shard), kind.schema) as writer:
                for start in range(0, len(mine), _BLOCK):
                    writer.write(_copied(rows, mine[start : start + _BLOCK], rng))
            counts.append(writer.rows)
        made = read_manifest(self._source.folder(kind.name))
        entries = [
            replace(entry, sha256=sha256_file(folder / entry.file), fingerprint="grown", rows=count, expected=count)
            for entry, count in zip(all_files(folder), counts, strict=True)
        ]
        write_manifest(folder, replace(made, files=entries))
        return sum(counts)

    def _rows(self, kind: Artefact[Any]) -> pa.Table:
        files = shard_files(self._source.folder(kind.name))
        rows = pa.Table.from_batches([batch for file in files for batch in read_batches(file)], kind.schema)
        return rows.filter(pc.is_in(pc.utf8_slice_codeunits(rows[kind.key], 0, _ID), self._problems)).combine_chunks()


def _copied(rows: pa.Table, copies: NDArray[np.int64], rng: np.random.Generator) -> pa.Table:
    """Return the rows once for each copy, of whose problems' ids the first half is the number of the copy."""
    heads = pa.array(np.repeat([f"{copy:0{_ID - _KEPT}x}" for copy in copies.tolist()], len(rows)))
    made = rows.take(pa.array(np.tile(np.arange(len(rows)), len(copies))))

    def column(name: str) -> Any:
        if name in _DRAWN:
            return pa.array(rng.random(len(made)), pa.float32())
        if not name.endswith("_id"):
            return made[name]
        kept, behind = (pc.utf8_slice_codeunits(made[name], start, end) for start, end in ((0, _KEPT), (_ID, None)))
        return pc.binary_join_element_wise(heads, kept, behind, "")

    return pa.Table.from_arrays([column(name) for name in rows.column_names], schema=rows.schema)
