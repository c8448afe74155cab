"""Strings that mean something to a process reward model: found as single tokens, kept out of everyone else's text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from vcrd.errors import ConfigError

Escape = Callable[[str], str]


def one_id(tokenizer: Any, mark: str, name: str) -> int:
    """Return the id of a string that is one token by itself.

    Raises:
        ConfigError: It is none or several.
    """
    ids = tokenizer.encode(mark, add_special_tokens=False)
    if len(ids) != 1:
        raise ConfigError(
            f"prm.marks.{name} is {mark!r}, {len(ids)} tokens of this model's tokenizer; expected one token"
        )
    return int(ids[0])


def id_behind(tokenizer: Any, before: str, mark: str, name: str) -> int:
    """Return the id of a string that is one token behind a text, where a space before it may be part of that token.

    Raises:
        ConfigError: It is cut, or joined to the text.
    """
    text = before + mark
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    start, end = coded["offset_mapping"][-1]
    if end != len(text) or text[start:end].lstrip() != mark.lstrip() or start < len(before.rstrip()):
        raise ConfigError(f"prm.marks.{name} is {mark!r}, not one token of this model's tokenizer behind {before!r}")
    return int(coded["input_ids"][-1])


def escaper(tokenizer: Any, tag: str) -> Escape:
    """Return a function that breaks the tag, and every special token of the tokenizer, up inside a text.

    A problem may quote `<extra_0>` or `<|im_end|>`: read as what they look like, they would add a step, or end a turn.
    """
    special = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    broken = {mark: _broken(mark) for mark in _cores([tag, *special])}
    if not broken:
        return lambda text: text
    pattern = re.compile("|".join(re.escape(mark) for mark in sorted(broken, key=len, reverse=True)))

    def escape(text: str) -> str:
        while pattern.search(text):
            text = pattern.sub(lambda match: broken[match[0]], text)
        return text

    return escape


def _cores(marks: Iterable[str]) -> set[str]:
    return {mark.strip() or mark for mark in marks if mark}


def _broken(mark: str) -> str:
    r"""Put a space into a string; one of spaces alone gets shorter, a single character goes.

    >>> _broken("<extra_0>"), _broken("\n\n"), _broken("+")
    ('< extra_0>', '\n', ' ')
    """
    if not mark.strip():
        return mark[:-1]
    return f"{mark[0]} {mark[1:]}" if len(mark) > 1 else " "
