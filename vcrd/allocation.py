"""Which steps get how many completions: in rounds, where the order or the strength of a pair is least settled.

The budget is per rollout, so that what a step gets depends on nothing but its own rollout. The last step of a solution
needs no completion: its outcome is known. Where the student completes, the rest of its own rollout is a completion too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from vcrd.completions import (
    RATHER,
    SURELY,
    Answered,
    CompleterParams,
    Posterior,
    chance_lost,
    completion_outcomes,
    completion_record,
    completion_request,
    value_posterior,
)
from vcrd.evidence import final_outcomes
from vcrd.labels import rule_broken
from vcrd.metrics import beta_exceeds
from vcrd.records import CompletionRecord, Evidence, Problem, Rollout, StepProposal
from vcrd.reliability import ReliabilityModel, tabulate
from vcrd.requests import Failure, GenerateRequest, Generation
from vcrd.tokenization import Decode
from vcrd.verifiers.base import INVALID, VALID, Verifier

FINAL, OWN = "final", "own_rollout"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionParams:
    """How completions are spent."""

    initial: Annotated[int, Ge(0)]
    """Completions each open step gets first."""
    per_round: Annotated[int, Ge(1)]
    """Completions that a pair gets at a time after that."""
    budget_per_rollout: Annotated[int, Ge(0)]
    """Completions for all steps of a rollout."""
    settle: Literal["order", "strength"]
    """order: which step of a pair is worth more; strength: how valid the likelier target is."""
    settled_at: Annotated[float, Gt(0.5), Lt(1)]
    """order: settled when it is this sure; strength: when its standard deviation is at most 1 - settled_at."""


@dataclass
class Allocation:
    """Spends one rollout's budget.

    Attributes:
        problem: That the rollout answers.
        rollout: Whose steps they are.
        proposals: Its open proposals by id: no rule proved them wrong, nor a step of their prefix.
        evidence: Of each open proposal.
        known: Outcome of each open proposal that ends the solution.
        model: What evidence says.
        params: How to spend.
        completer: Whose completions.
        records: What came of it so far.
    """

    problem: Problem
    rollout: Rollout
    proposals: Mapping[str, StepProposal]
    evidence: Mapping[str, Evidence]
    known: Mapping[str, int]
    model: ReliabilityModel
    params: CompletionParams
    completer: CompleterParams
    records: list[CompletionRecord] = field(default_factory=list)
    _successes: Counter[str] = field(default_factory=Counter)
    _trials: Counter[str] = field(default_factory=Counter)
    _asked: Counter[str] = field(default_factory=Counter)
    _round: int = -1
    _given: int = 0

    def __post_init__(self) -> None:
        """Write down the known outcomes, as sure as first completions that all agree, and what the rollout says."""
        for name, outcome in self.known.items():
            for index in range(max(self.params.initial, 1)):
                self._keep(_given_record(f"{name}/c{index}", FINAL, outcome))
        if self.completer.role == "student" and self.rollout.finish_reason == "eos" and self.rollout.outcome:
            for name, proposal in self.proposals.items():
                if proposal.proposer == "student" and name not in self.known:
                    self._keep(_given_record(f"{name}/own", OWN, self.rollout.outcome))
        self._given = len(self.records)

    @property
    def expected(self) -> int:
        """Completions asked for, and those known without asking."""
        return self._asked.total() + self._given

    @cached_property
    def priors(self) -> dict[str, float]:
        """Predicted value of each open proposal."""
        table = tabulate(list(self.evidence.values()))
        return dict(zip(self.evidence, self.model.predicted_value(table).tolist(), strict=True))

    def next_requests(self, seed: int) -> list[GenerateRequest]:
        """Return the next round; empty when all pairs are settled or the budget is gone."""
        self._round += 1
        requests = []
        for name, count in self._wanted().items():
            proposal = self.proposals[name]
            prefix = self.rollout.prefix_ids(proposal.step_index)
            for index in range(self._asked[name], self._asked[name] + count):
                request = completion_request(f"{name}/c{index}", proposal.token_ids, prefix, self.completer, seed)
                requests.append(request)
            self._asked[name] += count
        return requests

    def hear(self, request: GenerateRequest, answer: Generation | Failure, outcome: int) -> None:
        """Take the answer to one request of the last round, and what it came to."""
        self._keep(completion_record(request.id, answer, outcome, self._round))

    def _keep(self, record: CompletionRecord) -> None:
        self.records.append(record)
        if record.outcome:
            self._trials[record.proposal_id] += 1
            self._successes[record.proposal_id] += record.outcome == VALID

    def _wanted(self) -> dict[str, int]:
        left = self.params.budget_per_rollout - self._asked.total()
        open_ones = [name for name in sorted(self.proposals) if name not in self.known]
        if self._round == 0 and self.params.initial:
            return _cut(dict.fromkeys(open_ones, self.params.initial), left)
        if left <= 0:
            return {}
        if self.params.settle == "order":
            doubts = self._order([pair for pair in self._pairs() if self._chance_lost(pair[0]) <= SURELY])
        else:
            doubts = self._strength([pair for pair in self._pairs() if self._chance_lost(pair[0]) <= RATHER])
        name = max(doubts, key=lambda name: doubts[name], default=None)
        return {} if name is None or doubts[name] <= 0 else _cut({name: self.params.per_round}, left)

    def _posterior(self, name: str) -> Posterior:
        return value_posterior(self.priors[name], self.model.kappa, self._successes[name], self._trials[name])

    def _pairs(self) -> list[tuple[str, str]]:
        """Open pairs that a completion can still tell something of, the student's proposal first."""
        prefixes = sorted({proposal.prefix_id for proposal in self.proposals.values()})
        pairs = [(f"{prefix}/student", f"{prefix}/teacher") for prefix in prefixes]
        return [
            pair
            for pair in pairs
            if all(name in self.proposals for name in pair) and not all(name in self.known for name in pair)
        ]

    def _order(self, pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
        """How far from settled the order of each pair's values is, at its step with the widest posterior."""
        doubts = {}
        for pair in pairs:
            surer = beta_exceeds(self._posterior(pair[1]).pair, self._posterior(pair[0]).pair)
            widest = max(self._open(pair), key=lambda name: self._posterior(name).variance)
            doubts[widest] = self.params.settled_at - max(surer, 1 - surer)
        return doubts

    def _strength(self, pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
        """How far from settled the local validity of each pair's likelier target is, per completion it had."""
        table = tabulate(list(self.evidence.values()), self._successes, self._trials)
        validities, deviations = (
            dict(zip(self.evidence, column.tolist(), strict=True)) for column in self.model.local_validity(table)
        )
        targets = [pair[0] if validities[pair[0]] > validities[pair[1]] else pair[1] for pair in pairs]
        bound = 1 - self.params.settled_at
        return {name: (deviations[name] - bound) / (1 + self._trials[name]) for name in self._open(targets)}

    def _open(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self.known]

    def _chance_lost(self, name: str) -> float:
        """How likely it is, by completions, that the prefix of a proposal is lost."""
        before = f"{self.rollout.rollout_id}/s{self.proposals[name].step_index - 1}/student"
        if not self._trials[before]:
            return 0.0
        return chance_lost(self._posterior(before), self.completer.v_min)


def _given_record(name: str, reason: str, outcome: int) -> CompletionRecord:
    return CompletionRecord(
        completion_id=name,
        proposal_id=name.rpartition("/")[0],
        round=0,
        token_ids=[],
        finish_reason=reason,
        outcome=outcome,
    )


def allocate(
    problems: Sequence[Problem],
    rollouts: Sequence[Rollout],
    proposals: Sequence[StepProposal],
    evidence: Sequence[Evidence],
    model: ReliabilityModel,
    verifier: Verifier,
    params: CompletionParams,
    completer: CompleterParams,
) -> list[Allocation]:
    """Set up every rollout's allocation over its open proposals: no rule proved them wrong, nor a step before them."""
    by_problem = {problem.problem_id: problem for problem in problems}
    by_rollout = {rollout.rollout_id: rollout for rollout in rollouts}
    seen = {item.proposal_id: item for item in evidence}
    mine: dict[str, dict[str, StepProposal]] = {name: {} for name in by_rollout}
    for proposal in proposals:
        rollout = by_rollout.get(proposal.rollout_id)
        if rollout and seen[proposal.proposal_id].rule != INVALID and not rule_broken(rollout, proposal.step_index):
            mine[rollout.rollout_id][proposal.proposal_id] = proposal
    every = [proposal for open_ones in mine.values() for proposal in open_ones.values()]
    finals = final_outcomes(by_problem, by_rollout, every, verifier)
    allocations = []
    for rollout in rollouts:
        open_ones = mine[rollout.rollout_id]
        allocations.append(
            Allocation(
                problem=by_problem[rollout.problem_id],
                rollout=rollout,
                proposals=open_ones,
                evidence={name: seen[name] for name in open_ones},
                known={name: finals[name] for name in open_ones if name in finals},
                model=model,
                params=params,
                completer=completer,
            )
        )
    return allocations


def _cut(wanted: Mapping[str, int], left: int) -> dict[str, int]:
    given: dict[str, int] = {}
    for name, count in wanted.items():
        if min(count, left) > 0:
            given[name] = min(count, left)
            left -= given[name]
    return given


def next_round(allocations: Sequence[Allocation], seed: int) -> list[tuple[Allocation, GenerateRequest]]:
    """Return the next round's requests of many rollouts together, as engines like them."""
    return [(allocation, request) for allocation in allocations for request in allocation.next_requests(seed)]


def hear_round(
    wanted: Sequence[tuple[Allocation, GenerateRequest]],
    answers: Sequence[Generation | Failure],
    decode: Decode,
    verifier: Verifier,
) -> None:
    """Judge the answers to a round together, and tell each allocation of its own."""
    given = [
        Answered(allocation.problem, allocation.rollout, request, answer)
        for (allocation, request), answer in zip(wanted, answers, strict=True)
    ]
    outcomes = completion_outcomes(given, decode, verifier)
    for (allocation, _), item, outcome in zip(wanted, given, outcomes, strict=True):
        allocation.hear(item.request, item.answer, outcome)
