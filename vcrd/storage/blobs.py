"""Flat arrays of signal to and from the compact columns: a list of counts, and one blob of bytes per row.

A blob is a header of six bytes (version, bits per log-probability, vocabulary size) and the blocks of the row's tokens
that have candidates, in their order.

Axis letters: R rows, T tokens of all rows, N tokens of equal k, K candidates of each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcrd.records import COMPACT_TRAINING_SCHEMA
from vcrd.storage.codec import Bytes, Layout, decode_blocks, encode_blocks
from vcrd.storage.rows import Counts, Rows, lengths_of, places_of, starts_of
from vcrd.storage.scale import MAX_BITS, MIN_BITS
from vcrd.storage.signal import IDS, Signal

COUNTS, BLOB = COMPACT_COLUMNS = ("teacher_k", "teacher_signal")
VERSION = 1

_HEADER = np.dtype([("version", "u1"), ("logprob_bits", "u1"), ("vocabulary_size", "<u4")])


def read_header(blob: bytes) -> tuple[int, int]:
    """Return the bits of a log-probability and the vocabulary size that a row's blob names; it must be long enough."""
    header = np.frombuffer(blob[: _HEADER.itemsize], _HEADER)[0]
    return int(header["logprob_bits"]), int(header["vocabulary_size"])


def write_compact(rows: Rows, signal: Signal, vocabulary_size: int, logprob_bits: int) -> dict[str, Any]:
    """Return the compact columns.

    Raises:
        SchemaError: An id is not in [0, `vocabulary_size`), or occurs twice in a token.
    """
    sizes_T = np.zeros(len(signal.counts_T), np.int64)
    for k in np.unique(signal.counts_T).tolist():
        sizes_T[signal.counts_T == k] = Layout(k, vocabulary_size, logprob_bits).size
    block_starts_T, blob_starts_R1 = _places(signal.starts_R1, sizes_T)
    blob: Bytes = np.zeros(blob_starts_R1[-1], np.uint8)
    header = np.array([(VERSION, logprob_bits, vocabulary_size)], _HEADER).view(np.uint8)
    blob[blob_starts_R1[:-1, None] + np.arange(_HEADER.itemsize)] = header
    wrong_T = np.zeros(len(sizes_T), bool)
    for tokens_N, places_NK in signal.of_equal_count():
        layout = Layout(places_NK.shape[1], vocabulary_size, logprob_bits)
        order_NK = np.argsort(signal.ids_C[places_NK], axis=1)
        places_NK = np.take_along_axis(places_NK, order_NK, axis=1)
        ids_NK = signal.ids_C[places_NK]
        in_order_N = (np.diff(ids_NK, axis=1) > 0).all(axis=1)
        wrong_T[tokens_N] = ~(in_order_N & (ids_NK[:, 0] >= 0) & (ids_NK[:, -1] < vocabulary_size))
        if not wrong_T.any():
            blocks = encode_blocks(ids_NK, signal.logprobs_C[places_NK], signal.tail_T[tokens_N], layout)
            blob[block_starts_T[tokens_N][:, None] + np.arange(layout.size)] = blocks
    rows.refuse_tokens(f"expected distinct ids in [0, {vocabulary_size})", IDS, wrong_T, signal.starts_R1)
    counts = pa.array(signal.counts_T).cast(COMPACT_TRAINING_SCHEMA.field(COUNTS).type.value_type)
    places = pa.array(blob_starts_R1, pa.int32()).buffers()[1]
    return {
        COUNTS: pa.ListArray.from_arrays(pa.array(signal.starts_R1, pa.int32()), counts),
        BLOB: pa.Array.from_buffers(pa.binary(), len(blob_starts_R1) - 1, [None, places, pa.py_buffer(blob)]),
    }


def _places(starts_R1: Counts, sizes_T: Counts) -> tuple[Counts, Counts]:
    """Return where each token's block begins [T], and each row's blob, with the end [R + 1]; headers are counted."""
    before_T1 = starts_of(sizes_T)
    rows_R1 = np.arange(len(starts_R1))
    headers_T = np.repeat(rows_R1[1:], np.diff(starts_R1)) * _HEADER.itemsize
    return before_T1[:-1] + headers_T, before_T1[starts_R1] + rows_R1 * _HEADER.itemsize


def read_compact(rows: Rows) -> Signal:
    """Read the compact columns.

    Raises:
        SchemaError: A blob is not one that `write_compact` wrote for these counts, or of another version.
    """
    counts = rows.column(COUNTS, COMPACT_TRAINING_SCHEMA.field(COUNTS).type)
    starts_R1 = starts_of(lengths_of(counts))
    counts_T = counts.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
    data, blob_starts_R1 = _bytes_of(rows)
    layouts, layout_T = _layouts(rows, data, blob_starts_R1, starts_R1, counts_T)
    sizes_T = np.array([layout.size for layout in layouts], np.int64)[layout_T]
    block_starts_T, expected_R1 = _places(starts_R1, sizes_T)
    wrong_R = np.diff(expected_R1) != np.diff(blob_starts_R1)
    rows.refuse(f"has not the size that {COUNTS} asks for", BLOB, wrong_R)

    first_C = starts_of(counts_T)
    ids_C, logprobs_C = np.empty(first_C[-1], np.int32), np.empty(first_C[-1], np.float32)
    tail_T, wrong_T = np.zeros(len(counts_T), np.float32), np.zeros(len(counts_T), bool)
    for index, layout in enumerate(layouts):
        if not layout.k:
            continue
        for tokens_N, places_NK in places_of(np.flatnonzero(layout_T == index), first_C, layout.k):
            blocks = data[block_starts_T[tokens_N][:, None] + np.arange(layout.size)]
            ids_C[places_NK], logprobs_C[places_NK], tail_T[tokens_N], sound_N = decode_blocks(blocks, layout)
            wrong_T[tokens_N] = ~sound_N
    rows.refuse_tokens("is broken: ids out of order or of range, or bits that mean nothing", BLOB, wrong_T, starts_R1)
    return Signal(starts_R1, counts_T, ids_C, logprobs_C, tail_T)


def _bytes_of(rows: Rows) -> tuple[Bytes, Counts]:
    """Return the bytes of all blobs and where each begins, with the end, without a copy."""
    blobs = rows.column(BLOB, pa.binary())
    _, places, data = blobs.buffers()
    starts_R1 = np.frombuffer(places, np.int32)[blobs.offset :][: len(blobs) + 1].astype(np.int64)
    whole = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return whole[starts_R1[0] : starts_R1[-1]], starts_R1 - starts_R1[0]


def _layouts(
    rows: Rows, data: Bytes, blob_starts_R1: Counts, starts_R1: Counts, counts_T: Counts
) -> tuple[list[Layout], NDArray[np.int64]]:
    """Return the layouts that occur, and which one each token has: rows may come from several data sets."""
    rows.refuse("is shorter than a header", BLOB, np.diff(blob_starts_R1) < _HEADER.itemsize)
    headers_R = data[blob_starts_R1[:-1, None] + np.arange(_HEADER.itemsize)].view(_HEADER)[:, 0]
    other = f"is of another version than {VERSION}, the one that this vcrd reads"
    rows.refuse(other, BLOB, headers_R["version"] != VERSION)
    bits_R, vocabulary_R = headers_R["logprob_bits"], headers_R["vocabulary_size"]
    bad_R = (bits_R < MIN_BITS) | (bits_R > MAX_BITS) | (vocabulary_R < 1) | (vocabulary_R > 2**31)
    rows.refuse("has a header that cannot be", BLOB, bad_R)
    kinds, kind_R = np.unique(headers_R, return_inverse=True)
    row_T = np.repeat(np.arange(len(headers_R)), np.diff(starts_R1))
    too_many_T = counts_T > vocabulary_R[row_T]
    rows.refuse_tokens("expected no more candidates than the vocabulary has ids", COUNTS, too_many_T, starts_R1)
    pairs, layout_T = np.unique(kind_R[row_T] * 2**16 + counts_T, return_inverse=True)
    layouts = [
        Layout(pair % 2**16, int(kinds[pair // 2**16]["vocabulary_size"]), int(kinds[pair // 2**16]["logprob_bits"]))
        for pair in pairs.tolist()
    ]
    return layouts, layout_T
