"""From validities to rows: targets, masks, rejects, and the evaluation that follows."""

from dataclasses import replace

import pytest

from tests.vcrd.factories import RIGHT, VERIFIER, evidence, generation, problem, proposal, rollout, unfitted_reliability
from vcrd.calibration import CalibrationParams
from vcrd.completions import CompletionRecord
from vcrd.domains.demo_math import step_is_valid
from vcrd.evaluation import read_evaluation, summarise
from vcrd.examples import choose_targets, make_example, pair_up, scale_of
from vcrd.records import Validity
from vcrd.report import verdict
from vcrd.validity import estimate_validity
from vcrd.weights import WeightParams

WEIGHTS = WeightParams(w_max=4.0, broken_prefixes="drop", max_length=60, teacher_signal="plain", keep_mass=None)
CALIBRATION = CalibrationParams(own_steps="when_better", strength="validity", tau=1.0, rho=0.25, shuffle_seed=0)
MINE = rollout()
STEPS = {
    item.proposal_id: item
    for index, text in enumerate(RIGHT)
    for item in (proposal(MINE, index, "student", text), proposal(MINE, index, "teacher", text))
}


def validity(name: str, value: float, rule: int = 0, broken: bool = False) -> Validity:
    item = STEPS[name]
    return Validity(
        proposal_id=name,
        prefix_id=item.prefix_id,
        rollout_id=item.rollout_id,
        problem_id="p",
        domain="math",
        step_index=item.step_index,
        proposer=item.proposer,
        position=0.0,
        rule=rule,
        rule_reason="",
        score_prm=None,
        score_peer=None,
        successes=0,
        trials=0,
        local_validity=value,
        local_validity_sd=0.1,
        prefix_broken=broken,
    )


def pairs(validities, params=WEIGHTS):
    return pair_up(validities, {"p/r0": MINE}, STEPS, params)


def test_a_prefix_that_cannot_be_compared_is_a_reject_with_its_reason() -> None:
    given = [
        validity("p/r0/s0/student", 0.5),
        validity("p/r0/s1/student", 0.5, broken=True),
        validity("p/r0/s1/teacher", 0.9, broken=True),
        validity("p/r0/s2/student", 0.5),
        validity("p/r0/s2/teacher", 0.5),
    ]
    made, rejects = pairs(given, replace(WEIGHTS, max_length=52))
    assert [pair.prefix_id for pair in made] == ["p/r0/s2"]
    assert {item.record_id: item.reason for item in rejects} == {
        "p/r0/s0": "no_teacher_step",
        "p/r0/s1": "prefix_broken",
    }
    _, rejects = pairs(given, replace(WEIGHTS, max_length=20, broken_prefixes="keep"))
    assert [item.reason for item in rejects] == ["no_teacher_step", "too_long", "too_long"]


def test_the_example_masks_its_prefix_and_weighs_its_step() -> None:
    given = [
        validity("p/r0/s0/student", 0.9),
        validity("p/r0/s0/teacher", 0.2),
        validity("p/r0/s1/student", 0.1),
        validity("p/r0/s1/teacher", 0.6),
        validity("p/r0/s2/student", 0.3),
        validity("p/r0/s2/teacher", 0.8, rule=-1),
    ]
    targets = choose_targets(pairs(given)[0], CALIBRATION)
    assert [(item.proposer, item.strength) for item in targets] == [
        ("student", 0.9),
        ("teacher", 0.6),
        ("teacher", 0.0),
    ]
    scale = scale_of(targets, WEIGHTS)
    rows = [make_example(item, MINE, STEPS, scale, WEIGHTS.w_max) for item in targets]
    weights = [
        weight for row in rows for weight, label in zip(row.token_weights, row.labels, strict=True) if label != -100
    ]
    assert sum(weights) / len(weights) == pytest.approx(1)
    row = rows[1]
    assert row.input_ids == MINE.prefix_ids(1) + STEPS["p/r0/s1/teacher"].token_ids
    assert row.relative_validity == pytest.approx(0.5)
    per_token = [
        row.labels,
        row.token_weights,
        row.teacher_topk_ids,
        row.teacher_topk_logprobs,
        row.teacher_tail_logprob,
    ]
    assert {len(values) for values in per_token} == {len(row.input_ids)}


def test_validity_reads_broken_prefixes_off_rules_and_completions() -> None:
    wrong = rollout(("a 1+2=9 9+0=9\n", *RIGHT[1:]))
    steps = [proposal(wrong, index, "student", text) for index, text in enumerate(wrong.step_texts)]
    model = unfitted_reliability()
    judged = [evidence(item, -1 if item.step_index == 0 else 0) for item in steps]
    made = estimate_validity({"p/r0": wrong}, judged, [], model, 0.1)
    assert [item.prefix_broken for item in made] == [False, True, True]
    assert made[0].local_validity == 0.01
    lost = [
        CompletionRecord(
            completion_id=f"p/r0/s0/student/c{index}",
            proposal_id="p/r0/s0/student",
            round=0,
            token_ids=[],
            finish_reason="eos",
            outcome=-1,
        )
        for index in range(40)
    ]
    judged = [evidence(proposal(MINE, index, "student", text)) for index, text in enumerate(RIGHT)]
    made = estimate_validity({"p/r0": MINE}, judged, lost, model, 0.1)
    assert [item.prefix_broken for item in made] == [False, True, False]
    assert made[0].trials == 40


def test_the_oracle_judges_each_step_as_its_prefix_stands() -> None:
    prompt = problem().prompt
    assert step_is_valid(prompt, [], RIGHT[0])
    assert step_is_valid(prompt, RIGHT[:1], RIGHT[1])
    assert not step_is_valid(prompt, RIGHT[:1], RIGHT[0])
    assert not step_is_valid(prompt, [], "a 1+3=4 4+0=4\n")
    assert not step_is_valid(prompt, [], RIGHT[2])
    assert step_is_valid(prompt, ["a 1+2=9 9+0=9\n"], "b 3*4=2 2+9=1\n")
    assert not step_is_valid(prompt, RIGHT, "#### 5")


def test_evaluation_counts_answers_and_steps() -> None:
    answers = [generation("p/before", "".join(RIGHT)), generation("q/before", "a 1+2=4 4+0=4\n#### 4")]
    problems = [problem(), problem(problem_id="q")]
    rows, rejects = read_evaluation(problems, "before", answers, _decode, VERIFIER, step_is_valid)
    assert not rejects
    found = summarise(rows)["before"]
    assert (found["n"], found["accuracy"]) == (2, 0.5)
    assert found["step_validity"] == pytest.approx(3 / 5)
    assert found["low"] < 0.5 < found["high"]


def _decode(ids):
    from tests.vcrd.factories import DECODE

    return DECODE(ids)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ((0.4, 0.37, 0.43), (0.6, 0.57, 0.63), "gained +0.200"),
        ((0.4, 0.37, 0.43), (0.42, 0.39, 0.45), "nothing is shown"),
        ((0.4, 0.37, 0.43), (0.2, 0.18, 0.22), "lost -0.200"),
        ((0.0, 0.0, 0.06), (0.01, 0.0, 0.07), "near zero"),
    ],
)
def test_the_verdict_says_no_more_than_the_intervals_allow(before, after, words: str) -> None:
    keys = ("accuracy", "low", "high")
    said = verdict(dict(zip(keys, before, strict=True)), dict(zip(keys, after, strict=True)))
    assert words in said
