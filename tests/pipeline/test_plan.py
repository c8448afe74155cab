"""From a probe to a run: what goes up with which problems, what a call costs, and what more workers are worth."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.params import RunParams, Settings
from pipeline.plan import (
    Plan,
    StagePlan,
    pass_and_request_seconds,
    plan_figures,
    plan_from_probe,
    plan_text,
    read_amounts,
    read_workers,
    with_speeds,
)
from pipeline.probe import Call, Probe, StageProbe, downstream, take_sample
from pipeline.runner import run_whole
from tests.pipeline import toy
from vcrd.errors import ConfigError
from vcrd.io.manifest import check_files, read_manifest
from vcrd.io.parquet import read_table, shard_files

RUN = RunParams(num_shards=8, workers=2, max_reject_share=0.5)
SETTINGS = Settings("toy", 1, RUN, {}, {})
SAMPLE = {f"t{index}": "train" for index in range(4)} | {f"f{index}": "fit" for index in range(2)}
A_PASS, A_REQUEST, BATCH = 0.7, 0.05, 32


def probed(**values: object) -> StageProbe:
    known: dict[str, object] = {
        "stage": "write",
        "output": "written",
        "sharded": True,
        "grows": True,
        "sampled": True,
        "splits": (),
        "seconds": 9.0,
        "start": 5.0,
        "worked": 4.0,
        "commit": 0.0,
        "shards": 2,
        "role": None,
        "calls": (),
        "asked": {},
        "ended": None,
        "rows": {},
        "all_rows": 6,
        "data_bytes": 600,
        "file_bytes": 50,
    }
    return StageProbe(**(known | values))  # type: ignore[arg-type]


def planned(*stages: StageProbe, problems: int | None = None) -> Plan:
    probe = Probe(stages=stages, problems=Counter(train=40, fit=8), sample=SAMPLE)
    return plan_from_probe(probe, SETTINGS, problems, BATCH)


def test_work_goes_up_with_the_problems_of_the_splits_that_it_is_for() -> None:
    everyone = probed(asked=dict.fromkeys(SAMPLE, (1, 100, 10)), role="teacher")
    fitted = probed(stage="fit", asked={"f0": (3, 30, 9), "f1": (1, 10, 3)}, sharded=False)
    by_rows = probed(stage="mark", rows={"t0": 2, "t1": 2}, all_rows=4, worked=1.0)
    whole = probed(stage="learn", sharded=False, splits=("train",), worked=2.0, file_bytes=0)
    models = probed(stage="models", grows=False, sharded=False, worked=3.0)
    plan = planned(everyone, fitted, by_rows, whole, models)
    found = {stage.stage: stage for stage in plan.stages}
    assert plan.problems == {"train": 40, "fit": 8}
    assert (found["write"].requests, found["write"].read, found["write"].written) == (48, 4800, 480)
    assert (found["fit"].requests, found["fit"].read) == (16, 160)
    assert (found["mark"].rows, found["mark"].worked) == (40, 10.0)
    assert found["learn"].worked == 20.0
    assert (found["models"].worked, found["models"].rows, found["models"].data_bytes) == (3.0, 6, 650)
    assert found["mark"].data_bytes == 6000 + 8 * 50
    assert all(stage.start == 5.0 for stage in plan.stages)
    more = planned(everyone, fitted, by_rows, whole, models, problems=96)
    assert more.problems == {"train": 80, "fit": 16}
    assert [stage.requests for stage in more.stages] == [2 * stage.requests for stage in plan.stages]
    assert more.stages[-1].worked == 3.0


def test_what_makes_the_problems_was_measured_on_all_of_them() -> None:
    [source] = planned(probed(sampled=False, sharded=False, worked=1.0, all_rows=48), problems=96).stages
    assert (source.worked, source.rows) == (2.0, 96)


@given(st.lists(st.integers(1, 200), min_size=2, max_size=6), st.floats(0, 5), st.floats(1e-3, 1))
def test_what_a_pass_and_a_request_cost_is_found_from_unequal_calls(
    sizes: list[int], a_pass: float, a_request: float
) -> None:
    calls = [Call(size, a_pass * math.ceil(size / BATCH) + a_request * size, True) for size in sizes]
    found = pass_and_request_seconds(calls, BATCH)
    for call in calls:
        again = found[0] * math.ceil(call.requests / BATCH) + found[1] * call.requests
        assert min(found) >= 0
        assert again == pytest.approx(call.seconds, rel=1e-6)


def test_a_run_in_larger_shards_pays_for_fewer_passes_than_its_requests_say() -> None:
    """An engine that costs what the rule says, asked by 2 shards of a probe and by 8 of a run 25 times as large."""

    def cost(requests: int) -> float:
        return A_PASS * math.ceil(requests / BATCH) + A_REQUEST * requests

    calls = [Call(size, cost(size), last) for _ in range(2) for size, last in ((3, False), (9, True))]
    asked = dict.fromkeys(SAMPLE, (4, 40, 8))
    probe = Probe(
        stages=[probed(calls=calls, asked=asked, worked=sum(call.seconds for call in calls) + 1.0)],
        problems=Counter(train=100, fit=50),
        sample=SAMPLE,
    )
    [stage] = plan_from_probe(probe, SETTINGS, None, BATCH).stages
    assert stage.requests == 600
    assert stage.worked == pytest.approx(8 * cost(600 // 8) + 25.0)


def test_a_commit_is_paid_for_once_a_shard() -> None:
    [stage] = planned(probed(rows={"t0": 2}, worked=1.0, commit=0.5)).stages
    assert stage.worked == 10.0 + 8 * 0.5


def test_workers_take_shards_in_turn_and_no_more_than_there_are() -> None:
    sharded = StagePlan(stage="write", output="written", start=2.0, worked=80.0)
    whole = StagePlan(stage="learn", output="model", start=1.0, worked=10.0, sharded=False)
    assert [sharded.seconds(workers, 8) for workers in (1, 2, 3, 8, 100)] == [82.0, 42.0, 32.0, 12.0, 12.0]
    assert whole.seconds(64, 8) == 11.0
    plan = replace(planned(), stages=[sharded, whole])
    assert (plan.seconds(), plan.seconds(8)) == (53.0, 23.0)
    assert plan.dominant() == "write"


def test_given_speeds_take_the_place_of_measured_ones() -> None:
    asked = dict.fromkeys(SAMPLE, (1, 100, 10))
    plan = planned(probed(asked=asked, role="teacher"), probed(stage="check", asked=asked, role="teacher"))
    written, checked = with_speeds(plan, {"teacher": 240.0, "check": 48.0}).stages
    assert (written.worked, checked.worked) == (2.0, 10.0)
    with pytest.raises(ConfigError, match=r"'teachr'.*did you mean 'teacher'"):
        with_speeds(plan, {"teachr": 1.0})
    with pytest.raises(ConfigError, match="teacher must be above 0"):
        with_speeds(plan, {"teacher": 0.0})


def test_the_interval_is_of_what_problems_differ_by() -> None:
    even = planned(probed(asked=dict.fromkeys(SAMPLE, (1, 100, 0))))
    uneven = planned(probed(asked={name: (1, 50 + 100 * (index % 2), 0) for index, name in enumerate(SAMPLE)}))
    assert even.error == 0.0
    spread = 50.0**2 * 4 / 3
    variance = 40**2 * spread / 4 * (1 - 4 / 40) + 8**2 * 5000 / 2 * (1 - 2 / 8)
    assert uneven.error == pytest.approx(1.96 * math.sqrt(variance) / 4800)


def test_a_plan_is_told_to_people_and_scripts() -> None:
    plan = planned(probed(asked=dict.fromkeys(SAMPLE, (1, 100, 10)), role="teacher", ended=0.95))
    text = plan_text(plan, [1, 64])
    assert "toy: 48 problems (train 40, fit 8)" in text
    assert "no more than 8 workers have a shard at a time" in text
    assert "ended before its limit: write 95%" in text
    told = json.loads(json.dumps(plan_figures(plan, [1, 64])))
    assert told["stages"][0]["written"] == 480
    assert told["seconds_by_workers"] == {"1": 37.0, "64": 9.0}


@pytest.mark.parametrize("text", ["teacher", "teacher=fast", "teacher=-1", "teacher=inf", "=", "teacher=nan"])
def test_amounts_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--tokens-per-second"):
        read_amounts(text, "--tokens-per-second")


@pytest.mark.parametrize("text", ["", "0", "1,", "many", "1.5"])
def test_workers_that_are_no_counts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--workers"):
        read_workers(text)
    assert read_workers("1, 8") == [1, 8]


def test_a_sample_is_an_artefact_of_the_first_problems_of_each_split(tmp_path: Path) -> None:
    context = toy.context(tmp_path)
    run_whole(toy.MAKE, context)
    source, target = context.layout.folder("numbers"), tmp_path / "sample"
    sizes, sample = take_sample(source, target, 7, 3)
    names = sorted(name for file in shard_files(source) for name in read_table(file)["problem_id"].to_pylist())
    assert (dict(sizes), list(sample)) == ({"train": 40}, names[:7])
    check_files(target, read_manifest(target))
    assert [read_table(file).num_rows for file in shard_files(target)] == [3, 2, 2]
    with pytest.raises(ConfigError, match="--probe 41: there are 40 problems"):
        take_sample(source, tmp_path / "more", 41, 3)


def test_what_reads_problems_at_any_depth_grows_with_them() -> None:
    models = replace(toy.MAKE, name="models", output="models")
    learn = replace(toy.MAKE, name="learn", output="model", whole_inputs=("squares",))
    stages = {stage.name: stage for stage in (toy.MAKE, toy.SQUARE, models, learn)}
    assert downstream(stages, "numbers") == {"make", "square", "learn"}
