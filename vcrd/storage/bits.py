"""Integers as fields of bits, low bit first, and sets of ids as Elias-Fano codes; all tokens of a batch at once.

Axis letters: N tokens, K values of each, W bits of each. Bits are arrays of 0 and 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]


def to_bits(values_NK: NDArray[Any], width: int) -> Bits:
    """Return the `width` low bits of every value, [N, K * width]; `width` is at most 32."""
    bits_NKW = np.unpackbits(
        values_NK.astype("<u4", order="C").view(np.uint8).reshape(*values_NK.shape, 4), axis=-1, bitorder="little"
    )
    return bits_NKW[..., :width].reshape(len(values_NK), -1)


def from_bits(bits: Bits, count: int, width: int) -> NDArray[np.uint32]:
    """Undo `to_bits`: [N, count * width] gives [N, count]."""
    container = 16 if width <= 16 else 32
    bits_NKW = np.zeros((len(bits), count, container), np.uint8)
    bits_NKW[..., :width] = bits.reshape(len(bits), count, width)
    packed = np.packbits(bits_NKW.reshape(len(bits), count * container), axis=-1, bitorder="little")
    return packed.view(f"<u{container // 8}").astype(np.uint32)


def low_width(k: int, vocabulary_size: int) -> int:
    """Return how many low bits of k ids are stored as they are: what makes the set shortest, the least of equals."""
    return min(range(vocabulary_size.bit_length() + 1), key=lambda width: set_width(k, vocabulary_size, width))


def set_width(k: int, vocabulary_size: int, low: int) -> int:
    """Return the bits that a set of k ids takes with `low` low bits of each as they are."""
    return k * low + k + ((vocabulary_size - 1) >> low)


def set_to_bits(ids_NK: NDArray[np.int32], vocabulary_size: int) -> Bits:
    """Return ascending, distinct ids as the low bits of each, then the high parts in unary.

    In the unary part bit (id >> low) + i is set for the i-th id: as many zeros before it as its high part, and a one
    for each id before it.
    """
    k = ids_NK.shape[1]
    low = low_width(k, vocabulary_size)
    unary = np.zeros((len(ids_NK), k + ((vocabulary_size - 1) >> low)), np.uint8)
    np.put_along_axis(unary, (ids_NK >> low).astype(np.int64) + np.arange(k), 1, axis=1)
    return np.concatenate([to_bits(ids_NK, low), unary], axis=1)


def set_from_bits(bits: Bits, k: int, vocabulary_size: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Undo `set_to_bits`.

    Returns:
        Ids [N, K], and whether each token's are ascending, distinct and below the vocabulary size, [N]; where they are
        not, the ids mean nothing.
    """
    low = low_width(k, vocabulary_size)
    unary = bits[:, k * low :]
    sound = unary.sum(axis=1, dtype=np.int64) == k
    if not sound.all():
        unary = np.where(sound[:, None], unary, np.arange(unary.shape[1]) < k)
    places = np.nonzero(unary)[1].reshape(len(bits), k)
    ids_NK = ((places - np.arange(k)) << low) | from_bits(bits[:, : k * low], k, low)
    sound &= (np.diff(ids_NK, axis=1) > 0).all(axis=1) & (ids_NK[:, -1] < vocabulary_size)
    return ids_NK.astype(np.int32), sound
