"""Hostile programs are contained, every one, as root and as an ordinary user."""

import os

import pytest

from tests.faults.hostile import LIMITS, contained, users
from tests.faults.hostile_forgeries import FORGERIES, PAIRS
from tests.faults.hostile_greed import GREEDY
from tests.faults.hostile_programs import PROGRAMS
from vcrd.io.sandbox import Program, Sandbox


@pytest.mark.parametrize("user", users())
def test_every_hostile_program_is_contained(user: str) -> None:
    found = contained(user)
    assert len(found) == len(PROGRAMS) + len(GREEDY) + len(FORGERIES) + len(PAIRS) + 3
    assert len(found) >= 45
    assert {name: reason for name, reason in found.items() if reason} == {}


def test_an_attack_that_had_success_would_show() -> None:
    """The suite is no check that cannot fail: what a box allows is told as success."""
    sandbox = Sandbox(LIMITS)
    allowed = "def answer():\n    return open('/tmp/mine', 'w').write('x') > 0\n"
    assert sandbox.run(Program(code=allowed, tests="assert answer()")).passed
    for name, code in {**PROGRAMS, **GREEDY}.items():
        compile(code, name, "exec")
        assert "def answer()" in code or "while True" in code


def test_root_never_runs_a_program_as_root() -> None:
    code = "import os\ndef answer():\n    return os.getuid()\n"
    expected = 65534 if os.geteuid() == 0 else os.getuid()
    assert Sandbox(LIMITS).run(Program(code=code, tests=f"assert answer() == {expected}")).passed
