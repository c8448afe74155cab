"""Many answers judged together get the verdicts that each gets alone, whatever stands beside them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vcrd.factories import problem
from vcrd.io.sandbox import Program, ProgramResult, Sandbox
from vcrd.records import Problem
from vcrd.verifiers.code import CodeVerifier
from vcrd.verifiers.domain import DomainVerifier, VerifierParams

VERIFIER = DomainVerifier(VerifierParams(modulus=10))


def code(result: int) -> Problem:
    tests = {"tests": f"assert f() == {result}", "entry_point": "f"}
    return problem("p", json.dumps(tests), domain="code")


NO_COMMA = json.dumps({"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]})
ANSWERS = [
    (code(1), "def f(): return 1\n"),
    (code(2), "def f(): return 1\n"),
    (code(1), "def f(): return 1 +\n"),
    (code(1), "def g(): return 1\n"),
    (problem("p", None, domain="code"), "def f(): return 1\n"),
    (problem(reference="5"), "#### 5"),
    (problem(reference="5"), "#### 6"),
    (problem(reference="\\frac{1}{2}"), "\\boxed{0.5}"),
    (problem(reference=NO_COMMA, domain="instructions"), "One two"),
    (problem(reference=NO_COMMA, domain="instructions"), "One, two"),
]


@dataclass(frozen=True)
class Counted(Sandbox):
    """A sandbox that writes down what it is asked to run."""

    asked: list[Program] = field(default_factory=list)

    def run_many(
        self,
        programs: Sequence[Program],
        workers: int | None = None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> list[ProgramResult]:
        """Write down, and run."""
        self.asked.extend(programs)
        return super().run_many(programs, workers, progress)


ALONE = [VERIFIER.verify_answer(asked, text) for asked, text in ANSWERS]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.sampled_from(range(len(ANSWERS))), max_size=12))
def test_a_batch_is_judged_as_each_answer_alone(chosen: list[int]) -> None:
    found = VERIFIER.verify_answers([ANSWERS[index][0] for index in chosen], [ANSWERS[index][1] for index in chosen])
    assert found == [ALONE[index] for index in chosen]


def test_the_answers_cover_every_verdict() -> None:
    assert [verdict.rule for verdict in ALONE] == [1, -1, -1, -1, 0, 1, -1, 1, 1, -1]


def test_equal_programs_with_equal_tests_are_run_once() -> None:
    sandbox = Counted()
    chosen = [ANSWERS[index] for index in (0, 1, 0, 2, 4, 1, 0)]
    verifier = CodeVerifier(sandbox)
    for _ in range(2):
        found = verifier.verify_answers([asked for asked, _ in chosen], [text for _, text in chosen])
        assert [verdict.rule for verdict in found] == [1, -1, 1, -1, 0, -1, 1]
        assert len(sandbox.asked) == len(set(sandbox.asked)) == 3


def test_a_batch_of_nothing_opens_no_sandbox() -> None:
    sandbox = Counted()
    assert CodeVerifier(sandbox).verify_answers([], []) == []
    assert not sandbox.asked
