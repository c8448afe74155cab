"""What a problem of `demo-instructions` asks for, and the exact oracle of what can still be reached."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

WORDS = tuple("abcdefghijklmnopqrstu")
"""Words that a problem may ask for."""
FILLERS = tuple("vwxyz")
"""Words that no problem asks for, but may exclude."""

_PROMPT = re.compile(
    r"(?P<sentences>\d+) (?P<words>\d+)(?: \^(?P<start>[A-Z]))?(?P<has>(?: [A-Z])+)(?: (?P<order>[A-Z]<[A-Z]))?"
    r"(?: -(?P<excludes>[A-Z]))?"
)
_LINE = re.compile(r"[a-z](?: [a-z])*!\n?")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Goal:
    """The instructions of a problem; the words that they name are all different, but those in order are also in `has`.

    Attributes:
        sentences: How many, exactly.
        words: How many at most.
        start: The first word.
        has: Words that are used.
        excludes: A word that is not used.
        order: Two words, the first of which comes before the second; or none.
    """

    sentences: int
    words: int
    start: str | None
    has: tuple[str, ...]
    excludes: str | None
    order: tuple[str, ...]


def write_goal(goal: Goal) -> str:
    """Return the prompt that asks for a goal, in capitals: small models see at once what is not yet the text."""
    parts = [
        f"{goal.sentences} {goal.words}",
        f"^{goal.start}" if goal.start else "",
        *goal.has,
        "<".join(goal.order),
        f"-{goal.excludes}" if goal.excludes else "",
    ]
    return " ".join(filter(None, parts)).upper()


@lru_cache(maxsize=4096)
def read_goal(prompt: str) -> Goal:
    """Return what a prompt asks for.

    Raises:
        ValueError: It is no prompt of this domain.
    """
    found = _PROMPT.fullmatch(prompt)
    if found is None:
        raise ValueError(f"expected a prompt of demo-instructions, got {prompt!r}")
    lower = {name: part and part.lower() for name, part in found.groupdict().items()}
    return Goal(
        sentences=int(found["sentences"]),
        words=int(found["words"]),
        start=lower["start"],
        has=tuple(lower["has"].split()),
        excludes=lower["excludes"],
        order=tuple(lower["order"].split("<")) if lower["order"] else (),
    )


def step_is_valid(prompt: str, prefix: Sequence[str], step: str) -> bool:
    """Say exactly whether all that can be reached from `prefix` can still be reached after `step`.

    As long as the goal is within reach, a sentence is sound when the goal still is after it: some continuation follows
    every instruction. A prefix that has lost the goal is taken as it stands: what remains to be reached is the best
    that one text with this prefix can do (`most_followed`), and a sentence is sound when that is the same after it. So
    earlier mistakes are not held against a step, and what is left can still be lost, bit by bit. A sentence without a
    line break ends the text, which then is what it is; nothing is sound after it. A malformed sentence is never sound,
    and counts with its words where it is in the prefix.
    """
    goal = read_goal(prompt)
    if not _LINE.fullmatch(step) or (prefix and not prefix[-1].endswith("\n")):
        return False
    return most_followed(goal, [*prefix, step]) == most_followed(goal, prefix)


def most_followed(goal: Goal, lines: Sequence[str]) -> tuple[int, int]:
    """Return the most that one text can follow which begins with these lines.

    Returns:
        How many of the three instructions about length, and how many of the others beside those. Length comes first: a
        text that has no room for all its words goes without some of them. Otherwise nothing after the first loss would
        be a waste of room.
    """
    ended = bool(lines) and not lines[-1].endswith("\n")
    return _most_followed(goal, len(lines), tuple(_WORD.findall(" ".join(lines))), ended)


@lru_cache(maxsize=65536)
def _most_followed(goal: Goal, n_lines: int, words: tuple[str, ...], ended: bool) -> tuple[int, int]:
    best = (_lengths(goal, n_lines, len(words)), _kept(goal, words, ())) if words else (0, 0)
    if ended:
        return best
    for added, kept in enumerate(_kept_by_words(goal, words)):
        for sentences in {n_lines + 1, max(goal.sentences, n_lines + 1)}:
            # A sentence holds any number of words, but at least one.
            total = len(words) + max(added, sentences - n_lines)
            best = max(best, (_lengths(goal, sentences, total), kept))
    return best


def _lengths(goal: Goal, n_sentences: int, n_words: int) -> int:
    """Count the instructions about length that are followed: so many sentences, no more of them, no more words."""
    return (n_sentences >= goal.sentences) + (n_sentences <= goal.sentences) + (n_words <= goal.words)


def _kept_by_words(goal: Goal, words: tuple[str, ...]) -> list[int]:
    """Return the most of the other instructions that can be followed by adding 0, 1, 2... words that are asked for."""
    first = [goal.start] if goal.start and not words else []
    candidates = [*first, *(word for word in goal.has if word not in words)]
    return [
        max(_kept(goal, words, added) for added in combinations(candidates, count))
        for count in range(len(candidates) + 1)
    ]


def _kept(goal: Goal, words: tuple[str, ...], added: tuple[str, ...]) -> int:
    """Count the other instructions that are followed once more words, all different, are added in their best order."""
    started = words[0] == goal.start if words else goal.start in added
    return (
        (goal.start is not None and started)
        + sum(word in words or word in added for word in goal.has)
        + (goal.excludes is not None and goal.excludes not in words)
        + (bool(goal.order) and _in_order(goal.order, words, added))
    )


def _in_order(order: tuple[str, ...], words: tuple[str, ...], added: tuple[str, ...]) -> bool:
    first, second = order
    if second in words:
        return first in words and words.index(first) < words.index(second)
    return second in added and (first in words or first in added)
