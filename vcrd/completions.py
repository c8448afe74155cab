"""Monte-Carlo completions: what a step is worth to a completer.

A step's *value* is the chance that the completer reaches the right answer from behind it, with a Beta posterior.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from vcrd.metrics import beta_below
from vcrd.records import CompletionRecord, Problem, Rollout
from vcrd.requests import Failure, GenerateRequest, Generation, Sampling, derive_seed
from vcrd.tokenization import Decode
from vcrd.verifiers.base import ABSTAIN, INVALID, VALID, Verifier

Role = Literal["student", "teacher", "completer"]
RATHER, SURELY = 0.5, 0.95
"""Chances of being lost above which completions behind a prefix are not believed, and above which none is made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleterParams:
    """Who completes, and how. Values of two policies are never pooled: labels and steps have the same completer."""

    role: Role
    """Whose completions; completer: the model of models.completer."""
    max_tokens: Annotated[int, Ge(1)]
    """Per completion; one without an answer by then has failed."""
    temperature: Annotated[float, Ge(0)]
    """Of the completer."""
    v_min: Annotated[float, Gt(0), Le(1)]
    """A prefix is broken when its value is surely below this; above the chance rate of the answers."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """Beta posterior of a step's value."""

    a: float
    b: float

    @property
    def variance(self) -> float:
        """Of the Beta distribution."""
        total = self.a + self.b
        return self.a * self.b / (total * total * (total + 1))

    @property
    def pair(self) -> tuple[float, float]:
        """Both parameters."""
        return self.a, self.b


def value_posterior(mean: float, kappa: float, successes: int, trials: int) -> Posterior:
    """Return Beta(kappa m + s, kappa (1 - m) + n - s); m is kept off 0 and 1."""
    mean = min(max(mean, 0.01), 0.99)
    return Posterior(kappa * mean + successes, kappa * (1 - mean) + trials - successes)


def completion_request(
    name: str, proposal_ids: Sequence[int], prefix_ids: Sequence[int], params: CompleterParams, seed: int
) -> GenerateRequest:
    """Ask the completer to go on from prefix + step."""
    sampling = Sampling(max_tokens=params.max_tokens, temperature=params.temperature)
    return GenerateRequest(
        id=name, prompt_ids=[*prefix_ids, *proposal_ids], seed=derive_seed(seed, name), sampling=sampling
    )


@dataclass(frozen=True, slots=True)
class Answered:
    """A completion that was asked for, and what came of it."""

    problem: Problem
    rollout: Rollout
    request: GenerateRequest
    answer: Generation | Failure


def completion_outcomes(items: Sequence[Answered], decode: Decode, verifier: Verifier) -> list[int]:
    """Judge each prefix + step + completion by its final answer.

    One that was cut short has failed (-1); one that the engine could not make has no outcome (0).
    """
    outcomes = [ABSTAIN if isinstance(item.answer, Failure) else INVALID for item in items]
    problems, texts, places = list[Problem](), list[str](), list[int]()
    for place, item in enumerate(items):
        if isinstance(item.answer, Failure) or item.answer.finish_reason == "length":
            continue
        solution = [*item.request.prompt_ids[len(item.rollout.prompt_ids) :], *item.answer.token_ids]
        problems.append(item.problem)
        texts.append(decode(solution))
        places.append(place)
    for place, verdict in zip(places, verifier.verify_answers(problems, texts), strict=True):
        outcomes[place] = verdict.rule
    return outcomes


def chance_lost(posterior: Posterior, v_min: float) -> float:
    """Return P(value < v_min)."""
    return beta_below(posterior.a, posterior.b, v_min)


def completion_record(name: str, answer: Generation | Failure, outcome: int, round_index: int) -> CompletionRecord:
    """Write down one completion; one that the engine could not make has no outcome (0)."""
    return CompletionRecord(
        completion_id=name,
        proposal_id=name.rpartition("/")[0],
        round=round_index,
        token_ids=[] if isinstance(answer, Failure) else answer.token_ids,
        finish_reason=answer.reason if isinstance(answer, Failure) else answer.finish_reason,
        outcome=0 if isinstance(answer, Failure) else outcome,
    )


def count_outcomes(completions: Sequence[CompletionRecord]) -> tuple[Counter[str], Counter[str]]:
    """Return successes and trials by proposal."""
    successes: Counter[str] = Counter()
    trials: Counter[str] = Counter()
    for completion in completions:
        if completion.outcome:
            trials[completion.proposal_id] += 1
            successes[completion.proposal_id] += completion.outcome == VALID
    return successes, trials
