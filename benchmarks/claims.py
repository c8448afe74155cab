"""How a claim is measured and told."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def seconds(work: Callable[[], object]) -> float:
    """Return how long a piece of work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def claim(text: str, values: Sequence[float], bar: float, better: str) -> bool:
    """Print a claim as a JSON line: the median of the ratios, and their range; return whether it holds."""
    return state(text, statistics.median(values), bar, better, n=len(values), spread=(min(values), max(values)))


def state(
    text: str, value: float, bar: float, better: str, *, n: int, spread: tuple[float, float] | None = None
) -> bool:
    """Print a claim that one figure stands for; `spread` is its 95 % interval or its range, where it has one."""
    holds = value <= bar if better == "lower" else value >= bar
    line = {
        "claim": text,
        "value": _short(value),
        "bar": bar,
        "better": better,
        "holds": holds,
        "n": n,
        "spread": None if spread is None else [_short(end) for end in spread],
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    return holds


def _short(value: float) -> float:
    """Round to 4 places, or to 4 digits where these are smaller."""
    return round(value, 4) if abs(value) >= 1 else float(f"{value:.4g}")


def real_data(*parts: str) -> Path | None:
    """Return a public data set outside the repository; None, said on standard error, where it is not there."""
    folder = Path(os.environ.get("VCRD_TEST_DATA", ROOT.parent / "shared" / "data")).joinpath(*parts)
    if folder.exists():
        return folder
    sys.stderr.write(f"left out: no real data at {folder}; set VCRD_TEST_DATA\n")
    return None
