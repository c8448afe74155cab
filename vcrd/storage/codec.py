"""One token's signal as a block of bytes whose size its k alone decides; all tokens of equal k at once.

Axis letters: N tokens, K candidates of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vcrd.storage.bits import from_bits, low_width, set_from_bits, set_to_bits, set_width, to_bits
from vcrd.storage.scale import from_codes, to_codes

TAIL_BITS = 16

Bytes = NDArray[np.uint8]
Ids = NDArray[np.int32]
Logprobs = NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """Where the fields of a token's block lie: the set of ids, the codes in the order of ids, the tail's code.

    Attributes:
        k: Candidates.
        vocabulary_size: Ids are below it.
        logprob_bits: Of a candidate's code.
    """

    k: int
    vocabulary_size: int
    logprob_bits: int

    @cached_property
    def codes_at(self) -> int:
        """First bit of the candidates' codes."""
        return set_width(self.k, self.vocabulary_size, low_width(self.k, self.vocabulary_size))

    @cached_property
    def tail_at(self) -> int:
        """First bit of the tail's code."""
        return self.codes_at + self.k * self.logprob_bits

    @cached_property
    def size(self) -> int:
        """Bytes; a token without candidates takes none."""
        return -(-(self.tail_at + TAIL_BITS) // 8) if self.k else 0


def encode_blocks(ids_NK: Ids, logprobs_NK: Logprobs, tail_N: Logprobs, layout: Layout) -> Bytes:
    """Return one block per token, [N, size]; ids are ascending and distinct."""
    bits = [
        set_to_bits(ids_NK, layout.vocabulary_size),
        to_bits(to_codes(logprobs_NK, layout.logprob_bits), layout.logprob_bits),
        to_bits(to_codes(tail_N, TAIL_BITS)[:, None], TAIL_BITS),
    ]
    return np.packbits(np.concatenate(bits, axis=1), axis=1, bitorder="little")


def decode_blocks(blocks: Bytes, layout: Layout) -> tuple[Ids, Logprobs, Logprobs, NDArray[np.bool_]]:
    """Undo `encode_blocks`, the likeliest candidate first, equals by id.

    Returns:
        Ids and log-probabilities [N, K], tails [N], and which blocks are sound [N]; the others' values mean nothing.
    """
    bits = np.unpackbits(blocks, axis=1, bitorder="little")
    ids_NK, sound = set_from_bits(bits[:, : layout.codes_at], layout.k, layout.vocabulary_size)
    codes_NK = from_bits(bits[:, layout.codes_at : layout.tail_at], layout.k, layout.logprob_bits).astype(np.uint16)
    end = layout.tail_at + TAIL_BITS
    tail_N = from_codes(from_bits(bits[:, layout.tail_at : end], 1, TAIL_BITS)[:, 0].astype(np.uint16), TAIL_BITS)
    sound &= ~bits[:, end:].any(axis=1)
    order_NK = np.argsort(codes_NK, axis=1, kind="stable")
    codes_NK = np.take_along_axis(codes_NK, order_NK, axis=1)
    return np.take_along_axis(ids_NK, order_NK, axis=1), from_codes(codes_NK, layout.logprob_bits), tail_N, sound
