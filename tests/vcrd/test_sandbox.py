"""The sandbox runs honest programs as Python would, and says why others fail."""

import gzip
import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcrd.errors import ConfigError
from vcrd.io import sandbox as module
from vcrd.io.sandbox import Program, Sandbox, SandboxLimits
from vcrd.io.sandbox_guest import Wire

SANDBOX = Sandbox(SandboxLimits(wall_seconds=20.0))

HONEST = {
    "plain values": (
        "def f(x): return [x, (x,), {x: None}, {x}, 1.5, 'ü', b'z', 2j, True]",
        "assert f(3)[2:4] == [{3: None}, {3}]",
    ),
    "great numbers": ("def f(n): return 10**n", "assert f(6000) == 10**6000 and f(0) == 1"),
    "changed arguments": (
        "def f(x, d): x.append(1); d['k'] = 2",
        "x, d = [], {}\nf(x, d)\nassert x == [1] and d == {'k': 2}",
    ),
    "named arguments": ("def f(*, x, y=2): return x - y", "assert f(x=5) == 3 and f(y=1, x=1) == 0"),
    "classes": (
        "class P:\n    def __init__(self, a): self.a = a\ndef g(ps): return sum(p.a for p in ps)",
        "assert g([P(1), P(2)]) == 3\nassert P(4).a == 4",
    ),
    "methods and items": (
        "class B:\n    def __init__(self): self.s = []\n"
        "    def push(self, x): self.s.append(x)\n    def __len__(self): return len(self.s)",
        "b = B()\nb.push(3)\nassert len(b) == 1 and b.s == [3]",
    ),
    "values of own classes": (
        "class P:\n    def __init__(self, x): self.x = x\n    def __eq__(self, o): return self.x == o.x\n"
        "    def __add__(self, o): return P(self.x + o.x)\n    def __repr__(self): return f'P({self.x})'\n"
        "    def __lt__(self, o): return self.x < o.x",
        "assert P(1) + P(2) == P(3) and P(1) != P(2) and isinstance(P(1), P) and not isinstance(1, P)\n"
        "assert repr(P(4)) == 'P(4)' and P(1) < P(2) and P(1) != 1",
    ),
    "generators": (
        "def f(n):\n    yield from range(n)",
        "assert list(f(3)) == [0, 1, 2]\nassert next(f(1)) == 0\nassert sum(f(4)) == 6",
    ),
    "callbacks": ("def f(g, xs): return [g(x) for x in xs]", "assert f(lambda x: x * 2, [1, 2]) == [2, 4]"),
    "exceptions": (
        "def f(): raise ValueError('no')",
        "try:\n    f()\n    raise SystemError\nexcept ValueError as error:\n    assert str(error) == 'no'",
    ),
    "subclasses of plain kinds": (
        "from collections import Counter, OrderedDict, namedtuple\nT = namedtuple('T', 'a b')\n"
        "def f(): return Counter('aab'), OrderedDict(x=1), T(1, 2)",
        "assert f() == ({'a': 2, 'b': 1}, {'x': 1}, (1, 2))",
    ),
    "exact numbers": (
        "from decimal import Decimal\nfrom fractions import Fraction\ndef f(): return Decimal('0.10'), Fraction(1, 3)",
        "from fractions import Fraction\nassert f()[1] * 3 == 1 and str(f()[0]) == '0.10'",
    ),
    "own names beside built-in ones": ("def sum(xs): return 42", "assert sum([1]) == 42"),
    "modules of the program": ("import math\ndef f(x): return x", "assert math.sqrt(f(4)) == 2"),
    "other values of the program": ("LIMIT = 7\ntable = {'a': [1]}", "assert LIMIT == 7 and table['a'][0] == 1"),
    "infinities": (
        "def f(): return float('inf'), float('nan'), -0.0",
        "import math\na, b, c = f()\nassert a == math.inf and b != b and math.copysign(1, c) == -1",
    ),
    "no main block": ("if __name__ == '__main__':\n    raise SystemExit(1)\ndef f(): return 1", "assert f() == 1"),
    "input and output": (
        "print('hello')\ndef f():\n    print('x' * 100000)\n    return 1",
        "print('test')\nassert f() == 1",
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_pass(name: str) -> None:
    code, tests = HONEST[name]
    assert SANDBOX.run(Program(code=code, tests=tests)).reason == "passed"


@pytest.mark.parametrize(
    ("code", "tests", "said"),
    [
        ("def f(): return 1", "assert f() == 2, 'expected two'", "failed: an assertion: expected two"),
        ("def f(:", "f()", "error: SyntaxError"),
        ("def f(): return 1 / 0", "f()", "error: ZeroDivisionError: division by zero"),
        ("def f(): return undefined", "f()", "error: NameError"),
        ("class Mine(Exception): pass\ndef f(): raise Mine('oh')", "f()", "error: ProgramError: Mine: oh"),
        ("import os\nos._exit(3)", "pass", "ended"),
        ("import numpy_is_not_here", "pass", "error: ModuleNotFoundError"),
        ("x = '\x00'", "pass", "error"),
    ],
)
def test_a_failure_says_why(code: str, tests: str, said: str) -> None:
    result = SANDBOX.run(Program(code=code, tests=tests))
    assert not result.passed
    assert result.reason.startswith(said)


def test_the_entry_point_must_be_there() -> None:
    result = SANDBOX.run(Program(code="def g(): return 1", tests="assert True", entry_point="f"))
    assert result.reason == "error: the program does not define f"


def test_time_is_bounded() -> None:
    result = Sandbox(SandboxLimits(wall_seconds=1.0)).run(Program(code="import time\ntime.sleep(60)", tests=""))
    assert result.reason == "timeout: longer than 1 s"


def test_many_programs_keep_their_order() -> None:
    programs = [Program(code=f"def f(): return {number}", tests=f"assert f() == {number % 3}") for number in range(9)]
    counted: list[int] = []
    results = SANDBOX.run_many(programs, workers=3, progress=counted.append)
    assert [result.passed for result in results] == [number == number % 3 for number in range(9)]
    assert sum(counted) == 9


def test_without_a_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([], 1, b"", b"bwrap: No permissions to create a new namespace")

    for function in (module.probe, module._box):
        function.cache_clear()
    monkeypatch.setattr(module, "_start", fails)
    with pytest.raises(ConfigError, match="install bubblewrap"):
        SANDBOX.run(Program(code="", tests=""))
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="bwrap is not installed"):
        SANDBOX.run(Program(code="", tests=""))


_PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner) | st.frozensets(st.integers())
    ),
    max_leaves=20,
)


@settings(max_examples=200)
@given(_PLAIN)
def test_plain_values_cross_unchanged(value: object) -> None:
    wire = Wire(None)
    again = wire.loads(wire.dumps(value))
    assert again == value
    assert kinds(again) == kinds(value)


def kinds(value: object) -> object:
    """The types of a value and of all that is in it; 1, 1.0 and True are equal."""
    if isinstance(value, dict):
        return [dict, [(key, kinds(item)) for key, item in value.items()]]
    if isinstance(value, list | tuple):
        return [type(value), [kinds(item) for item in value]]
    return type(value)


def test_public_programs_pass_and_empty_ones_fail(real_data: Path) -> None:
    with gzip.open(real_data / "humaneval/HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    for body, expected in ((None, 164), ("    pass\n", 0)):
        programs = [
            Program(
                code=row["prompt"] + (body or row["canonical_solution"]),
                tests=f"{row['test']}\ncheck({row['entry_point']})\n",
                entry_point=row["entry_point"],
            )
            for row in rows
        ]
        assert sum(result.passed for result in SANDBOX.run_many(programs)) == expected
    with (real_data / "mbpp/mbpp.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    programs = [
        Program(code=row["code"], tests=f"{row.get('test_setup_code') or ''}\n" + "\n".join(row["test_list"]))
        for row in rows
    ]
    assert sum(result.passed for result in SANDBOX.run_many(programs)) >= 0.99 * len(programs)
