"""`demo-instructions`: texts of short sentences that follow verifiable instructions, written a sentence per line.

    5 7 ^B K M T L -D T<M $O
    b!
    k x!
    t l!
    m!
    o!

Words are letters, sentences end in an exclamation mark (behind one letter, a full stop would be an initial's). Five
sentences of at most seven words in all; the first word is `b` and the last `o`; `k`, `m`, `t` and `l` are used, `d` is not;
`t` comes before `m`. Order and line breaks are mostly free, and so are words that nobody asked for while there is room for
them (the models write `v` to `z`). So a rule can prove little wrong at a step: a sentence that takes the room of a word
still to come breaks no instruction yet.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection
from typing import Any

from vcrd.domains.base import DemoDomain, Role, character_tokenizer
from vcrd.domains.instruction_goals import FILLERS, WORDS, Goal, read_goal, step_is_valid, write_goal
from vcrd.models import PretrainParams

NAME = "demo-instructions"
N_WORDS = 4
LONGEST_SENTENCE = 3

_ALPHABET = "\n !0123456789<^-$ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_MISHEARD_RATE = 0.7
_SLIP_RATE = {"teacher": 0.02, "student": 0.03}
_ROOM = (0, 0, 0, 1, 2)
BLIND_SPOTS: dict[str, tuple[str, ...]] = {
    "teacher": ("c", "s"),
    "student": ("e", "k", "q"),
}


def generate_problems(n_words: int, count: int, seed: int) -> list[tuple[str, str]]:
    """Return distinct (prompt, reference) pairs, each with `n_words` words to use and others to begin and end with."""
    rng = random.Random(seed)
    problems: dict[str, str] = {}
    while len(problems) < count:
        goal = _draw_goal(n_words, rng)
        problems[write_goal(goal)] = reference(goal)
    return list(problems.items())


def _draw_goal(n_words: int, rng: random.Random) -> Goal:
    drawn = rng.sample(WORDS, n_words + 3)
    has = tuple(drawn[3:])
    start = drawn[0] if rng.random() < 0.5 else None
    end = drawn[1] if rng.random() < 0.5 else None
    n_sentences = rng.choice((4, 5))
    demanded = n_words + (start is not None) + (end is not None)
    return Goal(
        sentences=n_sentences,
        words=max(demanded, n_sentences) + rng.choice(_ROOM),
        start=start,
        has=has,
        excludes=drawn[2] if rng.random() < 0.5 else None,
        order=tuple(rng.sample(has, 2)) if rng.random() < 0.5 else (),
        end=end,
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
    if goal.excludes:
        asked.append(("keywords:forbidden_words", {"forbidden_words": [goal.excludes]}))
    if goal.order:
        asked.append(("vcrd:order", {"words": list(goal.order)}))
    if goal.end:
        asked.append(("startend:end_checker", {"end_phrase": f"{goal.end}!"}))
    return json.dumps({"instruction_id_list": [name for name, _ in asked], "kwargs": [options for _, options in asked]})


def sample_text(prompt: str, rng: random.Random, blind_spots: Collection[str] = (), slip_rate: float = 0.0) -> str:
    """Write a text that does as it is asked, in a random order and with random line breaks.

    Args:
        prompt: Of `generate_problems`.
        rng: Decides the order, the breaks and the mistakes.
        blind_spots: Words that are mostly misheard: another one is written, and takes the room.
        slip_rate: Share of the words where something else goes wrong: forgotten, or put where another belongs.
    """
    goal = read_goal(prompt)
    middle = list(goal.has)
    rng.shuffle(middle)
    if goal.order:
        first, second = sorted(middle.index(word) for word in goal.order)
        middle[first], middle[second] = goal.order
    ends = (goal.start is not None) + (goal.end is not None)
    room = goal.words - len(middle) - ends
    needed = max(goal.sentences - len(middle) - ends, 0)
    for _ in range(rng.randint(needed, room)):
        middle.insert(rng.randrange(len(middle) + 1), rng.choice(FILLERS))
    words = [*filter(None, [goal.start]), *middle, *filter(None, [goal.end])]
    written = [_mishear(word) if word in blind_spots and rng.random() < _MISHEARD_RATE else word for word in words]
    return _break_lines(_slip(written, goal, rng, slip_rate), goal.sentences, rng)


def _mishear(word: str) -> str:
    return WORDS[(WORDS.index(word) + 1) % len(WORDS)]


def _slip(words: list[str], goal: Goal, rng: random.Random, rate: float) -> list[str]:
    slipped = []
    for index, word in enumerate(words):
        kind = rng.randrange(3) if rng.random() < rate else None
        if kind == 0 and len(words) > goal.sentences:
            continue
        slipped.append({1: rng.choice(FILLERS), 2: rng.choice(words[index:])}.get(kind if kind else 0, word))
    return slipped


def _break_lines(words: list[str], n_sentences: int, rng: random.Random) -> str:
    """Cut words into sentences; so few words make fewer of them."""
    while True:
        cuts = sorted(rng.sample(range(1, len(words)), min(n_sentences, len(words)) - 1))
        lines = [words[start:end] for start, end in zip([0, *cuts], [*cuts, len(words)], strict=True)]
        if max(map(len, lines)) <= LONGEST_SENTENCE:
            return "!\n".join(" ".join(line) for line in lines) + "!"


def pretraining_texts(role: Role, count: int, seed: int, n_words: int = N_WORDS) -> list[tuple[str, str]]:
    """Return (prompt, text) pairs of a role; what student and teacher are blind to is disjoint."""
    rng = random.Random(f"{seed}:{role}")
    problems = generate_problems(n_words, count, rng.getrandbits(32))
    spots, slips = BLIND_SPOTS[role], _SLIP_RATE[role]
    return [(prompt + "\n", sample_text(prompt, rng, spots, slips)) for prompt, _ in problems]


def build_tokenizer() -> Any:
    """Return the tokenizer of both models: single characters."""
    return character_tokenizer(_ALPHABET)


DOMAIN = DemoDomain(
    name=NAME,
    arguments=("n_words", "count", "seed"),
    generate_problems=generate_problems,
    step_is_valid=step_is_valid,
    pretraining_texts=pretraining_texts,
    build_tokenizer=build_tokenizer,
    shape=PretrainParams(
        hidden_size=128,
        layers=2,
        heads=4,
        intermediate_size=512,
        max_position=256,
        steps=700,
        batch_size=64,
        learning_rate=3e-3,
    ),
    texts=40_000,
    seeds={"student": 1, "teacher": 2},
)
