"""The verifier of a run: each problem is judged by the rules of its domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from vcrd.records import Problem
from vcrd.verifiers.base import Verdict, Verifier
from vcrd.verifiers.code import CodeVerifier
from vcrd.verifiers.instructions import InstructionsVerifier
from vcrd.verifiers.math import MathVerifier


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierParams:
    """What the rule verifiers must know of the problems."""

    modulus: Annotated[int, Ge(2)] | None
    """Arithmetic in steps holds modulo this integer (null: exactly)."""


class DomainVerifier(Verifier):
    """Hands a problem to the verifier of its domain."""

    def __init__(self, params: VerifierParams) -> None:
        """Make a verifier of every domain."""
        self._verifiers: dict[str, Verifier] = {
            "math": MathVerifier(params.modulus),
            "code": CodeVerifier(),
            "instructions": InstructionsVerifier(),
        }

    def verify_answer(self, problem: Problem, text: str) -> Verdict:
        """Judge a whole solution by its final answer."""
        return self._verifiers[problem.domain].verify_answer(problem, text)

    def verify_answers(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
        """Judge many solutions by their final answers, those of a domain together."""
        verdicts: dict[int, Verdict] = {}
        for domain in dict.fromkeys(problem.domain for problem in problems):
            mine = [index for index, problem in enumerate(problems) if problem.domain == domain]
            asked = [problems[index] for index in mine], [texts[index] for index in mine]
            verdicts.update(zip(mine, self._verifiers[domain].verify_answers(*asked), strict=True))
        return [verdicts[index] for index in range(len(problems))]

    def verify_step(self, problem: Problem, prefix: str, step: str) -> Verdict:
        """Judge one step under the solution so far."""
        return self._verifiers[problem.domain].verify_step(problem, prefix, step)
