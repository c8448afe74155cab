"""Evidence: rule verdict, process reward score, peer review and position of every proposal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vcrd.records import Evidence, PeerReview, Problem, Rollout, StepProposal
from vcrd.reviews import NOT_ASKED, review_score
from vcrd.verifiers.base import Verdict, Verifier


def judge_proposal(problem: Problem, rollout: Rollout, proposal: StepProposal, verifier: Verifier) -> Verdict:
    """Judge a proposal by rules alone.

    The answer of a last step is no rule verdict on it: after an earlier slip a sound last step gives a wrong answer.
    """
    prefix = _prefix_text(rollout, proposal.step_index)
    return verifier.verify_step(problem, prefix, proposal.text)


def final_outcomes(
    problems: Mapping[str, Problem],
    rollouts: Mapping[str, Rollout],
    proposals: Sequence[StepProposal],
    verifier: Verifier,
) -> dict[str, int]:
    """Return the outcome of the solution that ends with a proposal, for every proposal that ends one."""
    last = [proposal for proposal in proposals if proposal.finish_reason == "eos"]
    texts = [_prefix_text(rollouts[item.rollout_id], item.step_index) + item.text for item in last]
    verdicts = verifier.verify_answers([problems[item.problem_id] for item in last], texts)
    return {item.proposal_id: verdict.rule for item, verdict in zip(last, verdicts, strict=True)}


def judge_proposals(
    problems: Mapping[str, Problem],
    rollouts: Mapping[str, Rollout],
    proposals: Sequence[StepProposal],
    verifier: Verifier,
) -> tuple[dict[str, Verdict], dict[str, int]]:
    """Return the rule verdict of every proposal, and the outcome of those that end the solution."""
    verdicts = {
        item.proposal_id: judge_proposal(problems[item.problem_id], rollouts[item.rollout_id], item, verifier)
        for item in proposals
    }
    return verdicts, final_outcomes(problems, rollouts, proposals, verifier)


def _prefix_text(rollout: Rollout, step_index: int) -> str:
    return rollout.text[: rollout.step_char_ends[step_index - 1]] if step_index else ""


def make_evidence(
    rollouts: Mapping[str, Rollout],
    proposals: Sequence[StepProposal],
    verdicts: Mapping[str, Verdict],
    scores: Mapping[str, float | str],
    reviews: Sequence[PeerReview],
) -> list[Evidence]:
    """Put the evidence of every proposal together; one without a score keeps the rest, and the reason why."""

    def score_of(proposal: StepProposal) -> tuple[float | None, str]:
        score = scores.get(proposal.proposal_id, "no process reward model")
        return (None, score) if isinstance(score, str) else (score, "")

    reviewed = {review.proposal_id: review for review in reviews}

    def peer_of(proposal: StepProposal) -> tuple[float | None, str]:
        review = reviewed.get(proposal.proposal_id)
        return (review_score(review), review.missing) if review else (None, NOT_ASKED)

    return [
        Evidence(
            proposal_id=proposal.proposal_id,
            prefix_id=proposal.prefix_id,
            rollout_id=proposal.rollout_id,
            problem_id=proposal.problem_id,
            split=proposal.split,
            domain=proposal.domain,
            proposer=proposal.proposer,
            step_index=proposal.step_index,
            position=proposal.step_index / max(len(rollouts[proposal.rollout_id].step_ends), 1),
            rule=verdicts[proposal.proposal_id].rule,
            rule_reason=verdicts[proposal.proposal_id].reason,
            score_prm=score_of(proposal)[0],
            prm_missing=score_of(proposal)[1],
            score_peer=peer_of(proposal)[0],
            peer_missing=peer_of(proposal)[1],
        )
        for proposal in proposals
    ]
