"""What the code sandbox lets pass, what it contains, and what a box costs against bare Python."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.claims import claim, real_data, seconds, state
from tests.faults.hostile import contained, users
from vcrd.io.sandbox import Program, ProgramResult, Sandbox, guest_python

REPEATS, PROGRAMS = 5, 48
_MODEL = 1 << 30
"""Bytes of memory that a process holds which judges programs while a model is loaded."""


def main() -> bool:
    """Measure it all."""
    return all([*_public_programs(), *_hostile(), *_cost()])


def _public_programs() -> Iterator[bool]:
    sandbox = Sandbox()
    if problems := real_data("humaneval", "HumanEval.jsonl.gz"):
        with gzip.open(problems, "rt") as file:
            rows = [json.loads(line) for line in file]
        passed = sandbox.run_many([_humaneval(row, row["canonical_solution"]) for row in rows])
        text = "share of HumanEval's canonical solutions that pass"
        yield state(text, _share(passed), 1.0, "higher", n=len(rows))
        passed = sandbox.run_many([_humaneval(row, "    pass\n") for row in rows])
        text = "share of HumanEval's solutions with the body replaced by pass that fail"
        yield state(text, 1 - _share(passed), 1.0, "higher", n=len(rows))
    if problems := real_data("mbpp", "mbpp.jsonl"):
        with problems.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        tests = [f"{row.get('test_setup_code') or ''}\n" + "\n".join(row["test_list"]) for row in rows]
        passed = sandbox.run_many(
            [Program(code=row["code"], tests=test) for row, test in zip(rows, tests, strict=True)]
        )
        yield state("share of MBPP's reference programs that pass", _share(passed), 0.99, "higher", n=len(rows))


def _humaneval(row: dict[str, Any], body: str) -> Program:
    tests = f"{row['test']}\ncheck({row['entry_point']})\n"
    return Program(code=row["prompt"] + body, tests=tests, entry_point=row["entry_point"])


def _share(results: Sequence[ProgramResult]) -> float:
    return sum(result.passed for result in results) / len(results)


def _hostile() -> Iterator[bool]:
    for user in users():
        found = contained(user)
        for name, reason in found.items():
            if reason:
                sys.stderr.write(f"{name} ({user}): {reason}\n")
        held = sum(not reason for reason in found.values()) / len(found)
        yield state(f"share of hostile programs contained ({user})", held, 1.0, "higher", n=len(found))


def _cost() -> Iterator[bool]:
    code = "def add(a, b):\n    return a + b\n"
    tests = "".join(f"assert add({number}, 1) == {number + 1}\n" for number in range(3))
    sandbox, cores = Sandbox(), len(os.sched_getaffinity(0))
    programs = [Program(code=code, tests=tests)] * PROGRAMS

    def bare(_: int) -> None:
        command = [str(guest_python()), "-I", "-"]
        subprocess.run(command, input=(code + tests).encode(), check=True, env={}, capture_output=True)

    def all_bare() -> None:
        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(bare, range(PROGRAMS)))

    model = b"\1" * _MODEL
    sandbox.run(programs[0])
    ratios = []
    for _ in range(REPEATS):
        plain = seconds(all_bare)
        ratios.append(seconds(lambda: sandbox.run_many(programs)) / plain)
    text = (
        f"a program in its box, from a process of {len(model) >> 20} MiB, against bare python -I, as many side by side"
    )
    yield claim(text, ratios, 3.0, "lower")


if __name__ == "__main__":
    sys.exit(not main())
