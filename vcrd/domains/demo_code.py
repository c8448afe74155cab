"""`demo-code`: a function that adds up what a few words and one input/output pair say, a term per line in any order.

    mul p3,mod q4,xor s5,div t2;f(7,1,8,18)=44
    def f(p,q,s,t,r=0):
     r+=t//2
     r+=p*3
     ...
     return r

A problem's reference is its tests, on more inputs than the prompt tells. Statements may come in any order, and some may
be written in another way (`q%4` as `q&3`, `p+3` and `q+5` as `p+5` and `q+3`): more than one program passes. A word
that is misread leaves valid Python, which no rule for free text objects to; only the tests do.

All words have three letters, none of them a variable's: that is quickly learnt by a small model.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence

from vcrd.domains.base import FAULTLESS, DemoDomain, Habits, Role
from vcrd.domains.demo_code_search import DIGITS, EFFECTS, OPERATORS, TEST_INPUTS, VARIABLES, corrections, reaches
from vcrd.errors import ConfigError

NAME = "demo-code"
N_TERMS = 4
HEADER, RETURN = f"def f({','.join(VARIABLES)},r=0):\n", " return r"

Term = tuple[str, str, int]

_WORDS = {"mul": "*", "mod": "%", "div": "//", "xor": "^", "and": "&", "add": "+"}
_ALPHABET = "\n ()+,:;=*%/^&0123456789adefilmnopqrstuvx"
_TERM = re.compile(r"([a-z]+) ([pqst])(\d)(?=[,;])")
_STATEMENT = re.compile(r" r\+=([pqst]\W{1,2}\d)\n")
_RETURN = re.compile(r" return r\n?")

_MISREAD_AS = {"mul": "add", "mod": "div", "div": "mod", "xor": "and", "and": "xor", "add": "mul"}
# What both misread by habit: no surprise to the peer.
_SHARED = (("mod", 3), ("xor", 8), ("add", 4))
_HABITS: dict[Role, Habits] = {
    "teacher": Habits(
        blind_spots=(*_SHARED, ("mul", 4), ("mod", 7), ("div", 8), ("xor", 6), ("and", 5)),
        misread_rate=0.5,
        slip_rate=0.03,
    ),
    "student": Habits(
        blind_spots=(
            *_SHARED,
            *(("mul", 7), ("mod", 9), ("div", 2), ("div", 5), ("xor", 3), ("and", 9), ("add", 7)),
        ),
        misread_rate=0.9,
        slip_rate=0.05,
        in_order=0.9,
    ),
}


def generate_problems(n_terms: int, count: int, seed: int) -> list[tuple[str, str]]:
    """Return distinct (prompt, reference) pairs; none can be solved with fewer statements than it has terms.

    Raises:
        ConfigError: There are not as many variables as terms.
    """
    if not 1 <= n_terms <= len(VARIABLES):
        raise ConfigError(f"{NAME}: n_terms must be from 1 to {len(VARIABLES)}, a variable each, got {n_terms}")
    rng = random.Random(seed)
    problems: dict[str, str] = {}
    while len(problems) < count:
        terms = [(variable, rng.choice(list(_WORDS)), rng.choice(DIGITS)) for variable in VARIABLES[:n_terms]]
        if reaches(_goal(terms), 0, n_terms - 1):
            continue
        words = ",".join(f"{word} {variable}{digit}" for variable, word, digit in terms)
        calls = [(f"f({','.join(map(str, inputs))})", _value(terms, inputs)) for inputs in TEST_INPUTS]
        tests = "".join(f"assert {call}=={value}\n" for call, value in calls)
        call, value = rng.choice(calls)
        problems[f"{words};{call}={value}"] = json.dumps({"tests": tests, "entry_point": "f"})
    return list(problems.items())


def sample_solution(prompt: str, rng: random.Random, habits: Habits = FAULTLESS) -> str:
    """Write a solution.

    Args:
        prompt: Of `generate_problems`.
        rng: Decides the order and the mistakes.
        habits: Blind spots are words and digits; the word is misread there, as another one. No rule sees that; it sees
            a slip, a statement that is no Python.
    """
    terms = _terms(prompt)
    if not habits.keeps_order(rng):
        terms = rng.sample(terms, len(terms))
    lines = []
    for variable, word, digit in terms:
        if habits.misreads((word, digit), rng):
            word = _MISREAD_AS[word]
        slipped = rng.random() < habits.slip_rate
        lines.append(f" r+={variable}{_WORDS[word]}{'' if slipped else digit}\n")
    return "".join([HEADER, *lines, RETURN])


def step_is_valid(prompt: str, prefix: Sequence[str], step: str) -> bool:
    """Say exactly, by search, whether `step` is a sound move from `prefix` as it stands.

    A program is the header, at most as many statements as the prompt has terms, and the return; it meets the prompt
    when it passes the tests. A step is sound when prefix and step can still be completed to such a program. Behind a
    prefix that has lost the goal, earlier mistakes are not held against a step: it is sound when it adds none, that is
    when as few statements of the prefix as have to be replaced for the prefix to be completed are enough for prefix and
    step too. A statement that cannot be read is one to be replaced; behind the return, or behind more statements than
    there may be, nothing is sound.
    """
    if not prefix:
        return step == HEADER
    if any(_RETURN.fullmatch(line) for line in prefix):
        return False
    terms = _terms(prompt)
    effects = tuple(_effect(line) for line in prefix[1:])
    goal, left = _goal(terms), len(terms) - len(effects)
    before = corrections(goal, effects, left) if effects else 0
    if _RETURN.fullmatch(step):
        return before is not None and before == corrections(goal, effects, 0)
    effect = _effect(step)
    return effect is not None and left > 0 and before == corrections(goal, (*effects, effect), left - 1)


def _effect(line: str) -> int | None:
    match = _STATEMENT.fullmatch(line)
    return EFFECTS.get(match[1]) if match else None


def _terms(prompt: str) -> list[Term]:
    return [(variable, word, int(digit)) for word, variable, digit in _TERM.findall(prompt) if word in _WORDS]


def _goal(terms: Sequence[Term]) -> int:
    return sum(EFFECTS[f"{variable}{_WORDS[word]}{digit}"] for variable, word, digit in terms)


def _value(terms: Sequence[Term], inputs: Sequence[int]) -> int:
    given = dict(zip(VARIABLES, inputs, strict=True))
    return sum(OPERATORS[_WORDS[word]](given[variable], digit) for variable, word, digit in terms)


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
