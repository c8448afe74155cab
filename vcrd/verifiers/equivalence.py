"""Whether two answers are the same by math-verify. Only a worker process imports this: a comparison may never end."""

from __future__ import annotations

import logging

from math_verify import parse, verify

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns, each time, that its own timeouts are off


def equivalent(reference: str, answer: str) -> bool:
    """Compare two answers, the reference first: math-verify is not symmetric."""
    gold, given = (parse(f"${text.strip('$')}$", parsing_timeout=None) for text in (reference, answer))
    return bool(verify(gold, given, timeout_seconds=None))


equivalent("x", "2x")  # the first comparison is slow
