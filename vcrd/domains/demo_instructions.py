"""`demo-instructions`: texts of short sentences that follow verifiable instructions, written a sentence per line.

    5 7 ^B K M T L T<M -X
    b!
    k v!
    t l!
    m!
    w!

Words are letters; sentences end in an exclamation mark, as a full stop behind one letter would be an initial's. Five
sentences of at most seven words in all: the first word is `b`; `k`, `m`, `t` and `l` are used, `t` before `m`; `x` is
not. Order and line breaks are mostly free, and so are words that nobody asked for while there is room for them (the
models write `v` to `z`). So a rule can prove little wrong at a step: a sentence that takes the room of a word still to
come breaks no instruction yet.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

from vcrd.domains.base import FAULTLESS, SHAPE, DemoDomain, Habits, Role
from vcrd.domains.instruction_goals import FILLERS, WORDS, Goal, read_goal, step_is_valid, write_goal

NAME = "demo-instructions"
N_WORDS = 4
LONGEST_SENTENCE = 3

_ALPHABET = "\n !0123456789<^-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ROOM = (0, 0, 0, 1, 2)
_HABITS: dict[Role, Habits] = {
    "teacher": Habits(blind_spots=("c", "s"), slip_rate=0.02),
    "student": Habits(blind_spots=("e", "k", "q"), slip_rate=0.03),
}


def generate_problems(n_words: int, count: int, seed: int) -> list[tuple[str, str]]:
    """Return distinct (prompt, reference) pairs, each with `n_words` words to use."""
    rng = random.Random(seed)
    problems: dict[str, str] = {}
    while len(problems) < count:
        goal = _draw_goal(n_words, rng)
        problems[write_goal(goal)] = reference(goal)
    return list(problems.items())


def _draw_goal(n_words: int, rng: random.Random) -> Goal:
    first, *has = rng.sample(WORDS, n_words + 1)
    start = first if rng.random() < 0.5 else None
    sentences = rng.choice((4, 5))
    return Goal(
        sentences=sentences,
        words=max(n_words + (start is not None), sentences) + rng.choice(_ROOM),
        start=start,
        has=tuple(has),
        order=tuple(rng.sample(has, 2)) if rng.random() < 0.4 else (),
        excludes=rng.choice(FILLERS) if rng.random() < 0.5 else None,
    )


def reference(goal: Goal) -> str:
    """Return the instructions that a text is judged by, as JSON; the rules are those of `InstructionsVerifier`."""
    asked: list[tuple[str, dict[str, Any]]] = [
        ("length_constraints:number_sentences", {"num_sentences": goal.sentences, "relation": "at least"}),
        ("length_constraints:number_sentences", {"num_sentences": goal.sentences + 1, "relation": "less than"}),
        ("length_constraints:number_words", {"num_words": goal.words + 1, "relation": "less than"}),
        *(("keywords:existence", {"keywords": [word]}) for word in goal.has),
    ]
    if goal.start:
        asked.append(("vcrd:starts_with", {"start_phrase": goal.start}))
    if goal.order:
        asked.append(("vcrd:order", {"words": list(goal.order)}))
    if goal.excludes:
        asked.append(("keywords:forbidden_words", {"forbidden_words": [goal.excludes]}))
    return json.dumps({"instruction_id_list": [name for name, _ in asked], "kwargs": [options for _, options in asked]})


def sample_text(prompt: str, rng: random.Random, habits: Habits = FAULTLESS) -> str:
    """Write a text that does as it is asked, with random line breaks.

    Args:
        prompt: Of `generate_problems`.
        rng: Decides the order, the breaks and the mistakes.
        habits: Blind spots are words, which are misheard: another one is written, and takes the room. A slip is another
            word of the text, or one that nobody asked for. The order of the prompt gives way to one that it asks for.
    """
    goal = read_goal(prompt)
    middle = list(goal.has)
    if not habits.keeps_order(rng):
        rng.shuffle(middle)
    if goal.order:
        first, second = sorted(middle.index(word) for word in goal.order)
        middle[first], middle[second] = goal.order
    room = goal.words - len(middle) - (goal.start is not None)
    needed = max(goal.sentences - (goal.words - room), 0)
    fillers = [word for word in FILLERS if word != goal.excludes]
    for _ in range(rng.randint(needed, room)):
        middle.insert(rng.randrange(len(middle) + 1), rng.choice(fillers))
    words = [goal.start, *middle] if goal.start else middle
    written = [_mishear(word) if habits.misreads(word, rng) else word for word in words]
    return _break_lines(_slip(written, rng, habits.slip_rate), goal.sentences, rng)


def _mishear(word: str) -> str:
    return WORDS[(WORDS.index(word) + 1) % len(WORDS)]


def _slip(words: list[str], rng: random.Random, rate: float) -> list[str]:
    return [rng.choice([*words, *FILLERS]) if rng.random() < rate else word for word in words]


def _break_lines(words: list[str], n_sentences: int, rng: random.Random) -> str:
    while True:
        cuts = sorted(rng.sample(range(1, len(words)), n_sentences - 1))
        lines = [words[start:end] for start, end in zip([0, *cuts], [*cuts, len(words)], strict=True)]
        if max(map(len, lines)) <= LONGEST_SENTENCE:
            return "!\n".join(" ".join(line) for line in lines) + "!"


DOMAIN = DemoDomain(
    name=NAME,
    arguments=("n_words", "count", "seed"),
    size=N_WORDS,
    generate_problems=generate_problems,
    step_is_valid=step_is_valid,
    solve=sample_text,
    habits=_HABITS,
    alphabet=_ALPHABET,
    shape=replace(SHAPE, batch_size=32),
)
