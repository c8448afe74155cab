"""Edits that keep an input's form, which a change of bytes seldom does: in JSON a value in the place of another."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

HOSTILE: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**31, 2**64, 10**400, 0.5, 1e400, float("nan"), "", "x", [], {}, [[]], [None], {"": None}),
    *("../../outside", "/etc/passwd", "a\x00b", "\ud800", "\u202e", "{{ 7*7 }}", "<script>", "a" * 300, "2001-99-99"),
    *("(a+)+$", "[", "(?P<x>", "\\1", "a{4294967296}", ".hidden", "C:\\x", "yes", "0o9", "1_0", "1e5"),
)
"""Values that parsers trip over."""


def with_value(data: bytes, index: int, value: object) -> bytes:
    """Return an input whose JSON has a value in the place of its index-th one; one without JSON as it is."""
    start = max(data.find(b"{"), 0)
    try:
        whole, end = json.JSONDecoder().raw_decode(data[start:].decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return data
    places = list(_places(whole))
    if not places:
        return data
    holder, key = places[index % len(places)]
    if value is DELETED:
        del holder[key]
    else:
        holder[key] = value
    text = data[start:].decode("utf-8", "surrogateescape")[end:]
    return data[:start] + (json.dumps(whole) + text).encode("utf-8", "surrogateescape")


DELETED = object()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def random_edit(data: bytes, rng: random.Random) -> bytes:
    """Return an input with a random value of its JSON replaced or deleted."""
    return with_value(data, rng.getrandbits(16), rng.choice((*HOSTILE, DELETED)))
