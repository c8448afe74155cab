"""Labels from completions: was a step sound? One completer before and after it, never across policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from vcrd.metrics import beta_below, beta_exceeds
from vcrd.records import LabelledStep, Rollout, StepProposal
from vcrd.verifiers.base import INVALID

JEFFREYS = 0.5
_SURE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelParams:
    """How many completions make and test a label; the completer is that of `completions`."""

    completions: Annotated[int, Ge(1)]
    """Before and after each step, for the label itself."""
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
    return (0, "completions") if kept <= 1 - _SURE else (None, "undecided")


def _posterior(outcomes: Sequence[bool]) -> tuple[float, float]:
    return JEFFREYS + sum(outcomes), JEFFREYS + len(outcomes) - sum(outcomes)


def _surely_below(outcomes: Sequence[bool], v_min: float) -> bool:
    return bool(outcomes) and beta_below(*_posterior(outcomes), v_min) > 0.95


def rule_broken(rollout: Rollout, step_index: int) -> bool:
    """Tell whether a rule proved a step before this one wrong."""
    return INVALID in rollout.step_verdicts[:step_index]


def label_proposals(
    rollouts: Mapping[str, Rollout],
    proposals: Sequence[StepProposal],
    rules: Mapping[str, int],
    outcomes: Mapping[str, Sequence[bool]],
    independent: Mapping[str, Sequence[bool]],
    v_min: float,
) -> list[LabelledStep]:
    """Label every proposal of the label problems.

    Args:
        rollouts: By id.
        proposals: To be labelled.
        rules: Rule verdict by proposal id.
        outcomes: Completions from behind a proposal (by its id), and from the prompt (by the rollout's id).
        independent: Later completions from behind a proposal.
        v_min: Value below which a prefix is lost.
    """
    labelled = []
    for proposal in proposals:
        rollout = rollouts[proposal.rollout_id]
        before = outcomes.get(source_of(proposal), [])
        after = outcomes.get(proposal.proposal_id, [])
        broken = rule_broken(rollout, proposal.step_index)
        label, reason = label_step(before, after, rules[proposal.proposal_id], broken=broken, v_min=v_min)
        labelled.append(
            LabelledStep(
                proposal_id=proposal.proposal_id,
                prefix_id=proposal.prefix_id,
                problem_id=proposal.problem_id,
                split=proposal.split,
                domain=proposal.domain,
                proposer=proposal.proposer,
                label=label,
                label_reason=reason,
                before=list(before),
                after=list(after),
                outcomes=list(independent.get(proposal.proposal_id, [])),
            )
        )
    return labelled


def source_of(proposal: StepProposal) -> str:
    """Name what ends a proposal's prefix: the student's step before it, or the rollout's prompt."""
    if proposal.step_index == 0:
        return proposal.rollout_id
    return f"{proposal.rollout_id}/s{proposal.step_index - 1}/student"
