"""Evidence becomes probabilities that hold on other problems; what is not known is not pretended."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcrd.errors import SchemaError
from vcrd.reliability import (
    LabelledTable,
    ReliabilityModel,
    ReliabilityParams,
    brier_difference,
    cross_fitted,
    evidence_table,
    fit_reliability,
    measure,
    read_labels,
)
from vcrd.reliability.fit import fold_groups
from vcrd.reliability.stacking import fit_logistic, nested_subsets

PARAMS = ReliabilityParams(l2=0.1, floor=0.01, min_labels=20, noisy_labels=False)


def steps(count: int, seed: int, base: float = 0.7, tries: int = 8, **columns) -> LabelledTable:
    """Steps whose score is over-confident by a factor and whose completions succeed more often when they are sound."""
    rng = np.random.default_rng(seed)
    sound = rng.random(count) < base
    logit = np.where(sound, 1.2, -1.0) + rng.normal(size=count) * 1.2
    known = {
        "score_a": 1 / (1 + np.exp(-3 * logit)),
        "position": rng.random(count),
        "successes": rng.binomial(tries, np.where(sound, 0.7, 0.15)),
        "trials": [tries] * count,
        "domain": ["math"] * count,
        **columns,
    }
    shown = {name: values for name, values in known.items() if values is not None}
    return LabelledTable(
        evidence=evidence_table(shown, count), labels=sound.astype(float), groups=np.arange(count).astype(str)
    )


def one(**columns):
    return evidence_table({name: [value] for name, value in columns.items()}, 1)


@pytest.fixture(scope="module")
def model() -> ReliabilityModel:
    return fit_reliability(steps(400, 1), PARAMS, {"scorer": "test"})


def test_probabilities_hold_on_other_steps_and_beat_every_single_source(model: ReliabilityModel) -> None:
    other = steps(2000, 2)
    fused = model.local_validity(other.evidence)[0]
    found = measure(fused, other.labels, other.groups)
    assert found["ece"]["value"] < 0.04
    assert found["brier"]["low"] < found["brier"]["value"] < found["brier"]["high"]
    for alone in (
        {"position": None, "score_a": None},
        {"successes": None, "trials": None},
    ):
        part = fit_reliability(steps(400, 1, **alone), PARAMS, {})
        single = part.local_validity(steps(2000, 2, **alone).evidence)[0]
        assert brier_difference(fused, single, other.labels, other.groups)["high"] < 0


def test_more_completions_of_one_kind_move_the_estimate_and_shrink_its_doubt(model: ReliabilityModel) -> None:
    def estimate(successes: int, trials: int) -> tuple[float, float]:
        value, deviation = model.local_validity(one(score_a=0.6, position=0.5, successes=successes, trials=trials))
        return value[0], deviation[0]

    values = [estimate(count, count)[0] for count in (1, 2, 4, 8)]
    assert values == sorted(values)
    assert estimate(0, 8)[0] < estimate(0, 2)[0] < estimate(2, 2)[0]
    assert estimate(16, 32)[1] < estimate(1, 2)[1]


def test_a_proved_invalid_step_is_pinned_to_a_small_floor(model: ReliabilityModel) -> None:
    proved = one(score_a=0.99, rule=-1, successes=8, trials=8)
    assert [column.tolist() for column in model.local_validity(proved)] == [[PARAMS.floor], [0.0]]
    assert model.predicted_value(proved).tolist() == [PARAMS.floor]
    rule = np.r_[-np.ones(100), np.zeros(300)]
    table = steps(400, 3, rule=rule)
    often_wrong = LabelledTable(
        evidence=table.evidence, labels=np.r_[np.ones(50), np.zeros(50), table.labels[100:]], groups=table.groups
    )
    assert PARAMS.floor < fit_reliability(often_wrong, PARAMS, {}).floor <= 0.1


def test_too_few_labels_say_one_half_unsurely() -> None:
    few, many = steps(5, 3), steps(100, 3)
    none = LabelledTable(evidence=many.evidence, labels=np.full(100, np.nan), groups=many.groups)
    for table in (few, none):
        model = fit_reliability(table, PARAMS, {})
        assert not model.fitted
        value, deviation = model.local_validity(one(score_a=0.9))
        assert value.tolist() == [0.5]
        assert deviation[0] > 0.2


def test_labels_of_one_kind_say_how_often_steps_are_sound() -> None:
    sound = np.arange(500) % 4 > 0
    table = steps(500, 3, rule=2 * sound - 1)
    perfect = LabelledTable(evidence=table.evidence, labels=sound.astype(float), groups=table.groups)
    model = fit_reliability(perfect, PARAMS, {})
    value, deviation = model.local_validity(perfect.evidence)
    assert value[sound] == pytest.approx(375.5 / 376)
    assert deviation[sound].max() < 0.01
    assert value[~sound].max() == model.floor
    assert cross_fitted(perfect, PARAMS)[sound].min() > 0.99


def test_a_missing_source_drops_out_with_an_intercept_of_its_own() -> None:
    mixed = steps(600, 4, score_a=np.where(np.arange(600) < 300, steps(600, 4).evidence.scores["score_a"], np.nan))
    fitted = fit_reliability(mixed, PARAMS, {})
    assert fitted.local_validity(one(domain="math"))[0][0] == pytest.approx(mixed.labels.mean(), abs=0.02)
    never_missing = fit_reliability(steps(600, 4), PARAMS, {})
    without = steps(2000, 5, score_a=None, position=None)
    found = measure(never_missing.local_validity(without.evidence)[0], without.labels, without.groups)
    assert found["ece"]["value"] < 0.04


def test_domains_and_policies_have_their_own_base_rates_and_unseen_ones_are_flagged() -> None:
    parts = [steps(300, 6, base=0.9), steps(300, 7, base=0.4)]
    columns = {
        "score_a": np.concatenate([part.evidence.scores["score_a"] for part in parts]),
        "domain": ["math"] * 300 + ["code"] * 300,
        "policy": ["m"] * 600,
    }
    table = LabelledTable(
        evidence=evidence_table(columns, 600),
        labels=np.concatenate([part.labels for part in parts]),
        groups=np.arange(600).astype(str),
    )
    model = fit_reliability(table, PARAMS, {})
    asked = evidence_table({"score_a": [0.5] * 4, "domain": ["math", "code", "law", "math"], "policy": [*"mmmn"]}, 4)
    values = model.local_validity(asked)[0]
    assert values[1] + 0.2 < values[2] < values[0]
    assert model.unseen(asked).tolist() == [False, False, True, True]


def test_a_policy_with_few_labels_is_drawn_towards_its_domain() -> None:
    table = steps(330, 8, policy=["often"] * 300 + ["seldom"] * 30)
    turned = LabelledTable(
        evidence=table.evidence, labels=np.r_[table.labels[:300], np.zeros(29), 1.0], groups=table.groups
    )
    model = fit_reliability(turned, PARAMS, {})
    seldom, often = (
        model.local_validity(one(score_a=0.9, domain="math", policy=name))[0][0] for name in ("seldom", "often")
    )
    alone = 2 / 32  # the share of sound steps among the policy's own, by Jeffreys' rule
    assert alone < seldom < often


def test_json_gives_the_same_model_back(model: ReliabilityModel) -> None:
    evidence = steps(50, 9).evidence
    again = ReliabilityModel.from_json(json.loads(json.dumps(model.as_json())))
    assert np.array_equal(again.local_validity(evidence), model.local_validity(evidence))
    assert np.array_equal(again.predicted_value(evidence), model.predicted_value(evidence))
    with pytest.raises(SchemaError, match="not a reliability model"):
        ReliabilityModel.from_json({"format": "other"})
    for name in ("n0", "validity", "value"):
        with pytest.raises(SchemaError, match=f"without '{name}'"):
            ReliabilityModel.from_json({key: value for key, value in model.as_json().items() if key != name})


def test_the_value_prior_is_as_strong_as_it_is_right() -> None:
    noisy = steps(200, 10)
    sure = LabelledTable(
        evidence=noisy.evidence.with_completions((8 * noisy.labels).astype(int), np.full(200, 8)),
        labels=noisy.labels,
        groups=noisy.groups,
    )
    assert fit_reliability(sure, PARAMS, {}).kappa < fit_reliability(noisy, PARAMS, {}).kappa


def test_many_labels_of_one_score_may_have_a_map_of_any_monotone_shape() -> None:
    rng = np.random.default_rng(11)
    score = rng.random(4000)
    labels = (rng.random(4000) < np.where(score < 0.8, 0.1, 0.9)).astype(float)
    groups = np.arange(4000).astype(str)
    stepped = LabelledTable(evidence=evidence_table({"score_a": score}, 4000), labels=labels, groups=groups)
    model = fit_reliability(stepped, PARAMS, {})
    low, high = model.local_validity(evidence_table({"score_a": [0.7, 0.9]}, 2))[0]
    assert low == pytest.approx(0.1, abs=0.03)
    assert high == pytest.approx(0.9, abs=0.03)
    few = fit_reliability(stepped.take(np.arange(900)), PARAMS, {})
    assert all(item.knots is None for item in few.validity[0].maps)


def test_cross_fitting_never_judges_a_group_by_its_own_labels() -> None:
    table = steps(300, 12, successes=None, trials=None, position=None)
    names = (np.arange(300) % 60).astype(str)
    grouped = LabelledTable(evidence=table.evidence, labels=table.labels, groups=names)
    changed = np.where(names == "7", 1 - grouped.labels, grouped.labels)
    first = cross_fitted(grouped, PARAMS)
    second = cross_fitted(LabelledTable(evidence=grouped.evidence, labels=changed, groups=names), PARAMS)
    assert np.array_equal(first[names == "7"], second[names == "7"])
    assert not np.array_equal(first, second)


def test_cross_fitting_is_by_the_maps_that_a_fit_on_the_other_groups_has() -> None:
    rows = np.arange(400)
    score = np.where(rows % 3 > 0, steps(400, 16).evidence.scores["score_a"], np.nan)
    columns = {"score_a": score, "domain": np.where(rows < 380, "math", "code"), "successes": None, "trials": None}
    table = steps(400, 16, **columns)
    found, fold_of = cross_fitted(table, PARAMS), fold_groups(table.groups, 5)
    for fold in range(5):
        model = fit_reliability(table.take(fold_of != fold), PARAMS, {})
        assert np.array_equal(found[fold_of == fold], model.local_validity(table.evidence.take(fold_of == fold))[0])


def test_without_other_groups_nothing_is_cross_fitted() -> None:
    table = steps(100, 17)
    together = LabelledTable(evidence=table.evidence, labels=table.labels, groups=np.full(100, "p"))
    assert np.isnan(cross_fitted(together, PARAMS)).all()
    assert np.isnan(cross_fitted(steps(20, 17), PARAMS)).all()


@pytest.mark.parametrize(
    "columns",
    [
        {"successes": [None], "trials": [8]},
        {"successes": [4], "trials": [None]},
        {"successes": [4]},
        {"trials": [8]},
    ],
)
def test_completions_of_which_half_is_not_known_are_none(columns: dict[str, list[int | None]]) -> None:
    table = evidence_table(columns, 1)
    assert (table.successes.tolist(), table.trials.tolist()) == ([0], [0])


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=5))
def test_nested_subsets_weigh_one_a_step_and_keep_its_share(counts: list[tuple[int, int]]) -> None:
    trials = np.array([max(pair) for pair in counts])
    successes = np.array([min(pair) for pair in counts])
    subsets = nested_subsets(successes[trials > 0], trials[trials > 0])
    for row, (won, tried) in enumerate(zip(successes[trials > 0], trials[trials > 0], strict=True)):
        mine = subsets.rows == row
        assert subsets.weights[mine].sum() == pytest.approx(1)
        share = (subsets.weights * subsets.successes / np.maximum(subsets.trials, 1))[mine].sum()
        assert share == pytest.approx(won / tried)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_the_logistic_fit_is_where_the_gradient_vanishes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = np.column_stack([np.ones(60), rng.normal(size=(60, 2)) * 4])
    targets = (rng.random(60) < 0.5).astype(float)
    fit = fit_logistic(features, targets, np.ones(60), 0.1)
    slope = features.T @ (1 / (1 + np.exp(-features @ fit.weights)) - targets) + np.array([0, 0.1, 0.1]) * fit.weights
    assert np.abs(slope).max() < 1e-2


def test_what_cannot_be_evidence_is_refused_by_column_and_row() -> None:
    for columns, said in (
        ({"score_x": [0.5, 1.5]}, "column score_x, row 1: expected a probability, got 1.5"),
        ({"rule": [2, 0]}, "column rule, row 0"),
        ({"successes": [1, 3], "trials": [1, 2]}, "column successes, row 1"),
        ({"position": ["a", 0]}, "column position"),
    ):
        with pytest.raises(SchemaError, match=said):
            evidence_table(columns, 2)
    with pytest.raises(SchemaError, match="column label, row 1: expected 0, 1 or null"):
        read_labels([1, 0.5], "label")


def test_wrong_labels_flatten_the_map_unless_they_are_known_to_be_estimates() -> None:
    table, other = steps(800, 13, position=None, successes=None, trials=None), steps(4000, 14)
    surely_wrong = (table.labels == 0) & (np.random.default_rng(15).random(800) < 0.15)
    noisy = LabelledTable(
        evidence=table.evidence, labels=np.where(surely_wrong, 1.0, table.labels), groups=table.groups
    )
    asked = LabelledTable(
        evidence=evidence_table({"score_a": other.evidence.scores["score_a"]}, 4000),
        labels=other.labels,
        groups=other.groups,
    )
    found = {}
    for known in (False, True):
        model = fit_reliability(noisy, replace(PARAMS, noisy_labels=known), {})
        found[known] = measure(model.local_validity(asked.evidence)[0], asked.labels, asked.groups)
    assert found[True]["brier"]["value"] < found[False]["brier"]["value"]
    assert found[True]["ece"]["value"] < found[False]["ece"]["value"]
