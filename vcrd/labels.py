"""Labels from completions: was a step sound? One completer before and after it, never across policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from annotated_types import Ge

from vcrd.completions import Answered, CompleterParams, completion_outcomes, completion_request
from vcrd.metrics import beta_below, beta_exceeds
from vcrd.records import LabelledStep, Problem, Rollout, StepProposal
from vcrd.requests import Failure, GenerateRequest, Generation
from vcrd.tokenization import Decode
from vcrd.verifiers.base import INVALID, VALID, Verdict, Verifier

JEFFREYS = 0.5
UNDECIDED = "undecided"
_SURE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelParams:
    """How many completions make and test a label."""

    first: Annotated[int, Ge(1)]
    """Completions before and after each step, for the label itself."""
    completions: Annotated[int, Ge(1)]
    """So many where the first ones do not decide; steps that stay undecided are no random sample."""
    independent: Annotated[int, Ge(0)]
    """More after each step of the fit and judge problems, for fitting how far completions can be trusted."""


def label_step(
    before: Sequence[bool], after: Sequence[bool], rule: int, *, broken: bool, v_min: float
) -> tuple[int | None, str]:
    """Return 1, 0 or None for a step, and why.

    1 if P(V(after) >= V(before) / 2) >= 0.9 under Jeffreys priors, 0 if <= 0.1, else none. None after a broken prefix:
    there both values are 0 whatever the step is. A rule-invalid step is 0.

    >>> label_step([True] * 8, [False] * 8, 0, broken=False, v_min=0.1)
    (0, 'completions')
    """
    if broken or _surely_below(before, v_min):
        return None, "broken_prefix"
    if rule == INVALID:
        return 0, "rule"
    if not before or not after:
        return None, "no_completions"
    kept = beta_exceeds(_posterior(after), _posterior(before), 0.5)
    if kept >= _SURE:
        return 1, "completions"
    return (0, "completions") if kept <= 1 - _SURE else (None, UNDECIDED)


def _posterior(outcomes: Sequence[bool]) -> tuple[float, float]:
    return JEFFREYS + sum(outcomes), JEFFREYS + len(outcomes) - sum(outcomes)


def _surely_below(outcomes: Sequence[bool], v_min: float) -> bool:
    return bool(outcomes) and beta_below(*_posterior(outcomes), v_min) > 0.95


def rule_broken(rollout: Rollout, step_index: int) -> bool:
    """Tell whether a rule proved a step before this one wrong."""
    return INVALID in rollout.step_verdicts[:step_index]


class Outcomes(NamedTuple):
    """Whether completions ended right, by what they go on from: a proposal's id, or a rollout's for its prompt."""

    for_label: dict[str, list[bool]]
    independent: dict[str, list[bool]]


def label_proposals(
    rollouts: Mapping[str, Rollout],
    proposals: Sequence[StepProposal],
    verdicts: Mapping[str, Verdict],
    outcomes: Outcomes,
    finals: Mapping[str, int],
    params: LabelParams,
    v_min: float,
) -> list[LabelledStep]:
    """Label every proposal of the label problems.

    Args:
        rollouts: By id.
        proposals: To be labelled.
        verdicts: Of the rules, by proposal id.
        outcomes: Of completions.
        finals: Outcome of each proposal that ends the solution: as sure as completions that all agree.
        params: How many completions a label has.
        v_min: Value below which a prefix is lost.
    """
    labelled = []
    for proposal in proposals:
        rollout = rollouts[proposal.rollout_id]
        name = proposal.proposal_id
        before = outcomes.for_label.get(source_of(proposal), [])
        after = outcomes.for_label.get(name, [])
        later = outcomes.independent.get(name, [])
        if name in finals:
            right = finals[name] == VALID
            after, later = [right] * max(params.first, params.completions), [right] * params.independent
        broken = rule_broken(rollout, proposal.step_index)
        label, reason = label_step(before, after, verdicts[name].rule, broken=broken, v_min=v_min)
        labelled.append(
            LabelledStep(
                proposal_id=name,
                prefix_id=proposal.prefix_id,
                problem_id=proposal.problem_id,
                split=proposal.split,
                domain=proposal.domain,
                proposer=proposal.proposer,
                label=label,
                label_reason=reason,
                before=list(before),
                after=list(after),
                outcomes=list(later),
            )
        )
    return labelled


def source_of(proposal: StepProposal) -> str:
    """Name what ends a proposal's prefix: the student's step before it, or the rollout's prompt."""
    if proposal.step_index == 0:
        return proposal.rollout_id
    return f"{proposal.rollout_id}/s{proposal.step_index - 1}/student"


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """A completion wanted for labels: from behind `source`, for the label itself or independent of it."""

    source: str
    rollout_id: str
    independent: bool
    request: GenerateRequest


def label_requests(
    rollouts: Mapping[str, Rollout],
    proposals: Sequence[StepProposal],
    verdicts: Mapping[str, Verdict],
    labels: LabelParams,
    completer: CompleterParams,
    seed: int,
    *,
    more: bool = False,
) -> list[LabelRequest]:
    """Ask for completions before and after every step that a label can come of; a last step's outcome is known.

    First for all steps, then (`more`) for those that the first ones left undecided.
    """
    wanted: dict[str, LabelRequest] = {}
    label = range(labels.first, labels.completions) if more else range(labels.first)
    independent = range(0 if more else labels.independent)

    def ask(source: str, rollout: Rollout, prefix: list[int], step: list[int], numbers: range, kind: str) -> None:
        for index in numbers:
            name = f"{source}/{kind}{index}"
            request = completion_request(name, step, prefix, completer, seed)
            wanted.setdefault(name, LabelRequest(source, rollout.rollout_id, kind == "i", request))

    for proposal in proposals:
        rollout = rollouts[proposal.rollout_id]
        if rule_broken(rollout, proposal.step_index) or verdicts[proposal.proposal_id].rule == INVALID:
            continue
        prefix = rollout.prefix_ids(proposal.step_index)
        ask(source_of(proposal), rollout, prefix, [], label, "b")
        if proposal.finish_reason != "eos":
            ask(proposal.proposal_id, rollout, prefix, proposal.token_ids, label, "b")
            if proposal.split != "prm":
                ask(proposal.proposal_id, rollout, prefix, proposal.token_ids, independent, "i")
    return list(wanted.values())


def read_label_outcomes(
    wanted: Sequence[LabelRequest],
    answers: Sequence[Generation | Failure],
    problems: Mapping[str, Problem],
    rollouts: Mapping[str, Rollout],
    decode: Decode,
    verifier: Verifier,
    outcomes: Outcomes,
) -> None:
    """Judge completions and add them to `outcomes`; a failed request gives no outcome."""
    given = [
        Answered(problems[rollout.problem_id], rollout, item.request, answer)
        for item, answer in zip(wanted, answers, strict=True)
        for rollout in [rollouts[item.rollout_id]]
    ]
    for item, answer, outcome in zip(wanted, answers, completion_outcomes(given, decode, verifier), strict=True):
        if not isinstance(answer, Failure):
            group = outcomes.independent if item.independent else outcomes.for_label
            group.setdefault(item.source, []).append(outcome == VALID)


def undecided(proposals: Sequence[StepProposal], labelled: Sequence[LabelledStep]) -> list[StepProposal]:
    """Return the proposals that more completions may give a label: all of them before the first."""
    if not labelled:
        return list(proposals)
    return [item for item, found in zip(proposals, labelled, strict=True) if found.label_reason == UNDECIDED]
