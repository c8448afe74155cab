"""Final answers: agreement with people's labels, gold against itself, and a bound on what a hostile answer costs."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vcrd.factories import problem
from vcrd.answers import as_number, extract_answer
from vcrd.verifiers import math as verifier_module
from vcrd.verifiers.math import ANSWER_SECONDS, MathVerifier

VERIFIER = MathVerifier(modulus=None)
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)


def rule(reference: str, text: str) -> int:
    return VERIFIER.verify_answer(problem(reference=reference), text).rule


def rows(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line) for line in text.splitlines()]


def test_verdicts_agree_with_the_labels_of_5276_model_solutions(real_data: Path) -> None:
    agree = total = 0
    for row in rows(real_data / "gsm8k_model_solutions/example_model_solutions.jsonl.gz"):
        for answer in (value for value in row.values() if isinstance(value, dict)):
            total += 1
            agree += (rule(row["ground_truth"], answer["solution"]) == 1) == answer["is_correct"]
    assert total == 5276
    assert agree >= 0.995 * total


def test_every_gold_answer_of_math500_verifies_against_itself(real_data: Path) -> None:
    golds = [row["answer"] for row in rows(real_data / "math500/test.jsonl")]
    assert len(golds) == 500
    assert [gold for gold in golds if rule(gold, gold) != 1] == []
    short = [gold.rpartition("The answer is: ")[2] for gold in golds]
    assert [gold for gold, answer in zip(golds, short, strict=True) if rule(gold, f"\\boxed{{{answer}}}") != 1] == []


def test_gold_answers_of_math500_do_not_verify_against_one_another(real_data: Path) -> None:
    golds = [row["answer"] for row in rows(real_data / "math500/test.jsonl")]
    answers = [extract_answer(gold) or "" for gold in golds]
    pairs = [(gold, other) for gold, other in zip(answers, answers[7:], strict=False) if gold != other]
    equal = [(gold, other) for gold, other in pairs if rule(gold, f"\\boxed{{{other}}}") == 1]
    assert len(equal) <= 2, equal


HOSTILE = {
    "tower": "9^{9^{9^{9^{9^{9}}}}}",
    "factorials": "((((9!)!)!)!)!",
    "LaTeX of a megabyte": "\\frac{" * 170_000,
    "sum of a megabyte": "1+" * 500_000 + "1",
    "nested": "(" * 450 + "x" + ")" * 450,
    "roots": "\\sqrt{" * 150 + "x" + "}" * 150,
    "product": "(x+1)" * 190,
    "NUL": "\x00" * 900,
    "NUL within": "1\x002",
    "surrogate": "\ud800 x",
    "line separators": "1\u2028\x85 2",
    "code": "__import__('os').system('true')",
    "integral": "\\int_0^{10^{10}} \\sin(x^x) dx",
    "iterated sum": "\\sum_{n=1}^{10^{12}} \\frac{1}{n^n}",
    "open brace": "{" * 990,
    "empty": "",
    "combining marks": "e\u0301" * 400,
}


@pytest.fixture
def started() -> None:
    """A worker that has been started: its start is no part of an answer's cost."""
    verifier_module._comparer().call("x", "x")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("as_reference", [False, True])
def test_a_hostile_answer_costs_at_most_its_bound_and_spoils_nothing(
    started: None, name: str, as_reference: bool
) -> None:
    marked = f"\\boxed{{{HOSTILE[name]}}}"
    start = time.monotonic()
    verdict = rule(marked, "\\boxed{x+2}") if as_reference else rule("x+2", marked)
    assert time.monotonic() - start < ANSWER_SECONDS
    assert verdict == -1
    assert rule("x^2+2x", "\\boxed{x(x+2)}") == 1


@given(st.text(max_size=200))
def test_finding_an_answer_never_raises_and_gives_back_a_part(text: str) -> None:
    answer = extract_answer(text)
    assert answer is None or answer in text
    as_number(text)


@given(NUMBERS, st.sampled_from(["{}", "#### {}", "\\boxed{{{}}}", "The answer is {}.", "${}", "A: {}", "{:,}"]))
def test_a_number_equals_itself_however_it_is_marked(number: Any, form: str) -> None:
    assert rule(str(number), form.format(number)) == 1
    assert rule(str(number + 1), form.format(number)) == -1


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ("\\frac{1}{2}", "0.5", 1),
        ("\\frac{1}{2}", "\\dfrac12", 1),
        ("(1,2)", "(1, 2)", 1),
        ("(1,2)", "(2,1)", -1),
        ("2\\sqrt{3}", "\\sqrt{12}", 1),
        ("x^2-1", "(x-1)(x+1)", 1),
        ("x^2-1", "(x-1)^2", -1),
        ("\\text{(A)}", "A", 1),
        ("\\text{Evelyn}", "Evelyn", 1),
        ("\\text{Evelyn}", "Angela", -1),
        ("90^\\circ", "90", 1),
        ("10{,}000", "10000", 1),
        ("3,-1", "-1, 3", 1),
        ("[1,2)", "[1,2]", -1),
        ("1000", "1,000", 1),
        ("1000", "1.000,5", -1),
        ("\\frac{\\pi}{2}", "\\pi/2", 1),
    ],
)
def test_answers_are_compared_as_what_they_mean(reference: str, answer: str, expected: int) -> None:
    assert rule(reference, f"\\boxed{{{answer}}}") == expected


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("**Final Answer:** 5", "5"),
        ("**Answer**: 5", "5"),
        ("The answer is **4**.", "4."),
        ("so \\boxed 4", "4"),
        ("#### 2**3", "2**3"),
    ],
)
def test_answers_in_bold_and_boxes_without_braces_are_read(text: str, answer: str) -> None:
    assert extract_answer(text) == answer
