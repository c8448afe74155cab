"""Local validity: all evidence of a proposal, fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vcrd.completions import count_outcomes, is_lost, value_posterior
from vcrd.labels import rule_broken
from vcrd.records import CompletionRecord, Evidence, Rollout, Validity
from vcrd.reliability import ReliabilityModel, step_evidence


def estimate_validity(
    rollouts: Mapping[str, Rollout],
    evidence: Sequence[Evidence],
    completions: Sequence[CompletionRecord],
    model: ReliabilityModel,
    v_min: float,
) -> list[Validity]:
    """Fuse the evidence of every proposal; nothing is lost and nothing is looked up elsewhere."""
    successes, trials = count_outcomes(completions)
    by_id = {item.proposal_id: item for item in evidence}

    def broken(item: Evidence) -> bool:
        if rule_broken(rollouts[item.rollout_id], item.step_index):
            return True
        before = by_id.get(f"{item.rollout_id}/s{item.step_index - 1}/student")
        if before is None or not trials[before.proposal_id]:
            return False
        mean = model.predicted_value(before.domain, step_evidence(before))
        name = before.proposal_id
        return is_lost(value_posterior(mean, model.kappa, successes[name], trials[name]), v_min)

    estimated = []
    for item in evidence:
        counts = successes[item.proposal_id], trials[item.proposal_id]
        validity, deviation = model.local_validity(item.domain, step_evidence(item, *counts))
        estimated.append(
            Validity(
                proposal_id=item.proposal_id,
                prefix_id=item.prefix_id,
                rollout_id=item.rollout_id,
                problem_id=item.problem_id,
                domain=item.domain,
                step_index=item.step_index,
                proposer=item.proposer,
                position=item.position,
                rule=item.rule,
                rule_reason=item.rule_reason,
                score_prm=item.score_prm,
                successes=counts[0],
                trials=counts[1],
                local_validity=validity,
                local_validity_sd=deviation,
                prefix_broken=broken(item),
            )
        )
    return estimated
