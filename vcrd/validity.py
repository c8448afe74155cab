"""Local validity: all evidence of a proposal, fused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from vcrd.completions import RATHER, SURELY, chance_lost, count_outcomes, value_posterior
from vcrd.labels import rule_broken
from vcrd.records import CompletionRecord, Evidence, Rollout, Validity
from vcrd.reliability import ReliabilityModel, tabulate


def estimate_validity(
    rollouts: Mapping[str, Rollout],
    evidence: Sequence[Evidence],
    completions: Sequence[CompletionRecord],
    model: ReliabilityModel,
    v_min: float,
) -> list[Validity]:
    """Fuse the evidence of every proposal; nothing is lost and nothing is looked up elsewhere.

    Behind a prefix that is rather lost than not, completions fail whatever the step: they are counted, not believed.
    """
    successes, trials = count_outcomes(completions)
    values = dict(
        zip((item.proposal_id for item in evidence), model.predicted_value(tabulate(evidence)).tolist(), strict=True)
    )

    def lost(item: Evidence) -> float:
        before = f"{item.rollout_id}/s{item.step_index - 1}/student"
        if not trials[before]:
            return 0.0
        return chance_lost(value_posterior(values[before], model.kappa, successes[before], trials[before]), v_min)

    chances = [lost(item) for item in evidence]
    believed = Counter(
        {
            item.proposal_id: trials[item.proposal_id]
            for item, chance in zip(evidence, chances, strict=True)
            if chance <= RATHER
        }
    )
    validities, deviations = model.local_validity(
        tabulate(evidence, {name: successes[name] for name in believed}, believed)
    )
    return [
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
            score_peer=item.score_peer,
            successes=successes[item.proposal_id],
            trials=trials[item.proposal_id],
            local_validity=validity,
            local_validity_sd=deviation,
            prefix_broken=rule_broken(rollouts[item.rollout_id], item.step_index) or chance > SURELY,
        )
        for item, chance, validity, deviation in zip(
            evidence, chances, validities.tolist(), deviations.tolist(), strict=True
        )
    ]
