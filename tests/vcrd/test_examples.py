"""From validities to rows: targets, masks, rejects, and the evaluation that follows."""

import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vcrd.example_reference import Inputs, expected, made
from tests.vcrd.factories import (
    RIGHT,
    VERIFIER,
    evidence,
    generation,
    problem,
    proposal,
    rollout,
    unfitted_reliability,
    validity,
)
from vcrd.calibration import STRENGTHS, CalibrationParams
from vcrd.completions import CompletionRecord
from vcrd.domains.demo_math import step_is_valid
from vcrd.errors import ConfigError, SchemaError
from vcrd.evaluation import read_evaluation, summarise
from vcrd.examples import SUMMARY_COLUMNS, count_signal, summarise_training
from vcrd.io.parquet import as_row
from vcrd.records import Model, Rollout, StepProposal, Validity
from vcrd.report import verdict
from vcrd.storage import store_signal
from vcrd.validity import estimate_validity
from vcrd.weights import WeightParams

WEIGHTS = WeightParams(w_max=4.0, broken_prefixes="drop", max_length=60, teacher_signal="plain", keep_mass=None)
CALIBRATION = CalibrationParams(
    own_steps="when_better", strength="validity", tau=1.0, rho=0.25, shuffle_seed=0, value_pseudocount=None
)
MINE = rollout()
STEPS = {
    item.proposal_id: item
    for index, text in enumerate(RIGHT)
    for item in (proposal(MINE, index, "student", text), proposal(MINE, index, "teacher", text))
}
TEACHER = Model(
    role="teacher",
    name="t",
    revision=None,
    weights_fingerprint="w",
    tokenizer_fingerprint="abc",
    vocabulary_size=50,
    chat_template_fingerprint="c",
)


def judged(name: str, value: float, **values) -> Validity:
    return validity(STEPS[name], value, **values)


def shard(*validities: Validity) -> Inputs:
    return Inputs([MINE], list(STEPS.values()), list(validities))


def test_a_prefix_that_cannot_be_compared_is_a_reject_with_its_reason() -> None:
    given = shard(
        judged("p/r0/s0/student", 0.5),
        judged("p/r0/s1/student", 0.5, broken=True),
        judged("p/r0/s1/teacher", 0.9, broken=True),
        judged("p/r0/s2/student", 0.5),
        judged("p/r0/s2/teacher", 0.5),
    )
    rows, rejects = made([given], replace(WEIGHTS, max_length=52), CALIBRATION)
    assert rows["example_id"].to_pylist() == ["p/r0/s2"]
    assert {item.record_id: item.reason for item in rejects} == {
        "p/r0/s0": "no_teacher_step",
        "p/r0/s1": "prefix_broken",
    }
    _, rejects = made([given], replace(WEIGHTS, max_length=46, broken_prefixes="keep"), CALIBRATION)
    assert [item.reason for item in rejects] == ["no_teacher_step", "too_long"]


def test_the_example_masks_its_prefix_and_weighs_its_step() -> None:
    given = shard(
        judged("p/r0/s0/student", 0.9),
        judged("p/r0/s0/teacher", 0.2),
        judged("p/r0/s1/student", 0.1),
        judged("p/r0/s1/teacher", 0.6),
        judged("p/r0/s2/student", 0.3),
        judged("p/r0/s2/teacher", 0.8, rule=-1),
    )
    rows = made([given], WEIGHTS, CALIBRATION)[0].to_pylist()
    assert [row["target"] for row in rows] == ["student", "teacher", "teacher"]
    assert [row["step_strength"] for row in rows] == pytest.approx([0.9, 0.6, 0.0])
    weights = [
        weight
        for row in rows
        for weight, label in zip(row["token_weights"], row["labels"], strict=True)
        if label != -100
    ]
    assert sum(weights) / len(weights) == pytest.approx(1)
    assert rows[1]["input_ids"] == MINE.prefix_ids(1) + STEPS["p/r0/s1/teacher"].token_ids
    assert rows[1]["relative_validity"] == pytest.approx(0.5)


@st.composite
def inputs(draw: st.DrawFn) -> list[Inputs]:
    """Shards in the order of the stages: rejected proposals, other splits, tokens without candidates."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return [_inputs(rng, shard, draw(st.integers(0, 12))) for shard in range(draw(st.integers(1, 3)))]


def _inputs(rng: np.random.Generator, shard: int, rollouts: int) -> Inputs:
    found = Inputs([], [], [])
    for name in sorted(f"p{shard}-{index // 2}/r{index % 2}" for index in range(rollouts)):
        own = _rollout(rng, name)
        found.rollouts.append(own)
        for step in np.flatnonzero(rng.random(len(own.step_ends)) < 0.8).tolist():
            for proposer in np.array(["student", "teacher"])[rng.random(2) < 0.9].tolist():
                found.proposals.append(_proposal(rng, own, step, proposer))
    for item in found.proposals:
        value, rule, broken = float(np.float32(rng.random())), int(rng.integers(-1, 2)), rng.random() < 0.2
        if item.split == "train":
            trials = int(rng.integers(4))
            made = validity(item, value, rule=rule, broken=broken)
            found.validities.append(replace(made, successes=int(rng.integers(trials + 1)), trials=trials))
    return found


def _rollout(rng: np.random.Generator, name: str) -> Rollout:
    ends = np.cumsum(rng.integers(1, 5, rng.integers(1, 6))).tolist()
    return replace(
        MINE,
        rollout_id=name,
        problem_id=name.partition("/")[0],
        split="train" if rng.random() < 0.8 else "fit",
        prompt_ids=rng.integers(0, 50, rng.integers(1, 6)).tolist(),
        token_ids=rng.integers(0, 50, ends[-1] + rng.integers(0, 3)).tolist(),
        step_ends=ends,
    )


def _proposal(rng: np.random.Generator, of: Rollout, step: int, proposer: str) -> StepProposal:
    length = int(rng.integers(1, 6))
    counts = rng.integers(0, 4, length).tolist()
    return replace(
        proposal(of, step, proposer, f"{proposer} {rng.integers(99)}"),
        token_ids=rng.integers(0, 50, length).tolist(),
        topk_ids=[rng.choice(50, count, replace=False).tolist() for count in counts],
        topk_logprobs=[(-rng.random(count)).tolist() for count in counts],
        tail_logprob=[-float(rng.random()) if count else 0.0 for count in counts],
    )


@settings(max_examples=60)
@given(
    shards=inputs(),
    own_steps=st.sampled_from(["when_sound", "when_better", "never", "only"]),
    strength=st.sampled_from(sorted(STRENGTHS)),
    pseudocount=st.sampled_from([None, 0.25]),
    broken=st.sampled_from(["keep", "drop"]),
    max_length=st.sampled_from([12, 60]),
    cut=st.integers(1, 40),
)
def test_rows_made_together_are_those_made_one_by_one(
    shards, own_steps, strength, pseudocount, broken, max_length, cut
) -> None:
    weights = replace(WEIGHTS, broken_prefixes=broken, max_length=max_length)
    calibration = replace(CALIBRATION, own_steps=own_steps, strength=strength, value_pseudocount=pseudocount)
    try:
        rows, rejects = expected(shards, weights, calibration)
    except ConfigError as error:
        with pytest.raises(ConfigError, match=re.escape(str(error))):
            made(shards, weights, calibration, cut=cut)
        return
    found, refused = made(shards, weights, calibration, cut=cut)
    assert found.equals(rows)
    assert refused == rejects
    compact = replace(weights, teacher_signal="compact")
    assert store_signal(found, TEACHER, compact).equals(store_signal(rows, TEACHER, compact))


@settings(max_examples=30)
@given(shards=inputs(), cut=st.integers(1, 40))
def test_a_sample_of_problems_is_what_they_alone_give(shards, cut) -> None:
    problems = frozenset({"p0-0", "p0-3", "p1-1"})
    weights, calibration = replace(WEIGHTS, broken_prefixes="keep"), replace(CALIBRATION, strength="uniform")
    alone = [shard.of(problems) for shard in shards]
    if sum(len(shard.validities) for shard in alone) < 3:
        return
    try:
        rows = made(alone, weights, calibration, cut=cut)
    except ConfigError:
        return
    assert made(shards, weights, calibration, problems, cut) == rows


def test_rows_are_cut_where_a_table_would_hold_too_many_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [_inputs(np.random.default_rng(1), 0, 12)]
    whole = made(shards, WEIGHTS, CALIBRATION, cut=40)[0]
    monkeypatch.setattr("vcrd.examples.rows._TOKENS", 40)
    parts = made(shards, WEIGHTS, CALIBRATION, cut=40)[0]
    assert len(parts.to_batches()) > len(whole.to_batches())
    assert parts.equals(whole)


def test_what_decides_is_kept_in_few_bytes_a_prefix() -> None:
    from vcrd.examples import PAIR

    assert PAIR.itemsize <= 32


WHOLE = [judged(name, 0.5) for name in STEPS]
SECOND = rollout(of=problem(problem_id="q"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rollouts": [replace(MINE, rollout_id="a"), MINE, replace(MINE, rollout_id="b")]},
            "file rollouts/0, column rollout_id, row 2: expected ids in asc",
        ),
        ({"rollouts": [MINE, MINE]}, "file rollouts/0, column rollout_id, row 1: expected ids in ascending order"),
        ({"rollouts": [SECOND]}, "file proposals/0, column rollout_id, row 0: its rollout is not among"),
        ({"rollouts": []}, "file proposals/0, column rollout_id, row 0: its rollout is not among"),
        (
            {"proposals": [*STEPS.values()][::-1]},
            "file proposals/0, column step_index, row 1: expected steps in ascending",
        ),
        (
            {"proposals": [*STEPS.values()] * 2},
            "file proposals/0, column step_index, row 6: expected steps in ascending",
        ),
        (
            {"validities": [WHOLE[1], WHOLE[0]]},
            "file validity/0, column step_index, row 1: expected steps in ascending",
        ),
        ({"proposals": [*STEPS.values()][:5]}, "file validity/0, column proposer, row 5: its proposal is not among"),
        (
            {"validities": [*WHOLE[:4], replace(WHOLE[4], proposer="tutor")]},
            "file validity/0, column proposer, row 4: expected student or teacher",
        ),
        (
            {"rollouts": [replace(MINE, step_ends=MINE.step_ends[:1])]},
            "file validity/0, column step_index, row 4: expected a step of its rollout",
        ),
        (
            {"rollouts": [replace(MINE, token_ids=MINE.token_ids[:9])]},
            "file rollouts/0, column step_ends, row 0: expected no step to end behind",
        ),
        (
            {"proposals": [replace(item, tail_logprob=[]) for item in STEPS.values()]},
            "file proposals/0, column tail_logprob, row 0: expected a value for each token of topk_ids",
        ),
        (
            {"proposals": [replace(item, token_ids=[1]) for item in STEPS.values()]},
            "file proposals/0, column topk_ids, row 0: expected a value for each token of token_ids",
        ),
    ],
)
@pytest.mark.parametrize("cut", [1, 40])
def test_input_that_would_give_wrong_rows_is_refused(changes: dict, message: str, cut: int) -> None:
    given = shard(*WHOLE)._replace(**changes)
    with pytest.raises(SchemaError, match=message):
        made([given], WEIGHTS, CALIBRATION, cut=cut)


def test_rows_in_the_order_of_another_rollout_are_refused() -> None:
    theirs = [proposal(SECOND, 0, "student"), proposal(SECOND, 0, "teacher")]
    given = Inputs([MINE, SECOND], [*theirs, *STEPS.values()], WHOLE)
    for cut in (1, 40):
        with pytest.raises(SchemaError, match=r"file (proposals|validity)/0, column"):
            made([given], WEIGHTS, CALIBRATION, cut=cut)


def test_the_summary_is_the_same_however_the_rows_are_read() -> None:
    rows = made([_inputs(np.random.default_rng(2), 0, 12)], WEIGHTS, CALIBRATION)[0].select(SUMMARY_COLUMNS)
    told = [summarise_training(rows.combine_chunks().to_batches(max_chunksize=size)) for size in (1, 5, 99)]
    assert told[0] == told[1] == told[2]
    labels = np.concatenate(rows["labels"].to_pylist())
    assert told[0]["supervised_tokens"] == (labels != -100).sum()
    assert told[0]["mean_weight"] == pytest.approx(1)
    targets = rows["target"].to_pylist()
    assert told[0]["targets"] == {name: targets.count(name) for name in ("student", "teacher")}
    assert told[0]["mean_validity"]["student"] == pytest.approx(np.mean(rows["student_validity"].to_pylist()), abs=1e-6)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40), st.sampled_from([0.7, 1.2, 4.0]), st.booleans())
def test_every_token_and_step_is_in_a_bin(values: list[float], w_max: float, capped: bool) -> None:
    cap = np.float32(w_max)
    weights = [cap if capped else np.float32(value) * cap for value in values]
    rows = {
        "target": ["teacher"] * len(values),
        "labels": [[-100, 5]] * len(values),
        "token_weights": [[0.0, weight] for weight in weights],
        "student_validity": values,
        "teacher_validity": values[::-1],
    }
    found = count_signal([pa.RecordBatch.from_pydict(rows)], w_max)
    assert found.weights.sum() == found.tokens == len(values)
    assert all(counts.sum() == found.rows == len(values) for counts in found.validities.values())
    assert (found.validities["student"] == found.validities["teacher"]).all()
    assert not capped or found.weights[-1] == len(values)


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
    found = summarise(map(as_row, rows))["before"]
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
