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


def final_outcome(problem: Problem, rollout: Rollout, proposal: StepProposal, verifier: Verifier) -> int | None:
    """Return the outcome of a solution that ends with this proposal; None where it does not end."""
    if proposal.finish_reason != "eos":
        return None
    return verifier.verify_answer(problem, _prefix_text(rollout, proposal.step_index) + proposal.text).rule


def judge_proposals(
    problems: Mapping[str, Problem],
    rollouts: Mapping[str, Rollout],
    proposals: Sequence[StepProposal],
    verifier: Verifier,
) -> tuple[dict[str, Verdict], dict[str, int]]:
    """Return the rule verdict of every proposal, and the outcome of those that end the solution."""
    verdicts: dict[str, Verdict] = {}
    finals: dict[str, int] = {}
    for proposal in proposals:
        place = problems[proposal.problem_id], rollouts[proposal.rollout_id], proposal, verifier
        verdicts[proposal.proposal_id] = judge_proposal(*place)
        if (outcome := final_outcome(*place)) is not None:
            finals[proposal.proposal_id] = outcome
    return verdicts, finals


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
