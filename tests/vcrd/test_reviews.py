"""A step's review is what the other model thinks of its least likely token, laid out so that nothing is read twice."""

import numpy as np
import pytest

from tests.vcrd.factories import RIGHT, problem, proposal, rollout
from vcrd.evidence import make_evidence
from vcrd.requests import Failure, Scores
from vcrd.reviews import ReviewParams, read_reviews, review_requests, review_score
from vcrd.verifiers.base import Verdict

MINE = rollout(of=problem())
BY_ID = {MINE.rollout_id: MINE}
OWN = [proposal(MINE, index, "student", text) for index, text in enumerate(RIGHT)]
THEIRS = [proposal(MINE, index, "teacher", text) for index, text in enumerate(RIGHT)]


def scored(request, start: float = 0.0) -> Scores:
    """Log-probabilities that tell each position apart."""
    count = len(request.token_ids) - request.start
    return Scores(id=request.id, logprobs=(start - 0.01 * np.arange(count)).astype(np.float32))


def test_a_rollout_is_read_once_and_each_proposal_of_the_teacher_once() -> None:
    [trunk] = review_requests(BY_ID, OWN, "student")
    assert trunk.request.token_ids == [*MINE.prompt_ids, *MINE.token_ids]
    assert trunk.request.start == len(MINE.prompt_ids)
    assert [end - start for start, end in trunk.spans.values()] == [len(item.token_ids) for item in OWN]
    branches = review_requests(BY_ID, THEIRS, "teacher")
    for item, branch in zip(THEIRS, branches, strict=True):
        assert branch.request.token_ids == [*MINE.prefix_ids(item.step_index), *item.token_ids]
        assert branch.request.start == len(MINE.prefix_ids(item.step_index))


def test_every_step_gets_its_own_tokens_back() -> None:
    asked = review_requests(BY_ID, OWN, "student")
    reviews = read_reviews(OWN, asked, [scored(item.request) for item in asked])
    assert [len(review.logprobs) for review in reviews] == [len(item.token_ids) for item in OWN]
    everything = [value for review in reviews for value in review.logprobs]
    assert everything == pytest.approx([-0.01 * index for index in range(len(MINE.token_ids))], abs=1e-6)
    assert review_score(reviews[-1]) == pytest.approx(np.exp(everything[-1]), rel=1e-5)


def test_a_review_that_could_not_be_made_says_why_and_evidence_keeps_the_rest() -> None:
    asked = review_requests(BY_ID, THEIRS, "teacher")
    answers = [scored(asked[0].request), Failure(id="x", reason="too_long"), scored(asked[2].request)]
    reviews = read_reviews(THEIRS, asked, answers)
    assert [review.missing for review in reviews] == ["", "too_long", ""]
    assert [review.missing for review in read_reviews(THEIRS, [], [])] == ["not_asked"] * 3
    verdicts = {item.proposal_id: Verdict(0, "") for item in THEIRS}
    evidence = make_evidence(BY_ID, THEIRS, verdicts, {}, reviews)
    assert [item.peer_missing for item in evidence] == ["", "too_long", ""]
    assert evidence[1].score_peer is None
    assert 0 < evidence[0].score_peer < 1


def test_who_reviews_is_a_choice() -> None:
    params = ReviewParams(by_teacher=True, by_student=False)
    assert params.wanted("student")
    assert not params.wanted("teacher")
