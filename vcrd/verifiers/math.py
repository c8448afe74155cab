"""Mathematics: the final answer against the reference, arithmetic in the steps."""

from __future__ import annotations

from dataclasses import dataclass

from vcrd.answers import as_number, extract_answer
from vcrd.records import Problem
from vcrd.verifiers.arithmetic import check_arithmetic
from vcrd.verifiers.base import ABSTAIN, INVALID, VALID, Verdict

_MAX_ANSWER = 400
_PARSE_SECONDS = 3


@dataclass(frozen=True, slots=True)
class MathVerifier:
    """Numbers are compared exactly, everything else by math-verify; steps by their arithmetic (modulo `modulus`)."""

    modulus: int | None

    def verify_answer(self, problem: Problem, text: str) -> Verdict:
        """Compare the last marked answer with the reference."""
        if problem.reference is None:
            return Verdict(ABSTAIN, "no reference")
        answer = extract_answer(text)
        if answer is None:
            return Verdict(INVALID, "no answer found")
        if len(answer) > _MAX_ANSWER:
            return Verdict(INVALID, f"answer longer than {_MAX_ANSWER} characters")
        reference = extract_answer(problem.reference) or problem.reference
        numbers = as_number(reference), as_number(answer)
        if numbers[0] is not None and numbers[1] is not None:
            right = numbers[0] == numbers[1]
        else:
            right = _equivalent(reference, answer)
        return Verdict(VALID if right else INVALID, f"{answer} {'equals' if right else 'is not'} {reference}")

    def verify_step(self, problem: Problem, prefix: str, step: str) -> Verdict:
        """Veto a step whose arithmetic is wrong."""
        return check_arithmetic(step, self.modulus)


def _equivalent(reference: str, answer: str) -> bool:
    from math_verify import parse, verify

    gold, given = (parse(f"${text}$", parsing_timeout=_PARSE_SECONDS) for text in (reference, answer))
    return bool(verify(gold, given, timeout_seconds=_PARSE_SECONDS))
