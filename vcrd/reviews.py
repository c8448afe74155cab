"""Peer reviews: how likely a step is to the model that did not propose it.

The teacher reads the student's steps and the student the teacher's. A mistake that one model makes by habit is rarely
the other's habit too, so its least likely token stands out; a sound step in an unusual order does not. The score is no
probability of being sound: reliability makes it one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vcrd.records import PeerReview, Rollout, StepProposal
from vcrd.requests import Failure, ScoreRequest, Scores

Proposer = Literal["student", "teacher"]
NOT_ASKED = "not_asked"
_CLIP = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewParams:
    """Who reviews the other's steps: one pass over a rollout for the teacher, over each proposal for the student."""

    by_teacher: bool
    """The teacher reviews the student's steps."""
    by_student: bool
    """The student reviews the teacher's steps."""

    def wanted(self, proposer: Proposer) -> bool:
        """Tell whether a proposer's steps are reviewed."""
        return self.by_teacher if proposer == "student" else self.by_student


@dataclass(frozen=True, slots=True)
class ReviewRequest:
    """Token ids for the reviewer, and where in its answer each step begins and ends."""

    request: ScoreRequest
    spans: Mapping[str, tuple[int, int]]


def review_requests(
    rollouts: Mapping[str, Rollout], proposals: Sequence[StepProposal], proposer: Proposer
) -> list[ReviewRequest]:
    """Lay out a proposer's steps: the student's of a rollout in one pass, each of the teacher's in one of its own."""
    if proposer == "teacher":
        return [_of_proposal(rollouts[item.rollout_id], item) for item in proposals]
    by_rollout: dict[str, list[StepProposal]] = {}
    for item in proposals:
        by_rollout.setdefault(item.rollout_id, []).append(item)
    return [_of_rollout(rollouts[name], mine) for name, mine in by_rollout.items()]


def _of_proposal(rollout: Rollout, proposal: StepProposal) -> ReviewRequest:
    prefix = rollout.prefix_ids(proposal.step_index)
    request = ScoreRequest(id=proposal.proposal_id, token_ids=[*prefix, *proposal.token_ids], start=len(prefix))
    return ReviewRequest(request, {proposal.proposal_id: (0, len(proposal.token_ids))})


def _of_rollout(rollout: Rollout, proposals: Sequence[StepProposal]) -> ReviewRequest:
    starts = [0, *rollout.step_ends]
    spans = {item.proposal_id: (starts[item.step_index], starts[item.step_index + 1]) for item in proposals}
    end = max(stop for _, stop in spans.values())
    request = ScoreRequest(
        id=rollout.rollout_id,
        token_ids=[*rollout.prompt_ids, *rollout.token_ids[:end]],
        start=len(rollout.prompt_ids),
    )
    return ReviewRequest(request, spans)


def read_reviews(
    proposals: Sequence[StepProposal], asked: Sequence[ReviewRequest], answers: Sequence[Scores | Failure]
) -> list[PeerReview]:
    """Return a review of every proposal; one that the reviewer could not read says why."""
    logprobs: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    for item, answer in zip(asked, answers, strict=True):
        for name, (start, end) in item.spans.items():
            if isinstance(answer, Failure):
                missing[name] = answer.reason
            else:
                logprobs[name] = [float(value) for value in answer.logprobs[start:end]]
    return [
        PeerReview(
            proposal_id=item.proposal_id,
            problem_id=item.problem_id,
            logprobs=logprobs.get(item.proposal_id, []),
            missing="" if item.proposal_id in logprobs else missing.get(item.proposal_id, NOT_ASKED),
        )
        for item in proposals
    ]


def review_score(review: PeerReview) -> float | None:
    """Return the probability of a step's least likely token, kept in [1e-4, 1 - 1e-4]; None without a review.

    >>> review_score(PeerReview(proposal_id="r/s0/teacher", problem_id="p", logprobs=[-0.1, -2.0], missing=""))
    0.1353352832366127
    """
    if not review.logprobs:
        return None
    return min(max(math.exp(min(review.logprobs)), _CLIP), 1 - _CLIP)
