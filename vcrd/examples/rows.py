"""Rows of training, made for many prefixes at once from Arrow's own buffers.

Axis letters: N rows, R rollouts and P proposals of a window, T tokens of all rows, S supervised ones, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vcrd.examples.pairs import Paired
from vcrd.examples.targets import Targets
from vcrd.examples.windows import Ints, Window
from vcrd.records import IGNORED, TRAINING
from vcrd.storage.rows import lengths_of, starts_of
from vcrd.storage.signal import Signal, read_plain, write_plain
from vcrd.weights import token_weights

_TOKENS = 2**19
_SIGNAL = ("topk_ids", "topk_logprobs", "tail_logprob")


def make_rows(paired: Paired, targets: Targets, scale: float, w_max: float) -> Iterator[pa.Table]:
    """Write out the examples of a window: each prefix masked, each target step's tokens weighted.

    Args:
        paired: Of a window that was read wide.
        targets: Of its N pairs.
        scale: Solved over the corpus.
        w_max: Upper bound of a weight.

    Yields:
        Tables of `TRAINING.schema`, cut where they would hold too many tokens.

    Raises:
        SchemaError: Columns of an input do not belong together.
    """
    if not len(paired.pairs):
        return
    source = _Source.of(paired.window)
    target_N = paired.window.proposal_V[paired.student_N + ~targets.own_N]
    rollout_N = paired.window.rollout_V[paired.student_N]
    lengths_N = source.prompts_R[rollout_N] + paired.before_N + targets.tokens_N
    block_N = np.cumsum(lengths_N) // _TOKENS
    weights_N = token_weights(targets.strength_N, scale, w_max)
    for rows in np.split(np.arange(len(block_N)), np.flatnonzero(np.diff(block_N)) + 1):
        made = source.tokens(rollout_N[rows], paired.before_N[rows], target_N[rows], weights_N[rows])
        made |= _facts(paired, targets, rows)
        yield pa.Table.from_arrays([made[name] for name in TRAINING.schema.names], schema=TRAINING.schema)


def _facts(paired: Paired, targets: Targets, rows: Ints) -> dict[str, Any]:
    window = paired.window
    student_N = paired.student_N[rows]
    rollout_N = pa.array(window.rollout_V[student_N])
    own_N = targets.own_N[rows]
    student, teacher = (paired.pairs[name][rows].astype(np.float64) for name in ("student", "teacher"))
    steps = {
        f"{name}_step": window.proposals.batch["text"].take(pa.array(window.proposal_V[student_N + place]))
        for place, name in enumerate(("student", "teacher"))
    }
    return {
        "example_id": window.validities.batch["prefix_id"].take(pa.array(student_N)),
        **{name: window.rollouts.batch[name].take(rollout_N) for name in ("rollout_id", "problem_id", "domain")},
        "step_index": window.validities.batch["step_index"].take(pa.array(student_N)),
        "target": pc.if_else(pa.array(own_N), "student", "teacher"),
        **steps,
        "student_validity": _floats(student),
        "teacher_validity": _floats(teacher),
        "relative_validity": _floats(teacher - student),
        "target_value": _floats(targets.value_N[rows]),
        "step_strength": _floats(targets.strength_N[rows]),
    }


def _floats(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values.astype(np.float32))


@dataclass(frozen=True)
class _Source:
    """Flat tokens of a window: all prompts, then all rollouts, then all proposals; and the proposals' signal.

    Attributes:
        ids: Of all of them.
        prompt_R1: Where each prompt begins.
        rollout_R1: Where each rollout begins.
        step_P1: Where each proposal begins.
        signal: Of the proposals, of which token 0 is `ids[step_P1[0]]`.
        candidates: Where each proposed token's candidates begin.
    """

    ids: NDArray[np.int32]
    prompt_R1: Ints
    rollout_R1: Ints
    step_P1: Ints
    signal: Signal
    candidates: Ints

    @classmethod
    def of(cls, window: Window) -> _Source:
        """Read the columns, and hold them against each other."""
        rollouts, proposals = window.rollouts, window.proposals
        lists = [rollouts.batch["prompt_ids"], rollouts.batch["token_ids"], proposals.batch["token_ids"]]
        flat = [item.flatten().to_numpy(zero_copy_only=False) for item in lists]
        prompts, tokens, steps = (starts_of(lengths_of(item)) for item in lists)
        behind_R = _ends(rollouts.batch["step_ends"]) > np.diff(tokens)
        rollouts.refuse("expected no step to end behind the last token", "step_ends", behind_R)
        signal = read_plain(proposals, _SIGNAL)
        other_P = np.diff(signal.starts_R1) != np.diff(steps)
        proposals.refuse("expected a value for each token of token_ids", _SIGNAL[0], other_P)
        return cls(
            ids=np.concatenate(flat),
            prompt_R1=prompts,
            rollout_R1=tokens + prompts[-1],
            step_P1=steps + prompts[-1] + tokens[-1],
            signal=signal,
            candidates=starts_of(signal.counts_T),
        )

    @property
    def prompts_R(self) -> Ints:
        """Tokens of each prompt."""
        return np.diff(self.prompt_R1)

    def tokens(self, rollout_N: Ints, before_N: Ints, target_N: Ints, weights_N: NDArray[np.float64]) -> dict[str, Any]:
        """Return the per-token columns of rows: prompt, so many tokens of the rollout, a proposal with its weight."""
        first_N = self.step_P1[target_N]
        steps_N = np.diff(self.step_P1)[target_N]
        starts_N3 = np.stack([self.prompt_R1[rollout_N], self.rollout_R1[rollout_N], first_N], axis=1)
        lengths_N3 = np.stack([self.prompts_R[rollout_N], before_N, steps_N], axis=1)
        ids_T = self.ids[_ranges(starts_N3.ravel(), lengths_N3.ravel())]
        rows_N1 = starts_of(lengths_N3.sum(axis=1))
        supervised_S = _ranges(rows_N1[1:] - steps_N, steps_N)

        def spread(fill: float, values_S: NDArray[Any]) -> NDArray[Any]:
            whole = np.full(len(ids_T), fill, values_S.dtype)
            whole[supervised_S] = values_S
            return whole

        from_S = _ranges(first_N - self.step_P1[0], steps_N)
        counts_S = self.signal.counts_T[from_S]
        from_C = _ranges(self.candidates[from_S], counts_S)
        signal = Signal(
            starts_R1=rows_N1,
            counts_T=spread(0, counts_S),
            ids_C=self.signal.ids_C[from_C],
            logprobs_C=self.signal.logprobs_C[from_C],
            tail_T=spread(0.0, self.signal.tail_T[from_S]),
        )
        per_token = {
            "input_ids": ids_T,
            "labels": spread(IGNORED, ids_T[supervised_S]),
            "token_weights": spread(0.0, np.repeat(weights_N.astype(np.float32), steps_N)),
        }
        places = pa.array(rows_N1, pa.int32())
        lists = {name: pa.ListArray.from_arrays(places, pa.array(flat)) for name, flat in per_token.items()}
        return lists | write_plain(signal)


def _ends(lists: pa.Array) -> Ints:
    """Return the largest value of each list, 0 for an empty one."""
    largest = np.zeros(len(lists), np.int64)
    values = lists.flatten().to_numpy(zero_copy_only=False)
    np.maximum.at(largest, np.repeat(np.arange(len(lists)), lengths_of(lists)), values)
    return largest


def _ranges(starts: Ints, lengths: Ints) -> Ints:
    """Return the numbers of ranges, one behind the other.

    >>> _ranges(np.array([7, 0]), np.array([2, 3])).tolist()
    [7, 8, 0, 1, 2]
    """
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - ends + lengths, lengths)
