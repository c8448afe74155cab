"""Monte-Carlo completions: what a step is worth to a completer, and which steps get how many.

A step's *value* is the chance that the completer reaches the right answer from behind it, with a Beta posterior. The
last step of a solution needs no completion: its outcome is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from vcrd.metrics import beta_below, beta_exceeds
from vcrd.records import CompletionRecord, Problem, Rollout, StepProposal
from vcrd.requests import Failure, GenerateRequest, Generation, Sampling, derive_seed
from vcrd.tokenization import Decode
from vcrd.verifiers.base import VALID, Verifier

Role = Literal["student", "teacher"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionParams:
    """How completions are sampled and spent."""

    completer: Role
    """Whose completions; values of two policies are never pooled, so labels and steps use the same one."""
    max_tokens: Annotated[int, Ge(1)]
    """Per completion; one without an answer by then has failed."""
    temperature: Annotated[float, Ge(0)]
    """Of the completer."""
    initial: Annotated[int, Ge(0)]
    """Completions each open step gets first."""
    per_round: Annotated[int, Ge(1)]
    """Completions that a pair gets at a time after that."""
    budget_per_rollout: Annotated[int, Ge(0)]
    """Completions for all steps of a rollout, so that what one gets never depends on a shard."""
    settled_at: Annotated[float, Gt(0.5), Lt(1)]
    """A pair is settled when the order of its values is this sure."""
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
    name: str, proposal_ids: Sequence[int], prefix_ids: Sequence[int], params: CompletionParams, seed: int
) -> GenerateRequest:
    """Ask the completer to go on from prefix + step."""
    sampling = Sampling(max_tokens=params.max_tokens, temperature=params.temperature)
    return GenerateRequest(
        id=name, prompt_ids=[*prefix_ids, *proposal_ids], seed=derive_seed(seed, name), sampling=sampling
    )


def completion_outcome(
    problem: Problem, rollout: Rollout, request: GenerateRequest, answer: Generation, decode: Decode, verifier: Verifier
) -> int:
    """Judge prefix + step + completion by its final answer; one that was cut short has failed."""
    if answer.finish_reason == "length":
        return -1
    solution = [*request.prompt_ids[len(rollout.prompt_ids) :], *answer.token_ids]
    return verifier.verify_answer(problem, decode(solution)).rule


@dataclass
class Allocation:
    """Spends one rollout's budget of completions, in rounds, on pairs whose order is least settled.

    Attributes:
        rollout: Whose steps they are.
        proposals: Its open proposals by id: no rule proved them wrong, nor a step of their prefix.
        priors: Predicted value of each open proposal.
        kappa: Strength of those predictions.
        params: How to spend.
        successes: By proposal.
        trials: By proposal.
    """

    rollout: Rollout
    proposals: Mapping[str, StepProposal]
    priors: Mapping[str, float]
    kappa: float
    params: CompletionParams
    successes: Counter[str] = field(default_factory=Counter)
    trials: Counter[str] = field(default_factory=Counter)
    started: bool = False

    def next_round(self) -> dict[str, int]:
        """Return how many completions each proposal gets now; empty when settled or the budget is gone."""
        left = self.params.budget_per_rollout - self.trials.total()
        if not self.started:
            self.started = True
            wanted = dict.fromkeys(self.proposals, self.params.initial)
            return _cut(wanted, left)
        pairs = [pair for pair in self._pairs() if not self._broken(pair[0]) and self._doubt(pair) > 0]
        if not pairs or left <= 0:
            return {}
        pair = max(pairs, key=self._doubt)
        widest = max(pair, key=lambda name: self.posterior(name).variance)
        return _cut({widest: self.params.per_round}, left)

    def posterior(self, name: str) -> Posterior:
        """Value of a proposal, given its completions so far."""
        return value_posterior(self.priors[name], self.kappa, self.successes[name], self.trials[name])

    def _pairs(self) -> list[tuple[str, str]]:
        """Open pairs, the student's proposal first."""
        prefixes = sorted({proposal.prefix_id for proposal in self.proposals.values()})
        pairs = [(f"{prefix}/student", f"{prefix}/teacher") for prefix in prefixes]
        return [pair for pair in pairs if all(name in self.proposals for name in pair)]

    def _doubt(self, pair: tuple[str, str]) -> float:
        """How far from settled the order of a pair is; 0 once it is settled."""
        surer = beta_exceeds(self.posterior(pair[1]).pair, self.posterior(pair[0]).pair)
        return max(self.params.settled_at - max(surer, 1 - surer), 0.0)

    def _broken(self, name: str) -> bool:
        """Whether completions show the prefix of a proposal to be lost."""
        step = self.proposals[name].step_index
        before = f"{self.rollout.rollout_id}/s{step - 1}/student"
        return step > 0 and before in self.priors and is_lost(self.posterior(before), self.params.v_min)


def is_lost(posterior: Posterior, v_min: float) -> bool:
    """Tell whether P(value < v_min) > 0.95."""
    return beta_below(posterior.a, posterior.b, v_min) > 0.95


def _cut(wanted: Mapping[str, int], left: int) -> dict[str, int]:
    given: dict[str, int] = {}
    for name, count in wanted.items():
        if min(count, left) > 0:
            given[name] = min(count, left)
            left -= given[name]
    return given


def completion_record(
    request: GenerateRequest, answer: Generation | Failure, outcome: int, round_index: int
) -> CompletionRecord:
    """Write down one completion; one that the engine could not make counts as no outcome (0)."""
    made = isinstance(answer, Generation)
    return CompletionRecord(
        completion_id=request.id,
        proposal_id=request.id.rpartition("/")[0],
        round=round_index,
        token_ids=answer.token_ids if isinstance(answer, Generation) else [],
        finish_reason=answer.finish_reason if isinstance(answer, Generation) else answer.reason,
        outcome=outcome if made else 0,
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
