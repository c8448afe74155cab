"""The teacher's signal of many tokens as flat arrays: read from the plain columns, checked, trimmed, given back.

Axis letters: T tokens of all rows, C candidates of all tokens, N tokens of equal k, K candidates of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcrd.records import TRAINING
from vcrd.storage.rows import Counts, Rows, lengths_of, places_of, starts_of

IDS, LOGPROBS, TAIL = PLAIN_COLUMNS = ("teacher_topk_ids", "teacher_topk_logprobs", "teacher_tail_logprob")

# Sums in float32 put a probability of 1 a little above it.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Signal:
    """Flat arrays, token behind token.

    Attributes:
        starts_R1: First token of every row, and the number of tokens, [R + 1].
        counts_T: Candidates per token.
        ids_C: Candidates' ids.
        logprobs_C: Their log-probabilities.
        tail_T: Log of the rest of the mass, 0.0 where there is no candidate.
    """

    starts_R1: Counts
    counts_T: Counts
    ids_C: NDArray[np.int32]
    logprobs_C: NDArray[np.float32]
    tail_T: NDArray[np.float32]

    def of_equal_count(self) -> Iterator[tuple[Counts, Counts]]:
        """Go through the tokens with candidates: some of equal k, [N], and the places of their candidates, [N, K]."""
        for k in np.unique(self.counts_T[self.counts_T > 0]).tolist():
            yield from places_of(np.flatnonzero(self.counts_T == k), starts_of(self.counts_T), k)


def read_plain(rows: Rows, columns: Sequence[str] = PLAIN_COLUMNS) -> Signal:
    """Read the plain columns, or those of other names that hold the same.

    Raises:
        SchemaError: They do not belong together, or a log-probability is none.
    """
    name_ids, name_logprobs, name_tail = columns
    kinds = [TRAINING.schema.field(name).type for name in PLAIN_COLUMNS]
    ids, logprobs, tail = (rows.column(name, kind) for name, kind in zip(columns, kinds, strict=True))
    for name, lists in ((name_logprobs, logprobs), (name_tail, tail)):
        rows.refuse(f"expected a value for each token of {name_ids}", name, lengths_of(lists) != lengths_of(ids))
    starts_R1, counts_T = starts_of(lengths_of(ids)), lengths_of(ids.flatten())

    def refuse(message: str, column: str, wrong_T: Any) -> None:
        rows.refuse_tokens(message, column, wrong_T, starts_R1)

    refuse(f"expected as many candidates as {name_ids} has", name_logprobs, lengths_of(logprobs.flatten()) != counts_T)
    tail_T = tail.flatten().to_numpy(zero_copy_only=False)
    ids_C, logprobs_C = (lists.flatten().flatten().to_numpy(zero_copy_only=False) for lists in (ids, logprobs))
    token_C = np.repeat(np.arange(len(counts_T)), counts_T)
    bad_T = np.zeros(len(counts_T), bool)
    bad_T[token_C[~(logprobs_C <= _ROUNDING)]] = True
    refuse("expected log-probabilities, which are at most 0", name_logprobs, bad_T)
    refuse("expected a log-probability, which is at most 0", name_tail, ~(tail_T <= _ROUNDING))
    whole_T = abs(tail_T) <= _ROUNDING
    refuse("expected 0.0, all the mass, where there is no candidate", name_tail, (counts_T == 0) & ~whole_T)
    return Signal(starts_R1, counts_T, ids_C, logprobs_C, tail_T)


def trim(signal: Signal, vocabulary_size: int, keep_mass: float | None, drop_padding: bool) -> Signal:
    """Move candidates into the tail, in float64: padding ids, and those behind the smallest set that holds a mass."""
    if keep_mass is None and not (drop_padding and (signal.ids_C >= vocabulary_size).any()):
        return signal
    keep_C = np.ones(len(signal.ids_C), bool)
    counts_T, tail_T = signal.counts_T.copy(), signal.tail_T.copy()
    for tokens_N, places_NK in signal.of_equal_count():
        order_NK = np.argsort(-signal.logprobs_C[places_NK], axis=1, kind="stable")
        places_NK = np.take_along_axis(places_NK, order_NK, axis=1)
        p_NK = np.exp(signal.logprobs_C[places_NK].astype(np.float64))
        kept_NK = np.logical_or(not drop_padding, signal.ids_C[places_NK] < vocabulary_size)
        if keep_mass is not None:
            real_NK = np.where(kept_NK, p_NK, 0.0)
            kept_NK &= np.cumsum(real_NK, axis=1) - real_NK < keep_mass
        moved_N = np.where(kept_NK, 0.0, p_NK).sum(axis=1)
        tail_N = tail_T[tokens_N].astype(np.float64)
        # A token that keeps all its candidates keeps its tail to the last bit.
        moving_N = moved_N > 0
        tail_N[moving_N] = np.log(np.exp(tail_N[moving_N]) + moved_N[moving_N])
        tail_T[tokens_N] = tail_N
        counts_T[tokens_N] = kept_NK.sum(axis=1)
        keep_C[places_NK] = kept_NK
    tail_T[counts_T == 0] = 0.0
    return replace(
        signal, counts_T=counts_T, ids_C=signal.ids_C[keep_C], logprobs_C=signal.logprobs_C[keep_C], tail_T=tail_T
    )


def write_plain(signal: Signal) -> dict[str, Any]:
    """Return the plain columns."""
    outer, inner = (pa.array(places, pa.int32()) for places in (signal.starts_R1, starts_of(signal.counts_T)))

    def nested(values: NDArray[Any]) -> Any:
        return pa.ListArray.from_arrays(outer, pa.ListArray.from_arrays(inner, pa.array(values)))

    tail = pa.ListArray.from_arrays(outer, pa.array(signal.tail_T))
    return {IDS: nested(signal.ids_C), LOGPROBS: nested(signal.logprobs_C), TAIL: tail}
