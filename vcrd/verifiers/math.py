"""Mathematics: the final answer against the reference, arithmetic in the steps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

from vcrd.answers import as_number, extract_answer
from vcrd.errors import ConfigError
from vcrd.io.workers import BoundedWorker, Late
from vcrd.records import Problem
from vcrd.verifiers.arithmetic import check_arithmetic, has_own_rules
from vcrd.verifiers.base import ABSTAIN, INVALID, VALID, Verdict, Verifier

ANSWER_SECONDS = 5.0
"""What comparing one answer with its reference may cost at most."""
_COMPARE_SECONDS = 4.0  # the rest is for ending the comparer
_MAX_ANSWER = 1000
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class MathVerifier(Verifier):
    """Numbers are compared exactly, everything else by math-verify; steps by their arithmetic (modulo `modulus`)."""

    modulus: int | None

    def verify_answer(self, problem: Problem, text: str) -> Verdict:
        """Compare the last marked answer with the reference; one that cannot be compared in time is wrong."""
        if problem.reference is None:
            return Verdict(ABSTAIN, "no reference")
        answer = extract_answer(text)
        if answer is None:
            return Verdict(INVALID, "no answer found")
        if len(answer) > _MAX_ANSWER:
            return Verdict(INVALID, f"answer longer than {_MAX_ANSWER} characters")
        reference = extract_answer(problem.reference) or problem.reference.strip()
        if len(reference) > _MAX_ANSWER:
            return Verdict(INVALID, f"the reference is longer than {_MAX_ANSWER} characters")
        try:
            right = _same(reference, answer)
        except Late as late:
            return Verdict(INVALID, f"{_short(answer)} cannot be compared with {_short(reference)}: {late}")
        return Verdict(
            VALID if right else INVALID, f"{_short(answer)} {'equals' if right else 'is not'} {_short(reference)}"
        )

    def verify_step(self, problem: Problem, prefix: str, step: str) -> Verdict:
        """Veto a step whose arithmetic is wrong, unless the problem calculates by rules of its own."""
        if has_own_rules(problem.prompt):
            return Verdict(ABSTAIN, "the problem has rules of its own")
        return check_arithmetic(step, self.modulus, prefix)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _same(reference: str, answer: str) -> bool:
    numbers = as_number(reference), as_number(answer)
    if numbers[0] is not None and numbers[1] is not None:
        return numbers[0] == numbers[1]
    return _bare(reference) == _bare(answer) or bool(_comparer().call(reference, answer))


def _bare(answer: str) -> str:
    r"""Drop what carries no meaning: `\text{(A)}.` is `A`."""
    text = re.sub(r"\\(?:text|mathrm|textbf|mbox)\s*\{([^{}]*)\}", r"\1", answer).strip().strip("$").rstrip(".")
    return re.sub(r"\s+", "", re.sub(r"^\(([A-Z])\)$", r"\1", text.strip()))


@cache
def _comparer() -> BoundedWorker:
    if find_spec("math_verify") is None:
        raise ConfigError("answers that are no numbers need math-verify; run: pip install 'vcrd[pipeline]'")
    return BoundedWorker("vcrd.verifiers.equivalence:equivalent", _COMPARE_SECONDS)
