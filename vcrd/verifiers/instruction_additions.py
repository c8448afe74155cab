"""Two kinds of instruction that IFEval lacks: how a response starts, and in which order words come.

Beside each rule stands what no continuation can mend. Ids begin with `vcrd:`, so that no figure for IFEval counts them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from vcrd.verifiers.instruction_options import as_phrase, as_words
from vcrd.verifiers.instruction_rules import Finding, Rule


def _starts_with(text: str, start_phrase: str) -> Finding:
    follows = _folded(text).startswith(start_phrase.casefold())
    return follows, f"{'starts' if follows else 'does not start'} with {start_phrase!r}"


def _starts_otherwise(prefix: str, start_phrase: str) -> str | None:
    start, asked = _folded(prefix), start_phrase.casefold()
    # The phrase may go on as long as the prefix is shorter.
    return None if start.startswith(asked) or asked.startswith(start) else f"does not start with {start_phrase!r}"


def _folded(text: str) -> str:
    """Return the text as capitals do not matter; `lower` would look at what follows a letter."""
    return text.lstrip().casefold()


def _order(text: str, words: Sequence[str]) -> Finding:
    places = [_first(word, text) for word in words]
    missing = [word for word, place in zip(words, places, strict=True) if place is None]
    if missing:
        return False, f"without {', '.join(missing)}"
    follows = places == sorted(places, key=lambda place: place or 0)
    return follows, f"first uses are {'in order' if follows else 'out of order'}: {', '.join(words)}"


def _out_of_order(prefix: str, words: Sequence[str]) -> str | None:
    waiting: list[str] = []
    reached = 0
    for word in words:
        place = _first(word, prefix)
        if place is None:
            waiting.append(word)
        # A word at the very end may go on and become another one.
        elif place + len(word) < len(prefix) and (waiting or place < reached):
            return f"{word} comes before {waiting[0] if waiting else 'the words that it follows'}"
        else:
            reached = place
    return None


def _first(word: str, text: str) -> int | None:
    found = re.search(rf"\b{word}\b", text, re.IGNORECASE)
    return found.start() if found else None


ADDED_RULES = {
    "vcrd:starts_with": Rule({"start_phrase": as_phrase}, _starts_with),
    "vcrd:order": Rule({"words": as_words}, _order),
}
"""By instruction id, as in `instruction_rules.RULES`."""

ADDED_BROKEN: dict[str, Callable[..., str | None]] = {
    "vcrd:starts_with": _starts_otherwise,
    "vcrd:order": _out_of_order,
}
"""By instruction id, as in `instruction_prefixes.BROKEN`."""
