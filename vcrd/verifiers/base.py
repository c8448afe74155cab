"""What a verifier says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vcrd.records import Problem

VALID, ABSTAIN, INVALID = 1, 0, -1


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule's judgement: 1 valid, 0 abstain, -1 invalid, and why."""

    rule: int
    reason: str


class Verifier(Protocol):
    """Judges a final answer and single steps of a domain."""

    def verify_answer(self, problem: Problem, text: str) -> Verdict:
        """Judge a whole solution by its final answer."""

    def verify_answers(self, problems: Sequence[Problem], texts: Sequence[str]) -> list[Verdict]:
        """Judge many solutions, text i answering problem i; the verdicts are those that each would get alone."""
        return [self.verify_answer(problem, text) for problem, text in zip(problems, texts, strict=True)]

    def verify_step(self, problem: Problem, prefix: str, step: str) -> Verdict:
        """Judge one step under the solution so far."""
