"""Completions go where the order of a pair is open, within a rollout's budget, the same way every time."""

from dataclasses import replace

import numpy as np

from tests.vcrd.factories import (
    DECODE,
    RIGHT,
    VERIFIER,
    evidence,
    generation,
    problem,
    proposal,
    rollout,
    unfitted_reliability,
)
from vcrd.allocation import Allocation, CompletionParams, allocate, hear_round, next_round
from vcrd.completions import CompleterParams, count_outcomes
from vcrd.reliability import LabelledTable, ReliabilityParams, evidence_table, fit_reliability
from vcrd.requests import Failure

COMPLETER = CompleterParams(role="teacher", max_tokens=40, temperature=1.0, v_min=0.1)
UNFITTED = unfitted_reliability()


def params(**changes) -> CompletionParams:
    given = {"initial": 2, "per_round": 2, "budget_per_rollout": 20, "settle": "order", "settled_at": 0.9}
    return CompletionParams(**{**given, **changes})


def setup(steps=RIGHT, teachers=RIGHT, completer=COMPLETER, model=UNFITTED, **changes) -> Allocation:
    mine = rollout(steps)
    proposals = [proposal(mine, index, "student", text) for index, text in enumerate(steps)]
    proposals += [proposal(mine, index, "teacher", text) for index, text in enumerate(teachers)]
    judged = [
        evidence(item, VERIFIER.verify_step(problem(), "", item.text).rule if "####" not in item.text else 0)
        for item in proposals
    ]
    return allocate([problem()], [mine], proposals, judged, model, VERIFIER, params(**changes), completer)[0]


def play(allocation: Allocation, answer) -> int:
    """Answer every round; `answer(name)` says whether the completion of a proposal ends right."""
    rounds = 0
    while wanted := next_round([allocation], seed=1):
        rounds += 1
        answers = []
        for mine, request in wanted:
            done = len(request.prompt_ids) - len(mine.rollout.prompt_ids)
            rest = "".join(RIGHT)[done:]
            text = rest if answer(request.id) else rest[:-1] + "9"
            answers.append(generation(request.id, text))
        hear_round(wanted, answers, DECODE, VERIFIER)
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
    wanted = next_round([allocation], seed=1)
    hear_round(wanted, [Failure(id=request.id, reason="too_long") for _, request in wanted], DECODE, VERIFIER)
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


def test_strength_is_settled_where_the_target_is_sure_and_the_budget_bounds_the_rest() -> None:
    sound = np.arange(200) % 2
    labelled = LabelledTable(
        evidence=evidence_table({"score_prm": 0.3 + 0.4 * sound, "position": np.full(200, 0.5)}, 200),
        labels=sound.astype(float),
        groups=np.arange(200).astype(str),
    )
    sure = fit_reliability(labelled, ReliabilityParams(l2=0.1, floor=0.01, min_labels=10, noisy_labels=False), {})
    spend = {"settle": "strength", "initial": 0, "per_round": 1, "budget_per_rollout": 7}
    assert play(setup(model=sure, **spend), lambda name: True) == 0
    assert play(setup(model=UNFITTED, **spend), lambda name: True) == 7


def test_a_student_that_completes_has_its_own_rollout_as_a_completion() -> None:
    completer = replace(COMPLETER, role="student")
    allocation = setup(completer=completer)
    own = {record.proposal_id: record.outcome for record in allocation.records if record.finish_reason == "own_rollout"}
    assert own == {"p/r0/s0/student": 1, "p/r0/s1/student": 1}
    assert allocation.expected == len(allocation.records)
    assert not [record for record in setup().records if record.finish_reason == "own_rollout"]
