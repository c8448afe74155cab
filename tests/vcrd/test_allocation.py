"""Completions go where the order of a pair is open, within a rollout's budget, the same way every time."""

from tests.vcrd.factories import DECODE, RIGHT, VERIFIER, evidence, generation, problem, proposal, rollout
from vcrd.allocation import Allocation, CompletionParams, allocate, next_round
from vcrd.completions import CompleterParams, count_outcomes
from vcrd.reliability import ReliabilityParams, fit_reliability
from vcrd.requests import Failure

COMPLETER = CompleterParams(role="student", max_tokens=40, temperature=1.0, v_min=0.1)
UNFITTED = fit_reliability([], ReliabilityParams(l2=0.1, floor=0.01, min_labels=10), {})


def params(**changes) -> CompletionParams:
    return CompletionParams(**{"initial": 2, "per_round": 2, "budget_per_rollout": 20, "settled_at": 0.9, **changes})


def setup(steps=RIGHT, teachers=RIGHT, **changes) -> Allocation:
    mine = rollout(steps)
    proposals = [proposal(mine, index, "student", text) for index, text in enumerate(steps)]
    proposals += [proposal(mine, index, "teacher", text) for index, text in enumerate(teachers)]
    judged = [
        evidence(item, VERIFIER.verify_step(problem(), "", item.text).rule if "####" not in item.text else 0)
        for item in proposals
    ]
    return allocate([problem()], [mine], proposals, judged, UNFITTED, VERIFIER, params(**changes), COMPLETER)[0]


def play(allocation: Allocation, answer) -> int:
    """Answer every round; `answer(name)` says whether the completion of a proposal ends right."""
    rounds = 0
    while wanted := next_round([allocation], seed=1):
        rounds += 1
        for mine, request in wanted:
            done = len(request.prompt_ids) - len(mine.rollout.prompt_ids)
            rest = "".join(RIGHT)[done:]
            text = rest if answer(request.id) else rest[:-1] + "9"
            mine.hear(request, generation(request.id, text), DECODE, VERIFIER)
    return rounds


def test_the_budget_is_never_passed_and_every_request_has_a_record() -> None:
    allocation = setup(budget_per_rollout=9)
    play(allocation, lambda name: len(name) % 2 == 0)
    asked = [record for record in allocation.records if record.finish_reason != "final"]
    assert len(asked) == 9
    assert allocation.expected == len(allocation.records)
    assert len({record.completion_id for record in allocation.records}) == len(allocation.records)


def test_a_settled_pair_gets_no_more() -> None:
    allocation = setup(budget_per_rollout=200)
    play(allocation, lambda name: "teacher" in name)
    _, trials = count_outcomes(allocation.records)
    assert sum(trials.values()) < 60


def test_a_last_step_costs_nothing_and_its_outcome_is_known() -> None:
    allocation = setup()
    finals = [record for record in allocation.records if record.finish_reason == "final"]
    assert {record.proposal_id for record in finals} == {"p/r0/s2/student", "p/r0/s2/teacher"}
    assert {record.outcome for record in finals} == {1}
    assert not [request for request in allocation.next_requests(1) if "/s2/" in request.id]


def test_nothing_is_spent_on_what_a_rule_decided() -> None:
    allocation = setup(steps=("a 1+2=4 4+0=4\n", "b 3*4=2 2+4=6\n", "#### 6"))
    assert set(allocation.proposals) == {"p/r0/s0/teacher"}


def test_a_failed_completion_is_kept_and_counts_neither_way() -> None:
    allocation = setup()
    for mine, request in next_round([allocation], seed=1):
        mine.hear(request, Failure(id=request.id, reason="too_long"), DECODE, VERIFIER)
    failed = [record for record in allocation.records if record.finish_reason == "too_long"]
    assert failed
    successes, trials = count_outcomes(failed)
    assert not trials
    assert not successes


def test_the_same_answers_make_the_same_requests() -> None:
    first, second = setup(), setup()
    for allocation in (first, second):
        play(allocation, lambda name: name.endswith(("0", "2")))
    assert first.records == second.records
