"""Programs are judged by their tests; an unfinished one is vetoed only where nothing can save it."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcrd.errors import SchemaError
from vcrd.records import Problem
from vcrd.verifiers.code import CodeVerifier, broken_program, extract_code

VERIFIER = CodeVerifier()
DOUBLE = {"tests": "assert double(2) == 4", "entry_point": "double"}


def problem(reference: object = DOUBLE) -> Problem:
    text = None if reference is None else json.dumps(reference)
    return Problem(problem_id="p", domain="code", prompt="", reference=text, split="", source="", licence="")


def test_a_whole_program_is_judged_by_its_tests() -> None:
    right, wrong = "def double(x):\n    return 2 * x\n", "def double(x):\n    return x\n"
    assert VERIFIER.verify_answer(problem(), right).rule == 1
    assert VERIFIER.verify_answer(problem(), f"Sure:\n```python\n{right}```\nIt doubles.").rule == 1
    assert VERIFIER.verify_answer(problem(), wrong).rule == -1
    assert VERIFIER.verify_answer(problem(None), right).rule == 0
    many = VERIFIER.verify_answers([problem(), problem(None), problem()], [wrong, right, right])
    assert [verdict.rule for verdict in many] == [-1, 0, 1]
    with pytest.raises(SchemaError, match="column reference"):
        VERIFIER.verify_answer(problem({"test": ""}), right)


def test_of_several_blocks_the_one_that_defines_the_entry_point_counts() -> None:
    text = "```python\ndef f():\n    return 1\n```\nUse it:\n```python\nprint(f())\n```\n"
    assert extract_code(text, "f") == "def f():\n    return 1\n"
    assert extract_code(text) == "print(f())\n"
    assert extract_code("```\nx = 1", "x") == "x = 1"


BROKEN = [
    "def f(x):\n    return )\n",
    "def f(x)\n    return x\n",
    "def f(x):\nreturn x\n",
    "def f(x):\n    x = 'never closed\n    return x\n",
    "x = 1\nreturn x\n",
    "for x in range(3):\n    pass\nbreak\n",
    "def f(x, x):\n    pass\n",
    "if True:\n        x = 1\n    y = 2\n",
    "import math\nprint(maths.pi)\n",
    "x = [1, 2\ny = (3\nz = }\n",
    "```python\nx = = 2\n",
    "1 = x\n",
]
OPEN = [
    "",
    "def f(x):\n",
    "def f(x):\n    return (x +\n",
    '"""A docstring\n',
    "@decorate\n",
    "try:\n    x = 1\n",
    "x = 1 + \\\n",
    "if x:\n    pass\nelif",
    "def g():\n    def f():\n        nonlocal x\n",
    "def f():\n    return later_defined()\n",
    "from math import *\nprint(sqrt(2))\n",
    "for i in range(3):\n    print(i)\nprint(i)\n",
    "print([y for y in range(3)])\n",
    "with open('x') as f:\n    data = f.read()\nprint(data)\n",
    "Here is the solution:\n",
    "Here is the solution:\n```python\nx = 1\n```\nIt works, doesn't it?\n",
    "x = 1 = 2",
]


@pytest.mark.parametrize("text", BROKEN)
def test_what_nothing_can_save_is_vetoed(text: str) -> None:
    assert broken_program(text)


@pytest.mark.parametrize("text", OPEN)
def test_what_may_still_become_a_program_is_not(text: str) -> None:
    assert broken_program(text) == ""


def test_the_step_that_breaks_a_program_is_to_blame_and_no_later_one() -> None:
    first, second, third = "def f(x):\n", "    return )\n", "    return x\n"
    assert VERIFIER.verify_step(problem(), "", first).rule == 0
    assert VERIFIER.verify_step(problem(), first, second).rule == -1
    assert VERIFIER.verify_step(problem(), first + second, third).rule == 0


@given(st.text(alphabet="def xyz=()[]:\n\t '\"#\\+1,@`{}", max_size=60))
def test_any_text_is_judged_without_an_error_and_a_program_is_never_vetoed_on_its_way(text: str) -> None:
    try:
        compile(text, "", "exec")
    except (SyntaxError, ValueError):
        broken_program(text)
        return
    for end in range(len(text)):
        reason = broken_program(text[:end])
        assert not reason or reason.endswith(tuple(f"not defined in line {line}" for line in range(1, 60)))


def test_no_reference_program_is_vetoed_on_its_way(real_data: Path) -> None:
    with gzip.open(real_data / "humaneval/HumanEval.jsonl.gz", "rt") as file:
        programs = [row["prompt"] + row["canonical_solution"] for row in map(json.loads, file)]
    with (real_data / "mbpp/mbpp.jsonl").open(encoding="utf-8") as file:
        programs += [row["code"].replace("\r\n", "\n") for row in map(json.loads, file)]
    for program in programs:
        lines = program.splitlines(keepends=True)
        for count in range(1, len(lines) + 1):
            assert broken_program("".join(lines[:count])) == ""
