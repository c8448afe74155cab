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
from collections.abc import Collection, Sequence
from typing import Any, Literal

NAME = "demo-math"
MODULUS = 10

Fact = tuple[str, int, int]

_OPERATIONS = "+-*"
_LETTERS = "abcdefgh"
_ALPHABET = "\n #*+-=?0123456789abcdefgh"
_TERM = re.compile(r"([a-h])=(\d)([-+*])(\d)")
_LINE = re.compile(r"([a-h]) (\d)([-+*])(\d)=(\d) (\d)\+(\d)=(\d)\n?")
_ANSWER = re.compile(r"#### (\d)\n?")
_WITHHELD_SHARE = {"teacher": (0.0, 0.18), "student": (0.18, 0.44)}
_SLIP_RATE = {"teacher": 0.04, "student": 0.06}

ALL_FACTS: tuple[Fact, ...] = tuple(
    (operation, left, right) for operation in _OPERATIONS for left in range(10) for right in range(10)
)


def apply_fact(fact: Fact) -> int:
    """Return the value of a term modulo 10."""
    operation, left, right = fact
    value = {"+": left + right, "-": left - right, "*": left * right}[operation]
    return value % MODULUS


def generate_problems(
    n_terms: int, count: int, seed: int, facts: Collection[Fact] = ALL_FACTS
) -> list[tuple[str, str]]:
    """Return distinct (prompt, answer) pairs whose terms are among `facts`."""
    rng = random.Random(seed)
    known = sorted(facts)
    problems: dict[str, str] = {}
    while len(problems) < count:
        terms = [rng.choice(known) for _ in range(n_terms)]
        written = [f"{letter}={left}{op}{right}" for letter, (op, left, right) in zip(_LETTERS, terms, strict=False)]
        problems[" ".join(written) + " ?"] = str(sum(apply_fact(term) for term in terms) % MODULUS)
    return list(problems.items())


def sample_solution(prompt: str, rng: random.Random, slip_rate: float = 0.0) -> str:
    """Write a solution in a random order.

    Args:
        prompt: Of `generate_problems`.
        rng: Decides the order and the slips.
        slip_rate: Share of lines in which an operand is miscopied. The line's arithmetic is right then, so that no rule
            sees the slip: a careless writer.
    """
    terms = _terms(prompt)
    order = list(terms)
    rng.shuffle(order)
    total = 0
    lines = []
    for letter in order:
        operation, left, right = terms[letter]
        if rng.random() < slip_rate:
            left = rng.choice([digit for digit in range(10) if digit != left])
        value = apply_fact((operation, left, right))
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


Role = Literal["student", "teacher"]


def known_facts(role: Role) -> frozenset[Fact]:
    """Return the facts a model sees in pre-training; what student and teacher do not see is disjoint."""
    shuffled = list(ALL_FACTS)
    random.Random("blind spots").shuffle(shuffled)
    low, high = (round(share * len(shuffled)) for share in _WITHHELD_SHARE[role])
    return frozenset(ALL_FACTS) - frozenset(shuffled[low:high])


def pretraining_texts(role: Role, n_terms: int, count: int, seed: int) -> list[tuple[str, str]]:
    """Return (prompt, solution) texts of a role: its blind spots left out, its slips left in."""
    rng = random.Random(f"{seed}:{role}")
    problems = generate_problems(n_terms, count, rng.getrandbits(32), known_facts(role))
    return [(prompt + "\n", sample_solution(prompt, rng, _SLIP_RATE[role])) for prompt, _ in problems]


def build_tokenizer() -> Any:
    """Return a tokenizer of single characters whose decoding is exact and that adds nothing by itself."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", "<unk>", *_ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
