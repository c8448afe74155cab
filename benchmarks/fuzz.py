"""Every parser takes hostile input for 5 minutes or a million executions: no crash, no hang, on atheris.

    python -m benchmarks.fuzz [--executions N] [--seconds S] [--jobs J] [PARSER ...]

A finding is an error of a kind that the design has not, a law that does not hold, a call over its bound, or the end of
the process. Each parser prints one line, whose value is the number of findings; they and their inputs are told on
standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._fuzz_targets import TARGETS
from benchmarks.claims import ROOT, state

EXECUTIONS, SECONDS, JOBS = 10**6, 300.0, 2
_GRACE = 300.0
_ENDS = {70: "a call hung", 71: "memory ran out", 77: "the process crashed"}


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """What came of fuzzing a parser: counts, and what was found."""

    name: str
    told: dict[str, Any]
    findings: dict[str, dict[str, str]]

    def claim(self) -> bool:
        """Print the line of this parser."""
        executions, spent = self.told.get("executions", 0), self.told.get("seconds", 0.0)
        for place, found in self.findings.items():
            sys.stderr.write(f"{self.name}: {place}: {found['message']}\n    input: {found['input'][:400]}\n")
        text = (
            f"{self.name}: {executions} executions in {spent:.0f} s, {self.told.get('taken', 0)} taken, the slowest in "
            f"{self.told.get('slowest', 0.0):.2g} s of processor time, bound {TARGETS[self.name].seconds:g} s: "
            "findings"
        )
        return state(text, len(self.findings), 0, "lower", n=executions) and executions > 0


def fuzz(name: str, executions: int, seconds: float) -> Fuzzed:
    """Fuzz a parser in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        command = [sys.executable, "-m", "benchmarks._fuzz_run", name, str(executions), str(seconds), place]
        with (folder / "log").open("wb") as log:
            try:
                code = subprocess.run(
                    command, cwd=ROOT, stdout=log, stderr=log, timeout=seconds + _GRACE, check=False
                ).returncode
            except subprocess.TimeoutExpired:
                code = 70
        told = json.loads(result.read_bytes()) if (result := folder / "result.json").is_file() else {}
        findings = told.pop("findings", {})
        if code:
            inputs = [path.read_bytes().hex() for path in _artifacts(folder)]
            tail = (folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:]
            ended = {"message": f"{_ENDS.get(code, 'it ended')} ({code}): {tail}", "input": "".join(inputs[:1])}
            findings["the end of the process"] = ended
    return Fuzzed(name, told, findings)


def _artifacts(folder: Path) -> Iterator[Path]:
    yield from (path for kind in ("crash", "timeout", "oom") for path in folder.glob(f"{kind}-*"))


def main() -> bool:
    """Fuzz the parsers that are named, or all, some at a time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz")
    parser.add_argument("parsers", nargs="*", metavar="PARSER", help=", ".join(TARGETS))
    parser.add_argument("--executions", type=int, default=EXECUTIONS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--jobs", type=int, default=min(JOBS, len(os.sched_getaffinity(0))))
    asked = parser.parse_args()
    if unknown := set(asked.parsers) - set(TARGETS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(TARGETS)}")
    with ThreadPoolExecutor(asked.jobs) as pool:
        found = pool.map(lambda name: fuzz(name, asked.executions, asked.seconds), asked.parsers or TARGETS)
        holds = [item.claim() for item in found]
        return all(holds)


if __name__ == "__main__":
    sys.exit(not main())
