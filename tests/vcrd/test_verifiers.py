"""Arithmetic is a veto and never a pass; answers are compared as what they mean."""

import json

import pytest

from tests.vcrd.factories import VERIFIER, problem
from vcrd.answers import as_number, extract_answer
from vcrd.verifiers.arithmetic import check_arithmetic, evaluate


@pytest.mark.parametrize(
    "text",
    [
        "2+2=5",
        "so 12 * 3 = 37",
        "16 - 3 - 4 = 8",
        "<<48/2=25>>25",
        "$1,000 + $250 = $1,350",
        "(2+3)*4 = 24",
        "7/2=3.4",
    ],
)
def test_a_false_equality_is_invalid(text: str) -> None:
    assert check_arithmetic(text).rule == -1


@pytest.mark.parametrize(
    "text",
    [
        "2+2=4",
        "16 - 3 - 4 = 9",
        "<<48/2=24>>24",
        "$1,000 + $250 = $1,250",
        "10/3 = 3.33",
        "x = 5",
        "20% of 50 = 10",
        "3x + 2 = 5",
        "2^10 = 1024",
        "1/0 = 5",
        "no numbers at all",
        "f(2) = 3",
        "5 apples + 3 = 8",
    ],
)
def test_a_true_or_unreadable_one_abstains(text: str) -> None:
    assert check_arithmetic(text).rule == 0


def test_a_modulus_is_part_of_the_rule() -> None:
    assert check_arithmetic("b 3*4=2 2+3=5", modulus=10).rule == 0
    assert check_arithmetic("b 3*4=2 2+3=5").rule == -1


@pytest.mark.parametrize("text", ["9**9**9**9", "1" * 50, "(" * 500, "__import__('os')", "1//2", "1e999", ""])
def test_hostile_expressions_have_no_value(text: str) -> None:
    assert evaluate(text) is None


@pytest.mark.parametrize(
    ("reference", "text", "rule"),
    [
        ("5", "#### 5", 1),
        ("5", "#### 5.0", 1),
        ("1250", "#### $1,250", 1),
        ("5", "#### 6", -1),
        ("5", "no answer", -1),
        ("She has\n#### 18", "The answer is 18.", 1),
        ("1/2", "\\boxed{\\frac{1}{2}}", 1),
        ("1/2", "\\boxed{0.5}", 1),
        ("1/2", "\\boxed{\\frac{1}{3}}", -1),
        ("5", "#### " + "9" * 500, -1),
        (None, "#### 5", 0),
    ],
)
def test_answers_are_compared_by_value(reference: str | None, text: str, rule: int) -> None:
    assert VERIFIER.verify_answer(problem(reference=reference), text).rule == rule


def test_the_last_answer_counts_and_braces_nest() -> None:
    assert extract_answer("#### 3\nno wait\n#### 4") == "4"
    assert extract_answer("\\boxed{a{b}c} and") == "a{b}c"
    assert extract_answer("\\boxed{never closed") is None
    assert as_number("12 apples") is None


def test_gold_solutions_are_hardly_ever_flagged(real_data) -> None:
    lines = (real_data / "gsm8k/test.jsonl").read_text().splitlines()
    steps = [step for line in lines for step in json.loads(line)["answer"].splitlines()]
    flagged = [step for step in steps if check_arithmetic(step).rule == -1]
    assert len(steps) > 3000
    assert len(flagged) / len(steps) < 0.004
