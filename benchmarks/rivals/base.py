"""What a method is: what it learns from a pool, and what that cost to generate.

Axis letters: N rows of a lesson.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcrd.calibration import CalibrationParams
from vcrd.examples import Source, choose_targets, gather_pairs, make_examples, scale_of
from vcrd.records import IGNORED, TRAINING, VALIDITY, Artefact, Rollout
from vcrd.weights import WeightParams

if TYPE_CHECKING:
    from benchmarks.experiments.loaded import Pool
    from benchmarks.experiments.training import Schooling

ROLLOUTS, PROPOSALS, LABELS, COMPLETIONS = "rollouts", "proposals", "labels", "completions"
SOLUTION, SOLUTIONS = "solution", "solutions"
"""What of a pool's generated tokens a method may need; one solution of each problem by the teacher, or all of them."""
STEPS = (ROLLOUTS, PROPOSALS)
ESTIMATED = (*STEPS, LABELS, COMPLETIONS)

_SOLUTION_SCHEMA = pa.schema([TRAINING.schema.field(name) for name in ("input_ids", "labels", "token_weights")])


@dataclass(frozen=True)
class Lesson:
    """Rows to learn, with the columns of `TRAINING` that a trainer reads.

    Attributes:
        rows: N rows.
        group_N: Rows of a group are drawn together: they share a prefix.
    """

    rows: pa.Table
    group_N: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to make a student from a pool.

    Attributes:
        name: In tables and Parquet.
        title: For people.
        needs: What of the pool's generated tokens it could not do without.
        lesson: What it learns, where that is settled before training.
        school: (model, tokenizer, pool, schooling) -> (optimiser steps, supervised tokens, generated tokens): how it
            trains, where its lesson comes up on the way.
        kl_coef: Share of the KL to the teacher's candidates.
        version: Raised by hand when the same pool would give another student.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    lesson: Callable[[Pool], Lesson] | None = None
    school: Callable[[Any, Any, Pool, Schooling], tuple[int, int, int]] | None = None
    kl_coef: float = 0.0
    version: int = 1


def step_lesson(pool: Pool, validity: NDArray[np.float64] | None = None, **changes: str) -> Lesson:
    """Make the rows as `calibrate_weights` makes them, from the pool's estimates or from other validities.

    Args:
        pool: With one shard of rollouts, proposals and validities.
        validity: In the order of the pool's validities; None: the estimated ones.
        changes: Of `CalibrationParams`, where a method is not the preset's, which is the default.
    """
    calibration = replace(pool.settings.get(CalibrationParams), **changes)  # type: ignore[arg-type]
    weights = replace(pool.settings.get(WeightParams), teacher_signal="plain", keep_mass=None)

    def read(kind: Artefact[Any], columns: Sequence[str], rows: int) -> Any:
        place = 0
        for batch in pool.stream(kind, columns, rows):
            if kind is VALIDITY and validity is not None:
                values = pa.array(validity[place : place + batch.num_rows], pa.float32())
                index = batch.schema.get_field_index("local_validity")
                batch = batch.set_column(index, batch.schema.field(index), values)
            place += batch.num_rows
            yield batch

    source = Source(read, pool.file)
    pairs, _ = gather_pairs(source, weights)
    targets = choose_targets(pairs, calibration)
    made = make_examples(source, weights, targets, scale_of(targets, weights))
    rows = pa.concat_tables(table for tables, _ in made for table in tables).combine_chunks()
    groups = rows["rollout_id"].combine_chunks().dictionary_encode().indices
    return Lesson(rows, groups.to_numpy(zero_copy_only=False).astype(np.int64))


def solution_lesson(solutions: Sequence[Rollout], tokens: Sequence[int] | None = None) -> Lesson:
    """Lay out whole solutions, each by itself.

    Args:
        solutions: To learn.
        tokens: How many tokens of each are learned, from its beginning; None: all.
    """
    taught = [len(item.token_ids) for item in solutions] if tokens is None else list(tokens)
    rows = []
    for item, count in zip(solutions, taught, strict=True):
        before, ids = len(item.prompt_ids), item.token_ids[:count]
        rows.append(
            {
                "input_ids": [*item.prompt_ids, *ids],
                "labels": [IGNORED] * before + ids,
                "token_weights": [0.0] * before + [1.0] * count,
            }
        )
    return Lesson(pa.Table.from_pylist(rows, _SOLUTION_SCHEMA), np.arange(len(rows)))


def first_of_each(solutions: Sequence[Rollout], samples: int) -> list[Rollout]:
    """Return the first `samples` solutions of every problem."""
    return [item for item in solutions if int(item.rollout_id.rpartition("/r")[2]) < samples]
