"""What is fuzzed of the parsers of text: steps, answers, arithmetic, programs, instructions.

Each takes bytes as a fuzzer makes them. The first byte says how, the rest is text; one that ends with REPEATED is
repeated, so that what costs more than its length shows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

from vcrd.answers import as_number, extract_answer
from vcrd.records import Problem
from vcrd.steps import Unit, cut_steps, first_step, segment
from vcrd.verifiers.arithmetic import check_arithmetic, has_own_rules
from vcrd.verifiers.base import ABSTAIN, INVALID, VALID, Verdict
from vcrd.verifiers.code import CodeVerifier, extract_code, read_program
from vcrd.verifiers.expressions import calculates, evaluate, leading, plain, readings, trailing
from vcrd.verifiers.instructions import KINDS, InstructionsVerifier, check_instructions
from vcrd.verifiers.math import MathVerifier

MOST_CHARACTERS = 10_000
_MOST_OF_A_LINE = 4000  # what is read of one
REPEATED = "\x1e"
_UNITS: Sequence[Unit | None] = ("line", "paragraph", "statement", "sentence", None)


def text_of(data: bytes) -> tuple[int, str]:
    """Return the first byte's number, and the text that follows, with lone surrogates for invalid bytes."""
    text = data[1:].decode("utf-8", "surrogateescape")
    if text.endswith(REPEATED):
        text = text.rstrip(REPEATED) * MOST_CHARACTERS
    return (data[0] if data else 0), text[:MOST_CHARACTERS]


def split_text(text: str) -> tuple[str, str]:
    """Return what stands before the separator of units, and what stands behind it."""
    first, _, second = text.partition("\x1f")
    return first, second


def holds(law: bool, what: str) -> None:
    """Fail where a law does not hold: that is a finding."""
    if not law:
        raise AssertionError(what)


def _judged(verdict: Verdict) -> None:
    holds(verdict.rule in (VALID, ABSTAIN, INVALID), f"{verdict} is none")


def problem(domain: str, reference: str | None, prompt: str = "") -> Problem:
    """Return a problem of a domain."""
    return Problem(
        problem_id="0", domain=domain, prompt=prompt, reference=reference, split="test", source="", licence=""
    )


def cut(data: bytes) -> None:
    """Cut a text, and the tokens of a tokenizer whose tokens are bytes; the steps join to the text again."""
    how, whole = text_of(data)
    unit = _UNITS[how % len(_UNITS)]
    before, text = split_text(whole)
    ends = segment(text, unit, before)
    holds(all(first < second for first, second in pairwise([0, *ends])), "a step is empty or steps overlap")
    holds(ends[-1:] == ([len(text)] if text else []), "the last step does not end the text")
    ids = list(text.encode("utf-8", "surrogateescape"))[:200]
    steps = cut_steps(ids, _decode, ended=True, unit=unit, before=before)
    holds(steps.token_ends[-1:] == ([len(ids)] if ids else []), "the last step does not end the tokens")
    holds(all(first < second for first, second in pairwise([0, *steps.token_ends])), "a step has no token")
    first_step(ids, _decode, ended=False, unit=unit or "line", before=before)


def _decode(token_ids: Sequence[int]) -> str:
    return bytes(token_ids).decode("utf-8", "replace")


def find_answer(data: bytes) -> None:
    """Find the final answer, and read it as a number."""
    answer = extract_answer(text_of(data)[1])
    if answer is not None:
        as_number(answer)


def compare_answers(data: bytes) -> None:
    """Compare a solution's answer with a reference by all rules, math-verify in its process too."""
    reference, text = split_text(text_of(data)[1])
    _judged(MathVerifier(None).verify_answer(problem("math", reference), text))


def judge_arithmetic(data: bytes) -> None:
    """Judge a step's arithmetic behind a prefix, modulo a number or exactly."""
    how, text = text_of(data)
    prefix, step = split_text(text)
    has_own_rules(text)
    _judged(check_arithmetic(step or prefix, how if how > 1 else None, prefix if step else ""))


def calculate(data: bytes) -> None:
    """Read an expression in each way, from its start and from its end."""
    text = text_of(data)[1][:_MOST_OF_A_LINE]
    written = plain(text)
    for part in (text, written, leading(written)[0], trailing(written)[1]):
        evaluate(part)
        calculates(part)
        readings(part)


def judge_code(data: bytes) -> None:
    """Take the program out of a response, and judge a step of it; nothing of it runs."""
    how, text = text_of(data)
    prefix, step = split_text(text)
    extract_code(text, "f" if how % 2 else None)
    _judged(CodeVerifier().verify_step(problem("code", None), prefix, step))
    read_program(prefix, step)


def judge_instructions(data: bytes) -> None:
    """Judge a response by one kind of instruction with options of any kind, and by a reference that is any text."""
    how, text = text_of(data)
    options, response = split_text(text)
    name = sorted(KINDS)[how % len(KINDS)]
    reference = _reference(name, options) or options
    asked = problem("instructions", reference)
    judge = InstructionsVerifier()
    half = len(response) // 2
    _judged(judge.verify_answer(asked, response))
    _judged(judge.verify_step(asked, response[:half], response[half:]))
    given = json.loads(reference)
    check_instructions(given["instruction_id_list"], given["kwargs"], response)


def _reference(name: str, options: str) -> str | None:
    """Return the reference of one instruction with those options that belong to it; None where they are none."""
    try:
        given = json.loads(options)
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, dict) or "kwargs" in given:
        return None
    kept = {key: value for key, value in given.items() if key in KINDS[name].options}
    return json.dumps({"instruction_id_list": [name], "kwargs": [kept]})
