"""How much memory a million problems take: the stage that reads them runs in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.claims import ROOT, state
from benchmarks.faults.demo import Demo

ROWS, BAR_GB = 1_000_000, 1.5
_PROMPT = "Natalia sold clips to {} of her friends in April, and then she sold half as many clips in May. " * 2


def peak_gigabytes(folder: Path, rows: int) -> float:
    """Prepare so many problems of some 200 characters in a process of its own; returns the most memory it held."""
    command = [sys.executable, "-m", "benchmarks.faults.memory", str(folder), str(rows)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def _prepare(folder: Path, rows: int) -> float:
    demo = Demo(folder / "run", [], "run.num_shards=64")
    with (folder / "run/problems.jsonl").open("w") as file:
        for number in range(rows):
            file.write(json.dumps({"prompt": _PROMPT.format(number, number), "reference": str(number)}) + "\n")
    manifest = demo.make("prepare_problems")
    if manifest.rows != rows:
        raise RuntimeError(f"{manifest.rows} of {rows} rows were written")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def claims() -> Iterator[bool]:
    """A million problems."""
    with tempfile.TemporaryDirectory() as folder:
        peak = peak_gigabytes(Path(folder), ROWS)
    yield state("GB that prepare_problems takes for a million problems", peak, BAR_GB, "lower", n=1)


if __name__ == "__main__":
    sys.stdout.write(f"{_prepare(Path(sys.argv[1]), int(sys.argv[2]))}\n")
