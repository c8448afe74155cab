"""Some rollouts at a time, with all of their proposals and validities: a merge of three inputs that are in one order.

The order is that of `rollout_id`, then `step_index`, then the student before the teacher, in which the stages write.
Input in another order is refused: it would be put under the wrong prefixes. As every key must be above the one before
it, none occurs twice, and no set of them is kept.

Axis letters: P proposals and V validities of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vcrd.records import PROPOSALS, ROLLOUTS, VALIDITY, Artefact
from vcrd.storage.rows import Rows

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

Read = Callable[[Artefact[Any], Sequence[str], int], Iterator[pa.RecordBatch]]
"""Reads columns of an input in its order, so many rows at a time."""

_ROLLOUTS, _ROWS = 128, 2048
# Of a key: a step's number, which is an int32, and the proposer.
_STEP_BITS = 33
_KEYS = ("rollout_id", "step_index", "proposer")
_NARROW = {
    ROLLOUTS.name: ("rollout_id", "problem_id", "split", "prompt_ids", "step_ends"),
    PROPOSALS.name: (*_KEYS, "token_ids"),
    VALIDITY.name: (*_KEYS, "prefix_id", "rule", "successes", "trials", "local_validity", "prefix_broken"),
}
_MORE = {
    ROLLOUTS.name: ("domain", "token_ids"),
    PROPOSALS.name: ("text", "topk_ids", "topk_logprobs", "tail_logprob"),
    VALIDITY.name: (),
}


@dataclass(frozen=True)
class Source:
    """A shard of the inputs.

    Attributes:
        read: Gives its rows.
        file: Its name.
        problems: Take these alone, and None for all.
    """

    read: Read
    file: str
    problems: frozenset[str] | None = None


@dataclass(frozen=True)
class Window:
    """Some rollouts, all of their proposals, and the validities of those that are wanted.

    Attributes:
        rollouts: Rows of any split.
        proposals: Rows of all of these.
        validities: Rows of the wanted ones.
        rollout_V: Row of each validity's rollout.
        proposal_V: Row of each validity's proposal.
        prefix_V: Number of each validity's prefix, ascending.
        teacher_V: Whether it is of the teacher's step.
    """

    rollouts: Rows
    proposals: Rows
    validities: Rows
    rollout_V: Ints
    proposal_V: Ints
    prefix_V: Ints
    teacher_V: Flags


def columns_of(*, wide: bool) -> dict[str, tuple[str, ...]]:
    """Return the columns that are read of each input."""
    return {name: (*narrow, *_MORE[name]) if wide else narrow for name, narrow in _NARROW.items()}


def windows(source: Source, *, wide: bool) -> Iterator[Window]:
    """Go through a shard of the inputs; wanted are rollouts of the split `train`.

    Args:
        source: The shard.
        wide: Read what rows of training are made of, not only what decides on them.

    Raises:
        SchemaError: An input is not in order, or they do not belong together.
    """
    columns = columns_of(wide=wide)
    proposals, validities = (_Feed(source, kind, columns[kind.name]) for kind in (PROPOSALS, VALIDITY))
    first, last = 0, None
    for batch in source.read(ROLLOUTS, columns[ROLLOUTS.name], _ROLLOUTS):
        if not batch.num_rows:
            continue
        rollouts = Rows(batch, first, f"{ROLLOUTS.name}/{source.file}")
        last = _refuse_disorder(rollouts, last)
        ids = batch["rollout_id"]
        yield _joined(rollouts, proposals.take(ids), validities.take(ids), _wanted(batch, source.problems))
        first += batch.num_rows
    proposals.refuse_rest()
    validities.refuse_rest()


def _wanted(rollouts: pa.RecordBatch, problems: frozenset[str] | None) -> Flags:
    wanted = pc.equal(rollouts["split"], "train")
    if problems is not None:
        wanted = pc.and_(wanted, pc.is_in(rollouts["problem_id"], pa.array(sorted(problems), pa.string())))
    return np.asarray(wanted.to_numpy(zero_copy_only=False))


def _refuse_disorder(rollouts: Rows, last: str | None) -> str:
    ids = rollouts.batch["rollout_id"]
    wrong = np.zeros(len(ids), bool)
    wrong[0] = last is not None and ids[0].as_py() <= last
    wrong[1:] = pc.less_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    rollouts.refuse("expected ids in ascending order, each once; write the input again", "rollout_id", wrong)
    return str(ids[-1].as_py())


def _joined(rollouts: Rows, proposals: tuple[Rows, Ints], validities: tuple[Rows, Ints], wanted_R: Flags) -> Window:
    (given, key_P), (judged, key_V) = proposals, validities
    proposal_V = np.searchsorted(key_P, key_V)
    found_V = np.append(key_P, -1)[proposal_V] == key_V
    judged.refuse("its proposal is not among the proposals", "proposer", ~found_V)
    wanted_V = wanted_R[key_V >> _STEP_BITS]
    kept = replace(judged, batch=judged.batch.filter(pa.array(wanted_V)))
    key_V = key_V[wanted_V]
    return Window(
        rollouts=rollouts,
        proposals=given,
        validities=kept,
        rollout_V=key_V >> _STEP_BITS,
        proposal_V=proposal_V[wanted_V],
        prefix_V=key_V >> 1,
        teacher_V=(key_V & 1) == 1,
    )


class _Feed:
    """Rows of an input, taken for some rollouts after others."""

    def __init__(self, source: Source, kind: Artefact[Any], columns: Sequence[str]) -> None:
        self._file = f"{kind.name}/{source.file}"
        self._empty = pa.RecordBatch.from_pylist([], pa.schema([kind.schema.field(name) for name in columns]))
        self._columns = list(columns)
        self._batches = source.read(kind, columns, _ROWS)
        self._rest: pa.RecordBatch | None = None
        self._first = 0

    def take(self, rollout_ids: pa.Array) -> tuple[Rows, Ints]:
        """Return the rows of these rollouts, and their keys: row of the rollout, step and proposer in one number."""
        rows = self._until(rollout_ids[-1])
        place = pc.index_in(rows.batch["rollout_id"], value_set=rollout_ids)
        rows.refuse(
            "its rollout is not among the rollouts, or rows are not in the rollouts' order; write the input again",
            "rollout_id",
            place.is_null().to_numpy(zero_copy_only=False),
        )
        student, teacher = (
            pc.equal(rows.batch["proposer"], name).to_numpy(zero_copy_only=False) for name in ("student", "teacher")
        )
        rows.refuse("expected student or teacher", "proposer", ~(student | teacher))
        step = rows.numbers("step_index").astype(np.int64)
        rows.refuse("expected 0 or more", "step_index", step < 0)
        key = place.to_numpy(zero_copy_only=False).astype(np.int64) << _STEP_BITS | step << 1 | teacher
        rows.refuse(
            "expected steps in ascending order, the student's before the teacher's, each once; write the input again",
            "step_index",
            np.diff(key, prepend=-1) <= 0,
        )
        return rows, key

    def refuse_rest(self) -> None:
        """Raise a `SchemaError` where rows are left behind the last rollout."""
        rest = self._next()
        if rest is not None:
            rows = Rows(rest, self._first, self._file)
            rows.refuse("its rollout is not among the rollouts", "rollout_id", np.ones(rest.num_rows, bool))

    def _next(self) -> pa.RecordBatch | None:
        while self._rest is None or not self._rest.num_rows:
            self._rest = next(self._batches, None)
            if self._rest is None:
                return None
        return self._rest

    def _until(self, last: pa.Scalar) -> Rows:
        taken = []
        while (rest := self._next()) is not None:
            beyond = pc.greater(rest["rollout_id"], last).to_numpy(zero_copy_only=False)
            count = int(beyond.argmax()) if beyond.any() else rest.num_rows
            taken.append(rest.slice(0, count))
            self._rest = rest.slice(count)
            if count < rest.num_rows:
                break
        batch = pa.concat_batches([part.select(self._columns) for part in taken] or [self._empty])
        rows = Rows(batch, self._first, self._file)
        self._first += batch.num_rows
        return rows
