"""The weights stage: its speed against bare reading and writing, and its memory at 1x and 10x the rows.

Rollouts of 8 steps of 48 tokens behind a prompt of 128, in 2 shards; the teacher's candidates at k = 8. Every
measurement is made in a process of its own, so that its peak resident memory is its own; this one stays small. What is
timed is all that a run does: checksums of inputs and outputs, both passes, the copy of the output, and the summary; not
the coding of the compact signal, which is work of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.claims import ROOT, claim, state

ROLLOUTS, TIMES, ROUNDS, SIGNALS = 2_000, 10, 5, ("plain", "compact")


def run(*command: object) -> dict[str, Any]:
    """Run one measurement in a fresh process."""
    words = [sys.executable, "-m", "benchmarks._weights_run", *map(str, command)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    sys.stderr.write(f"{' '.join(words[3:])}: {done.stdout}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> bool:
    """Measure it all."""
    held = []
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        run("make", small, ROLLOUTS)
        times = run("race", small, "plain", ROUNDS)
        ratios = [bare / stage for bare, stage in zip(times["bare"], times["stage"], strict=True)]
        text = "calibrate_weights, plain signal: throughput against bare reading and writing of its columns"
        held.append(claim(text, ratios, 0.5, "higher"))
        run("make", large, TIMES * ROLLOUTS)
        for signal in SIGNALS:
            one, ten = run("peak", small, signal), run("peak", large, signal)
            text = f"calibrate_weights, {signal} signal: peak memory at {TIMES}x the rows against 1x"
            held.append(state(text, ten["peak"] / one["peak"], 1.2, "lower", n=1))
            grown = (ten["peak"] - ten["imports"]) / (one["peak"] - one["imports"])
            held.append(state(f"{text}, beyond the imports", grown, 1.2, "lower", n=1))
            text = f"calibrate_weights, {signal} signal: tokens written at {TIMES}x"
            held.append(state(text, ten["tokens"], 50_000_000, "higher", n=1))
    return all(held)


if __name__ == "__main__":
    sys.exit(not main())
