"""How a claim is measured and told."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence


def seconds(work: Callable[[], object]) -> float:
    """Return how long a piece of work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def claim(text: str, values: Sequence[float], bar: float, better: str) -> bool:
    """Print a claim as a JSON line: the median of the ratios, and their range; return whether it holds."""
    value = statistics.median(values)
    holds = value <= bar if better == "lower" else value >= bar
    line = {
        "claim": text,
        "value": round(value, 3),
        "bar": bar,
        "better": better,
        "holds": holds,
        "n": len(values),
        "spread": [round(min(values), 3), round(max(values), 3)],
    }
    sys.stdout.write(json.dumps(line) + "\n")
    return holds
