"""The teacher's signal of `training` rows, plain or compact: distributions over tokens that exist.

Axis letters: R rows, T tokens of all rows, C candidates of all tokens.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from vcrd.rows import TokenView
from vcrd.storage.blobs import BLOB, read_compact, read_header
from vcrd.storage.rows import Flags, Rows
from vcrd.storage.scale import logprob_error_bound
from vcrd.storage.signal import IDS, TAIL, Signal, read_plain
from vcrd.validate.findings import Place

_MASS = 2e-3
_HEAD = 1.01
_PADDING_MASS = 1e-2


def check_signal(table: pa.Table, view: TokenView, place: Place, vocabulary: int | None) -> None:
    """Check that each token's candidates and tail are a distribution, and that prefixes have none.

    Raises:
        SchemaError: The columns cannot be read as a signal; its row counts from the first of `table`.
    """
    compact = BLOB in table.column_names
    rows = Rows(table.to_batches()[0], 0)
    signal = read_compact(rows) if compact else read_plain(rows)
    bits = read_header(table.column(BLOB)[0].as_py())[0] if compact else None
    ids, tail = (BLOB, BLOB) if compact else (IDS, TAIL)
    given_T = signal.counts_T > 0

    def refuse(column: str, wrong_T: Flags, message: str) -> None:
        place.refuse("teacher signal", column, view.any_in_row(wrong_T), message)

    refuse(ids, given_T & ~view.supervised_T, "expected no candidates on the prefix")
    refuse(tail, given_T & ~_adds_up(signal, bits), "expected candidates and tail to have probability 1 together")
    refuse(ids, _repeats(signal), "a candidate occurs twice in a token")
    if vocabulary is not None:
        wrong_T = _outside(signal, vocabulary)
        message = f"expected ids in [0, {vocabulary})"
        place.refuse("vocabulary", ids, view.any_in_row(wrong_T), message)


def _per_token(signal: Signal, values_C: np.ndarray) -> np.ndarray:
    token_C = np.repeat(np.arange(len(signal.counts_T)), signal.counts_T)
    return np.bincount(token_C, weights=values_C, minlength=len(signal.counts_T))


def _adds_up(signal: Signal, bits: int | None) -> Flags:
    p_C = np.exp(signal.logprobs_C.astype(np.float64))
    tail_T = np.exp(signal.tail_T.astype(np.float64))
    room_T = np.full(len(tail_T), _MASS)
    if bits is not None:
        room_T += _per_token(signal, p_C * logprob_error_bound(signal.logprobs_C, bits))
    return np.asarray(abs(_per_token(signal, p_C) + tail_T - 1) <= room_T)


def _repeats(signal: Signal) -> Flags:
    wrong_T = np.zeros(len(signal.counts_T), bool)
    for tokens_N, places_NK in signal.of_equal_count():
        ids_NK = np.sort(signal.ids_C[places_NK], axis=1)
        wrong_T[tokens_N] = (np.diff(ids_NK, axis=1) == 0).any(axis=1)
    return wrong_T


def _outside(signal: Signal, vocabulary: int) -> Flags:
    """Flag tokens with candidates that no model can have.

    A model's head may be a little wider than its vocabulary, and an engine may report the padding, which has next to
    no probability.
    """
    ids_C, improbable_C = signal.ids_C, signal.logprobs_C < np.log(_PADDING_MASS)
    padding_C = (ids_C >= vocabulary) & (ids_C < vocabulary * _HEAD) & improbable_C
    return _per_token(signal, ((ids_C < 0) | (ids_C >= vocabulary)) & ~padding_C) > 0
