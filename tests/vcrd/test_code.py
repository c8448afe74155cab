"""Programs are judged by their tests; an unfinished one is vetoed only where nothing can save it."""

import gzip
import json
import time
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
    assert extract_code("```\nx = 1", "x") == "x = 1"


RIGHT = "def double(x):\n    return 2 * x\n"
WHOLE = {
    "a test block behind it": f"```python\n{RIGHT}```\n```python\nassert double(1) == 2\n```\n",
    "a shell block behind it": f"```python\n{RIGHT}```\nRun it:\n```bash\npython x.py\n```\n",
    "output behind it": f"```python\n{RIGHT}```\n```\nResult: 3 apples\n```\n",
    "only untagged blocks": f"```\n{RIGHT}```\nIt prints\n```\n3 apples\n```\n",
    "a list item": "1. So:\n\n   ```python\n   def double(x):\n       return 2 * x\n   ```\n2. Done\n",
    "a list item with lines at the margin": "- So\n    ```python\ndef double(x):\n    return 2 * x\n    ```\n",
    "tildes": f"~~~python\n{RIGHT}~~~\n",
    "a byte order mark": f"\ufeff{RIGHT}",
    "a byte order mark before a fence": f"\ufeff```python\n{RIGHT}```\n",
    "imports in a block of their own": "```python\nimport math\n```\n```python\ndef double(x):\n"
    "    return math.prod([2, x])\n```\n",
    "a fence within a docstring": '```python\ndef double(x):\n    """Double.\n\n    ```\n    double(1)\n    ```\n'
    '    """\n    return 2 * x\n```\n',
    "a draft before it": f"```python\ndef double(x):\n    return x\n```\nNo:\n```python\n{RIGHT}```\n",
}


@pytest.mark.parametrize("entry_point", ["double", None])
@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_a_right_program_passes_however_it_is_fenced(text: str, entry_point: str | None) -> None:
    verdict = VERIFIER.verify_answer(problem(DOUBLE | {"entry_point": entry_point}), text)
    assert verdict.rule == 1, verdict.reason
    lines = text.splitlines(keepends=True)
    assert [broken_program("".join(lines[:count])) for count in range(len(lines) + 1)] == [""] * (len(lines) + 1)


def test_before_the_entry_point_only_blocks_that_define_things_are_run() -> None:
    text = f"```python\nK = 2\n```\n```python\nprint(input())\n```\n```python\ny = unknown(3)\n```\n```py\n{RIGHT}```"
    assert extract_code(text, "double") == "K = 2\n" + RIGHT


def test_a_coroutine_of_the_program_can_be_awaited_by_the_tests() -> None:
    text = "import asyncio\nasync def add(a, b):\n    await asyncio.sleep(0)\n    return a + b\n"
    for total, rule in ((3, 1), (4, -1)):
        tests = f"import asyncio\nassert asyncio.run(add(1, 2)) == {total}"
        verdict = VERIFIER.verify_answer(problem({"tests": tests, "entry_point": "add"}), text)
        assert verdict.rule == rule, verdict.reason


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
    "```\ndef f(x)\n    return x\n",
    "```python\nx = 1\n```\n```python\nprint(x, y)\n",
    "print(maths)\ndef f():\n",
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
    "```python\ndef add(a, b):\n    return a + b\n```\n```python\nprint(add(1, 2))\n```\n",
    "```python\nfrom math import *\n```\n```python\nprint(sqrt(2))\n```\n",
    "1. First, we add them.\n",
    "Note: this adds them.\n",
    "# Solution\n\nHere (as asked) it is:\n",
    "```bash\npython x.py\n```\n",
    "```\n3 apples\n```\n",
    "```\nInput: nums = [2]\nExplanation: two is it\n```\n",
    "```\nTraceback (most recent call last):\n  File x\n```\n",
    "```\nx = 5\n```\n```python\nprint(x)\n```\n",
    "```python\n>>> add(1, 2)\n3\n```\n",
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


def test_a_long_program_costs_seconds_at_most() -> None:
    line, count, begun = "x=1\n", 100_000, time.process_time()
    text = line * count
    verdicts = [VERIFIER.verify_step(problem(), text[: 4 * index], line) for index in range(0, 10_000)]
    assert verdicts[-1].reason == "too long to judge by steps"
    assert VERIFIER.verify_step(problem(), text, line).rule == 0
    assert time.process_time() - begun < 10


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
