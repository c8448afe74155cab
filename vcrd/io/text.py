"""JSON and YAML that others wrote, read so that whatever is wrong with it is one kind of error."""

from __future__ import annotations

import json
import math
from typing import Any

_MOST_VALUES = 10**6


def parse_json(text: str | bytes) -> Any:
    """Return a JSON value.

    Raises:
        ValueError: It is none, is nested too deeply to read, or has text that no file can hold.
    """
    try:
        value = json.loads(text)
        _count(value, {}, math.inf)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def parse_yaml(text: str) -> Any:
    """Return a YAML value of plain types.

    Raises:
        ValueError: It is none, is nested too deeply to read, has text that no file can hold, or refers to itself or so
            often to its own parts that nothing could go through it; the message is one line.
    """
    import yaml

    try:
        value = yaml.safe_load(text)
        _count(value, {}, _MOST_VALUES)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    # What is written as a number or a date and is none raises whatever int(), datetime and the like raise.
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    return value


def _count(value: object, known: dict[int, float], most: float) -> float:
    """Return how many values there are with every reference followed, each part looked at once."""
    if isinstance(value, str) and not value.isascii():
        value.encode()  # half a surrogate pair, which both formats can spell, is in no UTF-8
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf  # until it is counted: what is met again below itself never ends
        parts = [*value, *value.values()] if isinstance(value, dict) else list(value)
        known[id(value)] = 1 + sum(_count(part, known, most) for part in parts)
    if known[id(value)] > most:
        raise ValueError(f"refers to its own parts so often that it stands for more than {most} values")
    return known[id(value)]
