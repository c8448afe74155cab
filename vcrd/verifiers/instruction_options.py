"""What the options of an instruction may be: each kind reads a value or says what it expected instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from vcrd.errors import did_you_mean

Kind = Callable[[Any], Any]
"""Returns the value as the rule wants it; raises ValueError with what was expected."""

RELATIONS = ("less than", "at least")


def read_options(kinds: Mapping[str, Kind], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of one instruction; those given as None count as not given.

    Raises:
        ValueError: An option is missing, unknown or of the wrong kind; the message says which.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"expected options by name, got {given!r}")
    given = {name: value for name, value in given.items() if value is not None}
    for name in given.keys() - kinds.keys():
        raise ValueError(f"option {name!r} does not belong here{did_you_mean(name, kinds) if kinds else ''}")
    options = {}
    for name, kind in kinds.items():
        if name not in given:
            raise ValueError(f"option {name!r} is missing")
        try:
            options[name] = kind(given[name])
        except ValueError as error:
            raise ValueError(f"option {name!r}: expected {error}, got {given[name]!r}") from None
    return options


def as_count(value: Any) -> int:
    """Read a whole number of at least 0; tables with gaps hold them as floats."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != value // 1:
        raise ValueError("a whole number of at least 0")
    return int(value)


def as_position(value: Any) -> int:
    """Read a whole number of at least 1."""
    if as_count(value) < 1:
        raise ValueError("a whole number of at least 1")
    return int(value)


def as_text(value: Any) -> str:
    """Read a text that is not blank, as it is."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text that is not blank")
    return value


def as_phrase(value: Any) -> str:
    """Read a text without the blanks around it."""
    return as_text(value).strip()


def as_letter(value: Any) -> str:
    """Read one character, in lower case."""
    letter = as_phrase(value)
    if len(letter) != 1:
        raise ValueError("one character")
    return letter.lower()


def as_relation(value: Any) -> str:
    """Read how a count is compared."""
    if value not in RELATIONS:
        raise ValueError(f"one of {', '.join(map(repr, RELATIONS))}")
    return str(value)


def as_pattern(value: Any) -> str:
    """Read a regular expression, without the blanks around it: words are searched for as patterns."""
    return _compiling(as_phrase(value))


def as_patterns(value: Any) -> list[str]:
    """Read regular expressions, at least one."""
    if isinstance(value, str) or not isinstance(value, list | tuple) or not value:
        raise ValueError("a list of words")
    return sorted({_compiling(as_text(pattern)) for pattern in value})


def as_words(value: Any) -> list[str]:
    """Read single words in their order, at least two and no word twice."""
    words = value if isinstance(value, list | tuple) else []
    plain = [word for word in words if isinstance(word, str) and re.fullmatch(r"\w+", word)]
    if len(plain) != len(words) or len(plain) < 2 or len({word.casefold() for word in plain}) < len(plain):
        raise ValueError("a list of two or more different words")
    return plain


def _compiling(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a regular expression ({error})") from None
    return pattern
