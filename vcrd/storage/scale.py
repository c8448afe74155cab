"""Log-probabilities as small integers, on a scale that is the finer the more probable.

An error of a log-probability enters the KL multiplied by the probability, so equal steps of p^(2/3) give the smallest
squared error of the KL for a number of codes; below p = 1/256 the steps are equal in log p. With b bits and x = -log p:

    codes 0 .. 2^b - 2 stand for u = code * h in [0, U], code 2^b - 1 for p = 0
    x = -3/2 log(1 - u)                  up to u = 1 - r, which is p = 1/256; r = 256^(-2/3)
    x = log 256 + 3/2 (u - (1 - r)) / r  from there to x = 32, which is u = U
    U = 1 - r + 2/3 r (32 - log 256),  h = U / (2^b - 2)
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

LOWEST = -32.0
MIN_BITS, MAX_BITS = 4, 16
_EXPONENT = 2 / 3
_KNEE = np.log(256)
_AT_KNEE = 256**-_EXPONENT
_LENGTH = 1 - _AT_KNEE + _EXPONENT * _AT_KNEE * (-LOWEST - _KNEE)
_FLOAT32 = 2e-6


def _step(bits: int) -> float:
    return float(_LENGTH / (2**bits - 2))


@cache
def levels(bits: int) -> NDArray[np.float32]:
    """Return the log-probability of every code, [2^bits], from 0.0 down to -32 and then -inf."""
    u = np.arange(2**bits - 1) * _step(bits)
    curved = -np.log1p(-np.minimum(u, 1 - _AT_KNEE)) / _EXPONENT
    straight = np.maximum(u - (1 - _AT_KNEE), 0.0) / (_EXPONENT * _AT_KNEE)
    found: NDArray[np.float32] = np.append(0.0 - (curved + straight), -np.inf).astype(np.float32)
    found.flags.writeable = False
    return found


@cache
def _borders(bits: int) -> NDArray[np.float64]:
    finite = -levels(bits)[:-1].astype(np.float64)
    return (finite[1:] + finite[:-1]) / 2


def to_codes(logprobs: NDArray[np.float32], bits: int) -> NDArray[np.uint16]:
    """Return the code of the nearest level; -inf has its own, and what is above 0 counts as 0."""
    codes = np.searchsorted(_borders(bits), -logprobs.astype(np.float64))
    return np.where(np.isneginf(logprobs), 2**bits - 1, codes).astype(np.uint16)


def from_codes(codes: NDArray[np.uint16], bits: int) -> NDArray[np.float32]:
    """Return the log-probabilities that codes stand for."""
    return levels(bits)[codes]


def logprob_error_bound(logprobs: ArrayLike, bits: int) -> NDArray[np.float64]:
    """Return how far a stored log-probability can be off, in nats: 3/4 h / max(p^(2/3) - h, r).

    It holds from -32 up; below, -32 is stored, and the probability is off by less than 1.3e-14.

    >>> logprob_error_bound([0.0, np.log(0.1), -20.0], 12).round(5).tolist()
    [0.00026, 0.00121, 0.01044]
    """
    step = _step(bits)
    room = np.maximum(np.exp(np.asarray(logprobs, np.float64) * _EXPONENT) - step, _AT_KNEE)
    return np.asarray(0.75 * step / room + _FLOAT32)
