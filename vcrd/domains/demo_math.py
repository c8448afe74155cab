"""`demo-math`: sums of small terms modulo 10, solved a term per line in any order.

    a=3*4 b=5-2 c=7+8 d=9*6 ?
    c 7+8=5 5+0=5
    a 3*4=2 2+5=7
    ...
    #### 4

A line names a term, copies it with its value, and adds the value to the total so far. Which term comes next is free:
many next steps are sound, which is what makes imitation of one of them too strict.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from vcrd.domains.base import FAULTLESS, DemoDomain, Habits, Role

NAME = "demo-math"
N_TERMS = 4
MODULUS = 10

Fact = tuple[str, int, int]

_OPERATIONS = "+-*"
_LETTERS = "abcdefgh"
_ALPHABET = "\n #*+-=?0123456789abcdefgh"
_TERM = re.compile(r"([a-h])=(\d)([-+*])(\d)")
_LINE = re.compile(r"([a-h]) (\d)([-+*])(\d)=(\d) (\d)\+(\d)=(\d)\n?")
_ANSWER = re.compile(r"#### (\d)\n?")

# What both misread by habit: no surprise to the peer, so that there only completions tell.
_SHARED = (("+", 9), ("*", 8))
_HABITS: dict[Role, Habits] = {
    "teacher": Habits(blind_spots=(*_SHARED, ("+", 3), ("-", 8), ("*", 2)), misread_rate=0.5, slip_rate=0.03),
    "student": Habits(
        blind_spots=(*_SHARED, ("+", 1), ("-", 2), ("-", 6), ("*", 4), ("*", 7)),
        misread_rate=0.9,
        slip_rate=0.05,
        in_order=0.9,
    ),
}


def apply_fact(fact: Fact) -> int:
    """Return the value of a term modulo 10."""
    operation, left, right = fact
    value = {"+": left + right, "-": left - right, "*": left * right}[operation]
    return value % MODULUS


def generate_problems(n_terms: int, count: int, seed: int) -> list[tuple[str, str]]:
    """Return distinct (prompt, answer) pairs."""
    rng = random.Random(seed)
    problems: dict[str, str] = {}
    while len(problems) < count:
        terms = [(rng.choice(_OPERATIONS), rng.randrange(10), rng.randrange(10)) for _ in range(n_terms)]
        written = [f"{letter}={left}{op}{right}" for letter, (op, left, right) in zip(_LETTERS, terms, strict=False)]
        problems[" ".join(written) + " ?"] = str(sum(apply_fact(term) for term in terms) % MODULUS)
    return list(problems.items())


def sample_solution(prompt: str, rng: random.Random, habits: Habits = FAULTLESS) -> str:
    """Write a solution.

    Args:
        prompt: Of `generate_problems`.
        rng: Decides the order and the mistakes.
        habits: Blind spots are operations and first operands; the operand is misread there. The line's arithmetic is
            right then, so that no rule for free text sees the mistake; it does see a slip, a line with a wrong value.
    """
    terms = _terms(prompt)
    order = list(terms)
    if not habits.keeps_order(rng):
        rng.shuffle(order)
    total = 0
    lines = []
    for letter in order:
        operation, left, right = terms[letter]
        if habits.misreads((operation, left), rng):
            left = (left + 3) % MODULUS
        value = apply_fact((operation, left, right))
        if rng.random() < habits.slip_rate:
            value = (value + rng.randrange(1, MODULUS)) % MODULUS
        after = (value + total) % MODULUS
        lines.append(f"{letter} {left}{operation}{right}={value} {value}+{total}={after}\n")
        total = after
    return "".join(lines) + f"#### {total}"


def step_is_valid(prompt: str, prefix: Sequence[str], step: str) -> bool:
    """Say exactly whether `step` is a sound move from `prefix` as it stands.

    A term line is sound when its term is in the problem and not done yet, copied and calculated rightly, and added
    rightly to the total *as the last line writes it*. The answer line is sound when every term is done and it repeats
    that total. Earlier mistakes are not held against a step. A malformed line of the prefix does no term and leaves the
    total as it was; after an answer line nothing is sound.
    """
    terms = _terms(prompt)
    total, done = 0, set()
    for line in prefix:
        if _ANSWER.fullmatch(line):
            return False
        if match := _LINE.fullmatch(line):
            done.add(match[1])
            total = int(match[8])
    if answer := _ANSWER.fullmatch(step):
        return done == set(terms) and int(answer[1]) == total
    match = _LINE.fullmatch(step)
    if match is None or match[1] in done or match[1] not in terms:
        return False
    fact = (match[3], int(match[2]), int(match[4]))
    value, added, before, after = (int(match[group]) for group in (5, 6, 7, 8))
    copied = fact == terms[match[1]] and added == value and before == total
    return copied and value == apply_fact(fact) and after == (added + before) % MODULUS


def _terms(prompt: str) -> dict[str, Fact]:
    return {letter: (op, int(left), int(right)) for letter, left, op, right in _TERM.findall(prompt)}


DOMAIN = DemoDomain(
    name=NAME,
    arguments=("n_terms", "count", "seed"),
    size=N_TERMS,
    generate_problems=generate_problems,
    step_is_valid=step_is_valid,
    solve=sample_solution,
    habits=_HABITS,
    alphabet=_ALPHABET,
)
