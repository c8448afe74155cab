"""The statements of `demo-code`'s programs, and an exact search for what can still become of a program.

A statement is ` r+=V`, V being a variable, an operator and a digit. What it does is the values of V on the test inputs,
written as one integer: sums of statements are sums of integers, and whether a goal can be reached is a subset sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import combinations, combinations_with_replacement

VARIABLES = "pqst"
TEST_INPUTS = (
    (1, 14, 4, 19),
    (7, 1, 8, 18),
    (9, 16, 20, 11),
    (13, 15, 13, 9),
    (15, 20, 7, 20),
    (16, 13, 3, 3),
    (18, 3, 11, 15),
    (19, 6, 18, 8),
)
"""Values of the variables in every problem's tests. They tell any two V apart that differ for some values up to 20."""
OPERATORS = {
    "*": int.__mul__,
    "%": int.__mod__,
    "//": int.__floordiv__,
    "^": int.__xor__,
    "&": int.__and__,
    "+": int.__add__,
}
DIGITS = range(2, 10)
_BITS = 16  # a sum on one input, or the difference of two, stays within 15


def _effect(variable: str, operator: str, digit: int) -> int:
    values = (OPERATORS[operator](inputs[VARIABLES.index(variable)], digit) for inputs in TEST_INPUTS)
    return sum(value << _BITS * place for place, value in enumerate(values))


EFFECTS = {f"{v}{op}{digit}": _effect(v, op, digit) for v in VARIABLES for op in OPERATORS for digit in DIGITS}
"""Of every statement, by its V; some are equal (`p%4`, `p&3`)."""


@cache
def _sums(count: int) -> frozenset[int]:
    return frozenset(map(sum, combinations_with_replacement(EFFECTS.values(), count)))


@lru_cache(maxsize=1 << 18)
def _is_sum(goal: int, count: int) -> bool:
    """Tell whether exactly `count` statements can add up to `goal`."""
    if count <= 2:
        return goal in _sums(count)
    if count <= 4:
        return any(goal - part in _sums(2) for part in _sums(count - 2))
    return any(_is_sum(goal - part, count - 2) for part in _sums(2))


def reaches(goal: int, least: int, most: int) -> bool:
    """Tell whether `least` to `most` statements can add up to `goal`.

    >>> reaches(EFFECTS["p*3"] + EFFECTS["p*4"], 1, 1), reaches(EFFECTS["p*3"] + EFFECTS["q*4"], 1, 1)
    (True, False)
    """
    return any(_is_sum(goal, count) for count in range(least, most + 1))


@lru_cache(maxsize=1 << 18)
def corrections(goal: int, effects: tuple[int | None, ...], left: int) -> int | None:
    """Return how few statements of a program must be replaced so that it can be completed to meet a goal.

    Args:
        goal: What all statements must add up to.
        effects: Of the statements so far; None stands for one that cannot be read and must be replaced.
        left: How many statements may follow.

    Returns:
        0 where the goal can be met as things stand; None where no replacement helps.
    """
    if left < 0:
        return None
    readable = [effect for effect in effects if effect is not None]
    for count in range(len(effects) - len(readable), len(effects) + 1):
        if any(_completes(goal, kept, count, left) for kept in combinations(readable, len(effects) - count)):
            return count
    return None


def _completes(goal: int, kept: Sequence[int], replaced: int, left: int) -> bool:
    return reaches(goal - sum(kept), replaced, replaced + left)
