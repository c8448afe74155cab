"""Labels say what the completions allow to say, and nothing behind a broken prefix."""

from tests.vcrd.factories import DECODE, RIGHT, VERIFIER, generation, problem, proposal, rollout
from vcrd.completions import CompleterParams
from vcrd.labels import (
    LabelParams,
    Outcomes,
    label_proposals,
    label_requests,
    label_step,
    read_label_outcomes,
    undecided,
)
from vcrd.requests import Failure
from vcrd.verifiers.base import Verdict

COMPLETER = CompleterParams(role="teacher", max_tokens=40, temperature=1.0, v_min=0.1)
ABSTAINS = Verdict(0, "")
PARAMS = LabelParams(first=4, completions=4, independent=2)


def test_a_step_that_keeps_the_value_is_sound_and_one_that_loses_it_is_not() -> None:
    known = {"broken": False, "v_min": 0.05}
    assert label_step([True] * 8, [True] * 8, 0, **known) == (1, "completions")
    assert label_step([True] * 8, [False] * 8, 0, **known) == (0, "completions")
    assert label_step([True, False] * 4, [True] + [False] * 7, 0, **known)[0] is None
    assert label_step([True] * 8, [True] * 8, -1, **known) == (0, "rule")
    assert label_step([], [], 0, **known) == (None, "no_completions")


def test_nothing_is_labelled_behind_a_broken_prefix() -> None:
    assert label_step([True] * 8, [True] * 8, 0, broken=True, v_min=0.05)[0] is None
    assert label_step([False] * 60, [True] * 8, 0, broken=False, v_min=0.1) == (None, "broken_prefix")


def test_completions_are_asked_for_once_per_source_and_never_where_they_tell_nothing() -> None:
    mine = rollout(of=problem(split="fit"))
    wrong = "a 1+2=9 9+0=9\n"
    proposals = [
        proposal(mine, 0, "student", RIGHT[0]),
        proposal(mine, 0, "teacher", wrong),
        proposal(mine, 1, "student", RIGHT[1]),
        proposal(mine, 2, "student", RIGHT[2]),
    ]
    rules = {item.proposal_id: Verdict(-1 if item.text == wrong else 0, "") for item in proposals}
    wanted = label_requests({mine.rollout_id: mine}, proposals, rules, PARAMS, COMPLETER, seed=1)
    names = [item.request.id for item in wanted]
    assert len(names) == len(set(names))
    assert not [name for name in names if "teacher" in name or "s2/student" in name]
    sources = {item.source for item in wanted}
    assert sources == {"p/r0", "p/r0/s0/student", "p/r0/s1/student"}
    assert sum(item.independent for item in wanted) == 2 * PARAMS.independent
    assert len({item.request.seed for item in wanted}) == len(wanted)


def test_a_last_steps_outcome_is_known_and_a_failed_request_is_no_outcome() -> None:
    mine = rollout(of=problem(split="judge"))
    proposals = [proposal(mine, 1, "student", RIGHT[1]), proposal(mine, 2, "student", RIGHT[2])]
    by_id, rules = {mine.rollout_id: mine}, {item.proposal_id: ABSTAINS for item in proposals}
    wanted = label_requests(by_id, proposals, rules, PARAMS, COMPLETER, seed=1)
    answers = []
    for item in wanted:
        done = len(item.request.prompt_ids) - len(mine.prompt_ids)
        rest = "".join(RIGHT)[done:]
        answers.append(generation(item.request.id, rest))
    answers[0] = Failure(id=answers[0].id, reason="too_long")
    outcomes = Outcomes({}, {})
    read_label_outcomes(wanted, answers, {"p": problem()}, by_id, DECODE, VERIFIER, outcomes)
    assert sum(map(len, outcomes.for_label.values())) + sum(map(len, outcomes.independent.values())) == len(wanted) - 1
    finals = {proposals[1].proposal_id: 1}
    labelled = label_proposals(by_id, proposals, rules, outcomes, finals, PARAMS, 0.05)
    assert [item.label for item in labelled] == [1, 1]
    assert labelled[1].after == [True] * PARAMS.completions
    assert labelled[1].outcomes == [True] * PARAMS.independent


def test_a_completion_that_was_cut_short_has_failed() -> None:
    mine = rollout(of=problem(split="prm"))
    wanted = label_requests(
        {mine.rollout_id: mine},
        [proposal(mine, 0, "student")],
        {"p/r0/s0/student": ABSTAINS},
        PARAMS,
        COMPLETER,
        seed=1,
    )
    answers = [generation(item.request.id, "".join(RIGHT), finish="length") for item in wanted]
    outcomes = Outcomes({}, {})
    read_label_outcomes(wanted, answers, {"p": problem()}, {mine.rollout_id: mine}, DECODE, VERIFIER, outcomes)
    assert outcomes == Outcomes({"p/r0": [False] * 4, "p/r0/s0/student": [False] * 4}, {})


def test_more_completions_are_asked_for_only_where_the_first_do_not_decide() -> None:
    mine = rollout(of=problem(split="fit"))
    proposals = [proposal(mine, 0, "student", RIGHT[0]), proposal(mine, 0, "teacher", RIGHT[0])]
    by_id, rules = {mine.rollout_id: mine}, {item.proposal_id: ABSTAINS for item in proposals}
    params = LabelParams(first=2, completions=6, independent=3)
    first = label_requests(by_id, proposals, rules, params, COMPLETER, seed=1)
    answers = [
        generation(item.request.id, "".join(RIGHT)[len(item.request.prompt_ids) - len(mine.prompt_ids) :])
        for item in first
    ]
    outcomes = Outcomes({}, {})
    read_label_outcomes(first, answers, {"p": problem()}, by_id, DECODE, VERIFIER, outcomes)
    outcomes.for_label["p/r0/s0/teacher"] = [True, False]
    labelled = label_proposals(by_id, proposals, rules, outcomes, {}, params, 0.05)
    left = undecided(proposals, labelled)
    assert [item.proposer for item in left] == ["teacher"]
    more = label_requests(by_id, left, rules, params, COMPLETER, seed=1, more=True)
    assert {item.source for item in more} == {"p/r0", "p/r0/s0/teacher"}
    assert len(more) == 2 * 4
    assert not {item.request.id for item in more} & {item.request.id for item in first}
