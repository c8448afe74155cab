"""Arithmetic in steps: a veto that finds mistakes and hardly ever errs, on real solutions and on any text."""

import csv
import gzip
import json
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcrd.answers import extract_answer
from vcrd.verifiers.arithmetic import check_arithmetic, has_own_rules
from vcrd.verifiers.expressions import evaluate

FLAGS = Path(__file__).with_name("gsm8k_flags.csv")


def rows(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    return [json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()]


def flagged(steps: list[str]) -> list[int]:
    verdicts = [check_arithmetic(step, prefix="\n".join(steps[:index])) for index, step in enumerate(steps)]
    return [index for index, verdict in enumerate(verdicts) if verdict.rule == -1]


def test_the_first_mistake_is_found_at_its_step(real_data: Path) -> None:
    found = at_mistake = early = 0
    for row in rows(real_data / "bigbench_mistake/multistep_arithmetic.jsonl.gz"):
        first = next(iter(flagged(row["steps"])), None)
        mistake = row["mistake_index"]
        found += mistake is not None
        at_mistake += mistake is not None and first == mistake
        early += first is not None and (mistake is None or first < mistake)
    assert found == 238
    assert at_mistake >= 0.93 * 238
    assert early <= 0.04 * 300


@pytest.mark.parametrize(("split", "file"), [("test", "test.jsonl"), ("train", "train.jsonl.gz")])
def test_the_gold_steps_that_are_flagged_are_those_of_the_list(real_data: Path, split: str, file: str) -> None:
    with FLAGS.open(newline="") as listed:
        expected = [row for row in csv.DictReader(listed) if row["split"] == split]
    assert all(len(row["why"]) > 10 and len(row["text"]) <= 60 for row in expected)
    solutions = [row["answer"].split("\n") for row in rows(real_data / "gsm8k" / file)]
    found = [(index, step) for index, steps in enumerate(solutions) for step in flagged(steps)]
    assert found == [(int(row["index"]), int(row["step"])) for row in expected]
    assert len(found) <= 0.005 * sum(map(len, solutions))


RIGHT = [
    "3/4 ÷ 1/8 = 6",
    "2/3 / 1/6 = 4 servings",
    "(2) 10 - 5 = 5",
    "4 * 25 = $1",
    "10 * 5 = $.50",
    "0.33 * 300 = 100",
    "2-1/2 * 4 = 10",
    "page 10-20 = 11 pages",
    "2 + 3 = 5",
    "So 12 * 3 = 36 and 36 + 4 = 40.",
    "5*4 = 20 + 1 = 21",
    "1/3 + 1/3 = 2/3 = 0.67",
    "10 / 3 = 3.33",
    "10 / 3 = 3 remainder 1",
    "$1,250.50 * 2 = $2,501",
    "\\frac{1}{2} + \\frac{1}{3} = \\frac{5}{6}",
    "\\frac12 \\cdot 8 = 4",
    "$$\\sqrt{16} = 4$$",
    "2^{10} = 1024",
    "2 \\times 3 = 6",
    "3 1/2 * 2 = 7",
    "20% of 50 = 10",
    "50 * 20% = 10",
    "3/4 = 75%",
    "25/100 = 0.25 = 25%",
    "the train leaves at 3:30 and 3 + 2 = 5, so at 5:30",
    "pages 12-15 = 4 pages",
    "the score was 3-2 = a win",
    "call 555-1234 = my number",
    "x = 3",
    "2x + 3 = 7",
    "x^2 - 5x + 6 = (x - 2)(x - 3)",
    "f(2) = 5",
    "a_1 = 3, a_2 = 5",
    "A = {1, 2, 3}",
    "|A| = 3",
    "(1, 2) + (3, 4) = (4, 6)",
    "5! = 120",
    "17 mod 5 = 2",
    "7 + 8 = 3 (mod 12)",
    "1011_2 = 11",
    "3.0 * 10^8 = 300000000",
    "6.02 * 10^23 = 6.02e23",
    "100 - 30 = 70 dollars",
    "5 feet = 60 inches",
    "2 hours = 120 minutes",
    "1 dozen = 12",
    "3 dozen eggs = 36 eggs",
    "half of 30 = 15",
    "1 < 2 = 2",
    "2 + 2 != 5",
    "2 + 2 ≠ 5",
    "2 + 2 <= 5",
    "is 2 + 2 = 5? No, it is 4",
    "if we suppose 2 + 2 = 5 then we are wrong",
    "22/7 ≈ 3.14",
    "about 99 * 3 = 300",
    "rounded, 2.5 * 3 = 8",
    "15 - 20 = -5",
    "-(3 - 5) = 2",
    "2 * (3 + 4) = 14",
    "[(2 + 3) * 4] = 20",
    "12 ÷ 4 = 3",
    "12 − 4 = 8",
    "12 × 4 = 48",
    "12 x 4 = 48",
    "12 times 4 equals 48",
    "\\begin{align*} a &= 2 + 3 \\\\ &= 5 \\end{align*}",
    "30\\% of 200 = 60",
    "5 cents * 3 = $0.15",
    "$3 thousand + $4 thousand = $7,000",
    "sin(30) = 1/2",
    "\\log_2 8 = 3",
    "\\binom{5}{2} = 10",
    "90° + 90° = 180°",
    "1 + 1/2 + 1/4 + ... = 2",
    "on 12/25/2021 = Christmas",
    "1999-2009 = ten years",
    "<<3*4=12>>12",
    "",
    "no arithmetic at all",
]
WRONG = [
    "2 + 3 = 6",
    "so 2*9 = 19",
    "12 * 3 = 36. Then 36 + 4 = 41.",
    "10 - 3 = 8 apples",
    "$5 * 3 = $16",
    "100 / 4 = 20",
    "\\frac{1}{2} + \\frac{1}{3} = \\frac{2}{5}",
    "\\frac{3}{4} \\cdot 8 = 7",
    "2^{10} = 1000",
    "7 \\times 8 = 54",
    "1,200 + 350 = 1,650",
    "0.5 * 0.5 = 0.5",
    "15 - 20 = 5",
    "2 * (3 + 4) = 10",
    "-4 * -3 = -12",
    "9 + 9 = 18 + 1 = 20",
    "12 ÷ 4 = 4",
    "12 × 4 = 46",
    "12 times 4 equals 46",
    "<<3*4=13>>13",
    "the total is 3 + 4 + 5 = 13 dollars.",
    "She has 48 / 2 = 26 clips",
    "(8 - 2) / 3 = 3",
    "(-2) * (-2) * (-2) = 8",
    "3 * 3 * 3 = 9",
    "1/2 + 1/4 = 2/6",
]


@pytest.mark.parametrize("text", RIGHT)
def test_what_is_right_or_not_plain_arithmetic_is_let_be(text: str) -> None:
    assert check_arithmetic(text).rule == 0, check_arithmetic(text).reason


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_flagged(text: str) -> None:
    assert check_arithmetic(text).rule == -1


def test_definitions_are_carried_on() -> None:
    prefix = "Let A = (2 + 3)\nand B = 4 * 2 = 8"
    assert check_arithmetic("A * B = 5 * 8 = 40", prefix=prefix).rule == 0
    assert check_arithmetic("A * B = 42", prefix=prefix).rule == -1


def test_problems_with_rules_of_their_own_are_known() -> None:
    assert has_own_rules("What is 101 in base 2?")
    assert has_own_rules("Define the operation a # b = a + 2b.")
    assert not has_own_rules("Ann has 3 apples and buys 4. How many?")


@given(st.text(max_size=300) | st.text(alphabet="0123456789+-*/=().^%$ \\{}<>\n&", max_size=300))
def test_any_text_is_judged_quickly_and_without_an_error(text: str) -> None:
    started = time.monotonic()
    assert check_arithmetic(text, prefix=text).rule in (0, -1)
    assert time.monotonic() - started < 5


TERMS = st.lists(st.tuples(st.sampled_from("+-*"), st.integers(1, 99)), min_size=1, max_size=4)


@given(
    st.integers(1, 99),
    TERMS,
    st.integers(1, 50),
    st.sampled_from(["So {} = {}.", "{} = {}", "$${} = {}$$", "<<{}={}>>"]),
)
def test_a_true_equality_is_let_be_and_a_changed_one_is_flagged(
    first: int, terms: list[tuple[str, int]], change: int, form: str
) -> None:
    text = str(first) + "".join(f" {sign} {number}" for sign, number in terms)
    value = eval(text)  # noqa: S307 - of numbers and signs drawn just above
    assert evaluate(text, {}) == Fraction(value)
    assert check_arithmetic(form.format(text, value)).rule == 0
    assert check_arithmetic(form.format(text, value + change)).rule == -1


@pytest.mark.parametrize("text", [r"\[ 3 \times 4 = 13 \]", r"\(3 \times 4 = 13\)", "**3 + 4 = 8**", "`3 + 4 = 8`"])
def test_what_stands_between_marks_of_a_formula_is_read(text: str) -> None:
    assert check_arithmetic(text).rule == -1


@pytest.mark.parametrize(
    ("prefix", "step"),
    [("N = 3\nN = 2k + 1\n", "N + 1 = 8"), ("Case 1: N = 10.\n", "N + 1 = 12"), ("Suppose N = 4.\n", "N + 1 = 6")],
)
def test_a_letter_that_may_have_another_value_by_now_proves_nothing(prefix: str, step: str) -> None:
    assert check_arithmetic(step, prefix=prefix).rule == 0


@pytest.mark.parametrize("text", ["a" + " \n" * 4000, "so\n" + "\n" * 8000 + "x", "=\n" * 4000])
def test_blank_space_costs_no_more_than_its_length(text: str) -> None:
    started = time.perf_counter()
    check_arithmetic(text)
    extract_answer(text)
    assert time.perf_counter() - started < 2
